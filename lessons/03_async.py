# %% [markdown] name="title"
# # Async and streaming
#
# TITLE

# %% name="setup" tags=["needs"]
import asyncio
import itertools
import tempfile
import time
from collections import Counter

from course_lib import desk, lm
from course_lib.exercises import check, hint, solution
from course_lib.labs import plot, table

model = lm.connect(cache=False)  # every call reaches the model's server

import dspy

scratch = tempfile.TemporaryDirectory(prefix="lantern-")
dspy.configure(lm=model)
print("DSPy", dspy.__version__, "talks to", model.model)
counter = itertools.count(1)


def unasked(text):
    """Return a text that was not asked before, so that a cell that is run again measures the same."""
    return text + " " * next(counter) + "\n"  # another request, and a model reads the same in it


# %% [markdown]
# ### Exercise 3.1: `gather` without melting the limit (10 minutes, medium)
#
# *Concepts: worker, shared iterator, TaskGroup, failures as values, cancellation.*
#
# Write `gather_within(limit, call, items)`, which calls the async function `call` once for each item and returns the results.
#
# - `limit` of the calls are under way at once: never more, nor fewer while items are left. A slow call holds up nobody: as soon as one
#   ends, the next begins.
# - What comes back is a list in the order of the items, an empty one for none. Each item is called once, also where two are equal.
# - An `Exception` of a call stands in its place of the list; the other calls go on.
# - `items` is any iterable, also a generator over a million rows: an item is read only when its call can begin.
# - When the caller is cancelled, the calls under way are cancelled at the model, and no other begins.

# %% name="ex-3-1" tags=["exercise"] exercise="3.1"
import asyncio


async def gather_within(limit, call, items):
    ### BEGIN SOLUTION
    ### STUB: ...
    numbered, results = iter(enumerate(items)), {}

    async def work():
        for number, item in numbered:  # all workers take from the same iterator
            try:
                results[number] = await call(item)
            except Exception as error:
                results[number] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(work())
    return [results[number] for number in sorted(results)]
    ### END SOLUTION


# %% tags=["right"] exercise="3.1"
# One task an item, but none before there is a slot for it.
import asyncio


async def gather_within(limit, call, items):
    slots, tasks = asyncio.Semaphore(limit), []

    async def one(item):
        try:
            return await call(item)
        except Exception as error:
            return error
        finally:
            slots.release()

    items = iter(items)
    async with asyncio.TaskGroup() as group:
        while True:
            await slots.acquire()
            try:
                item = next(items)
            except StopIteration:
                break
            tasks.append(group.create_task(one(item)))
    return [task.result() for task in tasks]


# %% tags=["right"] exercise="3.1"
# A set of tasks that is filled up whenever one has ended.
import asyncio
import itertools


async def gather_within(limit, call, items):
    items, all_tasks, running = iter(items), [], set()
    try:
        while True:
            for item in itertools.islice(items, limit - len(running)):
                task = asyncio.ensure_future(call(item))
                all_tasks.append(task)
                running.add(task)
            if not running:
                return [task.exception() or task.result() for task in all_tasks]
            _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in running:
            task.cancel()


# %% tags=["right"] exercise="3.1"
# The library's runner.
from course_lib.concurrency import AsyncRunner


async def gather_within(limit, call, items):
    outcomes = await AsyncRunner(limit, progress=False).run(call, ((item,) for item in items))
    return [outcome.value if outcome.ok else outcome.error for outcome in outcomes]


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="most requests at once that the model saw"
# No limit at all.
import asyncio


async def gather_within(limit, call, items):
    return await asyncio.gather(*(call(item) for item in items), return_exceptions=True)


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="calls that ended while call"
# Group after group: each waits for its slowest.
import asyncio
import itertools


async def gather_within(limit, call, items):
    items, results = iter(items), []
    while group := list(itertools.islice(items, limit)):
        results += await asyncio.gather(*map(call, group), return_exceptions=True)
    return results


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="most calls at once, limit=4"
# One by one keeps to any limit.
async def gather_within(limit, call, items):
    results = []
    for item in items:
        try:
            results.append(await call(item))
        except Exception as error:
            results.append(error)
    return results


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="most items that were read while their calls had not begun"
# A task for each item, before the first call has begun.
import asyncio


