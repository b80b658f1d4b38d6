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
# - say who did what by a log that cannot be changed unseen, and erase a customer everywhere;
# - watch it: metrics, an alert that fires soon and for nothing else, one request traced;
# - release a new version of a program by a gate and a canary that goes back by itself, and find a better one when quality falls;
# - say how much it holds, and what a million requests a day need.
#
# You need notebooks 02 (caches), 03 (async, resilience) and 04 (traces). The **core path** takes 147 minutes and holds four of the seven
# exercises. What is headed *Deeper* may be skipped: nothing in the core needs it. The minutes count reading (200 words or 25 lines of code a
# minute), running, and the exercises at the time on their cards.
#
# | part | minutes |
# | --- | --- |
# | 1. From notebook to service: exercises 5.1, 5.2 | 50 |
# | 2. Gateway and guard | 9 |
# | 3. State and queue: exercise 5.4 | 25 |
# | 4. Security and compliance | 4 |
# | 5. Observability: exercise 5.5 | 32 |
# | 6. Releases | 14 |
# | 7. Scale, and what to do when quality falls; the summary | 13 |
# | Deeper: in part 2, one limit for all replicas: exercise 5.3 | 20 |
# | Deeper: in part 4, erase a customer yourself: exercise 5.6 | 25 |
# | Deeper: in part 6, a gate of your own: exercise 5.7 | 20 |
# | Deeper: in parts 1, 3, 4, 5, 6 and 7 | 6 |
#
# Stop after any part. To go on another day, run the set-up cell and, for parts 3 to 7, the two cells of the stack at the head of part 2; each
# part needs nothing else.
# The text was written on a machine with two processors: your figures will differ, their ratios little.

# %% name="setup" tags=["needs"]
import asyncio
import collections
import json
import logging
import os
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

import httpx
from tqdm import tqdm

from course_lib import desk, lm
from course_lib.exercises import check, hint, solution
from course_lib.labs import plot, table
from course_lib.measure import watch

model = lm.connect(cache=False)  # each call asks the model, unless a cell wants the cache

import dspy

opened = AsyncExitStack()  # closes at the end whatever this notebook opens
folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="lantern-")))
replica, serving, oncall = (opened.enter_context(ExitStack()) for _ in range(3))  # closed and used again
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
from fastapi import FastAPI
from pydantic import BaseModel

from course_lib.concurrency.streaming import serve


class Asked(BaseModel):
    question: str


def plain_app(program):
    app, answer = FastAPI(), dspy.asyncify(program)

    @app.post("/answers")
    async def create_answer(asked: Asked):
        prediction = await answer(question=asked.question)
        return {"answer": prediction.answer, "citations": prediction.citations}

    return app


# %% name="ask-it"
plain = opened.enter_context(serve(plain_app(desk.Answer())))


async def post(url, texts, **options):
    """Ask all questions at once; return the responses, or the errors, in their order."""
    async with httpx.AsyncClient(timeout=12, trust_env=False, **options) as client:
        requests = (client.post(url, json={"question": text}) for text in texts)
        return await asyncio.gather(*requests, return_exceptions=True)


(response,) = await post(f"{plain.url}/answers", ["What does shipping to Norway cost?"])
print(response.status_code, response.json())

# %% [markdown]
# Now three things that happen in any week: many people ask at once, the model's provider is down, and it says that the account's limit is
# used up and asks to come back in 100 seconds. **Predict first:** what does a user see in each, and after how long? (The user gives up
# after twelve seconds. The three are tried at once, each with a service of its own.)

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
    seen = collections.Counter(getattr(each, "status_code", type(each).__name__) for each in responses)
    return {
        "model": name,
        "requests": len(texts),
        "seen": dict(seen),
        "seconds": f"{time.perf_counter() - begun:.1f}",
    }


def served_plainly(name):
    lm.profile(name, **WEATHER[name])
    with dspy.context(lm=lm.connect(f"sim-large@{name}", cache=False)):
        return opened.enter_context(serve(plain_app(desk.Answer())))


plain_urls = {name: f"{served_plainly(name).url}/answers" for name in BAD_DAYS}
table(await asyncio.gather(*(bad_day(plain_urls[name], name, texts) for name, texts in BAD_DAYS.items())))

# %% [markdown]
# - *32 people, a model that takes one second:* `dspy.asyncify` runs eight calls at once, so the last ones wait for four rounds, about six
#   seconds.
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


class PlainSettings(BaseSettings):
    database_url: str = "postgresql://localhost/desk"
    jwt_secret: str = "change-me"
    deadline_s: float = 10.0


os.environ |= {"DATABASE_URL": "postgresql://desk:an-invented-password@db.internal/desk", "DEADLINES_S": "2"}
print(PlainSettings())
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
# Each of these has taken down, or opened, somebody's service. The one about `drain_s` is a *contradiction*: a replica that is told to end
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
table(
    [
        {"setting": name, "value": config.shown()[name]}
        for name in ("profile", "host", "deadline_s", "jwt_secret")
    ]
)

# %% [markdown]
# `course config check` does the same on a command line, so that a release can fail before it starts.

# %% [markdown]
# ### Exercise 5.1: settings that refuse a bad deployment (15 minutes, medium)
#
# *Concepts: typed settings, profiles, secrets, errors for whoever deploys.*
#
# Write `Settings`, which is called without arguments, reads the environment, and returns an object with these fields:
#
# | variable | field | default |
# | --- | --- | --- |
# | `SHOP_PROFILE` | `profile`: `"development"` or `"production"` | development |
# | `SHOP_HOST` | `host`: the address to listen on | 127.0.0.1 |
# | `SHOP_DATABASE_URL` | `database_url`: a `SecretStr`, an address `postgresql://...` with a host in it | None |
# | `SHOP_SIGNING_KEY` | `signing_key`: a `SecretStr` | None |
# | `SHOP_ORIGINS` | `origins`: a tuple, from words with commas between them, in their order | () |
# | `SHOP_DEADLINE_S`, `SHOP_DRAIN_S` | `deadline_s`, `drain_s`: above 0 and finite | 10.0, 15.0 |
#
# - An empty variable counts as one that is not there, whatever its name. Each call reads anew, and leaves the environment as it is.
# - A value that its field cannot take is a problem (an address for which `urlsplit` raises is one; a port that is none may be), and so is a
#   variable that begins with `SHOP_` and is not in the table, letter by letter: `SHOP_host` is not. (What begins with `shop_` is not
#   asked about.)
# - In production these are problems: a signing key that is missing, has fewer than 32 characters, or is `DOCUMENTED`; an origin with `*`
#   in it; a database on another machine (its host is not 127.0.0.1, localhost or ::1) without `sslmode=verify-full` in the query.
# - In development a host other than those three is a problem. In both profiles, a `drain_s` below `deadline_s` is one,
#   of `SHOP_DRAIN_S`; its line may name `SHOP_DEADLINE_S` beside it.
# - With a problem `Settings()` raises `BadSettings`, with a line for each, which names its variable and no other; it may suggest one for a
#   variable that is not in the table. All rules that are broken, and all unknown variables, are told at once. (Where a value cannot be
#   read, that may be told first, and a time that cannot be read may also be told as a drain below the deadline.)
# - The settings show neither the signing key nor the database's address (`repr`, `str`, JSON); other fields they may show. The error and its
#   traceback show no part of a secret: no characters of a key, and of an address neither user, password, host, name nor query; nor a secret
#   that was put into the wrong variable.

# %% name="given-5-1" tags=["needs"]
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DOCUMENTED = "shop-signing-key-0123456789-abcdefghij"
HERE = ("127.0.0.1", "localhost", "::1")


class BadSettings(Exception):
    """What is wrong with the settings, in `problems`: one line each."""

    def __init__(self, problems):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


# %% name="ex-5-1" tags=["exercise"] exercise="5.1"
### BEGIN SOLUTION
### STUB: class Settings:
### STUB:     """The settings of one process, from the environment."""
### STUB:
### STUB:     ...
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


### END SOLUTION


# %% tags=["right"] exercise="5.1"
# Rules in a validator, which pydantic raises together; a function in front turns them into one error.
import re

from pydantic import field_validator, model_validator


class Typed(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="SHOP_", env_ignore_empty=True, hide_input_in_errors=True, frozen=True
    )
    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: SecretStr | None = None
    signing_key: SecretStr | None = None
    origins: Annotated[tuple[str, ...], NoDecode] = ()
    deadline_s: float = Field(10, gt=0, allow_inf_nan=False)
    drain_s: float = Field(15, gt=0, allow_inf_nan=False)

    @field_validator("origins", mode="before")
    @classmethod
    def split(cls, text):
        return (
            tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text
        )

    @field_validator("database_url")
    @classmethod
    def reads(cls, secret):
        text = secret.get_secret_value() if secret else "postgresql://localhost"
        if re.match(r"postgresql://([^@/\s]*@)?(\[[\da-f:]+\]|[\w.-]+)(:\d+)?(/|$)", text) and urlsplit(text):
            return secret
        raise ValueError("no address")

    @model_validator(mode="after")
    def keep_rules(self):
        broken = []
        secret = self.signing_key.get_secret_value() if self.signing_key else ""
        if self.profile == "production" and (len(secret) <= 31 or secret == DOCUMENTED):
            broken.append("SHOP_SIGNING_KEY")
        if self.profile == "production" and "*" in "".join(self.origins):
            broken.append("SHOP_ORIGINS")
        if self.profile == "production" and self.database_url:
            parts = urlsplit(self.database_url.get_secret_value())
            is_far = parts.hostname and parts.hostname not in HERE
            if is_far and "sslmode=verify-full" not in parts.query.split("&"):
                broken.append("SHOP_DATABASE_URL")
        if self.profile == "development" and self.host not in HERE:
            broken.append("SHOP_HOST")
        if self.deadline_s > self.drain_s:
            broken.append("SHOP_DRAIN_S")
        if broken:
            raise ValueError("|".join(broken))
        return self


def Settings():  # noqa: N802
    fields = {f"SHOP_{name.upper()}" for name in Typed.model_fields}
    problems = [
        f"{name}: unknown"
        for name in sorted(os.environ)
        if name.startswith("SHOP_") and os.environ[name] and name not in fields
    ]
    made = None
    try:
        made = Typed()
    except ValidationError as error:
        for each in error.errors(include_input=False):
            if each["loc"]:
                problems.append(f"SHOP_{each['loc'][0].upper()} is refused")
            else:
                problems.extend(f"{name} is refused" for name in each["msg"].split(", ")[1].split("|"))
    if problems:
        raise BadSettings(problems)
    return made


# %% tags=["right"] exercise="5.1"
# No settings library: a dataclass and a table of readers.
import math
from dataclasses import dataclass


def one_of(*names):
    def read(text):
        if text not in names:
            raise ValueError
        return text

    return read


def seconds(text):
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def address(text):
    url = urlsplit(text)
    if url.scheme != "postgresql" or not url.hostname:
        raise ValueError
    return SecretStr(text)


READERS = {
    "profile": (one_of("development", "production"), "development"),
    "host": (str, "127.0.0.1"),
    "database_url": (address, None),
    "signing_key": (SecretStr, None),
    "origins": (lambda text: tuple(filter(None, map(str.strip, text.split(",")))), ()),
    "deadline_s": (seconds, 10.0),
    "drain_s": (seconds, 15.0),
}


@dataclass
class Settings:  # of plain Python
    def __init__(self):
        own = {name for name in os.environ if name[:5] == "SHOP_" and os.environ[name] != ""}
        known = {f"SHOP_{field.upper()}" for field in READERS}
        problems = [f"{name}: there is no such setting" for name in own - known]
        for name, (read, default) in READERS.items():
            text = os.environ.get("SHOP_" + name.upper(), "")
            try:
                setattr(self, name, read(text) if text else default)
            except ValueError:
                setattr(self, name, default)
                problems.append("SHOP_" + name.upper() + ": cannot be read")
        unread = " ".join(problems)
        production = self.profile == "production"
        secret = (self.signing_key or SecretStr("")).get_secret_value()
        place = urlsplit((self.database_url or SecretStr("")).get_secret_value())
        rules = {
            "SHOP_SIGNING_KEY": production and (len(secret) < 32 or secret == DOCUMENTED),
            "SHOP_ORIGINS": production and any(origin.count("*") for origin in self.origins),
            "SHOP_DATABASE_URL": production
            and (place.hostname or "localhost") not in HERE
            and ("sslmode", ["verify-full"]) not in parse_qs(place.query).items(),
            "SHOP_HOST": not production and "PROFILE" not in unread and self.host not in HERE,
            "SHOP_DRAIN_S": "SHOP_DRAIN_S: cannot" not in unread and self.drain_s < self.deadline_s,
        }
        problems += [f"{name}: not like this" for name, is_broken in rules.items() if is_broken]
        if problems:
            raise BadSettings(problems) from None


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="traceback, of a secret in SHOP_"
# The error of pydantic is carried along, and shows what it was given.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
            raise BadSettings(problems) from error
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="traceback, of a secret in SHOP_"
# The message shows the value.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, not " + key
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="of a secret in SHOP_HOST"
# The message shows a host, which may be a secret in the wrong variable.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield f"SHOP_HOST must be 127.0.0.1 in development, not {settings.host}"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="no SecretStr"
# The secrets are plain text.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: str | None = None
    signing_key: str | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key or ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url or "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="__(repr|str)__.. of the settings"
# The settings show themselves in full.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __repr__(self):
        secrets = [each.get_secret_value() for each in (self.signing_key, self.database_url) if each]
        return f"Settings({self.profile}, {secrets})"

    __str__ = __repr__

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="problems of .* names SHOP_"
# Only the first problem is told.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems[:1])


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="what is made of SHOP_DRAIN=1"
# Variables that nobody reads are passed over.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        problems = []
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="what is made of SHOP_D"
# What begins like a known name is let through.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [
            f"{name} is no setting" for name in unknown if not any(name[:8] == each[:8] for each in known)
        ]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the settings of SHOP_PROFILE= "
# An empty variable is read as a value.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_")

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_(DEADLINE|DRAIN)_S=nan"
# A number that is none passes each comparison.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field()]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    for name in ("deadline_s", "drain_s"):
        if getattr(settings, name) <= 0:
            yield f"SHOP_{name.upper()} must be above 0"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_DEADLINE_S=(0|-1)"
# Seconds may be 0 or below.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_PROFILE=prod"
# Any profile that is not production is development.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: str = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_SIGNING_KEY"
# A key of 16 characters will do.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 16 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="(the settings|problems) of .*SHOP_SIGNING_KEY"
# A key of exactly 32 characters is refused.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) <= 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_SIGNING_KEY=shop-signing-key"
# The key of the documentation is let through.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_ORIGINS="
# Only the origin * is refused, and not one with a * in it.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if "*" in settings.origins:
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="problems? of|what is made of"
# A database is let through whose address has the words anywhere.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if (
            url.hostname not in (None, *HERE)
            and "sslmode=verify-full" not in settings.database_url.get_secret_value()
        ):
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="sslmode=require"
# Encrypted, to whoever answers.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") not in (
            ["require"],
            ["verify-full"],
        ):
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="evil.example"
# A host that begins like this machine's passes for it.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if (
            url.hostname
            and not url.hostname.startswith(HERE)
            and parse_qs(url.query).get("sslmode") != ["verify-full"]
        ):
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="what is made of .*db.example/127.0.0.1|what is made of .*localhost."
# This machine's name anywhere in the address passes for its host.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if (
            url.hostname
            and not any(name in url.netloc + url.path for name in HERE)
            and parse_qs(url.query).get("sslmode") != ["verify-full"]
        ):
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the settings of .*SHOP_DATABASE_URL"
# A database on this machine is refused as well.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_HOST=0.0.0.0"
# In development anybody may reach it.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in (*HERE, "0.0.0.0"):
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="(the settings|problems) of SHOP_PROFILE=production"
# Production may listen on this machine alone.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    if settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_DRAIN_S"
# A drain below the deadline is let through in development.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.profile == "production" and settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the settings of .*SHOP_DRAIN_S"
# A drain as long as the deadline is refused.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s <= settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the settings of no variable at all"
# The rules of production hold in development too.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if True:
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    if settings.profile == "development" and settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="one line that names"
# The lines name fields, which nobody can set.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"{each['loc'][0]}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "signing_key must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="one line that names"
# Each line names all variables.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings([f"{each} ({known})" for each in problems])


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="fields for|profile, host, origins"
# It is read once.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


Reading = Settings
once = []


def Settings():  # noqa: N802
    if not once:
        once.append(Reading())
    return once[0]


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="profile, host, origins"
# Words keep the spaces around them.
def words(text):
    return text.split(",") if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="it raised ValueError"
# An error of its own in place of BadSettings.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise ValueError(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the settings of SHOP_[A-Z0-9]*=;"
# An empty variable that nobody knows is refused.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_DATABASE_URL=mysql"
# Any text is an address.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: SecretStr | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        try:
            url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        except ValueError:
            url = urlsplit("")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_host="
# The letters' case makes no difference.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name.upper() not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the environment after"
# What nobody knows is taken out of the environment.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        for name in unknown:
            del os.environ[name]
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="it raised ValueError"
# An address that cannot be split raises an error of its own.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: SecretStr | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    text = settings.database_url.get_secret_value() if settings.database_url else "postgresql://localhost"
    if urlsplit(text).scheme != "postgresql" or not urlsplit(text).hostname:
        yield "SHOP_DATABASE_URL must be postgresql://user:password@host/name"
        return
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="a secret in SHOP_DATABASE_URL"
# What is wrong with an address is shown with it.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://, not " + secret.get_secret_value())
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_DATABASE_URL=postgres"
# A database that another program's scheme names is taken.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme.startswith("postgres") and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="sslmode=verify-ca"
# A mode that does not compare the name of the machine is enough.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") not in (
            ["verify-full"],
            ["verify-ca"],
        ):
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="one line that names SHOP_"
# Of the unknown variables the first is told.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown[:1]]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="of a secret in SHOP_SIGNING_KEY"
# The line of a short key shows how the key begins.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield f"SHOP_SIGNING_KEY ({key[:6]}...) must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_PROFILE=Development"
# The profile is read in any case.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Annotated[Literal["development", "production"], BeforeValidator(str.lower)] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="problems of|what is made of .*SHOP_SIGNING_KEY="
# The length of the key is counted in bytes.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key.encode()) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_SIGNING_KEY=shop-signing-key"
# The documented key is refused in development, too.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.signing_key and settings.signing_key.get_secret_value() == DOCUMENTED:
        yield "SHOP_SIGNING_KEY must be your own"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the settings of SHOPPING=1 shop_"
# A variable of another program, in small letters, is refused.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.upper().startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the settings of .*SHOP_DRAIN_S=90060.5"
# A time has an upper bound that nobody asked for.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_DEADLINE_S=15.5"
# The drain is compared where it was set.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if os.environ.get("SHOP_DRAIN_S") and settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="profile, host, origins"
# The origins come sorted.
def words(text):
    return sorted(word.strip() for word in text.split(",")) if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="of a secret in SHOP_DATABASE_URL"
# The problem of sslmode says to which host.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield f"SHOP_DATABASE_URL goes to {url.hostname}; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="of a secret in SHOP_DATABASE_URL"
# An address without a host is shown, with its password.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        raise ValueError("it must be postgresql://user:password@host/name") from None
    if not is_one:
        raise ValueError(f"no host in {url.netloc}")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the error of a short SHOP_SIGNING_KEY"
# The end of a short key is shown, so that whoever deploys knows which it is.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield f"SHOP_SIGNING_KEY must be 32 random characters or more, not ...{key[-4:]}"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_DEADLINE_S=0.00001"
# A time below a millisecond is refused.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(ge=0.001, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_ORIGINS=http://a.example"
# In production an origin must be https.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def address(secret):
    try:
        url = urlsplit(secret.get_secret_value())
        is_one = url.scheme == "postgresql" and url.hostname
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("it must be postgresql://user:password@host/name")
    return secret


