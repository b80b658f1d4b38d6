"""Demos for a program, and rows that it has not seen."""

from __future__ import annotations

import random
from collections.abc import Sequence

import dspy

from course_lib import desk


def _mixed(rows: Sequence[dspy.Example], seed: int) -> list[dspy.Example]:
    return random.Random(seed).sample(list(rows), len(rows))


def prepare(
    rows: Sequence[dspy.Example], demos: int = 16, seed: int = 0
) -> tuple[desk.Triage, list[dspy.Example]]:
    """Return a triage with so many of the rows as demos, and the rows that are left to measure it on.

    The rows are mixed first, since they come sorted; the same seed gives the same demos. Rows that are left
    come in an order of their own, so that a measurement on the first few of them is a fair one.
    """
    program = desk.Triage()
    program.sort.demos = _mixed(rows, seed)[:demos]
    held_out = _mixed(rows, seed + 1)[demos:]
    return program, held_out
