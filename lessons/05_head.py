# %% [markdown] name="title"
# # Deployment
#
# A notebook answers one person who forgives. A service answers many who do not: some send nonsense, some send the same question a thousand
# times, one sends a password in a ticket, and while they do, the model is slow, Redis is restarted and a worker is killed. **At the end of
# this notebook you will be able to**
#
# - turn a DSPy program into a service that has the right answer, or the right error, for every request;
# - refuse settings that would make a deployment unsafe, before it starts;
# - put a real gateway in front of replicas, leave a dead one out, and send a tenth of the traffic to a new version;
# - share limits between replicas, and keep tenants apart;
# - answer long jobs by a queue and workers, and lose none when a worker is killed;
# - say who did what by a log that cannot be changed unseen, and erase a customer everywhere.
#
# You need notebooks 02 (caches), 03 (async, resilience) and 04 (traces). What is headed *Deeper* may be skipped: nothing in the core needs
# it. The minutes count reading (200 words or 25 lines of code a minute), running, and the exercises at the time on their cards.
#
# | part | minutes |
# | --- | --- |
# | 1. From notebook to service: exercises 5.1, 5.2 | 0 |
# | 2. Gateway and guard: exercise 5.3 | 0 |
# | 3. State and queue: exercise 5.4 | 0 |
# | 4. Security and compliance: exercise 5.6 | 0 |
#
# Stop after any part. To go on another day, run the set-up cell; each part needs nothing else.
# The text was written on a machine with two processors: your figures will differ, their ratios little.

# %% name="setup" tags=["needs"]
import asyncio
import json
import logging
import os
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

from course_lib import desk, lm
from course_lib.exercises import check, hint, solution
from course_lib.labs import plot, table
from course_lib.measure import watch

model = lm.connect(cache=False)  # each call asks the model, unless a cell wants the cache

import dspy

opened = ExitStack()  # closes at the end whatever this notebook opens
folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="lantern-")))
dspy.configure(lm=model)
dspy.configure_cache(disk_cache_dir=str(folder / "dspy"))  # empty: a first call is a first call
questions = [ticket.text for ticket in desk.tickets("train")][:50]
print("DSPy", dspy.__version__, "talks to", model.model)

# %% name="architecture-deployment"
from course_lib.labs import architecture

architecture(highlight="gateway")

# %% [markdown]
# ## 1. From notebook to service
#
# DSPy has no server of its own, so most people begin with what the documentation of FastAPI shows: a route that calls the program. It is
# ten lines, and it works.

# %% name="plain-service"
from course_lib.concurrency.streaming import serve
from fastapi import FastAPI
from pydantic import BaseModel


class Question(BaseModel):
    question: str


def plain_app(program):
    app, answer = FastAPI(), dspy.asyncify(program)

    @app.post("/answers")
    async def answers(asked: Question):
        prediction = await answer(question=asked.question)
        return {"answer": prediction.answer, "citations": prediction.citations}

    return app


async def post(url, texts, **options):
    """Ask all questions at once; return the responses, or the errors, in their order."""
    async with httpx.AsyncClient(timeout=9, trust_env=False, **options) as client:
        requests = (client.post(url, json={"question": text}) for text in texts)
        return await asyncio.gather(*requests, return_exceptions=True)


plain = opened.enter_context(serve(plain_app(desk.Answer())))
(response,) = await post(f"{plain.url}/answers", ["What does shipping to Norway cost?"])
print(response.status_code, response.json())

# %% [markdown]
# Now three things that happen in any week: many people ask at once, the model's provider is down, and it says that the account's limit is
# used up and asks to come back in 100 seconds. **Predict first:** what does a user see in each, and after how long? (The user gives up
# after nine seconds. The three are tried at once, each with a service of its own.)

# %% name="plain-service-bad-days"
WEATHER = {
    "one-second": {"ttft_p50_ms": 1000},
    "down": {"unavailable_rate": 1.0},
    "spent": {"first": ["rate_limited"] * 50, "retry_after_s": 100},
}
BAD_DAYS = {"one-second": questions[:32], "down": questions[32:33], "spent": questions[33:34]}
logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # its tracebacks are not what we look at


async def bad_day(url, name, texts, **options):
    begun = time.perf_counter()
    responses = await post(url, texts, **options)
    seen = Counter(getattr(each, "status_code", type(each).__name__) for each in responses)
    return {"model": name, "requests": len(texts), "seen": dict(seen), "seconds": f"{time.perf_counter() - begun:.1f}"}


def served_plainly(name):
    lm.profile(name, **WEATHER[name])
    with dspy.context(lm=lm.connect(f"sim-large@{name}", cache=False)):
        return opened.enter_context(serve(plain_app(desk.Answer())))


