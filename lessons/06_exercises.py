# %% [markdown] name="title"
# # The flight test
#
# Seven projects. Each begins with code that runs and grows in stages, and each stage is checked. In the last one, the parts are put together
# and sent through ninety seconds in which everything goes wrong that did so in the course.

# %% name="setup" tags=["needs"]
import asyncio
import tempfile
from pathlib import Path

from course_lib import desk, lm
from course_lib.exercises import check, hint, solution
from course_lib.labs import plot, table

model = lm.connect(cache=False)  # each call asks the model, unless a cell wants the cache

import dspy

scratch = tempfile.TemporaryDirectory(prefix="lantern-")
dspy.configure(lm=model)
print("DSPy", dspy.__version__, "talks to", model.model)

# %% [markdown] name="project-1"
# ## Project 1: a database adapter
#
# (in preparation)

# %% [markdown] name="end-1"
# That was project 1. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-2"
# ## Project 2: a cache in three levels
#
# (in preparation)

# %% [markdown] name="end-2"
# That was project 2. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-3"
# ## Project 3: Streaming answers from documents
#
# The help centre grows: a partner sends its articles, faster than they can be indexed. Customers ask meanwhile, and read the answer while
# it is written. The database and the model have their bad minutes. The project makes three parts: a *runner* that takes in no more than it
# can do, a *stream* of events from search to citations, and what a reader gets when one of these fails. 34 minutes.
#
# Indexing an article costs one call of the model, which writes the question that the article answers. This model's server allows 20
# requests a second. The naive way starts with all articles at once.

# %% name="p3-index" tags=["needs"]
from course_lib.flight import Busy

lm.profile("indexing", limit_requests_per_s=20, ttft_p50_ms=100)
indexer = lm.connect("sim-large@indexing", cache=False, num_retries=0)
to_question = dspy.Predict("article -> question")
index_of = {}


async def partner_articles():
    """The partner's articles; they are there at once."""
    for each in desk.articles():
        yield each.chunk


async def index(article):
    """Keep the question that an article answers."""
    with dspy.context(lm=indexer):
        index_of[article] = (await to_question.acall(article=article)).question


# %% name="p3-naive-index"
before = lm.ledger()
calls = [index(article) async for article in partner_articles()]
results = await asyncio.gather(*calls, return_exceptions=True)
most = max(call.at_once for call in lm.ledger(before.requests).calls)
failed = [type(result).__name__ for result in results if isinstance(result, Exception)]
print(
    f"{len(results)} articles, {most} requests at once; indexed: {len(index_of)}; failed: {len(failed)} {set(failed)}"
)

# %% [markdown]
# Part of the articles is lost, because nothing holds back the source. *Backpressure* is the answer of a full system to its source: wait, or
# be told no.
#
# ### Stage 3.1: ingestion with backpressure (10 minutes, medium)
#
# *Concepts: bounded queue, load shedding, TaskGroup, cancellation.*
#
# Write `BoundedRunner(at_once, waiting)`.
#
# - `await run(call, within_s)`: at most `at_once` calls are under way and as many as that; up to `waiting` more wait; for one more, `run`
#   raises `Busy` at once and does not call. A place is free however its call ends.
# - `run` returns what the call returns, and raises the very error that it raises.
# - `within_s` counts from `run`, waiting included. Past it, `run` raises `TimeoutError`; the call is cancelled, or not begun.
# - A caller that is cancelled, while it waits or calls, cancels its call.
# - `await ingest(documents, index, within_s)` runs `await index(document)` through `run`, once for each document of an async iterator. It
#   has `at_once` of them under way, and at most `at_once + waiting` that are taken from the source and not done.
# - `ingest` returns a list of `(document, error)` for those that failed or ran out of time. A failed document loses no other.
# - When `ingest` is cancelled, so are its calls, and no further document is taken.

# %% name="ex-6-3-1" tags=["exercise"] exercise="6.3.1"
import asyncio


class BoundedRunner:
    ### BEGIN SOLUTION
    ### STUB: def __init__(self, at_once, waiting):
    ### STUB:     self.at_once, self.waiting = at_once, waiting
    ### STUB:
    ### STUB: async def run(self, call, within_s):
    ### STUB:     ...
    ### STUB:
    ### STUB: async def ingest(self, documents, index, within_s):
    ### STUB:     ...
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed

    ### END SOLUTION


# %% tags=["right"] exercise="6.3.1"
# The library's bulkhead, and workers that share the source.
import asyncio
from functools import partial

from course_lib.resilience import Bulkhead, BulkheadFull


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.workers = at_once
        self.places = Bulkhead("documents", limit=at_once, waiting=waiting)

    async def run(self, call, within_s):
        try:
            async with asyncio.timeout(within_s), self.places:
                return await call()
        except BulkheadFull as error:
            raise Busy("full") from error

    async def ingest(self, documents, index, within_s):
        failed, source, one_at_a_time = [], aiter(documents), asyncio.Lock()

        async def work():
            while True:
                async with one_at_a_time:
                    document = await anext(source, None)
                if document is None:
                    return
                try:
                    await self.run(partial(index, document), within_s)
                except Exception as error:
                    failed.append((document, error))

        async with asyncio.TaskGroup() as group:
            for _ in range(self.workers):
                group.create_task(work())
        return failed


# %% tags=["right"] exercise="6.3.1"
# A queue of slots, wait_for, and tasks that are waited for by hand.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.most, self.inside = at_once, at_once + waiting, 0
        self.slots = asyncio.Queue()
        for slot in range(at_once):
            self.slots.put_nowait(slot)

    async def run(self, call, within_s):
        if self.inside >= self.most:
            raise Busy(f"{self.inside} calls are here")
        self.inside += 1
        try:
            return await asyncio.wait_for(self.with_slot(call), within_s)
        finally:
            self.inside -= 1

    async def with_slot(self, call):
        slot = await self.slots.get()
        try:
            return await call()
        finally:
            self.slots.put_nowait(slot)

    async def ingest(self, documents, index, within_s):
        failed, tasks = [], {}

        def settle(done):
            for task in done:
                document = tasks.pop(task)
                if task.exception():
                    failed.append((document, task.exception()))

        try:
            async for document in documents:
                tasks[asyncio.create_task(self.run(lambda document=document: index(document), within_s))] = (
                    document
                )
                if len(tasks) >= self.at_once:
                    settle((await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))[0])
            if tasks:
                settle((await asyncio.wait(tasks))[0])
        finally:
            for task in tasks:
                task.cancel()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="those refused at once"
# Nobody is refused.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if self.free < -1_000:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="those refused at once|those that were made"
# Nobody waits.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if self.slots.locked():
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="those refused at once"
# Whoever is one too many waits for a moment first.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            await asyncio.sleep(60)
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="those under way"
# One place less.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(max(1, at_once - 1))

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="what comes out of run"
# A place is lost with each error.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        async with asyncio.timeout(within_s), self.slots:
            result = await call()
        self.free += 1
        return result

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="what comes out of run"
# An error of its own.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        except LookupError as error:
            raise RuntimeError(str(error)) from error
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="a call that got no place"
# The time begins with the call.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with self.slots, asyncio.timeout(within_s):
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="after 0.6 s"
# The time begins anew with the call.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s):
                await self.slots.acquire()
            try:
                async with asyncio.timeout(within_s):
                    return await call()
            finally:
                self.slots.release()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="begun, and cancelled|when their callers are cancelled|0.2"
# A call past its time goes on.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await asyncio.shield(call())
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="calls made in five runs"
# A call that fails is made again.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                try:
                    return await call()
                except LookupError:
                    return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="begun beside it"
# Ingestion has places of its own.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await asyncio.wait_for(index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="taken while none is done"
# The whole source is taken at once.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            for document in [each async for each in documents]:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="indexed at the same time"
# One document after the other.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(1)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="ingest of 20 documents"
# The first error ends it all.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="documents that ingest returns"
# Failures are not told.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                print(error)
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="documents that ingest returns"
# A document that ran out of time is not told.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except TimeoutError:
                pass
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="documents that ingest returns|ingest of 20"
# A failed document is tried again, and indexed twice where it only seemed to fail.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                places.release()
                return await one(document) if document not in dict(failed) else None
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for document in documents:
                group.create_task(one(document))
                await places.acquire()
        return failed


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="an ingest that was cancelled"
# Tasks that nobody cancels.
import asyncio


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.free = at_once, at_once + waiting
        self.slots = asyncio.Semaphore(at_once)

    async def run(self, call, within_s):
        if not self.free:
            raise Busy("as many calls are under way and wait as may; try again later")
        self.free -= 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.free += 1

    async def ingest(self, documents, index, within_s):
        failed, places = [], asyncio.Semaphore(self.at_once)

        async def one(document):
            try:
                await self.run(lambda: index(document), within_s)
            except Exception as error:
                failed.append((document, error))
            finally:
                places.release()

        tasks = []
        await places.acquire()
        async for document in documents:
            tasks.append(asyncio.create_task(one(document)))
            await places.acquire()
        while any(not task.done() for task in tasks):
            await asyncio.sleep(0.01)
        return failed


# %% name="check-6-3-1" tags=["check"] exercise="6.3.1"
check("6.3.1", BoundedRunner)

# %% name="help-6-3-1"
# hint("6.3.1")
# solution("6.3.1")

# %% name="p3-yours-indexes"
index_of.clear()
failed = await BoundedRunner(2, 4).ingest(partner_articles(), index, within_s=30)
if failed is not None:  # the exercise is solved
    print(f"indexed: {len(index_of)}, failed: {len(failed)}")

