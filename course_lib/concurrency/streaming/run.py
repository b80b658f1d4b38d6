# mypy: allow-subclassing-any
"""One run of a program as typed events: DSPy's streamify and its listeners, made for this run alone.

Main path: Run(program, inputs, fields).events() -> Token, Status, Citation, then Final, or an exception.
Source: dspy/streaming/streamify.py, streaming_listener.py, messages.py (DSPy 3.4.1). A listener has state:
one that two requests share mixes their answers, or shows nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import dspy
from dspy.streaming import StatusMessage, StatusMessageProvider, StreamListener, StreamResponse
from pydantic_core import from_json

from course_lib.concurrency import tasks
from course_lib.concurrency.streaming.events import (
    Citation,
    Event,
    Final,
    NotAPredictionError,
    Status,
    Token,
    as_json,
)
from course_lib.errors import CourseError
from course_lib.lm import tokens

_CAN_STREAM = {"ChatAdapter", "JSONAdapter", "XMLAdapter"}  # DSPy's listeners compare the class's name

_THREAD_ENDS_WITHIN_S = 1.0


class UnknownFieldError(CourseError):
    """A field that no predictor of the program writes, or that several write."""


class Run:
    """One run of a program, for one stream; the parameters are those of stream()."""

    def __init__(
        self,
        program: dspy.Module,
        inputs: Mapping[str, Any],
        *,
        fields: Sequence[str] = ("answer",),
        citations: str | None = None,
        status: StatusMessageProvider | None = None,
    ) -> None:
        self._program, self._inputs, self._status = program, inputs, status
        self._shown = [_Listener(program, name) for name in fields]
        self._sources = [_Listener(program, citations)] if citations else []
        self._cited: list[str] = []
        self._cause: BaseException | None = None
        self._late: deque[Status] = deque()

    def partial(self) -> dict[str, str]:
        """Return what was shown of each field."""
        return {one.name: one.text for one in self._shown if one.text}

    async def events(self) -> AsyncGenerator[Event, None]:
        """Run the program; yields its events, Final last. To be iterated by one task, to the end."""
        adapter = type(dspy.settings.adapter or dspy.ChatAdapter()).__name__
        streamed = dspy.streamify(
            self,
            stream_listeners=[*self._shown, *self._sources] if adapter in _CAN_STREAM else [],
            status_message_provider=_Announcer(self._status, self._offer),
            is_async_program=True,
        )
        values = streamed(**self._inputs)
        try:
            async for value in values:
                while self._late:
                    yield self._late.popleft()
                for event in self._read(value):
                    yield event
        except Exception as error:
            error.__cause__ = error.__cause__ or self._cause  # streamify raises `from None`
            raise
        finally:
            with anyio.CancelScope() as leaving:  # aclose() would leave the generator inside of it open
                leaving.cancel()
                async for _ in values:
                    pass

    def named_predictors(self) -> list[tuple[str, dspy.Predict]]:
        """Return the program's: streamify looks for them."""
        return list(self._program.named_predictors())

    async def acall(self, **inputs: Any) -> dspy.Prediction:
        """Run the program.

        Raises:
            NotAPredictionError: it ended with anything else, for which streamify would wait for ever.
        """
        try:
            if hasattr(self._program, "aforward"):
                prediction = await self._program.acall(**inputs)
            else:
                prediction = await _in_thread(partial(self._program, **inputs))
        except Exception as error:
            self._cause = error.__cause__
            raise
        except BaseException as error:  # border: what else a program raises would end the event loop
            if isinstance(error, asyncio.CancelledError) and tasks.is_cancelled():
                raise
            raise _no_prediction(self._program, type(error).__name__) from error
        if isinstance(prediction, dspy.Prediction):
            await asyncio.sleep(0)  # status messages that were offered come before the end
            return prediction
        raise _no_prediction(self._program, type(prediction).__name__)

    def _offer(self, stream: Any, text: str) -> None:
        """Put a status message into the stream; if that is full, it comes before the next value."""
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # the reader has left
            try:
                stream.send_nowait(StatusMessage(text))
            except anyio.WouldBlock:
                self._late.append(Status(text))

    def _read(self, value: Any) -> Iterator[Event]:
        """Yield the events that a value of streamify's stands for; a raw chunk stands for none."""
        if isinstance(value, StatusMessage):
            yield Status(value.message)
        elif isinstance(value, dspy.Prediction):
            yield from self._ending(value)
        elif isinstance(value, StreamResponse):
            for one in filter(lambda one: one.wrote(value), self._shown):
                yield Token(one.name, one.more(value), is_last=value.is_last_chunk)
            for one in filter(lambda one: one.wrote(value), self._sources):
                one.more(value)
                yield from self._citations(_items(one.text))

    def _ending(self, prediction: dspy.Prediction) -> Iterator[Event]:
        """Yield a finished answer: what was not shown yet as tokens and citations, then all of it."""
        names = [one.signature_field_name for one in self._shown]
        is_cut = any(one.was_cut for one in (*self._shown, *self._sources))
        final = Final({name: prediction[name] for name in names if name in prediction}, is_cut, prediction)
        plain = json.loads(json.dumps(as_json(final)))["fields"]  # what cannot be sent fails now
        heard = {one.signature_field_name for one in self._shown if one.was_heard}
        for one in sorted([*self._shown, *self._sources], key=_Listener.place):
            name = one.signature_field_name
            if one in self._sources:
                cited = prediction.get(name) or []
                yield from self._citations(cited if isinstance(cited, list) else [cited])
            elif name in plain and name not in heard:
                heard.add(name)
                yield from _replayed(name, plain[name])
        yield final

    def _citations(self, sources: Sequence[Any]) -> Iterator[Citation]:
        for source in map(str, sources):
            if source not in self._cited:
                self._cited.append(source)
                yield Citation(source, len(self._cited))


