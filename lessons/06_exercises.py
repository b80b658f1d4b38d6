# %% [markdown] name="title"
# # The flight test
#
# Six notebooks took things apart. This one puts them together: seven projects, each of which begins with code that runs and grows in stages, and
# each stage is checked. In the last one the parts become one system, and it goes through ninety seconds in which everything breaks that broke in
# this course. **At the end of this notebook you will have**
#
# - a database adapter, a cache in three levels, streamed answers from documents, a debugging toolkit, manifests for Kubernetes, and monitoring;
# - a system assembled from them, or from ours where one is missing;
# - a scorecard that says which service levels it held, which fault cost what, and which part to improve.
#
# Take the projects in any order, on as many days as you like: none needs another one, nor the earlier notebooks' cells. To go on, run the set-up
# cell and the cells of your project. The minutes count reading (200 words or 25 lines of code a minute), running, and the stages at the time on
# their cards.
#
# | project | minutes |
# | --- | --- |
# | 1. A database adapter: stages 6.1.1, 6.1.2, 6.1.3 | 40 |
# | 2. A cache in three levels: stages 6.2.1, 6.2.2, 6.2.3 | 43 |
# | 3. Streaming answers from documents: stages 6.3.1, 6.3.2, 6.3.3 | 42 |
# | 4. A debugging toolkit: stages 6.4.1, 6.4.2, 6.4.3 | 40 |
# | Deeper: project 5, Kubernetes: stages 6.5.1, 6.5.2, 6.5.3 | 41 |
# | Deeper: project 6, monitoring and alerting: stages 6.6.1, 6.6.2, 6.6.3 | 46 |
# | 7. The flight: stages 6.7.1, 6.7.2, 6.7.3 | 65 |
#
# The text was written on a machine with two processors: your figures will differ, their ratios little.

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

# %% name="architecture-flight"
from course_lib.labs import architecture

architecture(highlight="users")

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
# - A connection that broke in a block, whose query failed there, or that could not be opened spoils nothing for those who come after. (One
#   that breaks while it rests may still be given out, once.)
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


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="whose commit the database refuses"
# An error at commit (deferred constraint) is swallowed.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    async def ready(self):
        while self.idle:
            connection = self.idle.pop()
            try:
                await connection.execute("SELECT 1")
                await connection.rollback()
                return connection
            except BaseException as error:
                await connection.close()
                if not isinstance(error, Exception):
                    raise
        return await AsyncConnection.connect(self.url)

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"none of {self.size} connections became free") from None
        try:
            connection = await self.ready()
            try:
                yield connection
                try:
                    await connection.commit()
                except Exception:
                    pass
            except BaseException:
                try:
                    await connection.rollback()
                except Exception:
                    pass
                raise
            finally:
                if not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE:
                    self.idle.append(connection)
                else:
                    await connection.close()
        finally:
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


# %% tags=["wrong"] exercise="6.1.1" outcome="failed" message="cancelled after it wrote"
# A cancelled block (no query under way) is committed.

import asyncio
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus


class Pool:
    def __init__(self, url, size, wait_s):
        self.url, self.size, self.wait_s = url, size, wait_s
        self.slots, self.idle = asyncio.Semaphore(size), []

    async def ready(self):
        while self.idle:
            connection = self.idle.pop()
            try:
                await connection.execute("SELECT 1")
                await connection.rollback()
                return connection
            except BaseException as error:
                await connection.close()
                if not isinstance(error, Exception):
                    raise
        return await AsyncConnection.connect(self.url)

    @asynccontextmanager
    async def connection(self):
        try:
            async with asyncio.timeout(self.wait_s):
                await self.slots.acquire()
        except TimeoutError:
            raise TimeoutError(f"none of {self.size} connections became free") from None
        try:
            connection = await self.ready()
            try:
                yield connection
                await connection.commit()
            except asyncio.CancelledError:
                try:
                    await connection.commit()
                except Exception:
                    pass
                raise
            except BaseException:
                try:
                    await connection.rollback()
                except Exception:
                    pass
                raise
            finally:
                if not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE:
                    self.idle.append(connection)
                else:
                    await connection.close()
        finally:
            self.slots.release()

    async def close(self):
        while self.idle:
            await self.idle.pop().close()


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
    for name, way in {"a connection each": naive_search, "a pool of four": pooled_search}.items():
        print(f"{name:20}{await milliseconds(way, ['tent', 'refund'] * 20):6.1f} ms a search")
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
# Write `search(text, limit=3)` of `Search(pool, most=100)`, where `pool` has `connection()` as in stage 6.1.1.
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace(chr(0), "").encode(errors="ignore").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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
        text = text.replace("\0", " ").encode(errors="replace").decode()
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


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="after a caller emptied its own list"
# The kept list itself comes back at the first search.

from collections import OrderedDict

QUERY = """
SELECT id, title, body FROM articles, (SELECT replace(plainto_tsquery('english', %(text)s)::text, '&', '|')::tsquery AS query) AS q
WHERE words @@ query ORDER BY ts_rank(words, query, 1) DESC, id LIMIT %(limit)s"""


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        key = text, limit
        text = text.replace("\x00", " ").encode("utf-8", "replace").decode()
        async with self.pool.connection() as connection:
            number = (await (await connection.execute("SELECT number FROM changes")).fetchone())[0]
            if key in self.kept and self.kept[key][0] == number:
                self.kept.move_to_end(key)
                return list(self.kept[key][1])
            rows = await (await connection.execute(QUERY, {"text": text, "limit": limit})).fetchall()
        found = [f"[{id}] {title}\n{body}" for id, title, body in rows]
        self.kept.pop(key, None)
        self.kept[key] = number, found
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return found


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="stove -burner"
# Websearch syntax: a minus in the text excludes.

from collections import OrderedDict

QUERY = """
SELECT id, title, body FROM articles, (SELECT replace(websearch_to_tsquery('english', %(text)s)::text, '&', '|')::tsquery AS query) AS q
WHERE words @@ query ORDER BY ts_rank(words, query, 1) DESC, id LIMIT %(limit)s"""


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        key = text, limit
        text = text.replace("\x00", " ").encode("utf-8", "replace").decode()
        async with self.pool.connection() as connection:
            number = (await (await connection.execute("SELECT number FROM changes")).fetchone())[0]
            if key in self.kept and self.kept[key][0] == number:
                self.kept.move_to_end(key)
                return list(self.kept[key][1])
            rows = await (await connection.execute(QUERY, {"text": text, "limit": limit})).fetchall()
        found = [f"[{id}] {title}\n{body}" for id, title, body in rows]
        self.kept.pop(key, None)
        self.kept[key] = number, found
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(found)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="a search that finds nothing"
# An empty result is not kept (reads articles again).

from collections import OrderedDict

QUERY = """
SELECT id, title, body FROM articles, (SELECT replace(plainto_tsquery('english', %(text)s)::text, '&', '|')::tsquery AS query) AS q
WHERE words @@ query ORDER BY ts_rank(words, query, 1) DESC, id LIMIT %(limit)s"""


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        key = text, limit
        text = text.replace("\x00", " ").encode("utf-8", "replace").decode()
        async with self.pool.connection() as connection:
            number = (await (await connection.execute("SELECT number FROM changes")).fetchone())[0]
            if key in self.kept and self.kept[key][0] == number:
                self.kept.move_to_end(key)
                return list(self.kept[key][1])
            rows = await (await connection.execute(QUERY, {"text": text, "limit": limit})).fetchall()
        found = [f"[{id}] {title}\n{body}" for id, title, body in rows]
        self.kept.pop(key, None)
        if found:
            self.kept[key] = number, found
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(found)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="One more tent"
# A change empties nothing for a key that found nothing before.

from collections import OrderedDict

QUERY = """
SELECT id, title, body FROM articles, (SELECT replace(plainto_tsquery('english', %(text)s)::text, '&', '|')::tsquery AS query) AS q
WHERE words @@ query ORDER BY ts_rank(words, query, 1) DESC, id LIMIT %(limit)s"""


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        key = text, limit
        text = text.replace("\x00", " ").encode("utf-8", "replace").decode()
        async with self.pool.connection() as connection:
            number = (await (await connection.execute("SELECT number FROM changes")).fetchone())[0]
            if key in self.kept and (self.kept[key][0] == number or not self.kept[key][1]):
                self.kept.move_to_end(key)
                return list(self.kept[key][1])
            rows = await (await connection.execute(QUERY, {"text": text, "limit": limit})).fetchall()
        found = [f"[{id}] {title}\n{body}" for id, title, body in rows]
        self.kept.pop(key, None)
        self.kept[key] = number, found
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return list(found)


# %% tags=["wrong"] exercise="6.1.2" outcome="failed" message="four searches are made again"
# Most + 1 are kept.

from collections import OrderedDict

QUERY = """
SELECT id, title, body FROM articles, (SELECT replace(plainto_tsquery('english', %(text)s)::text, '&', '|')::tsquery AS query) AS q
WHERE words @@ query ORDER BY ts_rank(words, query, 1) DESC, id LIMIT %(limit)s"""


class Search:
    def __init__(self, pool, most=100):
        self.pool, self.most, self.kept = pool, most, OrderedDict()

    async def search(self, text, limit=3):
        key = text, limit
        text = text.replace("\x00", " ").encode("utf-8", "replace").decode()
        async with self.pool.connection() as connection:
            number = (await (await connection.execute("SELECT number FROM changes")).fetchone())[0]
            if key in self.kept and self.kept[key][0] == number:
                self.kept.move_to_end(key)
                return list(self.kept[key][1])
            rows = await (await connection.execute(QUERY, {"text": text, "limit": limit})).fetchall()
        found = [f"[{id}] {title}\n{body}" for id, title, body in rows]
        self.kept.pop(key, None)
        self.kept[key] = number, found
        while len(self.kept) > self.most + 1:
            self.kept.popitem(last=False)
        return list(found)


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
#   and how long they took together (`seconds`), as in `{"found": {"count": 2, "seconds": 0.1}}`; an outcome that no search
#   had yet may be missing. Searches may overlap; two objects share nothing.
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


# %% tags=["wrong"] exercise="6.1.3" outcome="failed" message="before the ping that was cancelled has ended"
# One ping at a time: while a cancelled one still ends, the answer is no.
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
        if getattr(self, "probe", None) and not self.probe.done():
            return {"ok": False, "error": "TimeoutError"}
        probe = self.probe = asyncio.create_task(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)
        if not probe.done():
            probe.cancel()  # and not awaited: that could take as long as the database likes
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
# In project 7 these three are the documents of the whole system (`HelpPages` joins them).

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
    cache, calls_before = Naive(client), lm.ledger().requests
    await asyncio.gather(*(cache.get("leak", answer) for _ in range(20)))
    print(lm.ledger().requests - calls_before, "calls of the model for one question")
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
            self.waiting.pop(key, None)

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
            self.made.pop(key, None)

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
        self.calls.pop(key, None)

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


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="a make that returns ''"
# An empty text that was made is not kept.

import asyncio


class Lookup:
    def __init__(self, levels):
        self.levels, self.calls, self.changes, self.writing = levels, {}, 0, asyncio.Lock()

    async def look(self, key):
        seen = self.changes
        for place, level in enumerate(self.levels):
            value = await level.get(key)
            if value is not None:
                await self.fill(key, value, self.levels[:place], seen)
                return value
        return None

    async def fill(self, key, value, levels, seen):
        if not levels:
            return
        async with self.writing:
            if self.changes == seen:
                for level in levels:
                    await level.set(key, value)

    async def both(self, key, make):
        task = asyncio.current_task()
        try:
            seen = self.changes
            value = await self.look(key)
            if value is None:
                value = await make()
                if value:
                    await self.fill(key, value, self.levels, seen)
            return value
        finally:
            if self.calls.get(key) is task:
                del self.calls[key]

    async def get(self, key, make=None):
        if make is None:
            return await self.look(key)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self.both(key, make))
        return await asyncio.shield(self.calls[key])

    async def set(self, key, value):
        async with self.writing:
            self.changes += 1
            self.calls.pop(key, None)
            for level in self.levels:
                await level.set(key, value)
            self.changes += 1
            self.calls.pop(key, None)

    async def delete(self, key):
        async with self.writing:
            self.changes += 1
            self.calls.pop(key, None)
            for level in self.levels:
                await level.delete(key)
            self.changes += 1
            self.calls.pop(key, None)


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="callers get, and calls of their make after set"
# Who asks after a set joins the call from before.
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
        self.calls.pop(key, None)

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


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="callers get, and calls of their make after delete"
# An older call that ends takes out the newer one of its key.
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
            self.calls.pop(key, None)

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


# %% tags=["wrong"] exercise="6.2.1" outcome="failed" message="levels after set, when an older make ends"
# What is older than a change is kept in the lowest level.
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
            for level in levels if changes == self.changes else levels[2:]:
                await level.set(key, value)

    async def change(self, key, change):
        async with self.writing:
            for level in self.levels:
                await change(level)
            self.changes += 1
            self.calls.pop(key, None)


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

# %% name="given-6-2-2" tags=["needs"]
import json
import math
import time
from collections import OrderedDict

from redis.exceptions import RedisError, ResponseError


# %% name="ex-6-2-2" tags=["exercise"] exercise="6.2.2"
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
        if await self.send("SET", f"answer:{key}", entry, "PX", int(1000 * self.ttl_s)):
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


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="evictions after two values"
# Evictions counts expired values too.

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
        if key not in self.kept:
            return None
        until_s, value = self.kept[key]
        if self.clock() >= until_s:
            del self.kept[key]
            self.evictions += 1
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept.pop(key, None)
        self.kept[key] = self.clock() + self.ttl_s, value
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def call(self, command, *args, **more):
        if self.clock() < self.rests_until_s:
            return None
        try:
            if owed := list(self.owed):
                await self.client.delete(*owed)
                self.owed.difference_update(owed)
            return await command(*args, **more)
        except ResponseError:
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None

    async def get(self, key):
        raw = await self.call(self.client.get, key)
        if raw is None or key in self.owed:
            return None
        try:
            found = json.loads(raw)
            if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("value"), str):
                return found["value"]
        except (ValueError, RecursionError):
            pass
        return None

    async def set(self, key, value):
        self.owed.add(key)
        if await self.call(
            self.client.set,
            key,
            json.dumps({"key": key, "value": value}),
            px=max(1, round(1000 * self.ttl_s)),
        ):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        if await self.call(self.client.delete, key) is not None:
            self.owed.discard(key)


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="when Redis is back of a key whose set failed"
# Owed keys forgotten when the payment fails.

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
        if key not in self.kept:
            return None
        until_s, value = self.kept[key]
        if self.clock() >= until_s:
            del self.kept[key]
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept.pop(key, None)
        self.kept[key] = self.clock() + self.ttl_s, value
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def call(self, command, *args, **more):
        if self.clock() < self.rests_until_s:
            return None
        try:
            if owed := list(self.owed):
                self.owed.clear()
                await self.client.delete(*owed)
            return await command(*args, **more)
        except ResponseError:
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None

    async def get(self, key):
        raw = await self.call(self.client.get, key)
        if raw is None or key in self.owed:
            return None
        try:
            found = json.loads(raw)
            if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("value"), str):
                return found["value"]
        except (ValueError, RecursionError):
            pass
        return None

    async def set(self, key, value):
        self.owed.add(key)
        if await self.call(
            self.client.set,
            key,
            json.dumps({"key": key, "value": value}),
            px=max(1, round(1000 * self.ttl_s)),
        ):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        if await self.call(self.client.delete, key) is not None:
            self.owed.discard(key)


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="while it rests after it has hung"
# A failing set or delete begins no rest.

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
        if key not in self.kept:
            return None
        until_s, value = self.kept[key]
        if self.clock() >= until_s:
            del self.kept[key]
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept.pop(key, None)
        self.kept[key] = self.clock() + self.ttl_s, value
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def call(self, command, *args, **more):
        if self.clock() < self.rests_until_s:
            return None
        try:
            if owed := list(self.owed):
                await self.client.delete(*owed)
                self.owed.difference_update(owed)
            return await command(*args, **more)
        except ResponseError:
            return None
        except (RedisError, OSError):
            if command == self.client.get:
                self.rests_until_s = self.clock() + self.rest_s
            return None

    async def get(self, key):
        raw = await self.call(self.client.get, key)
        if raw is None or key in self.owed:
            return None
        try:
            found = json.loads(raw)
            if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("value"), str):
                return found["value"]
        except (ValueError, RecursionError):
            pass
        return None

    async def set(self, key, value):
        self.owed.add(key)
        if await self.call(
            self.client.set,
            key,
            json.dumps({"key": key, "value": value}),
            px=max(1, round(1000 * self.ttl_s)),
        ):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        if await self.call(self.client.delete, key) is not None:
            self.owed.discard(key)


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="how long Redis keeps it"
# Ttl in whole seconds, at least one.

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
        if key not in self.kept:
            return None
        until_s, value = self.kept[key]
        if self.clock() >= until_s:
            del self.kept[key]
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept.pop(key, None)
        self.kept[key] = self.clock() + self.ttl_s, value
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def call(self, command, *args, **more):
        if self.clock() < self.rests_until_s:
            return None
        try:
            if owed := list(self.owed):
                await self.client.delete(*owed)
                self.owed.difference_update(owed)
            return await command(*args, **more)
        except ResponseError:
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None

    async def get(self, key):
        raw = await self.call(self.client.get, key)
        if raw is None or key in self.owed:
            return None
        try:
            found = json.loads(raw)
            if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("value"), str):
                return found["value"]
        except (ValueError, RecursionError):
            pass
        return None

    async def set(self, key, value):
        self.owed.add(key)
        if await self.call(
            self.client.set, key, json.dumps({"key": key, "value": value}), ex=max(1, int(self.ttl_s))
        ):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        if await self.call(self.client.delete, key) is not None:
            self.owed.discard(key)


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="while it rests after it has hung"
# Never rests after a hang, only after a refused connection.

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
        if key not in self.kept:
            return None
        until_s, value = self.kept[key]
        if self.clock() >= until_s:
            del self.kept[key]
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept.pop(key, None)
        self.kept[key] = self.clock() + self.ttl_s, value
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def call(self, command, *args, **more):
        if self.clock() < self.rests_until_s:
            return None
        try:
            if owed := list(self.owed):
                await self.client.delete(*owed)
                self.owed.difference_update(owed)
            return await command(*args, **more)
        except ResponseError:
            return None
        except (RedisError, OSError):
            import redis

            if not isinstance(__import__("sys").exc_info()[1], redis.TimeoutError):
                self.rests_until_s = self.clock() + self.rest_s
            return None

    async def get(self, key):
        raw = await self.call(self.client.get, key)
        if raw is None or key in self.owed:
            return None
        try:
            found = json.loads(raw)
            if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("value"), str):
                return found["value"]
        except (ValueError, RecursionError):
            pass
        return None

    async def set(self, key, value):
        self.owed.add(key)
        if await self.call(
            self.client.set,
            key,
            json.dumps({"key": key, "value": value}),
            px=max(1, round(1000 * self.ttl_s)),
        ):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        if await self.call(self.client.delete, key) is not None:
            self.owed.discard(key)


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="back of a key whose delete failed"
# What was deleted while Redis hangs (the delete finds the hang) is not owed.

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
        if key not in self.kept:
            return None
        until_s, value = self.kept[key]
        if self.clock() >= until_s:
            del self.kept[key]
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept.pop(key, None)
        self.kept[key] = self.clock() + self.ttl_s, value
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def call(self, command, *args, **more):
        if self.clock() < self.rests_until_s:
            return None
        try:
            if owed := list(self.owed):
                await self.client.delete(*owed)
                self.owed.difference_update(owed)
            return await command(*args, **more)
        except ResponseError:
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None

    async def get(self, key):
        raw = await self.call(self.client.get, key)
        if raw is None or key in self.owed:
            return None
        try:
            found = json.loads(raw)
            if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("value"), str):
                return found["value"]
        except (ValueError, RecursionError):
            pass
        return None

    async def set(self, key, value):
        self.owed.add(key)
        if await self.call(
            self.client.set,
            key,
            json.dumps({"key": key, "value": value}),
            px=max(1, round(1000 * self.ttl_s)),
        ):
            self.owed.discard(key)

    async def delete(self, key):
        if self.clock() < self.rests_until_s:
            self.owed.add(key)
        await self.call(self.client.delete, key)


# %% tags=["wrong"] exercise="6.2.2" outcome="failed" message="back of a key whose set failed"
# What a set that finds the failure replaced is not owed.

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
        if key not in self.kept:
            return None
        until_s, value = self.kept[key]
        if self.clock() >= until_s:
            del self.kept[key]
            return None
        self.kept.move_to_end(key)
        return value

    async def set(self, key, value):
        self.kept.pop(key, None)
        self.kept[key] = self.clock() + self.ttl_s, value
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key):
        self.kept.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self.rests_until_s, self.owed = -math.inf, set()

    async def call(self, command, *args, **more):
        if self.clock() < self.rests_until_s:
            return None
        try:
            if owed := list(self.owed):
                await self.client.delete(*owed)
                self.owed.difference_update(owed)
            return await command(*args, **more)
        except ResponseError:
            return None
        except (RedisError, OSError):
            self.rests_until_s = self.clock() + self.rest_s
            return None

    async def get(self, key):
        raw = await self.call(self.client.get, key)
        if raw is None or key in self.owed:
            return None
        try:
            found = json.loads(raw)
            if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("value"), str):
                return found["value"]
        except (ValueError, RecursionError):
            pass
        return None

    async def set(self, key, value):
        if self.clock() < self.rests_until_s:
            self.owed.add(key)
        if await self.call(
            self.client.set,
            key,
            json.dumps({"key": key, "value": value}),
            px=max(1, round(1000 * self.ttl_s)),
        ):
            self.owed.discard(key)

    async def delete(self, key):
        self.owed.add(key)
        if await self.call(self.client.delete, key) is not None:
            self.owed.discard(key)


