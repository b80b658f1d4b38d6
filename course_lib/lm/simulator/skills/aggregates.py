"""Numbers computed over the inputs: sums, averages, extremes, lengths and counts.

Main path: aggregate(field, work) -> Result for a number field named after what it computes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills.arithmetic import written
from course_lib.lm.simulator.skills.leaves import limited
from course_lib.lm.simulator.skills.work import Result, Work

_OVER_NUMBERS: tuple[tuple[str, Callable[[list[float]], float]], ...] = (
    (r"sum|total|addition", math.fsum),
    (r"average|mean|avg", lambda numbers: math.fsum(numbers) / len(numbers)),
    (r"max|maximum|largest|biggest|highest", max),
    (r"min|minimum|smallest|lowest", min),
    (r"product", math.prod),
    (r"difference", lambda numbers: numbers[0] - math.fsum(numbers[1:])),
)


def aggregate(field: Field, work: Work) -> Result | None:
    """Compute what the field's name says over numbers, lists or a text; pass on other fields."""
    if field.schema.get("type") not in ("integer", "number"):
        return None
    values = [_parsed(text) for text in work.task.inputs.values()]
    result = _over_numbers(field.name, values)
    if result is None:
        result = _size(field.name, values)
    if result is None or not math.isfinite(result):
        return None
    return Result(limited(field.schema, result), f"the {field.name.replace('_', ' ')} is {written(result)}")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _over_numbers(name: str, values: Sequence[Any]) -> float | None:
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if not flat or not all(_is_number(item) for item in flat):
        return None
    for pattern, compute in _OVER_NUMBERS:
        if re.fullmatch(rf"(\w+_)?({pattern})(_\w+)?", name):
            return float(compute([float(item) for item in flat]))
    return None


def _size(name: str, values: Sequence[Any]) -> float | None:
    if len(values) != 1:
        return None
    value = values[0]
    if re.fullmatch(r"(num_|number_of_)?words?(_count)?", name) and isinstance(value, str):
        return len(value.split())
    if re.fullmatch(
        r"length|(num_|number_of_)?(characters|chars|letters)|(char|character|letter)_count", name
    ):
        return len(value) if isinstance(value, str | list) else None
    if re.fullmatch(r"count|n|size|(num|number_of)_(items|elements|entries)", name) and isinstance(
        value, list
    ):
        return len(value)
    return None
