"""The course's notebooks by number: their titles, and how to link to one from another.

Main path: link("02") gives the file name when the notebook stands beside the running one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from course_lib import paths


@dataclass(frozen=True, slots=True)
class Chapter:
    """One notebook of the course."""

    number: str
    """Two digits, as at the head of the file's name."""
    name: str
    """The file's name without its suffix."""
    title: str
    """As printed at the top of the notebook."""


CHAPTERS = {
    chapter.number: chapter
    for chapter in (
        Chapter("00", "00_start_here", "Start here"),
        Chapter("01", "01_adapters", "Adapters and tools"),
        Chapter("02", "02_caching", "Caching and performance"),
        Chapter("03", "03_async", "Async and streaming"),
        Chapter("04", "04_debugging", "Debugging and tracing"),
        Chapter("05", "05_deployment", "Deployment"),
        Chapter("06", "06_exercises", "The flight test"),
    )
}


def link(number: str, *, folder: Path | None = None) -> str | None:
    """Return the file name of a notebook that lies in `folder` (default: where the kernel runs), or None."""
    file_name = f"{CHAPTERS[number].name}.ipynb"
    return file_name if ((folder or Path.cwd()) / file_name).is_file() else None


def label(number: str) -> str:
    """Return a notebook's number and title, as prose names it, and whether the course has it yet.

    >>> label("02")
    '02 Caching and performance'
    """
    to_come = "" if link(number, folder=paths.NOTEBOOKS) else " (in preparation)"
    return f"{number} {CHAPTERS[number].title}{to_come}"
