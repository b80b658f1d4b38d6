"""A function as a tool with limits: time, output, calls, arguments; an error is one line, never a traceback.

Main path: limited(func, deadline_s=5.0, output_chars=4000, calls=10) -> a dspy.Tool that always answers text.
The line that an error becomes begins with its class: "refused: " (ToolRefused), "timeout: " or "failed: ".
Source: dspy.Tool (dspy/adapters/types/tool.py, DSPy 3.4.1) has no time limit, runs a plain function on the
event loop, and dspy.ReAct shows the model a raised error's traceback. ToolCall.execute calls `tool.func` past
the tool's own checks, so the limits are in `func` too.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import cachetools
import dspy
import pydantic
from dspy.utils.callback import with_callbacks
from jsonschema import Draft202012Validator, exceptions  # type: ignore[import-untyped]
from pydantic_core import to_json

from course_lib.errors import CourseError
from course_lib.redaction.secrets import hide, one_line

T = TypeVar("T")

ARGUMENT_CHARS = 20_000
"""A call with longer arguments than this is refused before anything runs."""
LEFT_BEHIND = 8
"""Calls of one tool that may still be running after their deadline; further calls are refused."""
GRACE_S = 1.0
"""How long synchronous code waits beyond the deadline for a tool that cannot be stopped."""
RUNS_KEPT = 512
"""Program runs whose calls are remembered at once; the oldest is forgotten first."""

REFUSED, TIMEOUT, FAILED = "refused", "timeout", "failed"


class ToolRefused(CourseError):  # noqa: N818 - as the line the model reads says
    """A tool may not or cannot do what was asked; the message is one line, safe to show the model."""


class ToolError(str):
    """The one line an error becomes: text, as every answer; its type tells a program that it is an error."""

    __slots__ = ()


class LimitedTool(dspy.Tool):
    """A dspy.Tool that keeps its limits however it is called: `tool(...)`, `acall`, `tool.func`.

    A plain function runs in a thread of its own, with the caller's context, so it never blocks an event loop.
    An `async` function runs on the caller's loop, or, called synchronously, on one kept for that. `func` is
    async exactly if the wrapped function is.
    """

    _guard: _Guard = pydantic.PrivateAttr()

    def __init__(self, guard: _Guard) -> None:
        inner = guard.inner
        shown = {name: getattr(inner, name) for name in ("name", "desc", "args", "arg_types")}
        super().__init__(func=guard.as_function(), **shown)
        self.has_kwargs = inner.has_kwargs
        self._guard = guard

    def __call__(self, /, **kwargs: Any) -> str:
        """Call the tool and wait; the function itself runs in another thread."""
        return cast(str, self._run(kwargs))

    async def acall(self, /, **kwargs: Any) -> str:
        """Call the tool without blocking the event loop."""
        return cast(str, await self._run_async(kwargs))

    # with_callbacks has names of its own, which an argument may have too
    @with_callbacks  # type: ignore[untyped-decorator]
    def _run(self, kwargs: dict[str, Any]) -> Any:
        return self._guard.run(kwargs)

    @with_callbacks  # type: ignore[untyped-decorator]
    async def _run_async(self, kwargs: dict[str, Any]) -> Any:
        return await self._guard.run_async(kwargs)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        # A program's copy may change the wording it shows; what the tool does, and its budget, are shared.
        return self.model_copy(update={"args": dict(self.args)})


def limited(
    func: Callable[..., Any],
    *,
    name: str | None = None,
    desc: str | None = None,
    deadline_s: float = 5.0,
    output_chars: int = 4000,
    calls: int | None = None,
    redact: Sequence[str] = (),
) -> LimitedTool:
    """Make a tool of `func` (a function, sync or async, or a dspy.Tool) that keeps these limits.

    Args:
        func: what to call; its type hints make the tool's schema, its docstring the description.
        name: the tool's name, if not the function's.
        desc: the description, if not the docstring.
        deadline_s: seconds after which the model reads "timeout: ...". A plain function cannot be stopped and
            goes on in its thread; at most LEFT_BEHIND such calls may be left before further ones are refused.
        output_chars: characters of the answer; the rest is cut, and one more line says so.
        calls: calls allowed within one run of a program (one call of the module that uses the tool), or,
            outside any program, over the tool's life. None: no limit.
        redact: values that must never appear in an answer or an error, such as a password.

    Raises:
        ValueError: a limit is not positive.
    """
    if min(deadline_s, output_chars, 1 if calls is None else calls) <= 0:
        raise ValueError(f"limits must be positive, found {deadline_s=}, {output_chars=}, {calls=}")
    inner = func.model_copy() if isinstance(func, dspy.Tool) else dspy.Tool(func)
    inner.name, inner.desc = name or inner.name, inspect.cleandoc(desc or inner.desc or "")
    return LimitedTool(_Guard(inner, deadline_s, output_chars, calls, tuple(redact)))


@dataclass(slots=True)
class _Guard:
    """The limits of one tool, and how much of them is used."""

    inner: Any
    deadline_s: float
    output_chars: int
    calls: int | None
    known: tuple[str, ...]
    used: cachetools.LRUCache[int, tuple[object, int]] = field(
        default_factory=lambda: cachetools.LRUCache(RUNS_KEPT)
    )
    """Runs of programs by id, each kept alive so that its id stays its own, with the calls it has made."""
    late: set[Future[Any]] = field(default_factory=set)
    """Calls that go on after their deadline, until they end."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_async(self) -> bool:
        func = self.inner.func
        return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__)

    def as_function(self) -> Callable[..., Any]:
        """Return the limits as a plain function, async exactly if the wrapped one is: the tool's `func`."""

        async def call_async(*args: Any, **kwargs: Any) -> str:
            return await self.run_async({**dict(zip(self.inner.args, args, strict=False)), **kwargs})

        def call(*args: Any, **kwargs: Any) -> str:
            return self.run({**dict(zip(self.inner.args, args, strict=False)), **kwargs})

        func = self.inner.func
        target = func if inspect.isroutine(func) else func.__call__  # what DSPy reads the hints of
        return functools.wraps(target)(call_async if self.is_async else call)

    def run(self, kwargs: dict[str, Any]) -> str:
        """Do `run_async` from synchronous code, which may itself run on a loop; never raises an Exception."""
        work = on_kept_loop(self.run_async(kwargs))
        try:
            return work.result(self.deadline_s + GRACE_S)
        except TimeoutError:
            self.leave_behind(work)
            _kept_loop.cache_clear()  # an async tool that never yields holds it; the next call gets another
            return self._late()
        except Exception as error:  # border: a tool's error is an observation, not an exception
            return self._line(error)

    async def run_async(self, kwargs: dict[str, Any]) -> str:
        """Call the function from a coroutine; only cancellation is raised."""
        limit = asyncio.timeout(self.deadline_s)
        try:
            arguments = self._admit(kwargs)
            async with limit:
                if self.is_async:
                    return self._text(await self.inner.func(**arguments))
                return await self._in_thread(arguments)
        except (Exception, SystemExit) as error:  # border: a tool's error is an observation, not an exception
            return self._late() if limit.expired() else self._line(error)

    def leave_behind(self, work: Future[Any]) -> None:
        self.late.add(work)
        work.add_done_callback(self.late.discard)  # at once, if it is done

    # What happens before the call

    def _admit(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function's types, or refuse; counts the call."""
        self._count()
        name, schemas = self.inner.name, self.inner.args
        if (late := len(self.late)) >= LEFT_BEHIND:
            raise ToolRefused(f"{name} is busy: {late} earlier calls still run. Do without it")
        if (size := len(repr(kwargs))) > ARGUMENT_CHARS:
            raise ToolRefused(f"the arguments have {size} characters; at most {ARGUMENT_CHARS} are taken")
        takes = f"{name} takes: {', '.join(schemas) or 'none'}"
        if not self.inner.has_kwargs:  # else the function takes anything, and checks for itself
            if unknown := [argument for argument in kwargs if argument not in schemas]:
                raise ToolRefused(f"no argument named {unknown[0]!r}; {takes}")
            if missing := [one for one in schemas if one not in kwargs and "default" not in schemas[one]]:
                raise ToolRefused(f"argument {missing[0]!r} is missing; {takes}")
        return {argument: self._checked(argument, value) for argument, value in kwargs.items()}

    def _checked(self, argument: str, value: Any) -> Any:
        """Return an argument as the function's type; its schema allows less than the type does."""
        schema = self.inner.args.get(argument, {})
        if schema.get("type", "Any") != "Any":
            plain = value.model_dump() if isinstance(value, pydantic.BaseModel) else value
            if error := exceptions.best_match(Draft202012Validator(schema).iter_errors(plain)):
                raise ToolRefused(f"bad argument: {argument} is invalid: {error.message}")
        try:
            return pydantic.TypeAdapter(self.inner.arg_types.get(argument, Any)).validate_python(value)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, (argument, *first["loc"])))
            raise ToolRefused(f"bad argument: {where}: {first['msg']}") from None

    def _count(self) -> None:
        """Count a call against this run's budget."""
        if self.calls is None:
            return
        # DSPy makes a new list for every call of a module and hands it on in the context: the run's identity.
        run = dspy.settings.caller_modules
        with self.lock:
            _, used = self.used.get(id(run), (run, 0))
            self.used[id(run)] = (run, used + 1)
        if used >= self.calls:
            limit = f"{self.inner.name} may be called {self.calls} times in a run, and has been"
            raise ToolRefused(f"{limit}. Answer with what is known")

    # The call itself

    async def _in_thread(self, arguments: Mapping[str, Any]) -> str:
        """Run a plain function in a thread; a call that its caller no longer waits for is left behind."""
        work = in_thread(lambda: self._text(self.inner.func(**arguments)), name=f"tool-{self.inner.name}")
        try:
            return await asyncio.wrap_future(work)
        finally:
            self.leave_behind(work)

    # What comes out

    def _text(self, result: Any) -> str:
        """Return a result as text within the limit: a string as it is, anything else as JSON."""
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("the function is not async, and returned a coroutine")
        text = result if isinstance(result, str) else to_json(result, fallback=str).decode("utf-8", "replace")
        full = len(text)
        text = hide(text[: self.output_chars + 1000], self.known)  # a value may begin before the cut
        text = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
        if max(full, len(text)) <= self.output_chars:
            return text
        return f"{text[: self.output_chars]}\n[cut: {self.output_chars} of {full} characters shown]"

    def _late(self) -> ToolError:
        late = f"{self.inner.name} gave no answer within {self.deadline_s:g} s"
        return self._line(TimeoutError(f"{late}. Ask for less, or do without"))

    def _line(self, error: BaseException) -> ToolError:
        kinds = {ToolRefused: REFUSED, TimeoutError: TIMEOUT}
        kind = next((kind for type_, kind in kinds.items() if isinstance(error, type_)), FAILED)
        return ToolError(f"{kind}: {one_line(_words(error), self.known)}")


