"""A run that is kept, and compared with later ones: a regression test for prompts and answers.

Main path: `with golden("tests/golden/triage.jsonl"): program(...)` in a test; GoldenError says what differs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from course_lib.debugging.recording import Recording, diff, record

UPDATE = "COURSE_GOLDEN"
"""With `COURSE_GOLDEN=update` in the environment, kept runs are written anew."""


class GoldenError(AssertionError):
    """A run differs from the kept one, or there is none; pytest shows it as a failed test."""


@contextmanager
def golden(path: str | Path, *, in_order: bool = True) -> Iterator[None]:
    """Compare what the block asks the model, and what it answers, with a run that is kept in a file.

    Args:
        path: the kept run, a recording. Where it is missing, `COURSE_GOLDEN=update` writes it.
        in_order: whether the order counts; in a program that asks several things at once it does not.

    Raises:
        GoldenError: something differs. The message shows each step: prompt by line, and answer.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        with record(Path(folder) / "run.jsonl") as file:
            yield
        run = Recording.load(file)
    how = f"run again with {UPDATE}=update, look at the difference, and commit the file"
    if os.environ.get(UPDATE) == "update":
        run.save(path)
        return
    if not path.exists():
        raise GoldenError(f"there is no kept run {path}; {how}")
    kept = Recording.load(path)
    if not in_order:
        kept, run = (Recording(sorted(each, key=lambda step: (step.key, step.reply))) for each in (kept, run))
    if found := diff(kept, run):
        raise GoldenError(f"this run is not the one in {path}. {found}\nIf that is right, {how}.")
