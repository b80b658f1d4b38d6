"""Exercise 4.6, a chaos test: it fails for a program with a weakness, and for no other.

Main path: EXERCISE -> engine.registry; each check hands programs of its own to the learner's test. A weak
program is a sound one with one thing changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import dspy
import httpx

from course_lib import desk, lm
from course_lib.exercises.concurrency.watched import until
from course_lib.exercises.engine.checks import CheckFailed, expect, result_of, show
from course_lib.exercises.engine.registry import Exercise

_PATIENCE_S = 6.0
"""So long after its deadline a program goes on that has none."""
_TO_END_S = 1.0
"""So long one may take to end that was cancelled."""
_SORT = f"Ticket: {{}}\n\nReply with one of these words alone: {', '.join(desk.CATEGORIES)}."
T = TypeVar("T")
Send = Callable[[str], object]
Handle = Callable[[str], Awaitable[str]]


async def _asked(http: httpx.AsyncClient, model: str, prompt: str) -> tuple[str, bool]:
    """Ask the model once; return its answer, and whether that was cut."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    try:
        answer = await http.post(f"{lm.url()}/chat/completions", json=body)
    except httpx.HTTPError as error:
        raise dspy.LMTransportError(str(error)) from error
    if answer.status_code != 200:
        wait_s = float(answer.headers.get("retry-after-ms", 0)) / 1000
        raise dspy.LMError(answer.text, status=answer.status_code, retry_after=wait_s)
    choice = answer.json()["choices"][0]
    return choice["message"]["content"], choice["finish_reason"] != "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How a program goes about its tickets; as it is, a sound one."""

    attempts: int = 3
    repeats: tuple[int | None, ...] = (None, 200, 429, 500, 503)
    """The statuses after which it asks again; 200 is that of a cut answer, None of a lost connection."""
    waits: tuple[int, ...] = (429, 503)
    """The statuses after which it waits as long as it was told."""
    takes_cut: bool = False
    too_late: Callable[[str], Exception] = TimeoutError
    """What it raises at its deadline."""
    extra_s: float = 0.0
    """So long it goes on after its deadline."""
    repeats_all: bool = False
    apology: str = ""
    """What it sends where the model failed; of an answer that was cut it makes none."""

    def make_program(self, model: str, send: Send, deadline_s: float) -> Handle:
        """Return the program, as the task describes it."""

        async def repeated(call: Callable[[], Awaitable[T]]) -> T:
            for attempt in count(1):
                try:
                    return await call()
                except dspy.LMError as error:
                    if attempt == self.attempts or error.status not in self.repeats:
                        raise
                    wait_s = error.retry_after if error.status in self.waits else 0.0
                await asyncio.sleep(wait_s or 0.01)
            raise AssertionError

        async def steps(ticket: str, http: httpx.AsyncClient) -> str:
            async def once(prompt: str) -> str:
                text, is_cut = await _asked(http, model, prompt)
                if is_cut and not self.takes_cut:
                    raise dspy.LMError("the answer was cut", status=200)
                return text

            async def ask(prompt: str) -> str:
                return await (once(prompt) if self.repeats_all else repeated(lambda: once(prompt)))

            context = "\n".join(desk.FindArticles()(question=ticket).context)
            try:
                answer = await ask(f"Context:\n{context}\n\nQuestion: {ticket}\nAnswer:")
            except dspy.LMError as error:
                if not self.apology or error.status == 200:
                    raise
                answer = self.apology
            send(answer)
            return await ask(_SORT.format(ticket))

        async def handle(ticket: str) -> str:
            headers = {"Authorization": f"Bearer {lm.key()}"}
            async with httpx.AsyncClient(headers=headers, timeout=3600.0, verify=False) as http:  # noqa: S501  loopback
                try:
                    async with asyncio.timeout(deadline_s + self.extra_s):
                        if self.repeats_all:
                            return await repeated(lambda: steps(ticket, http))
                        return await steps(ticket, http)
                except TimeoutError as error:
                    raise self.too_late("the deadline is over") from error

        return handle


def _ended(chaos_test: Any, make_program: Any) -> tuple[str, Exception | None]:
    """Return how the learner's test ended for this program, in words, and its error."""

    def program(model: str, send: Send, deadline_s: float) -> Handle:
        return make_program(model, send, deadline_s)  # type: ignore[no-any-return]

    try:
        result = result_of(chaos_test, program)
    except Exception as error:  # border: the learner's code, which should raise
        return f"{type(error).__name__}: {error!s:.300}", error
    return ("it passed" if result is None else f"it passed, and returned {show(result)}"), None


def _expect_passed(chaos_test: Any, make_program: Any, program: str) -> None:
    for _ in range(2):  # a test may set a time in which a busy machine is not done
        observed, error = _ended(chaos_test, make_program)
        if error is None:
            return
    what, hint = f"chaos_test of a sound program {program}", "What is seen from outside counts, not the way."
    raise CheckFailed(what, observed=observed, expected="it passes", hint=hint) from error


def _expect_found(chaos_test: Any, make_program: Any, weakness: str, hint: str, *, tries: int = 1) -> None:
    for _ in range(tries):
        observed, error = _ended(chaos_test, make_program)
        if isinstance(error, AssertionError):
            return
    what = f"chaos_test of a program that {weakness}"
    raise CheckFailed(what, observed=observed, expected="AssertionError", hint=hint) from error