# %% tags=["right"] exercise="6.2.2"
# Plain dictionaries, a running number, and a key in Redis by its digest.

import hashlib
import itertools
import json
import time


class Memory:
    def __init__(self, most, ttl_s, clock=time.monotonic):
        self.most, self.ttl_s, self.clock, self.evictions = most, ttl_s, clock, 0
        self.values, self.used, self.tick = {}, {}, itertools.count()

    async def get(self, key):
        if key in self.values and self.clock() - self.values[key][1] < self.ttl_s:
            self.used[key] = next(self.tick)
            return self.values[key][0]
        await self.delete(key)
        return None

    async def set(self, key, value):
        if key not in self.values and len(self.values) >= self.most:
            oldest = min(self.used, key=self.used.get)
            await self.delete(oldest)
            self.evictions += 1
        self.values[key], self.used[key] = (value, self.clock()), next(self.tick)

    async def delete(self, key):
        self.values.pop(key, None)
        self.used.pop(key, None)


class Shared:
    def __init__(self, client, ttl_s, rest_s, clock=time.monotonic):
        self.client, self.ttl_ms, self.rest_s, self.clock = client, int(ttl_s * 1000) or 1, rest_s, clock
        self.failed_at, self.stale = None, {}

    def name(self, key):
        return "shared:" + hashlib.sha256(key.encode()).hexdigest()

    def resting(self):
        return self.failed_at is not None and self.clock() - self.failed_at < self.rest_s

    async def pay(self):
        for key in list(self.stale):
            await self.client.delete(self.name(key))
            self.stale.pop(key, None)

    async def get(self, key):
        if self.resting():
            return None
        try:
            await self.pay()
            raw = await self.client.get(self.name(key))
        except Exception as error:
            if "WRONGTYPE" not in str(error):
                self.failed_at = self.clock()
            return None
        try:
            told, value = json.loads(raw)
            return value if told == key and type(value) is str else None
        except (TypeError, ValueError, RecursionError):
            return None

    async def set(self, key, value):
        self.stale[key] = True
        if self.resting():
            return
        try:
            await self.pay()
            await self.client.set(self.name(key), json.dumps([key, value]), px=self.ttl_ms)
        except Exception:
            self.failed_at, self.stale[key] = self.clock(), True

    async def delete(self, key):
        self.stale[key] = True
        if self.resting():
            return
        try:
            await self.pay()
        except Exception:
            self.failed_at = self.clock()


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


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="whose value is ''"
# What was made counts, not what the cache holds: an empty text is not counted.

import asyncio
from collections import Counter


class One:
    def __init__(self, level):
        self.level, self.hits, self.asked = level, 0, 0

    async def get(self, key):
        value = await self.level.get(key)
        self.asked += 1
        self.hits += value is not None
        return value

    async def set(self, key, value):
        return await self.level.set(key, value)

    async def delete(self, key):
        return await self.level.delete(key)

    def __getattr__(self, name):
        return getattr(self.level, name)


class Counted:
    def __init__(self, levels):
        self.named = {name: One(level) for name, level in levels.items()}
        self.levels = list(self.named.values())

    def report(self):
        hits = {name: one.hits for name, one in self.named.items()}
        misses = self.levels[-1].asked - self.levels[-1].hits if self.levels else 0
        evictions = sum(getattr(one.level, "evictions", 0) for one in self.levels)
        found = sum(hits.values())
        return {
            "hits": hits,
            "misses": misses,
            "evictions": evictions,
            "hit_rate": found / (found + misses) if found + misses else 0.0,
        }


async def warm(cache, log, most, make, at_once=4):
    keys = iter([key for key, _ in Counter(log).most_common(most)])
    held = 0

    async def work():
        nonlocal held
        for key in keys:

            async def made(key=key):
                return await make(key)

            try:
                found = await cache.get(key, made)
                held += bool(found)
            except Exception:
                pass

    await asyncio.gather(*(work() for _ in range(at_once)))
    return held


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="how often each key is asked"
# A failed key is tried once more.

import asyncio
from collections import Counter


class One:
    def __init__(self, level):
        self.level, self.hits, self.asked = level, 0, 0

    async def get(self, key):
        value = await self.level.get(key)
        self.asked += 1
        self.hits += value is not None
        return value

    async def set(self, key, value):
        return await self.level.set(key, value)

    async def delete(self, key):
        return await self.level.delete(key)

    def __getattr__(self, name):
        return getattr(self.level, name)


class Counted:
    def __init__(self, levels):
        self.named = {name: One(level) for name, level in levels.items()}
        self.levels = list(self.named.values())

    def report(self):
        hits = {name: one.hits for name, one in self.named.items()}
        misses = self.levels[-1].asked - self.levels[-1].hits if self.levels else 0
        evictions = sum(getattr(one.level, "evictions", 0) for one in self.levels)
        found = sum(hits.values())
        return {
            "hits": hits,
            "misses": misses,
            "evictions": evictions,
            "hit_rate": found / (found + misses) if found + misses else 0.0,
        }


async def warm(cache, log, most, make, at_once=4):
    keys = iter([key for key, _ in Counter(log).most_common(most)])
    held = 0

    async def work():
        nonlocal held
        for key in keys:

            async def made(key=key):
                return await make(key)

            try:
                found = await cache.get(key, made)
                held += found is not None
            except Exception:
                try:
                    found = await cache.get(key, made)
                    held += found is not None
                except Exception:
                    pass

    await asyncio.gather(*(work() for _ in range(at_once)))
    return held


# %% tags=["wrong"] exercise="6.2.3" outcome="failed" message="warm, at_once="
# In batches: one that takes long keeps the places beside it empty.
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
    left, held = [key for key, _ in Counter(log).most_common(most)], []

    async def work(keys):
        for key in keys:
            try:
                await cache.get(key, lambda key=key: make(key))
                held.append(key)
            except Exception:
                pass  # it is made when somebody asks

    for first in range(0, len(left), at_once):
        await asyncio.gather(*(work([key]) for key in left[first : first + at_once]))
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

asked_keys = random.Random(6).choices(
    [f"question {n}" for n in range(500)], [1 / (n + 1) for n in range(500)], k=1000
)


async def made():
    return "an answer of some length. " * 20


rows = []
with running_redis(Path(scratch.name) / "log") as server:
    for warmed in (0, 100):
        folder = Path(tempfile.mkdtemp(dir=scratch.name))
        async with ThreeLevels(server.url, folder, Lookup, Memory, Shared, Counted, most=50) as cache:
            for key, _ in Counter(asked_keys).most_common(warmed):
                await cache.get(f"{warmed} {key}", made)
            at_first = cache.report()
            for key in asked_keys:
                await cache.get(f"{warmed} {key}", made)
            after = cache.report()
        hits = {name: count - at_first["hits"][name] for name, count in after["hits"].items()}
        rows.append({"warmed": warmed, **hits, "made": after["misses"] - at_first["misses"]})
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
    level_bars = axes.barh(
        [n + offset for n in range(3)], [took[place] for took in took_us.values()], 0.38, label=name
    )
    axes.bar_label(level_bars, fmt=" %.1f µs")
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
# In project 7 these are the cache of the whole system (`ThreeLevels` joins them).

# %% [markdown] name="end-2"
# That was project 2. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-3"
# ## Project 3: Streaming answers from documents
#
# The help centre grows: a partner sends its articles, faster than they can be indexed. Customers ask meanwhile, and read the answer while
# it is written. The database and the model have their bad minutes. The project makes three parts: a *runner* that takes in no more than it
# can do, a *stream* of events from search to citations, and what a reader gets when one of these fails.
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
ledger_before = lm.ledger()
calls = [index(article) async for article in partner_articles()]
results = await asyncio.gather(*calls, return_exceptions=True)
together_at_most = max(call.at_once for call in lm.ledger(ledger_before.requests).calls)
failed = [type(result).__name__ for result in results if isinstance(result, Exception)]
print(
    f"{len(results)} articles, {together_at_most} requests at once; indexed: {len(index_of)}; failed: {len(failed)} {set(failed)}"
)

# %% [markdown]
# Part of the articles is lost, because nothing holds back the source. *Backpressure* is the answer of a full system to its source: wait, or
# be told no.
#
# ### Stage 6.3.1: ingestion with backpressure (10 minutes, medium)
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
    ### STUB:     self.limits = at_once, waiting
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


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="calls made in eight runs"
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


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="documents indexed beside one that goes on"
# Ingest in batches of at_once: a slow one holds the places of the others.

import asyncio

from course_lib.flight import Busy


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.waiting = at_once, waiting
        self.slots, self.inside = asyncio.Semaphore(at_once), 0

    async def run(self, call, within_s):
        if self.inside >= self.at_once + self.waiting:
            raise Busy("full")
        self.inside += 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.inside -= 1

    async def ingest(self, documents, index, within_s):
        failed, source, lock = [], aiter(documents), asyncio.Lock()

        async def work():
            while True:
                async with lock:
                    try:
                        document = await anext(source)
                    except StopAsyncIteration:
                        return
                await self.one(document, index, within_s, failed)

        batch = []
        async for document in documents:
            batch.append(self.one(document, index, within_s, failed))
            if len(batch) == self.at_once:
                await asyncio.gather(*batch)
                batch = []
        await asyncio.gather(*batch)
        return failed

    async def one(self, document, index, within_s, failed):
        while True:
            try:
                await self.run(lambda: index(document), within_s)
                return
            except Busy as error:
                if self.inside < self.at_once + self.waiting:
                    failed.append((document, error))
                    return
                await asyncio.sleep(0.005)
            except Exception as error:
                failed.append((document, error))
                return


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="documents indexed beside one that goes on"
# Equal documents are indexed once only.

import asyncio

from course_lib.flight import Busy


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.waiting = at_once, waiting
        self.slots, self.inside = asyncio.Semaphore(at_once), 0

    async def run(self, call, within_s):
        if self.inside >= self.at_once + self.waiting:
            raise Busy("full")
        self.inside += 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.inside -= 1

    async def ingest(self, documents, index, within_s):
        seen = []
        failed, source, lock = [], aiter(documents), asyncio.Lock()

        async def work():
            while True:
                async with lock:
                    try:
                        document = await anext(source)
                    except StopAsyncIteration:
                        return
                if document in seen:
                    continue
                seen.append(document)
                await self.one(document, index, within_s, failed)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.at_once):
                group.create_task(work())
        return failed

    async def one(self, document, index, within_s, failed):
        while True:
            try:
                await self.run(lambda: index(document), within_s)
                return
            except Busy as error:
                if self.inside < self.at_once + self.waiting:
                    failed.append((document, error))
                    return
                await asyncio.sleep(0.005)
            except Exception as error:
                failed.append((document, error))
                return


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="tries of the two that failed"
# A failed document is tried once more.

import asyncio

from course_lib.flight import Busy


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.waiting = at_once, waiting
        self.slots, self.inside = asyncio.Semaphore(at_once), 0

    async def run(self, call, within_s):
        if self.inside >= self.at_once + self.waiting:
            raise Busy("full")
        self.inside += 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call()
        finally:
            self.inside -= 1

    async def ingest(self, documents, index, within_s):
        failed, source, lock = [], aiter(documents), asyncio.Lock()

        async def work():
            while True:
                async with lock:
                    try:
                        document = await anext(source)
                    except StopAsyncIteration:
                        return
                await self.one(document, index, within_s, failed)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.at_once):
                group.create_task(work())
        return failed

    async def one(self, document, index, within_s, failed):
        tried = []
        while True:
            try:
                await self.run(lambda: index(document), within_s)
                return
            except Busy as error:
                if self.inside < self.at_once + self.waiting:
                    failed.append((document, error))
                    return
                await asyncio.sleep(0.005)
            except Exception as error:
                if document not in tried:
                    tried.append(document)
                    continue
                failed.append((document, error))
                return


# %% tags=["wrong"] exercise="6.3.1" outcome="failed" message="what comes out of run"
# Run: results that are false become None.

import asyncio

from course_lib.flight import Busy


class BoundedRunner:
    def __init__(self, at_once, waiting):
        self.at_once, self.waiting = at_once, waiting
        self.slots, self.inside = asyncio.Semaphore(at_once), 0

    async def run(self, call, within_s):
        if self.inside >= self.at_once + self.waiting:
            raise Busy("full")
        self.inside += 1
        try:
            async with asyncio.timeout(within_s), self.slots:
                return await call() or None
        finally:
            self.inside -= 1

    async def ingest(self, documents, index, within_s):
        failed, source, lock = [], aiter(documents), asyncio.Lock()

        async def work():
            while True:
                async with lock:
                    try:
                        document = await anext(source)
                    except StopAsyncIteration:
                        return
                await self.one(document, index, within_s, failed)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.at_once):
                group.create_task(work())
        return failed

    async def one(self, document, index, within_s, failed):
        while True:
            try:
                await self.run(lambda: index(document), within_s)
                return
            except Busy as error:
                if self.inside < self.at_once + self.waiting:
                    failed.append((document, error))
                    return
                await asyncio.sleep(0.005)
            except Exception as error:
                failed.append((document, error))
                return


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
# ### Stage 6.3.2: an answer as a stream of events (12 minutes, hard)
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
moving = "How do I change my delivery address?"
begun_s = time.monotonic()
with dspy.context(lm=lm.connect("sim-large@unhurried", cache=False)):
    said = await desk.Answer().acall(moving, context=await search(moving))
print(f"something to read after {time.monotonic() - begun_s:.1f} s: {said.answer[:60]}...")

# %% [markdown]
# Write an async generator function `stream_answer(question, search)`; `await search(question)` returns texts, each beginning with an id in
# brackets. It yields
#
# - `Passages(texts)`, as soon as the search has found them, before the model has written anything;
# - `Token(text)` for each piece of the answer, while the model still writes; together they are the answer;
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
    await told(stream_answer(moving, search))

# %% [markdown]
# The passages are there at once, the first token long before the last.
#
# ### Stage 6.3.3: what the reader gets when parts fail (12 minutes, hard)
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
for weather in ("half-streams", "silent", "down"):
    shown, begun_s, how = "", time.monotonic(), "as a whole"
    with dspy.context(lm=lm.connect(f"sim-large@{weather}", cache=False, num_retries=0)):
        try:
            async with asyncio.timeout(2):
                async for piece in write(moving, await search(moving)):
                    shown += piece
        except (dspy.LMError, TimeoutError) as error:
            how = type(error).__name__
    print(f"{weather:12} {time.monotonic() - begun_s:.1f} s, {how}: {shown!r}")

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
for weather in ("calm", "half-streams", "silent", "down"):
    print(weather)
    with dspy.context(lm=lm.connect(f"sim-large@{weather}", cache=False, num_retries=0)):
        await told(answer_anyway(moving, search, lambda question: [], write, within_s=2))

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
    run = (
        BoundedRunner(4, 4).run if is_yours else lambda answer, within_s: by_library(answer, within_s, places)
    )
    return lambda answer: run(answer, 5)


async def by_library(answer, within_s, places):
    async with places:
        await asyncio.wait_for(answer(), within_s)


async def taken_in(answer):
    await answer()


is_yours = await BoundedRunner(1, 0).run(lambda: asyncio.sleep(0, "solved"), 5) == "solved"
print("the runner is", "yours" if is_yours else "the library's")

# %% name="p3-load-table"
rates, rows = (20, 40, 80), []
ways = [(how, rate) for how in ("all taken in", "with a runner") for rate in rates]
load_runs = await asyncio.gather(
    *(loaded(rate, taken_in if how == "all taken in" else held_back(is_yours)) for how, rate in ways)
)
for (first_s, whole_s, refused), (how, rate) in zip(load_runs, ways):
    row = {"how": how, "per s": rate}
    for name, seconds in (("first token", first_s), ("whole", whole_s)):
        row |= {f"{name} p{at}": f"{percentile(seconds, at):.2f} s" for at in (50, 99)}
    rows.append({**row, "refused": len(refused)})
table(rows)

# %% name="p3-load-plot"
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
for axis, at, title in ((axes[0], 0, "first token, median"), (axes[1], 1, "whole answer, p99")):
    for how, results in (("all taken in", load_runs[:3]), ("with a runner", load_runs[3:])):
        axis.plot(rates, [percentile(each[at], (50, 99)[at]) for each in results], marker="o", label=how)
    axis.set(title=title, xlabel="questions per second", ylabel="seconds" if at == 0 else None)
axes[0].legend()
plot(
    figure,
    "Time to the first token and p99 of the answer over load: they rise steeply when all is taken in, and with a runner by one answer's time at most",
)

# %% [markdown]
# Above 40 a second, what is taken in waits for what came before, and each second of load makes it longer. With a runner, those who are
# taken in wait for one other answer at most, about 0.1 s, however many ask; the rest is told at once that it is not.

# %% [markdown] name="end-3"
# That was project 3. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-4"
# ## Project 4: a debugging toolkit
#
# Each morning the desk answers the questions of the night. It takes too long, and nobody knows why. The project makes a toolkit that finds
# out: *spans* of what was done, a *profile* and an execution graph from them, and a report whose advice follows from the numbers.

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
# ### Stage 6.4.1: spans of what a program does (12 minutes, medium)
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
# - `key` is None for a block of your own. For a call of DSPy it is a text, the same for the same inputs in the same order, another for others,
#   and another in another tracer.
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


# %% tags=["wrong"] exercise="6.4.1" outcome="failed" message="error of a tool that raises"
# Error of a tool is not noted.

import hmac
import json
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar


class SpanTracer(BaseCallback):
    def __init__(self):
        self.spans, self.open, self.secret = [], {}, secrets.token_bytes(32)
        self.now = ContextVar("now", default=None)

    @contextmanager
    def span(self, name, key=None):
        above = self.now.get()
        own = {
            "name": name,
            "trace": above["trace"] if above else secrets.token_hex(16),
            "id": secrets.token_hex(8),
            "parent": above["id"] if above else None,
            "key": key,
            "begun_s": time.time(),
            "took_s": 0.0,
            "error": None,
        }
        token, began = self.now.set(own), time.perf_counter()
        try:
            yield
        except BaseException as error:
            own["error"] = type(error).__name__
            raise
        finally:
            own["took_s"] = time.perf_counter() - began
            try:
                self.now.reset(token)
            except ValueError:
                pass
            self.spans.append(own)

    def begin(self, call_id, name, inputs):
        text = json.dumps(inputs, sort_keys=True, default=repr)
        key = hmac.new(self.secret, text.encode(), "sha256").hexdigest()
        block = self.span(name, key)
        block.__enter__()
        self.open[call_id] = block

    def end(self, call_id, exception):
        block = self.open.pop(call_id, None)
        if block is None:
            return
        if exception is None:
            block.__exit__(None, None, None)
        else:
            try:
                block.__exit__(type(exception), exception, exception.__traceback__)
            except BaseException:
                pass

    def on_module_start(self, call_id, instance, inputs):
        self.begin(call_id, type(instance).__name__, inputs)

    def on_module_end(self, call_id, outputs, exception=None):
        self.end(call_id, exception)

    def on_lm_start(self, call_id, instance, inputs):
        self.begin(call_id, "LM", inputs)

    def on_lm_end(self, call_id, outputs, exception=None):
        self.end(call_id, exception)

    def on_tool_start(self, call_id, instance, inputs):
        self.begin(call_id, instance.name, inputs)

    def on_tool_end(self, call_id, outputs, exception=None):
        self.end(call_id, None)


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
# ### Stage 6.4.2: a profile and an execution graph (10 minutes, medium)
#
# *Concepts: self time, union of intervals, call graph.*
#
# A trace of a busy hour has thousands of spans. A *profile* adds them up by name, an *execution graph* says who called whom. To add up
# `took_s` is not enough: the program below waits for three calls at the same time, and a sum says that it took longer than the clock.

