from math import inf

import numpy as np
import pytest

from course_lib.labs.traffic import Traffic, entry_bytes, measured, predicted


@pytest.mark.parametrize("ttl_s", [inf, 30.0, 600.0])
@pytest.mark.parametrize("skew", [0.7, 1.1])
def test_the_real_tier_hits_as_often_as_predicted(ttl_s, skew):
    chosen = Traffic(skew, 500, 10.0, ttl_s)
    room = int(0.1 * entry_bytes(500).sum())

    assert measured(chosen, room) == pytest.approx(predicted(chosen, room), abs=0.02)


def test_with_room_for_all_time_alone_counts_and_what_is_too_large_is_never_kept():
    minute, sizes = Traffic(1.0, 100, 1.0, 60.0), entry_bytes(100)
    rates = minute.rates_per_s()

    assert predicted(minute, sizes.sum()) == pytest.approx(rates @ (rates * 60 / (1 + rates * 60)))
    assert predicted(Traffic(1.0, 100, 1.0), sizes.sum()) == pytest.approx(1.0)
    assert predicted(Traffic(1.0, 100, 1.0), np.median(sizes)) < 0.1
    assert predicted(Traffic(1.0, 100, 1.0), sizes.min() - 1) == 0
