# %% [markdown] name="title"
# # Caching and performance
#
# An answer of a language model costs money and seconds, and much of what people ask was asked before. In this notebook you find out
# where both go, stop paying twice for the same answer without giving one customer another's, send thousands of questions through
# a program that may die on the way, and see what each step is worth.
#
# | part | minutes |
# | --- | --- |
# | 1. Where the time and the money go | 10 |
# | 2. DSPy's own cache: exercise 2.1 | 20 |
# | 3. A shared tier: exercises 2.2, 2.3, 2.4 | 40 |
# | 4. Questions that mean the same: exercise 2.5 | 15 |
# | 5. What the provider caches | 5 |
# | 6. Batches: exercise 2.6 | 15 |
# | 7. Cheaper without getting worse | 10 |
# | 8. What breaks in production | 5 |

# %% name="setup" tags=["needs"]
import tempfile
import time

from course_lib import desk, lm
from course_lib.exercises import check, hint, solution
from course_lib.labs.reading import table

model = lm.connect()  # its answers are cached, as DSPy does by default

import dspy

scratch = tempfile.TemporaryDirectory(prefix="lantern-")
dspy.configure(lm=model)
dspy.configure_cache(disk_cache_dir=f"{scratch.name}/dspy")  # empty, so that the first call is a first call
print("DSPy", dspy.__version__, "talks to", model.model)

# %% [markdown]
# Caches stand between your modules and the model, beside queue and database: a *service* that many copies of the program share.

# %% name="architecture"
from course_lib.labs.architecture import architecture

architecture(highlight="cache")

# %% [markdown]
# ## 1. Where the time and the money go
#
# Before anything is made faster, it has to be clear what is slow. A simulator that answers at once would hide it, so this part talks to
# `weekday`, a profile with the waiting times of a hosted model on a normal day, sped up so that you do not wait for it.

# %% name="weekday" tags=["needs"]
lm.profile(
    "weekday",
    ttft_p50_ms=60,
    ttft_p99_ms=400,
    speed_p50_tokens_per_s=600,
    speed_p99_tokens_per_s=1200,
    unavailable_rate=0.03,
)
weekday = lm.connect("sim-large@weekday", cache=False, num_retries=0)
triage, tickets = desk.Triage(), [ticket.text for ticket in desk.tickets("train")]

# %% [markdown]
# ### Percentiles: what each figure says and hides
#
# Sort 80 tickets, eight at a time, and write down how long each took. Failures are kept too: a figure about the calls that went well
# says nothing about the others.

# %% name="eighty-tickets"
from concurrent.futures import ThreadPoolExecutor


def timed(ticket):
    started = time.perf_counter()
    try:
        with dspy.context(lm=weekday):
            triage(ticket=ticket)
        return 1000 * (time.perf_counter() - started), "answered"
    except dspy.LMError as error:
        return 1000 * (time.perf_counter() - started), type(error).__name__


started = time.perf_counter()
with ThreadPoolExecutor(8) as pool:
    outcomes = list(pool.map(timed, (tickets * 2)[:80]))
wall_s = time.perf_counter() - started

# %% name="percentiles"
import numpy as np

times_ms = np.array([ms for ms, outcome in outcomes if outcome == "answered"])
p50, p95, p99 = np.percentile(times_ms, [50, 95, 99])
figures = {
    "mean": (f"{times_ms.mean():.0f} ms", "good for bills and capacity; a wait that perhaps nobody had"),
    "p50": (f"{p50:.0f} ms", "half of the users wait no longer; says nothing about the other half"),
    "p95": (f"{p95:.0f} ms", "one call in twenty is slower: what a busy user meets every day"),
    "p99": (
        f"{p99:.0f} ms",
        f"of {len(times_ms)} calls this is nearly the slowest one: chance, until there are more",
    ),
    "throughput": (
        f"{len(times_ms) / wall_s:.0f} answers/s",
        "with eight at a time; says nothing about how long one takes",
    ),
    "error rate": (
        f"{1 - len(times_ms) / len(outcomes):.1%}",
        "a failure is quick, so it would make every figure above look better",
    ),
}
table(
    [{"figure": name, "measured": value, "what it says": words} for name, (value, words) in figures.items()]
)

# %% [markdown]
# One slow call in twenty sounds rare. An agent makes many calls in a row, though, and one of them is enough. How often does an answer made of
# *n* of these calls meet at least one that is slower than p95?

# %% name="many-calls"
import random

draw = random.Random(2)
for calls in (1, 3, 10):
    answers = [draw.choices(list(times_ms), k=calls) for _ in range(5000)]
    met = sum(max(answer) > p95 for answer in answers) / len(answers)
    print(f"{calls:2} calls in a row: {met:.0%} of the answers meet a call slower than p95")

# %% [markdown]
# ## 2. DSPy's own cache
#
# Switched on unless you say otherwise, and for good reason: an optimizer or a notebook asks the same thing again and again. It has two
# tiers, memory and disk. `requests_of` counts what reached the model's server: the only witness that cannot be wrong about it.


