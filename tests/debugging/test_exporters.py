"""Spans reach a file and a collector; one that is down, slow or refusing harms nothing."""

from __future__ import annotations

import fcntl
import json
import logging
import multiprocessing
import os
import socketserver
import stat
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
from contextlib import suppress

import dspy
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from course_lib import desk
from course_lib.debugging import DistributedTracer, Tracer, exporters
from course_lib.debugging.exporters import MOST_QUEUED, ExporterError, JsonLines
from course_lib.debugging.spans import Span
from tests.debugging.collector import collecting
from tests.debugging.traces import TRIAGE
from tests.services.processes import happens

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
    with collecting(status=403) as collector, caplog.at_level(logging.WARNING):
        tracer = Tracer(collector=collector.url)
        for _ in range(3):
            make_spans(tracer, 1)
            assert tracer.flush(5)
        assert (tracer.dropped, tracer.last_error) == (3, f"{collector.url}: it answered 403 Forbidden")
        collector.status = 200
        make_spans(tracer, 1)
        assert tracer.flush(5)

    assert (tracer.dropped, tracer.last_error, collector.names) == (3, "", ["block 0"])
    assert [record.name for record in caplog.records] == ["course_lib.debugging"]
    assert "are dropped" in caplog.text


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


class Silent(Exception):  # noqa: N818
    def __str__(self):
        raise KeyError


@pytest.mark.parametrize("error", [SystemExit("anything"), Silent()])
def test_what_ends_threads_costs_its_batch_alone_in_an_exporter_or_a_log(error, monkeypatch):
    def raises(what):
        raise error

    class Raises:
        export = shutdown = staticmethod(raises)

    (handler := logging.Handler()).emit = lambda record: raises(record) if isinstance(error, Silent) else None
    monkeypatch.setattr(logging.getLogger("course_lib.debugging"), "handlers", [handler])
    tracer = Tracer(Raises())
    for count in (1, 2):
        make_spans(tracer, 1)
        assert tracer.flush(5)
        assert tracer.dropped == count
    assert type(error).__name__ in tracer.last_error


def test_a_redaction_that_ends_threads_costs_its_span_alone(tmp_path):
    def redact(value):
        if "odd" in str(value):
            raise SystemExit("anything")
        return value

    with Tracer(file=tmp_path / "run.jsonl", content=True, redact=redact) as tracer:
        Takes()(text="odd")
        assert tracer.flush(5)
        assert (tracer.dropped, tracer.last_error) == (1, f"{tmp_path}/run.jsonl: SystemExit: anything")
        Takes()(text="even")

    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url):
    if url:
        with pytest.raises(ExporterError, match="give one like http"):
            Tracer(collector=url)


def test_no_password_and_no_key_is_told(caplog):
    with collecting(status=403) as collector, caplog.at_level(logging.WARNING):
        named = f"{collector.url.replace('//', '//bob:hunter2@')}/v1/traces?key=hunter2"
        tracer = Tracer(collector=named, headers={"X-Key": "hunter2\n"})
        make_spans(tracer, 1)
        assert tracer.flush(5)
        with pytest.raises(ExporterError, match="'ftp://h' is no") as address:
            Tracer(collector="ftp://bob:hunter2@h")
        with pytest.raises(ExporterError, match="'X-Key' cannot be sent") as header:
            Tracer(collector=DEAD, headers={"X-Key": "hunter2\nhunter2"})

    assert collector.headers[0]["x-key"] == "hunter2"
    assert collector.url in caplog.text
    assert "hunter2" not in f"{caplog.text} {tracer.last_error} {address.value} {header.value}"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://bob:hunter2/x@host:4318", "http://host:4318"),
        ("http://bob:hunter2?x@host:4318", "http://"),
        ("http://host:port?key=x@hunter2", "http://"),
        ("bob:hunter2@host:4318", "host:4318"),
        ("http:/bob:hunter2@host", "host"),
    ],
)
def test_of_an_address_that_cannot_be_read_no_password_is_told(address, shown):
    with pytest.raises(ExporterError) as told:
        Tracer(collector=address)

    assert str(told.value).startswith(f"{shown!r} is no collector's address")
    assert "hunter2" not in "".join(traceback.format_exception(told.value))