# %% [markdown]
# With two at once, all are indexed; the source is read as fast as that goes, and no faster. (While an exercise is a stub, the cell below it
# shows nothing.)
#
# ### Stage 3.2: an answer as a stream of events (12 minutes, hard)
#
# *Concepts: streamify, StreamListener, a run in a task of its own, 499.*
#
# A reader wants something to read at once. The passages that the search found are there long before the answer, so they come first. Events
# are small dataclasses, so that a page and a test know what they get. Below, the answer comes as a whole.

# %% name="p3-events" tags=["needs"]
import time
from dataclasses import dataclass

lm.profile("unhurried", ttft_p50_ms=150, speed_p50_tokens_per_s=40)


@dataclass(frozen=True)
class Passages:
    texts: list[str]


@dataclass(frozen=True)
class Token:
    text: str


@dataclass(frozen=True)
class Citations:
    ids: list[str]


async def search(question):
    return [hit.article.chunk for hit in desk.search_articles(question, 3)]


# %% name="p3-told" tags=["needs"]
async def told(events):
    """Tell when the first event of each kind comes, and how many there are; nothing while the exercise is a stub."""
    begun_s, kinds = time.monotonic(), []
    async for event in events if hasattr(events, "__aiter__") else nothing(events):
        kinds.append(type(event).__name__)
        if kinds.count(kinds[-1]) == 1:
            print(f"{time.monotonic() - begun_s:.2f} s  {event!s:.90}")
    if "Token" in kinds:
        print(f"{kinds.count('Token')} tokens")


async def nothing(coroutine):
    coroutine.close()
    for event in ():
        yield event


# %% name="p3-naive-answer"
moved = "How do I change my delivery address?"
begun_s = time.monotonic()
with dspy.context(lm=lm.connect("sim-large@unhurried", cache=False)):
    whole = await desk.Answer().acall(moved, context=await search(moved))
print(f"something to read after {time.monotonic() - begun_s:.1f} s: {whole.answer[:60]}...")

# %% [markdown]
# Write an async generator function `stream_answer(question, search)`; `await search(question)` returns texts, each beginning with an id in
# brackets. It yields
#
# - `Passages(texts)`, as soon as the search has found them, before the model has written anything;
# - `Token(text)` for each piece of the answer, as soon as the model has written it; together they are the answer;
# - `Citations(ids)`, once, last: the ids that the model cites.
#
# One answer is one request. Several streams at the same time have their own events each. An error of the search or of the model
# comes out after what came before it; there are no `Citations` then, and no second request. A reader may leave at any time, by
# `aclose()` or because its task is cancelled: the request to the model ends then, and the reader goes on.


# %% name="ex-6-3-2" tags=["exercise"] exercise="6.3.2"
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    ### BEGIN SOLUTION
    ### STUB: ...
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await task  # raises what the run raised
    finally:
        task.cancel()  # and with it the request to the model
    ### END SOLUTION


# %% tags=["right"] exercise="6.3.2"
# The library's stream, whose events become these.
from course_lib.concurrency import stream, streaming


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    program, ids = desk.Answer(), []
    async with stream(program, citations="citations", question=question, context=texts) as events:
        async for event in events:
            if isinstance(event, streaming.Token) and event.text:
                yield Token(event.text)
            elif isinstance(event, streaming.Citation):
                ids.append(event.source)
            elif isinstance(event, streaming.Error):
                raise event.cause
            elif isinstance(event, streaming.Final):
                yield Citations(ids)


# %% tags=["right"] exercise="6.3.2"
# A class that puts events into its queue; the citations are written first, and shown last.
class FromPassages(dspy.Signature):
    "Answer the question from the passages. Cite the passages used, by their ids."

    passages: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages used")
    reply: str = dspy.OutputField()


class Answering:
    def __init__(self, texts):
        self.texts, self.events = texts, asyncio.Queue()

    async def run(self, question):
        program = dspy.Predict(FromPassages)
        listener = dspy.streaming.StreamListener(signature_field_name="reply")
        write = dspy.streamify(program, stream_listeners=[listener], is_async_program=True)
        try:
            async for each in write(question=question, passages=self.texts):
                if isinstance(each, dspy.streaming.StreamResponse):
                    await self.events.put(Token(each.chunk))
                elif isinstance(each, dspy.Prediction):
                    await self.events.put(Citations(each.citations))
            await self.events.put(None)
        except Exception as error:
            await self.events.put(error)


async def stream_answer(question, search):
    answering = Answering(await search(question))
    yield Passages(answering.texts)
    running = asyncio.ensure_future(answering.run(question))
    try:
        while event := await answering.events.get():
            if isinstance(event, Exception):
                raise event
            yield event
    finally:
        running.cancel()


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="what came while the model was silent"
# The passages wait for the answer.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        await asyncio.wait([task])
        yield Passages(texts)
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await task  # raises what the run raised
    finally:
        task.cancel()  # and with it the request to the model


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="pieces of the answer"
# The answer comes in one piece.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    done = await dspy.Predict(Cited).acall(question=question, context=texts)
    yield Token(done.answer)
    yield Citations(done.citations)


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="what came while the model was silent"
# Tokens are kept until the end.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            for value in [each async for each in ask(question=question, context=texts)]:
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await task  # raises what the run raised
    finally:
        task.cancel()  # and with it the request to the model


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="the ids that it cites"
# All passages are cited.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations([text[1 : text.index("]")] for text in texts])
            elif value.chunk:
                yield Token(value.chunk)
        await task  # raises what the run raised
    finally:
        task.cancel()  # and with it the request to the model


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="the tokens of an answer, joined|kinds of events"
# The list of citations is streamed, too.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [
        dspy.streaming.StreamListener("answer"),
        dspy.streaming.StreamListener("citations"),
    ]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await task  # raises what the run raised
    finally:
        task.cancel()  # and with it the request to the model


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="kinds of events|pieces of the answer|tokens of an answer, joined"
# One listener for all.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


