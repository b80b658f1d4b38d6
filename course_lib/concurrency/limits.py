# mypy: allow-subclassing-any
"""Calls at the rate that the model allows: told to us, or found from its refusals.

Main path: lm = limited(lm.connect(), RateLimit(requests_per_s=8)), or AdaptiveLimiter() for an unknown limit.
DSPy's own loop of retries waits as long as the error's `retry_after` says. It stays the one retry layer
(`num_retries` of the LM); the limiter only says how long it waits.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from typing import Any, Self

import dspy
from dspy.lm15 import RateLimitError, Request, Response

from course_lib.measure.engines import Engine, engine_of, with_engines
from course_lib.resilience import Deadline, DeadlineExceeded, TokenBucket, forks
from course_lib.resilience.deadline import Clock
from course_lib.resilience.retries import asked_s

_BURST_S = 0.1
"""What may go at once after a pause, in seconds of the rate; a provider's own burst is rarely known."""
_UNLIMITED = 1e9
_UNASKED_S = 0.5
"""The wait after a refusal that names none."""
_DECREASE, _LOWEST_PER_S = 0.8, 0.1
_DOUBLES_AFTER_S = 10.0
"""So long after a decrease the rate is twice what it was then; after 6.3 s it is what it was before."""


class RateDeadlineExceeded(dspy.LMError, DeadlineExceeded):
    """The rate limit lets the call through only after its deadline; DSPy does not try it again."""


class RateLimit:
    """At most so many requests and tokens per second: `async with limit: ...`, or `with` in a thread.

    A call waits for its turn, first come first served, and up to the end of a pause that a 429 asked for.
    What tokens it uses is known afterwards: tell it by charge(), and the calls after it wait for that.
    """

    def __init__(
        self,
        requests_per_s: float | None = None,
        tokens_per_s: float | None = None,
        *,
        longest_wait_s: float = 30.0,
        burst_s: float = _BURST_S,
        clock: Clock = time.monotonic,
    ) -> None:
        """Begin with nothing used; None is no limit. No server makes us wait longer than `longest_wait_s`.

        After a pause `burst_s` seconds' worth may go at once, or one.
        """
        if not 0 <= longest_wait_s < math.inf:
            raise ValueError(f"longest_wait_s ({longest_wait_s!r}) must be 0 or above, and finite")
        self._most_tokens = (tokens_per_s or 0.0) * longest_wait_s / 2  # of a call; as many for the next one
        self._requests, self._tokens = (
            TokenBucket(rate, max(1.0, burst_s * rate), clock=clock)
            for rate in (_UNLIMITED if rate is None else rate for rate in (requests_per_s, tokens_per_s))
        )
        self._longest_wait_s, self._clock = longest_wait_s, clock
        self._tokens_per_call = 0.0  # the mean of late; a call that begins is charged this much
        self._charged: deque[float] = deque(maxlen=100_000)  # what calls that began were charged, until told
        self._lock = threading.RLock()
        forks.things.add(self)
        self._made_wait = False
        self.refusals = 0
        """How many 429 it was told of."""

    @contextmanager
    def _in_line(self) -> Iterator[Callable[[], float]]:
        """Take a place in both lines; yield what tells the seconds left."""

        def left_s() -> float:
            wait_s = max(for_requests(), for_tokens())
            self._made_wait |= wait_s > 0
            return wait_s

        expected = self._tokens_per_call
        try:
            with self._requests.in_line() as for_requests, self._tokens.in_line(expected) as for_tokens:
                yield left_s
            self._charged.append(expected)
        except DeadlineExceeded as error:
            raise RateDeadlineExceeded(str(error)) from None

    def charge(self, tokens: float) -> None:
        """Tell what a call has used; no more is believed than what comes in half of `longest_wait_s`."""
        if not 0 <= tokens < math.inf:
            return
        with self._lock:
            tokens = min(tokens, self._most_tokens)
            self._tokens.charge(tokens - self._expected())
            tokens = min(tokens, self._tokens.rate_per_s)  # to begin, a call takes no more than a second's
            self._tokens_per_call += (tokens - self._tokens_per_call) / (8 if self._tokens_per_call else 1)

    def _expected(self) -> float:
        """Return what a call under way was charged when it began; which of them makes no difference."""
        return self._charged.popleft() if self._charged else 0.0

    def record_success(self) -> None:
        """Tell that a call was let through by the server."""

    def record_refusal(self, retry_after_s: float | None = None) -> float:
        """Tell of a 429: nobody goes until the wait is over that the server asked for; return its seconds.

        The wait has a cap, and up to a tenth is added at random (jitter), so that not all clients are back
        at the same moment.
        """
        wait_s = min(_UNASKED_S if retry_after_s is None else max(0.0, retry_after_s), self._longest_wait_s)
        wait_s *= random.uniform(1.0, 1.1)
        with self._lock:
            self.refusals += 1
            self._requests.hold(wait_s)
        return wait_s

    async def __aenter__(self) -> Self:
        """Wait until one more call may go.

        Raises:
            RateDeadlineExceeded: that would be after the current deadline; nothing was taken.
        """
        with self._in_line() as left_s:
            while wait_s := left_s():  # noqa: ASYNC110  (the rate may have changed meanwhile)
                await asyncio.sleep(wait_s)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)

    def __enter__(self) -> Self:
        """Wait in a thread."""
        with self._in_line() as left_s:
            while wait_s := left_s():
                time.sleep(wait_s)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Tell how the call ended; a refusal leaves with the wait that it means here."""
        if error is None:
            self.record_success()
        elif isinstance(error, RateLimitError | dspy.LMRateLimitError):
            self._tokens.charge(-self._expected())
            error.retry_after = self.record_refusal(asked_s(error))
            deadline = Deadline.current()
            if deadline and error.retry_after > deadline.remaining_s():
                message = f"the wait would be {error.retry_after:.3g} s, beyond the deadline"
                raise RateDeadlineExceeded(message) from error

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Return itself: a copied program shares the limit."""
        return self


