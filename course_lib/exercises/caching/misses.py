"""Exercise 2.1, five misses: a colleague's pairs of calls that each pay twice, to be explained and repaired.

Source: dspy.clients.cache.Cache and dspy.clients.execution.PreparedCall.key (DSPy 3.4.1).
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import product
from typing import Any
from unittest.mock import Mock, patch

import cloudpickle  # type: ignore[import-untyped]
import dspy
from dspy.clients.cache import Cache
from dspy.utils.callback import BaseCallback

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect, expect_equal, expect_error, run
from course_lib.exercises.engine.registry import Exercise, is_stub
from course_lib.exercises.engine.seen import counted, expect_requests, in_another_process, under_dspy

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


class _Service(Cache, BaseCallback):  # type: ignore[misc]
    """An empty cache for DSPy, a program that sorts tickets, and what is seen of its calls."""

    loop: asyncio.AbstractEventLoop
    thread: threading.Thread

    def __init__(self) -> None:
        super().__init__(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)
        self.sort = dspy.Predict(f"ticket -> category: Literal{list(desk.CATEGORIES)}", max_tokens=900)
        self.lm = lm.connect("sim-large", top_p=0.9)
        self.sort.demos = [dspy.Example(ticket="It leaks.", category=each) for each in desk.CATEGORIES[:2]]

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: Any = None) -> Any:
        self.asked.append(dict(request))
        self.blocked.append(not self._loop_is_free(request["_fn_identifier"]))
        return super().get(request, ignored_args_for_cache_key)

    def _loop_is_free(self, function: str) -> bool:
        """Say whether the service's event loop goes on while this call is made."""
        if threading.current_thread() is self.thread:
            return ".alitellm" in function
        came = threading.Event()
        self.loop.call_soon_threadsafe(came.set)
        return came.wait(1)

    def on_module_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:  # noqa: ARG002
        self.made[id(outputs)] = outputs

    def run(self, pair: Callable[..., Any], ticket: str) -> Any:
        """Run a pair in an event loop, as the service would; what its calls did is noted anew."""
        self.asked, self.blocked, self.made = list[dict[str, Any]](), list[bool](), dict[int, Any]()

        async def in_loop() -> Any:
            self.loop, self.thread = asyncio.get_running_loop(), threading.current_thread()
            made = pair(self.sort, ticket)
            return await made if inspect.isawaitable(made) else made

        adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
        with under_dspy(self), dspy.context(lm=self.lm, adapter=adapter, callbacks=[self]):
            return run(in_loop())

    def first_sent(self, ticket: str, pair: Any = lambda sort, text: sort(ticket=text), at: int = 0) -> Any:
        """Return the first request of a pair or a plain call; the error of one call has to come out."""
        what, error = f"what comes out when call {at + 1} finds the model down", dspy.LMTransportError("down")
        with patch.multiple(Cache, get=Mock(side_effect=[*[None] * at, error, *[None] * 9]), put=Mock()):
            expect_error(dspy.LMTransportError, lambda: self.run(pair, ticket), what)
        return json.loads(json.dumps(self.asked[0], default=str))


def requests_of_pair(pair: Callable[..., Any]) -> int:
    """Return how many requests a pair of calls costs on an empty cache of DSPy's."""
    return len(counted(lambda: _Service().run(pair, "Where is my parcel?"))[1])


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
_SENT: Any = {"b": {"temperature": 0}, "d": {"temperature": 1}, "e": {"stop": ["###", "<end>"]}}
"""What else than the plain call each pair has to send; d sends a rollout_id too."""
_PIECES = "parcel", "Parcel", "LOGIN", " ", "\n", "[2]", '"', "{}", "été", "🙂", "12.", "invoice", "?", "###"


def _a_ticket(pieces: int) -> str:
    return " ".join(["", *random.choices(_PIECES, k=pieces), uuid.uuid4().hex, "\n"])


def _expect_same(got: dict[str, Any], wanted: dict[str, Any], what: str, hint: str) -> None:
    """Fail the check unless two requests are the same, whatever the function is called that sends them."""
    for name in sorted({*wanted, *got} - {"_fn_identifier"}):
        expect_equal(got.get(name), wanted.get(name), f"{name} {what}", hint=hint)


def _expect_sent(letter: str, plain: dict[str, Any], sent: dict[str, Any]) -> None:
    """Fail the check unless this request is the plain one, but for what the pair is there for."""
    wanted, got, stop = plain | _SENT.get(letter, {}), dict(sent), sent.get("stop")
    if letter == "d":
        wanted["rollout_id"] = "a number" if sent.get("rollout_id") is None else sent["rollout_id"]
    if isinstance(stop, list | tuple):
        got["stop"] = sorted(stop)
    purpose, hint = _PURPOSES[letter]
    _expect_same(got, wanted, f"of pair {letter}, which {purpose}", hint)