shared = dspy.streamify(
    dspy.Predict(Cited),
    stream_listeners=[dspy.streaming.StreamListener("answer", allow_reuse=True)],
    is_async_program=True,
)


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in shared(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await task  # raises what the run raised
    finally:
        task.cancel()  # and with it the request to the model


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="what came, "
# Errors end the stream without a word.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
    finally:
        task.cancel()  # and with it the request to the model


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="what came, "
# After an error it asks again, without a stream.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await asyncio.wait([task])
        if task.exception():
            again = await dspy.Predict(Cited).acall(question=question, context=texts)
            yield Citations(again.citations)
    finally:
        task.cancel()  # and with it the request to the model


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="what came, search"
# A search that fails finds nothing, and the model is asked.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    try:
        texts = await search(question)
    except OSError:
        texts = []
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await task  # raises what the run raised
    finally:
        task.cancel()  # and with it the request to the model


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="what came, cut_midway_rate"
# Half an answer has citations, too.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await asyncio.wait([task])
        if task.exception():
            yield Citations([])
        await task
    finally:
        task.cancel()  # and with it the request to the model


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="after aclose|after its reader left by aclose"
# Read in the reader's own task.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    async for value in ask(question=question, context=texts):
        if isinstance(value, dspy.Prediction):
            yield Citations(value.citations)
        elif value.chunk:
            yield Token(value.chunk)


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="after its reader left"
# The run goes on when its reader has left.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield Citations(value.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await task  # raises what the run raised
    finally:
        pass


# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="requests for one answer"
# A question for the citations, a second one.
class Cited(dspy.Signature):
    """Answer the question from the passages, and from nothing else. Cite the passages used, by their ids."""

    context: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the passages that the answer comes from")


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    listeners = [dspy.streaming.StreamListener("answer")]  # for this request alone
    ask = dspy.streamify(dspy.Predict(Cited), stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(question=question, context=texts):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                again = await dspy.Predict(Cited).acall(question=question, context=texts)
                yield Citations(again.citations)
            elif value.chunk:
                yield Token(value.chunk)
        await task  # raises what the run raised
    finally:
        task.cancel()  # and with it the request to the model


# %% name="check-6-3-2" tags=["check"] exercise="6.3.2"
check("6.3.2", stream_answer)

# %% name="help-6-3-2"
# hint("6.3.2")
# solution("6.3.2")

# %% name="p3-yours-streams"
with dspy.context(lm=lm.connect("sim-large@unhurried", cache=False)):
    await told(stream_answer(moved, search))

# %% [markdown]
# The passages are there at once, the first token long before the last.
#
# ### Stage 3.3: what the reader gets when parts fail (12 minutes, hard)
#
# *Concepts: graceful degradation, fallback, deadline, partial answer.*
#
# Search and model fail in ways of their own: an error, silence, half an answer. A reader of the naive form below gets half a sentence that
# looks like an answer, and then an error or nothing.


# %% name="p3-write" tags=["needs"]
@dataclass(frozen=True)
class End:
    missing: list[str]


lm.profile("half-streams", cut_midway_rate=1.0)
lm.profile("silent", stall_rate=1.0)
lm.profile("down", unavailable_rate=1.0)


async def write(question, texts):
    """Yield the answer in pieces."""
    program = dspy.streamify(
        dspy.Predict("context: list[str], question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener("answer")],
        is_async_program=True,
    )
    async for value in program(context=texts, question=question):
        if isinstance(value, dspy.streaming.StreamResponse) and value.chunk:
            yield value.chunk


# %% name="p3-naive-failures"
for profile in ("half-streams", "silent", "down"):
    shown, begun_s, how = "", time.monotonic(), "as a whole"
    with dspy.context(lm=lm.connect(f"sim-large@{profile}", cache=False, num_retries=0)):
        try:
            async with asyncio.timeout(2):
                async for piece in write(moved, await search(moved)):
                    shown += piece
        except (dspy.LMError, TimeoutError) as error:
            how = type(error).__name__
    print(f"{profile:12} {time.monotonic() - begun_s:.1f} s, {how}: {shown!r}")

# %% [markdown]
# Write an async generator function `answer_anyway(question, search, kept, write, within_s)`. `await search(question)` returns texts,
# `kept(question)` returns some at once from memory, and the async generator `write(question, texts)` yields the pieces of an answer. Any of
# `search` and `write` may raise an `Exception` or fall silent; none comes out. The reader gets
#
# - `Passages(texts)`; if `search` fails, or is not done in a third of `within_s` and is cancelled then, those that are `kept`;
# - `Token(text)` for each piece, at once;
# - `End(missing)`, once, last, within `within_s` of the beginning. `missing` is a list of words, empty if nothing is missing: "search" if the
#   passages are those that were kept; "rest" if the answer broke off by an error or the end of its time; "answer" if no token came,
#   also without an error.
#
# Without passages `write` is not called, and "answer" is missing. What goes on when its time is over is ended: `search` is cancelled, the
# generator of `write` closed. So it is when the reader leaves, by `aclose()` or because its task is cancelled. A reader who pauses
# between two events, even for longer than `within_s`, is not interrupted.


# %% name="ex-6-3-3" tags=["exercise"] exercise="6.3.3"
async def answer_anyway(question, search, kept, write, within_s):
    ### BEGIN SOLUTION
    ### STUB: ...
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])
    ### END SOLUTION


# %% tags=["right"] exercise="6.3.3"
# A task that writes into a queue, which the reader reads until the end of its time.
async def answer_anyway(question, search, kept, write, within_s):
    loop, missing, events = asyncio.get_running_loop(), [], asyncio.Queue()
    end_s = loop.time() + within_s
    try:
        texts = await asyncio.wait_for(search(question), within_s / 3)
    except Exception:
        texts, missing = kept(question), ["search"]
    yield Passages(texts)

    async def read():
        async for piece in write(question, texts):
            events.put_nowait(piece)

    writing = asyncio.create_task(read()) if texts else None
    ending = loop.call_at(end_s, writing.cancel) if texts else None
    has_token = False
    try:
        while writing and not (writing.done() and events.empty()):
            getting = asyncio.ensure_future(events.get())
            try:
                await asyncio.wait([writing, getting], return_when=asyncio.FIRST_COMPLETED)
                piece = getting.result() if getting.done() else None
            finally:
                getting.cancel()
            if piece is not None:
                has_token = True
                yield Token(piece)
        if writing and (writing.cancelled() or writing.exception()) and has_token:
            missing.append("rest")
    finally:
        if writing:
            ending.cancel()
            writing.cancel()
            await asyncio.wait([writing])
    yield End(missing + ["answer"] * (not has_token))


# %% tags=["right"] exercise="6.3.3"
# Small functions, wait_for with the time that is left, a list of what is there.
from contextlib import aclosing


async def found(question, search, kept, within_s):
    try:
        return await asyncio.wait_for(search(question), within_s / 3), set()
    except Exception:
        return kept(question), {"search"}


async def pieces_until(end_s, pieces):
    while True:
        left_s = end_s - asyncio.get_running_loop().time()
        try:
            piece = await asyncio.wait_for(anext(pieces), max(left_s, 0.001))
        except StopAsyncIteration:
            return
        yield piece


async def answer_anyway(question, search, kept, write, within_s):
    end_s = asyncio.get_running_loop().time() + within_s
    texts, missing = await found(question, search, kept, within_s)
    yield Passages(texts)
    shown, broke_off = 0, False
    if texts:
        async with aclosing(write(question, texts)) as pieces, aclosing(pieces_until(end_s, pieces)) as timed:
            try:
                async for piece in timed:
                    shown += 1
                    yield Token(piece)
            except Exception:
                broke_off = True
    if not shown:
        missing.add("answer")
    elif broke_off:
        missing.add("rest")
    yield End(sorted(missing))


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="after 4 pieces"
# Half an answer looks whole.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        pass
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="write ends without a piece|events when write raises RuntimeError at once"
# An answer without a token looks whole.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing)


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="events when write raises RuntimeError at once"
# Nothing written is called a missing rest.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing.append("rest")
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="events when search raises"
# What is kept is not labelled.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="events when search raises"
# Only a search that is too slow has a fallback.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except TimeoutError:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="events when search hangs|hang"
# The search may take all of the time.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="after 0.37 s"
# The search may take half of the time.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 2):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="whether a search that hangs is cancelled"
# A search that hangs goes on.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await asyncio.shield(search(question))
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="events when write raises"
# The model's errors come out.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="within_s=0.9 after 1 s"
# Each piece has the whole time.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout(within_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="within_s=0.9 after 1 s"
# The time of the answer begins after the search.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    end_s = asyncio.get_running_loop().time() + within_s
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="nothing is found"
# The model is asked without passages.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while True:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="a reader who pauses"
# The deadline is around the reader, too.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        async with asyncio.timeout_at(end_s):
            while texts:
                piece = await anext(pieces)
                count += 1
                yield Token(piece)
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="what came while write is silent|events when write"
# The answer is shown when it is whole.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        async with asyncio.timeout_at(end_s):
            read = [piece async for piece in pieces] if texts else []
        for piece in read:
            count += 1
            yield Token(piece)
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="a reader who is cancelled while it searches"
# Whoever leaves is not heard.
async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except BaseException:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    finally:
        await pieces.aclose()
    yield End(missing if count else [*missing, "answer"])


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="answers open after aclose|answers that are still written"
# The answer is written on when the reader has left.
unread = []


async def answer_anyway(question, search, kept, write, within_s):
    end_s, missing, count = asyncio.get_running_loop().time() + within_s, [], 0
    try:
        async with asyncio.timeout(within_s / 3):
            texts = await search(question)
    except Exception:
        missing.append("search")
        texts = kept(question)
    yield Passages(texts)
    pieces = write(question, texts)
    unread.append(pieces)
    try:
        while texts:
            async with asyncio.timeout_at(end_s):
                piece = await anext(pieces)
            count += 1
            yield Token(piece)  # outside of the timeout: the reader's time is its own
    except StopAsyncIteration:
        pass
    except Exception:
        missing += ["rest"] if count else []
    yield End(missing if count else [*missing, "answer"])


# %% name="check-6-3-3" tags=["check"] exercise="6.3.3"
check("6.3.3", answer_anyway)

# %% name="help-6-3-3"
# hint("6.3.3")
# solution("6.3.3")

# %% name="p3-yours-degrades"
for profile in ("calm", "half-streams", "silent", "down"):
    print(profile)
    with dspy.context(lm=lm.connect(f"sim-large@{profile}", cache=False, num_retries=0)):
        await told(answer_anyway(moved, search, lambda question: [], write, within_s=2))

# %% [markdown]
# ### Stretch: the first token as load rises
#
# A model's server with four places, each answer 0.1 s, can write 40 answers a second. Below, questions come at 20, 40 and 80 a second, for
# one second each: once all are taken in, once through a runner that has four at once and four that wait, and refuses the rest.

# %% name="p3-load"
from course_lib.measure import percentile
from course_lib.resilience import Bulkhead, BulkheadFull


async def loaded(rate_per_s, run):
    server, first_s, whole_s, refused = asyncio.Semaphore(4), [], [], []

    async def ask(due_s):
        await asyncio.sleep(due_s)
        begun_s = time.monotonic()
        try:
            await run(lambda: answered(server, first_s, whole_s, begun_s))
        except (Busy, BulkheadFull) as error:
            refused.append(error)

    await asyncio.gather(*(ask(number / rate_per_s) for number in range(rate_per_s)))
    return first_s, whole_s, refused


async def answered(server, first_s, whole_s, begun_s):
    async with server:
        for seconds, kept in ((0.02, first_s), (0.08, whole_s)):
            await asyncio.sleep(seconds)
            kept.append(time.monotonic() - begun_s)


# %% name="p3-held-back"
def held_back(is_yours):
    places = Bulkhead("the model", limit=4, waiting=4)
    run = BoundedRunner(4, 4).run if is_yours else lambda answer, within_s: ours(answer, within_s, places)
    return lambda answer: run(answer, 5)


async def ours(answer, within_s, places):
    async with places:
        await asyncio.wait_for(answer(), within_s)


async def taken_in(answer):
    await answer()


is_yours = await BoundedRunner(1, 0).run(lambda: asyncio.sleep(0, "solved"), 5) == "solved"
print("the runner is", "yours" if is_yours else "the library's")

# %% name="p3-load-table"
rates, rows = (20, 40, 80), []
ways = [(how, rate) for how in ("all taken in", "with a runner") for rate in rates]
flown = await asyncio.gather(
    *(loaded(rate, taken_in if how == "all taken in" else held_back(is_yours)) for how, rate in ways)
)
for (first_s, whole_s, refused), (how, rate) in zip(flown, ways):
    row = {"how": how, "per s": rate}
    for name, values in (("first token", first_s), ("whole", whole_s)):
        row |= {f"{name} p{at}": f"{percentile(values, at):.2f} s" for at in (50, 99)}
    rows.append({**row, "refused": len(refused)})
table(rows)

# %% name="p3-load-plot"
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
for axis, at, title in ((axes[0], 0, "first token, median"), (axes[1], 1, "whole answer, p99")):
    for how, results in (("all taken in", flown[:3]), ("with a runner", flown[3:])):
        axis.plot(rates, [percentile(each[at], (50, 99)[at]) for each in results], marker="o", label=how)
    axis.set(title=title, xlabel="questions per second", ylabel="seconds" if at == 0 else None)
axes[0].legend()
plot(
    figure,
    "Time to the first token and p99 of the answer over load: they rise steeply when all is taken in, and stay flat with a runner",
)

# %% [markdown]
# Above 40 a second, what is taken in waits for what came before, and each second of load makes it longer. With a runner, those who are
# taken in are answered as fast as ever, and the rest is told at once that it is not.

# %% [markdown] name="end-3"
# That was project 3. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-4"
# ## Project 4: a debugging toolkit
#
# Each morning the desk answers the questions of the night. It takes too long, and nobody knows why. The project makes a toolkit that finds
# out: *spans* of what was done, a *profile* and an execution graph from them, and a report whose advice follows from the numbers. 34 minutes.

# %% name="p4-morning" tags=["needs"]
import time

from dspy.utils.callback import BaseCallback

lm.profile("morning", speed_p50_tokens_per_s=300)
morning_model = lm.connect("sim-large@morning", cache=False)
bag, tent = "How do I wash a down sleeping bag?", "How do I dry a wet tent?"
moved = "How do I change my delivery address?"
night = [bag, moved, bag, tent, moved, bag]


class Morning(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = desk.Answer()

    async def aforward(self, questions):
        return [(await self.answer.acall(question=question)).answer for question in questions]


# %% name="p4-naive-morning"
begun_s = time.monotonic()
with dspy.context(lm=morning_model):
    answers = await Morning().acall(questions=night)
print(f"{len(answers)} answers in {time.monotonic() - begun_s:.2f} s")

# %% [markdown]
# One number says that it is slow, and not where.
#
# ### Stage 4.1: spans of what a program does (12 minutes, medium)
#
# *Concepts: span, trace, context variable, callbacks, keyed digest.*
#
# Write `SpanTracer`, a DSPy callback. `with tracer.span(name):` traces a block. When a span ends it is appended to the list `tracer.spans`, as
# a dict with `name`, `trace`, `id`, `parent` (an id, or None), `key`, `begun_s` (by `time.time()`), `took_s` and `error`.
#
# - The parent of a span is the one in which it begins, also in a task or thread of asyncio that was begun there. A span without a parent
#   begins a trace. Two tracers share nothing.
# - `error` is the name of the class of what leaves the block, a cancellation included, or None. It goes through unchanged.
# - As a callback it has a span for each call of a module (named after its class), a model ("LM") and a tool (its name).
# - `key` is None for a block of your own. For a call of DSPy it is a text, the same for the same inputs, another for others, and another
#   in another tracer.
# - Nothing of inputs, answers and messages of errors is kept.

# %% name="ex-6-4-1" tags=["exercise"] exercise="6.4.1"
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    ### BEGIN SOLUTION
    ### STUB: def __init__(self):
    ### STUB:     self.spans = []
    ### STUB:
    ### STUB: def span(self, name):
    ### STUB:     ...
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end
    ### END SOLUTION


# %% tags=["right"] exercise="6.4.1"
# A class for an open span, and DSPy's own variable for what is open.
import hashlib
import json
import time
import uuid

from dspy.utils.callback import ACTIVE_CALL_ID


class Open:
    def __init__(self, tracer, name, own_id=None, key=None):
        self.tracer, self.id, self.key, self.name = tracer, own_id or uuid.uuid4().hex, key, name

    def __enter__(self):
        self.parent = ACTIVE_CALL_ID.get()
        while self.parent not in self.tracer.traces and self.parent in ids_of_others:
            self.parent = ids_of_others[self.parent]
        self.parent = self.parent if self.parent in self.tracer.traces else None
        self.trace = self.tracer.traces.get(self.parent, self.id)
        self.tracer.traces[self.id] = self.trace
        self.above = ACTIVE_CALL_ID.get()
        ids_of_others[self.id] = self.above
        ACTIVE_CALL_ID.set(self.id)
        self.begun_s = time.time()
        return self

    def __exit__(self, kind, error, trace):
        ACTIVE_CALL_ID.set(self.above)
        row = {"name": self.name, "trace": self.trace, "id": self.id, "parent": self.parent, "key": self.key}
        row |= {
            "begun_s": self.begun_s,
            "took_s": time.time() - self.begun_s,
            "error": kind and kind.__name__,
        }
        self.tracer.spans.append(row)


ids_of_others = {}


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans, self.traces, self.open, self.salt = [], {}, {}, uuid.uuid4().hex

    def span(self, name, /):
        return Open(self, name)

    def start(self, call_id, name, inputs):
        text = self.salt + json.dumps(inputs, default=str, sort_keys=True)
        self.open[call_id] = Open(self, name, call_id, hashlib.sha256(text.encode()).hexdigest())
        self.open[call_id].__enter__()

    def stop(self, call_id, exception):
        self.open.pop(call_id).__exit__(type(exception) if exception else None, exception, None)

    def on_module_start(self, call_id, instance, inputs):
        self.start(call_id, instance.__class__.__name__, inputs)

    def on_module_end(self, call_id, outputs, exception=None):
        self.stop(call_id, exception)

    def on_lm_start(self, call_id, instance, inputs):
        self.start(call_id, "LM", inputs)

    def on_lm_end(self, call_id, outputs, exception=None):
        self.stop(call_id, exception)

    def on_tool_start(self, call_id, instance, inputs):
        self.start(call_id, instance.name, inputs)

    def on_tool_end(self, call_id, outputs, exception=None):
        self.stop(call_id, exception)


# %% tags=["right"] exercise="6.4.1"
# ExitStack keeps what is open; keys are numbers given to digests in their order.
import contextlib
import contextvars
import itertools
import time
import uuid


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans, self.blocks, self.salt = [], {}, object()
        self.numbers, self.seen = itertools.count(1), {}
        self.name = uuid.uuid4().hex
        self.stack = contextvars.ContextVar(self.name, default=())

    @contextlib.contextmanager
    def span(self, name, inputs=None):
        stack, own = self.stack.get(), f"{next(self.numbers)}"
        trace = stack[0] if stack else uuid.uuid4().hex
        self.stack.set((*stack, own) if stack else (trace, own))
        key = None if inputs is None else f"{self.name}-{hash((self.salt, repr(inputs)))}"
        wall_s, error = time.time(), None
        try:
            yield
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            self.stack.set(stack)
            took_s = time.time() - wall_s
            parent = stack[-1] if stack else None
            names = ("name", "trace", "id", "parent", "key", "begun_s", "took_s", "error")
            self.spans.append(dict(zip(names, (name, trace, own, parent, key, wall_s, took_s, error))))

    def _start(self, call_id, instance, inputs):
        name = (
            "LM" if isinstance(instance, dspy.BaseLM) else getattr(instance, "name", type(instance).__name__)
        )
        block = self.blocks[call_id] = contextlib.ExitStack()
        block.enter_context(self.span(name, inputs))

    def _end(self, call_id, outputs, exception=None):
        block = self.blocks.pop(call_id)
        block.__exit__(
            *((type(exception), exception, exception.__traceback__) if exception else (None, None, None))
        )

    on_module_start = on_lm_start = on_tool_start = _start
    on_module_end = on_lm_end = on_tool_end = _end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="spans while the block|fields that the span"
# A span is kept when it begins.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        self.spans.append(span)
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            span["took_s"] = time.perf_counter() - begun_s

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="spans of 10 requests at once"
# One stack for all tasks.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = [], secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current[-1] if self.current else None, secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.append((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.pop()
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="spans of 10 requests at once"
# A variable of the thread.
import hmac
import secrets
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = threading.local(), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = getattr(self.current, "open", None), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, self.current.open, begun_s = above, (trace, own_id), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.open = token
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="spans of 10 requests at once|spans of a second tracer"
# All tracers share a variable.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar

shared = ContextVar("span", default=None)


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = shared, secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="parent of request"
# Every span begins a trace.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = secrets.token_hex(16), above and above[1]
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="error of a block that raises CancelledError"
# Cancellations are not noted.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except Exception as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="error of a block that raises"
# The message of the error is kept.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = repr(error)
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="what comes out of a block"
# An error stays in the block.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="a block after one that raised"
# After an error the variable is not reset.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            if not span["error"]:
                self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="spans of 4 requests"
# Tools are not heard.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def _tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = _end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="errors of a model that fails"
# What DSPy calls ends without its error.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(None, None, None)

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="with a word of the question"
# The inputs are kept.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, repr(inputs).encode(), "sha256").hexdigest()
        self.last = inputs
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="spans with a word of the question"
# The key is what was asked.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = repr(inputs)
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="keys of the same call in two tracers"
# A digest without a secret.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(b"", repr(inputs).encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="keys of 3 calls"
# A key a call.
import hmac
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans = []
        self.current, self.secret, self.begun = ContextVar("span", default=None), secrets.token_bytes(32), {}

    @contextmanager
    def span(self, name, key=None):
        above, own_id = self.current.get(), secrets.token_hex(8)
        trace, parent = above or (secrets.token_hex(16), None)
        span = {
            "name": name,
            "trace": trace,
            "id": own_id,
            "parent": parent,
            "key": key,
            "begun_s": time.time(),
            "error": None,
        }
        token, begun_s = self.current.set((trace, own_id)), time.perf_counter()
        try:
            yield
        except BaseException as error:
            span["error"] = type(error).__name__
            raise
        finally:
            self.current.reset(token)
            self.spans.append({**span, "took_s": time.perf_counter() - begun_s})

    def begin(self, call_id, name, inputs):
        key = hmac.new(self.secret, call_id.encode(), "sha256").hexdigest()
        self.begun[call_id] = self.span(name, key)
        self.begun[call_id].__enter__()

    def end(self, call_id, outputs, exception=None):
        self.begun.pop(call_id).__exit__(
            exception and type(exception), exception, exception and exception.__traceback__
        )

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    on_module_end = on_lm_end = on_tool_end = end


# %% name="check-6-4-1" tags=["check"] exercise="6.4.1"
check("6.4.1", SpanTracer)

# %% name="help-6-4-1"
# hint("6.4.1")
# solution("6.4.1")

# %% [markdown]
# Tasks and threads of asyncio get a copy of the context, so the parent goes with them. The threads of `dspy.Parallel` get DSPy's own settings
# and its `ACTIVE_CALL_ID`; what has to be right there too reads that variable, as `course_lib.debugging.Tracer` does.

# %% name="p4-yours-traces"
tracer = SpanTracer()
with dspy.context(lm=morning_model, callbacks=[tracer]):
    await Morning().acall(questions=night[:2])
for span in tracer.spans:
    print(
        f"{span['name']:18} {1000 * span['took_s']:6.1f} ms, {'below ' + span['parent'][:4] if span['parent'] else 'root'}"
    )

# %% [markdown]
# ### Stage 4.2: a profile and an execution graph (10 minutes, medium)
#
# *Concepts: self time, union of intervals, call graph.*
#
# A trace of a busy hour has thousands of spans. A *profile* adds them up by name, an *execution graph* says who called whom. To add up
# `took_s` is not enough: the program below waits for three calls at the same time, and a sum says that it took longer than the clock.

# %% name="p4-sums-lie" tags=["needs"]
fields = "name", "trace", "id", "parent", "key", "begun_s", "took_s", "error"
values = [
    ("Morning", "t", "a", None, None, 0.0, 0.5, None),
    ("LM", "t", "b", "a", "1", 0.1, 0.3, None),
    ("LM", "t", "c", "a", "2", 0.1, 0.3, None),
    ("LM", "t", "d", "a", "3", 0.2, 0.25, None),
]
together = [dict(zip(fields, each)) for each in values]
whole, *parts = (span["took_s"] for span in together)
print(
    f"Morning took {whole} s, its calls {sum(parts):.2f} s; so it did {whole - sum(parts):.2f} s of work itself?"
)

# %% [markdown]
# Write `profile(spans)`. It returns a pair `(rows, edges)`; the spans come in any order, are not changed, and no spans give two empty dicts.
#
# - `rows[name]` is a dict. `calls` is the number of spans of this name.
# - `total_s` is the time in which at least one of them was open: calls at the same time, and a name within itself, do not count twice.
# - `self_s` is the sum over them of the time in which none of their children was open. Children at the same time do not count twice.
# - A child that goes on after its parent has ended takes nothing of that from it.
# - `edges[caller, called]` is how often a span of the one name began one of the other. The caller is None for a root, and where the
#   parent is not among the spans.
# - An id is unique within its trace only.

# %% name="ex-6-4-2" tags=["exercise"] exercise="6.4.2"
from collections import Counter, defaultdict


### BEGIN SOLUTION
### STUB: def profile(spans):
### STUB:     ...
def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


### END SOLUTION

# %% tags=["right"] exercise="6.4.2"
# Events in their order: +1 where a span begins, -1 where it ends.
from collections import Counter
from itertools import pairwise


def open_s(pairs):
    events = sorted(
        [(begin, 1) for begin, end in pairs if end > begin]
        + [(end, -1) for begin, end in pairs if end > begin]
    )
    depth = total = 0
    for (at, change), (following, _) in pairwise(events):
        depth += change
        total += (following - at) * (depth > 0)
    return total


def profile(spans):
    def end(span):
        return span["begun_s"] + span["took_s"]

    def within(child, span):
        return max(child["begun_s"], span["begun_s"]), max(span["begun_s"], min(end(child), end(span)))

    rows, edges = {}, Counter()
    for span in spans:
        family = [each for each in spans if each["trace"] == span["trace"]]
        children = [within(each, span) for each in family if each["parent"] == span["id"]]
        row = rows.setdefault(span["name"], {"calls": 0, "total_s": 0.0, "self_s": 0.0})
        row["calls"] += 1
        row["self_s"] += span["took_s"] - open_s(children)
        callers = [each["name"] for each in family if each["id"] == span["parent"]]
        edges[(callers or [None])[0], span["name"]] += 1
    for name, row in rows.items():
        row["total_s"] = open_s([(each["begun_s"], end(each)) for each in spans if each["name"] == name])
    return rows, edges


# %% tags=["right"] exercise="6.4.2"
# Merged intervals in a class.
from itertools import groupby


class Times:
    def __init__(self, intervals=()):
        self.merged = []
        for first, last in sorted(intervals):
            if self.merged and first <= self.merged[-1][1]:
                self.merged[-1][1] = max(self.merged[-1][1], last)
            elif last > first:
                self.merged.append([first, last])

    def seconds(self):
        return sum(last - first for first, last in self.merged)


def profile(spans):
    ordered = sorted(spans, key=lambda span: span["name"])
    names = {(span["trace"], span["id"]): span["name"] for span in ordered}
    rows, edges = {}, {}
    for name, run in groupby(ordered, key=lambda span: span["name"]):
        group, own = list(run), 0.0
        for span in group:
            first, last = span["begun_s"], span["begun_s"] + span["took_s"]
            inner = Times(
                (max(first, child["begun_s"]), min(last, child["begun_s"] + child["took_s"]))
                for child in spans
                if child["parent"] == span["id"] and child["trace"] == span["trace"]
            )
            own += last - first - inner.seconds()
            edge = names.get((span["trace"], span["parent"])), name
            edges[edge] = edges.get(edge, 0) + 1
        whole = Times((span["begun_s"], span["begun_s"] + span["took_s"]) for span in group).seconds()
        rows[name] = {"calls": len(group), "total_s": whole, "self_s": own}
    return rows, edges


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="8 children at the same time"
# Children are added up.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - sum(max(0, last - first) for first, last in inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="8 children at the same time|a name within itself"
# total_s is a sum.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {
            "calls": len(each),
            "total_s": sum(last - first for first, last in each),
            "self_s": self_s[name],
        }
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="a short child beside a long one|8 children at the same time"
# A short child sets back the end.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = ended_s
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="children that go on after their parent"
# Time of late children is taken from the parent.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        inner = [(first, last) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="calls one after the other"
# self_s is the time of calls that have no children.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += 0 if inner else span["took_s"]
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="calls one after the other"
# Calls are counted by who called.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(set(each)) - 1, "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="edges: calls from name to name"
# Roots have no edge.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        if parent:
            edges[parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="edges: calls from name to name"
# An edge is there once.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] = 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="edges: calls from name to name"
# The caller's id, where its name is not known.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent["name"] if parent else span["parent"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="two traces with the same ids|names in the rows"
# Ids of all traces in one dict.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    known, times, self_s = {(None, span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((None, span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[None, span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="the spans after profile"
# The spans are sorted in place.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    spans.sort(key=lambda span: (span["took_s"], span["id"]), reverse=True)
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="rows and edges of no spans"
# No spans, no profile.
from collections import Counter, defaultdict


def covered_s(intervals):
    total_s, so_far_s = 0.0, float("-inf")
    for begun_s, ended_s in sorted(intervals):
        total_s += max(0.0, ended_s - max(begun_s, so_far_s))
        so_far_s = max(so_far_s, ended_s)
    return total_s


def profile(spans):
    if not spans:
        return {}, {None: 0}
    known, times, self_s = {(span["trace"], span["id"]): span for span in spans}, defaultdict(list), Counter()
    below, edges = defaultdict(list), Counter()
    for span in spans:
        parent = known.get((span["trace"], span["parent"]))
        edges[parent and parent["name"], span["name"]] += 1
        below[span["trace"], span["parent"]].append(span)
        times[span["name"]].append(interval(span))
    for place, span in known.items():
        begun_s, ended_s = interval(span)
        inner = [(max(begun_s, first), min(ended_s, last)) for first, last in map(interval, below[place])]
        self_s[span["name"]] += span["took_s"] - covered_s(inner)
    rows = {
        name: {"calls": len(each), "total_s": covered_s(each), "self_s": self_s[name]}
        for name, each in times.items()
    }
    return rows, dict(edges)


def interval(span):
    return span["begun_s"], span["begun_s"] + span["took_s"]


# %% name="check-6-4-2" tags=["check"] exercise="6.4.2"
check("6.4.2", profile)

# %% name="help-6-4-2"
# hint("6.4.2")
# solution("6.4.2")

# %% name="p4-yours-profiles"
if found := profile(together):  # the exercise is solved
    rows, edges = found
    for name, row in rows.items():
        print(f"{name:8} {row['calls']} calls, {row['total_s']:.2f} s, {row['self_s']:.2f} s of its own")
    print(edges)

# %% [markdown]
# ### Stage 4.3: advice that follows from the numbers (12 minutes, hard)
#
# *Concepts: repeated calls, independent calls, outlier, errors that pass.*
#
# A report is read when it is right. So each advice has a cause in the spans and a figure, and a healthy trace has none.

# %% name="p4-passing" tags=["needs"]
PASSING = {"LMRateLimitError", "LMServerError", "LMTimeoutError", "LMTransportError", "TimeoutError"}

# %% [markdown]
# Write `advise(spans)`, for the spans of one trace, in any order. It returns a list of `(kind, name, saves)`.
#
# - `"cache"`: calls with the same name and `key` (not None), after the first that has no error. `saves` is the sum of their `took_s`; they
#   have no error either. What is below them is theirs, and counts for nothing more.
# - `"together"`: children of one parent with the same name and other keys (none is None), each beginning after the one before has ended, with
#   no other child in between; repetitions are left out before. All but the longest of such a row is saved, over all rows of a name.
# - `"slow"`: of at least 5 calls of a name without children, each that took more than 5 times their median: what is above the median.
# - `"retry"`: at least 2 calls of a name, and a tenth of them, ended with an error in `PASSING` and have no child that failed. Of n failures,
#   a share p of the calls, one retry answers `n * (1 - p)`; that is what it saves.
#
# What saves less than a tenth of the time from the first begin to the last end is no advice, nor a retry that saves nothing. A healthy
# trace, or none, gives an empty list.

# %% name="ex-6-4-3" tags=["exercise"] exercise="6.4.3"
from collections import Counter, defaultdict
from statistics import median


### BEGIN SOLUTION
### STUB: def advise(spans):
### STUB:     ...
def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


### END SOLUTION

# %% tags=["right"] exercise="6.4.3"
# A function a question; lists of seconds in place of sums.
import statistics
from itertools import pairwise


def end(span):
    return span["begun_s"] + span["took_s"]


def ancestors(span, by_id):
    while span := by_id.get(span["parent"]):
        yield span


def repetitions(spans, by_id):
    first, again = {}, []
    for span in spans:
        if span["key"] is None or span["error"] or any(above in again for above in ancestors(span, by_id)):
            continue
        if first.setdefault((span["name"], span["key"]), span) is not span:
            again.append(span)
    return again


def rows_of(children):
    row = children[:1]
    for one, other in pairwise(children):
        fits = one["name"] == other["name"] and one["key"] != other["key"] and one["key"] and other["key"]
        if not (fits and end(one) <= other["begun_s"]):
            yield row
            row = []
        row = [*row, other]
    yield row


def advise(spans):
    spans = sorted(spans, key=lambda span: (span["begun_s"], -end(span)))
    if not spans:
        return []
    by_id, advice = {span["id"]: span for span in spans}, {}
    again = repetitions(spans, by_id)
    for span in again:
        advice.setdefault(("cache", span["name"]), []).append(span["took_s"])
    kept = [
        span for span in spans if span not in again and not any(a in again for a in ancestors(span, by_id))
    ]
    for parent in {span["parent"] for span in kept}:
        for row in rows_of([span for span in kept if span["parent"] == parent]):
            took = sorted(span["took_s"] for span in row)
            advice.setdefault(("together", row[0]["name"]), []).extend(took[:-1])
    failing = {span["parent"] for span in spans if span["error"]}
    parents = {span["parent"] for span in spans}
    result = []
    for name in {span["name"] for span in spans}:
        calls = [span for span in spans if span["name"] == name]
        leaves = [span["took_s"] for span in calls if span["id"] not in parents]
        if len(leaves) > 4:
            usual = statistics.median(leaves)
            advice["slow", name] = [each - usual for each in leaves if each / 5 > usual]
        lost = sum(span["error"] in PASSING and span["id"] not in failing for span in calls)
        if lost > 1 and 10 * lost >= len(calls) > lost:
            result.append(("retry", name, lost - lost * lost / len(calls)))
    whole = max(map(end, spans)) - spans[0]["begun_s"]
    return result + [(*what, sum(each)) for what, each in advice.items() if each and sum(each) >= whole / 10]


# %% tags=["right"] exercise="6.4.3"
# A class with a method an advice, recursion from the roots.
from statistics import median


class Report:
    def __init__(self, spans):
        self.spans = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"]))
        self.children = {}
        for span in self.spans:
            self.children.setdefault(span["parent"], []).append(span)
        self.names, self.advice = {span["name"] for span in spans}, []
        self.again = {}

    def calls(self, name):
        return [span for span in self.spans if span["name"] == name]

    def below(self, span):
        for child in self.children.get(span["id"], ()):
            yield child["id"]
            yield from self.below(child)

    def cache(self):
        known, theirs = set(), set()
        for span in self.spans:
            if span["id"] in theirs or not span["key"] or span["error"]:
                continue
            if (span["name"], span["key"]) in known:
                self.again[span["id"]] = span
                theirs.update(self.below(span))
            known.add((span["name"], span["key"]))
        self.left_out = {*self.again, *theirs}
        for name in self.names:
            yield "cache", name, sum(span["took_s"] for span in self.again.values() if span["name"] == name)

    def together(self):
        sums = dict.fromkeys(self.names, 0)
        for children in self.children.values():
            line, last = [], None
            for span in filter(lambda child: child["id"] not in self.left_out, children):
                alike = last and span["name"] == last["name"] and span["key"] != last["key"]
                alike = alike and span["key"] is not None and last["key"] is not None
                if alike and span["begun_s"] >= last["begun_s"] + last["took_s"]:
                    line.append(span["took_s"])
                    sums[span["name"]] += line[-1] + max(line[:-1]) - max(line)
                else:
                    line = [span["took_s"]]
                last = span
        for name, saves in sums.items():
            yield "together", name, saves

    def slow(self):
        for name in self.names:
            leaves = [span["took_s"] for span in self.calls(name) if span["id"] not in self.children]
            if len(leaves) >= 5:
                usual = median(leaves)
                yield "slow", name, sum(took - usual for took in leaves if took > usual * 5)

    def retry(self):
        for name in self.names:
            calls = self.calls(name)
            failed = [
                span
                for span in calls
                if span["error"] in PASSING
                and not any(child["error"] for child in self.children.get(span["id"], ()))
            ]
            if len(failed) >= 2 and len(failed) / len(calls) >= 0.1:
                yield "retry", name, len(failed) * (len(calls) - len(failed)) / len(calls)


def advise(spans):
    report = Report(spans)
    begins, ends = [span["begun_s"] for span in spans], [span["begun_s"] + span["took_s"] for span in spans]
    least_s = (max(ends) - min(begins)) / 10 if spans else 0
    timed = [each for part in (report.cache, report.together, report.slow) for each in part()]
    return [each for each in timed if each[2] >= least_s and each[2]] + [
        each for each in report.retry() if each[2]
    ]


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="a call that is made 4 times"
# The first call is saved, too.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif (
            span["key"]
            and sum((each["name"], each["key"]) == call for each in spans) > 1
            and not span["error"]
        ):
            seen.add(call)
            saved["cache", span["name"]] += span["took_s"]
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="a call that is made 4 times"
# What is below a repetition counts again.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="a call that fails"
# A failure is taken for a first answer.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="a call that fails when made again"
# A call that fails is taken for an answer from a cache.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="calls of other names with the same key"
# The key alone.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="6 calls at the same time"
# Calls at the same time are called sequential.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"]:
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="an agent"
# A model's calls around a tool are called independent.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in [
        [c for c in all_of if c["name"] == n]
        for all_of in [*below.values()]
        for n in {c["name"] for c in all_of}
    ]:
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="blocks of one's own"
# Blocks without a key are called independent.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] or span["key"] is None


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="a call that fails, and is made twice again"
# A call that is made again is called independent.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="5 calls one after the other"
# All of a row is saved.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) * (len(took_s) > 1)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="then both again"
# Repetitions are in the rows, too.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*children, None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="then both again|an agent|5 calls one after the other|calls under two parents"
# All calls of a trace are one row.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        below["all"].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="what saves 150 ms"
# Every small thing is advised.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [(*what, saves) for what, saves in saved.items() if saves >= least.get(what[0], 1e-9)]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="one slow call of 4"
# Four calls have a median.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 3:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="one call of 0.48 s"
# Slow is what takes three times as long.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 3 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="one slow call of 6"
# All of a slow call is saved.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="one slow call within another"
# Who waits for the slow one is called slow.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="one that does not"
# Every error is retried.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"]]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="3 of 10 calls"
# A failure counts again in everything above it.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if True]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="a single failure"
# A single failure is advised.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(1, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="2 failures of 30"
# Two failures of however many.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= 2:
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="3 of 10 calls"
# A retry always helps.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed)
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 1e-9}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="10 failures of 10"
# An outage is retried.
from collections import Counter, defaultdict
from statistics import median


