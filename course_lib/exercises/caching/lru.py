"""Exercise 2.2, a cache that forgets: the least recently used entry leaves, and so does what is too old.

Main path: EXERCISE -> engine.registry; a check plays random steps on a new cache and on a model of it.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
import weakref
from copy import deepcopy
from itertools import permutations
from typing import Any

from course_lib.exercises.engine.checks import expect, expect_equal, expect_nothing_kept, show
from course_lib.exercises.engine.registry import Exercise


class _Model:
    """What is to happen. An entry that is too old takes a place until it is read, unless the model sweeps."""

    def __init__(self, room: int, ttl_s: float, *, sweeps: bool) -> None:
        self.room, self.ttl_s, self.sweeps = room, ttl_s, sweeps
        self.entries: dict[Any, tuple[str, float]] = {}

    def put(self, key: Any, value: str, now_s: float) -> None:
        self.entries.pop(key, None)
        if self.sweeps:
            self.entries = {each: entry for each, entry in self.entries.items() if entry[1] > now_s}
        while len(self.entries) >= self.room:
            del self.entries[next(iter(self.entries))]
        self.entries[key] = value, now_s + self.ttl_s

    def get(self, key: Any, now_s: float) -> str:
        value, ends_s = self.entries.pop(key, ("None", now_s))
        if ends_s <= now_s:
            return "None"
        self.entries[key] = value, ends_s
        return value


class _Thing:
    """A value that counts as false, and can neither be compared nor copied."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __bool__(self) -> bool:
        return False

    def _refuse(self, *_: object) -> Any:
        raise TypeError(f"{self.name} was compared or copied; it is only to be kept")

    __eq__ = __copy__ = __deepcopy__ = __reduce_ex__ = _refuse
    __hash__ = object.__hash__


_KEYS = "a", "b", 1, "1", -1, -2, 0, "", None, (), ("a", 1), 2.5, float("2.5"), "None", b"a", "-1", 2**61
_EMPTY: tuple[object, ...] = None, None, None, 0, "", [], False


class _Play:
    """A cache, the models that it still agrees with, and a clock; room and ttl_s are drawn if not given."""

    def __init__(self, lru: Any, hint: str, room: int = 0, ttl_s: float = 0.0) -> None:
        self.room, self.ttl_s = room or random.randint(1, 4), ttl_s or 10 ** random.uniform(-2, 6)
        self.hint, self.now_s = hint, random.uniform(0, 1e4)
        self.steps, self.watched = list[str](), list[weakref.ref[Any]]()
        self.cache = lru(max_entries=self.room, ttl_s=self.ttl_s, clock=lambda: self.now_s)
        self.models = [_Model(self.room, self.ttl_s, sweeps=sweeps) for sweeps in (False, True)]
        self.keys = [*random.sample(_KEYS, len(_KEYS)), *range(3, 99)][: self.room + 2]

    def put(self, key: Any) -> None:
        value: Any = _Thing(f"<value {len(self.steps)}>") if random.random() < 0.7 else random.choice(_EMPTY)
        self.watched += [weakref.ref(value)] if isinstance(value, _Thing) else []
        self.steps.append(f"put({key!r}, {value!r})")
        self.cache.put(key, value)
        for model in self.models:
            model.put(key, repr(value), self.now_s)

    def get(self, key: Any) -> None:
        self.steps.append(f"get({key!r})")
        got, wanted = show(self.cache.get(key)), [each.get(key, self.now_s) for each in self.models]
        after = f"with max_entries={self.room}, ttl_s={self.ttl_s:.4g}: {', '.join(self.steps)}"
        expect(got in wanted, observed=got, expected=f"{wanted[0]} at the end, {after}", hint=self.hint)
        self.models = [each for each, want in zip(self.models, wanted, strict=True) if want == got]

    def wait(self, _: Any) -> None:
        """Go on a little, or to just before or after the end of an entry."""
        ends_s = [end_s - self.now_s for model in self.models for _, end_s in model.entries.values()]
        about_s = random.choice([0.1 * self.ttl_s, *ends_s])
        by_s = max(0.0, about_s + self.ttl_s * random.choice((-1, 1)) * random.uniform(0.003, 0.06))
        self.now_s += by_s
        self.steps.append(f"wait {by_s:.6g} s")

    def go(self, steps: int, *, waits: int = 0) -> _Play:
        """Take random steps; fail the check where a get gives what neither model gives."""
        for name in random.choices((self.put, self.get, self.wait), (4, 3, waits), k=steps):
            name(random.choice(self.keys))
        return self


