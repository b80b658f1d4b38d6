import numpy as np
import pytest

from course_lib.caching import che
from course_lib.caching.che import TrafficError, predict, zipf


def test_a_cache_with_room_for_all_is_bounded_by_time_alone():
    rates = zipf(100, 1.0)

    assert predict(rates, 1, cache_bytes=100, ttl_s=60) == pytest.approx(
        rates @ (rates * 60 / (1 + rates * 60))
    )
    assert predict(rates, 1, cache_bytes=100) == pytest.approx(1.0)


def test_a_time_to_live_without_end_is_none():
    endless = predict(zipf(1000, 0.8), 1, cache_bytes=100, ttl_s=1e9)

    assert endless == pytest.approx(predict(zipf(1000, 0.8), 1, cache_bytes=100), abs=1e-5)


def test_a_shorter_life_and_a_smaller_cache_never_help():
    rates = zipf(500, 1.0)
    by_life = [predict(rates, 1, cache_bytes=50, ttl_s=life) for life in (1, 5, 20, 60, 300, 3000)]
    by_room = [predict(rates, 1, cache_bytes=room, ttl_s=300) for room in (5, 10, 50, 200, 400)]

    assert by_life == sorted(by_life)
    assert by_room == sorted(by_room)


@pytest.mark.parametrize("rate_per_s", [0.2, 0.9, 2.0, 4.0])
@pytest.mark.parametrize("ttl_s", [0.5, 1.5, 3.0, 12.0, 40.0])
def test_the_hits_of_a_stay_are_what_playing_it_out_gives(rate_per_s, ttl_s):
    rng, players = np.random.default_rng(1), 4000
    now, hits, alive = np.zeros(players), np.zeros(players), np.ones(players, bool)
    while alive.any():
        gap = rng.exponential(1 / rate_per_s, players)
        now = now + gap
        alive &= (gap < 1) & (now < ttl_s)
        hits += alive
    played = hits.mean() / (1 + hits.mean())

    assert che._hit_shares(np.array([rate_per_s]), 1.0, ttl_s)[0] == pytest.approx(played, abs=0.01)


def test_what_is_larger_than_the_cache_is_never_a_hit():
    assert predict([1.0, 1.0], [10, 1000], cache_bytes=100) == 0.5
    assert predict([1.0], [1000], cache_bytes=100) == 0


@pytest.mark.parametrize(
    ("rates", "sizes", "room", "message"),
    [
        ([1, -1], 1, 10, "above 0"),
        ([], 1, 10, "above 0"),
        ([1, 2], [1, 0], 10, "above 0"),
        ([1, 2], 1, 0, "above 0"),
        ([1, 2], [1, 2, 3], 10, "2 rates but 3 sizes"),
    ],
)
def test_what_cannot_be_is_refused(rates, sizes, room, message):
    with pytest.raises(TrafficError, match=message):
        predict(rates, sizes, cache_bytes=room)
