"""The cache's figures are right under threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from course_lib.caching.stats import Tally


def test_threads_lose_no_count_and_errors_of_our_own_are_told_with_how_often():
    tally = Tally()

    def work(_: int) -> None:
        tally.add("hits", "memory", 2, 0.5)
        tally.add("not_kept", "empty")
        tally.add("own_errors", "the cache failed")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(2000)))

    stats = tally.snapshot(size_bytes={}, last_errors=())
    assert (stats.hits, stats.not_kept) == ({"memory": 2000}, {"empty": 2000})
    assert (stats.saved_tokens, stats.saved_cost_usd) == (4000, 1000.0)
    assert stats.last_errors == ("the cache failed (2000 times)",)