Address = Annotated[SecretStr, AfterValidator(address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: Address | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        given = [name for name, text in os.environ.items() if text and name.startswith("SHOP_")]
        unknown = [name for name in given if name not in known]
        problems = [f"{name} is no setting" for name in unknown]
        try:
            super().__init__()
        except ValidationError as error:
            problems += [f"SHOP_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors()]
        else:
            problems += broken_rules(self)
        if problems:
            raise BadSettings(problems)


def broken_rules(settings):
    if settings.profile == "production":
        key = settings.signing_key.get_secret_value() if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin or not origin.startswith("https:") for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url.get_secret_value() if settings.database_url else "")
        if url.hostname not in (None, *HERE) and parse_qs(url.query).get("sslmode") != ["verify-full"]:
            yield "SHOP_DATABASE_URL goes to another machine; it needs ?sslmode=verify-full"
    elif settings.host not in HERE:
        yield "SHOP_HOST must be 127.0.0.1 in development"
    if settings.drain_s < settings.deadline_s:
        yield "SHOP_DRAIN_S must not be below the deadline, or answers are cut off"


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="SHOP_ORIGINS=https://"
# An origin is looked at only where a host begins, and at its own beginning.
import math

FIELDS = ("profile", "host", "database_url", "signing_key", "origins", "deadline_s", "drain_s")


def seconds(text):
    try:
        found = float(text)
    except ValueError:
        return None
    return found if found > 0 and math.isfinite(found) else None


def host_of(url):
    try:
        return urlsplit(url).hostname if urlsplit(url).scheme == "postgresql" else None
    except ValueError:
        return None


class Settings:  # by hand
    def __init__(self):
        given = {name: text for name, text in os.environ.items() if text and name.startswith("SHOP_")}
        of = {field: given.pop(f"SHOP_{field.upper()}", None) for field in FIELDS}
        problems = [f"{name} is no setting" for name in given]
        self.profile, self.host = of["profile"] or "development", of["host"] or "127.0.0.1"
        self.origins = tuple(each.strip() for each in of["origins"].split(",")) if of["origins"] else ()
        self.deadline_s, self.drain_s = seconds(of["deadline_s"] or "10"), seconds(of["drain_s"] or "15")
        url, key = of["database_url"], of["signing_key"]
        self.database_url, self.signing_key = url and SecretStr(url), key and SecretStr(key)
        problems += [f"SHOP_{name.upper()}: no time" for name in FIELDS[5:] if getattr(self, name) is None]
        if (self.drain_s or math.inf) < (self.deadline_s or 0):
            problems.append("SHOP_DRAIN_S is below the deadline")
        if url and not host_of(url):
            problems.append("SHOP_DATABASE_URL is no address")
        if self.profile not in ("development", "production"):
            problems.append("SHOP_PROFILE must be development or production")
        if self.profile == "development" and self.host not in HERE:
            problems.append("SHOP_HOST is open")
        if self.profile == "production":
            if len(key or "") < 32 or key == DOCUMENTED:
                problems.append("SHOP_SIGNING_KEY is weak")
            if any(each.startswith(("*", "https://*")) for each in self.origins[-1:]):
                problems.append("SHOP_ORIGINS has a star")
            if url and host_of(url) not in (None, *HERE) and "verify-full" not in sslmode(url):
                problems.append("SHOP_DATABASE_URL needs sslmode=verify-full")
        if problems:
            raise BadSettings(problems)


def sslmode(url):
    return parse_qs(urlsplit(url).query).get("sslmode", [])


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="of a secret in SHOP_DRAIN_S"
# A time that is none is quoted, and it may be a secret.
import math

FIELDS = ("profile", "host", "database_url", "signing_key", "origins", "deadline_s", "drain_s")


def seconds(text):
    try:
        found = float(text)
    except ValueError:
        return None
    return found if found > 0 and math.isfinite(found) else None


def host_of(url):
    try:
        return urlsplit(url).hostname if urlsplit(url).scheme == "postgresql" else None
    except ValueError:
        return None


class Settings:  # by hand
    def __init__(self):
        given = {name: text for name, text in os.environ.items() if text and name.startswith("SHOP_")}
        of = {field: given.pop(f"SHOP_{field.upper()}", None) for field in FIELDS}
        problems = [f"{name} is no setting" for name in given]
        self.profile, self.host = of["profile"] or "development", of["host"] or "127.0.0.1"
        self.origins = tuple(each.strip() for each in of["origins"].split(",")) if of["origins"] else ()
        self.deadline_s, self.drain_s = seconds(of["deadline_s"] or "10"), seconds(of["drain_s"] or "15")
        url, key = of["database_url"], of["signing_key"]
        self.database_url, self.signing_key = url and SecretStr(url), key and SecretStr(key)
        problems += [
            f"SHOP_{name.upper()}: {of[name] if name == 'drain_s' else 'it'} is no time"
            for name in FIELDS[5:]
            if getattr(self, name) is None
        ]
        if (self.drain_s or math.inf) < (self.deadline_s or 0):
            problems.append("SHOP_DRAIN_S is below the deadline")
        if url and not host_of(url):
            problems.append("SHOP_DATABASE_URL is no address")
        if self.profile not in ("development", "production"):
            problems.append("SHOP_PROFILE must be development or production")
        if self.profile == "development" and self.host not in HERE:
            problems.append("SHOP_HOST is open")
        if self.profile == "production":
            if len(key or "") < 32 or key == DOCUMENTED:
                problems.append("SHOP_SIGNING_KEY is weak")
            if "*" in (of["origins"] or ""):
                problems.append("SHOP_ORIGINS has a star")
            if url and host_of(url) not in (None, *HERE) and "verify-full" not in sslmode(url):
                problems.append("SHOP_DATABASE_URL needs sslmode=verify-full")
        if problems:
            raise BadSettings(problems)


def sslmode(url):
    return parse_qs(urlsplit(url).query).get("sslmode", [])


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="what is made of SHOP_(A-B)?=1"
# Unknown are names of letters after the underscore alone.
import math

FIELDS = ("profile", "host", "database_url", "signing_key", "origins", "deadline_s", "drain_s")


def seconds(text):
    try:
        found = float(text)
    except ValueError:
        return None
    return found if found > 0 and math.isfinite(found) else None


def host_of(url):
    try:
        return urlsplit(url).hostname if urlsplit(url).scheme == "postgresql" else None
    except ValueError:
        return None


class Settings:  # by hand
    def __init__(self):
        given = {name: text for name, text in os.environ.items() if text and name.startswith("SHOP_")}
        of = {field: given.pop(f"SHOP_{field.upper()}", None) for field in FIELDS}
        problems = [f"{name} is no setting" for name in given if name[5:].isidentifier()]
        self.profile, self.host = of["profile"] or "development", of["host"] or "127.0.0.1"
        self.origins = tuple(each.strip() for each in of["origins"].split(",")) if of["origins"] else ()
        self.deadline_s, self.drain_s = seconds(of["deadline_s"] or "10"), seconds(of["drain_s"] or "15")
        url, key = of["database_url"], of["signing_key"]
        self.database_url, self.signing_key = url and SecretStr(url), key and SecretStr(key)
        problems += [f"SHOP_{name.upper()}: no time" for name in FIELDS[5:] if getattr(self, name) is None]
        if (self.drain_s or math.inf) < (self.deadline_s or 0):
            problems.append("SHOP_DRAIN_S is below the deadline")
        if url and not host_of(url):
            problems.append("SHOP_DATABASE_URL is no address")
        if self.profile not in ("development", "production"):
            problems.append("SHOP_PROFILE must be development or production")
        if self.profile == "development" and self.host not in HERE:
            problems.append("SHOP_HOST is open")
        if self.profile == "production":
            if len(key or "") < 32 or key == DOCUMENTED:
                problems.append("SHOP_SIGNING_KEY is weak")
            if "*" in (of["origins"] or ""):
                problems.append("SHOP_ORIGINS has a star")
            if url and host_of(url) not in (None, *HERE) and "verify-full" not in sslmode(url):
                problems.append("SHOP_DATABASE_URL needs sslmode=verify-full")
        if problems:
            raise BadSettings(problems)


def sslmode(url):
    return parse_qs(urlsplit(url).query).get("sslmode", [])


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="one line that names SHOP_DRAIN,"
# The line of an unknown variable suggests two others.
import math

FIELDS = ("profile", "host", "database_url", "signing_key", "origins", "deadline_s", "drain_s")


def seconds(text):
    try:
        found = float(text)
    except ValueError:
        return None
    return found if found > 0 and math.isfinite(found) else None


def host_of(url):
    try:
        return urlsplit(url).hostname if urlsplit(url).scheme == "postgresql" else None
    except ValueError:
        return None


class Settings:  # by hand
    def __init__(self):
        given = {name: text for name, text in os.environ.items() if text and name.startswith("SHOP_")}
        of = {field: given.pop(f"SHOP_{field.upper()}", None) for field in FIELDS}
        problems = [f"{name} is no setting, as SHOP_HOST and SHOP_ORIGINS are" for name in given]
        self.profile, self.host = of["profile"] or "development", of["host"] or "127.0.0.1"
        self.origins = tuple(each.strip() for each in of["origins"].split(",")) if of["origins"] else ()
        self.deadline_s, self.drain_s = seconds(of["deadline_s"] or "10"), seconds(of["drain_s"] or "15")
        url, key = of["database_url"], of["signing_key"]
        self.database_url, self.signing_key = url and SecretStr(url), key and SecretStr(key)
        problems += [f"SHOP_{name.upper()}: no time" for name in FIELDS[5:] if getattr(self, name) is None]
        if (self.drain_s or math.inf) < (self.deadline_s or 0):
            problems.append("SHOP_DRAIN_S is below the deadline")
        if url and not host_of(url):
            problems.append("SHOP_DATABASE_URL is no address")
        if self.profile not in ("development", "production"):
            problems.append("SHOP_PROFILE must be development or production")
        if self.profile == "development" and self.host not in HERE:
            problems.append("SHOP_HOST is open")
        if self.profile == "production":
            if len(key or "") < 32 or key == DOCUMENTED:
                problems.append("SHOP_SIGNING_KEY is weak")
            if "*" in (of["origins"] or ""):
                problems.append("SHOP_ORIGINS has a star")
            if url and host_of(url) not in (None, *HERE) and "verify-full" not in sslmode(url):
                problems.append("SHOP_DATABASE_URL needs sslmode=verify-full")
        if problems:
            raise BadSettings(problems)


def sslmode(url):
    return parse_qs(urlsplit(url).query).get("sslmode", [])


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="p@localhost@db.example"
# The host is what stands behind the first @.
import math

FIELDS = ("profile", "host", "database_url", "signing_key", "origins", "deadline_s", "drain_s")


def seconds(text):
    try:
        found = float(text)
    except ValueError:
        return None
    return found if found > 0 and math.isfinite(found) else None


def host_of(url):
    try:
        return urlsplit(url).hostname if urlsplit(url).scheme == "postgresql" else None
    except ValueError:
        return None


class Settings:  # by hand
    def __init__(self):
        given = {name: text for name, text in os.environ.items() if text and name.startswith("SHOP_")}
        of = {field: given.pop(f"SHOP_{field.upper()}", None) for field in FIELDS}
        problems = [f"{name} is no setting" for name in given]
        self.profile, self.host = of["profile"] or "development", of["host"] or "127.0.0.1"
        self.origins = tuple(each.strip() for each in of["origins"].split(",")) if of["origins"] else ()
        self.deadline_s, self.drain_s = seconds(of["deadline_s"] or "10"), seconds(of["drain_s"] or "15")
        url, key = of["database_url"], of["signing_key"]
        self.database_url, self.signing_key = url and SecretStr(url), key and SecretStr(key)
        problems += [f"SHOP_{name.upper()}: no time" for name in FIELDS[5:] if getattr(self, name) is None]
        if (self.drain_s or math.inf) < (self.deadline_s or 0):
            problems.append("SHOP_DRAIN_S is below the deadline")
        if url and not host_of(url):
            problems.append("SHOP_DATABASE_URL is no address")
        if self.profile not in ("development", "production"):
            problems.append("SHOP_PROFILE must be development or production")
        if self.profile == "development" and self.host not in HERE:
            problems.append("SHOP_HOST is open")
        if self.profile == "production":
            if len(key or "") < 32 or key == DOCUMENTED:
                problems.append("SHOP_SIGNING_KEY is weak")
            if "*" in (of["origins"] or ""):
                problems.append("SHOP_ORIGINS has a star")
            if host_of(url or "") and host_behind(url) not in HERE and "verify-full" not in sslmode(url):
                problems.append("SHOP_DATABASE_URL needs sslmode=verify-full")
        if problems:
            raise BadSettings(problems)


def host_behind(url):
    return host_of("postgresql://" + url.split("@")[1].split("@")[0]) if "@" in url else host_of(url)


def sslmode(url):
    return parse_qs(urlsplit(url).query).get("sslmode", [])


# %% name="check-5-1" tags=["check"] exercise="5.1"
check("5.1", Settings)

# %% name="help-5-1"
# hint("5.1")
# solution("5.1")


# %% [markdown]
# ### A program as a file
#
# What is released is the program: its instructions and demos, which an optimizer may have found. DSPy can save it in two ways. **Predict
# first:** in which of the two files does the provider's key stand?

# %% name="what-is-in-the-file"
program = desk.Answer()
program.set_lm(
    dspy.LM("openai/gpt-4o-mini", api_key="sk-invented-for-this-cell", api_base="https://gateway.internal/v1")
)
program.save(str(folder / "state.json"))
logging.getLogger("dspy").setLevel(logging.ERROR)  # it warns of the pickle, rightly
program.save(str(folder / "whole"), save_program=True)

for path in (folder / "state.json", folder / "whole/program.pkl"):
    found = {
        text: text.encode() in path.read_bytes() for text in ("sk-invented-for-this-cell", "gateway.internal")
    }
    print(path.name, path.stat().st_size, "bytes;", found)
again = desk.Answer()
again.load(str(folder / "state.json"))
print("loaded again, it would ask:", again.reply.lm.model, "at", again.reply.lm.kwargs.get("api_base"))

# %% [markdown]
# The whole program is a *pickle*: it holds the key in plain text, and whoever can write the file can run code in your service, since
# reading a pickle runs what it says. The state is JSON, which is only read. But it names the address of the gateway, and when it is loaded
# that address is ignored (`None`): the program would ask another server than the one it was tested with.
#
# So a release here is JSON without any model in it, under a version that is written once. The service sets its own model.

# %% name="save-a-version"
from course_lib.deployment import load_program, save_program

programs = folder / "programs"
if not (programs / "answer" / "1.json").exists():  # a version is written once
    save_program(program, programs, "answer", "1")
text = (programs / "answer" / "1.json").read_text()
print(len(text), "bytes;", {"gateway.internal": "gateway.internal" in text})
loaded = load_program("answer", programs / "answer" / "1.json")
answered = await loaded.acall(question="What does shipping to Norway cost?")
print("its model:", loaded.reply.lm, "| asks:", answered.answer[:60])


# %% [markdown]
# ### The service
#
# Now the service itself. Its program is the one of the ten lines above; what is new stands around it. A request passes these in order, and
# each may answer instead of passing it on:
#
# ```mermaid
# flowchart LR
#     accDescr: A request passes gateway, caller, quota, size and form, redaction and the answer cache, and then the program
#     R([request]) --> G[gateway] --> K["who asks?<br>401, 403"] --> Q["quota<br>429"] --> S["size, form<br>413, 415, 422"]
#     S --> P[redaction] --> C{asked before?}
#     C -- yes --> A([answer])
#     C -- no --> M["program, deadline<br>502, 503, 504"] --> A
#     M -.-> D[("history, audit log")]
#     linkStyle default stroke:#808080
# ```
#
# Nearly all of it you know: caches from notebook 02, deadlines, retries and the circuit breaker from 03, traces, metrics and redaction from
# 04. `create_app(config)` puts them together, and `running_replica` runs it as a process of its own, a *replica*. (Its model is the
# simulator's, with the profile `weather`, which the next cell changes.)

# %% name="one-replica"
from course_lib.deployment import make_key, running_replica

KEY, entry = make_key("notebook", "lantern", ["ask"])
KEYED = {"X-API-Key": KEY}
lm.profile("weather", ttft_p50_ms=100)
replica.close()  # that of an earlier run of this cell
url = replica.enter_context(running_replica(model="sim-large@weather", api_keys=(entry,)))
(response,) = await post(f"{url}/v1/answers", ["Can I pay by invoice?"], headers=KEYED)
print(url, response.status_code, response.json()["answer"][:70])

# %% [markdown]
# The same three bad days. **Predict:** what does a user see now?

# %% name="service-bad-days"
rows = []
for name, texts in BAD_DAYS.items():
    lm.profile("weather", **WEATHER[name])
    texts = [f"{text} ({os.urandom(3).hex()})" for text in texts]  # new ones, each time this cell is run
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
print(
    response.status_code, response.headers["content-type"], "| retry-after:", response.headers["retry-after"]
)
print(json.dumps(response.json(), indent=2))

# %% [markdown]
# Most errors are the caller's. **Predict** the status of each of these before you run the cell. (*Who is it?* is asked before *what does
# it say?*, so that nobody without a key learns what a valid request looks like.)


# %% name="one-request"
def sent(url, body, **headers):
    """Send one request, and return what one sees of its response."""
    response = httpx.post(url, content=body, headers={"Content-Type": "application/json", **headers})
    told = response.json()
    return {"status": response.status_code, "code": told.get("code", ""), "detail": told.get("detail", "")}


# %% name="bad-requests"
answers_url = f"{url}/v1/answers"
lm.profile("weather", **WEATHER["one-second"])
bad = {
    "no key": sent(answers_url, b'{"question": "?"}'),
    "a key that is not ours": sent(answers_url, b'{"question": "?"}', **{"X-API-Key": "sk_guessed"}),
    "a key that may only ask": sent(f"{url}/v1/audit/verify", b"{}", **KEYED),
    "no JSON": sent(answers_url, b"question=?", **KEYED | {"Content-Type": "text/plain"}),
    "torn JSON": sent(answers_url, b'{"question": "Wher', **KEYED),
    "misspelt field": sent(answers_url, b'{"qestion": "Where is my parcel?"}', **KEYED),
    "100 kB": sent(answers_url, json.dumps({"question": "x" * 100_000}).encode(), **KEYED),
    "no such path": sent(f"{url}/v1/answer", b'{"question": "Hi?"}', **KEYED),
}
table([{"request": name, **told} for name, told in bad.items()])

# %% [markdown]
# ### Exercise 5.2: the right error for every bad input (20 minutes, hard)
#
# *Concepts: problem details, stable codes, what an error must not say.*
#
# Write `answer_app(answer, deadline_s=1.0)`. It returns an ASGI application, of FastAPI, Starlette or plain, which answers `POST /answers` with
# the body `{"question": "..."}` as JSON: status 200 and `{"answer": ...}` with what `await answer(question)` returns, any JSON value, as it is.
#
# | what happens | status | code |
# | --- | --- | --- |
# | the question is no text (half of a surrogate pair is none), has more than 500 characters or only spaces; the body is no JSON object with this one field | 422 | `invalid` |
# | the body is not declared as `application/json` | 415 | `unsupported_media_type` |
# | the body has more than 4,096 bytes, however it is sent; it is not read to its end | 413 | `too_large` |
# | another path, `/answers/` and FastAPI's `/docs` too; another method | 404; 405 | `not_found`; `method_not_allowed` |
# | `answer` raises `dspy.LMRateLimitError` | 503 | `model_busy` |
# | ... `dspy.LMServerError` or `dspy.LMTransportError` | 503 | `model_down` |
# | ... `dspy.AdapterParseError` | 502 | `bad_answer` |
# | ... `TimeoutError` or `dspy.LMTimeoutError`, or gives no answer within `deadline_s`: then it is cancelled | 504 | `deadline` |
# | ... any other `Exception` | 500 | `internal` |
#
# - A subclass of these errors counts as its class.
# - `answer` is called once for each good question, with the question as it was sent, and not at all for a bad one. Many questions may be
#   under way at once.
# - A 503 has `Retry-After`: the error's `retry_after` (a finite number, or none) in whole seconds, rounded up, and at least 1.
# - Every error is `application/problem+json` with `title`, `status`, `code` and `request_id`. Nothing in it is from the request's body, or from
#   the text of an exception.
# - Every response has `X-Request-Id`, the same as `request_id`: that of the request, if it is 1 to 64 letters, digits and `-`; else a new one.

# %% name="given-5-2" tags=["needs"]
import json
import math
import re
import secrets
import uuid
from http import HTTPStatus

import dspy
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Route

LARGEST, LONGEST = 4_096, 500

# %% name="ex-5-2" tags=["exercise"] exercise="5.2"
### BEGIN SOLUTION
### STUB: def answer_app(answer, deadline_s=1.0):
### STUB:     ...


class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


### END SOLUTION


# %% tags=["right"] exercise="5.2"
class Problem(Exception):
    def __init__(self, status, code, wait_s=None):
        self.status, self.code, self.wait_s = status, code, wait_s


TABLE = [
    (dspy.LMRateLimitError, 503, "model_busy"),
    (dspy.LMServerError, 503, "model_down"),
    (dspy.LMTransportError, 503, "model_down"),
    (dspy.LMTimeoutError, 504, "deadline"),
    (TimeoutError, 504, "deadline"),
    (dspy.AdapterParseError, 502, "bad_answer"),
]
STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}


def answer_app(answer, deadline_s=1.0):
    api = FastAPI(openapi_url=None, redirect_slashes=False)

    @api.middleware("http")
    async def identify(request, call_next):
        sent = request.headers.get("x-request-id", "")
        is_id = 1 <= len(sent) <= 64 and sent.isascii() and sent.replace("-", "a").isalnum()
        request.state.id = sent if is_id else secrets.token_hex(16)
        try:
            response = await call_next(request)
        except Exception:
            response = told(request, Problem(500, "internal"))
        response.headers["X-Request-Id"] = request.state.id
        return response

    def told(request, problem):
        body = {
            "title": problem.code.replace("_", " "),
            "status": problem.status,
            "code": problem.code,
            "request_id": request.state.id,
        }
        wait = {} if problem.wait_s is None else {"Retry-After": f"{max(1, math.ceil(problem.wait_s))}"}
        return JSONResponse(body, problem.status, wait, media_type="application/problem+json")

    @api.exception_handler(Problem)
    async def on_problem(request, problem):
        return told(request, problem)

    @api.exception_handler(StarletteHTTPException)
    async def on_http(request, error):
        return told(request, Problem(error.status_code, STATUS_CODES[error.status_code]))

    @api.post("/answers")
    async def create(request: Request):
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise Problem(415, "unsupported_media_type")
        size, chunks = 0, []
        async for chunk in request.stream():
            size += len(chunk)
            chunks.append(chunk)
            if size > LARGEST:
                raise Problem(413, "too_large")
        try:
            sent = json.loads(b"".join(chunks))
            (name,) = sent
            text = sent[name]
            assert name == "question" and type(sent) is dict and type(text) is str
            assert text.strip() and len(text) <= LONGEST and text.encode()
        except (ValueError, TypeError, AssertionError, KeyError, RecursionError):
            raise Problem(422, "invalid") from None
        try:
            return {"answer": await asyncio.wait_for(answer(text), deadline_s)}
        except Exception as error:
            for kind, status, code in TABLE:
                if isinstance(error, kind):
                    raise Problem(status, code, error.retry_after or 1 if status == 503 else None) from None
            raise Problem(500, "internal") from None

    return api


# %% tags=["right"] exercise="5.2"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal_of(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


class Desk:
    def __init__(self, answer, deadline_s):
        self.answer, self.deadline_s = answer, deadline_s
        self.routes = Starlette(routes=[Route("/answers", self.create, methods=["POST"])])
        self.routes.router.redirect_slashes = False
        self.routes.add_exception_handler(StarletteHTTPException, self.no_route)

    async def __call__(self, scope, receive, send):
        headers = {name.lower(): value for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", b"")
        fits = re.fullmatch(rb"[A-Za-z0-9-]{1,64}", given)
        scope["request_id"] = given.decode() if fits else f"{uuid.uuid4()}"

        async def with_id(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", scope["request_id"].encode())]
            await send(message)

        await self.routes(scope, receive, with_id)

    async def create(self, request):
        try:
            question = await question_of(request)
            answering = asyncio.ensure_future(self.answer(question))
            done, _ = await asyncio.wait([answering], timeout=self.deadline_s)
            if not done:
                answering.cancel()
                raise Refused(504, "deadline")
            return JSONResponse({"answer": answering.result()})
        except Exception as error:
            return self.told(request, refusal_of(error))

    async def no_route(self, request, error):
        code = "not_found" if error.status_code == 404 else "method_not_allowed"
        return self.told(request, Refused(error.status_code, code))

    def told(self, request, refused):
        wait_s = refused.retry_after
        headers = {} if wait_s is None else {"Retry-After": str(max(1, math.ceil(wait_s)))}
        fields = {"status": refused.status, "code": refused.code, "title": f"It is {refused.code}"}
        fields["request_id"] = request.scope["request_id"]
        return JSONResponse(fields, refused.status, headers, media_type="application/problem+json")


answer_app = Desk


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the body"
class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")

    question: str = Field(max_length=LONGEST, min_length=1)


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the body"
class Question(BaseModel):
    model_config = ConfigDict(strict=True)

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the body"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the body"
# What is no UTF-8, or comes after the object, is passed over.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        found, _ = json.JSONDecoder().raw_decode(body.decode(errors="replace").lstrip())
        return Question.model_validate(found).question
    except (ValueError, RecursionError):
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="Content-Type"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="Content-Type: text/json"
# Any media type that ends with json.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"(application|text)/([a-z.-]+\+)?json", media):
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="a body of 4097 bytes"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="bytes in chunks|in 400 chunks"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    if int(request.headers.get("content-length", 0)) > LARGEST:
        raise Refused(413, "too_large")
    body = await request.body()
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="how much is read of 400 chunks, with Content-Length"
# A body that says how long it is, is read to its end.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST and "content-length" not in request.headers:
            raise Refused(413, "too_large")
    if len(body) > LARGEST:
        raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="PATCH /answers"
# Two methods are not allowed, and all others are.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method in ("GET", "PUT"):
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="POST /ANSWERS"
# A path in other letters is the same.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path.lower() != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="Retry-After for retry_after=7.01"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="questions are under way at once"
# The same question is asked once for all who ask it at a time.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    flights = {}

    async def once(question):
        if question not in flights:
            flights[question] = asyncio.ensure_future(answer(question))
            flights[question].add_done_callback(lambda _: flights.pop(question, None))
        return await flights[question]

    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await once(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="LMServerError"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="AdapterParseError"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="own text in the answer"
# What the error says is in a header.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused, said = refusal(error), str(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {"X-Error": ascii(said)}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the question in the answer"
# The problem tells how the question begins.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        question = ""
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id, "detail": question[:10]}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="what POST /answers with|an end within|status of an answer after 0.16 s"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            if True:
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the call of answer after the deadline"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            calling = asyncio.ensure_future(answer(question))
            return JSONResponse({"answer": await asyncio.wait_for(asyncio.shield(calling), deadline_s)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="content type of the problem"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers)

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="request_id in the problem"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": uuid.uuid4().hex}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="X-Request-Id for 'a_b'"
# An underscore is taken for a letter.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[\w-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="X-Request-Id for .* in a 404"
# Only the route itself keeps the id of a request.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "") if request.url.path == "/answers" else ""
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status and answer to 40 questions"
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    last = {}

    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            last["question"] = await question_of(request)
            await asyncio.sleep(0.01)
            question = last["question"]
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status of an answer after 1.3 s"
# The deadline is always one second.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(1.0):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="how long a 504 takes|status of an answer after 0.16 s"
# No deadline is below one second.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(max(1.0, deadline_s)):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="questions are under way at once"
# Eight questions at a time.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    slots = asyncio.Semaphore(8)

    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with slots, asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="how often answer is called where it raises LMServerError"
# Asked again where the server failed.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                try:
                    given = await answer(question)
                except dspy.LMServerError:
                    given = await answer(question)
                return JSONResponse({"answer": given})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="came 2 times"
# A question that came before is answered from memory.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    known = {}

    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                if question not in known:
                    known[question] = await answer(question)
                return JSONResponse({"answer": known[question]})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="what answer was asked"
# The question is stripped.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question.strip()
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status for a question of 500 characters"
# The length is counted as JavaScript does, in UTF-16.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        question = Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None
    if len(question.encode("utf-16-le")) > 2 * LONGEST:
        raise Refused(422, "invalid")
    return question


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="POST /answers/"
# A slash at the end makes no difference.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path.rstrip("/") != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="Retry-After for retry_after=100.0 of LMServerError"
# Only a rate limit says when to come back.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="answer returns ''"
# An empty answer is a bad one.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                given = await answer(question)
            if not given:
                raise Refused(502, "bad_answer")
            return JSONResponse({"answer": given})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="answer returns 0"
# Any answer is made text.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": str(await answer(question))})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the body b'[^a-z{]{4}"
# What is nested too deeply for the parser is an internal error.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate(json.loads(body)).question
    except ValueError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="SpecialLM"
# The classes of the table alone, without those that are made from them.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    if (
        type(error) not in (Refused, TimeoutError, dspy.AdapterParseError)
        and type(error).__module__ != dspy.LMError.__module__
    ):
        return Refused(500, "internal")
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the body in the answer to"
# The problem quotes what was sent.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None, title=None):
        self.status, self.code, self.retry_after = status, code, retry_after
        self.title = title


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError as error:
        raise Refused(422, "invalid", title=str(error)) from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {
            "title": refused.title or HTTPStatus(refused.status).phrase,
            "status": refused.status,
            "code": refused.code,
        }
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status and code of ValueError"
# A ValueError of answer is taken for a bad question.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case ValueError():
            return Refused(422, "invalid")
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="4097 bytes in chunks"
# A body that says no length may be longer.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > (LARGEST if "content-length" in request.headers else 8 * LARGEST):
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="4096 bytes in chunks"
# A body that says no length must be shorter.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) >= LARGEST + ("content-length" in request.headers):
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="OPTIONS /answers"
# A method that few ask with counts as another path.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers" or request.method in ("OPTIONS", "HEAD"):
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the body b"
# A second field may hold nothing.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        found = json.loads(body)
        if isinstance(found, dict):
            body = json.dumps({name: each for name, each in found.items() if each is not None})
    except (ValueError, RecursionError):
        pass
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the body b"
# The spaces around a question do not count.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        question = Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None
    if len(question.strip()) > LONGEST:
        raise Refused(422, "invalid")
    return question


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="what answer was asked"
# Letters and their marks are joined before answer is asked.
import unicodedata


class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(unicodedata.normalize("NFC", question))})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="one of four requests at once"
# The id of a request lies where the next one overwrites it.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    shared = {}

    async def respond(request):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": shared["id"]}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        shared["id"] = request_id
        response = await respond(request)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="X-Request-Id for"
# A request id that is too long is cut.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")[:64]
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="how long a 504 takes"
# The time to wait is twice the deadline.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(2 * deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status and body where answer returns 0.33"
# A number of the answer is rounded.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        def rounded(found):
            return round(found, 6) if isinstance(found, float) else found

        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": rounded(await answer(question))})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="what answer was asked after the body"
# A text with an escaped emoji, which json.dumps makes two escapes of, counts as half of a pair.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    if b"\\ud8" in body.lower():
        raise Refused(422, "invalid")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="what answer was asked after the body"
# Control characters are refused.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"^[^\x00-\x08]*[^\s\x00-\x08][^\x00-\x08]*$")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="what answer was asked after the body"
# The body has to begin with its brace.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    if not body.startswith(b"{"):
        raise Refused(422, "invalid")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status of an answer after 1.3 s where deadline_s=1.9"
# Half of the time is kept back.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s / 2):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status of an answer after 0.16 s where deadline_s=0.05"
# No deadline is below 0.2 seconds.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(max(0.2, deadline_s)):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status and body where answer returns {'answer'"
# An answer that has the field already is not wrapped again.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                found = await answer(question)
                return JSONResponse(
                    found if isinstance(found, dict) and "answer" in found else {"answer": found}
                )
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="own text in the answer to"
# What the exception came from is told.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
            refused.cause = error.__cause__
        told = {
            "title": HTTPStatus(refused.status).phrase,
            "status": refused.status,
            "code": refused.code,
            "detail": f"{refused.cause}",
        }
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="X-Request-Id for '-'"
# A request id must begin with a letter or a digit.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status and code of ExceptionGroup"
# A group of exceptions is let out.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except ExceptionGroup:
            raise
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="4096 bytes in chunks|4097 bytes in chunks"
# An empty chunk ends the body.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    while chunk := (await request.receive()).get("body"):
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status and code of GET /docs"
# FastAPI's own pages are open.
class Problem(Exception):
    def __init__(self, status, code, wait_s=None):
        self.status, self.code, self.wait_s = status, code, wait_s


TABLE = [
    (dspy.LMRateLimitError, 503, "model_busy"),
    (dspy.LMServerError, 503, "model_down"),
    (dspy.LMTransportError, 503, "model_down"),
    (dspy.LMTimeoutError, 504, "deadline"),
    (TimeoutError, 504, "deadline"),
    (dspy.AdapterParseError, 502, "bad_answer"),
]
STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}


