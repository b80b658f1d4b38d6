"""The service levels: what is promised, what was seen, what each scene took from it, and what to improve.

Main path: judged(observed) -> a Level each, in the order of LEVELS; MECHANISMS names what each is kept by.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from course_lib.flight.parts import Reply
from course_lib.flight.result import Level, Seen
from course_lib.flight.script import Plan
from course_lib.lm.calls import Call
from course_lib.measure import percentile

ANSWERED_SHARE, P99_S, COST_USD, RIGHT_SHARE, MOST_AT_ONCE = 0.96, 4.6, 0.0022, 0.9, 16
_FINE = ("answered", "cached")

MECHANISMS: Mapping[str, tuple[str, str]] = {
    "cache": ("calm", "cost per answer"),
    "bounded runner": ("peak", "load on the models"),
    "deadline": ("slow", "99th percentile"),
    "breaker": ("slow", "availability"),
    "retry": ("rate limit", "availability"),
    "fallback": ("outage", "availability"),
    "memory level": ("redis lost", "cost per answer"),
    "redelivery": ("worker killed", "jobs"),
    "idempotent effects": ("worker killed", "jobs"),
    "guard": ("poisoned", "poisoned input"),
    "redaction": ("poisoned", "privacy"),
    "canary": ("bad version", "correctness"),
}
"""What can be switched off: the scene that it is for, and the level that fails without it."""


@dataclass
class Observed:
    """What was seen of a flight, from outside of the system."""

    plan: Plan
    seen: list[Seen]
    replies: dict[str, Reply] = field(default_factory=dict)
    jobs: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Those that were taken: the scene, and when."""
    done: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[str, Call]] = field(default_factory=list)
    """Of the models' ledger, without the worker's: the scene in which each was seen."""
    since: int = 0
    places: dict[str, str] = field(default_factory=dict)
    """Where personal data may be, at the end."""
    leaks: Counter[str] = field(default_factory=Counter)
    """Found during the flight, by place."""
    spans: Counter[str] = field(default_factory=Counter)
    metrics: str = ""

    def search(self, place: str, text: str) -> None:
        """Look for what was planted."""
        self.leaks[place] = max(self.leaks[place], sum(secret in text for secret in self.plan.secrets))

    @property
    def questions(self) -> list[Seen]:
        """What customers asked."""
        return [each for each in self.seen if each.kind == "question"]


def _by_scene(bad: Iterable[str], total: int) -> dict[str, float]:
    """Return each scene's part of the whole, in percent."""
    return {scene: round(100 * count / max(total, 1), 2) for scene, count in Counter(bad).items()}


def _availability(observed: Observed) -> Level:
    asked = [each for each in observed.questions if each.scene]
    clean = [each for each in asked if each.outcome != "refused"]
    failed = [each.scene for each in clean if each.outcome not in _FINE]
    share = 1 - len(failed) / max(len(clean), 1)
    return Level(
        "availability", f"at least {ANSWERED_SHARE:.0%} are answered by a model", f"{share:.1%}",
        share >= ANSWERED_SHARE, _by_scene(failed, len(clean)),
    )


def _p99(observed: Observed) -> Level:
    by_scene = defaultdict(list)
    for each in observed.questions:
        by_scene[each.scene].append(each.took_s)
    p99_s = percentile([each.took_s for each in observed.questions], 99)
    scenes = {scene: round(percentile(took, 99), 2) for scene, took in by_scene.items()}
    return Level("99th percentile", f"at most {P99_S:g} s", f"{p99_s:.2f} s", p99_s <= P99_S, scenes)


def _cost(observed: Observed) -> Level:
    answers = Counter(each.scene for each in observed.questions if each.outcome in _FINE)
    costs: Counter[str] = Counter()
    for scene, call in observed.calls:
        costs[scene] += call.cost_usd  # type: ignore[assignment]
    each_usd = sum(costs.values()) / max(answers.total(), 1)
    scenes = {scene: round(cost / max(answers[scene], 1), 6) for scene, cost in costs.items()}
    return Level(
        "cost per answer", f"at most ${COST_USD:.4f}", f"${each_usd:.4f}", each_usd <= COST_USD, scenes
    )


