"""The scorecard: how good a program sorts tickets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dspy


def is_right(example: dspy.Example, pred: dspy.Prediction, trace: Any = None) -> bool:  # noqa: ARG001
    """Return whether the predicted category is that of the ticket, however it is written."""
    category = str(pred.category).strip().casefold()
    wanted = str(example.get("label", category)).strip().casefold()
    return category == wanted


def score(program: Callable[..., dspy.Prediction], rows: Sequence[dspy.Example]) -> float:
    """Return the share of the rows whose category the program finds, from 0 to 1."""
    right = sum(is_right(row, program(**row.inputs())) for row in rows)
    return right / len(rows)