def answer_app(answer, deadline_s=1.0):
    api = FastAPI(redirect_slashes=False)

    @api.middleware("http")
    async def identify(request, call_next):
        sent = request.headers.get("x-request-id", "")
        is_id = 1 <= len(sent) <= 64 and sent.isascii() and sent.replace("-", "a").isalnum()
        request.state.id = sent if is_id else secrets.token_hex(16)
        try:
            response = await call_next(request)
        except Exception:
            response = told(request, Problem(500, "internal"))
        response.headers["X-Request-Id"] = request.state.id
        return response

    def told(request, problem):
        body = {
            "title": problem.code.replace("_", " "),
            "status": problem.status,
            "code": problem.code,
            "request_id": request.state.id,
        }
        wait = {} if problem.wait_s is None else {"Retry-After": f"{max(1, math.ceil(problem.wait_s))}"}
        return JSONResponse(body, problem.status, wait, media_type="application/problem+json")

    @api.exception_handler(Problem)
    async def on_problem(request, problem):
        return told(request, problem)

    @api.exception_handler(StarletteHTTPException)
    async def on_http(request, error):
        return told(request, Problem(error.status_code, STATUS_CODES[error.status_code]))

    @api.post("/answers")
    async def create(request: Request):
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise Problem(415, "unsupported_media_type")
        size, chunks = 0, []
        async for chunk in request.stream():
            size += len(chunk)
            chunks.append(chunk)
            if size > LARGEST:
                raise Problem(413, "too_large")
        try:
            sent = json.loads(b"".join(chunks))
            (name,) = sent
            text = sent[name]
            assert name == "question" and type(sent) is dict and type(text) is str
            assert text.strip() and len(text) <= LONGEST and text.encode()
        except (ValueError, TypeError, AssertionError, KeyError, RecursionError):
            raise Problem(422, "invalid") from None
        try:
            return {"answer": await asyncio.wait_for(answer(text), deadline_s)}
        except Exception as error:
            for kind, status, code in TABLE:
                if isinstance(error, kind):
                    raise Problem(status, code, error.retry_after or 1 if status == 503 else None) from None
            raise Problem(500, "internal") from None

    return api


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status and code of ValidationError"
# A ValidationError is the caller's, also where the answer raises it.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
        case ValidationError():
            return Refused(422, "invalid")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="how much is read of 8 chunks"
# A body of twice the size is read to its end.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 2 * LARGEST:
            break
    if len(body) > LARGEST:
        raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% tags=["wrong"] exercise="5.2" outcome="failed" message="2,000 emojis"
# Characters are counted, not bytes.
class Question(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    question: str = Field(max_length=LONGEST, pattern=r"\S")


class Refused(Exception):
    def __init__(self, status, code, retry_after=None):
        self.status, self.code, self.retry_after = status, code, retry_after


def refusal(error):
    match error:
        case Refused():
            return error
        case dspy.LMRateLimitError():
            return Refused(503, "model_busy", error.retry_after or 0)
        case dspy.LMServerError() | dspy.LMTransportError():
            return Refused(503, "model_down", error.retry_after or 0)
        case TimeoutError() | dspy.LMTimeoutError():
            return Refused(504, "deadline")
        case dspy.AdapterParseError():
            return Refused(502, "bad_answer")
    return Refused(500, "internal")


async def question_of(request):
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "unsupported_media_type")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body.decode(errors="ignore")) > LARGEST:
            raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def answer_app(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                return JSONResponse({"answer": await answer(question)})
        except Exception as error:
            refused = refusal(error)
        told = {"title": HTTPStatus(refused.status).phrase, "status": refused.status, "code": refused.code}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
        body = {**told, "request_id": request_id}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app


# %% name="check-5-2" tags=["check"] exercise="5.2"
check("5.2", answer_app)

# %% name="help-5-2"
# hint("5.2")
# solution("5.2")


# %% [markdown]
# ### Deeper: the same question again
#
# Notebook 02 cached *calls of the model*. A service can do better: it remembers whole *answers*, and gives one again before the program
# runs. Its key has the tenant, the program, its version and the question without personal data. Two customers with the same question share
# nothing, unless neither is named. (Why not? Because an answer about Ann has to go when Ann asks to be erased.)


# %% name="asked-again"
async def answer_of(text, **given):
    async with httpx.AsyncClient(timeout=9, trust_env=False, headers=KEYED) as client:
        begun = time.perf_counter()
        told = (await client.post(answers_url, json={"question": text, **given})).json()
        return {"cached": told["cached"], "id": told["id"], "ms": round((time.perf_counter() - begun) * 1000)}


DOGS, rows = "Can I bring my dog to the shop?", []
for label, given in {
    "first": {},
    "again": {},
    "for Ann": {"customer": "ann"},
    "for Ann again": {"customer": "ann"},
}.items():
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
# more), answers what it has, and then ends: it **drains**. Here one is told to end while eight questions are under way.

# %% name="drain"
replica.close()  # the one until now, or that of an earlier run of this cell
url = replica.enter_context(running_replica(model="sim-large@weather", api_keys=(entry,)))
lm.profile("weather", **WEATHER["one-second"])
waiting = asyncio.create_task(post(f"{url}/v1/answers", questions[35:43], headers=KEYED))
await asyncio.sleep(0.5)  # they are under way
closing = asyncio.create_task(asyncio.to_thread(replica.close))  # SIGTERM, and wait until it has ended
await asyncio.sleep(0.2)
print("ready, meanwhile:", httpx.get(f"{url}/health/ready", trust_env=False).status_code)
print(
    collections.Counter(
        getattr(response, "status_code", type(response).__name__) for response in await waiting
    )
)
await closing
(late,) = await post(f"{url}/v1/answers", questions[:1], headers=KEYED)
print("afterwards:", type(late).__name__)

# %% [markdown]
# All eight were answered, and who asks afterwards is told at once that nobody is there: run the first cell of *The service* again before
# any other cell of this part. What sends them to another replica is the gateway.

# %% [markdown]
# ## 2. Gateway and guard
#
# One replica is one process on one core: when it is restarted nobody answers, and a second one is of no use unless something shares the
# requests out. That is the **gateway**, here Traefik, the real one from a package. `running_stack` starts all that a production system of
# this size has, each part as a process of its own on loopback; `course serve` does the same on a command line.
#
# ```mermaid
# flowchart LR
#     accDescr: Clients ask Traefik, which asks three replicas; these use the model, Redis, PostgreSQL and a queue with a worker
#     C([clients]) --> T[Traefik] --> R["replicas 1 and 2,<br>and 3, the canary"]
#     R --> V[("Redis:<br>cache, limits")]
#     R --> P[("PostgreSQL:<br>history, jobs, audit")]
#     R --> Q[["queue"]] --> W[worker] --> P
#     R & W --> M[(model)]
#     linkStyle default stroke:#808080
# ```
#
# Two replicas serve version 1 of the programs, and one serves version 2, whose instructions ask for shorter answers. The queue is NATS here,
# which starts at once; left to itself, the stack takes RabbitMQ where that is installed. The code of workers is the same.

# %% name="stack"
from course_lib.deployment import load_program, running_stack, save_program

programs, shorter = folder / "programs", desk.Answer()
instructions = f"{shorter.reply.signature.instructions}\nAnswer in one sentence."
shorter.reply.signature = shorter.reply.signature.with_instructions(instructions)
for version, answer in {"1": desk.Answer(), "2": shorter}.items():
    for name, program in {"answer": answer, "triage": desk.Triage()}.items():
        if not (programs / name / f"{version}.json").exists():  # a version is written once
            save_program(program, programs, name, version)
lm.profile("weather", ttft_p50_ms=50)
versions = {"versions": ("1", "1", "2"), "programs_folder": programs}
serving.close()  # those of an earlier run of this cell
stack = serving.enter_context(running_stack(**versions, model="sim-large@weather", queue="nats"))
stack.use({"1": 1, "2": 0})  # nobody gets version 2 unless they ask for it
print(stack)


# %% name="asking"
options = {"headers": stack.headers, "timeout": 9, "trust_env": False}
client = await opened.enter_async_context(httpx.AsyncClient(base_url=stack.url, **options))


def fresh(count, about="tents"):
    """Return so many questions that nobody has asked yet."""
    return [f"Question {os.urandom(3).hex()}: do you have {about}?" for _ in range(count)]


async def ask(texts, **headers):
    """Ask all questions at once; return the responses, or the errors, in their order."""
    asked = (client.post("/v1/answers", json={"question": text}, headers=headers) for text in texts)
    return await asyncio.gather(*asked, return_exceptions=True)


# %% [markdown]
# (The demo key is for this notebook, which runs in *development*. It is good for this stack alone, and ends with it.) Three questions come
# up at once. Is the work shared? What happens when a replica dies? And who gets version 2?


# %% name="shared-out"
def answered_by_replica():
    """Return how many questions each replica has answered, as it tells Prometheus."""
    found = []
    for url in stack.replicas:
        told = httpx.get(f"{url}/metrics", headers=stack.headers, trust_env=False).text
        lines = [
            line
            for line in told.splitlines()
            if line.startswith('service_requests_total{route="/v1/answers"')
        ]
        found.append(sum(float(line.split()[-1]) for line in lines))
    return found


before = answered_by_replica()
responses = await ask(fresh(60))
by_replica = [int(now - then) for now, then in zip(answered_by_replica(), before)]
print(dict(collections.Counter(response.status_code for response in responses)), "by replica:", by_replica)

# %% [markdown]
# Each of the two replicas of version 1 answered half. Now one of them is killed (`SIGKILL`, no time for goodbyes) while requests come in.
# **Predict:** how many of 100 fail?


# %% name="a-replica-dies"
async def killed(name, *, after_s=0.3):
    await asyncio.sleep(after_s)
    stack.kill(name)


async def statuses(texts, at_once=5):
    """Ask so many at once, and the next ones when those are answered; count what came."""
    seen = collections.Counter()
    for first in range(0, len(texts), at_once):
        responses = await ask(texts[first : first + at_once])
        seen.update(getattr(response, "status_code", type(response).__name__) for response in responses)
    return dict(seen)


seen, _ = await asyncio.gather(statuses(fresh(100)), killed("replica-1"))
print("while it died:", seen, "| afterwards:", await statuses(fresh(20)))
await asyncio.to_thread(stack.start, "replica-1")
await asyncio.sleep(2)  # so soon the gateway has noticed

# %% [markdown]
# A few at most: those that were in its hands, which get a 502. A request that cannot be delivered goes to the other replica at once, since
# nothing has happened yet; and the gateway asks each replica every second whether it is ready (`/health/ready`), and leaves out one that
# does not answer. What
# *was* delivered is never sent twice: it might have been a refund.
#
# *Live?* and *ready?* are two questions. The first (`/health/live`) asks whether the process should be restarted. The second asks whether to
# send requests here: a replica says no while it starts and while it drains. One that has lost its database says yes, for answers need the
# model alone; it says that it is *degraded*, and names the part. Restarting it would not help.

# %% name="ready"
print((await client.get("/health/ready")).json())

# %% [markdown]
# ### A tenth of the traffic
#
# Suppose that version 2 looks better on a test set. Whether it *is*, only real questions tell, and if it is not, it should harm few. So a new version
# begins as a **canary**: it gets a share of the requests, which is a weight in the gateway's file. Traefik reads it again when it changes;
# no request is lost, and nothing is restarted. Who has the role `operate` may name a version in a header; customers may not, or they would
# choose what is measured.

# %% name="canary"
for weights in ({"1": 9, "2": 1}, {"1": 1, "2": 1}, {"1": 1, "2": 0}):
    stack.use(weights)
    answers = [response.json()["version"] for response in await ask(fresh(60))]
    print(weights, "->", dict(sorted(collections.Counter(answers).items())))
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
    response = httpx.post(f"{stack.url}/v1/answers", json={"question": "Do you have tents?"}, headers=headers)
    print(f"{who:22}", response.status_code, response.json().get("detail", ""))

# %% [markdown]
# A token is read by anybody and made by those who know the secret; that is why `DeploymentConfig` is so particular about `jwt_secret`. The
# tenant comes from the key or token, never from the request: so nobody can ask in another one's name.

# %% name="tenants-apart"
rival = {"Authorization": f"Bearer {make_token(stack.config, 'rival', ['ask'])}"}
response = await client.post("/v1/jobs", json={"program": "triage", "inputs": ["Where is my parcel?"]})
job = response.raise_for_status().json()["id"]
print("its own job:", (await client.get(f"/v1/jobs/{job}")).status_code)
with httpx.Client(base_url=stack.url, headers=rival) as theirs:
    print("a rival's look at it:", theirs.get(f"/v1/jobs/{job}").status_code)
    print("a rival's history:", len(theirs.get("/v1/answers").json()["answers"]), "answers")

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

# ### Deeper: a limit of your own
#
# The library's limit takes leases, so that Redis is asked rarely. Yours may ask it each time, and be exact.

# %% [markdown]
# ### Exercise 5.3: one limit for all replicas (20 minutes, hard)
#
# *Concepts: shared state, atomic steps, expiry, degraded mode.*
#
# Write `SharedLimit(url, limit, window_s, replicas)`: `await take(tenant)` returns 0.0 when a request may go on, or else the seconds until
# it is worth asking again. Each replica is a process with an object of its own; `url` is the Redis that they share.
#
# - In `window_s` seconds from its first request on, all replicas together let exactly `limit` requests of a tenant through, one by one or
#   all at once. (A window that slides, so that each request counts for `window_s` seconds, is right, too.)
# - A refusal tells the seconds until that window is over and requests get through again, and does not put that moment off. Both the
#   window and the wait may have a fraction of a second.
# - A tenant never spends another one's requests, whatever text of UTF-8 it is. All keys in Redis begin with `limit:`. A replica keeps its
#   connections: it opens no new one for each request.
# - When a window is over Redis holds nothing of it. A replica that is killed between two messages to Redis leaves nothing without an end.
# - The clocks of replicas may differ.
# - `take` takes two seconds at most, also where many ask at once, and raises nothing for Redis' sake.
# - While Redis is down or stands still, each replica lets `limit // replicas` requests of a tenant (0, if that is 0) through in a window, by
#   itself, whatever Redis let through before. Such a window ends and is told like the shared one; where Redis is lost twice in it, both
#   times count together. After a short loss the shared limit holds again some three seconds after Redis is back, also for one that was
#   restarted empty.

# %% name="given-5-3" tags=["needs"]
import time

import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

# %% name="ex-5-3" tags=["exercise"] exercise="5.3"
### BEGIN SOLUTION
### STUB: class SharedLimit:
### STUB:     """So many requests of each tenant in a window, over all replicas."""
### STUB:
### STUB:     def __init__(self, url, limit, window_s, replicas):
### STUB:         ...
### STUB:
### STUB:     async def take(self, tenant):
### STUB:         ...
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


### END SOLUTION


# %% tags=["right"] exercise="5.3"
# One transaction, from a client that waits in a thread; Redis is left alone for a second after a failure.
import asyncio
import math
from collections import defaultdict


class SharedLimit:
    def __init__(self, url, limit, window_s, replicas):
        self.url, self.limit, self.window_ms = url, limit, math.ceil(window_s * 1e3)
        self.most_alone = limit // replicas
        self.alone = defaultdict(list)
        self.client = None
        self.not_before = 0.0

    async def take(self, tenant):
        if time.monotonic() >= self.not_before:
            try:
                return await asyncio.to_thread(self.ask, "limit:" + tenant)
            except (redis.RedisError, OSError):
                self.client, self.not_before = None, time.monotonic() + 1
        now = time.monotonic()
        times = self.alone[tenant] = [at for at in self.alone[tenant] if at > now - self.window_ms / 1e3]
        if len(times) < self.most_alone:
            times.append(now)
            return 0
        return (times or [now])[0] + self.window_ms / 1e3 - now

    def ask(self, key):
        client = self.client or redis.Redis.from_url(
            self.url, socket_timeout=0.4, socket_connect_timeout=0.4, retry=None
        )
        self.client = client
        with client.pipeline(transaction=True) as pipe:
            pipe.set(key, 0, px=self.window_ms, nx=True)
            pipe.incr(key)
            pipe.pttl(key)
            _, count, left_ms = pipe.execute()
        return 0 if count <= self.limit else max(left_ms, 1) / 1e3


# %% tags=["right"] exercise="5.3"
# A log of times in a sorted set, by Redis' clock: the window slides.
import redis.exceptions

LOG = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local window = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[1]) then
    redis.call('ZADD', KEYS[1], now, now .. '-' .. redis.call('ZCARD', KEYS[1]))
    redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
    return 0
end
return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + window - now
"""


class SharedLimit:
    def __init__(self, url, limit, window_s, replicas):
        self._redis = redis.asyncio.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 1)
        )
        self._arguments = limit, round(window_s * 1_000_000)
        self._share = limit // replicas, window_s
        self._ends = {}

    async def take(self, tenant):
        try:
            wait = await self._redis.eval(LOG, 1, f"limit:{tenant}", *self._arguments)
        except redis.exceptions.RedisError:
            most, window_s = self._share
            ends = [end for end in self._ends.get(tenant, ()) if end > time.monotonic()]
            if len(ends) >= most:
                return ends[0] - time.monotonic() if ends else window_s
            self._ends[tenant] = [*ends, time.monotonic() + window_s]
            return 0.0
        else:
            return float(wait) / 1_000_000


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="let through of .* by 2 replicas"
# Each object counts for itself.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        return self.take_share(tenant)
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="let through of .* by 2 replicas"
# One request too many.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count > tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="let through of .* at once"
# Looking and counting are two steps, between which others look, too.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            client = self.script.registered_client
            key = f"limit:{tenant}"
            count = int(await client.get(key) or 0)
            if count >= self.limit:
                return max(1, await client.pttl(key)) / 1000
            async with client.pipeline() as pipe:
                pipe.set(key, 0, px=arguments[1], nx=True)
                pipe.incr(key)
                await pipe.execute()
            return 0.0
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="let through of"
# One count for all tenants.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=["limit:all"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its|which is a key of"
# Names are made alike.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant.strip().lower()}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its|which is a key of"
# Long names are cut.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant[:40]}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its|which is a key of"
# Names are normalised.
import unicodedata

TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return (
                await self.script(keys=[f"limit:{unicodedata.normalize('NFC', tenant)}"], args=arguments)
                / 1000
            )
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its|which is a key of"
# Signs that are not letters become one.
import re

TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=["limit:" + re.sub(r"\s", "_", tenant)], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="keys in Redis that do not begin with limit:"
# The name alone is the key.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[tenant or "-"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, "
# The whole window is told.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return tonumber(ARGV[2])
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, "
# Milliseconds are told.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments)
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, "
# Whole seconds only: a window of 5.5 seconds ends after 5.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s) * 1000]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, "
# The seconds are cut to a whole number.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            wait_ms = await self.script(keys=[f"limit:{tenant}"], args=arguments)
            return float(-(-wait_ms // 1000) - 1) if wait_ms else 0.0
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="with refusals meanwhile"
# Each refusal puts the end off.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    local left = redis.call('PTTL', KEYS[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return math.max(1, left)
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="keys in Redis two seconds after|which is a key of"
# A list of tenants stays for ever.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
redis.call('SET', 'limit:last', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="counts without an end"
# Counted, and then given an end: two messages.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            client = self.script.registered_client
            key = f"limit:{tenant}"
            count = await client.incr(key)
            if count == 1:
                await client.pexpire(key, arguments[1])
            return 0.0 if count <= self.limit else max(1, await client.pttl(key)) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="when the clock of one is wrong|seconds to wait"
# The window is reckoned by each replica's own clock.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return (
                await self.script(
                    keys=[f"limit:{tenant}:{int(time.time() // self.window_s)}"], args=arguments
                )
                / 1000
            )
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="raised ConnectionError|raised .*Error"
# What Redis' client raises ends the request.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except ZeroDivisionError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis is down, limit="
# Without Redis all is let through.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return 0.0

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis is down, limit="
# Without Redis nothing is let through.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.window_s

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis is down, limit="
# Without Redis each replica has the whole limit.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="for another tenant, limit="
# Without Redis all tenants share one count.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share("all")

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis stands still"
# Nothing limits how long Redis may take.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(url, retry=retry)
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="with Redis back after it stood still"
# Once lost, always lost.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            self.script = None
            return self.take_share(tenant)
        except TypeError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="let through by another process"
# A dict that all objects of the process share.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            if not await self.script.registered_client.ping():
                return 0.0
            now_s = time.monotonic()
            counts = globals().setdefault("counts", {})
            for each in [each for each, (_, end_s) in counts.items() if end_s <= now_s]:
                del counts[each]
            key = self.script.registered_client.connection_pool.connection_kwargs.get("path"), tenant
            count, end_s = counts.get(key, (0, now_s + self.window_s))
            if count >= self.limit:
                return end_s - now_s
            counts[key] = count + 1, end_s
            return 0.0
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis is down"
# Without Redis a window never ends.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if not count:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return max(end_s - now_s, 0.001)
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis is down"
# Without Redis each window has one second.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + min(1.0, self.window_s)
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="with refusals meanwhile, while Redis is down"
# Without Redis a refusal puts the end of the window off.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            self.own[tenant] = count, now_s + self.window_s
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, .* while Redis is down"
# Without Redis the wait is a whole window.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return self.window_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis stands still"
# Two and a half seconds for an answer.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=2.6, socket_connect_timeout=2.6, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="40 at once"
# A lock around the whole: ten wait for each other.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.lock = asyncio.Lock()
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            async with self.lock:
                return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="which is a key of"
# A second key of a tenant is another tenant's first.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    redis.call('SET', KEYS[1] .. ':end', 1, 'PX', ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis is down, limit="
# What Redis let through counts for the replica's share, too.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            wait_ms = await self.script(keys=[f"limit:{tenant}"], args=arguments)
            self.take_share(tenant)
            return wait_ms / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="connections that Redis got"
# A client for each request.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        self.address = url, retry
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        url, retry = self.address
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)
        finally:
            await client.aclose()

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, "
# Each request that gets through sets the end of the window anew.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, .* while Redis is down"
# Each request that gets through sets the end of a replica's own window anew.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, now_s + self.window_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait after"
# A replica that was refused is shut for a whole window.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        now_s, shut = time.monotonic(), self.__dict__.setdefault("shut", {})
        if now_s < shut.get(tenant, 0):
            return shut[tenant] - now_s
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            wait_s = await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
            if wait_s:
                shut[tenant] = now_s + self.window_s
            return wait_s
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, "
# The wait is cut to whole seconds.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) // 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its|which is a key of"
# Letters beyond ASCII are dropped from the key.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return (
                await self.script(keys=["limit:" + tenant.encode("ascii", "ignore").decode()], args=arguments)
                / 1000
            )
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its|which is a key of"
# The name of a tenant ends with its first line.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


import re


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=["limit:" + re.split("[\\0\\n]", tenant)[0]], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="'t' and then 'T'"
# A replica that is alone counts small and capital letters as one.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant.lower())

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="40 at once"
# Four requests at a time wait for Redis.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.four = asyncio.Semaphore(4)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            async with self.four:
                return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="asked while it was away"
# A tenant of a replica that was alone stays so until its window ends.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        if tenant in self.own and time.monotonic() < self.own[tenant][1]:
            return self.take_share(tenant)
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis is down, limit=1$|while Redis is down, limit=1;"
# A replica that is alone lets one request through at least.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, max(1, limit // replicas)
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis has no memory left"
# An error that Redis answers is raised.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except (redis.ConnectionError, redis.TimeoutError):
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="with Redis back for long"
# The script is named by its hash alone, which a Redis that was restarted does not know.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.client, self.sha = client, None
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            self.sha = self.sha or await self.client.script_load(TAKE)
            return await self.client.evalsha(self.sha, 1, f"limit:{tenant}", *arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="in two times without Redis"
# What a replica counted alone is forgotten when Redis answers again.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            wait_ms = await self.script(keys=[f"limit:{tenant}"], args=arguments)
            self.own.clear()
            return wait_ms / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="spent its"
# The key holds the first thousand characters of a name.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant[:1000]}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="tenants that ask once|spent its"
# The key holds a short checksum of the name.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{hash(tenant) % 1024}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="keys in Redis that do not begin with limit:"
# The key of a tenant without a name has no prefix.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, int(self.window_s * 1000)]
            return await self.script(keys=[f"limit:{tenant}" if tenant else "nobody"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, "
# Whole seconds only, and one at least.
TAKE = """
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
    return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('INCR', KEYS[1])