async def gather_within(limit, call, items):
    slots = asyncio.Semaphore(limit)

    async def one(item):
        async with slots:
            return await call(item)

    return await asyncio.gather(*map(one, items), return_exceptions=True)


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="result for the items"
# In the order in which they end.
import asyncio


async def gather_within(limit, call, items):
    items, results = iter(items), []

    async def work():
        for item in items:
            try:
                results.append(await call(item))
            except Exception as error:
                results.append(error)

    await asyncio.gather(*(work() for _ in range(limit)))
    return results


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="result for the items|how often each item"
# By item: equal items are one.
import asyncio


async def gather_within(limit, call, items):
    items = list(items)
    left, results = iter(dict.fromkeys(items)), {}

    async def work():
        for item in left:
            try:
                results[item] = await call(item)
            except Exception as error:
                results[item] = error

    await asyncio.gather(*(work() for _ in range(limit)))
    return [results[item] for item in items]


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="result when the calls"
# The first failure ends all.
import asyncio


async def gather_within(limit, call, items):
    numbered, results = iter(enumerate(items)), {}

    async def work():
        for number, item in numbered:
            results[number] = await call(item)

    await asyncio.gather(*(work() for _ in range(limit)))
    return [results[number] for number in sorted(results)]


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="result when the calls"
# Failures are lost.
import asyncio


async def gather_within(limit, call, items):
    numbered, results = iter(enumerate(items)), {}

    async def work():
        for number, item in numbered:
            try:
                results[number] = await call(item)
            except Exception:
                results[number] = None

    await asyncio.gather(*(work() for _ in range(limit)))
    return [results[number] for number in sorted(results)]


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="it still waited"
# A call that fails keeps its slot.
import asyncio


async def gather_within(limit, call, items):
    slots, tasks = asyncio.Semaphore(limit), []

    async def one(item):
        result = await call(item)
        slots.release()
        return result

    for item in items:
        await slots.acquire()
        tasks.append(asyncio.ensure_future(one(item)))
    return await asyncio.gather(*tasks, return_exceptions=True)


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="what the model saw of a cancelled run"
# Tasks that stand alone: who leaves takes none of them along.
import asyncio


async def gather_within(limit, call, items):
    numbered, results = iter(enumerate(items)), {}

    async def work():
        for number, item in numbered:
            try:
                results[number] = await call(item)
            except Exception as error:
                results[number] = error

    await asyncio.wait([asyncio.ensure_future(work()) for _ in range(limit)])
    return [results[number] for number in sorted(results)]


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="what the model saw of a cancelled run|how it ended"
# A cancellation is taken for a failure, and the next item begins.
import asyncio


async def gather_within(limit, call, items):
    numbered, results = iter(enumerate(items)), {}

    async def work():
        for number, item in numbered:
            try:
                results[number] = await call(item)
            except BaseException as error:
                results[number] = error

    await asyncio.gather(*(work() for _ in range(limit)))
    return [results[number] for number in sorted(results)]


# %% name="check-3-1" tags=["check"] exercise="3.1"
check("3.1", gather_within)

# %% name="help-3-1"
# hint("3.1")
# solution("3.1")

# %% [markdown]
# ### Exercise 3.2: a deadline that frees the slot (10 minutes, medium)
#
# *Concepts: asyncio.timeout, cancellation, 499, `async with`.*
#
# A service has some slots for calls of the model, and each of its callers has a deadline. Write `Slots(limit)` with
# `await run(call, deadline_s)`, where `call` is an async function without arguments.
#
# - At most `limit` calls of one object are under way, and as many as that. Two objects share nothing.
# - `run` returns what the call returns, and raises the very error that it raises.
# - `deadline_s` counts from `run`, the wait for a slot included; None is no deadline. Past it, `run` raises `TimeoutError`; the call is
#   cancelled, which the model's server sees, or not begun.
# - A caller that is cancelled, while it waits for a slot or calls, cancels its call.
# - However `run` ends, the slot is free then. It is not free before the call has ended, also one that takes a moment to clean up.

