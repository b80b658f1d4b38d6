"""The calls that DSPy makes, with their parents, wherever they run: what monitors and tracers stand on.

Main path: a subclass of CallListener says in began(), ended() and noted() what it makes of each Call.
Source: dspy.utils.callback.BaseCallback and ACTIVE_CALL_ID; the settings `usage_tracker` and `send_stream` as
dspy/clients/execution.py uses them (DSPy 3.4.1). For the time of one model call an object of ours stands for
both, and passes on all it gets, so that a tracker or stream of the program's own goes on.
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial, partialmethod
from typing import Any, ClassVar, Self

import dspy
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from course_lib import notes
from course_lib.errors import CourseError
from course_lib.measure.usage import Usage, UsageTracker, usage_of

LM, MODULE, TOOL, FORMAT, PARSE, EVALUATE, COMPILE, BLOCK, OTHER = (
    *("lm", "module", "tool", "format", "parse", "evaluate", "compile", "block", "other"),
)
_log = logging.getLogger("dspy.utils.callback")  # where DSPy tells of a callback that fails
_BLOCKS = "course_blocks"
_ENDED_KEPT = 2_000
"""So many ended calls are known as parents of what outlives them."""


class Heard(UsageTracker):
    """What one call of a model reports; all who listen to the call share it."""

    def __init__(self, call_id: str) -> None:
        super().__init__()
        self._call_id, self.listeners = call_id, 0
        self.usage: Usage | None = None
        """What the model reported; None when a cache answered."""
        self.model = ""
        """The model that reported it: another one than was asked, if that one fell back."""
        self.first_token_s: float | None = None
        """On the clock of time.perf_counter()."""

    @classmethod
    def join(cls, call_id: str) -> Heard:
        """Return what is heard of a call that begins here; until all leave(), it stands in the settings."""
        heard = _under_way.get(call_id) or _under_way.setdefault(call_id, cls(call_id))
        heard.listeners += 1  # those of one call begin and end one after the other, on its thread or task
        if heard.listeners == 1:
            heard._begin()  # noqa: SLF001
        return heard

    def leave(self) -> None:
        """Leave when the call has ended; the last one puts back what was in the settings."""
        self.listeners -= 1
        if self.listeners:
            return
        _under_way.pop(self._call_id, None)
        if self._context is not None:
            # A coroutine thrown away while suspended ends in another context: nothing to put back there.
            with suppress(ValueError):
                self._context.__exit__(None, None, None)

    @property
    def is_told(self) -> bool:
        """Whether the tracker in the settings tells it, so that it stands in no settings itself."""
        return self._context is None

    @property
    def is_stream(self) -> bool:
        """Whether somebody reads the answer as a stream."""
        return self._stream is not None

    def _begin(self) -> None:
        settings = dspy.settings
        self._tracker, self._stream = settings.get("usage_tracker"), settings.get("send_stream")
        self._context: Any = None
        if self._stream is None and type(self._tracker) is UsageTracker:
            return  # it tells who listens; settings of our own would take as long as all the rest
        if self._tracker is not None:  # a track_usage() within the call adds its entries here
            self.usage_data = self._tracker.usage_data
        stream = None if self._stream is None else self
        self._context = dspy.context(usage_tracker=self, send_stream=stream)
        self._context.__enter__()

    def add_usage(self, lm: str, usage_entry: Mapping[str, Any]) -> None:
        """Take a report; that of a model which this model calls is only passed on."""
        if self._call_id == ACTIVE_CALL_ID.get():
            self.take(lm, usage_entry)
        if self._tracker is not None:
            self._tracker.add_usage(lm, usage_entry)

    def take(self, lm: str, usage_entry: Mapping[str, Any]) -> None:
        """Take a report of this call."""
        reported = usage_of([(lm, usage_entry)])
        self.usage = reported if self.usage is None else self.usage + reported
        if reported.tokens or not self.model:
            self.model = lm

    async def send(self, chunk: Any) -> None:
        """Note when the first text of the stream left, and pass all on."""
        if self.first_token_s is None and _has_text(chunk):
            self.first_token_s = time.perf_counter()
        await self._stream.send(chunk)


_under_way: dict[str, Heard] = {}


def _hear(lm: str, usage_entry: Mapping[str, Any]) -> None:
    """Give a report that a tracker of ours has got to the call that it is of, if somebody listens to it."""
    heard = _under_way.get(ACTIVE_CALL_ID.get())
    if heard is not None and heard.is_told:
        heard.take(lm, usage_entry)


UsageTracker.heard_by.append(_hear)


def _has_text(chunk: Any) -> bool:
    choices = getattr(chunk, "choices", None)
    delta = getattr(choices[0], "delta", None) if choices else None
    return bool(getattr(delta, "content", None) or getattr(delta, "reasoning_content", None))


_NOTHING: frozenset[str] = frozenset()


@cache
def _around(above: frozenset[str], kind: str) -> frozenset[str]:
    """Return the kinds around a call: one object for all that stand alike, since thousands are kept."""
    return above | {kind}


class Call:
    """A call of a module, model, tool or adapter; or a block of code that a listener opened."""

    __slots__ = ("around", "begun_s", "data", "failed_parse", "heard", "id", "instance", "kind", "parent")

    def __init__(self, kind: str, call_id: str | None, instance: Any, parent: Call | None) -> None:
        self.kind, self.id, self.instance, self.parent = kind, call_id, instance, parent
        self.around: frozenset[str] = _around(parent.around, parent.kind) if parent else _NOTHING
        self.heard: Heard | None = None
        self.failed_parse = False
        self.data: Any = None
        """The listener's own."""
        self.begun_s = time.perf_counter()

    @property
    def is_outermost(self) -> bool:
        """Whether no call of its kind is around it."""
        return self.kind not in self.around

    @property
    def name(self) -> str:
        """The model's name, or the tool's, or that of the class."""
        if self.kind == LM:
            return str(getattr(self.instance, "model", type(self.instance).__name__))
        return str(self.instance.name) if self.kind == TOOL else type(self.instance).__name__


