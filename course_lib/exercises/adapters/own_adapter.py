"""Exercise 1.3, a custom adapter: it reads what it writes, refuses in one way, and works in programs.

Main path: EXERCISE -> engine.registry. Signatures and values are drawn for each check, the shortest first.
Source: dspy.Adapter (DSPy 3.4.1).
"""

from __future__ import annotations

import datetime
import enum
import re
from functools import partial
from itertools import cycle
from random import choice, randrange, sample
from typing import Any, Literal
from uuid import uuid4

import dspy
import pydantic
from dspy.utils.exceptions import AdapterParseError
from pydantic_core import to_json, to_jsonable_python

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect, expect_equal, expect_error, run, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted

Good: Any = pydantic.create_model("Good", name=str, count=int)
Size: Any = enum.Enum("Size", {"ONE": "for one", "MANY": "for many"})
_KINDS: dict[Any, Any] = {
    int: (lambda: randrange(-9, 99), "soon|4 days|4.5|4 or 5"),
    float: (lambda: randrange(-99, 99) / 4, "cheap|9 EUR|1.2.3"),
    bool: (lambda: choice((True, False)), "maybe|not True|2"),
    datetime.date: (lambda: datetime.date(2026, randrange(1, 13), 9), "tomorrow|2026-13-01"),
    int | None: (lambda: choice((None, 0, 7)), "none at all|3 days"),
    Literal["tent", "stove"]: (lambda: choice(("tent", "stove")), "kayak|Stove|stoves|tent, stove"),
    Size: (lambda: choice([*Size]), "for two|SIZE.ONE"),
    list[str]: (lambda: [_word() for _ in range(randrange(3))], "peg and pole|{}"),
    list[Good]: (lambda: [Good(name=_word(), count=2)] * randrange(3), '[{"name": "peg"}]|a tent'),
    dict[str, int]: (lambda: {_word(): randrange(9)}, '{"peg": "two"}|[1]'),
}
"""For each type of a field: how a value is made, and what is none, with bars between."""
_NAMES = "note", "note_2", "no", "days", "days_left", "part", "parts", "goods", "topic", "sure", "id"
_HARD = (
    "{0}: 9|{0}: 9|{0}:9|  {0}: 9|\t{0} : 9|{Name}: 9|{NAME}:9|**{0}**: 9|- {0}: 9|{0}|:|un{0}: 9|PS: {0}: 9"
    "|||| |  x|\tx|x  |    |\\|\\\\x|\\n|\\{0}: 9|>x|> {0}: 9|#x|'|\"x\"|\"|'x'|x\rx|x\u2028{0}: 9|\x85x|"
    "\u2029|\x0b|\x1cx|0049|null|[]|{{}}|9.0|tent's"
)
"""Lines of a demo's text that may get lost or be taken for a field's; {0} is a field's name."""
_LONG = "She\u0301 waits\0\n{0}: 9\n" + "and waits " * 500 + "on."
_FIXED = _LONG, "She waits ", " She waits", "", "{0}: 9", "'waits'", '"waits"', "waits\n", "She\nwaits"
"""Texts that an adapter may have to mark, and that in its own marks are texts as well."""
_PLAIN = "{0}_3: 9|un{0}: 9|the {0}: 9|{0} or not|PS: she waits; {0}: 9|N.B.: call|Hint: 9: 9|9|None|"
"""Further lines of a reply's text, which no reader may take for a field's."""


def _word() -> str:
    return choice(("peg", 'pole "x"', "cord: 9", "")) + uuid4().hex[:3]


def _text(names: list[str], pieces: str) -> str:
    drawn = [(choice(pieces.split("|")), choice(names)) for _ in range(randrange(6))]
    lines = "\n".join(piece.format(name, Name=name.title(), NAME=name.upper()) for piece, name in drawn)
    return lines if pieces is _HARD else f"She waits\n{lines}\nand waits."


def _cases(pieces: str) -> list[tuple[Any, dict[str, Any]]]:
    """Return signatures and values of their fields, two texts among them, shortest values first."""
    cases = []
    for _ in range(12):
        kinds = dict(zip(sample(_NAMES, 5), sample([str, str, *sample([*_KINDS], 3)], 5), strict=True))
        fields = {name: (kind, dspy.OutputField()) for name, kind in kinds.items()}
        signature = dspy.Signature({"ticket": (str, dspy.InputField()), **fields})
        makers = _KINDS | {str: (partial(_text, [*kinds], pieces), "")}
        cases += [(signature, {name: makers[kind][0]() for name, kind in kinds.items()}) for _ in range(8)]
    return sorted(cases, key=lambda case: len(str(case[1])))


def _lines(said: dict[str, Any]) -> dict[str, str]:
    """Return the line of each field, as a model writes it."""
    plain = to_jsonable_python(said).items()
    return {name: f"{name}: {to_json(v).decode() if isinstance(v, list | dict) else v}" for name, v in plain}


