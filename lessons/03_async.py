# %% [markdown] name="title"
# # Async and streaming

# %% name="setup" tags=["needs"]
import asyncio
import itertools
import tempfile
import time
from collections import Counter

from course_lib import desk, lm
from course_lib.exercises import check, hint, solution
from course_lib.labs import table

model = lm.connect(cache=False)  # each call asks the model, unless a cell wants the cache

import dspy

scratch = tempfile.TemporaryDirectory(prefix="lantern-")
dspy.configure(lm=model)
dspy.configure_cache(disk_cache_dir=f"{scratch.name}/dspy")  # empty, so that the first call is a first call
print("DSPy", dspy.__version__, "talks to", model.model)
counter = itertools.count(1)


def unasked(text):
    """Return a text that was not asked before, so that a cell that is run again measures the same."""
    return text + " " * next(counter) + "\n"  # another request, and a model reads the same in it


# %% [markdown]
# ## 4. Streaming
#
# A hosted model writes some dozens of tokens a second, so an answer of a paragraph takes seconds. The program cannot be made to write
# faster from outside, but its reader can begin to read at the first word. That is *streaming*: the answer is handed on while it is written.
#
# DSPy does it in two pieces. `dspy.streamify` makes a program into a function that returns an async generator, and a `StreamListener` picks
# the text of one output field out of all that the model writes (field marks, other fields). The last value is the finished `Prediction`.

# %% name="first-stream"
from dspy.streaming import StreamListener, StreamResponse

lm.profile("evening", ttft_p50_ms=150, speed_p50_tokens_per_s=90)  # a hosted model, on a good evening
evening = lm.connect("sim-large@evening", cache=False)
answering, washing = desk.Answer(), "How do I wash a down sleeping bag?"

ask = dspy.streamify(answering, stream_listeners=[StreamListener("answer")], is_async_program=True)
with dspy.context(lm=evening):
    async for value in ask(question=washing):
        if isinstance(value, StreamResponse):
            print(value.chunk, end="|", flush=True)
        else:
            print(f"\n{type(value).__name__} with {', '.join(value.keys())}")

# %% [markdown]
# `is_async_program=True` runs the program's `aforward` on the event loop. Without it DSPy puts the program into a thread, which cannot be
# stopped when the reader leaves.
#
# ### Time to first token
#
# What streaming changes is the time to first token (TTFT), and nothing else. Here the same question is asked twice at the same time: once
# whole, with `acall`, and once as a stream. Each mark is the moment at which a piece of text, or the finished answer, reached this notebook.


# %% name="arrivals"
async def times_of(values, begun):
    """Return when each value of a stream came, in seconds: pieces of text, and at last the Prediction."""
    return [time.perf_counter() - begun async for value in values]


async def race_once(question):
    """Ask whole and as a stream, at once; return when text came, for each."""
    ask = dspy.streamify(answering, stream_listeners=[StreamListener("answer")], is_async_program=True)
    begun = time.perf_counter()
    streaming = asyncio.create_task(times_of(ask(question=question), begun))
    await answering.acall(question=question)
    return {"whole": [time.perf_counter() - begun], "streamed": await streaming}


with dspy.context(lm=evening):
    came_s = await race_once(washing)
{name: f"first text after {at[0]:.2f} s, end after {at[-1]:.2f} s" for name, at in came_s.items()}

# %% name="arrivals-picture"
import matplotlib.pyplot as plt

from course_lib.labs import plot

figure, axes = plt.subplots(figsize=(7.5, 1.8), layout="constrained")
for row, at in enumerate(came_s.values()):
    axes.plot(at, [row] * len(at), "|", markersize=18, color="#3b6ea5")
    side = "left" if row else "right"
    axes.annotate(f"first text: {at[0]:.2f} s", (at[0], row), (0, 14), textcoords="offset points", ha=side)
axes.set(xlabel="seconds after the question", xlim=(0, None), ylim=(-0.5, 1.7))
axes.set_yticks((0, 1), came_s)
told = [f"{name}: {len(at)} marks, {at[0]:.2f} to {at[-1]:.2f} s" for name, at in came_s.items()]
plot(figure, f"When text came, for the same question. {'; '.join(told)}")

# %% [markdown]
# Both end at nearly the same time: a stream takes as long as the whole answer does. It helps where a *person* reads. A program that has to
# parse the whole answer before it can go on gains nothing.
#
# Try it with other speeds. **The streaming race** asks the same question on both sides and shows them while they are written.

