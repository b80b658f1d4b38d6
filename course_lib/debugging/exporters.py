"""Where spans go: memory, one file, a collector; none of them slows the program or breaks it.

Main path: a span ends -> Batches.put puts it into a bounded queue -> a thread hands batches to the exporter.
Source: SpanExporter of opentelemetry-sdk 1.45. Its BatchSpanProcessor drops the oldest
spans, does not say how many, and waits up to 30 s for a dead collector when the process ends.
"""

from __future__ import annotations

import atexit
import json
import logging
import multiprocessing
import os
import re
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import orjson
import requests
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util import ns_to_iso_str
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from course_lib.debugging.attributes import text_of
from course_lib.debugging.spans import Span
from course_lib.errors import CourseError
from course_lib.files import append_lines
from course_lib.resilience import forks

MOST_QUEUED = 4_096
"""So many spans wait for one exporter at most; a span without content takes about 3 kB."""
_BATCH, _EVERY_S, _IDLE_S = 256, 0.5, 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
_AT_EXIT_S, _LOCAL_AT_EXIT_S = 2.0, 10.0
_READ_S = 0.1
"""A batch of large prompts takes a minute to redact, so what is read after a while is handed on."""
_STALLED_S, _LONGEST_END_S = 10.0, 60.0
_LOCKED_S = 3.0
_MOST_ANSWERED, _ANSWER_S = 65_536, 10
_FULL = f"{MOST_QUEUED} wait, since it is slower than the program"
_LONGEST_PROBLEM = 200  # characters: it may be a collector's own words
_THREAD = "spans to "

_log = logging.getLogger("course_lib.debugging")
for _name in ("opentelemetry.exporter.otlp", "opentelemetry.sdk"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").addFilter(  # Batches says it once
    lambda record: not (record.threadName or "").startswith(_THREAD)
)


class ExporterError(CourseError):
    """A file or an address that spans cannot go to."""


class Refused(CourseError):  # noqa: N818  (it says what happened)
    """A collector took none of a batch, or a part."""

    def __init__(self, spans: int, why: str) -> None:
        super().__init__(why)
        self.spans = spans
        """So many were not taken."""


