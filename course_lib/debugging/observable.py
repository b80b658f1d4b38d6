"""A program that is watched, and stopped before it costs more than it may.

Main path: ObservableModule(program, per_request=Budget(cost_usd=0.02)) is a dspy.Module like the program;
observable.metrics counts it.
Source: dspy.clients.execution._engine (DSPy 3.4.1), by which every dspy.LM takes its engine. DSPy swallows
what a callback raises, and a program may ask any LM, so budgets stand there: before each attempt, under the
cache, where a raised error is an LM's error like any other.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import dspy
from cachetools import TTLCache
from dspy.clients import execution
from dspy.clients.call_result import CallResult, usage_dict
from dspy.clients.lm15_boundary import history_messages
from dspy.lm15 import Request, Response

from course_lib.debugging.attributes import cost_usd
from course_lib.debugging.metrics import MetricsCollector
from course_lib.debugging.steps import texts_in
from course_lib.errors import CourseError
from course_lib.measure.calls import CallListener
from course_lib.measure.engines import Engine
from course_lib.measure.usage import Usage, usage_of
from course_lib.notes import note
from course_lib.resilience import forks

_SPENT, _IS_OBSERVED = "course_spent", "course_is_observed"
_MOST_TENANTS = 100_000
_TOKEN_CHARS = 4
DAY_S = 86_400.0


class BudgetExceeded(dspy.LMError, CourseError):  # noqa: N818  (says what happened)
    """A model is not asked any more: what the request, or its tenant, may spend is spent."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent; looked at before each attempt at a model, so that calls under way may exceed it.

    Of a call that is cancelled nobody reports the tokens, and some servers report none, or less than none:
    those sent and written are then estimated, from their characters and from the pieces that came. Not
    watched are threads that a program starts by itself, which DSPy's settings do not reach, and what a
    dspy.Embedder asks: DSPy calls it past its engines and callbacks, so no metric or trace has it either.
    """

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

    def add(self, usage: Usage) -> None:
        """Count what an attempt has used."""
        with self._lock:
            self._used["tokens"] += usage.tokens
            self._used["cost_usd"] += cost_usd(usage)


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
        """Wrap a program; whatever language models it asks, each attempt is seen. Budget says what is not.

        Args:
            program: any module.
            listeners: such as a Tracer; also those that are configured already are heard, and once.
            metrics: where to count; without one, a collector of this module's own.
            per_request: what one call may spend.
            per_tenant: what all calls of one tenant may spend in a period, in this process; 100,000 tenants
                are known at a time, and with more of them the one not seen for longest begins anew.
            tenant: returns the tenant of the call: `lambda: current_scope().tenant`.
            period_s: begins with a tenant's first call.
        """
        if not period_s > 0:  # nor is NaN
            raise ValueError(f"a period of {period_s!r} s never holds; give seconds above 0")
        super().__init__()
        self.program, self.metrics = program, metrics or MetricsCollector()
        self._listeners = (self.metrics, *listeners)
        self._per_request, self._per_tenant, self._tenant = per_request, per_tenant, tenant
        self._tenants: TTLCache[str | None, _Spent] = TTLCache(_MOST_TENANTS, period_s)
        self._lock = threading.Lock()
        forks.things.add(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> ObservableModule:
        """Copy the program, for an optimizer; what listens and what is spent stays one."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(self.__dict__)
        copied.program = self.program.deepcopy()
        return copied

    @property
    def observed_program(self) -> dspy.Module:
        """The program, also of one that is wrapped twice: metrics count under its name."""
        return getattr(self.program, "observed_program", self.program)

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
    """Return a copy of `lm` whose every attempt is noted if it fails, as in an ObservableModule.

    So DSPy's own retries are seen, which callbacks do not hear of. Answers of a cache are no attempts.
    """
    if getattr(lm, _IS_OBSERVED, False):
        return lm
    seen = lm.copy()
    setattr(seen, _IS_OBSERVED, True)
    return seen