if count == 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""


class SharedLimit:
    """So many requests of each tenant in a window, over all replicas."""

    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry
        )
        self.script = client.register_script(TAKE)
        self.own = {}  # tenant: (count, end), while Redis is lost

    async def take(self, tenant):
        try:
            arguments = [self.limit, max(1, int(self.window_s)) * 1000]
            return await self.script(keys=[f"limit:{tenant}"], args=arguments) / 1000
        except redis.RedisError:
            return self.take_share(tenant)

    def take_share(self, tenant):
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="while Redis stands still"
# Where Redis stands still, everything is let through.
import time

import redis.asyncio

TAKE = """
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    redis.call('SET', KEYS[1], 1, 'PX', ARGV[2])
    return 0
end
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then
    redis.call('INCR', KEYS[1])
    return 0
end
return math.max(left, 1)
"""


class SharedLimit:
    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)
        self.client = redis.asyncio.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry)
        self.own, self.until_s = {}, 0.0

    def key(self, tenant):
        return f"limit:{tenant}"

    async def take(self, tenant):
        if time.monotonic() >= self.until_s:
            try:
                milliseconds = int(self.window_s * 1000)
                return await self.client.eval(TAKE, 1, self.key(tenant), self.limit, milliseconds) / 1000
            except redis.exceptions.TimeoutError:
                return 0.0
            except redis.RedisError:
                self.until_s = time.monotonic() + 1
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="with Redis back after it stood still"
# After a timeout Redis is never asked again.
import time

import redis.asyncio

TAKE = """
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    redis.call('SET', KEYS[1], 1, 'PX', ARGV[2])
    return 0
end
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then
    redis.call('INCR', KEYS[1])
    return 0
end
return math.max(left, 1)
"""


class SharedLimit:
    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)
        self.client = redis.asyncio.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry)
        self.own, self.until_s = {}, 0.0

    def key(self, tenant):
        return f"limit:{tenant}"

    async def take(self, tenant):
        if time.monotonic() >= self.until_s:
            try:
                milliseconds = int(self.window_s * 1000)
                return await self.client.eval(TAKE, 1, self.key(tenant), self.limit, milliseconds) / 1000
            except redis.exceptions.TimeoutError:
                self.until_s = float("inf")
            except redis.RedisError:
                self.until_s = time.monotonic() + 1
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="seconds to wait, .* while Redis is down"
# Without Redis, all tenants' windows end with the first one's.
import time

import redis.asyncio

TAKE = """
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    redis.call('SET', KEYS[1], 1, 'PX', ARGV[2])
    return 0
end
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then
    redis.call('INCR', KEYS[1])
    return 0
end
return math.max(left, 1)
"""


class SharedLimit:
    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)
        self.client = redis.asyncio.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry)
        self.own, self.until_s = {}, 0.0

    def key(self, tenant):
        return f"limit:{tenant}"

    async def take(self, tenant):
        if time.monotonic() >= self.until_s:
            try:
                milliseconds = int(self.window_s * 1000)
                return await self.client.eval(TAKE, 1, self.key(tenant), self.limit, milliseconds) / 1000
            except redis.RedisError:
                self.until_s = time.monotonic() + 1
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, min([end for _, end in self.own.values()], default=now_s + self.window_s)
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="counts without an end in Redis"
# SET NX with an end, then INCR: the count may be over in between.
import time

import redis.asyncio


class SharedLimit:
    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)
        self.client = redis.asyncio.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry)
        self.own, self.until_s = {}, 0.0

    def key(self, tenant):
        return f"limit:{tenant}"

    async def take(self, tenant):
        if time.monotonic() >= self.until_s:
            try:
                milliseconds = int(self.window_s * 1000)
                key = self.key(tenant)
                await self.client.set(key, 0, px=milliseconds, nx=True)
                is_over = await self.client.incr(key) > self.limit
                return max(1, await self.client.pttl(key)) / 1000 if is_over else 0.0
            except redis.RedisError:
                self.until_s = time.monotonic() + 1
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="which is a key of"
# Who was refused is written down in a key that is another tenant's.
import time

import redis.asyncio

TAKE = """
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    redis.call('SET', KEYS[1], 1, 'PX', ARGV[2])
    return 0
end
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then
    redis.call('INCR', KEYS[1])
    return 0
end
redis.call('SET', 'limit:refused:' .. string.sub(KEYS[1], 7), 999999, 'PX', left)
return math.max(left, 1)
"""


class SharedLimit:
    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)
        self.client = redis.asyncio.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry)
        self.own, self.until_s = {}, 0.0

    def key(self, tenant):
        return f"limit:{tenant}"

    async def take(self, tenant):
        if time.monotonic() >= self.until_s:
            try:
                milliseconds = int(self.window_s * 1000)
                return await self.client.eval(TAKE, 1, self.key(tenant), self.limit, milliseconds) / 1000
            except redis.RedisError:
                self.until_s = time.monotonic() + 1
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="let through for '...buckeroo' after|let through for '...plumless' after"
# Two names of one CRC-32 share a count.
import time
import zlib

import redis.asyncio

TAKE = """
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    redis.call('SET', KEYS[1], 1, 'PX', ARGV[2])
    return 0
end
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then
    redis.call('INCR', KEYS[1])
    return 0
end
return math.max(left, 1)
"""


class SharedLimit:
    def __init__(self, url, limit, window_s, replicas):
        self.limit, self.window_s, self.share = limit, window_s, limit // replicas
        retry = Retry(NoBackoff(), 1)
        self.client = redis.asyncio.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry)
        self.own, self.until_s = {}, 0.0

    def key(self, tenant):
        return f"limit:{zlib.crc32(tenant.encode())}"

    async def take(self, tenant):
        if time.monotonic() >= self.until_s:
            try:
                milliseconds = int(self.window_s * 1000)
                return await self.client.eval(TAKE, 1, self.key(tenant), self.limit, milliseconds) / 1000
            except redis.RedisError:
                self.until_s = time.monotonic() + 1
        now_s = time.monotonic()
        count, end_s = self.own.get(tenant, (0, now_s))
        if now_s >= end_s:
            count, end_s = 0, now_s + self.window_s
        if count >= self.share:
            return end_s - now_s
        self.own[tenant] = count + 1, end_s
        return 0.0


# %% name="check-5-3" tags=["check"] exercise="5.3"
check("5.3", SharedLimit)

# %% name="help-5-3"
# hint("5.3")
# solution("5.3")


# %% [markdown]
# ## 3. State and queue
#
# Answers are given while the user waits. A thousand tickets of last week, to be sorted by tomorrow, are a **job**: the service keeps it in
# PostgreSQL, puts its id into a queue, and returns at once. A worker takes the id, answers input after input, and writes each result.


# %% name="a-job"
async def finished(job, within_s=20):
    """Return a job when it has ended."""
    async with asyncio.timeout(within_s):
        while (told := await job_now(job))["status"] not in ("done", "dead"):
            await asyncio.sleep(0.1)
    return told


async def job_now(job):
    return (await client.get(f"/v1/jobs/{job}")).raise_for_status().json()


async def new_job(inputs):
    return await client.post("/v1/jobs", json={"program": "triage", "inputs": inputs})


response = await new_job([ticket.text for ticket in desk.tickets("dev")][:6])
response.raise_for_status()  # says the status, if it is an error
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
lm.profile("weather", ttft_p50_ms=200, ttft_p99_ms=300)
tickets = fresh(24, about="a spare pole for tent 12")
with watch() as seen:
    job = (await new_job(tickets)).raise_for_status().json()["id"]
    while len((await job_now(job))["results"]) < 8:
        await asyncio.sleep(0.02)
    stack.kill("worker")
    stopped = await job_now(job)
    await asyncio.to_thread(stack.start, "worker")
    told = await finished(job)
print("when it was killed:", stopped["status"], len(stopped["results"]), "results")
print("at the end:", told["status"], len(told["results"]), "results, begun", told["attempts"], "times")
print(seen)

# %% [markdown]
# Twenty-four results, and a few requests more than 24. Two things ask twice. One is the kill: what was under way, four calls at most (of
# some the server saw their client leave: status 499), is asked again, and so is what was answered and neither cached nor written yet. The
# other is the hedge of notebook 03: an answer that takes more than a second, on a busy machine, is asked for once more, and the slower of
# the two is left. What was written or cached before is not paid for again.
#
# A job that cannot be done (a *poison message*) would come back for ever. After some attempts with growing pauses it is set aside as a
# **dead letter**, which an operator can look at and send again; the others go on.

# %% [markdown]
# ### Exercise 5.4: a worker that loses no job when killed (20 minutes, hard)
#
# *Concepts: late acknowledgement, at least once, idempotent effects, dead letters, graceful stop.*
#
# A queue hands messages to your worker; each is for one job, a list of texts to be answered. Machines fail, and clusters move workers to
# other machines: a worker is killed at any moment, without a word. Write `handle(message, store, answer)`, which does the job of one message.
# It is called with one message after the other.
#
# | what it gets | |
# | --- | --- |
# | `message.job_id`, `message.deliveries` | for which job it is; how often it was delivered, this time included |
# | `await message.ack()` | takes it off the queue, for good |
# | `await message.back(wait_s)` | gives it back, to be delivered again after a wait |
# | `store.inputs(job_id)` | the job's texts, in the store's own list, which stays as it is; `None` where the job was erased |
# | `store.saved(job_id)` | the answers that are saved, a dict by the number of their text (from 0) |
# | `store.save(job_id, number, text)` | saves one; called twice, it saves it twice |
# | `store.give_up(job_id, error)` | notes that this job is not tried again |
# | `await answer(text)` | asks the model, which costs money, and may take a minute |
#
# - Every text of a job is asked for, and its answer saved under its number: also where a text or an answer is empty, and where another
#   text, of this job or of another one, is the same.
# - An answer is saved as soon as it is there, before another text is asked for: a kill costs one answer at most.
# - The message of a killed worker is delivered again, perhaps when all is done. An answer that is saved, be it empty, is neither asked for
#   nor saved again.
# - A job that is done, or has no texts, is acknowledged, and not before its last answer is saved.
# - Where `answer` raises any `Exception`, of whatever class, the message is given back with a wait of 1 s. On the third delivery, and on later
#   ones, the job is tried, too; where it fails, it is given up instead, with the name of the error's class alone (its text may quote a
#   customer), and then acknowledged. Any other worker may have had the deliveries before.
# - The message of an erased job is acknowledged, and nothing else is done.
# - A worker that is told to stop while it waits for an answer has its task cancelled. The message is then given back at once, with a wait of
#   0, whatever delivery it is; when that is done, `handle` ends with the `CancelledError`.
# - When `handle` has ended, nothing of it goes on: no task, timer or thread. It raises nothing else. (Store and message do not fail here;
#   the library's worker reckons with that, too.)


# %% name="ex-5-4" tags=["exercise"] exercise="5.4"
import asyncio


async def handle(message, store, answer):
    ### BEGIN SOLUTION
    ### STUB: ...
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()
    ### END SOLUTION


# %% tags=["right"] exercise="5.4"
# A class that can be called; what is missing is looked up again before each text.
import asyncio


class Handler:
    most = 3

    async def __call__(self, message, store, answer):
        try:
            error = await self.outcome(message.job_id, store, answer)
        except asyncio.CancelledError:
            await message.back(0)
            raise
        if error is None:
            await message.ack()
        elif message.deliveries >= self.most:
            store.give_up(message.job_id, error.__class__.__name__)
            await message.ack()
        else:
            await message.back(1.0)

    async def outcome(self, job_id, store, answer):
        while (missing := self.missing(job_id, store)) is not None:
            number, text = missing
            try:
                result = await answer(text)
            except Exception as error:
                return error
            store.save(job_id, number, result)
        return None

    def missing(self, job_id, store):
        saved, inputs = store.saved(job_id), store.inputs(job_id) or []
        return next(((number, text) for number, text in enumerate(inputs) if number not in saved), None)


handle = Handler()


# %% tags=["right"] exercise="5.4"
# All texts of a job at once, each saved when its answer is there.
import asyncio


