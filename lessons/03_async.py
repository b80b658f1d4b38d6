# %% [markdown] name="title"
# # Async and streaming
#
# A call of a model is nearly all waiting. A program that waits for one thing at a time is slow; one that waits for everything at once falls
# over, or makes its provider fall over. **At the end of this notebook you will be able to**
#
# - call a DSPy program from threads and tasks, and say what is safe there and what leaks;
# - run many calls at once with a limit, deadlines and cancellation that the model's server sees;
# - keep to a rate limit that you know, and find one that nobody tells you;
# - stream an answer to a browser, and stop the model when the reader leaves;
# - handle events at least once, with effects exactly once, while consumers are killed;
# - put a program behind retries, circuit breaker, fallback and load shedding, and show what each one is good for.
#
# You need notebook 00, and Python's `async`: a coroutine runs until it awaits, and then another one may run. The **core path** takes 90
# minutes and holds all six exercises. What is headed *Deeper* may be skipped.
#
# | part | minutes |
# | --- | --- |
# | 1. Threads, tasks and context | 8 |
# | 2. Concurrency on purpose: exercises 3.1, 3.2 | 27 |
# | 3. Rate limits: exercise 3.5 | 21 |
# | 4. Streaming: exercise 3.3 | ? |
# | 5. Data streams: exercise 3.6 | ? |
# | 6. Resilience: exercise 3.4 | ? |
# | 7. What breaks | ? |
# | Deeper: in parts 1 and 3 | 3 |
#
# Every figure is measured when you run its cell. The text was written on a machine with two processors: your figures will differ, their
# ratios little.

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


# %% name="architecture-async"
from course_lib.labs import architecture

architecture(highlight="application")

# %% [markdown]
# ## 1. Threads, tasks and context
#
# Python has two ways to wait for many things. A **thread** is run by the operating system, which may switch to another one between any two
# steps; a blocked thread blocks nobody else. A **task** belongs to an event loop, and gives way only where it says `await`; a thousand
# tasks cost little, and one of them that does not give way stops all.
#
# DSPy programs have a door for each: `program(...)` blocks its thread, `await program.acall(...)` gives way. And there are two bridges:
# `dspy.asyncify(program)` calls a blocking program in a thread, and `dspy.syncify(program)` makes an async one blocking.
#
# The same 16 tickets, by each of them; the model takes 60 ms. `watch()` begins a new ledger, and says what the model's server saw of a block.

# %% name="five-ways"
from course_lib.measure import watch

lm.profile("even", ttft_p50_ms=60)
even, program = lm.connect("sim-large@even", cache=False), desk.Triage()
letters = [{"ticket": ticket.text} for ticket in desk.tickets("dev")][:16]


async def one_by_one():
    for letter in letters:
        program(**letter)  # blocks, see below


async def in_threads():
    await asyncio.gather(*(dspy.asyncify(program)(**letter) for letter in letters))


async def in_tasks():
    await asyncio.gather(*(program.acall(**letter) for letter in letters))


# %% name="what-the-server-sees"
for run, workers in ((one_by_one, 8), (in_threads, 8), (in_threads, 16), (in_tasks, 8)):
    with dspy.context(lm=even, async_max_workers=workers), watch() as seen:
        await run()
    print(f"{run.__name__:10} async_max_workers={workers:<2}  {seen}")

# %% [markdown]
# `asyncify` asks for eight at once and never more: all its calls in the process share one limiter of `async_max_workers`, which is 8 unless
# you set it. That is a limit that nobody chose, and a service with 50 users meets it on its first busy day. `acall` has no such limit,
# which is the next trap, of part 2.
#
# ### A module of your own that awaits
#
# Your own module has an `acall` that works when you write `aforward`. (Some books show an `AsyncModule`; what they mean is this, a
# `dspy.Module` with `aforward`.) Inside, what does not need each other can run side by side:


# %% name="async-module"
class SortAndAnswer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.triage, self.answer = desk.Triage(), desk.Answer()

    async def aforward(self, ticket):
        sorted_, answered = await asyncio.gather(
            self.triage.acall(ticket=ticket), self.answer.acall(question=ticket)
        )
        return dspy.Prediction(category=sorted_.category, answer=answered.answer)


both = SortAndAnswer()
with dspy.context(lm=even), watch() as seen:
    prediction = await both.acall(ticket="What does shipping to Norway cost?")
print(prediction.category, "|", prediction.answer[:70])
print(seen)

# %% [markdown]
# ### Deeper: the doors of a module
#
# A module has the doors that you write: with `aforward` alone, a plain call fails. And `dspy.syncify`, which is to
# make a blocking program of this one, cannot do it where a loop is running already, as in every notebook and every web server:

# %% name="doors-of-a-module"
import warnings