# %% name="p4-sums-lie" tags=["needs"]
span_fields = "name", "trace", "id", "parent", "key", "begun_s", "took_s", "error"
span_values = [
    ("Morning", "t", "a", None, None, 0.0, 0.5, None),
    ("LM", "t", "b", "a", "1", 0.1, 0.3, None),
    ("LM", "t", "c", "a", "2", 0.1, 0.3, None),
    ("LM", "t", "d", "a", "3", 0.2, 0.25, None),
]
together = [dict(zip(span_fields, each)) for each in span_values]
morning_s, *calls_s = (span["took_s"] for span in together)
print(
    f"Morning took {morning_s} s, its calls {sum(calls_s):.2f} s; so it did {morning_s - sum(calls_s):.2f} s of work itself?"
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


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="two traces at the same time"
# Union within each trace, summed over traces.

from collections import Counter, defaultdict


def joined(intervals):
    total, end = 0.0, float("-inf")
    for begin, stop in sorted(intervals):
        if stop > end:
            total += stop - max(begin, end)
            end = stop
    return total


def profile(spans):
    spans = list(spans)
    by_id = {(s["trace"], s["id"]): s for s in spans}
    children = defaultdict(list)
    edges, opened, rows = Counter(), defaultdict(list), {}
    for s in spans:
        parent = by_id.get((s["trace"], s["parent"]))
        edges[parent["name"] if parent else None, s["name"]] += 1
        if parent:
            children[s["trace"], s["parent"]].append(s)
        opened[s["name"]].append((s["begun_s"], s["begun_s"] + s["took_s"]))
    for name, intervals in opened.items():
        rows[name] = {
            "calls": len(intervals),
            "total_s": sum(
                joined(
                    [
                        (s["begun_s"], s["begun_s"] + s["took_s"])
                        for s in spans
                        if s["name"] == name and s["trace"] == t
                    ]
                )
                for t in {s["trace"] for s in spans}
            ),
            "self_s": 0.0,
        }
    for s in spans:
        begin, end = s["begun_s"], s["begun_s"] + s["took_s"]
        inner = [
            (max(begin, c["begun_s"]), min(end, c["begun_s"] + c["took_s"]))
            for c in children[s["trace"], s["id"]]
        ]
        rows[s["name"]]["self_s"] += s["took_s"] - joined([(b, e) for b, e in inner if e > b])
    return rows, dict(edges)


# %% tags=["wrong"] exercise="6.4.2" outcome="failed" message="two traces at the same time"
# Parents found by id alone; trace ignored in children.

from collections import Counter, defaultdict


def joined(intervals):
    total, end = 0.0, float("-inf")
    for begin, stop in sorted(intervals):
        if stop > end:
            total += stop - max(begin, end)
            end = stop
    return total


def profile(spans):
    spans = list(spans)
    by_id = {(s["trace"], s["id"]): s for s in spans}
    children = defaultdict(list)
    edges, opened, rows = Counter(), defaultdict(list), {}
    for s in spans:
        parent = by_id.get((s["trace"], s["parent"]))
        edges[parent["name"] if parent else None, s["name"]] += 1
        if parent:
            children[s["parent"]].append(s)
        opened[s["name"]].append((s["begun_s"], s["begun_s"] + s["took_s"]))
    for name, intervals in opened.items():
        rows[name] = {"calls": len(intervals), "total_s": joined(intervals), "self_s": 0.0}
    for s in spans:
        begin, end = s["begun_s"], s["begun_s"] + s["took_s"]
        inner = [(max(begin, c["begun_s"]), min(end, c["begun_s"] + c["took_s"])) for c in children[s["id"]]]
        rows[s["name"]]["self_s"] += s["took_s"] - joined([(b, e) for b, e in inner if e > b])
    return rows, dict(edges)


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
# ### Stage 6.4.3: advice that follows from the numbers (12 minutes, hard)
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


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="under each of two parents"
# Together: the longest row of a name only.

from collections import defaultdict
from statistics import median

PASS = {"LMRateLimitError", "LMServerError", "LMTimeoutError", "LMTransportError", "TimeoutError"}


def advise(spans):
    spans = sorted(spans, key=lambda s: s["begun_s"])
    if not spans:
        return []
    end = lambda s: s["begun_s"] + s["took_s"]  # noqa: E731
    whole = max(map(end, spans)) - spans[0]["begun_s"]
    ids, below = {s["id"]: s for s in spans}, defaultdict(list)
    for s in spans:
        below[s["parent"]].append(s)
    advice = []

    def add(kind, name, saves):
        if saves > 0 and saves >= whole / 10:
            advice.append((kind, name, saves))

    # cache
    first, repeated = set(), set()
    by_key = defaultdict(list)
    for s in spans:
        if s["key"] is not None and s["error"] is None:
            by_key[s["name"], s["key"]].append(s)
    for calls in by_key.values():
        repeated.update(s["id"] for s in calls[1:])

    def covered(s):
        above = ids.get(s["parent"])
        while above is not None:
            if above["id"] in repeated:
                return True
            above = ids.get(above["parent"])
        return False

    saves = defaultdict(float)
    for s in spans:
        if s["id"] in repeated and not covered(s):
            saves[s["name"]] += s["took_s"]
    for name, each in saves.items():
        add("cache", name, each)
    # together
    saves = defaultdict(float)
    for parent, children in below.items():
        if parent is None:
            continue
        if parent in repeated or (parent in ids and covered(ids[parent])):
            continue
        row = []

        def flush():
            if len(row) > 1:  # noqa: B023
                saves[row[0]["name"]] = sum(s["took_s"] for s in row) - max(s["took_s"] for s in row)  # noqa: B023

        for s in [c for c in children if c["id"] not in repeated]:
            if (
                row
                and s["name"] == row[0]["name"]
                and s["key"] is not None
                and s["key"] not in {r["key"] for r in row}
                and s["begun_s"] >= end(row[-1])
            ):
                row.append(s)
            else:
                flush()
                row = [s] if s["key"] is not None else []
        flush()
    for name, each in saves.items():
        add("together", name, each)
    # slow
    names = defaultdict(list)
    for s in spans:
        names[s["name"]].append(s)
    for name, calls in names.items():
        leaves = [s for s in calls if not below[s["id"]]]
        if len(leaves) >= 5:
            middle = median(s["took_s"] for s in leaves)
            add("slow", name, sum(s["took_s"] - middle for s in leaves if s["took_s"] > 5 * middle))
    for name, calls in names.items():
        failed = [s for s in calls if s["error"] in PASS and not any(c["error"] for c in below[s["id"]])]
        n, p = len(failed), len(failed) / len(calls)
        if n >= 2 and p >= 0.1 and n * (1 - p) > 0:
            advice.append(("retry", name, n * (1 - p)))
    return advice


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="two requests, 2 s together"
# The tenth of the longest root, not from first begin to last end.

from collections import defaultdict
from statistics import median

PASS = {"LMRateLimitError", "LMServerError", "LMTimeoutError", "LMTransportError", "TimeoutError"}


def advise(spans):
    spans = sorted(spans, key=lambda s: s["begun_s"])
    if not spans:
        return []
    end = lambda s: s["begun_s"] + s["took_s"]  # noqa: E731
    whole = max(s["took_s"] for s in spans)
    ids, below = {s["id"]: s for s in spans}, defaultdict(list)
    for s in spans:
        below[s["parent"]].append(s)
    advice = []

    def add(kind, name, saves):
        if saves > 0 and saves >= whole / 10:
            advice.append((kind, name, saves))

    # cache
    first, repeated = set(), set()
    by_key = defaultdict(list)
    for s in spans:
        if s["key"] is not None and s["error"] is None:
            by_key[s["name"], s["key"]].append(s)
    for calls in by_key.values():
        repeated.update(s["id"] for s in calls[1:])

    def covered(s):
        above = ids.get(s["parent"])
        while above is not None:
            if above["id"] in repeated:
                return True
            above = ids.get(above["parent"])
        return False

    saves = defaultdict(float)
    for s in spans:
        if s["id"] in repeated and not covered(s):
            saves[s["name"]] += s["took_s"]
    for name, each in saves.items():
        add("cache", name, each)
    # together
    saves = defaultdict(float)
    for parent, children in below.items():
        if parent is None:
            continue
        if parent in repeated or (parent in ids and covered(ids[parent])):
            continue
        row = []

        def flush():
            if len(row) > 1:  # noqa: B023
                saves[row[0]["name"]] += sum(s["took_s"] for s in row) - max(s["took_s"] for s in row)  # noqa: B023

        for s in [c for c in children if c["id"] not in repeated]:
            if (
                row
                and s["name"] == row[0]["name"]
                and s["key"] is not None
                and s["key"] not in {r["key"] for r in row}
                and s["begun_s"] >= end(row[-1])
            ):
                row.append(s)
            else:
                flush()
                row = [s] if s["key"] is not None else []
        flush()
    for name, each in saves.items():
        add("together", name, each)
    # slow
    names = defaultdict(list)
    for s in spans:
        names[s["name"]].append(s)
    for name, calls in names.items():
        leaves = [s for s in calls if not below[s["id"]]]
        if len(leaves) >= 5:
            middle = median(s["took_s"] for s in leaves)
            add("slow", name, sum(s["took_s"] - middle for s in leaves if s["took_s"] > 5 * middle))
    for name, calls in names.items():
        failed = [s for s in calls if s["error"] in PASS and not any(c["error"] for c in below[s["id"]])]
        n, p = len(failed), len(failed) / len(calls)
        if n >= 2 and p >= 0.1 and n * (1 - p) > 0:
            advice.append(("retry", name, n * (1 - p)))
    return advice


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="then a call with a key"
# Together: keys None too.

from collections import defaultdict
from statistics import median

PASS = {"LMRateLimitError", "LMServerError", "LMTimeoutError", "LMTransportError", "TimeoutError"}


def advise(spans):
    spans = sorted(spans, key=lambda s: s["begun_s"])
    if not spans:
        return []
    end = lambda s: s["begun_s"] + s["took_s"]  # noqa: E731
    whole = max(map(end, spans)) - spans[0]["begun_s"]
    ids, below = {s["id"]: s for s in spans}, defaultdict(list)
    for s in spans:
        below[s["parent"]].append(s)
    advice = []

    def add(kind, name, saves):
        if saves > 0 and saves >= whole / 10:
            advice.append((kind, name, saves))

    # cache
    first, repeated = set(), set()
    by_key = defaultdict(list)
    for s in spans:
        if s["key"] is not None and s["error"] is None:
            by_key[s["name"], s["key"]].append(s)
    for calls in by_key.values():
        repeated.update(s["id"] for s in calls[1:])

    def covered(s):
        above = ids.get(s["parent"])
        while above is not None:
            if above["id"] in repeated:
                return True
            above = ids.get(above["parent"])
        return False

    saves = defaultdict(float)
    for s in spans:
        if s["id"] in repeated and not covered(s):
            saves[s["name"]] += s["took_s"]
    for name, each in saves.items():
        add("cache", name, each)
    # together
    saves = defaultdict(float)
    for parent, children in below.items():
        if parent is None:
            continue
        if parent in repeated or (parent in ids and covered(ids[parent])):
            continue
        row = []

        def flush():
            if len(row) > 1:  # noqa: B023
                saves[row[0]["name"]] += sum(s["took_s"] for s in row) - max(s["took_s"] for s in row)  # noqa: B023

        for s in [c for c in children if c["id"] not in repeated]:
            if (
                row
                and s["name"] == row[0]["name"]
                and s["key"] not in {r["key"] for r in row}
                and s["begun_s"] >= end(row[-1])
            ):
                row.append(s)
            else:
                flush()
                row = [s]
        flush()
    for name, each in saves.items():
        add("together", name, each)
    # slow
    names = defaultdict(list)
    for s in spans:
        names[s["name"]].append(s)
    for name, calls in names.items():
        leaves = [s for s in calls if not below[s["id"]]]
        if len(leaves) >= 5:
            middle = median(s["took_s"] for s in leaves)
            add("slow", name, sum(s["took_s"] - middle for s in leaves if s["took_s"] > 5 * middle))
    for name, calls in names.items():
        failed = [s for s in calls if s["error"] in PASS and not any(c["error"] for c in below[s["id"]])]
        n, p = len(failed), len(failed) / len(calls)
        if n >= 2 and p >= 0.1 and n * (1 - p) > 0:
            advice.append(("retry", name, n * (1 - p)))
    return advice


# %% tags=["wrong"] exercise="6.4.3" outcome="failed" message="repeated between them"
# A repetition stands for another child in between.

from collections import defaultdict
from statistics import median

PASS = {"LMRateLimitError", "LMServerError", "LMTimeoutError", "LMTransportError", "TimeoutError"}


def advise(spans):
    spans = sorted(spans, key=lambda s: s["begun_s"])
    if not spans:
        return []
    end = lambda s: s["begun_s"] + s["took_s"]  # noqa: E731
    whole = max(map(end, spans)) - spans[0]["begun_s"]
    ids, below = {s["id"]: s for s in spans}, defaultdict(list)
    for s in spans:
        below[s["parent"]].append(s)
    advice = []

    def add(kind, name, saves):
        if saves > 0 and saves >= whole / 10:
            advice.append((kind, name, saves))

    # cache
    first, repeated = set(), set()
    by_key = defaultdict(list)
    for s in spans:
        if s["key"] is not None and s["error"] is None:
            by_key[s["name"], s["key"]].append(s)
    for calls in by_key.values():
        repeated.update(s["id"] for s in calls[1:])

    def covered(s):
        above = ids.get(s["parent"])
        while above is not None:
            if above["id"] in repeated:
                return True
            above = ids.get(above["parent"])
        return False

    saves = defaultdict(float)
    for s in spans:
        if s["id"] in repeated and not covered(s):
            saves[s["name"]] += s["took_s"]
    for name, each in saves.items():
        add("cache", name, each)
    # together
    saves = defaultdict(float)
    for parent, children in below.items():
        if parent is None:
            continue
        if parent in repeated or (parent in ids and covered(ids[parent])):
            continue
        row = []

        def flush():
            if len(row) > 1:  # noqa: B023
                saves[row[0]["name"]] += sum(s["took_s"] for s in row) - max(s["took_s"] for s in row)  # noqa: B023

        for s in list(children):
            if s["id"] in repeated:
                flush()
                row = []
                continue
            if (
                row
                and s["name"] == row[0]["name"]
                and s["key"] is not None
                and s["key"] not in {r["key"] for r in row}
                and s["begun_s"] >= end(row[-1])
            ):
                row.append(s)
            else:
                flush()
                row = [s] if s["key"] is not None else []
        flush()
    for name, each in saves.items():
        add("together", name, each)
    # slow
    names = defaultdict(list)
    for s in spans:
        names[s["name"]].append(s)
    for name, calls in names.items():
        leaves = [s for s in calls if not below[s["id"]]]
        if len(leaves) >= 5:
            middle = median(s["took_s"] for s in leaves)
            add("slow", name, sum(s["took_s"] - middle for s in leaves if s["took_s"] > 5 * middle))
    for name, calls in names.items():
        failed = [s for s in calls if s["error"] in PASS and not any(c["error"] for c in below[s["id"]])]
        n, p = len(failed), len(failed) / len(calls)
        if n >= 2 and p >= 0.1 and n * (1 - p) > 0:
            advice.append(("retry", name, n * (1 - p)))
    return advice


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
    told_by = [f"  yours: {kind} {what}, saves {saves:.2f}" for kind, what, saves in advice]
    told_by += [f"  the library's: {each}" for each in bottlenecks(theirs.spans).advice]
    print("\n".join(told_by))

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
    axis.set_yticklabels([span["name"] for span in ordered], fontsize=9)
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
# A manifest can be valid, and the service behind it still lose requests with each release, be emptied by a machine's maintenance, or hand its
# passwords to whoever reads the repository. In this project you write what Kubernetes needs for the support desk, and each stage asks what a cluster
# would **do** with it. No cluster is needed: schemas, budgets and network policies are reckoned here.
#
# | stage | you write | minutes |
# | --- | --- | --- |
# | 6.5.1 | a Deployment and its Service | 15 |
# | 6.5.2 | how many replicas there are, while load and machines change | 10 |
# | 6.5.3 | where secrets come from, and who may talk to whom | 10 |
#
# This is what many begin with. It works: `kubectl apply` takes it, and the desk answers.

# %% name="given-6-5" tags=["needs"]
import copy
import json

import yaml

from course_lib.exercises.flight import Pod, connects, evictions, findings

box = {
    "name": "desk",
    "image": "ghcr.io/lantern-gear/desk:latest",
    "ports": [{"containerPort": 8000}],
    "livenessProbe": {"httpGet": {"path": "/health/ready", "port": 8000}},
}
app, named = {"app": "desk"}, {"name": "desk"}
template = {"metadata": {"labels": app}, "spec": {"containers": [box]}}
pods = {"replicas": 2, "selector": {"matchLabels": app}, "template": template}
ports = {"type": "LoadBalancer", "selector": app, "ports": [{"port": 80, "targetPort": 8000}]}
STARTER = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": named, "spec": pods}
STARTER_SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": ports}
both = json.loads(json.dumps([STARTER, STARTER_SERVICE]))  # nothing shared, so that YAML needs no aliases
starter, starter_service = (yaml.safe_dump(each, sort_keys=False) for each in both)
print(starter, starter_service, sep="---\n")

# %% [markdown]
# **Predict first:** how many things would somebody who runs services change in it?

# %% name="starter-findings"
found = findings(starter, starter_service)
print(len(found), "findings")
table([{"what": each.what, "is": each.observed, "should be": each.expected} for each in found])

# %% [markdown]
# Most of these nobody sees on the first day. The liveness probe asks `/health/ready`, which says no while the database is away: then Kubernetes
# restarts *all* replicas, again and again, for a fault that no restart mends. And without a `preStop` each release cuts some answers off.
#
# ### Stage 6.5.1: a Deployment and its Service (15 minutes, medium)
#
# *Concepts: probes, requests and limits, Pod Security Standards, graceful end.*
#
# Write `deployment` and `service`, the YAML of one resource each. The program listens on port 8000, writes to `/tmp` alone, and needs 300 MiB of memory,
# at times 700. It may take 60 seconds to start. After SIGTERM it answers what is under way, for 20 seconds at most.
#
# - Kubernetes 1.34 takes both, strictly.
# - The Service, of one's own namespace and reached from inside of the cluster only, leads from port 80 to the program.
# - Liveness asks `/health/live`, which asks no other server, readiness `/health/ready`. A process is not ended while it may still be starting; one
#   that hangs is ended within 60 seconds, and a pod that is not ready gets no requests after 10. (Count `periodSeconds` times `failureThreshold`.)
# - It requests cpu and at least 300 MiB of memory; its limit of memory lies between 700 MiB and 2 GiB.
# - The pod meets the Pod Security Standard *restricted*. Its root file system is read-only, `/tmp` an `emptyDir`.
# - There is one container, of the image `ghcr.io/lantern-gear/desk` in version 1.0.0 (or by its digest).
# - Before SIGTERM it waits at least 5 seconds, since others still send requests; after it there are at least 20.

# %% name="ex-6-5-1" tags=["exercise"] exercise="6.5.1"
### BEGIN SOLUTION
### STUB: deployment = ...
deployment = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: desk}
spec:
  replicas: 2
  selector: {matchLabels: {app: desk}}
  template:
    metadata: {labels: {app: desk}}
    spec:
      terminationGracePeriodSeconds: 30
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: desk
          image: ghcr.io/lantern-gear/desk:1.0.0
          ports: [{name: http, containerPort: 8000}]
          startupProbe:
            httpGet: {path: /health/live, port: http}
            periodSeconds: 2
            failureThreshold: 30
          livenessProbe:
            httpGet: {path: /health/live, port: http}
            periodSeconds: 10
            failureThreshold: 3
          readinessProbe:
            httpGet: {path: /health/ready, port: http}
            periodSeconds: 2
            failureThreshold: 2
          lifecycle: {preStop: {sleep: {seconds: 5}}}
          resources:
            requests: {cpu: 500m, memory: 512Mi}
            limits: {memory: 1Gi}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts: [{name: tmp, mountPath: /tmp}]
      volumes: [{name: tmp, emptyDir: {sizeLimit: 256Mi}}]
"""
### END SOLUTION

# %% name="ex-6-5-1-service" tags=["exercise"] exercise="6.5.1"
### BEGIN SOLUTION
### STUB: service = ...
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""
### END SOLUTION

# %% tags=["right"] exercise="6.5.1"
# Made in Python and written as YAML; numbers for ports, a sleep by command, no startup probe.
import yaml

labels = {"app.kubernetes.io/name": "desk", "track": "stable"}


def asks(path, **times):
    return {"httpGet": {"path": path, "port": 8000}, **times}


box = {
    "name": "main",
    "image": f"ghcr.io/lantern-gear/desk:1.0.0@sha256:{'0a' * 32}",
    "livenessProbe": asks("/health/live", initialDelaySeconds=30, periodSeconds=15, failureThreshold=2),
    "readinessProbe": asks("/health/ready", periodSeconds=5, failureThreshold=1),
    "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 10"]}}},
    "resources": {"limits": {"cpu": 2, "memory": "1.5Gi"}},
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "volumeMounts": [{"name": "scratch", "mountPath": "/tmp/"}],
}
pod = {
    "containers": [box],
    "volumes": [{"name": "scratch", "emptyDir": {}}],
    "terminationGracePeriodSeconds": 40,
}
chosen = {"matchExpressions": [{"key": "track", "operator": "In", "values": ["stable"]}]}
spec = {"selector": chosen, "template": {"metadata": {"labels": labels}, "spec": pod}}
where = {"name": "desk", "namespace": "desk"}
deployment = yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": where, "spec": spec})
ports = [{"name": "metrics", "port": 9000}, {"name": "web", "port": 80, "targetPort": 8000}]
rest = {"selector": labels, "ports": ports}
service = yaml.safe_dump({"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": rest})

# %% tags=["right"] exercise="6.5.1"
# JSON is YAML; an alias for the probe that is asked twice; the pod's account of who it runs as.
deployment = """---
kind: Deployment
apiVersion: apps/v1
metadata: {"name": "lantern", "labels": {"app": "lantern"}}
spec:
  selector: &own {matchLabels: {"app": "lantern"}}
  template:
    metadata: {"labels": {"app": "lantern", "tier": "web"}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
      volumes:
        - name: t
          emptyDir: {medium: Memory, sizeLimit: 64Mi}
      containers:
        - name: web
          image: ghcr.io/lantern-gear/desk@sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945
          ports: [{containerPort: 8000, name: web}]
          startupProbe: {httpGet: &live {path: /health/live, port: web}, failureThreshold: 60, periodSeconds: 1}
          livenessProbe: {httpGet: *live, timeoutSeconds: 5}
          readinessProbe: {httpGet: {path: /health/ready, port: 8000}, periodSeconds: 1}
          lifecycle: {preStop: {exec: {command: [sleep, "6"]}}}
          resources: {requests: {cpu: "0.25", memory: 314572800}, limits: {memory: 800M, cpu: 1500m}}
          volumeMounts: [{name: t, mountPath: /tmp}]
          securityContext:
            {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL, NET_RAW]}}
