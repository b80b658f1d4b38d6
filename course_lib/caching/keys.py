"""Cache keys: what makes two requests the same question, and for whom an answer may be used.

Main path: `with scope(tenant="acme"): program(...)` -> key_of(request, current_scope()) -> 64 hex digits.
Source: dspy.clients.cache.Cache.cache_key and dspy.clients.execution.PreparedCall.key (DSPy 3.4.1), whose
keys leave out the endpoint, keep sync and async apart, and fail without a word on lists of models.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import math
import os
import sys
import threading
from collections.abc import Collection, Generator, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from itertools import combinations
from types import FunctionType
from typing import Any

import dspy
import orjson
import pydantic
from dspy.clients.call_result import CACHE_FORMAT
from dspy.streaming import apply_sync_streaming

from course_lib.caching.calls import current_call, endpoint_of
from course_lib.errors import CourseError
from course_lib.resilience.blocks import opener

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

_CLIENTS = "dspy.clients."
_TYPED = f"{_CLIENTS}lm15.complete"
"""What DSPy calls the entry of calls with an lm15.Request; no function has this name."""


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


NOBODY = Scope()


class _Block(contextlib._GeneratorContextManager[Scope]):  # noqa: SLF001
    """A block, and no decorator: over a coroutine or a generator it would end before that runs."""

    def __call__(self, function: Any) -> Any:
        raise ScopeError(f"a scope is no decorator of {function!r:.60}; write `with scope(...):` in it")


def scope(*, tenant: str | None = None, customer: str | None = None, version: str | None = None) -> _Block:
    """Say for whom the calls in this block are made; what is None stays as the block around has it.

    Another tenant forgets the customer of the block around. The scope travels where dspy.context travels:
    tasks, asyncify, dspy.Parallel and batch, and a stream of dspy.streamify keeps that of the place where it
    was made. A coroutine belongs to the place where it is awaited.

    A thread, pool or task of your own that was begun elsewhere is not reached. A call without a scope, while
    one is open anywhere, is not cached, with a warning. So is every later one in such a thread, as a queue
    may hold work of a scope that has ended. A process forked while a scope is open is such a thread from its
    start. `with scope():` says that the block is for nobody, and is cached. What runs when no scope is open
    any more, or in a process begun before, is for nobody: TieredCache(require_tenant=True) refuses that.

    Raises:
        ScopeError: an empty name, which is most often an id that was not there; the block is in a generator,
            and would stay open for its reader; or it is used as a decorator.
    """
    return _Block(_opened, (), {"tenant": tenant, "customer": customer, "version": version})


def _opened(*, tenant: str | None, customer: str | None, version: str | None) -> Generator[Scope, None, None]:
    _refuse_generators(sys._getframe(2))  # noqa: SLF001
    for name, value in (("tenant", tenant), ("customer", customer), ("version", version)):
        if value is not None and not (isinstance(value, str) and value):
            raise ScopeError(f"{name}={value!r} names nobody; give a non-empty text, or leave it out")
    outer = current_scope()
    if tenant is not None and tenant != outer.tenant:
        outer = replace(outer, customer=None)
    inner = Scope(tenant or outer.tenant, customer or outer.customer, version or outer.version)
    _open.append(inner)
    try:
        with dspy.context(cache_scope=inner):
            try:
                yield inner
            finally:
                found = dspy.settings.get("cache_scope")
    finally:
        _open.remove(inner)
        if found != inner:
            _lose_scope()
    if found not in (inner, _LOST):  # lost in a fork, or by the scope that ended too early
        raise ScopeError(f"{inner} ended while another scope, opened in it, was open: end that one first")


def current_scope() -> Scope:
    """Return the scope of the block we are in; without one, a Scope of three Nones."""
    found = dspy.settings.get("cache_scope")
    return found if isinstance(found, Scope) else NOBODY


def is_lost() -> bool:
    """Return whether there is no scope here while others have theirs, or had when this thread made a call."""
    found = dspy.settings.get("cache_scope")
    if found is not None:
        return bool(found == _LOST)
    is_lost_now = any(map(NOBODY.__ne__, tuple(_open)))
    if is_lost_now and threading.current_thread() is not threading.main_thread():
        _is_lost.set(True)  # it stays so: the scopes may have been closed when the answer comes
    return is_lost_now or _is_lost.get()


_open: list[Scope] = []
_LOST = "lost"  # in place of a scope: it travels to DSPy's threads as one does
_is_lost: ContextVar[bool] = ContextVar("course_scope_is_lost", default=False)


def _lose_scope() -> None:
    """Cache nothing in this context from now on, unless a scope is opened in it."""
    settings: Any = import_module("dspy.dsp.utils.settings")  # as an attribute, that name is an object
    overrides = settings.thread_local_overrides.get()
    settings.thread_local_overrides.set(type(overrides)({**overrides, "cache_scope": _LOST}))


def _after_fork() -> None:
    if any(map(NOBODY.__ne__, _open)):  # a pool begins its worker in one block, and uses it in others
        _lose_scope()


os.register_at_fork(after_in_child=_after_fork)


def _refuse_generators(frame: Any) -> None:
    """Refuse a block in a generator, and one that decorates a function."""
    generator, frame = opener(frame)
    if generator:
        raise ScopeError(
            f"a scope in the generator {generator}() would stay open for whoever reads it; "
            "open it in a function that the generator calls, or around the place that reads"
        )
    is_coroutine = frame.f_code.co_flags & inspect.CO_COROUTINE
    if frame.f_code.co_filename == contextlib.__file__ and not is_coroutine:  # a ContextDecorator
        raise ScopeError("a scope is no decorator, also within one; write `with ...:` in the function")


_named_streamify: Any = dspy.streamify
_dspy_streamify = FunctionType(_named_streamify.__code__, _named_streamify.__globals__)
_dspy_streamify.__defaults__ = _named_streamify.__defaults__


def _scoped_streamify(*arguments: Any, **options: Any) -> Any:
    """Do as dspy.streamify; the stream keeps the scope of the place where it was made."""
    given = inspect.signature(_dspy_streamify).bind(*arguments, **options).arguments
    is_async = given.pop("async_streaming", True)
    make = _dspy_streamify(**given)

    @functools.wraps(make)
    def stream_of(*args: Any, **kwargs: Any) -> Any:
        stream = _read(make(*args, **kwargs), current_scope())
        return stream if is_async else apply_sync_streaming(stream)

    return stream_of


async def _read(stream: Any, scope: Scope) -> Any:
    async with contextlib.aclosing(stream):
        with dspy.context(cache_scope=scope):  # the program starts with the first step
            first = await anext(stream, _END)
        if first is not _END:
            yield first
            async for value in stream:
                yield value


def _scoped(*arguments: Any, **options: Any) -> Any:
    from course_lib.caching.keys import _scoped_streamify  # it runs among DSPy's names

    return _scoped_streamify(*arguments, **options)


_END: Any = object()
# The scope is ours, so DSPy cannot know that a stream is to keep it; whoever has imported the function by its
# name before has this one too.
_named_streamify.__signature__ = inspect.signature(_named_streamify)
_named_streamify.__code__ = _scoped.__code__


@functools.lru_cache(maxsize=4096)
def tags_of(scope: Scope) -> tuple[str, ...]:
    """Return a tag for each way of naming an entry of this scope, the whole scope's last.

    A tag is a digest, so that names stay in the process.

    >>> len(tags_of(Scope())), len(tags_of(Scope(tenant="a"))), len(tags_of(Scope("a", "c", "v")))
    (0, 1, 7)
    """
    parts = (scope.tenant, scope.customer, scope.version)
    named = [place for place, part in enumerate(parts) if part]
    ways = [way for size in range(1, len(named) + 1) for way in combinations(named, size)]
    rows = [_framed(*(part if place in way else None for place, part in enumerate(parts))) for way in ways]
    return tuple(hashlib.blake2b(row, digest_size=10).hexdigest() for row in rows)


# -- keys ----------------------------------------------------------------------------------------------


def key_of(
    request: Mapping[str, Any], scope: Scope = NOBODY, *, namespace: str = "", ignored: Collection[str] = ()
) -> str:
    """Return the key of a request as DSPy hands it to its cache: 64 hex digits.

    Equal for sync and async; different for another endpoint, scope or namespace, and for anything else
    in the request, `rollout_id` included. Credentials are never part of it.

    Raises:
        UnkeyableError: a value has no stable form (its type and the field are named).
    """
    params = {name: value for name, value in request.items() if name not in _CREDENTIALS}
    if "_fn_identifier" in params:
        params["_fn_identifier"] = _sync_entry(str(params["_fn_identifier"]))
    is_typed = params.get("_fn_identifier") == _TYPED
    call = current_call.get() if is_typed else None
    if is_typed and call is None:
        raise UnkeyableError("a typed request, whose endpoint only cache.watcher and cache.front() know")
    url = call.endpoint if call is not None else endpoint_of(params)
    for name in (*ignored, "api_base", "base_url"):
        params.pop(name, None)
    digest = _started(namespace, scope, url).copy()
    try:
        said = orjson.dumps(params, default=_plain, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a value of no known kind, or one that orjson refuses: look at it field by field
        said = b"".join(_field(name, params[name]) for name in sorted(params))
    nothing = sum(value is None for value in params.values())
    if said.count(b"null") > nothing or b"\\u0000" in said:  # what JSON lacks, or what only looks like it
        for name, value in params.items():
            _refuse_ambiguous(name, value)
    digest.update(said)
    return str(digest.hexdigest())


@functools.lru_cache(maxsize=1024)
def _sync_entry(name: str) -> str:
    """Return what DSPy calls the sync form of an entry: both send the same request."""
    if not name.startswith(_CLIENTS):
        return name
    return name.replace(".alitellm_", ".litellm_").replace("._cached_a", "._cached_").removesuffix(".async")


@functools.lru_cache(maxsize=1024)
def _started(namespace: str, scope: Scope, url: str | None) -> Any:
    """Return a hash that has already read all but the request."""
    return hashlib.sha256(_framed(FORMAT, namespace, scope.tenant, scope.customer, scope.version, url))


def _framed(*parts: str | None) -> bytes:
    """Return texts as bytes that no other row of texts gives."""
    return orjson.dumps(parts) + b"\n"


def _field(name: str, value: Any) -> bytes:
    option = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps([name, value], default=_plain, option=option)
    except TypeError as error:
        cause = error.__cause__ if isinstance(error.__cause__, UnkeyableError) else None
        raise UnkeyableError(f"{cause.reason if cause else error} in {name!r}") from None


def _refuse_ambiguous(name: str, value: Any) -> None:
    """Refuse what is written as another value is: nan as None, a dict as one of the forms of `_plain`."""
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        parts = (*value, *value.values())
        if "\0" in "".join(map(str, value)):
            raise UnkeyableError(f"a dict's name with a NUL in {name!r}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UnkeyableError(f"a number that JSON lacks in {name!r}")
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = value
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name) for field in fields(value)]
    for part in parts:
        _refuse_ambiguous(name, part)


def _plain(value: Any) -> Any:
    """Return a stable JSON form of what JSON lacks; the NUL keeps it apart from any real value."""
    match value:
        case pydantic.BaseModel():
            plain = value.model_dump(mode="json", by_alias=False, round_trip=True, warnings=False)
            with contextlib.suppress(ValueError):  # secrets, excluded fields and nan do not come back
                again = type(value).model_validate_json(orjson.dumps(plain), by_alias=False, by_name=True)
                if again == value:
                    return {"\0model": _name(type(value)), "\0is": plain}
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