synced = dspy.syncify(both, in_place=False)
with warnings.catch_warnings(action="ignore"):  # "coroutine was never awaited"
    for name, call in {"plain call": both, "syncify": synced}.items():
        try:
            call(ticket="Where is my parcel?")
        except (AttributeError, ModuleNotFoundError) as error:
            print(f"{name}: {type(error).__name__}: {error}")
print("syncify, in a thread:", (await dspy.asyncify(synced)(ticket="Where is my parcel?")).category)

# %% [markdown]
# In a notebook, `await` is the door. In a script, `asyncio.run(program.acall(...))`.
#
# ### A blocking call in the loop
#
# The commonest mistake in async services is a plain call in a coroutine. It works, so nobody sees it, but while it waits, the event loop
# stands still: no other user is answered, no heartbeat is sent. `longest_pause_ms` ticks every
# 5 ms while a call runs, and returns by how much the worst tick was late.


# %% name="a-blocking-call"
from course_lib.measure import longest_pause_ms


async def blocking(**inputs):
    return program(**inputs)


with dspy.context(lm=even):
    await program.acall(**letters[0])  # a first call does what later ones need not
    forms = {"program(...)": blocking, "asyncify": dspy.asyncify(program), "acall": program.acall}
    for name, call in forms.items():
        print(f"{name:13} the loop stood still for {await longest_pause_ms(call(**letters[0])):.0f} ms")

# %% [markdown]
# The blocking call stops everybody for as long as the model takes.
#
# ### What `dspy.context` reaches, and what it does not
#
# `dspy.context(lm=...)` sets something for the calls inside a block: this user's model, this request's adapter. It is kept in a
# *context variable* of Python. **Predict first:** which of these seven places see the small model?

# %% name="context-in-a-thread-pool"
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

small = lm.connect("sim-small", cache=False)


def whose_model():
    return dspy.settings.lm.model


async def in_a_task():
    return whose_model()


class WhoseModel(dspy.Module):
    def forward(self):
        return whose_model()


# %% name="who-sees-the-small-model"
with ThreadPoolExecutor(1) as pool, dspy.context(lm=small):
    places = {
        "here": whose_model(),
        "asyncio.create_task": await asyncio.create_task(in_a_task()),
        "asyncio.to_thread": await asyncio.to_thread(whose_model),
        "dspy.asyncify": await dspy.asyncify(whose_model)(),
        "dspy.Parallel": dspy.Parallel(disable_progress_bar=True)([(WhoseModel(), {})])[0],
        "ThreadPoolExecutor.submit": pool.submit(whose_model).result(),
        "the same, with copy_context().run": pool.submit(copy_context().run, whose_model).result(),
    }
table([{"inside dspy.context(lm=small)": place, "model": found} for place, found in places.items()])

# %% [markdown]
# A task and `asyncio.to_thread` begin with a copy of the context. A thread of your own begins with an empty one, so it sees what the whole
# process has. In the pool, the request goes to the wrong model, at another price, perhaps with another customer's key. No error, no log
# line. The cure is the last row: `copy_context().run` takes the context along.
#
# ### `dspy.configure` is for the start
#
# `dspy.configure` sets the default of the whole process. DSPy lets only the thread, and the task, that did it first do it again. In a web
# server each request is a task, so this is what you meet there. A notebook is exempt from the second rule, and that is worse: what one
# task sets, all others have.

# %% name="configure-from-elsewhere"
from contextlib import nullcontext
from unittest.mock import patch


async def configure(is_server):
    exempt = patch("IPython.get_ipython", return_value=None) if is_server else nullcontext()
    with exempt:
        dspy.configure(lm=small)


in_a_thread, as_in_a_server = asyncio.to_thread(dspy.configure, lm=small), configure(is_server=True)
for someone in (in_a_thread, as_in_a_server, configure(is_server=False)):
    try:
        await asyncio.create_task(someone)
        print("accepted")
    except RuntimeError as error:
        print(f"RuntimeError: {error}"[:100])
    print("    everybody else now has", dspy.settings.lm.model)
dspy.configure(lm=model)

# %% [markdown]
# So: `dspy.configure` once, when the program starts; `dspy.context` for everything after it. Does that hold under load? Fifty users at
# once, every other one with a contract for the small model. The server knows which model each question reached.

# %% name="fifty-users"
import re

ask = dspy.Predict("question -> answer")


async def serve(user):
    with dspy.context(lm=small if user % 2 else model):
        await asyncio.sleep(0.001 * (user % 7))  # others run here
        await ask.acall(question=f"I am user {user}. Where is my parcel?")


with watch() as seen:
    await asyncio.gather(*map(serve, range(50)))
users = {int(re.search(r"user (\d+)", str(call.messages))[1]): call.model for call in seen.ledger.calls}
print(Counter(f"contract {'small' if user % 2 else 'large'}, reached {name}" for user, name in users.items()))