class Batches:
    """Hands spans to an exporter, in batches and in a thread of its own.

    While the exporter is slow, down or refusing, at most MOST_QUEUED spans wait; further ones are dropped and
    counted, and so is a batch that was refused. After that it is tried again after a second, then after two,
    and so on: in between it costs nothing. A forked child begins with an empty queue.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        name: str,
        resource: Resource,
        *,
        is_local: bool = False,
        read: Callable[[Span], Any] | None = None,
    ) -> None:
        """Take the exporter, whether a block's end waits for it, and what is made of a span for it."""
        self.name, self.is_local, self._exporter = name, is_local, exporter
        self._read = read or (lambda span: span.readable(resource))
        self.exported = self.dropped = 0
        self.last_error = ""
        """Why spans were dropped last; empty when the last batch was taken."""
        self._lock = threading.Condition()
        self._begin_anew()
        forks.things.add(self)
        _open.add(self)

    def _begin_anew(self) -> None:
        self._queue: deque[Span] = deque()
        self._thread: threading.Thread | None = None
        self._is_busy = self._is_hurried = self._is_closed = self._is_behind = False
        self._wait_s = 0.0

    def put(self, span: Span) -> None:
        """Put a span into the queue, or drop it: never wait."""
        with self._lock:
            problem = _FULL if len(self._queue) >= MOST_QUEUED else self._begun()
            is_news = bool(problem) and not self.last_error
            if problem or self._is_closed:
                self.dropped += 1
                self.last_error = self.last_error or problem
            else:
                self._queue.append(span)
                if len(self._queue) in (1, _BATCH):
                    self._lock.notify_all()
        if is_news:  # told without the lock: what handles a log may be slow, or trace
            _warn("spans for %s are dropped: %s", self.name, problem)

    def _begun(self) -> str:
        """Begin the thread, if there is none; return why that is not possible now."""
        if self._thread is None and not self._is_closed:
            thread = threading.Thread(target=self._run, name=f"{_THREAD}{self.name}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the process may have no more threads
                return str(error)
            self._thread = thread
        return ""

    def flush(self, within_s: float) -> bool:
        """Wait until all that ended was handed over; False if that takes longer."""
        with self._lock:
            self._is_hurried = True
            self._lock.notify_all()
            is_done = self._lock.wait_for(lambda: not self._queue and not self._is_busy, within_s)
            self._is_hurried = False
            return is_done

    def finish(self) -> bool:
        """Wait until all that ended was handed over, while that goes on; False if it takes too long."""
        end_s, was, now = time.monotonic() + _LONGEST_END_S, -1, 0
        while was != now and time.monotonic() < end_s:
            was = self.exported + self.dropped
            if self.flush(_STALLED_S):
                return True
            now = self.exported + self.dropped
        _warn("%d spans for %s still wait where the block ends", len(self._queue), self.name)
        return False

    def hand_over(self, within_s: float) -> None:
        """Hand over what waits; what is left then is dropped, and told."""
        self.flush(within_s)
        with self._lock:
            lost = len(self._queue)
            self.dropped += lost
            self._queue.clear()
        if lost:
            _warn("%d spans for %s are dropped: there was no time for them", lost, self.name)

    def close(self) -> None:
        """Hand over what waits, for a moment, and take nothing more."""
        self.hand_over(_LOCAL_AT_EXIT_S if self.is_local else _AT_EXIT_S)
        with self._lock:
            self._is_closed = True
        self._exporter.shutdown()

    def _run(self) -> None:
        while self._is_next():
            if batch := self._taken():
                self._export(batch)

    def _is_next(self) -> bool:
        """Wait until a batch is due; False after a while without spans, and then the thread ends."""
        with self._lock:
            self._is_busy = False
            self._lock.notify_all()
            if not self._lock.wait_for(lambda: self._queue, _IDLE_S):
                self._thread = None
                return False
            self._lock.wait_for(self._is_due, self._wait_s or _EVERY_S)
            self._is_busy = bool(self._queue)
            if not self._is_busy:  # hand_over() has emptied the queue meanwhile
                self._thread = None
            return self._is_busy

    def _is_due(self) -> bool:
        return self._is_hurried or (not self._wait_s and (self._is_behind or len(self._queue) >= _BATCH))

    def _taken(self) -> list[Any]:
        """Take spans out of the queue and read them, until that is a batch or has taken a while."""
        batch, end_s = list[Any](), time.monotonic() + _READ_S
        while len(batch) < _BATCH:
            self._is_behind = time.monotonic() > end_s
            with self._lock:
                if self._is_behind or not self._queue:
                    break
                span = self._queue.popleft()
            try:
                batch.append(self._read(span))
            except BaseException as error:  # border: attributes are anybody's, and so is redact
                self._count(0, 1, _words_of(error))
        return batch

    def _export(self, batch: Sequence[Any]) -> None:
        """Hand over a batch; if something in it cannot be sent, one span after the other."""
        taken, problem = 0, ""
        try:
            problem = self._handed(batch)
            taken = 0 if problem else len(batch)
        except Refused as error:
            taken, problem = max(len(batch) - error.spans, 0), str(error)
        except (ValueError, TypeError, OverflowError) as error:
            problem = _words_of(error)
            for each in batch if len(batch) > 1 and not isinstance(error, OSError) else ():
                try:
                    if problem := self._handed([each]):
                        break  # it takes nothing now
                    taken += 1
                except (ValueError, TypeError, OverflowError):
                    continue
            problem = problem or (_words_of(error) if taken < len(batch) else "")
        self._count(taken, len(batch) - taken, problem)

    def _handed(self, batch: Sequence[Any]) -> str:
        """Hand over a batch; return what is wrong if it was not taken.

        Raises:
            ValueError, TypeError, OverflowError: something in it cannot be written in the exporter's form.
            Refused: it was not taken, or not all of it.
        """
        try:
            is_taken = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except (ValueError, TypeError, OverflowError, Refused):
            raise
        except BaseException as error:  # border: an exporter is somebody else's, and may panic
            return _words_of(error)
        return "" if is_taken else "it did not take them"

    def _count(self, taken: int, dropped: int, problem: str) -> None:
        problem = "".join(each if each.isprintable() else " " for each in problem[:_LONGEST_PROBLEM])
        with self._lock:
            self.exported += taken
            self.dropped += dropped
            is_down = problem and not taken
            self._wait_s = min(max(_FIRST_WAIT_S, 2 * self._wait_s), _LONGEST_WAIT_S) if is_down else 0.0
            is_news, self.last_error = bool(problem) and not self.last_error, problem
        if is_news:
            _warn("spans for %s are dropped: %s", self.name, problem)


def _words_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


def _warn(words: str, *about: object) -> None:
    with suppress(Exception):  # border: what handles a log is anybody's
        _log.warning(words, *about)


_open: WeakSet[Batches] = WeakSet()


def _flush_all() -> None:
    """Hand over what waits when the process ends; within two seconds, or ten for files, whatever is down."""
    begun_s = time.monotonic()
    for batches in sorted(_open, key=lambda each: each.is_local):
        end_s = begun_s + (_LOCAL_AT_EXIT_S if batches.is_local else _AT_EXIT_S)
        batches.hand_over(max(0.0, end_s - time.monotonic()))


def _flush_in_worker(_: object = None) -> None:
    """Have multiprocessing do so at the end of a worker, where Python's atexit does not run."""
    util.Finalize(None, _flush_all, exitpriority=100)


atexit.register(_flush_all)
util.register_after_fork(_open, _flush_in_worker)
if multiprocessing.parent_process():
    _flush_in_worker()


class JsonLines(SpanExporter):
    """Appends spans to one file, a line of JSON each, as OpenTelemetry's SDK writes a span."""

    def __init__(self, path: str | Path) -> None:
        """Open the file once, so that a wrong path is told now.

        Raises:
            ExporterError: it cannot be written.
        """
        self._path = Path(path)
        self._resource: Resource | None = None
        self._shown: Any = None
        try:
            append_lines(self._path, "", within_s=_LOCKED_S)
            if self._path.is_file():  # one that was there may hold what its owner alone is to read
                self._path.chmod(0o600)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", error)
            raise ExporterError(
                f"spans cannot be written to {self._path}: {why}; name a file of your own in a "
                "folder that exists"
            ) from None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append a batch in one write."""
        if spans and spans[0].resource is not self._resource:  # all of a batch have the same
            self._resource = spans[0].resource
            self._shown = json.loads(self._resource.to_json())
        append_lines(
            self._path, "".join(_line(_fields(each, self._shown)) for each in spans), within_s=_LOCKED_S
        )
        return SpanExportResult.SUCCESS


def _line(fields: dict[str, Any]) -> str:
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE).decode()
    except TypeError:  # a number of more than 64 bits, which json can write
        return f"{json.dumps(fields)}\n"


def _fields(span: ReadableSpan, resource: Any) -> dict[str, Any]:
    """Return what ReadableSpan.to_json() writes, in a third of its time: that one reads the resource anew."""
    status, parent, context = span.status, span.parent, span.context
    assert context is not None
    described = {"description": status.description} if status.description else {}
    return {
        "name": span.name,
        "context": {
            "trace_id": f"0x{context.trace_id:032x}",
            "span_id": f"0x{context.span_id:016x}",
            "trace_state": repr(context.trace_state),
        },
        "kind": str(span.kind),
        "parent_id": f"0x{parent.span_id:016x}" if parent else None,
        "start_time": ns_to_iso_str(span.start_time or 0),
        "end_time": ns_to_iso_str(span.end_time or 0),
        "status": {"status_code": status.status_code.name, **described},
        "attributes": dict(span.attributes or {}),
        "events": [
            {
                "name": each.name,
                "timestamp": ns_to_iso_str(each.timestamp),
                "attributes": dict(each.attributes or {}),
            }
            for each in span.events
        ],
        "links": [],
        "resource": resource,
    }


class _Adapter(HTTPAdapter):
    """Knows the connection that is in use, to end it: the timeout of requests is for each read."""

    _connection: Any = None

    def get_connection_with_tls_context(self, *which: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*which, **options)
        take = type(pool)._get_conn  # noqa: SLF001

        def taken(*about: Any, **more: Any) -> Any:
            self._connection = take(pool, *about, **more)
            return self._connection

        pool._get_conn = taken  # noqa: SLF001
        return pool

    def end(self) -> None:
        with suppress(OSError, AttributeError):  # there is none, or it has ended
            self._connection.sock.shutdown(socket.SHUT_RDWR)


class _Collector(requests.Session, SpanExporter):
    """OpenTelemetry's exporter and its session, which know why a batch was not taken, and what of it was not.

    The session follows nobody elsewhere, reads little of an answer, ends one that takes too long,
    and connects anew in a forked child.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # 4 MB

        super().__init__()
        self._connect_anew()
        self._problem, self._answer = "", b""
        self._exporter: SpanExporter = OTLPSpanExporter(url, headers=headers, timeout=_ANSWER_S, session=self)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        self._problem = ""
        is_taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        if self._problem or not is_taken:
            raise Refused(len(spans), self._problem or "it did not take them")
        partly = ExportTraceServiceResponse.FromString(self._answer).partial_success
        if partly.rejected_spans > 0:
            raise Refused(
                partly.rejected_spans, f"it refused {partly.rejected_spans}: {partly.error_message}"
            )
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def _connect_anew(self) -> None:
        self._of_pid, self._of_the_parent = os.getpid(), self.adapters
        self._adapter = _Adapter()
        self.adapters = OrderedDict({"https://": self._adapter, "http://": self._adapter})

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if self._of_pid != os.getpid():  # two processes must not write to one connection
            self._connect_anew()
        (ending := threading.Timer(_ANSWER_S, self._adapter.end)).daemon = True
        ending.start()
        try:
            with super().send(request, **{**options, "stream": True}) as response:
                answer = _read(response)
        except (OSError, HTTPError) as error:
            self._problem = type(error).__name__
            raise
        finally:
            ending.cancel()
        kind = response.headers.get("content-type", "")
        self._answer = answer if kind == "application/x-protobuf" else b""
        self._problem = "" if response.ok else f"it answered {response.status_code} {response.reason}"
        if 300 <= response.status_code < 400:  # OpenTelemetry's exporter would call it a success
            self._problem = f"answered {response.status_code}; name the address it leads to"
            raise requests.TooManyRedirects(self._problem)
        if response.ok and kind.startswith("text/html"):
            self._problem = "it answered with a page for people"
        return response


def _read(response: requests.Response) -> bytes:
    """Return what was answered, or its begin where that is long or slow."""
    read, end_s = bytearray(), time.monotonic() + _ANSWER_S
    while len(read) < _MOST_ANSWERED and time.monotonic() < end_s:
        if not (piece := response.raw.read1(_MOST_ANSWERED, decode_content=True)):
            break
        read += piece
    return bytes(read)


def shown(url: str) -> str:
    """Return an address without what may be secret: all up to its last @, and what stands behind its path.

    A password may hold what ends a path, and a query an @: of an address with both only the scheme is shown.
    """
    return re.sub(r"^(\w+://)?(?:[^?#]*[?#].*@.*|.*@)|[?#].*", r"\1", url, flags=re.DOTALL)


def collector(url: str, headers: Mapping[str, str] | None = None) -> SpanExporter:
    """Return the exporter to an OTLP collector over HTTP; `url` is its base, or the whole of .../v1/traces.

    Raises:
        ExporterError: it is no http address, or a header cannot be sent.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is none
        is_address = False
    if not is_address:
        raise ExporterError(f"{shown(url)!r} is no collector's address; give one like http://127.0.0.1:4318")
    sent = {name: value.strip() for name, value in (headers or {}).items()}
    if odd := [name for name, value in sent.items() if not value.isprintable()]:
        raise ExporterError(f"the header {odd[0]!r} cannot be sent: its value is not one line of text")
    path = parts.path.rstrip("/")
    whole = parts if path.endswith("/v1/traces") else parts._replace(path=f"{path}/v1/traces")
    exporter = _Collector(whole.geturl(), sent)
    exporter.trust_env = parts.hostname not in ("127.0.0.1", "localhost", "::1")  # else a proxy's
    return exporter
