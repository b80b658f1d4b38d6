"""A suite that any dspy.Adapter can be held to: does it work with everything that programs do?

Main path: conformance(CustomAdapter()) -> Report; `print(report)`, or `report.rows` for a table.
The features are in requirements.py; a scripted model replies in the adapter's own format.
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import dspy

from course_lib.adapters.prompt.requirements import REQUIREMENTS, NotClaimedError
from course_lib.adapters.prompt.script import quiet_dspy


@dataclass(frozen=True, slots=True)
class Row:
    """A feature, its outcome, and what was seen; for a failure, what is wrong."""

    feature: str
    outcome: Literal["passed", "failed", "not claimed"]
    observed: str


@dataclass(frozen=True, slots=True)
class Report:
    """The features of an adapter, and which of them work."""

    adapter: str
    rows: tuple[Row, ...]

    @property
    def passed(self) -> list[str]:
        """Features that work."""
        return [row.feature for row in self.rows if row.outcome == "passed"]

    @property
    def failed(self) -> list[str]:
        """Features that do not, although the contract asks for them."""
        return [row.feature for row in self.rows if row.outcome == "failed"]

    def __str__(self) -> str:
        width = max((len(row.feature) for row in self.rows), default=0)
        lines = [f"{row.feature:{width}}  {row.outcome:11}  {row.observed}".rstrip() for row in self.rows]
        head = f"{self.adapter}: {len(self.passed)} passed, {len(self.failed)} failed, of {len(self.rows)}"
        return "\n".join([head, *lines])

    __repr__ = __str__


def conformance(adapter: Any) -> Report:
    """Hold an adapter to the contract of dspy.Adapter, feature by feature.

    Args:
        adapter: any dspy.Adapter that reads what it writes; it is copied, not changed.

    Raises:
        TypeError: it is a TwoStepAdapter, which has prose read by a second model.
    """
    if isinstance(adapter, dspy.TwoStepAdapter):
        raise TypeError("a TwoStepAdapter has prose read by a second model; hold that model's adapter to it")
    with quiet_dspy():
        rows = [_row(feature, check, copy.copy(adapter)) for feature, check in REQUIREMENTS.items()]
    return Report(type(adapter).__name__, tuple(rows))


def _row(feature: str, check: Callable[[Any], str], adapter: Any) -> Row:
    try:
        return Row(feature, "passed", check(adapter))
    except NotClaimedError as reason:
        return Row(feature, "not claimed", str(reason))
    except Exception as error:  # border: an unknown adapter may raise anything
        text = str(error) if isinstance(error, AssertionError) else f"raised {type(error).__name__}: {error}"
        return Row(feature, "failed", textwrap.shorten(text, 200, placeholder=" …"))
