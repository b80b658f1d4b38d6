from .events.consumer import Consumer
from .events.stream import EventStream
from .limits import AdaptiveLimiter, RateDeadlineExceeded, RateLimit, limited
from .policies import Coalesce, ExponentialBackoff, Fallback, Hedge, Timeout, composed, guarded_by, limited_by
from .processor import HalfAnswer, ResilientProcessor, Unanswered, recommended, resilient
from .runner import AsyncRunner, NotAsyncError, Outcome
from .streaming.streams import stream

__all__ = [
    "AdaptiveLimiter",
    "AsyncRunner",
    "Coalesce",
    "Consumer",
    "EventStream",
    "ExponentialBackoff",
    "Fallback",
    "HalfAnswer",
    "Hedge",
    "NotAsyncError",
    "Outcome",
    "RateDeadlineExceeded",
    "RateLimit",
    "ResilientProcessor",
    "Timeout",
    "Unanswered",
    "composed",
    "guarded_by",
    "limited",
    "limited_by",
    "recommended",
    "resilient",
    "stream",
]
