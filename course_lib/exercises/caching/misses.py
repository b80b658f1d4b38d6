"""Exercise 2.1, five misses: a colleague's pairs of calls that each pay twice, to be explained and repaired.

Main path: EXERCISE -> engine.registry; Colleague is what the notebook shows.
Source: dspy.clients.cache.Cache and dspy.clients.execution.PreparedCall.key (DSPy 3.4.1).
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect, expect_equal, run
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted, under_dspy

LETTERS = "abcde"
PARTS = ("_fn_identifier", "messages", "temperature", "rollout_id", "no key")
"""What may be different: a field of the request, which DSPy makes its key of; or no key can be made."""


class Colleague:
    """Five pairs of calls. Each was meant to ask the model once; each asks it twice."""

    async def a(self, sort: Any, ticket: str) -> Any:
        """The night job has sorted the ticket; the service, which is async, sorts it again."""
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


def requests_of_pair(pair: Callable[..., Any]) -> int:
    """Return how many requests a pair of calls costs on DSPy's own cache, empty at the start."""
    return len(_watched(pair)[1])


def _sort() -> Any:
    import dspy

    labels = ", ".join(repr(category) for category in desk.CATEGORIES)
    return dspy.Predict(dspy.Signature(f"ticket -> category: Literal[{labels}]"))


@cache
def _ticket() -> str:
    return desk.tickets("dev")[3].text


def _watched(pair: Callable[..., Any]) -> tuple[Any, list[lm.Call], list[tuple[dict[str, Any], str]]]:
    """Return the pair's answers, what the model's server saw, and what DSPy's cache was asked for.

    What the cache was asked for is each request with its key, or "" where no key can be made.
    """
    import dspy
    from dspy.clients.cache import Cache

    asked: list[tuple[dict[str, Any], str]] = []

    class Open(Cache):  # type: ignore[misc]
        """DSPy's cache, with a list of what it was asked."""

        def get(self, request: dict[str, Any], ignored_args_for_cache_key: Any = None) -> Any:
            """Note the request, and look."""
            try:
                asked.append((request, self.cache_key(request, ignored_args_for_cache_key)))
            except Exception:  # border: DSPy swallows whatever making a key raises
                asked.append((request, ""))
            return super().get(request, ignored_args_for_cache_key)

    def answers() -> Any:
        made = pair(_sort(), _ticket())
        return run(made) if inspect.iscoroutine(made) else made

    empty = Open(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)
    with under_dspy(empty), dspy.context(lm=lm.connect("sim-large"), adapter=dspy.ChatAdapter()):
        return *counted(answers), asked


def _difference(pair: Callable[..., Any]) -> str:
    """Return which part of a pair's two requests is different."""
    (first, its_key), (second, _) = _watched(pair)[2]
    if not its_key:
        return "no key"
    return next(name for name in PARTS if first.get(name) != second.get(name))


_THINK = {
    "a": "Both calls send the same request. Which field of the key is not part of what is sent?",
    "b": "The default temperature is None: nothing is sent. What is sent by the second call?",
    "c": "Print both prompts, up to the first character that is different.",
    "d": "rollout_id never leaves the process: it is there to make one call different from another.",
    "e": "The two requests are equal. Ask the cache itself: dspy.cache.cache_key({'stop': {'###'}}).",
}


def names_five_reasons(why: Any, again: Any) -> None:  # noqa: ARG001  every check gets both things
    """Each of the five pairs has a reason, one of the five parts."""
    expect(
        isinstance(why, Mapping) and set(why) == set(LETTERS),
        "why is a dict with the five letters",
        observed=sorted(why, key=str) if isinstance(why, Mapping) else why,
        expected="the keys a, b, c, d and e",
    )
    for letter, part in why.items():
        expect(
            part in PARTS,
            f"the reason for pair {letter} is one of the parts",
            observed=part,
            expected=", ".join(PARTS),
        )


