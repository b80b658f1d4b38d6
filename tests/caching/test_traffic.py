import pytest

from course_lib.caching import traffic
from course_lib.caching.memory import MemoryTier
from course_lib.caching.traffic import Traffic, entry_bytes, measured, predicted


@pytest.mark.parametrize("ttl_s", [None, 30.0, 600.0])
@pytest.mark.parametrize("skew", [0.7, 1.1])
def test_the_real_tier_hits_as_often_as_predicted(ttl_s, skew):
    chosen = Traffic(skew, 500, 10.0, ttl_s)
    room = int(0.1 * entry_bytes(500, 0).sum())

    assert measured(chosen, room) == pytest.approx(predicted(chosen, room), abs=0.02)


def test_the_same_traffic_gives_the_same_figures_and_another_seed_gives_others():
    chosen = Traffic(1.0, 300, 10.0, 60.0)

    first = measured(chosen, 50_000, requests=2000)
    traffic._requests.cache_clear()

    assert measured(chosen, 50_000, requests=2000) == first
    assert measured(Traffic(1.0, 300, 10.0, 60.0, seed=1), 50_000, requests=2000) != first


def test_the_cache_is_warm_from_the_first_request_on():
    chosen = Traffic(1.0, 300, 10.0, 60.0)
    room = int(entry_bytes(300, 0).sum())

    at_once, later = measured(chosen, room, warm_up=0), measured(chosen, room, warm_up=4000)

    assert at_once == pytest.approx(later, abs=0.015)


def test_sizes_are_those_that_the_tier_counts():
    keys, values = traffic._answers(50, 0)
    tier = MemoryTier()
    for key, value in zip(keys, values, strict=True):
        tier.put(key, value)

    assert tier.size_bytes() == entry_bytes(50, 0).sum()
