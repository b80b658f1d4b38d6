# %% [markdown] name="title"
# # Deployment
#
# Exercises 5.1 and 5.3.

# %% name="setup" tags=["needs"]
import asyncio
import os

from course_lib.exercises import check, hint, solution

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
# | `SHOP_DATABASE_URL` | `database_url`: a `SecretStr`, `postgresql://user:password@host/name?...` | None |
# | `SHOP_SIGNING_KEY` | `signing_key`: a `SecretStr` | None |
# | `SHOP_ORIGINS` | `origins`: a tuple, from words with commas between them | () |
# | `SHOP_DEADLINE_S`, `SHOP_DRAIN_S` | `deadline_s`, `drain_s`: above 0 and finite | 10.0, 15.0 |
#
# - An empty variable counts as one that is not there. Each call reads anew.
# - A value that its field cannot take is a problem, and so is a variable that begins with `SHOP_` and is not in the table.
# - In production these are problems: a signing key that is missing, has fewer than 32 characters, or is `DOCUMENTED`; an origin with `*`
#   in it; a database on another machine (its host is not 127.0.0.1, localhost or ::1) without `sslmode=verify-full` in the query.
# - In development a host other than those three is a problem. In both profiles, a `drain_s` below `deadline_s` is one.
# - With a problem `Settings()` raises `BadSettings`, with a line for each, which names its variable and no other; it may suggest one for a
#   variable that is not in the table. All rules that are broken, and all unknown variables, are told at once. (Where a value cannot be
#   read, that may be told first.)
# - No secret is shown by the settings (`repr`, `str`), nor by the error and its traceback, even if it was put into the wrong variable.

# %% name="given-5-1" tags=["needs"]
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
            if parts.hostname and parts.hostname not in HERE:
                if "sslmode=verify-full" not in parts.query.split("&"):
                    broken.append("SHOP_DATABASE_URL")
        if self.profile == "development" and self.host not in HERE:
            broken.append("SHOP_HOST")
        if self.deadline_s > self.drain_s:
            broken.append("SHOP_DRAIN_S")
        if broken:
            raise ValueError("|".join(broken))
        return self


def Settings():
    fields = {f"SHOP_{name.upper()}" for name in Typed.model_fields}
    problems = [
        f"{name}: unknown" for name in sorted(os.environ) if name.startswith("SHOP_") and name not in fields
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


READERS = {
    "profile": (one_of("development", "production"), "development"),
    "host": (str, "127.0.0.1"),
    "database_url": (SecretStr, None),
    "signing_key": (SecretStr, None),
    "origins": (lambda text: tuple(filter(None, map(str.strip, text.split(",")))), ()),
    "deadline_s": (seconds, 10.0),
    "drain_s": (seconds, 15.0),
}


@dataclass
class Settings:
    def __init__(self):
        problems = []
        for name in os.environ:
            if name.startswith("SHOP_") and name[5:].lower() not in READERS:
                problems.append(name + ": there is no such setting")
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
            "SHOP_DRAIN_S": "_S: cannot" not in unread and self.drain_s < self.deadline_s,
        }
        problems += [f"{name}: not like this" for name, is_broken in rules.items() if is_broken]
        if problems:
            raise BadSettings(problems) from None


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="traceback, of a secret in SHOP_"
# The error of pydantic is carried along, and shows what it was given.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        key = settings.signing_key if settings.signing_key else ""
        if len(key) < 32 or key == DOCUMENTED:
            yield "SHOP_SIGNING_KEY must be 32 random characters or more, and your own"
        if any("*" in origin for origin in settings.origins):
            yield "SHOP_ORIGINS must name each origin, without *"
        url = urlsplit(settings.database_url if settings.database_url else "")
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

    def __repr__(self):
        return (
            f"Settings({[getattr(each, 'get_secret_value', lambda: each)() for each in vars(self).values()]})"
        )

    __str__ = __repr__

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_")

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    database_url: SecretStr | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field()]


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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process, from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True)

    profile: str = "development"
    host: str = "127.0.0.1"
    database_url: SecretStr | None = None
    signing_key: SecretStr | None = None
    origins: Words = ()
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 15.0

    def __init__(self):
        known = [f"SHOP_{field.upper()}" for field in type(self).model_fields]
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="the settings of SHOP_PROFILE=production"
# Production may listen on this machine alone.
def words(text):
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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


def Settings():
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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
        unknown = [name for name in os.environ if name.startswith("SHOP_") and name not in known]
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


# %% name="check-5-1" tags=["check"] exercise="5.1"
check("5.1", Settings)

# %% name="help-5-1"
# hint("5.1")
# solution("5.1")

