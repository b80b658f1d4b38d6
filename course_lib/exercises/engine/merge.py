"""Brings a learner's notebook up to a new release of the course, cell by cell, losing nothing of theirs.

Main path: merge(base, mine, new) -> untouched cells become the new ones, touched ones stay the learner's.
`base` is what was shipped when the copy was made, `mine` the copy, `new` what is shipped now.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from course_lib.exercises.engine.notebookfile import Cell, Notebook, metadata_of, source_of


@dataclass(slots=True)
class Merged:
    """A merged notebook, and what became of the cells that changed, each list in the notebook's order."""

    notebook: Notebook = field(default_factory=dict)
    took: list[str] = field(default_factory=list)
    """Cells that the learner had not touched, now as in the new release."""
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Cells that both the learner and the course changed; they are as the learner wrote them."""


def keyed(cells: Sequence[Cell]) -> dict[str, Cell]:
    """Return cells by id; a second cell of the same id, or one without, is given an id of its own."""
    by_id: dict[str, Cell] = {}
    for cell in cells:
        wished = str(cell.get("id") or "own")
        others = (f"{wished}-{number}" for number in count(2))
        key = next(one for one in chain([wished], others) if one not in by_id)
        by_id[key] = cell if cell.get("id") == key else {**cell, "id": key}
    return by_id


def _label(key: str, cell: Cell) -> str:
    exercise = metadata_of(cell).get("exercise")
    return f"{key} (exercise {exercise})" if exercise else key


def _is_same(one: Cell | None, other: Cell | None) -> bool:
    return one is not None and other is not None and source_of(one) == source_of(other)


def _with_metadata(mine: Cell, base: Cell | None, new: Cell) -> Cell:
    """Return the learner's cell with the course's metadata of now, and any that the learner added."""
    shipped = metadata_of(base) if base else {}
    own = {key: value for key, value in metadata_of(mine).items() if key not in shipped}
    return {**mine, "metadata": {**own, **metadata_of(new)}}


def place(
    order: list[str], arrivals: Collection[str], guide: Sequence[str], *, known: Collection[str]
) -> list[str]:
    """Put each arrival behind its predecessor in `guide`, and behind what follows that and is not `known`.

    Args:
        order: the keys so far.
        arrivals: keys to put in.
        guide: an order that holds all arrivals.
        known: keys that an arrival goes in front of; others, the learner's own, stay where they were.
    """
    placed = list(order)
    for number, key in enumerate(guide):
        if key not in arrivals:
            continue
        before = next((one for one in reversed(guide[:number]) if one in placed), None)
        at = placed.index(before) + 1 if before is not None else 0
        while before is not None and at < len(placed) and placed[at] not in known:
            at += 1
        placed.insert(at, key)
    return placed


def _merge_cells(
    base: dict[str, Cell], mine: dict[str, Cell], new: dict[str, Cell], merged: Merged
) -> dict[str, Cell]:
    """Return the cells that stay or come, by key, in no particular order; note what became of each."""
    result: dict[str, Cell] = {}
    for key, cell in mine.items():
        was, now = base.get(key), new.get(key)
        touched = not _is_same(cell, was)
        if now is None:
            if touched:
                result[key] = cell
                merged.kept += [_label(key, cell)] if was else []
            else:
                merged.removed.append(_label(key, cell))
        elif touched or _is_same(cell, now):
            result[key] = _with_metadata(cell, was, now)
            if not _is_same(cell, now) and not _is_same(was, now):
                merged.kept.append(_label(key, now))
        else:
            result[key] = now
            merged.took.append(_label(key, now))
    for key, now in new.items():
        if key not in mine and key not in base:  # in base but not in mine: the learner deleted it
            result[key] = now
            merged.added.append(_label(key, now))
    return result


def _order(base: list[str], mine: list[str], new: list[str], result: Collection[str]) -> list[str]:
    """Return `result`'s keys in the learner's order; in the course's where only the course moved cells."""
    shared = set(base) & set(mine) & set(new)
    in_base, in_mine, in_new = ([key for key in keys if key in shared] for keys in (base, mine, new))
    if in_new == in_base or in_mine != in_base:
        own = [key for key in mine if key in result]
        return place(own, set(result) - set(own), new, known=set(new))
    shipped = [key for key in new if key in result]
    return place(shipped, set(result) - set(shipped), mine, known=set(result))


def _merge_metadata(base: Any, mine: Any, new: Any) -> dict[str, Any]:
    """Return the learner's notebook metadata with what the course changed since."""
    changed = {key: value for key, value in new.items() if base.get(key) != value}
    return {**mine, **changed}


def merge(base: Notebook, mine: Notebook, new: Notebook) -> Merged:
    """Merge three versions of a notebook; none of them is changed."""
    merged = Merged()
    old, own, now = keyed(base["cells"]), keyed(mine["cells"]), keyed(new["cells"])
    result = _merge_cells(old, own, now, merged)
    cells = [result[key] for key in _order(list(old), list(own), list(now), result)]
    metadata = _merge_metadata(base.get("metadata", {}), mine.get("metadata", {}), new.get("metadata", {}))
    merged.notebook = {**mine, "cells": cells, "metadata": metadata}
    return merged