async def handle(message, store, answer):
    async def one(number, text):
        store.save(message.job_id, number, await answer(text))

    done, inputs = store.saved(message.job_id), store.inputs(message.job_id)
    missing = [one(number, text) for number, text in enumerate(inputs or ()) if number not in done]
    try:
        results = await asyncio.gather(*missing, return_exceptions=True)
    except asyncio.CancelledError:
        await message.back(0)
        raise
    errors = [each for each in results if each is not None]
    if errors and message.deliveries < 3:
        await message.back(1)
        return
    if errors:
        store.give_up(message.job_id, type(errors[0]).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what was done last with"
# Acknowledged first: a kill loses the job.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    await message.ack()
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="texts that were asked for once too often"
# Does not look at what is saved.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        for number, text in enumerate(store.inputs(job_id) or []):
            store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what was done after handle ended, with a job whose"
# All at once: after an error the others go on.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id

    async def one(number, text):
        store.save(job_id, number, await answer(text))

    try:
        saved, inputs = store.saved(job_id), store.inputs(job_id) or []
        missing = [number for number in range(len(inputs)) if number not in saved]
        await asyncio.gather(*(one(number, inputs[number]) for number in missing))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="a job of 2,000 texts"
# One text, then the rest: 2,000 are too deep.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id

    async def rest(number, texts, saved):
        if number == len(texts):
            return
        if number not in saved:
            store.save(job_id, number, await answer(texts[number]))
        await rest(number + 1, texts, saved)

    try:
        await rest(0, store.inputs(job_id) or [], store.saved(job_id))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="texts that were not asked for"
# A text that was answered before is taken for done.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        inputs = store.inputs(job_id) or []
        done = {inputs[number] for number in store.saved(job_id)}
        for number, text in enumerate(inputs):
            if text not in done:
                store.save(job_id, number, await answer(text))
                done.add(text)
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of"
# Never acknowledged.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
        await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="a job whose (first|second) text raises"
# An error is forgotten when the next text is answered.
import asyncio


async def handle(message, store, answer):
    error, job_id = None, message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                try:
                    store.save(job_id, number, await answer(text))
                    error = None
                except Exception as caught:
                    error = caught
    except asyncio.CancelledError:
        await message.back(0)
        raise
    if error is not None and message.deliveries < 3:
        await message.back(1)
        return
    if error is not None:
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a job whose .* text raises"
# Tried for ever.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception:
        await message.back(1)
        return
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a job whose .* text raises"
# Counts the deliveries in the process, which another one does not see.
import asyncio

failures = {}


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        failures[job_id] = failures.get(job_id, 0) + 1
        if failures[job_id] < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a job whose .* text raises"
# Given back without a wait.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(0)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="with which names give_up was called"
# Tells what the error says, and not its class.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, str(error))
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of an erased job"
# An erased job is taken for one that fails.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id)):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="with which names give_up was called"
# An erased job is given up.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    if store.inputs(job_id) is None:
        store.give_up(job_id, "erased")
        await message.ack()
        return
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a worker that is told to stop"
# Told to stop, it leaves the message to time out.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="how handle ends with a worker that is told to stop"
# Told to stop, it gives the message back and goes on.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        return
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="texts that were asked for once too often|texts that were not asked"
# Goes on after as many texts as there are answers.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number >= len(saved):
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a job without texts"
# A job without texts is left as it is.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    if store.inputs(job_id) == []:
        return
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="texts that were not asked for"
# An empty text is no question.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved and text.strip():
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="the numbers of the answers that were saved, with a job with an answer that is empty"
# An empty answer is no answer.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                result = await answer(text)
                if result:
                    store.save(job_id, number, result)
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="texts that were asked for once too often"
# An empty answer that is saved is asked for again.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if not saved.get(number):
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="texts that were asked for once too often"
# Remembers what was saved when it first saw the job.
import asyncio

first_saved = {}


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = first_saved.setdefault(job_id, store.saved(job_id)) or store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="answers that were not saved when the next was asked for"
# Asks for the next text while the last answer waits to be saved.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved, inputs = store.saved(job_id), store.inputs(job_id) or []
        missing = [number for number in range(len(inputs)) if number not in saved]
        tasks = [asyncio.ensure_future(answer(inputs[number])) for number in missing[:1]]
        for place, number in enumerate(missing):
            result = await tasks[place]
            tasks += [asyncio.ensure_future(answer(inputs[each])) for each in missing[place + 1 : place + 2]]
            await asyncio.sleep(0)
            store.save(job_id, number, result)
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="how handle ends with a job whose .* text raises"
# Knows some classes of errors.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except (ValueError, OSError, RuntimeError) as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a job whose .* text raises"
# Given up on the third delivery alone.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries != 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="with which names give_up was called|texts that were not asked for"
# From the fourth delivery on, the job is not tried.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    if message.deliveries > 3:
        store.give_up(job_id, "TooManyDeliveries")
        await message.ack()
        return
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="texts that were asked for once too often"
# Tries a text again at once.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                try:
                    result = await answer(text)
                except Exception:
                    result = await answer(text)
                store.save(job_id, number, result)
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="with which names give_up was called"
# Tells the qualified name of the error's class.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__qualname__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what was done last"
# Acknowledged first, then given up: a kill between the two loses the job.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        await message.ack()
        store.give_up(job_id, type(error).__name__)
        return
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="texts that were not asked for"
# An answer is given to the same text of another job.
import asyncio

answers = {}


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                if text not in answers:
                    answers[text] = await answer(text)
                store.save(job_id, number, answers[text])
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what is in store.inputs"
# Takes the texts out of the store's list.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved, inputs, number = store.saved(job_id), store.inputs(job_id) or [], 0
        while inputs:
            text = inputs.pop(0)
            if number not in saved:
                store.save(job_id, number, await answer(text))
            number += 1
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a worker that is told to stop"
# Does not wait until the message is given back.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        asyncio.ensure_future(message.back(0))
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a worker that is told to stop"
# Told to stop on the third delivery, it gives the job up.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        if message.deliveries < 3:
            await message.back(0)
        else:
            store.give_up(job_id, "CancelledError")
            await message.ack()
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="the worker's process works"
# Waits for what never comes.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        await asyncio.Event().wait()
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="with the same text once more"
# An answer that is saved answers the same text elsewhere, too.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                same = [each for at, each in saved.items() if store.inputs(job_id)[at] == text]
                store.save(job_id, number, same[0] if same else await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="when another worker has saved"
# What is saved is remembered in the worker.
import asyncio

MEMORY = {}


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = MEMORY.setdefault(job_id, store.saved(job_id))
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                saved[number] = await answer(text)
                store.save(job_id, number, saved[number])
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="with which names give_up was called"
# The class of the error's cause is told.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error.__cause__ or error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what was done after handle ended"
# A task is left behind.
import asyncio


async def handle(message, store, answer):
    asyncio.ensure_future(asyncio.sleep(5))
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="an answer that takes a minute"
# A time limit of its own: an answer that was paid for is thrown away.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await asyncio.wait_for(answer(text), 5))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="how long handle takes to end, with a worker that is told to stop"
# A moment of grace before the message is given back.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="with which names give_up was called for .* given up on delivery 3"
# What was given up once is acknowledged untried, in this process.
import asyncio

given_up = set()


async def handle(message, store, answer):
    job_id = message.job_id
    if job_id in given_up:
        await message.ack()
        return
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
        given_up.add(job_id)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what was done after handle ended"
# A thread that watches goes on.
import asyncio
import threading


async def handle(message, store, answer):
    job_id = message.job_id
    threading.Thread(target=threading.Event().wait, args=(20,), daemon=True).start()
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what was done after handle ended"
# A timer that watches is not taken back.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    asyncio.get_running_loop().call_later(20, print, job_id)
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a job whose .* text raises"
# The wait that a busy model asks for, in place of one second.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(getattr(error, "retry_after", None) or 1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="a worker that is told to stop on delivery 4"
# Told to stop after the third delivery, it loses the job.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        if message.deliveries > 3:
            await message.ack()
        else:
            await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="what became of the message of a worker that is told to stop"
# It waits for back() for a moment only.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await asyncio.wait([asyncio.ensure_future(message.back(0))], timeout=0.1)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% tags=["wrong"] exercise="5.4" outcome="failed" message="on delivery 1000"
# The tenth delivery is given up untried.
import asyncio


async def handle(message, store, answer):
    job_id = message.job_id
    try:
        if message.deliveries >= 10:
            raise RuntimeError("too often")
        saved = store.saved(job_id)
        for number, text in enumerate(store.inputs(job_id) or []):
            if number not in saved:
                store.save(job_id, number, await answer(text))
    except asyncio.CancelledError:
        await message.back(0)
        raise
    except Exception as error:
        if message.deliveries < 3:
            await message.back(1)
            return
        store.give_up(job_id, type(error).__name__)
    await message.ack()


# %% name="check-5-4" tags=["check"] exercise="5.4"
check("5.4", handle)

# %% name="help-5-4"
# hint("5.4")
# solution("5.4")


# %% [markdown]
# ### Everything dies once
#
# Redis, PostgreSQL and the queue, one after the other, under load: each is killed, and comes back after a while. Five times a second, the
# service is asked a new question and sent a new job. **Predict** for each of the three: which of the two sorts of requests fails, and with
# which status?

# %% name="outages"
OUTAGES = [("redis", 0.6, 1.6), ("database", 2.4, 5.4), ("queue", 6.4, 7.4)]


async def sample(kind, request):
    response = await request
    seen[kind, response.status_code, response.json().get("detail", "answered")] += 1


async def operate():
    for part, down, up in OUTAGES:
        await asyncio.sleep(max(0.0, down - (time.perf_counter() - begun)))
        stack.kill(part)
        try:
            await asyncio.sleep(up - down)
        finally:  # also when the cell is interrupted
            await asyncio.to_thread(stack.start, part)


# %% name="everything-dies"
lm.profile("weather", ttft_p50_ms=20)
begun, seen = time.perf_counter(), collections.Counter()
async with asyncio.TaskGroup() as group:
    group.create_task(operate())
    for _ in tqdm(range(42), desc="asking"):
        group.create_task(sample("questions", client.post("/v1/answers", json={"question": fresh(1)[0]})))
        group.create_task(sample("jobs", new_job(fresh(1))))
        await asyncio.sleep(0.2)
table(
    [
        {"asked": kind, "status": status, "said": said, "times": times}
        for (kind, status, said), times in sorted(seen.items())
    ]
)

# %% [markdown]
# A question needs the model and nothing else, so it is answered through all of it: without Redis from the replica's own memory, without
# PostgreSQL with its history waiting to be written. A job needs the database and the queue. It waits for the database, for up to two seconds,
# and then is told, with a 503 that names the part. Nobody restarted the service: connections come back by themselves, and what waited is
# written. That a part may be missed, and by whom, was decided when the service was designed; a kill only shows whether it is true.
# (A Redis that comes back empty has lost who was erased. So no replica serves again what its memory held before: rather ask the model once
# more than give an answer about somebody who is forgotten.)
#
# ### Deeper: sent twice, and judged
#
# A client that got no reply sends its job again, and with the same **`Idempotency-Key`** that is one job. The key and the reply are kept
# with the customer they are about. (`/v1/answers/stream` sends an answer while it is written: notebook 03.)

# %% name="sent-twice"
body = {"program": "triage", "inputs": ["Where is my parcel?"]}
key = {"Idempotency-Key": os.urandom(8).hex()}
jobs = [await client.post("/v1/jobs", json=body, headers=key) for _ in range(2)]
print("a job, sent twice, is", len({each.json()["id"] for each in jobs}), "job")
(response,) = await ask(fresh(1))
await asyncio.sleep(0.5)  # an answer is kept behind the reader's back
opinion = {"answer_id": response.json()["id"], "score": 2, "comment": "Too short."}
print("feedback:", (await client.post("/v1/feedback", json=opinion)).json()["status"])
kept = (await client.get("/v1/answers", params={"limit": 1})).json()["answers"]
print("the answer has", kept[0]["score"], "of 5;", kept[0]["comment"])

# %% [markdown]
# ## 4. Security and compliance
#
# A customer writes what they like. **Predict:** in which of these places does the card number of this ticket stand a minute later: the
# history, the log of requests, the spans?

# %% name="personal-data"
LETTER = "My card 4111 1111 1111 1111 was charged twice. Write to ann.marsh@mail.example: how do I get a refund? Ann"
told = (await client.post("/v1/answers", json={"question": LETTER, "customer": "ann"})).json()
await asyncio.sleep(0.5)  # the history is written behind the reader's back
kept = (await client.get("/v1/answers", params={"customer": "ann"})).json()["answers"]
print("answered:", told["answer"][:80])
print("kept:    ", kept[0]["question"])
for path in sorted(stack.config.records_folder.glob("*.jsonl")):
    text = path.read_text()
    print(
        f"{path.name:15} {len(text.splitlines())} lines;",
        {word: word in text for word in ("4111 1111", "ann.marsh")},
    )

# %% [markdown]
# In none. The text is **redacted once, at the door**, before the prompt; so everything behind it, the model's provider too, has the text that
# you see. Her name is still there: a name in running text has no form by which one could know it (notebook 04, part 2, says what the detector
# misses). And there is a price: a program that needs the number cannot have it. An order's number is kept; a card's is never needed.
#
# ### Who did what
#
# An **audit log** answers that question months later, to somebody who does not trust you. A table will not do: whoever can write to the
# database can change it. So each record has a hash over itself *and the hash before it*, made with a key that is not in the database
# (HMAC). Change one record, and its hash no longer fits; mend that, and the next one does not.

# %% name="audit"
await ask(fresh(3))
await asyncio.sleep(0.5)  # the log is written behind the reader's back
entries = (await client.get("/v1/audit", params={"limit": 5})).json()["entries"]
print((await client.post("/v1/audit/verify", json={})).json()["status"])
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
        print(f"{changed[:20]:22}", (await client.post("/v1/audit/verify", json={})).json()["status"])
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
# in the database. (`idempotency_keys` belong to requests that a client may send twice; the deeper cell of part 3 sends one.)


# %% name="export-and-erase"
async def held():
    """Return how many things each place holds of Ann."""
    found = (await client.get("/v1/customers/ann/export")).json()["held"]
    return {kind: len(rows) for kind, rows in found["database"].items()}


print("held:  ", await held())
print("erased:", (await client.delete("/v1/customers/ann")).json()["held"])
print("held:  ", await held())
again = (await client.post("/v1/answers", json={"question": LETTER, "customer": "ann"})).json()
print("asked again, from a cache:", again["cached"])

# %% [markdown]
# ### Deeper: erase a customer yourself
#
# A customer writes to the desk, and asks a month later to be erased (GDPR, article 17). The answer they got is in the database. Its copy is
# in the cache, the request is in a log, the model's call is in a trace, and a job of theirs may still wait. The good habit that makes this
# possible is a **pseudonym**: one table knows which customer it stands for, and everything else has the pseudonym. Here is a small service
# with all of that, with a customer of ours among others.

# %% name="erasable" tags=["needs"]
from course_lib.exercises.deployment import erasable

places, tenant, customer = opened.enter_context(erasable())
print("erase", (tenant, customer))
for query in ("SELECT * FROM subjects", "SELECT * FROM answers LIMIT 3", "SELECT * FROM jobs LIMIT 3"):
    rows = places.database.execute(query)
    print(query, "->", [column.name for column in rows.description], *rows, sep="\n    ")
keys = places.redis.smembers(f"customer:{tenant}/{customer}")
print("cached:", places.redis.mget(keys))
print(*places.log.read_bytes().splitlines()[:6], sep="\n")
print(*places.traces.read_bytes().splitlines()[:6], sep="\n")

# %% [markdown]
# ### Exercise 5.6: erase a customer everywhere (25 minutes, hard)
#
# *Concepts: pseudonym, erasure that can be repeated, order of deletion, whole files.*
#
# Write `erase(places, tenant, customer)`. Afterwards nothing of this customer of this tenant is left, and nothing of anybody else was
# touched: customers of other tenants have the same id, and ids and pseudonyms begin with one another.
#
# - **`places.database`** (psycopg; each statement is a transaction of its own): their rows in `answers` go. Their jobs stay, for a queue
#   holds the ids: whatever its status, a job gets the status `erased`, the inputs `[]`, and no subject. Their row in `subjects` goes.
# - **`places.redis`**: the set `customer:<tenant>/<customer>` names the keys of their cached answers, of which some have expired. Answers and set
#   go.
# - **`places.log`** (a `Path`): lines that are a JSON object whose own field `subject` is their pseudonym go. Pseudonyms are texts, with
#   letters or of digits alone; a `subject` is a text or a number.
# - **`places.traces`** (a `Path`): each trace with a span whose `attributes` have their pseudonym as `subject` goes, with all its spans
#   (same `trace_id`), wherever they stand. Attributes may be missing or null; a span with a subject has a `trace_id`.
#   In both files JSON is nested a few levels at most.
# - Elsewhere, in another field or in a name, the pseudonym may stay: it leads to nobody any more.
# - In both files, all other lines stay byte for byte, also those that are torn or empty, no JSON object or no text. At every moment a file is the
#   old one or the new one, and whole; afterwards no other file is beside it.
# - It returns how many answers, jobs, cached answers (without those that had expired), log lines and spans it erased:
#   `{"answers": 2, "jobs": 3, "cache": 2, "log": 4, "traces": 6}`.
# - Erasing again, or a customer whom nobody knows (an id may be any text without NUL, a tenant's also without `/`), is no error, changes
#   nothing and returns zeros.
# - Servers and disks fail: then the error reaches the caller. Processes are killed, and a new file that is half made then stays beside the old one.
#   Wherever that happened, calling `erase` again is no error and leaves nothing of the customer (but such a file may stay).

# %% name="ex-5-6" tags=["exercise"] exercise="5.6"
import json


def erase(places, tenant, customer):
    ### BEGIN SOLUTION
    ### STUB: ...
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped
    ### END SOLUTION


# %% tags=["right"] exercise="5.6"
# A class; files first, and all rows in one transaction at the end; streams instead of lists.
import contextlib
import json
import tempfile
from pathlib import Path


class Eraser:
    def __init__(self, places, tenant, customer):
        self.places, self.who = places, (tenant, customer)

    def __call__(self):
        with self.places.database.cursor() as cursor:
            cursor.execute("SELECT subject FROM subjects WHERE (tenant, customer) = (%s, %s)", self.who)
            self.subjects = {subject for (subject,) in cursor}
        in_traces = set()
        for _, span in self.read(self.places.traces):
            with contextlib.suppress(KeyError, TypeError):
                if span["attributes"]["subject"] in self.subjects:
                    in_traces.add(span["trace_id"])
        log = self.rewrite(self.places.log, lambda record: record.get("subject") in self.subjects)
        traces = self.rewrite(self.places.traces, lambda span: span.get("trace_id") in in_traces)
        return {"log": log, "traces": traces, "cache": self.forget(), **self.delete_rows()}

    def forget(self):
        tag = "customer:" + "/".join(self.who)
        keys = list(self.places.redis.sscan_iter(tag))
        unlinked = sum(self.places.redis.unlink(key) for key in keys)
        self.places.redis.unlink(tag)
        return unlinked

    def delete_rows(self):
        database, subjects = self.places.database, [list(self.subjects)]
        empty = (
            "UPDATE jobs SET subject = NULL, status = 'erased', inputs = '[]'::jsonb WHERE subject = ANY(%s)"
        )
        with database.transaction():
            jobs = database.execute(empty, subjects).rowcount
            answers = database.execute("DELETE FROM answers WHERE subject = ANY(%s)", subjects).rowcount
            database.execute("DELETE FROM subjects WHERE subject = ANY(%s)", subjects)
        return {"jobs": jobs, "answers": answers}

    def read(self, path):
        with path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line.decode())
                except (UnicodeDecodeError, json.JSONDecodeError):
                    record = {}
                yield line, record if isinstance(record, dict) else {}

    def rewrite(self, path, is_theirs):
        count = 0
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as new:
            for line, record in self.read(path):
                if is_theirs(record):
                    count += 1
                else:
                    new.write(line)
        Path(new.name).replace(path)
        return count


def erase(places, tenant, customer):
    return Eraser(places, tenant, customer)()


# %% tags=["right"] exercise="5.6"
# Async, with one statement for all rows; an answer in Redis goes before the set loses it.
import asyncio
import json
import shutil

ROWS = """
WITH theirs AS (SELECT subject FROM subjects WHERE tenant = %(tenant)s AND customer = %(customer)s),
    a AS (DELETE FROM answers WHERE subject IN (TABLE theirs) RETURNING 1),
    j AS (UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL
          WHERE subject IN (TABLE theirs) RETURNING 1)
SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM j), (SELECT subject FROM theirs)
"""


async def erase(places, tenant, customer):
    named = {"tenant": tenant, "customer": customer}
    answers, jobs, subject = places.database.execute(ROWS, named).fetchone()
    log = traces = cache = 0
    if subject is not None:
        log, traces = await asyncio.gather(
            asyncio.to_thread(cut, places.log, lambda record: [record.get("subject")], subject),
            asyncio.to_thread(cut_traces, places.traces, subject),
        )
    tag = f"customer:{tenant}/{customer}"
    while key := places.redis.srandmember(tag):
        cache += places.redis.delete(key)
        places.redis.srem(tag, key)
    places.database.execute(
        "DELETE FROM subjects WHERE tenant = %(tenant)s AND customer = %(customer)s", named
    )
    return {"answers": answers, "jobs": jobs, "cache": cache, "log": log, "traces": traces}


def record_of(line):
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return {}


def cut_traces(path, subject):
    spans = [record_of(line) for line in path.read_bytes().split(b"\n")]
    theirs = [
        span["trace_id"] for span in spans if dict(span.get("attributes") or {}).get("subject") == subject
    ]
    return cut(path, lambda span: [span.get("trace_id")], *theirs)


def cut(path, values_of, *theirs):
    every = path.read_bytes().split(b"\n")
    kept = [line for line in every if not {*values_of(record_of(line))} & {*theirs}]
    if len(kept) < len(every):
        beside = path.parent / f".{path.name}"
        beside.write_bytes(b"\n".join(kept))
        shutil.move(beside, path)
    return len(every) - len(kept)


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in subjects after erasing"
# Another tenant's customer of the same id goes too.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE customer = %s ORDER BY tenant DESC"
    found = query(select, [customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in (subjects|answers) after erasing"
# Whoever has an id that begins with this one goes too.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND starts_with(customer, %s) ORDER BY subject"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after erasing"
# A pseudonym is looked for in the text of a line.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and subject in json.dumps(record)),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after erasing"
# The span with the pseudonym goes, and the rest of its trace stays.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: bool(subject) and subject_of(span) == subject),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after erasing"
# One reading: spans that stand before the one with the pseudonym stay.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = set()

    def in_trace(span):
        if subject and subject_of(span) == subject:
            traces.add(span["trace_id"])
        return span.get("trace_id") in traces

    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, in_trace),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="crashed" message="AttributeError|TypeError|KeyError"
# It trips over a span whose attributes are null.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return span.get("attributes", {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="crashed" message="UnicodeDecodeError"
# It trips over a line that is no text.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line.decode())
        except json.JSONDecodeError:
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in cache after erasing"
# The set goes, and the cached answers stay.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in cache after erasing"
# The cached answers go, and the set that names them stays.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(*keys or [tag])

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in cache after"
# Sets are found by a pattern.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    tags = list(places.redis.scan_iter(f"customer:{tenant}/{customer}*"))
    keys = {key for each in tags for key in places.redis.smembers(each)}
    places.redis.delete(tag, *tags, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in jobs after erasing"
# Jobs are deleted, while their ids are still in the queue.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query("DELETE FROM jobs WHERE subject = %s", [subject]).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in jobs after erasing|ForeignKeyViolation"
# Only the jobs that wait are emptied.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = CASE WHEN status = 'queued' THEN '[]' ELSE inputs END, subject = NULL"
            " WHERE subject = %s",
            [subject],
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in jobs after erasing"
# The jobs lose their inputs, and no worker is told.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query("UPDATE jobs SET inputs = '[]', subject = NULL WHERE subject = %s", [subject]).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in subjects after erasing"
# The customer's own row stays.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    return {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after"
# Lines that are no JSON are thrown away.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            continue
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after"
# Lines are written anew, so that they look otherwise.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(json.dumps(record).encode() + b"\n" if record else line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what erase returned"
# The report counts what was looked at.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped + len(kept)


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="whom nobody knows, is no error"
# It trips over a customer whom nobody knows.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what erasing .* returned|whom nobody knows"
# The customer's id becomes a part of the statement.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = f"SELECT subject FROM subjects WHERE tenant = '{tenant}' AND customer = '{customer}'"
    found = query(select).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="was changed where it stood"
# The file is written where it stands.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    path.write_bytes(b"".join(kept))
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="is gone for a moment"
# The old file goes before the new one is there.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    path.unlink()
    new.rename(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="no other file"
# The old file is kept beside, with all that was to be erased.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    path.with_name(path.name + ".bak").write_bytes(path.read_bytes())
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="after erasing again, after a cut"
# The rows, with the pseudonym, go before the files.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    answers = query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount
    empty = "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s"
    jobs = query(empty, [subject]).rowcount
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return {
        "answers": answers,
        "jobs": jobs,
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
    }


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="after erasing again, after a cut"
# The database first, with the pseudonym: whoever asks again finds nothing.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    found = query(
        "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s", [tenant, customer]
    ).fetchone()
    counts = dict.fromkeys(["answers", "jobs", "cache", "log", "traces"], 0)
    if found is None:
        return counts
    with places.database.transaction():  # the rows at once, and before all else: the mistake
        counts["answers"] = query("DELETE FROM answers WHERE subject = %s", found).rowcount
        update = "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s"
        counts["jobs"] = query(update, found).rowcount
        query("DELETE FROM subjects WHERE subject = %s", found)
    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0
    counts["cache"] = cached
    traces = {
        span["trace_id"]
        for _, span in lines(places.traces)
        if (span.get("attributes") or {}).get("subject") == found[0]
    }
    counts["log"] = drop(places.log, "subject", {found[0]})
    counts["traces"] = drop(places.traces, "trace_id", traces)
    return counts


def lines(path):
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        yield line, found if isinstance(found, dict) else {}


def drop(path, field, values):
    every = list(lines(path))
    kept = [line for line, record in every if record.get(field) not in values]
    path.with_suffix(".new").write_bytes(b"".join(kept))
    path.with_suffix(".new").replace(path)
    return len(every) - len(kept)


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="after erasing again, after a cut"
# The set goes before the answers that it names.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag)
    cached = sum(places.redis.delete(key) for key in keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="how erase ended after a cut"
# A failure is swallowed, and the pseudonym forgotten all the same.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    cached = 0
    try:
        keys = places.redis.smembers(tag)
        cached = places.redis.delete(tag, *keys) - 1 if keys else 0
    except Exception:
        print("Redis is away")

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="after a cut|what erasing"
# What is erased is remembered in this process, and never looked at again.
import json

erased = set()


def erase(places, tenant, customer):
    if (tenant, customer) in erased:
        return dict.fromkeys(["answers", "jobs", "cache", "log", "traces"], 0)
    erased.add((tenant, customer))
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after erasing"
# An object anywhere in a line counts.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(
            places.log, lambda record: bool(subject) and f'"subject": "{subject}"' in json.dumps(record)
        ),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after erasing"
# A span's own field counts as its attribute does.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject", span.get("subject"))


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after erasing"
# A span whose name has the pseudonym takes its trace along.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id")
        for span in records(places.traces)
        if subject and subject in (subject_of(span), span.get("name"))
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what erase returned"
# Answers that had expired are counted.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="is no error"
# The new file must not be there yet, and is tidied away only where the process lives on.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    try:
        with new.open("xb") as file:
            file.writelines(kept)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="after a cut at step"
# Goes on where another process left off, in the half of a file.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    with new.open("ab") as file:
        file.writelines(kept)
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="how erase ended after a cut"
# A file that cannot be replaced is left for another day, and the pseudonym goes.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    try:
        new.replace(path)
    except OSError:
        dropped = 0
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after erasing"
# A number is taken for a pseudonym of digits.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return str((span.get("attributes") or {}).get("subject"))


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="how erase ended after a cut|after erasing again"
# A failure of the disk is passed over.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    try:
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="how erase ended after a cut"
# A failure of the database is passed over in one place.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": 0,
    }
    try:
        counts["jobs"] = query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount
    except Exception:
        counts["jobs"] = 0
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what erasing .*, whom nobody knows, returned"
# Tenants are compared without regard to capitals.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant ILIKE %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what erasing .*, whom nobody knows, returned"
# The spaces around an id do not count.
import json


def erase(places, tenant, customer):
    customer = customer.strip()
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after erasing"
# Any attribute that is the pseudonym counts.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    attributes = span.get("attributes") or {}
    return attributes.get("subject") or attributes.get("customer")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in jobs after erasing"
# Jobs of nobody are emptied where a customer is unknown.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    if not found:
        query("UPDATE jobs SET inputs = '[]' WHERE subject IS NULL")
    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in jobs"
# Jobs that have failed stay as they are.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = CASE status WHEN 'failed' THEN status ELSE 'erased' END, inputs = '[]', subject = NULL WHERE subject = %s",
            [subject],
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="erasing 'a/b'"
# An id with a slash is an error.
import json


def erase(places, tenant, customer):
    if "/" in customer:
        raise ValueError(customer)
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after erasing"
# A line that is no text is read all the same.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line.decode(errors="replace"))
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="a new file at the moment of its renaming"
# The new file takes the old one's place before it is closed.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(b"".join(kept))
        new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in (log|traces).jsonl after"
# A last line without its end is taken for torn.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record) and line.endswith(b"\n"):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in (log|traces).jsonl after"
# Only lines with the letters of the field are read: escapes are another spelling.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line) if b'"subject"' in line or b"trace_id" in line else None
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after"
# Spans are found by the usual spelling, with a space after the colon.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id")
        for line, span in lines(places.traces)
        if subject and b'"attributes": ' in line and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after"
# A trace's id anywhere in a span makes it one of theirs.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: any(trace in str(span) for trace in traces)),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after"
# In the log, too, the attributes are looked at.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(
            places.log,
            lambda record: bool(subject) and subject in (record.get("subject"), subject_of(record)),
        ),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="crashed" message="ForeignKeyViolation"
# Jobs of the usual states.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = places.redis.delete(tag, *keys) - 1 if keys else 0  # in one command; the set is no answer

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s"
            " AND status IN ('queued', 'running', 'done', 'failed', 'put off')",
            [subject],
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what erase returned"
# Cached answers that are empty are not counted.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    cached = sum(map(bool, places.redis.mget(keys))) if keys else 0
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": cached,
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="how erase ended after a cut"
# An error of the disk is swallowed where the traces are replaced.
import json


def record_of(line):
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def drop(path, is_theirs):
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not is_theirs(record_of(line))]
    new = path.with_name("new")
    new.write_bytes(b"".join(kept))
    try:
        new.replace(path)
    except OSError:
        new.unlink()
    return len(lines) - len(kept)


def erase(places, tenant, customer):
    query, counts = places.database.execute, dict.fromkeys(("answers", "jobs", "cache", "log", "traces"), 0)
    found = query(
        "SELECT subject FROM subjects WHERE (tenant, customer) = (%s, %s)", [tenant, customer]
    ).fetchone()
    if not found:
        return counts
    (subject,), tag = found, f"customer:{tenant}/{customer}"
    counts["cache"] = max(places.redis.delete(tag, *places.redis.smembers(tag)) - 1, 0)
    counts["log"] = drop(places.log, lambda record: record.get("subject") == subject)
    spans = [record_of(line) for line in places.traces.read_bytes().splitlines()]
    traces = {span["trace_id"] for span in spans if (span.get("attributes") or {}).get("subject") == subject}
    counts["traces"] = drop(places.traces, lambda span: span.get("trace_id") in traces)
    counts["answers"] = query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount
    empty = "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s"
    counts["jobs"] = query(empty, [subject]).rowcount
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


# %% tags=["wrong"] exercise="5.6" outcome="crashed" message="ForeignKeyViolation"
# Jobs without a status are left: NULL is neither equal nor unequal.
import json


def record_of(line):
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def drop(path, is_theirs):
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not is_theirs(record_of(line))]
    new = path.with_name("new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return len(lines) - len(kept)


def erase(places, tenant, customer):
    query, counts = places.database.execute, dict.fromkeys(("answers", "jobs", "cache", "log", "traces"), 0)
    found = query(
        "SELECT subject FROM subjects WHERE (tenant, customer) = (%s, %s)", [tenant, customer]
    ).fetchone()
    if not found:
        return counts
    (subject,), tag = found, f"customer:{tenant}/{customer}"
    counts["cache"] = max(places.redis.delete(tag, *places.redis.smembers(tag)) - 1, 0)
    counts["log"] = drop(places.log, lambda record: record.get("subject") == subject)
    spans = [record_of(line) for line in places.traces.read_bytes().splitlines()]
    traces = {span["trace_id"] for span in spans if (span.get("attributes") or {}).get("subject") == subject}
    counts["traces"] = drop(places.traces, lambda span: span.get("trace_id") in traces)
    counts["answers"] = query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount
    empty = (
        "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s AND status <> ''"
    )
    counts["jobs"] = query(empty, [subject]).rowcount
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after erasing"
# The last line, torn and of somebody else, gets an end.
import json


def record_of(line):
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def drop(path, is_theirs):
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not is_theirs(record_of(line))]
    new = path.with_name("new")
    new.write_bytes(b"".join(kept).rstrip(b"\n") + b"\n")
    new.replace(path)
    return len(lines) - len(kept)


def erase(places, tenant, customer):
    query, counts = places.database.execute, dict.fromkeys(("answers", "jobs", "cache", "log", "traces"), 0)
    found = query(
        "SELECT subject FROM subjects WHERE (tenant, customer) = (%s, %s)", [tenant, customer]
    ).fetchone()
    if not found:
        return counts
    (subject,), tag = found, f"customer:{tenant}/{customer}"
    counts["cache"] = max(places.redis.delete(tag, *places.redis.smembers(tag)) - 1, 0)
    counts["log"] = drop(places.log, lambda record: record.get("subject") == subject)
    spans = [record_of(line) for line in places.traces.read_bytes().splitlines()]
    traces = {span["trace_id"] for span in spans if (span.get("attributes") or {}).get("subject") == subject}
    counts["traces"] = drop(places.traces, lambda span: span.get("trace_id") in traces)
    counts["answers"] = query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount
    empty = "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s"
    counts["jobs"] = query(empty, [subject]).rowcount
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after erasing"
# Trace ids are compared without case.
import json