# %% name="streaming-race"
from course_lib.labs import streaming_race

streaming_race()

# %% [markdown]
# ### Status messages: what happens before the first token
#
# An agent may work for half a minute before it writes its first word. A *status message* tells the reader what it is doing meanwhile. A
# `StatusMessageProvider` has a method for the start and the end of each module, model call and tool; what it returns is put into the
# stream, and `None` says nothing. DSPy's own provider speaks of tools only.


# %% name="status-messages"
class ShopStatus(dspy.streaming.StatusMessageProvider):
    def module_start_status_message(self, instance, inputs):
        return "Searching the help centre." if isinstance(instance, desk.FindArticles) else None

    def module_end_status_message(self, outputs):
        return f"Reading {', '.join(outputs.articles)}." if "articles" in (outputs or {}) else None

    def lm_start_status_message(self, instance, inputs):
        return "Writing the answer."


ask = dspy.streamify(answering, status_message_provider=ShopStatus(), is_async_program=True)
async for value in ask(question=washing):
    if isinstance(value, dspy.streaming.StatusMessage):
        print(value.message)

# %% [markdown]
# ### What breaks: built once, it streams only the first request
#
# Everything else in a service is built once at start-up, so one builds this once too. Below, three questions come one after another and
# then at the same time; `True` stands for a reader whose pieces are the whole answer. `allow_reuse=True` promises to help.


# %% name="reads-along"
QUESTIONS = washing, "What does shipping to Norway cost?", "How long do I have to return an item?"


def built(**options):
    """Streamify the program, with a new listener."""
    listeners = [StreamListener("answer", **options)]
    return dspy.streamify(answering, stream_listeners=listeners, is_async_program=True)


async def reads_along(ask, question):
    """Return whether the pieces that a reader gets are its answer."""
    *shown, last = [value async for value in ask(question=question)]
    return "".join(value.chunk for value in shown) == last.answer


# %% name="listener-built-once"
for options in ({}, {"allow_reuse": True}):
    ask = built(**options)
    print(options, "one after another:", [await reads_along(ask, question) for question in QUESTIONS])
    ask = built(**options)
    at_once = await asyncio.gather(*(reads_along(ask, question) for question in QUESTIONS))
    print(options, "at the same time: ", at_once)

# %% [markdown]
# No error and no warning: the second reader looks at an empty page until all of it is there. A listener *has a state*: what it has read so
# far, and whether its field has begun and ended. The first request leaves it at the end. `allow_reuse=True` resets it when the field has
# ended. That helps requests that come one after another; those that overlap still share one state. So a listener belongs to *one request*:

# %% name="listener-per-request"
print("one after another:", [await reads_along(built(), question) for question in QUESTIONS])
print("at the same time: ", await asyncio.gather(*(reads_along(built(), each) for each in QUESTIONS)))

# %% [markdown]
# ### What breaks: an answer from the cache does not stream
#
# A hit has no tokens, so the listeners hear nothing. A page that shows pieces only stays empty.

# %% name="cached-does-not-stream"
from_cache = unasked(washing)


async def kinds_of(values):
    """Count what comes out of a stream, by its type."""
    return dict(Counter([type(value).__name__ async for value in values]))


with dspy.context(lm=lm.connect()):  # with DSPy's cache
    print("first:", await kinds_of(built()(question=from_cache)))
    print("again:", await kinds_of(built()(question=from_cache)))

# %% [markdown]
# ### What breaks: a program that ends with anything but a `Prediction`
#
# `program(...)` and `acall` return whatever `forward` returns. `streamify` waits for a `Prediction` to know that the end has come. A program
# that returns text never ends its stream, so this cell sets a time limit.


# %% name="ends-with-text"
class AnswerAsText(dspy.Module):
    async def aforward(self, question):
        return f"You asked: {question}"


print("acall:", await AnswerAsText().acall(question="Is it open?"))
try:
    async with asyncio.timeout(1):
        async for value in dspy.streamify(AnswerAsText(), is_async_program=True)(question="Is it open?"):
            print("stream:", value)
except TimeoutError:
    print("stream: still waiting after 1 s, though the program has ended")

# %% [markdown]
# ### What breaks: a reader who leaves is cancelled
#
# People close pages. The reader below takes the first piece, leaves the loop, and wants to go on with something else. The cell prints
# what becomes of the reader, and the errors that nobody awaited.