"""
service = """
{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "lantern"}, "spec": {"type": "ClusterIP",
 "selector": {"app": "lantern"}, "ports": [{"port": 80, "targetPort": "web", "protocol": "TCP"}]}}
"""

# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what Kubernetes 1.34 says of the Deployment"
# A field misspelt: no probe would be asked as often as meant.
deployment = deployment.replace(
    "periodSeconds: 10",
    "periodSecond: 10",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what the liveness probe asks"
# Liveness asks for the database too.
deployment = deployment.replace(
    "/health/live, port: http}\n            periodSeconds: 10",
    "/health/ready, port: http}\n            periodSeconds: 10",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what the readiness probe asks"
# Ready as soon as the process is.
deployment = deployment.replace(
    "/health/ready",
    "/health/live",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="still starting"
# A start may take ten seconds.
deployment = deployment.replace(
    "failureThreshold: 30",
    "failureThreshold: 5",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="a process that hangs"
# One that hangs for five minutes goes on.
deployment = deployment.replace(
    "periodSeconds: 10",
    "periodSeconds: 100",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="not ready gets no requests"
# Requests for 40 more seconds.
deployment = deployment.replace(
    "periodSeconds: 2\n            failureThreshold: 2",
    "periodSeconds: 20\n            failureThreshold: 2",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="request of cpu"
# No requests, no limits.
deployment = deployment.replace(
    "          resources:\n            requests: {cpu: 500m, memory: 512Mi}\n            limits: {memory: 1Gi}\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="request of memory in MiB"
# It asks for less than it needs.
deployment = deployment.replace(
    "memory: 512Mi",
    "memory: 128Mi",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="limit of memory"
# It is killed when it needs most.
deployment = deployment.replace(
    "memory: 1Gi",
    "memory: 600Mi",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="runAsNonRoot"
# It may run as root.
deployment = deployment.replace(
    "        runAsNonRoot: true\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="readOnlyRootFilesystem"
# The file system can be written.
deployment = deployment.replace(
    "readOnlyRootFilesystem: true",
    "readOnlyRootFilesystem: false",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="allowPrivilegeEscalation"
# Its default is to allow it.
deployment = deployment.replace(
    "            allowPrivilegeEscalation: false\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="capabilities"
# One capability dropped, all others kept.
deployment = deployment.replace(
    "drop: [ALL]",
    "drop: [NET_RAW]",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="seccompProfile"
# All calls of the kernel.
deployment = deployment.replace(
    "        seccompProfile: {type: RuntimeDefault}\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what it uses of the node"
# A folder of the node as /tmp.
deployment = deployment.replace(
    "emptyDir: {sizeLimit: 256Mi}",
    "hostPath: {path: /tmp}",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="where it can write"
# Nowhere to write.
deployment = deployment.replace(
    "          volumeMounts: [{name: tmp, mountPath: /tmp}]\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="the image"
# Whatever was built last.
deployment = deployment.replace(
    "desk:1.0.0",
    "desk:latest",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="number of containers"
# A second container, with none of this.
deployment = deployment.replace(
    "      volumes: [",
    "        - {name: shell, image: busybox, resources: {limits: {cpu: 1, memory: 1Gi}}}\n      volumes: [",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="seconds of preStop"
# SIGTERM while others still send requests.
deployment = deployment.replace(
    "          lifecycle: {preStop: {sleep: {seconds: 5}}}\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="from SIGTERM to SIGKILL"
# The wait counts within the grace period.
deployment = deployment.replace(
    "GracePeriodSeconds: 30",
    "GracePeriodSeconds: 20",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="labels of the pods"
# A selector that misses its own pods.
deployment = deployment.replace(
    "selector: {matchLabels: {app: desk}}",
    "selector: {matchLabels: {app: shop}}",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="port of the pods to which port 80"
# A port that nothing listens on.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="selector of the Service"
# Labels of other pods.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="type of the Service"
# Open to the internet.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {type: LoadBalancer, selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="namespace of the Service"
# In another namespace.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk, namespace: shop}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what the text of the Service holds"
# Two resources in one text.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: desk}}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="the text of the Service"
# A tag that would run a program.
service = "!!python/object/apply:os.getcwd []"


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="aliases"
# Nine levels of nine, which are 300 million words.
service = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'word'] * 9)}]" for n in range(9))


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="the key 'name' twice"
# A key twice, of which one would be lost.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk, name: shop}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="the text of the Service"
# Not closed.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="clusterIP"
# Headless Service: no translation of port 80 to 8000.

deployment = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: desk
spec:
  replicas: 2
  selector:
    matchLabels: {app: desk}
  template:
    metadata:
      labels: {app: desk}
    spec:
      terminationGracePeriodSeconds: 35
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      containers:
      - name: desk
        image: ghcr.io/lantern-gear/desk:1.0.0
        ports:
        - {name: http, containerPort: 8000}
        startupProbe:
          httpGet: {path: /health/live, port: http}
          periodSeconds: 5
          failureThreshold: 15
        livenessProbe:
          httpGet: {path: /health/live, port: http}
          periodSeconds: 10
          failureThreshold: 3
        readinessProbe:
          httpGet: {path: /health/ready, port: http}
          periodSeconds: 5
          failureThreshold: 2
        lifecycle:
          preStop:
            sleep: {seconds: 5}
        resources:
          requests: {cpu: 250m, memory: 400Mi}
          limits: {memory: 1Gi}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts:
        - {name: tmp, mountPath: /tmp}
      volumes:
      - {name: tmp, emptyDir: {}}
"""
service = """
apiVersion: v1
kind: Service
metadata:
  name: desk
spec:
  type: ClusterIP
  clusterIP: None
  selector: {app: desk}
  ports:
  - {port: 80, targetPort: http}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="publishNotReadyAddresses"
# PublishNotReadyAddresses: a pod that is not ready gets requests.

deployment = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: desk
spec:
  replicas: 2
  selector:
    matchLabels: {app: desk}
  template:
    metadata:
      labels: {app: desk}
    spec:
      terminationGracePeriodSeconds: 35
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      containers:
      - name: desk
        image: ghcr.io/lantern-gear/desk:1.0.0
        ports:
        - {name: http, containerPort: 8000}
        startupProbe:
          httpGet: {path: /health/live, port: http}
          periodSeconds: 5
          failureThreshold: 15
        livenessProbe:
          httpGet: {path: /health/live, port: http}
          periodSeconds: 10
          failureThreshold: 3
        readinessProbe:
          httpGet: {path: /health/ready, port: http}
          periodSeconds: 5
          failureThreshold: 2
        lifecycle:
          preStop:
            sleep: {seconds: 5}
        resources:
          requests: {cpu: 250m, memory: 400Mi}
          limits: {memory: 1Gi}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts:
        - {name: tmp, mountPath: /tmp}
      volumes:
      - {name: tmp, emptyDir: {}}
"""
service = """
apiVersion: v1
kind: Service
metadata:
  name: desk
spec:
  type: ClusterIP
  publishNotReadyAddresses: true
  selector: {app: desk}
  ports:
  - {port: 80, targetPort: http}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="externalIPs"
# ExternalIPs: reached from outside.

deployment = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: desk
spec:
  replicas: 2
  selector:
    matchLabels: {app: desk}
  template:
    metadata:
      labels: {app: desk}
    spec:
      terminationGracePeriodSeconds: 35
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      containers:
      - name: desk
        image: ghcr.io/lantern-gear/desk:1.0.0
        ports:
        - {name: http, containerPort: 8000}
        startupProbe:
          httpGet: {path: /health/live, port: http}
          periodSeconds: 5
          failureThreshold: 15
        livenessProbe:
          httpGet: {path: /health/live, port: http}
          periodSeconds: 10
          failureThreshold: 3
        readinessProbe:
          httpGet: {path: /health/ready, port: http}
          periodSeconds: 5
          failureThreshold: 2
        lifecycle:
          preStop:
            sleep: {seconds: 5}
        resources:
          requests: {cpu: 250m, memory: 400Mi}
          limits: {memory: 1Gi}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts:
        - {name: tmp, mountPath: /tmp}
      volumes:
      - {name: tmp, emptyDir: {}}
"""
service = """
apiVersion: v1
kind: Service
metadata:
  name: desk
spec:
  type: ClusterIP
  externalIPs: [203.0.113.7]
  selector: {app: desk}
  ports:
  - {port: 80, targetPort: http}
"""


# %% name="check-6-5-1" tags=["check"] exercise="6.5.1"
check("6.5.1", deployment, service)

# %% name="help-6-5-1"
# hint("6.5.1")
# solution("6.5.1")

# %% [markdown]
# ### Stage 6.5.2: replicas that come and go (10 minutes, medium)
#
# *Concepts: horizontal autoscaling, disruption budgets, topology spread, rolling updates.*
#
# The count of pods is changed by three hands: the autoscaler, a release, and whoever empties a machine to mend it. The last asks for each pod
# whether it may be **evicted**, and a PodDisruptionBudget answers. **Predict:** which of these budgets let a machine be emptied at every count,
# and leave somebody to answer?

# %% name="budgets"
tried = [{"minAvailable": 2}, {"minAvailable": "50%"}, {"maxUnavailable": 1}, {"maxUnavailable": "60%"}]
table(
    [
        {"budget": str(each), **{f"of {count}": evictions({"spec": each}, count) for count in (2, 3, 5, 12)}}
        for each in tried
    ]
)

# %% [markdown]
# A 0 means that the machine is never emptied: at night, with two replicas, the first budget stops the cluster's update. The last one lets both of
# two go at once.
#
# Write `rolled(deployment)`, which returns the Deployment changed, and `scaled(deployment, least, most)`, which returns a list of two resources for it.
# Both get a Deployment as Python data, leave it as it is, and work for any.
#
# - `rolled` takes `replicas` out, since the autoscaler sets it. A release takes no pod away before its successor is ready, at any count. The pods
#   are spread over zones (`topology.kubernetes.io/zone`) and nodes (`kubernetes.io/hostname`), with a skew of 1; where that cannot be, they run
#   anyway. All else stays, constraints of other keys too.
# - `scaled` returns a HorizontalPodAutoscaler and a PodDisruptionBudget, in the Deployment's namespace, which Kubernetes 1.34 takes.
# - The autoscaler holds `least` to `most` replicas by the pods' metric `desk_requests_in_flight`, 20 on average. It grows at once, and shrinks after
#   5 minutes or more.
# - At each count from `least` (2 or more) to `most` at least one pod can be evicted, and at most half of them.
# - Spread and budget select the Deployment's own pods, of this and later releases, and no others.


# %% name="ex-6-5-2" tags=["exercise"] exercise="6.5.2"
### BEGIN SOLUTION
### STUB: def rolled(deployment):
### STUB:     ...
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    keys, pod = ("topology.kubernetes.io/zone", "kubernetes.io/hostname"), spec["template"]["spec"]
    others = [each for each in pod.get("topologySpreadConstraints", []) if each["topologyKey"] not in keys]
    pod["topologySpreadConstraints"] = others + [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in keys
    ]
    return made


### END SOLUTION


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="the Deployment handed to rolled"
# The given one is changed.
def rolled(deployment):
    made = deployment
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="replicas of the Deployment"
# Two hands set the count.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="0 away and 1 or more more"
# Kubernetes' default, a quarter away.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="type of the strategy"
# All pods at once.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "Recreate"}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="of topology.kubernetes.io/zone"
# Nodes alone: all may be in one zone.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("kubernetes.io/hostname",)
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="maxSkew and whenUnsatisfiable"
# With one zone full, no pod starts.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="the pods that are spread"
# Labels of this release: the next one is spread for itself.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": spec["template"]["metadata"]["labels"]},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="all else of the Deployment"
# What was there is lost.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return {**made, "metadata": {"name": made["metadata"]["name"]}}


# %% name="ex-6-5-2-scaled" tags=["exercise"] exercise="6.5.2"
### BEGIN SOLUTION
### STUB: def scaled(deployment, least, most):
### STUB:     ...
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


### END SOLUTION


# %% tags=["right"] exercise="6.5.2"
# YAML with gaps, filled in; a share of the pods as the budget; defaults left out.
import copy
import json

import yaml

SPREAD = """
- {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {own}}}
- {{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {own}}}
"""
SCALED = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: {name}-budget, namespace: {namespace}}}
spec: {{minAvailable: 50%, selector: {own}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}
  minReplicas: {least}
  maxReplicas: {most}
  metrics:
    - type: Pods
      pods: {{metric: {{name: desk_requests_in_flight}}, target: {{type: AverageValue, averageValue: "20"}}}}
"""


def rolled(deployment):
    spec = {key: value for key, value in copy.deepcopy(deployment)["spec"].items() if key != "replicas"}
    spec["strategy"] = {"rollingUpdate": {"maxUnavailable": "0%", "maxSurge": "50%"}}
    spread = yaml.safe_load(SPREAD.format(own=json.dumps(spec["selector"])))
    template = spec["template"]
    spread += template["spec"].get("topologySpreadConstraints", [])
    spec["template"] = {**template, "spec": {**template["spec"], "topologySpreadConstraints": spread}}
    return {**deployment, "spec": spec}


def scaled(deployment, least, most):
    own = json.dumps(deployment["spec"]["selector"])
    return list(yaml.safe_load_all(SCALED.format(own=own, least=least, most=most, **deployment["metadata"])))


# %% tags=["right"] exercise="6.5.2"
# The budget reckoned from `least`; labels as expressions.
import copy


def own(deployment):
    selector = deployment["spec"]["selector"]
    chosen = selector["matchLabels"].items()
    each = [{"key": key, "operator": "In", "values": [value]} for key, value in chosen]
    return {"matchExpressions": each + selector.get("matchExpressions", [])}


def rolled(deployment):
    made = copy.deepcopy(deployment)
    made["spec"].pop("replicas")
    made["spec"].update(strategy={"rollingUpdate": {"maxUnavailable": 0}})
    apart = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": own(deployment)}
    keys = ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    made["spec"]["template"]["spec"].setdefault("topologySpreadConstraints", []).extend(
        {**apart, "topologyKey": key} for key in keys
    )
    return made


def scaled(deployment, least, most):
    def of(kind, version, **spec):
        about = {"name": "x", "namespace": deployment["metadata"]["namespace"]}
        return {"apiVersion": version, "kind": kind, "metadata": about, "spec": spec}

    pods = {
        "metric": {"name": "desk_requests_in_flight"},
        "target": {"type": "AverageValue", "averageValue": 20},
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    bounds = {"minReplicas": least, "maxReplicas": most, "metrics": [{"type": "Pods", "pods": pods}]}
    slow = {"scaleDown": {"stabilizationWindowSeconds": 600}}
    return (
        of("HorizontalPodAutoscaler", "autoscaling/v2", scaleTargetRef=target, behavior=slow, **bounds),
        of("PodDisruptionBudget", "policy/v1", selector=own(deployment), maxUnavailable=least // 2),
    )


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="what is scaled"
# One Deployment by heart.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "desk"},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="namespace of the"
# In whatever namespace is the default.
def scaled(deployment, least, most):
    about = {key: deployment["metadata"][key] for key in ("name",) if key in deployment["metadata"]}
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="minReplicas and maxReplicas"
# At least one, whatever was asked.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": 1,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="what it scales by"
# By the processor, which waits for the model.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="seconds that scaleUp waits"
# It grows after a minute.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 60},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="seconds that scaleDown waits"
# It shrinks and grows with each wave.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 30},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="got 0"
# At the least count, no eviction ever.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"minAvailable": least, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="expected 1 to 1, got 2"
# Both of two at once.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": "60%", "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="the pods that the budget protects"
# All pods of the namespace.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": {}}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="what Kubernetes 1.34 says"
# A field of version v1.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "targetCPUUtilizationPercentage": 80,
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["right"] exercise="6.5.2"
# The same quantity in thousandths.

import copy


def rolled(deployment):
    changed = copy.deepcopy(deployment)
    spec = changed["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    own = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": copy.deepcopy(spec["selector"]),
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod = spec["template"]["spec"]
    others = [
        each
        for each in pod.get("topologySpreadConstraints", [])
        if each["topologyKey"] not in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod["topologySpreadConstraints"] = others + own
    return changed


def scaled(deployment, least, most):
    meta = {"name": deployment["metadata"]["name"]}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": dict(meta),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"]},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "desk_requests_in_flight"},
                        "target": {"type": "AverageValue", "averageValue": "20000m"},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0},
                "scaleDown": {"stabilizationWindowSeconds": 300},
            },
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": dict(meta),
        "spec": {"maxUnavailable": 1, "selector": copy.deepcopy(deployment["spec"]["selector"])},
    }
    return [scaler, budget]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="matchLabelKeys"
# MatchLabelKeys pod-template-hash: each release is spread alone.

import copy


def rolled(deployment):
    changed = copy.deepcopy(deployment)
    spec = changed["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    own = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "matchLabelKeys": ["pod-template-hash"],
            "labelSelector": copy.deepcopy(spec["selector"]),
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod = spec["template"]["spec"]
    others = [
        each
        for each in pod.get("topologySpreadConstraints", [])
        if each["topologyKey"] not in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod["topologySpreadConstraints"] = others + own
    return changed


def scaled(deployment, least, most):
    meta = {"name": deployment["metadata"]["name"]}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": dict(meta),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"]},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "desk_requests_in_flight"},
                        "target": {"type": "AverageValue", "averageValue": "20"},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0},
                "scaleDown": {"stabilizationWindowSeconds": 300},
            },
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": dict(meta),
        "spec": {"maxUnavailable": 1, "selector": copy.deepcopy(deployment["spec"]["selector"])},
    }
    return [scaler, budget]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="constraint of example.com/rack"
# Spread constraints of before for other keys are lost.

import copy


def rolled(deployment):
    changed = copy.deepcopy(deployment)
    spec = changed["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    own = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": copy.deepcopy(spec["selector"]),
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod = spec["template"]["spec"]
    others = [
        each
        for each in pod.get("topologySpreadConstraints", [])
        if each["topologyKey"] not in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod["topologySpreadConstraints"] = own
    return changed


def scaled(deployment, least, most):
    meta = {"name": deployment["metadata"]["name"]}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": dict(meta),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"]},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "desk_requests_in_flight"},
                        "target": {"type": "AverageValue", "averageValue": "20"},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0},
                "scaleDown": {"stabilizationWindowSeconds": 300},
            },
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": dict(meta),
        "spec": {"maxUnavailable": 1, "selector": copy.deepcopy(deployment["spec"]["selector"])},
    }
    return [scaler, budget]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="all else of the Deployment"
# MinReadySeconds given up / strategy other fields lost: paused, minReadySeconds out.

import copy


def rolled(deployment):
    changed = copy.deepcopy(deployment)
    spec = changed["spec"]
    spec.pop("replicas", None)
    spec.pop("minReadySeconds", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    own = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": copy.deepcopy(spec["selector"]),
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod = spec["template"]["spec"]
    others = [
        each
        for each in pod.get("topologySpreadConstraints", [])
        if each["topologyKey"] not in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod["topologySpreadConstraints"] = others + own
    return changed


def scaled(deployment, least, most):
    meta = {"name": deployment["metadata"]["name"]}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": dict(meta),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"]},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "desk_requests_in_flight"},
                        "target": {"type": "AverageValue", "averageValue": "20"},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0},
                "scaleDown": {"stabilizationWindowSeconds": 300},
            },
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": dict(meta),
        "spec": {"maxUnavailable": 1, "selector": copy.deepcopy(deployment["spec"]["selector"])},
    }
    return [scaler, budget]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="the pods that the budget protects"
# MatchExpressions lost in the budget.

import copy


def rolled(deployment):
    changed = copy.deepcopy(deployment)
    spec = changed["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    own = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": copy.deepcopy(spec["selector"]),
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod = spec["template"]["spec"]
    others = [
        each
        for each in pod.get("topologySpreadConstraints", [])
        if each["topologyKey"] not in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod["topologySpreadConstraints"] = others + own
    return changed


def scaled(deployment, least, most):
    meta = {"name": deployment["metadata"]["name"]}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": dict(meta),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"]},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "desk_requests_in_flight"},
                        "target": {"type": "AverageValue", "averageValue": "20"},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0},
                "scaleDown": {"stabilizationWindowSeconds": 300},
            },
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": dict(meta),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": deployment["spec"]["selector"].get("matchLabels", {})},
        },
    }
    return [scaler, budget]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="policies of scaleUp"
# Grows one pod in five minutes.

import copy


def rolled(deployment):
    changed = copy.deepcopy(deployment)
    spec = changed["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    own = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": copy.deepcopy(spec["selector"]),
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod = spec["template"]["spec"]
    others = [
        each
        for each in pod.get("topologySpreadConstraints", [])
        if each["topologyKey"] not in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod["topologySpreadConstraints"] = others + own
    return changed


def scaled(deployment, least, most):
    meta = {"name": deployment["metadata"]["name"]}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": dict(meta),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"]},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "desk_requests_in_flight"},
                        "target": {"type": "AverageValue", "averageValue": "20"},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
                },
                "scaleDown": {"stabilizationWindowSeconds": 300},
            },
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": dict(meta),
        "spec": {"maxUnavailable": 1, "selector": copy.deepcopy(deployment["spec"]["selector"])},
    }
    return [scaler, budget]


# %% name="check-6-5-2" tags=["check"] exercise="6.5.2"
check("6.5.2", rolled, scaled)

# %% name="help-6-5-2"
# hint("6.5.2")
# solution("6.5.2")

# %% [markdown]
# ### Stage 6.5.3: secrets and network (10 minutes, medium)
#
# *Concepts: references to secrets, service accounts, default deny.*
#
# In a cluster without network policies everybody reaches everybody: a pod that was broken into asks the database, or the cloud's metadata for keys.

# %% name="open-network"
desk_pod = Pod("desk", {"app": "desk"}, {"http": 8000})
attempts = {
    "the database, from the desk": (desk_pod, Pod("data", {"app": "postgres"}, {}), 5432),
    "the database, from a game": (
        Pod("games", {"app": "chess"}, {}),
        Pod("data", {"app": "postgres"}, {}),
        5432,
    ),
    "the cloud's metadata": (desk_pod, Pod("", {}, {}, "169.254.169.254"), 80),
}
table([{"to": name, "without policies": connects([], *ends)} for name, ends in attempts.items()])

# %% [markdown]
# Write `sealed(deployment, secrets)` and `network(deployment)`. Both get a Deployment as Python data, leave it as it is, and work for any.
#
# - `sealed` returns the Deployment changed, and a ServiceAccount for its pods. `secrets` are the names of variables that hold a secret, most of
#   them written out in the manifest until now; one may come from a Secret already. In what is returned those variables hold no value, nor does anything else that `sealed` adds, not even in base64. (There is
#   no Secret in it: it is made where secrets are kept.)
# - Where the Secret `desk-secrets` has a key of each name, every container, init containers too, starts with the variables that it had. All else of the
#   Deployment stays.
# - The pods run under that account, in their namespace, and its token is not mounted.
# - `network` returns NetworkPolicies of the Deployment's namespace. Into its pods come connections from all pods of the namespaces `gateway` and
#   `monitoring`, to port 8000. Out of them go those to the namespace `data`, ports 5432 and 6379, and to the pods `k8s-app: kube-dns` in `kube-system`, port
#   53, UDP and TCP. All others are TCP.
# - Nothing else goes in or out of any pod of the namespace.


# %% name="ex-6-5-3" tags=["exercise"] exercise="6.5.3"
### BEGIN SOLUTION
### STUB: def sealed(deployment, secrets):
### STUB:     ...
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets and "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


### END SOLUTION


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="the Deployment handed to sealed"
# The given one is changed.
def sealed(deployment, secrets):
    made = deployment
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets and "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="the value of"
# Init containers are forgotten.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"]:
        for variable in box.get("env", []):
            if variable["name"] in secrets and "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="the value of"
# Hidden as base64.
import base64


def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets and "value" in variable:
                kept = base64.b64encode(variable.pop("value").encode()).decode()
                pod.setdefault("nodeSelector", {})["kept"] = kept
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="with another value than before"
# From another Secret.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets and "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="with another value than before"
# Every variable is taken for a secret.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="service account of the pods"
# The account is there, and nobody runs under it.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets and "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="whether the token is mounted"
# Mounted, as is the default.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets and "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"]}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="all else of the Deployment"
# What was there is lost.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets and "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    made["metadata"] = {"name": about["name"], "namespace": about["namespace"]}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="with another value than before"
# Secrets come last: a variable that names one finds it no more.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        box["env"] = sorted(box.get("env", []), key=lambda each: each["name"] in secrets)
        for variable in box["env"]:
            if variable["name"] in secrets and "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% name="ex-6-5-3-network" tags=["exercise"] exercise="6.5.3"
### BEGIN SOLUTION
### STUB: def network(deployment):
### STUB:     ...
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


### END SOLUTION


# %% tags=["right"] exercise="6.5.3"
# All keys of the Secret at once; YAML text with gaps, one policy for each direction, named port.
import copy
import json

import yaml

POLICIES = """
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {{name: default-deny, namespace: {namespace}}}
spec: {{podSelector: {{}}, policyTypes: [Egress, Ingress]}}
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {{name: in, namespace: {namespace}}}
spec:
  podSelector: {own}
  ingress:
    - from:
        - namespaceSelector:
            matchExpressions: [{{key: kubernetes.io/metadata.name, operator: In, values: [gateway, monitoring]}}]
      ports: [{{port: 8000, protocol: TCP}}]
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {{name: out, namespace: {namespace}}}
spec:
  podSelector: {own}
  policyTypes: [Egress]
  egress:
    - to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: data}}}}}}]
      ports: [{{port: 5432}}]
    - to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: data}}}}}}]
      ports: [{{port: 6379, endPort: 6379}}]
    - to:
        - namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: kube-system}}}}
          podSelector: {{matchExpressions: [{{key: k8s-app, operator: In, values: [kube-dns]}}]}}
      ports: [{{port: 53}}, {{port: 53, protocol: UDP}}]