def partly(spans: int, why: str = "too old") -> bytes:
    told = ExportTracePartialSuccess(rejected_spans=spans, error_message=why)
    return ExportTraceServiceResponse(partial_success=told).SerializeToString()


@pytest.mark.parametrize(
    ("options", "lost", "problem"),
    [
        ({"status": 401}, 3, "it answered 401 Unauthorized"),
        ({"answer": partly(2)}, 2, "it refused 2: too old"),
        ({"answer": partly(2, "\x1b[31m\n" + 9_000 * "a")}, 2, f"it refused 2:  [31m {'a' * 180}"),
        ({"answer": b"<html>log in</html>", "kind": "text/html"}, 3, "it answered with a page for people"),
        ({"answer": b"ok", "kind": "text/plain"}, 0, ""),
    ],
)
def test_what_a_collector_did_not_take_is_lost_and_told_with_the_reason(options, lost, problem):
    with collecting(**options) as collector:
        tracer = Tracer(collector=collector.url)
        make_spans(tracer, 3)
        assert tracer.flush(5)

    assert tracer.dropped == lost
    assert tracer.last_error == (f"{collector.url}: {problem}" if problem else "")


def test_an_address_with_a_query_keeps_it_behind_the_path():
    with collecting() as collector:
        tracer = Tracer(collector=f"{collector.url}/otlp?tenant=7")
        make_spans(tracer, 1)
        assert tracer.flush(5)

    assert collector.paths == ["/otlp/v1/traces?tenant=7"]


def test_a_program_that_is_faster_than_its_collector_is_told(caplog, monkeypatch):
    monkeypatch.setattr("course_lib.debugging.exporters.MOST_QUEUED", 4)
    with collecting(wait_s=1) as collector, caplog.at_level(logging.WARNING):
        tracer = Tracer(collector=collector.url)
        make_spans(tracer, 20)
        assert tracer.dropped >= 10
        assert "since it is slower than the program" in f"{tracer.last_error} {caplog.text}"