# %% [markdown]
# ### What leaks
#
# **Predict first:** inside a generator stands `with dspy.context(lm=small)`, and in the block a `yield`. Which model does the generator's
# *caller* have between two values?

# %% name="what-leaks"


def answers_of_the_small_model():
    with dspy.context(lm=small):
        yield "first"
        yield "second"


answers = answers_of_the_small_model()
next(answers)
print("the generator's caller now has", dspy.settings.lm.model)
answers.close()
print("and, after the generator's end,", dspy.settings.lm.model)

# %% [markdown]
# A generator has no context of its own: what it sets between two `yield`s holds for its caller.
#
# **Predict again:** ten users call one program at once, which keeps their ticket in `self.ticket` while it asks the model. How many get
# their own ticket back?


# %% name="attributes-leak"
class Remembers(dspy.Module):
    def __init__(self):
        super().__init__()
        self.sort = dspy.Predict("ticket -> category")

    async def aforward(self, ticket):
        self.ticket = ticket
        await self.sort.acall(ticket=ticket)
        return self.ticket


shared = Remembers()
got = await asyncio.gather(*(shared.acall(ticket=f"Ticket of user {user}") for user in range(10)))
right = sum(each == f"Ticket of user {user}" for user, each in enumerate(got))
print(f"{right} of 10 users got their own ticket")

# %% [markdown]
# A service has one program and many tasks, so the attributes of a program are shared by all who call it at once: each user got the ticket
# of the one who came last.
#
# | | safe | leaks, or is lost |
# | --- | --- | --- |
# | settings | `dspy.context` in each request | `dspy.configure` after the start; `dspy.context` around a `yield` |
# | threads | `asyncio.to_thread`, `dspy.asyncify`, `dspy.Parallel` | a pool or a thread of your own, without `copy_context().run` |
# | programs | inputs, and what `aforward` returns | attributes that `aforward` sets |
# | waiting | `await program.acall(...)` | `program(...)` in a coroutine |

# %% [markdown]
# ## 2. Concurrency on purpose
#
# In the morning 50 tickets wait. One after the other is slow: nearly all of the time, your program waits for the model. So all at once?
# `asyncio.gather` does that. This morning the model takes 150 ms, and 40 requests a second; what comes above that, it refuses.

# %% name="gather-asks-all-at-once"
lm.profile("morning", ttft_p50_ms=150, limit_requests_per_s=40)
morning = lm.connect("sim-large@morning", cache=False, num_retries=0)
triage, tickets = desk.Triage(), [ticket.text for ticket in desk.tickets("train")][:50]


async def sort_ticket(text):
    """Sort one ticket, and return its category."""
    return (await triage.acall(ticket=text)).category


with dspy.context(lm=morning), watch() as seen:
    results = await asyncio.gather(*map(sort_ticket, tickets), return_exceptions=True)
print("what came back:", Counter(type(result).__name__ for result in results))
print(seen)

# %% [markdown]
# `gather` knows no limit. All tickets became requests within a moment, and what the model did not take was refused and lost. A service that
# does this fails when the most people are waiting, and it takes the others who use the same model down with it.
#
# A *semaphore* is a number of slots: who finds none free waits until one is given back. Ten lines keep to a limit.


# %% name="gather-with-a-semaphore"
async def gather_some(limit, call, items):
    """Call each item, at most `limit` at once; return the results in order."""
    slots = asyncio.Semaphore(limit)

    async def one(item):
        async with slots:
            return await call(item)

    return await asyncio.gather(*map(one, items))


with dspy.context(lm=morning), watch() as seen:
    results = await gather_some(6, sort_ticket, tickets)
print("what came back:", Counter(results))
print(seen)

# %% [markdown]
# ### What the ten lines lack
#
# Now one of the 50 requests fails. That is an ordinary day. How many tickets are sorted?

# %% name="one-failure-loses-all"
lm.profile("one-bad", first=["ok", "ok", "error"], ttft_p50_ms=50)
one_bad = lm.connect("sim-large@one-bad", cache=False, num_retries=0)
before = asyncio.all_tasks()
with dspy.context(lm=one_bad), watch() as seen:
    try:
        results = await gather_some(4, sort_ticket, tickets)
    except dspy.LMServerError as error:
        print("no result at all, but", type(error).__name__)
print(seen)
await asyncio.sleep(0.3)
forgotten = asyncio.all_tasks() - before
print("0.3 s later:", lm.ledger().requests, "requests; tasks that nobody waits for:", len(forgotten))
for task in forgotten:
    task.cancel()

# %% [markdown]
# The caller got one error, and lost every answer. Worse, nobody told the other tasks: they go on, and you pay for answers that nobody will
# read. (The last line of the cell stops them.) There is a third weakness that 50 tickets do not show: a task stands ready for each item,
# and a million items are a million tasks.

# %% [markdown]
# ### Exercise 3.1: `gather` without melting the limit (8 minutes, medium)
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


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="most calls at once, limit=1; expected 1, got 3"
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


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="it still waits"
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


