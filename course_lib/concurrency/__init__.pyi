from .limits import AdaptiveLimiter, RateDeadlineExceeded, RateLimit, limited
from .runner import AsyncRunner, Outcome

__all__ = [
    "AdaptiveLimiter",
    "AsyncRunner",
    "Outcome",
    "RateDeadlineExceeded",
    "RateLimit",
    "limited",
]
