"""Picking what a field asks for out of the input: ids, dates, amounts, names, lists, records, numbers.

Main path: extract(field, work) -> Result, for any type at all: the last skill in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.values import labelled
from course_lib.lm.simulator.skills import choice, shape
from course_lib.lm.simulator.skills.work import Result, Work


def extract(field: Field, work: Work) -> Result:
    """Fill the field's type from the input."""

    def choose(name: str, desc: str, labels: Sequence[Any], text: str) -> Any:
        return choice.choose_label(name, desc, labels, text, work)

    definitions = {**field.schema.get("definitions", {}), **field.schema.get("$defs", {})}
    labelled_value = labelled(work.task.text, (field.name,)).get(field.name)
    source = shape.Source(labelled_value or work.task.text, choose, definitions)
    value = shape.fill(field.schema, field.name, field.desc, source)
    because = (
        f"the input gives {value!r} for {field.name.replace('_', ' ')}"
        if isinstance(value, str | int | float)
        else ""
    )
    return Result(value, because)
