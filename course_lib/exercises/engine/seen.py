"""What a check sees from outside: the requests that the model's endpoint got, and another process.

Main path: expect_requests(1, lambda: program(question), "requests of ...") -> the program's result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from course_lib import lm
from course_lib.exercises.engine.checks import expect_equal, without_error

T = TypeVar("T")

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
answer, sys.stdout = sys.stdout, sys.stderr
import cloudpickle
function, args = cloudpickle.load(sys.stdin.buffer)
json.dump(function(*args), answer)
"""


def counted(call: Callable[[], T]) -> tuple[T, list[lm.Call]]:
    """Return what `call` returns, and the requests that the model's endpoint got meanwhile."""
    before = lm.ledger().requests
    result = call()
    return result, lm.ledger(since=before).calls


def expect_requests(count: int, call: Callable[[], T], what: str, *, hint: str = "") -> T:
    """Return what `call` returns; fail the check unless it costs so many requests.

    Raises:
        CheckFailed: it costs more or fewer.
    """
    result, calls = counted(call)
    expect_equal(len(calls), count, what, hint=hint)
    return result


def in_another_process(function: Callable[..., Any], *args: Any) -> subprocess.CompletedProcess[bytes]:
    """Call a function in a process of its own, with the same endpoint; its result is on stdout, as JSON.

    Functions and classes that the learner wrote in a notebook travel by value (cloudpickle), as with dask.

    Raises:
        CheckFailed: the function or an argument cannot be sent.
    """
    cloudpickle: Any = import_module("cloudpickle")  # it has no types
    sent = without_error(
        lambda: cloudpickle.dumps((function, args)),
        "your code can be sent to another process",
        expected="code that opens its own files and connections, at the address it is given",
    )
    return subprocess.run(  # noqa: S603  (our own program, in the same Python)
        [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)],
        input=sent,
        env=os.environ | {"COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()},
        capture_output=True,
        check=False,
        timeout=40,
    )
