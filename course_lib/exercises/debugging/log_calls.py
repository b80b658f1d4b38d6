"""Exercise 4.2, a log that holds nothing personal: one line of JSON for each call of a program.

Main path: EXERCISE -> engine.registry; each check runs a program of its own and reads what was written.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import random
import re
import threading
import time
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import product
from typing import Any
from unittest.mock import Mock

import dspy
from pydantic import BaseModel

from course_lib.exercises.concurrency.watched import until
from course_lib.exercises.engine.checks import expect, expect_equal, run, show, without_error
from course_lib.exercises.engine.registry import Exercise

_HOWS = "__call__", "acall"
_KEYS = {"call", "program", "ms", "inputs", "outputs", "error"}
_CAUSE = OSError("shelf")
_CLOCKS_MS, _LATE_MS = 10.0, 1_000.0  # clocks differ a little; a loaded machine may be late


class _Person(BaseModel):
    name: str


@dataclass
class _Parcel:
    name: str


def _text_of_enum(text: str) -> Any:
    make: Any = Enum
    return make("Shelf", {"TOP": text}, type=str)["TOP"]


class _Mute:
    """A value without a text."""

    def __str__(self) -> str:
        raise TypeError("no text of this")


class _MuteError(_Mute, Exception):
    """An error without one."""


class _Program(dspy.Module):  # type: ignore[misc]
    """Returns or raises `end`; keeps what it was asked and how long it took.

    Without an end it answers with the ticket; `is_last` waits for others.
    """

    def __init__(self, end: Any) -> None:
        super().__init__()
        self.end, self.asked, self.took_ms = end, list[Any](), dict[Any, float]()
        self.others_ended = threading.Event()

    def forward(self, **inputs: Any) -> Any:
        return run(self._answer("__call__", **inputs))

    async def aforward(self, **inputs: Any) -> Any:
        return await self._answer("acall", **inputs)

    async def _answer(self, how: str, is_last: bool | None = None, **inputs: Any) -> Any:
        began, is_heard = time.perf_counter(), (dspy.settings.caller_modules or [None])[-1] is self
        self.asked.append((how if is_heard else "forward or aforward alone", inputs))
        if is_last is not None:
            await asyncio.sleep(0.03)
        if is_last:
            await until(self.others_ended.is_set)
        if is_last is not None:
            self.took_ms[inputs["ticket"]] = 1000 * (time.perf_counter() - began)
            return dspy.Prediction(answer=inputs["ticket"])
        if isinstance(self.end, BaseException):
            raise self.end from _CAUSE
        return self.end


_Desk: Any = type(f"Desk{random.randint(100, 999)}", (_Program,), {})


def _secret() -> str:
    return f"PIN-{random.randint(100_000, 999_999)}"


def _redacted(text: str) -> str:
    """Take secrets out; the quotes break the line of whoever redacts JSON instead of texts."""
    return re.sub(r"PIN-\d{6}", '["secret"]', text)


def _marked(text: str) -> str:
    """Show what was handed over as one text."""
    return f"<{text.swapcase()}>"


def _shortened(text: str) -> str:
    return re.sub(r"PIN-\d{6}", "#", text)


async def _ended(module: Any, how: str, inputs: dict[str, Any]) -> Any:
    """Call a module, for `__call__` in a thread; return what it returns, or the error that it raises."""
    try:
        return await (module.acall(**inputs) if how == "acall" else asyncio.to_thread(module, **inputs))
    except (Exception, asyncio.CancelledError) as error:  # border: compared with what the program raises
        return error


def _read(written: list[Any], count: int, what: str) -> list[dict[str, Any]]:
    """Return the lines; fail the check unless there are so many, each a JSON object of the six entries."""
    expect_equal(len(written), count, f"lines written for {what}")
    read = list[Any]()
    for line in written:
        is_line = isinstance(line, str) and "\n" not in line.strip()
        expect(is_line, f"what is written for {what}", observed=line, expected="a text of one line")
        read.append(without_error(partial(json.loads, line), f"the line {line:.300}", expected="JSON"))
        expect_equal({*read[-1]}, _KEYS, f"entries of the line written for {what}")
    return read


async def _lines(log_calls: Any, end: Any, inputs: dict[str, Any], redact: Any = _redacted) -> Any:
    """Return the lines that are written for a call in either way."""
    written = list[Any]()
    module = log_calls(_Desk(end), written.append, redact)
    is_one = isinstance(module, dspy.Module)
    expect(is_one, "what log_calls returns", observed=type(module).__name__, expected="a dspy.Module")
    for how in _HOWS:
        await _ended(module, how, inputs)
    return _read(written, 2, f"a call and an acall, {_words(end) or 'answered'}")


def _words(end: Any) -> str:
    return f"{type(end).__name__}: {end!s:.80}" if isinstance(end, BaseException) else ""


async def tells_each_call(log_calls: Any) -> None:
    """Each call is one line: a new id, the program's class, inputs, and the outputs or the error."""
    inputs, fields = {"ticket": f"Order {random.random()}", "copies": 2}, {"category": "tents", "score": 0.5}
    errors, ids = (LookupError("no such order"), ValueError("a: b"), asyncio.CancelledError("stop")), []
    hint = "The class is that of `program`, not of what logs it."
    for end in 9 * (dspy.Prediction(**fields), *errors):  # so often that an address comes again
        for line in await _lines(log_calls, end, inputs):
            wanted = [_Desk.__name__, inputs, {} if end in errors else fields, _words(end)]
            got = [line[name] for name in ("program", "inputs", "outputs", "error")]
            what = f"program, inputs, outputs and error of a call, {_words(end) or 'answered'}"
            expect_equal(got, wanted, what, hint=hint)
            ids.append(str(line["call"]))
    expect_equal(len({*ids}), len(ids), f"different ids of {len(ids)} calls", hint="A new one for each.")


