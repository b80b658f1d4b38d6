import numpy as np
import pytest

from course_lib.caching.traffic import Traffic, entry_bytes, measured, predict, predicted, zipf


@pytest.mark.parametrize("ttl_s", [None, 30.0, 600.0])
@pytest.mark.parametrize("skew", [0.7, 1.1])
def test_the_real_tier_hits_as_often_as_predicted(ttl_s, skew):
    chosen = Traffic(skew, 500, 10.0, ttl_s)
    room = int(0.1 * entry_bytes(500, 0).sum())

    assert measured(chosen, room) == pytest.approx(predicted(chosen, room), abs=0.02)


def test_the_cache_is_warm_from_the_first_request_on():
    chosen = Traffic(1.0, 300, 10.0, 60.0)
    room = int(entry_bytes(300, 0).sum())

    at_once, later = measured(chosen, room, warm_up=0), measured(chosen, room, warm_up=4000)

    assert at_once == pytest.approx(later, abs=0.015)


def test_a_cache_with_room_for_all_is_bounded_by_time_alone_and_one_too_small_holds_nothing():
    rates, one = zipf(100, 1.0), np.ones(100)
    alive = rates @ (rates * 60 / (1 + rates * 60))

    assert predict(rates, one, cache_bytes=100, ttl_s=60) == pytest.approx(alive)
    assert predict(rates, one, cache_bytes=100) == pytest.approx(1.0)
    assert predict(np.ones(2), np.array([10.0, 1000.0]), cache_bytes=100) == 0.5
    assert predict(np.ones(2), np.array([1000.0, 1000.0]), cache_bytes=100) == 0


def test_a_shorter_life_and_a_smaller_cache_never_help():
    rates, one = zipf(500, 1.0), np.ones(500)
    by_life = [predict(rates, one, cache_bytes=50, ttl_s=life) for life in (1, 5, 20, 60, 300, 3000)]
    by_room = [predict(rates, one, cache_bytes=room, ttl_s=300) for room in (5, 10, 50, 200, 400)]

    assert by_life == sorted(by_life)
    assert by_room == sorted(by_room)