plain_urls = {name: f"{served_plainly(name).url}/answers" for name in BAD_DAYS}
table(await asyncio.gather(*(bad_day(plain_urls[name], name, texts) for name, texts in BAD_DAYS.items())))

# %% [markdown]
# - *32 people, a model that takes one second:* `dspy.asyncify` runs eight calls at once, so the last one waits for four.
# - *The provider is down:* seven seconds of retries, and then a 500, which says that **our** service is broken. It is not. Monitoring wakes
#   the wrong people, and a client does not learn that it may try again.
# - *The limit is used up:* DSPy waits as long as the provider asks, up to 100 seconds, and the user sits there. (Notebook 03, part 6.)
#
# And there is no key, no limit, no bound on a question's length; two replicas know nothing of each other; a restart cuts answers off. The
# rest of this notebook adds what is missing, one thing at a time, with the parts of the notebooks before.
#
# ### Settings that refuse
#
# A service reads its settings from the environment. Here is how many do it. **Predict first:** which of the two variables does this
# service obey, and what does it print?

# %% name="plain-settings"
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    database_url: str = "postgresql://localhost/desk"
    jwt_secret: str = "change-me"
    deadline_s: float = 10.0


os.environ |= {"DATABASE_URL": "postgresql://desk:an-invented-password@db.internal/desk", "DEADLINES_S": "2"}
print(Settings())
del os.environ["DATABASE_URL"], os.environ["DEADLINES_S"]

# %% [markdown]
# Three faults in one line of output. The password is in the log from now on. `DEADLINES_S` has one letter too many, so it was ignored
# without a word. And the service would have started with `change-me` as the secret that signs its tokens: a default that is convenient on a
# laptop is an open door in production.
#
# `DeploymentConfig` has a **profile** for that: what is fine in *development* is refused in *production*. It checks the settings as a whole,
# and tells all problems at once, each with its variable and what to do.

# %% name="settings-refused"
from course_lib.deployment import ConfigError, DeploymentConfig

unsafe = {"jwt_secret": "change-me", "cors_origins": ("*",), "docs": True, "drain_s": 5}
unsafe |= {"database_url": "postgresql://desk:an-invented-password@db.internal/desk"}
try:
    DeploymentConfig(profile="production", **unsafe)
except ConfigError as error:
    for problem in error.problems:
        print("-", problem)

# %% [markdown]
# Each of these has taken down, or opened, somebody's service. The last but one group are *contradictions*: a replica that is told to end
# within 5 seconds while an answer may take 10 will cut answers off, and no single setting is wrong. A misspelt name is told too, and no
# secret is shown, neither in an error nor when the settings are printed:

# %% name="settings-shown"
os.environ["COURSE_SERVICE_DEADLINES_S"] = "2"
try:
    DeploymentConfig()
except ConfigError as error:
    print(error)
del os.environ["COURSE_SERVICE_DEADLINES_S"]
config = DeploymentConfig(jwt_secret="9f0c" + os.urandom(20).hex())
table([{"setting": name, "value": config.shown()[name]} for name in ("profile", "host", "deadline_s", "jwt_secret")])

# %% [markdown]
# `course config check` does the same on a command line, so that a release can fail before it starts.

# <<< exercise 5.1 >>>

# %% [markdown]
# ### A program as a file
#
# What is released is the program: its instructions and demos, which an optimizer may have found. DSPy can save it in two ways. **Predict
# first:** in which of the two files does the provider's key stand?

# %% name="what-is-in-the-file"
program = desk.Answer()
program.set_lm(dspy.LM("openai/gpt-4o-mini", api_key="sk-invented-for-this-cell", api_base="https://gateway.internal/v1"))
program.save(str(folder / "state.json"))
logging.getLogger("dspy").setLevel(logging.ERROR)  # it warns of the pickle, rightly
program.save(str(folder / "whole"), save_program=True)

for path in (folder / "state.json", folder / "whole/program.pkl"):
    found = {text: text.encode() in path.read_bytes() for text in ("sk-invented-for-this-cell", "gateway.internal")}
    print(path.name, path.stat().st_size, "bytes;", found)

# %% [markdown]
# The whole program is a *pickle*: it holds the key in plain text, and whoever can write the file can run code in your service, since
# reading a pickle runs what it says. The state is JSON, which is only read. But it names the address of the gateway, and when it is loaded
# that address is ignored with a warning: the program would ask another server than the one it was tested with.
#
# So a release here is JSON without any model in it, under a version that is written once. The service sets its own model.

# %% name="save-a-version"
from course_lib.deployment import load_program, save_program