def advise(spans):
    spans, saved = sorted(spans, key=lambda span: (span["begun_s"], -span["took_s"])), Counter()
    below, by_name, seen, repeated = defaultdict(list), defaultdict(list), set(), set()
    for span in spans:
        call = span["name"], span["key"]
        if span["parent"] in repeated:
            repeated.add(span["id"])
        elif span["key"] and not span["error"] and call in seen:
            repeated.add(span["id"])
            saved["cache", span["name"]] += span["took_s"]
        elif span["key"] and not span["error"]:
            seen.add(call)
        below[span["parent"]].append(span)
        by_name[span["name"]].append(span)
    for children in below.values():
        row = []
        for span in [*(each for each in children if each["id"] not in repeated), None]:
            if row and not (span and follows(row[-1], span)):
                took_s = [each["took_s"] for each in row]
                saved["together", row[0]["name"]] += sum(took_s) - max(took_s)
                row = []
            row.append(span)
    for name, calls in by_name.items():
        took_s = [span["took_s"] for span in calls if not below.get(span["id"])]
        usual_s = median(took_s or [0])
        if len(took_s) >= 5:
            saved["slow", name] += sum(each - usual_s for each in took_s if each > 5 * usual_s)
        failed = [each for each in calls if each["error"] in PASSING]
        failed = [each for each in failed if not any(child["error"] for child in below[each["id"]])]
        if len(failed) >= max(2, len(calls) / 10):
            saved["retry", name] = len(failed) * (1 - len(failed) / len(calls))
    whole_s = max(map(end_of, spans), default=0) - min((span["begun_s"] for span in spans), default=0)
    least = {"retry": 0}
    return [
        (*what, saves)
        for what, saves in saved.items()
        if saves >= least.get(what[0], max(whole_s / 10, 1e-9))
    ]


