"""Reading the desk's data files strictly: every wrong value is named with its file and line.

Main path: read_records(path, Ticket, key="id") -> the file's records, validated by Pydantic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from course_lib.errors import CourseError

T = TypeVar("T")

STRICT = ConfigDict(strict=True, extra="forbid")
"""For record classes: no conversion, no field beside those that are known."""
Text = Annotated[str, Field(pattern=r"(?s)^\S(.*\S)?$")]
"""A text that is not empty, without spaces around it."""


class RecordError(CourseError):
    """A record of the desk's data that cannot be used."""


def read_records(path: Path, kind: type[T], *, key: str) -> tuple[T, ...]:
    """Return the records of a data file, in order of the field `key`, which no two may share.

    The file has one JSON object per line. Both `.jsonl` files and `.json` arrays serve: brackets on lines of
    their own and commas at line ends are passed over.

    Raises:
        RecordError: when the file cannot be read, is empty, or has a record that is no `kind` or a second one
            with the same key; the message names file and line.
    """
    adapter = TypeAdapter(kind)
    records: dict[str, T] = {}
    for place, line in _lines(path):
        try:
            record = adapter.validate_json(line)
        except ValidationError as error:
            raise _wrong(place, "; ".join(map(_problem, error.errors()))) from None
        name = getattr(record, key)
        if name in records:
            raise _wrong(place, f"{name!r} is there already, on an earlier line")
        records[name] = record
    if not records:
        raise RecordError(f"{path.name} holds no records; restore it from the repository")
    return tuple(records[name] for name in sorted(records))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name} cannot be read: {error}; restore it from the repository") from error
    for number, line in enumerate(content.split("\n"), 1):
        record = line.strip().removesuffix(",")
        if record not in ("", "[", "]"):
            yield f"{path.name} line {number}", record


def _wrong(place: str, problem: str) -> RecordError:
    return RecordError(f"{place}: {problem}; correct that line of course_lib/desk/data, or restore the file")


def _problem(details: Mapping[str, Any]) -> str:
    field = ".".join(map(str, details["loc"]))
    return f"{field} is {details['input']!r:.60}: {details['msg']}" if field else str(details["msg"])
