"""A canary's way from a small share of the requests to all of them, or back to none, by what is seen of it.

Main path: Rollout(registry, "answer", "2", use=stack.use, observe=observing(stack, "answer")); then step(),
as often as one likes, until it says "promoted" or "rolled back".
Source: betting on a bounded mean (Waudby-Smith and Ramdas, JRSS B 86, 2024, arXiv:2010.09686). Each answer of
the canary is paired with answers that the live version gave meanwhile. Of the differences two bets are made:
one pays if the canary is worse, one if it is not worse by what is tolerated. Nobody wins twenty times the
stake from a bet that is fair or worse, in however many looks, more often than once in twenty (Ville, 1939).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel

from course_lib.deployment.registry import Registry, RegistryError
from course_lib.errors import CourseError

State = Literal["going on", "rolled back", "promoted", "superseded"]
_MOST_BET = 0.75
"""Of what a bet has won so far; what is left is for the next one."""
_MOST_WAITING = 1_000


class RolloutError(CourseError):
    """A rollout cannot be made so."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one version, since its processes started or since any other time that stays."""

    requests: int = 0
    failed: int = 0
    """Of these, answered with an error of ours (5xx)."""
    slow: int = 0
    scores: Sequence[float] = ()
    """Of a sample of the answers, 0 to 1 each; later ones stand behind those that were there."""

    def since(self, then: Seen) -> Seen:
        """Return what is new; the counters of a process that was started again begin at 0."""
        is_anew = self.requests < then.requests or self.failed < then.failed or self.slow < then.slow
        old = Seen() if is_anew else then
        counts = self.requests - old.requests, self.failed - old.failed, self.slow - old.slow
        return Seen(*counts, self.scores[len(then.scores) :])


@dataclass(frozen=True, slots=True)
class Slo:
    """When a canary goes, whatever the live version does, and how much worse it may be."""

    failed_share: float = 0.2
    slow_share: float = 0.5
    """More failed or slow ones than these go back at once."""
    least_requests: int = 20
    """Not before so many."""
    tolerated: Mapping[str, float] = field(
        default_factory=lambda: {"failed": 0.05, "slow": 0.1, "score": 0.15}
    )
    """By how much a share, or the mean score, may be worse than the live version's. What is not here is not
    looked at: without "score", quality is nobody's business."""


class Evidence(BaseModel):
    """What speaks for and against a canary in one measure; a measure's values are good when they are high."""

    worse: float = 0.0
    """Logarithm of what was won by betting that the canary is worse."""
    fine: float = 0.0
    """Logarithm of what was won by betting that it is not worse by what is tolerated."""
    pairs: int = 0
    difference: float = 0.0
    """Sum over the pairs, canary minus live."""
    squares: float = 0.0
    canary: list[float] = []
    """Values that wait for those of the other version, 1 for the best."""
    live: list[float] = []

    @property
    def mean(self) -> float:
        """The mean difference, canary minus live."""
        return self.difference / max(self.pairs, 1)

    def take(self, canary: Sequence[float], live: Sequence[float], tolerated: float) -> None:
        """Pair each value of the canary with as many of the live version as there are for it."""
        self.canary = [*self.canary, *canary][-_MOST_WAITING:]
        self.live = [*self.live, *live][-_MOST_WAITING:]
        pairs = min(len(self.canary), len(self.live))
        size = len(self.live) // max(pairs, 1)
        for number in range(pairs):
            group = self.live[number * size : (number + 1) * size]
            self.add(self.canary[number] - sum(group) / size, tolerated)
        if pairs:
            self.canary, self.live = self.canary[pairs:], []

    def add(self, difference: float, tolerated: float) -> None:
        """Make both bets on one more pair; the stakes rest on what was seen before."""
        spread = self.squares - self.difference * self.mean
        stake = min(_MOST_BET, tolerated * (self.pairs + 1) / (0.25 + spread))
        self.worse += math.log1p(-stake * difference)
        self.fine += math.log1p(stake * (difference + tolerated))
        self.pairs += 1
        self.difference += difference
        self.squares += difference**2