programs = folder / "programs"
path = save_program(program, programs, "answer", "1")
print(path.relative_to(folder), path.stat().st_size, "bytes;", {"gateway.internal": b"gateway.internal" in path.read_bytes()})
loaded = load_program("answer", path)
print("its model:", loaded.reply.lm, "| asks:", (await loaded.acall(question="What does shipping to Norway cost?")).answer[:60])

# %% [markdown]
# ### The service
#
# Now the service itself. Its program is the one of the ten lines above; what is new stands around it. A request passes these in order, and
# each may answer instead of passing it on:
#
# ```mermaid
# flowchart LR
#     R([request]) --> G[gateway] --> K["who asks?<br>401, 403"] --> Q["quota<br>429"] --> S["size, form<br>413, 415, 422"]
#     S --> P[redaction] --> C{asked before?}
#     C -- yes --> A([answer])
#     C -- no --> M["program, deadline<br>502, 503, 504"] --> A
#     M -.-> D[("history, audit log")]
# ```
#
# Nearly all of it you know: caches from notebook 02, deadlines, retries and the circuit breaker from 03, traces, metrics and redaction from
# 04. `create_app(config)` puts them together, and `running_replica` runs it as a process of its own, a *replica*. (Its model is the
# simulator's, with the profile `weather`, which the next cell changes.)

# %% name="one-replica"
from course_lib.deployment import make_key, running_replica

KEY, entry = make_key("notebook", "lantern", ["ask"])
KEYED = {"X-API-Key": KEY}
replica = opened.enter_context(ExitStack())
lm.profile("weather", ttft_p50_ms=100)
url = replica.enter_context(running_replica(model="sim-large@weather", api_keys=(entry,)))
(response,) = await post(f"{url}/v1/answers", ["Can I pay by invoice?"], headers=KEYED)
print(url, response.status_code, response.json()["answer"][:70])

# %% [markdown]
# The same three bad days. **Predict:** what does a user see now?

# %% name="service-bad-days"
rows = []
for name, texts in BAD_DAYS.items():
    lm.profile("weather", **WEATHER[name])
    rows.append(await bad_day(f"{url}/v1/answers", name, texts, headers=KEYED))
table(rows)

# %% [markdown]
# The program is awaited, so 32 people wait for about one second, each for their own answer. When the provider is down, retries end within the
# deadline of the request, and the status is 503: *not now, try again*. When the limit is used up, nobody waits for 100 seconds: what the
# provider asks is passed on, in the header `Retry-After`, which a good client obeys.
#
# The body of an error is of one form, **problem details** (RFC 9457): a stable `code` for programs, a sentence for people, the id of the
# request for support. It holds nothing of ours: no prompt, no address, no traceback.

# %% name="a-problem"
(response,) = await post(f"{url}/v1/answers", questions[34:35], headers=KEYED)
print(response.status_code, response.headers["content-type"], "| retry-after:", response.headers["retry-after"])
print(json.dumps(response.json(), indent=2))

# %% [markdown]
# Most errors are the caller's. **Predict** the status of each of these before you run the cell. (*Who is it?* is asked before *what does
# it say?*, so that nobody without a key learns what a valid request looks like.)

# %% name="bad-requests"
def sent(url, body, **headers):
    headers = {"Content-Type": "application/json", **headers}
    response = httpx.post(url, content=body, headers=headers, timeout=10, trust_env=False)
    return {"status": response.status_code, "code": response.json().get("code", ""), "detail": response.json().get("detail", "")}


asked = f"{url}/v1/answers"
lm.profile("weather", **WEATHER["one-second"])
bad = {
    "no key": sent(asked, b'{"question": "?"}'),
    "a key that is not ours": sent(asked, b'{"question": "?"}', **{"X-API-Key": "sk_guessed"}),
    "may only ask": sent(asked.replace("answers", "audit/verify"), b"{}", **KEYED),
    "no JSON": sent(asked, b"question=?", **KEYED | {"Content-Type": "text/plain"}),
    "torn JSON": sent(asked, b'{"question": "Wher', **KEYED),
    "misspelt field": sent(asked, b'{"qestion": "Where is my parcel?"}', **KEYED),
    "100 kB": sent(asked, json.dumps({"question": "x" * 100_000}).encode(), **KEYED),
    "no such version": sent(asked, b'{"question": "Hi?"}', **KEYED | {"X-Program-Version": "7"}),
}
table([{"request": name, **told} for name, told in bad.items()])

# <<< exercise 5.2 >>>

