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
# ## 5. Data streams
#
# So far somebody waited for each answer. A support desk has other work, too: a ticket comes by mail, and a help article is changed while
# questions are answered. These are *events*. Their producer does not wait for their consumer, so something has to stand between the two, and
# four things have to be decided: what happens when events come faster than they are handled, when a consumer dies in the middle of one, when
# an event comes twice, and when one can never be handled.
#
# ```mermaid
# flowchart LR
#     accTitle: Events, consumers and dead letters
#     accDescr: Producers publish to a bounded stream in Redis. The consumers of a group each take some events and acknowledge them when their effects are written. An event of a dead consumer is claimed by another one. An event that can never be handled becomes a dead letter.
#     producer([producers]) -- "publish, or wait" --> stream[(stream in Redis,<br>bounded)]
#     stream --> a[consumer a]
#     stream --> b[consumer b]
#     a -- "effect, then acknowledge" --> effects[(effects)]
#     b --> effects
#     a -. "died: claimed by b" .-> b
#     b -. "never to be handled" .-> dead[(dead letters)]
# ```
#
# ### Faster than they are handled
#
# The smallest thing between a producer and a consumer is a queue. Two hundred documents arrive at once, and each takes a millisecond to handle.

# %% name="bounded-buffer"
import asyncio


async def most_waiting(maxsize):
    """Send 200 documents through a queue; return how many waited in it at most."""
    queue, most = asyncio.Queue(maxsize), 0

    async def consume():
        while await queue.get():
            await asyncio.sleep(0.001)

    consumer = asyncio.create_task(consume())
    for number in (*range(1, 200), None):
        await queue.put(number)  # in a bounded queue the producer waits here
        most = max(most, queue.qsize())
    await consumer
    return most


print("unbounded:", await most_waiting(0), "waited in memory; with a bound of 10:", await most_waiting(10))

# %% [markdown]
# Without a bound the queue holds whatever the producer sends, until there is no memory left. A *bounded buffer* makes the producer wait, which
# is called *backpressure*. Both queues have another weakness: they are in the memory of one process, and when it dies their events are gone.
#
# ### A consumer dies
#
# *Redis Streams* keep events outside of all processes. Consumers of one *group* share them: `XREADGROUP` hands an event to one of them and
# remembers to whom, `XACK` says that it is handled, and `XAUTOCLAIM` takes over what somebody has held for too long. Here `ada` takes the first
# ticket and dies.

# %% name="small-stream"
import secrets

import redis.asyncio

from course_lib.services import running_redis

server = running_redis()
raw = redis.asyncio.Redis.from_url(server.url, protocol=2, decode_responses=True)


async def take(name, consumer):
    """Return an event: a new one, or one that another consumer has held for 50 ms; None if there is none."""
    if found := await raw.xreadgroup("desk", consumer, {name: ">"}, count=1):
        return found[0][1][0]
    claimed = await raw.xautoclaim(name, "desk", consumer, min_idle_time=50, count=1)
    return claimed[1][0] if claimed[1] else None


# %% name="ada-dies"
async def ada_dies():
    name = f"small-{secrets.token_hex(4)}"
    await raw.xgroup_create(name, "desk", id="0", mkstream=True)
    for number in (1, 2, 3):
        await raw.xadd(name, {"ticket": f"T-{number}"})
    print("ada takes", (await take(name, "ada"))[1]["ticket"], "and dies")
    while (await raw.xpending(name, "desk"))["pending"] or await raw.xlen(name):
        if event := await take(name, "ben"):
            print("ben handles", event[1]["ticket"])
            await raw.xack(name, "desk", event[0])
            await raw.xdel(name, event[0])


await ada_dies()

# %% [markdown]
# Nothing is lost: an event is acknowledged *after* it was handled, so each is handled **at least once**. No delivery can promise "exactly
# once": perhaps ada died just before `XACK`, when all her work was done. Then ben does it again.
#
# ### An event comes twice
#
# If an event may come twice, its *effect* must not: it has to be *idempotent*. The usual way is to write the effect and the event's id in one
# transaction. `Effects.once` does it in SQLite. Here an event is a refund, and it is delivered three times:

# %% name="paid-three-times"
from course_lib.concurrency.events import Effects, Event

event = Event("refund", {"euros": 40}, id="R-7")
paid = sum([event.data["euros"] for _ in range(3)])  # what a handler does that forgets
print("a plain handler pays:", paid)

# %% name="effects-once"
effects = Effects(f"{scratch.name}/effects-{next(counter)}")
await effects.transact(lambda db: db.execute("create table refunds (event text, euros integer)"))


async def refund(event):
    async def work():
        return event.data["euros"]  # asking a model, say: it may be done again, so it changes nothing

    def write(db, euros):
        db.execute("insert into refunds values (?, ?)", (event.id, euros))

    return await effects.once(event, work, write)


print("refund returns:", [await refund(event) for _ in range(3)])
print(
    "refund pays:",
    await effects.transact(lambda db: db.execute("select sum(euros) from refunds").fetchone()[0]),
)

# %% [markdown]
# ### The library's: EventStream and Consumer
#
# `EventStream` and `Consumer` are the small version with what production adds: a bound, several events at a time, signs of life while a handler
# works long, waits between deliveries, dead letters, a graceful stop, and patience while Redis is away. First the bound. Redis has one of its
# own, `MAXLEN`, which looks like backpressure:

# %% name="maxlen"
from course_lib.concurrency import Consumer, EventStream


def new_stream(**options):
    return EventStream(server.url, f"events-{secrets.token_hex(4)}", **options)


