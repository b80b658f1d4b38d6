"""The errors of sim-small: labels it gets wrong, and replies that are nearly in the format of the prompt.

Main path: write_with_errors(task, values, rng) -> text. ERROR_SHARE of the replies are not clean, always the
same ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from course_lib.lm.simulator import formats
from course_lib.lm.simulator.prompts import Task

ERROR_SHARE = 0.15
WRONG_LABEL_SHARE = 0.08


def write_with_errors(task: Task, values: Mapping[str, Any], rng: random.Random) -> str:
    """Write `values` in the format of the prompt, or nearly so."""
    values = _misjudged(task, dict(values), rng)
    if rng.random() >= ERROR_SHARE:
        return formats.write(task.spec, values)
    return rng.choice(_ERRORS[task.spec.layout.kind])(task, values)


def _misjudged(task: Task, values: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Take another label now and then."""
    for field in task.spec.outputs:
        others = [label for label in field.schema.get("enum", ()) if label != values[field.name]]
        if others and rng.random() < WRONG_LABEL_SHARE:
            values[field.name] = rng.choice(others)
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


FormatError = Callable[[Task, dict[str, Any]], str]

_ERRORS: dict[str, tuple[FormatError, ...]] = {
    "markers": (_unfinished, _talkative, _miscased, _headless),
    "json": (_fenced, _talkative, _miscased, _cut),
    "xml": (_talkative, _fenced, _miscased, _cut),
    "labelled": (_talkative, _miscased, _headless),
    "template": (_talkative, _miscased, _headless),
    "prose": (_talkative,),
}