# %% tags=["wrong"] exercise="3.1" outcome="crashed" message="ValueError"
# Nothing to do is something that cannot be done.
import asyncio


async def gather_within(limit, call, items):
    numbered, results = iter(enumerate(items)), {}

    async def work():
        for number, item in numbered:
            try:
                results[number] = await call(item)
            except Exception as error:
                results[number] = error

    await asyncio.gather(*(work() for _ in range(limit)))
    return [results[number] for number in range(max(results) + 1)]


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="most items that were read while their calls had not begun"
# A queue between the items and the workers: it is filled before there is a slot.
import asyncio


async def gather_within(limit, call, items):
    queue, results = asyncio.Queue(maxsize=1), {}

    async def work():
        while (numbered := await queue.get()) is not None:
            number, item = numbered
            try:
                results[number] = await call(item)
            except Exception as error:
                results[number] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(work())
        for numbered in enumerate(items):
            await queue.put(numbered)
        for _ in range(limit):
            await queue.put(None)
    return [results[number] for number in sorted(results)]


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="calls made when some fail, each once"
# What fails is tried once more.
import asyncio


async def gather_within(limit, call, items):
    numbered, results = iter(enumerate(items)), {}

    async def work():
        for number, item in numbered:
            for _ in range(2):
                try:
                    results[number] = await call(item)
                    break
                except Exception as error:
                    results[number] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(work())
    return [results[number] for number in sorted(results)]


# %% tags=["wrong"] exercise="3.1" outcome="failed" message="most calls at once, limit=1; expected 1, got 0"
# An item that is false ends the list.
import asyncio


async def gather_within(limit, call, items):
    items, results, numbers = iter(items), {}, iter(range(10**9))

    async def work():
        while item := next(items, None):
            number = next(numbers)
            try:
                results[number] = await call(item)
            except Exception as error:
                results[number] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(work())
    return [results[number] for number in sorted(results)]


# %% name="check-3-1" tags=["check"] exercise="3.1"
check("3.1", gather_within)

# %% name="help-3-1"
# hint("3.1")
# solution("3.1")

# %% [markdown]
# ### The same, from the library
#
# `AsyncRunner` is your function with what production adds. Each item ends as an *outcome*: its value or its error, and how long it took.
# It takes a `dspy.Module` as it is (and calls its `acall`), and hands a `dspy.Example` or a dict over by name.
#
# ```mermaid
# flowchart LR
#     accTitle: How AsyncRunner runs many calls
#     accDescr: An item is read when a slot is free. Each call has a slot and a deadline. A slow reader holds all up, one that leaves cancels all.
#     items([items, also endless]) -- "one is read when a slot is free" --> slots[slots, as many as limit:<br>each call under its deadline]
#     slots <-->|"a request, closed when cancelled"| model[(the model)]
#     slots -- "a value or an error" --> outcomes[outcomes ready<br>for the reader]
#     outcomes --> reader([your loop])
#     reader -. "slow: nothing new is read, gone: all is cancelled" .-> slots
# ```
#
# Nothing is lost today:

# %% name="async-runner"
from course_lib.concurrency import AsyncRunner

with dspy.context(lm=one_bad), watch() as seen:
    outcomes = await AsyncRunner(limit=4).run(triage, [{"ticket": text} for text in tickets])
print(seen)
table([{"item": each.index, "error": type(each.error).__name__} for each in outcomes if not each.ok])

# %% [markdown]
# ### Who stops waiting does not stop the call
#
# A deadline says how long an answer is worth waiting for. DSPy has two async forms of a program. `dspy.asyncify(program)` calls it in a
# thread, `program.acall` in your event loop. Below, the caller of each leaves as soon as the model's server has the request, which takes
# 250 ms. Look at what the server saw.


# %% name="asyncify-cannot-be-cancelled"
from course_lib.measure import until_quiet

lm.profile("slow", ttft_p50_ms=250)
slow = lm.connect("sim-large@slow", cache=False)
for name, call in {"asyncify": dspy.asyncify(triage), "acall": triage.acall}.items():
    with dspy.context(lm=slow), watch() as seen:
        waiting = asyncio.ensure_future(call(ticket=tickets[0]))
        while not lm.ledger().under_way:
            await asyncio.sleep(0.02)
        waiting.cancel()  # as asyncio.timeout does, and a web server whose user has left
        await until_quiet()
    (last,) = seen.ledger.calls
    print(f"{name:8}: status {last.status}, the server was busy for {last.duration_ms:.0f} ms")

# %% [markdown]
# A thread cannot be cancelled. The caller of `asyncify` has left, the request goes on to its end (status 200), is paid for, and holds a
# thread all the while. `acall` is cancelled where it waits: the connection is closed, and the server writes down 499, *client closed
# request*. A hosted model that sees the connection close stops writing, and what was not written is not paid for.
#
# So for a deadline that means something, the call has to be async all the way down. The rest is order: what is around what?

