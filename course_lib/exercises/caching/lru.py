"""Exercise 2.2, a cache that forgets: the least recently used entry leaves, and so does what is too old.

Main path: EXERCISE -> engine.registry; a check plays steps on a new cache, with a clock that it turns itself.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import Any

from course_lib.exercises.engine.checks import expect_equal, expect_nothing_kept
from course_lib.exercises.engine.registry import Exercise


def _expect_left(lru: Any, room: int, steps: str, left: str, *, hint: str) -> None:
    """Play steps as "put a, get a, none a, wait 50%" (of ttl_s); fail if other keys or values are left."""
    for ttl_s in (random.randint(1, 50), random.randint(100, 9000)):
        now_s = random.uniform(0, 1e6)
        cache, values = lru(max_entries=room, ttl_s=ttl_s, clock=lambda: now_s), {}  # noqa: B023
        for number, step in enumerate(steps.split(", ")):
            name, argument = step.split()
            if name == "wait":
                now_s += ttl_s * float(argument.rstrip("%")) / 100
            elif name == "get":
                cache.get(argument)
            else:
                values[argument] = f"value {number}" if name == "put" else None
                cache.put(argument, values[argument])
        want = {key: values[key] for key in left.split()}
        got = {key: value for key in sorted(values) if (value := cache.get(key)) is not None}
        what = f"what is left in a cache of {room} after {steps}, with ttl_s={ttl_s}"
        expect_equal(got, want, what, hint=hint)


def gives_back(lru: Any) -> None:
    """A value comes back as it was, also an empty one; a key that was never put gives None."""
    cache, other = (lru(max_entries=10, ttl_s=60, clock=lambda: 1000.0) for _ in range(2))
    given = {"a": "shipping", "b": "", "c": 0, "d": [], "e": {"a set"}, "f": object(), 1: "one", "1": "text"}
    for key, value in given.items():
        cache.put(key, value)
    for key, value in given.items():
        hint = "Ask whether the key is there, not whether the value counts as true; 1 and '1' are two keys."
        expect_equal(cache.get(key), value, f"get({key!r}) after put({key!r}, {value!r})", hint=hint)
    hint = "A get that finds nothing leaves nothing behind."
    expect_equal(cache.get("never"), None, "get of a key that was never put", hint=hint)
    hint = "What stands in the class body belongs to all objects; __init__ makes each its own."
    expect_equal(other.get("a"), None, "get from another LRU object", hint=hint)


def forgets_unused(lru: Any) -> None:
    """When it is full, the entry leaves whose last get or put is the longest ago."""
    hint = "Reading is use, and so is putting again: the key moves to the end, and needs no new room."
    _expect_left(lru, 3, "put a, put b, put c, get a, put d", "a c d", hint=hint)
    _expect_left(lru, 3, "put a, put b, put c, put a, put d", "a c d", hint=hint)
    _expect_left(lru, 2, "put b, put a, put a", "a b", hint=hint)
    hint = "How often an entry was used does not count, only how long ago."
    _expect_left(lru, 3, "put a, get a, get a, put b, get b, put c, put d, put e", "c d e", hint=hint)
    hint = "None (none a is put('a', None)) is a value like any other: it takes a place, or an old one's."
    _expect_left(lru, 2, "put b, put a, none a, put c", "c", hint=hint)


def forgets_old(lru: Any) -> None:
    """An entry counts for ttl_s seconds after it was last put, by the clock that the cache was given."""
    hint = "Time is what clock() says. Each put writes down a new end; reading makes no answer fresher."
    _expect_left(lru, 3, "put a, wait 50%, put b, wait 48%", "a b", hint=hint)
    _expect_left(lru, 3, "put a, wait 50%, put b, wait 52%", "b", hint=hint)
    _expect_left(lru, 3, "put a, wait 98%, get a, wait 4%", "", hint=hint)
    _expect_left(lru, 2, "put a, wait 84%, put a, wait 84%", "a", hint=hint)


def uses_what_is_given(lru: Any) -> None:
    """Each cache goes by its own room, ttl_s and clock, also when another is made after it."""

    def and_another(**given: Any) -> Any:
        cache = lru(**given)
        lru(max_entries=9, ttl_s=9 * given["ttl_s"], clock=lambda: 0.0)
        return cache

    hint = "Use what __init__ is given, as it is, and keep it on self: the class is shared by all objects."
    _expect_left(and_another, 1, "put a, put b", "b", hint=hint)
    _expect_left(and_another, 2, "put a, wait 102%", "", hint=hint)


def keeps_nothing(lru: Any) -> None:
    """Nothing stays of an entry that was evicted or found too old, nor of a key that was never put."""

    def play(room: int, steps: str, what: str) -> None:
        now_s = 1000.0
        cache = lru(max_entries=room, ttl_s=60, clock=lambda: now_s)

        def use(numbers: range) -> None:
            nonlocal now_s
            for number in numbers:
                if "put" in steps:
                    cache.put(f"key number {number}", "x" * 900 + str(number))
                if "wait" in steps:
                    now_s += 61
                if "get" in steps:
                    cache.get(f"key number {number}")

        hint = "What is kept beside the entries goes with them, and a get takes out what it finds too old."
        expect_nothing_kept(use, what, hint=hint)

    play(50, "put", "entries that others took the place of")
    play(10_000, "put, wait, get", "entries that a get found too old")
    play(10_000, "get", "keys that were never put")


def _yield_often(frame: Any, event: str, argument: object) -> Any:  # noqa: ARG001  as sys.settrace calls it
    """Let another thread run before one in five steps of the learner's code."""
    frame.f_trace_opcodes = True
    if random.random() < 0.2:
        time.sleep(1e-5)
    return _yield_often


def is_thread_safe(lru: Any) -> None:
    """Four threads use the cache at once without an error, an answer of another key or too many entries."""
    cache, problems = lru(max_entries=3, ttl_s=60, clock=lambda: 1000.0), list[str]()

    def use(seed: int) -> None:
        sys.settrace(_yield_often)
        try:
            for turn in range(30):
                name = f"key {(turn * (seed + 1)) % 7}"
                cache.put(name, name)
                got = cache.get(name)
                if got not in (None, name):
                    problems.append(f"get({name!r}) gave {got!r}")
        except Exception as error:  # border: the learner's code may raise anything
            problems.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=use, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = sum(cache.get(f"key {n}") is not None for n in range(7))
    problems += [f"{held} entries are there"] * (held > 3)
    hint = "Between looking and changing, another thread may do both. A lock around each method is enough."
    expect_equal(problems, [], "four threads use the cache at once: what went wrong", hint=hint)


EXERCISE = Exercise(
    title="A cache that forgets",
    minutes=8,
    difficulty="medium",
    hints=(
        "One OrderedDict is enough: key -> (value, the time at which it runs out), longest unused first.",
        "get: not there, or too old (then delete it): None; else move_to_end(key) and return the value. put: "
        "pop the key, popitem(last=False) while there is no room, then set it.",
        "`with self.lock:` around the whole body of both, with self.lock = threading.Lock().",
    ),
    checks=(gives_back, forgets_unused, forgets_old, uses_what_is_given, keeps_nothing, is_thread_safe),
    why="One structure holds all that is known of an entry, so nothing is left behind of it. The clock is an "
    "argument, so a test of an hour takes no time. MemoryTier does the same by bytes.",
)
