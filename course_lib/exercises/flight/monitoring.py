"""Project 6, stage 1: metrics and a log that agree, of requests of the check's own.

Main path: OBSERVED -> engine.registry; `_Watched` is a learner's Monitor with the stream that it writes to.
Source: prometheus-client 0.26, whose parsers read what a Monitor tells; W3C Trace Context for traceparent.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from typing import Any

from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from course_lib.exercises.engine.checks import expect, expect_equal, expect_error, without_error
from course_lib.exercises.engine.registry import Exercise

OUTCOMES = {
    "answered": "success",
    "cached": "success",
    "degraded": "success",
    "refused": "failure",
    "failed": "failure",
}
"""By outcome, what event.outcome says."""
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_TARGET_S, _CLOCKS = 2.0, timedelta(seconds=2)
_THREADS, _EACH = 6, 20


class _Slow(StringIO):
    """A stream on which another thread may write between two writes."""

    def write(self, text: str) -> int:
        written = super().write(text)
        threading.Event().wait(0.0005)
        return written


class _Full(StringIO):
    """A stream on a disk that is full."""

    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


class _Watched:
    def __init__(self, monitor: Callable[[Any], Any], out: StringIO | None = None) -> None:
        self.out = out or StringIO()
        self.made = without_error(lambda: monitor(self.out), "Monitor(out)")
        missing = [name for name in ("count", "text", "openmetrics") if not hasattr(self.made, name)]
        expect_equal(missing, [], "methods that Monitor(out) does not have")
        self.ended, self.took_s = Counter[str](), list[float]()

    def count(self, outcome: str, took_s: float = 0.25, **request: str) -> None:
        what = f"count({outcome!r}, {took_s:g}{', request' * bool(request)})"
        arguments = [request] if request else []
        without_error(lambda: self.made.count(outcome, took_s, *arguments), what)
        self.ended[outcome] += 1
        self.took_s.append(took_s)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log, with nested fields as one name: {"trace": {"id": 1}} is trace.id."""
        found = []
        for line in self.out.getvalue().split("\n")[:-1]:
            read = without_error(partial(json.loads, line), f"the line {line[:200]!r}", expected="JSON")
            expect(isinstance(read, dict), "a line of the log", observed=read, expected="an object")
            found.append(dict(_flat(read, "")))
        last = self.out.getvalue().rpartition("\n")[2]
        expect_equal(last, "", "what stands after the last line break of the log")
        return found

    def samples(self) -> list[Sample]:
        text = without_error(self.made.text, "text()")
        families = without_error(lambda: [*text_string_to_metric_families(text)], "the text of the metrics")
        return [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a series."""
        return next(
            (each.value for each in self.samples() if (each.name, each.labels) == (name, labels)), None
        )

    def expect_agreed(self, when: str) -> None:
        """Fail the check unless metrics and log have each request once."""
        counted = {outcome: self.value("desk_requests_total", outcome=outcome) for outcome in OUTCOMES}
        expect_equal(
            counted, {each: float(self.ended[each]) for each in OUTCOMES}, f"desk_requests_total, {when}"
        )
        logged = Counter(str(each.get("labels.outcome")) for each in self.lines())
        expect_equal(logged, self.ended, f"lines of the log by labels.outcome, {when}")


def _flat(fields: dict[str, Any], before: str) -> Any:
    for key, value in fields.items():
        yield from _flat(value, f"{before}{key}.") if isinstance(value, dict) else [(before + key, value)]


def _openmetrics(text: Any) -> list[Any]:
    return [*parser.text_string_to_metric_families(text)]  # type: ignore[no-untyped-call]


def _trace() -> str:
    return secrets.token_hex(16)


def _parent(trace: str) -> str:
    return f"00-{trace}-{secrets.token_hex(8)}-0{random.randint(0, 1)}"


def counts(monitor: Any) -> None:
    """Each request is counted once under its outcome, and timed; each outcome is there from the start."""
    watched = _Watched(monitor)
    watched.expect_agreed("before the first request")
    series = {(each.name, *each.labels.items()) for each in watched.samples()}
    for outcome in random.sample([*OUTCOMES] * 3, 11):
        watched.count(outcome, random.choice([0.004, 0.3, 1.5, 4.0]), request_id=secrets.token_hex(4))
    watched.expect_agreed("after 11 requests")
    timed = (
        watched.value("desk_request_seconds_count"),
        round(watched.value("desk_request_seconds_sum") or 0, 6),
    )
    expect_equal(timed, (11.0, round(sum(watched.took_s), 6)), "count and sum of desk_request_seconds")
    within = watched.value("desk_request_seconds_bucket", le=str(_TARGET_S))
    expect_equal(
        within, float(sum(each <= _TARGET_S for each in watched.took_s)), "its bucket of 2.0 seconds"
    )
    more = sorted({(each.name, *each.labels.items()) for each in watched.samples()} - series)
    expect_equal(more, [], "series that were not there before the first request")


def refuses(monitor: Any) -> None:
    """Another outcome is a ValueError; then nothing is counted and nothing written."""
    watched = _Watched(monitor)
    before = watched.samples()
    for outcome in ("Answered", "", "timeout", "failed\n"):
        call = partial(watched.made.count, outcome, 0.1)
        expect_error(ValueError, call, f"count({outcome!r}, 0.1)")
    more = [each for each in watched.samples() if each not in before]
    expect_equal(more, [], "what is counted of outcomes that there are not")
    expect_equal(watched.out.getvalue(), "", "what is written of outcomes that there are not")


def logs(monitor: Any) -> None:
    """Each request is one line of JSON, with its time, level, outcome and duration in the schema's fields."""
    watched = _Watched(monitor)
    for outcome, means in OUTCOMES.items():
        took_s, before = random.choice([0.125, 1.5, 30.0]), datetime.now(UTC)
        watched.count(outcome, took_s)
        line = (watched.lines() or [{}])[-1]
        level = "error" if outcome == "failed" else "info"
        due: dict[str, object] = {
            "event.duration": round(took_s * 1e9),
            "labels.outcome": outcome,
            "event.outcome": means,
            "log.level": level,
        }
        expect_equal(
            {key: line.get(key) for key in due}, due, f"fields of a request that ended with {outcome}"
        )
        lasted = line["event.duration"]
        expect(isinstance(lasted, int), "event.duration", observed=lasted, expected="a whole number")
        text = line.get("@timestamp")
        at = without_error(
            partial(datetime.fromisoformat, str(text)), f"@timestamp, {text!r}", expected="ISO 8601"
        )
        expect(
            at.utcoffset() == timedelta(0),
            "the time zone of @timestamp",
            observed=text,
            expected="UTC: +00:00 or Z",
        )
        near = before - _CLOCKS <= at <= datetime.now(UTC) + _CLOCKS
        expect(near, "@timestamp", observed=text, expected="when the request ended")


def joins(monitor: Any) -> None:
    """A line has the request's id, or a new one, and the trace's, if there is one; an exemplar has it too."""
    watched, trace = _Watched(monitor), _trace()
    given, odd = ["a", secrets.token_hex(8)], ["", "x" * 65, "ab\n", "a b", "ann@example.org", "é", "a_b"]
    zeros = f"00-{'0' * 32}-{secrets.token_hex(8)}-01"
    loud = [f"00-{'AB' * 16}-{trace[:16]}-01", f"00-{trace}-{trace[:16]}-0A", f"01-{trace}-{trace[:16]}-01"]
    broken = [
        *loud,
        "",
        "00",
        trace,
        _parent(trace)[:-1],
        _parent(trace).upper(),
        _parent(trace) + "\n",
        zeros,
    ]
    asked = [{"request_id": each, "traceparent": _parent(_trace())} for each in given]
    asked += [{"request_id": each} for each in odd] + [{"traceparent": each} for each in broken]
    for each in asked:
        watched.count("answered", 0.3, **each)
    lines, fresh = watched.lines(), []
    expect_equal(len(lines), len(asked), f"lines of the log after {len(asked)} requests")
    for each, line in zip(asked, lines, strict=True):
        name, parent = line.get("http.request.id"), each.get("traceparent", "")
        if each.get("request_id") in given:
            expect_equal(name, each["request_id"], "http.request.id of a request that has one")
        else:
            fresh.append(name)
            sent = each.get("request_id") or "-"
            what = f"http.request.id of a request that sends {sent!r}, which is none"
            expect(str(name)[:16] not in sent, what, observed=name, expected="a new one, not a part of it")
        wanted = None if parent in broken else parent[3:35]
        expect_equal(line.get("trace.id"), wanted, f"trace.id where traceparent is {parent!r}")
        is_said, what = "trace.id" in line, f"whether trace.id is in a line, where traceparent is {parent!r}"
        expect_equal(is_said, wanted is not None, what)
    new = all(isinstance(each, str) and _ID.fullmatch(each) for each in fresh) and len({*fresh}) == len(fresh)
    wanted = "a new one each, of 1 to 64 letters, digits and -"
    expect(new, f"http.request.id where the given one is {odd} or missing", observed=fresh, expected=wanted)
    watched.count("answered", 1.75, request_id="a-" + secrets.token_hex(31), traceparent=_parent(trace))
    text = without_error(watched.made.openmetrics, "openmetrics()")
    families = without_error(
        partial(_openmetrics, text), "what openmetrics() returns", expected="OpenMetrics"
    )
    found = [each.exemplar for family in families for each in family.samples if each.exemplar]
    expect_equal([each.labels for each in found if each.value == 1.75], [{"trace_id": trace}],
                 "exemplars of the one request that took 1.75 s")  # fmt: skip
    known = {line.get("trace.id") for line in watched.lines()}
    strange = [each.labels for each in found if each.labels.get("trace_id") not in known]
    expect_equal(strange, [], "exemplars whose trace_id is in no line of the log")


def tells_nothing(monitor: Any) -> None:
    """Nothing else of a request is in log or metrics, and nobody can forge a line."""
    watched = _Watched(monitor)
    forged = '"}\n{"log.level": "info", "labels.outcome": "answered"}'
    for number in range(5):
        words = {
            each: f"{secrets.token_hex(9)}{forged}"
            for each in ("question", "customer", "request_id", "traceparent")
        }
        watched.count("failed", 0.1 * number, **words)
        told = watched.out.getvalue() + str(watched.made.text()) + str(watched.made.openmetrics())
        leaked = [name for name, text in words.items() if text[:18] in told]
        expect_equal(leaked, [], "what of a request stands in log or metrics")
    watched.expect_agreed("after requests with line breaks in all that a caller sends")
    watched.count("failed", 0.1)
    more = sorted({name for line in watched.lines() for name in line} - {*watched.lines()[-1]})
    expect_equal(more, [], "fields that a line has for what a caller sent, beside those that every line has")


def keeps_lines_whole(monitor: Any) -> None:
    """Requests may end in many threads at once: log and metrics have each of them, and no line is torn."""
    watched = _Watched(monitor, _Slow())

    def many() -> None:
        for _ in range(_EACH):
            watched.made.count("answered", 0.1, {"traceparent": _parent(_trace())})

    threads = [threading.Thread(target=many) for _ in range(_THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    watched.ended["answered"] = _THREADS * _EACH
    watched.expect_agreed(f"after {_EACH} requests in each of {_THREADS} threads")


def outlives_its_log(monitor: Any) -> None:
    """Where the log cannot be written nothing is raised; the request is counted, and so is the lost line."""
    watched = _Watched(monitor, _Full())
    expect_equal(watched.value("desk_log_lost_total"), 0.0, "desk_log_lost_total, before the first request")
    watched.count("answered")
    watched.count("failed")
    seen = {"desk_log_lost_total": watched.value("desk_log_lost_total")}
    seen |= {each: watched.value("desk_requests_total", outcome=each) for each in ("answered", "failed")}
    expect_equal(
        seen, {"desk_log_lost_total": 2.0, "answered": 1.0, "failed": 1.0}, "what a full disk leaves"
    )
    other = _Watched(monitor)
    expect_equal(other.value("desk_log_lost_total"), 0.0, "desk_log_lost_total of another Monitor")
    other.expect_agreed("of another Monitor, which has counted nothing")


OBSERVED = Exercise(
    title="Metrics and a log that agree",
    minutes=15,
    difficulty="medium",
    hints=(
        "A CollectorRegistry of one's own in __init__, and labels(outcome) once for each outcome, so that it "
        "is there with 0. Look at the outcome before anything is counted.",
        "re.fullmatch, not match: `$` also fits before a line break. One write for line and line break, "
        "under a lock. datetime.now(UTC).isoformat() is a time with its zone.",
        "observe(took_s, {'trace_id': trace}) keeps an exemplar, and None none; OpenMetrics tells them: "
        "generate_latest of prometheus_client.openmetrics.exposition.",
    ),
    checks=(counts, refuses, logs, joins, tells_nothing, keeps_lines_whole, outlives_its_log),
    why="A metric says that something is wrong, a line which request it was, a trace why: their ids lead "
    "from one to the next. What a caller sends is checked before it is written anywhere, and a log that "
    "cannot be written must not end a request that was answered.",
)
