"""Falling quality is noticed, false alarms are rare, a search keeps its budget, and the gate decides."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import get_args

import dspy
import numpy as np
import pytest

from course_lib import deployment, desk, lm
from course_lib.debugging import Budget
from course_lib.deployment import AdaptiveError, AdaptiveOptimizer, Drift, GateError, Registry, RegistryError
from course_lib.desk.records import Category
from course_lib.paths import ROOT

FEW = {"num_candidates": 2, "num_trials": 2, "max_labeled_demos": 4}
ALARM = [0.0] * 30
TRAIN, DEV = desk.examples("train"), desk.examples("dev")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """With a live version whose demos are outdated: since then each team has got another one's work."""
    teams = get_args(Category)
    before = dict(zip(teams, teams[1:] + teams[:1], strict=True))
    outdated = [row.copy(category=before[row.category]) for row in TRAIN]
    old = dspy.LabeledFewShot(k=16).compile(desk.Triage(), trainset=outdated)
    made = Registry(tmp_path / "programs")
    made.register("triage", old, "1")
    made.promote("triage", "1")
    return made


@pytest.fixture(autouse=True)
def _model():
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        yield


def adaptive(registry: Registry, metric=desk.category_match, **options) -> AdaptiveOptimizer:
    options = {"budget": Budget(attempts=1_000), "drift": partial(Drift, 0.5), **options}
    return AdaptiveOptimizer(registry, "triage", metric, **options)


def kinds(registry: Registry) -> list[str]:
    return [note.kind for note in registry.notes("triage")]


def files(registry: Registry) -> dict[str, bytes]:
    found = [path for path in registry.folder.rglob("*") if path.is_file() and path != registry.path]
    return {path.name: path.read_bytes() for path in found}


# -- drift -----------------------------------------------------------------------------------------------


def scores_until_alarm(drift: Drift, scores: np.ndarray) -> int:
    return next((number for number, score in enumerate(scores.tolist(), 1) if drift.add(score)), len(scores))


@pytest.mark.parametrize("shape", ["right or wrong", "fractions", "bad days"])
def test_a_false_alarm_comes_after_as_many_scores_as_was_said(shape):
    random, size = np.random.default_rng(14), (200, 1_000)
    drawn = {
        "right or wrong": random.random(size) < 0.6,
        "fractions": random.beta(3, 2, size),
        "bad days": random.random(size) < np.repeat(random.choice([0.6, 0.9], (200, 50)), 20, axis=1),
    }[shape]

    lengths = [scores_until_alarm(Drift(0.6, quiet=100), row.astype(float)) for row in drawn]

    assert np.mean(lengths) > 100  # those without an alarm count as 1,000


def test_a_fall_by_20_points_is_noticed_within_150_scores_nine_times_in_ten():
    drawn = np.random.default_rng(14).random((200, 1_000)) < 0.5 - 0.2

    lengths = [scores_until_alarm(Drift(0.5), row.astype(float)) for row in drawn]

    assert np.quantile(lengths, 0.9) < 150
    assert np.mean(lengths) < 100


@pytest.mark.parametrize("values", [{"floor": 1.0}, {"floor": 0.1}, {"floor": 0.5, "quiet": 1}])
def test_a_watch_that_makes_no_sense_is_refused(values):
    with pytest.raises(AdaptiveError, match="drop is above 0"):
        Drift(**values)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_that_is_none_is_refused(score):
    with pytest.raises(AdaptiveError, match="not between 0 and 1"):
        Drift(0.5).add(score)


# -- what is decided -------------------------------------------------------------------------------------


def test_nothing_is_searched_while_quality_holds(registry):
    one, before = adaptive(registry), lm.ledger().requests

    assert not one.watch([1.0] * 50)
    assert one.improve(TRAIN, DEV) is None
    assert lm.ledger().requests == before
    assert kinds(registry) == []


def test_an_alarm_is_for_the_version_that_was_live_and_stays_with_it_whoever_watches(registry):
    assert adaptive(registry).watch(ALARM)
    assert adaptive(registry).watch([])
    registry.register("triage", desk.Triage(), "2", parent="1")
    registry.promote("triage", "2")

    assert not adaptive(registry).watch([])
    assert kinds(registry) == ["drift"]


def test_an_alarm_is_for_the_present_and_ends_when_later_scores_are_good(registry):
    assert adaptive(registry).watch(ALARM)

    after_one = adaptive(registry).watch([1.0])
    after_many = adaptive(registry).watch([1.0] * 40)

    assert (after_one, after_many) == (True, False)
    assert not adaptive(registry, cool_down_s=0.0).is_due()
    assert kinds(registry) == ["drift", "recovered"]


def test_who_watched_good_scores_ends_no_alarm_of_another_at_once(registry):
    other = adaptive(registry)
    other.watch([1.0])
    assert adaptive(registry).watch(ALARM)

    assert other.watch([1.0])


def test_an_alarm_of_before_does_not_hold_when_a_version_is_live_again(registry):
    one = adaptive(registry, cool_down_s=0.0)
    assert one.watch(ALARM)
    registry.register("triage", desk.Triage(), "2", parent="1")
    registry.promote("triage", "2")
    registry.rollback("triage")

    assert not one.is_due()
    assert not one.watch([0.0])  # and it is watched anew


@pytest.mark.parametrize("score", [5.0, float("nan")])
def test_a_metric_that_gives_no_scores_is_told_and_does_not_cost_a_search_each_night(registry, score):
    one = adaptive(registry, lambda *_: score, search=FEW)
    assert one.watch(ALARM)

    with pytest.raises(GateError, match="between 0 and 1"):
        one.improve(TRAIN[:10], DEV[:2])

    assert kinds(registry) == ["drift", "refused"]
    assert not one.is_due()


