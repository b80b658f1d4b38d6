# %% name="setup" tags=["needs"]
import itertools
import tempfile
import time
from collections import Counter

from course_lib import desk, lm
from course_lib.exercises import check, hint, solution
from course_lib.labs import table

model = lm.connect(cache=False)  # what is measured here is measured at the model

import dspy

scratch = tempfile.TemporaryDirectory(prefix="lantern-")
dspy.configure(lm=model)
print("DSPy", dspy.__version__, "talks to", model.model)
counter = itertools.count(1)


def unasked(text):
    """Return a text that was not asked before, so that a cell that is run again measures the same."""
    return text + " " * next(counter) + "\n"  # another request, and a model reads the same in it

# %% [markdown]
# ## 6. Resilience
#
# A provider fails in more than one way. One request in ten is refused; one in fifty takes half a minute; once a month everything is down
# for ten minutes. For each of these there is a remedy with a name, and each remedy makes another failure worse. So every mechanism of this
# part is shown twice: under a fault profile where it helps, and under one where it hurts.
#
# They all have one shape. A *policy* is an async function of a call and its request. It may make the call once, again, elsewhere or not at
# all, it returns what the call returns, and it knows nothing of the other policies. So they can be put around one another, and each can be
# understood alone:
#
# ```mermaid
# flowchart LR
#     accTitle: The policies around a model
#     accDescr: A request passes coalescing, backoff, hedge, bulkhead, circuit breaker and timeout on its way to the model; if the model cannot answer, the request goes to another model with policies of its own.
#     request([request]) --> coalesce[coalesce] --> backoff[backoff] --> hedge[hedge] --> bulkhead[bulkhead]
#     bulkhead --> breaker[circuit breaker] --> timeout[timeout] --> model[(the model)]
#     coalesce -. "fallback: no answer from there" .-> other[(another model,<br>with policies of its own)]
# ```
#
# Two helpers for the whole part: `asking` makes a call, which is one attempt to sort a ticket with a model under a profile, and
# `outcomes_of` sends tickets through a call and counts: what became of them here, and how many requests the model's server saw.

# %% name="outcomes-of"
import asyncio

from course_lib.errors import CourseError

triage = desk.Triage()
questions = [each.text for each in desk.tickets("train")]


def asking(profile, name="sim-large", **options):
    """Return a call: one attempt to sort a ticket with this model under this profile."""
    asked = lm.connect(f"{name}@{profile}", cache=False, **{"num_retries": 0, **options})

    async def call(ticket):
        with dspy.context(lm=asked):
            return await triage.acall(ticket=ticket)

    return call


async def outcomes_of(call, tickets, every_s=0.0):
    """Send tickets, one every so often; return how many were answered, the other ends, and the requests."""
    before = lm.ledger().requests

    async def outcome(ticket, after_s):
        await asyncio.sleep(after_s)
        try:
            await call(ticket)
        except (dspy.DSPyError, CourseError) as error:
            return type(error).__name__
        return "answered"

    ends = await asyncio.gather(*(outcome(each, number * every_s) for number, each in enumerate(tickets)))
    return {"answered": 0, **Counter(ends), "requests": lm.ledger().requests - before}


lm.profile("showers", unavailable_rate=0.3)
await outcomes_of(asking("showers"), questions[:40])

# %% [markdown]
# ### Ask again, but not all at once
#
# `showers` refuses three requests in ten. To ask again is the oldest remedy, and the whole of it fits into ten lines. Only errors that may go
# away by themselves are worth it: a wrong key stays wrong.

# %% name="small-backoff"
import random


class SmallBackoff:
    def __init__(self, attempts=3, first_wait_s=0.1):
        self.attempts, self.first_wait_s = attempts, first_wait_s

    async def __call__(self, call, request):
        for attempt in range(self.attempts):
            try:
                return await call(request)
            except dspy.LMError as error:
                if attempt + 1 == self.attempts or not dspy.is_retryable_lm_error(error):
                    raise
                wait_s = self.first_wait_s * 2**attempt  # exponential: twice as long each time
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # jitter: up to half of it left out


