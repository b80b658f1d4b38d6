"""A program that is watched, and stopped before it costs more than it may.

Main path: ObservableModule(program, per_request=Budget(cost_usd=0.02)) is a dspy.Module like the program;
observable.metrics counts it.
DSPy swallows what a callback raises, so a budget is looked at in the engine of the model: before each
attempt, under the cache, where a raised error is an LM's error like any other.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import dspy
from cachetools import TTLCache
from dspy.lm15 import Request, Response

from course_lib.debugging.attributes import cost_usd
from course_lib.debugging.metrics import MetricsCollector
from course_lib.errors import CourseError
from course_lib.measure.calls import LM, Call, CallListener
from course_lib.measure.engines import Engine, engine_of, with_engines
from course_lib.notes import note
from course_lib.resilience import forks

_SPENT = "course_spent"
_MOST_TENANTS = 10_000
DAY_S = 86_400.0


class BudgetExceeded(dspy.LMError, CourseError):  # noqa: N818  (says what happened)
    """A model is not asked any more: what the request, or its tenant, may spend is spent."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent; looked at before each attempt at a model, so that calls under way may exceed it."""

    _: KW_ONLY
    attempts: float = math.inf
    """Requests sent to a model, repeated ones too; answers of a cache are none."""
    tokens: float = math.inf
    """Sent and written."""
    cost_usd: float = math.inf
    """Dollars; a model without a listed price counts as an expensive one."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:  # NaN is not
                raise ValueError(f"a budget of {each.name}={value!r} allows nothing; give a number above 0")


class _Spent:
    """What one request, or one tenant in a period, has spent so far."""

    def __init__(self, budget: Budget, whose: str) -> None:
        self._budget, self._whose = budget, whose
        self._lock = threading.Lock()
        forks.things.add(self)
        self._used = {"attempts": 0.0, "tokens": 0.0, "cost_usd": 0.0}

    def begin_attempt(self) -> None:
        """Count an attempt that begins now.

        Raises:
            BudgetExceeded: nothing is left for it.
        """
        with self._lock:
            for what, used in self._used.items():
                if used >= getattr(self._budget, what):
                    limit = f"{getattr(self._budget, what):g}"
                    raise BudgetExceeded(
                        f"the budget of this {self._whose} is spent: {used:g} of {limit} {what}; raise it, "
                        "or look in the trace for what spends so much"
                    )
            self._used["attempts"] += 1

    def add(self, tokens: int, dollars: float) -> None:
        """Count what a call has used."""
        with self._lock:
            self._used["tokens"] += tokens
            self._used["cost_usd"] += dollars


class _Counting(CallListener):
    """Adds what each model's call used to all budgets of its place."""

    def ended(self, call: Call, outputs: Any, error: BaseException | None) -> None:  # noqa: ARG002
        if call.kind == LM and call.heard and call.heard.usage:
            for spent in dspy.settings.get(_SPENT) or ():
                spent.add(call.heard.usage.tokens, cost_usd(call))


_counting = _Counting()  # one for all, so that nested modules count a call once


class ObservableModule(dspy.Module):
    """Runs a program with metrics, other listeners and budgets; its answers are the program's."""

    def __init__(
        self,
        program: dspy.Module,
        *listeners: CallListener,
        metrics: MetricsCollector | None = None,
        per_request: Budget | None = None,
        per_tenant: Budget | None = None,
        tenant: Callable[[], str | None] = lambda: None,
        period_s: float = DAY_S,
    ) -> None:
        """Wrap a program; models that it holds are replaced by observed() ones, in place.

        Args:
            program: any module.
            listeners: such as a Tracer; also those that are configured already are heard, and once.
            metrics: where to count; without one, a collector of this module's own.
            per_request: what one call may spend.
            per_tenant: what all calls of one tenant may spend in a period, in this process.
            tenant: returns the tenant of the call: `lambda: current_scope().tenant`.
            period_s: begins with a tenant's first call.
        """
        super().__init__()
        self.program, self.metrics = program, metrics or MetricsCollector()
        self._listeners = (self.metrics, *listeners, _counting)
        self._per_request, self._per_tenant, self._tenant = per_request, per_tenant, tenant
        self._tenants: TTLCache[str | None, _Spent] = TTLCache(_MOST_TENANTS, period_s)
        self._lock = threading.Lock()
        forks.things.add(self)
        for _, module in program.named_sub_modules():
            for name, held in list(vars(module).items()):
                if isinstance(held, dspy.LM):
                    setattr(module, name, observed(held))

    def __deepcopy__(self, memo: dict[int, Any]) -> ObservableModule:
        """Copy the program, for an optimizer; what listens and what is spent stays one."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(self.__dict__)
        copied.program = self.program.deepcopy()
        return copied

    def forward(self, **inputs: Any) -> Any:
        """Run the program.

        Raises:
            BudgetExceeded: before the first attempt for which nothing is left.
        """
        with self._observed():
            return self.program(**inputs)

    async def aforward(self, **inputs: Any) -> Any:
        """Do as forward()."""
        with self._observed():
            return await self.program.acall(**inputs)

    @contextmanager
    def _observed(self) -> Iterator[None]:
        present = dspy.settings.callbacks
        new = [each for each in self._listeners if each not in present]
        settings: dict[str, Any] = {"callbacks": [*present, *new]}
        if isinstance(dspy.settings.lm, dspy.LM):
            settings["lm"] = observed(dspy.settings.lm)
        settings[_SPENT] = (*(dspy.settings.get(_SPENT) or ()), *self._budgets())
        with dspy.context(**settings):
            yield

    def _budgets(self) -> Iterator[_Spent]:
        if self._per_request:
            yield _Spent(self._per_request, "request")
        if self._per_tenant:
            tenant = self._tenant()
            with self._lock:
                yield self._tenants.setdefault(tenant, _Spent(self._per_tenant, "tenant"))


def observed(lm: dspy.LM) -> dspy.LM:
    """Return a copy of `lm` whose every attempt asks the budgets around it, and is noted if it fails.

    So DSPy's own retries are seen, which callbacks do not hear of. Answers of a cache are no attempts.
    """
    if isinstance(lm.engine, _Observed):
        return lm
    return with_engines(lm, _SyncEngine(lm), _AsyncEngine(lm))


class _Observed(Engine):
    def __init__(self, lm: dspy.LM) -> None:
        super().__init__(lm)
        self._lm = lm

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        for spent in dspy.settings.get(_SPENT) or ():
            spent.begin_attempt()
        try:
            yield
        except Exception as error:
            note("attempt.failed", error=type(error).__name__)
            raise


class _SyncEngine(_Observed):
    def complete(self, request: Request) -> Response:
        backend, request = engine_of(self._lm, request, in_task=False)
        with self._attempt():
            return backend.complete(request)

    def stream(self, request: Request) -> Iterator[Any]:
        backend, request = engine_of(self._lm, request, in_task=False)
        with self._attempt(), closing(backend.stream(request)) as events:
            yield from events


class _AsyncEngine(_Observed):
    async def complete(self, request: Request) -> Response:
        backend, request = engine_of(self._lm, request, in_task=True)
        with self._attempt():
            return await backend.complete(request)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        backend, request = engine_of(self._lm, request, in_task=True)
        with self._attempt():
            async with aclosing(backend.stream(request)) as events:
                async for event in events:
                    yield event
