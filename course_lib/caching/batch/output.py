"""The batch's results as a JSONL file: a line per item, in order, each exactly once, also over several runs.

Main path: Output(path) -> add(item) for every item handed out; lines of an earlier run are not repeated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import dspy
from pydantic_core import to_jsonable_python

from course_lib.caching.batch.errors import OutputError
from course_lib.caching.batch.items import Item


class Output:
    """An output file, open for appending. A line that a kill left half written is cut off first."""

    def __init__(self, path: Path, *, may_resume: bool) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b")
        except OSError as error:
            raise OutputError(
                f"the output {path} cannot be written: {error.strerror}; name another place"
            ) from error
        self.cut_bytes = self._cut_torn_tail()
        """Length of the half line that was cut off."""
        if self._file.tell() and not may_resume:
            self.close()
            raise OutputError(
                f"{path} already holds something; name another file, or give a journal to go on with"
            )
        self._end = self._file.tell()
        self._file.seek(0)

    def add(self, item: Item) -> None:
        """Write the item's line, or compare it with the line that an earlier run wrote."""
        if self._file.tell() < self._end:
            self._compare(item, self._file.readline())
            return
        try:
            line = json.dumps(_line(item), ensure_ascii=False, default=_plain)
            self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"item {item.index} could not be written to {self._path}: {error.strerror}. Lines before "
                "it are kept: make room, and run the batch again with its journal"
            ) from error

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError:  # the disk is full: add() has said so, and the next run cuts the half line off
            return

    def _compare(self, item: Item, line: bytes) -> None:
        try:
            key = json.loads(line)["key"]
        except (ValueError, KeyError, TypeError):
            key = None
        if key != item.key:
            raise OutputError(
                f"line {item.index + 1} of {self._path} is of {key!r}, not of item {item.key!r}: it is of "
                "another batch. Name another file"
            )

    def _cut_torn_tail(self) -> int:
        size = self._file.seek(0, 2)
        end = size
        while end:
            step = min(end, 65536)
            self._file.seek(end - step)
            found = self._file.read(step).rfind(b"\n")
            if found >= 0:
                end += found + 1 - step
                break
            end -= step
        if end < size:
            self._file.truncate(end)
        self._file.seek(end)
        return size - end


def _line(item: Item) -> dict[str, Any]:
    line: dict[str, Any] = {"index": item.index, "key": item.key}
    if item.error is None:
        line["result"] = item.result
    else:
        line["error"] = {"kind": item.error.kind, "message": item.error.message}
    return line


def _plain(value: Any) -> Any:
    """Return a Prediction as a dict, and anything else as pydantic would write it."""
    return dict(value.items()) if isinstance(value, dspy.Example) else to_jsonable_python(value, fallback=str)
