"""Exercise 4.2, a log that holds nothing personal: one line of JSON for each call of a program.

Main path: EXERCISE -> engine.registry; each check runs a program of its own and reads what was written.
"""

from __future__ import annotations

import asyncio
import copy
import datetime
import json
import random
import re
import threading
import time
from functools import partial
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from pydantic import BaseModel

from course_lib.exercises.concurrency.watched import expect_end, until
from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise

_HOWS = "__call__", "acall"
_KEYS = {"call", "program", "ms", "inputs", "outputs", "error"}
_TOLERANCE_MS = 10.0
"""Clocks differ a little; what is told apart here differs by more."""


class _Person(BaseModel):
    name: str


class _Program(dspy.Module):  # type: ignore[misc]
    """Returns or raises `end`; keeps what it was asked and how long it took. `is_last` waits for others."""

    pause_s = 0.0

    def __init__(self, end: Any) -> None:
        super().__init__()
        self.end, self.asked, self.took_ms = end, list[Any](), dict[bool, float]()
        self.others_ended = threading.Event()

    def _ends(self, began: float, is_last: bool) -> Any:
        self.took_ms[is_last] = 1000 * (time.perf_counter() - began)
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end

    def forward(self, is_last: bool = False, **inputs: Any) -> Any:
        began = time.perf_counter()
        self.asked.append(("forward", inputs))
        time.sleep(self.pause_s)
        if is_last:
            self.others_ended.wait(5.0)
        return self._ends(began, is_last)

    async def aforward(self, is_last: bool = False, **inputs: Any) -> Any:
        began = time.perf_counter()
        self.asked.append(("aforward", inputs))
        await asyncio.sleep(self.pause_s)
        if is_last:
            await until(self.others_ended.is_set)
        return self._ends(began, is_last)


def _program(end: Any) -> Any:
    """Return a program of a class that has a new name."""
    return type(f"Desk{random.randint(100, 999)}", (_Program,), {})(end)


def _secret() -> str:
    return f"PIN-{random.randint(100_000, 999_999)}"


def _redacted(text: str) -> str:
    """Take secrets out; the quotes break the line of whoever redacts JSON instead of texts."""
    return re.sub(r"PIN-\d{6}", '["secret"]', text)


def _marked(text: str) -> str:
    return f'<{text[::-1]}"\n>'


def _failing(*_: object) -> Any:
    raise OSError("no space left on device")


async def _ended(module: Any, how: str, inputs: dict[str, Any]) -> Any:
    """Call a module in one of the two ways; return what it returns, or the error that it raises."""
    try:
        return await module.acall(**inputs) if how == "acall" else module(**inputs)
    except Exception as error:  # border: compared with what the program raises
        return error


def _read(written: list[Any], count: int, what: str) -> list[dict[str, Any]]:
    """Return the lines; fail the check unless there are so many, each a JSON object of the six entries."""
    expect_equal(len(written), count, f"lines written for {what}")
    read = []
    for line in written:
        is_line = isinstance(line, str) and "\n" not in line.strip()
        expect(is_line, f"what is written for {what}", observed=line, expected="a text of one line")
        loads = partial(json.loads, line)
        read.append(without_error(loads, f"the line {line:.300}", expected="a JSON object"))
        expect(isinstance(read[-1], dict), "the line", observed=read[-1], expected="a JSON object")
        expect_equal({*read[-1]}, _KEYS, f"entries of the line written for {what}")
    return read


async def _line(log_calls: Any, end: Any, inputs: dict[str, Any], how: str, redact: Any) -> dict[str, Any]:
    """Return the line that is written for one call."""
    written = list[Any]()
    await _ended(log_calls(_program(end), written.append, redact), how, inputs)
    ended = f"a {type(end).__name__}" if isinstance(end, Exception) else "an answer"
    return _read(written, 1, f"a call by {how}, {ended}")[0]


async def tells_each_call(log_calls: Any) -> None:
    """Each call is one line: a new id, the program's class, inputs, and the outputs or the error."""
    ids, inputs = [], {"ticket": f"Order {random.random()}", "copies": 2}
    fields, hint = {"category": "tents", "score": 0.5}, "The class is that of `program`, not of what logs it."
    for how in _HOWS:
        for end in (dspy.Prediction(**fields), LookupError("no such order"), ValueError("a: b")):
            written, program = list[Any](), _program(end)
            module = log_calls(program, written.append, _redacted)
            expect(isinstance(module, dspy.Module), observed=type(module).__name__, expected="a dspy.Module")
            for _ in range(2):
                await _ended(module, how, inputs)
            failed = f"{type(end).__name__}: {end}" if isinstance(end, Exception) else ""
            for line in _read(written, 2, f"2 calls by {how}, {failed or 'answered'}"):
                got = [line[name] for name in ("program", "inputs", "outputs", "error")]
                wanted = [type(program).__name__, inputs, {} if failed else fields, failed]
                what = f"program, inputs, outputs and error of a call by {how}"
                expect_equal(got, wanted, what, hint=hint)
                ids.append(str(line["call"]))
    expect_equal(len({*ids}), len(ids), f"different ids of {len(ids)} calls", hint="A new one for each.")