# %% [markdown]
# ### The same question again
#
# Notebook 02 cached *calls of the model*. A service can do better: it remembers whole *answers*, and gives one again before the program
# runs. Its key has the tenant, the program, its version and the question without personal data. Two customers with the same question share
# nothing, unless neither is named. (Why not? Because an answer about Ann has to go when Ann asks to be erased.)

# %% name="asked-again"
async def answer_of(text, **given):
    async with httpx.AsyncClient(timeout=9, trust_env=False, headers=KEYED) as client:
        begun = time.perf_counter()
        told = (await client.post(asked, json={"question": text, **given})).json()
        return {"cached": told["cached"], "id": told["id"], "ms": round((time.perf_counter() - begun) * 1000)}


DOGS, rows = "Can I bring my dog to the shop?", []
for label, given in {"first": {}, "again": {}, "for Ann": {"customer": "ann"}, "for Ann again": {"customer": "ann"}}.items():
    rows.append({"asked": label, **await answer_of(DOGS, **given)})
    await asyncio.sleep(0.3)  # an answer is kept behind the reader's back
table(rows)

# %% [markdown]
# The second answer came before the program, in a few milliseconds. "For Ann" asked the model again, for the cache of its calls is kept
# apart by customer too: that is the price of being able to erase. (It is quicker than the first all the same, since the model's provider
# knew the beginning of the prompt: notebook 02, part 6.)
#
# ### Ending without cutting anybody off
#
# A replica is ended often: at each release, when there is less to do, when its machine is replaced. The signal is `SIGTERM`. A process that
# just ends cuts off who waits. A replica of ours says first that it is about to end (its readiness becomes 503, so the gateway sends no
# more), answers what it has, and then ends: it **drains**. Here it is told to end while eight questions are under way.

# %% name="drain"
lm.profile("weather", **WEATHER["one-second"])
waiting = asyncio.create_task(post(f"{url}/v1/answers", questions[35:43], headers=KEYED))
await asyncio.sleep(0.5)  # they are under way
await asyncio.to_thread(replica.close)  # SIGTERM, and wait until the process has ended
print(Counter(response.status_code for response in await waiting))
(late,) = await post(f"{url}/v1/answers", questions[:1], headers=KEYED)
print("afterwards:", type(late).__name__)

# %% [markdown]
# All eight were answered, and who asks afterwards is told at once that nobody is there. What sends them to another replica is the gateway.

# %% [markdown]
# ## 2. Gateway and guard
#
# One replica is one process on one core: when it is restarted nobody answers, and a second one is of no use unless something shares the
# requests out. That is the **gateway**, here Traefik, the real one from a package. `running_stack` starts all that a production system of
# this size has, each part as a process of its own on loopback; `course serve` does the same on a command line.
#
# ```mermaid
# flowchart LR
#     C([clients]) --> T[Traefik] --> R1[replica 1] & R2[replica 2] & R3["replica 3<br>(canary)"]
#     R1 & R2 & R3 --> M[(model)]
#     R1 & R2 & R3 --> V[("Redis:<br>cache, limits")]
#     R1 & R2 & R3 --> P[("PostgreSQL:<br>history, jobs, audit")]
#     R1 & R2 & R3 --> Q[["queue"]] --> W[worker] --> P
#     W --> M
# ```
#
# Two replicas serve version 1 of the programs, and one serves version 2, whose instructions somebody has improved.

# %% name="stack" tags=["needs"]
from course_lib.deployment import load_program, running_stack, save_program

programs = folder / "programs"
for name, program in {"answer": desk.Answer(), "triage": desk.Triage()}.items():
    for version in ("1", "2"):
        if not (programs / name / f"{version}.json").exists():
            save_program(program, programs, name, version)
lm.profile("weather", ttft_p50_ms=50)
stack = opened.enter_context(
    running_stack(versions=("1", "1", "2"), programs_folder=programs, model="sim-large@weather")
)
stack.use({"1": 1, "2": 0})  # nobody gets version 2 unless they ask for it
print(stack)

# %% [markdown]
# (The demo key is for this notebook, which runs in *development*. It is good for this stack alone, and ends with it.) Three questions come
# up at once. Is the work shared? What happens when a replica dies? And who gets version 2?

# %% name="shared-out"
def fresh(count, about="tents"):
    """Return so many questions that nobody has asked yet."""
    return [f"Question {os.urandom(3).hex()}: do you have {about}?" for _ in range(count)]


async def ask(texts, path="/v1/answers", **headers):
    return await post(stack.url + path, texts, headers={**stack.headers, **headers})


