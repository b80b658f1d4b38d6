"""What an adapter must do, one check per feature.

Main path: REQUIREMENTS[feature](stand) returns what was observed; it asserts, or raises NotClaimedError.
Source: the contract of dspy.Adapter and what Predict, ChainOfThought and streamify rely on (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError

from course_lib.adapters.prompt.roundtrips import ROUND_TRIPS
from course_lib.adapters.prompt.scripted import scripted
from course_lib.adapters.prompt.stand import (
    SORTED,
    Ask,
    NotClaimedError,
    Part,
    Sort,
    Stand,
    example,
    once,
    same,
    text_of,
    waited,
)

TICKET = {"ticket": "My lamp is broken."}


def _predict(stand: Stand) -> str:
    ran = stand.run(dspy.Predict(Sort), SORTED, TICKET)
    same(ran.prediction.toDict(), SORTED)
    assert any(TICKET["ticket"] in text_of(m) for m in ran.messages), "the input is nowhere in the prompt"
    assert Sort.instructions in text_of(ran.messages[0]), "the instructions are not in the system message"
    return once(ran.requests)


def _chain_of_thought(stand: Stand) -> str:
    expected = {"reasoning": "It is broken,\nso it goes back.", **SORTED}
    ran = stand.run(dspy.ChainOfThought(Sort), expected, TICKET)
    same({key: str(value) for key, value in ran.prediction.toDict().items()}, expected)
    return once(ran.requests)


def _demos(stand: Stand) -> str:
    shown = {"label": "billing", "note": "Charged twice."}
    program = dspy.Predict(Sort)
    program.demos = [example(ticket="Twice on my card!", **shown)]
    ran = stand.run(program, SORTED, TICKET)
    same([m["role"] for m in ran.messages], ["system", "user", "assistant", "user"], "roles")
    assert "Twice on my card!" in text_of(ran.messages[1]), "the demo's input is not in its user message"
    same(stand.read(Sort, text_of(ran.messages[2]), shown), shown, "the demo, read by the adapter itself")
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
    same([m["role"] for m in ran.messages], ["system", "user", "assistant", "user"], "roles")
    assert "Does it float?" in text_of(ran.messages[1]), "the earlier question is not in a user turn"
    assert "Like a duck." in text_of(ran.messages[2]), "the earlier answer is not in an assistant turn"
    assert "float" not in text_of(ran.messages[3]), "the history is repeated in the request"
    same(past.messages, before, "the caller's history")
    return "earlier turns as user and assistant messages"


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
    same(names, ["look_up"], "tools sent")
    (call,) = ran.prediction.calls.tool_calls
    same((call.name, call.args), ("look_up", {"order": "O-10001"}), "tool call")
    return "tools sent beside the prompt, the call read back"


def _async_equals_sync(stand: Stand) -> str:
    waited_for = stand.run_async(dspy.Predict(Sort), SORTED, TICKET)
    called = stand.run(dspy.Predict(Sort), SORTED, TICKET)
    same(waited_for.prediction.toDict(), called.prediction.toDict(), "acall")
    same(waited_for.messages, called.messages, "messages of acall")
    return once(waited_for.requests)


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
    same(last.toDict(), {"answer": "Yes.", "score": 3}, "the prediction at the end")
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
    same((inputs, demos, Sort.instructions, list(Sort.fields)), before, "inputs and demos after format()")
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
    **ROUND_TRIPS,
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
