"""Many calls at once, on purpose: bounded, within their time, and at the rate that the model allows.

`AsyncRunner`, `Outcome`: many calls with a limit, deadlines and backpressure; failures are values
`RateLimit`: so many requests and tokens per second
`AdaptiveLimiter`: finds the rate that a service allows from its refusals
`limited`: an LM whose every attempt waits for a limiter
`RateDeadlineExceeded`: raised in place of a wait that would end after the deadline
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
