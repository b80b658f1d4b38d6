"""One cluster for the module: starting two worker processes takes seconds."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from course_lib import desk, lm
from course_lib.caching import BatchProcessor
from course_lib.caching.batch.errors import InputError
from course_lib.caching.batch.on_dask import DaskRunner, _told, local_cluster
from tests.caching.batch.on_workers import notes

ITEMS = 120


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with local_cluster(workers=2, threads=4) as client:
        yield client


def test_a_desk_program_runs_on_workers_and_its_usage_comes_back(client, tmp_path):
    examples = desk.examples("train")[:6]
    with dspy.context(lm=lm.connect(cache=False)):
        here = list(BatchProcessor(desk.Triage()).run(examples))
        before = lm.ledger()
        run = BatchProcessor(desk.Triage(), journal=tmp_path / "j", client=client).run(examples)
        there = list(run)

        assert _told(desk.Triage())["name"] == "Triage"  # it travelled as JSON
        assert [item.result for item in there] == [item.result for item in here]
        assert run.totals.usage.calls == lm.ledger().requests - before.requests == 6
        assert run.totals.usage.cost_usd == pytest.approx(lm.ledger().cost_usd - before.cost_usd)
        assert all(
            item.resumed for item in BatchProcessor(desk.Triage(), journal=tmp_path / "j").run(examples)
        )


def test_a_killed_worker_loses_no_item_and_repeats_none_in_the_output(client, tmp_path):
    inputs = [(number, str(tmp_path)) for number in range(ITEMS)]
    pids = list(client.run(os.getpid).values())

    items = []
    for item in BatchProcessor(notes, client=client, concurrency=8, version="1").run(inputs):
        items.append(item)
        if len(items) == 30:
            os.kill(pids[0], signal.SIGKILL)
    ran = Counter(len((tmp_path / str(number)).read_text().splitlines()) for number in range(ITEMS))

    assert [item.index for item in items] == list(range(ITEMS))
    assert [item.index for item in items if not item.ok] == [7]
    assert (items[7].error.kind, items[7].error.message) == ("ValueError", "seven")
    assert [item.result["number"] for item in items if item.ok] == [n for n in range(ITEMS) if n != 7]
    assert set(ran) <= {1, 2}
    assert ran[2] <= 8  # those that were in the killed worker's hands


def test_a_scheduler_open_to_the_network_is_refused():
    class Elsewhere:
        class scheduler:  # noqa: N801
            address = "tcp://192.0.2.1:8786"

    with pytest.raises(InputError, match="open to the network without TLS"):
        DaskRunner(notes, Elsewhere, concurrency=1, deadline_s=None, types=())
