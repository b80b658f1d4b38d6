"""A program that is optimised again when its quality falls: watched, searched within a budget, and gated.

Main path: adaptive.watch(scores) -> the alarm; adaptive.improve(recent, gate) -> a candidate for a Rollout.
Source: the e-CUSUM of Shin, Ramdas and Rinaldo ("E-detectors", NEJSDS 2, 2024, arXiv:2203.03532); and
dspy.MIPROv2 (DSPy 3.4.1), which evaluates each program that it tries by dspy.Evaluate, goes on after any
error there, and returns nothing when it is ended: so what it tries is collected here.

This belongs in a process of its own, such as a nightly job, and never in the path of a request.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from course_lib.debugging import Budget, BudgetExceeded, ObservableModule
from course_lib.deployment.gate import GateError, compare, scored
from course_lib.deployment.programs import SERVED
from course_lib.deployment.registry import Note, Registered, Registry, RegistryError
from course_lib.errors import CourseError
from course_lib.files import lock_folder
from course_lib.redaction import redact

_SEARCH = {"num_candidates": 4, "num_trials": 8, "max_labeled_demos": 16}


class AdaptiveError(CourseError):
    """The settings make no sense, a score is none, or the examples are too few."""


class Drift:
    """Notices that scores between 0 and 1 are no longer as good as they were."""

    def __init__(self, floor: float, *, drop: float = 0.2, quiet: float = 1_000) -> None:
        """Begin to watch.

        Args:
            floor: the mean score that is still good enough.
            drop: how far below it the mean is to be noticed soonest.
            quiet: as long as each score's mean is `floor` or more, whatever the scores were before, a false
                alarm comes after so many scores or more on average.

        Raises:
            AdaptiveError: these are no such values.
        """
        if not (0 < drop < floor < 1 and quiet > 1):
            told = f"floor={floor!r}, drop={drop!r}, quiet={quiet!r}"
            raise AdaptiveError(f"{told}: drop is above 0, floor between drop and 1, quiet above 1")
        self._floor, self.quiet = floor, quiet
        self._stake = drop / (floor * (1 - floor))
        """The bet that grows fastest if scores of 0 and 1 have the mean floor - drop."""
        self.evidence = 1.0
        """What a bet on lower scores has won since it last was 1: `quiet` is the alarm, below 1 it ends."""

    def add(self, score: float) -> bool:
        """Take one score; return whether the alarm is given."""
        if not 0 <= score <= 1:  # nor is NaN
            raise AdaptiveError(f"a score of {score!r} is not between 0 and 1; scale the metric")
        self.evidence = max(self.evidence, 1.0) * (1 + self._stake * (self._floor - score))
        return self.evidence >= self.quiet


class AdaptiveOptimizer:
    """Watches a program's live version, and looks for a better one when it is no longer good enough.

    All that it decides is in the registry (`Registry.notes`): any number of processes may watch a program,
    one of them at a time improves it, and one that was killed leaves nothing half done.
    """

    def __init__(
        self,
        registry: Registry,
        program: str,
        metric: Callable[..., Any],
        *,
        budget: Budget,
        drift: Callable[[], Drift],
        cool_down_s: float = 86_400.0,
        search: Mapping[str, Any] = _SEARCH,
    ) -> None:
        """Begin to watch a version.

        Args:
            registry: where the versions are.
            program: of the service.
            metric: scores an example and a prediction, 0 to 1.
            budget: of one search, for what it evaluates and what writes the instructions. The gate is not in
                it: it scores two versions, each on all of its examples.
            drift: makes the watch for a version that has become live.
            cool_down_s: so long after an attempt that led to nothing no other is made.
            search: options of dspy.MIPROv2 and its compile().
        """
        self.registry, self.program, self.metric, self.budget = registry, program, metric, budget
        self._make_drift, self._cool_down = drift, timedelta(seconds=cool_down_s)
        self._search, self._knows_alarm = dict(search), False
        self._watched: tuple[str, datetime] | None = None

    def watch(self, scores: Sequence[float]) -> bool:
        """Take scores of the live version's answers, oldest first; return whether its quality has fallen.

        An alarm is for the present: it ends when later scores are so good that the bet is lost again, and
        with the version that is live. Whoever begins to watch meanwhile goes on from it.

        Raises:
            RegistryError: no version is live.
        """
        live, is_alarmed = self._live(), self._is_alarmed()
        if (live.version, live.changed) != self._watched:
            self.drift, self._watched = self._make_drift(), (live.version, live.changed)
            self._knows_alarm = False
        if is_alarmed and not self._knows_alarm:
            self.drift.evidence = max(self.drift.evidence, self.drift.quiet)
        for score in scores:
            is_low = self.drift.add(score)
            if is_low and not is_alarmed:
                is_alarmed = True
                won = f"a bet on lower scores has won {self.drift.evidence:.0f} times its stake"
                self._note("drift", won)
            elif is_alarmed and self.drift.evidence < 1:
                is_alarmed = False
                self._note("recovered", "the bet on lower scores is lost again")
        self._knows_alarm = is_alarmed
        return is_alarmed

    def is_due(self) -> bool:
        """Return whether to search: quality fell, no candidate is on its way, and nothing failed just now."""
        version = self._live().version
        children = [each for each in self.registry.versions(self.program) if each.parent == version]
        ends = [each.changed for each in children] + [each.when for each in self._notes("refused", "nothing")]
        is_cool = not ends or datetime.now(UTC) - max(ends) >= self._cool_down
        is_under_way = any(each.stage in ("candidate", "canary") for each in children)
        return self._is_alarmed() and is_cool and not is_under_way

    def improve(self, recent: Sequence[dspy.Example], gate: Sequence[dspy.Example]) -> Registered | None:
        """Search for a better version, if that is due; return it as a candidate if the gate lets it through.

        It asks the model of dspy.settings. Who comes while another process is at it waits for the outcome.

        A program shows the tickets that it has learned from in the requests of every tenant, and no erasure
        reaches them. They are redacted here, as requests are; what that does not find stays. So take tickets
        of customers who have agreed, or rewrite them.

        Args:
            recent: labelled examples; every second one may be shown in prompts, the others judge those.
            gate: labelled examples that the search does not see.

        Raises:
            RegistryError: no version is live, or its file was changed.
            AdaptiveError: there are too few examples.
            GateError: the metric gives no scores between 0 and 1; the cool-down begins all the same.
        """
        if len(recent) < 4 or not gate:
            raise AdaptiveError(f"{len(recent)} recent examples and {len(gate)} for the gate are too few")
        with lock_folder(self.registry.folder / self.program):
            if not self.is_due():
                return None
            live = self._live()
            current = self.registry.load(self.program, live.version)
            found, told = self._best([_redacted(each) for each in recent])
            if found is None:
                self._note("nothing", told)
                return None
            try:
                before, after = [scored(each, gate, self.metric) for each in (current, found)]
                verdict = compare(before, after)
            except GateError as error:
                self._note("refused", f"{error}; {told}")
                raise
            if verdict.decision != "promote":
                self._note("refused", f"{verdict.reason}; {told}")
                return None
            version = self._free_name()
            self._note("candidate", f"{version}: {verdict.reason}; {told}")
            return self.registry.register(self.program, found, version, parent=live.version, scores=after)

    def _best(self, recent: Sequence[dspy.Example]) -> tuple[dspy.Module | None, str]:
        """Return the best program that was tried within the budget, if any was, and what happened.

        It begins with the program as it was written: what the live version says and shows may be outdated.
        """
        tried, ended = _Tried(), "it ended by itself"
        search = ObservableModule(_Search(self.metric, self._search), per_request=self.budget)
        with dspy.context(callbacks=[tried, *dspy.settings.callbacks]):
            try:
                search(student=SERVED[self.program].make(), shown=recent[::2], judging=recent[1::2])
            except (Exception, _Stopped) as error:  # border: an optimizer, which raises what it likes
                ended = f"it was stopped: {error}"
        best = max(tried.programs, key=lambda each: each[0], default=(0.0, None))
        return best[1], f"{len(tried.programs)} programs were tried in the search; {ended}"

    def _live(self) -> Registered:
        if (live := self.registry.live(self.program)) is None:
            raise RegistryError(f"no version of {self.program} is live; promote one before it is watched")
        return live

    def _is_alarmed(self) -> bool:
        return any(each.kind == "drift" for each in self._notes("drift", "recovered")[-1:])

    def _notes(self, *kinds: str) -> list[Note]:
        """Return the notes of these kinds on the live version since it became live."""
        live, notes = self._live(), self.registry.notes(self.program)
        mine = [each for each in notes if each.version == live.version and each.when >= live.changed]
        return [each for each in mine if each.kind in kinds]

    def _note(self, kind: str, reason: str) -> None:
        self.registry.note(self.program, self._live().version, kind, reason)

    def _free_name(self) -> str:
        folder, first = self.registry.folder / self.program, len(self.registry.versions(self.program)) + 1
        return next(str(name) for name in itertools.count(first) if not (folder / f"{name}.json").exists())


def _redacted(example: dspy.Example) -> dspy.Example:
    return example.copy(**{name: redact(each) for name, each in example.items() if isinstance(each, str)})


class _Search(dspy.Module):
    """A search as a module's call, so that the budget of a request holds for all of it."""

    def __init__(self, metric: Callable[..., Any], options: Mapping[str, Any]) -> None:
        super().__init__()
        self._trials = options["num_trials"]
        self._options = {"metric": metric, "auto": None, "num_threads": 4, **options}
        del self._options["num_trials"]

    def forward(self, student: dspy.Module, shown: list[Any], judging: list[Any]) -> dspy.Module:
        optimizer = dspy.MIPROv2(max_errors=len(judging), **self._options)
        return optimizer.compile(
            student, trainset=shown, valset=judging, num_trials=self._trials, minibatch=False
        )


class _Stopped(BaseException):
    """Ends an optimizer, which takes any Exception of an evaluation for a score of 0."""


class _Tried(BaseCallback):
    """Collects the programs that an optimizer evaluates, with their scores, until the budget is spent."""

    def __init__(self) -> None:
        self.programs: list[tuple[float, dspy.Module]] = []
        self._under_way: dict[str, dspy.Module] = {}
        self._spent: Exception | None = None

    def on_lm_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:  # noqa: ARG002
        if isinstance(exception, BudgetExceeded):
            self._spent = exception

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:  # noqa: ARG002
        if self._spent:
            raise _Stopped(str(self._spent))
        self._under_way[call_id] = inputs["program"]

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:  # noqa: ARG002
        program = self._under_way.pop(call_id)
        if outputs is not None and not self._spent:
            self.programs.append((outputs.score, program))