# %% [markdown]
# ### Exercise 5.2: the right error for every bad input (20 minutes, hard)
#
# *Concepts: problem details, stable codes, what an error must not say.*
#
# Write `desk(answer, deadline_s=1.0)`. It returns an ASGI application, of FastAPI, Starlette or plain, which answers `POST /answers` with
# the body `{"question": "..."}` as JSON: status 200 and `{"answer": ...}` with what `await answer(question)` returns.
#
# | what happens | status | code |
# | --- | --- | --- |
# | the question is no text, has more than 500 characters or only spaces; the body is no JSON object with this one field | 422 | `invalid` |
# | the body is not declared as `application/json` | 415 | `unsupported_media_type` |
# | the body has more than 4,096 bytes, however it is sent; it is not read to its end | 413 | `too_large` |
# | another path; another method | 404; 405 | `not_found`; `method_not_allowed` |
# | `answer` raises `dspy.LMRateLimitError` | 503 | `model_busy` |
# | ... `dspy.LMServerError` or `dspy.LMTransportError` | 503 | `model_down` |
# | ... `dspy.AdapterParseError` | 502 | `bad_answer` |
# | ... `TimeoutError` or `dspy.LMTimeoutError`, or gives no answer within `deadline_s`: then it is cancelled | 504 | `deadline` |
# | ... anything else | 500 | `internal` |
#
# - `answer` is called once for a good question, and not at all for a bad one. Several questions may be under way.
# - A 503 has `Retry-After`: the error's `retry_after` in whole seconds, rounded up, and 1 where it is less or none.
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
### STUB: def desk(answer, deadline_s=1.0):
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


def desk(answer, deadline_s=1.0):
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
    (dspy.LMServerError, 503, "model_down"),
    (dspy.LMTransportError, 503, "model_down"),
    (dspy.LMTimeoutError, 504, "deadline"),
    (TimeoutError, 504, "deadline"),
    (dspy.AdapterParseError, 502, "bad_answer"),
]
STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}


def desk(answer, deadline_s=1.0):
    api = FastAPI(openapi_url=None)

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
        except (ValueError, TypeError, AssertionError, KeyError):
            raise Problem(422, "invalid") from None
        try:
            return {"answer": await asyncio.wait_for(answer(text), deadline_s)}
        except dspy.LMRateLimitError as error:
            raise Problem(503, "model_busy", error.retry_after or 1) from None
        except Exception as error:
            for kind, status, code in TABLE:
                if isinstance(error, kind):
                    raise Problem(status, code, 1 if status == 503 else None) from None
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


class Desk:
    def __init__(self, answer, deadline_s):
        self.answer, self.deadline_s = answer, deadline_s
        self.routes = Starlette(routes=[Route("/answers", self.create, methods=["POST"])])
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
                await asyncio.wait([answering])
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


desk = Desk

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


def desk(answer, deadline_s=1.0):
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


def desk(answer, deadline_s=1.0):
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


def desk(answer, deadline_s=1.0):
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


def desk(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = (await request.json())["question"]
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
            return Refused(503, "model_down", 0)
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


def desk(answer, deadline_s=1.0):
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

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="Content-Type: application/jsonx"
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
    if not media.startswith("application/json"):
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


def desk(answer, deadline_s=1.0):
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
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def desk(answer, deadline_s=1.0):
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

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="a body in 400 chunks"
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
    if int(request.headers.get("content-length", 0)) > LARGEST:
        raise Refused(413, "too_large")
    body = await request.body()
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def desk(answer, deadline_s=1.0):
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

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="how much is read of 400 chunks"
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
    body = await request.body()
    if len(body) > LARGEST:
        raise Refused(413, "too_large")
    try:
        return Question.model_validate_json(body).question
    except ValidationError:
        raise Refused(422, "invalid") from None


def desk(answer, deadline_s=1.0):
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

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="GET /answers"
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


def desk(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
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

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="code of POST /"
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


def desk(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
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


def desk(answer, deadline_s=1.0):
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

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="how often answer is called"
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


def desk(answer, deadline_s=1.0):
    async def respond(request, request_id):
        try:
            if request.url.path != "/answers":
                raise Refused(404, "not_found")
            if request.method != "POST":
                raise Refused(405, "method_not_allowed")
            question = await question_of(request)
            async with asyncio.timeout(deadline_s):
                try:
                    return JSONResponse({"answer": await answer(question)})
                except dspy.LMRateLimitError:
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


def desk(answer, deadline_s=1.0):
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
            return Refused(503, "model_down", 0)
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


def desk(answer, deadline_s=1.0):
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


def desk(answer, deadline_s=1.0):
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
            refused.__context__ = error
        told = {"title": str(refused.__context__ or "refused"), "status": refused.status, "code": refused.code}
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

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="the question in the answer"
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


def desk(answer, deadline_s=1.0):
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
        body = {**told, "request_id": request_id, "detail": locals().get("question")}
        return JSONResponse(body, refused.status, headers, media_type="application/problem+json")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9-]{1,64}", given) else uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="what POST /answers with"
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


def desk(answer, deadline_s=1.0):
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


def desk(answer, deadline_s=1.0):
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


def desk(answer, deadline_s=1.0):
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


def desk(answer, deadline_s=1.0):
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

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="X-Request-Id for"
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


def desk(answer, deadline_s=1.0):
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
        request_id = given or uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="X-Request-Id for"
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


def desk(answer, deadline_s=1.0):
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
        request_id = uuid.uuid4().hex
        response = await respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        await response(scope, receive, send)

    return app

# %% tags=["wrong"] exercise="5.2" outcome="failed" message="status and answer to 8 questions"
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


def desk(answer, deadline_s=1.0):
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

# %% name="check-5-2" tags=["check"] exercise="5.2"
check("5.2", desk)

# %% name="help-5-2"
# hint("5.2")
# solution("5.2")