class _Kept(BaseModel):
    """What the next process needs to go on."""

    version: str
    live: str
    driver: str = ""
    """The object that looks: the last that began."""
    step: int = 0
    requests: int = 0
    """Of the canary, so far; how many of them failed and were slow."""
    failed: int = 0
    slow: int = 0
    begun: int = 0
    """Its requests before this step."""
    looks: int = 0
    is_looked_at: bool = False
    evidence: dict[str, Evidence] = {}
    state: State = "going on"
    reason: str = ""


class Rollout:
    """One canary; its state is in the registry, so that after a crash another process goes on with it.

    What versions answer while nobody looks is not counted. Of two that look, the first is superseded, and so
    is one whose versions somebody has moved by hand: it touches nothing from then on, but that the gateway
    sends a version nothing more which a hand has retired.
    """

    def __init__(
        self,
        registry: Registry,
        program: str,
        version: str,
        *,
        use: Callable[[dict[str, int]], object],
        observe: Callable[[str], Seen],
        slo: Slo | None = None,
        steps: Sequence[float] = (0.1, 0.25),
        each: int = 30,
        look_at: int = 180,
        most: int = 600,
        most_looks: int = 10_000,
        error_rate: float = 0.05,
    ) -> None:
        """Begin with the first share, or go on where the last process was.

        Args:
            registry: has the version as a candidate, or as the canary.
            program: of the service.
            version: the canary's.
            use: lets the gateway send each version its share, such as Stack.use. The registry is locked while
                it does. If it raises, nothing is decided, and the next step() does it again.
            observe: tells what was seen of a version.
            slo: what is demanded.
            steps: shares of the requests, the least first; after the last the canary gets all.
            each: so many requests of the canary are seen in a step before the next.
            look_at: after so many, one that looks worse by half of what is tolerated goes back (once).
            most: after so many it goes back if it is still not known to be good enough.
            most_looks: and after so many looks, whatever was seen.
            error_rate: of the bets. A canary that is no worse is bet out, and one that is worse by what is
                tolerated promoted, in at most this share of all rollouts.

        Raises:
            RegistryError: no version is live, another canary or another program's rollout is under way, or
                the version is retired.
            RolloutError: the steps are no shares.
        """
        if not steps or not all(0 < share < 1 for share in steps):
            raise RolloutError(f"steps are {tuple(steps)!r}; give shares between 0 and 1, as (0.1, 0.25)")
        self.registry, self.program, self.version = registry, program, version
        self.slo = slo or Slo()
        self._use, self._observe, self._steps = use, observe, steps
        self._each, self._look_at, self._most, self._error_rate = each, look_at, most, error_rate
        self._most_looks = most_looks
        self._state: State = "going on"
        self._sent: float | None = None
        self._kept = self._begin()
        self._before = {each: self._seen(each) for each in (self._kept.live, version)}
        self._send()

    @property
    def state(self) -> State:
        """What has happened: "promoted" and "rolled back" when the gateway and the registry know it."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it was decided so; empty before."""
        return self._kept.reason if self._state != "going on" else ""

    @property
    def share(self) -> float:
        """The canary's share of the requests."""
        ended = {"promoted": 1.0, "rolled back": 0.0, "superseded": 0.0}
        return ended.get(self._kept.state, self._steps[min(self._kept.step, len(self._steps) - 1)])

    @property
    def requests(self) -> int:
        """How many requests the canary has answered."""
        return self._kept.requests

    @property
    def evidence(self) -> dict[str, Evidence]:
        """What was seen so far, by measure."""
        return self._kept.evidence

    def step(self) -> State:
        """Look at what came in since the last look, and go on, roll back or promote.

        Raises:
            RolloutError: a score is not between 0 and 1; nothing of this look is kept.
        """
        kept = self._kept
        if kept.state == "going on":
            live, canary = self._seen(kept.live), self._seen(kept.version)
            kept.looks += 1
            self._take(live, canary)
            kept.state, kept.reason = self._decided()
            if kept.state == "going on" and kept.requests - kept.begun >= self._each:
                kept.step, kept.begun = kept.step + 1, kept.requests
        if self._state == "going on":
            self._send()
        return self._state

    def _begin(self) -> _Kept:
        live = self.registry.live(self.program)
        if live is None:
            raise RegistryError(f"{self.program} has no live version to compare with; promote one")
        kept = _Kept(version=self.version, live=live.version)
        if (saved := self.registry.rollout(self.program)) and saved.get("version") == self.version:
            kept = _Kept.model_validate(saved)
        kept.driver = secrets.token_hex(8)
        reason = f"beside {kept.live}"
        self.registry.start_canary(self.program, self.version, reason, rollout=kept.model_dump())
        return kept

    def _seen(self, version: str) -> Seen:
        seen = self._observe(version)
        return replace(seen, scores=checked_scores(version, seen.scores))

    def _take(self, live: Seen, canary: Seen) -> None:
        """Take what is new, in an order of chance where only the number is known."""
        kept = self._kept
        random = np.random.default_rng(kept.looks)
        values: dict[str, list[list[float]]] = {"failed": [], "slow": [], "score": []}
        for version, seen in ((kept.version, canary), (kept.live, live)):
            new, self._before[version] = seen.since(self._before[version]), seen
            if version == kept.version:
                kept.requests, kept.failed = kept.requests + new.requests, kept.failed + new.failed
                kept.slow += new.slow
            for name, bad in (("failed", new.failed), ("slow", new.slow)):
                shuffled = random.permutation([0.0] * bad + [1.0] * (new.requests - bad))
                values[name].append(shuffled.tolist())
            values["score"].append([*new.scores])
        for name, tolerated in self.slo.tolerated.items():
            of_canary, of_live = values[name]
            kept.evidence.setdefault(name, Evidence()).take(of_canary, of_live, tolerated)

    def _decided(self) -> tuple[State, str]:
        kept, slo, measures = self._kept, self.slo, self.slo.tolerated
        seen = f"after {kept.requests} requests"
        for name, bad, most in (
            ("failed", kept.failed, slo.failed_share),
            ("slow", kept.slow, slo.slow_share),
        ):
            if kept.requests >= slo.least_requests and bad > most * kept.requests:
                return "rolled back", f"{bad} of {kept.requests} {name}; at most {most:.0%} may"
        is_once = not kept.is_looked_at and kept.requests >= self._look_at
        kept.is_looked_at = kept.is_looked_at or is_once
        for name, evidence in kept.evidence.items():
            told = f"{name} {evidence.mean:+.3f} in {evidence.pairs} pairs, {seen}"
            if evidence.worse >= math.log(len(measures) / self._error_rate):
                return "rolled back", f"worse than {kept.live}: {told}"
            if is_once and evidence.fine < self._enough and evidence.mean < -measures[name] / 2:
                return "rolled back", f"looks worse than {kept.live}: {told}"
        if kept.step >= len(self._steps) - 1 and all(
            each.fine >= self._enough for each in kept.evidence.values()
        ):
            means = ", ".join(f"{name} {each.mean:+.3f}" for name, each in kept.evidence.items())
            return "promoted", f"not worse than {kept.live}: {means}, {seen}"
        if kept.requests >= self._most or kept.looks >= self._most_looks:
            return "rolled back", f"not known to be as good as {kept.live} {seen} and {kept.looks} looks"
        return "going on", ""

    @property
    def _enough(self) -> float:
        return math.log(1 / self._error_rate)

    def _send(self) -> None:
        """Let the gateway send the canary its share, and the registry keep all, unless superseded."""
        kept, share = self._kept, round(100 * self.share)

        def effect() -> None:
            if share != self._sent:
                self._use({kept.live: 100 - share, kept.version: share})

        def left(live: str) -> None:
            self._use({each: 100 * (each == live) for each in (kept.live, kept.version)})

        if self.registry.go_on(self.program, kept.model_dump(), effect, left):
            self._sent = share
        else:
            kept.state, kept.reason = "superseded", "another driver, or a hand, has moved the versions"
        self._state = kept.state


def checked_scores(version: str, scores: Sequence[float]) -> tuple[float, ...]:
    """Return the scores of a version.

    Raises:
        RolloutError: one is not between 0 and 1.
    """
    if wrong := [score for score in scores if not 0 <= score <= 1]:  # nor is NaN
        raise RolloutError(f"version {version!r} has a score of {wrong[0]!r}; scores are between 0 and 1")
    return tuple(scores)