# %% [markdown]
# ### Exercise 3.2: a deadline that frees the slot (6 minutes, medium)
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


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="a call with deadline_s=None"
# No deadline is taken for no time.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        async with asyncio.timeout(deadline_s or 0.0), self.slots:
            return await call()


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="no slot in its time, deadline_s=0"
# A deadline of 0 is taken for none.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        async with asyncio.timeout(deadline_s or None), self.slots:
            return await call()


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="the very error of the call"
# A TimeoutError of the call's own is replaced.
import asyncio


class Slots:
    def __init__(self, limit):
        self.slots = asyncio.Semaphore(limit)

    async def run(self, call, deadline_s):
        try:
            async with asyncio.timeout(deadline_s), self.slots:
                return await call()
        except TimeoutError:
            raise TimeoutError(f"no answer within {deadline_s} s") from None


# %% tags=["wrong"] exercise="3.2" outcome="failed" message="still cleaned up after its CancelledError"
# Waits for the call's end when its time is over, not when its caller leaves.
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
                task.cancel()
                if timeout.expired():
                    await asyncio.wait([task])
                raise


# %% name="check-3-2" tags=["check"] exercise="3.2"
check("3.2", Slots)

# %% name="help-3-2"
# hint("3.2")
# solution("3.2")

# %% [markdown]
# ### Deadlines in the runner
#
# `item_deadline_s` is the time for one call, from its start; `deadline_s` the time for all. Here one request in eight hangs for ever.
# Without a deadline the slots would fill with calls that never end, until nothing moves.

# %% name="runner-deadline"
lm.profile("hanging", hang_rate=0.125, ttft_p50_ms=60)
hanging = lm.connect("sim-large@hanging", cache=False, num_retries=0)
with dspy.context(lm=hanging), watch() as seen:
    runner = AsyncRunner(8, item_deadline_s=0.4, progress=False)
    outcomes = await runner.run(triage, [{"ticket": text} for text in tickets])
    await until_quiet()
print("how they ended:", Counter(type(each.error).__name__ if each.error else "sorted" for each in outcomes))
print(seen)

# %% [markdown]
# Every request that hung is a 499: closed at its deadline, and its slot used by the next ticket.
#
# ### Backpressure: a reader that is slower than the model
#
# `runner.stream` yields outcomes while later items run, and `items` may be endless. Who reads slowly slows down the calls: not more than
# four times `limit` outcomes lie ready. Who leaves the loop cancels what is under way. Two readers of an endless queue take eight outcomes
# each and go home: one takes 50 ms for each outcome of a quick model, the other hurries, and its model is slow.

# %% name="backpressure"
from contextlib import aclosing

lm.profile("quick", ttft_p50_ms=20)
quick = lm.connect("sim-large@quick", cache=False)


async def read_eight(asked, takes_s):
    endless = (f"Where is parcel {number}?" for number in itertools.count())
    with watch() as seen:
        async with aclosing(AsyncRunner(4, progress=False).stream(asked.acall, endless)) as outcomes:
            async for outcome in outcomes:
                await asyncio.sleep(takes_s)
                if outcome.index == 7:
                    break
        await until_quiet()
    return seen


print("slow reader, quick model:", await read_eight(quick, 0.05))
print("quick reader, slow model:", await read_eight(slow, 0.0))

# %% [markdown]
# The slow reader's queue was endless, and the model was asked for eight outcomes, and for those that lay ready. The quick reader left while
# calls were under way: they are 499, closed.
#
# ### Little's law: which limit is right?
#
# In any queue that is in balance, the number of calls under way is the rate at which they come times the time that each takes:
#
# $$L = \lambda W$$
#
# It holds for a supermarket and for a model. So check it: the runner keeps `limit` calls under way, so λ (answers per second) times W (mean
# seconds of a call), both measured, has to come out near the limit. The last column is what the *server* saw: how many requests were
# under way there, on average over the time.

# %% name="littles-law"
from statistics import mean

lm.profile("steady", ttft_p50_ms=100)
steady = lm.connect("sim-large@steady", cache=False)


async def measured(limit):
    """Run for about half a second; return rate, time of a call, their product, and what the server saw."""
    questions = [unasked("How long does delivery take?") for _ in range(4 * limit)]
    with watch() as seen:
        outcomes = await AsyncRunner(limit, progress=False).run(steady.acall, questions)
    per_s, took_s = len(outcomes) / seen.took_s, mean(each.took_s for each in outcomes)
    at_server = sum(call.duration_ms for call in seen.ledger.calls) / 1000 / seen.took_s
    row = {
        "limit": limit,
        "λ per s": per_s,
        "W in s": took_s,
        "λW": per_s * took_s,
        "L at the server": at_server,
    }
    return {name: round(value, 3) for name, value in row.items()}