# %% name="requests-of" tags=["needs"]
def requests_of(call, *args, **kwargs):
    """Call a function, and return how many requests the model's server got meanwhile."""
    before = lm.ledger().requests
    call(*args, **kwargs)
    return lm.ledger().requests - before


ticket = desk.tickets("dev")[0].text
print("first call: ", requests_of(triage, ticket=ticket), "request")
print("second call:", requests_of(triage, ticket=ticket), "requests")

# %% [markdown]
# What is a hit worth? Three ways to the same answer, each the median of some calls. Emptying the memory tier makes the disk
# answer; `weekday` stands for the model.

# %% name="three-ways"
import statistics


def median_ms(call, n):
    spans = []
    for _ in range(n):
        started = time.perf_counter()
        call()
        spans.append(1000 * (time.perf_counter() - started))
    return statistics.median(spans)


def from_disk():
    dspy.cache.reset_memory_cache()
    triage(ticket=ticket)


ways = {
    "model (weekday)": p50,
    "disk": median_ms(from_disk, 50),
    "memory": median_ms(lambda: triage(ticket=ticket), 50),
}
table([{"from": name, "ms per answer": f"{ms:.2f}"} for name, ms in ways.items()])

# %% [markdown]
# Note what is left when the model is not asked: DSPy writes the prompt, makes a key of it, copies the answer and parses it again, each
# time. The cache is under the *model call*, not under your module.
#
# ### What is in the key
#
# The key is a hash of the request: model name, messages, and every option of the call. So ask in ten ways, and see which of them find the
# answer from above.

# %% name="what-is-in-the-key"
elsewhere = dspy.LM("course/sim-large", api_base="http://127.0.0.1:9/v1", api_key="somebody else's")
changes = {
    "nothing": {},
    "a new program object": {"program": desk.Triage()},
    "one blank at the end of the ticket": {"ticket": ticket + " "},
    "temperature=0.0 instead of none": {"lm": model.copy(temperature=0.0)},
    "timeout=30": {"lm": model.copy(timeout=30)},
    "num_retries=9": {"lm": model.copy(num_retries=9)},
    "another adapter": {"adapter": dspy.JSONAdapter()},
    "another API key and server": {"lm": elsewhere},
}
rows = []
for name, change in changes.items():
    program, asked = change.pop("program", triage), change.pop("ticket", ticket)
    with dspy.context(**change):
        is_hit = requests_of(program, ticket=asked) == 0
    rows.append({"what changed": name, "answered by": "cache" if is_hit else "model"})
table(rows)

# %% [markdown]
# Two of these are dangerous. One blank makes a miss, which costs money. The last one makes a *hit*, which can cost a customer; it comes back
# below.
#
# ### A fresh answer on purpose
#
# With a temperature above zero you may want another sample, and `rollout_id` is the way to ask: it goes into the key and never to the model.
# The same id finds the same sample again, so an experiment can be repeated.

# %% name="rollout"
for rollout in (1, 2, 1):
    sampling = {"rollout_id": rollout, "temperature": 1.0}
    print(f"rollout {rollout}:", requests_of(triage.sort, ticket=ticket, config=sampling), "requests")

# %% [markdown]
# ### What a hit reports
#
# Usage counts tokens that were paid for, so a hit has none. That is right for the bill, and wrong for everybody who wants to know what the
# cache saved, or how long prompts are: on a warm cache your dashboard reads zero.

# %% name="usage-on-hits"
for name, asked in (("a new ticket", tickets[0]), ("the same again", tickets[0])):
    with dspy.track_usage() as usage:
        triage(ticket=asked)
    spent = usage.get_total_tokens().get(model.model, {})
    print(f"{name}: {spent.get('total_tokens', 0)} tokens")

# %% [markdown]
# ### Streams, and what is never cached
#
# A stream that ended well is kept like any other answer. The second reader gets it in one piece: no chunks, so a page that shows
# words as they come shows nothing, then everything.

# %% name="stream-on-hits"
from collections import Counter


async def pieces(program, **inputs):
    """Return what a streamed program yields, by kind."""
    return dict(Counter([type(piece).__name__ async for piece in dspy.streamify(program)(**inputs)]))


for name in ("first reader", "second reader"):
    print(f"{name}:", await pieces(triage, ticket=tickets[1]))

# %% [markdown]
# Errors are never kept, so a failing call asks again each time. What *is* kept: everything that came back, also a reply that
# was cut off or that no adapter can read. (Notebook 01 showed the failure that stays.)

# %% name="never-cached"
import logging

logging.getLogger("dspy.clients.lm").setLevel(logging.ERROR)  # a line per reply that was cut off
lm.profile("down", unavailable_rate=1.0)
strict = dspy.ChatAdapter(use_json_adapter_fallback=False)


def error_of(bad_lm):
    with dspy.context(lm=bad_lm, adapter=strict):
        try:
            triage(ticket=ticket)
        except dspy.DSPyError as error:
            return type(error).__name__


