"""Numbers computed over the inputs: sums, averages, extremes, lengths and counts.

Main path: aggregate(field, work) -> Result for a number field named after what it computes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.reading import parsed
from course_lib.lm.simulator.skills.arithmetic import over_numbers, written
from course_lib.lm.simulator.skills.leaves import limited
from course_lib.lm.simulator.skills.work import Result, Work

_SIZES: tuple[tuple[str, type | tuple[type, ...], Callable[[Any], int]], ...] = (
    (r"(num_|number_of_)?words?(_count)?", str, lambda text: len(text.split())),
    (
        r"length|(num_|number_of_)?(characters|chars|letters)|(char|character|letter)_count",
        (str, list),
        len,
    ),
    (r"count|n|size|(num|number_of)_(items|elements|entries)", list, len),
)


def aggregate(field: Field, work: Work) -> Result | None:
    """Compute what the field's name says over numbers, lists or a text; pass on other fields."""
    if field.schema.get("type") not in ("integer", "number"):
        return None
    values = [parsed(text, text) for text in work.task.inputs.values()]
    result = _over_numbers(field.name, values)
    if result is None:
        result = _size(field.name, values)
    if result is None or not math.isfinite(result):
        return None
    return Result(limited(field.schema, result), f"the {field.name.replace('_', ' ')} is {written(result)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _over_numbers(name: str, values: Sequence[Any]) -> float | None:
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if not flat or not all(_is_number(item) for item in flat):
        return None
    compute = over_numbers(name, r"(\w+_)?({})(_\w+)?")
    return float(compute([float(item) for item in flat])) if compute else None


def _size(name: str, values: Sequence[Any]) -> float | None:
    for pattern, kinds, size in _SIZES:
        if len(values) == 1 and isinstance(values[0], kinds) and re.fullmatch(pattern, name):
            return size(values[0])
    return None
