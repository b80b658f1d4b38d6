"""A verdict on the client, from what the endpoint saw: does it wait when told to, and stop in time?

Main path: lm.verdict(deadline_s=5) -> Verdict; `assert lm.verdict().is_clean`, when the client is done.

A request is a retry if it asks the same (Call.question) as the one before it, which failed, and comes not
more than LONGEST_PAUSE_S after it may. Where two requests for the same overlap, none of them is: nobody can
tell a retry from another user's request, so put a number into each question. What may be honest is let pass.
"""

from __future__ import annotations

import math
import reprlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from course_lib.lm.calls import Call

LONGEST_PAUSE_S = 10.0
_TICK_S, _MORE = 0.01, 1.1  # for clocks and a machine under load, in the client's favour
_MIN_PAUSES, _NO_PAUSE_S = 4, 0.02
_MIN_QUESTIONS = 5
_NOTICED_S = 0.2  # so late may a busy endpoint notice that a client has left


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which the client misbehaved."""

    kind: str
    """`retry_after_ignored`, `retry_storm`, `truncated_taken`, `gave_up_early` or `beyond_deadline`."""
    count: int
    """How many questions it concerns; for `retry_after_ignored`, requests."""
    requests: tuple[int, ...]
    """The numbers of the requests on which it rests, as in Call."""
    sentence: str
    """What was seen."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.count}): {self.sentence}; requests {reprlib.repr(self.requests)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said against a client; nothing, if it is clean."""

    findings: tuple[Finding, ...]
    requests: int
    """How many were judged: the latest few thousand, if there were more."""
    questions: int
    """How many different ones they asked; a retry asks no new one."""

    @property
    def is_clean(self) -> bool:
        """True when there is no finding."""
        return not self.findings

    def __repr__(self) -> str:
        lines = [f"\n- {each}" for each in self.findings]
        found = f"{len(lines)} findings" if lines else "clean"
        return f"Verdict({found}; {self.requests} requests, {self.questions} questions{''.join(lines)})"


