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
# The desk answers from its help centre, and that is a table in PostgreSQL. In this project you build what stands between: a pool of
# connections, a search that remembers, and a watch that says how it is. In project 7 it is the `documents` of a whole system.
#
# The cell below makes the tables. `articles` holds the texts; its column `words` is filled by PostgreSQL with the words of each text in
# their basic form, so that *tents* and *tent* are the same word; those of the title and of the keywords weigh more. `changes` holds one number, and a trigger adds 1 to it whenever an
# article changes, whoever changes it.

# %% name="database-needs" tags=["needs"]
import logging
import time
from contextlib import asynccontextmanager

import psycopg

from course_lib.exercises.flight import SCHEMA, HelpPages, Line, fill, fresh
from course_lib.services import running_postgres

logging.getLogger("psycopg").setLevel(logging.ERROR)  # what it says about lines that we cut on purpose
help_url = fresh(running_postgres().url, "flight_lesson")
fill(help_url)

# %% name="database-schema"
print(SCHEMA)

# %% [markdown]
# Here is the first version that most of us write. It opens a connection for each search, and puts the customer's text into the query. The
# cell times forty searches, eight at a time, and then asks two questions more.


# %% name="database-naive"
async def naive_search(text):
    async with await psycopg.AsyncConnection.connect(help_url) as connection:
        found = await connection.execute(f"SELECT title FROM articles WHERE body ILIKE '%{text}%'")
        return [title for (title,) in await found.fetchall()]


async def milliseconds(search, texts, workers=8):
    began, waiting = time.perf_counter(), iter(texts)

    async def searching():
        for text in waiting:
            await search(text)

    await asyncio.gather(*(searching() for _ in range(workers)))
    return 1000 * (time.perf_counter() - began) / len(texts)


print(f"{await milliseconds(naive_search, ['tent', 'refund'] * 20):.1f} ms a search")

# %% name="database-naive-fails"
print(len(await naive_search("x' OR 'a' LIKE '")), "articles for a text that is in none")
try:
    await naive_search("I can't open the zip")
except psycopg.Error as error:
    print(type(error).__name__, "for an apostrophe:", str(error).partition("\n")[0])
with psycopg.connect(help_url) as connection:
    print(connection.execute("SHOW max_connections").fetchone()[0], "connections at most")

# %% [markdown]
# Four faults in five lines: each search waits until it has a connection of its own, a text can change the query (*SQL injection*), an ordinary
# sentence breaks it, and with more searches at once than the server takes connections, the others are refused.
#
# ### Stage 6.1.1: a pool of connections (12 minutes, medium)
#
# *Concepts: semaphore, transaction, cancellation, connection status.*
#
# Write `connection()` and `close()` of `Pool(url, size, wait_s)`.
#
# - `async with pool.connection() as connection:` gives a psycopg `AsyncConnection`. At most `size` are open, all of them can be in use at
#   once, and each is used again.
# - Who gets none within `wait_s` seconds gets `TimeoutError`, whose message names the size. The limit is for the wait, not for the block.
# - A block is a transaction: what it wrote is kept when it ends well, and undone when it raises; its error comes out.
# - A connection that broke, whose query failed, or that could not be opened spoils nothing for those who come after.
# - A caller may be cancelled while it waits or while its query runs. The query ends then, and no place is lost.
# - `close()` closes the connections that rest.

# %% name="ex-6-1-1" tags=["exercise"] exercise="6.1.1"
import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    ### BEGIN SOLUTION
    ### STUB: @asynccontextmanager
    ### STUB: async def connection(self):
    ### STUB:     ...
    ### STUB:
    ### STUB: async def close(self):
    ### STUB:     ...
    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()

    ### END SOLUTION


# %% tags=["right"] exercise="6.1.1"
# psycopg's own pool.

from contextlib import asynccontextmanager

from psycopg_pool import AsyncConnectionPool, PoolTimeout


class Pool:
    def __init__(self, url, size, wait_s):
        self.pool = AsyncConnectionPool(url, min_size=size, max_size=size, open=False)
        self.size, self.wait_s = size, wait_s

    @asynccontextmanager
    async def connection(self):
        await self.pool.open()
        try:
            connection = await self.pool.getconn(timeout=self.wait_s)
        except PoolTimeout:
            raise TimeoutError(f"no connection of {self.size} within {self.wait_s} s") from None
        try:
            async with connection.transaction():
                yield connection
        finally:
            await self.pool.putconn(connection)

    async def close(self):
        await self.pool.close()


# %% tags=["right"] exercise="6.1.1"
# A queue of places, each empty or with a connection in it; a class instead of a generator.

import asyncio

import psycopg


class _Block:
    def __init__(self, pool):
        self.pool = pool

    async def __aenter__(self):
        try:
            place = await asyncio.wait_for(self.pool.places.get(), self.pool.wait_s)
        except TimeoutError:
            raise TimeoutError(f"waited {self.pool.wait_s} s; size={self.pool.size}") from None
        try:
            self.connection = place or await psycopg.AsyncConnection.connect(self.pool.url)
        except BaseException:
            self.pool.places.put_nowait(None)
            raise
        return self.connection

    async def __aexit__(self, kind, error, trace):
        place = None
        try:
            await (self.connection.rollback() if kind else self.connection.commit())
            place = self.connection
        except psycopg.Error:
            if kind is None:
                raise
        finally:
            if place is None:
                await self.connection.close()
            self.pool.places.put_nowait(place)


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.places = asyncio.LifoQueue()
        for _ in range(size):
            self.places.put_nowait(None)

    def connection(self):
        return _Block(self)

    async def close(self):
        for place in [self.places.get_nowait() for _ in range(self.places.qsize())]:
            if place:
                await place.close()
            self.places.put_nowait(None)


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="connections that"
# A connection for each block, though never more than `size`.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="most blocks at once"
# No bound: who finds none that rests opens one.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="blocks at once; expected it ends"
# One at a time.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(1), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="a third block"
# Waits for ever.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="what a third block gets"
# The message says nothing.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="a block that takes longer than wait_s|blocks at once after one had waited"
# The limit is for the block too.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection, limit = self.idle.pop() if self.idle else None, asyncio.timeout(self.wait_s)
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with limit, connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="rows of a block"
# No transaction: each statement is kept at once.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="rows of a block"
# Nothing is committed.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url)
            yield connection
        finally:
            if connection and not connection.closed:
                await connection.rollback()
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="the error of a block"
# The error is swallowed.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        except KeyError:
            pass
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="its connection was ended"
# Every connection goes back, also a broken one.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection:
                self.idle.append(connection)
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="blocks at once after"
# The place of a block that fails is lost.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        except BaseException:
            if connection:
                await connection.close()
            raise
        else:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="blocks at once after"
