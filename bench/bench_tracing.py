"""Tracer: what a span costs, and an uncached Predict with it beside one without, whatever the collector does.

DSPy's own part is shown beside it: with any callback, even an empty one, it takes a call's signature apart,
and asks for the kind of each instance, at the beginning and at the end of every call. That is most of what
tracing costs, so the limit is held beside it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from bench.bench_batch import canned
from bench.ratio import paired, report

SPAN_AT_MOST_MS = 0.2
PREDICT_AT_MOST = 1.05
COLLECTOR_AT_MOST = 1.05
CALLS, SPANS = 40, 4
"""Calls of a round; spans of one: the Predict, the adapter's two, the model's."""
DEAD = "http://127.0.0.1:9"


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

    def to_nothing(name: str, listening: Any, *, rounds: int = 15, **clock: Any) -> Any:
        ratio = paired(
            lambda: seconds(predict, tickets, listening(), **clock),
            lambda: seconds(predict, tickets, **clock),
            rounds=rounds,
        )
        report(f"{name} to no tracing", ratio, unit="s a Predict")
        return ratio

    with dspy.context(lm=canned(0.0)):
        # Of the processor, since there is nothing to wait for: so a busy machine says the same.
        ratio = to_nothing("traced Predict without a model's work", Tracer, clock=time.process_time)
        ms = 1000 * (ratio.ours - ratio.theirs) / SPANS
        results.append(ms <= SPAN_AT_MOST_MS)
        print(f"one span: {ms:.3f} ms (at most {SPAN_AT_MOST_MS}): {'holds' if results[-1] else 'MISSED'}")
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        to_nothing("Predict on loopback with an empty callback", empty)
        to_nothing("traced Predict on loopback", Tracer)
        ratio = paired(
            lambda: seconds(predict, tickets, Tracer()), lambda: seconds(predict, tickets, empty()), rounds=15
        )
        name = "traced Predict on loopback to one with an empty callback"
        results.append(report(name, ratio, unit="s a Predict", at_most=PREDICT_AT_MOST))
        with bad_collectors() as collectors:
            for how, url in collectors.items():
                tracer = Tracer(collector=url)
                ratio = paired(
                    lambda tracer=tracer: seconds(predict, tickets, tracer),
                    lambda: seconds(predict, tickets, Tracer()),
                    rounds=9,
                )
                name = f"Tracer whose collector {how} to one without"
                results.append(report(name, ratio, unit="s a Predict", at_most=COLLECTOR_AT_MOST))
    lm.profile("bench-tracing", ttft_p50_ms=100, ttft_p99_ms=101)
    with dspy.context(lm=lm.connect("sim-large@bench-tracing", cache=False)):
        to_nothing("traced Predict, first token after 100 ms,", Tracer, rounds=2)
    return all(results)


if __name__ == "__main__":
    raise SystemExit(not main())