"""


def network(deployment):
    own = json.dumps(deployment["spec"]["selector"])
    return list(yaml.safe_load_all(POLICIES.format(own=own, namespace=deployment["metadata"]["namespace"])))


def sealed(deployment, secrets):
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "desk-account", "namespace": deployment["metadata"]["namespace"]},
        "automountServiceAccountToken": False,
    }
    made = copy.deepcopy(deployment)
    pod = made["spec"]["template"]["spec"]
    pod["serviceAccountName"] = "desk-account"
    for box in (*pod["containers"], *pod.get("initContainers", ())):
        plain = [each for each in box.get("env", []) if each["name"] not in secrets]
        if plain != box.get("env", []):
            box["env"], box["envFrom"] = plain, [{"secretRef": {"name": "desk-secrets"}}]
    return made, account


# %% tags=["right"] exercise="6.5.3"
# A table of what is open, a policy for each row; the Deployment rebuilt rather than changed.
OPEN = [
    ("ingress", "gateway", {}, [(8000, "TCP")]),
    ("ingress", "monitoring", {}, [(8000, "TCP")]),
    ("egress", "data", {}, [(5432, "TCP"), (6379, "TCP")]),
    ("egress", "kube-system", {"k8s-app": "kube-dns"}, [(53, "UDP"), (53, "TCP")]),
]


def network(deployment):
    about, own = deployment["metadata"], deployment["spec"]["selector"]
    specs = [{"podSelector": {}, "policyTypes": [each]} for each in ("Ingress", "Egress")]
    for way, space, labels, ports in OPEN:
        peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}}}
        peer |= {"podSelector": {"matchLabels": labels}}
        opened = [{"port": port, "protocol": protocol} for port, protocol in ports]
        rule = {"from" if way == "ingress" else "to": [peer], "ports": opened}
        specs.append({"podSelector": own, "policyTypes": [way.title()], way: [rule]})
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"{about['name']}-{number}", "namespace": about["namespace"]},
            "spec": spec,
        }
        for number, spec in enumerate(specs)
    ]


def hidden(box, secrets):
    def variable(each):
        if each["name"] not in secrets:
            return each
        return {
            "name": each["name"],
            "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": each["name"]}},
        }

    return {**box, "env": [variable(each) for each in box.get("env", [])]}


def sealed(deployment, secrets):
    spec, place = deployment["spec"], deployment["metadata"]["namespace"]
    pod = {**spec["template"]["spec"], "serviceAccountName": "who", "automountServiceAccountToken": False}
    pod |= {kind: [hidden(box, secrets) for box in pod[kind]] for kind in ("containers", "initContainers")}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "who", "namespace": place}}
    return [{**deployment, "spec": {**spec, "template": {**spec["template"], "spec": pod}}}, account]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="of another pod of the namespace"
# Only the desk's own pods are closed.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": own}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="let through"
# Ingress alone: everything goes out.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="let through"
# Any port.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="to kube-system, port 53"
# All pods of kube-system answer for names.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system")]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="port 53, UDP"
# TCP alone: names are not found.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="port 53"
# Pods with that label, in the own namespace.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [{"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="from monitoring, port 8000"
# Monitoring is forgotten.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="port 443, TCP"
# The whole internet, for a model that is not there.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy(
            "desk",
            {
                "podSelector": own,
                "ingress": [callers],
                "egress": [dns, data, {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}],
            },
        ),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="port 6379"
# PostgreSQL alone.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="kinds and namespaces"
# In the default namespace.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": "default"}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="with another value than before"
# A container gets secrets that it had not.

import base64
import copy
import json


def scrub(value, secrets):
    if isinstance(value, dict):
        return {k: scrub(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [scrub(v, secrets) for v in value]
    if isinstance(value, str):
        for name, text in secrets:
            value = value.replace(text, f"$({name})")
    return value


def sealed(deployment, secrets):
    deployment = copy.deepcopy(deployment)
    spec = deployment["spec"]["template"]["spec"]
    boxes = [*spec["containers"], *spec.get("initContainers", [])]
    values = [
        (e["name"], e["value"])
        for b in boxes
        for e in b.get("env", [])
        if e["name"] in secrets and e.get("value")
    ]
    forms = [
        *{v for _, v in values},
        *{base64.b64encode(v.encode()).decode() for _, v in values},
        *{json.dumps(v)[1:-1] for _, v in values},
    ]
    for meta in (deployment["metadata"], deployment["spec"]["template"].get("metadata", {})):
        for kind in ("annotations", "labels"):
            for key, text in list((meta.get(kind) or {}).items()):
                if any(form in str(text) for form in forms):
                    del meta[kind][key]
    for box in boxes:
        own = {e["name"]: e["value"] for e in box.get("env", []) if e["name"] in secrets and e.get("value")}
        rest = []
        first = []
        for e in box.get("env", []):
            if (e["name"] in secrets and "value" in e) or (e["name"] in secrets and "valueFrom" not in e):
                first.append(
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                )
            else:
                rest.append(scrub(e, own.items()) if "value" in e else e)
        if "env" in box:
            first = [
                {"name": n, "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": n}}}
                for n in secrets
            ]
            box["env"] = first + rest
        if 0:
            box["env"] = (
                first + rest
                if any(f"$({n})" in str(r.get("value")) for n in own for r in rest)
                else [
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                    if e["name"] in secrets and "valueFrom" not in e
                    else e
                    for e in box["env"]
                ]
            )
        for part in ("args", "command"):
            if part in box:
                box[part] = scrub(box[part], own.items())
    name = deployment["metadata"]["name"]
    spec["serviceAccountName"] = name
    spec.pop("serviceAccount", None)
    spec["automountServiceAccountToken"] = False
    meta = {"name": name}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    return deployment, {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta,
        "automountServiceAccountToken": False,
    }


def network(deployment):
    def policy(name, spec):
        meta = {"name": name}
        if "namespace" in deployment["metadata"]:
            meta["namespace"] = deployment["metadata"]["namespace"]
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}

    def space(name):
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}

    def tcp(*ports):
        return [{"protocol": "TCP", "port": port} for port in ports]

    dns = {**space("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    return [
        policy("deny-all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        policy(
            deployment["metadata"]["name"] + "-own",
            {
                "podSelector": copy.deepcopy(deployment["spec"]["selector"]),
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [space("gateway"), space("monitoring")], "ports": tcp(8000)}],
                "egress": [
                    {"to": [space("data")], "ports": tcp(5432, 6379)},
                    {
                        "to": [dns],
                        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
                    },
                ],
            },
        ),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="came from a Secret before"
# A secret that came from somewhere else (valueFrom) is taken out.

import base64
import copy
import json


def scrub(value, secrets):
    if isinstance(value, dict):
        return {k: scrub(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [scrub(v, secrets) for v in value]
    if isinstance(value, str):
        for name, text in secrets:
            value = value.replace(text, f"$({name})")
    return value


def sealed(deployment, secrets):
    deployment = copy.deepcopy(deployment)
    spec = deployment["spec"]["template"]["spec"]
    boxes = [*spec["containers"], *spec.get("initContainers", [])]
    values = [
        (e["name"], e["value"])
        for b in boxes
        for e in b.get("env", [])
        if e["name"] in secrets and e.get("value")
    ]
    forms = [
        *{v for _, v in values},
        *{base64.b64encode(v.encode()).decode() for _, v in values},
        *{json.dumps(v)[1:-1] for _, v in values},
    ]
    for meta in (deployment["metadata"], deployment["spec"]["template"].get("metadata", {})):
        for kind in ("annotations", "labels"):
            for key, text in list((meta.get(kind) or {}).items()):
                if any(form in str(text) for form in forms):
                    del meta[kind][key]
    for box in boxes:
        own = {e["name"]: e["value"] for e in box.get("env", []) if e["name"] in secrets and e.get("value")}
        rest = []
        first = []
        for e in box.get("env", []):
            if e["name"] in secrets and "valueFrom" in e:
                continue
            if (e["name"] in secrets and "value" in e) or (e["name"] in secrets and "valueFrom" not in e):
                first.append(
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                )
            else:
                rest.append(scrub(e, own.items()) if "value" in e else e)
        if "env" in box:
            box["env"] = (
                first + rest
                if any(f"$({n})" in str(r.get("value")) for n in own for r in rest)
                else [
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                    if e["name"] in secrets and "valueFrom" not in e
                    else e
                    for e in box["env"]
                    if not (e["name"] in secrets and "valueFrom" in e)
                ]
            )
        for part in ("args", "command"):
            if part in box:
                box[part] = scrub(box[part], own.items())
    name = deployment["metadata"]["name"]
    spec["serviceAccountName"] = name
    spec.pop("serviceAccount", None)
    spec["automountServiceAccountToken"] = False
    meta = {"name": name}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    return deployment, {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta,
        "automountServiceAccountToken": False,
    }


def network(deployment):
    def policy(name, spec):
        meta = {"name": name}
        if "namespace" in deployment["metadata"]:
            meta["namespace"] = deployment["metadata"]["namespace"]
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}

    def space(name):
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}

    def tcp(*ports):
        return [{"protocol": "TCP", "port": port} for port in ports]

    dns = {**space("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    return [
        policy("deny-all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        policy(
            deployment["metadata"]["name"] + "-own",
            {
                "podSelector": copy.deepcopy(deployment["spec"]["selector"]),
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [space("gateway"), space("monitoring")], "ports": tcp(8000)}],
                "egress": [
                    {"to": [space("data")], "ports": tcp(5432, 6379)},
                    {
                        "to": [dns],
                        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
                    },
                ],
            },
        ),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="another pod of the namespace"
# MatchExpressions of the selector are lost.

import base64
import copy
import json


def scrub(value, secrets):
    if isinstance(value, dict):
        return {k: scrub(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [scrub(v, secrets) for v in value]
    if isinstance(value, str):
        for name, text in secrets:
            value = value.replace(text, f"$({name})")
    return value


def sealed(deployment, secrets):
    deployment = copy.deepcopy(deployment)
    spec = deployment["spec"]["template"]["spec"]
    boxes = [*spec["containers"], *spec.get("initContainers", [])]
    values = [
        (e["name"], e["value"])
        for b in boxes
        for e in b.get("env", [])
        if e["name"] in secrets and e.get("value")
    ]
    forms = [
        *{v for _, v in values},
        *{base64.b64encode(v.encode()).decode() for _, v in values},
        *{json.dumps(v)[1:-1] for _, v in values},
    ]
    for meta in (deployment["metadata"], deployment["spec"]["template"].get("metadata", {})):
        for kind in ("annotations", "labels"):
            for key, text in list((meta.get(kind) or {}).items()):
                if any(form in str(text) for form in forms):
                    del meta[kind][key]
    for box in boxes:
        own = {e["name"]: e["value"] for e in box.get("env", []) if e["name"] in secrets and e.get("value")}
        rest = []
        first = []
        for e in box.get("env", []):
            if (e["name"] in secrets and "value" in e) or (e["name"] in secrets and "valueFrom" not in e):
                first.append(
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                )
            else:
                rest.append(scrub(e, own.items()) if "value" in e else e)
        if "env" in box:
            box["env"] = (
                first + rest
                if any(f"$({n})" in str(r.get("value")) for n in own for r in rest)
                else [
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                    if e["name"] in secrets and "valueFrom" not in e
                    else e
                    for e in box["env"]
                ]
            )
        for part in ("args", "command"):
            if part in box:
                box[part] = scrub(box[part], own.items())
    name = deployment["metadata"]["name"]
    spec["serviceAccountName"] = name
    spec.pop("serviceAccount", None)
    spec["automountServiceAccountToken"] = False
    meta = {"name": name}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    return deployment, {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta,
        "automountServiceAccountToken": False,
    }


def network(deployment):
    def policy(name, spec):
        meta = {"name": name}
        if "namespace" in deployment["metadata"]:
            meta["namespace"] = deployment["metadata"]["namespace"]
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}

    def space(name):
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}

    def tcp(*ports):
        return [{"protocol": "TCP", "port": port} for port in ports]

    dns = {**space("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    return [
        policy("deny-all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        policy(
            deployment["metadata"]["name"] + "-own",
            {
                "podSelector": {"matchLabels": deployment["spec"]["selector"].get("matchLabels", {})},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [space("gateway"), space("monitoring")], "ports": tcp(8000)}],
                "egress": [
                    {"to": [space("data")], "ports": tcp(5432, 6379)},
                    {
                        "to": [dns],
                        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
                    },
                ],
            },
        ),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="port 6000"
# A range of ports 5432 to 6379.

import base64
import copy
import json


def scrub(value, secrets):
    if isinstance(value, dict):
        return {k: scrub(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [scrub(v, secrets) for v in value]
    if isinstance(value, str):
        for name, text in secrets:
            value = value.replace(text, f"$({name})")
    return value


def sealed(deployment, secrets):
    deployment = copy.deepcopy(deployment)
    spec = deployment["spec"]["template"]["spec"]
    boxes = [*spec["containers"], *spec.get("initContainers", [])]
    values = [
        (e["name"], e["value"])
        for b in boxes
        for e in b.get("env", [])
        if e["name"] in secrets and e.get("value")
    ]
    forms = [
        *{v for _, v in values},
        *{base64.b64encode(v.encode()).decode() for _, v in values},
        *{json.dumps(v)[1:-1] for _, v in values},
    ]
    for meta in (deployment["metadata"], deployment["spec"]["template"].get("metadata", {})):
        for kind in ("annotations", "labels"):
            for key, text in list((meta.get(kind) or {}).items()):
                if any(form in str(text) for form in forms):
                    del meta[kind][key]
    for box in boxes:
        own = {e["name"]: e["value"] for e in box.get("env", []) if e["name"] in secrets and e.get("value")}
        rest = []
        first = []
        for e in box.get("env", []):
            if (e["name"] in secrets and "value" in e) or (e["name"] in secrets and "valueFrom" not in e):
                first.append(
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                )
            else:
                rest.append(scrub(e, own.items()) if "value" in e else e)
        if "env" in box:
            box["env"] = (
                first + rest
                if any(f"$({n})" in str(r.get("value")) for n in own for r in rest)
                else [
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                    if e["name"] in secrets and "valueFrom" not in e
                    else e
                    for e in box["env"]
                ]
            )
        for part in ("args", "command"):
            if part in box:
                box[part] = scrub(box[part], own.items())
    name = deployment["metadata"]["name"]
    spec["serviceAccountName"] = name
    spec.pop("serviceAccount", None)
    spec["automountServiceAccountToken"] = False
    meta = {"name": name}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    return deployment, {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta,
        "automountServiceAccountToken": False,
    }


def network(deployment):
    def policy(name, spec):
        meta = {"name": name}
        if "namespace" in deployment["metadata"]:
            meta["namespace"] = deployment["metadata"]["namespace"]
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}

    def space(name):
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}

    def tcp(*ports):
        return [{"protocol": "TCP", "port": port} for port in ports]

    dns = {**space("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    return [
        policy("deny-all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        policy(
            deployment["metadata"]["name"] + "-own",
            {
                "podSelector": copy.deepcopy(deployment["spec"]["selector"]),
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [space("gateway"), space("monitoring")], "ports": tcp(8000)}],
                "egress": [
                    {"to": [space("data")], "ports": [{"protocol": "TCP", "port": 5432, "endPort": 6379}]},
                    {
                        "to": [dns],
                        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
                    },
                ],
            },
        ),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="SCTP"
# SCTP to 8000 in, too.

import base64
import copy
import json


def scrub(value, secrets):
    if isinstance(value, dict):
        return {k: scrub(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [scrub(v, secrets) for v in value]
    if isinstance(value, str):
        for name, text in secrets:
            value = value.replace(text, f"$({name})")
    return value


def sealed(deployment, secrets):
    deployment = copy.deepcopy(deployment)
    spec = deployment["spec"]["template"]["spec"]
    boxes = [*spec["containers"], *spec.get("initContainers", [])]
    values = [
        (e["name"], e["value"])
        for b in boxes
        for e in b.get("env", [])
        if e["name"] in secrets and e.get("value")
    ]
    forms = [
        *{v for _, v in values},
        *{base64.b64encode(v.encode()).decode() for _, v in values},
        *{json.dumps(v)[1:-1] for _, v in values},
    ]
    for meta in (deployment["metadata"], deployment["spec"]["template"].get("metadata", {})):
        for kind in ("annotations", "labels"):
            for key, text in list((meta.get(kind) or {}).items()):
                if any(form in str(text) for form in forms):
                    del meta[kind][key]
    for box in boxes:
        own = {e["name"]: e["value"] for e in box.get("env", []) if e["name"] in secrets and e.get("value")}
        rest = []
        first = []
        for e in box.get("env", []):
            if (e["name"] in secrets and "value" in e) or (e["name"] in secrets and "valueFrom" not in e):
                first.append(
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                )
            else:
                rest.append(scrub(e, own.items()) if "value" in e else e)
        if "env" in box:
            box["env"] = (
                first + rest
                if any(f"$({n})" in str(r.get("value")) for n in own for r in rest)
                else [
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                    if e["name"] in secrets and "valueFrom" not in e
                    else e
                    for e in box["env"]
                ]
            )
        for part in ("args", "command"):
            if part in box:
                box[part] = scrub(box[part], own.items())
    name = deployment["metadata"]["name"]
    spec["serviceAccountName"] = name
    spec.pop("serviceAccount", None)
    spec["automountServiceAccountToken"] = False
    meta = {"name": name}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    return deployment, {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta,
        "automountServiceAccountToken": False,
    }


def network(deployment):
    def policy(name, spec):
        meta = {"name": name}
        if "namespace" in deployment["metadata"]:
            meta["namespace"] = deployment["metadata"]["namespace"]
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}

    def space(name):
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}

    def tcp(*ports):
        return [{"protocol": "TCP", "port": port} for port in ports]

    dns = {**space("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    return [
        policy("deny-all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        policy(
            deployment["metadata"]["name"] + "-own",
            {
                "podSelector": copy.deepcopy(deployment["spec"]["selector"]),
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "from": [space("gateway"), space("monitoring")],
                        "ports": [*tcp(8000), {"protocol": "SCTP", "port": 8000}],
                    }
                ],
                "egress": [
                    {"to": [space("data")], "ports": tcp(5432, 6379)},
                    {
                        "to": [dns],
                        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
                    },
                ],
            },
        ),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="no two are alike"
# Two policies of one name: apply keeps the second.

import base64
import copy
import json


def scrub(value, secrets):
    if isinstance(value, dict):
        return {k: scrub(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [scrub(v, secrets) for v in value]
    if isinstance(value, str):
        for name, text in secrets:
            value = value.replace(text, f"$({name})")
    return value


def sealed(deployment, secrets):
    deployment = copy.deepcopy(deployment)
    spec = deployment["spec"]["template"]["spec"]
    boxes = [*spec["containers"], *spec.get("initContainers", [])]
    values = [
        (e["name"], e["value"])
        for b in boxes
        for e in b.get("env", [])
        if e["name"] in secrets and e.get("value")
    ]
    forms = [
        *{v for _, v in values},
        *{base64.b64encode(v.encode()).decode() for _, v in values},
        *{json.dumps(v)[1:-1] for _, v in values},
    ]
    for meta in (deployment["metadata"], deployment["spec"]["template"].get("metadata", {})):
        for kind in ("annotations", "labels"):
            for key, text in list((meta.get(kind) or {}).items()):
                if any(form in str(text) for form in forms):
                    del meta[kind][key]
    for box in boxes:
        own = {e["name"]: e["value"] for e in box.get("env", []) if e["name"] in secrets and e.get("value")}
        rest = []
        first = []
        for e in box.get("env", []):
            if (e["name"] in secrets and "value" in e) or (e["name"] in secrets and "valueFrom" not in e):
                first.append(
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                )
            else:
                rest.append(scrub(e, own.items()) if "value" in e else e)
        if "env" in box:
            box["env"] = (
                first + rest
                if any(f"$({n})" in str(r.get("value")) for n in own for r in rest)
                else [
                    {
                        "name": e["name"],
                        "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": e["name"]}},
                    }
                    if e["name"] in secrets and "valueFrom" not in e
                    else e
                    for e in box["env"]
                ]
            )
        for part in ("args", "command"):
            if part in box:
                box[part] = scrub(box[part], own.items())
    name = deployment["metadata"]["name"]
    spec["serviceAccountName"] = name
    spec.pop("serviceAccount", None)
    spec["automountServiceAccountToken"] = False
    meta = {"name": name}
    if "namespace" in deployment["metadata"]:
        meta["namespace"] = deployment["metadata"]["namespace"]
    return deployment, {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta,
        "automountServiceAccountToken": False,
    }


def network(deployment):
    def policy(name, spec):
        meta = {"name": name}
        if "namespace" in deployment["metadata"]:
            meta["namespace"] = deployment["metadata"]["namespace"]
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}

    def space(name):
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}

    def tcp(*ports):
        return [{"protocol": "TCP", "port": port} for port in ports]

    dns = {**space("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    return [
        policy(
            deployment["metadata"]["name"] + "-own", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        ),
        policy(
            deployment["metadata"]["name"] + "-own",
            {
                "podSelector": copy.deepcopy(deployment["spec"]["selector"]),
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [space("gateway"), space("monitoring")], "ports": tcp(8000)}],
                "egress": [
                    {"to": [space("data")], "ports": tcp(5432, 6379)},
                    {
                        "to": [dns],
                        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
                    },
                ],
            },
        ),
    ]


# %% name="check-6-5-3" tags=["check"] exercise="6.5.3"
check("6.5.3", sealed, network)

# %% name="help-6-5-3"
# hint("6.5.3")
# solution("6.5.3")

# %% [markdown]
# ### Stretch: beside the course's own
#
# The service of notebook 05 has manifests too, in `deploy/kubernetes`, which Kustomize renders. Each line of this table is a place where yours
# (or the starter, while 5.1 is not solved) differs from them. Not every difference is a fault: say of each who needs it.

# %% name="differences"
import subprocess
import sys

from course_lib.paths import ROOT

kubectl = Path(sys.executable).with_name("kubectl")
base = subprocess.run(
    [kubectl, "kustomize", ROOT / "deploy/kubernetes/base"], capture_output=True, check=True
)
of_the_course = next(
    each
    for each in yaml.safe_load_all(base.stdout)
    if (each["kind"], each["metadata"]["name"]) == ("Deployment", "desk")
)
mine = yaml.safe_load(deployment if isinstance(deployment, str) else starter)


# %% name="differences-table"
def pod_of(resource):
    pod = resource["spec"]["template"]["spec"]
    box = {f"containers[0].{key}": value for key, value in pod["containers"][0].items()}
    return {**{key: value for key, value in pod.items() if key != "containers"}, **box}


pods = pod_of(mine), pod_of(of_the_course)
keys = [key for key in sorted({*pods[0], *pods[1]}) if pods[0].get(key) != pods[1].get(key)]
table([{"field": key, "yours": pods[0].get(key, ""), "the course's": pods[1].get(key, "")} for key in keys])

# %% [markdown]
# A request is what is paid for, used or not: nodes are bought until all requests fit. **Predict first:** which of two makes a replica of the course's
# service dear, its processor or its memory? (A price list is an assumption; put yours in.)

# %% name="costs"
CPU_HOUR_USD, GIB_HOUR_USD = 0.035, 0.004  # what a large provider asks, roughly, for a core and for a GiB
requested = of_the_course["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
cores = int(requested["cpu"].removesuffix("m")) / 1000
gib = int(requested["memory"].removesuffix("Mi")) / 1024
table(
    [
        {
            "replicas": count,
            "processor, USD a month": f"{count * cores * CPU_HOUR_USD * 730:.2f}",
            "memory, USD a month": f"{count * gib * GIB_HOUR_USD * 730:.2f}",
        }
        for count in (2, 12)
    ]
)

# %% [markdown]
# A replica waits for its model most of the time, so half a core is generous: measure with `python -m bench capacity` before you pay for it.

# %% [markdown] name="end-5"
# That was project 5. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-6"
# ## Project 6: Monitoring and alerting
#
# Somebody writes: "the desk gave me nonsense on Tuesday." Can you find that request? Was it one, or a tenth of all? Would you have been told?
# In this project metrics, log and traces get to agree, an alert wakes people when it matters, and a dashboard is tried before it is needed.
# (Exercise 5.5 has a first counter and a first alert; this goes on from there, and does not need it.)
#
# | stage | you write | minutes |
# | --- | --- | --- |
# | 6.6.1 | metrics and a structured log of each request | 15 |
# | 6.6.2 | recording rules, and alerts on how fast an error budget burns | 15 |
# | 6.6.3 | a dashboard as data | 10 |
#
# This monitor is written in two minutes, and everybody has seen one like it:

# %% name="given-6-6" tags=["needs"]
import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram  # not Counter: collections has one too
from prometheus_client.openmetrics import exposition

# All outcomes of a request; the first three are successes.
SUCCESS = {"answered": True, "cached": True, "degraded": True, "refused": False, "failed": False}


# %% name="given-first-monitor"
class FirstMonitor:
    def __init__(self, out):
        self.out, self.registry = out, CollectorRegistry()
        self.asked = prometheus_client.Counter(
            "desk_requests", "Requests", ["outcome", "customer"], registry=self.registry
        )

    def count(self, outcome, took_s, request):
        self.asked.labels(outcome, request["customer"]).inc()
        print(f"{outcome} in {took_s} s: {request['question']}", file=self.out)


# %% [markdown]
# **Predict first:** a thousand customers ask once each. How many series are there, and how many lines has the log?

# %% name="first-monitor"
first_log = io.StringIO()
first = FirstMonitor(first_log)
for number in range(1_000):
    sent = {"customer": f"customer-{number}", "question": "Where is my order?\nIt is late."}
    first.count("answered", 0.4, sent)
first_text = prometheus_client.generate_latest(first.registry).decode()
series = [line for line in first_text.splitlines() if line.startswith("desk_requests_total{")]
print(f"{len(series):,} series, {len(first_log.getvalue().splitlines()):,} lines for 1,000 requests")
print(series[-1], first_log.getvalue().splitlines()[-2:], sep="\n")

# %% [markdown]
# Each series is kept in memory and on disk by Prometheus for weeks: a label with a customer in it is the usual way to bring it down. The log
# has personal data, twice as many lines as requests (anybody can forge one with a line break), and nothing that leads from a line to its trace.
#
# ### Stage 6.6.1: Metrics and a log that agree (15 minutes, medium)
#
# *Concepts: bounded labels, structured logs, the Elastic Common Schema, trace context, exemplars.*
#
# Write `Monitor(out)`, where `out` is a text stream. `count(outcome, took_s, request=None)` is called when a request has ended, from many threads.
# `request` is a dict that may hold `request_id`, `traceparent`, `question` and `customer`: texts, as the caller sent them. (`fields` is a place for the
# line; the check looks at `Monitor` alone.)
#
# - `text()` returns all metrics in Prometheus' format: `desk_requests_total` by `outcome`, each of `SUCCESS` there from the start; the histogram
#   `desk_request_seconds`, with a bound at 2 s; `desk_log_lost_total`. No more series come with the requests. Two monitors share nothing.
# - Another outcome raises ValueError, and neither counts nor writes.
# - Each request writes one line of JSON, with (flat or nested) `@timestamp` (ISO 8601, UTC), `log.level` (`error` for failed, else `info`),
#   `event.outcome` (`success` or `failure`), `event.duration` (nanoseconds, whole), `labels.outcome`, `http.request.id` and `trace.id`.
# - `http.request.id` is `request_id` if that has 1 to 64 ASCII letters, digits and `-`; else a new one of these.
# - `trace.id` are the 32 digits of a `traceparent` `00-<32>-<16>-<2 hexadecimal digits, small>`, if not all of the 32 are 0; else it is left out.
# - `openmetrics()` returns the metrics as OpenMetrics text, in which the bucket of a request with a trace has an exemplar, `trace_id`.
# - Nothing else of a request is in log or metrics.
# - No line is torn. If `out` raises OSError, `count` does not; metrics count the request, and the lost line.

# %% name="ex-6-6-1" tags=["exercise"] exercise="6.6.1"
### BEGIN SOLUTION
### STUB: def fields(outcome, took_s, request):
### STUB:     ...
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


### END SOLUTION


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="fields of a request that ended with failed"
# Every line is info.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="fields of a request that ended with refused"
# Who was refused is taken for served.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if outcome != "failed" else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="fields of a request"
# Milliseconds.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e3),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="the time zone of @timestamp"
# A time without its zone.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="http.request.id"
# Whatever the caller sent.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name or secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="http.request.id"
# A line break at the end.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if re.match(r"[A-Za-z0-9-]{1,64}$", name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="http.request.id of a request that has one"
# Always a new one.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="http.request.id"
# One id for all that have none.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else "none",
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="trace.id where traceparent is"
# The trace of nobody.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="trace.id where traceparent is"
# More than the form behind it.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.match(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="what of a request stands in log or metrics"
# The question, since it helps.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "message": request.get("question", ""),
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% name="ex-6-6-1-monitor" tags=["exercise"] exercise="6.6.1"
### BEGIN SOLUTION
### STUB: class Monitor:
### STUB:     """Metrics and a log of requests."""
### STUB:
### STUB:     def __init__(self, out):
### STUB:         ...
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


### END SOLUTION


# %% tags=["right"] exercise="6.6.1"
# The log module writes, nested fields; metrics in a table; ids read by hand.
import json
import logging
import string
import time
import uuid

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics


class Lines(logging.StreamHandler):
    def __init__(self, out, lost):
        super().__init__(out)
        self.lost = lost

    def handleError(self, record):  # noqa: N802  (the name that logging has)
        self.lost.inc()


def trace_of(parent):
    parts = parent.split("-")
    lengths = [len(part) for part in parts] == [2, 32, 16, 2]
    is_one = (
        lengths and parts[0] == "00" and set("".join(parts)) <= set("0123456789abcdef") and int(parts[1], 16)
    )
    return parts[1] if is_one else None


class Monitor:
    def __init__(self, out):
        self.registry = CollectorRegistry()
        self.metrics = {
            "ended": Counter("desk_requests_total", ".", ("outcome",), registry=self.registry),
            "took": Histogram("desk_request_seconds", ".", registry=self.registry, buckets=[2, 20]),
            "lost": Counter("desk_log_lost_total", ".", registry=self.registry),
        }
        self.ended = {outcome: self.metrics["ended"].labels(outcome=outcome) for outcome in SUCCESS}
        self.log = logging.Logger("desk", logging.INFO)
        self.log.addHandler(Lines(out, self.metrics["lost"]))

    def count(self, outcome, took_s, request=None):
        if outcome not in self.ended:
            raise ValueError(outcome)
        given = (request or {}).get("request_id") or ""
        fits = 0 < len(given) < 65 and set(given) <= set(string.ascii_letters + string.digits + "-")
        trace = trace_of((request or {}).get("traceparent") or "")
        line = {
            "@timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "log": {"level": "info" if outcome != "failed" else "error"},
            "event": {"outcome": ("failure", "success")[SUCCESS[outcome]], "duration": int(took_s * 10**9)},
            "labels": {"outcome": outcome},
            "http": {"request": {"id": given if fits else str(uuid.uuid4())}},
            **({"trace": {"id": trace}} if trace else {}),
        }
        self.ended[outcome].inc()
        self.metrics["took"].observe(took_s, trace and {"trace_id": trace})
        self.log.info(json.dumps(line))

    def text(self):
        return generate_latest(self.registry).decode()

    def openmetrics(self):
        return openmetrics(self.registry).decode()


# %% tags=["right"] exercise="6.6.1"
# One lock around all of it; a text of one's own for each line.
import json
import re
import threading
import uuid
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics


class Monitor:
    def __init__(self, out):
        self.all, self.lock, self.out = CollectorRegistry(), threading.RLock(), out
        self.n = Counter("desk_requests", "n", ["outcome"], registry=self.all)
        self.s = Histogram("desk_request_seconds", "s", buckets=[0.5, 2.0], registry=self.all)
        self.l = Counter("desk_log_lost", "l", registry=self.all)
        [self.n.labels(each) for each in SUCCESS]

    def count(self, outcome, took_s, request=None):
        with self.lock:
            SUCCESS.get(outcome) is None and self.refuse(outcome)
            asked = dict.fromkeys(("request_id", "traceparent"), "") | (request or {})
            found = re.match(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z", asked["traceparent"])
            trace = found.group(1) if found and found.group(1).strip("0") else ""
            known = re.match(r"[-a-zA-Z0-9]{1,64}\Z", asked["request_id"])
            level, means = (
                "error" if outcome == "failed" else "info",
                "success" if SUCCESS[outcome] else "failure",
            )
            parts = [f'"@timestamp": "{datetime.now(UTC).isoformat(timespec="milliseconds")}"']
            parts += [f'"log.level": "{level}", "event.outcome": "{means}", "labels.outcome": "{outcome}"']
            parts += [f'"event.duration": {took_s * 1e9:.0f}']
            parts += [f'"http.request.id": "{asked["request_id"] if known else uuid.uuid4().hex}"']
            parts += [f'"trace.id": "{trace}"'] if trace else []
            self.n.labels(outcome).inc()
            self.s.observe(took_s, exemplar={"trace_id": trace} if trace else None)
            try:
                print("{" + ", ".join(parts) + "}", file=self.out)
            except OSError:
                self.l.inc()

    def refuse(self, outcome):
        raise ValueError(f"{outcome} is none of {list(SUCCESS)}")

    def text(self):
        return generate_latest(self.all).decode("utf-8")

    def openmetrics(self):
        return openmetrics(self.all).decode("utf-8")


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="desk_requests_total, before the first request"
# No series before the first.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="its bucket of 2.0 seconds"
# No bound at the target.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 1, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="series that were not there"
# A series for each request's id.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        self.seconds_of = prometheus_client.Counter("desk_asked", "By request", ["id"], **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.seconds_of.labels(line["http.request.id"]).inc()
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="Monitor(out)"
# One registry for all monitors.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), prometheus_client.REGISTRY
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="count('Answered', 0.1)"
# Any other outcome is a failure.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            outcome = "failed"
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="what is counted of outcomes"
# Counted first, looked at later.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        self.requests.labels(outcome).inc(0)
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="the line"
# Three writes, and no lock.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            self.out.writelines([json.dumps(line)[:9], json.dumps(line)[9:], "\n"])
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="the line"
# A record over several lines.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line, indent=2) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="lines of the log"
# Successes are not worth a line.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        if SUCCESS[outcome]:
            return
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="count('answered', 0.25)"
# A full disk ends the request.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        finally:
            pass

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="what a full disk leaves"
# The lost line is lost without a word.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            pass

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="exemplars of the one request"
# No exemplars.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="exemplars whose trace_id"
# An exemplar of no trace.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line.get("trace.id", "")})
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="what openmetrics() returns"
# The other format.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "desk_requests", "Requests that have ended", ["outcome"], **own
        )
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = prometheus_client.Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return prometheus_client.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="which is none"
# Id of 65 cut to 64.

import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition


def fields(outcome, took_s, request):
    request = request if isinstance(request, dict) else {}
    given = request.get("request_id")
    known = isinstance(given, str) and re.fullmatch("[A-Za-z0-9-]{1,64}", given)
    if isinstance(given, str) and len(given) > 64 and given.isalnum():
        given, known = given[:64], True
    parent = request.get("traceparent")
    trace = (
        re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", parent)
        if isinstance(parent, str)
        else None
    )
    line = {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": given if known else secrets.token_hex(16),
    }
    if trace and int(trace[1], 16) and int(trace[2], 16):
        line["trace.id"] = trace[1]
    return line


class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.lock, self.registry = out, threading.Lock(), CollectorRegistry()
        self.requests = Counter("desk_requests", "Requests", ["outcome"], registry=self.registry)
        for outcome in SUCCESS:
            self.requests.labels(outcome)
        self.seconds = Histogram(
            "desk_request_seconds", "Seconds", buckets=(0.1, 0.5, 1, 2, 5, 10), registry=self.registry
        )
        self.lost = Counter("desk_log_lost", "Lines", registry=self.registry)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError("no such outcome")
        line = fields(outcome, took_s, request)
        trace = line.get("trace.id")
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": trace} if trace else None)
        try:
            with self.lock:
                self.out.write(json.dumps(line) + "\n")
                self.out.flush()
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="trace.id where traceparent"
# Traceparent in capital letters is taken.

import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition


def fields(outcome, took_s, request):
    request = request if isinstance(request, dict) else {}
    given = request.get("request_id")
    known = isinstance(given, str) and re.fullmatch("[A-Za-z0-9-]{1,64}", given)
    parent = request.get("traceparent")
    trace = (
        re.fullmatch("(?i:00)-([0-9a-fA-F]{32})-([0-9a-f]{16})-[0-9a-f]{2}", parent)
        if isinstance(parent, str)
        else None
    )
    line = {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": given if known else secrets.token_hex(16),
    }
    if trace and int(trace[1], 16) and int(trace[2], 16):
        line["trace.id"] = trace[1]
    return line


class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.lock, self.registry = out, threading.Lock(), CollectorRegistry()
        self.requests = Counter("desk_requests", "Requests", ["outcome"], registry=self.registry)
        for outcome in SUCCESS:
            self.requests.labels(outcome)
        self.seconds = Histogram(
            "desk_request_seconds", "Seconds", buckets=(0.1, 0.5, 1, 2, 5, 10), registry=self.registry
        )
        self.lost = Counter("desk_log_lost", "Lines", registry=self.registry)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError("no such outcome")
        line = fields(outcome, took_s, request)
        trace = line.get("trace.id")
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": trace} if trace else None)
        try:
            with self.lock:
                self.out.write(json.dumps(line) + "\n")
                self.out.flush()
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="trace.id where traceparent"
# Traceparent of another version is taken.

import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition


def fields(outcome, took_s, request):
    request = request if isinstance(request, dict) else {}
    given = request.get("request_id")
    known = isinstance(given, str) and re.fullmatch("[A-Za-z0-9-]{1,64}", given)
    parent = request.get("traceparent")
    trace = (
        re.fullmatch("[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", parent)
        if isinstance(parent, str)
        else None
    )
    line = {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": given if known else secrets.token_hex(16),
    }
    if trace and int(trace[1], 16) and int(trace[2], 16):
        line["trace.id"] = trace[1]
    return line


class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.lock, self.registry = out, threading.Lock(), CollectorRegistry()
        self.requests = Counter("desk_requests", "Requests", ["outcome"], registry=self.registry)
        for outcome in SUCCESS:
            self.requests.labels(outcome)
        self.seconds = Histogram(
            "desk_request_seconds", "Seconds", buckets=(0.1, 0.5, 1, 2, 5, 10), registry=self.registry
        )
        self.lost = Counter("desk_log_lost", "Lines", registry=self.registry)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError("no such outcome")
        line = fields(outcome, took_s, request)
        trace = line.get("trace.id")
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": trace} if trace else None)
        try:
            with self.lock:
                self.out.write(json.dumps(line) + "\n")
                self.out.flush()
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="trace.id where traceparent"
# Flags in capitals are taken.

import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition


def fields(outcome, took_s, request):
    request = request if isinstance(request, dict) else {}
    given = request.get("request_id")
    known = isinstance(given, str) and re.fullmatch("[A-Za-z0-9-]{1,64}", given)
    parent = request.get("traceparent")
    trace = (
        re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-fA-F]{2}", parent)
        if isinstance(parent, str)
        else None
    )
    line = {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": given if known else secrets.token_hex(16),
    }
    if trace and int(trace[1], 16) and int(trace[2], 16):
        line["trace.id"] = trace[1]
    return line


class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.lock, self.registry = out, threading.Lock(), CollectorRegistry()
        self.requests = Counter("desk_requests", "Requests", ["outcome"], registry=self.registry)
        for outcome in SUCCESS:
            self.requests.labels(outcome)
        self.seconds = Histogram(
            "desk_request_seconds", "Seconds", buckets=(0.1, 0.5, 1, 2, 5, 10), registry=self.registry
        )
        self.lost = Counter("desk_log_lost", "Lines", registry=self.registry)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError("no such outcome")
        line = fields(outcome, took_s, request)
        trace = line.get("trace.id")
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": trace} if trace else None)
        try:
            with self.lock:
                self.out.write(json.dumps(line) + "\n")
                self.out.flush()
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="event.duration"
# Duration is a float.

import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition


def fields(outcome, took_s, request):
    request = request if isinstance(request, dict) else {}
    given = request.get("request_id")
    known = isinstance(given, str) and re.fullmatch("[A-Za-z0-9-]{1,64}", given)
    parent = request.get("traceparent")
    trace = (
        re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", parent)
        if isinstance(parent, str)
        else None
    )
    line = {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": took_s * 1e9,
        "labels.outcome": outcome,
        "http.request.id": given if known else secrets.token_hex(16),
    }
    if trace and int(trace[1], 16) and int(trace[2], 16):
        line["trace.id"] = trace[1]
    return line


class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.lock, self.registry = out, threading.Lock(), CollectorRegistry()
        self.requests = Counter("desk_requests", "Requests", ["outcome"], registry=self.registry)
        for outcome in SUCCESS:
            self.requests.labels(outcome)
        self.seconds = Histogram(
            "desk_request_seconds", "Seconds", buckets=(0.1, 0.5, 1, 2, 5, 10), registry=self.registry
        )
        self.lost = Counter("desk_log_lost", "Lines", registry=self.registry)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError("no such outcome")
        line = fields(outcome, took_s, request)
        trace = line.get("trace.id")
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": trace} if trace else None)
        try:
            with self.lock:
                self.out.write(json.dumps(line) + "\n")
                self.out.flush()
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="desk_log_lost_total of another Monitor"
# Default registry of the process: process metrics too? two monitors share the lost.

import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition


def fields(outcome, took_s, request):
    request = request if isinstance(request, dict) else {}
    given = request.get("request_id")
    known = isinstance(given, str) and re.fullmatch("[A-Za-z0-9-]{1,64}", given)
    parent = request.get("traceparent")
    trace = (
        re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", parent)
        if isinstance(parent, str)
        else None
    )
    line = {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": given if known else secrets.token_hex(16),
    }
    if trace and int(trace[1], 16) and int(trace[2], 16):
        line["trace.id"] = trace[1]
    return line


LOST = Counter("desk_log_lost", "Lines", registry=None)


class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.lock, self.registry = out, threading.Lock(), CollectorRegistry()
        self.requests = Counter("desk_requests", "Requests", ["outcome"], registry=self.registry)
        for outcome in SUCCESS:
            self.requests.labels(outcome)
        self.seconds = Histogram(
            "desk_request_seconds", "Seconds", buckets=(0.1, 0.5, 1, 2, 5, 10), registry=self.registry
        )
        self.lost = LOST
        self.registry.register(LOST)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError("no such outcome")
        line = fields(outcome, took_s, request)
        trace = line.get("trace.id")
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": trace} if trace else None)
        try:
            with self.lock:
                self.out.write(json.dumps(line) + "\n")
                self.out.flush()
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="beside those that every line has"
# A customer is in the log as a hash.

import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition


def fields(outcome, took_s, request):
    request = request if isinstance(request, dict) else {}
    given = request.get("request_id")
    known = isinstance(given, str) and re.fullmatch("[A-Za-z0-9-]{1,64}", given)
    parent = request.get("traceparent")
    trace = (
        re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", parent)
        if isinstance(parent, str)
        else None
    )
    line = {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": given if known else secrets.token_hex(16),
    }
    if trace and int(trace[1], 16) and int(trace[2], 16):
        line["trace.id"] = trace[1]
    if request.get("customer"):
        line["user.hash"] = __import__("hashlib").sha256(str(request["customer"]).encode()).hexdigest()
    return line


class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.lock, self.registry = out, threading.Lock(), CollectorRegistry()
        self.requests = Counter("desk_requests", "Requests", ["outcome"], registry=self.registry)
        for outcome in SUCCESS:
            self.requests.labels(outcome)
        self.seconds = Histogram(
            "desk_request_seconds", "Seconds", buckets=(0.1, 0.5, 1, 2, 5, 10), registry=self.registry
        )
        self.lost = Counter("desk_log_lost", "Lines", registry=self.registry)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError("no such outcome")
        line = fields(outcome, took_s, request)
        trace = line.get("trace.id")
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": trace} if trace else None)
        try:
            with self.lock:
                self.out.write(json.dumps(line) + "\n")
                self.out.flush()
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="whether trace.id is in a line"
# A request that is no valid trace gets trace.id null.

import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition


def fields(outcome, took_s, request):
    request = request if isinstance(request, dict) else {}
    given = request.get("request_id")
    known = isinstance(given, str) and re.fullmatch("[A-Za-z0-9-]{1,64}", given)
    parent = request.get("traceparent")
    trace = (
        re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", parent)
        if isinstance(parent, str)
        else None
    )
    line = {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": given if known else secrets.token_hex(16),
    }
    if trace and int(trace[1], 16) and int(trace[2], 16):
        line["trace.id"] = trace[1]
    line.setdefault("trace.id", None)
    return line


class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.lock, self.registry = out, threading.Lock(), CollectorRegistry()
        self.requests = Counter("desk_requests", "Requests", ["outcome"], registry=self.registry)
        for outcome in SUCCESS:
            self.requests.labels(outcome)
        self.seconds = Histogram(
            "desk_request_seconds", "Seconds", buckets=(0.1, 0.5, 1, 2, 5, 10), registry=self.registry
        )
        self.lost = Counter("desk_log_lost", "Lines", registry=self.registry)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError("no such outcome")
        line = fields(outcome, took_s, request)
        trace = line.get("trace.id")
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": trace} if trace else None)
        try:
            with self.lock:
                self.out.write(json.dumps(line) + "\n")
                self.out.flush()
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% name="check-6-6-1" tags=["check"] exercise="6.6.1"
check("6.6.1", Monitor)

# %% name="help-6-6-1"
# hint("6.6.1")
# solution("6.6.1")

# %% [markdown]
# ### Stage 6.6.2: A budget that burns (15 minutes, hard)
#
# *Concepts: service level objective, error budget, burn rate, two windows, recording rules.*
#
# 99 % of the requests of 30 days are to succeed, so 1 % may fail: the **error budget**. An alert on "more than 5 % of five minutes failed" knows
# nothing of it. **Predict first:** of these days, on which does it wake somebody, and what did each day cost of the month's budget?

# %% name="five-percent-alert"
import numpy as np

DAYS = {  # the share that fails, from one minute to another
    "all fail, for two minutes": (1.0, 600, 602),
    "4 % fail, all day": (0.04, 0, 1_440),
    "all fail, for half an hour": (1.0, 600, 630),
}


def failing(share, begins, ends):
    minutes = np.arange(1_440)
    return np.where((minutes >= begins) & (minutes < ends), share, 0.0)


def over(window, shares):
    """Return the mean of the last minutes, at each minute."""
    sums = np.cumsum(np.concatenate([np.zeros(window), shares]))
    return (sums[window:] - sums[:-window]) / window


# %% name="five-percent-days"
for day_name, day in DAYS.items():
    shares = failing(*day)
    wakes, burnt = bool((over(5, shares) > 0.05).any()), shares.sum() / (0.01 * 30 * 1_440)
    print(f"{day_name:26} wakes somebody: {wakes!s:5}  of the month's budget: {burnt:6.1%}")

# %% [markdown]
# It wakes somebody for what cost half a percent, and not for the day that cost most. The **burn rate** is the share that fails, divided by
# what may: at 1 the budget lasts 30 days, at 14.4 two. Two windows look at it, a long one, which says that it matters, and a short one, which says
# that it still goes on.

# %% name="budget-burnt"
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
for day_name, day in DAYS.items():
    shares = failing(*day)
    axes.plot(np.arange(1_440) / 60, np.cumsum(shares) / (0.01 * 30 * 1_440) * 100, label=day_name)
    fires = (over(60, shares) > 0.144) & (over(5, shares) > 0.144)
    if fires.any():
        axes.axvspan(fires.argmax() / 60, (1_440 - fires[::-1].argmax()) / 60, alpha=0.3, color="tab:red")
axes.set(xlabel="hour of the day", ylabel="budget burnt, % of the month")
axes.legend()
alt = "Three lines: an outage of two minutes burns almost nothing, 4 % all day the most, at a slow and even rate."
plot(
    figure,
    alt + " A red band marks when one hour and five minutes both burn at 14.4: the outage of half an hour.",
)

# %% [markdown]
# Only the outage of half an hour burns fast (the red band). For 4 % all day nobody has to get up, but somebody should look in the morning: that takes a longer
# window, and a lower rate.
#
# Write `recording` and `alerts`, texts of rule files of Prometheus, for `desk_requests_total` with the outcomes of before. Prometheus scrapes two
# replicas, and evaluates, every two minutes here; a replica is restarted now and then.
#
# - `recording` holds four recording rules, `desk:failed:ratio_rate5m`, `...30m`, `...1h` and `...6h`: the share with outcome `failed` of all requests but
#   those refused (anybody can be refused, as often as it takes to hide a fault), over that window and all replicas, as one series without labels.
# - `alerts` holds two alerts, each with a `summary`: `BudgetBurnsFast`, `severity: page`, for a burn rate above 14.4 over an hour and still over five
#   minutes; `BudgetBurnsSlowly`, `severity: ticket`, for one above 6 over six hours and still over 30 minutes.
# - Fast fires, after hours without a failure, within 16 minutes where all fail, within 36 where 30 % do, and no more 12 minutes after that ended.
# - Slowly fires within 270 minutes where 9 % fail, and no more 45 minutes after that ended. Fast does not.
# - Neither fires where all fail for six minutes, where 14 % fail for 140 minutes, where 3 % fail for five hours, or where there are no requests.
#
# `promtool`, which comes with Prometheus, evaluates them (`apt-get install prometheus`, `brew install prometheus`); without it the card says so.

# %% name="ex-6-6-2" tags=["exercise"] exercise="6.6.2"
### BEGIN SOLUTION
### STUB: recording = ...
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[{window}]))
          / sum(rate(desk_requests_total{{outcome!="refused"}}[{window}]))"""
