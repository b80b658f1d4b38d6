"""The formulae give the known values, the simulation agrees with them, and what cannot be is refused."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from course_lib.deployment import (
    CapacityError,
    Load,
    Work,
    closed_loop,
    log_normal_s,
    mean_wait_s,
    open_loop,
    plan,
    simulate,
    work_of,
)

NOWHERE = np.zeros(1)
SERVED = Work(0.01, np.full(1, 0.05))
PRICES = {"model_usd": 0.002, "machine_usd_per_hour": 0.05}


@pytest.mark.parametrize(
    ("rate_per_s", "options", "wait_s"),
    [
        pytest.param(8, {"variation": 1.0}, 0.4, id="M/M/1: rho / (mu - lambda)"),
        pytest.param(8, {}, 0.2, id="M/D/1: half of it"),
        pytest.param(16, {"variation": 1.0, "servers": 2}, 0.71111 / 4, id="M/M/2: Erlang C 0.7111 at 1.6"),
        pytest.param(10, {}, math.inf, id="always busy"),
    ],
)
def test_the_mean_wait_is_that_of_the_textbook(rate_per_s, options, wait_s):
    assert mean_wait_s(rate_per_s, 0.1, **options) == pytest.approx(wait_s, rel=1e-3)


@pytest.mark.parametrize(
    ("turns", "took_s"),
    [
        pytest.param(1, 0.01 + mean_wait_s(50, 0.01), id="one after the other: Pollaczek and Khinchine"),
        pytest.param(20, 0.01 / (1 - 50 * 0.01), id="in small turns: processor sharing"),
    ],
)
def test_a_simulated_core_takes_as_long_as_the_formulae_say(turns, took_s):
    from_memory = Work(0.01, NOWHERE, hit_share=0.99999, hit_work_s=0.01, turns=turns)

    outcome = simulate(from_memory, Load(50, 5_000))

    assert float(np.mean(outcome.took_s)) == pytest.approx(took_s, rel=0.08)


def test_a_request_that_meets_nobody_takes_its_work_and_its_time_elsewhere():
    work = Work(0.01, np.full(1, 0.05), first_work_s=0.02)

    outcome = simulate(work, Load(0.1, 50))

    assert outcome.ms(50) == pytest.approx(70)


def test_what_memory_answers_takes_no_model():
    outcome = simulate(Work(0.01, np.full(1, 5.0), hit_share=0.9, hit_work_s=0.001), Load(1, 2_000))

    assert np.mean(outcome.took_s < 0.1) == pytest.approx(0.9, abs=0.03)


def test_the_same_seed_gives_the_same_times_and_another_one_others():
    first, again, other = (simulate(SERVED, Load(50, 500, seed=seed)) for seed in (1, 1, 2))

    assert first.ms(99) == again.ms(99) != other.ms(99)


def test_above_what_a_replica_holds_answers_come_no_faster_and_some_are_refused():
    outcome = simulate(SERVED, Load(2 * SERVED.most_per_s, 1_500))

    assert not outcome.keeps_up(10_000)
    assert outcome.answered_per_s == pytest.approx(SERVED.most_per_s, rel=0.3)


def test_a_slow_model_is_limited_by_places_and_a_fast_one_by_the_core():
    assert Work(0.01, np.full(1, 3.2)).most_per_s == pytest.approx(32 / 3.2)
    assert Work(0.01, np.full(1, 0.1)).most_per_s == pytest.approx(100)


@pytest.mark.anyio
async def test_an_open_loop_meets_a_stall_that_a_closed_one_hides():
    def stalls():
        free = asyncio.Lock()

        async def ask(number: int) -> int:
            async with free:
                await asyncio.sleep(0.3 if number == 10 else 0.001)
            return 200

        return ask

    met = await open_loop(stalls(), Load(100, 100))
    hidden = await closed_loop(stalls(), users=1, requests=100)

    assert met.ms(90) > 100 > hidden.ms(90)


@pytest.mark.anyio
async def test_work_is_the_processor_time_of_a_request():
    used_s = 0.0

    async def ask(_number: int) -> int:
        nonlocal used_s
        used_s += 0.004
        await asyncio.sleep(0.02)
        return 200

    work = await work_of(ask, lambda: used_s, requests=20)

    assert work.work_s == pytest.approx(0.004)
    assert float(np.median(work.elsewhere_s)) >= 0.016


def test_a_models_times_have_the_percentiles_that_its_profile_states():
    times_s = log_normal_s(2.0, 8.0)

    assert np.percentile(times_s, [50, 99]) == pytest.approx([2.0, 8.0], rel=0.02)


def test_a_plan_holds_its_level_with_the_spare_replica_lost():
    work = Work(0.01, log_normal_s(2.0, 6.0), hit_share=0.5, hit_work_s=0.001)

    made = plan(work, 10_000_000, p99_ms=8_000, **PRICES)

    peak = simulate(work, Load(made.peak_per_s, 3_000), replicas=made.replicas - 1)
    assert peak.ms(99) <= 8_000
    assert set(peak.statuses) == {200}
    assert made.peak_per_s == pytest.approx(347, rel=0.01)
    assert made.model_usd == pytest.approx(1.0)
    assert made.machine_usd == pytest.approx(made.replicas * 24 * 0.05 / 10_000)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Load(0, 10), "rate_per_s is above 0"),
        (lambda: Load(10, 0), "requests at least 1"),
        (lambda: Work(0.0, NOWHERE), "work_s 0.0"),
        (lambda: Work(0.01, np.zeros(0)), "0 samples"),
        (lambda: Work(0.01, NOWHERE, hit_share=1.0), "hit_share 1.0"),
        (lambda: plan(SERVED, 1e6, p99_ms=50, **PRICES), "cannot be held"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(make, said):
    with pytest.raises(CapacityError, match=said):
        make()
