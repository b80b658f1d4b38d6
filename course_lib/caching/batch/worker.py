"""What a dask worker does with an item: build the program once, run the item, send the outcome back as JSON.

Main path: run_item(recipe, carried, item) on the worker, called by on_dask.DaskRunner.
Source: dspy.Module.load_state, dspy.LM.load_state (DSPy 3.4.1). A worker has none of the driver's settings.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Mapping
from typing import Any

import dspy

from course_lib import lm
from course_lib.caching.batch.local import LocalRunner
from course_lib.caching.batch.plain import Codec

_KEPT = 4
_stands: dict[str, _Stand] = {}
_building = threading.Lock()


class _Stand:
    """A program with all it needs, in this worker."""

    def __init__(self, recipe: Mapping[str, Any], carried: Mapping[str, Any]) -> None:
        program = carried.get("program") or _program(recipe["program"])
        self.codec = Codec.of(program, carried.get("types", ()))
        self.settings = {
            "lm": carried.get("lm") or _lm(recipe["lm"]),
            "adapter": carried.get("adapter"),
        }
        self.runner = LocalRunner(
            program, concurrency=recipe["concurrency"], deadline_s=recipe["deadline_s"], keep_history=False
        )


async def run_item(recipe: str, carried: Mapping[str, Any], item: Any) -> str:
    """Run one item and return its outcome as JSON: result or error, and the usage of its calls."""
    stand = _stand(recipe, carried)
    with dspy.context(**stand.settings):
        outcome = await stand.runner.run(item)
    told: dict[str, Any] = {"entries": outcome.entries}
    if outcome.error is None:
        told["result"] = stand.codec.dump(outcome.result)
    else:
        told["error"] = [outcome.error.kind, outcome.error.message]
    return json.dumps(told, default=str)


def _stand(recipe: str, carried: Mapping[str, Any]) -> _Stand:
    with _building:
        if recipe not in _stands:
            while len(_stands) >= _KEPT:
                _stands.pop(next(iter(_stands)))
            _stands[recipe] = _Stand(json.loads(recipe), carried)
        return _stands[recipe]


def _program(told: Mapping[str, Any]) -> Any:
    thing: Any = importlib.import_module(told["module"])
    for name in told["name"].split("."):
        thing = getattr(thing, name)
    if "state" not in told:
        return thing
    program = thing()
    program.load_state(told["state"])
    return program


def _lm(told: Mapping[str, Any] | None) -> Any:
    if told is None:
        return None
    if "course" not in told:
        return dspy.LM.load_state(dict(told["state"]))
    if told["pid"] != os.getpid():  # a process of its own, which shares the driver's endpoint
        os.environ["COURSE_LM_URL"], os.environ["COURSE_LM_KEY"] = told["url"], told["key"]
    return lm.connect(told["course"], cache=told["cache"], num_retries=told["retries"], **told["kwargs"])