# %% name="ex-3-2" tags=["exercise"] exercise="3.2"
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        ### BEGIN SOLUTION
        ### STUB: ...
        async with asyncio.timeout(deadline_s), self.slots:
            return await call()
        ### END SOLUTION


# %% tags=["right"] exercise="3.2"
# asyncio.wait_for around the whole.
import asyncio


class Slots:
    def __init__(self, limit):
        self.free = asyncio.Queue()
        for slot in range(limit):
            self.free.put_nowait(slot)

    async def run(self, call, deadline_s):
        return await asyncio.wait_for(self.with_slot(call), deadline_s)

    async def with_slot(self, call):
        slot = await self.free.get()
        try:
            return await call()
        finally:
            self.free.put_nowait(slot)


# %% tags=["right"] exercise="3.2"
# anyio, on which DSPy and its HTTP client stand.
import anyio


class Slots:
    def __init__(self, limit):
        self.limiter = anyio.CapacityLimiter(limit)

    async def run(self, call, deadline_s):
        with anyio.fail_after(deadline_s):
            async with self.limiter:
                return await call()


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="how run ended that got no slot in its time"
# The deadline begins with the slot.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        async with self.slots, asyncio.timeout(deadline_s):
            return await call()


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="calls that . callers have under way"
# No limit.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        async with asyncio.timeout(deadline_s):
            return await call()


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="calls that . callers have under way|how run ended"
# The slot is given back after a result alone.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        async with asyncio.timeout(deadline_s):
            await self.slots.acquire()
            result = await call()
            self.slots.release()
            return result


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="calls that . callers have under way after"
# Given back after a result and after an error, not after a cancellation.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        async with asyncio.timeout(deadline_s):
            await self.slots.acquire()
            try:
                result = await call()
            except Exception:
                self.slots.release()
                raise
            self.slots.release()
            return result


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="calls that . callers have under way after"
# Given back by one that never had it.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        try:
            async with asyncio.timeout(deadline_s):
                await self.slots.acquire()
                return await call()
        finally:
            self.slots.release()


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="what the model saw of calls past their deadline"
# The caller stops waiting, the call goes on.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        async with asyncio.timeout(deadline_s), self.slots:
            return await asyncio.shield(asyncio.ensure_future(call()))


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="what the model saw of 2 calls whose callers were cancelled"
# Its own deadline cancels the call, its caller does not.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        async with asyncio.timeout(deadline_s) as timeout, self.slots:
            task = asyncio.ensure_future(call())
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if timeout.expired():
                    task.cancel()
                    await asyncio.wait([task])
                raise


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="calls begun while the one before still cleaned up"
# Cancels the call, and does not wait for its end.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        async with asyncio.timeout(deadline_s), self.slots:
            task = asyncio.ensure_future(call())
            try:
                return await asyncio.shield(task)
            finally:
                task.cancel()


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="how run ended past its deadline"
# A deadline that passed without a word.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        try:
            async with asyncio.timeout(deadline_s), self.slots:
                return await call()
        except TimeoutError:
            return None


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="how run ended whose caller was cancelled"
# A caller that leaves is told that its time is over.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        try:
            async with asyncio.timeout(deadline_s), self.slots:
                return await call()
        except asyncio.CancelledError:
            raise TimeoutError from None


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="how run ended when its call raised"
# Every end but a result is a TimeoutError.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        try:
            async with asyncio.timeout(deadline_s), self.slots:
                return await call()
        except Exception as error:
            raise TimeoutError from error


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="while another object is full"
# One set of slots for all objects.
import asyncio


class Slots:
    taken = 0

    def __init__(self, limit):
        self.limit = limit

    async def run(self, call, deadline_s):
        async with asyncio.timeout(deadline_s):
            while Slots.taken >= self.limit:
                await asyncio.sleep(0.001)
            Slots.taken += 1
            try:
                return await call()
            finally:
                Slots.taken -= 1


# %% name="check-3-2" tags=["check"] exercise="3.2"
check("3.2", Slots)

# %% name="help-3-2"
# hint("3.2")
# solution("3.2")