def _expect_values(adapter: Any, signature: Any, text: str, values: dict[str, Any], what: str) -> None:
    """Fail unless `text` is read as these values, of the same types."""
    hint, parse = f"What was to be read: {text!r:.400}", partial(adapter.parse, signature, text)
    read = without_error(parse, what, expected=f"{values}", hint=hint, errors=AdapterParseError)
    expect_equal({*read}, {*values}, f"{what}: the fields", hint=hint)
    for name, value in values.items():
        expect_equal((read[name], type(read[name])), (value, type(value)), f"{what}: {name}", hint=hint)


def reads_what_it_writes(adapter_class: Any) -> None:
    """Parsing what the adapter itself writes for a demo gives the same values, of the same types."""
    writer, reader = adapter_class(), adapter_class()
    one = partial(writer.format_assistant_message_content, dspy.Signature("ticket -> note"))
    marked = [one({"note": each}).removeprefix("note:").strip() for each in _FIXED]
    for (signature, values), odd in zip(_cases(_HARD), cycle([*_FIXED, *marked]), strict=False):
        texts = [name for name, field in signature.output_fields.items() if field.annotation is str]
        for added in (None, None, odd, None):
            text = writer.format_assistant_message_content(signature, given := dict(values))
            expect_equal(given, values, "the demo itself stays as it was")
            lost = [each for each in re.findall(r"\w+", values[texts[0]], re.ASCII) if each not in text]
            expect_equal(lost, [], "words of a demo's text that are not in what is written")
            _expect_values(reader, signature, text, values, "a demo comes back as it was")
            values |= {name: text if added is None else added.replace("{0}", name) for name in texts}


def writes_half_a_demo(adapter_class: Any) -> None:
    """A demo that lacks fields is written all the same, with those that it has."""
    adapter = adapter_class()
    for signature, values in _cases(_PLAIN):
        gaps, message = sample([*values], randrange(1, 5)), choice(("", "Not supplied."))
        has = {name: value for name, value in values.items() if name not in gaps}
        write = partial(adapter.format_assistant_message_content, signature, has)
        what = f"a demo without {', '.join(gaps)} is written"
        lines = without_error(partial(write, missing_field_message=message or None), what).split("\n")
        filled = [line for line in lines if line.startswith(tuple(f"{gap}:" for gap in gaps))]
        expect_equal([line for line in filled if message not in line], [], f"{what}: without {message!r}")
        added = [line for name, line in _lines(values).items() if name in gaps]
        whole = "\n".join([*(line for line in lines if line not in filled), *added])
        _expect_values(adapter, signature, whole, values, "what half a demo has comes back")


def reads_a_reply(adapter_class: Any) -> None:
    """A reply is read whatever the order of its lines, also where a text goes on below its own line."""
    adapter = adapter_class()
    for signature, values in _cases(_PLAIN):
        text = "\n".join(sample([*_lines(values).values()], len(values)))
        _expect_values(adapter, signature, text, values, "a reply is read")


def refuses_in_one_way(adapter_class: Any) -> None:
    """A reply that does not fit raises AdapterParseError, and nothing else."""
    adapter, hint = adapter_class(), "Only AdapterParseError is understood by agents, retries and fallbacks."
    for signature, values in _cases(_PLAIN)[::4]:
        good, none = _lines(values), dict.fromkeys(values, "")
        adapter.parse(signature, "\n".join(good.values()))  # its values are no answers to the next reply
        changed: dict[str, dict[str, str]] = {}
        for name, field in signature.output_fields.items():
            bad = _KINDS[field.annotation][1].split("|") if field.annotation is not str else ()
            changed |= {f"a reply with {word!r} as {name}": {name: f"{name}: {word}"} for word in bad}
            if field.annotation != int | None:
                changed[f"a reply without the field {name}"] = {name: ""}
        changed |= {"an empty reply": none, "prose": none | {"": "I would call the customer back."}}
        for what, lines in changed.items():
            parse = partial(adapter.parse, signature, "\n".join(filter(None, (good | lines).values())))
            expect_error(AdapterParseError, parse, f"{what} raises AdapterParseError", hint=hint)


def works_in_programs(adapter_class: Any) -> None:
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
        "re.split cuts where a line begins with a field's name and a colon: indent a text's further lines.",
        "ValueError and KeyError become AdapterParseError(adapter_name, signature, lm_response, message).",
    ),
    checks=(reads_what_it_writes, writes_half_a_demo, reads_a_reply, refuses_in_one_way, works_in_programs),
    why="Reading what it writes is the heart of an adapter, since its demos teach the model. And a refusal "
    "has one name, AdapterParseError: fallbacks and agents catch that and nothing else.",
)
