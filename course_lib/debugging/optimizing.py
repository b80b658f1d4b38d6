"""What an optimizer tried: its candidates, where each came from, which examples it won and lost.

Main path: with OptimizerLog() as log: optimizer.compile(...); print(log); log.diff(0, 3); log.lineage().
With OptimizerLog(answers=440) a bar follows the answers that are judged, of so many that are expected.
Source: the callbacks on_compile and on_evaluate, and `detailed_results` of a program that GEPA compiled with
track_stats=True (DSPy 3.4.1). MIPROv2 evaluates every one of its `candidate_programs` by dspy.Evaluate.
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Self

import dspy
from dspy.utils.callback import BaseCallback
from tqdm import tqdm  # type: ignore[import-untyped]

from course_lib.debugging.graph import Graph
from course_lib.errors import CourseError
from course_lib.lm.recordings import differing


@dataclass(slots=True)
class Candidate:
    """A program that was tried."""

    number: int
    """0 is the program that the optimizer was given."""
    instructions: Mapping[str, str]
    """By the name of the predictor."""
    demos: Mapping[str, int]
    """How many, by the name of the predictor."""
    parents: tuple[int, ...] = ()
    """The candidates from which it was made."""
    scores: dict[str, float] = field(default_factory=dict)
    """What the metric said, by example: its `id`, or else its inputs."""

    @property
    def score(self) -> float:
        """The mean over the examples on which it was tried; 0 without any."""
        return fmean(self.scores.values()) if self.scores else 0.0

    def __str__(self) -> str:
        parents = ", ".join(map(str, self.parents))
        demos = sum(self.demos.values())
        words = " ".join(" / ".join(self.instructions.values()).split())
        shown = words if len(words) <= 60 else f"{words[:57]}..."
        return f"{self.number:3} {parents:>6} {self.score:6.1%} {len(self.scores):8} {demos:5}  {shown}"


class OptimizerLog(BaseCallback):
    """Listens to an optimizer in its `with` block; `candidates` is what it tried, in that order."""

    def __init__(self, *, answers: int | None = None) -> None:
        self._context: Any = None
        self._answers, self._bar = answers, tqdm(disable=True)
        self._begin("", "")

    def _begin(self, call_id: str, optimizer: str) -> None:
        self.candidates: list[Candidate] = []
        self.optimizer = optimizer
        """The class of the optimizer that ran last; empty before one has."""
        self._outermost, self._valset = call_id, list[Any]()
        self._numbers: dict[str, int] = {}
        self._programs: dict[str, int] = {}

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._context = dspy.context(callbacks=[*dspy.settings.callbacks, self])
        self._context.__enter__()
        is_quiet = self._answers is None
        self._bar = tqdm(total=self._answers, desc="answers judged", disable=is_quiet)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop listening."""
        self._bar.total = max(self._bar.n, self._answers or 0)  # GEPA ends the round in which it has enough
        self._bar.close()
        self._context.__exit__(*error)

    # -- what was seen -------------------------------------------------------------------------------

    @property
    def best(self) -> Candidate:
        """The candidate with the highest score, among those that were tried on the most examples.

        Raises:
            CourseError: nothing was tried.
        """
        if not self.candidates:
            raise CourseError("no optimizer has tried anything; compile a program in the log's with block")
        most = max(len(each.scores) for each in self.candidates)
        return max(
            (each for each in self.candidates if len(each.scores) == most), key=lambda each: each.score
        )

    def diff(self, before: int, after: int) -> str:
        """Return how the instructions of two candidates differ, line by line, for each predictor."""
        old, new = self.candidates[before].instructions, self.candidates[after].instructions
        found = []
        for name in dict.fromkeys([*old, *new]):
            lines = differing(old.get(name, "").split("\n"), new.get(name, "").split("\n"), most=40)
            found += [f"{name}:", *(f"  {line}" for line in lines)] if lines else []
        return "\n".join(found) or "The instructions are alike."

    def won_lost(self, before: int, after: int) -> tuple[list[str], list[str]]:
        """Return the examples on which `after` scores higher than `before`, and those on which lower.

        Only those count on which both were tried.
        """
        old, new = self.candidates[before].scores, self.candidates[after].scores
        both = [each for each in old if each in new]
        return [each for each in both if new[each] > old[each]], [
            each for each in both if new[each] < old[each]
        ]

    def lineage(self) -> Graph:
        """Return a graph: each candidate below its parents, with its score and the examples won and lost."""
        boxes, arrows = list[tuple[str, ...]](), list[tuple[int, int]]()
        for one in self.candidates:
            changed = [self.won_lost(parent, one.number) for parent in one.parents]
            told = [f"{len(won)} won, {len(lost)} lost" for won, lost in changed]
            boxes.append((f"{one.number}: {one.score:.0%}{', best' * (one is self.best)}", *told))
            arrows += [(parent, one.number) for parent in one.parents]
        return Graph(f"What {self.optimizer or 'the optimizer'} tried", boxes, arrows, repr(self))

    def __repr__(self) -> str:
        head = "  #   from  score examples demos  instructions"
        return "\n".join([f"{self.optimizer or 'No optimizer yet'}", head, *map(str, self.candidates)])

    # -- what DSPy calls -----------------------------------------------------------------------------

    def on_compile_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:
        """Begin with the program that is given; an optimizer within another one is part of it."""
        if not self._outermost:
            self._begin(call_id, type(instance).__name__)
            kwargs = {**inputs, **(inputs.get("kwargs") or {})}
            self._valset = list(kwargs.get("valset") or kwargs.get("trainset") or ())
            if isinstance(kwargs.get("student"), dspy.Module):
                self._candidate(kwargs["student"])

    def on_compile_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Take the lineage from the compiled program, where it has one."""
        if call_id != self._outermost:
            return
        self._outermost = ""
        if details := getattr(outputs, "detailed_results", None):
            self._take(details)
        for one in self.candidates:
            one.parents = one.parents or (() if one.number == 0 else (0,))

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Note which program is evaluated, as it is now."""
        if self._outermost:
            self._programs[call_id] = self._candidate(inputs["program"]).number

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Note what the metric said of each example."""
        number = self._programs.pop(call_id, None)
        if number is not None and outputs is not None:
            self._bar.update(len(outputs.results))
            scores = {_name(example): float(score) for example, _, score in outputs.results}
            self.candidates[number].scores.update(scores)

    def _candidate(self, program: Any) -> Candidate:
        """Return the candidate that this program is, a new one if nobody has tried its like."""
        predictors = dict(program.named_predictors())
        instructions = {name: str(each.signature.instructions) for name, each in predictors.items()}
        demos = {name: [str(demo) for demo in each.demos] for name, each in predictors.items()}
        identity = json.dumps([instructions, demos], sort_keys=True)
        if identity not in self._numbers:
            self._numbers[identity] = len(self.candidates)
            counts = {name: len(each) for name, each in demos.items()}
            self.candidates.append(Candidate(len(self.candidates), instructions, counts))
        return self.candidates[self._numbers[identity]]

    def _take(self, details: Any) -> None:
        """Take GEPA's own candidates: those that it kept, with their parents and scores on the valset."""
        names: Sequence[str] = [_name(example) for example in self._valset]
        self._numbers, self.candidates = {}, []
        kept = [self._candidate(program).number for program in details.candidates]
        for number, parents, scores in zip(kept, details.parents, details.val_subscores, strict=True):
            one = self.candidates[number]
            earlier = [kept[each] for each in parents if each is not None]
            one.parents = one.parents or tuple(
                each for each in earlier if each < number
            )  # else written twice
            one.scores.update({names[at]: float(score) for at, score in scores.items()})


def _name(example: Any) -> str:
    given = example.get("id") if hasattr(example, "get") else None
    return str(given) if given is not None else str(dict(example.inputs()))
