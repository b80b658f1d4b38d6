"""The input of a batch: any iterable, or a JSONL file, one item at a time.

Main path: open_input(given) -> iterator, length; jobs_of(iterator) -> a Job for each item.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import dspy
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from course_lib.caching.batch.errors import InputError, UnkeepableError
from course_lib.caching.batch.execution import arguments
from course_lib.caching.batch.run import Job


def open_input(given: Any) -> tuple[Iterator[Any], int | None]:
    """Return an iterator over the items, and how many there are if the input says so.

    Raises:
        InputError: it is no input.
    """
    if isinstance(given, Path):
        return read_lines(given), None
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(
            f"items {given!r:.60} is no input; give a list, a generator or the Path of a JSONL file"
        )
    return iter(given), len(given) if isinstance(given, Sized) else None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSONL file in UTF-8, with or without a byte order mark, one object at a time.

    Raises:
        InputError: it cannot be read, or a line is no JSON object.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"line {number} of {path}"
                if not line.strip():
                    continue
                found = json.loads(line.decode("utf-8-sig"))
                if not isinstance(found, dict):
                    raise InputError(
                        f"{where} is {found!r:.60}; each line is an object such as {{'ticket': '...'}}"
                    )
                yield found
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8: {error}. Save the file as UTF-8") from error
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}") from error
    except OSError as error:
        raise InputError(f"the input {where} cannot be read: {error.strerror}") from error


def jobs_of(items: Iterator[Any], key: Callable[[Any], str] | None, *, is_journaled: bool) -> Iterator[Job]:
    """Return a job for each item; an error of the input is the last job's, and so raised in its place."""
    index = -1
    try:
        for index, item in enumerate(items):
            name = str(index) if key is None else key(item)
            if not isinstance(name, str):
                raise InputError(f"key= returned {name!r} for item {index}; a key is a text")
            yield Job(index, name, item, _digest(item) if is_journaled else b"")
    except Exception as error:  # border: the caller's own input
        broken = Job(index + 1, "", None)
        broken.future.set_exception(error)
        yield broken


def _digest(item: Any) -> bytes:
    """Return a fingerprint of what the program is given for `item`; equal in every process."""
    try:
        text = json.dumps(arguments(item), sort_keys=True, default=_stable)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnkeepableError(
            f"an item of type {type(item).__name__} cannot be recognised again: {error}. "
            "Give the batch plain data, pydantic models or dspy.Example objects of such"
        ) from error
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _stable(value: Any) -> Any:
    """Return what stands in a fingerprint for a value that JSON does not know."""
    if isinstance(value, set | frozenset):  # their order changes from process to process
        return sorted(json.dumps(part, sort_keys=True, default=_stable) for part in value)
    if isinstance(value, dspy.Example):
        return dict(value.items())
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else to_jsonable_python(value)