recording = "groups:\n  - name: desk-recorded\n    rules:"
recording += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))
### END SOLUTION

# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate5m"
# What was refused hides the fault.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[{window}]))
          / sum(rate(desk_requests_total[{window}]))"""
recording = "groups:\n  - name: desk-recorded\n    rules:"
recording += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate5m"
# One share for each replica.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum by (instance) (rate(desk_requests_total{{outcome="failed"}}[{window}]))
          / sum by (instance) (rate(desk_requests_total{{outcome!="refused"}}[{window}]))"""
recording = "groups:\n  - name: desk-recorded\n    rules:"
recording += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate"
# All that was ever counted.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(desk_requests_total{{outcome="failed"}})
          / sum(desk_requests_total{{outcome!="refused"}})"""
recording = "groups:\n  - name: desk-recorded\n    rules:"
recording += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate"
# One window for all.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[5m]))
          / sum(rate(desk_requests_total{{outcome!="refused"}}[5m]))"""
recording = "groups:\n  - name: desk-recorded\n    rules:"
recording += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate"
# Summed first: a restart of one replica looks like one of all.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          rate(sum(desk_requests_total{{outcome="failed"}})[{window}:])
          / rate(sum(desk_requests_total{{outcome!="refused"}})[{window}:])"""
recording = "groups:\n  - name: desk-recorded\n    rules:"
recording += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="names in recording"
# One window is missing.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[{window}]))
          / sum(rate(desk_requests_total{{outcome!="refused"}}[{window}]))"""
