"""The wind tunnel: what the law says, what is measured, and what is shown while it runs."""

from __future__ import annotations

import math

import pytest

from course_lib import lm
from course_lib.labs.wind_tunnel_view import Result, Setting, measure, show, wind_tunnel

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("setting", "rate_per_s", "wait_ms"),
    [
        (Setting(2, 100, "40"), 20, 100),
        (Setting(4, 100, "40"), 40, 100),
        (Setting(32, 100, "40"), 40, 800),
        (Setting(32, 50, "none"), 640, 50),
    ],
    ids=str,
)
def test_the_law_says_the_throughput_and_the_wait(setting, rate_per_s, wait_ms):
    assert setting.rate_per_s() == pytest.approx(rate_per_s)
    assert setting.wait_ms() == pytest.approx(wait_ms)


async def test_a_measurement_keeps_to_the_concurrency_and_tells_how_it_stands():
    lm.connect()
    lm.reset()
    told: list[float] = []

    result = await measure(Setting(3, 50, "none"), for_s=1.5, tell=lambda so_far: told.append(so_far.seconds))

    assert lm.ledger().most_at_once == 3
    assert 0 < result.under_way() <= 3.01
    assert told == sorted(told)
    assert told
    assert all(took_s >= 0.02 for took_s in result.took_s)


async def test_above_the_limit_calls_wait_and_none_is_refused():
    lm.connect()
    lm.reset()

    result = await measure(Setting(16, 50, "20"), for_s=2.0)

    assert set(lm.ledger().statuses) <= {200, 499}
    assert result.rate_per_s() < 1.3 * 20


def test_what_was_measured_is_a_row_and_a_dot_where_latency_and_limit_are_the_same():
    results = [Result(Setting(calls, 100, "40"), [0.1] * 10, 1.0) for calls in (8, 2)]

    shown = show(Setting(4, 100, "40"), [*results, Result(Setting(4, 200, "40"), [0.2], 1.0)])

    assert "The limit is reached with 4 calls at once." in shown.text
    assert "2 at once: 10 per second, median 100 ms; 8 at once:" in shown.html
    assert shown.text.count("10.0") == 2
    assert "no limit" in show(Setting(4, 100, "none")).text
    assert math.isfinite(Setting(4, 100, "none").wait_ms())


async def test_a_choice_draws_the_law_at_once_and_measure_adds_what_came_out():
    lm.connect()
    lab = wind_tunnel()
    assert "Choose, then press Measure." in lab._status.value
    lab.latency.value, lab.concurrency.value = 50, 2
    assert "2 at once, 50 ms: 40 answers per second" in lab.rendered.text

    lab.begin()
    assert lab.start.disabled, "a second measurement would take the first one's place"
    await lab.measuring

    assert not lab.start.disabled
    assert "Done: " in lab._status.value
    assert "Measured: latency 50 ms, limit 40 per s" in lab.rendered.text


async def test_a_measurement_that_fails_says_so(monkeypatch):
    lab = wind_tunnel()
    monkeypatch.setenv("COURSE_LM_URL", "http://127.0.0.1:9/v1")

    await lab.measure()

    assert "Not measured: " in lab._status.value
