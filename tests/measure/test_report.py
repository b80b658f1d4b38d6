"""Percentiles, and what the report shows."""

from __future__ import annotations

import random

import numpy as np
import pytest

from course_lib.measure import Latencies


def latencies_of(samples):
    latencies = Latencies()
    for ms in samples:
        latencies.add(ms)
    return latencies


@pytest.mark.parametrize("count", [1, 2, 3, 100, 10_000])
def test_percentiles_are_those_of_all_durations(count):
    samples = [random.Random(n).lognormvariate(5, 1) for n in range(count)]
    latencies = latencies_of(samples)

    for percent in (0, 1, 50, 95, 99, 100):
        assert latencies.percentile(percent) == pytest.approx(np.percentile(samples, percent))
    assert latencies.mean_ms == pytest.approx(np.mean(samples))


def test_a_mean_hides_what_the_99th_percentile_shows():
    latencies = latencies_of([50.0] * 980 + [3000.0] * 20)

    assert latencies.mean_ms == pytest.approx(109)
    assert (latencies.percentile(50), latencies.percentile(99)) == (50, 3000)


def test_of_many_durations_the_last_ten_thousand_give_the_percentiles_and_all_the_mean():
    latencies = latencies_of([9.0] * 5_000 + [1.0] * 10_000)

    assert latencies.percentile(100) == 1
    assert (latencies.count, latencies.mean_ms) == (15_000, pytest.approx(55_000 / 15_000))


def test_without_durations_there_is_no_percentile():
    assert np.isnan(Latencies().percentile(50))
    assert np.isnan(Latencies().mean_ms)