recording = "groups:\n  - name: desk-recorded\n    rules:"
recording += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="what promtool says of recording"
# A bracket is missing.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[{window}])
          / sum(rate(desk_requests_total{{outcome!="refused"}}[{window}]))"""
recording = "groups:\n  - name: desk-recorded\n    rules:"
recording += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate5m"
# The mean of the shares of the replicas.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          avg(sum by (instance) (rate(desk_requests_total{{outcome="failed"}}[{window}]))
          / sum by (instance) (rate(desk_requests_total{{outcome!="refused"}}[{window}])))"""
recording = "groups:\n  - name: desk-recorded\n    rules:"
recording += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% name="ex-6-6-2-alerts" tags=["exercise"] exercise="6.6.2"
### BEGIN SOLUTION
### STUB: alerts = ...
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""
### END SOLUTION

# %% tags=["right"] exercise="6.6.2"
# One minus the share that succeeded; alerts made as data, in one loop, with a short wait.
import json

GOOD, ALL = 'outcome=~"answered|cached|degraded"', 'outcome=~"answered|cached|degraded|failed"'


def total(labels, window):
    return f"sum(increase(desk_requests_total{{{labels}}}[{window}]))"


def file_of(*rules):
    return json.dumps({"groups": [{"name": "one", "rules": list(rules)}]})


recording = file_of(
    *(
        {"record": f"desk:failed:ratio_rate{each}", "expr": f"1 - {total(GOOD, each)} / {total(ALL, each)}"}
        for each in ("6h", "1h", "30m", "5m")
    )
)
alerts = file_of(
    *(
        {
            "alert": name,
            "expr": f"min(desk:failed:ratio_rate{short} or desk:failed:ratio_rate{long}) > {rate / 100}"
            f" and desk:failed:ratio_rate{long} > {rate / 100} and desk:failed:ratio_rate{short} > {rate / 100}",
            "for": "2m",
            "labels": {"severity": severity, "team": "desk"},
            "annotations": {"summary": "The budget burns."},
        }
        for name, rate, short, long, severity in (
            ("BudgetBurnsSlowly", 6, "30m", "6h", "ticket"),
            ("BudgetBurnsFast", 14.4, "5m", "1h", "page"),
        )
    )
)

# %% tags=["right"] exercise="6.6.2"
# Written out; each alert in a group of its own; two conditions as a multiplication.
recording = """
groups:
- name: short
  rules:
  - record: desk:failed:ratio_rate5m
    expr: sum without (instance, job, outcome) (rate(desk_requests_total{outcome="failed"}[5m])) / sum(rate(desk_requests_total{outcome!~"refused"}[5m]))
  - record: desk:failed:ratio_rate30m
    expr: sum by () (rate(desk_requests_total{outcome="failed"}[30m])) / sum(rate(desk_requests_total{outcome!="refused"}[30m]))
- name: long
  rules:
  - record: desk:failed:ratio_rate1h
    expr: sum(rate(desk_requests_total{outcome="failed"}[1h])) / (sum(rate(desk_requests_total{outcome!="refused"}[1h])) > 0)
  - record: desk:failed:ratio_rate6h
    expr: sum(rate(desk_requests_total{outcome="failed"}[6h])) / (sum(rate(desk_requests_total[6h])) - sum(rate(desk_requests_total{outcome="refused"}[6h])))
"""
alerts = """
groups:
- name: page
  rules:
  - alert: BudgetBurnsFast
    expr: (desk:failed:ratio_rate1h > bool 0.144) * (desk:failed:ratio_rate5m > bool 0.144) == 1
    labels: {severity: page}
    annotations: {summary: two days at this rate}
- name: ticket
  rules:
  - alert: BudgetBurnsSlowly
    expr: |
      desk:failed:ratio_rate6h / 0.01 > 6
      and on () desk:failed:ratio_rate30m / 0.01 > 6
    labels: {severity: ticket}
    annotations: {summary: five days at this rate, description: look in the morning}
"""

# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where all fail, from"
# The long window alone: an hour of alarm after the fault.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where all fail, but not longer"
# The short window alone.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where all fail, from"
# A burn rate compared with a share.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 and desk:failed:ratio_rate5m > 14.4
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where (9|30) % fail"
# Fast at a burn rate of 5.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 5 * 0.01 and desk:failed:ratio_rate5m > 5 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where all fail, from"
# It waits ten more minutes.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        for: 10m
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsSlowly fires, where (3|9) % fail"
# Slowly at a burn rate of 2.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 2 * 0.01 and desk:failed:ratio_rate30m > 2 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsSlowly fires, where 9 % fail"
# The long window alone: hours after the end.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="where there are no requests"
# All that is not known to be well.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: vector(1) unless desk:failed:ratio_rate1h <= 0.144 unless desk:failed:ratio_rate5m <= 0.144 unless absent(desk:failed:ratio_rate1h)
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="the alerts and their severity"
# Both wake somebody.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="alerts without an annotation summary"
# Nobody knows what it says.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="ratio_rate1h, 46 minutes"
# 1h recorded over 30 minutes twice named.

recording = """groups:
- name: desk
  rules:
  - record: desk:failed:ratio_rate5m
    expr: sum(rate(desk_requests_total{outcome="failed"}[5m])) / sum(rate(desk_requests_total{outcome!="refused"}[5m]))
  - record: desk:failed:ratio_rate30m
    expr: sum(rate(desk_requests_total{outcome="failed"}[30m])) / sum(rate(desk_requests_total{outcome!="refused"}[30m]))
  - record: desk:failed:ratio_rate1h
    expr: sum(rate(desk_requests_total{outcome="failed"}[50m])) / sum(rate(desk_requests_total{outcome!="refused"}[50m]))
  - record: desk:failed:ratio_rate6h
    expr: sum(rate(desk_requests_total{outcome="failed"}[6h])) / sum(rate(desk_requests_total{outcome!="refused"}[6h]))
"""
alerts = """groups:
- name: desk-alerts
  rules:
  - alert: BudgetBurnsFast
    expr: desk:failed:ratio_rate1h > 0.144 and desk:failed:ratio_rate5m > 0.144
    labels: {severity: page}
    annotations: {summary: "burns fast"}
  - alert: BudgetBurnsSlowly
    expr: desk:failed:ratio_rate6h > 0.06 and desk:failed:ratio_rate30m > 0.06
    labels: {severity: ticket}
    annotations: {summary: "burns slowly"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="ratio_rate5m, 6 minutes"
# 5m recorded over 10 minutes.

recording = """groups:
- name: desk
  rules:
  - record: desk:failed:ratio_rate5m
    expr: sum(rate(desk_requests_total{outcome="failed"}[10m])) / sum(rate(desk_requests_total{outcome!="refused"}[10m]))
  - record: desk:failed:ratio_rate30m
    expr: sum(rate(desk_requests_total{outcome="failed"}[30m])) / sum(rate(desk_requests_total{outcome!="refused"}[30m]))
  - record: desk:failed:ratio_rate1h
    expr: sum(rate(desk_requests_total{outcome="failed"}[1h])) / sum(rate(desk_requests_total{outcome!="refused"}[1h]))
  - record: desk:failed:ratio_rate6h
    expr: sum(rate(desk_requests_total{outcome="failed"}[6h])) / sum(rate(desk_requests_total{outcome!="refused"}[6h]))
