"""The learner's copies of the notebooks: made, reset, compared and brought up to date, never overwritten.

Main path: make_copies() at set-up; update() after `git pull`; reset("0.1") and diff("0.1") for one exercise.
Beside the copies, `.shipped/` holds all that was shipped, `.backup/` and `.attempts/` what was replaced.
"""

from __future__ import annotations

import difflib
import json
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from nbformat.sign import NotebookNotary

from course_lib import paths
from course_lib.copies import merging
from course_lib.copies.merging import keyed
from course_lib.errors import CourseError
from course_lib.exercises.engine import checking, notebookfile, registry
from course_lib.exercises.engine.notebookfile import BUILD, Cell, Notebook, cells_of, source_of
from course_lib.exercises.engine.registry import Exercise
from course_lib.files import write_whole

RELOAD = "If it is open in JupyterLab, choose File > Reload Notebook from Disk."


class WorkError(CourseError):
    """A learner's copy cannot be changed as asked; it was left as it is."""


def write(path: Path, notebook: Notebook) -> None:
    """Write a notebook as Jupyter lays it out: the file is the old one or the new one, never half of it.

    Raises:
        FileError: it could not be written.
    """
    write_whole(path, json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def _rewrite(copy: Path, mine: Notebook, changed: Notebook) -> None:
    """Write a copy that was changed here; where Jupyter trusted it, it still does, and shows its pictures."""
    write(copy, changed)
    with suppress(OSError), closing(NotebookNotary()) as notary:  # Jupyter's own folder cannot be written
        if notary.check_signature(nbformat.from_dict(mine)):
            notary.sign(nbformat.from_dict(changed))


def _unused(folder: Path, stem: str, suffix: str) -> Path:
    """Return a path in `folder` that nothing has yet: the time is in its name."""
    return folder / f"{stem}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{suffix}"


def _copy(shipped: Path) -> Path:
    """Copy one notebook, its base first: a copy without its base could not be updated."""
    notebook, copy = notebookfile.read(shipped, remedy=BUILD), paths.work_dir() / shipped.name
    write(_unused(paths.work_dir() / ".shipped", copy.stem, ".ipynb"), notebook)
    write(copy, notebook)
    return copy


def make_copies() -> list[Path]:
    """Copy the notebooks that the learner does not have yet; return the new copies.

    Raises:
        NotebookFileError: a shipped notebook cannot be read.
        FileError: the learner's folder cannot be written.
    """
    return [
        _copy(shipped)
        for shipped in sorted(paths.NOTEBOOKS.glob("*.ipynb"))
        if not (paths.work_dir() / shipped.name).exists()
    ]


def _read_both(exercise: Exercise) -> tuple[Path, Notebook, Notebook]:
    """Return the copy's path, the copy, and the shipped notebook of an exercise's lesson."""
    name = f"{exercise.lesson}.ipynb"
    copy = paths.work_dir() / name
    if not copy.exists():
        raise WorkError(f"{copy} is missing; `course setup` makes it, with every exercise as given out.")
    remedy = f"restore it from {copy.parent / '.backup'}, or move it away and run `course setup`"
    mine = notebookfile.read(copy, remedy=remedy)
    return copy, mine, notebookfile.read(paths.NOTEBOOKS / name, remedy=BUILD)


def _copies_of(given: Cell, notebook: Notebook) -> list[Cell]:
    """Return the cells that were made from `given`: by its id, or by its metadata where ids were lost."""
    alike = cells_of(notebook, given["metadata"]["exercise"], *given["metadata"]["tags"])
    return [cell for cell in notebook["cells"] if cell.get("id") == given["id"] or cell in alike]


_MOVE_AWAY = "move it away and update for a new copy"
_MAY_BE_OLD = (
    "perhaps older than the course (what was shipped to you, in .shipped, is lost, so it is not known who "
    f"changed the cells below: {_MOVE_AWAY})"
)


def _put_back(mine: Notebook, new: Notebook, given: Cell) -> Notebook:
    """Return the learner's notebook with one cell as given out, in place of every copy of it."""
    old = _copies_of(given, mine)
    doubled, first = {id(cell) for cell in old[1:]}, old[0] if old else None
    own = [given if cell is first else cell for cell in mine["cells"] if id(cell) not in doubled]
    if not old:
        cells, guide = keyed(own), list(keyed(new["cells"]))
        if not set(cells) & set(guide):
            raise WorkError(f"the copy's cells have lost their ids, so nothing was changed; {_MOVE_AWAY}.")
        order = merging.place(list(cells), {given["id"]}, guide, known=set(guide))
        own = [(cells | {given["id"]: given})[key] for key in order]
    if (mine.get("nbformat", 4), mine.get("nbformat_minor", 5)) < (4, 5):  # its cells have no ids
        own = [{name: value for name, value in cell.items() if name != "id"} for cell in own]
    return {**mine, "cells": own}


def reset(exercise_id: str) -> str:
    """Put one exercise's stub and its check back into the learner's notebook; return what was done.

    The learner's answer is kept in `.attempts/` first.

    Raises:
        UnknownExerciseError: there is no exercise of this id.
        CourseError: a notebook is missing, unreadable or cannot be written; nothing was changed.
    """
    copy, mine, new = _read_both(registry.get(exercise_id))
    if not cells_of(new, exercise_id, "exercise"):
        raise WorkError(f"{copy.name} as shipped holds no cell for exercise {exercise_id}; {BUILD}.")
    given = cells_of(new, exercise_id, "exercise", "check")
    texts = {cell["id"]: [source_of(one) for one in _copies_of(cell, mine)] for cell in given}
    changed = [cell for cell in given if texts[cell["id"]] != [source_of(cell)]]
    if not changed:
        return f"{exercise_id} is already as it was given out; nothing was changed."
    own = [text for cell in changed for text in texts[cell["id"]]]
    kept = ""
    if answer := "\n\n".join(text for text in own if text not in map(source_of, given)):
        attempt = _unused(paths.work_dir() / ".attempts", exercise_id, ".py")
        write_whole(attempt, answer + "\n")
        kept = f" Your answer is kept in {attempt}."
    changed_copy = mine
    for cell in changed:
        changed_copy = _put_back(changed_copy, new, cell)
    _rewrite(copy, mine, changed_copy)
    return f"{exercise_id} is as it was given out again.{kept} {RELOAD}"


def diff(exercise_id: str) -> str:
    """Return a unified diff from the learner's answer to ours: after a pass, or on asking twice.

    Raises:
        UnknownExerciseError: there is no exercise of this id.
        CourseError: a notebook is missing or unreadable, or holds no cell for the exercise.
    """
    copy, mine, _ = _read_both(registry.get(exercise_id))
    ours = notebookfile.solution(copy.stem, exercise_id)
    yours = [cell for given in ours for cell in _copies_of(given, mine)]
    if not yours:
        raise WorkError(f"{copy} has no cell for {exercise_id} any more; `course reset {exercise_id}`.")
    if refusal := checking.not_yet(exercise_id, again=f"course diff {exercise_id}"):
        return refusal
    before, after = ("\n\n".join(map(source_of, cells)).splitlines() for cells in (yours, ours))
    lines = list(difflib.unified_diff(before, after, "yours", "ours", lineterm=""))
    return "\n".join(lines) or f"your answer to {exercise_id} is the same as ours, letter by letter."


def _update(shipped: Path) -> list[str]:
    """Bring one copy up to date; return what was done, in lines."""
    name, copy = shipped.name, paths.work_dir() / shipped.name
    if not copy.exists():
        _copy(shipped)
        return [f"{name}: new"]
    new = notebookfile.read(shipped, remedy=BUILD)
    try:
        mine = notebookfile.read(copy, remedy="repair it or move it away, then update again")
    except notebookfile.NotebookFileError as error:
        return [f"{name}: left alone ({error})"]
    ids = {cell.get("id") for cell in new["cells"]}  # cells are told apart by them; old programs drop them
    if mine["cells"] and not any(cell.get("id") in ids for cell in mine["cells"]):
        return [f"{name}: left alone (its cells have lost their ids; {_MOVE_AWAY})"]
    base = _base_of(mine, copy.stem)
    merged, changes = merging.merge(base, mine, new)
    details = [f"  {kind}: {', '.join(labels)}" for kind, labels in changes.items() if labels]
    unknown = _unknown(base, mine, new)
    lines = [f"{name}: {_MAY_BE_OLD if unknown else 'up to date'}"]
    lines += details if changes[merging.KEPT] else ()
    if merged != mine:
        backup = _unused(paths.work_dir() / ".backup", copy.stem, ".ipynb")
        write_whole(backup, copy.read_text(encoding="utf-8"))
        _rewrite(copy, mine, merged)
        lines = [f"{name}: updated (the old one is {backup})", *details]
        lines[1:1] = [f"  {_MAY_BE_OLD}"] if unknown else []
    known = {**new, "cells": [cell for cell in new["cells"] if cell.get("id") not in unknown]}
    if base != known:
        write(_unused(paths.work_dir() / ".shipped", copy.stem, ".ipynb"), known)
    return lines


def _unknown(base: Notebook, mine: Notebook, new: Notebook) -> set[str]:
    """Return the ids of cells that differ and of which `base` does not say who changed them."""
    old, own, now = (keyed(each["cells"]) for each in (base, mine, new))
    return {key for key in own.keys() & now.keys() - old.keys() if source_of(own[key]) != source_of(now[key])}


def _base_of(mine: Notebook, stem: str) -> Notebook:
    """Return what the copy was made from: of all that were shipped, the one that shares most cells with it.

    That is the newest one, unless a tab with an older one was saved over an update. Without any, every cell
    that differs counts as the learner's.
    """

    def texts(notebook: Notebook) -> set[tuple[str, str]]:
        return {(key, source_of(cell)) for key, cell in keyed(notebook["cells"]).items()}

    bases: list[Notebook] = []
    kept = (paths.work_dir() / ".shipped").glob(f"{stem}*.ipynb")
    for path in sorted(kept, key=lambda path: path.stem, reverse=True):
        with suppress(notebookfile.NotebookFileError):
            bases.append(notebookfile.read(path, remedy=""))
    return max(bases, key=lambda base: len(texts(base) & texts(mine)), default={"cells": []})


def update() -> str:
    """Bring the learner's notebooks up to the shipped ones, cell by cell; return what was done, in lines.

    Doing it twice changes nothing.

    Raises:
        NotebookFileError: a shipped notebook cannot be read.
        FileError: something could not be written; every file is whole; the next update goes on from there.
    """
    lines = [line for shipped in sorted(paths.NOTEBOOKS.glob("*.ipynb")) for line in _update(shipped)]
    lines += [RELOAD] if any(": updated (" in line for line in lines) else []
    return "\n".join(lines) or f"no notebooks in {paths.NOTEBOOKS}; {BUILD}."