def gives_back(lru: Any) -> None:
    """Any value comes back, None and empty ones too, under its own key alone; others give None."""
    hint = "Ask whether the key is there, not whether the value counts as true; 1 and '1' are two keys."
    for number in range(80):
        _Play(lru, hint, room=16, ttl_s=1e5).go(number // 2)


def forgets_unused(lru: Any) -> None:
    """When there is no room for a new key, the entry leaves whose last get or put is the longest ago."""
    hint = "Reading is use, and so is putting again: the key moves to the end, and needs no new room."
    for number in range(430):
        _Play(lru, hint, room=max(0, number - 400), ttl_s=1e5).go(number // 10 + 8 * max(0, number - 400))


def forgets_old(lru: Any) -> None:
    """An entry counts for ttl_s seconds after it was last put, by the clock that the cache was given."""
    hint = "Time is what clock() says. Each put writes down a new end; reading makes no answer fresher."
    for number in range(400):
        _Play(lru, hint, room=random.choice((16, 1, 2, 3))).go(number // 10, waits=3)
    late = _Play(lru, hint, room=16, ttl_s=0.02)
    late.put("a")
    time.sleep(0.03)
    late.get("a")


def shares_nothing(lru: Any) -> None:
    """Two caches share nothing: not the entries, the room, the time or the clock."""
    hint = "What stands in the class body belongs to all objects; __init__ makes each its own."
    for number in range(60):
        plays = [_Play(lru, hint) for _ in range(2)]
        for play in random.choices(plays, k=number):
            play.go(1, waits=2)
    one, other = (lru(max_entries=3, ttl_s=9.0, clock=time.monotonic) for _ in range(2))
    one.put("a", "the other's")
    expect_equal(other.get("a"), None, "what is in a new cache, made as another one was", hint=hint)


def keeps_nothing(lru: Any) -> None:
    """Nothing stays of what was evicted or found too old, nor of a key that was never put."""
    hint = "What is kept beside the entries goes with them, and a get takes out what it finds too old."
    for number in range(60):
        play = _Play(lru, hint).go(number // 2, waits=2)
        keys = [type(f"key_{name}", (), {})() for name in ("never_put", "too_old")]
        play.watched += map(weakref.ref, keys)
        play.put(keys[1])
        play.now_s += 1.1 * play.ttl_s
        play.get(keys.pop())
        play.put("a")  # some look for what is too old only here
        play.get(keys.pop())
        held = {"None"} | {value for model in play.models for value, _ in model.entries.values()}
        if not {repr(each()) for each in play.watched} <= held:
            gc.collect()  # an answer with cycles
        left = {repr(each()) for each in play.watched} - held
        expect_equal(left, set(), f"what stays in memory after {', '.join(play.steps)}", hint=hint)
    for ttl_s in (1.0, 1e9):
        play = _Play(lru, hint, room=2, ttl_s=ttl_s)

        def use(numbers: range, play: _Play = play) -> None:
            for name in (f"{kind} number {number}" for number in numbers for kind in ("key", "next", "last")):
                play.cache.get(name)
                play.cache.put(name, "x" * 900 + name)
                play.now_s += 1.1 * name.startswith("last")
                play.cache.get(name)

        expect_nothing_kept(use, "what left, and of keys that were not there", hint=hint)


def _yield_often(frame: Any, event: str, argument: object) -> Any:  # noqa: ARG001  as sys.settrace calls it
    """Let other threads run before one in six lines of the learner's code, and within some."""
    frame.f_trace_opcodes = True
    if random.random() < (0.15 if event == "line" else 0.02):
        time.sleep(6e-4 if event == "line" else 1e-5)
    return _yield_often


_ORDERS = sorted(set(permutations((0, 0, 1, 1, 2, 2))))  # of three threads that take two steps each


def _together(cache: Any, scripts: dict[int, list[Any]]) -> dict[Any, list[str]]:
    """Take the steps of each script in a thread of its own; return what they saw, and what is there then."""
    seen: dict[Any, list[str]] = {number: [] for number in scripts}

    def take(number: int) -> None:
        sys.settrace(_yield_often)
        for name, *args in scripts[number]:
            seen[number].append(repr(getattr(cache, name)(*args)))

    threads = [threading.Thread(target=take, args=(number,), daemon=True) for number in scripts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen | {"then": [repr(cache.get(key)) for key in "ab"]}


def _one_by_one(model: _Model, now_s: float, scripts: dict[int, list[Any]], order: Any) -> Any:
    """Return what is seen when the threads' steps are taken in this order."""
    model, seen = deepcopy(model), {number: list[str]() for number in scripts}
    for number in order:
        name, key, *value = scripts[number][len(seen[number])]
        seen[number].append(str(getattr(model, name)(key, *map(repr, value), now_s)))
    return seen | {"then": [model.get(key, now_s) for key in "ab"]}


def is_thread_safe(lru: Any) -> None:
    """Threads may share a cache: they see what their steps would give one by one, in some order."""
    hint = "Between looking and changing, another thread may do both. A lock around each method is enough."
    for _ in range(100):
        play = _Play(lru, hint, room=random.randint(1, 2))
        for key in random.choices("ab", k=3):
            play.put(key)
        play.now_s += random.choice((0.0, 1.1)) * play.ttl_s
        steps = [("get", key) for key in "abab"] + [("put", key, key * n) for key in "ab" for n in (1, 2)]
        scripts = {number: random.choices(steps, k=2) for number in range(3)}
        seen, now_s = _together(play.cache, scripts), play.now_s
        tries = (_one_by_one(model, now_s, scripts, order) for model in play.models for order in _ORDERS)
        wanted = f"what some order gives, max_entries={play.room}, {', '.join(play.steps)}, then {scripts}"
        expect(seen in tries, observed=seen, expected=wanted, hint=hint)


EXERCISE = Exercise(
    title="A cache that forgets",
    minutes=8,
    difficulty="medium",
    hints=(
        "One OrderedDict is enough: key -> (value, the time at which it runs out), longest unused first.",
        "get: del what is too old, move_to_end(key) else. put: pop(key), popitem(last=False) for room, set.",
        "`with self.lock:` around the whole body of both, with self.lock = threading.Lock().",
    ),
    checks=(gives_back, forgets_unused, forgets_old, shares_nothing, keeps_nothing, is_thread_safe),
    deadline_s=30.0,
    why="One structure holds all that is known of an entry, so nothing is left behind of it. The clock is an "
    "argument, so a test of an hour takes no time. MemoryTier does the same by bytes.",
)
