"""Where a recording is written: a file that one block has at a time, and what was there until it is whole.

Main path: with in_place_of(ordinary(path), is_kept=has_steps) as file: writing to `file`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from course_lib.files import locked
from course_lib.lm.recordings import RecordingError, reason


def ordinary(path: str | Path) -> Path:
    """Return a path; of a pipe or a device nobody knows when it ends.

    Raises:
        RecordingError: it is one, or a folder, or no name that a file can have.
    """
    path = Path(path)
    try:
        is_ordinary = path.is_file() or not path.exists()
    except OSError as error:
        raise RecordingError(f"{path} is no file's name ({error.strerror})") from None
    if not is_ordinary:
        raise RecordingError(f"{path} is no ordinary file; name one")
    return path


@contextmanager
def in_place_of(path: Path, is_kept: Callable[[Path], bool] = Path.exists) -> Iterator[Path]:
    """Yield the file to write: where there is one already another beside it, which takes its place then.

    Raises:
        RecordingError: no file can be written there, or another block writes it.
    """
    with ExitStack() as stack:
        file = _taken(path, stack)
        is_new, is_whole = file == path, True
        try:
            yield file
        except RecordingError:
            is_whole = is_new
            raise
        finally:
            if not is_whole or not is_kept(file):
                file.unlink(missing_ok=True)
            elif not is_new:
                file.replace(path.resolve())


def _taken(path: Path, stack: ExitStack) -> Path:
    """Lock a file until the stack ends, and return what to write: it, or what is to take its place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
        stack.callback(os.close, handle)
        stack.enter_context(locked(handle, end_s=0))
        if not os.fstat(handle).st_size:
            return path
        path = path.resolve()
        beside, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(beside)
    except TimeoutError:
        raise RecordingError(f"{path} is written by another block or process; name another file") from None
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path} cannot be written ({reason(error)}); name another file") from None
    return Path(name)


def has_steps(path: Path) -> bool:
    """Say whether there is a line behind a recording's first one."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        file.readline()
        return bool(file.readline())