def _correctness(observed: Observed) -> Level:
    judged_ = [each for each in observed.questions if each.is_right is not None]
    wrong = [each.scene for each in judged_ if not each.is_right]
    share = 1 - len(wrong) / max(len(judged_), 1)
    return Level(
        "correctness", f"at least {RIGHT_SHARE:.0%} of the answers cite the right article", f"{share:.1%}",
        share >= RIGHT_SHARE, _by_scene(wrong, len(judged_)),
    )


def _load(observed: Observed) -> Level:
    most: dict[str, int] = {}
    events = sorted(
        event
        for scene, call in observed.calls
        for event in ((call.at_s, 1, scene), (call.ended_s, -1, scene))
    )
    at_once = 0
    for _, change, scene in events:
        at_once += change
        most[scene] = max(most.get(scene, 0), at_once)
    highest = max(most.values(), default=0)
    return Level(
        "load on the models", f"at most {MOST_AT_ONCE} requests at once", f"{highest}",
        highest <= MOST_AT_ONCE, dict(most),
    )


def _jobs(observed: Observed) -> Level:
    bad = [each for each in observed.seen if each.kind == "job" and each.outcome != "done"]
    kinds = Counter(each.outcome for each in bad)
    seen = f"{len(observed.jobs)} taken, {kinds['lost']} lost, {kinds['twice']} done twice"
    return Level("jobs", "none is lost, none is done twice", seen, not bad, dict(Counter(each.scene for each in bad)))


def _poison(observed: Observed) -> Level:
    poisoned = [one for one in observed.plan.sent if hasattr(one.what, "tenant") and one.article is None and one.what.id.startswith("q-")]
    passed = [one.scene for one in poisoned if observed.replies[one.what.id].outcome != "refused"]
    clean = [one.scene for one in observed.plan.sent if one.article and observed.replies[one.what.id].outcome == "refused"]
    seen = f"{len(poisoned)} sent, {len(passed)} let through; {len(clean)} others refused"
    return Level(
        "poisoned input", "each is refused, and nothing else", seen, not passed and not clean,
        dict(Counter(passed + clean)),
    )


def _privacy(observed: Observed) -> Level:
    for place, text in observed.places.items():
        observed.search(place, text)
    for name, reply in observed.replies.items():
        observed.search(f"reply {name}", reply.text)
    found = {place: count for place, count in observed.leaks.items() if count}
    seen = ", ".join(f"{count} in {place}" for place, count in sorted(found.items())) or "none"
    planted = f"none of {len(observed.plan.secrets)} addresses and card numbers is kept or sent on"
    return Level("privacy", planted, seen, not found, {})


def _counts(observed: Observed) -> Level:
    counted: Counter[str] = Counter()
    for family in text_string_to_metric_families(observed.places.get("metrics", "")):
        for sample in family.samples:
            if sample.name == "desk_requests_total":
                counted[sample.labels.get("outcome", "")] += int(sample.value)
    real = Counter(each.outcome for each in observed.questions)
    wrong = sum((counted - real).values()) + sum((real - counted).values())
    spans = abs(observed.spans["request"] - real.total())
    seen = f"{wrong} of {real.total()} counted otherwise, {spans} without a span"
    return Level("observability", "metrics and traces have each request as its sender saw it", seen, not wrong and not spans)


LEVELS: tuple[Callable[[Observed], Level], ...] = (
    _availability, _p99, _cost, _correctness, _load, _jobs, _poison, _privacy, _counts
)


def judged(observed: Observed) -> list[Level]:
    """Return each level."""
    return [level(observed) for level in LEVELS]
