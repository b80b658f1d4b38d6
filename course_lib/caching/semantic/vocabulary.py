"""Words that decide what a question to the desk is about, by kind: what the guards compare.

Main path: NAMES["place"].named("do you ship to norway?") -> ("norway",). The words: data/vocabulary.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

_READ = tomllib.loads((Path(__file__).parent / "data" / "vocabulary.toml").read_text("utf-8"))


class Terms:
    """Spellings with their meanings, found in a text in one pass, longer spellings first."""

    def __init__(self, meanings: Mapping[str, str]) -> None:
        self.meanings = meanings
        longest_first = sorted(meanings, key=len, reverse=True)
        self._pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")

    def named(self, text: str) -> tuple[str, ...]:
        """Return the meanings that a text in small letters names, each once, in the text's order."""
        return tuple(dict.fromkeys(self.meanings[spelling] for spelling in self._pattern.findall(text)))


def _spellings(lines: Iterable[str]) -> dict[str, str]:
    """Read lines of comma-separated spellings; the first of a line is the meaning of all in it."""
    return {each: line.split(", ")[0] for line in lines for each in line.split(", ")}


STRICT = {kind: Terms(_spellings(lines)) for kind, lines in _READ["strict"].items()}
"""Kinds of which a question that names none is not the same as one that names some."""
NAMES = STRICT | {kind: Terms(_spellings(lines)) for kind, lines in _READ["names"].items()}
"""All kinds of things that a question may name, the strict ones included."""
OPPOSITES = [Terms(_spellings(lines)) for lines in _READ["opposites"]]
ASKS = Terms({each: what for what, lines in _READ["asks"].items() for each in _spellings(lines)})
"""What a question asks for: a price, a time, a place, ..."""

NUMBER_WORDS: dict[str, int] = _READ["number_words"]
UNITS = {unit: (base, factor) for base, units in _READ["units"].items() for unit, factor in units.items()}
"""Each unit with the one that it is counted in, and how many of those it is."""
FUNCTION_WORDS, RELATIONS = (frozenset(_READ[name].split()) for name in ("function_words", "relations"))
"""Words that say nothing of the topic, and words that say what is done to what."""