# %% name="backoff-helps"
from course_lib.concurrency import composed

await outcomes_of(composed([SmallBackoff()], asking("showers")), questions[:40])

# %% [markdown]
# Why the doubling, and why the *jitter*, the random part? DSPy repeats, too: `num_retries=3` unless you say otherwise, after 1, 2 and 4
# seconds, to the millisecond. Here 40 users ask within the same moment, and the model is down. One half of them has plain DSPy with one
# repeat, the other half the small backoff.

# %% name="all-at-once"
import matplotlib.pyplot as plt

from course_lib.labs import plot

ways = {"plain DSPy": "down", "with jitter": "down-too"}
for profile in ways.values():
    lm.profile(profile, unavailable_rate=1.0)
lm.reset()
jitter = composed([SmallBackoff(attempts=2, first_wait_s=1.0)], asking("down-too"))
await asyncio.gather(
    outcomes_of(asking("down", num_retries=1), questions[:20]), outcomes_of(jitter, questions[20:40])
)
arrivals_s = [[call.at_s for call in lm.ledger().calls if call.profile == each] for each in ways.values()]
figure, axes = plt.subplots(figsize=(8, 2), layout="constrained")
axes.eventplot(arrivals_s, colors=["tab:red", "tab:blue"], linewidths=1, alpha=0.7)
axes.set(yticks=[0, 1], yticklabels=[*ways], xlabel="seconds: each line is a request at the model's server")
again_s = [max(each) - min(at for at in each if at > 0.4) for each in arrivals_s]
plot(figure, "; ".join(f"{way}: all repeats within {s:.2f} s" for way, s in zip(ways, again_s, strict=True)))

# %% [markdown]
# All repeats of plain DSPy arrive together, and the next ones would again. A server that is just coming back gets its whole load in one
# moment, each time it tries: a *thundering herd*. The random part spreads it.
#
# ### Where it hurts: the retry storm
#
# Now the model is down, and clients are patient: six attempts each. What the server sees of 20 questions:

# %% name="retry-storm"
before = lm.ledger().requests
patient = composed([SmallBackoff(attempts=6, first_wait_s=0.01)], asking("down"))
print(await outcomes_of(patient, questions[:20]))
lm.verdict(since=before)

# %% [markdown]
# Six times the load, on a server that is down because it has too much load: this is how a short failure becomes a long one. And where
# two layers repeat, six times six. The ledger's *verdict* names it `retry_storm`: `lm.verdict()` reads what the endpoint saw of this client, and
# says what a provider would say. Therefore: **one layer repeats**, and repeats have a *budget*, a share of all calls. The course's
# `ExponentialBackoff` is the small version with both a budget and what part 3 asked for, `Retry-After` with a cap.

# %% name="retry-budget"
from course_lib.concurrency import ExponentialBackoff

before = lm.ledger().requests
budgeted = ExponentialBackoff(attempts=6, first_wait_s=0.01)  # one repeat for five calls, five more to begin with
print("down:   ", await outcomes_of(composed([budgeted], asking("down")), questions[:20]))
print(lm.verdict(since=before))
budgeted = ExponentialBackoff(attempts=6, first_wait_s=0.01)
print("showers:", await outcomes_of(composed([budgeted], asking("showers")), questions[:40]))