async def tells_of_cancelled(log_calls: Any) -> None:
    """A call that is cancelled is a line as well, and its CancelledError comes out."""
    written, program = list[Any](), _program(dspy.Prediction(answer="never"))
    module = log_calls(program, written.append, _redacted)
    task = asyncio.ensure_future(module.acall(is_last=True, ticket="a"))
    await until(lambda: program.asked or task.done())
    task.cancel()
    await expect_end(task, "CancelledError", "how a call by acall ended that was cancelled")
    line, hint = _read(written, 1, "a call that was cancelled")[0], "It is no Exception, but a BaseException."
    got = line["outputs"], str(line["error"])[:14]
    expect_equal(got, ({}, "CancelledError"), "outputs and error of a call that was cancelled", hint=hint)


async def redacts_texts(log_calls: Any) -> None:
    """Every text, at any depth, is what redact returns; numbers, None and names stay as they are."""
    hint = "A function that calls itself for what is in a dict or a list, and redact(text) for a text."
    texts = one, two, three = [_secret() for _ in range(3)]
    shapes = [
        {"ticket": a, "seen": [{"by": b, "at": 7, "ok": True, "no": None}, [c, 0.5]]}
        for a, b, c in (texts, map(_marked, texts))
    ]
    inputs, wanted = shapes
    for how in _HOWS:
        line = await _line(log_calls, dspy.Prediction(**inputs), inputs, how, _marked)
        for entry in ("inputs", "outputs"):
            got, want = (json.dumps(each, sort_keys=True) for each in (line[entry], wanted))
            expect_equal(got, want, f"{entry} of {json.dumps(inputs)}, each text redacted", hint=hint)
        line = await _line(log_calls, ValueError(f"no {one}, {two}"), {"ticket": three}, how, _redacted)
        want = 'ValueError: no ["secret"], ["secret"]'
        expect_equal(line["error"], want, "the error's text, redacted", hint="Errors quote what they got.")


async def shows_other_kinds(log_calls: Any) -> None:
    """A value of any other kind becomes text, and is redacted as well."""
    hint = "json.dumps(default=str) comes after your redaction: make a text of it before."
    secret = _secret()
    person, example = _Person(name=secret), dspy.Example(name=secret)
    kinds = person, [person], (secret, 1), {7: secret}, {secret}, example, datetime.date(2024, 2, 29)
    for value in kinds:
        line = await _line(log_calls, dspy.Prediction(who=value), {"who": value}, "acall", _redacted)
        shown, what = json.dumps([line["inputs"], line["outputs"]]), f"the line of a field with {value!r}"
        expect(secret not in shown, what, observed=shown, expected="its text, redacted", hint=hint)
        expect_equal(([*line["inputs"]], [*line["outputs"]]), (["who"], ["who"]), f"names in {what}")


async def cuts_after_redaction(log_calls: Any) -> None:
    """A text is cut to its first 500 characters after it was redacted."""
    hint = "Half a number is no number: what is cut first is not recognized any more."
    for before in (random.randint(492, 498), 600, random.randint(300, 480)):
        text = f"{'a' * before}{_secret()}{'b' * random.randint(10, 90)}"
        ends, wanted = dspy.Prediction(answer=[text]), _redacted(text)[:500]
        line = await _line(log_calls, ends, {"ticket": text}, "__call__", _redacted)
        for entry, got in (("inputs", line["inputs"]["ticket"]), ("outputs", line["outputs"]["answer"][0])):
            what = f"last 30 and number of characters in {entry} of a text of {len(text)}"
            expect_equal((got[-30:], len(got)), (wanted[-30:], len(wanted)), what, hint=hint)
        line = await _line(log_calls, ValueError(text), {"ticket": "a"}, "acall", _redacted)
        got, most = line["error"], 500 + len("ValueError: ")
        observed = f"{len(got)} characters; the last: {got[-30:]!r}"
        is_cut = len(got) <= most and got[12:480] == wanted[:468] and "PIN" not in got
        expect(is_cut, "the error's text", observed=observed, expected="redacted, then cut to 500", hint=hint)


