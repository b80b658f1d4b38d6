"""Cache keys: what makes two requests the same question, and for whom an answer may be used.

Main path: `with scope(tenant="acme"): program(...)` -> key_of(request, current_scope()) -> 64 hex digits.
Source: dspy.clients.cache.Cache.cache_key and dspy.clients.execution.PreparedCall.key (DSPy 3.4.1), whose
keys leave out the endpoint, keep sync and async apart, and fail without a word on lists of models.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import dspy
import orjson
import pydantic
from dspy.clients.call_result import CACHE_FORMAT

from course_lib.errors import CourseError

FORMAT = f"course-key-1 {CACHE_FORMAT}"
"""Part of every key: another way of making keys, or DSPy's records, never meets entries of the former."""

_CREDENTIALS = frozenset(
    {
        "api_key",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "azure_ad_token",
        "azure_ad_token_provider",
        "vertex_credentials",
    }
)
"""Never part of a key. The scope says who may see an answer, not the key that paid for it."""

_ENDPOINTS = ("api_base", "base_url")

_CLIENTS = "dspy.clients."
_TYPED = f"{_CLIENTS}lm15.complete"
"""What DSPy calls the entry of calls with an lm15.Request; no function has this name."""

_SYNC_ENTRIES = {
    "dspy.clients.lm.alitellm_completion": "dspy.clients.lm.litellm_completion",
    "dspy.clients.lm.alitellm_text_completion": "dspy.clients.lm.litellm_text_completion",
    "dspy.clients.lm.alitellm_responses_completion": "dspy.clients.lm.litellm_responses_completion",
    f"{_TYPED}.async": _TYPED,
    "dspy.clients.embedding._cached_acompute_embeddings": "dspy.clients.embedding._cached_compute_embeddings",
}
"""Async entries that DSPy names apart from the sync ones, though both send the same request."""


class UnkeyableError(CourseError):
    """A request that cannot be given a key; `reason` is short enough to count by."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this request has no cache key ({reason}), so it is asked each time")
        self.reason = reason


class ScopeError(CourseError):
    """A scope that would not keep apart what it names."""


# -- scope ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom, and by which version of the program, a question is asked. None: not said."""

    tenant: str | None = None
    """Whose data the answer may hold; the wall that no cached answer crosses."""
    customer: str | None = None
    """One customer of the tenant."""
    version: str | None = None
    """The program's version, so that all of its answers can be dropped at once."""
    ttl_s: float | None = None
    """How long an answer kept here counts, instead of the cache's own time; not part of the key."""


NOBODY = Scope()
_SETTING = "cache_scope"


@contextmanager
def scope(
    *,
    tenant: str | None = None,
    customer: str | None = None,
    version: str | None = None,
    ttl_s: float | None = None,
) -> Iterator[Scope]:
    """Say for whom the calls in this block are made; what is None stays as the block around has it.

    Another tenant forgets the customer of the block around. The scope travels where dspy.context travels:
    tasks, asyncify, dspy.Parallel and batch, but not into a plain thread or ThreadPoolExecutor, which
    ask without any scope (TieredCache(require_tenant=True) then caches nothing). And as in dspy.context, what
    dspy.configure sets inside is seen only after it.

    Raises:
        ScopeError: an empty name, which is most often an id that was not there; or no time at all.
    """
    if ttl_s is not None and not ttl_s > 0:
        raise ScopeError(f"ttl_s={ttl_s!r} keeps nothing; give seconds above 0, or ask with cache=False")
    named = {"tenant": tenant, "customer": customer, "version": version}
    for name, value in named.items():
        if value is not None and not (isinstance(value, str) and value):
            raise ScopeError(f"{name}={value!r} names nobody; give a non-empty text, or leave it out")
    outer = current_scope()
    if tenant is not None and tenant != outer.tenant:
        outer = replace(outer, customer=None)
    inner = Scope(
        tenant or outer.tenant, customer or outer.customer, version or outer.version, ttl_s or outer.ttl_s
    )
    with dspy.context(**{_SETTING: inner}):
        yield inner


def current_scope() -> Scope:
    """Return the scope of the block we are in; without one, a Scope of three Nones."""
    found = dspy.settings.get(_SETTING)
    return found if isinstance(found, Scope) else NOBODY


def tag_of(scope: Scope) -> str:
    """Return the tag of everything that has these parts of a scope, as a digest: names stay in the process.

    >>> tag_of(Scope(tenant="acme")) == tag_of(Scope(tenant="acme", version="2"))
    False
    """
    return hashlib.blake2b(_framed(scope.tenant, scope.customer, scope.version), digest_size=10).hexdigest()


@lru_cache(maxsize=4096)
def tags_of(scope: Scope) -> tuple[str, ...]:
    """Return a tag for each way of naming an entry of this scope, so that each way can drop it.

    >>> len(tags_of(Scope())), len(tags_of(Scope(tenant="a"))), len(tags_of(Scope("a", "c", "v")))
    (0, 1, 7)
    """
    parts = {name: getattr(scope, name) for name in ("tenant", "customer", "version") if getattr(scope, name)}
    ways = [some for size in range(1, len(parts) + 1) for some in combinations(parts, size)]
    return tuple(tag_of(Scope(**{name: parts[name] for name in way})) for way in ways)


