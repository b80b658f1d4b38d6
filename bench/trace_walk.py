"""How far one program call walks: which files of course_lib it enters, and how often it changes between them.

Counted: every time Python enters (or resumes) a function of course_lib, in any thread, while the program
answers; `files` are the different files entered, `changes` the neighbours in that sequence that lie in
different files. Returns are not counted, nor what runs in DSPy or another library.
Run: python -m bench.trace_walk [-v]
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import course_lib

ROOT = str(Path(course_lib.__file__).parent)


@dataclass(frozen=True)
class Walk:
    """The files entered, in order."""

    entered: tuple[str, ...]

    @property
    def files(self) -> int:
        """How many different files."""
        return len(set(self.entered))

    @property
    def changes(self) -> int:
        """How many times the next function entered lies in another file."""
        return sum(one != other for one, other in zip(self.entered, self.entered[1:], strict=False))


def walk(call: Callable[[], Any]) -> Walk:
    """Return the walk of one call."""
    entered: list[str] = []

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            entered.append(frame.f_code.co_filename.removeprefix(ROOT))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return Walk(tuple(entered))


@contextmanager
def fronted_program() -> Iterator[tuple[Any, Any]]:
    """Yield a program on a CachedLM, with its watcher, and the TieredCache with Redis that it works with."""
    import dspy

    from course_lib import lm
    from course_lib.caching import CacheManager

    with (
        CacheManager(namespace=f"walk-{uuid.uuid4().hex}") as manager,
        dspy.context(lm=manager.front(lm.connect())),
    ):
        program = dspy.Predict("question -> answer")
        program(question="Are you there?")
        yield program, manager.cache


def walks() -> dict[str, Walk]:
    """Return the walks of a miss, of a hit in Redis and of one in memory."""
    with fronted_program() as (program, cache):

        def ask() -> Any:
            return program(question="How long does shipping to Norway take?")

        found = {"miss": walk(ask)}
        cache.reset_memory_cache()
        return found | {"redis hit": walk(ask), "memory hit": walk(ask)}


def main() -> bool:
    """Print the walks."""
    for name, found in walks().items():
        print(f"{name}: {found.files} files, {found.changes} changes of file")
        if "-v" in sys.argv:
            print("  ", " ".join(Path(each).stem for each in found.entered))
    return True


if __name__ == "__main__":
    main()
