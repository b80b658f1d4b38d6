"""What a text states for the fields of a program: all of them are filled together, each mention used once.

Main path: stated_values(fields, text) -> {path: value}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from course_lib.lm.simulator.agents.filling import fill
from course_lib.lm.simulator.prompts import Field


def stated_values(fields: Sequence[Field], text: str) -> dict[str, Any]:
    """Return what a text states for fields, by name; what it does not state is left out."""
    return fill(tuple(fields), text).args