# -- the call under way --------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class LMCall:
    """A call of an LM.

    It is changed in place: in `acall` DSPy runs get() and put() in worker threads, each with a copy of the
    caller's context, where setting a context variable would not be seen outside.
    """

    lm: Any
    endpoint: str | None
    """DSPy puts it into the request of an ordinary call, but not into that of a typed `lm15.Request`."""
    key: str | None = None
    """Of the entry that the call is about."""
    stamp: tuple[int, int] | None = None
    """Which invalidations were known when it was asked."""
    is_open: bool = True


current_call: ContextVar[LMCall | None] = ContextVar("course_cache_call", default=None)
"""The call of an LM that is under way in this context, or was the last one."""


def begin_call(lm: Any) -> None:
    """Note that a call of `lm` begins in this context."""
    current_call.set(LMCall(lm, endpoint_of(getattr(lm, "kwargs", {}))))


@contextmanager
def calling(lm: Any, options: Mapping[str, Any] | None = None) -> Iterator[LMCall]:
    """Yield the call of `lm` under way: the one that begin_call() noted, or one for this block."""
    endpoint, call = endpoint_of({**getattr(lm, "kwargs", {}), **(options or {})}), current_call.get()
    if call is not None and call.is_open and call.lm is lm:
        call.endpoint = endpoint
        yield call
        return
    call = LMCall(lm, endpoint)
    token = current_call.set(call)
    try:
        yield call
    finally:
        current_call.reset(token)


def endpoint_of(options: Mapping[str, Any]) -> str | None:
    """Return the address that the options of a call name, or None: the provider's own."""
    url = options.get("api_base") or options.get("base_url")
    return str(url).rstrip("/") if url else None


# -- keys ----------------------------------------------------------------------------------------------


def key_of(
    request: Mapping[str, Any],
    scope: Scope = NOBODY,
    *,
    namespace: str = "course",
    ignored: Collection[str] = (),
) -> str:
    """Return the key of a request as DSPy hands it to its cache: 64 hex digits.

    Equal for sync and async; different for another endpoint, scope or namespace, and for anything else
    in the request, `rollout_id` included. Credentials are never part of it.

    Raises:
        UnkeyableError: a value has no stable form (its type and the field are named).
    """
    params = {name: value for name, value in request.items() if name not in _CREDENTIALS}
    entry = params.get("_fn_identifier")
    if entry in _SYNC_ENTRIES:
        params["_fn_identifier"] = entry = _SYNC_ENTRIES[entry]
    call = current_call.get() if entry == _TYPED else None
    url = call.endpoint if call is not None else endpoint_of(params)
    for name in (*ignored, *_ENDPOINTS):
        params.pop(name, None)
    digest = _started(namespace, scope, url).copy()
    digest.update(_canonical(params))
    return str(digest.hexdigest())


@lru_cache(maxsize=1024)
def _started(namespace: str, scope: Scope, url: str | None) -> Any:
    """Return a hash that has already read all but the request."""
    return hashlib.sha256(_framed(FORMAT, namespace, scope.tenant, scope.customer, scope.version, url))


def _framed(*parts: str | None) -> bytes:
    """Return texts as bytes that no other row of texts gives."""
    return orjson.dumps(parts) + b"\n"


def _canonical(params: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(params, default=_plain, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a value of no known kind, or one that orjson refuses: look at it field by field
        return b"".join(_field(name, params[name]) for name in sorted(params))


def _field(name: str, value: Any) -> bytes:
    try:
        return orjson.dumps(
            [name, value], default=_plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        )
    except TypeError as error:
        cause = error.__cause__ if isinstance(error.__cause__, UnkeyableError) else None
        raise UnkeyableError(f"{cause.reason if cause else error} in {name!r}") from None


def _plain(value: Any) -> Any:
    """Return a stable JSON form of what JSON lacks; the NUL keeps it apart from any real value."""
    match value:
        case pydantic.BaseModel():
            return {"\0model": _name(type(value)), "\0is": value.model_dump(mode="json", warnings=False)}
        case type() if issubclass(value, pydantic.BaseModel):
            return {"\0schema": value.model_json_schema()}
        case type():
            return {"\0type": _name(value)}
        case set() | frozenset():
            return {"\0set": sorted(hashlib.sha256(_field("", each)).hexdigest() for each in value)}
        case bytes() | bytearray():
            return {"\0bytes": hashlib.sha256(value).hexdigest()}
    if inspect.isfunction(value):
        return {"\0function": _named_function(value)}
    raise UnkeyableError(f"a value of type {_name(type(value))}")


def _named_function(function: Any) -> list[str]:
    """Return name and source of a function; DSPy takes the source alone, which two closures share."""
    if "<" in function.__qualname__ or function.__closure__:
        raise UnkeyableError(f"a function that is no module's own ({function.__qualname__})")
    try:
        return [_name(function), inspect.getsource(function)]
    except (OSError, TypeError):
        raise UnkeyableError(f"a function without source ({_name(function)})") from None


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
