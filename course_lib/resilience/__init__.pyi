from .breaker import BreakerOpen, CircuitBreaker
from .bucket import TokenBucket
from .deadline import Deadline, DeadlineExceeded
from .retries import retry

__all__ = [
    "BreakerOpen",
    "CircuitBreaker",
    "Deadline",
    "DeadlineExceeded",
    "TokenBucket",
    "retry",
]
