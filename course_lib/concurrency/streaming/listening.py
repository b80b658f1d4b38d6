# mypy: allow-subclassing-any
"""One run of a program as typed events: DSPy's streamify and its listeners, made for this run alone.

Main path: Run(program, asked, inputs).events() -> Token, Status, Citation, then Final, or an exception.
Source: dspy/streaming/streamify.py, streaming_listener.py, messages.py (DSPy 3.4.1). A listener has state, so
one that two requests share mixes their answers, or shows nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import dspy
from dspy.streaming import StatusMessage, StatusMessageProvider, StreamListener, StreamResponse
from pydantic_core import from_json

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


class UnknownFieldError(CourseError):
    """A field that no predictor of the program writes, or that several write."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reader wants to see of a program: made once, for any number of runs."""

    fields: Sequence[str]
    """Names of output fields; `draft.answer` where several predictors have an `answer`."""
    citations: str | None
    """The field that lists sources, if there is one."""
    status: StatusMessageProvider | None
    """Whose words status messages have; None: DSPy's own, which tell of tools."""

    def listeners(self, program: dspy.Module) -> list[_Listener]:
        """Return new listeners, one a field.

        Raises:
            UnknownFieldError: a field that is written by no predictor, or by several.
        """
        names = [*self.fields, *([self.citations] if self.citations else [])]
        return [_Listener(name, *_writer(program, name)) for name in names]


def _writer(program: dspy.Module, name: str) -> tuple[str, dspy.Predict]:
    """Return the name of the predictor that writes a field, and the predictor."""
    predictor, _, plain = name.rpartition(".")
    writers = {
        one: predict for one, predict in program.named_predictors() if plain in predict.signature.output_fields
    }
    found = [one for one in writers if predictor in ("", one)]
    if len(found) == 1:
        return found[0], writers[found[0]]
    if writers:
        choice = " or ".join(repr(f"{one}.{plain}") for one in writers)
        raise UnknownFieldError(f"cannot tell which predictor's field {name!r} is meant; ask for {choice}")
    known = sorted({f for _, predict in program.named_predictors() for f in predict.signature.output_fields})
    raise UnknownFieldError(f"no predictor writes a field {plain!r}; known: {', '.join(known) or 'none'}")


class _Listener(StreamListener):
    """DSPy's listener for one field of one run, with what it has shown so far."""

    def __init__(self, name: str, predict_name: str, predict: dspy.Predict) -> None:
        self.name, self.raw, self.shown, self.is_over, self.finish = name, "", "", False, ""
        super().__init__(name.rpartition(".")[2], predict, predict_name, allow_reuse=True)

    def receive(self, chunk: Any) -> Any:
        """Do what DSPy does; keep why the model stopped."""
        with contextlib.suppress(AttributeError, IndexError):
            self.finish = chunk.choices[0].finish_reason or self.finish
        response = super().receive(chunk)
        return response and _Heard(self, response)

    def finalize(self) -> Any:
        """Do what DSPy does."""
        response = super().finalize()
        return response and _Heard(self, response)

    def more(self, response: StreamResponse) -> str:
        """Return the text that a chunk adds. From JSON it comes with quotes, escapes and the next key."""
        if self.is_over:  # the program writes the field anew
            self.raw = self.shown = ""
        self.raw += response.chunk or ""
        self.is_over = response.is_last_chunk
        is_json = isinstance(dspy.settings.adapter, dspy.JSONAdapter)
        text = _from_json(self.raw) if is_json else self.raw
        added = text[len(self.shown) :]
        self.shown += added
        return added


@dataclass(frozen=True, slots=True)
class _Heard:
    listener: _Listener
    response: StreamResponse


def _from_json(raw: str) -> str:
    """Return the text of a JSON string of which only a beginning may be there; other values stay JSON.

    >>> _from_json('"Say \\\\"hi'), _from_json('"Paris", "next'), _from_json('["a", "b')
    ('Say "hi', 'Paris', '["a", "b')
    """
    if not raw.lstrip().startswith('"'):
        return raw
    try:
        return str(json.JSONDecoder().raw_decode(raw.lstrip())[0])
    except ValueError:
        with contextlib.suppress(ValueError):
            return str(from_json(raw.lstrip(), allow_partial="trailing-strings"))
    return ""


