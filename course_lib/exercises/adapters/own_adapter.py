"""Exercise 1.3, a custom adapter: it reads what it writes, refuses in one way, and works in programs.

Main path: EXERCISE -> engine.registry.
Source: dspy.Adapter (DSPy 3.4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from random import randrange
from typing import Any
from uuid import uuid4

import dspy
import pydantic
from dspy.utils.exceptions import AdapterParseError
from pydantic_core import to_json

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect, expect_equal, expect_error, run, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted


class Good(pydantic.BaseModel):
    """A record, which stands in a list of them."""

    name: str
    count: int


_FIELDS = "days: int, price: float, sure: bool, part, parts: list[str], goods: list[Good]"
_ALL = f"ticket -> note, {_FIELDS}, topic: Literal['tent', 'stove']"
_SIGNATURE: Any = dspy.Signature(_ALL, custom_types={"Good": Good})
_NOTES = {
    "plain values": "call back",
    "a text that names a field in the middle of a line": "He called. days: no; part: pole (topic: stove)",
    "a text that looks like a number": "0049",
    "a text in quotes": '"Now or never"',
    "a text of two lines": "first line\nsecond line",
    "a text of two paragraphs": "She waits.\n\nHe does not: call him.",
    "a text with a line like one of the format": "On the form:\ntopic: stove\ndays: 9\nSo it is.",
    "a text with indented lines": "To do:\n  - pegs\n    - all of them\n\tpole\tand cord\nThat is it.",
}


def _said() -> dict[str, Any]:
    """Return values of all fields, made anew; the further lines of the note name no field."""
    one, two, three = (uuid4().hex[:6] for _ in range(3))
    return {
        "note": f"She waits. days: unknown, {one}\n\nPS: she will not wait; part: {two}\nN.B.: call her",
        "days": randrange(2, 99),
        "price": randrange(99) + 0.25,
        "sure": False,
        "part": f"peg {one}, not parts: all",
        "parts": [f"peg {one}", f"pole {two}", f"cord {three}"],
        "goods": [Good(name=f"tent {one}", count=2), Good(name=f"stove {two}", count=1)],
        "topic": "stove",
    }


def _lines(said: dict[str, Any]) -> dict[str, str]:
    """Return the line of each field, as a model writes it."""
    texts = {name: to_json(v).decode() if isinstance(v, list) else v for name, v in said.items()}
    return {name: f"{name}: {text}" for name, text in texts.items()}


def _expect_values(adapter: Any, text: str, values: dict[str, Any], what: str, hint: str) -> None:
    """Fail unless `text` is read as these values, of the same types."""
    parse = partial(adapter.parse, _SIGNATURE, text)
    got = without_error(parse, what, expected=f"{values!r}", hint=hint, errors=AdapterParseError)
    expect_equal(got, values, what, hint=hint)
    expect_equal([*map(type, got.values())], [type(values[name]) for name in got], f"types, where {what}")


def reads_what_it_writes(adapter_class: Callable[[], Any]) -> None:
    """Parsing what the adapter itself writes for a demo gives the same values, of the same types."""
    adapter = adapter_class()
    for (what, note), empty in product(_NOTES.items(), ((), ("parts", "goods"))):
        values = _said() | {"note": note, "price": 20.0, "part": "pole"} | {name: [] for name in empty}
        text = adapter.format_assistant_message_content(_SIGNATURE, dict(values))
        hint = f"Demos teach the model this format. The adapter wrote: {text!r}"
        _expect_values(adapter, text, values, f"{what} come back as they were", hint)


def writes_half_a_demo(adapter_class: Callable[[], Any]) -> None:
    """A demo that lacks fields is written all the same, with those that it has."""
    what, hint = "a demo that lacks fields is written all the same", "outputs.get(name) finds what is there."
    for more in ({}, {"missing_field_message": "Not supplied."}):
        write = partial(adapter_class().format_assistant_message_content, _SIGNATURE, {"note": "call"})
        text = without_error(partial(write, **more), what, hint=hint)
        expect("call" in str(text), what, observed=text, expected="a text with the note that it has")


def reads_a_reply(adapter_class: Callable[[], Any]) -> None:
    """A reply is read whatever the order of its lines, also where a text goes on below its own line."""
    said = _said()
    lines = _lines(said)
    for names in (list(lines), sorted(lines, reverse=True)):
        text = "\n".join(lines[name] for name in names)
        what, hint = f"a reply with the lines {', '.join(names)} is read", f"The reply was {text!r}"
        _expect_values(adapter_class(), text, said, what, hint)


def _bad_replies(good: dict[str, str]) -> dict[str, str]:
    changed = {
        "a label that is not allowed": {"topic": "topic: kayak"},
        "a word where a number should be": {"days": "days: soon"},
        "a price in words": {"price": "price: cheap"},
        **{f"a reply without the field {name}": {name: ""} for name in good},
    }
    told = {what: "\n".join(filter(None, (good | lines).values())) for what, lines in changed.items()}
    return {**told, "prose": "I would call the customer back.", "an empty reply": ""}


def refuses_in_one_way(adapter_class: Callable[[], Any]) -> None:
    """A reply that does not fit raises AdapterParseError, and nothing else."""
    adapter, good = adapter_class(), _lines(_said())
    adapter.parse(_SIGNATURE, "\n".join(good.values()))  # its values are no answers to the next reply
    hint = "Only AdapterParseError is understood by agents, retries and fallbacks."
    for what, text in _bad_replies(good).items():
        parse = partial(adapter.parse, _SIGNATURE, text)
        expect_error(AdapterParseError, parse, f"{what} raises AdapterParseError", hint=hint)


def works_in_programs(adapter_class: Callable[[], Any]) -> None:
    """Predict with a demo, ChainOfThought and acall work through it, with one request each."""
    sort = dspy.Predict(dspy.Signature(f"ticket -> category: Literal{list(desk.CATEGORIES)}"))
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
    title="A custom adapter",
    minutes=15,
    difficulty="hard",
    hints=(
        "What one method writes, the other reads: format_field_value and parse_value of dspy.adapters.utils.",
        "A value ends where a line begins with the name of an output field and a colon: re.split cuts there. "
        "Indent the further lines of a text, and none of them can be taken for a field.",
        "ValueError and KeyError become AdapterParseError(adapter_name, signature, lm_response, message).",
    ),
    checks=(reads_what_it_writes, writes_half_a_demo, reads_a_reply, refuses_in_one_way, works_in_programs),
    why="Reading what it writes is the heart of an adapter, since its demos teach the model. And a refusal "
    "has one name, AdapterParseError: fallbacks and agents catch that and nothing else.",
)
