"""dspy.Parallel starts a slow item a second time while the first still runs: two calls, two side effects."""

from __future__ import annotations

import threading
import time
from collections import Counter

import dspy

from course_lib.caching import BatchProcessor
from tests.traps.conftest import SOLVED

TIMEOUT_S = 0.1


class Desk:
    """Sends a refund per ticket; one takes long."""

    def __init__(self, slow_s: float) -> None:
        self.slow_s = slow_s
        self.refunds: Counter[str] = Counter()
        self._lock = threading.Lock()

    def refund(self, ticket: str) -> str:
        with self._lock:
            self.refunds[ticket] += 1
        time.sleep(self.slow_s if ticket == "slow" else 0)
        return f"refunded {ticket}"


TICKETS = [{"ticket": "one"}, {"ticket": "slow"}, {"ticket": "two"}]


def test_plain_parallel_runs_a_slow_item_more_than_once():
    desk = Desk(1.3)

    parallel = dspy.Parallel(num_threads=3, timeout=TIMEOUT_S, disable_progress_bar=True)
    results = parallel([(desk.refund, ticket) for ticket in TICKETS])

    assert results == ["refunded one", "refunded slow", "refunded two"]
    assert desk.refunds["slow"] > 1, SOLVED.format("a slow item is run once")


def test_a_batch_runs_every_item_once_however_slow():
    desk = Desk(0.3)

    items = list(BatchProcessor(desk.refund, concurrency=3).run(TICKETS))

    assert [item.result for item in items] == ["refunded one", "refunded slow", "refunded two"]
    assert set(desk.refunds.values()) == {1}