bounded, lossy = new_stream(bound=5), f"small-{secrets.token_hex(4)}"
for number in range(20):
    await raw.xadd(lossy, {"ticket": f"T-{number}"}, maxlen=5, approximate=False)
print("MAXLEN: 20 published without complaint,", await raw.xlen(lossy), "there")
try:
    async with asyncio.timeout(0.1):
        await bounded.publish(*(Event("ticket", {"number": number}) for number in range(20)))
except TimeoutError:
    print("bound:  the producer waits,", await bounded.backlog(), "there")

# %% [markdown]
# `MAXLEN` deletes the oldest events, handled or not, and tells nobody. A bound that waits loses none.
#
# Now a real kill. Another process consumes 40 events, each of which takes a moment, and is killed in the middle with SIGKILL, as the kernel
# does when memory runs out. Then a consumer in this notebook takes over.

# %% name="killed-consumer"
import subprocess
import sys

CONSUMER = """
import asyncio, sys
from course_lib.concurrency.events import Consumer, Effects, EventStream
effects = Effects(sys.argv[3])
async def handle(event):
    print(event.id, flush=True)
    await effects.once(event, lambda: asyncio.sleep(0.01, event.id))
asyncio.run(Consumer(EventStream(sys.argv[1], sys.argv[2]), handle, limit=4).run())
"""
numbers, recorded = new_stream(), Effects(file := f"{scratch.name}/effects-{next(counter)}")
await numbers.publish(*(Event("number", {}, id=str(number)) for number in range(40)))
command = [sys.executable, "-c", CONSUMER, server.url, numbers.name, file]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
    handled = [victim.stdout.readline().strip() for _ in range(20)]
    victim.kill()
    handled += victim.stdout.read().split()  # what it had begun besides

# %% name="taken-over"
from course_lib.concurrency.events import consuming

print("killed when", len(handled), "of 40 had begun; not acknowledged:", await numbers.backlog())


async def handle(event):
    handled.append(event.id)
    await recorded.once(event, lambda: asyncio.sleep(0.01, event.id))


async with consuming(numbers, handle, idle_s=0.3):
    await numbers.drained()
rows = await recorded.transact(lambda db: db.execute("select count(*) from effects").fetchone()[0])
print("handled:", len(handled), "times,", len(set(handled)), "different events;", rows, "effects")

# %% [markdown]
# Some events were handled twice, all of them at least once; and there are as many effects as events.
#
# ### What can never be handled: dead letters
#
# An event whose handler raises is delivered again, after a wait that doubles: perhaps the model was down. An event that can *never* be handled
# would come back for ever. So a handler may say so with an `EventError`, and after `most_deliveries` the consumer gives up by itself. The event
# is then kept as a *dead letter*, with the reason, for a person to look at; `revive` publishes it again.

# %% name="dead-letters"
from course_lib.concurrency.events import EventError

seen, odd = Counter(), new_stream()


async def handle(event):
    seen[event.id] += 1
    if event.id == "no text":
        raise EventError("a ticket needs a text")
    if event.id == "unlucky" and seen[event.id] < 3:
        raise dspy.LMServerError("the model is down")


await odd.publish(*(Event("ticket", {}, id=name) for name in ("fine", "no text", "unlucky")))
async with consuming(odd, handle, retry_s=0.02):
    await odd.drained()
print("deliveries:", dict(seen))
print("dead letters:", {letter.event().id: letter.reason for letter in await odd.dead_letters()})

# %% [markdown]
# ### Answering while documents arrive
#
# `SupportDesk` is the desk as a consumer: a ticket event comes in, is sorted and answered, and a reply event leaves, with an id made from the
# ticket's, so that a ticket that comes twice gets one reply. `LiveIndex` is another consumer: it takes in articles, and replaces its index as
# a whole, so that a search never waits and never sees half a change.

# %% name="a-document"
from course_lib.concurrency.events import LiveIndex, SupportDesk

models = {"large": lm.connect(cache=False), "small": lm.connect("sim-small", cache=False)}
RENTING = {"id": "tent-rental", "title": "Renting a tent", "updated": "2026-03-01", "keywords": ["rental"]}
RENTING["body"] = "Renting the Halden tent for a weekend costs EUR 45."
ask = {"text": "What does it cost to rent the Halden tent for a weekend?"}
tickets, replies, documents, said = new_stream(), new_stream(), new_stream(), []


# %% name="answers-meanwhile"
async def note(event):
    said.append({key: str(event.data[key]) for key in ("ticket", "answer", "citations")})


index = LiveIndex(kept := Effects(f"{scratch.name}/effects-{next(counter)}"))
support = SupportDesk(tickets, replies, kept, index=index, **models)
async with consuming(tickets, support.answer), consuming(documents, index.ingest):
    await tickets.publish(Event("ticket", ask, id="before"))
    await tickets.drained()
    await documents.publish(Event("document", RENTING))
    await documents.drained()
    await tickets.publish(Event("ticket", ask, id="after"))
    await tickets.drained()
async with consuming(replies, note, limit=1):
    await replies.drained()
table(said)

# %% [markdown]
# ### Deeper: more than can be answered
#
# The morning after a newsletter there are more tickets than the large model answers in time. A desk that goes on as usual answers all
# of them too late. `SupportDesk` looks at the backlog, gives simpler answers step by step, and each reply says in `how` what it is: the large
# model, the small one, and in the end an honest refusal that costs nothing. This is *graceful degradation*.

# %% name="degradation"
import matplotlib.pyplot as plt

from course_lib.labs import plot

how, texts = [], [each.text for each in desk.tickets("dev")]


async def note_how(event):
    how.append(event.data["how"])