# %% [markdown]
# The storm is gone, and under `showers`, where three in ten fail, a budget of one in five is too small for all. That is the price, and it is
# the right way round: few failures are mended, many are not made worse.
#
# ### Stop asking: the circuit breaker
#
# While a service is down each call of it is a waste: it costs the user a wait, and the service a request. A *circuit breaker* remembers. It
# is the fuse of a house with one thing added: it tries by itself whether the fault is gone.
#
# ```mermaid
# stateDiagram-v2
#     accTitle: A circuit breaker
#     accDescr: Closed means that every call is made. After several failures in a row it opens, and no call is made. When a wait is over one call is made as a trial: half-open. If it is answered the breaker closes, if it fails it opens again.
#     direction LR
#     [*] --> closed
#     closed --> open: so many failures in a row
#     open --> half_open: the wait is over
#     half_open --> closed: the trial is answered
#     half_open --> open: the trial fails
#     half_open: half-open
# ```
#
# ### Exercise 3.4: a circuit breaker (12 minutes, medium)
#
# *Concepts: state machine, injected clock, context manager, cancellation.*
#
# Write `Breaker(threshold, wait_s, clock)`, used as `with breaker: answer = triage(ticket=...)`, or with an `await` inside: a `with` serves both.
# It lives in one thread, where calls of several tasks may overlap.
#
# - *Closed:* calls are made. After `threshold` failures in a row (an answer starts the count at 0) it opens. A failure is any `Exception`, and
#   whatever a call raises comes out as it is.
# - *Open:* for `wait_s` seconds by `clock()`, each `with` raises `BreakerOpen`, and its call is not made.
# - *Half-open:* after that the next call is made, as a trial. While it is under way no other is (if it takes longer than `wait_s`: as you like).
#   If it is answered, the breaker closes, and the count is 0; if it fails, it opens again, for `wait_s` from then on.
# - A call that is cancelled (`CancelledError`, `KeyboardInterrupt`) is neither a failure nor an answer. If it was the trial, the next call is the
#   trial.
# - A call that began earlier and ends while the breaker is open changes nothing. Two breakers share nothing.

# %% name="ex-3-4" tags=["exercise"] exercise="3.4"
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        ### BEGIN SOLUTION
        ### STUB: ...
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self
        ### END SOLUTION

    def __exit__(self, kind, error, trace):
        ### BEGIN SOLUTION
        ### STUB: ...
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()
        ### END SOLUTION


# %% tags=["right"] exercise="3.4"
# One function, a generator: what comes before `yield` is the way in, what comes after it the way out.
import time
from contextlib import contextmanager

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.failures, self.opened_s, self.trial = 0, None, False
        self.threshold, self.wait_s, self.clock = threshold, wait_s, clock
        self.blocks = []

    @contextmanager
    def call(self):
        if self.trial or (self.opened_s is not None and self.clock() - self.opened_s < self.wait_s):
            raise BreakerOpen
        self.trial = self.opened_s is not None
        try:
            yield self
        except Exception:
            self.ended(failures=1)
            raise
        except BaseException:
            self.trial = False
            raise
        else:
            self.ended(failures=0)

    def ended(self, failures):
        if self.opened_s is not None and not self.trial:
            return
        self.failures = self.failures + 1 if failures else 0
        if failures and (self.trial or self.failures >= self.threshold):
            self.opened_s = self.clock()
        elif not failures:
            self.opened_s = None
        self.trial = False

    def __enter__(self):
        self.blocks.append(self.call())
        try:
            return self.blocks[-1].__enter__()
        except BreakerOpen:
            self.blocks.pop()
            raise

    def __exit__(self, *error):
        return self.blocks.pop().__exit__(*error)

# %% tags=["right"] exercise="3.4"
# States as types, and the change of state a function of its own.
import time
from dataclasses import dataclass

from course_lib.resilience import BreakerOpen


@dataclass(frozen=True)
class Closed:
    failures: int = 0


@dataclass(frozen=True)
class Open:
    until_s: float


class HalfOpen:
    pass