def record_of(line):
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def drop(path, is_theirs):
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not is_theirs(record_of(line))]
    new = path.with_name("new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return len(lines) - len(kept)


def erase(places, tenant, customer):
    query, counts = places.database.execute, dict.fromkeys(("answers", "jobs", "cache", "log", "traces"), 0)
    found = query(
        "SELECT subject FROM subjects WHERE (tenant, customer) = (%s, %s)", [tenant, customer]
    ).fetchone()
    if not found:
        return counts
    (subject,), tag = found, f"customer:{tenant}/{customer}"
    counts["cache"] = max(places.redis.delete(tag, *places.redis.smembers(tag)) - 1, 0)
    counts["log"] = drop(places.log, lambda record: record.get("subject") == subject)
    spans = [record_of(line) for line in places.traces.read_bytes().splitlines()]
    traces = {
        span["trace_id"].lower() for span in spans if (span.get("attributes") or {}).get("subject") == subject
    }
    counts["traces"] = drop(places.traces, lambda span: span.get("trace_id", "").lower() in traces)
    counts["answers"] = query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount
    empty = "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s"
    counts["jobs"] = query(empty, [subject]).rowcount
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="who had come back returned"
# Who was erased once is remembered, and not looked for again.
import json


def record_of(line):
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def drop(path, is_theirs):
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not is_theirs(record_of(line))]
    new = path.with_name("new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return len(lines) - len(kept)


erased = set()


def erase(places, tenant, customer):
    query, counts = places.database.execute, dict.fromkeys(("answers", "jobs", "cache", "log", "traces"), 0)
    found = query(
        "SELECT subject FROM subjects WHERE (tenant, customer) = (%s, %s)", [tenant, customer]
    ).fetchone()
    if not found or (tenant, customer) in erased:
        return counts
    (subject,), tag = found, f"customer:{tenant}/{customer}"
    counts["cache"] = max(places.redis.delete(tag, *places.redis.smembers(tag)) - 1, 0)
    counts["log"] = drop(places.log, lambda record: record.get("subject") == subject)
    spans = [record_of(line) for line in places.traces.read_bytes().splitlines()]
    traces = {span["trace_id"] for span in spans if (span.get("attributes") or {}).get("subject") == subject}
    counts["traces"] = drop(places.traces, lambda span: span.get("trace_id") in traces)
    counts["answers"] = query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount
    empty = "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s"
    counts["jobs"] = query(empty, [subject]).rowcount
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    erased.add((tenant, customer))
    return counts


# %% name="check-5-6" tags=["check"] exercise="5.6"
check("5.6", erase)

# %% name="help-5-6"
# hint("5.6")
# solution("5.6")


# %% [markdown]
# ### Deeper: what the auditors ask
#
# Four frameworks come up in every sale. What they ask of *this system* is less than it sounds, and each demand is worth what its test is
# worth: so here is, for each, the control (the library's table also names its test). Much of them is about people and contracts, which no code fulfils;
# that is said, too.

# %% name="compliance"
from course_lib.deployment import DEMANDS

table(
    [
        {
            "asked by": f"{each.regulation} {each.section}",
            "demand": each.demand,
            "here": each.control or f"OUT OF SCOPE: {each.out_of_scope}",
        }
        for each in DEMANDS
    ]
)

# %% [markdown]
# ## 5. Observability
#
# It is three in the morning, and a telephone rings. Whoever is on call asks four questions: *Is it broken? For whom? Since when? Why?*
# **Metrics** answer the first three: numbers that every replica counts, and that Prometheus fetches and keeps. **Traces** and **logs** answer
# the fourth, for one request. And the telephone rings because of an **alert rule**, which is a query with a threshold.
#
# Each replica tells its numbers at `/metrics`, to callers with the role *operate*. Some are counted by the guard, some by the
# `MetricsCollector` of notebook 04, and some say how the replica's parts are at the moment:

# %% name="what-a-replica-tells"
SHOWN = ("service_info", "service_part_ok", "service_requests_total", "dspy_tokens_total", "dspy_cost")
await ask(fresh(4))
told = httpx.get(f"{stack.replicas[0]}/metrics", headers=stack.headers, trust_env=False).text.splitlines()
print(f"{len(told)} lines, among them:", *(line for line in told if line.startswith(SHOWN)), sep="\n")

# %% [markdown]
# No label has a tenant, a customer or a question in it. Every value of a label is a series that Prometheus keeps in memory, so a label must
# have few values; who asked stands in the log.
#
# Now Prometheus and Alertmanager, the real ones. They read the rules and routes that ship with the project (`deploy/`), here once a second
# instead of every 15. What would call somebody is a webhook of this notebook, which notes each call.

# %% name="pager"
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

calls = []  # when, on which path, which alert, firing or resolved


class Pager(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told = [(each["labels"]["alertname"], each["status"]) for each in body["alerts"]]
        calls.extend((time.time(), self.path, *each) for each in told)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Stay silent."""


pager = opened.enter_context(HTTPServer(("127.0.0.1", 0), Pager))
opened.callback(pager.shutdown)
threading.Thread(target=pager.serve_forever, daemon=True).start()

# %% name="prometheus"
from course_lib.deployment import make_token
from course_lib.paths import ROOT
from course_lib.services import has_prometheus, running_alertmanager, running_prometheus

deploy, routes, prometheus = ROOT / "deploy", folder / "oncall" / "alertmanager.yml", None
(routes.parent / "secrets").mkdir(parents=True, exist_ok=True)
(routes.parent / "secrets" / "oncall-token").write_text("the pager's token")
text = (deploy / "alertmanager" / "alertmanager.yml").read_text()
routes.write_text(text.replace("oncall:9095", f"127.0.0.1:{pager.server_port}").replace("1m", "1s"))
oncall.close()  # those of an earlier run of this cell
if has_prometheus():
    alertmanager = oncall.enter_context(running_alertmanager(routes))
    options = {"rules": deploy / "prometheus" / "rules" / "desk.yml", "alertmanager": alertmanager.url}
    token = make_token(stack.config, "lantern", ["operate"])
    prometheus = running_prometheus({"desk": stack.replicas}, token=token, **options)
    oncall.push(prometheus)
    print(f"Prometheus, for a look: {prometheus.url}/graph; Alertmanager: {alertmanager.url}")
else:
    print(
        "Prometheus is not installed. The cells of this part that need it show nothing; the solved notebook has"
    )
    print("what they show. To see it here, install it, then run this cell again:")
    print("apt-get install prometheus prometheus-alertmanager\nbrew install prometheus alertmanager")


# %% [markdown]
# A counter only grows, so the question to ask of it is its **rate**. A duration is counted in buckets; percentiles of two replicas cannot be
# averaged, but their buckets can be added, and `histogram_quantile` reads the percentile from the sum. **Predict:** some questions are new
# and most are asked again. How far apart are p50 and p99?

# %% name="promql"
QUERIES = {
    "replicas that answer": 'sum(up{job="desk"})',
    "requests a second": 'sum(rate(service_requests_total{route="/v1/answers"}[5s]))',
    "p50 in seconds": "histogram_quantile(0.5, sum by (le) (rate(service_request_seconds_bucket[5s])))",
    "p99 in seconds": "histogram_quantile(0.99, sum by (le) (rate(service_request_seconds_bucket[5s])))",
    "tokens a second": "sum(rate(dspy_tokens_total[5s]))",
    "dollars a day": "sum(rate(dspy_cost_dollars_total[5s])) * 86400",
}
familiar = fresh(1)


async def traffic(is_over, within_s=15.0):
    """Ask one question again and again, and new ones now and then, until something is so."""
    give_up_at = time.time() + within_s
    while not is_over() and time.time() < give_up_at:
        await asyncio.gather(ask(familiar * 12), ask(fresh(3)))
        await asyncio.sleep(0.2)


begun_s = time.time()
await traffic(lambda: not prometheus or time.time() - begun_s > 7.5)  # it looks for its targets after five
rows = [{"asked": name, "PromQL": each} for name, each in QUERIES.items()]
for row in rows if prometheus else ():
    row["answer"] = "".join(f"{value:.3g}" for _, value in prometheus.query(row["PromQL"]))
table(rows)

# %% [markdown]
# ### An alert that fires
#
# Now the model goes down, and comes back when the pager has been called for its breaker. **Predict:** how many seconds after the fault is
# that, with rules that are evaluated each second? And is the pager told the cause, the effect, or both?


# %% name="alert-fires"
def called(status):
    """Return when the pager was called for the model's breaker, firing or resolved; nothing yet: an empty list."""
    return [at for at, _, *what in calls if what == ["ModelUnavailable", status]]


marks = {}
if prometheus:
    calls.clear()
    lm.profile("weather", error_rate=1.0)
    marks["model down"] = time.time()
    await traffic(lambda: called("firing"))
    lm.profile("weather", ttft_p50_ms=50)
    marks["model back"] = time.time()
    await traffic(lambda: called("resolved"))
    for at, path, name, status in calls:
        print(f"{at - marks['model down']:5.1f} s  {path}  {name} is {status}")

# %% [markdown]
# The rule `ModelUnavailable` looks at the breakers, which open after five failed calls, so it fires with the next evaluation; and what is
# known goes on being answered. That is a **cause**. The **effect** has a rule too, `ErrorBudgetBurnsFast`. A service that promises 99.9 % has an
# error *budget*: one request in a thousand. A burn rate of 14.4 spends 2 % of a month's budget in an hour; the rule fires when the last
# hour *and* the last five minutes burn so fast. The long window says that it matters, the short one that it is not over. A single
# threshold on the error rate would call somebody for a blip, or sleep through a leak.
#
# Whether both call here is a matter of seconds: this Prometheus has seen less than a minute, so a few failed requests are much of "the last
# hour". In a service that has answered for an hour, a total outage comes to that share, 14.4 times one in a thousand, after 52 of
# the 3,600 seconds.
#
# Every rule says what to do. Each has a test for Prometheus's own tool (`deploy/prometheus/tests`): on the series of its fault it fires
# within two evaluations, and no other rule does.

# %% name="alert-rules"
import yaml

rules = yaml.safe_load((deploy / "prometheus" / "rules" / "desk.yml").read_text())["groups"][0]["rules"]
table(
    [
        {"alert": rule["alert"], **rule["labels"], "what to do": rule["annotations"]["todo"]}
        for rule in rules
        if "alert" in rule
    ]
)

# %% [markdown]
# A *page* wakes somebody; a *ticket* waits until the morning. Each goes to the team that can mend it. Alertmanager keeps quiet about what
# follows from something else: when no replica answers, nobody needs eleven further calls.
#
# **Why** a request was slow or failed, its trace says (notebook 04). Every replica writes its spans to a file, and sends them to a
# collector if `OTEL_EXPORTER_OTLP_ENDPOINT` names one. Here is the last request that failed, or the last one. (`Unanswered` is the error of a
# call that got no answer in all its attempts, or that an open breaker did not let out.)

# %% name="one-trace"
from datetime import datetime

spans = [json.loads(line) for line in (stack.config.records_folder / "spans.jsonl").read_text().splitlines()]
roots = [span for span in spans if span["parent_id"] is None and span["name"].startswith("POST /v1/answers")]
failed = [span for span in roots if span["status"]["status_code"] == "ERROR"]
chosen, depths = (failed or roots)[-1]["context"]["trace_id"], {None: 0}
for span in sorted(spans, key=lambda span: span["start_time"]):
    if span["context"]["trace_id"] == chosen:
        begin, end = (datetime.fromisoformat(span[name]) for name in ("start_time", "end_time"))
        depth = depths[span["context"]["span_id"]] = depths.get(span["parent_id"], 0) + 1
        said = span["status"].get("description") or ""
        print(f"{(end - begin).total_seconds() * 1000:7.1f} ms {'  ' * depth}{span['name']}  {said[:60]}")

# %% [markdown]
# ### Mission control
#
# Numbers mean little until one has seen them move. This view sends a load through the gateway and shows three things over time: what the
# load's own client saw (answers by status, percentiles, jobs that are not done), what each replica says of itself (`/health/ready` and
# `/metrics`: ready or not, cache, and two breakers, one around the model, one around the Redis that counts quotas), and the faults that were
# set. It needs no Prometheus: it asks each replica itself, twice a second.
#
# The cell flies by a script first: the model is down for a second, then Redis is gone for a second. **Predict:** which of the two do
# customers notice, and do refusals end when the model is back?

# %% name="mission-control"
from IPython.display import display

from course_lib.labs import mission_control

FAULTS = [
    (1.6, "model", "down"),
    (2.6, "model", "as before"),
    (3.6, "redis", "kill"),
    (4.6, "redis", "start"),
]
lm.profile("weather", ttft_p50_ms=50)
control = mission_control(stack)
display(control)
await control.run(FAULTS, for_s=5.2)

# %% [markdown]
# Without the model, a new question gets a 503 that says `model_down`, and what somebody has asked before is still answered. Refusals may go
# on for a moment when the model is back: a replica whose **breaker** is open does not ask, until one trial call has shown that the model
# works. Without Redis nobody is refused; some wait a moment, until their replica has given it up. Then every job is waited for: those that
# came meanwhile are tried again after a pause, and none is lost.
#
# Now the buttons are yours: press **Start** (it ends by itself after two minutes). **Stop** undoes every fault, and says what it waits for:
# that parts start again (a minute at most), that breakers close (10 s at most), that the jobs are done (15 s at most). Some questions to try:
#
# - *Kill the worker, start it after ten seconds.* What grows, and do customers who ask questions notice? It goes on growing for some seconds
#   after the start, since a worker loads before it takes jobs; the queue has them ready. Only what the killed one had in hand may wait longer,
#   up to five seconds from the kill: so long its leases on questions to the model stand in Redis (and NATS, unlike RabbitMQ, takes it for alive).
# - *Kill a replica.* How many requests fail, and for how long does it count as not ready?
# - *Let the model be slow, at 30 questions a second.* Which percentile tells of it first?
# - *Let the model be down for ten seconds.* Why does p50 fall, and what would an alert on times alone have said?
# - *Let the model be rate limited.* What does the service say instead of 429, and why?

# %% [markdown]
# ### Exercise 5.5: metrics, and an alert that fires (20 minutes, medium)
#
# *Concepts: rate, errors, duration; bounded labels; a symptom and its window; low traffic.*
#
# First, write `with_metrics(answer, registry)`, where `answer` is an async function of `(route, question, customer)`. It returns an async function
# of these three that does the same, and says so in `registry`, a `CollectorRegistry` of prometheus-client:
#
# | metric | labels | |
# | --- | --- | --- |
# | counter `shop_requests_total` | `route`, `outcome` | calls that have ended |
# | histogram `shop_request_seconds` | `route` | seconds from call to end, however it ends; one bound is 2 s, the target |
#
# - `route` is `answers` or `jobs`, and `other` for any other text that a caller may send. `outcome` is `ok`, `error` where `answer` raises an
#   `Exception`, or `cancelled` where the call was cancelled, because its caller left.
# - A call returns what `answer` returned, however long that took, and raises the very error that it raised; where it is cancelled, so is
#   `answer`. Many are under way at once.
# - All series are there, with 0, before the first call. Nothing else of a call is in them, be it question, customer or an error's text, and
#   their number does not grow with the calls. Two functions with a registry each count apart.
#
# Then write `alert`, the text of a rule file of Prometheus with one alert; recording rules beside it are welcome. Prometheus scrapes several
# replicas and evaluates the rules every 30 s (no group has another `interval`). Shares are of the requests to all replicas and routes together.
#
# - It fires within 10 minutes where more than 20 % of the requests of every minute end in `error`, from 60 requests a minute on: as one
#   alert, whose labels do not change, without a pause as long as that lasts; and no more 15 minutes after that ended.
# - It does not fire where 1 % of the requests or fewer end in `error`; nor, at even traffic, for one minute in which all do; nor at night, with
#   a request a minute or fewer, whatever they end in; nor for slow answers, when the requests or the metrics end, or where there are none (other
#   alerts watch for that).
# - Replicas are restarted, and now and then two scrapes in a row fail. That changes nothing of this.
# - It has the label `severity` with `page`, and an annotation `summary`.
#
# The check evaluates your alert with `promtool`, which comes with Prometheus (`apt-get install prometheus`, `brew install prometheus`); where it
# is missing, the card says so.


# %% name="ex-5-5" tags=["exercise"] exercise="5.5"
### BEGIN SOLUTION
### STUB: def with_metrics(answer, registry):
### STUB:     ...
### STUB:
### STUB:
### STUB: alert = ...
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""
### END SOLUTION


# %% tags=["right"] exercise="5.5"
# A decorator around try, except, else; a context manager takes the time. The share of ten minutes, no `for`.
import asyncio
import functools

from prometheus_client import Counter, Histogram

ROUTES = ("answers", "jobs")


def with_metrics(answer, registry):
    requests = Counter("shop_requests_total", "Calls.", ("route", "outcome"), registry=registry)
    times = Histogram(
        "shop_request_seconds", "Seconds.", ("route",), registry=registry, buckets=(0.25, 1, 2, 8)
    )
    for route in (*ROUTES, "other"):
        times.labels(route=route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route=route, outcome=outcome)

    @functools.wraps(answer)
    async def wrapped(route, *args, **kwargs):
        label = route if route in ROUTES else "other"
        with times.labels(route=label).time():
            try:
                result = await answer(route, *args, **kwargs)
            except asyncio.CancelledError:
                requests.labels(route=label, outcome="cancelled").inc()
                raise
            except Exception:
                requests.labels(route=label, outcome="error").inc()
                raise
            else:
                requests.labels(route=label, outcome="ok").inc()
                return result

    return wrapped


alert = """
groups:
- name: shop
  rules:
  - alert: TooManyErrors
    expr: >
      sum(increase(shop_requests_total{outcome="error"}[10m]))
      > 0.15 * sum(increase(shop_requests_total[10m])) > 30
    labels: {severity: page}
    annotations: {summary: Many requests fail}
"""


# %% tags=["right"] exercise="5.5"
# A collector of its own; recording rules, and a burn rate over two windows.
import asyncio
import time
from collections import Counter

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

ROUTES, OUTCOMES, BOUNDS = ("answers", "jobs", "other"), ("ok", "error", "cancelled"), (0.1, 1.0, 2.0, 10.0)


class Measured:
    def __init__(self, answer, registry):
        self._answer, self._ended, self._times = answer, Counter(), {route: Counter() for route in ROUTES}
        registry.register(self)

    def collect(self):
        calls = CounterMetricFamily("shop_requests", "Calls", labels=["route", "outcome"])
        times = HistogramMetricFamily("shop_request_seconds", "Seconds", labels=["route"])
        for route in ROUTES:
            for outcome in OUTCOMES:
                calls.add_metric([route, outcome], self._ended[route, outcome])
            seen = self._times[route]
            count = sum(self._ended[route, outcome] for outcome in OUTCOMES)
            buckets = [*((str(bound), seen[bound]) for bound in BOUNDS), ("+Inf", count)]
            times.add_metric([route], buckets, seen["sum"])
        yield calls
        yield times

    async def __call__(self, route, question, customer):
        began_s, outcome = time.monotonic(), "ok"
        try:
            return await self._answer(route, question, customer)
        except BaseException as error:
            outcome = "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
            raise
        finally:
            route = route if route in ROUTES else "other"
            self._ended[route, outcome] += 1
            took_s = time.monotonic() - began_s
            self._times[route].update({"sum": took_s} | {bound: 1 for bound in BOUNDS if took_s <= bound})


with_metrics = Measured


SHARE = """sum(rate(shop_requests_total{outcome="error"}[WINDOW])) / sum(rate(shop_requests_total[WINDOW]))"""

alert = f"""
groups:
  - name: recorded
    rules:
      - record: shop:errors:share_10m
        expr: {SHARE.replace("WINDOW", "10m")}
      - record: shop:errors:share_2m
        expr: {SHARE.replace("WINDOW", "2m")}
      - record: shop:requests:rate_10m
        expr: sum(rate(shop_requests_total[10m]))
  - name: alerts
    rules:
      - alert: ErrorBudgetBurns
        expr: shop:errors:share_10m > 0.12 and shop:errors:share_2m > 0.12 and shop:requests:rate_10m > 0.1
        for: 1m
        labels:
          severity: page
        annotations:
          summary: The budget of a month is gone in a day.
          description: Look at the errors by route first.
"""


# %% tags=["right"] exercise="5.5"
# Requests counted in the histogram's own count; one minus the share that ended well.
import asyncio
import time
from contextlib import contextmanager

from prometheus_client import Counter, Histogram


class Metrics:
    def __init__(self, registry):
        self.seconds = Histogram(
            "shop_request_seconds", "s", ["route"], registry=registry, buckets=[0.5, 2, 4]
        )
        self.calls = Counter("shop_requests", "n", ["route", "outcome"], registry=registry)
        self.bad = Counter("shop_errors", "by class", ["kind"], registry=registry)
        for route in "answers", "jobs", "other":
            self.seconds.labels(route)
            for outcome in "ok", "error", "cancelled":
                self.calls.labels(route, outcome)

    @contextmanager
    def of(self, route):
        route = {"answers": "answers", "jobs": "jobs"}.get(route, "other")
        start, outcome = time.time(), "ok"
        try:
            yield
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            outcome = "error"
            self.bad.labels("timeout" if isinstance(error, TimeoutError) else "else").inc()
            raise
        finally:
            self.calls.labels(route, outcome).inc()
            self.seconds.labels(route).observe(time.time() - start)


def with_metrics(answer, registry):
    metrics = Metrics(registry)

    async def do(route, question, customer):
        with metrics.of(route):
            return await answer(route, question, customer)

    return do


alert = """
groups:
  - name: shop
    interval: 30s
    rules:
      - alert: ShopErrors
        expr: |
          (1 - sum(rate(shop_requests_total{outcome!="error"}[4m])) / sum(rate(shop_request_seconds_count[4m])) > 0.08)
          and on() (sum(increase(shop_requests_total{outcome="error"}[10m])) > 20)
        for: 330s
        labels: {severity: page, team: shop}
        annotations: {summary: "{{ printf \\"%.2f\\" $value }} of all"}
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="how a call whose answer ends with error ends"
# An error is swallowed, and None returned.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except Exception:
            return None
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="how a call whose answer ends with cancelled ends"
# A cancelled call returns.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="intervals of groups"
# Evaluated once an hour.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    interval: 1h
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="with which answer was called|with what answer was called"
# Tries again after an error.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            try:
                result = await answer(route, question, customer)
            except Exception:
                result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="how a call whose answer ends with ok ends"
# The target as a time limit.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await asyncio.wait_for(answer(route, question, customer), 2)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="shop_requests_total, "
# Cancelled counts as an error.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "error"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="shop_requests_total, "
# A time limit that ran out counts as cancelled.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except (asyncio.CancelledError, TimeoutError):
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="while a call is under way"
# Counted when it begins.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        requests.labels(known, "ok").inc()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="names of the labels of shop_requests_total, before the first call|before the first call|names of the labels"
# The series come with the first call.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="bounds of shop_request_seconds"
# The default bounds, without one at 2 s.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram("shop_request_seconds", "From call to end", ["route"], registry=registry)
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="shop_requests_total, after"
# The outcome is that of all calls under way.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    state = {}

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        state["outcome"], began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            state["outcome"] = "ok"
            return result
        except asyncio.CancelledError:
            state["outcome"] = "cancelled"
            raise
        finally:
            requests.labels(known, state["outcome"]).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="shop_request_seconds_count, |sum of shop_request_seconds"
# Only the time of what went well.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            if outcome == "ok":
                seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="sum of shop_request_seconds"
# One clock for all calls.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    clock = {}

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, clock["began_s"] = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - clock["began_s"])

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="calls under way at once"
# Three calls at once, and no more.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)
    limit = asyncio.Semaphore(3)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            async with limit:
                result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="calls in the bucket of 2 s"
# A histogram of its own, which fills no bucket.
import asyncio
import time
from collections import Counter

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

ROUTES, OUTCOMES, BOUNDS = ("answers", "jobs", "other"), ("ok", "error", "cancelled"), (0.1, 1.0, 2.0, 10.0)


class Measured:
    def __init__(self, answer, registry):
        self._answer, self._ended, self._sum = answer, Counter(), Counter()
        registry.register(self)

    def collect(self):
        calls = CounterMetricFamily("shop_requests", "Calls", labels=["route", "outcome"])
        times = HistogramMetricFamily("shop_request_seconds", "Seconds", labels=["route"])
        for route in ROUTES:
            for outcome in OUTCOMES:
                calls.add_metric([route, outcome], self._ended[route, outcome])
            count = sum(self._ended[route, outcome] for outcome in OUTCOMES)
            buckets = [*((str(bound), 0) for bound in BOUNDS), ("+Inf", count)]
            times.add_metric([route], buckets, self._sum[route])
        yield calls
        yield times

    async def __call__(self, route, question, customer):
        began_s, outcome = time.monotonic(), "ok"
        try:
            return await self._answer(route, question, customer)
        except BaseException as error:
            outcome = "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
            raise
        finally:
            route = route if route in ROUTES else "other"
            self._ended[route, outcome] += 1
            self._sum[route] += time.monotonic() - began_s


with_metrics = Measured


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="shop_requests_total, "
# A pattern whose $ lets a line break follow.
import asyncio
import re
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if re.match("(answers|jobs)$", route) else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="what answer does after"
# A shield: the caller leaves, and the answer goes on and is paid for.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await asyncio.shield(answer(route, question, customer))
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="in the metrics"
# Exemplars with customer and question, which OpenMetrics shows.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc(exemplar={"customer": customer})
            seconds.labels(known).observe(time.perf_counter() - began_s, {"question": question})

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="in the metrics"
# How the last question begins.
import asyncio
import time

from prometheus_client import Counter, Histogram, Info


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)
    last = Info("shop_last", "The last question", registry=registry)
    last.info({"question": ""})

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            last.info({"question": question[:12]})
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="number of samples"
# A second metric by the length of the question.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)
    sizes = Counter("shop_question_sizes", "By length", ["characters"], registry=registry)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            sizes.labels(len(question)).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="names of the labels"
# Metrics in a registry that nobody scrapes.
import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Histogram


def with_metrics(answer, registry):
    registry = CollectorRegistry()
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="before the first call"
# The metrics of the first registry serve all that follow.
import asyncio
import time

from prometheus_client import Counter, Histogram

made = {}


def with_metrics(answer, registry):
    if made:
        registry.register(made["requests"])
        registry.register(made["seconds"])
    requests = made.get("requests") or Counter(
        "shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry
    )
    seconds = made.get("seconds") or Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    made.update(requests=requests, seconds=seconds)
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="what promtool check rules says"
# No rule file.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="the label severity"
# Nobody is called: another severity.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: warning
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="the annotation summary"
# No summary.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          description: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="number of alerts in the rule file"
# Two alerts.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: NoMetrics
        expr: absent(shop_requests_total)
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="when the alert fires: 21 %"
# More than 22 %, where 20 % are enough.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.22
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="when the alert fires: all of the route jobs"
# One route speaks for all.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error",route="answers"}[2m])) / sum(rate(shop_requests_total{route="answers"}[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="alerts at each evaluation|when the alert fires"
# The sum first: the restart of one replica looks like a burst.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          (rate(sum(shop_requests_total{outcome="error"})[2m:])) / (rate(sum(shop_requests_total)[2m:])) > 0.1
          and (rate(sum(shop_requests_total)[2m:])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="when the alert fires"
# A number of errors, not a share.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) > 0.1
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="at night, and all fail"
# No least traffic.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="60 requests a minute end in an error"
# A least traffic that a quiet day does not reach.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="alerts with other labels"
# The share is a label: a new alert at each evaluation.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[10m])) / sum(rate(shop_requests_total[10m])) > 0.12
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 0m
        labels:
          severity: page
          share: "{{ $value }}"
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="all in one half of the minute"
# The last two scrapes alone.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(irate(shop_requests_total{outcome="error"}[5m])) / sum(irate(shop_requests_total[5m])) > 0.1
          and sum(irate(shop_requests_total[5m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="for an hour"
# What went on for long is no news.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          (sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2)
          unless sum(rate(shop_requests_total{outcome="error"}[2m] offset 25m)) / sum(rate(shop_requests_total[2m] offset 25m)) > 0.1
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="last in a minute from"
# A window of an hour with a low threshold: the end is not seen.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[1h])) / sum(rate(shop_requests_total[1h])) > 0.03
          and sum(rate(shop_requests_total[1h])) > 0.2
        for: 0m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="two scrapes in a row"
# A window of three scrapes: where two fail, the wait begins again.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[90s])) / sum(rate(shop_requests_total[90s])) > 0.1
          and sum(rate(shop_requests_total[90s])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="alerts at each evaluation"
# Shares of each replica, not of all.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum by (instance) (rate(shop_requests_total{outcome="error"}[2m])) / sum by (instance) (rate(shop_requests_total[2m])) > 0.1
          and sum by (instance) (rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="when the alert fires: most of other"
# Unknown routes are left out.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error",route!="other"}[2m])) / sum(rate(shop_requests_total{route!="other"}[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="97 % are cancelled"
# Errors for each good answer, not for each request.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total{outcome="ok"}[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="all take 3 seconds"
# Slow answers, too.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          (sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2)
          or histogram_quantile(0.99, sum by (le) (rate(shop_request_seconds_bucket[2m]))) > 2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="no (request|metrics) after minute"
# No requests, too.
import asyncio
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          (sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2)
          or ((sum(rate(shop_requests_total[2m])) or vector(0)) == 0 and on() sum(rate(shop_requests_total[10m] offset 10m)) > 0.2)
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="with what answer was called|how a call whose answer ends with"
# A question that was answered is answered from memory.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    kept = {}

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = kept[question] if question in kept else await answer(route, question, customer)
            kept[question] = result
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="with what answer was called"
# Where the connection broke answer is called again.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            try:
                result = await answer(route, question, customer)
            except ConnectionError:
                result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="with what answer was called"
# A customer without a name is given one.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer or "nobody")
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="after calls of which one took"
# An answer that took more than two seconds counts as an error.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok" if time.perf_counter() - began_s < 2 else "error"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="number of samples after"
# Each class of error is a series.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    kinds = Counter("shop_errors", "Errors", ["kind"], registry=registry)
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            kinds.labels(type(error).__name__).inc()
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="20 each"
# The busiest replica must have some traffic, not all together.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and max(sum by (instance) (rate(shop_requests_total[2m]))) > 0.4
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="sum of shop_request_seconds, after calls of which one took"
# A time above the target is observed as the target.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(min(2, time.perf_counter() - began_s))

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="shop_requests_total, "
# A group of exceptions counts as cancelled.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except (asyncio.CancelledError, BaseExceptionGroup):
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="few of them of answers|when the alert fires: all of the route jobs"
# The least traffic is asked of one route.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total{route="answers"}[2m])) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="over six replicas"
# The least traffic is asked of the replicas' mean.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and avg(sum by (instance) (rate(shop_requests_total[2m]))) > 0.2
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% tags=["wrong"] exercise="5.5" outcome="failed" message="to the end"
# After an hour the alert is taken for known.
import time

from prometheus_client import Counter, Histogram


def with_metrics(answer, registry):
    requests = Counter("shop_requests", "Calls that have ended", ["route", "outcome"], registry=registry)
    seconds = Histogram(
        "shop_request_seconds",
        "From call to end",
        ["route"],
        buckets=(0.1, 0.5, 1, 2, 5, 10),
        registry=registry,
    )
    for route in ("answers", "jobs", "other"):
        seconds.labels(route)
        for outcome in ("ok", "error", "cancelled"):
            requests.labels(route, outcome)

    async def call(route, question, customer):
        known = route if route in ("answers", "jobs") else "other"
        outcome, began_s = "error", time.perf_counter()
        try:
            result = await answer(route, question, customer)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            requests.labels(known, outcome).inc()
            seconds.labels(known).observe(time.perf_counter() - began_s)

    return call


alert = """
groups:
  - name: shop
    rules:
      - alert: ShopErrors
        expr: |
          sum(rate(shop_requests_total{outcome="error"}[2m])) / sum(rate(shop_requests_total[2m])) > 0.1
          and sum(rate(shop_requests_total[2m])) > 0.2
          unless sum(rate(shop_requests_total{outcome="error"}[2m] offset 1h)) > 0.1
        for: 5m
        labels:
          severity: page
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests end in an error"
"""


# %% name="check-5-5" tags=["check"] exercise="5.5"
check("5.5", with_metrics, alert)

# %% name="help-5-5"
# hint("5.5")
# solution("5.5")

# %% [markdown]
# ### Deeper: a dashboard in code, and the log
#
# A dashboard that was drawn by hand is lost with its server, and nobody sees what was changed. This one is a table of panels in
# `course_lib/deployment/dashboards.py`, from which Grafana's JSON is built; a test holds that the two agree and that every expression is
# PromQL. (No package brings Grafana itself: `deploy/compose.yaml` starts it.)

# %% name="dashboard"
board = json.loads((deploy / "grafana" / "dashboards" / "desk.json").read_text())
for panel in board["panels"]:
    is_row = panel["type"] == "row"
    print(panel["title"] if is_row else f"    {panel['title']:<28}{panel['targets'][0]['expr'][:80]}")

# %% [markdown]
# And the log: a line of JSON for each request, in the names of the Elastic schema, so that a shipper (`deploy/logs/filebeat.yml`) has nothing
# to rename. It has what metrics must not have, the tenant (`organization.id`) and the pseudonym of a customer (`user.id`), and no word of
# what was asked. Here is the line of a request for the customer Bob:

# %% name="one-line"
response = await client.post("/v1/answers", json={"question": fresh(1)[0], "customer": "bob"})
await asyncio.sleep(0.5)  # the log is written behind the reader's back
written = map(json.loads, (stack.config.records_folder / "requests.jsonl").read_text().splitlines())
asked_by_bob = [each for each in written if each["http.request.id"] == response.headers["X-Request-Id"]]
print(json.dumps(asked_by_bob, indent=1))

# %% [markdown]
# ## 6. Releases
#
# What ran here is a folder on your machine. A release is something that cannot change any more: an **image** with the code, **manifests** that
# say how it runs, and a **version of each program**. All three are files in `deploy/`, so they can be read, compared and checked before
# anything is started; nothing in this part needs Docker or a cluster.
#
# An image is copied to every machine and kept for years. So it must not hold a secret (each layer can be read by whoever has the image), not
# run as root, and not be another image tomorrow under the same name. A linter knows the usual mistakes:

# %% name="an-image"
import subprocess
import sys

from course_lib.paths import ROOT

careless = """FROM python:latest
ENV OPENAI_API_KEY=sk-live-1234
RUN cd /srv && pip install dspy
COPY . .
USER root
CMD python -m service
"""


def judged(text):
    program = Path(sys.executable).with_name("hadolint")
    told = subprocess.run([program, "--no-color", "-"], input=text, capture_output=True, text=True).stdout
    return [line.removeprefix("-:") for line in told.splitlines()]


print("careless:", *judged(careless), sep="\n  ")
print("ours:", *judged((ROOT / "deploy/image/Dockerfile").read_text()) or ["nothing to say"], sep="\n  ")

# %% [markdown]
# The worst line is the second: the key stays in that layer for good, even if a later line deletes it. Ours holds no setting of a deployment
# at all. They come when it starts: settings as variables, secrets as files (`course replica --secrets /run/secrets`).
#
# ### Manifests
#
# Kubernetes is told what should be, and sees to it. **Kustomize** makes that text from a base, which is the same everywhere, and an *overlay*
# for each place. What would be applied in production?

# %% name="manifests"
import yaml


def render(overlay):
    folder = ROOT / "deploy/kubernetes/overlays" / overlay
    told = subprocess.run(
        [Path(sys.executable).with_name("kubectl"), "kustomize", folder], capture_output=True, check=True
    )
    return list(yaml.safe_load_all(told.stdout))


production = render("production")
print(yaml.safe_dump(next(each for each in production if each["kind"] == "HorizontalPodAutoscaler")))

# %% [markdown]
# This one says how many replicas there are. A replica waits for its model most of the time, so its processor says little about how busy it
# is: what is counted is the requests in flight, a metric of the service's own. And all of it:

# %% name="what-for"
purposes = {
    "Namespace": "refuses every pod that could harm its machine",
    "ServiceAccount": "who the pods are to the cluster: they hold no token",
    "ConfigMap": "settings or programs; a change has a new name",
    "Service": "one address for all replicas that are ready",
    "Deployment": "so many pods of one image, exchanged one by one",
    "PodDisruptionBudget": "how many may be away while machines are emptied",
    "HorizontalPodAutoscaler": "more replicas when more requests are in flight",
    "HTTPRoute": "which version gets which share: 9 to 1 for the canary",
    "NetworkPolicy": "who may talk to whom; all else is closed",
}
table(
    [
        {"what": each["kind"], "name": each["metadata"]["name"], "for": purposes[each["kind"]]}
        for each in production
    ]
)

# %% [markdown]
# The canary is the same Deployment once more, with the next version of the programs and one replica. To roll it back is to set a weight to 0.
#
# A cluster ignores what it does not know, or refuses it in the middle of the night. So each resource is held against the schemas of the
# cluster's version before it gets there, *strictly*: a field that does not exist is an error. **Predict:** which of these three mistakes
# would you have seen in a review?

# %% name="validated"
import copy

import kubernetes_validate

desk_pods = next(each for each in production if each["kind"] == "Deployment")


def told_of(value, *path):
    """Return what validation says of the Deployment with one value changed."""
    place = changed = copy.deepcopy(desk_pods)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    try:
        return kubernetes_validate.validate(changed, "1.34", strict=True)
    except kubernetes_validate.ValidationError as refusal:
        return refusal.message


box = "spec", "template", "spec", "containers", 0
print('replicas: "two"     ', told_of("two", "spec", "replicas"))
print("livenessprobe       ", told_of({}, *box, "livenessprobe"))
print('periodSeconds: "2s" ', told_of("2s", *box, "readinessProbe", "periodSeconds"))

# %% [markdown]
# The second is the worst: the API of a cluster only warns of it, and that pod would have had no liveness probe. And what is
# shipped? (The route is an extension of Kubernetes, whose schemas do not know it; the tests have its own.)

# %% name="valid"
checkable = [each for each in production if each["kind"] != "HTTPRoute"]
versions = {kubernetes_validate.validate(each, "1.34", strict=True) for each in checkable}
print(len(checkable), "resources are as Kubernetes", *versions, "wants them")

# %% [markdown]
# Valid is not yet safe: `privileged: true` is perfectly valid. A second tool, **checkov**, holds manifests against policies (no root, a
# read-only file system, limits, no token, named versions); in the project's tests it passes both overlays and refuses six planted mistakes
# (`make linters`, then `pytest tests/deploy`).
#
# ### Deeper: what each number is for
#
# Numbers in manifests are copied from project to project until nobody knows why. Each of ours has a reason in the code, and the tests read
# both, so that they cannot part:

# %% name="numbers"
pod = desk_pods["spec"]["template"]["spec"]
desk_box = pod["containers"][0]
probes = [desk_box[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")]
drained = next(each["data"] for each in production if each["metadata"]["name"].startswith("desk-settings"))
grace = f"{pod['terminationGracePeriodSeconds']} s; it drains for {drained['COURSE_SERVICE_DRAIN_S']}"
rows = {
    "startup probe": (probes[0], "restarted, after two minutes"),
    "liveness probe": (probes[1], "restarted: it hangs"),
    "readiness probe": (probes[2], "gets no requests: it starts, or drains"),
    "pause before SIGTERM": (
        f"{desk_box['lifecycle']['preStop']['sleep']['seconds']} s",
        "sent requests as it ends",
    ),
    "grace period": (grace, "killed while it answers"),
    "memory": (desk_box["resources"]["limits"]["memory"], "one leak takes the machine with it"),
    "read-only files": (str(desk_box["securityContext"]["readOnlyRootFilesystem"]), "what got in can stay"),
}
table([{"what": what, "is": value, "if not": why} for what, (value, why) in rows.items()])

# %% [markdown]
# Liveness asks `/health/live` and never `/health/ready`: a replica that has lost its database would be restarted for it, again and again, and
# with it all others, at the same time.
#
# ### What must say yes before anything is released
#
# A tag in the repository starts a workflow. Some of its jobs are *gates*: what comes after them does not run unless they pass.

# %% name="gates"
workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
for name, job in workflow["jobs"].items():
    steps = [step.get("uses") or step["run"] for step in job.get("steps", [job])[-3:]]
    commands = [line.split(" | ")[0] for each in steps for line in each.splitlines()]
    print(f"{name}, after {job.get('needs', 'nothing')}:", *commands, sep="\n    ")

# %% [markdown]
# The tests hold the code. They say little about a program whose instructions were changed: it runs, and may be worse. For that there is the
# second gate.

# %% [markdown]
# ### Which version is live
#
# Programs are released more often than code: an optimizer finds new instructions, a colleague changes a prompt. "Which version answers,
# what was it made from, and who said that it is good?" A **registry** knows. Ours is one JSON file beside the versions. Each version is
# written once, its file is known by its digest, and it is a *candidate*, the *canary*, *live* or *retired*.
#
# The program that sorts tickets is live in version 1. Two colleagues propose another one: version 3 says what to do when in doubt, and
# version 4 says what each category means, and shows some tickets. (Version 2 was about answers.)

# %% name="meanings"
from course_lib.deployment import Registry, compare, evaluation, scored

MEANINGS = """
- shipping: where a parcel is, delivery times, costs and addresses, late or lost parcels
- returns: sending something back, exchanges, and the refund for it
- billing: charges, invoices, payments, vouchers and gift cards
- account: login, password, e-mail address, personal data
- product: questions about an article: sizes, care, use, stock
- warranty: something broke or is faulty, repairs, spare parts, guarantee"""


def triage_with(instructions, demos=0):
    """Return the program that sorts tickets, with more instructions and so many tickets shown."""
    program = desk.Triage()
    instructions = program.sort.signature.instructions + instructions
    program.sort.signature = program.sort.signature.with_instructions(instructions)
    program.sort.demos = desk.examples("train")[:demos]
    return program


# %% name="register"
registry = Registry(programs)
released = {
    "1": desk.Triage(),
    "3": triage_with("\nChoose warranty if unsure."),
    "4": triage_with(MEANINGS, demos=16),
}
registered = [each.version for each in registry.versions("triage")]
for version, program in released.items():
    if version not in registered:  # a version is written once
        registry.register("triage", program, version, parent=None if version == "1" else "1")
if not registered:
    registry.promote("triage", "1", "the first")
shown = {"version", "stage", "parent", "reason"}
table([each.model_dump(include=shown) for each in registry.versions("triage")])

# %% [markdown]
# ### Released by gut feeling
#
# The colleague of version 3 has tried it on three tickets about warranty, and it was right each time, which version 1 was not. That
# convinced everybody. **Predict:** of 30 tickets, how many do the three versions sort rightly?

# %% name="gut-feeling"
examples, is_right = evaluation("triage")  # the 30 tickets of the set dev
logging.getLogger("dspy").setLevel(logging.ERROR)
tried = [row for row in examples if row.category == "warranty"][:3]
with dspy.context(lm=lm.connect()):
    print("on three: ", {version: sum(scored(released[version], tried, is_right)) for version in ("1", "3")})
    scores = {version: scored(program, examples, is_right) for version, program in released.items()}
print("on thirty:", {version: sum(each) for version, each in scores.items()})

# %% [markdown]
# Three tickets were too few, and they were chosen. But how many are enough? Also of 30 tickets a version that is no better gets some more by
# luck. So look at the *interval* in which the true difference lies, and let a version through only when all of it is above zero. That is a
# **gate**:

# %% name="gate"
for version in ("3", "4"):
    verdict = compare(scores["1"], scores[version])
    print(f"version {version}: {verdict.decision}; {verdict.reason}")
few = compare(scores["1"][:10], scores["4"][:10])
print(f"version 4, on ten tickets: {few.decision}; {few.reason}")

# %% [markdown]
# Both versions were asked the same tickets, so the gate looks at the difference on each ticket: how hard a ticket is drops out. And it has
# three answers. *Undecided* is the honest one when samples are few; it says about how many more it would take.
#
# `course release check triage 4 --folder programs` does the same in a pipeline, with an exit code.
#
# ### Deeper: a gate of your own
#
# The library's gate uses a bound that holds for scores of any shape. Yours may use any sound test of a mean that you know: by drawing
# again, by throwing the signs again, by Student's t. (A test of signs or of ranks does not see how large a loss is.)
#
# ### Exercise 5.7: a gate for few samples (20 minutes, medium)
#
# *Concepts: paired comparison, confidence interval, error rate, power.*
#
# Write `gate(live, candidate)`. Both are lists of scores, 0 to 1, of the same examples in the same order. It returns `"promote"`, `"refuse"`
# or `"undecided"`.
#
# - *Good* means the mean of all scores. A candidate that is only as good as the live version is promoted in at most one comparison of
#   twenty, and refused in at most one of twenty. That holds for scores of 0 and 1 (or False and True) and for fractions, from ten examples to
#   a hundred. (From four to nine, one of ten will do.)
# - One that is worse is promoted more seldom still (one of forty at most): also one that is a little better on most examples, and, in
#   the sample itself, so much worse on a few, wherever they stand, that its mean is lower.
# - Of 40 examples that are right or wrong, a candidate that is 35 points better is promoted, and one that is 35 points worse refused, in at
#   least four comparisons of five.
# - Of 60 examples whose scores lie all over the scale, the same holds for a candidate that is some ten points better, or worse, on each.
# - Three examples or fewer, or none, decide nothing, nor do scores that are all the same for both: `"undecided"`.
# - The lists are left as they were. Use Python and numpy only: scipy is not installed.
#
# The check asks your gate a few thousand times; for a slow gate, or on a busy machine, the card takes up to 40 seconds.

# %% name="given-5-7" tags=["needs"]
import numpy as np


# %% name="ex-5-7" tags=["exercise"] exercise="5.7"
### BEGIN SOLUTION
### STUB: def gate(live, candidate):
### STUB:     """Return "promote", "refuse" or "undecided", by the scores of both on the same examples."""
### STUB:     ...
def gate(live, candidate):
    """Return "promote", "refuse" or "undecided", by the scores of both on the same examples."""
    differences = np.subtract(candidate, live, dtype=float)
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.025)  # and the worst that was not seen
    high = np.quantile(weights @ [*differences, 1.0], 0.975)
    if low > 0:
        return "promote"
    return "refuse" if high < 0 else "undecided"


### END SOLUTION


# %% tags=["right"] exercise="5.7"
# A bootstrap: the differences are drawn again, and the middle 95 % of their means looked at.
def gate(live, candidate):
    differences = np.array(candidate, dtype=float) - np.array(live, dtype=float)
    if len(differences) < 4:
        return "undecided"
    means = np.random.default_rng(3).choice(differences, (1_000, len(differences))).mean(axis=1)
    if np.quantile(means, 0.025) > 0:
        return "promote"
    return "refuse" if np.quantile(means, 0.975) < 0 else "undecided"


# %% tags=["right"] exercise="5.7"
# Student's t of the pairs; where the differences have no spread, five of them are asked for.
import statistics

QUANTILES = {3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def gate(live, candidate):
    differences = [after - before for before, after in zip(live, candidate)]
    count = len(differences)
    if count < 4 or not any(differences):
        return "undecided"
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    if spread < 1e-9 and count < 6:
        return "undecided"
    quantile = QUANTILES.get(count - 1, 1.96 + 2.8 / (count - 1))
    reach = quantile * spread / count**0.5
    return "promote" if mean - reach > 0 else "refuse" if mean + reach < 0 else "undecided"


# %% tags=["right"] exercise="5.7"
# A permutation test: the signs of the differences are thrown again.
class Gate:
    def __init__(self, draws=1_500):
        self.draws = draws

    def __call__(self, live, candidate):
        differences = np.array(candidate, dtype=float) - np.array(live, dtype=float)
        signs = np.random.default_rng(7).choice([-1, 1], size=(self.draws, len(differences)))
        thrown, seen = signs @ differences, differences.sum()
        if (1 + (thrown >= seen - 1e-12).sum()) / (self.draws + 1) < 0.025:
            return "promote"
        is_worse = (1 + (thrown <= seen + 1e-12).sum()) / (self.draws + 1) < 0.025
        return "refuse" if is_worse else "undecided"


gate = Gate()


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="how often it says 'promote'.*as good, 10 examples"
# The higher mean wins.
def gate(live, candidate):
    difference = sum(candidate) - sum(live)
    return "promote" if difference > 0 else "refuse" if difference < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="as good, [68] examples"
# Of fewer than ten, ten points are taken for a difference.
def gate(live, candidate):
    differences = np.subtract(candidate, live, dtype=float)
    if len(differences) < 4:
        return "undecided"
    reach = 2.2 * differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 9 else 0.1
    mean = differences.mean()
    return "promote" if mean > reach else "refuse" if mean < -reach else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="worse in the mean by rare losses"
# The exact sign test: a loss is a loss, however large.
from math import comb


def gate(live, candidate):
    wins = sum(after > before for before, after in zip(live, candidate))
    losses = sum(after < before for before, after in zip(live, candidate))

    if wins + losses < 4:
        return "undecided"

    def by_chance(count):
        tossed = wins + losses
        return sum(comb(tossed, k) for k in range(count, tossed + 1)) / 2**tossed

    if by_chance(wins) <= 0.025:
        return "promote"
    return "refuse" if by_chance(losses) <= 0.025 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="how often it says '(promote|refuse)'"
# The middle 80 % of what chance makes.
def gate(live, candidate):
    differences = np.subtract(candidate, live, dtype=float)
    if len(differences) < 4:
        return "undecided"
    reach = 1.28 * differences.std(ddof=1) / len(differences) ** 0.5
    mean = differences.mean()
    return "promote" if mean > reach else "refuse" if mean < -reach else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="how often it says 'refuse'.*as good"
# What is not promoted is refused.
def gate(live, candidate):
    differences = np.subtract(candidate, live, dtype=float)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.025)
    if len(differences) < 4:
        return "undecided"
    return "promote" if low > 0 else "refuse"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="15 points worse"
# Of a hundred examples, what is not chance is let through, for better or worse.
def gate(live, candidate):
    differences = np.subtract(candidate, live, dtype=float)
    if len(differences) < 4:
        return "undecided"
    reach, mean = 2.1 * differences.std(ddof=1) / len(differences) ** 0.5, differences.mean()
    if abs(mean) <= reach:
        return "undecided"
    return "promote" if mean > 0 or len(differences) >= 100 else "refuse"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="'refuse' of a candidate that is 35 points better"
# Nothing is ever refused.
def gate(live, candidate):
    differences = np.subtract(candidate, live, dtype=float)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.025)
    return "promote" if low > 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="'promote' of a candidate that is 35 points better"
# Never wrong, and never of use.
def gate(live, candidate):
    return "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="'promote' of a candidate that is 35 points better"
# Hoeffding's bound holds for all scores there may be, and is as wide.
def gate(live, candidate):
    differences = np.subtract(candidate, live, dtype=float)
    reach = (2 * np.log(2 / 0.05) / len(differences)) ** 0.5
    mean = differences.mean()
    return "promote" if mean > reach else "refuse" if mean < -reach else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="ten points better"
# Two means, each with an error of its own: the pairs are lost.
def gate(live, candidate):
    first, second = np.array(live, dtype=float), np.array(candidate, dtype=float)
    if len(first) < 4:
        return "undecided"
    reach = 2.1 * ((first.var(ddof=1) + second.var(ddof=1)) / len(first)) ** 0.5
    mean = second.mean() - first.mean()
    return "promote" if mean > reach else "refuse" if mean < -reach else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="ten points better"
# Every score is made right or wrong first.
def gate(live, candidate):
    before, after = [score > 0.5 for score in live], [score > 0.5 for score in candidate]
    differences = np.subtract(after, before, dtype=float)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(differences) + 1), size=2_000)
    if np.quantile(weights @ [*differences, -1.0], 0.025) > 0:
        return "promote"
    return "refuse" if np.quantile(weights @ [*differences, 1.0], 0.975) < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="how often it says"
# The pairs are torn: both lists are put in order first.
def gate(live, candidate):
    differences = np.subtract(sorted(candidate), sorted(live), dtype=float)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(differences) + 1), size=2_000)
    if np.quantile(weights @ [*differences, -1.0], 0.025) > 0:
        return "promote"
    return "refuse" if np.quantile(weights @ [*differences, 1.0], 0.975) < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="gate.*0.1, 0.2, 0.1.*0.9, 0.95, 0.85"
# Student's t, by its table, of three examples, too; only equal differences are waited for.
def gate(live, candidate):
    differences = np.subtract(candidate, live, dtype=float)
    count = len(differences)
    if count < 3 or (count < 6 and np.ptp(differences) < 1e-9):
        return "undecided"
    quantile = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}.get(count, 2.3)
    reach = quantile * differences.std(ddof=1) / count**0.5
    mean = differences.mean()
    return "promote" if mean > reach else "refuse" if mean < -reach else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="the lists are left as they were"
# Decides rightly, and puts what it was given in order where there is much of it.
def gate(live, candidate):
    differences = np.subtract(candidate, live, dtype=float)
    if len(live) > 10:
        live.sort()
        candidate.sort()
    weights = np.random.default_rng(0).dirichlet(np.ones(len(differences) + 1), size=2_000)
    if np.quantile(weights @ [*differences, -1.0], 0.025) > 0:
        return "promote"
    return "refuse" if np.quantile(weights @ [*differences, 1.0], 0.975) < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="gate of the same scores"
# What is right throughout is let through.
def gate(live, candidate):
    if live and min(*live, *candidate) == 1:
        return "promote"
    differences = np.subtract(candidate, live, dtype=float)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(differences) + 1), size=2_000)
    if np.quantile(weights @ [*differences, -1.0], 0.025) > 0:
        return "promote"
    return "refuse" if np.quantile(weights @ [*differences, 1.0], 0.975) < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="gate on [34]0 examples"
# NumPy subtracts no truth values.
def gate(live, candidate):
    differences = np.array(candidate) - np.array(live)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(differences) + 1), size=2_000)
    if np.quantile(weights @ [*differences, -1.0], 0.025) > 0:
        return "promote"
    return "refuse" if np.quantile(weights @ [*differences, 1.0], 0.975) < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="ten points better"
# Fractions are cut to whole numbers.
def gate(live, candidate):
    """Return "promote", "refuse" or "undecided", by the scores of both on the same examples."""
    differences = np.array([int(new) - int(old) for old, new in zip(live, candidate)], dtype=float)
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.025)  # and the worst that was not seen
    high = np.quantile(weights @ [*differences, 1.0], 0.975)
    if low > 0:
        return "promote"
    return "refuse" if high < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="35 points better"
# Booleans decide nothing.
def gate(live, candidate):
    """Return "promote", "refuse" or "undecided", by the scores of both on the same examples."""
    if any(isinstance(score, bool) for score in live):
        return "undecided"
    differences = np.subtract(candidate, live, dtype=float)
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.025)  # and the worst that was not seen
    high = np.quantile(weights @ [*differences, 1.0], 0.975)
    if low > 0:
        return "promote"
    return "refuse" if high < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="how often it (says|decides)|gate.*undecided"
# The bounds leave fifteen percent on each side.
def gate(live, candidate):
    """Return "promote", "refuse" or "undecided", by the scores of both on the same examples."""
    differences = np.subtract(candidate, live, dtype=float)
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.15)  # and the worst that was not seen
    high = np.quantile(weights @ [*differences, 1.0], 0.85)
    if low > 0:
        return "promote"
    return "refuse" if high < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="losses on the last examples"
# The first thirty examples are read.
def gate(live, candidate):
    differences = np.array(candidate[:30], dtype=float) - np.array(live[:30], dtype=float)
    if len(differences) < 4:
        return "undecided"
    means = np.random.default_rng(3).choice(differences, (1_000, len(differences))).mean(axis=1)
    if np.quantile(means, 0.025) > 0:
        return "promote"
    return "refuse" if np.quantile(means, 0.975) < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="but the .* a point worse|losses on the last"
# The first half of a hundred is enough.
def gate(live, candidate):
    """Return "promote", "refuse" or "undecided", by the scores of both on the same examples."""
    differences = np.subtract(candidate, live, dtype=float)[:50]
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.025)  # and the worst that was not seen
    high = np.quantile(weights @ [*differences, 1.0], 0.975)
    if low > 0:
        return "promote"
    return "refuse" if high < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="but the .* last a point worse"
# The last five are left out.
def gate(live, candidate):
    """Return "promote", "refuse" or "undecided", by the scores of both on the same examples."""
    differences = np.subtract(candidate, live, dtype=float)
    differences = differences[:-5] if len(differences) > 20 else differences
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.025)  # and the worst that was not seen
    high = np.quantile(weights @ [*differences, 1.0], 0.975)
    if low > 0:
        return "promote"
    return "refuse" if high < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="but the .* a point worse"
# A tenth at both ends is trimmed as outliers.
def gate(live, candidate):
    """Return "promote", "refuse" or "undecided", by the scores of both on the same examples."""
    differences = np.sort(np.subtract(candidate, live, dtype=float))
    cut = len(differences) // 10
    differences = differences[cut : len(differences) - cut]
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.025)  # and the worst that was not seen
    high = np.quantile(weights @ [*differences, 1.0], 0.975)
    if low > 0:
        return "promote"
    return "refuse" if high < 0 else "undecided"


# %% tags=["wrong"] exercise="5.7" outcome="failed" message="but the .* a point worse"
# A loss counts for half a point at most.
def gate(live, candidate):
    """Return "promote", "refuse" or "undecided", by the scores of both on the same examples."""
    differences = np.clip(np.subtract(candidate, live, dtype=float), -0.5, 0.5)
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(len(differences) + 1), size=2_000)
    low = np.quantile(weights @ [*differences, -1.0], 0.025)  # and the worst that was not seen
    high = np.quantile(weights @ [*differences, 1.0], 0.975)
    if low > 0:
        return "promote"
    return "refuse" if high < 0 else "undecided"


# %% name="check-5-7" tags=["check"] exercise="5.7"
check("5.7", gate)

# %% name="help-5-7"
# hint("5.7")
# solution("5.7")


# %% [markdown]
# ### A canary that goes back by itself
#
# What a gate has seen is a sample of yesterday. So a version that it lets through, or that somebody releases without it, begins as a canary
# with a small share of the requests, and somebody has to watch. A test that is looked at again and again until it says "significant" says so in
# the end, of any version. `Rollout` makes **bets** instead: each answer of the canary is paired with answers of the live version, and one
# bet is on "it is worse". Whoever bets on pure chance wins twenty times the stake in one case of twenty at most, however often they look.
# So when that bet has won twenty times its stake, it was hardly chance, and the canary goes back. The other bet is on "it is not worse by
# what we tolerate".
#
# ```mermaid
# flowchart LR
#     accDescr: A candidate passes the gate, gets a share of the requests, then a larger one, and is promoted or rolled back
#     C[candidate] --> G{gate} -- lets through --> T["canary:<br>small share"] --> Q["larger share"] --> L[live]
#     G -- refuses --> R[retired]
#     T & Q -- worse, failing, slow --> R
#     linkStyle default stroke:#808080
# ```
#
# Both versions get a replica of their own. (The scores here are the labels of the tickets. In production they are a judge's, of answers in
# the service's tables: `stored_scores`. Each tenant has one voice there, and the customers' own feedback does not count, or one tenant could
# decide for all. Nothing is added to a request.)

# %% name="new-replicas"
import random

from course_lib.deployment import Rollout, observing

for version in ("3", "4"):
    if not (programs / "answer" / f"{version}.json").exists():  # a version is one of all programs
        save_program(desk.Answer(), programs, "answer", version)
if "replica-4" not in stack.parts:
    print("started:", await asyncio.to_thread(stack.add, "3", "4"))
customers = desk.examples("test")  # which the gate has not seen


# %% name="customers-ask"
async def sort(row, scores):
    """Let the service sort a ticket; note under the version whether it was right."""
    response = await client.post("/v1/triage", json={"ticket": row.ticket})
    if response.status_code == 200:
        said = response.json()
        scores.setdefault(said["version"], []).append(float(said["category"] == row.category))


# %% [markdown]
# First, what customers see when version 3 is given to all of them, as everybody wanted:

# %% name="given-to-all"
for version in ("1", "3"):
    stack.use({version: 1})
    seen = {}
    await asyncio.gather(*(sort(row, seen) for row in customers))
    print(f"version {version}: {sum(seen[version]):.0f} of {len(customers)} tickets sorted rightly")
stack.use({"1": 1})

# %% name="roll-out"
STEPS = {"steps": (0.2, 0.5), "each": 20}  # the notebook has a minute; smaller shares harm fewer


async def roll_out(version, seed=1):
    """Make a version the canary while customers ask; return the rollout and how many asked."""
    registry.promote("triage", "1", "to begin with")
    if registry.version("triage", version).stage == "retired":  # so to try it again is said, not slipped in
        registry.register("triage", released[version], version, parent="1")
    scores, draw = {"1": [], version: []}, random.Random(seed)
    seen = observing(stack, "triage", scores=lambda version: scores[version])
    rollout = Rollout(registry, "triage", version, use=stack.use, observe=seen, **STEPS)
    with tqdm(desc=f"version {version}", unit=" requests", leave=False) as bar:
        while rollout.step() == "going on":
            await asyncio.gather(*(sort(row, scores) for row in draw.choices(customers, k=50)))
            bar.update(50)
    return rollout, bar.n


# %% [markdown]
# **Predict:** how many customers does version 3 reach before it is taken back?

# %% name="rollouts"
for version in ("3", "4"):
    rollout, of_both = await roll_out(version)
    print(f"version {version}: {rollout.state}; {rollout.reason}, {of_both} of both")
table([each.model_dump(include=shown) for each in registry.versions("triage")])

# %% [markdown]
# How many requests it takes is not fixed before: a rollout ends when one of its bets is won, and the reason says which, and after how many
# of the canary's requests. The state of a rollout is in the registry's file. When the process that watches is killed, the shares stay as
# they are, and the next one goes on where it was. And when a version turns out bad after it was promoted, the one before is a word away:

# %% name="roll-back"
if registry.live("triage").version == "4":
    registry.rollback("triage", "customers complain")
stack.use({registry.live("triage").version: 1})
await sort(customers[0], seen := {})
print("answered by version:", list(seen))
for version in ("1", "4"):
    print(
        f"version {version} is {registry.version('triage', version).stage}: {registry.version('triage', version).reason}"
    )

# %% [markdown]
# ## 7. Scale
#
# How many requests does this hold, how many replicas does a million a day need, and what does an answer cost? A load test tells the first, if
# it is done right. Most testers send the next request when the last one is answered. Such a **closed loop** is polite: when the service
# stalls, it stops asking. Customers do not. In an **open loop** requests come when they come, and the time of each counts from the moment it
# was due. Here the model stalls for less than half a second. **Predict:** which 95th percentile do the two testers report?

# %% name="ask-replica"
options = {"headers": stack.headers, "timeout": 20, "trust_env": False}
direct = await opened.enter_async_context(httpx.AsyncClient(base_url=stack.replicas[0], **options))


async def ask_replica(number):
    """Ask one replica what nobody has asked yet; return the status."""
    return (await direct.post("/v1/answers", json={"question": fresh(1)[0]})).status_code


# %% name="open-and-closed"
from course_lib.deployment import Load, closed_loop, open_loop

# between these seconds; a prompt that the provider has cached waits a fifth of it
STALL = [(0.6, 1.0, {"ttft_p50_ms": 6_000, "ttft_p99_ms": 6_000})]
testers = {
    "closed, 2 users": lambda: closed_loop(ask_replica, users=2, requests=60),
    "open, 40 a second": lambda: open_loop(ask_replica, Load(40, 60)),
}
await ask_replica(0)
for name, tester in tqdm(testers.items(), desc="testing"):
    lm.profile("weather", ttft_p50_ms=50, ttft_p99_ms=150, timeline=STALL)
    lm.reset()  # the stall's seconds count from the first request after this
    outcome = await tester()
    print(f"{name}: p50 {outcome.ms(50):.0f} ms, p95 {outcome.ms(95):.0f} ms, {dict(outcome.statuses)}")

# %% [markdown]
# The closed loop met the stall with two requests, one for each of its users, and a percentile does not see two of sixty. The open loop met
# it with everyone who came meanwhile. (Gil Tene calls what the first does *coordinated omission*.)
#
# ### What a request takes
#
# A test tells of the load that was tried. For others, a **queueing model** needs two measurements: the processor time of a request, which is
# what requests wait in line for, since a replica is one core; and the time that it spends elsewhere, with the model, which costs the others
# nothing. With processor time $c$ and $\lambda$ requests a second the core is busy for the share $\rho = \lambda c$. No replica answers more
# than $1/c$, and since an event loop goes on with another request at each `await`, each takes about $c/(1-\rho)$ of its time there.

# %% name="work-of-a-request"
import psutil

from course_lib.deployment import work_of

process = psutil.Process(stack.parts["replica-1"].pid)
lm.profile("weather", ttft_p50_ms=50, ttft_p99_ms=150)
with watch() as seen:
    work = await work_of(ask_replica, lambda: sum(process.cpu_times()[:2]), requests=40)
model_usd = seen.ledger.cost_usd / seen.ledger.requests
print(f"{1000 * work.work_s:.1f} ms of processor time, so at most {work.most_per_s:.0f} requests a second;")
print(f"{1000 * work.elsewhere_s.mean():.0f} ms elsewhere; ${1000 * model_usd:.2f} of tokens for a thousand")

# %% [markdown]
# From these two, a **discrete-event simulation** plays any load in a moment: each request takes turns on the core, gives it back while its
# model thinks, and one above the limit of calls at once waits, or is refused. The crosses are measured, at low loads. Both 99th
# percentiles come from few requests, the line's from forty and the crosses' from 30: the slowest decide them, so they scatter. The
# simulation gives the replica a core of its own, and each request the average processor time. Here the core is shared with everything else
# that runs, and some requests take more than the average: both lift the crosses above the line.

# %% name="capacity-curve"
import matplotlib.pyplot as plt

from course_lib.deployment import simulate

shares = [0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
curve = [simulate(work, Load(share * work.most_per_s, 1_000)) for share in shares]
tried = []
for share in tqdm(shares[:2], desc="measuring"):
    tried.append(await open_loop(ask_replica, Load(share * work.most_per_s, 30)))
figure, axes = plt.subplots(figsize=(8, 3))
for percent, color in ((50, "tab:blue"), (99, "tab:orange")):
    axes.plot([each.asked_per_s for each in curve], [each.ms(percent) for each in curve], color=color)
    dots = [(each.asked_per_s, each.ms(percent)) for each in tried]
    axes.scatter(*zip(*dots), marker="x", c=color, label=f"p{percent}: simulated (line), measured")
axes.set(xlabel="requests a second", ylabel="ms")
axes.legend()
for each, line in zip(tried, curve):
    ms = [f"{of.ms(50):.0f} and {of.ms(99):.0f} ms" for of in (each, line)]
    print(f"{each.asked_per_s:.0f} a second: measured {ms[0]}, simulated {ms[1]}")
plot(figure, "p50 and p99 over the load, rising steeply at its end; the measured ones are printed above")


# %% [markdown]
# The lines rise slowly for long, and steeply at the end. A service that is well at nine tenths of its load has nothing left for a busy minute.
# (The project's bench, `python -m bench capacity`, compares the two with thousands of requests, and the replica on a core of its own.)
#
# ### A million a day
#
# What the simulation is for: loads that nobody can try here. A day has a peak, here three times its mean. The fewest replicas are sought
# that keep the 99th percentile at the peak, and one more, so that one may be lost. **Assumed, not measured:** a hosted model of 2 s
# (99th percentile 6 s), 30 % of the questions answered from memory, and a machine for a replica at $0.05 an hour.

# %% name="a-million-a-day"
from dataclasses import replace

from course_lib.deployment import log_normal_s, plan

hosted = replace(work, elsewhere_s=log_normal_s(2.0, 6.0), hit_share=0.3, hit_work_s=0.1 * work.work_s)
costs = {"model_usd": model_usd, "machine_usd_per_hour": 0.05, "p99_ms": 8_000}
print(f"the core alone would hold {1 / work.work_s:.0f} a second, the calls at once {hosted.most_per_s:.0f}")
table(
    [
        {
            "requests a day": f"{day:,}",
            "peak a second": f"{made.peak_per_s:.0f}",
            "replicas": made.replicas,
            "p99, one lost": f"{made.p99_ms / 1000:.1f} s",
            "machines, 1,000 answers": f"${made.machine_usd:.4f}",
            "model, 1,000 answers": f"${made.model_usd:.2f}",
        }
        for day in (100_000, 1_000_000, 10_000_000)
        for made in [plan(hosted, day, **costs)]
    ]
)

# %% [markdown]
# Three things to take away. A million a day is few a second: the machines cost cents where the model costs dollars, so the cache and the
# prompt are what to save on. With a slow model it is not the core that limits a replica but its calls at once, which is why Kubernetes
# scales this service (part 6) by requests in flight, and not by processor. And what nobody waits for should not come at the peak: the batch
# path runs at night, on as many machines as one has, with `BatchProcessor` and dask (notebook 02).

# %% [markdown]
# ### When quality falls: optimise again
#
# A program is right about the tickets of its time. Then something changes outside, and nothing in the program's code shows it. Here the shop
# changes who does what: from Monday on the team *returns* answers everything about parcels, and *warranty* everything about the goods;
# *shipping* and *product* get no more tickets. Nobody tells the program, and the 16 tickets that its prompt shows teach the old rule. (The
# tickets are the desk's. Nothing but their labels changes, all by this one rule.)
#
# ```mermaid
# flowchart LR
#     accDescr: Scores of the live version are watched; an alarm starts a search with a budget; the gate and a canary decide
#     W[watch scores] -- alarm --> S["search<br>(a budget)"] --> G{gate} -- better --> C[canary] -- not worse --> L[live]
#     G -- not better --> D[cool down]
#     linkStyle default stroke:#808080
# ```
#
# A part of the unseen tickets is kept for the gate. The others stand for the customers, who have asked nothing yet.

# %% name="teams-change"
from course_lib.deployment import scored

MOVED = {"shipping": "returns", "product": "warranty"}


def under(rule, rows):
    """Return tickets with the team that answers them under a rule."""
    return [row.copy(category=rule.get(row.category, row.category)) for row in rows]


logging.getLogger("dspy").setLevel(logging.ERROR)  # optimizers tell much
labelled, unseen = desk.examples("train"), desk.examples("test")
for_gate, customers_now = desk.examples("dev") + unseen[1::2], unseen[::2]
first = dspy.LabeledFewShot(k=16).compile(desk.Triage(), trainset=labelled)
was, now = (scored(first, under(rule, customers_now), desk.category_match) for rule in ({}, MOVED))
print(f"right of {len(customers_now)}: {sum(was):.0f} under the old rule, {sum(now):.0f} under the new one")

# %% [markdown]
# In production nobody counts twice: scores come one by one, from a judge or from customers, and some are bad by chance. An alarm at each bad
# hour is ignored soon; an alarm after a month is of no use. `Drift` bets against the program, as the rollout does: it wins when a score is
# below a floor that the desk has set (45 % right), and loses when it is above. What it lost is forgotten: it goes on with 1 at least. While the
# program is at its floor or better, such a bet comes to a thousand only after a thousand scores or more, on average. When the program is
# worse, it grows with nearly each score. So a thousand is the alarm. It ends when later scores are so good that the bet is lost again.
#
# **Predict:** of customers under the new rule, how many are answered before it comes?

# %% name="quality-watched"
import random
from functools import partial

from course_lib.debugging import Budget
from course_lib.deployment import AdaptiveOptimizer, Drift, Registry

teams = Registry(Path(tempfile.mkdtemp(dir=folder)))  # a new one for each run of this cell
teams.register("triage", first, "1")
teams.promote("triage", "1")
search = {"num_candidates": 4, "num_trials": 5, "max_labeled_demos": 16}
options = {"budget": Budget(attempts=300), "drift": partial(Drift, 0.45), "cool_down_s": 0, "search": search}
adaptive = AdaptiveOptimizer(teams, "triage", desk.category_match, **options)
draw, seen, alarm = random.Random(1), [], None  # a customer's ticket is one of those, by chance
for now_scored in [was] * 300 + [now] * 700:
    seen.append(draw.choice(now_scored))
    if adaptive.watch(seen[-1:]):
        alarm = len(seen)
        break
told = "then the alarm" if alarm else "no alarm"
print(f"{len(seen[:300])} customers under the old rule, {len(seen[300:])} under the new one, {told}")

# %% [markdown]
# *Deeper:* is the promise kept? Two hundred desks whose program is exactly at the floor, each for 3,000 customers:

# %% name="false-alarms"
lasted = []
for _ in range(200):
    drift = Drift(0.45)
    at_floor = (draw.random() < 0.45 for _ in range(3_000))
    lasted.append(next((number for number, score in enumerate(at_floor, 1) if drift.add(score)), 3_000))
within = sum(number <= 1_000 for number in lasted)
print(
    f"on average {sum(lasted) / 200:,.0f} scores or more to a false alarm; {within} desks had one in the first 1,000"
)

# %% [markdown]
# Now the search: `MIPROv2` on the tickets of last month, which somebody has labelled by the new rule. It begins with the program as it was
# *written*, because instructions and tickets of the live version may be what is wrong. It runs in this process, in production in a nightly
# job, and never in the service: none of the service's modules imports it. And it has a **budget**, of requests, tokens or dollars, that
# holds for all that the search asks. (The gate comes on top: two versions, each on all of its tickets.) The first budget here is meant to
# be too small:

# %% name="searched"
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO


def judged(example, said, trace=None):
    bar.update()
    return desk.category_match(example, said)


lm.reset()
adaptive.metric, bars = judged, StringIO()
for attempts in (20, 300):
    adaptive.budget, before = Budget(attempts=attempts), lm.ledger().requests
    with tqdm(desc="answers judged", leave=False) as bar, redirect_stdout(bars), redirect_stderr(bars):
        found = adaptive.improve(under(MOVED, labelled), under(MOVED, for_gate))
    spent = lm.ledger().requests - before
    what = found.version if found else "nothing"
    print(f"budget of {attempts}: {spent} requests, the gate's included; found: {what}")
notes = [note.model_dump(include={"version", "kind", "reason"}) for note in teams.notes("triage")]
table(notes) if notes else print("without an alarm there is no search")

# %% [markdown]
# A search that its budget stops leaves the best that it had tried until then, if there was anything; the gate decides about that as about any
# other. Each decision is in the registry with its reason, and a refused candidate leaves nothing else. After a refusal there is a time to
# cool down (here none), or a search that finds nothing would be paid for again each night. (Tests of the library hold that two processes
# never search at once, and that after a `kill -9` in the middle the next one begins anew.)
#
# What has it found?

# %% name="what-was-found"
better = teams.load("triage", found.version if found else "1")
shown_tickets = collections.Counter(demo["category"] for demo in better.sort.demos)
print("tickets shown:" if found else "nothing; version 1 shows:", dict(shown_tickets))

# %% [markdown]
# A candidate that the gate lets through is only that. Customers meet it first as a canary, by the same `Rollout` as any other version. (The
# gateway is one line of Python here, `draw.choices`; part 6 has the real one.)

# %% name="found-rolled-out"
from course_lib.deployment import Rollout, Seen, Slo

rates, weights = {"1": now}, {}
if found:
    rates[found.version] = scored(better, under(MOVED, customers_now), desk.category_match)
if found and teams.version("triage", found.version).stage == "candidate":
    given = {version: [] for version in rates}
    watching = {"use": weights.update, "observe": lambda of: Seen(len(given[of]), scores=given[of])}
    rollout = Rollout(teams, "triage", found.version, slo=Slo(tolerated={"score": 0.15}), **watching)
    while rollout.step() == "going on":
        for version in draw.choices(list(weights), list(weights.values()), k=20):
            given[version].append(draw.choice(rates[version]))
    print(f"{rollout.state}: {rollout.reason}")
after = draw.choices(rates[teams.live("triage").version], k=300)
periods = {"before": seen[:300], "until the alarm": seen[300:alarm], "at the end": after}
print({when: f"{sum(each) / len(each):.0%} right" for when, each in periods.items()})
print("watched anew, alarm:", adaptive.watch(after))

# %% [markdown]
# Between the change and the alarm customers were answered by an outdated program, and that is the price of few false alarms. Who knows of a
# change should not wait for the alarm: the people who move the teams are the better signal. And no optimizer knows the new rule by itself.
# It learned it from tickets that somebody labelled, which is where the work is. Some of them are then shown in the requests of every
# tenant, and no erasure reaches a program: `improve` redacts them, and you give it only those whose customers have agreed. The rule here was chosen because it moves many tickets, so
# that the fall is seen: **try** one that moves few, such as `{"account": "billing"}`, or only `labelled[:20]`. The gate may well refuse.

# %% [markdown]
# Last, everything that this notebook opened is ended. (To run an earlier part again after this, begin with the set-up cell.)

# %% name="tidy"
await opened.aclose()
dspy.configure(lm=model)
dspy.configure_cache()

# %% [markdown]
# ## Summary
#
# What you set out to do, and what was measured:
#
# - *Settings:* a profile, checked as a whole; a misspelt name is an error; no secret is shown.
# - *Errors:* a status that says whose fault it is and whether to try again: with the model down 503 within a second, where the plain service
#   said 500 after seven. One form, a stable code, nothing of ours in it.
# - *Gateway:* a dead replica is left out, and few of 100 requests failed while it died; a new version gets a share that is a number in a file.
# - *Shared limits:* counted once for all replicas, by leases: 30 of 60 at most, with Redis and without it.
# - *Workers:* acknowledged late, results written once; a kill cost a few calls beside the 24, and no job.
# - *Audit and erasure:* a chain with a key elsewhere; pseudonyms, so that one can be forgotten everywhere.
# - *Watching:* counted by every replica, kept by Prometheus; an alert within seconds, with what to do in it.
# - *Releases:* a version is written once; a gate before it is released, bets while it is a canary, and a way back.
# - *Scale:* an open loop measures (a 95th percentile of 1.6 s, where a closed one said 0.1 s), a simulation carries it further; quality that
#   falls is noticed, and searched for within a budget.
#
# | phase | question of this notebook |
# | --- | --- |
# | design | Which part may be missed, by whom, and what is said then? |
# | implement | Where does a request end that is wrong, too large, too many, too late? |
# | test | Which part did I kill, under load, and what was lost? |
# | deploy | Which setting would make this unsafe, who refuses it, and what takes a bad release back? |
#
# **Next:** the last section puts the parts of the course together and sends them through a sequence of faults.
