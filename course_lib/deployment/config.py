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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from psycopg.conninfo import conninfo_to_dict
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError
from redis.asyncio.connection import SSLConnection, parse_url

from course_lib.errors import CourseError
from course_lib.services import shown
from course_lib.services.web import LOOPBACK

PREFIX = "COURSE_SERVICE_"
PROGRAMS = ("answer", "triage")
ROLES = ("ask", "operate", "audit", "privacy")
SECRET_CHARS = 32
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""Of tenants and keys: they become parts of keys in Redis and of headers."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "development": {"docs": True, "requests_per_minute": 6_000, "tokens_per_day": 20_000_000},
    "staging": {"docs": True},
    "production": {},
}
_NEEDED = {
    "jwt_secret": "the key that tokens are signed with",
    "signing_key": "the key of cache entries, the audit log and pseudonyms",
    "redis_url": "what replicas share limits and answers through",
    "database_url": "where results and the audit log are kept",
    "queue_url": "where jobs wait for workers",
}
_WEAK = ("changeme", "change-me", "change_me", "default", "example", "password", "secret", "insecure")
_RANDOM = (
    f"set it to {SECRET_CHARS} or more random characters: "
    'python -c "import secrets; print(secrets.token_urlsafe(32))"'
)
_ENCRYPTED = ("require", "verify-ca", "verify-full")
_BYTES_A_CHAR = 4  # of UTF-8, at most


class ConfigError(CourseError):
    """Settings that the service refuses to start with; `problems` has one line for each, without values."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ApiKey(BaseModel):
    """What the service knows of an API key: whose it is, and the digest that it is recognised by."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=f"^{NAME}$")
    tenant: str = Field(pattern=f"^{NAME}$")
    roles: frozenset[Literal["ask", "operate", "audit", "privacy"]] = Field(min_length=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$", repr=False)


def _split(value: object) -> object:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Words with commas between them, in a variable."""


class DeploymentConfig(BaseSettings):
    """All settings of one replica, from the environment or by keyword; the profile says what is allowed."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    profile: Literal["development", "staging", "production"] = "development"
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65_535)
    """0: any that is free."""
    model: str = Field("sim-large", min_length=1)
    """What COURSE_LM may be."""
    programs: Names = PROGRAMS
    program_version: str = Field("1", pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,31}$")
    programs_folder: Path | None = None
    redis_url: SecretStr | None = Field(None, validation_alias="REDIS_URL")
    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    queue_url: SecretStr | None = Field(None, validation_alias="AMQP_URL")
    otlp_endpoint: str | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", repr=False)
    jwt_secret: SecretStr | None = None
    signing_key: SecretStr | None = None
    api_keys: tuple[ApiKey, ...] = ()
    requests_per_minute: int = Field(600, ge=1)
    tokens_per_day: int = Field(2_000_000, ge=1)
    max_body_bytes: int = Field(64 * 1024, ge=1_024)
    max_question_chars: int = Field(4_000, ge=1)
    max_batch: int = Field(200, ge=1)
    deadline_s: float = Field(10.0, gt=0, allow_inf_nan=False)
    gateway_deadline_s: float = Field(30.0, gt=0, allow_inf_nan=False)
    drain_s: float = Field(10.0, gt=0, allow_inf_nan=False)
    trace_content: bool = False
    docs: bool = False
    cors_origins: Names = ()

    def __init__(self, **values: Any) -> None:
        problems = _unknown_variables()
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems += [_line(*_read(one)) for one in error.errors(include_input=False, include_url=False)]
        except SettingsError:
            problems += [_line("api_keys", "is no JSON list of {name, tenant, roles, sha256}")]
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
        return {field: _shown(field, getattr(self, field)) for field in type(self).model_fields}

    def environment(self) -> dict[str, str]:
        """Return the variables that give another process these settings; they hold the secrets."""
        values = self.model_dump(exclude_none=True)
        keys = [{**key.model_dump(), "roles": sorted(key.roles)} for key in self.api_keys]
        return {variable(field): _written(value) for field, value in {**values, "api_keys": keys}.items()}