def after(state, kind, threshold, now_s, wait_s):
    match state:
        case Open():
            return state
        case Closed() | HalfOpen() if kind is None:
            return Closed()
        case Closed(failures) if issubclass(kind, Exception):
            return Closed(failures + 1) if failures + 1 < threshold else Open(now_s + wait_s)
        case HalfOpen():
            return Open(now_s + wait_s if issubclass(kind, Exception) else now_s)
    return state


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.settings, self.clock, self.state = (threshold, wait_s), clock, Closed()

    def __enter__(self):
        match self.state:
            case Open(until_s) if self.clock() >= until_s:
                self.state = HalfOpen()
            case Open() | HalfOpen():
                raise BreakerOpen("not now")

    def __exit__(self, kind, error, trace):
        threshold, wait_s = self.settings
        self.state = after(self.state, kind, threshold, self.clock(), wait_s)

# %% tags=["right"] exercise="3.4"
# The library's own, with settings that make it this simple.
import time

from course_lib.resilience import BreakerOpen, CircuitBreaker


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        waits = {"first_wait_s": wait_s, "longest_wait_s": wait_s}
        self.inner = CircuitBreaker("the model", threshold=threshold, clock=clock, **waits)

    def __enter__(self):
        return self.inner.__enter__()

    def __exit__(self, *error):
        return self.inner.__exit__(*error)

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="a call at the end"
# In all, not in a row: an answer does not start the count anew.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state = "closed"
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="BreakerOpen, and no call at the end"
# One failure too many.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures > self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="raised .* at the end"
# Swallows what the call raises.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return True
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
            return True
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="stays open for wait_s seconds"
# Time of its own, not the clock's.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and time.monotonic() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", time.monotonic() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="a call at the end"
# Asks the service no more, ever.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="BreakerOpen, and no call at the end"
# A trial that fails counts as the first failure of a new row.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state, self.failures = "half-open", 0
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open":
                self.state = "closed"
            if self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="stays open for wait_s seconds"
# After a failed trial it waits from the first opening on.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", (self.until_s or self.clock()) + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="while the trial is under way"
# When the wait is over, everybody may call.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state == "open":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="changes nothing"
# A late answer closes it.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="changes nothing"
# A late failure prolongs the wait.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open" and kind is None:
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="neither failure nor answer"
# A cancelled call is a failure.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="neither failure nor answer"
# A cancelled call is an answer.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if not is_failure:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="neither failure nor answer"
# A cancelled trial leaves the breaker half-open for ever.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="neither failure nor answer"
# A cancelled trial has everybody wait once more.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock() + self.wait_s

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="a call at the end"
# The state stands on the class.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    state, failures, until_s = "closed", 0, 0.0

    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        return self

    def __exit__(self, kind, error, trace):
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, Breaker.failures = "closed", 0
        elif is_failure:
            Breaker.failures += 1
            if self.state == "half-open" or Breaker.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% tags=["wrong"] exercise="3.4" outcome="failed" message="calls may overlap"
# One call at a time: who comes while another is under way is refused.
import time

from course_lib.resilience import BreakerOpen


class Breaker:
    def __init__(self, threshold, wait_s, clock=time.monotonic):
        self.threshold = threshold
        self.wait_s = wait_s
        self.clock = clock
        self.state = "closed"
        self.failures = 0
        self.busy = False
        self.until_s = 0.0

    def __enter__(self):
        if self.state == "open" and self.clock() >= self.until_s:
            self.state = "half-open"
        elif self.state != "closed":
            raise BreakerOpen("the service is not asked at the moment")
        if self.busy:
            raise BreakerOpen
        self.busy = True
        return self

    def __exit__(self, kind, error, trace):
        self.busy = False
        is_failure = kind is not None and issubclass(kind, Exception)
        if self.state == "open":
            return
        if kind is None:
            self.state, self.failures = "closed", 0
        elif is_failure:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.state, self.until_s = "open", self.clock() + self.wait_s
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()

# %% name="check-3-4" tags=["check"] exercise="3.4"
check("3.4", Breaker)

# %% name="help-3-4"
# hint("3.4")
# solution("3.4")