async def _in_thread(call: Callable[[], Any]) -> Any:
    """Run a call in a thread of its own; asyncify would share eight of them.

    A thread cannot be cancelled. It ends at the model's next token, which finds the stream closed; nobody
    waits longer than a moment for a model that is silent.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def work() -> Any:
        try:
            return call()
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(ended.set)

    try:
        own = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(work, limiter=own, abandon_on_cancel=True)
    except asyncio.CancelledError:
        with anyio.move_on_after(_THREAD_ENDS_WITHIN_S, shield=True):
            await ended.wait()
        raise


def _no_prediction(program: dspy.Module, what: str) -> NotAPredictionError:
    return NotAPredictionError(
        f"{type(program).__name__} ended with {what}; a stream has to end with a dspy.Prediction: "
        "return one from forward and aforward"
    )


def _replayed(name: str, value: Any) -> Iterator[Token]:
    """Yield a finished value as the tokens that a model would have written."""
    *pieces, last = tokens.split(value if isinstance(value, str) else json.dumps(value)) or [""]
    for piece in pieces:
        yield Token(name, piece, is_replayed=True)
    yield Token(name, last, is_last=True, is_replayed=True)


def _items(text: str) -> list[Any]:
    """Return the complete items of a list, in JSON or XML, of which only a beginning may be there.

    >>> _items('["a", "b'), _items("<item>a</item><item>b")
    (['a'], ['a'])
    """
    if text.lstrip().startswith("<"):
        return re.findall(r"<item>(.*?)</item>", text, re.DOTALL)
    with suppress(ValueError):
        items = from_json(text, allow_partial=True)
        return items if isinstance(items, list) else []
    return []


class _Listener(StreamListener):
    """DSPy's listener for one field of one run, with what it has shown so far."""

    def __init__(self, program: dspy.Module, name: str) -> None:
        self.name, self.raw, self.text = name, "", ""
        self.finish: str | None = None  # nothing was streamed
        self.was_heard = self._is_over = False
        predict_name, predict = _writer(program, name)
        super().__init__(name.rpartition(".")[2], predict, predict_name, allow_reuse=True)

    def place(self) -> int:
        """Return the field's place among those of its predictor: what is replayed keeps their order."""
        return list(self.predict.signature.output_fields).index(self.signature_field_name)

    @property
    def was_cut(self) -> bool:
        """Whether the model stopped at its limit, or its stream ended without a reason, as a cut one may."""
        return self.finish in ("", "length")

    def receive(self, chunk: Any) -> StreamResponse | None:
        """Do what DSPy does; keep why the model stopped, an empty text as long as it did not say."""
        self.finish = self.finish or ""
        with suppress(AttributeError, IndexError):
            self.finish = chunk.choices[0].finish_reason or self.finish
        return super().receive(chunk)

    def wrote(self, response: StreamResponse) -> bool:
        """Return whether a chunk is of this field."""
        written = (response.predict_name, response.signature_field_name)
        return written == (self.predict_name, self.signature_field_name)

    def more(self, response: StreamResponse) -> str:
        """Return the text that a chunk adds; DSPy's chunks of JSON have quotes, escapes and the next key."""
        if self._is_over:  # the program writes the field anew
            self.raw = self.text = ""
        self.raw += response.chunk or ""
        is_json = isinstance(dspy.settings.adapter, dspy.JSONAdapter)
        text, before = _from_json(self.raw) if is_json else self.raw, len(self.text)
        self.text = max(self.text, text, key=len)  # half an escape has no text yet
        self.was_heard, self._is_over = True, response.is_last_chunk
        return self.text[before:]


def _writer(program: dspy.Module, name: str) -> tuple[str, dspy.Predict]:
    """Return the name of the predictor that writes a field, and the predictor."""
    writers = {
        f"{one}.{field}": (one, predict)
        for one, predict in program.named_predictors()
        for field in predict.signature.output_fields
    }
    found = [key for key in writers if name in (key, key.rpartition(".")[2])]
    if len(found) == 1:
        return writers[found[0]]
    raise UnknownFieldError(
        f"field {name!r} is written by {len(found)} predictors; ask for one of: {', '.join(writers)}"
    )


def _from_json(raw: str) -> str:
    r"""Return the text of a JSON string of which only a beginning may be there; other values stay JSON.

    >>> _from_json(' "Say \\"hi'), _from_json('"Paris", "next'), _from_json('["a", "b"], "next')
    ('Say "hi', 'Paris', '["a", "b"]')
    """
    raw = raw.lstrip()
    with suppress(ValueError):
        value, end = json.JSONDecoder().raw_decode(raw)
        return value if isinstance(value, str) else raw[:end]
    with suppress(ValueError):
        return str(from_json(raw, allow_partial="trailing-strings")) if raw.startswith('"') else raw
    return ""


class _Announcer:
    """Asks a provider for its words, and offers them to the stream without waiting.

    DSPy's own way opens an event loop in a thread and blocks the program's until the message is taken: a slow
    reader stops it for good. From a tool in a thread of asyncio's it fails, with a warning.
    """

    def __init__(self, provider: StatusMessageProvider | None, offer: Callable[[Any, str], None]) -> None:
        self._provider, self._offer = provider or StatusMessageProvider(), offer
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Callable[..., None]:
        words = getattr(self._provider, name)

        def announce(*args: Any) -> None:  # None: nothing is left for DSPy to send
            if text := words(*args):
                self._loop.call_soon_threadsafe(self._offer, dspy.settings.send_stream, str(text))

        return announce