"""
alerts = """groups:
- name: desk-alerts
  rules:
  - alert: BudgetBurnsFast
    expr: desk:failed:ratio_rate1h > 0.144 and desk:failed:ratio_rate5m > 0.144
    labels: {severity: page}
    annotations: {summary: "burns fast"}
  - alert: BudgetBurnsSlowly
    expr: desk:failed:ratio_rate6h > 0.06 and desk:failed:ratio_rate30m > 0.06
    labels: {severity: ticket}
    annotations: {summary: "burns slowly"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="ratio_rate30m, (6|16) minutes"
# 30m recorded over 20 minutes.

recording = """groups:
- name: desk
  rules:
  - record: desk:failed:ratio_rate5m
    expr: sum(rate(desk_requests_total{outcome="failed"}[5m])) / sum(rate(desk_requests_total{outcome!="refused"}[5m]))
  - record: desk:failed:ratio_rate30m
    expr: sum(rate(desk_requests_total{outcome="failed"}[20m])) / sum(rate(desk_requests_total{outcome!="refused"}[20m]))
  - record: desk:failed:ratio_rate1h
    expr: sum(rate(desk_requests_total{outcome="failed"}[1h])) / sum(rate(desk_requests_total{outcome!="refused"}[1h]))
  - record: desk:failed:ratio_rate6h
    expr: sum(rate(desk_requests_total{outcome="failed"}[6h])) / sum(rate(desk_requests_total{outcome!="refused"}[6h]))
"""
alerts = """groups:
- name: desk-alerts
  rules:
  - alert: BudgetBurnsFast
    expr: desk:failed:ratio_rate1h > 0.144 and desk:failed:ratio_rate5m > 0.144
    labels: {severity: page}
    annotations: {summary: "burns fast"}
  - alert: BudgetBurnsSlowly
    expr: desk:failed:ratio_rate6h > 0.06 and desk:failed:ratio_rate30m > 0.06
    labels: {severity: ticket}
    annotations: {summary: "burns slowly"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsSlowly fires, where 9 % fail"
# Slowly with the short window of the other one.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate5m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where 14 % fail"
# Fast at a burn rate of 13.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 13 * 0.01 and desk:failed:ratio_rate5m > 13 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where 30 % fail"
# The short window at another rate.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 1 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% name="check-6-6-2" tags=["check"] exercise="6.6.2"
check("6.6.2", recording, alerts)

# %% name="help-6-6-2"
# hint("6.6.2")
# solution("6.6.2")

# %% [markdown]
# ### Stage 6.6.3: A dashboard as data (10 minutes, medium)
#
# *Concepts: rate, errors, duration, saturation; units; panels that are tested.*
#
# A panel over a metric that was renamed shows an empty picture, which looks like a quiet day. As data a dashboard can be asked beforehand. These are the
# metrics of two replicas of the desk:

# %% name="metrics-6-6-3"
METRICS = {
    "desk_requests_total": "counter; outcome: one of SUCCESS",
    "desk_request_seconds": "histogram; le: 0.1, 0.5, 1, 2, 5, 10, +Inf",
    "desk_requests_in_flight": "gauge: under way in a replica",
    "desk_requests_allowed": "gauge: so many at once, a replica",
    "up": "gauge: 1 while a replica answers Prometheus",
}
table([{"metric": name, "what": told, "labels too": "job, instance"} for name, told in METRICS.items()])

# %% [markdown]
# Write `dashboard()`, which returns a dict as Grafana 10 reads it: a `title`, and `panels`, each of them with `type`, `title`, `targets` (each with `expr`) and
# `fieldConfig`, whose `defaults` have the `unit`. The course's `grafana_foundation_sdk` knows the form; by hand it is short, too.
# (`PANELS` is a place for the table; the check looks at `dashboard` alone.)
#
# - Each panel has a title that no other has, a unit, and one expression or more, which Prometheus reads.
# - Each expression shows something while the desk is in use: it asks for metrics and labels that exist. At even load it shows the same all the time, whatever was
#   before: a counter is asked for its rate.
# - For each of *rate* (how many requests), *errors* (how many of them fail), *duration* and *saturation* (how full it is) there is a panel that grows when
#   that alone grows.
# - Units fit: `reqps` (or `ops`, `cps`) for a rate, `percentunit` for a share, `s` for seconds, `short` for a count.
# - One target at least that shows the duration has `"exemplar": True`, so that a point leads to a trace.

# %% name="ex-6-6-3" tags=["exercise"] exercise="6.6.3"
### BEGIN SOLUTION
### STUB: PANELS = ...
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}
### END SOLUTION

# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expected a value at even load"
# A metric that does not exist.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expected a value at even load"
# A label that does not exist.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="error"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expected the same at even load"
# A counter as it is.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (desk_requests_total)"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="an expression of"
# A bracket is missing.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="when only this does: rate"
# How many requests is not seen.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="when only this does: errors"
# How many fail is not seen.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", ALL),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="when only this does: duration"
# How long it takes is not seen.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="when only this does: saturation"
# How full it is is not seen.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="unit of 'Duration, 95 %'"
# Seconds, shown as a number without a unit.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("short", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expected still"
# The quantile of all that was ever counted.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (desk_request_seconds_bucket)"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="in this unit"
# What five minutes had, as if it were of a second.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (increase(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="panels that grow when only this does: errors"
# The share of those that were answered.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", ALL),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="answered"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% name="ex-6-6-3-dashboard" tags=["exercise"] exercise="6.6.3"
### BEGIN SOLUTION
### STUB: def dashboard():
### STUB:     ...
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression, "exemplar": unit == "s"}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


### END SOLUTION


# %% tags=["right"] exercise="6.6.3"
# Built with Grafana's own SDK, in rows; several expressions to a panel; the window of the picture.
import json

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.encoder import JSONEncoder


def panel(kind, title, unit, *expressions):
    made = kind().title(title).unit(unit)
    for each in expressions:
        made = made.with_target(Dataquery().expr(each).exemplar(unit == "s"))
    return made


def dashboard():
    rate = "rate(desk_requests_total[$__rate_interval])"
    failed = rate.replace("[", '{outcome="failed"}[')
    buckets = "sum by (le) (rate(desk_request_seconds_bucket[10m]))"
    board = Dashboard("The desk").uid("d").with_row(Row("Is it broken?"))
    board = board.with_panel(panel(Panel, "Rate", "ops", f"sum({rate})", f"sum by (instance) ({rate})"))
    board = board.with_panel(panel(Stat, "Errors", "cps", f"sum({failed})"))
    quantiles = (f"histogram_quantile({each}, {buckets})" for each in (0.5, 0.99))
    board = board.with_row(Row("Why?")).with_panel(panel(Panel, "Duration", "s", *quantiles))
    board = board.with_panel(
        panel(Panel, "Under way", "short", "avg(desk_requests_in_flight)", "max(desk_requests_allowed)")
    )
    return json.loads(JSONEncoder().encode(board.build()))


# %% tags=["right"] exercise="6.6.3"
# By hand, one panel for each expression; the mean as the duration; one for who is up.
def dashboard():
    def shown(kind, title, unit, expr, **target):
        return {
            "type": kind,
            "title": title,
            "fieldConfig": {"defaults": {"unit": unit}},
            "targets": [{"expr": expr, **target}],
        }

    mean = "sum(rate(desk_request_seconds_sum[5m])) / sum(rate(desk_request_seconds_count[5m]))"
    lost = '100 * sum(increase(desk_requests_total{outcome="failed"}[5m])) / sum(increase(desk_requests_total{outcome!="refused"}[5m]))'
    inner = [
        shown("timeseries", "How full", "percentunit", "max(desk_requests_in_flight / desk_requests_allowed)")
    ]
    panels = [
        shown("gauge", "Replicas", "short", "count(up == 1)"),
        shown("timeseries", "Requests a second", "reqps", "sum(rate(desk_request_seconds_count[5m]))"),
        shown("timeseries", "Failures", "percent", lost),
        shown("timeseries", "Mean duration", "s", mean, exemplar=True),
        {"type": "text", "title": "", "options": {"content": "Look at the log next."}},
        {"type": "row", "title": "More", "collapsed": True, "panels": inner},
    ]
    return {"title": "Desk", "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="titles of the panels"
# Two panels under one title.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": "Requests" if number < 2 else title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression, "exemplar": unit == "s"}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="unit of 'Requests'"
# No units.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression, "exemplar": unit == "s"}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="exemplar in the targets"
# Nothing leads to a trace.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expressions of 'Requests'"
# Panels that ask nothing.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expected a dict"
# A text.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression, "exemplar": unit == "s"}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return json.dumps({"title": "Desk", "panels": panels})


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="exemplar in the targets"
# The word for true.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression, "exemplar": "true" if unit == "s" else "false"}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


# %% name="check-6-6-3" tags=["check"] exercise="6.6.3"
check("6.6.3", dashboard)

# %% name="help-6-6-3"
# hint("6.6.3")
# solution("6.6.3")

# %% [markdown]
# ### Stretch: from a metric to its trace
#
# A point in a histogram says that *some* request was slow. Its exemplar says which: here a slow request is found by it, first in the log, then in the
# spans of the course's tracer. (This runs with your `Monitor`, once stage 6.6.1 is passed.)

# %% name="to-the-trace"
from course_lib.debugging import Tracer


def slow_request(monitor, tracer):
    with tracer.span("request"), tracer.span("search the help centre"):
        carried = tracer.inject({})
    monitor.count("answered", 3.2, carried)


# %% name="by-its-exemplar"
if hasattr(Monitor, "openmetrics"):
    its_log = io.StringIO()
    monitor, its_tracer = Monitor(its_log), Tracer()
    for _ in range(50):
        monitor.count("answered", 0.2)
    slow_request(monitor, its_tracer)
    exemplar = re.search(r'le="5.0"\} .*trace_id="(\w+)"', monitor.openmetrics())[1]
    lines = [json.loads(line) for line in its_log.getvalue().splitlines()]
    print("exemplar of the bucket of 5 s:", exemplar)
    print("in the log:", *(line["http.request.id"] for line in lines if line.get("trace.id") == exemplar))
    span_names = [span.name for span in its_tracer.spans if f"{span.context.trace_id:032x}" == exemplar]
    print("spans of this trace:", ", ".join(span_names))
else:
    print("stage 6.6.1 comes first; then run this cell again")

# %% [markdown]
# ### Stretch: asked by a real Prometheus
#
# The check gave promtool invented series. Here a real Prometheus scrapes a process that counts, once a second, and each expression of your dashboard is
# asked, with windows of 3 seconds, since the process is young (once stage 6.6.3 is solved, and where Prometheus is installed; it takes some eight
# seconds).


# %% name="a-process-that-counts"
def serving(ended):
    """Count in a thread until `ended` is set; return the port where Prometheus may ask."""
    own = {"registry": CollectorRegistry()}
    requests = prometheus_client.Counter("desk_requests", "Requests", ["outcome"], **own)
    seconds = Histogram("desk_request_seconds", "From request to answer", buckets=(0.1, 0.5, 1, 2), **own)
    Gauge("desk_requests_in_flight", "Under way", **own).set(3)
    Gauge("desk_requests_allowed", "At most", **own).set(20)
    server, _ = prometheus_client.start_http_server(0, addr="127.0.0.1", **own)

    def work():
        while not ended.wait(0.02):
            requests.labels("failed" if secrets.randbelow(20) == 0 else "answered").inc()
            seconds.observe(secrets.randbelow(1_000) / 1_000)
        server.shutdown()
        server.server_close()

    threading.Thread(target=work, daemon=True).start()
    return server.server_port


# %% name="real-prometheus"
import time

from course_lib.services import has_prometheus, running_prometheus


def asked_of(prometheus, board):
    """Return what each expression of a dashboard says now."""
    while not prometheus.query("count_over_time(desk_requests_total[3s]) >= 3"):
        time.sleep(0.5)
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            short = re.sub(r"\[[^]]+\]", "[3s]", target["expr"])
            now = ", ".join(f"{value:.3g}" for _, value in prometheus.query(short))
            yield {"panel": panel["title"], "expression": short, "now": now}


# %% name="asked-by-prometheus"
rows, ended = [], threading.Event()
if dashboard() is None:
    print("stage 6.6.3 comes first; then run this cell again")
elif not has_prometheus():
    print("Prometheus is not installed: apt-get install prometheus prometheus-alertmanager")
else:
    with running_prometheus({"desk": [f"127.0.0.1:{serving(ended)}"]}) as prometheus:
        rows = list(asked_of(prometheus, dashboard()))
    ended.set()
table(rows) if rows else None

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
print(Reply("answered", "Yes, within 30 days.", ("returns-1",), cost_usd=0.0004))

# %% [markdown]
# ### Stage 6.7.1: one question, whatever is broken (20 minutes, medium)
#
# *Concepts: graceful degradation, cache keys, tenants.*
#
# Write `async def reply(request, made, ask)`. `made` has the parts: `made.cache`, `made.runner`, `made.documents`, `made.canary`.
# `await ask(request)` searches, asks the models with all that stands around them, and returns a `Reply` with the outcome `"answered"`, such as the
# one above; its `citations` are a tuple of texts. It raises when no model answers.
#
# - The version of the program is `made.canary.version(request.id)`. A question that the same tenant asked the same version before, and that
#   `ask` answered, gets `Reply("cached", text, citations)` with the text and the citations of then; neither the runner nor `ask` nor a search is
#   needed for it. Questions are the same if their texts are.
# - `await made.cache.get(key)` returns what was kept under the key, or None; `await made.cache.set(key, value)` keeps it. Both are `str`. A key does
#   not show the question.
# - Any other question is run: `made.runner.run(call, within_s)` with 4 seconds. What `ask` returns is returned as it is; its text and
#   citations are kept, and nothing else is.
# - Where the runner or `ask` raises, the reply is `Reply("degraded", article)` with the first article that `made.documents.search(text)` finds.
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


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
        text, citations = KEPT.validate_json(await cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256("".join(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text.strip()]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = json.dumps(parts)
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("answered", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, _ = KEPT.validate_json(await made.cache.get(key))
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="is kept under the key"
# Whatever has two items is an answer.
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
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="how a cancelled question ends"
# Who leaves gets an article.
import hashlib
import json

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
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

from pydantic import TypeAdapter

KEPT = TypeAdapter(tuple[str, tuple[str, ...]])


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = KEPT.validate_json(await made.cache.get(key))
        return Reply("cached", text, citations)
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            await made.documents.search(request.text)
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

# %% name="help-6-7-1"
# hint("6.7.1")
# solution("6.7.1")

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
# - While one job is being sorted, others are handled. While another process writes to the file, `handle` waits for it, up to five seconds, and the
#   event loop goes on meanwhile.
# - A process that is killed while it sorts leaves nothing behind that keeps the job from being done.


# %% name="ex-6-7-2" tags=["exercise"] exercise="6.7.2"
### BEGIN SOLUTION
### STUB: async def handle(job, sort, path):
### STUB:     """Do a job, so that it has one row in the outbox."""
### STUB:     ...
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


def is_done(job, path):
    with closing(sqlite3.connect(path)) as outbox:
        return outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone() is not None


def write_row(job, category, path):
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


async def handle(job, sort, path):
    """Do a job, so that it has one row in the outbox."""
    if not await asyncio.to_thread(is_done, job, path):
        category = await sort(job.text)
        await asyncio.to_thread(write_row, job, category, path)


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
        if not await asyncio.to_thread(self.rows, path, "select id from outbox where id = ?", job.id):
            values = job.id, await sort(job.text)
            await asyncio.to_thread(self.rows, path, "insert or ignore into outbox values (?, ?)", *values)


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


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="while another process writes.*database is locked"
# The event loop waits for the file, with all that it does.
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
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after the job came again"
# Who begins says so in a file, and takes it away at the end.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


def is_done(job, path):
    with closing(sqlite3.connect(path)) as outbox:
        return outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone() is not None


def write_row(job, category, path):
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


async def handle(job, sort, path):
    mark = path.parent / job.id
    if await asyncio.to_thread(is_done, job, path) or mark.exists():
        return
    mark.touch()
    try:
        category = await sort(job.text)
    finally:
        mark.unlink()
    await asyncio.to_thread(write_row, job, category, path)


# %% name="check-6-7-2" tags=["check"] exercise="6.7.2"
check("6.7.2", handle)

# %% name="help-6-7-2"
# hint("6.7.2")
# solution("6.7.2")

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
# The posterior: how likely it is, after each twenty answers, that the new version is worse by 10 points.
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
        if version == self.new and sum(self.seen[version]) % 20 == 2:
            random = np.random.default_rng(1)
            old, new = (random.beta(*self.seen[each], 1_000) for each in ("1", self.new))
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
# A fixed distance of 20 points, from 20 answers on.
import zlib


class Canary:
    tried = None

    def deploy(self, version):
        self.tried, self.seen = version, {"1": [], version: []}

    def version(self, request_id):
        return self.tried if self.tried and zlib.crc32(request_id.encode()) % 100 < 30 else "1"

    def saw(self, version, *, is_good):
        if self.tried and version in self.seen:
            self.seen[version].append(is_good)
            old, new = self.seen["1"], self.seen[self.tried]
            if len(new) >= 20 and old and sum(old) / len(old) - sum(new) / len(new) > 0.2:
                self.tried = None


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

# %% name="help-6-7-3"
# hint("6.7.3")
# solution("6.7.3")

# %% [markdown]
# ### The parts, joined
#
# A part of yours takes the place of ours. One that you have not written, or not yet, is ours; so you can fly today and again next week. A kernel
# knows only what was run in it: after a restart, run the stages' cells again, or their parts are ours.

# %% name="own-parts"
from course_lib import flight
from course_lib.exercises.flight import joined, passed
from course_lib.labs import flight_lab, scorecard

parts = joined(globals())  # Pool, Lookup, BoundedRunner, reply and so on, by their names
print({name: "yours" if getattr(parts, name) else "ours" for name in parts.__dataclass_fields__})

# %% [markdown]
# ### The script
#
# Ninety seconds: customers ask all the time, jobs are handed in now and then, and one scene after the other breaks something. The questions, their
# times and the faults follow from a seed. The servers are real: PostgreSQL, two Redis (one may be lost, one keeps the jobs), the model's endpoint
# and a worker are processes, and what is killed is killed with SIGKILL. What is simulated is the model and its bad days.

# %% name="script-of-the-flight"
known = flight.recorded()
table(
    [
        {"from": f"{each.begins_s:.0f} s", "scene": each.name, "what is broken": each.told}
        for each in known.scenes
    ]
)

# %% [markdown]
# ### A flight that was recorded
#
# Here is the reference, all parts ours, as it flew on a machine with two processors (`course flight` flies it again on yours). Read the levels
# first, then *which fault cost what*: a level that holds as a whole may have been paid for by one scene.

# %% name="recorded-flight"
scorecard(known)

# %% [markdown]
# A level that always holds would prove nothing. So each mechanism of the reference was switched off, alone, and the scene that it is for was
# flown again, without it and with it: each time the level that it is for fails.

# %% name="mechanisms"
rows = flight.mechanisms()
table(
    [
        {
            "without": row.mechanism,
            "in scene": row.scene,
            "level": row.level,
            "was": row.seen_with,
            "is then": row.seen_without,
        }
        for row in rows
    ]
)

# %% [markdown]
# **Predict first:** which of *your* parts will cost most, and in which scene?
#
# ### Fly
#
# The button starts the servers, puts your parts together and flies them, about two minutes, live; then the quality gates of lesson 04 are measured,
# ten seconds more. Stop ends it at any time; interrupting the kernel does not. The last flight is kept in your work folder and stands here again
# when the cell is run anew.

# %% name="fly"
lab = flight_lab(parts, gates=flight.measured_gates)
lab

# %% [markdown]
# Where a level does not hold, the scorecard names the part. Mend it, run its cell, `own-parts` and the cell above again, and fly. Then keep what you
# have reached: the next cell writes a page that can be printed, with the levels, the exercises that you have passed, the versions, the date and
# the seed. Put your name in, or leave it out.

# %% name="certificate"
flown = flight.kept()
if flown:
    page = flight.certificate(flown, exercises=passed(), name="")
    Path("certificate.html").write_text(page, "utf-8")
print("certificate.html is written" if flown else "Nothing has been flown yet.")

# %% [markdown]
# ### Stretch: your own program
#
# At work you have a DSPy program and no flight around it. The command flies it alone, through a slow model, a rate limit, an outage, malformed
# output and silence, and says from what it measured which of the mechanisms of this course would have helped, in the order of their gain:
#
# `course flight --program my_module:MyProgram --inputs questions.jsonl --html card.html`
#
# `questions.jsonl` has a JSON object of your program's input fields on each line. It takes about a minute, and asks the simulated model only.

# %% [markdown] name="end-7"
# ## Summary
#
# What you set out to do, and what was seen:
#
# - *Seven parts:* each began with something that works on a good day, and each stage took one bad day more.
# - *Put together:* what becomes of a request is decided where parts meet: what is kept, for whom, and what is said when all else fails.
# - *Flown:* stated levels, a script with a seed, and a table of what each mechanism is for. What holds has been seen to hold, and to fail without.
#
# | phase | question of this notebook |
# | --- | --- |
# | design | Which levels do I promise, in numbers, before I build? |
# | implement | What does each part do when the one behind it is gone? |
# | test | Which mechanism could I take away without any test noticing? |
# | deploy | Who flies the system again, with which script, before the next release? |
#
# This was the last notebook. What was measured in front of you can be measured again: `course flight --seed 8` is another ninety seconds.
