"""What an adapter must do, feature by feature: cases, and functions for what a case cannot express.

Main path: REQUIREMENTS[feature](adapter) returns what was observed; it asserts, or raises NotClaimedError.
Source: the contract of dspy.Adapter and what Predict, ChainOfThought and streamify rely on (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import dspy
import pydantic
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError

from course_lib.adapters.prompt.script import Run, finished, run, scripted, text_of
from course_lib.adapters.prompt.types import Money
from course_lib.errors import CourseError


class NotClaimedError(CourseError):
    """The adapter does not offer the feature, and says so instead of giving wrong answers."""


class Part(pydantic.BaseModel):
    """A nested model."""

    name: str
    count: int


class _Pair(pydantic.BaseModel):
    left: Part
    right: Part


class _Size(enum.Enum):
    SMALL = 1
    LARGE = 2


Sort = dspy.Signature('ticket -> label: Literal["billing", "returns"], note', "Sort a ticket.")
Ask = dspy.Signature("question -> answer, score: int", "Answer the question.")
TICKET = {"ticket": "My lamp is broken."}
SORTED = {"label": "returns", "note": "The lamp came broken."}
QUESTION, ANSWER = {"question": "?"}, {"answer": "Yes.", "score": 3}
_WHOLE = {"ticket": "whole", "label": "billing", "note": "n"}
_HALF = {"ticket": "half", "label": "billing"}
_TURN = {"question": "Does it float?", "answer": "Like a duck."}
_CHARGED = {"label": "billing", "note": "Charged twice."}
_PEG, _POLE = Part(name="peg", count=3), Part(name="pole: long", count=1)
_PROSE = "I would rather not say."
_BAD = (_PROSE, "{", "[" * 5000, "[[ ## answer ## ]]", "<answer>", "answer:", '{"answer": ')


@dataclass(frozen=True, slots=True)
class Case:
    """A program whose model replies `outputs` as the adapter writes them; they must come back unchanged."""

    signature: Any
    outputs: Mapping[str, Any]
    inputs: Mapping[str, Any]
    module: Callable[[Any], Any] = dspy.Predict
    demos: tuple[Mapping[str, Any], ...] = ()
    turns: int = 0
    """User messages in the prompt, with one of the assistant between them; 0: not checked."""
    shown: tuple[tuple[int, str], ...] = ()
    """Texts that must stand in the prompt, each with the index of its message."""
    observed: str = "1 request"

    def __call__(self, adapter: Any) -> str:
        """Run the case, and return what was observed."""
        self.run(adapter)
        return self.observed

    def run(self, adapter: Any) -> Run:
        """Run the case, and assert what it demands."""
        program = self.module(self.signature)
        program.predictors()[0].demos = [dspy.Example(**demo) for demo in self.demos]
        result = run(adapter, program, self.inputs, dict(self.outputs))
        if self.turns:
            roles = ["system", *["user", "assistant"] * (self.turns - 1), "user"]
            _demand_equal([message["role"] for message in result.messages], roles, "roles")
        for name, value in self.outputs.items():
            _demand_equal(result.prediction[name], value, name)
        for index, text in self.shown:
            assert text in text_of(result.messages[index]), (
                f"message {index} of the prompt lacks {text!r:.90}"
            )
        assert result.requests == 1, f"{result.requests} requests for one good reply; expected 1"
        return result


def _demand_equal(result: Any, expected: Any, what: str = "outputs") -> None:
    assert result == expected, f"{what}: expected {expected!r:.90}, got {result!r:.90}"


def _value(annotation: Any, value: Any) -> Case:
    return Case(Ask.append("value", dspy.OutputField(), annotation), {**ANSWER, "value": value}, QUESTION)


_PREDICT = Case(Sort, SORTED, TICKET, shown=((0, Sort.instructions), (-1, TICKET["ticket"])))
_DEMO = replace(_PREDICT, demos=({"ticket": "Twice on my card!", **_CHARGED},), turns=2)
_HISTORY = Case(
    dspy.Signature("history: dspy.History, question -> answer"),
    {"answer": "Yes."},
    {"history": dspy.History(messages=[dict(_TURN)])} | QUESTION,
    turns=2,
    shown=((1, "Does it float?"), (2, "Like a duck.")),
)


def _demos(adapter: Any) -> str:
    result = _DEMO.run(adapter)
    assert "Twice on my card!" in text_of(result.messages[1]), "the demo's input is not in its user message"
    outputs = adapter.parse(Sort, text_of(result.messages[2]))
    _demand_equal(outputs, _CHARGED, "the demo, read by the adapter itself")
    return "a demo is written as the reply is read"


def _history(adapter: Any) -> str:
    result = _HISTORY.run(adapter)
    assert "float" not in text_of(result.messages[3]), "the history is repeated in the request"
    _demand_equal(_HISTORY.inputs["history"].messages, [_TURN], "the caller's history")
    return "earlier turns as user and assistant messages"


def _types_made_of_parts(adapter: Any) -> str:
    picture = dspy.Image("data:image/gif;base64,R0lGODlhAQABAAAAACw=")
    look = dspy.Predict("picture: dspy.Image -> answer")
    parts = run(adapter, look, {"picture": picture}, {"answer": "a dot"}).messages[-1]["content"]
    kinds = [part.get("type") for part in parts] if isinstance(parts, list) else ["one text"]
    assert "image_url" in kinds, f"no image among the message's parts {kinds}"
    return "a type's parts reach the model as parts"


def _defaults(adapter: Any) -> str:
    signature = Ask.append("source", dspy.OutputField(default="none given"), str)
    reply = adapter.format_assistant_message_content(Ask, ANSWER)
    source = run(adapter, dspy.Predict(signature), QUESTION, reply).prediction.source
    _demand_equal(source, "none given", "source")
    return "a field with a default may be missing"


def _quoted_format(adapter: Any) -> str:
    quoted = adapter.format_assistant_message_content(Ask, {"answer": "No.", "score": 1})
    Case(Ask, {"answer": f"They wrote:\n{quoted}\nand left.", "score": 3}, QUESTION).run(adapter)
    return "a text that quotes the format stays a text"


def _native_tools(adapter: Any) -> str:
    def look_up(order: str) -> str:
        """Look an order up."""
        return order

    adapter.use_native_function_calling = True
    program = dspy.Predict("question, tools: list[dspy.Tool] -> answer: str, calls: dspy.ToolCalls")
    inputs = {"question": "Where is O-10001?", "tools": [dspy.Tool(look_up)]}
    result = run(adapter, program, inputs, {"name": "look_up", "args": {"order": "O-10001"}})
    names = [tool["function"]["name"] for tool in result.options.get("tools", ())]
    _demand_equal(names, ["look_up"], "tools sent")
    (call,) = result.prediction.calls.tool_calls
    _demand_equal((call.name, call.args), ("look_up", {"order": "O-10001"}), "tool call")
    return "tools sent beside the prompt, the call read back"


def _async_equals_sync(adapter: Any) -> str:
    awaited_run = run(adapter, dspy.Predict(Sort), TICKET, SORTED, use_acall=True)
    called_run = run(adapter, dspy.Predict(Sort), TICKET, SORTED)
    _demand_equal(awaited_run.prediction.toDict(), called_run.prediction.toDict(), "acall")
    _demand_equal(awaited_run.messages, called_run.messages, "messages of acall")
    return f"{awaited_run.requests} request"


def _stream(adapter: Any, listeners: Any) -> list[Any]:
    program = dspy.streamify(dspy.Predict(Ask), stream_listeners=listeners, is_async_program=True)

    async def collect() -> list[Any]:
        return [part async for part in program(**QUESTION)]

    lm, _ = scripted([adapter.format_assistant_message_content(Ask, ANSWER)])
    with dspy.context(lm=lm, adapter=adapter):
        return finished(collect())


def _streaming(adapter: Any) -> str:
    *chunks, last = _stream(adapter, None)
    assert chunks, "no chunk before the prediction"
    _demand_equal(last.toDict(), ANSWER, "the prediction at the end")
    return "raw chunks, then the prediction"


def _field_listeners(adapter: Any) -> str:
    try:
        parts = _stream(adapter, [dspy.streaming.StreamListener(signature_field_name="answer")])
    except ValueError as error:
        if "Unsupported adapter" not in str(error):
            raise
        raise NotClaimedError("DSPy serves ChatAdapter, JSONAdapter and XMLAdapter, by class name") from None
    text = "".join(part.chunk for part in parts if isinstance(part, dspy.streaming.StreamResponse))
    assert "Yes." in text, f"expected 'Yes.' from the listener, got {text!r}"
    return "a field's text as it comes" if text == "Yes." else f"a field's text as it comes, raw: {text!r}"


def _bad_replies(adapter: Any) -> str:
    good = adapter.format_assistant_message_content(Ask, ANSWER)
    for reply in (*_BAD, good.replace("3", "three"), good[: len(good) // 3]):
        try:
            outputs = adapter.parse(Ask, reply)
        except AdapterParseError:
            continue
        except Exception as error:  # border: any other class of error is the finding
            kind = type(error).__name__
            raise AssertionError(f"{kind}, not AdapterParseError, for {reply!r:.50}") from error
        raise AssertionError(f"the reply {reply!r:.50} was read as {outputs!r:.80}")
    return f"AdapterParseError, {len(_BAD) + 2} times"


def _bad_reply_requests(adapter: Any) -> str:
    lm, script = scripted([_PROSE])
    try:
        with dspy.context(lm=lm, adapter=adapter):
            dspy.Predict(Ask)(**QUESTION)
    except AdapterParseError:
        if script.requests > 1:
            raise NotClaimedError(f"{script.requests} requests before it gives up") from None
        return "1 request"
    raise AssertionError("a reply that cannot be read gave a prediction")


def _nothing_is_changed(adapter: Any) -> str:
    given = {"ticket": "a", "extra": ["b"]}, [dict(_WHOLE), dict(_HALF)], Sort.dump_state()
    before = copy.deepcopy(given)
    adapter.format(Sort, given[1], given[0])
    _demand_equal((*given[:2], Sort.dump_state()), before, "inputs and demos after format()")
    return "inputs and demos are left as they were"


def _callbacks(adapter: Any) -> str:
    counts = {"format": 0, "parse": 0}

    class Recorder(BaseCallback):
        def on_adapter_format_start(self, *_: Any, **__: Any) -> None:
            counts["format"] += 1

        def on_adapter_parse_end(self, *_: Any, **__: Any) -> None:
            counts["parse"] += 1

    adapter.callbacks = [Recorder()]
    run(adapter, dspy.Predict(Ask), QUESTION, ANSWER)
    assert all(counts.values()), f"reported: {counts}; expected each at least once"
    return f"format reported {counts['format']}x, parse {counts['parse']}x"


REQUIREMENTS: dict[str, Callable[[Any], str]] = {
    "Predict": _PREDICT,
    "ChainOfThought": replace(
        _PREDICT,
        module=dspy.ChainOfThought,
        outputs={"reasoning": "It is broken,\nso it goes back.", **SORTED},
    ),
    "demos": _demos,
    "incomplete demos": replace(
        _PREDICT,
        demos=(_WHOLE, _HALF, {"ticket": "inputs only"}),
        turns=3,
        shown=((1, "half"), (1, "not supplied"), (3, "whole")),
        observed="incomplete ones first and announced, those without outputs dropped",
    ),
    "history": _history,
    "custom types": Case(
        dspy.Signature("budget: Money, bill -> total: Money", custom_types={"Money": Money}),
        {"total": Money.model_validate("12.50 EUR")},
        {"budget": Money.model_validate("99 EUR"), "bill": "€12,50"},
        shown=((-1, "99.00 EUR"), (0, Money.description())),
        observed="format() and description() in the prompt, value read back",
    ),
    "types made of parts": _types_made_of_parts,
    "defaults": _defaults,
    "text of several lines": _value(str, "One: yes.\n\n  two & <three>\n- four"),
    "number": _value(float, -2.5),
    "truth value": _value(bool, False),
    "choice": _value(Literal["a b", "c"], "a b"),
    "enum of numbers": _value(_Size, _Size.LARGE),
    "list of texts": _value(list[str], ["a, b", 'c "d"', "é"]),
    "record": _value(dict[str, int], {"x": 1, "y z": 2}),
    "nested model": _value(Part, _PEG),
    "list of models": _value(list[Part], [_PEG, _POLE]),
    "nothing (None)": _value(int | None, None),
    "number or text": _value(int | str, "5"),
    "a model used twice": Case(
        dspy.Signature(
            "text -> front: Part, back: Part, crates: list[Pair]", custom_types={"Part": Part, "Pair": _Pair}
        ),
        {"front": _PEG, "back": _POLE, "crates": [_Pair(left=_PEG, right=_POLE)]},
        {"text": "3 pegs in front, a pole behind"},
    ),
    "text that quotes the format": _quoted_format,
    "native tools": _native_tools,
    "async equals sync": _async_equals_sync,
    "streaming": _streaming,
    "field listeners": _field_listeners,
    "bad replies": _bad_replies,
    "one request for a bad reply": _bad_reply_requests,
    "nothing is changed": _nothing_is_changed,
    "callbacks": _callbacks,
}
"""Features in the order of a report, each with its check; a check may change the adapter it is given."""
