"""Writing a file so that it is either the old one or the new one, never half of it.

Main path: write_whole(), and check_place() before work that is long. appending() is for who adds lines to a
file that somebody else may replace, and lock_folder() for who reads files before writing them.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from course_lib.errors import CourseError

_LOOK_AGAIN_S = 0.01


class FileError(CourseError):
    """A file could not be written; what was there before is untouched."""


@contextmanager
def appending(path: Path, *, mode: int = 0o644, within_s: float = math.inf) -> Iterator[BinaryIO]:
    """Open a file to read and to append, and let nobody who locks it replace it until the block ends.

    Raises:
        TimeoutError: somebody else has locked it for longer than `within_s`.
    """
    end_s = time.monotonic() + within_s
    while True:
        opened = open(path, "ab+", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
        with opened as file, locked(file.fileno(), end_s):
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                try:
                    yield file
                finally:
                    file.flush()
                return


@contextmanager
def locked(handle: int, end_s: float = math.inf) -> Iterator[None]:
    """Hold the lock of an open file: a child that is forked meanwhile has it too, so to close is not enough.

    Raises:
        TimeoutError: somebody else has it still at `end_s`, of time.monotonic().
    """
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if end_s < math.inf else 0))
            break
        except BlockingIOError:
            if time.monotonic() > end_s:
                raise TimeoutError(errno.ETIMEDOUT, "somebody else has locked it") from None
            time.sleep(_LOOK_AGAIN_S)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def append_lines(path: Path, lines: str, *, within_s: float = math.inf) -> None:
    """Append whole lines to a file that its owner alone reads, also after a line that is torn.

    Raises:
        TimeoutError: somebody else has locked it for longer than `within_s`.
    """
    with appending(path, mode=0o600, within_s=within_s) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # a full disk, or a process that was killed, left half a line
                lines = f"\n{lines}"
        file.write(lines.encode())


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep out all others who lock this folder, of any process, until the block ends; a kill ends it too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with locked(handle):
            yield
    finally:
        os.close(handle)


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` in one step (a temporary file beside it, then a rename).

    A link stays, and what it names is written; a device or a pipe is written into, and not replaced.

    Raises:
        FileError: the folder is missing, read-only or full; `path` is as it was.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, "utf-8")
            return
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(scratch).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
            Path(scratch).replace(path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _refused(path, error) from error


def check_place(path: Path) -> None:
    """See whether write_whole() can write to `path`, before there is anything to write.

    Raises:
        FileError: its folder cannot be made, or nothing can be written to it.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.is_file() or not path.exists():
            path = Path(os.path.realpath(path))
            path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> FileError:
    return FileError(
        f"could not write {path}: {error.strerror}; nothing was changed. "
        "Free some space or make the folder writable, or name another place"
    )