def test_a_log_that_is_slow_when_spans_are_dropped_holds_up_no_other_thread(caplog, monkeypatch):
    monkeypatch.setattr("course_lib.debugging.exporters.MOST_QUEUED", 4)
    is_told, may_go_on = threading.Event(), threading.Event()

    class Waits(logging.Handler):
        def emit(self, record):
            is_told.set()
            may_go_on.wait(60)

    with collecting(wait_s=1) as collector:
        tracer = Tracer(collector=collector.url)
        (handler := Waits()).addFilter(lambda record: "slower than" in record.getMessage())
        logging.getLogger("course_lib.debugging").addHandler(handler)
        telling = threading.Thread(target=make_spans, args=(tracer, 20), daemon=True)
        telling.start()
        assert is_told.wait(60)
        other = threading.Thread(target=make_spans, args=(tracer, 20), daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive()
        may_go_on.set()
        telling.join()
        logging.getLogger("course_lib.debugging").removeHandler(handler)


def test_where_no_thread_can_begin_spans_are_dropped_and_told_and_it_is_tried_again(
    tmp_path, caplog, monkeypatch
):
    def start(thread):
        raise RuntimeError("can't start new thread")

    tracer = Tracer(file=tmp_path / "run.jsonl")
    with monkeypatch.context() as limit:
        limit.setattr(threading.Thread, "start", start)
        begun = time.monotonic()
        with tracer:
            make_spans(tracer, 3)
        assert time.monotonic() - begun < 5
    assert tracer.dropped == 3
    assert tracer.last_error.endswith("can't start new thread")
    assert caplog.text.count("are dropped: can't start new thread") == 1

    with tracer:
        make_spans(tracer, 2)
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 2
    assert (tracer.dropped, tracer.last_error) == (3, "")


def test_spans_that_a_collector_sends_elsewhere_are_dropped():
    with collecting(status=307) as collector:
        tracer = Tracer(collector=collector.url)
        make_spans(tracer, 3)
        assert tracer.flush(5)

    assert tracer.dropped == 3


def test_an_answer_without_end_is_not_read():
    with collecting(status=400, answer_bytes=20_000_000) as collector:
        tracer = Tracer(collector=collector.url)
        tracemalloc.start()
        make_spans(tracer, 1)
        assert tracer.flush(10)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert tracer.dropped == 1
    assert most < 5_000_000


@pytest.mark.parametrize("piece", [b"x", b"\r\n\r\nHTTP/1.1 100 Continue"])
def test_an_answer_whose_head_never_ends_holds_nothing(piece, monkeypatch):
    monkeypatch.setattr(exporters, "_ANSWER_S", 0.5)

    class Trickles(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(b"HTTP/1.1 100 Continue")
            with suppress(OSError):
                while True:
                    self.request.sendall(piece)
                    time.sleep(0.05)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickles) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        tracer = Tracer(collector=f"http://127.0.0.1:{server.server_address[1]}")
        make_spans(tracer, 1)
        is_done = tracer.flush(5)
        server.shutdown()
        serving.join()

    assert is_done
    assert tracer.dropped == 1


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
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {json.loads(line)["name"] for line in lines} >= TRIAGE
    with Tracer(file=tmp_path / "new.jsonl") as tracer, tracer.span("one"):
        pass
    assert stat.S_IMODE((tmp_path / "new.jsonl").stat().st_mode) == 0o600


def test_half_a_line_of_a_full_disk_stands_alone(tmp_path):
    path = tmp_path / "run.jsonl"
    tracer = Tracer(file=path)
    make_spans(tracer, 1)
    tracer.flush(5)
    with path.open("a") as full:
        full.write('{"torn')
    make_spans(tracer, 1)
    tracer.flush(5)

    first, torn, last = path.read_text("utf-8").splitlines()
    assert torn == '{"torn'
    assert json.loads(first)["name"] == json.loads(last)["name"] == "block 0"


def test_a_large_old_file_is_not_read(tmp_path):
    path = tmp_path / "run.jsonl"
    with path.open("wb") as old:
        old.truncate(200_000_000)  # takes no room on the disk
    tracemalloc.start()
    Tracer(file=path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 5_000_000


def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path):
    with pytest.raises(ExporterError, match="name a file of your own in a folder that exists"):
        Tracer(file=tmp_path / "nowhere" / "run.jsonl")


def test_a_file_that_somebody_else_keeps_locked_is_told_and_holds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(exporters, "_LOCKED_S", 0.2)
    path = tmp_path / "run.jsonl"
    tracer = Tracer(file=path)
    with path.open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        with pytest.raises(ExporterError, match="somebody else has locked it"):
            Tracer(file=path)
        with tracer, tracer.span("lost"):
            pass
        assert tracer.dropped == 1
        assert "locked" in tracer.last_error

    make_spans(tracer, 1)
    assert tracer.flush(5)
    assert len(path.read_text("utf-8").splitlines()) == 1


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


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_worker_hands_over_its_spans_when_it_ends(method, tmp_path):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("the system has no fork")
    code = f"""
import multiprocessing, sys
def work(path):
    from course_lib.debugging import Tracer
    with Tracer(file=path).span("of the worker"):
        pass
if __name__ == "__main__":
    if {method == "fork"}:
        import course_lib.debugging.exporters
    worker = multiprocessing.get_context({method!r}).Process(target=work, args=[sys.argv[1]])
    worker.start()
    worker.join()
"""
    (tmp_path / "run.py").write_text(code)
    subprocess.run([sys.executable, tmp_path / "run.py", tmp_path / "run.jsonl"], check=True, timeout=60)

    assert [json.loads(line)["name"] for line in (tmp_path / "run.jsonl").read_text().splitlines()] == [
        "of the worker"
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_has_a_connection_of_its_own():
    code = """
import os, sys
from course_lib.debugging import Tracer
tracer = Tracer(collector=sys.argv[1])
def send(name):
    with tracer.span(name):
        pass
    return tracer.flush(10) and not tracer.dropped
assert send("of the parent")
child = os.fork()
if child == 0:
    os._exit(0 if send("of the child") else 1)
assert os.waitpid(child, 0)[1] == 0
assert send("of the parent again")
"""
    with collecting(keeps_alive=True) as collector:
        subprocess.run([sys.executable, "-c", code, collector.url], check=True, timeout=60)

    assert collector.names == ["of the parent", "of the child", "of the parent again"]
    first, second, third = collector.ports
    assert first == third != second


def test_what_is_no_address_and_no_file_s_name_is_refused():
    for address in ("http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:0", "127.0.0.1:4318"):
        with pytest.raises(ExporterError, match="is no collector's address"):
            Tracer(collector=address)
    for name in ("a\0b", "n" * 5_000):
        with pytest.raises(ExporterError, match="spans cannot be written to"):
            Tracer(file=name)


def test_an_idle_thread_ends(monkeypatch):
    monkeypatch.setattr("course_lib.debugging.exporters._IDLE_S", 0.05)
    with collecting() as collector:
        tracer = Tracer(collector=collector.url)
        for _ in range(2):
            make_spans(tracer, 1)
            assert tracer.flush(5)
            name = f"spans to {collector.url}"
            assert happens(lambda name=name: name not in {each.name for each in threading.enumerate()})

    assert len(collector.names) == 2


def test_a_line_is_what_the_sdk_writes_of_a_span(tmp_path):
    outer, path = Span("outer", None), tmp_path / "spans.jsonl"
    outer.set_attribute("models", ["a", "b"])
    outer.add_event("retry", {"error": "Timeout", "number": 2**70})
    outer.error = "boom"
    inner = Span("inner", outer.place)
    spans = []
    for each in (outer, inner):
        each.end()
        spans.append(each.readable(Resource.create({"service.name": "desk"})))

    JsonLines(path).export(spans)

    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(span.to_json()) for span in spans]


# -- content ---------------------------------------------------------------------------------------------


class Takes(dspy.Module):
    def forward(self, text):
        return dspy.Prediction()


def slowly(value):
    """Redact as slowly as 25 kB of prose take."""
    time.sleep(0.05)
    return value


def test_a_file_is_complete_however_long_its_redaction_takes(tmp_path):  # 3 s: longer than a flush() waits
    path = tmp_path / "run.jsonl"
    with Tracer(file=path, content=True, redact=slowly) as tracer:
        for number in range(30):
            Takes()(text=f"{number}")

    assert len(path.read_text("utf-8").splitlines()) == 30
    assert tracer.dropped == 0


def test_what_is_redacted_too_late_at_the_end_of_a_process_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(exporters, "_LOCAL_AT_EXIT_S", 0.3)
    tracer = Tracer(file=tmp_path / "run.jsonl", content=True, redact=slowly)
    with dspy.context(callbacks=[tracer]):
        for number in range(30):
            Takes()(text=f"{number}")
    tracer.close()

    lines = (tmp_path / "run.jsonl").read_text("utf-8").splitlines()
    assert 10 < tracer.dropped < 30 - len(lines) + 1
    assert f"{tracer.dropped} spans for" in caplog.text


class Fails(dspy.Module):
    def forward(self, text):
        raise ValueError(text)


def test_half_an_emoji_costs_nobody_s_spans(tmp_path):
    half = "Thanks \ud83d"
    path = tmp_path / "run.jsonl"
    with collecting() as collector, Tracer(content=True, collector=collector.url, file=path) as tracer:
        make_spans(tracer, 20)
        with pytest.raises(ValueError, match="Thanks"):
            Fails()(text=half)
        with tracer.span(half, **{half: half}) as span:
            span.add_event(half, {half: half})
        assert tracer.flush(5)

    assert len(collector.names) == len(path.read_text("utf-8").splitlines()) == 22
    assert (tracer.dropped, tracer.last_error) == (0, "")


def test_a_span_that_cannot_be_sent_costs_no_others():
    class Encodes:
        def __init__(self):
            self.names = []

        def export(self, spans):
            names = [span.name for span in spans]
            if "odd" in names:
                raise ValueError("one of them cannot be encoded")
            self.names += names
            return SpanExportResult.SUCCESS

        def shutdown(self):
            pass

    tracer = Tracer(exporter := Encodes())
    with tracer.span("odd"):
        pass
    make_spans(tracer, 20)

    assert tracer.flush(5)
    assert len(exporter.names) == 20
    assert tracer.dropped == 1
    assert "cannot be encoded" in tracer.last_error