# %% [markdown]
# ### Exercise 3.5: an adaptive limiter (15 minutes, hard)
#
# *Concepts: additive increase, multiplicative decrease (AIMD), slow start, retry pause.*
#
# Write the rule that finds the rate. `rate_per_s` is read before each call; `success` and `refusal` are told how each ended, and `now_s` is
# the time on any clock. After a refusal all callers wait for a second, as the server asked.
#
# - Whatever `first_per_s` is (it is the first rate), from 20 seconds on at least 85 % of the server's limit is used and less than 5 % of
#   the requests are refused. The limit is between 10 and 200 per second, and one second's worth may come at once.
# - When the limit has doubled or halved, the same holds again after 20 seconds.
# - A success that nobody waited for (`waited` is False) changes nothing: the server took what came, and nobody tried more.
# - Refusals within the second after one that was counted change nothing: their calls were sent before.
# - However many refusals come, the rate stays 0.1 or more. Two limiters share nothing.
#
# `against(FindsTheLimit(2.0), [(0, 40)], until_s=60)` plays a minute in a moment; `shares(20, 60)` of the result is (used, refused).

# %% name="ex-3-5" tags=["exercise"] exercise="3.5"
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.lowered_to = None  # the rate after the last refusal
        self.last_s = None  # up to here, time has been counted

    def success(self, now_s, waited):
        ### BEGIN SOLUTION
        ### STUB: ...
        elapsed_s = 0.0 if self.last_s is None else min(now_s - self.last_s, 1.0)
        if elapsed_s < 0:  # sent before the pause
            return
        self.last_s = now_s
        if not waited:
            return
        if self.lowered_to is None:
            self.rate_per_s *= 2**elapsed_s
        else:
            self.rate_per_s += 0.05 * self.lowered_to * elapsed_s
        ### END SOLUTION

    def refusal(self, now_s):
        ### BEGIN SOLUTION
        ### STUB: ...
        if self.last_s is None or now_s >= self.last_s:
            self.rate_per_s = self.lowered_to = max(0.1, 0.8 * self.rate_per_s)
            self.last_s = now_s + 1.0
        ### END SOLUTION


# %% tags=["right"] exercise="3.5"
# By count: each success adds its share of a second.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.growth_per_s = 1.0
        self.paused_until_s = 0.0

    def success(self, now_s, waited):
        if waited and now_s >= self.paused_until_s:
            self.rate_per_s *= (1 + self.growth_per_s) ** (1 / max(1.0, self.rate_per_s))

    def refusal(self, now_s):
        if now_s < self.paused_until_s:
            return
        self.growth_per_s = 0.04
        self.rate_per_s = max(0.1, 0.82 * self.rate_per_s)
        self.paused_until_s = now_s + 1.0


# %% tags=["right"] exercise="3.5"
# As CUBIC does for TCP: quickly back to where it was refused, slowly past it, then faster again.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.history = []  # (second, rate) of each decrease

    def success(self, now_s, waited):
        if not waited:
            return
        if not self.history:
            self.rate_per_s += self.rate_per_s / max(1.0, self.rate_per_s)
            return
        refused_s, refused_at = self.history[-1]
        age_s = now_s - refused_s - 1.0
        if age_s > 0:
            wanted = refused_at * (0.95 + 0.15 * ((age_s - 4) / 4) ** 3)
            self.rate_per_s = min(max(self.rate_per_s, wanted), self.rate_per_s * 1.05)

    def refusal(self, now_s):
        if self.history and now_s < self.history[-1][0] + 1.0:
            return
        self.history = [(now_s, self.rate_per_s)]
        self.rate_per_s = max(0.1, self.rate_per_s * 0.8)


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="what is made of a limit"
# A rate for all servers.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s

    def success(self, now_s, waited):
        self.rate_per_s = 40.0 if waited else self.rate_per_s

    def refusal(self, now_s):
        self.rate_per_s = 30.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="what is made of a limit"
# One more each second: it takes minutes to a large limit.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.paused_until_s = 0.0

    def success(self, now_s, waited):
        if waited and now_s >= self.paused_until_s:
            self.rate_per_s += 1 / max(1.0, self.rate_per_s)

    def refusal(self, now_s):
        if now_s >= self.paused_until_s:
            self.rate_per_s = max(0.1, 0.8 * self.rate_per_s)
            self.paused_until_s = now_s + 1.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="what is made of a limit"