def answered_by_replica():
    """Return how many requests to programs each replica has answered, as it tells Prometheus."""
    told = [httpx.get(f"{url}/metrics", headers=stack.headers, trust_env=False).text for url in stack.replicas]
    lines = [[line for line in text.splitlines() if line.startswith('service_requests_total{route="/v1/answers"')] for text in told]
    return [sum(float(line.split()[-1]) for line in found) for found in lines]


before = answered_by_replica()
responses = await ask(fresh(60))
print(Counter(response.status_code for response in responses), [now - then for now, then in zip(answered_by_replica(), before)])

# %% [markdown]
# Each of the two replicas of version 1 answered half. Now one of them is killed (`SIGKILL`, no time for goodbyes) while requests come in.
# **Predict:** how many of 100 fail?

# %% name="a-replica-dies"
async def kill_soon(name):
    await asyncio.sleep(0.2)
    stack.kill(name)


async def one_by_one(texts, pause_s=0.01):
    seen = Counter()
    for text in texts:
        (response,) = await ask([text])
        seen[getattr(response, "status_code", type(response).__name__)] += 1
        await asyncio.sleep(pause_s)
    return seen


seen, _ = await asyncio.gather(one_by_one(fresh(100)), kill_soon("replica-1"))
print("while it died:", dict(seen), "| afterwards:", dict(await one_by_one(fresh(20))))
stack.start("replica-1")

# %% [markdown]
# At most the one request that was in its hands is lost, with a 502, and often none. A connection that is refused is tried with the other
# replica at once, since nothing was delivered; and the gateway asks each replica every second whether it lives (`/health/live`) and leaves
# a dead one out. What *was* delivered is never sent twice: it might have been a refund.
#
# Health and readiness are two questions. *Live?* asks whether the process should be restarted. *Ready?* says which parts are missed. A
# replica without its database is alive, and restarting it would not help.

# %% name="ready"
ready = httpx.get(f"{stack.url}/health/ready", trust_env=False).json()
print(ready)

# %% [markdown]
# ### A tenth of the traffic
#
# Version 2 looks better on the test set. Whether it *is*, only real questions tell, and if it is not, it should harm few. So a new version
# begins as a **canary**: it gets a share of the requests, which is a weight in the gateway's file. Traefik reads it again when it changes;
# no request is lost, and nothing is restarted. Who wants one version by name says so in a header.

# %% name="canary"
for weights in ({"1": 9, "2": 1}, {"1": 1, "2": 1}, {"1": 1, "2": 0}):
    stack.use(weights)
    answers = [response.json()["version"] for response in await ask(fresh(100))]
    print(weights, "->", dict(sorted(Counter(answers).items())))
(response,) = await ask(fresh(1), **{"X-Program-Version": "2"})
print("by name:", response.json()["version"])

# %% [markdown]
# (Who decides on the weight, by which measure, and who turns it back at night, is a later part of this section.)
#
# ### Who asks
#
# Behind the gateway each replica asks who it is. Two ways: an **API key** for a program of a tenant, of which the service keeps a digest
# only; and a signed **token** (JWT) with an end, such as a login gives. Both name a *tenant* and *roles*. **Predict** the four statuses.

# %% name="who-asks"
from course_lib.deployment import make_token

tokens = {
    "asks": make_token(stack.config, "lantern", ["ask"]),
    "audits": make_token(stack.config, "lantern", ["audit"]),
    "has expired": make_token(stack.config, "lantern", ["ask"], lifetime_s=-3600),
    "asks, but was changed": make_token(stack.config, "lantern", ["ask"])[:-4] + "AAAA",
}
for who, token in tokens.items():
    headers = {"Authorization": f"Bearer {token}"}
    response = httpx.post(f"{stack.url}/v1/answers", json={"question": "Do you have tents?"}, headers=headers, timeout=9, trust_env=False)
    print(f"{who:22}", response.status_code, response.json().get("detail", ""))

# %% [markdown]
# A token is read by anybody and made by those who know the secret; that is why `DeploymentConfig` is so particular about `jwt_secret`. The
# tenant comes from the key or token, never from the request: so nobody can ask in another one's name.

# %% name="tenants-apart"
mine, other = (make_token(stack.config, tenant, ["ask"]) for tenant in ("lantern", "rival"))
with httpx.Client(base_url=stack.url, timeout=9, trust_env=False) as client:
    by = lambda token: {"Authorization": f"Bearer {token}"}
    job = client.post("/v1/jobs", json={"program": "triage", "inputs": ["Where is my parcel?"]}, headers=by(mine)).json()["id"]
    print("its own job:", client.get(f"/v1/jobs/{job}", headers=by(mine)).status_code)
    print("a rival's look at it:", client.get(f"/v1/jobs/{job}", headers=by(other)).status_code)
    print("a rival's history:", len(client.get("/v1/answers", headers=by(other)).json()["answers"]), "answers")

