"""Values for arguments out of what tools gave back.

Main path: from_observations(slot, ...) -> values, best first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from course_lib.lm.simulator.agents.slots import Slot, words_of
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.observed import Leaf, Seen, is_command


def from_observations(slot: Slot, tool: str, seen: Sequence[Seen], about: str) -> list[Any]:
    """Return what observations offer for an argument of a tool, best first; those as good stay in order.

    `about` is the part of the request that says which of several records is meant.
    """
    leaves = [leaf for one in reversed(seen) if not one.error for leaf in one.leaves]
    scored = [(_leaf_fits(slot, tool, leaf, about), leaf) for leaf in leaves]
    values = [leaf.value for score, leaf in sorted(scored, key=lambda one: -one[0]) if score > 0]
    return [value for at, value in enumerate(values) if value not in values[:at]]


def _leaf_fits(slot: Slot, tool: str, leaf: Leaf, about: str) -> float:
    if slot.kind in ("integer", "number"):
        is_number = isinstance(leaf.value, int | float) and not isinstance(leaf.value, bool)
        is_zero_money = not leaf.value and slot.unit[0] == "money"
        return _key_fits(slot, tool, leaf, about) if is_number and not is_zero_money else 0.0
    if (
        slot.schema.get("type", "string") != "string"
        or not isinstance(leaf.value, str)
        or is_command(leaf.value)
    ):
        return 0.0
    if slot.shape:
        return 3.0 if re.fullmatch(slot.shape, leaf.value) else 0.0
    return _key_fits(slot, tool, leaf, about) if len(leaf.value) <= 80 else 0.0


_ALL = re.compile(r"\b(?:whole|full|fully|entire|all of|complete|everything)\b", re.IGNORECASE)


def _key_fits(slot: Slot, tool: str, leaf: Leaf, about: str) -> float:
    """Weigh a value up whose key is the argument's name, or is named in its description."""
    key, name = leaf.key.lower(), slot.path[-1].lower()
    if key == name:
        return 4.0
    if "_" in key and re.search(rf"\b{re.escape(key)}\b", slot.desc.lower()):  # of the thing that is meant
        asked = set() if _ALL.search(about) else set(words.stems(about))
        return 3.0 + 0.3 * (leaf.record == 0) + 1.5 * bool(asked & set(words.stems(leaf.named)))
    mine, its = words_of(name), words_of(key)
    roots = [words.stem(word) for word in its]
    is_alike = mine[-1:] == its[-1:] and min(len(mine), len(its)) > 1
    if slot.unit[0] and is_alike:  # "shipping_eur", if the shipping is asked for
        asked = set(words.stems(about)) - set(map(words.stem, words_of(tool)))  # "refund" says not how much
        return 4.5 * bool(asked.intersection(roots[:-1]))
    return 2.0 if slot.stems == set(roots) else 0.0
