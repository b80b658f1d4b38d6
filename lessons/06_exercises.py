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
