"""Exercise 2.1, five misses: a colleague's pairs of calls that each pay twice, to be explained and repaired.

Main path: EXERCISE -> engine.registry; Colleague is what the notebook shows.
Source: dspy.clients.cache.Cache and dspy.clients.execution.PreparedCall.key (DSPy 3.4.1).
"""

from __future__ import annotations

import inspect
import random
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import dspy
from dspy.clients.cache import Cache

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect, expect_equal, is_in_loop, run
from course_lib.exercises.engine.registry import Exercise, is_stub
from course_lib.exercises.engine.seen import counted, under_dspy

REASONS = {"a": "_fn_identifier", "b": "temperature", "c": "messages", "d": "rollout_id", "e": "no key"}
"""What is different in each pair: a field of the request, of which DSPy makes its key; or none is made."""


class Colleague:
    """Five pairs of calls. Each was meant to ask the model once; each asks it twice."""

    async def a(self, sort: Any, ticket: str) -> Any:
        """The night job has sorted the ticket; the service, whose event loop must not block, asks anew."""
        return sort(ticket=ticket), await sort.acall(ticket=ticket)

    def b(self, sort: Any, ticket: str) -> Any:
        """Sorting should not be left to chance, so a careful hand made the second call steadier."""
        return sort(ticket=ticket), sort(ticket=ticket, config={"temperature": 0.0})

    def c(self, sort: Any, ticket: str) -> Any:
        """The support team wants to see in the model's log when a ticket was sorted."""
        times = (datetime.now(UTC).isoformat() for _ in range(2))
        return tuple(sort(ticket=f"[{time}] {ticket}") for time in times)

    def d(self, sort: Any, ticket: str) -> Any:
        """A second opinion, at temperature 1, and the same second opinion when it is asked for again."""
        ids = (uuid.uuid4().int % 10**9 for _ in range(2))
        return tuple(sort(ticket=ticket, config={"temperature": 1.0, "rollout_id": n}) for n in ids)

    def e(self, sort: Any, ticket: str) -> Any:
        """The model is to stop at either of two marks."""
        config = {"stop": {"###", "<end>"}}
        return sort(ticket=ticket, config=config), sort(ticket=ticket, config=config)


Asked = tuple[dict[str, Any], bool]
"""A request that the cache was asked for, and whether a blocking call asked inside an event loop."""
_TICKETS = "Where is my parcel? I ordered a tent in May.", "I cannot log in since the update."  # no digits


def requests_of_pair(pair: Callable[..., Any]) -> int:
    """Return how many requests a pair of calls costs on an empty cache of DSPy's."""
    with _watching():
        return len(counted(lambda: _answers(pair, _TICKETS[0]))[1])


@contextmanager
def _watching() -> Iterator[list[Asked]]:
    """Have DSPy use an empty cache in this block, and list what it is asked for."""
    asked: list[Asked] = []

    class Watched(Cache):  # type: ignore[misc]
        def get(self, request: dict[str, Any], ignored_args_for_cache_key: Any = None) -> Any:
            asked.append((request, ".alitellm" not in request["_fn_identifier"] and is_in_loop()))
            return super().get(request, ignored_args_for_cache_key)

    empty = Watched(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)
    with under_dspy(empty), dspy.context(lm=lm.connect("sim-large"), adapter=dspy.ChatAdapter()):
        yield asked


def _answers(pair: Callable[..., Any], ticket: str) -> Any:
    """Run a pair in an event loop, as the service would."""
    sort = dspy.Predict(dspy.Signature(f"ticket -> category: Literal{list(desk.CATEGORIES)}"))

    async def in_loop() -> Any:
        made = pair(sort, ticket)
        return await made if inspect.isawaitable(made) else made

    return run(in_loop())


_THINK = {
    "a": "Both calls send the same request. Which field of the key is not part of what is sent?",
    "b": "The default temperature is None: nothing is sent. What is sent by the second call?",
    "c": "Print both prompts, up to the first character that is different.",
    "d": "rollout_id never leaves the process: it is there to make one call different from another.",
    "e": "The two requests are equal. Ask the cache itself: dspy.cache.cache_key({'stop': {'###'}}).",
}


