"""One cluster for the module: two worker processes start, and each imports DSPy, which takes seconds."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest

from course_lib import desk, lm
from course_lib.caching import BatchProcessor, scope
from course_lib.caching.batch import BatchError, local_cluster
from course_lib.caching.keys import current_scope

ITEMS = 60


def notes(number: int, folder: str) -> dict[str, int]:
    """Leave a line of who ran the item, and take a little while."""
    with (Path(folder) / f"{number}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.02)
    if number == 7:
        raise ValueError("seven")
    return {"number": number}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with local_cluster(workers=2, threads=4) as client:
        yield client


def test_a_desk_program_runs_on_workers_and_its_usage_comes_back(client, tmp_path):
    examples = desk.examples("train")[:6]
    with dspy.context(lm=lm.connect(cache=False)):
        here = list(BatchProcessor(desk.Triage()).run(examples))
        lm.reset()
        run = BatchProcessor(desk.Triage(), journal=tmp_path / "j", client=client).run(examples)
        there = list(run)
        resumed = list(BatchProcessor(desk.Triage(), journal=tmp_path / "j").run(examples))

    assert [item.result for item in there] == [item.result for item in here]
    assert run.totals.usage.calls == lm.ledger().requests == 6
    assert run.totals.usage.cost_usd == pytest.approx(lm.ledger().cost_usd)
    assert all(item.resumed for item in resumed)


def test_what_a_notebook_defines_runs_in_the_scope_of_its_batch_and_no_worker_answers_from_a_cache(client):
    triage = desk.Triage()

    class Whose(dspy.Module):
        def forward(self, ticket):
            triage(ticket=ticket)
            return current_scope().tenant

    lm.reset()
    with dspy.context(lm=lm.connect("sim-small", cache=True)):
        for name in ("A", "B"):
            with scope(tenant=name):
                batch = BatchProcessor(Whose(), client=client).run([{"ticket": "Where is my parcel?"}] * 2)
            assert [item.result for item in batch] == [name] * 2

    assert lm.ledger().requests == 4


def test_a_killed_worker_loses_no_item_and_repeats_only_what_it_had_in_hand(client, tmp_path):
    inputs = [(number, str(tmp_path)) for number in range(ITEMS)]
    pids = list(client.run(os.getpid).values())

    items = []
    for item in BatchProcessor(notes, client=client, concurrency=8).run(inputs):
        items.append(item)
        if len(items) == ITEMS // 4:
            os.kill(pids[0], signal.SIGKILL)
    ran = Counter(len((tmp_path / str(number)).read_text().splitlines()) for number in range(ITEMS))

    assert [item.index for item in items] == list(range(ITEMS))
    assert [item.index for item in items if not item.ok] == [7]
    assert (items[7].error.kind, items[7].error.message) == ("ValueError", "seven")
    assert [item.result["number"] for item in items if item.ok] == [n for n in range(ITEMS) if n != 7]
    assert set(ran) <= {1, 2}
    assert ran[2] <= 8


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:8786", "tcp://scheduler:8786"])
def test_a_scheduler_open_to_the_network_is_refused(address):
    client = SimpleNamespace(scheduler=SimpleNamespace(address=address))

    with pytest.raises(BatchError, match="open to the network without TLS"):
        BatchProcessor(notes, client=client).run([])


def test_a_program_that_cannot_travel_is_refused(client):
    lock = threading.Lock()

    with pytest.raises(BatchError, match="cannot be pickled"):
        BatchProcessor(lambda number: (lock, number), client=client).run([1])