def test_the_tickets_that_a_program_may_show_are_redacted(registry):
    rows, seen = [row.copy(ticket=f"{row.ticket} Mail mia@example.com.") for row in TRAIN[:10]], []
    assert adaptive(registry).watch(ALARM)

    def metric(example, *_):
        seen.append(example.ticket)
        return 0.5

    adaptive(registry, metric, search=FEW).improve(rows, DEV[:2])

    assert sum("Mail" in each for each in seen) >= 5
    assert not [each for each in seen if "mia@" in each]


def test_without_a_live_version_there_is_nothing_to_watch(tmp_path):
    with pytest.raises(RegistryError, match="no version of triage is live"):
        adaptive(Registry(tmp_path)).watch([0.5])


def test_of_two_at_once_one_searches_and_its_better_version_becomes_a_candidate(registry):
    before = files(registry)
    assert adaptive(registry).watch(ALARM)
    model = dspy.settings.lm

    def improve(_):
        with dspy.context(lm=model):
            return adaptive(registry, search=FEW).improve(TRAIN[:20], DEV)

    with ThreadPoolExecutor(2) as pool:
        found = [each for each in pool.map(improve, range(2)) if each]

    assert [(each.version, each.stage, each.parent) for each in found] == [("2", "candidate", "1")]
    assert registry.live("triage").version == "1"
    assert files(registry).items() > before.items()
    assert kinds(registry) == ["drift", "candidate"]
    assert "it is better" in registry.notes("triage")[-1].reason


def test_a_refused_candidate_changes_nothing_and_is_not_looked_for_again_at_once(registry):
    before, examples = files(registry), TRAIN[:10]
    assert adaptive(registry).watch(ALARM)

    for cool_down_s in (0.0, 3_600.0):  # the second comes too soon for its own cool-down
        one = adaptive(registry, lambda *_: 0.5, search=FEW, cool_down_s=cool_down_s)
        assert one.improve(examples, examples) is None

    assert files(registry) == before
    assert [each.version for each in registry.versions("triage")] == ["1"]
    assert kinds(registry) == ["drift", "refused"]
    assert "it may be either" in registry.notes("triage")[-1].reason
    assert adaptive(registry, cool_down_s=0.0).is_due()


def test_a_canary_that_was_rolled_back_begins_a_cool_down(registry):
    assert adaptive(registry).watch(ALARM)
    due = [adaptive(registry, cool_down_s=0.0).is_due()]
    registry.register("triage", desk.Triage(), "2", parent="1")
    due.append(adaptive(registry, cool_down_s=0.0).is_due())
    registry.retire("triage", "2", "rolled back")
    due += [adaptive(registry, cool_down_s=each).is_due() for each in (3_600.0, 0.0)]

    assert due == [True, False, False, True]


# -- the budget ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempts", "decision"), [(5, "nothing"), (90, "refused")])
def test_a_search_stops_at_its_budget_with_the_best_so_far(registry, attempts, decision):
    examples, before = TRAIN[:40], lm.ledger().requests
    one = adaptive(registry, lambda *_: 0.5, budget=Budget(attempts=attempts))
    assert one.watch(ALARM)

    assert one.improve(examples, examples[:10]) is None

    of_gate = 0 if decision == "nothing" else 2 * 10
    assert lm.ledger().requests - before == attempts + of_gate
    note = registry.notes("triage")[-1]
    assert note.kind == decision
    assert f"{attempts} of {attempts} attempts" in note.reason


def test_too_few_examples_are_refused(registry):
    with pytest.raises(AdaptiveError, match="3 recent examples and 30 for the gate"):
        adaptive(registry).improve(TRAIN[:3], DEV)


# -- a crash ---------------------------------------------------------------------------------------------

_IMPROVES = """
import sys
from functools import partial
from pathlib import Path
from typing import get_args
import dspy
from course_lib import desk, lm
from course_lib.debugging import Budget
from course_lib.deployment import AdaptiveOptimizer, Drift, Registry
dspy.configure(lm=lm.connect("sim-large@slow", cache=False))
one = AdaptiveOptimizer(Registry(Path(sys.argv[1])), "triage", desk.category_match,
                        budget=Budget(attempts=1_000), drift=partial(Drift, 0.5))
one.improve(desk.examples("train"), desk.examples("dev"))
"""


def test_killed_in_the_middle_of_a_search_it_leaves_no_half_version_and_begins_again(registry):
    # A process that imports DSPy: three seconds.
    assert adaptive(registry).watch(ALARM)
    before, asked, examples = files(registry), lm.ledger().requests, TRAIN[:10]
    lm.profile("slow", ttft_p50_ms=100)
    env = {**os.environ, "COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()}
    command = [sys.executable, "-c", _IMPROVES, str(registry.folder)]
    child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while lm.ledger().requests < asked + 5:
            assert child.poll() is None
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()

    assert files(registry) == before
    assert kinds(registry) == ["drift"]
    assert adaptive(registry, lambda *_: 0.5, search=FEW).improve(examples, examples) is None
    assert kinds(registry) == ["drift", "refused"]


def test_nothing_of_the_service_knows_it():
    room = Path(deployment.__file__).parent
    knows = [path.name for path in room.rglob("*.py") if "adaptive" in path.read_text().lower()]

    assert sorted(knows) == ["__init__.py", "adaptive.py"]
