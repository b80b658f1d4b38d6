"""The input of a batch, whatever it is, one item at a time.

Main path: Source(items, key).take() -> jobs that are there now; pull(loop) -> a future for one to come.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, cast

from course_lib.caching.batch.books import Job
from course_lib.caching.batch.errors import InputError
from course_lib.caching.batch.plain import digest

_OVER: Any = object()
"""Stands for the end of an async input: a future cannot hold StopAsyncIteration."""


class Source:
    """An input. An error that it raises is kept until every item before it has been handed out."""

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any] | Path,
        key: Callable[[Any], str] | None,
        *,
        is_journaled: bool,
    ) -> None:
        self._key, self._is_journaled = key, is_journaled
        self._next = 0
        self._later: AsyncIterator[Any] | None = None
        self._now: Iterator[Any] = iter(())
        self._pulling: concurrent.futures.Future[Any] | None = None
        self._pulled: list[Job] = []
        self._error: BaseException | None = None
        self._is_over = False
        self.length: int | None = len(items) if isinstance(items, Sized) else None
        """How many items there are, if the input says so."""
        if isinstance(items, Path):
            self._now = read_lines(items)
        elif isinstance(items, AsyncIterable):
            self._later = aiter(items)
        elif isinstance(items, str | bytes) or not isinstance(items, Iterable):
            raise InputError(
                f"items {items!r:.60} is no input; give a list, a generator or the Path of a JSONL file"
            )
        else:
            self._now = iter(items)

    def take(self) -> list[Job]:
        """Return what can be had without waiting: the next of a plain iterable, or what was pulled."""
        if self._later is not None:
            jobs, self._pulled = self._pulled, []
            return jobs
        if self._is_over:
            return []
        try:
            return [self._job(next(self._now))]
        except StopIteration:
            self._is_over = True
        except Exception as error:  # border: the caller's own input; raised when the items before it are out
            self._end_with(error)
        return []

    def pull(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> list[concurrent.futures.Future[Any]]:
        """Return a future that is done when an async input has given an item; nothing if it is over."""
        if self._later is None or self._is_over:
            return []
        if self._pulling is None:
            self._pulling = asyncio.run_coroutine_threadsafe(_next_of(self._later), loop())
        return [self._pulling]

    def collect(self) -> None:
        """Take over what a pull has brought."""
        if self._pulling is None or not self._pulling.done():
            return
        done, self._pulling = self._pulling, None
        try:
            item = done.result()
            if item is _OVER:
                self._is_over = True
            else:
                self._pulled.append(self._job(item))
        except Exception as error:  # border: the caller's own input, as in take()
            self._end_with(error)

    def complain(self) -> None:
        """Raise the error that ended the input, if one did."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop waiting for an item."""
        self._is_over = True
        if self._pulling is not None:
            self._pulling.cancel()

    def _end_with(self, error: BaseException) -> None:
        self._is_over, self._error = True, error

    def _job(self, item: Any) -> Job:
        index = self._next
        self._next += 1
        key = str(index) if self._key is None else self._key(item)
        if not isinstance(key, str):
            raise InputError(f"key= returned {key!r} for item {index}; a key is a text")
        return Job(index, key, item, digest(item) if self._is_journaled else b"")


async def _next_of(later: AsyncIterator[Any]) -> Any:
    try:
        return await anext(later)
    except StopAsyncIteration:
        return _OVER


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSONL file, one object at a time.

    Raises:
        InputError: it cannot be read, or a line is no JSON object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _object(line, f"line {number} of {path}")
    except OSError as error:
        raise InputError(f"the input {path} cannot be read: {error.strerror}") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{where} is {found!r:.60}; each line is an object such as {{'ticket': '...'}}")
    return cast("dict[str, Any]", found)