@dataclass(slots=True)
class Judge:
    """The rules, over one client's calls; each returns the requests of every case that it finds."""

    calls: Sequence[Call]
    deadline_s: float | None = None
    most_wait_s: float = 60.0
    most_sent: int = 6
    most_ratio: float = 4.0
    _same: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    _questions: list[list[Call]] = field(default_factory=list)

    def verdict(self) -> Verdict:
        """Apply every rule."""
        self._group()
        findings = []
        for kind, rule, sentence in _RULES:
            if cases := rule(self):
                numbers = tuple(call.number for case in cases for call in case)
                findings.append(Finding(kind, len(cases), numbers, sentence))
        return Verdict(tuple(findings), len(self.calls), len(self._questions))

    def _group(self) -> None:
        """Put each request behind the failed one that it repeats, if none of its question overlap."""
        for call in sorted(self.calls, key=lambda call: call.at_s):
            self._same[call.question].append(call)
        for calls in self._same.values():
            is_shared = any(later.at_s < call.ended_s - _TICK_S for call, later in pairwise(calls))
            for at, call in enumerate(calls):
                if at and not is_shared and self._follows(call, calls[at - 1]):
                    self._questions[-1].append(call)
                else:
                    self._questions.append([call])

    def _follows(self, call: Call, failed: Call) -> bool:
        return failed.is_failed and call.at_s - failed.ended_s <= failed.retry_after_s + LONGEST_PAUSE_S

    def _is_early(self, call: Call, failed: Call) -> bool:
        wait_s = min(failed.retry_after_s, self.most_wait_s)
        is_same = (call.model, call.profile) == (failed.model, failed.profile)
        told_s = failed.at_s + failed.ttft_ms / 1000  # from before it was sent, so never too late
        return is_same and call.at_s - told_s < min(wait_s - _TICK_S, wait_s / _MORE)

    def _uninvited(self, attempts: list[Call]) -> list[tuple[Call, Call]]:
        """Return each retry, behind what failed, that did not wait as it was asked to."""
        return [(a, b) for a, b in pairwise(attempts) if not a.retry_after_s or self._is_early(b, a)]

    def retry_after_ignored(self) -> list[list[Call]]:
        """The same came to the same model before the time that was asked for, `most_wait_s` at most."""
        return [
            [call]
            for attempts in self._questions
            for at, call in enumerate(attempts)
            if any(each.retry_after_s and self._is_early(call, each) for each in attempts[:at])
        ]

    def retry_storm(self) -> list[list[Call]]:
        """A question was sent more than `most_sent` times, or on and on without growing pauses.

        Or five questions or more were sent more than `most_ratio` times each, on average. Retries that waited
        as they were asked to are not counted. On and on: four times or more to one model, at once or at a
        steady beat.
        """
        again = [each for each in self._questions if self._uninvited(each)]
        ratio = 1 + sum(len(self._uninvited(each)) for each in again) / max(1, len(self._questions))
        if len(self._questions) >= _MIN_QUESTIONS and ratio > self.most_ratio:
            return again
        return [
            each for each in again if len(self._uninvited(each)) >= self.most_sent or self._is_steady(each)
        ]

    def _is_steady(self, attempts: list[Call]) -> bool:
        retries = [(a, b) for a, b in self._uninvited(attempts) if a.model == b.model]
        pauses_s = sorted(b.at_s - a.ended_s for a, b in retries)
        return len(retries) >= _MIN_PAUSES and pauses_s[-1] < max(_NO_PAUSE_S, _MORE * pauses_s[0])

    def truncated_taken(self) -> list[list[Call]]:
        """A stream was cut, without finish reason or broken, and the same question never came again."""
        lasts = [each[-1:] for each in self._questions if each[-1].stream and each[-1].is_half]
        return [last for last in lasts if not self._after(last[0])]

    def _after(self, call: Call) -> list[Call]:
        """Return the other requests of the same question that ended after this one came."""
        return [each for each in self._same[call.question] if each is not call and each.ended_s > call.at_s]

    def gave_up_early(self) -> list[list[Call]]:
        """The client left before the first byte and got no other answer, though one was due in time.

        It left in the first half of `deadline_s` after the question's first request, and the answer was due
        before 0.9 of it: a client's clock begins before its request arrives. Without one, nothing is early.
        """
        return [each[-1:] for each in self._questions if self._left_early(each[0], each[-1])]

    def _left_early(self, first: Call, left: Call) -> bool:
        is_waiting = left.status == 499 and left.ttft_ms == left.duration_ms < left.due_ms
        deadline_s, due_s = self.deadline_s or 0.0, left.at_s + left.due_ms / 1000
        is_due = left.ended_s - first.at_s < deadline_s / 2 and due_s - first.at_s < 0.9 * deadline_s
        return is_waiting and is_due and all(each.is_failed for each in self._after(left))

    def beyond_deadline(self) -> list[list[Call]]:
        """A question's last request ended later than `deadline_s` after its first one came."""
        most_s = math.inf if self.deadline_s is None else _MORE * self.deadline_s + _NOTICED_S
        return [each for each in self._questions if each[-1].ended_s - each[0].at_s > most_s]


_RULES: tuple[tuple[str, Callable[[Judge], list[list[Call]]], str], ...] = (
    ("retry_after_ignored", Judge.retry_after_ignored, "a request came again before it was allowed to"),
    ("retry_storm", Judge.retry_storm, "a question was sent too often, or without growing pauses"),
    ("truncated_taken", Judge.truncated_taken, "a stream broke off, and its question never came again"),
    ("gave_up_early", Judge.gave_up_early, "an answer was due in time, but the client had left"),
    ("beyond_deadline", Judge.beyond_deadline, "a question went on beyond its deadline"),
)