kept = Effects(f"{scratch.name}/effects-{next(counter)}")
support = SupportDesk(tickets, replies, kept, small_at=8, refuse_at=16, **models)
await tickets.publish(*(Event("ticket", {"text": texts[n]}, id=f"burst-{n}") for n in range(30)))
async with consuming(tickets, support.answer, limit=1), consuming(replies, note_how, limit=1):
    await tickets.drained()
    await replies.drained()
Counter(how)

# %% name="degradation-picture"
kinds = ["large model", "small model", "refused"]
figure, axes = plt.subplots(figsize=(8, 1.6), layout="constrained")
axes.scatter(range(30, 0, -1), [kinds.index(each) for each in how], c="black", s=14)
axes.set(yticks=range(3), yticklabels=kinds, xlabel="tickets in the backlog when this one was answered")
axes.invert_xaxis()
plot(
    figure, "From a backlog of 30 down to 1: " + ", ".join(f"{n} {kind}" for kind, n in Counter(how).items())
)

# %% [markdown]
# The customers who were refused know at once that they have to ask again, and the last seven got the large model. To refuse some, so that
# others are answered in time, is called *load shedding*; part 6 does it for model calls.
#
# ### Exercise 3.6: answers from documents that arrive meanwhile (15 minutes, hard)
#
# *Concepts: event handler, idempotence, dead letter, streaming, tenants.*
#
# Write `LiveRag`: a `Consumer` feeds its `ingest(event)`, while others iterate over `answer(question, tenant)`.
#
# - `await ingest(event)`: `event.data` holds the fields of a `desk.Article`, its date as text. When it returns, the article can be found. Events
#   come twice and in any order: the newest version of an article (`updated`) counts, under its `id`. An event that is no article is refused with
#   an `EventError`, which makes it a dead letter, and changes nothing.
# - `answer(question, tenant="")` is an async generator. First it yields the list of the ids of the articles that it answers from: what
#   `desk.Index` finds at most three of, best first, among those of that tenant (`event.tenant`) which are there when it begins. Then it yields the
#   answer's text in pieces, as the model (`desk.Answer`, with its `context`) writes it.
# - Where no article is found, the list is empty, one sentence says so, and no model is asked.
# - Neither waits for the other: documents are taken in while a reader is slow. An answer under way keeps the articles with which it began.
# - When the reader leaves (`aclose()`), the request to the model ends. When the model's answer breaks off, its error comes out.

# %% name="ex-3-6" tags=["exercise"] exercise="3.6"
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        ### BEGIN SOLUTION
        ### STUB: ...
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())
        ### END SOLUTION

    async def answer(self, question, tenant=""):
        ### BEGIN SOLUTION
        ### STUB: ...
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause
        ### END SOLUTION


# %% tags=["right"] exercise="3.6"
# Every version that came, in one list; what counts is found out when somebody asks.
from datetime import date

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError


class LiveRag:
    def __init__(self):
        self.versions = []

    async def ingest(self, event):
        try:
            texts = [event.data[name] for name in ("id", "title", "body")]
            words = tuple(event.data.get("keywords", ()))
            if not all(isinstance(each, str) for each in (*texts, *words)):
                raise ValueError("no text")
            article = desk.Article(*texts, date.fromisoformat(event.data["updated"]), words)
        except (KeyError, ValueError, TypeError) as error:
            raise EventError(f"no article: {error}") from None
        self.versions.append((event.tenant, article))

    async def answer(self, question, tenant=""):
        newest = {}
        for _, article in sorted(
            (each for each in self.versions if each[0] == tenant), key=lambda e: e[1].updated
        ):
            newest[article.id] = article
        found = [hit.article for hit in desk.Index(newest.values()).search(question, 3)]
        yield [article.id for article in found]
        if found:
            events = stream(desk.Answer(), question=question, context=[article.chunk for article in found])
            try:
                async for event in events:
                    if hasattr(event, "cause"):
                        raise event.cause
                    yield getattr(event, "text", "")
            finally:
                await events.aclose()
        else:
            yield "Nothing is known about this."


# %% tags=["right"] exercise="3.6"
# The library's LiveIndex, with effects in a file.
import tempfile

from course_lib.concurrency import stream
from course_lib.concurrency.events import Effects, LiveIndex
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="lantern-")
        self.index = LiveIndex(Effects(f"{self.folder.name}/effects"))

    async def ingest(self, event):
        await self.index.ingest(event)

    async def answer(self, question, tenant=""):
        chunks = {hit.article.id: hit.article.chunk for hit in self.index.search(question, 3, tenant=tenant)}
        yield list(chunks)
        if not chunks:
            yield "No article says anything about it."
            return
        async with stream(desk.Answer(), question=question, context=list(chunks.values())) as events:
            async for event in events:
                match event:
                    case Token(text=text):
                        yield text
                    case Error(cause=error):
                        raise error


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="ids and text after versions of March"
# The last one that came counts, not the newest.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        known[article.id] = article
        self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="ids and text after versions of March"