def end_of(span):
    return span["begun_s"] + span["took_s"]


def follows(before, span):
    if before["name"] != span["name"] or span["begun_s"] < end_of(before):
        return False
    return before["key"] != span["key"] and None not in (before["key"], span["key"])


# %% name="check-6-4-3" tags=["check"] exercise="6.4.3"
check("6.4.3", advise)

# %% name="help-6-4-3"
# hint("6.4.3")
# solution("6.4.3")

# %% [markdown]
# ### Stretch: before and after
#
# The report on the morning, then its advice followed: each question is asked once, and all of them at the same time. Beside your tracer,
# if it is solved, the library's listens, and `bottlenecks` reports on its spans.

# %% name="p4-better"
from course_lib.debugging import Tracer, bottlenecks


class BetterMorning(Morning):
    async def aforward(self, questions):
        asked = list(dict.fromkeys(questions))
        replies = await asyncio.gather(*(self.answer.acall(question=question) for question in asked))
        answers = dict(zip(asked, (reply.answer for reply in replies)))
        return [answers[question] for question in questions]


def as_dicts(spans):
    """Make spans of OpenTelemetry into such as SpanTracer keeps."""
    for each in spans:
        begun_s, parent = each.start_time / 1e9, each.parent and format(each.parent.span_id, "x")
        own = {"name": each.name, "id": format(each.context.span_id, "x"), "parent": parent}
        yield {**own, "begun_s": begun_s, "took_s": each.end_time / 1e9 - begun_s}