# %% name="littles-law-table"
table([await measured(limit) for limit in (1, 2, 4, 8, 16)])

# %% [markdown]
# λW is the limit, less a little for the end of a run, when no item is left for a free slot. The server sees fewer at once: a call also
# spends time in your program, where DSPy writes the request and reads the answer.
#
# The law turns two figures that you know into the one that you need. A model that allows 40 requests a second and takes 150 ms is fully
# used by 40 · 0.15 = 6 calls at once: that is why the semaphore above had six slots. A larger limit buys no answers. It buys refusals or,
# at a server that queues, waiting time: L grows, λ cannot, so W must. Where λ stays behind the limit divided by 0.1 s, something else
# is full, here your own processor.
#
# ### The wind tunnel
#
# The lab sends real requests to the endpoint, and keeps to the rate limit by letting calls wait in line. Choose how many at once, the
# latency and the limit; throughput and percentiles appear while it measures, with the law drawn over them. **Predict first:** latency 100
# ms, limit 40 per second: from which concurrency on does nothing get better, and what gets worse? Then measure 2, 4, 8 and 32.

# %% name="wind-tunnel"
from course_lib.labs import wind_tunnel

wind_tunnel()

# %% [markdown]
# ## 3. Rate limits
#
# A limit on concurrency is yours. A *rate limit* is the provider's: so many requests, and so many tokens, per minute or second. What comes
# above is answered by 429, often with a header `Retry-After`: come back in so many seconds. DSPy hands it on as `retry_after` of the error.

# %% name="a-429"
lm.profile("tight", limit_requests_per_s=5)
tight = lm.connect("sim-large@tight", cache=False, num_retries=0)
parcels = [f"Where is parcel {number}?" for number in range(30)]
with watch() as seen:
    outcomes = await AsyncRunner(4, progress=False).run(tight.acall, parcels[:12])
print(seen)
error = next(each.error for each in outcomes if not each.ok)
print(type(error).__name__, "with retry_after:", error.retry_after)

# %% [markdown]
# ### `Retry-After` is a wish, and needs a cap
#
# DSPy's own retry (three times, unless `num_retries` says otherwise) waits as long as it is told, and that is right: an early retry is
# refused again, and counts against you at many providers. But it has no upper bound. Here a server asks for an hour. It may be an honest
# quota that ends at midnight, or a mistake in a proxy.

# %% name="retry-after-without-a-cap"
lm.profile("an-hour", first=["rate_limited"], retry_after_s=3600)
an_hour = lm.connect("sim-large@an-hour", cache=False, num_retries=1)
with watch() as seen:
    try:
        await asyncio.wait_for(an_hour.acall("Is somebody there?"), 1.0)
    except TimeoutError:
        print("it still waits, for", lm.ledger().calls[0].retry_after_s, "seconds")
print(seen)

# %% [markdown]
# Nobody sees it: no log line, no error; the web server's request hangs until its user gives up. The cure has two parts. A *deadline* says
# how long an answer is worth waiting for, and if the wait is longer, the call fails at once, while there is time for something else. A
# *cap* says the longest wait that you believe. `limited(lm, RateLimit(...))` puts both under every attempt of a model; DSPy's loop stays
# the only retry.

# %% name="retry-after-with-a-cap"
from course_lib.concurrency import RateLimit, limited
from course_lib.resilience import Deadline

for deadline_s, longest_wait_s in ((2.0, 30.0), (5.0, 0.5)):
    capped = limited(an_hour, RateLimit(longest_wait_s=longest_wait_s))
    with Deadline.after(deadline_s).applied(), watch() as seen:
        try:
            ended = f"answered: {await capped.acall('Is somebody there?')}"
        except dspy.LMError as error:
            ended = f"{type(error).__name__}: {error}"
    print(f"deadline {deadline_s} s, cap {longest_wait_s} s: {ended:.90}\n    {seen}")
    print("   ", lm.verdict(most_wait_s=longest_wait_s))

# %% [markdown]
# The cap also gets *jitter*: up to a tenth is added at random, so that a thousand clients that were told "in one second" do not all come
# back in the same millisecond. `lm.verdict` reads the ledger and says whether the client behaved; `most_wait_s` is the longest wait
# that it asks of anybody. (A cap of half a second is for this notebook. In production, believe a minute.)
#
# ### Better than to be refused: a token bucket
#
# Who knows the limit needs no refusals. A *token bucket* fills at a steady rate up to its capacity; each call takes a token, or waits for
# the next one. The small version:


# %% name="small-token-bucket"
class SmallBucket:
    def __init__(self, rate_per_s, capacity):
        self.rate_per_s, self.capacity = rate_per_s, capacity
        self.tokens, self.counted_at = capacity, time.monotonic()

    async def take(self):
        now = time.monotonic()
        self.tokens = min(self.capacity, self.tokens + (now - self.counted_at) * self.rate_per_s)
        self.counted_at = now
        self.tokens -= 1  # below zero is a place in the line
        if self.tokens < 0:
            await asyncio.sleep(-self.tokens / self.rate_per_s)


