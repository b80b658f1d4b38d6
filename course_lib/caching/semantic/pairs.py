"""Labelled pairs of questions to Lantern's desk: the same meaning, nearly the same words, or neither.

Main path: labelled_pairs("calibrate") -> list[Pair]; what they are worth is in data/README.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Label = Literal["paraphrase", "near-miss", "unrelated"]
Half = Literal["calibrate", "test"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A question asked, one whose answer is cached, and whether that answer would be right."""

    id: str
    split: Half
    label: Label
    asked: str
    cached: str

    @property
    def is_same(self) -> bool:
        """Whether the cached answer may be served."""
        return self.label == "paraphrase"


def labelled_pairs(split: Half) -> list[Pair]:
    """Return the pairs of one half. No question stands in both halves."""
    lines = (Path(__file__).parent / "data" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for line in lines if (row := json.loads(line))["split"] == split]
    return [Pair(**{name: row[name] for name in Pair.__slots__}) for row in rows]