# The first version of an article stays.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="ids and text after versions of March"
# Every version is an article of its own.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if True:
            known[event.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="dead letters"
# What is no article is passed over without a word.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError:
            return
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="how often such an event is delivered"
# Any error will do: the event comes again and again before it is given up.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise ValueError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="ids and text after versions of March"
# Takes what it can get: a missing date is today's.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python({**event.data, "updated": "2026-04-01"})
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="that tenant's articles alone"
# One index for all tenants.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault("", {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[""] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get("")
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="a tenant without articles"
# Who has no articles gets those of all.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant) or next(iter(self.indexes.values()), None)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="the ids, yielded first"
# The ids of all that is found.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="requests when nothing has arrived"
# Asks the model even without an article.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="the text without an article"
# Nothing found, nothing said.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="requests that had ended"
# The whole answer first, then the ids.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        if not hits:
            yield []
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        found = await self.program.acall(question=question, context=context)
        yield [hit.article.id for hit in hits]
        for word in found.answer.split(" "):
            yield word + " "


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="requests that had ended"
# Waits for the whole answer and cuts it into pieces.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        found = await self.program.acall(question=question, context=context)
        for word in found.answer.split(" "):
            yield word + " "


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="documents are taken in"
# One lock for both: documents wait until the reader has read.
import asyncio

from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant
        self.lock = asyncio.Lock()

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        async with self.lock:
            pass
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with self.lock, stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="an answer that broke off"
# A half answer passes for a whole one.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="what the model's server saw"
# The stream goes on when its reader has left.
import asyncio

from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        queue = asyncio.Queue()

        async def read():
            async with stream(self.program, question=question, context=context) as events:
                async for event in events:
                    queue.put_nowait(event)
            queue.put_nowait(None)

        self.reading = asyncio.create_task(read())
        while event := await queue.get():
            if isinstance(event, Token):
                yield event.text
            elif isinstance(event, Error):
                raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="the ids, yielded first"
# Worst first.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in reversed(hits)]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="the ids, yielded first"
# The index is built a moment later.
import asyncio

from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            asyncio.get_running_loop().call_later(0.5, self.build, event.tenant)

    def build(self, tenant):
        self.indexes[tenant] = desk.Index(self.articles[tenant].values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [hit.article.chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% tags=["wrong"] exercise="3.6" outcome="failed" message="from its own articles"
# The texts are looked up when the ids are out already.
from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency import stream
from course_lib.concurrency.events import EventError
from course_lib.concurrency.streaming import Error, Token


class LiveRag:
    def __init__(self):
        self.program = desk.Answer()
        self.articles = {}  # of each tenant, by id
        self.indexes = {}  # of each tenant

    async def ingest(self, event):
        try:
            article = TypeAdapter(desk.Article).validate_python(event.data)
        except ValidationError as error:
            raise EventError(f"event {event.id!r} is no article: {error}") from None
        known = self.articles.setdefault(event.tenant, {})
        if article.id not in known or article.updated > known[article.id].updated:
            known[article.id] = article
            self.indexes[event.tenant] = desk.Index(known.values())

    async def answer(self, question, tenant=""):
        index = self.indexes.get(tenant)
        hits = index.search(question, 3) if index else []
        yield [hit.article.id for hit in hits]
        if not hits:
            yield "I do not know: I have no article about this."
            return
        context = [self.articles[tenant][hit.article.id].chunk for hit in hits]
        async with stream(self.program, question=question, context=context) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Error):
                    raise event.cause


# %% name="check-3-6" tags=["check"] exercise="3.6"
check("3.6", LiveRag)

# %% name="help-3-6"
# hint("3.6")
# solution("3.6")

# %% [markdown]
# ## 6. Resilience
#
# A provider fails in more than one way: some requests are refused, a few take half a minute, and now and then everything is down
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

# %% name="asking"
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


# %% name="outcomes-of"
async def outcomes_of(call, tickets, every_s=0.0):
    """Send tickets, one every so often; return how many were answered, the other ends, and the requests."""
    before = lm.ledger().requests

    async def outcome(ticket, after_s):
        await asyncio.sleep(after_s)
        try:
            await call(ticket)
        except (dspy.DSPyError, CourseError, TimeoutError) as error:
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
        for attempt in range(self.attempts - 1):
            try:
                return await call(request)
            except dspy.LMError as error:
                if not dspy.is_retryable_lm_error(error):
                    raise
            wait_s = self.first_wait_s * 2**attempt  # exponential: twice as long each time
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # jitter: up to half of it left out
        return await call(request)  # the last attempt, whose error comes out


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
# Now the model is down, and clients are patient: six attempts each. Guess before you run it: what does the server see of 20 questions, and
# what does it need at this moment?

# %% name="retry-storm"
before = lm.ledger().requests
patient = composed([SmallBackoff(attempts=6, first_wait_s=0.01)], asking("down"))
print(await outcomes_of(patient, questions[:20]))
lm.verdict(since=before)

# %% [markdown]
# Six times the load, on a server that is down perhaps because it had too much: this is how a short failure becomes a long one. Where two
# layers repeat, it is six times six. The ledger's *verdict* names it `retry_storm`: `lm.verdict()` reads what the endpoint saw of this client,
# and says what a provider would say of it. So two rules: **one layer repeats**, and repeats have a *budget*, a share of all calls. The
# course's `ExponentialBackoff` is the small version with a budget, and with `Retry-After` honoured up to a cap (part 3).

# %% name="retry-budget"
from course_lib.concurrency import ExponentialBackoff

before = lm.ledger().requests
budgeted = ExponentialBackoff(
    attempts=6, first_wait_s=0.01
)  # one repeat for five calls, five more to begin with
print("down:   ", await outcomes_of(composed([budgeted], asking("down")), questions[:20]))
print(lm.verdict(since=before))
budgeted = ExponentialBackoff(attempts=6, first_wait_s=0.01)
print("showers:", await outcomes_of(composed([budgeted], asking("showers")), questions[:40]))

# %% [markdown]
# The storm is gone. The price is in the last line: where three requests in ten fail, a budget of one repeat for five calls is too small for
# all of them. It is meant to be: a budget repairs few failures, and keeps many from becoming more.
#
# ### Stop asking: the circuit breaker
#
# While a service is down, each call of it costs the user a wait and the service a request, for nothing. A *circuit breaker* remembers that
# it is down, and does not call. From time to time it lets one call through, to find out whether the service is back.
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
        elif self.state == "half-open":
            self.state, self.until_s = "open", self.clock()
        return True


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
# %% [markdown]
# ### What a breaker saves
#
# The library's `CircuitBreaker` is that table with what production adds: threads, a name and its last error for the log, a wait that doubles
# after each failed trial, and your own word on what a failure is. Here the model fails from second 0.5 to 1.5, and a ticket comes every 25 ms.

# %% name="a-breaker"
from course_lib.concurrency import guarded_by
from course_lib.resilience import CircuitBreaker

OUTAGE = (dspy.LMServerError, dspy.LMTransportError, dspy.LMTimeoutError)
lm.profile("short-outage", timeline=[(0.5, 1.5, {"unavailable_rate": 1.0})])
waits = {"first_wait_s": 0.2, "longest_wait_s": 0.3}
breaker = CircuitBreaker("large", threshold=3, is_failure=lambda e: isinstance(e, OUTAGE), **waits)
guarded = composed([guarded_by(breaker)], asking("short-outage"))

# %% name="breaker-over-time"
lm.reset()  # the outage counts from the next request
begun_s, seen = time.monotonic(), []


async def noted(ticket):
    """Send a ticket; note when, and what became of it."""
    at_s, end = time.monotonic() - begun_s, "answered"
    try:
        await guarded(ticket)
    except (dspy.LMError, BreakerOpen) as error:
        end = "not asked" if isinstance(error, BreakerOpen) else "failed"
    seen.append((end, at_s))


requests = (await outcomes_of(noted, questions[:80], every_s=0.025))["requests"]
print(dict(Counter(end for end, _ in seen)), "of 80 tickets;", requests, "requests")

# %% name="breaker-picture"
ends = ["not asked", "failed", "answered"]
times_s = [[at_s for end, at_s in seen if end == each] for each in ends]
figure, axes = plt.subplots(figsize=(8, 2), layout="constrained")
axes.axvspan(0.5, 1.5, color="tab:red", alpha=0.15)
axes.eventplot(times_s, colors=["tab:gray", "tab:red", "tab:blue"], linelengths=0.6)
axes.set(yticks=range(3), yticklabels=ends, xlabel="seconds; in the shaded one the model is down")
told = [f"{each}: {min(s):.1f} to {max(s):.1f} s" for each, s in zip(ends, times_s, strict=True)]
plot(figure, "One line for each ticket. " + "; ".join(told))

# %% [markdown]
# The red lines are all that the failing model was asked: three to open the breaker, then one trial after 0.2 s and then each 0.3 s. All others
# know at once that they have to go elsewhere. The price is to the right of the shaded part: for a moment the model is back, and nobody
# asks it.
#
# ### Where it hurts: a breaker that counts the wrong thing
#
# Answers with status 429, "slower, please", come from a service that *works*. Here the first five requests get one, and then the model is well
# again. Guess before you run it: of 30 tickets, how many are answered if the breaker takes a 429 for a failure, and how many if it does not?

# %% name="breaker-hurts"
answers = {}
for counts, is_failure in {"every error": lambda _: True, "outages": lambda e: isinstance(e, OUTAGE)}.items():
    lm.profile("limited", first=["rate_limited"] * 5)
    breaker = CircuitBreaker("large", threshold=3, first_wait_s=5, is_failure=is_failure)
    guarded = composed([guarded_by(breaker)], asking("limited"))
    answers[f"counts {counts}"] = await outcomes_of(guarded, questions[:30], every_s=0.01)
answers

# %% [markdown]
# The breaker that counts every error has cut off a model that was well. What counts as a failure is the most important setting of a breaker:
# outages do, and neither a limit nor a bad request of one customer does.
#
# ### Deeper: a place for each, the bulkhead
#
# A ship has walls across, so that one hole does not sink it. Two models share eight places here; one of them is stuck, and its 16 calls each
# hold a place until they are given up after 0.25 s. What does that do to those who ask the *healthy* model? A `Bulkhead` of its own for each
# model, with the same eight places in all, is the wall. It also bounds the line: a caller that would have to wait behind too many others is
# refused at once, which is called *load shedding*.

# %% name="bulkhead-helps"
from course_lib.concurrency import Timeout, limited_by
from course_lib.resilience import Bulkhead

lm.profile("stuck", hang_rate=1.0)


async def slowest_healthy_s(of_stuck, of_healthy):
    """Ask the stuck model 16 times and the healthy one 8 times; return the slowest healthy answer's time."""
    stuck = composed([limited_by(of_stuck), Timeout(0.25)], asking("stuck"))
    healthy = composed([limited_by(of_healthy), Timeout(0.25)], asking("calm"))
    flood, begun_s = asyncio.ensure_future(outcomes_of(stuck, questions[:16])), time.monotonic()
    await asyncio.sleep(0)  # the flood is first
    await outcomes_of(healthy, questions[:8])
    healthy_s = time.monotonic() - begun_s
    await flood
    return healthy_s


both = asyncio.Semaphore(8)
apart = Bulkhead("stuck", limit=4, waiting=20), Bulkhead("healthy", limit=4, waiting=20)
print(f"eight places for both: {await slowest_healthy_s(both, both):.2f} s")
print(f"four places for each:  {await slowest_healthy_s(*apart):.2f} s")

# %% [markdown]
# Where it hurts: walls waste room. With four places for each, the healthy model cannot use the four that the other one leaves free. A
# bulkhead that is too small refuses work that nothing prevents:

# %% name="bulkhead-hurts"
small_one = limited_by(Bulkhead("too small", limit=2, waiting=2))
await outcomes_of(composed([small_one], asking("calm")), questions[:20])

# %% [markdown]
# ### Somebody else: the fallback
#
# When one model cannot answer, another one may. `Fallback` decides by the class of the error: after an outage, a timeout, an open breaker or a
# full bulkhead the other model is asked; a bad request would be just as bad there.

# %% name="fallback-helps"
from course_lib.concurrency import Fallback

lm.profile("half-down", unavailable_rate=0.5)
with_fallback = composed([Fallback(asking("calm", "sim-small"))], asking("half-down"))
await outcomes_of(with_fallback, questions[:40])

# %% [markdown]
# All answered. But a fallback is only as good as the room that is left there: in an outage it gets the *whole* load at once, perhaps that of
# all customers of the first provider. Here the other model takes five requests a second:

# %% name="fallback-hurts"
lm.profile("not-much-room", limit_requests_per_s=5)
crowded = composed([Fallback(asking("not-much-room", "sim-small"))], asking("down"))
await outcomes_of(crowded, questions[:40])

# %% [markdown]
# So the other model gets policies of its own too, and room there is something to buy before the outage.
#
# ### Deeper: a second request for the slow one, the hedge
#
# Some services are fast nineteen times of twenty, and then slow. A *hedge* sends the request a second time when the answer is late, and
# takes whichever answer comes first; the other request is cancelled. It is for calls that change nothing, since both may be carried out.

# %% name="a-long-tail"
from course_lib.concurrency import Hedge

lm.profile("long-tail", ttft_p50_ms=40, ttft_p99_ms=1500, seed=15)


async def latency_of(policies, profile):
    """Sort 40 tickets, a few at a time; return the 95th percentile, and the requests for each."""
    lm.reset()
    took_s, timed_call = [], composed(policies, asking(profile))

    async def timed(ticket):
        begun_s = time.monotonic()
        await timed_call(ticket)
        took_s.append(time.monotonic() - begun_s)

    ends = await outcomes_of(timed, questions[:40], every_s=0.025)
    while lm.ledger().under_way:  # the losers, which were cancelled
        await asyncio.sleep(0.02)
    p95_ms = round(1000 * sorted(took_s)[int(0.95 * len(took_s)) - 1])
    return {"answered": ends["answered"], "p95, ms": p95_ms, "requests each": lm.ledger().requests / 40}


# %% name="hedge-helps"
from course_lib.resilience import RetryBudget

hedge = Hedge(0.2, is_idempotent=lambda request: True, budget=RetryBudget(0.3, burst=10))
print("no hedge:  ", await latency_of([], "long-tail"))
print("with hedge:", await latency_of([hedge], "long-tail"))

# %% [markdown]
# Where *all* answers are slow because the service is near its limit, hedges take the room that is left, and requests are refused that would
# have been answered. Therefore there is a budget: one call in twenty, and a few to begin with, unless you say otherwise.

# %% name="hedge-hurts"
lm.profile("near-its-limit", ttft_p50_ms=300, limit_requests_per_s=30)
wild = Hedge(0.2, is_idempotent=lambda request: True, budget=RetryBudget(1.0, burst=100))
print("no budget: ", await latency_of([wild], "near-its-limit"))
usual = Hedge(0.2, is_idempotent=lambda request: True)
print("the usual: ", await latency_of([usual], "near-its-limit"))

# %% [markdown]
# ### Deeper: one call for the same question, coalescing
#
# Identical requests that are under way at the same time can share one call: lesson 02's single-flight, as a policy. The `key` says what is
# identical. It hurts where the same question is asked again *on purpose*: five samples that are to be compared become one.

# %% name="coalesce"
from course_lib.concurrency import Coalesce

sharing = Coalesce(key=lambda ticket: ticket)
crowd = [unasked(questions[0])] * 20
print("a crowd:     ", await outcomes_of(composed([sharing], asking("calm")), crowd))
samples = composed([sharing], asking("calm", temperature=1.0))
print("five samples:", await outcomes_of(samples, [questions[1]] * 5))

# %% [markdown]
# The library's key is None, "do not share", for a temperature above 0, for a stream, and for requests with tools that the provider runs.
#
# ### All of it: ResilientProcessor
#
# `ResilientProcessor` is a `dspy.Module` around your program. It puts these policies around the program's *model calls*: below the adapter,
# so that a repeat costs one request and not the whole program again, and with DSPy's own repeats switched off, so that one layer repeats.
# `answered_by` says which models answered. Here the first model is down:

# %% name="resilient-processor"
from course_lib.concurrency import ResilientProcessor

first, other = (lm.connect(name, cache=False) for name in ("sim-large@down", "sim-small"))
resilient_triage = ResilientProcessor(desk.Triage(), first, other, deadline_s=5)
before = lm.ledger().requests
for ticket in questions[:4]:
    prediction = await resilient_triage.acall(ticket=ticket)
    print(prediction.category, "by", *prediction.answered_by)
print("requests:", dict(Counter(call.model for call in lm.ledger(since=before).calls)))

# %% [markdown]
# After two failures the breaker is open, and the large model is not asked any more. The order of the policies is part of the design, and
# `recommended` is the function in which it is written down. The backoff is outside the bulkhead, or it would hold a place while it waits. The
# bulkhead is outside the breaker, or the breaker would count a refusal as a failure. The fallback is around all of them.
#
# Two more things belong to it. The *deadline* holds for the program as a whole, and ends the request at the model's server (status 499: the
# client has left). And once a reader has seen the first token of a stream, nothing is repeated: two halves of two answers are no answer.

# %% name="deadline-and-half"
from course_lib.concurrency import stream
from course_lib.concurrency.streaming import Error, Token

lm.profile("stuck", hang_rate=1.0)
lm.profile("half", cut_midway_rate=1.0)
lm.reset()
stuck, half, well = (
    lm.connect(each, cache=False) for each in ("sim-large@stuck", "sim-large@half", "sim-small")
)
late = ResilientProcessor(desk.Triage(), stuck, deadline_s=0.3)
ends = await outcomes_of(lambda ticket: late.acall(ticket=ticket), questions[:1])
while lm.ledger().under_way:
    await asyncio.sleep(0.01)
print("DeadlineExceeded:", ends["DeadlineExceeded"], "- at the model's server:", lm.ledger().statuses)
before = lm.ledger().requests
cut = ResilientProcessor(desk.Answer(), half, well)
async with stream(cut, question="How many days do I have to return an item?") as events:
    seen = [event async for event in events]
print(sum(isinstance(event, Token) for event in seen), "tokens and", lm.ledger().requests - before, "request")
print(*(f"{type(event.cause).__name__}: {event.cause}"[:75] for event in seen if isinstance(event, Error)))

# %% [markdown]
# ### What each is worth: switch it off
#
# Does each mechanism earn its place? Take one out and measure again. Every row has its own copy of the same bad time: one request in four
# is never answered, and from second 1.7 to 3.4 the model is down. A ticket comes every 200 ms and has 3 s.

# %% name="rows-to-compare"
from course_lib.concurrency import recommended

POLICIES = ("coalescing", "backoff", "hedge", "bulkhead", "breaker", "timeout")


def less(left_out, models=2):
    """Return what makes a resilient program of two models, with all mechanisms but one."""

    def policies(name, *, is_last):
        named = zip(POLICIES, recommended(name, is_last=is_last), strict=True)
        return [policy for what, policy in named if what != left_out]

    return lambda *both: ResilientProcessor(desk.Triage(), *both[:models], deadline_s=3, policies=policies)


def plain_dspy(model, _other):
    program = desk.Triage()
    program.set_lm(model.copy(num_retries=3))
    return program


rows = {"all of it": less("nothing"), "less the fallback": less("nothing", models=1)}
rows |= {f"less the {each}": less(each) for each in ("backoff", "hedge", "breaker")}
rows["plain DSPy, 3 retries"] = plain_dspy

# %% name="switched-off"
bad = {"ttft_p50_ms": 60, "hang_rate": 0.25}
bad["timeline"] = [(1.7, 3.4, {"unavailable_rate": 0.9, "cut_before_rate": 0.1, "hang_rate": 0.0})]


async def measured_s(number, build):
    """Send 16 tickets to a row's program, whose models have profiles of their own; return the times."""
    lm.profile(f"bad-{number}", **bad)
    lm.profile(f"other-{number}")
    names = f"sim-large@bad-{number}", f"sim-small@other-{number}"
    program, took_s = build(*(lm.connect(name, cache=False) for name in names)), []

    async def call(ticket):
        begun_s = time.monotonic()
        async with asyncio.timeout(3.1):
            await program.acall(ticket=ticket)
        took_s.append(time.monotonic() - begun_s)

    await outcomes_of(call, questions[:16], every_s=0.2)
    return took_s


lm.reset()
took_s = await asyncio.gather(*(measured_s(*each) for each in enumerate(rows.values())))
requests = Counter(call.profile.rpartition("-")[2] for call in lm.ledger().calls)

# %% name="the-table"
table(
    [
        {
            "": name,
            "answered in 3 s": f"{len(each_s)} of 16",
            "mean, ms": f"{1000 * sum(each_s) / len(each_s):.0f}",
            "requests a ticket": f"{requests[str(number)] / 16:.2f}",
        }
        for number, (name, each_s) in enumerate(zip(rows, took_s, strict=True))
    ]
)

# %% [markdown]
# Without the fallback, tickets that come in the outage have no answer. Without the breaker, each of them is sent to the model that is down
# before another one is asked, which costs requests. Without the hedge, a request that is never answered waits until it is the other model's
# turn, which costs time. The backoff has nothing to do here: only the last model in the line is asked again, and that one is well. Bulkhead,
# timeout and coalescing have no row: with this load and these tickets they have nothing to do either. Which mechanism pays depends on how your
# provider fails; that is why each can be switched off, and why you measure.
#
# ### What the provider would say
#
# Last, the other side's view: 20 tickets under `storm`, one of the profiles that ship, where everything goes wrong at once. Behind it stands
# the same model of another provider.

# %% name="verdict-on-us"
lm.reset()
two_providers = (lm.connect(f"sim-large@{each}", cache=False) for each in ("storm", "busy"))
program = ResilientProcessor(desk.Triage(), *two_providers, deadline_s=3)
print(await outcomes_of(lambda ticket: program.acall(ticket=ticket), questions[20:40], every_s=0.08))
lm.verdict(deadline_s=3)
# %% [markdown]
# ## 7. Deeper: what breaks in production
#
# Four short ones; none of them shows in a demo with one user. (Calls that block the event loop, and contexts that leak, were in part 1.)
#
# ### An unbounded gather
#
# `asyncio.gather` starts everything at once. Sixty tickets meet a service that takes thirty requests a second:

# %% name="unbounded-gather"
from course_lib.concurrency import AsyncRunner

for name in ("thirty-a-second", "thirty-too"):
    lm.profile(name, limit_requests_per_s=30, ttft_p50_ms=110)
lm.reset()
print("gather:     ", await outcomes_of(asking("thirty-a-second"), questions[:60]))
print("            ", lm.ledger().most_at_once, "at once")
lm.reset()
outcomes = await AsyncRunner(limit=4).run(asking("thirty-too"), questions[:60])
print("AsyncRunner:", sum(each.ok for each in outcomes), "answered,", lm.ledger().most_at_once, "at once")

# %% [markdown]
# All sixty begin in the same moment, and half are refused; with repeats they would all come back. A limit on what is under way is enough: what
# is not begun yet waits in your program, where it costs nothing.
#
# ### A forgotten task
#
# `create_task` is for work that "need not be waited for", such as a line in the audit log. But then nobody gets its error. Here the audit log
# is broken; does the caller learn of it?

# %% name="forgotten-task"
import gc

unseen = []
asyncio.get_running_loop().set_exception_handler(lambda loop, told: unseen.append(repr(told["exception"])))


async def audit(prediction):
    raise OSError("the audit log's disk is full")


async def answer_and_forget(ticket):
    asyncio.create_task(audit(prediction := await triage.acall(ticket=ticket)))  # nobody keeps the task
    return prediction


print("the caller:", await outcomes_of(answer_and_forget, questions[:1]))
await asyncio.sleep(0.01)
gc.collect()
asyncio.get_running_loop().set_exception_handler(None)
print("the garbage collector, later:", *unseen)


# %% name="task-group"
async def answer_and_audit(ticket):
    async with asyncio.TaskGroup() as group:  # ends when its tasks have ended
        prediction = await triage.acall(ticket=ticket)
        group.create_task(audit(prediction))
    return prediction


try:
    await answer_and_audit(questions[0])
except* OSError as group:
    print("the caller:", *group.exceptions)

# %% [markdown]
# A `TaskGroup` is left when all of its tasks have ended, and their errors come out of it. Where the answer must not wait for the audit,
# publish an event (part 5): then the work has an owner.
#
# ### A callback that cannot refuse
#
# DSPy calls your callbacks before each model call. That looks like the place for a rule, such as a budget of two calls:

# %% name="callback-cannot-refuse"
import logging

from dspy.utils.callback import BaseCallback

logging.getLogger("dspy.utils.callback").setLevel(logging.ERROR)  # it warns, and goes on


class Budget(BaseCallback):
    def __init__(self, calls):
        self.left = calls

    def on_lm_start(self, call_id, instance, inputs):
        self.left -= 1
        if self.left < 0:
            raise CourseError("two calls were allowed")


with dspy.context(callbacks=[Budget(calls=2)]):
    print("as a callback:", await outcomes_of(asking("calm"), questions[:5]))

# %% [markdown]
# All five were made: what a callback raises is logged and goes no further, since a fault in a log must not end the program. Callbacks
# *observe*. A rule that refuses a call has to stand around it, as a policy does:


# %% name="policy-refuses"
def at_most(calls):
    """Return a policy that lets so many calls through."""
    numbers = itertools.count(1)

    async def policy(call, request):
        if next(numbers) > calls:
            raise CourseError(f"{calls} calls were allowed")
        return await call(request)

    return policy


budget = at_most(2)
strict = ResilientProcessor(desk.Triage(), model, policies=lambda name, is_last: [budget])
print("as a policy:  ", await outcomes_of(lambda ticket: strict.acall(ticket=ticket), questions[:5]))

# %% [markdown]
# ### Half an answer
#
# A model that reaches its limit of tokens stops in the middle. With a field of text in last place the adapter has nothing to complain about:

# %% name="half-an-answer"
from course_lib.concurrency import stream
from course_lib.concurrency.streaming import Final

logging.getLogger("dspy.clients.lm").setLevel(logging.ERROR)  # the only sign: a line in the log
reply = dspy.Predict("context, question -> answer")
inputs = {
    "context": desk.article("return-policy").chunk,
    "question": "How many days do I have to return an item?",
}
lm.profile("cut-off", cut_by_length_rate=1.0)
with dspy.context(lm=lm.connect("sim-large@cut-off", cache=False)):
    print("DSPy:  ", (await reply.acall(**inputs)).toDict())
    async with stream(reply, **inputs) as events:
        print("stream:", *[event async for event in events if isinstance(event, Final)])

# %% [markdown]
# A sentence that ends with a comma, as a `Prediction` like any other. The typed stream of part 4 says `is_cut=True`; then it is your decision to
# ask again with a higher limit, or to show the text as the half that it is.

# %% name="the-end"
for each in (raw, bounded, numbers, odd, tickets, replies, documents):
    await each.aclose()
for each in (effects, recorded, kept):
    each.close()
dspy.configure(lm=model)
scratch.cleanup()

# %% [markdown]
# ## Summary
#
# What you set out to do in these parts, and what was measured:
#
# - *Data streams:* a bound makes the producer wait. An event is acknowledged after its effect, so it is handled at least once; its id is in
#   the effect's transaction, so the effect happens once. An event that can never be handled becomes a dead letter. Under load the desk
#   answers more simply, and says so.
# - *Resilience:* policies of one shape; one layer that repeats, with a budget; for each model a breaker that counts outages and nothing else;
#   another model behind; and a table that shows what each mechanism is worth.
# - *What breaks:* everything begun at once, tasks whose errors nobody gets, rules in callbacks, half answers that look whole.
#
# | phase | question of this notebook |
# | --- | --- |
# | design | How many at once, until when, and what is given up first when there is too much? |
# | implement | Who repeats, who waits, who refuses: and is each of them there only once? |
# | test | What happens when the model is down or slow, its answer breaks off, and a consumer is killed in the middle? |
# | deploy | Which figure says that it begins to fail: requests for each answer, refusals, backlog, breaker open, first token? |
#
# **Next:** section 4, *Debugging and tracing*: what a program did, step by step, and why.