async def forgets(log_calls: Any) -> None:
    """A line tells of its call alone, not of one before it."""
    for how in _HOWS:
        written, program = list[Any](), _Desk(None)
        module = log_calls(program, written.append, _redacted)
        for end in ("good", LookupError("no"), "well"):
            program.end = dspy.Prediction(answer=end) if isinstance(end, str) else end
            await _ended(module, how, {"ticket": "a"})
        got = [(line["outputs"], line["error"]) for line in _read(written, 3, f"3 calls by {how}")]
        wanted = [({"answer": "good"}, ""), ({}, "LookupError: no"), ({"answer": "well"}, "")]
        what = (
            f"outputs and error of a call, of one that fails and of another one, one after the other by {how}"
        )
        expect_equal(got, wanted, what)


async def redacts_texts(log_calls: Any) -> None:
    """Every text, at any depth, is what redact returns; numbers, None and names stay as they are."""
    hint = "A function that calls itself for what is in a dict or a list, and redact(text) for a text."
    one, two, three = _secret(), _secret(), random.choice("abc")
    texts = f" {one}\n", f"{two}\n\n{three}", three, ""
    numbers = [0.5, 0.12345, 2**60, 0, False]
    inputs, wanted = (
        {"ticket": a, "seen": [{"by": b, "at": 7, "ok": True, "no": None}, [c, d, *numbers]]}
        for a, b, c, d in (texts, map(_marked, texts))
    )
    for line in await _lines(log_calls, dspy.Prediction(**inputs), inputs, _marked):
        for entry in ("inputs", "outputs"):
            got, want = (json.dumps(each, sort_keys=True) for each in (line[entry], wanted))
            expect_equal(got, want, f"{entry} of {json.dumps(inputs)}, each text redacted", hint=hint)
    for line in await _lines(log_calls, ValueError(f"no {one}, {two}"), {"ticket": three}):
        want = 'ValueError: no ["secret"], ["secret"]'
        expect_equal(line["error"], want, "the error's text, redacted", hint="Errors quote what they got.")


async def redacts_other_kinds(log_calls: Any) -> None:
    """A value of any other kind is redacted as well."""
    hint = "json.dumps(default=str) comes after your redaction: make a text of it before."
    secret = _secret()
    kinds: list[Any] = [_Person(name=secret), (secret, 1), {7: secret}, {secret}, dspy.Example(name=secret)]
    kinds += [
        _text_of_enum(secret),
        secret.encode(),
        _Parcel(name=secret),
        ValueError(secret),
    ]
    for value in (*kinds, [_Person(name=secret)], datetime.date(2024, 2, 29)):
        for line in await _lines(log_calls, dspy.Prediction(who=value), {"who": value}):
            shown, what = json.dumps([line["inputs"], line["outputs"]]), f"the line of a field with {value!r}"
            expect(secret not in shown, what, observed=shown, expected="all of it redacted", hint=hint)


