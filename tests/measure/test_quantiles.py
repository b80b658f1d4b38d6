"""Percentiles against NumPy, on data with a known shape."""

from __future__ import annotations

import random

import numpy as np
import pytest

from course_lib.measure.quantiles import ERROR_SHARE, Latencies

PERCENTS = (0, 1, 25, 50, 90, 95, 99, 99.9, 100)


def log_normal(count):
    chance = random.Random(7)
    return [chance.lognormvariate(5, 1) for _ in range(count)]


def taken(samples, **options):
    latencies = Latencies(**options)
    for ms in samples:
        latencies.add(ms)
    return latencies


@pytest.mark.parametrize("count", [1, 2, 3, 100, 4096])
def test_kept_samples_give_the_percentiles_of_numpy(count):
    samples = log_normal(count)
    latencies = taken(samples)

    assert latencies.is_exact
    for percent in PERCENTS:
        assert latencies.percentile(percent) == pytest.approx(np.percentile(samples, percent))
    assert latencies.mean_ms == pytest.approx(np.mean(samples))


def test_more_samples_than_are_kept_give_them_within_the_stated_error():
    samples = log_normal(50_000)
    latencies = taken(samples)

    assert not latencies.is_exact
    for percent in PERCENTS:
        there = np.percentile(samples, percent, method="lower")
        assert latencies.percentile(percent) == pytest.approx(there, rel=ERROR_SHARE * 1.001)
    assert latencies.mean_ms == pytest.approx(np.mean(samples))


def test_a_mean_hides_what_the_99th_percentile_shows():
    latencies = taken([50.0] * 980 + [3000.0] * 20)

    assert latencies.mean_ms == pytest.approx(109)
    assert latencies.percentile(50) == 50
    assert latencies.percentile(99) == 3000


def test_memory_does_not_grow_with_the_number_of_samples():
    latencies = taken(log_normal(20_000), exact_limit=100)

    assert len(latencies._kept) == 0
    assert len(latencies._buckets) < 1400


def test_times_beyond_the_buckets_are_counted_in_the_outermost():
    latencies = taken([0.0, 0.0, 1e12], exact_limit=1)

    assert latencies.percentile(0) == pytest.approx(1e-3, rel=0.02)
    assert latencies.percentile(100) == pytest.approx(1e9, rel=0.02)


def test_without_samples_there_is_no_percentile():
    assert np.isnan(Latencies().percentile(50))
    assert np.isnan(Latencies().mean_ms)
