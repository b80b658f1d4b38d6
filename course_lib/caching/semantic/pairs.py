"""Labelled pairs of questions to Lantern's desk: the same meaning, nearly the same words, or neither.

Main path: labelled_pairs("calibrate") -> list[Pair]; what they are worth is in data/README.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from course_lib.errors import CourseError

Label = Literal["paraphrase", "near-miss", "unrelated"]
Half = Literal["calibrate", "test"]
LABELS: tuple[Label, ...] = get_args(Label)
_FILE = Path(__file__).parent / "data" / "pairs.jsonl"


class UnknownHalfError(CourseError):
    """The pairs have two halves, and this is neither."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A question asked, one whose answer is cached, and whether that answer would be right."""

    id: str
    split: Half
    label: Label
    asked: str
    cached: str
    article: str
    """Id of the help article that answers the cached question."""
    decisive: str = ""
    """Of a near-miss: the words that make the difference, asked last."""
    kind: str = ""
    """Of a near-miss: what kind of word it is."""
    form: Literal["", "edited", "reworded"] = ""
    """Of a near-miss: the cached question with a word or two exchanged, or another sentence."""

    @property
    def is_same(self) -> bool:
        """Whether the cached answer may be served."""
        return self.label == "paraphrase"


@cache
def _all_pairs() -> tuple[Pair, ...]:
    return tuple(Pair(**json.loads(line)) for line in _FILE.read_text(encoding="utf-8").splitlines())


def labelled_pairs(split: Half | None = None) -> list[Pair]:
    """Return the pairs of one half, or all of them. No question stands in both halves.

    Raises:
        UnknownHalfError: `split` is neither "calibrate" nor "test".
    """
    if split not in (None, *get_args(Half)):
        raise UnknownHalfError(f"no half {split!r}; the pairs have {' and '.join(get_args(Half))}")
    return [pair for pair in _all_pairs() if split in (None, pair.split)]