# %% name="who-leaves"
import gc


async def leaves_early(ask):
    """Read one piece, leave, and go on with other things."""
    async for _ in ask(question=washing):
        break
    await asyncio.sleep(0.3)
    return "goes on"


async def what_becomes_of(reading):
    """Run a reader in a task; return how the task ended, and errors that nobody awaited."""
    loop, others = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, told: others.append(str(told.get("exception"))))
    task = asyncio.create_task(reading)
    await asyncio.wait([task])
    await asyncio.sleep(0.2)  # what is left behind ends, too
    gc.collect()  # an error is reported when its task is thrown away
    loop.set_exception_handler(None)
    return "was cancelled" if task.cancelled() else task.result(), others


# %% name="leaving-breaks-the-reader"
lm.profile("slow", speed_p50_tokens_per_s=20)
slow = lm.connect("sim-large@slow", cache=False)
with dspy.context(lm=slow):
    print(await what_becomes_of(leaves_early(built())))

# %% [markdown]
# Why: DSPy's generator holds an anyio *task group*, which belongs to the task that began to read. When the loop is left, Python closes the
# generator later and from another task. The task group then cancels its owner, which is the reader. In a web server that is the request's
# own task, together with all that it wanted to write down at its end.
#
# ### A small stream that may be left
#
# The cure is a task that owns the run, and a queue between it and the reader. Who leaves cancels that task, and nothing else.


# %% name="small-stream" tags=["needs"]
async def small_stream(program, fields=("answer",), **inputs):
    """Yield what one run of a program writes into some fields, then the Prediction; a reader may leave at any time."""
    listeners = [dspy.streaming.StreamListener(field) for field in fields]  # for this run alone
    ask = dspy.streamify(program, stream_listeners=listeners, is_async_program=True)
    values = asyncio.Queue()

    async def run():
        try:
            async for value in ask(**inputs):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)  # also after an error

    task = asyncio.create_task(run())
    try:
        while (value := await values.get()) is not None:
            yield value
        await task  # raises what the run raised
    finally:
        task.cancel()  # and with it the request to the model


# %% [markdown]
# Does the model stop, too? The endpoint's ledger knows: 499 is the status of a request whose client has left. The endpoint notices it a
# moment later, so `settled` waits until no request is under way.

# %% name="leaving-the-small-stream"
from functools import partial


async def settled(before):
    """Return the ledger after request number `before`, when no request is under way."""
    while (seen := lm.ledger(since=before)).under_way:
        await asyncio.sleep(0.02)
    return seen


with dspy.context(lm=slow):
    before = lm.ledger().requests
    print(await what_becomes_of(leaves_early(partial(small_stream, answering))))
    seen = await settled(before)
print(seen.statuses, f"after {seen.calls[-1].duration_ms:.0f} ms of {seen.calls[-1].due_ms:.0f} ms")

# %% [markdown]
# The second figure is when the whole answer would have been written. What a model writes for nobody is paid for, and on a GPU of your
# own it takes a place for which somebody else waits.
#
# ### The real thing: typed events
#
# `course_lib.concurrency.stream` is that small stream with what production adds: a run that waits for a slow reader, a numbered log in
# place of the queue, for readers who come back, and *events*, one small dataclass a kind, so that a page and a test know what they get.
#
# ```mermaid
# flowchart LR
#     accTitle: The way of a token from the model to a reader
#     accDescr: One run has listeners of its own; it writes numbered events into a log, which readers follow.
#     model[model] -- chunks --> run["one run: listeners<br/>of its own, in a task"]
#     run -- "events 1, 2, 3 ..." --> log["log of events"]
#     log -- "from 1" --> reader[reader]
#     log -- "after 3" --> again["a reader who comes back"]
#     reader -. "the last one leaves: cancelled" .-> run
# ```
#
# | event | says |
# | --- | --- |
# | `Token(field, text)` | a piece of a field |
# | `Status(text)` | what the program is doing |
# | `Citation(source, number)` | a source, as soon as it is written |
# | `Final(fields)` | the finished answer; where it differs from the tokens, it is right |
# | `Error(code, message, partial)` | why there is no answer; a stable code, and nothing of the exception's own text |
# | `Done()` | nothing follows; it comes at the end of *every* stream |
# | `Heartbeat()` | nothing came for a while, and the connection is alive |

