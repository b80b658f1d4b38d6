"""Settings of the service: typed, checked as a whole, secrets never shown.

Main path: DeploymentConfig() reads the environment -> each field by its type -> the rules -> ready, or
ConfigError with every problem: which field, which variable, what to set.
Source: pydantic-settings 2.16. Its own errors hold what was read, so none of them gets out of here.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    DirectoryPath,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError
from redis.asyncio.connection import SSLConnection, parse_url

from course_lib.adapters.data.connections import parts_of
from course_lib.errors import CourseError
from course_lib.services import shown
from course_lib.services.web import LOOPBACK

PREFIX = "COURSE_SERVICE_"
PROGRAMS = ("answer", "triage")
Program = Annotated[str, Field(pattern=f"^({'|'.join(PROGRAMS)})$")]
Role = Literal["ask", "operate", "audit", "privacy"]
ROLES: tuple[Role, ...] = get_args(Role)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""Of tenants and keys: they become parts of keys in Redis and of headers."""
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,31}$")]
Roles = Annotated[frozenset[Role], Field(min_length=1)]

_DEFAULTS: dict[str, dict[str, Any]] = {
    "development": {
        "docs": True,
        "requests_per_minute": 6_000,
        "tokens_per_day": 20_000_000,
        "trace_share": 1.0,
    },
    "staging": {"docs": True},
}
_SECRET_CHARS = 32
_RANDOM = (
    f"set it to {_SECRET_CHARS} or more random characters: "
    'python -c "import secrets; print(secrets.token_urlsafe(32))"'
)
_NEEDED = {
    "jwt_secret": f"the key that tokens are signed with; {_RANDOM}",
    "signing_key": f"the key of cache entries, the audit log and pseudonyms; {_RANDOM}",
    "redis_url": "what replicas share limits and answers through; set it to its address",
    "database_url": "where results and the audit log are kept; set it to its address",
    "queue_url": "where jobs wait for workers; set it to its address",
}
_WEAK = ("changeme", "change-me", "change_me", "default", "example", "password", "secret", "insecure")
_USUAL = (*_WEAK, "admin", "guest", "nats", "postgres", "postgresql", "rabbitmq", "redis", "root")
_FORMS = {
    "redis_url": "rediss://:password@host:6379/0",
    "database_url": "postgresql://user:password@host/name?sslmode=verify-full",
    "queue_url": "amqps://user:password@host/ or tls://user:password@host",
    "otlp_endpoint": "https://collector.example",
}
_UNREADABLE = "is no address that its client can read"
_ORIGIN = re.compile(r"https://[\w.-]+(?::\d+)?")
_BYTES_A_CHAR = 4  # of UTF-8, at most


class ConfigError(CourseError):
    """Settings that the service refuses to start with; `problems` has one line for each, without values."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ApiKey(BaseModel):
    """What the service knows of an API key: whose it is, and the digest that it is recognised by."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Name
    tenant: Name
    roles: Roles
    sha256: str = Field(pattern="^[0-9a-f]{64}$", repr=False)


