"""The course's notebooks by number: how prose names one, and how to link to it.

Main path: label("02") names it; link("02") gives its file where it stands beside the running notebook.
"""

from __future__ import annotations

from pathlib import Path

CHAPTERS = {
    "00": ("00_start_here.ipynb", "Start here"),
    "01": ("01_adapters.ipynb", "Adapters and tools"),
    "02": ("02_caching.ipynb", "Caching and performance"),
    "03": ("03_async.ipynb", "Async and streaming"),
    "04": ("04_debugging.ipynb", "Debugging and tracing"),
    "05": ("05_deployment.ipynb", "Deployment"),
    "06": ("06_exercises.ipynb", "The flight test"),
}
"""File and title of each."""


def link(number: str) -> str | None:
    """Return the file of a notebook that lies where the kernel runs, or None."""
    file = CHAPTERS[number][0]
    return file if Path(file).is_file() else None


def label(number: str) -> str:
    """Return a notebook's number and title.

    >>> label("02")
    '02 Caching and performance'
    """
    return f"{number} {CHAPTERS[number][1]}"