# %% [markdown]
# Now 30 calls meet a model that allows 20 a second: without a bucket, with the small one, and with the library's.

# %% name="three-buckets"
lm.profile("strict", limit_requests_per_s=20)
strict = lm.connect("sim-large@strict", cache=False, num_retries=0)
bucket = SmallBucket(rate_per_s=20, capacity=10)


async def paced(question):
    await bucket.take()
    return await strict.acall(question)


library = limited(strict, RateLimit(requests_per_s=20))
for name, call in {"no bucket": strict.acall, "SmallBucket": paced, "RateLimit": library.acall}.items():
    with watch() as seen:
        await AsyncRunner(8, progress=False).run(call, parcels)
    print(f"{name:12} {seen}")

# %% [markdown]
# `RateLimit` is this bucket with what production adds: who came first goes first, also when the rate changes; it works in threads and
# tasks; a 429 pauses all callers and not only the one that got it; a call that would come after its deadline fails at once; and hits of
# DSPy's cache pass, since it sits below the cache.
#
# ### Deeper: a second bucket, for tokens
#
# There are two buckets in it, because most providers count **tokens** too. What a call uses is known only when it is over. So a call that
# begins is charged what the last ones used on average, and what it really used is settled afterwards. Here the model allows 4,000
# tokens a second, about 11 of our tickets.

# %% name="two-buckets"
lm.profile("wordy", limit_tokens_per_s=4000)
wordy = lm.connect("sim-large@wordy", cache=False, num_retries=0)
for name, asked in {"no bucket": wordy, "RateLimit": limited(wordy, RateLimit(tokens_per_s=4000))}.items():
    with dspy.context(lm=asked), watch() as seen:
        await triage.acall(ticket=unasked(tickets[0]))  # the first call tells how many tokens one takes
        await AsyncRunner(4, progress=False).run(triage, [{"ticket": text} for text in tickets[:16]])
    tokens = seen.ledger.prompt_tokens + seen.ledger.completion_tokens
    print(f"{name:10} {seen}; {tokens} tokens")

# %% [markdown]
# ### A limit that nobody tells
#
# Often the limit is not known: it is shared with other programs, it moves with the hour, or the contract says "fair use". Then it has to be
# found, and the only thing that tells is a refusal. TCP has solved this problem for every packet on the internet since 1988, by **AIMD**:
#
# - *additive increase*: while callers wait and nobody is refused, let the rate grow by small steps;
# - *multiplicative decrease*: at a refusal, cut it by a share, at once.
#
# Before the first refusal the order of magnitude is unknown, so the rate doubles each second (*slow start*). `AdaptiveLimiter` does this.
# Here it meets a server that allows 12 requests a second and does not say so.

# %% name="adaptive-limiter"
from course_lib.concurrency import AdaptiveLimiter

lm.profile("hidden", limit_requests_per_s=12)
hidden = lm.connect("sim-large@hidden", cache=False, num_retries=0)
adaptive, rates = AdaptiveLimiter(first_per_s=3.0), []
endless, asked = (f"Parcel {number}?" for number in itertools.count()), limited(hidden, adaptive)
with watch() as seen:
    began = time.perf_counter()
    runner = AsyncRunner(8, deadline_s=4.5, progress=False)
    try:
        async for outcome in runner.stream(asked.acall, endless, in_order=False):
            now_s = time.perf_counter() - began
            rates.append((now_s, adaptive.rate_per_s, outcome.ok))
    except TimeoutError:  # the deadline for all
        print(f"{sum(is_through for *_, is_through in rates) / now_s:.1f} answers per second")
print(seen)

# %% name="adaptive-limiter-picture"
from course_lib.exercises.concurrency import draw_rates

by_second = {int(at_s): rate for at_s, rate, _ in rates}
told = ", ".join(f"{rate:.0f} after {second + 1} s" for second, rate in by_second.items())
picture = draw_rates(rates, [(0, 12)])
plot(picture, f"The rate of requests over time, around a hidden limit of 12 per second: {told}")

# %% [markdown]
# The rate goes beyond the limit before the first refusal comes, because this server lets one second's worth through at once, and only then
# counts. At a refusal it falls by a fifth, waits as it was asked to, and climbs again from there. Some seconds show the beginning; a whole
# minute comes below, in simulated time. The price of knowing is a refusal now and then: without one, nobody would notice that the limit
# has risen.