# %% [markdown]
# 404 and not 403: that there *is* such a job is nobody's business. The same holds below the application. In PostgreSQL a policy on each
# table shows a connection the rows of one tenant, so that a forgotten `WHERE` finds nothing rather than everything.
#
# ### One limit for all replicas
#
# A limit that each replica counts for itself is a limit times the number of replicas, and another one after each restart. So it is counted
# in Redis. But a question to Redis takes longer than all the rest of the guard, so a replica takes a *lease*: some requests at once, which
# it then lets through by itself. The sum is never more than the limit. **Predict:** what do three replicas let through when Redis is gone?

# %% name="quotas"
from course_lib.deployment import Caller, QuotaExceeded, Quotas

limited = stack.config.model_copy(update={"requests_per_minute": 30})


async def let_through(tenant, requests=60):
    """Return what three replicas let through of a tenant's requests, in turn."""
    caller, counts = Caller(tenant, "trial", frozenset({"ask"})), [0, 0, 0]
    quotas = [Quotas(limited, replicas=3) for _ in counts]
    for each in quotas:
        await each.open()
    for number in range(requests):
        with suppress(QuotaExceeded):
            await quotas[number % 3].take_request(caller)
            counts[number % 3] += 1
    told = quotas[0].last_error
    for each in quotas:
        await each.close()
    return f"{sum(counts)} of {requests} {counts} {told}"


print("with Redis:   ", await let_through(f"trial-{os.urandom(3).hex()}"))
stack.kill("redis")
print("without Redis:", await let_through(f"trial-{os.urandom(3).hex()}"))
stack.start("redis")

# %% [markdown]
# With Redis, 30 in all (a lease that another replica holds may be left unused, so it can be a few less). Without it there are two bad
# choices: refuse everybody, or let everybody through. Here each replica goes on with its share, a third of the limit, and says so in its
# readiness.

# <<< exercise 5.3 >>>

# %% [markdown]
# ## 3. State and queue
#
# Answers are given while the user waits. A thousand tickets of last week, to be sorted by tomorrow, are a **job**: the service keeps it in
# PostgreSQL, puts its id into a queue, and returns at once. A worker takes the id, answers input after input, and writes each result.

# %% name="a-job"
async def finished(job, within_s=20):
    """Return a job when it has ended."""
    async with httpx.AsyncClient(base_url=stack.url, headers=stack.headers, timeout=9, trust_env=False) as client:
        async with asyncio.timeout(within_s):
            while True:
                told = (await client.get(f"/v1/jobs/{job}")).json()
                if told["status"] in ("done", "dead"):
                    return told
                await asyncio.sleep(0.1)


def new_job(inputs, **headers):
    body = {"program": "triage", "inputs": inputs}
    return httpx.post(f"{stack.url}/v1/jobs", json=body, headers={**stack.headers, **headers}, timeout=9, trust_env=False)


response = new_job([ticket.text for ticket in desk.tickets("dev")][:6])
print(response.status_code, response.headers["location"], response.json()["status"])
told = await finished(response.json()["id"])
table(told["results"])

# %% [markdown]
# ### A worker is killed
#
# What if the worker dies in the middle? A queue that forgets a message when it hands it over has lost the job (that is the default of more
# than one task library). Here the message is **acknowledged late**, when the job is done: a worker that dies has acknowledged nothing, and
# the queue hands the job to the next one. So a job is delivered *at least once*, and what it did before must not be done, or paid for,
# again. Each result is written once, under the job and its index; and a call of the model that was answered, but whose result was not
# written, is in the cache of notebook 02.
#
# A job of 24 tickets, a model that takes 0.2 s, and `SIGKILL` in the middle. **Predict:** how many requests does the model's server see?

# %% name="a-worker-dies"
lm.profile("weather", ttft_p50_ms=200)
tickets = fresh(24, about="a spare pole for tent 12")
with watch() as seen:
    job = new_job(tickets).json()["id"]
    async with httpx.AsyncClient(base_url=stack.url, headers=stack.headers, timeout=9, trust_env=False) as client:
        while len((await client.get(f"/v1/jobs/{job}")).json()["results"]) < 8:
            await asyncio.sleep(0.02)
        stack.kill("worker")
        stopped = (await client.get(f"/v1/jobs/{job}")).json()
    stack.start("worker")
    told = await finished(job)
print("when it was killed:", stopped["status"], len(stopped["results"]), "results")
print("at the end:", told["status"], len(told["results"]), "results, begun", told["attempts"], "times")
print(seen)