# Who was cancelled while it waited gives back a place that it never had.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        connection = None
        try:
            try:
                async with asyncio.timeout(self.wait_s):
                    await self.slots.acquire()
            except TimeoutError:
                raise TimeoutError(f"all {self.size} connections are in use") from None
            connection = self.idle.pop() if self.idle else None
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="queries that run after|still waits"
# A query goes on when its caller is cancelled.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            raw, run = connection, connection.execute
            connection.execute = lambda *query: asyncio.shield(run(*query))
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="two blocks at once, size=2, after"
# Where no connection can be opened, the place is lost.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
        try:
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="open after close"
# close() forgets them.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"all {self.size} connections are in use") from None
        connection = self.idle.pop() if self.idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self.idle.append(connection)
            elif connection:
                await connection.close()
            self.slots.release()

    async def close(self):
        pass


# %% name="check-6-1-1" tags=["check"] exercise="6.1.1"
check("6.1.1", Pool)

# %% name="help-6-1-1"
# hint("6.1.1")
# solution("6.1.1")

# %% [markdown]
# Nobody has to write this at work: psycopg's own pool, in the package `psycopg_pool`, does the same and more (it opens connections ahead of
# time and replaces old ones). The cell below runs the forty searches from before with it.

# %% name="database-pool"
from psycopg_pool import AsyncConnectionPool


async def pooled_search(text):
    async with pool.connection() as connection:
        found = await connection.execute("SELECT title FROM articles WHERE body ILIKE %s", [f"%{text}%"])
        return [title for (title,) in await found.fetchall()]


async with AsyncConnectionPool(help_url, min_size=4, max_size=4, timeout=2.0) as pool:
    await pool.wait()
    for name, search in {"a connection each": naive_search, "a pool of four": pooled_search}.items():
        print(f"{name:20}{await milliseconds(search, ['tent', 'refund'] * 20):6.1f} ms a search")
    print(
        len(await pooled_search("x' OR 'a' LIKE '")),
        "articles, since %s hands over the text beside the query",
    )

# %% [markdown]
# ### Stage 6.1.2: search that sees each change (12 minutes, medium)
#
# *Concepts: full-text search, parameters, cache, version number.*
#
# `ILIKE` looks for a piece of text, so a whole question finds nothing. PostgreSQL's full-text search compares words, and `ts_rank` says how
# well they fit. Many customers ask the same, so the answers are worth keeping, but only until an article changes.
#
# Write `search(text, limit=3)` of `Search(pool, most=100)`, where `pool` has `connection()` as in stage 1.1.
#
# - It returns a list of texts, each of the form `[id] title`, a line break and the body: articles in which some of the words of `text` stand,
#   in any form. The best is first, by `ts_rank(words, query, 1)` (the 1 takes length into account), and there are at most `limit`.
# - Whatever the text holds is searched for and never run. It breaks nothing, and it finds nothing where its words are in no article.
# - The same search again does not read `articles`; text and limit both count. At most `most` searches are kept.
# - A search after an article has changed finds what there is now, whoever changed it, and also if that was while a search was under way.
# - What a caller does with its list changes nothing for the next.

# %% name="ex-6-1-2" tags=["exercise"] exercise="6.1.2"
from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        ### BEGIN SOLUTION
        ### STUB: ...
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)
        ### END SOLUTION


# %% tags=["right"] exercise="6.1.2"
# functools' idea of a cache: all of it is thrown away with each new number; OR by websearch.

import re


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.number, self.kept = pool, most, None, {}

    async def search(self, text, limit=3):
        words = " or ".join(re.findall(r"\w+", text))
        async with self.pool.connection() as connection:
            cursor = connection.cursor()
            await cursor.execute("SELECT number FROM changes")
            number = (await cursor.fetchone())[0]
            if number != self.number or len(self.kept) >= self.most:
                self.kept, self.number = {}, number
            kept = self.kept
            if (words, limit) not in kept:
                await cursor.execute(
                    "SELECT id, title, body FROM articles WHERE words @@ websearch_to_tsquery('english', %s) "
                    "ORDER BY ts_rank(words, websearch_to_tsquery('english', %s), 1) DESC, id LIMIT %s",
                    (words, words, limit),
                )
                kept[words, limit] = tuple("[{}] {}\n{}".format(*row) for row in await cursor.fetchall())
            return [*kept[words, limit]]


# %% tags=["right"] exercise="6.1.2"
# cachetools, and a connection for each of the two queries.

