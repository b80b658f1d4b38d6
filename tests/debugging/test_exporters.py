"""Spans reach a file and a collector; one that is down, slow or refusing harms nothing."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import threading
import time

import pytest

from course_lib import desk
from course_lib.debugging import DistributedTracer, Tracer
from course_lib.debugging.exporters import MOST_QUEUED, ExporterError
from tests.debugging.collector import collecting
from tests.debugging.traces import TRIAGE

TICKET = next(ticket.text for ticket in desk.tickets("train"))
DEAD = "http://127.0.0.1:9"


def make_spans(tracer, count):
    for number in range(count):
        with tracer.span(f"block {number}"):
            pass


# -- a collector -----------------------------------------------------------------------------------------


def test_a_collector_gets_every_span_with_the_services_name_and_our_headers():
    with collecting() as collector:
        tracer = DistributedTracer(collector.url, service="answers", headers={"Authorization": "Bearer k"})
        with tracer:
            desk.Triage()(ticket=TICKET)
        make_spans(tracer, 1_000)
        assert tracer.flush(10)

    assert set(collector.names) >= TRIAGE
    assert len(collector.names) == 1_005
    assert collector.services == {"answers"}
    assert collector.headers[0]["authorization"] == "Bearer k"
    assert (tracer.dropped, tracer.last_error) == (0, "")


BAD = {"down": None, "refusing": {"status": 403}, "away": {"status": 503}, "slow": {"wait_s": 30.0}}


@pytest.mark.parametrize("how", BAD.values(), ids=BAD)
def test_a_bad_collector_slows_and_breaks_nothing_and_memory_is_bounded(how):
    def run(url):
        tracer = Tracer(collector=url, kept=10)
        with tracer:
            answer = desk.Triage()(ticket=TICKET)
        begun = time.perf_counter()
        make_spans(tracer, 3 * MOST_QUEUED)
        took_s = time.perf_counter() - begun
        (batches,) = tracer._batches
        assert len(batches._queue) <= MOST_QUEUED
        assert answer.category in desk.CATEGORIES
        return tracer, took_s / (3 * MOST_QUEUED)

    if how is None:
        tracer, each_s = run(DEAD)
    else:
        with collecting(**how) as collector:
            tracer, each_s = run(collector.url)
            assert collector.names == []

    assert each_s < 0.001
    assert tracer.dropped > MOST_QUEUED
    begun = time.perf_counter()
    tracer.close()
    assert time.perf_counter() - begun < 5
    make_spans(tracer, 2)  # as late threads may


def test_what_is_wrong_is_told_once_and_ends_when_the_collector_is_back(caplog):
    with collecting(status=403) as collector, caplog.at_level(logging.WARNING, "course_lib.debugging"):
        tracer = Tracer(collector=collector.url)
        for _ in range(3):
            make_spans(tracer, 1)
            assert tracer.flush(5)
        assert (tracer.dropped, tracer.last_error) == (3, f"{collector.url}: it did not take them")
        collector.status = 200
        make_spans(tracer, 1)
        assert tracer.flush(5)

    assert (tracer.dropped, tracer.last_error, collector.names) == (3, "", ["block 0"])
    assert len([record for record in caplog.records if "are dropped" in record.message]) == 1


def test_an_exporter_that_raises_is_no_reason_to_stop():
    class Raises:
        def export(self, spans):
            raise KeyError("anything")

        def shutdown(self):
            pass

    tracer = Tracer(Raises())
    make_spans(tracer, 5)

    assert tracer.flush(5)
    assert tracer.dropped == 5
    assert tracer.last_error == "Raises: KeyError: 'anything'"


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url):
    if url:
        with pytest.raises(ExporterError, match="give one like http"):
            Tracer(collector=url)


# -- a file ----------------------------------------------------------------------------------------------


def test_a_file_is_complete_when_the_block_ends_and_for_its_owner_alone(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"torn')
    path.chmod(0o644)
    with Tracer(file=path) as tracer:
        desk.Triage()(ticket=TICKET)
        threads = [threading.Thread(target=make_spans, args=(tracer, 50)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    torn, *lines = path.read_text("utf-8").splitlines()
    assert torn == '{"torn'
    assert len(lines) == 205
    assert {json.loads(line)["name"] for line in lines} >= TRIAGE
    with Tracer(file=tmp_path / "new.jsonl") as tracer, tracer.span("one"):
        pass
    assert stat.S_IMODE((tmp_path / "new.jsonl").stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path):
    with pytest.raises(ExporterError, match="name a file in a folder that exists"):
        Tracer(file=tmp_path / "nowhere" / "run.jsonl")


def test_a_file_that_is_lost_on_the_way_costs_spans_and_nothing_else(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    tracer = Tracer(file=folder / "run.jsonl")
    (folder / "run.jsonl").unlink()
    folder.rmdir()

    with tracer, tracer.span("lost"):
        pass

    assert tracer.dropped == 1
    assert "FileNotFoundError" in tracer.last_error


# -- the process -----------------------------------------------------------------------------------------

ENDS = """
import sys, time
from course_lib.debugging import Tracer
tracer = Tracer({options})
for number in range({count}):
    with tracer.span("block"):
        pass
print(time.time(), flush=True)
"""


def ended(options, count=10):
    code = ENDS.format(options=options, count=count)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    return time.time() - float(said.stdout), said.stderr


def test_what_waits_is_handed_over_when_the_process_ends(tmp_path):
    ended(f"file={str(tmp_path / 'run.jsonl')!r}")

    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 10


def test_a_dead_collector_holds_the_end_of_a_process_for_a_moment_only():
    with collecting(wait_s=60.0) as collector:
        took_s, errors = ended(f"collector={collector.url!r}")

    assert took_s < 10
    assert errors.strip() == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_hands_over_its_own_spans_and_no_others(tmp_path):
    path = tmp_path / "run.jsonl"
    code = f"""
import os
from course_lib.debugging import Tracer
tracer = Tracer(file={str(path)!r})
with tracer.span("of the parent"):
    pass
child = os.fork()
if child == 0:
    with tracer.span("of the child"):
        pass
    os._exit(0 if tracer.flush(10) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    names = sorted(json.loads(line)["name"] for line in path.read_text().splitlines())
    assert names == ["of the child", "of the parent"]


def test_an_idle_thread_ends(monkeypatch):
    monkeypatch.setattr("course_lib.debugging.exporters._IDLE_S", 0.05)
    with collecting() as collector:
        tracer = Tracer(collector=collector.url)
        for _ in range(2):
            make_spans(tracer, 1)
            assert tracer.flush(5)
            time.sleep(0.3)
            assert f"spans to {collector.url}" not in {each.name for each in threading.enumerate()}

    assert len(collector.names) == 2
