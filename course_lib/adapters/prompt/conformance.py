"""A suite that any dspy.Adapter can be held to: does it work with everything that programs do?

Main path: conformance(CustomAdapter()) -> Report; `print(report)`, or `report.rows` for a table.
Source: dspy.Adapter's contract (dspy/adapters/base.py, DSPy 3.4.1). The adapter talks to a scripted model,
which replies in the adapter's own rendering, so that a row tells of the adapter and of nothing else; with
`lm=` a real model is asked as well. The checks themselves are in requirements.py and roundtrips.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from course_lib.adapters.prompt.quiet import quiet_dspy
from course_lib.adapters.prompt.requirements import REQUIREMENTS, answers_a_model
from course_lib.adapters.prompt.stand import NotClaimedError, Stand
from course_lib.errors import CourseError

Outcome = Literal["passed", "failed", "not claimed"]


class NoSuchRowError(CourseError):
    """A report was asked for a feature that the suite does not have."""


@dataclass(frozen=True, slots=True)
class Row:
    """One feature."""

    feature: str
    outcome: Outcome
    observed: str
    """What was seen; for a failure, what is wrong."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an adapter does and does not."""

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

    @property
    def conforms(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def row(self, feature: str) -> Row:
        """Return the row of a feature.

        Raises:
            NoSuchRowError: the suite has no feature of that name.
        """
        for row in self.rows:
            if row.feature == feature:
                return row
        known = ", ".join(row.feature for row in self.rows)
        raise NoSuchRowError(f"no feature {feature!r} in the report; it has: {known}")

    def __str__(self) -> str:
        width = max((len(row.feature) for row in self.rows), default=0)
        lines = [f"{row.feature:{width}}  {row.outcome:11}  {row.observed}".rstrip() for row in self.rows]
        head = f"{self.adapter}: {len(self.passed)} passed, {len(self.failed)} failed, of {len(self.rows)}"
        return "\n".join([head, *lines])

    __repr__ = __str__


def conformance(adapter: Any, lm: Any = None) -> Report:
    """Hold an adapter to the contract of dspy.Adapter, feature by feature.

    Args:
        adapter: any dspy.Adapter; it is copied, not changed. If it has an `extraction_model`, as
            TwoStepAdapter has, that is scripted as well.
        lm: a dspy.LM that is also asked, for a last row about answers from a model. Default: none.
    """
    stand = Stand(adapter)
    with quiet_dspy():
        rows = [_row(feature, check, stand) for feature, check in REQUIREMENTS.items()]
        if lm is not None:
            rows.append(_row("answers from a model", lambda _: answers_a_model(adapter, lm), stand))
    return Report(type(adapter).__name__, tuple(rows))


def _row(feature: str, check: Any, stand: Stand) -> Row:
    try:
        return Row(feature, "passed", check(stand))
    except NotClaimedError as reason:
        return Row(feature, "not claimed", str(reason))
    except AssertionError as wrong:
        return Row(feature, "failed", _one_line(str(wrong)))
    except Exception as error:  # border: an unknown adapter may raise anything
        return Row(feature, "failed", _one_line(f"raised {type(error).__name__}: {error}"))


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
