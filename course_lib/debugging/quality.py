"""Where quality is lost: the first step that went wrong in each example, and which labels are mixed up.

Main path: error_analysis(results, steps), confusion(results, "category"); results are those of dspy.Evaluate,
or pairs of example and prediction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from course_lib.errors import CourseError

MISSING = "(none)"
"""The label of a prediction that has none."""
Pair = tuple[Any, Any]
Check = Callable[[Any, Any], bool | None]
"""Says of an example and a prediction whether a step was right; None where it is not to be judged."""


def _pairs(results: Any) -> list[Pair]:
    """Return (example, prediction) of what dspy.Evaluate returned, or of pairs."""
    rows = getattr(results, "results", results)
    return [(row[0], row[1]) for row in rows]


def _field(record: Any, name: str) -> Any:
    return record.get(name) if hasattr(record, "get") else getattr(record, name, None)


@dataclass(frozen=True, slots=True, repr=False)
class ErrorAnalysis:
    """For each step, the examples in which it was the first to go wrong."""

    first_wrong: Mapping[str, tuple[Pair, ...]]
    """By step, in their order; the errors that follow from an earlier step are counted there."""
    reached: Mapping[str, int]
    """For how many examples a step came to be judged, with all before it right."""
    examples: int

    def __repr__(self) -> str:
        lost = sum(map(len, self.first_wrong.values()))
        rows = [
            f"{len(pairs):5} of {self.reached[step]:4}  {step}" for step, pairs in self.first_wrong.items()
        ]
        head = f"{self.examples - lost} of {self.examples} examples are right in every step"
        return "\n".join([head, "first wrong    step", *rows])


def error_analysis(results: Any, steps: Mapping[str, Check]) -> ErrorAnalysis:
    """Find for each example the first step that went wrong.

    Args:
        results: what dspy.Evaluate returned, or (example, prediction) pairs.
        steps: by name, in the order in which the program takes them, how to judge each: a function of example
            and prediction. Judge a step by what it was given: of an answer whose articles were wrong, what it
            made of them is not the question.

    Raises:
        CourseError: there are no steps.
    """
    if not steps:
        raise CourseError(
            'give at least one step: error_analysis(results, {"find": lambda example, pred: ...})'
        )
    pairs = _pairs(results)
    wrong: dict[str, list[Pair]] = {step: [] for step in steps}
    reached = Counter[str]()
    for example, pred in pairs:
        for step, is_right in steps.items():
            verdict = is_right(example, pred)
            reached[step] += verdict is not None
            if verdict is not None and not verdict:
                wrong[step].append((example, pred))
                break
    first_wrong = {step: tuple(found) for step, found in wrong.items()}
    return ErrorAnalysis(first_wrong, {step: reached[step] for step in steps}, len(pairs))


@dataclass(frozen=True, slots=True, repr=False)
class Confusion:
    """How often each label was taken for each other one."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """A row for each true label, a column for each predicted one, in the order of `labels`."""

    @property
    def total(self) -> int:
        """How many examples there are."""
        return sum(map(sum, self.counts))

    @property
    def accuracy(self) -> float:
        """Share of the examples that are right; 0 without any."""
        right = sum(row[at] for at, row in enumerate(self.counts))
        return right / self.total if self.total else 0.0

    def __repr__(self) -> str:
        width = max(map(len, (*self.labels, "true \\ predicted")))
        columns = [max(len(label), 4) for label in self.labels]
        rows = [["true \\ predicted", *self.labels]]
        rows += [[label, *map(str, row)] for label, row in zip(self.labels, self.counts, strict=True)]
        lines = [
            "  ".join(
                [head.ljust(width), *(cell.rjust(wide) for cell, wide in zip(cells, columns, strict=True))]
            )
            for head, *cells in rows
        ]
        return "\n".join([*lines, f"{self.accuracy:.0%} of {self.total} right"])


def confusion(results: Any, field: str, labels: Sequence[Any] = ()) -> Confusion:
    """Count how often each value of a field was taken for each other one.

    Args:
        results: what dspy.Evaluate returned, or (example, prediction) pairs.
        field: in the example it is the true label, in the prediction the predicted one; a prediction without
            it, such as one of a failed call, counts as "(none)".
        labels: their order; what is found beside them comes behind, sorted.
    """
    pairs = Counter(
        (_label(_field(example, field)), _label(_field(pred, field))) for example, pred in _pairs(results)
    )
    found = {label for pair in pairs for label in pair} | {*map(str, labels)}
    order = [
        *map(str, labels),
        *sorted(found - {*map(str, labels)}, key=lambda each: (each == MISSING, each)),
    ]
    return Confusion(tuple(order), tuple(tuple(pairs[true, taken] for taken in order) for true in order))


def _label(value: Any) -> str:
    return MISSING if value is None else str(value)
