"""Exercise 4.6, a chaos test: it fails for a program with a weakness, and for no other.

Main path: EXERCISE -> engine.registry; each check hands programs of its own to the learner's test. A weak
program is a sound one with one thing changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, product
from typing import Any, Literal, TypeVar

import dspy
import httpx

from course_lib import desk, lm
from course_lib.exercises.concurrency.watched import until
from course_lib.exercises.engine.checks import CheckFailed, NotChecked, expect, result_of, show
from course_lib.exercises.engine.registry import Exercise
from course_lib.lm.process import EndpointError

_PATIENCE_S = 6.0
"""So long after its deadline a program goes on that has none."""
_TO_END_S = 1.0
"""So long one may take to end that was cancelled."""
_SORT = f"Ticket: {{}}\n\nReply with one of these words alone: {', '.join(desk.CATEGORIES)}."
T = TypeVar("T")
Send = Callable[[str], object]
Failed = dict[str, list[int | None]]
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
    hasty: tuple[str, int] = ("", 0)
    """The step and the status after which it does not wait as long as it was told."""
    takes_cut: bool = False
    cut_too: Literal["", "before", "after"] = ""
    """Whether it sends a cut answer before or after the whole one, too."""
    too_late: Callable[[str], Exception] = TimeoutError
    """What it raises at its deadline."""
    extra_s: float = 0.0
    """So long it goes on after its deadline."""
    sends_again: Callable[[Failed], bool] = lambda _: False
    """Whether it sends its answer again, by the statuses with which the requests of each step failed."""
    no_category: type[Exception] | None = None
    """What it raises at the first failure of the category's request; else it asks again."""
    apology: str = ""
    """What it sends where the model failed; of an answer that was cut it makes none."""

    def make_program(self, model: str, send: Send, deadline_s: float) -> Handle:
        """Return the program, as the task describes it."""

        async def repeated(step: str, call: Callable[[], Awaitable[T]], failed: list[int | None]) -> T:
            for attempt in count(1):
                try:
                    return await call()
                except dspy.LMError as error:
                    failed.append(error.status)
                    if attempt == self.attempts or error.status not in self.repeats:
                        raise
                    wait_s = 0.0 if (step, error.status) == self.hasty else error.retry_after
                await asyncio.sleep(wait_s or 0.01)
            raise AssertionError

        async def answer(prompt: str, http: httpx.AsyncClient, failed: list[int | None]) -> list[str]:
            """Return what is to be sent."""
            cut = list[str]()

            async def once() -> str:
                text, is_cut = await _asked(http, model, prompt)
                if not is_cut or self.takes_cut:
                    return text
                cut.append(text)
                if self.cut_too == "before":
                    send(text)
                raise dspy.LMError("the answer was cut", status=200)

            try:
                whole = await repeated("answer", once, failed)
            except dspy.LMError as error:
                if not self.apology or error.status == 200:
                    raise
                whole = self.apology
            return [whole, *(cut if self.cut_too == "after" else [])]

        async def steps(ticket: str, http: httpx.AsyncClient) -> str:
            async def sort() -> str:
                try:
                    return (await _asked(http, model, _SORT.format(ticket)))[0]
                except dspy.LMError as error:
                    if self.no_category:
                        raise self.no_category("no category") from error
                    raise

            context = "\n".join(desk.FindArticles()(question=ticket).context)
            prompt = f"Context:\n{context}\n\nQuestion: {ticket}\nAnswer:"
            failed: Failed = {"answer": [], "category": []}
            texts = await answer(prompt, http, failed["answer"])
            for text in texts:
                send(text)
            try:
                return await repeated("category", sort, failed["category"])
            finally:
                if self.sends_again(failed):
                    send(texts[0])

        async def handle(ticket: str) -> str:
            headers = {"Authorization": f"Bearer {lm.key()}"}
            async with httpx.AsyncClient(headers=headers, timeout=3600.0, verify=False) as http:  # noqa: S501  loopback
                try:
                    async with asyncio.timeout(deadline_s + self.extra_s):
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
    try:
        lm.profile("check-misbehaves", first=["rate_limited"] * 2, retry_after_s=30.0)
    except EndpointError as error:  # nothing of the answer has run yet
        remedy = "restart the kernel for a new one, run the cells above, then run this one again"
        raise NotChecked(f"the model's endpoint does not answer; {remedy}") from error
    model = lm.connect("sim-large@check-misbehaves", cache=False, num_retries=0)
    for _ in range(2):  # as no client should, under this learner's key
        with suppress(dspy.LMError):
            model("Who was here before?")
    way = _Way(repeats=(None, 429, 500, 503), too_late=dspy.LMTimeoutError, no_category=AssertionError)
    what = (
        "that raises LMError where an answer was cut, LMTimeoutError at its deadline, and AssertionError "
        "where the request for the category fails"
    )
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
    for step, status in product(("answer", "category"), (429, 503)):
        weakness = f"asks again at once after a {status}, when it asks for the {step}"
        _expect_found(chaos_test, _Way(hasty=(step, status)).make_program, weakness, hint, tries=2)


def finds_cut(chaos_test: Any) -> None:
    """It fails for a program that sends an answer that was cut."""
    hint = "The same ticket on a calm model shows what a whole answer is; it is the same each time."
    weak = {"sends an answer that was cut": _Way(takes_cut=True)}
    weak["sends an answer that was cut, and then the whole one"] = _Way(cut_too="before")
    weak["sends the whole answer, and then one that was cut"] = _Way(cut_too="after")
    for weakness, way in weak.items():
        _expect_found(chaos_test, way.make_program, weakness, hint)


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
    """It fails for a program that sends its answer again because a request failed."""
    hint = 'A program makes two requests: first=["ok", "unavailable"] lets the second one fail.'
    for status in (429, 500, 503):
        way = _Way(sends_again=lambda failed, status=status: status in failed["category"])  # type: ignore[misc]
        what = f"begins anew, and sends again, after a {status} when it asks for the category"
        _expect_found(chaos_test, way.make_program, what, hint)
    way = _Way(sends_again=lambda failed: len(failed["answer"]) > 1)
    what = "sends again after two failures when it asks for the answer"
    _expect_found(chaos_test, way.make_program, what, "What is sent is the whole answer, once.")


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