class AdaptiveLimiter(RateLimit):
    """Finds the rate that a server allows, and finds it again when it moves (AIMD).

    Additive increase: while callers wait for it, the rate grows step by step; the steps grow too while no 429
    comes, so that a limit that has risen is found soon. Before the first 429 it doubles each second.
    Multiplicative decrease: at a 429 it falls by a fifth. All 429s of one pause count once: their calls went
    out at the old rate. To find out costs about one refusal in seven seconds, whatever the limit.
    """

    def __init__(
        self, first_per_s: float = 2.0, *, longest_wait_s: float = 30.0, clock: Clock = time.monotonic
    ) -> None:
        # Evenly, for a burst says nothing.
        super().__init__(first_per_s, longest_wait_s=longest_wait_s, burst_s=0.0, clock=clock)
        self._decreased_to_per_s = first_per_s
        self._pressed_s = 0.0  # time since the last decrease in which callers waited
        self._counted_at = clock()  # up to here; in the future during a pause

    @property
    def rate_per_s(self) -> float:
        """Requests per second that it lets through now."""
        return self._requests.rate_per_s

    def record_success(self) -> None:
        """Raise the rate a little, if callers wait for it: one that nobody uses proves nothing."""
        with self._lock:
            elapsed_s = self._clock() - self._counted_at
            if elapsed_s <= 0:  # in a pause
                return
            self._counted_at += elapsed_s
            elapsed_s = min(elapsed_s, max(1.0, 2 / self.rate_per_s)) if self._made_wait else 0.0
            self._made_wait = False
            self._pressed_s += elapsed_s
            if self.refusals:
                step_per_s = self._decreased_to_per_s * 3 * self._pressed_s**2 / _DOUBLES_AFTER_S**3
                self._requests.rate_per_s += step_per_s * elapsed_s
            else:
                self._requests.rate_per_s *= 2**elapsed_s

    def record_refusal(self, retry_after_s: float | None = None) -> float:
        """Lower the rate, once for each pause."""
        with self._lock:
            now_s = self._clock()
            wait_s = super().record_refusal(retry_after_s)
            if now_s >= self._counted_at:
                self._decreased_to_per_s = max(_DECREASE * self.rate_per_s, _LOWEST_PER_S)
                self._requests.rate_per_s = self._decreased_to_per_s
                self._pressed_s, self._counted_at = 0.0, now_s + _UNASKED_S
            self._counted_at = max(self._counted_at, now_s + wait_s)
            return wait_s


def limited(lm: dspy.LM, limiter: RateLimit) -> dspy.LM:
    """Return a copy of `lm` whose every attempt waits for the limiter, and tells it of each 429.

    Hits of the cache wait for nothing. `num_retries` of `lm` says how often a refused call is tried again;
    put no other retry around it. The connection's settings (api_base, timeout) stay with `lm`, and a single
    call cannot change them. Share one limiter among all models that share one limit.
    """
    return with_engines(lm, _SyncEngine(lm, limiter), _AsyncEngine(lm, limiter))


class _LimitedEngine(Engine):
    """What the engines of `limited` share: the LM whose own engine makes the attempt."""

    def __init__(self, lm: dspy.LM, limiter: RateLimit) -> None:
        super().__init__(lm)
        self._lm, self._limiter = lm, limiter

    def _charge(self, end: Any) -> None:
        """Charge what a response or the last event of a stream reports."""
        usage = end.usage
        self._limiter.charge((usage.total_tokens or 0) if usage else 0)


class _SyncEngine(_LimitedEngine):
    def complete(self, request: Request) -> Response:
        backend, request = engine_of(self._lm, request, in_task=False)
        with self._limiter:
            response = backend.complete(request)
        self._charge(response)
        return response

    def stream(self, request: Request) -> Iterator[Any]:
        backend, request = engine_of(self._lm, request, in_task=False)
        with self._limiter, closing(backend.stream(request)) as events:
            for event in events:
                if event.type == "end":
                    self._charge(event)
                yield event


class _AsyncEngine(_LimitedEngine):
    async def complete(self, request: Request) -> Response:
        backend, request = engine_of(self._lm, request, in_task=True)
        async with self._limiter:
            response = await backend.complete(request)
        self._charge(response)
        return response

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        backend, request = engine_of(self._lm, request, in_task=True)
        async with self._limiter, aclosing(backend.stream(request)) as events:
            async for event in events:
                if event.type == "end":
                    self._charge(event)
                yield event