def explains_the_misses(why: Any, again: Any) -> None:  # noqa: ARG001  every check gets both things
    """Each reason is what is different between the two requests that DSPy made."""
    given = sorted(why, key=str) if isinstance(why, Mapping) else why
    expect_equal(given, list(REASONS), "the letters of the dict why", hint="One reason for each pair.")
    another = f"another of {', '.join(sorted(REASONS.values()))}; compare the two requests again"
    for letter, reason in REASONS.items():
        what, said = f"pair {letter} misses for the reason that you give", f"you say {why[letter]}"
        expect(why[letter] == reason, what, observed=said, expected=another, hint=_THINK[letter])


_PURPOSES = {
    "a": ("leaves the service's event loop free", "dspy.asyncify runs a program beside the loop."),
    "b": ("is not left to chance", "A temperature above 0 draws another answer each time."),
    "c": ("keeps the time out of the prompt", "A time in the prompt is another one tomorrow."),
    "d": ("draws a sample of its own", "Without rollout_id it would be the first opinion again."),
    "e": ("stops at both marks", "JSON knows no set; what else holds two texts?"),
}


class _Ticket(str):
    """A ticket whose hash is another one for each object, as it is in each process."""

    def __init__(self, _: str) -> None:
        self.salt = random.getrandbits(60)

    def __hash__(self) -> int:
        return super().__hash__() ^ self.salt


_SERVES: dict[str, Callable[[list[Asked]], bool]] = {
    "a": lambda asked: not asked[-1][1],
    "b": lambda asked: not any(r.get("temperature") for r, _ in asked),
    "c": lambda asked: not any(re.search(r"\d", str(r["messages"][-1])) for r, _ in asked),
    "d": lambda asked: all(r.get("rollout_id") is not None and r.get("temperature") == 1 for r, _ in asked),
    "e": lambda asked: all(sorted(r.get("stop") or ()) == ["###", "<end>"] for r, _ in asked),
}
"""Whether what a repaired pair asked the cache for still serves its purpose."""


def _repaired(letter: str, again: Callable[[], Any], ticket: str) -> None:
    """Fail the check unless the pair makes two calls for one request, and serves its purpose."""
    with _watching() as asked:
        answers, calls = counted(lambda: _answers(getattr(again(), letter), _Ticket(ticket)))
        first = list(asked)
        _, later = counted(lambda: _answers(getattr(again(), letter), _Ticket(ticket)))
    hint, made = "The cache makes the second call cheap.", (len(first), len(answers))
    expect_equal(made, (2, 2), f"calls of pair {letter} that ask the cache, and its answers", hint=hint)
    expect_equal(len(calls), 1, f"requests of pair {letter}", hint=_THINK[letter])
    asks = all(ticket in request["messages"][-1]["content"] for request, _ in first)
    purpose, hint = _PURPOSES[letter]
    for is_so, does in ((asks, "asks about the ticket"), (_SERVES[letter](first), purpose)):
        expect_equal(is_so, True, f"pair {letter} still {does}", hint=hint)
    hint = f"{_THINK[letter]} What you send must be the same in each run and in each process; hash() is not."
    expect_equal(len(later), 0, f"requests of pair {letter} when it runs once more", hint=hint)
    expect_equal(answers[1].category, answers[0].category, f"the second answer of pair {letter}", hint=hint)


def pays_once(why: Any, again: Callable[[], Any]) -> None:  # noqa: ARG001
    """Each repaired pair asks the model once, gets two answers, and still serves its purpose."""
    long = " ".join(random.choices(_TICKETS[0].split(), k=300))
    for letter in REASONS:
        for ticket in (*_TICKETS, long):
            _repaired(letter, again, ticket)


EXERCISE = Exercise(
    title="Explain five misses",
    minutes=8,
    difficulty="easy",
    hints=(
        "The key is a hash of the request. Run a pair and compare the last two entries of program.history.",
        "Two pairs send the very same request twice: DSPy keeps sync and async apart, or can make no key.",
        "a: dspy.asyncify. b: one temperature. c: the time goes to your log. d: a fixed number. e: a list.",
    ),
    checks=(explains_the_misses, pays_once),
    is_stub=lambda thing: is_stub(thing) or (isinstance(thing, dict) and not thing),
    why="A key is made of all that is in the request, and of how it was called. What should not matter stays "
    "out (the time), what does matter is the same each time, and what JSON cannot hold makes no key.",
)
