"""The slips of sim-small: replies that are nearly in the format asked.

Main path: slip(task, values, luck) -> text; most replies are clean, SLIP_SHARE of them are not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from course_lib.lm import formats
from course_lib.lm.prompts import Task

SLIP_SHARE = 0.15


def slip(task: Task, values: Mapping[str, Any], luck: random.Random) -> str:
    """Write `values` in the format asked, or nearly so."""
    if luck.random() >= SLIP_SHARE:
        return formats.write(task.spec, values)
    return luck.choice(_SLIPS[task.spec.layout.kind])(task, dict(values), luck)


def _unfinished(task: Task, values: dict[str, Any], luck: random.Random) -> str:
    """Forget the closing marker: readers that only look for headers do not mind."""
    return formats.write(task.spec, values).removesuffix("[[ ## completed ## ]]").rstrip()


def _talkative(task: Task, values: dict[str, Any], luck: random.Random) -> str:
    """Put prose around the answer."""
    return f"Sure! Here is the answer:\n\n{formats.write(task.spec, values)}\n\nLet me know if you need more."


def _fenced(task: Task, values: dict[str, Any], luck: random.Random) -> str:
    """Put the answer in a code fence."""
    return f"```{task.spec.layout.kind}\n{formats.write(task.spec, values)}\n```"


def _miscased(task: Task, values: dict[str, Any], luck: random.Random) -> str:
    """Write a label in capitals, which a strict reader refuses."""
    for field in task.spec.outputs:
        if "enum" in field.schema and isinstance(values[field.name], str):
            values[field.name] = values[field.name].upper()
            break
    return formats.write(task.spec, values)


def _headless(task: Task, values: dict[str, Any], luck: random.Random) -> str:
    """Answer in prose, without a field in sight."""
    return "\n".join(formats.plain(value) for value in values.values())


def _cut(task: Task, values: dict[str, Any], luck: random.Random) -> str:
    """Stop in the last tenth."""
    text = formats.write(task.spec, values)
    return text[: max(1, len(text) - max(2, len(text) // 10))]


Slip = Callable[[Task, dict[str, Any], random.Random], str]

_SLIPS: dict[str, tuple[Slip, ...]] = {
    "markers": (_unfinished, _talkative, _miscased, _headless),
    "json": (_fenced, _talkative, _miscased, _cut),
    "xml": (_talkative, _fenced, _miscased, _cut),
    "labelled": (_talkative, _miscased, _headless),
    "template": (_talkative, _miscased, _headless),
    "prose": (_talkative,),
}
