"""A bad canary goes back by itself within 200 requests, a good one is promoted, and a crash loses neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from course_lib import desk
from course_lib.deployment import Evidence, Registry, RegistryError, Rollout, RolloutError, Seen, Slo
from course_lib.deployment.programs import SERVED

LIVE = {"failed": 0.01, "slow": 0.02, "score": 0.8}


class Traffic:
    """Requests of customers, shared out as the gateway was told; by version, what was seen."""

    def __init__(self, seed: int, **canary: float) -> None:
        self.random = np.random.default_rng(seed)
        self.rates = {"1": LIVE, "2": {**LIVE, **canary}}
        self.weights = {"1": 1, "2": 0}
        self.seen = {version: {"requests": 0, "failed": 0, "slow": 0, "scores": []} for version in "12"}

    def use(self, weights: dict[str, int]) -> None:
        self.weights = weights

    def ask(self, requests: int = 20) -> None:
        for _ in range(requests):
            version = "2" if self.random.random() < self.weights["2"] / sum(self.weights.values()) else "1"
            rates, seen = self.rates[version], self.seen[version]
            seen["requests"] += 1
            seen["failed"] += int(self.random.random() < rates["failed"])
            seen["slow"] += int(self.random.random() < rates["slow"])
            seen["scores"].append(float(self.random.random() < rates["score"]))

    def observe(self, version: str) -> Seen:
        return Seen(**{name: list(each) if name == "scores" else each
                       for name, each in self.seen[version].items()})  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "programs")
    for version in ("1", "2"):
        made.register("triage", desk.Triage(), version)
    made.promote("triage", "1")
    return made


def rolled_out(registry: Registry, traffic: Traffic, **options) -> Rollout:
    rollout = Rollout(registry, "triage", "2", use=traffic.use, observe=traffic.observe, **options)
    while rollout.step() == "going on":
        traffic.ask()
    return rollout


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "canary",
    [{"failed": 0.3}, {"failed": 0.11}, {"slow": 0.15}, {"score": 0.65}, {"score": 0.5}],
    ids=lambda rates: "-".join(f"{name} {rate}" for name, rate in rates.items()),
)
def test_a_bad_version_is_rolled_back_within_200_of_its_requests(registry, canary, seed):
    traffic = Traffic(seed, **canary)

    rollout = rolled_out(registry, traffic)

    assert rollout.state == "rolled back"
    assert rollout.requests <= 200
    assert traffic.weights == {"1": 100, "2": 0}
    assert registry.version("triage", "2").stage == "retired"
    assert next(iter(canary)) in registry.version("triage", "2").reason


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("canary", [{}, {"score": 0.9}], ids=["as good", "better"])
def test_a_good_version_is_promoted(registry, canary, seed):
    traffic = Traffic(seed, **canary)

    rollout = rolled_out(registry, traffic)

    assert rollout.state == "promoted", rollout.reason
    assert traffic.weights == {"1": 0, "2": 100}
    assert registry.live("triage").version == "2"


def test_looking_after_every_request_does_not_make_it_more_often_wrong(registry):
    """Twelve rollouts take two seconds; a t-test so often looked at would throw out half of them."""
    ended = []
    for seed in range(12):
        traffic = Traffic(seed)
        rollout = Rollout(
            Kept(registry), "triage", "2", use=traffic.use, observe=traffic.observe, look_at=10**6
        )
        while rollout.step() == "going on":
            traffic.ask(1)
        ended.append(rollout.state)

    assert ended.count("rolled back") <= 2


class Kept:
    """A registry that remembers a rollout, and writes nothing."""

    def __init__(self, registry: Registry) -> None:
        self.live, self.seen = registry.live, {}

    def rollout(self, _program):
        return self.seen

    def go_on(self, _program, seen, effect, _left):
        effect()
        self.seen = seen
        return True

    def start_canary(self, *_, rollout):
        """Nothing to do."""


def test_what_is_far_beyond_the_service_level_goes_back_at_once(registry):
    traffic = Traffic(4, failed=1.0)

    rollout = rolled_out(registry, traffic)

    assert rollout.requests < 30
    assert "failed" in rollout.reason


def test_what_is_never_known_well_enough_goes_back(registry):
    traffic = Traffic(1)

    rollout = Rollout(
        registry,
        "triage",
        "2",
        use=traffic.use,
        observe=lambda version: Seen(traffic.seen[version]["requests"]),
        most=100,
    )
    while rollout.step() == "going on":
        for _ in range(20):
            traffic.seen["2"]["requests"] += 1
            traffic.seen["1"]["requests"] += 1

    assert rollout.state == "rolled back"
    assert "not known" in rollout.reason


def test_without_a_live_version_or_with_no_shares_nothing_begins(registry, tmp_path):
    traffic = Traffic(1)
    empty = Registry(tmp_path / "others")
    empty.register("triage", desk.Triage(), "2")

    with pytest.raises(RegistryError, match="no live version"):
        Rollout(empty, "triage", "2", use=traffic.use, observe=traffic.observe)
    with pytest.raises(RolloutError, match="between 0 and 1"):
        Rollout(registry, "triage", "2", use=traffic.use, observe=traffic.observe, steps=(0.1, 1.0))


def test_a_rollout_of_another_program_waits_since_the_gateway_s_shares_are_for_all_programs(registry):
    for version in ("1", "2"):
        registry.register("answer", SERVED["answer"].make(), version)
    registry.promote("answer", "1")
    traffic, other = Traffic(1, failed=1.0), Traffic(1)
    first = watched(registry, traffic)

    with pytest.raises(RegistryError, match="triage has a rollout under way"):
        Rollout(registry, "answer", "2", use=traffic.use, observe=other.observe)
    assert (registry.version("answer", "2").stage, traffic.weights) == ("candidate", {"1": 90, "2": 10})

    traffic.ask(500)
    assert first.step() == "rolled back"
    assert Rollout(registry, "answer", "2", use=traffic.use, observe=other.observe).state == "going on"


def test_counters_that_begin_again_take_nothing_away(registry):
    traffic = Traffic(1)
    rollout = Rollout(
        registry, "triage", "2", use=traffic.use, observe=traffic.observe, slo=Slo(tolerated={"failed": 0.05})
    )
    traffic.ask(300)
    rollout.step()
    before = rollout.requests
    traffic.seen["2"].update(requests=3, failed=0, slow=0)  # its process was started again

    rollout.step()

    assert rollout.requests == before + 3


# -- what must not decide ---------------------------------------------------------------------------------


def watched(registry: Registry, traffic: Traffic, **options) -> Rollout:
    return Rollout(registry, "triage", "2", use=traffic.use, observe=traffic.observe, **options)


@pytest.mark.parametrize("score", [float("nan"), 5, 40])
def test_a_score_that_is_none_is_refused_and_nothing_of_that_look_is_kept(registry, score):
    traffic = Traffic(1)
    rollout = watched(registry, traffic)
    traffic.ask(100)
    traffic.seen["2"]["scores"].append(score)
    before = registry.path.read_text()

    with pytest.raises(RolloutError, match="between 0 and 1"):
        rollout.step()
    assert registry.path.read_text() == before

    traffic.seen["2"]["scores"].pop()
    rollout.step()
    assert rollout.requests > 0


def test_values_that_wait_for_the_other_version_s_are_bounded():
    evidence = Evidence()

    evidence.take([1.0] * 5_000, [], 0.1)

    assert len(evidence.canary) == 1_000


def test_a_canary_that_answers_nothing_of_ours_goes_back_after_so_many_looks(registry):
    rollout = watched(registry, Traffic(1), most_looks=20)  # it tells callers alone that they are wrong

    states = [rollout.step() for _ in range(20)]

    assert states == ["going on"] * 19 + ["rolled back"]
    assert "20 looks" in rollout.reason


def test_a_version_that_was_rolled_back_is_no_canary_again_unless_it_is_registered_again(registry):
    rolled_out(registry, Traffic(1, failed=1.0))

    with pytest.raises(RegistryError, match="it is retired"):
        watched(registry, Traffic(2))
    registry.register("triage", desk.Triage(), "2")

    assert watched(registry, Traffic(2)).state == "going on"


def test_what_was_decided_is_not_said_before_the_gateway_has_done_it_and_done_again_until_then(registry):
    traffic, away = Traffic(1, failed=1.0), []

    def use(weights):
        if away:
            raise OSError(away.pop())
        traffic.use(weights)

    rollout = Rollout(registry, "triage", "2", use=use, observe=traffic.observe)
    traffic.ask(500)
    away += ["the gateway is away", "and still away"]

    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            rollout.step()
        assert (rollout.state, registry.canary("triage").version) == ("going on", "2")
    assert rollout.step() == "rolled back"
    assert traffic.weights == {"1": 100, "2": 0}
    assert registry.version("triage", "2").stage == "retired"


@pytest.mark.parametrize(
    "other",
    [
        lambda registry: watched(registry, Traffic(3)),
        lambda registry: registry.promote("triage", "3", "by hand"),
    ],
    ids=["another driver", "a promotion by hand"],
)
def test_a_rollout_that_another_or_a_hand_has_taken_over_touches_nothing(registry, other):
    registry.register("triage", desk.Triage(), "3")
    traffic = Traffic(1, failed=1.0)
    rollout = watched(registry, traffic)
    traffic.ask(500)
    other(registry)
    traffic.use(by_hand := {"1": 0, "2": 0, "3": 100})
    stages = [each.stage for each in registry.versions("triage")]

    assert [rollout.step(), rollout.step()] == ["superseded"] * 2
    assert traffic.weights == by_hand
    assert [each.stage for each in registry.versions("triage")] == stages


@pytest.mark.parametrize(
    ("by_hand", "weights"),
    [
        (lambda registry: registry.retire("triage", "2", "by hand"), {"1": 100, "2": 0}),
        (lambda registry: registry.promote("triage", "2", "by hand"), {"1": 0, "2": 100}),
    ],
    ids=["the canary", "the live one"],
)
def test_a_version_that_a_hand_has_retired_gets_no_more_requests(registry, by_hand, weights):
    traffic = Traffic(1)
    rollout = watched(registry, traffic)
    by_hand(registry)

    assert rollout.step() == "superseded"
    assert traffic.weights == weights


def test_nothing_is_counted_twice_by_a_driver_that_goes_on(registry):
    traffic = Traffic(1)
    rollout = watched(registry, traffic)
    traffic.ask(200)
    rollout.step()
    seen = rollout.requests
    traffic.seen["2"].update(requests=1, failed=0, slow=0)  # its process was started again, and so was ours

    after = watched(registry, traffic)
    after.step()

    assert after.requests == seen
    assert after.evidence["score"].pairs == rollout.evidence["score"].pairs


_ROLLS_OUT = """
import os, signal, sys
from pathlib import Path
from course_lib.deployment import Registry, Rollout
sys.path.insert(0, sys.argv[2])
from tests.deployment.test_rollout import Traffic
traffic = Traffic(1, score=0.5)
rollout = Rollout(Registry(Path(sys.argv[1])), "triage", "2", use=traffic.use, observe=traffic.observe)
traffic.ask(150)
rollout.step()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_is_followed_by_one_that_goes_on(registry):
    """A process that imports DSPy takes two seconds."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _ROLLS_OUT, registry.folder, root]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    killed = subprocess.run(command, check=False, env=environment)
    traffic = Traffic(2, score=0.5)

    rollout = Rollout(registry, "triage", "2", use=traffic.use, observe=traffic.observe)

    assert killed.returncode == -signal.SIGKILL
    assert rollout.requests > 5
    assert registry.canary("triage").version == "2"
    assert traffic.weights["2"] == round(100 * rollout.share) > 0
    while rollout.step() == "going on":
        traffic.ask()
    assert rollout.state == "rolled back"