from cachetools import LRUCache


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.kept = pool, LRUCache(most)

    async def rows(self, query, **values):
        async with self.pool.connection() as connection:
            return await (await connection.execute(query, values)).fetchall()

    async def search(self, text, limit=3):
        text = text.replace(chr(0), "")
        key = (await self.rows("SELECT number FROM changes"))[0], text, limit
        if key not in self.kept:
            self.kept[key] = await self.rows(
                "WITH asked AS (SELECT string_agg(quote_literal(word), '|')::tsquery AS query FROM "
                "unnest(tsvector_to_array(to_tsvector('english', %(text)s))) AS word) "
                "SELECT format(E'[%%s] %%s\n%%s', id, title, body) FROM articles JOIN asked ON words @@ query "
                "ORDER BY ts_rank(words, query, 1) DESC LIMIT %(limit)s",
                text=text,
                limit=limit,
            )
        return [text for (text,) in self.kept[key]]


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="search..q' OR '1'='1"
# The text goes into the query.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = f"""SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', '{text}') AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT {limit}"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find)
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="search.*%|ProgrammingError|search.."
# Quotes are doubled by hand, and a percent sign is still special.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        quoted = text.replace("'", "''")
        find = f"""SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', '{quoted}') AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, [limit])
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="DataError"
# A character 0 reaches PostgreSQL.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="search..How do I DRY"
# All the words have to be there.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            CAST(plainto_tsquery('english', %(text)s) AS text) AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="search.."
# Words as they stand.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('simple', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="search.."
# ILIKE finds a piece of text.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE body ILIKE '%%' || %(text)s || '%%' ORDER BY id LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="search..How do I DRY"
# Any order.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1), id DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="search..my tents"
# Long articles win.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="limit=1"
# The limit is forgotten.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="search.."
# The body alone.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="search.."
# Without the id, nobody can say where an answer comes from.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="reads of articles by two searches"
# Nothing is kept.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before = None
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="articles found with limit=3"
# The limit is not in the key.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get(text, (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text] = number, texts
        self.kept.move_to_end(text)
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="reads of 30 searches"
# All are kept.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="after a caller emptied its own list"
# The list itself is handed out.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return texts


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="articles found after"
# What was kept stays.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before is None:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="while a search was under way"
# The number is read after the articles.

from collections import OrderedDict


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        find = """SELECT '[' || id || '] ' || title || E'\n' || body FROM articles, CAST(
            replace(CAST(plainto_tsquery('english', %(text)s) AS text), '&', '|') AS tsquery) AS asked
            WHERE words @@ asked ORDER BY ts_rank(words, asked, 1) DESC LIMIT %(limit)s"""
        text = text.replace("\0", " ")
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self.kept.get((text, limit), (None, []))
            if before != number:
                found = await connection.execute(find, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
        self.kept[text, limit] = number, texts
        self.kept.move_to_end((text, limit))
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(texts)


# %% name="check-6-1-2" tags=["check"] exercise="6.1.2"
check("6.1.2", Search)

# %% name="help-6-1-2"
# hint("6.1.2")
# solution("6.1.2")

# %% [markdown]
# ### Stage 6.1.3: health and metrics (10 minutes, medium)
#
# *Concepts: health check, cancellation that takes time, outcomes, durations.*
#
# A load balancer asks each copy of a service *are you well?* and sends requests only where the answer is yes. The answer has to come at once,
# also when the database hangs, which is when it matters. The next cell tries it the obvious way, over a line that we let hang: `Line` passes
# on all that goes between psycopg and the server, until it is told to stop.


# %% name="database-hangs"
async def naive_health(connection):
    try:
        async with asyncio.timeout(0.5):
            await connection.execute("SELECT 1")
            return {"ok": True}
    except (TimeoutError, psycopg.Error):
        return {"ok": False}


async with Line(help_url) as line, await psycopg.AsyncConnection.connect(line.url) as connection:
    print(await naive_health(connection))
    line.hang()
    asyncio.get_running_loop().call_later(2, line.mend)  # in two seconds all is well again
    began = time.perf_counter()
    print(await naive_health(connection), f"after {time.perf_counter() - began:.1f} s, with a limit of 0.5 s")

# %% [markdown]
# The answer came when the line was well again, and not before. `asyncio.timeout` cancels the query after half a second and then waits until it
# has ended; psycopg, when it is cancelled, asks the server over the same line to stop the query, and waits for that. If the line hangs on, it
# gives up after ten seconds.
#
# Write `search`, `health` and `metrics` of `Watched(documents, within_s=0.5)`. The `documents` have `search(text, limit)` and `ping()`, both
# async; `ping` raises an error when the database does not answer, or hangs.
#
# - `search(text, limit=3)` returns what the documents return, and raises the very error that they raise.
# - `metrics()` returns a dictionary: for each of the outcomes `found`, `nothing`, `failed` and `cancelled` how many searches ended so (`count`)
#   and how long they took together (`seconds`), as in `{"found": {"count": 2, "seconds": 0.1}}`. Searches may overlap; two objects share nothing.
# - `health()` returns `{"ok": True, "error": ""}` when the database answers. It comes back within `within_s`, or little later, whatever the
#   database does, and says ok again when it is back.
# - Otherwise `ok` is False and `error` is the name of the error's class, `"TimeoutError"` when there was no answer in time. Nothing of the
#   error's text is in it: an address may hold a password.
# - A ping that is late is cancelled.

# %% name="ex-6-1-3" tags=["exercise"] exercise="6.1.3"
import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    ### BEGIN SOLUTION
    ### STUB: async def search(self, text, limit=3):
    ### STUB:     ...
    ### STUB:
    ### STUB: async def health(self):
    ### STUB:     ...
    ### STUB:
    ### STUB: def metrics(self):
    ### STUB:     ...
    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended

    ### END SOLUTION


# %% tags=["right"] exercise="6.1.3"
# A context manager counts; the ping is a task behind a future.

import asyncio
from collections import defaultdict
from contextlib import contextmanager
from time import perf_counter


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s = documents, within_s
        self.counts, self.times = defaultdict(int), defaultdict(float)

    @contextmanager
    def counted(self):
        seen, began = {"as": "failed"}, perf_counter()
        try:
            yield seen
        except BaseException as error:
            seen["as"] = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
            raise
        finally:
            self.counts[seen["as"]] += 1
            self.times[seen["as"]] += perf_counter() - began

    async def search(self, text, limit=3):
        with self.counted() as seen:
            texts = await self.documents.search(text, limit)
            seen["as"] = "found" if texts else "nothing"
        return texts

    async def health(self):
        ping = asyncio.ensure_future(self.documents.ping())
        try:
            await asyncio.wait_for(asyncio.shield(ping), self.within_s)
        except Exception as error:
            ping.cancel()
            return {"ok": False, "error": type(error).__name__}
        return {"ok": True, "error": ""}

    def metrics(self):
        names = ("found", "nothing", "failed", "cancelled")
        return {name: {"count": self.counts[name], "seconds": self.times[name]} for name in names}


# %% tags=["right"] exercise="6.1.3"
# Every end is written down, and added up when somebody asks.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.log = documents, within_s, []

    async def search(self, text, limit=3):
        began = time.monotonic()
        try:
            texts = await self.documents.search(text, limit)
        except asyncio.CancelledError:
            self.log.append(("cancelled", time.monotonic() - began))
            raise
        except Exception:
            self.log.append(("failed", time.monotonic() - began))
            raise
        self.log.append(("found" if texts else "nothing", time.monotonic() - began))
        return texts

    async def health(self):
        answer = asyncio.get_running_loop().create_future()

        async def ask():
            try:
                await self.documents.ping()
                said = {"ok": True, "error": ""}
            except Exception as error:
                said = {"ok": False, "error": type(error).__name__}
            if not answer.done():
                answer.set_result(said)

        task = asyncio.create_task(ask())
        try:
            return await asyncio.wait_for(answer, self.within_s)
        except TimeoutError:
            task.cancel()
            return {"ok": False, "error": "TimeoutError"}

    def metrics(self):
        return {
            name: {
                "count": sum(each == name for each, _ in self.log),
                "seconds": sum(took for each, took in self.log if each == name),
            }
            for name in {each for each, _ in self.log}
        }


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="search with limit=2"
# The limit is not handed on.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="the error"
# An error becomes an empty answer.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception:
            return []
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="the error"
# An error of another kind is raised.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            raise RuntimeError("search failed") from error
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="count of (cancelled|failed)"
# What was cancelled is not counted.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="count of (found|nothing)"
# An empty answer is an answer.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="count of (failed|cancelled)"
# Only those that end well are counted.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        else:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s
            return texts

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="seconds of"
# All searches share one beginning.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        self.began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - self.began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="seconds of"
# The last time, not the sum.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] = time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="seconds of"
# Milliseconds.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += 1000 * (time.monotonic() - began_s)

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="count of found|metrics of another object"
# The counts are on the class.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5, ended={}):  # noqa: B006
        self.documents, self.within_s, self.ended = documents, within_s, ended

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="how long health.. took|health.. as the database hangs"
# asyncio.timeout waits for what it cancels.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        try:
            async with asyncio.timeout(self.within_s):
                await probe
        except Exception as error:
            return {"ok": False, "error": type(error).__name__}
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="health.. as the database hangs"
# No limit at all.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe])
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="health.. with the database gone"
# The error comes out.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.result()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="ok with a ping of"
# The limit is half a second, whatever was asked for.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=0.5)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="when it answers again"
# Once ill, always ill.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        if getattr(self, "ill", False):
            return {"ok": False, "error": "TimeoutError"}
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        self.ill = not probe.done()
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="health.. with a ping that fails"
# The error's text is shown.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": repr(error) if error else ""}

    def metrics(self):
        return self.ended


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="ok of health|whether the ping that was late was cancelled"
# The late ping goes on.

import asyncio
import time


class Watched:
    def __init__(self, documents, within_s=0.5):
        self.documents, self.within_s, self.ended = documents, within_s, {}

    async def search(self, text, limit=3):
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
            return texts
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            ended = self.ended.setdefault(outcome, {"count": 0, "seconds": 0.0})
            ended["count"] += 1
            ended["seconds"] += time.monotonic() - began_s

    async def health(self):
        probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            self.late = probe
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self):
        return self.ended


# %% name="check-6-1-3" tags=["check"] exercise="6.1.3"
check("6.1.3", Watched)

# %% name="help-6-1-3"
# hint("6.1.3")
# solution("6.1.3")

# %% [markdown]
# ### Stretch: what each part is worth
#
# `HelpPages` joins the three. A class of yours takes its place in it, and ours stands in where a stage is still open, so the cell below runs
# in any case. It sends 200 searches, of which a few are asked often and most rarely, through three forms, and reads the milliseconds from
# `metrics()`.

# %% name="database-forms"
import random


class OnePerQuery:
    def __init__(self, url, size, wait_s):
        self.url = url

    @asynccontextmanager
    async def connection(self):
        async with await psycopg.AsyncConnection.connect(self.url) as opened:
            yield opened

    async def close(self):
        pass


questions = [ticket.text for ticket in desk.tickets()[:100]]
asked = random.Random(6).choices(questions, weights=[1 / place for place in range(1, 101)], k=200)
print(
    f"{len(set(asked))} of {len(asked)} searches differ: at most {1 - len(set(asked)) / len(asked):.0%} can be hits"
)

# %% name="database-stretch"
forms = {"a connection each": (OnePerQuery, 1), "a pool": (Pool, 1), "a pool, and kept": (Pool, 100)}
took_ms = {}
for name, (pool_class, most) in forms.items():
    async with HelpPages(help_url, pool_class, Search, Watched, most=most) as pages:
        await milliseconds(pages.search, asked)
        found = pages.metrics()["found"]
        took_ms[name] = 1000 * found["seconds"] / found["count"]
table([{"form": name, "ms a search": round(ms, 1)} for name, ms in took_ms.items()])

# %% [markdown]
# A search that is kept still asks the database for one number, in a transaction. That is the price of never showing an article that has
# changed, and with 31 articles the search itself costs little more.

# %% name="database-picture"
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 2))
bars = axes.barh(list(took_ms), list(took_ms.values()))
axes.bar_label(bars, fmt=" %.1f ms")
axes.set_xlabel("milliseconds a search, eight at once")
axes.set_xlim(right=1.2 * max(took_ms.values()))
axes.invert_yaxis()
plot(figure, "Milliseconds a search: " + ", ".join(f"{name} {ms:.1f}" for name, ms in took_ms.items()))

# %% [markdown]
# In project 7 this is the part `documents=lambda servers: HelpPages(servers.database_url, Pool, Search, Watched)`.

# %% [markdown] name="end-1"
# That was project 1. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-2"
# ## Project 2: a cache in three levels
#
# An answer of the model takes seconds and costs money, and many customers ask the same. In this project you build a cache for whole answers:
# memory for what is asked all the time, Redis for what several copies of a service share, and a file for what should be there after a
# restart. In project 7 it is the `cache` of a whole system.
#
# A *level* has three async methods, `get(key)` (a text, or None), `set(key, value)` and `delete(key)`. The file level is given: `File` keeps
# its values in SQLite. So is a client of Redis that gives up after a quarter of a second.

# %% name="levels-needs" tags=["needs"]
import pickle
import time

import redis

from course_lib.exercises.flight import File, ThreeLevels, redis_client
from course_lib.services import running_redis

# %% [markdown]
# Here is a first version: a dictionary in front of Redis, and pickle to turn an answer into bytes. Twenty customers ask the same question at
# once, then Redis ends.


# %% name="levels-naive"
class Naive:
    def __init__(self, client):
        self.memory, self.client = {}, client

    async def get(self, key, make):
        if key not in self.memory:
            raw = await self.client.get(key)
            self.memory[key] = pickle.loads(raw) if raw else await make()
            await self.client.set(key, pickle.dumps(self.memory[key]))
        return self.memory[key]


async def answer():
    answered = await desk.Triage().acall(ticket="My tent leaks at the seam. What now?")
    return answered.category


# %% name="levels-naive-fails"
with running_redis(Path(scratch.name) / "naive") as server:
    client = redis_client(server.url)
    cache, before = Naive(client), lm.ledger().requests
    await asyncio.gather(*(cache.get("leak", answer) for _ in range(20)))
    print(lm.ledger().requests - before, "calls of the model for one question")
    server.kill()
    try:
        await cache.get("another", answer)
    except redis.RedisError as error:
        print(type(error).__name__, "instead of an answer, though the model is well")
    await client.aclose()

# %% [markdown]
# Twenty calls were paid where one would do (a *stampede*, or *thundering herd*), and a cache that should spare the model kept its answer from
# the customer. Three more faults are not seen here: the dictionary grows without end, nothing ever expires, and `pickle.loads` runs whatever
# program somebody puts into Redis.
#
# ### Stage 6.2.1: lookup through levels (12 minutes, hard)
#
# *Concepts: promotion, single-flight, cancellation, stale write.*
#
# Write `get`, `set` and `delete` of `Lookup(levels)`, with the fastest level first. All three are async.
#
# - `get(key)` returns the value of the first level that has one, or None. The value fills the levels above (*promotion*); those below are not
#   asked. An empty text is a value, too.
# - `get(key, make)`: where no level has it, the async function `make` is called, and its value fills all levels.
# - Those who ask for the same key at once share one call of `make`; calls for different keys overlap.
# - An error of `make` goes to all who wait, and nothing is kept: the next caller calls again.
# - A caller that is cancelled ends at once, and the call goes on for the others.
# - `set(key, value)` sets in all levels, `delete(key)` deletes in all. After either has returned nothing older comes back, whatever was being
#   read or made meanwhile, and whoever asks after a delete waits for no older call.

# %% name="ex-6-2-1" tags=["exercise"] exercise="6.2.1"
import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    ### BEGIN SOLUTION
    ### STUB: async def get(self, key, make=None):
    ### STUB:     ...
    ### STUB:
    ### STUB: async def set(self, key, value):
    ### STUB:     ...
    ### STUB:
    ### STUB: async def delete(self, key):
    ### STUB:     ...
    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)

    ### END SOLUTION


# %% tags=["right"] exercise="6.2.1"
# A number for each key; a future for those who wait, and a lock for each key.

import asyncio
from collections import defaultdict


class Lookup:
    def __init__(self, levels):
        self.levels, self.waiting = list(levels), {}
        self.version, self.locks = defaultdict(int), defaultdict(asyncio.Lock)

    async def get(self, key, make=None):
        if make is not None and key in self.waiting:
            return await asyncio.shield(self.waiting[key])
        work = asyncio.ensure_future(self.look(key, make))
        if make is not None:
            self.waiting[key] = work

            def over(ended):
                if self.waiting.get(key) is ended:
                    self.waiting.pop(key)

            work.add_done_callback(over)
        return await asyncio.shield(work)

    async def look(self, key, make):
        version, found, missed = self.version[key], None, []
        for level in self.levels:
            found = await level.get(key)
            if found is not None:
                break
            missed.append(level)
        if found is None and make is not None:
            found = await make()
        if found is not None and missed:
            async with self.locks[key]:
                if version == self.version[key]:
                    await asyncio.gather(*(level.set(key, found) for level in missed))
        return found

    async def set(self, key, value):
        async with self.locks[key]:
            await asyncio.gather(*(level.set(key, value) for level in self.levels))
            self.version[key] += 1

    async def delete(self, key):
        async with self.locks[key]:
            await asyncio.gather(*(level.delete(key) for level in self.levels))
            self.version[key] += 1
            self.waiting.pop(key, None)


# %% tags=["right"] exercise="6.2.1"
# The slowest level is changed first, and what was filled meanwhile is put right.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.made, self.epoch, self.lock = levels, {}, object(), asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.through(key, 0, self.epoch)
        task = self.made.get(key)
        if task is None or task.done():
            task = self.made[key] = asyncio.create_task(self.all(key, make, self.epoch))
        await asyncio.wait([task])
        if self.made.get(key) is task:
            del self.made[key]
        return task.result()

    async def all(self, key, make, epoch):
        value = await self.through(key, 0, epoch)
        if value is None:
            value = await make()
            await self.put(self.levels, key, value, epoch)
        return value

    async def through(self, key, depth, epoch):
        if depth == len(self.levels):
            return None
        value = await self.levels[depth].get(key)
        if value is None:
            value = await self.through(key, depth + 1, epoch)
            if value is not None:
                await self.put([self.levels[depth]], key, value, epoch)
        return value

    async def put(self, levels, key, value, epoch):
        async with self.lock:
            if epoch is self.epoch:
                for level in reversed(levels):
                    await level.set(key, value)

    async def set(self, key, value):
        async with self.lock:
            for level in reversed(self.levels):
                await level.set(key, value)
            self.epoch = object()

    async def delete(self, key):
        async with self.lock:
            for level in reversed(self.levels):
                await level.delete(key)
            self.epoch = object()
            self.made.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="get of a key with ''|what the levels hold after get"
# An empty text is taken for nothing.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="what the levels hold after get"
# Nothing is promoted.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                depth += 1
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="values set by get"
# All levels are filled, also those that have it.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[: depth + 9], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="gets of each level"
# All levels are asked at once.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        values = await asyncio.gather(*(level.get(key) for level in self.levels))
        for depth, value in enumerate(values):
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="what they hold after delete"
# delete forgets the lower levels.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.levels[0].delete(key)

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="calls of make, 8 for each"
# Each caller makes its own.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        return await self.find_or_make(key, make)

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="calls of make, 8 for each"
# One call at a time, whatever the key.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                async with self.writing:
                    value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="what the levels hold then"
# What was made is kept in memory alone.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels[:1], key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="expired in all levels"
# What was made is remembered beside the levels.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        except BaseException:
            self.calls.pop(key, None)
            raise

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="crashed" message="what the next caller gets|how it ended|LookupError|a caller after"
# An error stays.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes, value = self.changes, None
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if value is not None and self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="how 3 callers ended"
# An error becomes None.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        except Exception:
            return None
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="the others and calls of make|callers beside"
# A cancelled caller ends the call of all.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await self.calls[key]

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="the others and calls of make"
# A cancelled caller takes the key out.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        try:
            return await asyncio.shield(self.calls[key])
        finally:
            self.calls.pop(key, None)

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="a caller that is cancelled"
# A cancelled caller waits to the end.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        task, is_cancelled = self.calls[key], False
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                is_cancelled = True
        if is_cancelled:
            raise asyncio.CancelledError
        return task.result()

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="older get under way|older make ends"
# Nobody counts the changes.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if True:  # the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="get after (set|delete), with an older get"
# The change is counted at its beginning.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            self.changes += 1
            for level in self.levels:
                await change(level)
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="when an older make ends"
# What was promoted is looked after, what was made is not.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, self.changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="get after set"
# set is no change.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += change(self.levels[0]).__qualname__.endswith("delete")
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="with an older make under way"
# Who asks after a delete joins the call from before.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def get(self, key, make=None):
        if make is None:
            return await self.find(key, self.changes)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.find_or_make(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        await self.change(key, lambda level: level.set(key, value))

    async def delete(self, key):
        await self.change(key, lambda level: level.delete(key))

    async def find(self, key, changes):
        for depth, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def find_or_make(self, key, make):
        changes = self.changes
        try:
            value = await self.find(key, changes)
            if value is None:
                value = await make()
                await self.fill(self.levels, key, value, changes)
            return value
        finally:
            if self.calls.get(key) is asyncio.current_task():
                del self.calls[key]

    async def fill(self, levels, key, value, changes):
        async with self.writing:
            if changes == self.changes:  # else the value may be older than a change
                for level in levels:
                    await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1


# %% name="check-6-2-1" tags=["check"] exercise="6.2.1"
check("6.2.1", Lookup)

# %% name="help-6-2-1"
# hint("6.2.1")
# solution("6.2.1")

# %% [markdown]
# ### Stage 6.2.2: eviction and failure (15 minutes, hard)
#
# *Concepts: LRU, time to live, rest after a failure, pending deletes, deserialization.*
#
# Write two levels. `Memory(most, ttl_s, clock)`:
#
# - It holds at most `most` values; the one that was neither read nor set for longest goes first. `evictions` counts those that went so.
# - A value counts for `ttl_s` seconds after its set, by `clock()`. A get prolongs nothing.
#
# `Shared(client, ttl_s, rest_s, clock)`, where `client` is a `redis.asyncio.Redis`:
#
# - What one object has set, every other on the same Redis gets, for `ttl_s` seconds or until it is deleted.
# - What lies in Redis and was not set there by `Shared` for this very key is no answer. It may be anything; nothing of it is run.
# - While Redis is down or hangs, `get` returns None, and nothing raises. After a failure Redis is left alone for `rest_s` seconds by `clock()`,
#   then asked again.
# - A value that was deleted or set anew while Redis did not listen does not come back when it is up again.

# %% name="ex-6-2-2" tags=["exercise"] exercise="6.2.2"
import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    ### BEGIN SOLUTION
    ### STUB: async def get(self, key):
    ### STUB:     ...
    ### STUB:
    ### STUB: async def set(self, key, value):
    ### STUB:     ...
    ### STUB:
    ### STUB: async def delete(self, key):
    ### STUB:     ...
    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)

    ### END SOLUTION


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    ### BEGIN SOLUTION
    ### STUB: async def get(self, key):
    ### STUB:     ...
    ### STUB:
    ### STUB: async def set(self, key, value):
    ### STUB:     ...
    ### STUB:
    ### STUB: async def delete(self, key):
    ### STUB:     ...
    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None

    ### END SOLUTION


# %% tags=["right"] exercise="6.2.2"
# cachetools for memory; a hash in Redis, whose name tells the key; the times of changes that did not get through.

import time

from cachetools import TTLCache


class _Counting(TTLCache):
    evictions = 0

    def popitem(self):
        self.evictions += 1
        return super().popitem()


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.kept = _Counting(most, ttl_s, clock)

    @property
    def evictions(self):
        return self.kept.evictions

    async def get(self, key):
        return self.kept.get(key)

    async def set(self, key, value):
        self.kept[key] = value

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.down_since, self.doubtful = None, {}

    async def tried(self, *commands):
        if self.down_since is not None and self.clock() - self.down_since < self.rest_s:
            return None
        try:
            async with self.client.pipeline() as pipe:
                for command, *args in [*(("DEL", key) for key in self.doubtful), *commands]:
                    pipe.execute_command(command, *args)
                results = await pipe.execute(raise_on_error=False)
        except Exception:
            self.down_since = self.clock()
            return None
        self.down_since, self.doubtful = None, {}
        return results[-1]

    async def get(self, key):
        found = await self.tried(("HMGET", key, "for", "text"))
        if not isinstance(found, list) or None in found or found[0] != key.encode():
            return None
        return found[1].decode("utf-8", "replace")

    async def set(self, key, value):
        life = ("PEXPIRE", key, round(self.ttl_s * 1000))
        if await self.tried(("DEL", key), ("HSET", key, "for", key, "text", value), life) is None:
            self.doubtful[key] = True

    async def delete(self, key):
        if await self.tried(("DEL", key)) is None:
            self.doubtful[key] = True


# %% tags=["right"] exercise="6.2.2"
# A name of its own in Redis, pydantic to read, and a list of what is left to do.

import time

import pydantic


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock, self.evictions, self.values = most, ttl_s, clock, 0, {}

    async def get(self, key):
        if key in self.values:
            value, born = self.values.pop(key)
            if self.clock() - born < self.ttl_s:
                self.values[key] = value, born
                return value
        return None

    async def set(self, key, value):
        self.values.pop(key, None)
        if len(self.values) >= self.most:
            del self.values[next(iter(self.values))]
            self.evictions += 1
        self.values[key] = value, self.clock()

    async def delete(self, key):
        self.values.pop(key, None)


class _Entry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    name: str
    text: str


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.again_at, self.todo = 0.0, []

    async def send(self, *command):
        if self.clock() < self.again_at:
            return None
        try:
            while self.todo:
                await self.client.delete(*self.todo[:100])
                del self.todo[:100]
            return await self.client.execute_command(*command)
        except Exception as error:
            if "WRONGTYPE" not in str(error):
                self.again_at = self.clock() + self.rest_s
            return None

    async def get(self, key):
        try:
            entry = _Entry.model_validate_json(await self.send("GET", f"answer:{key}") or b"")
        except pydantic.ValidationError:
            return None
        return entry.text if entry.name == key else None

    async def set(self, key, value):
        entry = _Entry(name=key, text=value).model_dump_json()
        self.todo.append(f"answer:{key}")
        if await self.send("SET", f"answer:{key}", entry, "EX", int(self.ttl_s)):
            self.todo = [name for name in self.todo if name != f"answer:{key}"]

    async def delete(self, key):
        self.todo.append(f"answer:{key}")
        await self.send("PING")


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get after . random acts|get after .* random acts"
# Memory grows without end.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="random acts"
# The one that was set first goes, however often it is read.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="random acts"
# What was set last goes.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem()
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="evictions: those that went"
# Every set beyond the first counts as an eviction.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
        self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get after another"
# Nothing expires in memory.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if until_s < 0:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get after another"
# A get prolongs.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get after another"
# Time goes on by the machine's clock.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if time.monotonic() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = time.monotonic() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="how long Redis keeps it"
# Nothing expires in Redis.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text)):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="how long Redis keeps it|get of what another"
# Redis is told seconds where it takes milliseconds.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get after delete"
# A delete is only for the next time.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get of .*, which somebody else put there|a pickle was read"
# Pickle.

import json
import math
import pickle
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = pickle.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = pickle.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="which somebody else put there"
# The text itself, without a sign that it is ours.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        return raw.decode(errors="replace") if raw is not None else None

    async def set(self, key, value):
        text = value
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="which somebody else put there"
# A value of another key is taken for its own.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if "key" in kept and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="which somebody else put there"
# A number is an answer.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="which somebody else put there"
# Not every error of reading is thought of.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, json.JSONDecodeError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="a call with Redis gone"
# Errors of Redis come out.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (KeyError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="keys in Redis after a set 29 s"
# It never rests.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get when Redis is back"
# It rests for ever.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = math.inf
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get when Redis is back of a key that was (deleted|late)"
# What could not be deleted is forgotten.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        await self.attempt(lambda: self.client.delete(key))

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get when Redis is back of a key that was set"
# What could not be set is forgotten.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await self.client.delete(key)
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get when Redis is back|get of what was set|get after delete|get of a key"
# What is owed is never settled.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = None if key in self.owed else await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s)))

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(lambda: self.client.delete(key))

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="get of a key that nobody touched"
# With doubts about one key, all are thrown away.

import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock = most, ttl_s, clock
        self.kept, self.evictions = OrderedDict(), 0

    async def get(self, key):
        until_s, value = self.kept.get(key, (-math.inf, None))
        if self.clock() >= until_s:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept[key] = self.clock() + self.ttl_s, value
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def get(self, key):
        raw = await self.attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key, value):
        text = json.dumps({"key": key, "value": value})
        self.owed.add(key)  # where this does not get through, what is there is out of date
        if await self.attempt(lambda: self.client.set(key, text, px=int(1000 * self.ttl_s))):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        await self.attempt(self.client.ping)

    async def attempt(self, call):
        if self.clock() < self.rests_until_s:
            return None
        try:
            while self.owed:
                key = next(iter(self.owed))
                await (self.client.flushall() if len(self.owed) > 1 else self.client.delete(key))
                self.owed.discard(key)
            return await call()
        except ResponseError:  # Redis answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None


# %% name="check-6-2-2" tags=["check"] exercise="6.2.2"
check("6.2.2", Memory, Shared)

# %% name="help-6-2-2"
# hint("6.2.2")
# solution("6.2.2")

# %% [markdown]
# ### Stage 6.2.3: warming and statistics (10 minutes, medium)
#
# *Concepts: hit rate, warming, bounded concurrency.*
#
# A new copy of a service begins with an empty memory. *Warming* asks for what is needed most before customers do. Whether it helps, and which
# level earns its place, only numbers tell.
#
# Write `Counted(levels)` and `warm(cache, log, most, make, at_once=4)`.
#
# - `levels` is a dictionary of levels by name. `Counted(levels).levels` is a list of levels in the same order that work as before and are
#   counted; two objects share nothing.
# - `report()` returns a dictionary: `hits`, for each level's name how many of its gets found a value (an empty text is one); `misses`, how
#   many gets the last level had nothing for; `evictions`, the sum over the levels that have such a number; `hit_rate`, the share of hits among
#   hits and misses, 0.0 before any.
# - `await warm(...)` takes the `most` keys that `log`, an iterable of keys, names most often. It asks for each once, the most frequent first,
#   with `cache.get(key, ...)`, where what the cache has not is made by `make(key)`, which is async.
# - At most `at_once` are made at a time, and as many as that while keys are left. One that fails stops no other.
# - It returns how many keys the cache holds then, of those that it took.

# %% name="ex-6-2-3" tags=["exercise"] exercise="6.2.3"
import asyncio
from collections import Counter


### BEGIN SOLUTION
### STUB: class Counted:
### STUB:     def __init__(self, levels):
### STUB:         self.levels = list(levels.values())
### STUB:
### STUB:     def report(self):
### STUB:         ...
### STUB:
### STUB:
### STUB: async def warm(cache, log, most, make, at_once=4):
### STUB:     ...
class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


### END SOLUTION

# %% tags=["right"] exercise="6.2.3"
# A counter for all, and a semaphore.

import asyncio
import collections
import functools


class Counted:
    def __init__(self, levels):
        self.given, self.counts = dict(levels), collections.Counter()
        self.levels = [self.wrapped(name) for name in self.given]

    def wrapped(self, name):
        level, counts = self.given[name], self.counts

        class Level:
            async def get(self, key):
                value = await level.get(key)
                counts[name, value is not None] += 1
                return value

            async def set(self, key, value):
                await level.set(key, value)

            async def delete(self, key):
                await level.delete(key)

        return Level()

    def report(self):
        hits = {name: self.counts[name, True] for name in self.given}
        misses = self.counts[list(self.given)[-1], False]
        asked = sum(hits.values()) + misses
        return {
            "hits": hits,
            "misses": misses,
            "evictions": sum(vars(each).get("evictions", 0) for each in self.given.values()),
            "hit_rate": round(sum(hits.values()) / asked, 4) if asked else 0.0,
        }


async def warm(cache, log, most, make, at_once=4):
    places = asyncio.Semaphore(at_once)

    async def one(key):
        async with places:
            await cache.get(key, functools.partial(make, key))

    order = collections.Counter(log)
    chosen = sorted(order, key=order.get, reverse=True)[:most]
    ends = await asyncio.gather(*map(one, chosen), return_exceptions=True)
    return sum(not isinstance(end, Exception) for end in ends)


# %% tags=["right"] exercise="6.2.3"
# The runner of the library; a subclass of what it counts.

from collections import Counter

from course_lib.concurrency import AsyncRunner


class _Get:
    def __init__(self, name, level, owner):
        self.name, self.inner, self.owner = name, level, owner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def get(self, key):
        value = await self.inner.get(key)
        if value is not None:
            self.owner.hits[self.name] += 1
        elif self.owner.levels[-1] is self:
            self.owner.misses += 1
        return value


class Counted:
    def __init__(self, levels):
        self.hits, self.misses = dict.fromkeys(levels, 0), 0
        self.levels = [_Get(name, level, self) for name, level in levels.items()]

    def report(self):
        found, gone = sum(self.hits.values()), 0
        for level in self.levels:
            try:
                gone += level.evictions
            except AttributeError:
                continue
        asked = found + self.misses
        rate = found / asked if asked else 0.0
        return {"hits": dict(self.hits), "misses": self.misses, "evictions": gone, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    async def one(key):
        await cache.get(key, lambda: make(key))

    keys = [key for key, _ in Counter(log).most_common(most)]
    outcomes = await AsyncRunner(at_once, progress=False).run(one, ((key,) for key in keys))
    return sum(outcome.ok for outcome in outcomes)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="report"
# An empty text counts as a miss.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += bool(value)
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="report"
# Every level's misses are added up.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), sum(level.misses for level in self.levels)
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="report"
# The share of misses.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = misses / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="crashed" message="ZeroDivisionError"
# Nothing asked is divided by.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses)
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="report"
# Evictions of the first level alone.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = getattr(self.levels[0].level, "evictions", 0)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="crashed" message="AttributeError"
# Every level is thought to count evictions.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(each.level.evictions for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="hits of another object|report"
# The counts are on the class.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level, counts=Counter()):  # noqa: B006
        self.level, self.misses, self.counts = level, 0, counts
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.counts["hits"] += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.counts["hits"] for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="keys that are asked"
# Those named last, not most.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in list(Counter(log).items())[-most:]]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="keys that are asked"
# Once for each time that the log names it.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, count in Counter(log).most_common(most) for _ in range(count)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="keys that are asked"
# All of the log.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common()]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="keys that are asked"
# The cache is not asked, so what it has is made again.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                cache.held[key] = await make(key)
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="keys that are made|what the cache holds"
# Every function made in the loop sees the last key.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    pairs, held = [], []
    for key, _ in Counter(log).most_common(most):
        pairs.append((key, lambda: make(key)))  # noqa: B023
    keys = iter(pairs)

    async def work():
        for name, made in keys:
            try:
                await cache.get(name, made)
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="most that were made at a time"
# All at once.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(most):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="warm, at_once="
# One after another.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    async with asyncio.TaskGroup() as group:
        for _ in range(1):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="crashed" message="warm, when make fails|ExceptionGroup"
# One that fails ends all.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            await cache.get(key, lambda key=key: make(key))
            held.append(key)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="keys that warm says are held"
# What fails counts as held.

import asyncio
from collections import Counter


class _Level:
    def __init__(self, level):
        self.level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, wanted):
        value = await self.level.get(wanted)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    def __init__(self, levels):
        self.names, self.levels = list(levels), [_Level(level) for level in levels.values()]

    def report(self):
        hits = {name: level.hits for name, level in zip(self.names, self.levels)}
        total, misses = sum(hits.values()), self.levels[-1].misses
        evictions = sum(getattr(each.level, "evictions", 0) for each in self.levels)
        rate = total / (total + misses) if total + misses else 0.0
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(cache, log, most, make, at_once=4):
    keys, held = iter([key for key, _ in Counter(log).most_common(most)]), []

    async def work():
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                held.append(key)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return len(held)


# %% name="check-6-2-3" tags=["check"] exercise="6.2.3"
check("6.2.3", Counted, warm)

# %% name="help-6-2-3"
# hint("6.2.3")
# solution("6.2.3")

# %% [markdown]
# ### Stretch: what each level costs
#
# `ThreeLevels` joins the parts. A class of yours takes its place in it, and ours stands in where a stage is still open. The first cell sends
# it a log in which few questions are frequent, with and without warming. The second compares each level with the tier of the library's
# `TieredCache` that does the same work below DSPy's own cache.

# %% name="levels-log"
import random
from collections import Counter

log = random.Random(6).choices(
    [f"question {n}" for n in range(500)], [1 / (n + 1) for n in range(500)], k=1000
)


async def made():
    return "an answer of some length. " * 20


rows = []
with running_redis(Path(scratch.name) / "log") as server:
    for warmed in (0, 100):
        folder = Path(tempfile.mkdtemp(dir=scratch.name))
        async with ThreeLevels(server.url, folder, Lookup, Memory, Shared, Counted, most=50) as cache:
            for key, _ in Counter(log).most_common(warmed):
                await cache.get(f"{warmed} {key}", made)
            before = cache.report()
            for key in log:
                await cache.get(f"{warmed} {key}", made)
            after = cache.report()
        hits = {name: count - before["hits"][name] for name, count in after["hits"].items()}
        rows.append({"warmed": warmed, **hits, "made": after["misses"] - before["misses"]})
table(rows)

# %% [markdown]
# Each row is 1,000 requests. Memory, with room for 50 of 500 questions, answers about half of them, and Redis what memory had to let go; the file
# is not needed until Redis is gone or empty. Warming saves exactly the calls that it made before.

# %% name="levels-benchmark"
import statistics

from course_lib.caching import DiskTier, MemoryTier, RedisTier


async def microseconds(get, rounds=300):
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        found = get("key")
        assert await found if asyncio.iscoroutine(found) else found
        took.append(time.perf_counter() - began)
    return 1e6 * statistics.median(took)


value, took_us = await made(), {}
with running_redis(Path(scratch.name) / "benchmark") as server:
    tiers = [MemoryTier(), RedisTier(server.url), DiskTier(Path(scratch.name) / "tier.sqlite3", 10_000_000)]
    async with ThreeLevels(
        server.url, Path(tempfile.mkdtemp(dir=scratch.name)), Lookup, Memory, Shared
    ) as cache:
        for (name, level), tier in zip(cache.levels.items(), tiers):
            await level.set("key", value)
            tier.put("key", value.encode(), ttl_s=60.0)
            took_us[name] = await microseconds(level.get), await microseconds(tier.get)
            tier.close()

# %% name="levels-picture"
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 2.8))
for offset, name, place in ((-0.2, "this project", 0), (0.2, "TieredCache's tier", 1)):
    bars = axes.barh(
        [n + offset for n in range(3)], [took[place] for took in took_us.values()], 0.38, label=name
    )
    axes.bar_label(bars, fmt=" %.1f µs")
axes.set(xscale="log", xlabel="microseconds a hit (each step is ten times as much)", yticks=range(3))
axes.set_yticklabels(took_us)
axes.set_xlim(right=10 * max(max(took) for took in took_us.values()))
axes.invert_yaxis()
axes.legend()
words = "; ".join(
    f"{name} {ours:.1f}, the library's {theirs:.1f}" for name, (ours, theirs) in took_us.items()
)
plot(figure, f"Microseconds a hit: {words}")

# %% [markdown]
# The library's tiers are called without `await`, since DSPy's cache has no async form: for Redis and the file that spares the way over the
# event loop and its threads, and it stops everything else of the process meanwhile. A level that waits elsewhere takes longer for one caller
# and lets the others go on.
#
# In project 7 this is the part `cache=lambda servers: ThreeLevels(servers.redis_url, servers.folder, Lookup, Memory, Shared, Counted)`.

# %% [markdown] name="end-2"
# That was project 2. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-3"
# ## Project 3: Streaming answers from documents
#
# (in preparation)

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