def _repaired(service: _Service, letter: str, pair: Callable[..., Any], ticket: str) -> None:
    """Fail the check unless the pair makes two calls for one request, as intended, and changes nothing."""
    plain = service.first_sent(ticket)
    for run_before, when in enumerate(("", " when it runs once more")):
        hint = f"{_THINK[letter]} What you send must be the same in each run."
        what = f"requests of pair {letter}{when}"
        answers = expect_requests(1 - run_before, lambda: service.run(pair, ticket), what, hint=hint)
        made = len(service.asked), len(answers), len({*map(id, answers)} & {*service.made})
        what = f"calls of pair {letter} that ask the cache, its answers, and those that its calls gave"
        expect_equal(made, (2, 2, 2), what, hint="The cache makes the second call cheap.")
        for request in service.asked:
            _expect_sent(letter, plain, request)
        purpose, hint = _PURPOSES["a"]
        is_free = letter != "a" or not service.blocked[1]
        expect_equal(is_free, True, f"the second call of pair a {purpose}", hint=hint)
        service.first_sent(ticket, pair, run_before)
        after, hint = service.first_sent(ticket), "The program and the model are others' too."
        _expect_same(after, plain, f"of a plain call after pair {letter}", hint)


def pays_once(why: Any, again: Callable[[], Any]) -> None:  # noqa: ARG001
    """Each repaired pair asks the model once, gets two answers, and still serves its purpose."""
    service, own = _Service(), lm.connect("sim-large", top_p=0.8)
    for letter, (pieces, service.sort.lm) in product(REASONS, ((5, None), (1200, own))):
        _repaired(service, letter, getattr(again(), letter), _a_ticket(pieces))


def _all_sent(service: _Service, again: Callable[[], Any], each: list[Any]) -> list[Any]:
    """Return what is sent first, for each of these pairs (by its letter) and tickets."""
    return [[letter, service.first_sent(ticket, getattr(again(), letter))] for letter, ticket in each]


def sends_the_same_elsewhere(why: Any, again: Callable[[], Any]) -> None:  # noqa: ARG001
    """What a repaired pair sends is the same in another process, on another day."""
    each, what = [*product(REASONS, map(_a_ticket, [9] * 8))], "in another process, on another day"
    packed, hint = cloudpickle.dumps(again), "hash(), id(), clock and earlier runs are not the same there."
    here = _all_sent(_Service(), again, each)
    seeds = {("###", True): 2, ("<end>", False): 1, ("###", False): 7, ("<end>", True): 4}
    seed = seeds[next(iter({"###", "<end>"})), hash("###") < hash("<end>")]  # sets have another order there
    with patch.dict(os.environ, PYTHONHASHSEED=str(seed)):
        args: Any = sent_later, packed, each[::-1]
        there = in_another_process(*args, what=what, expected="the same requests", hint=hint)
    for (letter, one), (_, other) in zip(here, there[::-1], strict=True):
        _expect_same(other, one, f"of pair {letter} {what}", hint)


def sent_later(packed: bytes, each: list[Any]) -> list[Any]:
    """Return what each pair sends first, in the year 2033; for a process of its own."""
    service, then, written = _Service(), datetime(2033, 5, 18, 3, 33, tzinfo=UTC), time.strftime
    service.first_sent(each[0][1])
    days = Mock(wraps=datetime, now=lambda _=None: then, today=lambda: then, utcnow=lambda: then)
    with patch.multiple("datetime", datetime=days, date=days), patch("time.time", then.timestamp):
        time.strftime = lambda form, *at: written(form, *at or [then.timetuple()])
        return _all_sent(service, cloudpickle.loads(packed), each)


EXERCISE = Exercise(
    title="Explain five misses",
    minutes=8,
    difficulty="easy",
    hints=(
        "The key is a hash of the request. Run a pair and compare the last two entries of program.history.",
        "Two pairs send the very same request twice: DSPy keeps sync and async apart, or can make no key.",
        "a: dspy.asyncify. b: one temperature. c: the time goes to your log. d: a fixed number. e: a list.",
    ),
    checks=(explains_the_misses, pays_once, sends_the_same_elsewhere),
    deadline_s=25.0,
    is_stub=lambda thing: is_stub(thing) or (isinstance(thing, dict) and not thing),
    why="A key is made of all that is in the request, and of how it was called. What should not matter stays "
    "out (the time), what does matter is the same each time, and what JSON cannot hold makes no key.",
)
