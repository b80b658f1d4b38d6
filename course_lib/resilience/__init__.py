"""Going on when the other side fails or is slow: one mechanism of each kind, for every room above.

`retry`: call again after a growing wait, while the error is one that may go away by itself
`RetryBudget`: so many repeated calls for each call, so that repeats cannot become a storm
`CircuitBreaker`: stop asking a service that fails, until one trial call shows that it works again
`BreakerOpen`: raised in place of a call that the breaker does not allow
`Bulkhead`: so many calls at once, so many waiting; the rest is refused at once
`BulkheadFull`: raised in place of a call for which there is no place
`Deadline`: the moment at which an answer is due; nested calls see the earliest one
`DeadlineExceeded`: raised when that moment has passed
`TokenBucket`: so many calls (or tokens) per second, with a burst
`SingleFlight`: of many callers who ask the same thing at once, one calls and all take its answer

Main path: retry(is_retryable=...)(call)(...); with breaker: call(); with Deadline.after(2.0).applied(): ...
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