# Never lower.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.paused_until_s = 0.0

    def success(self, now_s, waited):
        if waited and now_s >= self.paused_until_s:
            self.rate_per_s *= 1.05 ** (1 / max(1.0, self.rate_per_s))

    def refusal(self, now_s):
        self.paused_until_s = now_s + 1.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="what is made of a limit"
# Finds it by doubling, and never grows again.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.is_found = False
        self.paused_until_s = 0.0

    def success(self, now_s, waited):
        if waited and not self.is_found:
            self.rate_per_s *= 2 ** (1 / max(1.0, self.rate_per_s))

    def refusal(self, now_s):
        self.is_found = True
        if now_s >= self.paused_until_s:
            self.rate_per_s = max(0.1, 0.8 * self.rate_per_s)
            self.paused_until_s = now_s + 1.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="what is made of a limit"
# Doubles on and on.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.paused_until_s = 0.0

    def success(self, now_s, waited):
        if waited and now_s >= self.paused_until_s:
            self.rate_per_s *= 2 ** (1 / max(1.0, self.rate_per_s))

    def refusal(self, now_s):
        if now_s >= self.paused_until_s:
            self.rate_per_s = max(0.1, 0.5 * self.rate_per_s)
            self.paused_until_s = now_s + 1.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="what is made of a limit of|rate after four more refusals"
# Each refusal counts, also those of one moment.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.growth_per_s = 1.0
        self.paused_until_s = 0.0

    def success(self, now_s, waited):
        if waited and now_s >= self.paused_until_s:
            self.rate_per_s *= (1 + self.growth_per_s) ** (1 / max(1.0, self.rate_per_s))

    def refusal(self, now_s):
        self.growth_per_s = 0.04
        self.rate_per_s = max(0.1, 0.82 * self.rate_per_s)
        self.paused_until_s = now_s + 1.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="rate after 300 successes that nobody waited for"
# Every success counts, also where nobody waits.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.growth_per_s = 1.0
        self.paused_until_s = 0.0

    def success(self, now_s, waited):
        if now_s >= self.paused_until_s:
            self.rate_per_s *= (1 + self.growth_per_s) ** (1 / max(1.0, self.rate_per_s))

    def refusal(self, now_s):
        if now_s >= self.paused_until_s:
            self.growth_per_s = 0.04
            self.rate_per_s = max(0.1, 0.82 * self.rate_per_s)
            self.paused_until_s = now_s + 1.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="the rate stays 0.1 or more"
# Without a floor.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s
        self.growth_per_s = 1.0
        self.paused_until_s = 0.0

    def success(self, now_s, waited):
        if waited and now_s >= self.paused_until_s:
            self.rate_per_s *= (1 + self.growth_per_s) ** (1 / max(1.0, self.rate_per_s))

    def refusal(self, now_s):
        if now_s >= self.paused_until_s:
            self.growth_per_s = 0.04
            self.rate_per_s *= 0.82
            self.paused_until_s = now_s + 1.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="rate of a new limiter|rate of a limiter|what is made of"
# What was learnt stands on the class.
class FindsTheLimit:
    growth_per_s = 1.0
    paused_until_s = 0.0

    def __init__(self, first_per_s):
        self.rate_per_s = first_per_s

    def success(self, now_s, waited):
        if waited and now_s >= FindsTheLimit.paused_until_s:
            self.rate_per_s *= (1 + FindsTheLimit.growth_per_s) ** (1 / max(1.0, self.rate_per_s))

    def refusal(self, now_s):
        if now_s >= FindsTheLimit.paused_until_s:
            FindsTheLimit.growth_per_s = 0.04
            self.rate_per_s = max(0.1, 0.82 * self.rate_per_s)
            FindsTheLimit.paused_until_s = now_s + 1.0


# %% name="check-3-5" tags=["check"] exercise="3.5"
check("3.5", FindsTheLimit)

# %% name="help-3-5"
# hint("3.5")
# solution("3.5")