class _Listening(BaseCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.heard = list[Any]()

    def on_module_start(self, *, instance: Any, **_: Any) -> None:
        self.heard.append(instance)


async def _expect_same(log_calls: Any, end: Any, how: str, fails: str) -> None:
    """Fail the check unless a call goes in and comes out as it is, and the line holds no secret of it."""
    secret, hint = _secret(), "The log's own failures end in the log; only they are caught."
    end = dspy.Prediction(answer=[secret]) if end is None else end(secret)
    written, program, inputs = list[Any](), _program(end), {"ticket": [secret, 7]}
    write, redact = (_failing if fails == name else each for name, each in (
        ("write", written.append), ("redact", _redacted)))  # fmt: skip
    asked, what = copy.deepcopy(inputs), f"of a call by {how} where {fails} fails"
    listening = _Listening()
    with dspy.context(callbacks=[listening]):
        got = await _ended(log_calls(program, write, redact), how, inputs)
    wanted = [("aforward" if how == "acall" else "forward", asked)]
    expect_equal(program.asked, wanted, f"what the program was asked, {what}", hint=hint)
    calls = listening.heard.count(program)
    expect_equal(calls, 1, f"calls of the program that DSPy's callbacks hear, {what}", hint=_CALL_IT)
    observed, same = f"{type(got).__name__}: {got!s:.200}", f"the {type(end).__name__} itself"
    expect(got is end, f"the end {what}", observed=observed, expected=same, hint=hint)
    if isinstance(end, dspy.Prediction):
        expect_equal(end.answer, [secret], f"the answer itself, {what}", hint=hint)
    shown, hint = " ".join(map(str, written)), "A log that cannot redact says so, or nothing."
    expect(secret not in shown, f"the line {what}", observed=shown, expected="without its texts", hint=hint)


async def changes_nothing(log_calls: Any) -> None:
    """What goes into the program and comes out is unchanged; so it is if write or redact fails."""
    for fails in ("nothing", "write", "redact"):
        for end in (None, LookupError):
            for how in _HOWS:
                await _expect_same(log_calls, end, how, fails)


async def _took_ms(module: Any, how: str, inputs: dict[str, Any]) -> float:
    began = time.perf_counter()
    await (module.acall(**inputs) if how == "acall" else asyncio.to_thread(module, **inputs))
    return 1000 * (time.perf_counter() - began)


async def keeps_calls_apart(log_calls: Any) -> None:
    """Of calls at the same time each has its own line; ms is how long it took, in milliseconds."""
    hint = "What belongs to one call is in variables of its own, not in the module's."
    for how in ("acall", "threads"):
        written, program = list[Any](), _program(dspy.Prediction(answer="a"))
        program.pause_s = 0.03
        module, what = log_calls(program, written.append, _redacted), f"of 2 calls at once by {how}"
        first = asyncio.ensure_future(_took_ms(module, how, {"is_last": True, "ticket": "first"}))
        await until(lambda program=program, first=first: program.asked or first.done())  # type: ignore[misc]
        await asyncio.sleep(0.05)
        most_ms = {False: await _took_ms(module, how, {"is_last": False, "ticket": "second"})}
        program.others_ended.set()
        most_ms[True] = await first
        lines = _read(written, 2, f"2 calls at once by {how}")
        names = [line["inputs"].get("ticket") for line in lines]
        expect_equal(names, ["second", "first"], f"tickets in the lines {what}, as they end", hint=hint)
        expect_equal(len({str(line["call"]) for line in lines}), 2, f"different ids {what}", hint=hint)
        for line, is_last in zip(lines, (False, True), strict=True):
            least, most, got = program.took_ms[is_last], most_ms[is_last], line["ms"]
            is_so = isinstance(got, int | float) and least - _TOLERANCE_MS < got < most + _TOLERANCE_MS
            expect(is_so, f"ms {what}", observed=got, expected=f"{least:.1f} to {most:.1f}", hint=hint)


_CALL_IT = "program(...) and program.acall(...); a forward() that is called alone is heard by nobody."

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
        *(tells_each_call, tells_of_cancelled, redacts_texts, shows_other_kinds),
        *(cuts_after_redaction, changes_nothing, keeps_calls_apart),
    ),
    deadline_s=20.0,
    why="Values are redacted before they become JSON, so a detector sees each text whole, as it was written; "
    "and a log that fails must not fail the program. TraceLogger writes such a line for each span.",
)