async def cuts_after_redaction(log_calls: Any) -> None:
    """A text is cut to its first 500 characters after it was redacted."""
    hint = "Half a number is no number: what is cut first is not recognized any more."
    for before in (random.randint(492, 498), 600, random.randint(300, 480)):
        text = f"{'a' * before}{_secret()}{'b' * random.randint(10, 90)}"
        wanted = _redacted(text)[:500]
        fields = {"ticket": text, "seen": [text, {"by": text}]}
        for line in await _lines(log_calls, dspy.Prediction(**fields), fields):
            entries = line["inputs"], line["outputs"]
            for got in (each for e in entries for each in (e["ticket"], e["seen"][0], e["seen"][1]["by"])):
                what = f"last 30 and number of characters in the line of a text of {len(text)}"
                expect_equal((got[-30:], len(got)), (wanted[-30:], len(wanted)), what, hint=hint)
        for line in await _lines(log_calls, ValueError(text), {"ticket": "a"}):
            got, most = line["error"], 500 + len("ValueError: ")
            is_cut = len(got) <= most and got[12:480] == wanted[:468] and "PIN" not in got
            observed = f"{len(got)} characters; the last: {got[-30:]!r}"
            expect(
                is_cut, "the error's text", observed=observed, expected="redacted, then cut to 500", hint=hint
            )
    for length in (200, 450):
        text = 90 * _secret() + "a" * length
        wanted, fields = _shortened(text)[:500], {"ticket": text}
        for line in await _lines(log_calls, dspy.Prediction(**fields), fields, _shortened):
            for got in (line["inputs"]["ticket"], line["outputs"]["ticket"]):
                what = f"number of characters in the line of {len(text)}, which redact makes {90 + length}"
                expect_equal(len(got), len(wanted), what, hint=hint)
    many = [_Person(name="a" * number + 60 * _secret()) for number in range(10)]  # wherever one may be cut
    left = re.findall("PIN[-0-9]*", str(await _lines(log_calls, dspy.Prediction(), {"people": many})))
    expect_equal(left, [], "what is left of numbers in long values of another kind", hint=hint)


def _refusing(text: str) -> str:
    if "PIN" in text:
        raise ValueError(f"cannot redact {text}")
    return text


def _end(kind: Any, secret: str, value: Any) -> tuple[Any, list[Any]]:
    """Return how a program ends, and what that has to hold afterwards."""
    if kind is dspy.Prediction:
        return dspy.Prediction(answer=[secret], by=value), [[secret], value]
    return kind(secret, value), [secret, value, _CAUSE]


async def _expect_same(log_calls: Any, kind: Any, how: str, fails: str) -> None:
    """Fail the check unless a call goes in and comes out as it is, and one line is written."""
    secret, redact = _secret(), _refusing if fails == "redact" else _redacted
    write = Mock(side_effect=OSError("no space left") if fails == "write" else None)
    value = _Mute() if fails == "str" else 7
    (end, original), inputs = _end(kind, secret, value), {"ticket": [secret, 7], "by": value}
    program, what = _Desk(end), f"of a call by {how} where {fails} fails"
    got = await _ended(log_calls(program, write, redact), how, deepcopy(inputs) if value == 7 else inputs)
    expect_equal(program.asked, [(how, inputs)], f"what the program was asked, {what}", hint=_CALL_IT)
    same = f"the {type(end).__name__} itself"
    observed = f"{type(got).__name__}{' (another one)' * (type(got) is type(end))}: {show(got)}"
    expect(got is end, f"the end {what}", observed=observed, expected=same, hint=_LOG_ALONE)
    holds = [end.answer, end.by] if kind is dspy.Prediction else [*end.args, end.__cause__]
    expect_equal(holds, original, f"answer, or text and cause of the error, {what}", hint=_LOG_ALONE)
    shown, hint = str(write.mock_calls), "A fixed text can stand in the place of one that cannot be redacted."
    expect(secret not in shown, f"the line {what}", observed=shown, expected="without its texts", hint=hint)
    expect_equal(write.call_count, 1, f"calls of write {what}", hint=hint)
    (line,) = _read([write.call_args.args[0]], 1, f"a call by {how} where {fails} fails")
    is_kept = bool(re.search(r"\b7\b", json.dumps(line["inputs"])))
    expect(
        is_kept,
        f"inputs in the line {what}",
        observed=show(line["inputs"]),
        expected="7, as it was",
        hint=hint,
    )
    if isinstance(end, _MuteError):
        is_told, what = str(line["error"]).startswith(_MuteError.__name__), f"error in the line {what}"
        expect(is_told, what, observed=line["error"], expected=f"{_MuteError.__name__}, its class", hint=hint)


