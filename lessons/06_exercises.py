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
print(f"{len(results)} articles, {most} requests at once; indexed: {len(index_of)}; failed: {len(failed)} {set(failed)}")

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
                    await self.run(lambda: index(document), within_s)
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
                tasks[asyncio.create_task(self.run(lambda document=document: index(document), within_s))] = document
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
from dataclasses import dataclass, field

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

# %% name="p3-naive-answer"
import time

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
from course_lib.concurrency import stream
from course_lib.concurrency import streaming


async def stream_answer(question, search):
    texts = await search(question)
    yield Passages(texts)
    program = dspy.Predict("context: list[str], question -> answer, citations: list[str]")
    async with stream(program, fields=["answer"], question=question, context=texts) as events:
        async for event in events:
            if isinstance(event, streaming.Token) and event.text:
                yield Token(event.text)
            elif isinstance(event, streaming.Error):
                raise event.cause
            elif isinstance(event, streaming.Final):
                yield Citations(list(event.fields["citations"]))

# %% tags=["right"] exercise="6.3.2"
# A class that puts events into its queue; the citations are written first, and shown last.
class Answering:
    def __init__(self, texts):
        self.texts, self.events = texts, asyncio.Queue()

    async def run(self, question):
        program = dspy.Predict("passages: list[str], question -> cited_ids: list[str], reply: str")
        listener = dspy.streaming.StreamListener(signature_field_name="reply")
        write = dspy.streamify(program, stream_listeners=[listener], is_async_program=True)
        try:
            async for each in write(question=question, passages=self.texts):
                if isinstance(each, dspy.streaming.StreamResponse):
                    await self.events.put(Token(each.chunk))
                elif isinstance(each, dspy.Prediction):
                    await self.events.put(Citations(each.cited_ids))
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
    listeners = [dspy.streaming.StreamListener("answer"), dspy.streaming.StreamListener("citations")]  # for this request alone
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

# %% tags=["wrong"] exercise="6.3.2" outcome="failed" message="kinds of events|pieces of the answer"
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
begun_s = time.monotonic()
with dspy.context(lm=lm.connect("sim-large@unhurried", cache=False)):
    async for event in stream_answer(washing, search) or ():
        kind = type(event).__name__
        if kind != "Token" or event.text.strip().startswith(("The", "Wash", "Use", "down")):
            print(f"{time.monotonic() - begun_s:.2f} s  {event!s:.90}")

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