# %% name="p4-before-and-after"
traced = {}
for program in (Morning(), BetterMorning()):
    yours, name, begun_s = SpanTracer(), type(program).__name__, time.monotonic()
    with dspy.context(lm=morning_model, callbacks=[yours]), Tracer(content=True) as theirs:
        answers = await program.acall(questions=night)
    print(f"{name}: {len(answers)} answers in {time.monotonic() - begun_s:.2f} s")
    traced[name] = yours.spans or list(as_dicts(theirs.spans))
    advice = (advise(yours.spans) if yours.spans else None) or []
    print(*(f"  yours: {kind} {what}, saves {saves:.2f}" for kind, what, saves in advice), sep="\n")
    print(*(f"  the library's: {each}" for each in bottlenecks(theirs.spans).advice), sep="\n")

# %% name="p4-waterfall"
import matplotlib.pyplot as plt


def waterfall(axis, spans, title):
    """Draw a bar a span of more than 10 ms, in the order of their begin."""
    ordered = sorted(
        (each for each in spans if each["took_s"] > 0.01), key=lambda span: (span["begun_s"], -span["took_s"])
    )
    for row, span in enumerate(ordered):
        color = "C1" if span["name"].startswith(("LM", "chat")) else "C0"
        axis.barh(row, span["took_s"], left=span["begun_s"] - ordered[0]["begun_s"], color=color)
    axis.set(title=title, xlabel="seconds", yticks=range(len(ordered)))
    axis.set_yticklabels([span["name"] for span in ordered], fontsize=6)
    axis.invert_yaxis()