def variable(field: str) -> str:
    """Return the environment variable that sets a field."""
    alias = DeploymentConfig.model_fields[field].validation_alias
    return str(alias or PREFIX + field.upper())


# -- what is wrong with the settings ---------------------------------------------------------------------


def _line(field: str, text: str) -> str:
    known = field in DeploymentConfig.model_fields
    return f"{field} ({variable(field)}) {text}" if known else f"{field} {text}"


def _read(error: Any) -> tuple[str, str]:
    """Return the field of an error of pydantic, and its words, which do not hold what was read."""
    first, *inner = map(str, error["loc"] or ("the settings",))
    inner = [part if part.isdigit() or part in ApiKey.model_fields else "?" for part in inner]
    fields = {variable(field): field for field in DeploymentConfig.model_fields}
    field = fields.get(first, first)
    if error["type"] == "extra_forbidden" and not inner:
        return field, f"is no setting{_nearest(field, fields.values())}"
    where = f"[{']['.join(inner)}] " if inner else ""
    return field, f"{where}is refused: {error['msg'][0].lower()}{error['msg'][1:]}"


def _unknown_variables() -> list[str]:
    known = [variable(field) for field in DeploymentConfig.model_fields]
    names = sorted(name for name in os.environ if name.upper().startswith(PREFIX))
    unknown = [name for name in names if name.upper() not in known]
    return [f"{name} is no setting{_nearest(name.upper(), known)}" for name in unknown]


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else "; remove it"


def _breaches(config: DeploymentConfig) -> Iterator[tuple[str, str]]:
    """Yield each field that breaks a rule of its profile or contradicts another, and what to do."""
    yield from _programs(config)
    yield from _limits(config)
    yield from _secrets(config)
    yield from _exposure(config)
    if config.profile != "development":
        for field, (problem, form) in _ADDRESSES.items():
            url: SecretStr | None = getattr(config, field)
            if url and (text := _tried(problem, url.get_secret_value(), form)):
                yield field, text


def _programs(config: DeploymentConfig) -> Iterator[tuple[str, str]]:
    for name in set(config.programs) - set(PROGRAMS):
        yield "programs", f"names an unknown program{_nearest(name, PROGRAMS)}"
    if not config.programs or len(set(config.programs)) < len(config.programs):
        yield "programs", f"must name each program once; set it to {','.join(PROGRAMS)} or some of these"
    if config.programs_folder and not config.programs_folder.is_dir():
        yield "programs_folder", "is no folder; set it to where saved programs are, or unset it"
    for what in ("name", "sha256"):
        if len({getattr(key, what) for key in config.api_keys}) < len(config.api_keys):
            yield "api_keys", f"has the same {what} twice; make a key of its own for each caller"


def _limits(config: DeploymentConfig) -> Iterator[tuple[str, str]]:
    if config.max_question_chars * _BYTES_A_CHAR > config.max_body_bytes:
        yield (
            "max_question_chars",
            f"is {config.max_question_chars}: a question of that length takes up to "
            f"{config.max_question_chars * _BYTES_A_CHAR} bytes, and max_body_bytes "
            f"({variable('max_body_bytes')}) is {config.max_body_bytes}; lower the one or raise the other",
        )
    within = f"deadline_s ({variable('deadline_s')}), {config.deadline_s:g}; raise it to that or more"
    if config.gateway_deadline_s < config.deadline_s:
        yield "gateway_deadline_s", f"is {config.gateway_deadline_s:g}, less than {within}"
    if config.drain_s < config.deadline_s:
        yield "drain_s", f"is {config.drain_s:g}, so that answers are cut off: less than {within}"


def _secrets(config: DeploymentConfig) -> Iterator[tuple[str, str]]:
    if config.profile != "development":
        for field, what in _NEEDED.items():
            if getattr(config, field) is None:
                hint = _RANDOM if field in ("jwt_secret", "signing_key") else "set it to its address"
                yield field, f"is missing, {what}; {hint}"
        digests = {hashlib.sha256(word.encode()).hexdigest() for word in _WEAK}
        if any(key.sha256 in digests for key in config.api_keys):
            yield "api_keys", "has the digest of a default password; make keys with make_key()"
    for field in ("jwt_secret", "signing_key"):
        if (secret := getattr(config, field)) is not None and (why := _weakness(secret.get_secret_value())):
            yield field, f"{why}; {_RANDOM}"
    if config.jwt_secret and config.jwt_secret == config.signing_key:
        yield "signing_key", f"is the same as jwt_secret; {_RANDOM}"


