"""The cache's figures: right under threads, and readable."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from inline_snapshot import snapshot

from course_lib.caching.stats import Stats, Tally

STATS = Stats(
    hits={"memory": 6, "redis": 2},
    misses=2,
    puts=1,
    not_kept={"empty": 1},
    unkeyable={"a value of type builtins.object in 'x'": 1},
    refused={"redis": 1},
    saved_tokens=800,
    saved_cost_usd=0.0042,
    size_bytes={"memory": 2048, "redis": 3 * 1024 * 1024},
    last_errors=("Redis at /tmp/s: it cannot be reached: <no socket>",),
)


def test_the_figures_print_as_lines():
    assert repr(STATS) == snapshot("""\
asked       10, answered by the cache: 80%
hits        memory 6, redis 2
misses      2
kept        1
not kept    empty: 1
no key      a value of type builtins.object in 'x': 1
refused     redis: 1
saved       800 tokens, $0.004200
room taken  memory 2 KiB, redis 3.0 MiB
last error  Redis at /tmp/s: it cannot be reached: <no socket>\
""")


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