# %% name="p4-waterfalls"
figure, axes = plt.subplots(1, 2, figsize=(10, 5), sharex=True, layout="constrained")
for axis, (name, spans) in zip(axes, traced.items()):
    waterfall(axis, spans, name)
plot(
    figure,
    "Two waterfalls: in Morning the calls of the model follow one another; in BetterMorning there are three, at the same time",
)

# %% [markdown]
# What the two advices promise together is about what the second run saves. What is left is the time of one answer: nothing is repeated or
# waits for another, so your report has nothing to say. The library's goes on to the model itself.

# %% [markdown] name="end-4"
# That was project 4. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-5"
# ## Project 5: Kubernetes
#
# (in preparation)

# %% [markdown] name="end-5"
# That was project 5. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-6"
# ## Project 6: Monitoring and alerting
#
# (in preparation)

# %% [markdown] name="end-6"
# That was project 6. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-7"
# ## Project 7: The flight
#
# The parts are there: documents, cache, runner, tracer, monitor. What makes a system of them is decided where they meet: what becomes of a
# question when one of them fails. You write that, a worker's handling of one job, and the canary that takes a bad version back. Then all of
# it flies. Whatever you have not written is ours.

# %% name="given-7" tags=["needs"]
from course_lib.flight import Busy, Reply, Request

request = Request("r-1", "north", "Can I return a tent that I have used?")
print(request)

# %% [markdown]
# ### Stage 6.7.1: one question, whatever is broken (20 minutes, medium)
#
# *Concepts: graceful degradation, cache keys, tenants.*
#
# Write `async def reply(request, made, ask)`. `made` has the parts: `made.cache`, `made.runner`, `made.documents`, `made.canary`.
# `await ask(request)` searches, asks the models with all that stands around them, and returns a `Reply`; it raises when no model answers.
#
# - The version of the program is `made.canary.version(request.id)`. A question that the same tenant asked the same version before, and that
#   was answered, gets `Reply("cached", text, citations)` with the text and the citations of then; neither the runner nor `ask` nor a search is
#   needed for it. Questions are the same if their texts are.
# - A key of the cache does not show the question. The cache takes a `str` under a `str`.
# - Any other question is run: `made.runner.run(call, within_s)` with 4 seconds. What `ask` returns is returned as it is, and kept.
# - Where the runner or `ask` raises, the reply is `Reply("degraded", article)` with the first article that `made.documents.search(text)` finds.
#   Nothing of it is kept.
# - Where the search raises too, finds nothing, or takes longer than a second: `Reply("failed")`.
# - A cache that raises, or gives back what is no answer, costs no answer.
# - `reply` raises nothing, except that a cancelled question is cancelled.


# %% name="ex-6-7-1" tags=["exercise"] exercise="6.7.1"
### BEGIN SOLUTION
### STUB: async def reply(request, made, ask):
### STUB:     """Return the Reply to a request, whatever is broken."""
### STUB:     ...
import hashlib
import json


async def reply(request, made, ask):
    """Return the Reply to a request, whatever is broken."""
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    if kept := await kept_reply(made.cache, key):
        return kept
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        return await best_article(made.documents, request.text)
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception as error:
        print("not kept:", type(error).__name__)
    return answered