# %% [markdown]
# Twenty-four results, and a request or a few more than 24: those that were under way when the worker died were asked, paid for by nobody's
# fault but the kill's, and asked again. Nothing that was answered was asked twice.
#
# A job that cannot be done (a *poison message*) would come back for ever. After some attempts with growing pauses it is set aside as a
# **dead letter**, which an operator can look at and send again; the others go on.

# <<< exercise 5.4 >>>

# %% [markdown]
# ### Everything dies once
#
# Redis, PostgreSQL and the queue, one after the other, under load: each is killed, and comes back two seconds later. Every quarter of a
# second, the service is asked a new question and sent a new job. **Predict** for each of the three: which of the two sorts of requests fails, and with
# which status?

# %% name="everything-dies"
from tqdm.auto import tqdm

lm.profile("weather", ttft_p50_ms=20)
PLAN = [(2.0, "kill", "redis"), (4.0, "start", "redis"), (6.0, "kill", "database"), (8.0, "start", "database")]
PLAN += [(10.0, "kill", "queue"), (12.0, "start", "queue")]
begun, samples = time.perf_counter(), []


async def sample(kind, send):
    at = time.perf_counter() - begun
    response = await send()
    samples.append((at, kind, getattr(response, "status_code", 0)))


async def send_job():
    async with httpx.AsyncClient(timeout=9, trust_env=False, headers=stack.headers) as client:
        return await client.post(f"{stack.url}/v1/jobs", json={"program": "triage", "inputs": fresh(1)})


async def send_question():
    return (await ask(fresh(1)))[0]


async def operate():
    for at, what, part in PLAN:
        await asyncio.sleep(max(0.0, begun + at - time.perf_counter()))
        await asyncio.to_thread(getattr(stack, what), part)


async with asyncio.TaskGroup() as group:
    group.create_task(operate())
    for _ in tqdm(range(72), desc="quarter seconds"):
        group.create_task(sample("questions", send_question))
        group.create_task(sample("jobs", send_job))
        await asyncio.sleep(0.25)

# %% name="everything-dies-picture"
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(9, 2.6))
rows = {"questions": 1, "jobs": 0}
for (good, color, marker, label) in ((True, "tab:green", "o", "answered"), (False, "tab:red", "x", "refused")):
    chosen = [(at, rows[kind]) for at, kind, status in samples if (status in (200, 202)) is good]
    axes.scatter(*zip(*chosen) if chosen else ([], []), c=color, marker=marker, s=26, label=label)
for (down, _, part), (up, _, _) in zip(PLAN[::2], PLAN[1::2]):
    axes.axvspan(down, up, alpha=0.15)
    axes.text((down + up) / 2, 1.42, f"no {part}", ha="center")
axes.set(yticks=[1, 0], yticklabels=list(rows), ylim=(-0.6, 1.75), xlabel="seconds")
axes.legend(loc="lower right", ncol=2)
statuses = Counter((kind, status) for _, kind, status in samples)
plot(figure, f"Questions and jobs over time while Redis, PostgreSQL and the queue are gone in turn: {dict(statuses)}")

# %% [markdown]
# A question needs the model and nothing else, so it is answered through all of it: without Redis from the replica's own memory, without
# PostgreSQL with its history waiting to be written. A job needs the database and the queue, and without them gets a 503 that names the
# part. Nobody restarted the service: connections come back by themselves, and what waited is written. That a part may be missed, and by
# whom, was decided when the service was designed; a kill only shows whether it is true.

# %% [markdown]
# ## 4. Security and compliance
#
# A customer writes what they like. **Predict:** in which of these places does the card number of this ticket stand a minute later: the
# model's server, the history, the trace, the log, the cache?

# %% name="personal-data"
LETTER = "I am Ann Marsh, ann.marsh@mail.example. You charged my card 4111 1111 1111 1111 twice. How do I get a refund?"
with httpx.Client(base_url=stack.url, headers=stack.headers, timeout=9, trust_env=False) as client:
    told = client.post("/v1/answers", json={"question": LETTER, "customer": "ann"}).json()
    time.sleep(0.5)  # the history is written behind the reader's back
    kept = client.get("/v1/answers", params={"customer": "ann"}).json()["answers"]
print("answered:", told["answer"][:80])
print("kept:    ", kept[0]["question"])

# %% [markdown]
# In none. The text is **redacted once, at the door**, before the prompt; so everything behind it, the model's provider too, has the text that you see. (The
# detector is that of notebook 04, part 2, which also says what it misses.) The price: a program that needs the number cannot have it. An
# order number is kept; a card number is never needed.
#
# ### Who did what
#
# An **audit log** answers that question months later, to somebody who does not trust you. A table will not do: whoever can write to the
# database can change it. So each record has a hash over itself *and the hash before it*, made with a key that is not in the database
# (HMAC). Change one record, and its hash no longer fits; mend that, and the next one does not.

