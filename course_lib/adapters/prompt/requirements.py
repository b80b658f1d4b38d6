"""What an adapter must do, one check per feature.

Main path: REQUIREMENTS[feature](stand) returns what was observed; it asserts, or raises NotClaimedError.
Source: the contract of dspy.Adapter and what Predict, ChainOfThought and streamify rely on (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import copy
import enum
from collections.abc import Callable
from typing import Any

import dspy
import pydantic
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError

from course_lib.adapters.prompt.scripted import scripted
from course_lib.adapters.prompt.stand import (
    SORTED,
    Ask,
    Part,
    Sort,
    Stand,
    example,
    price,
    text_of,
    waited,
)
from course_lib.adapters.prompt.types import Money
from course_lib.errors import CourseError

TICKET = {"ticket": "My lamp is broken."}


class NotClaimedError(CourseError):
    """The adapter does not offer the feature, which is its right."""


def _same(got: Any, expected: Any, what: str = "outputs") -> None:
    assert got == expected, f"{what}: expected {expected!r:.90}, got {got!r:.90}"


def _once(requests: int) -> str:
    assert requests == 1, f"{requests} requests for one good reply; expected 1"
    return "1 request"


def _predict(stand: Stand) -> str:
    ran = stand.run(dspy.Predict(Sort), SORTED, TICKET)
    _same(ran.prediction.toDict(), SORTED)
    assert any(TICKET["ticket"] in text_of(m) for m in ran.messages), "the input is nowhere in the prompt"
    assert Sort.instructions in text_of(ran.messages[0]), "the instructions are not in the system message"
    return _once(ran.requests)


def _chain_of_thought(stand: Stand) -> str:
    expected = {"reasoning": "It is broken,\nso it goes back.", **SORTED}
    ran = stand.run(dspy.ChainOfThought(Sort), expected, TICKET)
    _same({key: str(value) for key, value in ran.prediction.toDict().items()}, expected)
    return _once(ran.requests)


def _demos(stand: Stand) -> str:
    shown = {"label": "billing", "note": "Charged twice."}
    program = dspy.Predict(Sort)
    program.demos = [example(ticket="Twice on my card!", **shown)]
    ran = stand.run(program, SORTED, TICKET)
    _same([m["role"] for m in ran.messages], ["system", "user", "assistant", "user"], "roles")
    assert "Twice on my card!" in text_of(ran.messages[1]), "the demo's input is not in its user message"
    _same(stand.read(Sort, text_of(ran.messages[2]), shown), shown, "the demo, read by the adapter itself")
    return "a demo is written as the reply is read"


def _incomplete_demos(stand: Stand) -> str:
    program = dspy.Predict(Sort)
    program.demos = [
        example(ticket="whole", label="billing", note="n"),
        example(ticket="half", label="billing"),
        example(ticket="inputs only"),
    ]
    ran = stand.run(program, SORTED, TICKET)
    users = [text_of(m) for m in ran.messages if m["role"] == "user"]
    assert len(users) == 3, f"expected the half demo, the whole one and the request, got {len(users)} turns"
    assert "half" in users[0], "the incomplete demo should come first"
    assert "not supplied" in users[0], "the incomplete demo is not announced as one"
    assert "whole" in users[1], "the complete demo should come second"
    return "incomplete ones first and announced, those without outputs dropped"


class _Talk(dspy.Signature):
    """Answer the question."""

    history: dspy.History = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def _history(stand: Stand) -> str:
    past = dspy.History(messages=[{"question": "Does it float?", "answer": "Like a duck."}])
    before = copy.deepcopy(past.messages)
    ran = stand.run(dspy.Predict(_Talk), {"answer": "Yes."}, {"history": past, "question": "Are you sure?"})
    _same([m["role"] for m in ran.messages], ["system", "user", "assistant", "user"], "roles")
    assert "Does it float?" in text_of(ran.messages[1]), "the earlier question is not in a user turn"
    assert "Like a duck." in text_of(ran.messages[2]), "the earlier answer is not in an assistant turn"
    assert "float" not in text_of(ran.messages[3]), "the history is repeated in the request"
    _same(past.messages, before, "the caller's history")
    return "earlier turns as user and assistant messages"


class _Bill(dspy.Signature):
    """Read the bill."""

    budget: Money = dspy.InputField()
    bill: str = dspy.InputField()
    total: Money = dspy.OutputField()


class _Picture(dspy.Type):
    address: str

    def format(self) -> list[dict[str, Any]]:
        return [{"type": "image_url", "image_url": {"url": self.address}}]


class _Look(dspy.Signature):
    """Describe the picture."""

    picture: _Picture = dspy.InputField()
    answer: str = dspy.OutputField()


def _custom_types(stand: Stand) -> str:
    total = price("12.50 EUR")
    ran = stand.run(dspy.Predict(_Bill), {"total": total}, {"budget": price("99 EUR"), "bill": "€12,50"})
    _same(ran.prediction.total, total, "total")
    assert "99.00 EUR" in text_of(ran.messages[-1]), "format() of the input's type is not in the prompt"
    assert Money.description() in text_of(ran.messages[0]), "description() of the type is not in the prompt"
    return "format() and description() in the prompt, value read back"


def _picture(stand: Stand) -> str:
    address = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    ran = stand.run(dspy.Predict(_Look), {"answer": "a dot"}, {"picture": _Picture(address=address)})
    parts = ran.messages[-1]["content"]
    assert isinstance(parts, list), "the message is one text; expected a list of parts with the picture in it"
    kinds = [part.get("type") for part in parts]
    assert "image_url" in kinds, f"no image among the message's parts {kinds}"
    return "a type's parts reach the model as parts"


def _defaults(stand: Stand) -> str:
    asked = Ask.append("source", dspy.OutputField(default="none given"), str)
    reply = stand.written(Ask, {"answer": "Yes.", "score": 3})
    ran = stand.run(
        dspy.Predict(asked),
        {"answer": "Yes.", "score": 3, "source": "none given"},
        {"question": "?"},
        reply=reply,
    )
    _same(ran.prediction.source, "none given", "source")
    return "a field with a default may be missing"


class _Size(enum.Enum):
    SMALL = 1
    LARGE = 2


_TYPES: dict[str, tuple[Any, Any]] = {
    "text of several lines": (str, "One: yes.\n\n  two & <three>\n- four"),
    "number": (float, -2.5),
    "truth value": (bool, False),
    "choice": (dspy.Signature("q -> a: Literal['a b', 'c']").output_fields["a"].annotation, "a b"),
    "enum of numbers": (_Size, _Size.LARGE),
    "list of texts": (list[str], ["a, b", 'c "d"', "é"]),
    "record": (dict[str, int], {"x": 1, "y z": 2}),
    "nested model": (Part, Part(name="peg", count=3)),
    "list of models": (list[Part], [Part(name="peg", count=3), Part(name="pole: long", count=1)]),
    "nothing (None)": (int | None, None),
    "number or text": (int | str, "5"),
}


def _round_trip(kind: str) -> Callable[[Stand], str]:
    annotation, value = _TYPES[kind]

    def check(stand: Stand) -> str:
        asked = Ask.append("value", dspy.OutputField(), annotation)
        expected = {"answer": "Yes.", "score": 3, "value": value}
        ran = stand.run(dspy.Predict(asked), expected, {"question": "?"})
        _same(ran.prediction.value, value, "value")
        return _once(ran.requests)

    return check


class _Crate(dspy.Signature):
    """Read the packing list."""

    text: str = dspy.InputField()
    front: Part = dspy.OutputField()
    back: Part = dspy.OutputField()


def _model_twice(stand: Stand) -> str:
    expected = {"front": Part(name="peg", count=3), "back": Part(name="pole", count=1)}
    ran = stand.run(dspy.Predict(_Crate), expected, {"text": "3 pegs in front, a pole behind"})
    _same({name: ran.prediction[name] for name in expected}, expected)
    nested = dspy.Signature("text -> crates: list[_Pair]", custom_types={"_Pair": _Pair})
    pair = _Pair(left=Part(name="peg", count=1), right=Part(name="pole", count=2))
    ran = stand.run(dspy.Predict(nested), {"crates": [pair]}, {"text": "pegs and poles"})
    _same(ran.prediction.crates, [pair], "crates")
    return _once(ran.requests)


class _Pair(pydantic.BaseModel):
    left: Part
    right: Part


def _quoted_format(stand: Stand) -> str:
    quoted = stand.written(Ask, {"answer": "No.", "score": 1})
    expected = {"answer": f"They wrote:\n{quoted}\nand left.", "score": 3}
    ran = stand.run(dspy.Predict(Ask), expected, {"question": "What did they write?"})
    _same(ran.prediction.toDict(), expected)
    return "a text that quotes the format stays a text"


def _native_tools(stand: Stand) -> str:
    def look_up(order: str) -> str:
        """Look an order up."""
        return order

    plan = dspy.Signature(
        "question, tools: list[dspy.Tool] -> answer: str, calls: dspy.ToolCalls",
        custom_types={"dspy.Tool": dspy.Tool, "dspy.ToolCalls": dspy.ToolCalls},
    )
    if not hasattr(stand.adapter(), "use_native_function_calling"):
        raise NotClaimedError("no native tool calls")
    adapter = stand.adapter(use_native_function_calling=True)
    ran = stand.run(
        dspy.Predict(plan),
        {},
        {"question": "Where is O-10001?", "tools": [dspy.Tool(look_up)]},
        reply={"name": "look_up", "args": {"order": "O-10001"}},
        adapter=adapter,
    )
    names = [tool["function"]["name"] for tool in ran.options.get("tools", ())]
    _same(names, ["look_up"], "tools sent")
    (call,) = ran.prediction.calls.tool_calls
    _same((call.name, call.args), ("look_up", {"order": "O-10001"}), "tool call")
    return "tools sent beside the prompt, the call read back"


def _async_equals_sync(stand: Stand) -> str:
    waited_for = stand.run_async(dspy.Predict(Sort), SORTED, TICKET)
    called = stand.run(dspy.Predict(Sort), SORTED, TICKET)
    _same(waited_for.prediction.toDict(), called.prediction.toDict(), "acall")
    _same(waited_for.messages, called.messages, "messages of acall")
    return _once(waited_for.requests)


def _stream(stand: Stand, listeners: Any) -> list[Any]:
    lm, _ = scripted([stand.written(Ask, {"answer": "Yes.", "score": 3})])
    program = dspy.streamify(dspy.Predict(Ask), stream_listeners=listeners, is_async_program=True)

    async def collect() -> list[Any]:
        return [part async for part in program(question="?")]

    adapter = stand.prepared(Ask, {"answer": "Yes.", "score": 3})
    with dspy.context(lm=lm, adapter=adapter):
        return list(waited(collect()))


def _streaming(stand: Stand) -> str:
    *chunks, last = _stream(stand, None)
    assert chunks, "no chunk before the prediction"
    _same(last.toDict(), {"answer": "Yes.", "score": 3}, "the prediction at the end")
    return "raw chunks, then the prediction"


def _field_listeners(stand: Stand) -> str:
    try:
        parts = _stream(stand, [dspy.streaming.StreamListener(signature_field_name="answer")])
    except ValueError as error:
        if "Unsupported adapter" not in str(error):
            raise
        raise NotClaimedError("DSPy serves ChatAdapter, JSONAdapter and XMLAdapter, by class name") from None
    texts = [part.chunk for part in parts if isinstance(part, dspy.streaming.StreamResponse)]
    heard = "".join(texts)
    assert "Yes." in heard, f"expected 'Yes.' from the listener, got {heard!r}"
    return "a field's text as it comes" if heard == "Yes." else f"a field's text as it comes, raw: {heard!r}"


_PROSE = "I would rather not say."
_BAD = (
    _PROSE,
    "{",
    "[" * 5000,
    "[[ ## answer ## ]]",
    "<answer>",
    "answer:",
    '{"answer": ',
)


def _bad_replies(stand: Stand) -> str:
    if stand.has_extractor:
        raise NotClaimedError("reads any prose, by asking a second model")
    good = stand.written(Ask, {"answer": "Yes.", "score": 3})
    for reply in (*_BAD, good.replace("3", "three"), good[: len(good) // 3]):
        try:
            got = stand.read(Ask, reply)
        except AdapterParseError:
            continue
        except Exception as error:  # border: what else it raises is what we are after
            raise AssertionError(
                f"{type(error).__name__}, not AdapterParseError, for {reply!r:.50}"
            ) from error
        raise AssertionError(f"the reply {reply!r:.50} was read as {got!r:.80}")
    return f"AdapterParseError, {len(_BAD) + 2} times"


def _bad_reply_requests(stand: Stand) -> str:
    lm, script = scripted([_PROSE])
    adapter = stand.adapter(**({"extraction_model": lm} if stand.has_extractor else {}))
    with dspy.context(lm=lm, adapter=adapter):
        try:
            dspy.Predict(Ask)(question="?")
        except AdapterParseError:
            pass
        else:
            raise AssertionError("a reply that cannot be read gave a prediction")
    if script.asked > 1:
        raise NotClaimedError(f"{script.asked} requests before it gives up")
    return "1 request"


def _no_mutation(stand: Stand) -> str:
    inputs = {"ticket": "a", "extra": ["b"]}
    demos = [{"ticket": "whole", "label": "billing", "note": "n"}, {"ticket": "half", "label": "billing"}]
    before = copy.deepcopy((inputs, demos, Sort.instructions, list(Sort.fields)))
    stand.adapter().format(Sort, demos, inputs)
    _same((inputs, demos, Sort.instructions, list(Sort.fields)), before, "inputs and demos after format()")
    return "inputs and demos are left as they were"


class _Heard(BaseCallback):
    def __init__(self) -> None:
        self.events: list[str] = []

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:  # noqa: ARG002
        self.events.append("format")

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:  # noqa: ARG002
        self.events.append("parse")


def _callbacks(stand: Stand) -> str:
    heard = _Heard()
    adapter = stand.prepared(Ask, {"answer": "Yes.", "score": 3}, callbacks=[heard])
    stand.run(dspy.Predict(Ask), {"answer": "Yes.", "score": 3}, {"question": "?"}, adapter=adapter)
    times = {event: heard.events.count(event) for event in ("format", "parse")}
    assert all(times.values()), f"format was reported {times['format']} times, parse {times['parse']}"
    return f"format reported {times['format']}x, parse {times['parse']}x"


def answers_a_model(adapter: Any, lm: Any) -> str:
    """Ask a real model for a flat and for a nested signature."""
    before = len(lm.history)
    nested = dspy.Signature("text -> parts: list[Part]", custom_types={"Part": Part})
    with dspy.context(lm=lm, adapter=adapter):
        label = dspy.Predict(Sort)(ticket="I was charged twice for my tent.").label
        parts = dspy.Predict(nested)(text="Three pegs and a pole.").parts
    return f"label {label!r}, {len(parts)} parts, {len(lm.history) - before} calls of the model for 2 answers"


REQUIREMENTS: dict[str, Callable[[Stand], str]] = {
    "Predict": _predict,
    "ChainOfThought": _chain_of_thought,
    "demos": _demos,
    "incomplete demos": _incomplete_demos,
    "history": _history,
    "custom types": _custom_types,
    "types made of parts": _picture,
    "defaults": _defaults,
    **{kind: _round_trip(kind) for kind in _TYPES},
    "a model used twice": _model_twice,
    "text that quotes the format": _quoted_format,
    "native tools": _native_tools,
    "async equals sync": _async_equals_sync,
    "streaming": _streaming,
    "field listeners": _field_listeners,
    "bad replies": _bad_replies,
    "one request for a bad reply": _bad_reply_requests,
    "nothing is changed": _no_mutation,
    "callbacks": _callbacks,
}
"""Features in the order of a report, each with its check."""
