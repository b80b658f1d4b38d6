import pytest

from course_lib.caching import traffic
from course_lib.caching.memory import MemoryTier
from course_lib.caching.traffic import Traffic, entry_bytes, measured, predicted


@pytest.mark.parametrize("ttl_s", [None, 30.0, 600.0])
@pytest.mark.parametrize("skew", [0.7, 1.1])
def test_the_real_tier_hits_as_often_as_predicted(ttl_s, skew):
    asked = Traffic(skew, 500, 10.0, ttl_s)
    room = int(0.1 * entry_bytes(500, 0).sum())

    seen = measured(asked, room)

    assert seen.hit_share == pytest.approx(predicted(asked, room).hit_share, abs=0.02)
    assert 0.8 * room < seen.live_bytes <= room


def test_the_same_traffic_gives_the_same_figures_and_another_seed_gives_others():
    asked = Traffic(1.0, 300, 10.0, 60.0)

    first = measured(asked, 50_000, requests=2000)
    traffic._asked.cache_clear()

    assert measured(asked, 50_000, requests=2000) == first
    assert measured(Traffic(1.0, 300, 10.0, 60.0, seed=1), 50_000, requests=2000) != first


def test_the_cache_is_warm_from_the_first_request_on():
    asked = Traffic(1.0, 300, 10.0, 60.0)
    room = int(entry_bytes(300, 0).sum())

    at_once, later = measured(asked, room, warm_up=0), measured(asked, room, warm_up=4000)

    assert at_once.hit_share == pytest.approx(later.hit_share, abs=0.015)


def test_sizes_are_those_that_the_tier_counts():
    keys, values = traffic._answers(50, 0)
    tier = MemoryTier()
    for key, value in zip(keys, values, strict=True):
        tier.put(key, value)

    assert tier.size_bytes() == entry_bytes(50, 0).sum()


def test_a_cache_without_a_time_to_live_is_measured_all_the_same():
    class Plain:
        """A dict without bounds."""

        def __init__(self, max_bytes, *, clock):
            self.kept = {}

        def get(self, key):
            return self.kept.get(key)

        def put(self, key, value, *, ttl_s=None):
            self.kept[key] = value
            return True

        def size_bytes(self):
            return sum(map(len, self.kept.values()))

    assert measured(Traffic(1.0, 100, 1.0), 1, requests=500, make=Plain).hit_share == 1.0