def _split(value: object) -> object:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""With commas between them, in a variable."""
Programs = Annotated[tuple[Program, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]  # nor is NaN


class DeploymentConfig(BaseSettings):
    """All settings of one replica, from the environment or by keyword; the profile says what is allowed."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, populate_by_name=True
    )

    profile: Literal["development", "staging", "production"] = "development"
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65_535)
    """0: any that is free."""
    model: str = Field("sim-large", pattern=r"^\S+$")
    """What COURSE_LM may be."""
    programs: Programs = PROGRAMS
    program_version: Version = "1"
    programs_folder: DirectoryPath | None = None
    redis_url: SecretStr | None = Field(None, validation_alias="REDIS_URL")
    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    queue_url: SecretStr | None = Field(None, validation_alias="AMQP_URL")
    otlp_endpoint: str | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", repr=False)
    jwt_secret: SecretStr | None = None
    signing_key: SecretStr | None = None
    api_keys: tuple[ApiKey, ...] = ()
    requests_per_minute: int = Field(600, ge=1, le=10**9)
    tokens_per_day: int = Field(2_000_000, ge=1, le=10**14)
    max_body_bytes: int = Field(64 * 1024, ge=1_024)
    max_question_chars: int = Field(4_000, ge=1)
    max_batch: int = Field(200, ge=1)
    max_waiting_jobs: int = Field(20, ge=1)
    """Of a tenant, so that its jobs do not take all workers for long."""
    deadline_s: Seconds = 10.0
    gateway_deadline_s: Seconds = 30.0
    drain_s: Seconds = 10.0
    trace_content: bool = False
    trace_share: float = Field(0.1, ge=0, le=1)
    """Of the requests, that have spans; in development all. Metrics and the log have every request."""
    records_folder: DirectoryPath | None = None
    """Where all replicas and workers write a log of requests, and spans; None: nowhere. They share it, since
    an export or an erasure reaches only what is there."""
    retention_days: int = Field(90, ge=0, le=36_500)
    """0: nothing is dropped because it is old."""
    docs: bool = False
    cors_origins: Words = ()

    def __init__(self, **values: Any) -> None:
        known = [variable(field) for field in DeploymentConfig.model_fields]
        names = sorted(name for name in os.environ if name.upper().startswith(PREFIX))
        unknown = [name for name in names if name.upper() not in known]
        problems = [f"{name} is no setting{_nearest(name.upper(), known)}" for name in unknown]
        if files := list(_unreadable(values.get("_secrets_dir"), known)):
            raise ConfigError(problems + files)
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems += map(_read, error.errors(include_input=False, include_url=False))
        except (SettingsError, RecursionError):
            problems.append(_line("api_keys", "is no JSON list of {name, tenant, roles, sha256}"))
        else:
            problems += [_line(field, text) for field, text in _breaches(self)]
        if problems:  # raised here, so that the library's error, which holds what was read, is no context
            raise ConfigError(problems)

    @model_validator(mode="before")
    @classmethod
    def _use_profile(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**_DEFAULTS.get(str(values.get("profile", "development")), {}), **values}

    def shown(self) -> dict[str, str]:
        """Return every setting as text, without secrets: of an address its host, of a key that it is set."""
        return {field: _shown(field, value) for field, value in self}

    def environment(self) -> dict[str, str]:
        """Return the variables that give another process these settings; they hold the secrets."""
        values: dict[str, Any] = {field: _plain(value) for field, value in self if value is not None}
        values["api_keys"] = json.dumps([key.model_dump(mode="json") for key in self.api_keys])
        written = {name: ",".join(each) if isinstance(each, tuple) else each for name, each in values.items()}
        return {variable(name): str(each) for name, each in written.items()}


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _shown(field: str, value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(str(getattr(each, "name", each)) for each in value) or "none"
    if value is not None and field in _FORMS:
        return shown(_plain(value))
    return "not set" if value is None else "set" if isinstance(value, SecretStr) else str(value)


def variable(field: str) -> str:
    """Return the environment variable that sets a field."""
    return str(DeploymentConfig.model_fields[field].validation_alias or PREFIX + field.upper())


# -- what is wrong with the settings ---------------------------------------------------------------------


def _line(field: str, text: str) -> str:
    return f"{field} ({variable(field)}) {text}"


def _read(error: Any) -> str:
    """Return an error of pydantic in words that do not hold what was read."""
    first, *inner = map(str, error["loc"])
    fields = {variable(field): field for field in DeploymentConfig.model_fields}
    field = fields.get(first, first)
    if field not in fields.values():
        return f"{field} is no setting{_nearest(field, fields.values())}"
    where = "".join(f"[{each if each.isdigit() or each in ApiKey.model_fields else '?'}] " for each in inner)
    return _line(field, f"{where}is refused: {error['msg'][0].lower()}{error['msg'][1:]}")


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else "; remove it"


def _breaches(config: DeploymentConfig) -> Iterator[tuple[str, str]]:
    """Yield each field that breaks a rule of its profile or contradicts another, and what to do."""
    yield from _contradictions(config)
    yield from _secrets(config)
    yield from _exposure(config)


def _contradictions(config: DeploymentConfig) -> Iterator[tuple[str, str]]:
    for what in ("name", "sha256"):
        if len({getattr(key, what) for key in config.api_keys}) < len(config.api_keys):
            yield "api_keys", f"has the same {what} twice; make a key of its own for each caller"
    if len(set(config.programs)) < len(config.programs):
        yield "programs", "names the same program twice; name each once"
    if (most := config.max_question_chars * _BYTES_A_CHAR) > config.max_body_bytes:
        yield (
            "max_question_chars",
            (
                f"lets questions take {most} bytes, and max_body_bytes ({variable('max_body_bytes')}) is "
                f"{config.max_body_bytes}; lower the one or raise the other"
            ),
        )
    for field in ("gateway_deadline_s", "drain_s"):
        if (value := getattr(config, field)) < config.deadline_s:
            least = f"deadline_s ({variable('deadline_s')}), {config.deadline_s:g}"
            yield field, f"is {value:g}, so that answers are cut off: less than {least}; raise it to that"


def _secrets(config: DeploymentConfig) -> Iterator[tuple[str, str]]:
    if config.profile != "development":
        for field, what in _NEEDED.items():
            if getattr(config, field) is None:
                yield field, f"is missing, {what}"
        digests = {hashlib.sha256(word.encode()).hexdigest() for word in _WEAK}
        if any(key.sha256 in digests for key in config.api_keys):
            yield "api_keys", "has the digest of a default password; make keys with make_key()"
    for field in ("jwt_secret", "signing_key"):
        if (secret := getattr(config, field)) is not None and (why := _weakness(secret.get_secret_value())):
            yield field, f"{why}; {_RANDOM}"
    if config.jwt_secret and config.jwt_secret == config.signing_key:
        yield "signing_key", f"is the same as jwt_secret; {_RANDOM}"


def _unreadable(folder: Path | None, known: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with the files of --secrets themselves; nothing of what is in them."""
    for path in sorted(folder.iterdir()) if folder else ():
        if path.name.upper() in known:
            try:
                has_mark = path.read_text("utf-8").startswith("\ufeff")
            except UnicodeDecodeError:
                yield f"the file {path} is no text in UTF-8; write it anew"
            except OSError as error:
                yield f"the file {path} cannot be read ({error.strerror}); mend it, or the link that it is"
            else:
                if has_mark:
                    yield f"the file {path} begins with a byte order mark; save it without one"


def _weakness(secret: str) -> str:
    if len(secret) < _SECRET_CHARS:
        return f"has {len(secret)} characters, too few to withstand guessing"
    if len(set(secret)) < _SECRET_CHARS // 3 or secret in (secret + secret)[1:-1]:
        return "repeats itself"
    return "has a default word in it" if any(word in secret.lower() for word in _WEAK) else ""


def _exposure(config: DeploymentConfig) -> Iterator[tuple[str, str]]:
    if "@" in (config.otlp_endpoint or ""):
        yield "otlp_endpoint", "has a password, which traces show; put it into OTEL_EXPORTER_OTLP_HEADERS"
    is_private = config.profile == "development"
    for field, form in _FORMS.items():
        text = _open_door(field, url, form) if (url := _plain(getattr(config, field))) else ""
        if text.startswith(_UNREADABLE) or (text and not is_private):
            yield field, text
    for name in () if is_private else _model_variables(config.model):
        if text := _open_door("model", os.environ.get(name) or "http://localhost", "https://model.example"):
            yield "model", f"is asked at {name}, which {text}"
    if is_private:
        if config.host not in LOOPBACK:
            yield "host", "is open to other machines in development; set it to 127.0.0.1, or set the profile"
        return
    for origin in config.cors_origins:
        if not _ORIGIN.fullmatch(origin):
            yield "cors_origins", "lets in more than pages over https; name each origin: https://shop.example"
    for field in ("docs", "trace_content") if config.profile == "production" else ():
        if getattr(config, field):
            yield field, "is on in production, where it shows more than callers may see; set it to false"


def _model_variables(model: str) -> list[str]:
    """Return the variables that say where a model is asked."""
    providers = {"OPENAI", model.partition("/")[0].upper()}
    return [
        "COURSE_LM_URL",
        *(f"{each}_{end}" for each in sorted(providers) for end in ("API_BASE", "BASE_URL")),
    ]


def _open_door(field: str, url: str, form: str) -> str:
    """Return what is wrong with a server's address, unless the server is on this machine."""
    try:
        hosts, is_encrypted, is_checked, password = _reached(field, url)
    except Exception:  # border: the clients' parsers raise many kinds, some with the address in them
        return f"{_UNREADABLE}; its form is {form}"
    if all(not host or host in LOOPBACK or host.startswith("/") for host in hosts):
        return ""
    if not is_encrypted:
        return f"goes over the network in plain text; use {form} with a certificate that is checked"
    if not is_checked:
        return f"does not check the server's certificate and name, so that anybody may be it; use {form}"
    if str(password).lower() in _USUAL:
        return "has a default password, which others try first; set another one there and here"
    needs_password = not password and field not in ("otlp_endpoint", "model")
    return "has no password, and is not on this machine; put one in" if needs_password else ""


def _reached(field: str, url: str) -> tuple[list[str], bool, bool, object]:
    """Return the hosts of an address, as its client reads it, and its password.

    Between them, whether it is encrypted, and whether the server's certificate and name are checked.
    """
    read: Any
    if field == "redis_url":
        read = parse_url(url)
        is_checked = read.get("ssl_cert_reqs", "required") == "required" and read.get(
            "ssl_check_hostname", True
        )
        is_encrypted = read.get("connection_class") is SSLConnection
        return [read.get("path") or read.get("host") or ""], is_encrypted, is_checked, read.get("password")
    if field == "database_url":
        read = parts_of(url)
        # What it leaves out is looked up in the environment by libpq, and of a service in a file.
        variables = {part: os.environ.get(f"PG{part.upper()}") for part in ("hostaddr", "host", "service")}
        named = {part: str(read.get(part) or variables[part] or "") for part in variables}
        hosts = [*(named["hostaddr"] or named["host"]).split(","), "a file's" if named["service"] else ""]
        mode = read.get("sslmode")
        is_encrypted = mode in ("require", "verify-ca", "verify-full")
        return hosts, is_encrypted, mode == "verify-full", read.get("password")
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:  # a port that is no number raises
        raise ValueError
    given = parse_qs(parts.query, keep_blank_values=True).get("no_verify_ssl", [])
    is_encrypted = parts.scheme in ("amqps", "tls", "https")
    return [parts.hostname], is_encrypted, all(each == "0" for each in given), parts.password
