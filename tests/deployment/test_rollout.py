"""A bad canary goes back by itself within 200 requests, a good one is promoted, and a crash loses neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from course_lib import desk
from course_lib.deployment import Registry, RegistryError, Rollout, RolloutError, Seen, Slo, stored_scores

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

    def keep_rollout(self, _program, seen):
        self.seen = seen

    def start_canary(self, *_):
        """Nothing to do."""

    promote = retire = start_canary


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


@pytest.mark.anyio
async def test_scores_are_feedback_or_what_a_judge_says_of_stored_answers(store, service_url):
    before, judged = datetime.now(UTC) - timedelta(minutes=1), []
    for tenant, version, citations in (("a", "1", ["x"]), ("b", "2", []), ("b", "2", ["x"])):
        said = {"answer": "yes", "citations": citations}
        told = {"program": "answer", "version": version, "question": "what?", "answer": said}
        answer_id = await store.save_answer(tenant, **told)
        if citations:
            await store.feedback(tenant, answer_id, 4)

    def cites(question, answer):
        judged.append(question)
        return float(bool(answer["citations"]))

    def read(*, judge=None, since=before):
        scores = stored_scores(service_url, "answer", since, judge=judge)
        return scores("1"), scores("2"), sorted(scores("2"))

    assert read() == ([0.75], [0.75], [0.75])
    assert read(judge=cites) == ([1.0], [0.0, 1.0], [0.0, 1.0])
    assert len(judged) == 3  # each answer once
    assert read(since=datetime.now(UTC) + timedelta(minutes=1)) == ([], [], [])


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
