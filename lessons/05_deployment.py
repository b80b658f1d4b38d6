# %% [markdown] name="title"
# # Deployment
#
# Exercises 5.1 and 5.3.

# %% name="setup" tags=["needs"]
import os

from course_lib.exercises import check, hint, solution

print("Ready.")

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


class BadSettings(Exception):  # noqa: N818
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
        own = {name for name in os.environ if name[:5] == "SHOP_"}
        problems = [f"{name}: there is no such setting" for name in own if name[5:].lower() not in READERS]
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
        secrets = [each.get_secret_value() for each in (self.signing_key, self.database_url) if each]
        return f"Settings({self.profile}, {secrets})"

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


# %% tags=["wrong"] exercise="5.1" outcome="failed" message="(the settings|problems) of SHOP_PROFILE=production"
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
# ### Exercise 5.3: one limit for all replicas (20 minutes, hard)
#
# *Concepts: shared state, atomic steps, expiry, degraded mode.*
#
# Write `SharedLimit(url, limit, window_s, replicas)`: `await take(tenant)` returns 0.0 when a request may go on, or else the seconds until
# it is worth asking again. Each replica is a process with an object of its own; `url` is the Redis that they share.
#
# - In `window_s` seconds from its first request on, all replicas together let exactly `limit` requests of a tenant through, one by one or
#   all at once.
# - A refusal tells the seconds until that window is over and requests get through again, and does not put that moment off. Both the
#   window and the wait may have a fraction of a second.
# - A tenant never spends another one's requests, whatever text it is. All keys in Redis begin with `limit:`.
# - When a window is over Redis holds nothing of it. A replica that is killed between two messages to Redis leaves nothing without an end.
# - The clocks of replicas may differ.
# - `take` takes two seconds at most, and raises nothing for Redis' sake. While Redis is down or stands still, each replica lets
#   `limit // replicas` requests of a tenant through in a window, by itself. When Redis is back, the shared limit soon holds again.

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
        return times[0] + self.window_ms / 1e3 - now

    def ask(self, key):
        if self.client is None:
            self.client = redis.Redis.from_url(
                self.url, socket_timeout=0.4, socket_connect_timeout=0.4, retry=None
            )
        with self.client.pipeline(transaction=True) as pipe:
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
                return ends[0] - time.monotonic()
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


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its"
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


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its"
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


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its"
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


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="after .* spent its"
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


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="keys in Redis two seconds after"
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


# %% tags=["wrong"] exercise="5.3" outcome="failed" message="with Redis back for long"
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


# %% name="check-5-3" tags=["check"] exercise="5.3"
check("5.3", SharedLimit)

# %% name="help-5-3"
# hint("5.3")
# solution("5.3")