def passes_sound(chaos_test: Any) -> None:
    """It passes for a sound program, whatever was asked before, and whichever error it raises."""
    lm.profile("check-misbehaves", first=["rate_limited"] * 2, retry_after_s=30.0)
    model = lm.connect("sim-large@check-misbehaves", cache=False, num_retries=0)
    for _ in range(2):  # as no client should, under this learner's key
        with suppress(dspy.LMError):
            model("Who was here before?")
    way = _Way(repeats=(None, 429, 500, 503), too_late=dspy.LMTimeoutError)
    what = "that raises LMError where an answer was cut, and LMTimeoutError at its deadline"
    _expect_passed(chaos_test, way.make_program, what)


def passes_others(chaos_test: Any) -> None:
    """It passes for a sound program that goes about it in another way."""
    what = "that asks again for an answer that was cut, and raises TimeoutError at its deadline"
    _expect_passed(chaos_test, _Way().make_program, what)


def finds_giving_up(chaos_test: Any) -> None:
    """It fails for a program that does not survive two failures in a row, of any of the three kinds."""
    hint = 'lm.profile("chaos", first=["unavailable", "unavailable"]): then the answer has to be sent.'
    weak = {"gives up at the second failure in a row": _Way(attempts=2)}
    weak["sends an apology then"] = _Way(attempts=2, apology="We are sorry, and will answer tomorrow.")
    for status in (429, 500, 503):
        weak[f"gives up at the first {status}"] = _Way(repeats=tuple({*_Way().repeats} - {status}))
    for weakness, way in weak.items():
        _expect_found(chaos_test, way.make_program, weakness, hint)


def finds_not_waiting(chaos_test: Any) -> None:
    """It fails for a program that does not wait after a 429, or a 503, as long as it was told."""
    hint = "retry_after_s=0.2 in a profile tells it to; lm.verdict(since) says who came back too early."
    for status, left in ((429, (503,)), (503, (429,))):
        way, weakness = _Way(waits=left), f"asks again at once after a {status}"
        _expect_found(chaos_test, way.make_program, weakness, hint, tries=2)


def finds_cut(chaos_test: Any) -> None:
    """It fails for a program that sends an answer that was cut."""
    hint = "The same ticket on a calm model shows what a whole answer is; it is the same each time."
    way = _Way(takes_cut=True)
    _expect_found(chaos_test, way.make_program, "sends an answer that was cut", hint)


def finds_no_deadline(chaos_test: Any) -> None:
    """It fails for a program that goes on after its deadline, and does not wait for that one."""
    hint = "asyncio.timeout(...) around the program, later than its deadline; expired() says who ended it."
    waited, under_way = list[float](), list[str]()

    def noted(text: str) -> TimeoutError:
        waited.append(_PATIENCE_S)
        return TimeoutError(text)

    way = _Way(extra_s=_PATIENCE_S, too_late=noted)

    def make_program(model: str, send: Send, deadline_s: float) -> Handle:
        handle = way.make_program(model, send, deadline_s)

        async def program(ticket: str) -> str:
            under_way.append(ticket)
            try:
                return await handle(ticket)
            finally:
                under_way.remove(ticket)

        return program

    async def watched(test: Awaitable[None]) -> None:
        try:
            return await test
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TO_END_S):
                    await until(lambda: not under_way)
            left[:] = under_way

    def begun(make: Any) -> Any:
        test = chaos_test(make)
        return watched(test) if asyncio.iscoroutine(test) else test

    left = list[str]()
    _expect_found(begun, make_program, "has no deadline", hint)
    what, observed = "what becomes of a program that goes on after its deadline", "it goes on after the test"
    expect(not left, what, observed=observed, expected="the test cancels it", hint=hint)
    what, observed = "how long chaos_test waits for a program", f"until {_PATIENCE_S:g} s after its deadline"
    expect(not waited, what, observed=observed, expected="it stops waiting soon after it", hint=hint)


def finds_sent_again(chaos_test: Any) -> None:
    """It fails for a program that sends its answer again because a later request failed."""
    hint = 'A program makes two requests: first=["ok", "unavailable"] lets the second one fail.'
    way = _Way(repeats_all=True)
    _expect_found(chaos_test, way.make_program, "begins anew, and sends again, after a failure", hint)


EXERCISE = Exercise(
    title="A chaos test that finds planted weaknesses",
    minutes=15,
    difficulty="hard",
    hints=(
        "Begin with a helper: it defines a profile, makes a new program with `sent.append` for send, runs "
        "it, lets its errors pass, and returns what was sent. Each rule is then a line or two.",
        "The rules 1 and 5 fit into one loop over what the first requests meet: two failures, or an answer "
        "and one failure. What was sent equals what the calm model's program sent, once. Afterwards "
        "`lm.verdict(since).is_clean` has to be true; since = lm.ledger().requests, from before the program.",
        "For rule 4: hang_rate=1.0, a short deadline, and around the program `async with "
        "asyncio.timeout(deadline_s + 1) as patience:`. Its own error is fine; patience.expired() is not.",
    ),
    checks=(
        passes_sound,
        finds_cut,
        finds_not_waiting,
        finds_giving_up,
        finds_sent_again,
        finds_no_deadline,
        passes_others,
    ),
    deadline_s=90.0,
    why="A fault by count (`first`) hits the same request in each run, so the test repeats exactly. What it "
    "asserts is what a customer or the model's server would see, so every sound program passes. The verdict "
    "is asked from `since` on, because the ledger belongs to all that the notebook does.",
)
