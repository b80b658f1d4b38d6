from .breaker import BreakerOpen, CircuitBreaker
from .bucket import TokenBucket
from .bulkhead import Bulkhead, BulkheadFull
from .deadline import Deadline, DeadlineExceeded
from .retries import RetryBudget, retry
from .single_flight import SingleFlight

__all__ = [
    "BreakerOpen",
    "Bulkhead",
    "BulkheadFull",
    "CircuitBreaker",
    "Deadline",
    "DeadlineExceeded",
    "RetryBudget",
    "SingleFlight",
    "TokenBucket",
    "retry",
]