# %% name="typed-events"
from course_lib.concurrency import stream
from course_lib.concurrency.streaming import Error, Final, Token

options = {"citations": "citations", "status": ShopStatus()}
async with stream(answering, question=washing, **options) as events:
    heard = [event async for event in events]
for event in [*heard[:4], "...", *heard[-3:]]:
    print(event)

# %% [markdown]
# `async with` says where the run ends at the latest: when the block is left, the run has ended, in whatever way. Now the traps again.
#
# **Built once, and many at once.** A stream is one run's own, and the program is shared:


# %% name="streams-for-all"
async def tokens_of(program, **inputs):
    """Return how many tokens a stream brings, and how many of them were replayed."""
    async with stream(program, **inputs) as events:
        tokens = [event async for event in events if isinstance(event, Token)]
    return len(tokens), sum(token.is_replayed for token in tokens)


three = [await tokens_of(answering, question=washing) for _ in range(3)]
twenty = await asyncio.gather(*(tokens_of(answering, question=washing) for _ in range(20)))
print("(tokens, replayed) of three, one after another:", three)
print("(tokens, replayed) of twenty at once, counted: ", dict(Counter(twenty)))

# %% [markdown]
# **An answer from the cache** is cut into tokens again and marked as replayed, so one page serves both:

# %% name="cached-is-replayed"
from_cache = unasked(washing)
with dspy.context(lm=lm.connect()):
    print("(tokens, replayed) first:", await tokens_of(answering, question=from_cache))
    print("(tokens, replayed) again:", await tokens_of(answering, question=from_cache))

# %% [markdown]
# They come all at once. A replay that is slowed down to look like typing would only make the reader wait.
#
# **Anything but a `Prediction`** is an error with a name, and the stream ends. (`answer` has to be a field that the program writes, hence the
# predictor.)


# %% name="text-is-an-error"
class AnswerAsTextToo(AnswerAsText):
    def __init__(self):
        super().__init__()
        self.reply = dspy.Predict("question -> answer")


async with stream(AnswerAsTextToo(), question="Is it open?") as events:
    async for event in events:
        print(event)
        if isinstance(event, Error):
            print("its cause:", event.cause)

# %% [markdown]
# ### Half answers
#
# A stream can break off when half of it has been read. What does the reader have then? Three ways to break: the connection is cut, the
# connection ends politely in the middle without a *finish reason*, and the model reaches its limit of tokens. First plain DSPy, then ours.


# %% name="ends-of-an-answer"
import logging


async def plain_end(program, **inputs):
    """Return what plain DSPy makes of an answer: its text, or the name of its error."""
    try:
        return f"whole: {(await program.acall(**inputs)).answer[-24:]!r}"
    except dspy.DSPyError as error:
        return type(error).__name__


async def our_end(program, **inputs):
    """Return what a stream says at its end, before Done."""
    async with stream(program, **inputs) as events:
        *_, last, _ = [event async for event in events]
    if isinstance(last, Final):
        return f"Final, is_cut={last.is_cut}"
    return f"Error {last.code!r}, partial: {len(last.partial['answer'])} characters"


# %% name="half-answers"
logging.getLogger("dspy.clients.lm").setLevel(logging.ERROR)  # a line per answer that was cut off
brief = dspy.Predict("context: list[str], question -> answer")
inputs = {"context": desk.FindArticles()(question=washing).context, "question": washing}
lm.profile("cut", cut_midway_rate=1.0)
lm.profile("no-reason", no_finish_rate=1.0)
asked_as = {"whole": {}, "cut": {"model": "sim-large@cut"}, "no reason": {"model": "sim-large@no-reason"}}
rows = []
for name, options in (asked_as | {"limit": {"max_tokens": 30}}).items():
    with dspy.context(lm=lm.connect(cache=False, num_retries=0, **options)):
        plain, ours = await plain_end(brief, **inputs), await our_end(brief, **inputs)
    rows.append({"the model's answer": name, "plain DSPy": plain, "stream": ours})
table(rows)

# %% [markdown]
# Plain DSPy hands two half answers on as whole ones: nothing in the `Prediction` says that they are not. `Final.is_cut` says it, and an
# `Error` carries in `partial` what came so far, so that a page can mark it as half an answer.
#
# Why does nobody ask again when the connection breaks? Because the second answer may begin with other words, and the reader has
# read the first. *Before* the first token a retry is invisible, and DSPy makes it:

# %% name="retry-before-the-first-token"
for fault in ("unavailable", "cut_midway"):
    lm.profile("once", first=[fault])  # the first request fails, later ones do not
    before = lm.ledger().requests
    with dspy.context(lm=lm.connect("sim-large@once", cache=False)):
        print(f"{fault:12} {await our_end(brief, **inputs)}; requests: {(await settled(before)).requests}")

# %% [markdown]
# ### The reader leaves, and the tenant stays
#
# **The reader leaves.** A plain `break`, an error in the reader's own code, a cancelled task: the block is left, and with it the request to
# the model.

# %% name="leaving-a-stream"
before = lm.ledger().requests
with dspy.context(lm=slow):
    async with stream(answering, question=washing) as events:
        first_event = await anext(aiter(events))
print("read:", first_event)
print("statuses:", (await settled(before)).statuses)

# %% [markdown]
# **The tenant of the place where the stream was made.** A generator runs in the context of whoever *reads* it. A web framework makes the
# stream in your handler, where the tenant is known, and reads it later, elsewhere. Here tenant A has a large model and B a small one.


# %% name="tenant-of-the-stream"
from course_lib.caching import current_scope, scope


class WhoseAnswer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.reply = dspy.Predict("question -> answer")

    async def aforward(self, question):
        asked = f"{dspy.settings.lm.model} is asked for tenant {current_scope().tenant}"
        return dspy.Prediction(answer=asked)


with scope(tenant="A"), dspy.context(lm=lm.connect("sim-large")):
    plain = dspy.streamify(WhoseAnswer(), is_async_program=True)(question="Whose?")
    ours = stream(WhoseAnswer(), question="Whose?")
with scope(tenant="B"), dspy.context(lm=lm.connect("sim-small")):
    print("plain DSPy:", [value.answer async for value in plain])
    print("stream:    ", [event.fields["answer"] async for event in ours if isinstance(event, Final)])

# %% [markdown]
# `scope` of notebook 02 (the tenant, for the cache) looks after itself. `dspy.context` does not: plain DSPy asks B's model on behalf of A. A
# stream of ours keeps all of the context of the line that made it: model, adapter, tenant, deadline.
#
# ### Exercise 3.3: the sources first (12 minutes, medium)
#
# *Concepts: order of output fields, one listener a request, half answers, readers who leave.*
#
# Support agents want to see at once *where* an answer comes from, and then read it while it is written. Write an async generator function
# `stream_answer(question, context)`; `context` is a list of articles, each beginning with its id in brackets. It yields pairs of a kind and a
# text:
#
# - `("citation", id)` for each article that the model cites, in the model's order, all of them before the first piece of the answer;
# - `("token", text)` for each piece of the answer, as soon as the model has written it; together they are the answer;
# - `("answer", text)` once, last, with the whole answer.
#
# One answer is one request. It streams for every request, also for several at the same time. If the model's answer breaks off, its
# `dspy.LMError` is raised after what came, and no `answer` is yielded. An answer from DSPy's cache brings citations and tokens as well
# (one token for all of it will do). A reader may leave at any time, by `aclose()` or because its task is cancelled: the request to the
# model ends then, and the reader goes on.


# %% name="ex-3-3" tags=["exercise"] exercise="3.3"
import json

### BEGIN SOLUTION
### STUB: # a signature of your own, perhaps
SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)
### END SOLUTION


async def stream_answer(question, context):
    ### BEGIN SOLUTION
    ### STUB: ...
    inputs, cited, has_begun = {"question": question, "context": context}, "", False
    async for value in small_stream(dspy.Predict(SourcesFirst), ["citations", "answer"], **inputs):
        if isinstance(value, dspy.Prediction):
            if not has_begun:  # a hit: no listener heard it
                for source in value.citations:
                    yield "citation", source
                yield "token", value.answer
            yield "answer", value.answer
        elif value.signature_field_name == "citations":
            cited += value.chunk
        elif value.chunk:
            if not has_begun:
                for source in json.loads(cited):
                    yield "citation", source
            has_begun = True
            yield "token", value.chunk
    ### END SOLUTION


# %% tags=["right"] exercise="3.3"
# The library's stream, with field names of its own and another adapter.
from course_lib.concurrency import stream
from course_lib.concurrency.streaming import Citation, Error, Final, Token


