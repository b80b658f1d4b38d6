"""Exercise 2.2, a cache that forgets: the least recently used entry leaves, and so does what is too old.

Main path: EXERCISE -> engine.registry; each check makes caches with a clock that it turns itself.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

from course_lib.exercises.engine.checks import expect, expect_equal
from course_lib.exercises.engine.registry import Exercise, stub_methods

_THREADS = 8
_TURNS = 150


class _Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class _Text(str):
    """A text whose disappearance can be watched; a plain text's cannot."""


def _yielding_clock() -> float:
    """Return the time, and let other threads run first: wherever the cache asks for it, one may come between.

    A key with such a __hash__ would do it everywhere, but crash CPython's OrderedDict where no lock is held.
    """
    time.sleep(1e-5)
    return time.monotonic()


def _held(cache: Any, *keys: str) -> list[str]:
    return [key for key in keys if cache.get(key) is not None]


def gives_back_what_it_got(lru: Any) -> None:
    """A value comes back as it was, also an empty one; a key that was never put gives None."""
    cache = lru(max_entries=10, ttl_s=60, clock=_Clock())
    for key, value in (("a", "shipping"), ("b", ""), ("c", 0), ("d", [])):
        cache.put(key, value)
        hint = "Ask whether the key is there, not whether the value counts as true."
        expect_equal(cache.get(key), value, f"get after put({key!r}, {value!r})", hint=hint)
    expect_equal(cache.get("never"), None, "get of a key that was never put")


def forgets_the_longest_unused(lru: Any) -> None:
    """When it is full, the entry leaves whose last get or put is the longest ago."""
    cache = lru(max_entries=3, ttl_s=60, clock=_Clock())
    for key in "abc":
        cache.put(key, key.upper())
    cache.get("a")
    cache.put("b", "B again")
    cache.put("d", "D")
    expect_equal(
        _held(cache, *"abcd"),
        ["a", "b", "d"],
        "what is left after put a, b, c, get a, put b again, put d, in a cache of three",
        hint="Reading is use, and so is putting again; OrderedDict.move_to_end(key) keeps the order.",
    )
    expect_equal(cache.get("b"), "B again", "the value of b, which was put twice")


def forgets_what_is_too_old(lru: Any) -> None:
    """An entry counts for ttl_s seconds after it was put, by the clock that the cache was given."""
    clock = _Clock()
    cache = lru(max_entries=3, ttl_s=60, clock=clock)
    cache.put("a", "A")
    clock.now_s += 59.9
    expect_equal(cache.get("a"), "A", "get after 59.9 of 60 seconds")
    clock.now_s += 0.1
    hint = (
        "Was it the get after 59.9 seconds that kept it alive? An answer does not get fresher by being "
        "read. And time is what clock() says."
    )
    expect_equal(cache.get("a"), None, "get after 60 seconds", hint=hint)


def starts_anew_when_put_again(lru: Any) -> None:
    """Putting a key again replaces its value, starts its time anew, and takes no second place."""
    clock = _Clock()
    cache = lru(max_entries=2, ttl_s=60, clock=clock)
    cache.put("b", "B")
    cache.put("a", "old")
    clock.now_s += 50
    cache.put("a", "new")
    expect_equal(_held(cache, "b"), ["b"], "what else is there after a was put twice, in a cache of two")
    clock.now_s += 50
    expect_equal(cache.get("a"), "new", "get 50 seconds after the second put, 100 after the first")


def does_not_grow(lru: Any) -> None:
    """What the cache holds on to after 2,000 puts is its entries: no key, value or time of what is gone."""
    clock = _Clock()
    cache = lru(max_entries=50, ttl_s=60, clock=clock)
    alive: weakref.WeakSet[_Text] = weakref.WeakSet()
    for n in range(2000):
        clock.now_s += 0.5
        key, value = _Text(f"key {n}"), _Text(f"value {n}")
        alive |= {key, value}
        cache.put(key, value)
        cache.get(_Text(f"key {n - 30}"))
    del key, value
    gc.collect()
    keys, values = (sum(text.startswith(kind) for text in alive) for kind in ("key", "value"))
    expect(
        keys <= 250 and values <= 250,
        observed=f"{keys} keys and {values} values",
        expected="about 50 of each (max_entries)",
        hint="What is kept beside the entries, times for instance, has to go with them.",
    )


def is_safe_for_threads(lru: Any) -> None:
    """Eight threads use the cache at once without an error or an answer of another key."""
    cache = lru(max_entries=3, ttl_s=60, clock=_yielding_clock)
    problems: list[str] = []

    def use(seed: int) -> None:
        try:
            for turn in range(_TURNS):
                name = f"key {(turn * (seed + 1)) % 7}"
                cache.put(name, name)
                got = cache.get(name)
                if got not in (None, name):
                    problems.append(f"get({name!r}) gave {got!r}")
        except Exception as error:  # border: the learner's code may raise anything
            problems.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=use, args=(n,), daemon=True) for n in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(
        not problems,
        observed=f"{len(problems)} times; first {problems[0]}" if problems else "",
        expected="no error and no foreign answer",
        hint="Between looking and changing, another thread may do both. A threading.Lock around each method "
        "is enough.",
    )


EXERCISE = Exercise(
    id="2.2",
    title="A cache that forgets",
    lesson="02_caching",
    minutes=15,
    difficulty="medium",
    concepts=("LRU", "time to live", "injected clock", "lock"),
    hints=(
        "One OrderedDict is enough: key -> (value, the time at which it runs out). Oldest use first, newest "
        "last.",
        "get: not there, or its time is not later than clock() (then delete it): None. Else "
        "move_to_end(key) and return the value. put: pop the key, and while len(...) >= max_entries "
        "popitem(last=False); then set it.",
        "`with self.lock:` around the whole body of both, with self.lock = threading.Lock().",
    ),
    checks=(
        gives_back_what_it_got,
        forgets_the_longest_unused,
        forgets_what_is_too_old,
        starts_anew_when_put_again,
        does_not_grow,
        is_safe_for_threads,
    ),
    is_stub=stub_methods("get", "put"),
    why="One structure holds all that is known of an entry, so nothing can be left behind when it leaves: "
    "side tables are where caches leak. Reading moves an entry in the order of use and leaves its age alone; "
    "these are two different questions. The clock is an argument, so a test of an hour takes no time. "
    "MemoryTier does the same by bytes, since answers differ in length by a factor of a thousand.",
)