def in_thread(work: Callable[[], T], *, name: str) -> Future[T]:
    """Start `work` in a daemon thread of its own, with the caller's context.

    Not an executor's: those have few threads, which calls past their deadline would keep, and Python waits
    for them at its end.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def body() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # border: the thread's; whoever waits gets it
            # a StopIteration cannot pass through a coroutine that waits for this
            is_told = isinstance(error, Exception) and not isinstance(error, StopIteration)
            outcome.set_exception(error if is_told else RuntimeError(type(error).__name__))

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(body,), name=name, daemon=True).start()
    return outcome


def on_kept_loop(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start `work` on the loop kept for tools that synchronous code calls, with the caller's context.

    One loop for all calls: what an async tool keeps between them, a connection pool say, stays on its loop.
    """
    return asyncio.run_coroutine_threadsafe(work, _kept_loop())


@functools.cache
def _kept_loop() -> asyncio.AbstractEventLoop:
    """Return the loop, running in a daemon thread."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tool-loop", daemon=True).start()
    return loop


# A forked child has no threads: it starts a loop of its own when it needs one.
os.register_at_fork(after_in_child=_kept_loop.cache_clear)


def _words(error: BaseException) -> str:
    """Return what an error says, without what it carries: an OSError's file names stay out."""
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    try:
        words = str(error)
    except Exception:  # border: somebody's broken __str__
        words = ""
    says_it_all = isinstance(error, CourseError | TimeoutError) and words
    return words if says_it_all else f"{type(error).__name__}: {words}".rstrip(": ")