async def changes_nothing(log_calls: Any) -> None:
    """What goes in and comes out is unchanged, and the line is written, if write, redact or str fails."""
    kinds = dspy.Prediction, LookupError, asyncio.CancelledError
    for fails, kind, how in product(("nothing", "write", "redact", "str"), kinds, _HOWS):
        mute = fails == "str" and kind is LookupError
        await _expect_same(log_calls, _MuteError if mute else kind, how, fails)


async def keeps_calls_apart(log_calls: Any) -> None:
    """Of calls at the same time each has its own line; ms is how long it took, in milliseconds."""
    hint = "What belongs to one call is in variables of its own, not in the module's."
    for how in _HOWS:
        written, program = list[Any](), _Desk(None)
        module, what = log_calls(program, written.append, _redacted), f"of 4 calls at once by {how}"
        first = asyncio.ensure_future(_ended(module, how, {"is_last": True, "ticket": "first"}))
        await until(lambda program=program, first=first: program.asked or first.done())  # type: ignore[misc]
        await asyncio.sleep(0.05)
        others = ({"is_last": False, "ticket": each} for each in ("second", "third", "fourth"))
        await asyncio.gather(*(_ended(module, how, each) for each in others))
        program.others_ended.set()
        await first
        lines = _read(written, 4, f"4 calls at once by {how}")
        expect_equal(len({str(line["call"]) for line in lines}), 4, f"different ids {what}", hint=hint)
        pairs = [(line["inputs"].get("ticket"), line["outputs"].get("answer")) for line in lines]
        wanted = [(each, each) for each in ("fourth", "second", "third", "first")]
        expect_equal(
            [*sorted(pairs[:-1], key=str), pairs[-1]],
            wanted,
            f"ticket and answer in the lines {what}",
            hint=hint,
        )
        for line, (ticket, _) in zip(lines, pairs, strict=True):
            least, most = program.took_ms[ticket] - _CLOCKS_MS, program.took_ms[ticket] + _LATE_MS
            is_so = isinstance(line["ms"], int | float) and least < line["ms"] < most
            between = f"a number from {least:.0f} to {most:.0f}"
            expect(is_so, f"ms {what}", observed=show(line["ms"]), expected=between, hint=hint)


async def tells_rare_calls(log_calls: Any) -> None:
    """An error without a text is told by its class; inputs may have any name."""
    inputs, fields = {"ticket": "a"}, {"category": "tents"}
    for end in (ValueError(), asyncio.CancelledError()):
        for line in await _lines(log_calls, end, inputs):
            is_told, what = (
                str(line["error"]).startswith(type(end).__name__),
                f"error of {end!r}, without a text",
            )
            expect(is_told, what, observed=line["error"], expected=f"{type(end).__name__}, its class")
    named = dict.fromkeys(("program", "write", "redact", "call", "error", "outputs", "ms"), "tents")
    written, program = list[Any](), _Desk(dspy.Prediction(**fields))
    module, what = log_calls(program, written.append, _redacted), f"a call with inputs named {[*named]}"
    for how in _HOWS:
        await _ended(module, how, named)
    expect_equal(program.asked, [(how, named) for how in _HOWS], f"what the program was asked by {what}")
    for line in _read(written, 2, what):
        got = [line["inputs"], line["outputs"], line["error"]]
        expect_equal(got, [named, fields, ""], f"inputs, outputs and error of {what}")


_CALL_IT = "program(...) and program.acall(...); a forward() that is called alone is heard by nobody."
_LOG_ALONE = "Catch what the log itself raises, once and no more; `raise` alone goes on as before."

EXERCISE = Exercise(
    title="A log that holds nothing personal",
    minutes=10,
    difficulty="medium",
    hints=(
        "Write a function for values first: it calls itself for what is in a dict or a list, and `redact` "
        "for a text. Of a value that it does not know it makes a text, and redacts that.",
        "One function writes the line, with all of its work in a try: the log may fail, the program may not. "
        "`forward(self, **inputs)` and `aforward(self, **inputs)` call it, each from two places.",
        "`except BaseException as error: tell(..., error); raise` sees failures and cancellations alike; the "
        "bare `raise` lets the same error go on. Then slice: redact(text)[:500].",
    ),
    checks=(
        *(tells_each_call, redacts_texts, redacts_other_kinds, cuts_after_redaction),
        *(forgets, changes_nothing, keeps_calls_apart, tells_rare_calls),
    ),
    deadline_s=20.0,
    why="Values are redacted before they become JSON, so a detector sees each text whole, as it was written; "
    "and a log that fails must not fail the program. TraceLogger writes such a line for each span.",
)