class _Announcer:
    """Asks a provider for its words, and has them put into the stream.

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


class Run:
    """One run of a program, for one stream."""

    def __init__(self, program: dspy.Module, asked: Asked, inputs: dict[str, Any]) -> None:
        self._program, self._asked, self._inputs = program, asked, inputs
        self._listeners = asked.listeners(program)
        self._cited: list[str] = []
        self._late: deque[Status] = deque()

    def partial(self) -> dict[str, str]:
        """Return what was shown of each field."""
        return {one.name: one.shown for one in self._listeners if one.shown and one.name in self._asked.fields}

    async def events(self) -> AsyncIterator[Event]:
        """Run the program; yields its events, Final last. To be iterated by one task, to the end."""
        adapter = type(dspy.settings.adapter or dspy.ChatAdapter()).__name__
        streamed = dspy.streamify(
            self,
            stream_listeners=self._listeners if adapter in _CAN_STREAM else [],
            status_message_provider=_Announcer(self._asked.status, self._offer),
            is_async_program=True,
        )
        async for value in streamed(**self._inputs):
            while self._late:
                yield self._late.popleft()
            for event in self._read(value):
                yield event

    def named_predictors(self) -> list[tuple[str, dspy.Predict]]:
        """Return the program's: streamify looks for them."""
        return list(self._program.named_predictors())

    async def acall(self, **inputs: Any) -> dspy.Prediction:
        """Run the program; one without `aforward` runs in a thread of its own, which a cancelled run ends.

        Raises:
            NotAPredictionError: it ended with anything else, for which streamify would wait for ever.
        """
        if hasattr(self._program, "aforward"):
            prediction = await self._program.acall(**inputs)
        else:
            own = anyio.CapacityLimiter(1)  # asyncify shares 8 threads, and leaves them to themselves
            prediction = await anyio.to_thread.run_sync(partial(self._program, **inputs), limiter=own)
        if isinstance(prediction, dspy.Prediction):
            return prediction
        raise NotAPredictionError(
            f"{type(self._program).__name__} ended with {type(prediction).__name__}; "
            "a stream has to end with a dspy.Prediction: return one from forward and aforward"
        )

    def _offer(self, stream: Any, text: str) -> None:
        """Put a status message into the stream at once; one that finds it full comes before the next value."""
        try:
            stream.send_nowait(StatusMessage(text))
        except anyio.WouldBlock:
            self._late.append(Status(text))
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # the reader has left

    def _read(self, value: Any) -> Iterator[Event]:
        """Yield the events that a value of streamify's stands for; raw chunks stand for none."""
        match value:
            case StatusMessage():
                yield Status(value.message)
            case _Heard(listener, response) if listener.name == self._asked.citations:
                listener.more(response)
                yield from self._citations(_items(listener.shown))
            case _Heard(listener, response):
                text = listener.more(response)
                if text or response.is_last_chunk:
                    yield Token(listener.name, text, is_last=response.is_last_chunk)
            case dspy.Prediction():
                yield from self._ending(value)

    def _ending(self, prediction: dspy.Prediction) -> Iterator[Event]:
        """Yield a finished answer: what was not shown yet as tokens and citations, then all of it."""
        asked = [one for one in self._listeners if one.name in self._asked.fields]
        found = {one.signature_field_name for one in asked if one.signature_field_name in prediction}
        is_cut = any(one.finish == "length" for one in self._listeners)
        final = Final({name: prediction[name] for name in sorted(found)}, is_cut, prediction)
        plain = as_json(final)["fields"]
        for one in asked:
            value = plain.get(one.signature_field_name)
            if value is not None and not one.raw:
                yield from _replayed(one.name, value if isinstance(value, str) else json.dumps(value))
        if self._asked.citations:
            cited = prediction.get(self._asked.citations.rpartition(".")[2])
            yield from self._citations(cited if isinstance(cited, list) else [cited] if cited else [])
        yield final

    def _citations(self, sources: Sequence[Any]) -> Iterator[Citation]:
        for source in map(str, sources):
            if source not in self._cited:
                self._cited.append(source)
                yield Citation(source, len(self._cited))


def _items(text: str) -> list[Any]:
    """Return the complete items of a JSON list of which only a beginning may be there."""
    with contextlib.suppress(ValueError):
        items = from_json(text, allow_partial=True)
        return items if isinstance(items, list) else []
    return []


def _replayed(name: str, text: str) -> Iterator[Token]:
    pieces = tokens.split(text) or [""]
    for n, piece in enumerate(pieces, start=1):
        yield Token(name, piece, is_last=n == len(pieces), is_replayed=True)