rows = []
for name, bad in (
    ("503", lm.connect("sim-large@down", num_retries=0)),
    ("6 tokens at most", lm.connect(max_tokens=6)),
):
    before = lm.ledger().requests
    ends = [error_of(bad), error_of(bad)]
    rows.append(
        {"model": name, "two calls end in": ", ".join(ends), "requests": lm.ledger().requests - before}
    )
table(rows)

# %% [markdown]
# ### Pickles and trust
#
# The disk tier keeps pickles, and to unpickle is to run whatever program the file holds. On your own machine that is your own
# program. In a folder that others can write to, on a shared disk or in a CI cache, it is theirs. Here somebody else has been in the folder.


# %% name="pickle"
class Greeting:
    def __reduce__(self):
        return print, ("    this line was run by reading the cache",)


def poison():
    """Replace the disk's answer to `ticket`, as anybody who may write to the folder can."""
    request = {"model": model.model, "note": "any key will do"}
    dspy.cache.disk_cache.set(dspy.cache.cache_key(request), Greeting())
    return request


for restricted in (False, True):
    dspy.configure_cache(disk_cache_dir=f"{scratch.name}/shared", restrict_pickle=restricted)
    print(f"restrict_pickle={restricted}:")
    dspy.cache.get(poison())

# %% [markdown]
# `restrict_pickle=True` is there, and off by default. Better is a tier that has no pickle to begin with; that is part 3.
#
# ### What breaks in production: tenant B gets A's answer
#
# The key leaves out `api_base`, `base_url` and `api_key`. Two customers of yours, each with a contract and a server of their own, both call
# their model `support`. B's server is not even running here.

# %% name="tenants"
dspy.configure_cache(disk_cache_dir=f"{scratch.name}/tenants")
answer = desk.Answer()
TENANTS = {
    "A": dspy.LM("openai/sim-large", api_base=lm.url(), api_key=lm.key(), num_retries=0),
    "B": dspy.LM("openai/sim-large", api_base="http://127.0.0.1:9/v1", api_key="b", num_retries=0),
}


def as_tenant(name, question):
    """Answer a question with a tenant's own model; say who answered it."""
    before = lm.ledger().requests
    try:
        with dspy.context(lm=TENANTS[name]):
            text = answer(question=question).answer
    except dspy.LMError as error:
        return {"tenant": name, "by": "nobody", "answer": f"{type(error).__name__}: its server is down"}
    return {"tenant": name, "by": "model" if lm.ledger().requests > before else "cache", "answer": text}


QUESTION = "How long may I take to send a tent back?"
table([as_tenant("A", QUESTION), as_tenant("B", QUESTION)], caption="Plain DSPy")

# %% [markdown]
# No error, no log line: B's customer reads what A's model wrote. Even with one server for all, the key knows nothing of tenants: what
# one tenant's fine-tuned or specially instructed model said is handed to the other as soon as the two prompts agree.
#
# ### What breaks in production: warm for sync, cold for async
#
# You warm the cache overnight with a script, `program(...)`. In the morning the web server asks with `await program.acall(...)`.

# %% name="sync-warm-async-cold"
shift = tickets[10:20]
warmed = requests_of(lambda: [triage(ticket=each) for each in shift])
before = lm.ledger().requests
for each in shift:
    await triage.acall(ticket=each)
print(f"the script asked {warmed} times, the server asked", lm.ledger().requests - before, "times more")

# %% [markdown]
# The key also holds the name of the function that makes the call, and the async one has another name. All that was warmed is
# paid for a second time.
#
# ### What breaks in production: 32 calls for 32 identical questions
#
# A newsletter goes out, and 32 people ask the same within the same second. The cache is asked 32 times before the first answer is there:
# 32 misses. This is a *stampede*, and it comes exactly when the load is highest.

# %% name="stampede"
import asyncio

lm.profile("steady", ttft_p50_ms=80)
steady = lm.connect("sim-large@steady")
before = lm.ledger().requests
with dspy.context(lm=steady):
    await asyncio.gather(*(triage.acall(ticket=tickets[20]) for _ in range(32)))
print(lm.ledger().requests - before, "calls of the model for 32 identical tickets")

# %% [markdown]
# ### What breaks in production: the key that cannot be made
#
# `request_cache`, which DSPy uses for embeddings, keeps results of your own functions in the same cache. It knows how to put a pydantic
# model into a key. A *list* of them it does not.

# %% name="pydantic-miss"
import pydantic
from dspy.clients.cache import request_cache


class Line(pydantic.BaseModel):
    article: str
    count: int


runs = []


@request_cache()
def pieces_in(order):
    runs.append(order)
    return {"pieces": sum(line.count for line in order) if isinstance(order, list) else order.count}


tent, lamps = Line(article="tent", count=1), Line(article="lamp", count=4)
for name, order in (("one model", tent), ("a list of models", [tent, lamps])):
    runs.clear()
    for _ in range(3):
        pieces_in(order=order)
    print(f"{name}: called 3 times, ran {len(runs)} times")

# %% [markdown]
# Making the key raises an error, the error is swallowed (it is logged at level DEBUG), and the call goes on without a cache. It looks like
# any other miss. You would only see it on the bill.