class CallListener(BaseCallback):
    """A DSPy callback that knows of each call which one it stands in, and hears what models report.

    As a context manager it hears everything that runs below the block: DSPy carries the context to the
    threads of dspy.Parallel, batch, Evaluate and asyncify, Python to tasks and asyncio.to_thread. Threads of
    one's own do not inherit it (`contextvars.copy_context().run` carries it); for those, and for a service,
    install it for good: `dspy.configure(callbacks=[listener])`. dspy.streamify keeps the callbacks of the
    moment at which it is called.

    A task may outlive the call that began it: what it calls stands in that call still, until 2,000 further
    calls have ended; from then on it stands in none, and for a tracer begins a trace of its own.
    """

    EVERYWHERE: ClassVar[frozenset[str]] = frozenset()
    """Names of notes that it takes wherever they are told."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[str, Call] = {}
        self._ended: OrderedDict[str, Call] = OrderedDict()
        self._context: Any = None
        self._has_blocks = False
        notes.listen(self._hear_note)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self  # a program copied by an optimizer still reports here

    def __enter__(self) -> Self:
        """Begin to listen in this context; what was heard before stays.

        Raises:
            CourseError: it is already listening.
        """
        if self._context is not None:
            what = type(self).__name__
            raise CourseError(f"this {what} is already listening; make another one for a block within it")
        self._context = dspy.context(callbacks=[*dspy.settings.callbacks, self])
        self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop listening; calls of the block that are still under way are heard to their end."""
        context, self._context = self._context, None
        context.__exit__(*error)

    @property
    def hears(self) -> bool:
        """Whether it would hear a call that begins here; if not, it can be left out of the callbacks."""
        return True

    # -- what a subclass says ------------------------------------------------------------------------

    def began(self, call: Call, inputs: Mapping[str, Any]) -> None:
        """Take a call that begins."""

    def passes_over(self, parent: Call) -> bool:  # noqa: ARG002
        """Say whether nothing that stands in a call is to be heard; such calls are known as that one."""
        return False

    def ended(self, call: Call, outputs: Any, error: BaseException | None) -> None:
        """Take a call that has ended."""

    def noted(self, call: Call | None, name: str, facts: Mapping[str, notes.Fact]) -> None:
        """Take a note told in a call known here; `call` is None for one of EVERYWHERE told elsewhere."""

    # -- what DSPy calls, on the thread or task of the call ------------------------------------------

    def _start(self, kind: str, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:
        """Open a call, unless it is open already (a callback installed twice is called twice).

        Each class that an adapter inherits from wraps format and parse once more: one call, told again.
        """
        if call_id in self._open:
            return
        if kind == MODULE and not isinstance(instance, dspy.Module):
            kind = OTHER
        parent = self.current()
        if parent and self.passes_over(parent):
            self._open[call_id] = parent
            return
        if kind in (FORMAT, PARSE) and parent and parent.kind == kind and parent.instance is instance:
            self._open[call_id] = parent
            return
        call = self._open[call_id] = Call(kind, call_id, instance, parent)
        if kind == LM:
            call.heard = Heard.join(call_id)
        elif kind == FORMAT and parent and parent.failed_parse:
            parent.failed_parse = False
            self.noted(parent, "adapter.fallback", {"adapter": call.name})
        self.began(call, inputs)

    def _end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        call = self._open.pop(call_id, None)
        if call is None:
            return
        try:
            if call.id == call_id:
                self._end_of(call, outputs, exception)
        finally:
            self._ended[call_id] = call
            if len(self._ended) > _ENDED_KEPT:
                try:  # noqa: SIM105  (suppress() takes as long as all of this)
                    self._ended.popitem(last=False)
                except KeyError:  # another thread was first
                    pass

    def _end_of(self, call: Call, outputs: Any, exception: BaseException | None) -> None:
        if call.kind == PARSE and exception is not None and call.parent:
            call.parent.failed_parse = True
        try:
            self.ended(call, outputs, exception)
        finally:
            if call.heard:
                call.heard.leave()
            call.instance = call.heard = call.parent = None  # what is kept of it is a parent, no more

    on_module_start = partialmethod(_start, MODULE)
    on_lm_start = partialmethod(_start, LM)
    on_tool_start = partialmethod(_start, TOOL)
    on_adapter_format_start = partialmethod(_start, FORMAT)
    on_adapter_parse_start = partialmethod(_start, PARSE)
    on_evaluate_start = partialmethod(_start, EVALUATE)
    on_compile_start = partialmethod(_start, COMPILE)
    on_module_end = on_lm_end = on_tool_end = on_evaluate_end = on_compile_end = _end
    on_adapter_format_end = on_adapter_parse_end = _end

    # -- where one stands ----------------------------------------------------------------------------

    def current(self) -> Call | None:
        """Return the innermost call or block in this context; None outside all that it knows."""
        active = ACTIVE_CALL_ID.get()
        block = within = None
        if self._has_blocks:  # else the settings, which take a while, need not be asked
            block, within = (dspy.settings.get(_BLOCKS) or {}).get(self, (None, None))
        if block is not None and within == active:
            return block  # type: ignore[no-any-return]
        return self._open.get(active) or self._ended.get(active) or block

    @contextmanager
    def opened(self, block: Call) -> Iterator[None]:
        """Let calls within the `with` block stand in `block`, wherever DSPy's settings reach."""
        self._has_blocks = True
        blocks = {**(dspy.settings.get(_BLOCKS) or {}), self: (block, ACTIVE_CALL_ID.get())}
        with dspy.context(**{_BLOCKS: blocks}):
            yield

    def _hear_note(self, name: str, facts: Mapping[str, notes.Fact]) -> None:
        call = self.current()
        if call is not None or name in self.EVERYWHERE:
            self.noted(call, name, facts)


def arguments(item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return how an item is handed to a program: Example and dict by name, tuple by place, else as it is.

    >>> arguments({"ticket": "Where is it?"}), arguments("Where is it?")
    (((), {'ticket': 'Where is it?'}), (('Where is it?',), {}))
    """
    if isinstance(item, dspy.Example):
        return (), dict(item.inputs())
    if isinstance(item, dict):
        return (), item
    return (item if isinstance(item, tuple) else (item,)), {}


class Together(BaseCallback):
    """Several callbacks as one: DSPy works out once, not once for each, what kind of call it is."""

    def __init__(self, *callbacks: BaseCallback) -> None:
        super().__init__()
        for name in _HANDLERS:
            own = [each for each in callbacks if getattr(type(each), name) is not getattr(BaseCallback, name)]
            setattr(self, name, partial(_tell, [getattr(each, name) for each in own]))


_HANDLERS = [name for name in vars(BaseCallback) if name.startswith("on_")]


def _tell(handlers: list[Callable[..., None]], **call: Any) -> None:
    """Tell all of them; no error of one reaches the others, or the call."""
    for hear in handlers:
        try:
            hear(**call)
        except Exception as error:  # border: a listener must not break what it listens to
            _log.warning("a listener failed: %s", type(error).__name__)