def explains_the_misses(why: dict[str, str], again: Any) -> None:  # noqa: ARG001
    """Each reason is what is different between the two requests that DSPy made."""
    for letter in LETTERS:
        really = _difference(getattr(Colleague(), letter))
        expect(
            why[letter] == really,
            f"pair {letter} misses for the reason that you give",
            observed=f"you say {why[letter]}",
            expected="another part; compare the two requests again",
            hint=_THINK[letter],
        )


_PURPOSES = {
    "a": "The service's event loop must not wait for a model; dspy.asyncify runs a program beside it.",
    "d": "Without rollout_id it would be the first opinion again; which number it is does not matter.",
    "e": "JSON knows no set; what else holds two texts?",
}


def _keeps_its_purpose(letter: str, pair: Callable[..., Any], calls: list[lm.Call], asked: Any) -> None:
    """Fail the check when a repaired pair no longer does what it was there for."""
    config = asked[0][0] if asked else {}
    is_sampled = config.get("rollout_id") is not None and config.get("temperature") == 1.0
    does, kept = {
        "a": ("is still async", inspect.iscoroutinefunction(pair)),
        "d": ("still draws a sample of its own", is_sampled),
        "e": ("still stops at both marks", {"###", "<end>"} <= set(config.get("stop") or ())),
    }.get(letter, ("", True))
    asks = all(_ticket()[:40] in str(call.messages) for call in calls)
    for is_so, what, hint in (
        (asks, "still asks about the ticket", "The ticket itself has to stand in the prompt."),
        (kept, does, _PURPOSES.get(letter, "")),
    ):
        told = {"observed": "it no longer does", "expected": "the pair's purpose kept"}
        expect(is_so, f"pair {letter} {what}", **told, hint=hint)


def pays_once(why: Any, again: Callable[[], Any]) -> None:  # noqa: ARG001
    """Each repaired pair asks the model once, gets two answers, and still serves its purpose."""
    for letter in LETTERS:
        pair = getattr(again(), letter)
        answers, calls, asked = _watched(pair)
        _keeps_its_purpose(letter, pair, calls, asked)
        expect_equal(len(calls), 1, f"requests of pair {letter}", hint=_THINK[letter])
        expect(
            len(asked) == 2 and isinstance(answers, tuple) and len(answers) == 2,
            f"pair {letter} makes two calls and returns both answers",
            observed=f"{len(asked)} calls with caching on, and {type(answers).__name__}",
            expected="two calls, and a tuple of their two answers",
        )
        first, second = (each.category for each in answers)
        expect_equal(second, first, f"the second answer of pair {letter}")


def _is_as_given(thing: object) -> bool:
    if isinstance(thing, type) and issubclass(thing, Colleague):
        return not any(letter in vars(thing) for letter in LETTERS)
    return thing is ... or thing is None or thing == {}


EXERCISE = Exercise(
    id="2.1",
    title="Explain five misses",
    lesson="02_caching",
    minutes=12,
    difficulty="easy",
    concepts=("cache key", "rollout_id", "sync and async"),
    hints=(
        "The key is a hash of the request. program.history[-1] holds the last prompt and its options; run a "
        "pair and compare the last two entries.",
        "Two of the five pairs send the very same request twice. In one of them DSPy keeps sync and async "
        "apart; in the other it cannot make a key, and says so nowhere.",
        "a: await dspy.asyncify(sort)(ticket=ticket). b: one temperature. c: the time belongs in your log, "
        "not in the prompt. d: a number that you choose. e: a sorted list.",
    ),
    checks=(names_five_reasons, explains_the_misses, pays_once),
    is_stub=_is_as_given,
    why="A key is made of everything in the request, and of how it was called. So what should not matter has "
    "to stay out of the request (the time), what does matter has to be the same each time (temperature, the "
    "sample's number), and what JSON cannot hold makes no key at all. TieredCache has one key for sync and "
    "async, keys sets and models, and counts what it cannot key.",
)
