"""The service levels: what is promised, what was seen, what each scene took from it, and what to improve.

Main path: judged(observed) -> a Level each; MECHANISMS says by what each is kept, and in which scene.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from course_lib.flight.blame import Raised
from course_lib.flight.parts import Reply, Request
from course_lib.flight.result import Level, Seen
from course_lib.flight.script import Plan
from course_lib.lm.calls import Call
from course_lib.measure import percentile

ANSWERED_SHARE, P99_S, COST_USD, RIGHT_SHARE, MOST_AT_ONCE = 0.96, 4.6, 0.0019, 0.85, 12
_FINE = ("answered", "cached")


class Mechanism(NamedTuple):
    """Something that keeps a level in a scene."""

    scene: str
    level: str
    part: str
    """Of Parts; where it is "system", of what joins them."""
    advice: str


MECHANISMS: Mapping[str, Mechanism] = {
    "cache": Mechanism(
        "calm", "cost per answer", "cache", "keep answers, so that a usual question costs nothing"
    ),
    "bounded runner": Mechanism(
        "peak", "load on the models", "runner", "bound the calls under way, and those that wait"
    ),
    "deadline": Mechanism(
        "slow", "99th percentile", "runner", "end a call, and each attempt, when its time is over"
    ),
    "breaker": Mechanism(
        "slow", "availability", "system", "stop asking a model that fails, so that places stay free"
    ),
    "retry": Mechanism(
        "rate limit", "availability", "system", "ask again when Retry-After is over, within the deadline"
    ),
    "fallback": Mechanism("outage", "availability", "system", "ask another model when the first one is down"),
    "memory level": Mechanism(
        "redis lost", "cost per answer", "cache", "go on with the levels that are left when Redis is gone"
    ),
    "redelivery": Mechanism(
        "worker killed", "jobs", "worker", "acknowledge a job when it is done, and claim those of the dead"
    ),
    "idempotent effects": Mechanism(
        *("worker killed", "jobs", "worker"),
        "the handler is not idempotent; write a job's effect and its id in one transaction",
    ),
    "guard": Mechanism("poisoned", "poisoned input", "system", "refuse such a text before anything reads it"),
    "redaction": Mechanism("poisoned", "privacy", "system", "redact a text before it is kept or sent on"),
    "canary": Mechanism(
        "bad version", "correctness", "canary", "try a version on a share, and take it back by what is seen"
    ),
}
"""What can be switched off, by name."""
_OTHERWISE = {"observability": "monitor, tracer: count and trace each request once, however it ends"}
_BLAMED: Mapping[str, tuple[str, ...]] = {
    "availability": ("documents", "runner", "canary"),
    "99th percentile": ("documents", "runner"),
    "cost per answer": ("cache",),
    "correctness": ("documents", "canary"),
    "jobs": ("worker",),
    "observability": ("tracer", "monitor"),
}
"""What raises in these parts takes from a level, though the system goes on."""


@dataclass
class Observed:
    """What was seen of a flight, from outside of the system."""

    plan: Plan
    seen: list[Seen]
    replies: dict[str, Reply] = field(default_factory=dict)
    jobs: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Those that were sent: the scene, and when."""
    calls: list[tuple[str, Call]] = field(default_factory=list)
    """Of the models' ledger, without the worker's: the scene in which each was seen."""
    leaks: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Planted personal data that was found, by place."""
    errors: Raised = field(default_factory=Raised)
    """What came out of the system at its caller."""
    raised: Raised = field(default_factory=Raised)
    """What each part raised, also where the system went on."""
    metrics: str = ""
    spans: int = 0
    """Those with the name `request`."""

    def search(self, place: str, text: str) -> None:
        """Look for what was planted."""
        self.leaks[place] |= {secret for secret in self.plan.secrets if secret in text}

    @property
    def questions(self) -> list[Seen]:
        """What customers asked."""
        return [each for each in self.seen if each.kind == "question"]


def _share(name: str, bar: float, told: str, all_: list[Seen], bad: list[Seen]) -> Level:
    """Return a level of so many in a hundred; a scene takes percentage points."""
    seen = 1 - len(bad) / max(len(all_), 1)
    took = {scene: 100 * count / len(all_) for scene, count in Counter(each.scene for each in bad).items()}
    return Level(name, f"at least {bar:.0%} {told}", f"{seen:.1%}", seen >= bar, took)


def _none(name: str, bar: str, seen: str, bad: Iterable[str]) -> Level:
    """Return a level that holds when nothing is bad; a scene takes so many."""
    took = Counter(bad)
    return Level(name, bar, seen, not took, {scene: float(count) for scene, count in took.items()})


def _availability(observed: Observed) -> Level:
    asked = [each for each in observed.questions if each.outcome != "refused"]
    failed = [each for each in asked if each.outcome not in _FINE]
    return _share("availability", ANSWERED_SHARE, "are answered by a model", asked, failed)


def _p99(observed: Observed) -> Level:
    took = defaultdict(list)
    for each in observed.questions:
        took[each.scene].append(each.took_s)
    p99_s = percentile([each.took_s for each in observed.questions], 99)
    scenes = {scene: percentile(seconds, 99) for scene, seconds in took.items()}
    return Level("99th percentile", f"at most {P99_S:g} s", f"{p99_s:.2f} s", p99_s <= P99_S, scenes)


def _cost(observed: Observed) -> Level:
    answers = Counter(each.scene for each in observed.questions if each.outcome in _FINE)
    costs = defaultdict[str, float](float)
    for scene, call in observed.calls:
        costs[scene] += call.cost_usd
    each_usd = sum(costs.values()) / max(answers.total(), 1)
    scenes = {scene: cost / max(answers[scene], 1) for scene, cost in costs.items()}
    seen, holds = f"${each_usd:.4f}", each_usd <= COST_USD
    return Level("cost per answer", f"at most ${COST_USD:.4f}", seen, holds, scenes)


def _correctness(observed: Observed) -> Level:
    answers = [each for each in observed.questions if each.is_right is not None]
    wrong = [each for each in answers if not each.is_right]
    level = _share("correctness", RIGHT_SHARE, "of the answers cite the right article", answers, wrong)
    scene = MECHANISMS["canary"].scene
    if within := [each for each in answers if each.scene == scene]:
        share = sum(bool(each.is_right) for each in within) / len(within)
        bar, seen = f'{level.bar}, also within "{scene}"', f"{level.seen}, within the scene {share:.1%}"
        level = replace(level, bar=bar, seen=seen, holds=level.holds and share >= RIGHT_SHARE)
    return level


def _load(observed: Observed) -> Level:
    at_once, most = 0, dict.fromkeys((scene for scene, _ in observed.calls), 0.0)
    begun = [(call.at_s, 1, scene) for scene, call in observed.calls]
    ended = [(call.ended_s, -1, scene) for scene, call in observed.calls]
    for _, change, scene in sorted(begun + ended):
        at_once += change
        most[scene] = max(most[scene], at_once)
    highest = max(most.values(), default=0)
    holds = highest <= MOST_AT_ONCE
    return Level("load on the models", f"at most {MOST_AT_ONCE} calls at once", f"{highest:.0f}", holds, most)


def _jobs(observed: Observed) -> Level:
    bad = [each for each in observed.seen if each.kind == "job" and each.outcome != "done"]
    kinds = Counter(each.outcome for each in bad)
    seen = f"{len(observed.jobs)} sent, {kinds['lost']} lost, {kinds['twice']} done twice"
    level = _none("jobs", "none is lost or done twice", seen, [each.scene for each in bad])
    mechanism = MECHANISMS["idempotent effects" if kinds["twice"] > kinds["lost"] else "redelivery"]
    return replace(level, advice=f"{mechanism.part}: {mechanism.advice}")


def _poison(observed: Observed) -> Level:
    asked = [each for each in observed.plan.sent if isinstance(each.what, Request)]
    refused = {name for name, reply in observed.replies.items() if reply.outcome == "refused"}
    passed = [each.scene for each in asked if not each.article and each.what.id not in refused]
    others = [each.scene for each in asked if each.article and each.what.id in refused]
    poisoned = sum(not each.article for each in asked)
    seen = f"{poisoned} sent, {len(passed)} let through, {len(others)} others refused"
    return _none("poisoned input", "all of it is refused, and nothing else", seen, passed + others)


def _privacy(observed: Observed) -> Level:
    secrets = observed.plan.secrets
    places = [f"{len(found)} in {place}" for place, found in sorted(observed.leaks.items()) if found]
    found = set().union(*observed.leaks.values())
    bar = f"none of {len(secrets)} addresses and card numbers is kept or sent on"
    return _none("privacy", bar, ", ".join(places) or "none", [secrets[secret] for secret in found])


def _counts(observed: Observed) -> Level:
    counted: Counter[str] = Counter()
    with suppress(ValueError, KeyError, IndexError):  # what cannot be read counts nothing
        for family in text_string_to_metric_families(observed.metrics):
            for sample in family.samples:
                if sample.name == "desk_requests_total":
                    counted[sample.labels.get("outcome", "")] += int(sample.value)
    real = Counter(each.outcome for each in observed.questions)
    wrong = ((counted - real) + (real - counted)).total()
    spans = abs(observed.spans - real.total())
    seen = f"{wrong} of {real.total()} counted otherwise, {spans} without a span"
    return _none("observability", "each request is counted and traced", seen, [""] * (wrong + spans))


_LEVELS: tuple[Callable[[Observed], Level], ...] = (
    *(_availability, _p99, _cost, _correctness, _load, _jobs, _poison, _privacy, _counts),
)


def judged(observed: Observed) -> list[Level]:
    """Return each level, with advice where it does not hold."""
    return [_advised(level(observed), observed) for level in _LEVELS]


def _advised(level: Level, observed: Observed) -> Level:
    """Say which part to improve: one that raised, or by the scene that took most, what is for it there."""
    if level.holds:
        return replace(level, advice="")
    raised = Counter({key: n for key, n in observed.raised.items() if key[0] in _BLAMED.get(level.name, ())})
    raised |= observed.errors if level.name == "availability" else Counter()
    if raised:
        told = (
            f"{part}: it raised {name}, {'once' if count == 1 else f'{count} times'}"
            for (part, name), count in raised.most_common(3)
        )
        return replace(level, advice="; ".join(told))
    if level.advice:
        return level
    known = [each for each in MECHANISMS.values() if each.level == level.name]
    known.sort(key=lambda each: -level.by_scene.get(each.scene, 0.0))
    advice = f"{known[0].part}: {known[0].advice}" if known else _OTHERWISE[level.name]
    return replace(level, advice=advice)