class Sourced(dspy.Signature):
    """Answer the question from the help articles, and say which articles the answer is from."""

    articles: list[str] = dspy.InputField(desc="each begins with its id in brackets")
    question: str = dspy.InputField()
    sources: list[str] = dspy.OutputField(desc="ids of the articles used")
    reply: str = dspy.OutputField()


async def stream_answer(question, context):
    inputs = {"question": question, "articles": context}
    with dspy.context(adapter=dspy.XMLAdapter()):
        events = stream(dspy.Predict(Sourced), fields=["reply"], citations="sources", **inputs)
    async with events:
        async for event in events:
            match event:
                case Citation(source=source):
                    yield "citation", source
                case Token(text=text) if text:
                    yield "token", text
                case Error(cause=cause):
                    raise cause
                case Final(fields=fields):
                    yield "answer", fields["reply"]


# %% tags=["right"] exercise="3.3"
# A class around the run; sources are read when their field has ended.
import ast
from contextlib import aclosing

from dspy.streaming import StreamListener


class Run:
    def __init__(self, **inputs):
        fields = "context: list[str], question: str -> citations: list[str], answer: str"
        instructions = "Answer from the context; cite the ids of the articles used."
        self.program = dspy.Predict(dspy.Signature(fields, instructions))
        self.inputs, self.cited, self.was_shown = inputs, "", False
        self.events = asyncio.Queue(maxsize=8)

    async def write(self):
        listeners = [StreamListener(name) for name in ("citations", "answer")]
        ask = dspy.streamify(self.program, stream_listeners=listeners, is_async_program=True)
        try:
            async with aclosing(ask(**self.inputs)) as values:
                async for value in values:
                    for event in self.read(value):
                        await self.events.put(event)
        except dspy.LMError as error:
            await self.events.put(("error", error))

    def read(self, value):
        if isinstance(value, dspy.Prediction):
            if not self.was_shown:
                yield from (("citation", one) for one in value.citations)
                yield "token", value.answer
            yield "answer", value.answer
        elif value.signature_field_name == "answer":
            self.was_shown = True
            yield "token", value.chunk
        else:
            self.cited += value.chunk
            if value.is_last_chunk:
                yield from (("citation", one) for one in ast.literal_eval(self.cited.strip()))


async def stream_answer(question, context):
    run = Run(question=question, context=context)
    task = asyncio.ensure_future(run.write())
    kind = ""
    try:
        while kind != "answer":
            kind, text = await run.events.get()
            if kind == "error":
                raise text
            yield kind, text
    finally:
        task.cancel()


# %% tags=["right"] exercise="3.3"
# No listener: what the model writes is read by hand, up to the marks of the fields.
import json

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer", "Answer from the context."
)
MARK = "[[ ## answer ## ]]"


async def stream_answer(question, context):
    ask = dspy.streamify(dspy.Predict(SourcesFirst), is_async_program=True)
    values = asyncio.Queue()

    async def run():
        async for value in ask(question=question, context=context):
            await values.put(value)

    task = asyncio.create_task(run())
    task.add_done_callback(values.put_nowait)
    raw, shown, has_begun = "", 0, False
    try:
        while (value := await values.get()) is not task:
            if isinstance(value, dspy.Prediction):
                if not has_begun:
                    for source in value.citations:
                        yield "citation", source
                yield "token", value.answer[shown:]
                yield "answer", value.answer
                continue
            raw += value.choices[0].delta.content or ""
            head, mark, text = raw.partition(MARK)
            if mark and not has_begun:
                has_begun = True
                for source in json.loads(head.partition("]]")[2]):
                    yield "citation", source
            text = text.partition("[[")[0].removesuffix("[").strip()
            if text[shown:]:
                yield "token", text[shown:]
                shown = len(text)
        await task
    finally:
        task.cancel()


# %% tags=["right"] exercise="3.3"
# All of it in one function.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="the order of events"
# The order of desk.Answer: the sources come last.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> answer, citations: list[str]",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                for source in value.citations:
                    yield "citation", source
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited or "[]"):
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="what came while the model was silent"
# Waits for the whole answer, and then hands it out in words.
SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    prediction = await dspy.Predict(SourcesFirst).acall(question=question, context=context)
    for source in prediction.citations:
        yield "citation", source
    for letter in prediction.answer:
        yield "token", letter
    yield "answer", prediction.answer


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="the tokens of a request"
# The listeners are made once, at start-up.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


