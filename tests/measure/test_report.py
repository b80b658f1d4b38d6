"""Percentiles, and what they show."""

from __future__ import annotations

import random

import numpy as np
import pytest

from course_lib.measure import Row, percentile
from course_lib.measure.report import KEPT


@pytest.mark.parametrize("count", [1, 2, 100, 10_000])
def test_percentiles_are_those_of_all_durations(count):
    samples = [random.Random(n).lognormvariate(5, 1) for n in range(count)]

    for percent in (0, 50, 99, 100):
        assert percentile(samples, percent) == pytest.approx(np.percentile(samples, percent))


def test_a_row_shows_what_a_mean_hides_and_only_the_last_ten_thousand():
    row = Row("model", answered=30_000)
    row.latency_ms.extend([9000.0] * KEPT + [50.0] * 9_800 + [3000.0] * 200)

    assert row.cells()[4:] == ("109", "50.0", "50.0", "50.0", "3,000", "-")
