"""Merges a new release of a notebook into a learner's copy: what they wrote stays, the rest is renewed.

Main path: merge(base, mine, new): untouched cells become the new ones, touched ones stay the learner's;
`base` is what was shipped when the copy was made, `mine` the copy, `new` what is shipped now.
nbdime merges notebooks too, but aligns cells by similarity and merges line by line: tried on this task it
dropped answers next to cells that had moved, and put lines of ours into an answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain, count

from course_lib.exercises.engine.notebookfile import Cell, Notebook, metadata_of, source_of

TOOK, ADDED, REMOVED = "taken from the course", "added", "removed"
KEPT = "changed by you and by the course, kept as you wrote it"
"""What can become of a cell that changed, as the learner reads it; an untouched one is taken or removed."""

Changes = dict[str, list[str]]
"""Labels of cells, in the notebook's order, by what became of them."""


def keyed(cells: Sequence[Cell]) -> dict[str, Cell]:
    """Return cells by id; a second cell of the same id, or one without, is given an id of its own."""
    by_id: dict[str, Cell] = {}
    for cell in cells:
        wished = str(cell.get("id") or "own")
        others = (f"{wished}-{number}" for number in count(2))
        key = next(one for one in chain([wished], others) if one not in by_id)
        by_id[key] = cell if cell.get("id") == key else {**cell, "id": key}
    return by_id


def place(
    order: list[str], arrivals: Collection[str], guide: Sequence[str], *, known: Collection[str]
) -> list[str]:
    """Put each arrival into `order` behind its predecessor in `guide`, which holds all arrivals.

    What follows the predecessor and is not `known`, the learner's own, stays behind it.
    """
    placed, at = list(order), 0
    for key in guide:
        if key in arrivals:
            placed.insert(at, key)
        if key in placed:
            at = placed.index(key) + 1
            while at < len(placed) and placed[at] not in known:
                at += 1
    return placed


def merge(base: Notebook, mine: Notebook, new: Notebook) -> tuple[Notebook, Changes]:
    """Merge three versions of a notebook, none of which is changed; return the result and what changed."""
    changes: Changes = {kind: [] for kind in (TOOK, ADDED, REMOVED, KEPT)}
    old, own, now = keyed(base["cells"]), keyed(mine["cells"]), keyed(new["cells"])
    result = {key: cell for key in own if (cell := _merged(key, old, own, now, changes))}
    for key in now.keys() - own.keys() - old.keys():  # in `old` but not in `own`: the learner deleted it
        result[key] = now[key]
    changes[ADDED] = [_label(key, now[key]) for key in now if key not in own and key in result]
    cells = [result[key] for key in _order(list(old), list(own), list(now), result)]
    shipped = base.get("metadata", {})
    changed = {key: value for key, value in new.get("metadata", {}).items() if shipped.get(key) != value}
    return {**mine, "cells": cells, "metadata": {**mine.get("metadata", {}), **changed}}, changes


def _merged(
    key: str, base: dict[str, Cell], mine: dict[str, Cell], new: dict[str, Cell], changes: Changes
) -> Cell | None:
    """Return what becomes of a cell of the learner's notebook, None if it goes; note what was done."""
    cell, was, now = mine[key], base.get(key), new.get(key)
    is_touched = was is None or source_of(cell) != source_of(was)
    if now is None:
        if was is not None:
            changes[KEPT if is_touched else REMOVED].append(_label(key, cell))
        return cell if is_touched else None
    if source_of(cell) != source_of(now):
        if not is_touched:
            changes[TOOK].append(_label(key, now))
            return now
        if was is None or source_of(was) != source_of(now):
            changes[KEPT].append(_label(key, now))
    shipped = metadata_of(was) if was else {}
    own = {name: value for name, value in metadata_of(cell).items() if name not in shipped}
    return {**cell, "metadata": {**own, **metadata_of(now)}}


def _label(key: str, cell: Cell) -> str:
    exercise = metadata_of(cell).get("exercise")
    return f"{key} (exercise {exercise})" if exercise else key


def _order(base: list[str], mine: list[str], new: list[str], result: Collection[str]) -> list[str]:
    """Return `result`'s keys in the learner's order; in the course's where only the course moved cells."""
    shared = set(base) & set(mine) & set(new)
    in_base, in_mine, in_new = ([key for key in keys if key in shared] for keys in (base, mine, new))
    first, second = (mine, new) if in_new == in_base or in_mine != in_base else (new, mine)
    order = [key for key in first if key in result]
    known = new if first is mine else result
    return place(order, set(result) - set(order), second, known=set(known))
