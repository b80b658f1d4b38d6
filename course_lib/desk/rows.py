"""Reading the desk's data files strictly: every wrong value is named with its file and line.

Main path: read_records -> one Row per record, whose methods take the fields out, checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from course_lib.errors import CourseError

T = TypeVar("T")


class RecordError(CourseError):
    """A record of the desk's data that cannot be used."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it stands in a file, with the place to name when something is wrong with it."""

    place: str
    """File name and line, as in "orders.json line 7"; for a part of a record, which part."""
    fields: dict[str, Any]
    """The JSON object, unchecked."""

    def fail(self, problem: str) -> NoReturn:
        """Raise RecordError for this record."""
        raise RecordError(
            f"{self.place}: {problem}; correct that line of course_lib/desk/data, or restore the file"
        )

    def only(self, names: Sequence[str]) -> None:
        """Refuse a record that lacks one of `names` or has a field beside them."""
        for name in names:
            if name not in self.fields:
                self.fail(f"field {name!r} is missing")
        for name in self.fields:
            if name not in names:
                self.fail(f"unknown field {name!r}; known: {', '.join(names)}")

    def text(self, name: str, pattern: str = r"\S(.*\S)?") -> str:
        """Return a string that matches `pattern` from end to end."""
        value = self.fields[name]
        if not isinstance(value, str) or not re.fullmatch(pattern, value, flags=re.DOTALL):
            self.fail(f"{name} is {value!r}, not a text of the form {pattern}")
        return value

    def count(self, name: str, *, least: int = 0) -> int:
        """Return a whole number of at least `least`."""
        value = self.fields[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self.fail(f"{name} is {value!r}, not a whole number from {least} up")
        return value

    def choice(self, name: str, options: Sequence[T]) -> T:
        """Return a value that is one of `options`."""
        value = self.fields[name]
        if value not in options:
            self.fail(f"{name} is {value!r}, not one of {', '.join(map(str, options))}")
        return options[options.index(value)]

    def day(self, name: str) -> date:
        """Return a date written YYYY-MM-DD."""
        return self._parsed(name, date.fromisoformat, "a date such as 2026-03-16")

    def moment(self, name: str) -> datetime:
        """Return a date and time of the shop's clock, written without a time zone: 2026-03-16T09:30."""
        value = self._parsed(name, datetime.fromisoformat, "a date and time such as 2026-03-16T09:30")
        if value.tzinfo is not None:
            self.fail(f"{name} is {self.fields[name]!r}; write the time of the shop's clock, without a zone")
        return value

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """Return None for null, else what `read` makes of the field."""
        return None if self.fields[name] is None else read(name)

    def parts(self, name: str, *, least: int = 0) -> list[Row]:
        """Return the objects of a list as rows of their own."""
        value = self.fields[name]
        if (
            not isinstance(value, list)
            or len(value) < least
            or not all(isinstance(part, dict) for part in value)
        ):
            self.fail(f"{name} is not a list of {least} or more objects")
        return [Row(f"{self.place}, {name}[{n}]", part) for n, part in enumerate(value)]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings with at least one in it."""
        value = self.fields[name]
        if not isinstance(value, list) or not value or not all(isinstance(part, str) for part in value):
            self.fail(f"{name} is {value!r}, not a list of texts")
        return tuple(value)

    def _parsed(self, name: str, parse: Callable[[str], T], form: str) -> T:
        value = self.fields[name]
        try:
            return parse(value)
        except (TypeError, ValueError):
            self.fail(f"{name} is {value!r}, not {form}")


def read_records(path: Path, read: Callable[[Row], T], *, key: Callable[[T], str]) -> tuple[T, ...]:
    """Return what `read` makes of each record of a data file, in order of `key`, which no two may share.

    The file has one JSON object per line. Both `.jsonl` files and `.json` arrays serve: brackets on lines of
    their own and commas at line ends are passed over.

    Raises:
        RecordError: when the file cannot be read, is empty, or has a record that `read` or `key` refuses.
    """
    records: dict[str, T] = {}
    for row in _rows(path):
        record = read(row)
        name = key(record)
        if name in records:
            row.fail(f"{name!r} is there already, on an earlier line")
        records[name] = record
    if not records:
        raise RecordError(f"{path.name} holds no records; restore it from the repository")
    return tuple(records[name] for name in sorted(records))


def _rows(path: Path) -> Iterator[Row]:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name} cannot be read: {error}; restore it from the repository") from error
    for number, line in enumerate(content.split("\n"), 1):
        record = line.strip().removesuffix(",")
        if record not in ("", "[", "]"):
            yield _row(f"{path.name} line {number}", record)


def _row(place: str, record: str) -> Row:
    try:
        fields = json.loads(record)
    except ValueError as error:
        raise RecordError(f"{place}: not JSON: {error}; each line holds one whole record") from error
    if not isinstance(fields, dict):
        raise RecordError(f"{place}: {record[:40]!r} is not a JSON object; each line holds one whole record")
    return Row(place, fields)