def _weakness(secret: str) -> str:
    if len(secret) < SECRET_CHARS:
        return f"has {len(secret)} characters, too few to withstand guessing"
    if len(set(secret)) < SECRET_CHARS // 3 or secret in (secret + secret)[1:-1]:
        return "repeats itself"
    return "has a default word in it" if any(word in secret.lower() for word in _WEAK) else ""


def _exposure(config: DeploymentConfig) -> Iterator[tuple[str, str]]:
    collector = _parts(config.otlp_endpoint or "https:")
    if collector.username or collector.password:
        yield "otlp_endpoint", "has a password, which traces show; put it into OTEL_EXPORTER_OTLP_HEADERS"
    if config.profile == "development":
        if config.host not in LOOPBACK:
            yield "host", "is open to other machines in development; set it to 127.0.0.1, or set the profile"
        return
    for origin in config.cors_origins:
        parts = _parts(origin)
        if parts.scheme != "https" or not parts.hostname or "*" in origin:
            yield "cors_origins", "lets in more than pages over https; name each origin: https://shop.example"
    if collector.scheme != "https" and not (collector.hostname and _is_loopback(collector.hostname)):
        yield "otlp_endpoint", "sends traces over the network in plain text; use https"
    for field in ("docs", "trace_content") if config.profile == "production" else ():
        if getattr(config, field):
            yield field, "is on in production, where it shows more than callers may see; set it to false"


def _parts(url: str) -> SplitResult:
    """Return the parts of an address; none where it cannot be read."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _is_loopback(host: str | None) -> bool:
    return host in LOOPBACK or (host or "/").startswith("/")


def _tried(problem: Callable[[str], str], url: str, form: str) -> str:
    try:
        return problem(url)
    except Exception:  # border: the clients' parsers raise many kinds, some with the address in them
        return f"is no address that its client can read; its form is {form}"


def _redis(url: str) -> str:
    """Return what is wrong with an address of Redis beyond this machine, read as its client reads it."""
    read: Any = parse_url(url)
    if "path" in read or _is_loopback(read.get("host", "localhost")):
        return ""
    is_encrypted = read.get("connection_class") is SSLConnection and read.get("ssl_cert_reqs") != "none"
    return _open_door(is_encrypted, read.get("password"), "rediss://")


def _database(url: str) -> str:
    read = conninfo_to_dict(url)
    hosts = str(read.get("hostaddr") or read.get("host") or "").split(",")
    if all(_is_loopback(host) for host in hosts):
        return ""
    return _open_door(read.get("sslmode") in _ENCRYPTED, read.get("password"), "?sslmode=verify-full")


def _queue(url: str) -> str:
    parts = urlsplit(url)
    if _is_loopback(parts.hostname):
        return ""
    return _open_door(parts.scheme in ("amqps", "tls"), parts.password, "amqps:// or tls://")


def _open_door(is_encrypted: bool, password: object, form: str) -> str:
    if not is_encrypted:
        return f"goes over the network in plain text; use {form} with a certificate that is checked"
    return "" if password else "has no password, and is not on this machine; put one in"


_ADDRESSES = {
    "redis_url": (_redis, "rediss://:password@host:6379/0"),
    "database_url": (_database, "postgresql://user:password@host/name?sslmode=verify-full"),
    "queue_url": (_queue, "amqps://user:password@host/ or tls://user:password@host"),
}

# -- what is shown of them -------------------------------------------------------------------------------


def _shown(field: str, value: Any) -> str:
    if isinstance(value, SecretStr):
        return shown(value.get_secret_value()) if field.endswith("_url") else "set"
    if field == "otlp_endpoint" and value:
        return shown(value)
    if field == "api_keys":
        return ",".join(key.name for key in value) or "none"
    return (
        ",".join(value) or "none" if isinstance(value, tuple) else "not set" if value is None else str(value)
    )


def _written(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, list):
        return json.dumps(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)