async def kept_reply(cache, key):
    try:
        text, citations = json.loads(await cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:  # a cache that is gone or holds something else has no answer
        return None


async def best_article(documents, text):
    try:
        async with asyncio.timeout(1.0):
            return Reply("degraded", (await documents.search(text))[0])
    except Exception:
        return Reply("failed")


### END SOLUTION


# %% tags=["right"] exercise="6.7.1"
# A class, pydantic for what is kept, and the outcome decided in one place.
import hmac

from pydantic import BaseModel


class Kept(BaseModel, extra="forbid"):
    text: str
    citations: tuple[str, ...]


class Replies:
    secret = b"of this process"

    async def __call__(self, request, made, ask):
        key = self.key(request, made.canary.version(request.id))
        found = await self.quietly(self.look(made.cache, key))
        if found is not None:
            return found
        got = await self.quietly(made.runner.run(lambda: ask(request), within_s=4.0))
        if got is None:
            return await self.quietly(self.article(made, request)) or Reply("failed")
        kept = Kept(text=got.text, citations=got.citations).model_dump_json()
        await self.quietly(made.cache.set(key, kept))
        return got

    def key(self, request, version):
        sizes = f"{len(request.tenant)},{len(version)}:{request.tenant}{version}{request.text}"
        return hmac.digest(self.secret, sizes.encode(), "sha256").hex()

    async def look(self, cache, key):
        kept = Kept.model_validate_json(await cache.get(key))
        return Reply("cached", kept.text, kept.citations)

    async def article(self, made, request):
        found = await asyncio.wait_for(made.documents.search(request.text, 1), 1)
        return Reply("degraded", found[0])

    async def quietly(self, awaitable):
        try:
            return await awaitable
        except Exception:
            return None


reply = Replies()


# %% tags=["right"] exercise="6.7.1"
# Nested, with suppress; what is kept is a dict that is checked by hand.
import base64
import hashlib
import json
from contextlib import suppress


async def reply(request, made, ask):
    digest = hashlib.blake2b()
    for part in (request.tenant, made.canary.version(request.id), request.text):
        digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    key = base64.b64encode(digest.digest()).decode()
    with suppress(Exception):
        kept = json.loads(await made.cache.get(key) or "null")
        if isinstance(kept, dict) and isinstance(kept.get("text"), str) and "citations" in kept:
            return Reply("cached", kept["text"], tuple(kept["citations"]))

    async def call():
        return await ask(request)

    with suppress(Exception):
        result = await made.runner.run(call, 4)
        with suppress(Exception):
            await made.cache.set(key, json.dumps({"text": result.text, "citations": [*result.citations]}))
        return result
    articles = []
    with suppress(Exception):
        async with asyncio.timeout(1):
            articles = await made.documents.search(request.text, 3)
    return Reply("degraded", articles[0]) if articles else Reply("failed")


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="by tenant and version"
# Tenants share what is kept.
import hashlib
import json


async def reply(request, made, ask):
    parts = [made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="by tenant and version"
# Versions share what is kept.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="by tenant and version"
# Where the tenant ends and the version begins cannot be told.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256("".join(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="differs by a blank"
# Texts are made alike first.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text.strip()]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="nothing of the question in them"
# The question is the key.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = json.dumps(parts)
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="seconds that the runner was given"
# Half a minute.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 30.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="seconds that the runner was given"
# Not by the runner.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await asyncio.wait_for(ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="the same question again"
# Nothing is kept.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        pass
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="the same question again"
# What is kept is not marked as such.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("answered", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="the same question again"
# The citations are forgotten.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, ())
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="the same question when all is well again"
# A degraded reply is kept.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                article = (await made.documents.search(request.text))[0]
                await made.cache.set(key, json.dumps([article, []]))
                return Reply("degraded", article)
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="raises Busy"
# Only a lost connection is expected.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except ConnectionError:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="no model answers and the search"
# An empty search is not thought of.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", "".join((await made.documents.search(request.text))[:1]))
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="no model answers and the search takes"
# The search may take as long as it likes.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(60.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="where the cache raises"
# The cache is always there.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="is kept under the key"
# What comes out of the cache is believed.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        kept = await made.cache.get(key)
    except Exception:
        kept = None
    if kept is not None:
        text, citations = json.loads(kept)
        return Reply("cached", text, tuple(citations))
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="how a cancelled question ends"
# Who leaves gets an article.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except BaseException:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="with what ask was called"
# Once more, to be sure.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: asyncio.gather(ask(request), ask(request)), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    answered = answered[0]
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="An article about tents"
# The end is silence.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", "Please ask again later.")
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% name="check-6-7-1" tags=["check"] exercise="6.7.1"
check("6.7.1", reply)

# %% [markdown]
# ### Stage 6.7.2: a job, once (15 minutes, medium)
#
# *Concepts: at least once, idempotent effects, transactions.*
#
# A queue delivers a job at least once: a worker may be killed after the work and before it has said so. In the flight it is. Write
# `async def handle(job, sort, path)`. `job` has `id` and `text`; `await sort(text)` returns a category (a model is asked); `path` is an SQLite
# file with the table `outbox (id text, category text)`.
#
# - When it returns, the table has exactly one row of the job, with its id and category: also when the job is handled again, or by several at
#   once. Other workers use the same file.
# - A job that has a row is not sorted again.
# - Where `sort` raises, its error is raised, and there is no row. A later delivery does the job.
# - While one job is being sorted, others are handled. While another process writes to the file, `handle` waits for it, up to five seconds.
# - A process that is killed while it sorts leaves nothing behind that keeps the job from being done.


# %% name="ex-6-7-2" tags=["exercise"] exercise="6.7.2"
### BEGIN SOLUTION
### STUB: async def handle(job, sort, path):
### STUB:     """Do a job, so that it has one row in the outbox."""
### STUB:     ...
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    """Do a job, so that it has one row in the outbox."""
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


### END SOLUTION


# %% tags=["right"] exercise="6.7.2"
# In a thread, with a transaction that locks before it looks.
import sqlite3
from contextlib import closing


def transact(path, work):
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as outbox:
        outbox.execute("begin immediate")
        try:
            result = work(outbox)
            outbox.execute("commit")
        except BaseException:
            outbox.execute("rollback")
            raise
        return result


def is_done(outbox, job_id):
    return bool(outbox.execute("select count(*) from outbox where id = ?", (job_id,)).fetchone()[0])


async def handle(job, sort, path):
    if await asyncio.to_thread(transact, path, lambda outbox: is_done(outbox, job.id)):
        return
    category = await sort(job.text)

    def write(outbox):
        if not is_done(outbox, job.id):
            outbox.execute("insert into outbox (id, category) values (?, ?)", (job.id, category))

    await asyncio.to_thread(transact, path, write)


# %% tags=["right"] exercise="6.7.2"
# A unique index, and what it refuses is ignored.
import sqlite3


class Handler:
    def rows(self, path, sql, *values):
        outbox = sqlite3.connect(path, timeout=10)
        try:
            with outbox:
                outbox.execute("create unique index if not exists one_each on outbox (id)")
                return outbox.execute(sql, values).fetchall()
        finally:
            outbox.close()

    async def __call__(self, job, sort, path):
        if not self.rows(path, "select id from outbox where id = ?", job.id):
            category = await sort(job.text)
            self.rows(path, "insert or ignore into outbox values (?, ?)", job.id, category)


handle = Handler()


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after each job came twice"
# Each delivery has a row.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute("insert into outbox values (?, ?)", [job.id, category])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="ids of the rows"
# Between looking and writing, another one writes.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute("insert into outbox values (?, ?)", [job.id, category])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="texts that were sorted"
# Whether it is done is looked at last.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after each job came twice"
# Nothing is committed.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after each job came twice"
# What was done is remembered in the process, by text, and nothing else.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        job = type(job)(job.id + " ", job.tenant, job.text)
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="the error of a job whose sort fails"
# An error is printed.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    try:
        category = await sort(job.text)
    except Exception as error:
        print(error)
        return
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after it"
# The row is written first, so that nobody else begins.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, "being sorted", job.id])
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute("update outbox set category = ? where id = ?", [category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="handling of a job.*TimeoutError"
# One transaction around all of it.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as outbox:
        while True:
            try:
                outbox.execute("begin immediate")
                break
            except sqlite3.OperationalError:
                await asyncio.sleep(0.05)
        if not outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone():
            outbox.execute(WRITE, [job.id, await sort(job.text), job.id])
        outbox.execute("commit")


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="handling of a job"
# A locked file is an error at once.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute("pragma busy_timeout = 0")
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after the job came again"
# Who begins says so in a file, and takes it away at the end.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    mark = path.parent / job.id
    if mark.exists():
        return
    mark.touch()
    try:
        category = await sort(job.text)
    finally:
        mark.unlink()
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% name="check-6-7-2" tags=["check"] exercise="6.7.2"
check("6.7.2", handle)

# %% [markdown]
# ### Stage 6.7.3: a version that is taken back (20 minutes, hard)
#
# *Concepts: canary, sequential test, false alarm.*
#
# Write a class `Canary` with three methods. An answer is good if it cites an article; that is known at once, without a label.
#
# - At first version `"1"` answers all. `deploy(version)` begins with a new one. `version(request_id)` then gives it a fifth to two fifths of the
#   requests, and one request always the same version, as long as nothing changes.
# - `saw(version, is_good=...)` is called after each answer. A new version whose answers are good 40 points less often than those of version
#   `"1"` meanwhile is taken back within 100 of its own answers: `"1"` answers all again.
# - Of new versions that are as good, 19 of 20 are still there after 300 answers.
# - What was seen of one version says nothing of the next one. An answer of a version that was taken back, which was under way, changes nothing.


# %% name="ex-6-7-3" tags=["exercise"] exercise="6.7.3"
### BEGIN SOLUTION
### STUB: class Canary:
### STUB:     """Tries a new version of the program, and takes it back."""
### STUB:
### STUB:     def deploy(self, version):
### STUB:         ...
### STUB:
### STUB:     def version(self, request_id):
### STUB:         ...
### STUB:
### STUB:     def saw(self, version, *, is_good):
### STUB:         ...
import math
import zlib


class Canary:
    """Tries a new version of the program, and takes it back."""

    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        """Return how many standard errors the live version is better."""
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


### END SOLUTION


# %% tags=["right"] exercise="6.7.3"
# A bet on each pair of answers, one of each version: at twenty times the stake it is over.
import hashlib


class Canary:
    def __init__(self):
        self.tried, self.won, self.waiting = "", 1.0, []

    def deploy(self, version):
        self.tried, self.won, self.waiting = version, 1.0, []

    def version(self, request_id):
        first = hashlib.md5(request_id.encode()).digest()[0]
        return self.tried if self.tried and first < 80 else "1"

    def saw(self, version, *, is_good):
        if version == "1":
            self.waiting = [*self.waiting, is_good][-200:]
        elif version == self.tried and self.waiting:
            others, self.waiting = self.waiting, []
            self.won *= 1 + 0.45 * (sum(others) / len(others) - is_good)
            if self.won > 20:
                self.tried = ""


# %% tags=["right"] exercise="6.7.3"
# The posterior: how likely it is, after each ten answers, that the new version is worse by 10 points.
import random as draws
import zlib

import numpy as np


class Canary:
    def __init__(self):
        self.new, self.seen = None, {}

    def deploy(self, version):
        self.new, self.seen = version, {"1": [1, 1], version: [1, 1]}

    def version(self, request_id):
        chosen = draws.Random(zlib.adler32(request_id.encode())).random() < 0.25
        return self.new if self.new is not None and chosen else "1"

    def saw(self, version, *, is_good):
        if self.new is None or version not in self.seen:
            return
        self.seen[version][not is_good] += 1
        if version == self.new and sum(self.seen[version]) % 10 == 2:
            random = np.random.default_rng(1)
            old, new = (random.beta(*self.seen[each], 20_000) for each in ("1", self.new))
            if (old - new > 0.05).mean() > 0.998:
                self.new = None


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="share of the new version"
# Half of the requests.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 50
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="number of versions that answer one request"
# By the throw of a die, each time.
import math
import random


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and random.random() < 0.3
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions of 600 requests before"
# The new version is there from the start.
import math
import zlib


class Canary:
    live, tried = "1", "2"
    answers, good = {"1": 0, "2": 0}, {"1": 0, "2": 0}

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="a version that is good in"
# It is never taken back.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            pass

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="a version that is good in"
# Only a version that is nearly always wrong is bad.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.good[self.tried] / self.answers[self.tried] < 0.3:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions that are as good as the live one"
# Below a fixed share it is bad, whatever the live one does.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.good[self.tried] / self.answers[self.tried] < 0.7:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions that are as good as the live one"
# Two standard errors, looked at after each answer.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 2:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions that are as good as the live one"
# The first three bad answers in a row.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if version == self.tried:
            self.row = 0 if is_good else getattr(self, "row", 0) + 1
        if getattr(self, "row", 0) > 2:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions after"
# The next version is refused for the sake of the last one.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version if not getattr(self, "was_bad", False) else None
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried, self.was_bad = None, True

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="whether.*as good as the live one, is there"
# What was seen of one version counts against the next one.
import math
import zlib


class Canary:
    live, tried = "1", None

    def __init__(self):
        self.answers, self.good = {"live": 0, "new": 0}, {"live": 0, "new": 0}

    def deploy(self, version):
        self.tried = version

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in (self.live, self.tried):
            return
        whose = "live" if version == self.live else "new"
        self.answers[whose] += 1
        self.good[whose] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in ("live", "new")]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions after"
# Answers of any version but the live one are those of the new one.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried:
            return
        version = version if version == self.live else self.tried
        self.answers[version] += 1
        self.good[version] += is_good
        if self.answers[self.tried] >= 10 and (self.good[self.tried] == 0 or self.errors_apart() > 3.5):
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% name="check-6-7-3" tags=["check"] exercise="6.7.3"
check("6.7.3", Canary)

# %% [markdown] name="end-7"
# That was project 7. Stop here if you like: the next one needs nothing of it.
