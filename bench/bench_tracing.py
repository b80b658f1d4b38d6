"""Tracer: what a span costs, and an uncached Predict with it beside one without, whatever the collector does.

An uncached call asks something new, so each Predict that is held to the limit does. Asked the same again, the
simulated model answers in some 3 ms, as no model does: that is shown beside it.
DSPy's own part is shown too: with any callback, even an empty one, it takes a call's signature apart, and
asks for the kind of each instance, at the beginning and at the end of every call: most of what tracing costs.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from bench import tracing_peers
from bench.bench_batch import canned
from bench.ratio import paired, report

SPAN_AT_MOST_MS = 0.2
PREDICT_AT_MOST = 1.05
COLLECTOR_AT_MOST = 1.05
PEER_AT_MOST = 1.0
CALLS, SPANS = 40, 4
"""Calls of a round; spans of one: the Predict, the adapter's two, the model's."""
DEAD = "http://127.0.0.1:9"
_numbers = itertools.count(time.time_ns())


class _Refuses(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def bad_collectors() -> Iterator[dict[str, str]]:
    """Yield the addresses of a collector that is down, of one that never answers, and of one that refuses."""
    refusing = HTTPServer(("127.0.0.1", 0), _Refuses)
    threading.Thread(target=refusing.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0), backlog=99) as silent:
        ports = {"never answers": silent.getsockname()[1], "refuses": refusing.server_port}
        yield {"is down": DEAD} | {how: f"http://127.0.0.1:{port}" for how, port in ports.items()}
    refusing.shutdown()
    refusing.server_close()


def seconds(
    program: Any, tickets: list[str], listener: Any = None, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return how long a call takes, on average."""
    begun = clock()
    with listener or nullcontext():
        for ticket in tickets:
            program(ticket=ticket)
    return (clock() - begun) / len(tickets)


def new(tickets: list[str]) -> list[str]:
    """Return tickets that nobody has asked about, on this machine."""
    return [f"{ticket} My order has the number {next(_numbers)}." for ticket in tickets]


def to_peers(predict: Any, tickets: list[str]) -> list[bool]:
    """Compare each way to trace with none; and ours, with content and an exporter as theirs, with theirs.

    Theirs redact nothing, so the one that is compared does not either; what redaction adds is shown.
    """
    import dspy
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from course_lib import lm
    from course_lib.debugging import Tracer

    def timed(tracing: Callable[[], Any]) -> Callable[[], float]:
        def once() -> float:
            with tracing(), dspy.context(lm=lm.connect("sim-large", cache=False)):
                return seconds(predict, tickets)

        return once

    def beside(name: str, ours: Any, other: str, theirs: Any, at_most: float | None = None) -> bool:
        ratio = paired(timed(ours), timed(theirs), rounds=9)
        return report(f"Predict on loopback, {name} to {other}", ratio, unit="s a Predict", at_most=at_most)

    tracer = Tracer(InMemorySpanExporter(), content=True, redact=lambda value: value)
    redacting = Tracer(InMemorySpanExporter(), content=True)
    beside("Tracer with content", lambda: tracer, "no tracing", nullcontext)
    beside("Tracer with redacted content", lambda: redacting, "no tracing", nullcontext)
    results = []
    for name, tracing in tracing_peers.installed().items():
        beside(name, tracing, "no tracing", nullcontext)
        results.append(beside("Tracer with content", lambda: tracer, name, tracing, PEER_AT_MOST))
    return results


def main() -> bool:
    import dspy
    from dspy.utils.callback import BaseCallback

    from course_lib import desk, lm
    from course_lib.debugging import Tracer

    def empty() -> Any:
        return dspy.context(callbacks=[BaseCallback()])

    tickets = [ticket.text for ticket in desk.tickets("train")][:CALLS]
    predict = desk.Triage().sort
    results = []

    def to_nothing(name: str, listening: Any, *, rounds: int = 15) -> None:
        ratio = paired(
            lambda: seconds(predict, tickets, listening()), lambda: seconds(predict, tickets), rounds=rounds
        )
        report(f"{name} to no tracing", ratio, unit="s a Predict")

    with dspy.context(lm=canned(0.0)):
        # Of the processor, since there is nothing to wait for; the best round is the least disturbed one.
        best: dict[str, list[float]] = {name: [] for name in ("plain", "empty", "traced")}
        for _ in range(20):
            for name, listening in zip(best, (nullcontext, empty, Tracer), strict=True):
                best[name].append(seconds(predict, tickets, listening(), clock=time.process_time))
    plain, with_empty, traced = (1000 * min(rounds) for rounds in best.values())
    ms, of_dspy = (traced - plain) / SPANS, (with_empty - plain) / SPANS
    results.append(ms <= SPAN_AT_MOST_MS)
    verdict = "holds" if results[-1] else "MISSED"
    print(f"one span: {ms:.3f} ms, of which DSPy's {of_dspy:.3f} (at most {SPAN_AT_MOST_MS}): {verdict}")
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        to_nothing("Predict on loopback, the same again, with an empty callback", empty)
        to_nothing("traced Predict on loopback, the same again,", Tracer)
        for name, other in {"one with an empty callback": empty, "no tracing": nullcontext}.items():
            ratio = paired(
                lambda: seconds(predict, new(tickets), Tracer()),
                lambda other=other: seconds(predict, new(tickets), other()),
                rounds=15,
            )
            name = f"traced Predict on loopback, a new question each, to {name}"
            results.append(report(name, ratio, unit="s a Predict", at_most=PREDICT_AT_MOST))
        with bad_collectors() as collectors:
            for how, url in collectors.items():
                tracer = Tracer(collector=url)
                ratio = paired(
                    lambda tracer=tracer: seconds(predict, new(tickets), tracer),
                    lambda: seconds(predict, new(tickets), Tracer()),
                    rounds=9,
                )
                name = f"Tracer whose collector {how} to one without"
                results.append(report(name, ratio, unit="s a Predict", at_most=COLLECTOR_AT_MOST))
    lm.profile("bench-tracing", ttft_p50_ms=100, ttft_p99_ms=101)
    with dspy.context(lm=lm.connect("sim-large@bench-tracing", cache=False)):
        to_nothing("traced Predict, first token after 100 ms,", Tracer, rounds=2)
    results += to_peers(predict, tickets[:10])
    return all(results)


if __name__ == "__main__":
    raise SystemExit(not main())
