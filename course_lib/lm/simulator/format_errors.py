"""The slips of sim-small: labels it gets wrong, and replies that are nearly in the format asked.

Main path: slip(task, values, luck) -> text; SLIP_SHARE of the replies are not clean, always the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from course_lib.lm.simulator import formats
from course_lib.lm.simulator.prompts import Task

SLIP_SHARE = 0.15
WRONG_LABEL_SHARE = 0.08


def slip(task: Task, values: Mapping[str, Any], luck: random.Random) -> str:
    """Write `values` in the format asked, or nearly so."""
    values = _misjudged(task, dict(values), luck)
    if luck.random() >= SLIP_SHARE:
        return formats.write(task.spec, values)
    return luck.choice(_SLIPS[task.spec.layout.kind])(task, values)


def _misjudged(task: Task, values: dict[str, Any], luck: random.Random) -> dict[str, Any]:
    """Take another label now and then."""
    for field in task.spec.outputs:
        others = [label for label in field.schema.get("enum", ()) if label != values[field.name]]
        if others and luck.random() < WRONG_LABEL_SHARE:
            values[field.name] = luck.choice(others)
    return values


def _unfinished(task: Task, values: dict[str, Any]) -> str:
    """Forget the closing marker: readers that only look for headers do not mind."""
    return formats.write(task.spec, values).removesuffix("[[ ## completed ## ]]").rstrip()


def _talkative(task: Task, values: dict[str, Any]) -> str:
    """Put prose around the answer."""
    return f"Sure! Here is the answer:\n\n{formats.write(task.spec, values)}\n\nLet me know if you need more."


def _fenced(task: Task, values: dict[str, Any]) -> str:
    """Put the answer in a code fence."""
    return f"```{task.spec.layout.kind}\n{formats.write(task.spec, values)}\n```"


def _miscased(task: Task, values: dict[str, Any]) -> str:
    """Write a label in capitals, which a strict reader refuses."""
    for field in task.spec.outputs:
        if "enum" in field.schema and isinstance(values[field.name], str):
            values = {**values, field.name: values[field.name].upper()}
            break
    return formats.write(task.spec, values)


def _headless(_task: Task, values: dict[str, Any]) -> str:
    """Answer in prose, without a field in sight."""
    return "\n".join(formats.plain(value) for value in values.values())


def _cut(task: Task, values: dict[str, Any]) -> str:
    """Stop in the last tenth."""
    text = formats.write(task.spec, values)
    return text[: max(1, len(text) - max(2, len(text) // 10))]


Slip = Callable[[Task, dict[str, Any]], str]

_SLIPS: dict[str, tuple[Slip, ...]] = {
    "markers": (_unfinished, _talkative, _miscased, _headless),
    "json": (_fenced, _talkative, _miscased, _cut),
    "xml": (_talkative, _fenced, _miscased, _cut),
    "labelled": (_talkative, _miscased, _headless),
    "template": (_talkative, _miscased, _headless),
    "prose": (_talkative,),
}
