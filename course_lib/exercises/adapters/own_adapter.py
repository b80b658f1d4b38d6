"""Exercise 1.3, a custom adapter: it reads what it writes, refuses in one way, and works in programs.

Main path: EXERCISE -> engine.registry.
Source: dspy.Adapter (DSPy 3.4.1). DSPy is imported when a check runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect, expect_equal, expect_error, run
from course_lib.exercises.engine.registry import Exercise, stub_methods
from course_lib.exercises.engine.seen import counted

SIX = "Literal['shipping', 'returns', 'billing', 'account', 'product', 'warranty']"


def _order_signature() -> Any:
    import dspy

    return dspy.Signature("ticket -> note: str, days: int, parts: list[str], topic: Literal['tent', 'stove']")


_VALUES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("plain values", {"note": "call back", "days": 3, "parts": ["pole", "peg"], "topic": "tent"}),
    ("a text with a colon", {"note": "ask: when?", "days": 0, "parts": [], "topic": "stove"}),
    ("a text of two lines", {"note": "first line\nsecond line", "days": 12, "parts": ["a"], "topic": "tent"}),
)


def reads_what_it_writes(adapter_class: Callable[[], Any]) -> None:
    """Parsing what the adapter itself writes for a demo gives the same values, of the same types."""
    adapter, signature = adapter_class(), _order_signature()
    for what, values in _VALUES:
        text = adapter.format_assistant_message_content(signature, values)
        expect(isinstance(text, str), "a demo is written as text", observed=text, expected="a str")
        hint = f"Demos teach the model this format. The adapter wrote: {text!r}"
        expect_equal(adapter.parse(signature, text), values, f"{what} come back as they were", hint=hint)


_BAD = {
    "a reply without the field days": "note: call back\nparts: []\ntopic: tent",
    "a label that is not allowed": "note: call back\ndays: 1\nparts: []\ntopic: kayak",
    "prose": "I would call the customer back.",
    "an empty reply": "",
}


def refuses_with_a_parse_error(adapter_class: Callable[[], Any]) -> None:
    """A reply that does not fit raises AdapterParseError, and nothing else."""
    from dspy.utils.exceptions import AdapterParseError

    adapter, signature = adapter_class(), _order_signature()
    hint = "Only AdapterParseError is understood by agents, retries and fallbacks."
    for what, text in _BAD.items():
        expect_error(
            AdapterParseError,
            partial(adapter.parse, signature, text),
            f"{what} raises AdapterParseError",
            hint=hint,
        )


def works_in_programs(adapter_class: Callable[[], Any]) -> None:
    """Predict with a demo, ChainOfThought and acall work through it, with one request each."""
    import dspy

    sort = dspy.Predict(dspy.Signature(f"ticket -> category: {SIX}"))
    sort.demos = [dspy.Example(ticket="my stove leaks", category="warranty").with_inputs("ticket")]
    think, ticket = dspy.ChainOfThought("question -> answer"), desk.tickets("dev")[0].text
    with dspy.context(lm=lm.connect("sim-large", cache=False), adapter=adapter_class()):
        (sorted_now, thought, sorted_later), calls = counted(
            lambda: (sort(ticket=ticket), think(question="What is 2 + 2?"), run(sort.acall(ticket=ticket)))
        )
    expect_equal(sorted_later.category, sorted_now.category, "acall and a plain call give the same label")
    expect("4" in thought.answer, "ChainOfThought answers", observed=thought.answer, expected="4")
    expect_equal(len(calls), 3, "requests of three calls", hint="A hidden fallback asks again, in JSON.")
    demo = [message["content"] for message in calls[0].messages if message["role"] == "assistant"]
    expect_equal(demo, ["category: warranty"], "the demo as the server saw it")


EXERCISE = Exercise(
    id="1.3",
    title="A custom adapter",
    lesson="01_adapters",
    minutes=20,
    difficulty="hard",
    concepts=("Adapter", "demos", "parse", "AdapterParseError"),
    hints=(
        "The two methods mirror each other: what one writes for a demo, the other reads from a reply. "
        "dspy.adapters.utils has format_field_value and parse_value for the values themselves.",
        "A value may run over several lines and hold colons. It ends where a line begins with the name "
        "of another output field; re.split with the names in a group cuts there.",
        "parse_value raises ValueError, a missing name raises KeyError: catch both and raise "
        "AdapterParseError(adapter_name=..., signature=..., lm_response=..., message=...) from them.",
    ),
    checks=(reads_what_it_writes, refuses_with_a_parse_error, works_in_programs),
    is_stub=stub_methods("format_assistant_message_content", "parse"),
    why="Reading what it writes is the heart of an adapter, since demos are written by it and teach the "
    "model. Types come for free from parse_value. And a refusal has one name, AdapterParseError: "
    "fallbacks and agents catch that and nothing else.",
)