class _Came:
    """What came of one attempt."""

    def __init__(self) -> None:
        self.reported: Mapping[str, Any] = {}
        self.pieces = self.chars = 0

    def take(self, answer: Any, provider: str | None = None) -> None:
        """Take an answer, whole or in part; or an event of a stream."""
        if isinstance(answer, CallResult):
            self.reported, self.chars = answer.usage, sum(map(len, texts_in(answer.outputs)))
        elif getattr(answer, "type", "") == "delta":
            self.pieces += 1
        elif getattr(answer, "usage", None):
            self.reported = usage_dict(answer, provider)
            self.chars = len(answer.text or "") if isinstance(answer, Response) else 0

    def used(self, model: str, asked: Request | Mapping[str, Any]) -> Usage:
        """Return what the attempt used, as the server says, or else by a guess."""
        try:
            usage = usage_of([(model, self.reported)])
            if usage.tokens > 0 and min(usage.prompt_tokens, usage.completion_tokens) >= 0:  # NaN is not
                return usage
        except (TypeError, ValueError, AttributeError):  # border: a server reports what it likes
            pass
        messages = history_messages(asked) if isinstance(asked, Request) else asked.get("messages")
        sent = sum(map(len, texts_in(messages))) // _TOKEN_CHARS
        written = self.pieces + self.chars // _TOKEN_CHARS
        return usage_of([(model, {"prompt_tokens": max(1, sent), "completion_tokens": written})])


class _Attempts:
    """Stands for the engine that DSPy took: asks the budgets before each attempt, and notes a failed one."""

    def __init__(self, backend: Any, model: str, provider: str | None) -> None:
        self._backend, self._model, self._provider = backend, model, provider

    @contextmanager
    def _attempt(self, asked: Request | Mapping[str, Any]) -> Iterator[_Came]:
        """Make an attempt, and count what it used: also where the program listens to nothing."""
        budgets, came = dspy.settings.get(_SPENT) or (), _Came()
        for spent in budgets:
            spent.begin_attempt()
        is_paid = True
        try:
            yield came
        except Exception as error:
            note("attempt.failed", error=type(error).__name__)
            came.take(getattr(error, "partial", None), self._provider)
            is_paid = bool(came.pieces or came.reported)
            raise
        finally:
            for spent in budgets if is_paid else ():
                spent.add(came.used(self._model, asked))


class _SyncAttempts(_Attempts):
    def complete(self, request: Request) -> Response:
        with self._attempt(request) as came:
            response = self._backend.complete(request)
            came.take(response, self._provider)
            return response

    def complete_legacy(self, lm: Any, request: Mapping[str, Any], **given: Any) -> Any:
        with self._attempt(request) as came:
            result = self._backend.complete_legacy(lm, request, **given)
            came.take(result)
            return result

    def stream(self, request: Request) -> Iterator[Any]:
        with self._attempt(request) as came, closing(self._backend.stream(request)) as events:
            for event in events:
                came.take(event, self._provider)
                yield event


class _AsyncAttempts(_Attempts):
    async def complete(self, request: Request) -> Response:
        with self._attempt(request) as came:
            response = await self._backend.complete(request)
            came.take(response, self._provider)
            return response

    async def complete_legacy(self, lm: Any, request: Mapping[str, Any], **given: Any) -> Any:
        with self._attempt(request) as came:
            result = await self._backend.complete_legacy(lm, request, **given)
            came.take(result)
            return result

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        with self._attempt(request) as came:
            async with aclosing(self._backend.stream(request)) as events:
                async for event in events:
                    came.take(event, self._provider)
                    yield event


_dspys_engine = execution._engine  # noqa: SLF001


def _engine(lm: Any, call: Any, asynchronous: bool) -> tuple[Any, Any, Any]:
    """Do as DSPy's, and put our own around it where attempts are to be seen.

    Within an ObservableModule an engine of ours (a limiter, a chain of models) is left as it is: each engine
    that it asks comes through here.
    """
    backend, request, provider = _dspys_engine(lm, call, asynchronous)
    if dspy.settings.get(_SPENT) is None:
        is_seen = getattr(lm, _IS_OBSERVED, False)
    else:
        is_seen = not isinstance(backend, Engine)
    if is_seen:
        backend = (_AsyncAttempts if asynchronous else _SyncAttempts)(backend, lm.model, provider)
    return backend, request, provider


execution._engine = _engine  # noqa: SLF001  (DSPy offers no place of its own from which a call can be refused)
