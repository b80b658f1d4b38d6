"""Async, streaming and resilience: many calls at once, on purpose.

The parts are those of `lessons/03_async.py`. Names are loaded when first used, so the face costs nothing.

| name | what it is | part |
| --- | --- | --- |
| AsyncRunner, Outcome, NotAsyncError | many async calls with a limit and deadlines; failures as values | 2 |
| RateLimit, RateDeadlineExceeded | so many requests and tokens per second | 3 |
| AdaptiveLimiter | finds the rate that a server allows, and finds it again (exercise 3.5) | 3 |
| limited | an LM whose every attempt waits for a limiter | 3 |
| stream | one run of a program as typed events (exercise 3.3); more in `concurrency.streaming` | 4 |
| EventStream, Consumer | events in Redis, handled at least once; more in `concurrency.events` | 5 |
| ResilientProcessor | a program whose calls are repeated, shared, refused, or answered by another model | 6 |
| resilient, recommended | the LM inside it, and the policies around one model | 6 |
| composed, ExponentialBackoff, Timeout, Fallback, Hedge, Coalesce | policies, and how they join | 6 |
| guarded_by, limited_by | a circuit breaker (exercise 3.4) and a bulkhead as policies | 6 |
| HalfAnswer, Unanswered | it broke off after the first token; no model answered | 6 |
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
