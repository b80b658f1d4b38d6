"""What a check sees from outside: requests at the model's endpoint, DSPy's cache, and another process.

Main path: expect_requests(1, lambda: program(question), "requests of ...") -> the program's result.
"""

from __future__ import annotations

import dis
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import cloudpickle  # type: ignore[import-untyped]

from course_lib import lm
from course_lib.exercises.engine.checks import expect, expect_equal, without_error

T = TypeVar("T")

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
answer, sys.stdout = sys.stdout, sys.stderr
import cloudpickle
function, args = cloudpickle.load(sys.stdin.buffer)
json.dump(function(*args), answer)
"""

_NAMES = (*cloudpickle.cloudpickle.GLOBAL_OPS, dis.opmap["LOAD_NAME"])
"""What reads a global name; cloudpickle forgets those of a class within a function, such as annotations."""


def counted(call: Callable[[], T]) -> tuple[T, list[lm.Call]]:
    """Return what `call` returns, and the requests that the model's endpoint got meanwhile."""
    before = lm.ledger().requests
    result = call()
    return result, lm.ledger(since=before).calls


def expect_requests(count: int, call: Callable[[], T], what: str, *, hint: str = "") -> T:
    """Return what `call` returns; fail the check unless it costs so many requests."""
    result, calls = counted(call)
    expect_equal(len(calls), count, what, hint=hint)
    return result


@contextmanager
def under_dspy(cache: Any) -> Iterator[None]:
    """Have DSPy use `cache` in this block; `dspy.cache` is as before afterwards, also after an error."""
    import dspy

    former = vars(dspy).get("cache")  # DSPy makes its own only when it is first asked for
    dspy.cache = cache
    try:
        yield
    finally:
        if former is None:
            del dspy.cache
        else:
            dspy.cache = former


def memory_cache() -> Any:
    """Return a cache of DSPy's in memory alone, which holds nothing yet."""
    from dspy.clients.cache import Cache

    return Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)


def in_another_process(
    function: Callable[..., Any], *args: Any, what: str, expected: str, exit_code: int = 0, hint: str = ""
) -> Any:
    """Call a function in a process of its own, with the same endpoint; return its result, which JSON holds.

    What the learner wrote in a notebook travels by value (cloudpickle); a lock becomes a new one there.
    The check fails if it cannot be sent, or if the process does not end with `exit_code`.
    """
    wanted = "code that opens its own files and connections, at the address it is given"
    sending = "your code can be sent to another process"
    locks = {type(make()): lambda _, make=make: (make, ()) for make in (threading.Lock, threading.RLock)}
    table = cloudpickle.Pickler.dispatch_table.new_child(locks)
    names = patch.object(cloudpickle.cloudpickle, "GLOBAL_OPS", _NAMES)
    with patch.object(cloudpickle.Pickler, "dispatch_table", table), names:
        sent = without_error(lambda: cloudpickle.dumps((function, args)), sending, expected=wanted)
    env = os.environ | {"COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()}
    program = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)]  # our own, in the same Python
    done = subprocess.run(program, input=sent, env=env, capture_output=True, check=False, timeout=90)  # noqa: S603
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    observed = last[0] if last else f"it ended by itself with exit code {done.returncode}"
    expect(done.returncode == exit_code, what, observed=observed, expected=expected, hint=hint)
    return json.loads(done.stdout or b"null")
