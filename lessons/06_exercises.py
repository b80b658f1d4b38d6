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
    def __init__(self, at_once, waiting):
        ### BEGIN SOLUTION
        ### STUB: self.at_once, self.waiting = at_once, waiting
        ### STUB:
        ### STUB: async def run(self, call, within_s):
        ### STUB:     ...
        ### STUB:
        ### STUB: async def ingest(self, documents, index, within_s):
        ### STUB:     ...
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


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="calls whose time was over|a call that got no place"
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


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="after 1.1 s"
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


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="calls whose time was over|when their callers are cancelled"
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
# With two at once, all are indexed; the source is read as fast as that goes, and no faster.
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
washing = "How do I wash a down sleeping bag?"
begun_s = time.monotonic()
with dspy.context(lm=lm.connect("sim-large@unhurried", cache=False)):
    whole = await desk.Answer().acall(washing, context=await search(washing))
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
    await told(stream_answer(washing, search))

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
                async for piece in write(washing, await search(washing)):
                    shown += piece
        except Exception as error:
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


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="a search that hangs"
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


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="after 1.08 s"
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


# %% tags=["wrong"] exercise="6.3.3" outcome="failed" message="after 1.08 s"
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
        await told(answer_anyway(washing, search, lambda question: [], write, within_s=2))

# %% [markdown]
# ### Stretch: the first token as load rises
#
# A model's server with four places, each answer 0.1 s, can write 40 answers a second. Below, questions come at 20, 40 and 80 a second, for
# one second each: once all are taken in, once through a runner that has four at once and four that wait, and refuses the rest.

# %% name="p3-load"
from course_lib.measure import percentile
from course_lib.resilience import Bulkhead, BulkheadFull


async def loaded(rate_per_s, run):
    """Send questions for a second; return the times to the first token, to the end, and how many were refused."""
    server, first_s, whole_s, refused = asyncio.Semaphore(4), [], [], []

    async def ask(delay_s):
        await asyncio.sleep(delay_s)
        begun_s = time.monotonic()

        async def answer():
            async with server:
                await asyncio.sleep(0.02)
                first_s.append(time.monotonic() - begun_s)
                await asyncio.sleep(0.08)
                whole_s.append(time.monotonic() - begun_s)

        try:
            await run(answer)
        except (Busy, BulkheadFull) as error:
            refused.append(error)

    await asyncio.gather(*(ask(number / rate_per_s) for number in range(rate_per_s)))
    return first_s, whole_s, refused


# %% name="p3-load-table"
async def taken_in(call):
    return await call()


async def ours(call, within_s, places):
    async with asyncio.timeout(within_s), places:
        return await call()


async def is_solved():
    return await BoundedRunner(1, 0).run(lambda: asyncio.sleep(0, "solved"), 5) == "solved"


def held_back(is_yours):
    places = Bulkhead("the model", limit=4, waiting=4)
    run = BoundedRunner(4, 4).run if is_yours else lambda call, within_s: ours(call, within_s, places)
    return lambda call: run(call, 5)


rates, is_yours = (20, 40, 80), await is_solved()
flown = await asyncio.gather(
    *(loaded(rate, taken_in) for rate in rates), *(loaded(rate, held_back(is_yours)) for rate in rates)
)
print("the runner is", "yours" if is_yours else "the library's")
rows = []
for (first_s, whole_s, refused), rate, how in zip(
    flown, rates * 2, ["all taken in"] * 3 + ["with a runner"] * 3
):
    ends = {
        f"{name} p{at}": percentile(values, at)
        for name, values in (("first token", first_s), ("whole", whole_s))
        for at in (50, 99)
    }
    rows.append(
        {
            "how": how,
            "per s": rate,
            **{name: f"{value:.2f} s" for name, value in ends.items()},
            "refused": len(refused),
        }
    )
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
# (in preparation)

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
# (in preparation)

# %% [markdown] name="end-7"
# That was project 7. Stop here if you like: the next one needs nothing of it.