LISTENERS = [StreamListener("citations"), StreamListener("answer")]
ASK = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=LISTENERS, is_async_program=True)


async def stream_answer(question, context):
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ASK(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="the tokens of one of many at the same time"
# Listeners that may be used again, made once: right for one reader at a time.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


LISTENERS = [StreamListener("citations", allow_reuse=True), StreamListener("answer", allow_reuse=True)]
ASK = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=LISTENERS, is_async_program=True)


async def stream_answer(question, context):
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ASK(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited or "[]"):
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="requests for one answer"
# Asks for the sources first, and then again for the answer.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    sources = dspy.Predict("context: list[str], question -> citations: list[str]")
    for source in (await sources.acall(question=question, context=context)).citations:
        yield "citation", source
    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    json.loads(cited)
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="the citations"
# Cites all that was searched for, at once.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    for article in context:
        yield "citation", article[1 : article.index("]")]
    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    json.loads(cited)
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="what came while the model was silent"
# Shows the sources early and keeps the answer until it is whole.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                if has_tokens:
                    for letter in value.answer:
                        yield "token", letter
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield "citation", source
                has_tokens = True
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="the citations"
# Only the first source.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited)[:1]:
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="the order of events"
# The pieces of the sources are shown as text of the answer, too.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
                if cited.endswith("]"):
                    for source in json.loads(cited):
                        yield "citation", source
                    yield "token", cited
                    has_tokens = True
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="what came of an answer that broke off"
# Half an answer is handed on as a whole one.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens, shown = asyncio.Queue(), False, ""

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield "citation", source
                has_tokens = True
                shown += value.chunk
                yield "token", value.chunk
        if task.exception():
            yield "answer", shown
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="what came of an answer that broke off"
# An answer that breaks off just ends.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        if not task.exception():
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="of an answer from the cache"
# A hit has no chunks, and nothing is shown of it before its end.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="what a reader does after aclose"
# DSPy's generator is read by the reader's own task, which is cancelled when it leaves.
import json

from dspy.streaming import StreamListener

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    cited, has_tokens = "", False
    async for value in ask(question=question, context=context):
        if isinstance(value, dspy.Prediction):
            if not has_tokens:
                for source in value.citations:
                    yield "citation", source
                yield "token", value.answer
            yield "answer", value.answer
        elif value.signature_field_name == "citations":
            cited += value.chunk
        elif value.chunk:
            if not has_tokens:
                for source in json.loads(cited):
                    yield "citation", source
            has_tokens = True
            yield "token", value.chunk


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="statuses of the request after the reader left by aclose"
# The run goes on when nobody reads any more.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


RUNS = []


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        await task
    finally:
        RUNS.append(task)  # it may as well end


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="statuses of the request after the reader left by being cancelled"
# A cancelled reader leaves the run behind.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


RUNS = []


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield "citation", source
                    yield "token", value.answer
                yield "answer", value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield "citation", source
                has_tokens = True
                yield "token", value.chunk
        await task
    except GeneratorExit:
        task.cancel()
        raise
    finally:
        RUNS.append(task)


# %% tags=["wrong"] exercise="3.3" outcome="failed" message="each event is a pair of texts"
# Texts alone, so nobody knows which of them are sources.
import json

from dspy.streaming import StreamListener, StreamResponse

SourcesFirst = dspy.Signature(
    "context: list[str], question -> citations: list[str], answer",
    "Answer the question from the articles in the context. Cite the articles used, by their ids.",
)


async def stream_answer(question, context):
    listeners = [StreamListener("citations"), StreamListener("answer")]
    ask = dspy.streamify(dspy.Predict(SourcesFirst), stream_listeners=listeners, is_async_program=True)
    values, has_tokens = asyncio.Queue(), False

    async def run():
        try:
            async for value in ask(question=question, context=context):
                values.put_nowait(value)
        finally:
            values.put_nowait(None)

    task, cited = asyncio.create_task(run()), ""
    try:
        while (value := await values.get()) is not None:
            if isinstance(value, dspy.Prediction):
                if not has_tokens:
                    for source in value.citations:
                        yield source
                    yield value.answer
                yield value.answer
            elif value.signature_field_name == "citations":
                cited += value.chunk
            elif value.chunk:
                if not has_tokens:
                    for source in json.loads(cited):
                        yield source
                has_tokens = True
                yield value.chunk
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


# %% name="check-3-3" tags=["check"] exercise="3.3"
check("3.3", stream_answer)

