"""Metrics for Prometheus: rate, errors, duration, tokens, cost, first token, cache, fallbacks, breakers.

Main path: with MetricsCollector() as metrics: program(...); print(metrics.text()).
Source: prometheus-client 0.26, in a registry of the collector's own; what counts as a call is CallListener's.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from course_lib.debugging import attributes
from course_lib.measure.calls import LM, MODULE, PARSE, Call, CallListener
from course_lib.measure.monitor import CANCELLED, bounded
from course_lib.notes import Fact
from course_lib.resilience import forks

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BREAKER = {"closed": 0.0, "half-open": 0.5, "open": 1.0}


class MetricsCollector(CallListener):
    """Counts what DSPy does, in bounded memory. Labels are names of classes and models, never content.

    A request is a call of the outermost module; an ObservableModule counts as its program. An error's label
    is its class; it is empty for a call that was answered.
    """

    EVERYWHERE = frozenset({"breaker"})

    def __init__(self) -> None:
        super().__init__()
        self.registry = CollectorRegistry()
        """To be served: `prometheus_client.make_asgi_app(metrics.registry)`."""
        self._seen: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        forks.things.add(self)
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, buckets=_BUCKETS_S, registry=self.registry)
        self._requests = counter("dspy_requests", "Requests that ended", ["program", "error"])
        self._in_flight = gauge("dspy_requests_in_flight", "Requests under way", ["program"])
        self._request_s = histogram("dspy_request_duration_seconds", "From call to end", ["program"])
        self._model_calls = counter("dspy_model_calls", "Calls not answered by a cache", ["model", "error"])
        self._model_s = histogram("dspy_model_duration_seconds", "Of an answered call", ["model"])
        self._first_s = histogram("dspy_first_token_seconds", "To a stream's first text", ["model"])
        self._tokens = counter("dspy_tokens", "Tokens reported", ["model", "direction"])
        self._cost = counter("dspy_cost_dollars", "Priced by the list", ["model"])
        self._hits = counter("dspy_cache_hits", "Answers of a cache", ["tier"])
        self._misses = counter("dspy_cache_misses", "Looked for in TieredCache and not there")
        self._unparsed = counter("dspy_parse_failures", "Replies without the fields asked for", ["adapter"])
        self._fallbacks = counter("dspy_fallbacks", "Another adapter or model was asked", ["kind"])
        self._retries = counter("dspy_retries", "Attempts that failed or were repeated", ["error"])
        self._breaker = gauge("dspy_breaker_open", "1 open, 0.5 half-open, 0 closed", ["breaker"])
        self._of: Callable[..., Any] = cache(lambda metric, *values: metric.labels(*values))  # that one locks

    def _begin_anew(self) -> None:
        """Open in a forked child the locks of the library, which a thread of the parent may have held."""
        waiting: list[Any] = [self.registry, *self.registry._names_to_collectors.values()]  # noqa: SLF001
        while waiting:
            thing = waiting.pop()
            waiting += getattr(thing, "_metrics", {}).values()
            values = (getattr(thing, name, None) for name in ("_value", "_sum"))
            for each in (thing, *values, *getattr(thing, "_buckets", ())):
                if lock := getattr(each, "_lock", None):
                    lock._at_fork_reinit()  # noqa: SLF001

    def text(self) -> str:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry).decode()

    def value(self, name: str, **labels: str) -> float:
        """Return one sample, summed over the labels that are not given; 0 for one that was never counted.

        `metrics.value("dspy_tokens_total", model="sim-large")`
        """
        samples = [sample for family in self.registry.collect() for sample in family.samples]
        found = (
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
        return sum(found, start=0.0)

    # -- what CallListener says ----------------------------------------------------------------------

    def began(self, call: Call, inputs: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Count a request that begins."""
        if call.kind == MODULE and call.is_outermost:
            named = getattr(call.instance, "observed_program", call.instance)
            call.data = self._bounded("program", type(named).__name__)
            self._of(self._in_flight, call.data).inc()

    def ended(self, call: Call, outputs: Any, error: BaseException | None) -> None:  # noqa: ARG002
        """Count a call that has ended."""
        failed = self._bounded("error", type(error).__name__) if error is not None else ""
        if call.kind == LM:
            self._count_model(call, failed)
        elif call.kind == PARSE and failed:
            self._of(self._unparsed, self._bounded("adapter", call.name)).inc()
        elif call.kind == MODULE and call.is_outermost:
            self._of(self._in_flight, call.data).dec()
            self._of(self._requests, call.data, failed).inc()
            if not isinstance(error, CANCELLED):
                self._of(self._request_s, call.data).observe(time.perf_counter() - call.begun_s)

    def _count_model(self, call: Call, failed: str) -> None:
        heard = call.heard
        if heard is None or heard.usage is None:
            if failed:
                asked = self._bounded("model", attributes.model_of(call.name))
                self._of(self._model_calls, asked, failed).inc()
            elif call.data is None:  # a TieredCache has told its tier
                self._of(self._hits, "dspy").inc()
            return
        model, usage = self._bounded("model", attributes.model_of(heard.model)), heard.usage
        self._of(self._model_calls, model, failed).inc()
        self._of(self._tokens, model, "input").inc(usage.prompt_tokens)
        self._of(self._tokens, model, "output").inc(usage.completion_tokens)
        self._of(self._cost, model).inc(usage.cost_usd)
        if not failed:
            self._of(self._model_s, model).observe(time.perf_counter() - call.begun_s)
        if heard.first_token_s is not None:
            self._of(self._first_s, model).observe(heard.first_token_s - call.begun_s)

    def noted(self, call: Call | None, name: str, facts: Mapping[str, Fact]) -> None:
        """Count a note."""
        if name == "breaker":
            gauge = self._of(self._breaker, self._bounded("breaker", facts["breaker"]))
            gauge.set(_BREAKER.get(str(facts["state"]), 1.0))
        elif name == "cache.hit":
            self._of(self._hits, self._bounded("tier", facts["tier"])).inc()
            if call is not None:
                call.data = call.data or "hit"
        elif name == "cache.miss":
            self._misses.inc()
        elif name in ("fallback", "adapter.fallback"):
            self._of(self._fallbacks, "model" if name == "fallback" else "adapter").inc()
        elif name in ("retry", "attempt.failed"):
            self._of(self._retries, self._bounded("error", facts["error"])).inc()

    def _bounded(self, label: str, value: object) -> str:
        with self._lock:
            seen = self._seen.setdefault(label, set())
            seen.add(text := bounded(str(value), seen))
        return text