# %% name="audit"
with httpx.Client(base_url=stack.url, headers=stack.headers, timeout=9, trust_env=False) as client:
    entries = client.get("/v1/audit", params={"limit": 5}).json()["entries"]
    print(client.post("/v1/audit/verify", json={}).json()["status"])
table([{name: entry[name] for name in ("seq", "actor", "action", "target", "detail")} for entry in entries])

# %% [markdown]
# Nothing personal is in it: ids, pseudonyms, counts. Now a database administrator covers something up. The table refuses changes, so they
# switch the trigger off first, as administrators can.

# %% name="audit-forged"
import psycopg

row = entries[2]["seq"]
with psycopg.connect(stack.config.database_url.get_secret_value(), autocommit=True) as connection:
    connection.execute("ALTER TABLE audit DISABLE TRIGGER USER")
    (target,) = connection.execute("SELECT target FROM audit WHERE seq = %s", [row]).fetchone()
    for changed in ("ans_somebody_else", target):
        connection.execute("UPDATE audit SET target = %s WHERE seq = %s", [changed, row])
        status = httpx.post(f"{stack.url}/v1/audit/verify", json={}, headers=stack.headers, timeout=9, trust_env=False).json()["status"]
        print(f"{changed[:20]:22}", status)
    connection.execute("ALTER TABLE audit ENABLE TRIGGER USER")

# %% [markdown]
# The last records could be cut off, and the chain before them would be whole. So its *head*, number and hash of the last record, is kept
# elsewhere (here in Redis). Whoever has the key, or can set both back, is out of reach of this; keep them with different people.
#
# ### A customer asks
#
# The law (GDPR, articles 15 and 17) gives Ann two rights: to see all that is held about her, and to have it erased. Easy to say, and hard
# to do in a system that copies everything everywhere. Two decisions made it possible here. Outside of one table she is a random
# **pseudonym**, and everything that was kept for her carries it. And messages in the queue hold ids only, so that what is in the queue is
# in the database.

# %% name="export-and-erase"
with httpx.Client(base_url=stack.url, headers=stack.headers, timeout=9, trust_env=False) as client:
    held = client.get("/v1/customers/ann/export").json()["held"]
    print("held:", {place: {k: len(v) for k, v in rows.items()} if isinstance(rows, dict) else rows for place, rows in held.items()})
    print("erased:", client.delete("/v1/customers/ann").json()["held"])
    held = client.get("/v1/customers/ann/export").json()["held"]
    print("held:", {place: {k: len(v) for k, v in rows.items()} if isinstance(rows, dict) else rows for place, rows in held.items()})
    again = client.post("/v1/answers", json={"question": LETTER, "customer": "ann"}).json()
    print("asked again: cached =", again["cached"])

# <<< exercise 5.6 >>>

# %% [markdown]
# ### What the auditors ask
#
# Four frameworks come up in every sale. What they ask of *this system* is less than it sounds, and each demand is worth what its test is
# worth: so here is, for each, the control and the test that shows it. Much of them is about people and contracts, which no code fulfils;
# that is said, too.

# %% name="compliance"
from course_lib.deployment import DEMANDS

table(DEMANDS)

# %% [markdown]
# Last, everything that this notebook opened is ended. (To run an earlier part again after this, begin with the set-up cell.)

# %% name="tidy"
opened.close()
dspy.configure(lm=model)
dspy.configure_cache()

# %% [markdown]
# ## Summary
#
# What you set out to do, and what was measured:
#
# - *Settings:* a profile, checked as a whole; a misspelt name is an error; no secret is shown.
# - *Errors:* a status that says whose fault it is and whether to try again; one form, a stable code, nothing of ours in it.
# - *Gateway:* a dead replica is left out; a new version gets a share that is a number in a file.
# - *Shared limits:* counted once for all replicas, by leases; a stated way to go on without Redis.
# - *Workers:* acknowledged late, results written once; a kill costs the calls that were under way, and no job.
# - *Audit and erasure:* a chain with a key elsewhere; pseudonyms, so that one can be forgotten everywhere.
#
# | phase | question of this notebook |
# | --- | --- |
# | design | Which part may be missed, by whom, and what is said then? |
# | implement | Where does a request end that is wrong, too large, too many, too late? |
# | test | Which part did I kill, under load, and what was lost? |
# | deploy | Which setting would make this unsafe, and who refuses it? |
#
# **Next:** the second half of this section watches and releases what stands here.