# %% name="help-3-3"
# hint("3.3")
# solution("3.3")

# %% [markdown]
# `stream(..., citations="citations")` does the same with a list of any length: each source comes when it is written. `desk.Answer` writes
# its citations after the answer; the order of the fields is the program's to choose.
#
# ### To a browser
#
# Two ways lead from a server to a page without asking again and again:
#
# | | server-sent events (SSE) | WebSocket |
# | --- | --- | --- |
# | direction | server to page | both |
# | is | an HTTP answer that does not end | a protocol of its own |
# | after a break | the browser comes back by itself, and says what it has seen | your work |
# | good for | one question, one answer | a chat, with a stop button |
#
# DSPy has a helper for the first, `streaming_response`. It does not know what DSPy's own listeners yield:

# %% name="sse-helper"
try:
    async for line in dspy.streaming.streaming_response(small_stream(answering, question=washing)):
        print(line)
except ValueError as error:
    print(str(error)[:90], "...")

# %% [markdown]
# `streaming_app` makes a program into an ASGI app: a page, a stream of server-sent events and a WebSocket chat. `serve` opens it on a free
# port of this machine, in a thread of this kernel.

# %% name="serve-the-page"
from course_lib.concurrency.streaming import serve, streaming_app

with dspy.context(lm=evening):  # requests see the context of this place
    app = streaming_app(answering, citations="citations", status=ShopStatus())
    service = serve(app)
print("Open", service.url, "in your browser, or run `service` alone in a cell to see the page here.")

# %% [markdown]
# What goes over the wire is text: the kind, JSON, and an id, with an empty line between events.

# %% name="on-the-wire"
import httpx

client = httpx.AsyncClient(base_url=service.url, timeout=30)
async with client.stream("GET", "/stream", params={"question": washing}) as response:
    print(response.headers["content-type"])
    lines = [line async for line in response.aiter_lines()]
print("\n".join(lines[:14]), "...", *lines[-5:], sep="\n")

# %% [markdown]
# The id is the stream's name and the event's number. A browser whose connection breaks comes back by itself and sends the last id
# it has seen as `Last-Event-ID`. Here a reader loses its connection after six events, and comes back:


# %% name="read-events"
async def read_events(most=10_000, **request):
    """Read server-sent events; return (id, kind) of each, `most` of them at most."""
    found, event = [], {}
    async with client.stream("GET", "/stream", **request) as response:
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            event[name] = value
            if name == "data":
                found.append((event["id"], event["event"]))
            if len(found) == most:
                break
    return found


# %% name="last-event-id"
before = lm.ledger().requests
first = await read_events(6, params={"question": washing})
rest = await read_events(headers={"Last-Event-ID": first[-1][0]})
await client.aclose()
print("first:", dict(Counter(kind for _, kind in first)), "then:", dict(Counter(kind for _, kind in rest)))
print("numbers:", *(sent_id.rpartition(".")[2] for sent_id, _ in (first[0], first[-1], rest[0], rest[-1])))
print("requests to the model:", (await settled(before)).requests)

# %% [markdown]
# The same run goes on: no event is missing, none comes twice, and the model was asked once. `grace_s` says how long a run goes on without a
# reader; then it is cancelled.
#
# ### Deeper: a chat over a WebSocket, and who may ask
#
# The WebSocket chat takes a new question at any time, and `{"stop": true}`. Whoever watches the ledger sees the stop:

# %% name="websocket-chat"
import json

from websockets.asyncio.client import connect as open_socket

before, url = lm.ledger().requests, service.url.replace("http", "ws") + "/chat"
async with open_socket(url, origin=service.url) as chat:
    await chat.send(json.dumps({"question": washing}))
    told = Counter()
    while not told["token"]:
        told[json.loads(await chat.recv())["event"]] += 1
    await chat.send(json.dumps({"stop": True}))
    seen = await settled(before)
print(dict(told), "and then stopped; statuses at the model:", seen.statuses)

# %% [markdown]
# Any page that you have open in your browser can send requests to `127.0.0.1`. The service answers its own page alone:

# %% name="foreign-page"
foreign = {"Origin": "https://shop.example"}
refused = httpx.get(f"{service.url}/stream", params={"question": washing}, headers=foreign)
print(refused.status_code, refused.text)

# %% name="close-the-page"
# service.close()  # when you have looked at it; it ends with the kernel in any case