# %% [markdown]
# ### Exercise 3.5: an adaptive limiter (12 minutes, hard)
#
# *Concepts: additive increase, multiplicative decrease (AIMD), slow start, retry pause.*
#
# Write the rule that finds the rate. `rate_per_s` is read before each call; `success` and `refusal` are told how each ended, and `now_s` is
# the time on any clock. After a refusal all callers wait for a second, as the server asked.
#
# - Whatever `first_per_s` is from 0.5 to 500 (it is the first rate), from 20 seconds on at least 85 % of the server's limit is used and
#   less than 5 % of the requests are refused. The limit is between 10 and 200 per second, and one second's worth may come at once.
# - When the limit has doubled or halved, the same holds again after 20 seconds.
# - A success that nobody waited for (`waited` is False) changes nothing: the server took what came, and nobody tried more.
# - Refusals within the second after one that was counted change nothing: their calls were sent before.
# - However many refusals come, the rate stays 0.1 or more. Two limiters share nothing.
#
# `against(FindsTheLimit(2.0), [(0, 40)], until_s=60)` plays a minute in a moment; `shares(20, 60)` of the result is (used, refused).


# %% name="ex-3-5" tags=["exercise"] exercise="3.5"
from course_lib.exercises.concurrency import against


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
            self.rate_per_s = max(0.1, 0.9 * self.rate_per_s)
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


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="50 s after the start"
# Finds it, and takes a minute to find it again when it has doubled.
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
            self.growth_per_s = 0.01
            self.rate_per_s = max(0.1, 0.9 * self.rate_per_s)
            self.paused_until_s = now_s + 1.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="rate of a new limiter"
# Begins where it pleases.
class FindsTheLimit:
    def __init__(self, first_per_s):
        self.rate_per_s = 4.0
        self.growth_per_s = 1.0
        self.paused_until_s = 0.0

    def success(self, now_s, waited):
        if waited and now_s >= self.paused_until_s:
            self.rate_per_s *= (1 + self.growth_per_s) ** (1 / max(1.0, self.rate_per_s))

    def refusal(self, now_s):
        if now_s >= self.paused_until_s:
            self.growth_per_s = 0.04
            self.rate_per_s = max(0.1, 0.82 * self.rate_per_s)
            self.paused_until_s = now_s + 1.0


# %% tags=["wrong"] exercise="3.5" outcome="failed" message="what is made of a limit of|a refusal lowers the rate"
# A pause of five seconds: refusals after the first second are passed over too.
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
        self.paused_until_s = now_s + 5.0


# %% name="check-3-5" tags=["check"] exercise="3.5"
check("3.5", FindsTheLimit)

# %% name="help-3-5"
# hint("3.5")
# solution("3.5")

# %% [markdown]
# Your rule, for two minutes in simulated time, at a limit that doubles and then falls to a quarter. (While the exercise is a stub, the rate
# stays where it began.) Do not wonder that the rate swings above the limit: in each pause the server saves up a second's worth, which is then
# used.

# %% name="your-rule-picture"
moving = [(0, 30), (40, 60), (80, 15)]
yours = against(FindsTheLimit(2.0), moving, until_s=120)
for (from_s, limit), until_s in zip(moving, (40, 80, 120), strict=True):
    used, refused = yours.shares(from_s + 20, until_s)
    print(f"limit {limit}: {used:.0%} used, {refused:.1%} refused, from 20 s after it was set")
plot(
    draw_rates(yours.calls, moving),
    "The rate that your rule sets, around a limit of 30, then 60, then 15 per second",
)

# %% [markdown]
# ### What the server says of three clients
#
# The same 22 questions to a server that allows 15 requests a second, from three clients: one that asks again at once when it is refused, as
# people write it in a hurry; DSPy's own retries; and DSPy's retries under an `AdaptiveLimiter`. The ledger counts, and the verdict judges.


# %% name="three-clients"
async def in_a_hurry(question):
    while True:
        try:
            return await crowded.acall(question)
        except dspy.LMRateLimitError:
            await asyncio.sleep(0.01)


lm.profile("crowded", limit_requests_per_s=15, ttft_p50_ms=50)
crowded, retrying = (lm.connect("sim-large@crowded", cache=False, num_retries=retries) for retries in (0, 3))
careful = limited(retrying, AdaptiveLimiter(first_per_s=8.0))
clients = {"in a hurry": in_a_hurry, "DSPy's retries": retrying.acall, "AdaptiveLimiter": careful.acall}
for name, call in clients.items():
    with watch() as seen:
        outcomes = await AsyncRunner(15, progress=False).run(call, parcels[:22])
    print(f"{name:15} {sum(each.ok for each in outcomes)} answers in {seen}")
    print("   ", [finding.kind for finding in lm.verdict().findings] or "clean")

# %% [markdown]
# All three get all answers, and the one in a hurry is even the fastest. But it sends several times as many requests, and at a hosted model
# each one counts against the limit that you share with everybody else: it is the beginning of a *retry storm*. DSPy's retries wait as they
# are told to, and are clean. The limiter is refused least: it begins carefully, and one refusal slows down all callers, and not only the
# one that was refused.
