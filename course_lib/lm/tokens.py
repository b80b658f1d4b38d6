"""Tokens as the course counts, streams and bills them: words and pieces of words.

Main path: split(text) -> pieces that concatenate back to text; count(text) -> how many; or reported(usage).

The pieces follow the habits of byte-pair encoders (a space leads its word, digits in threes, punctuation
in short runs), because DSPy's stream listeners miss field boundaries when chunks are single characters.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_PIECE = re.compile(
    r" ?[A-Za-z\u00C0-\u024F]{1,12}"  # a word of the Latin alphabet, or the first 12 letters of a long one
    r"|'(?:s|t|re|ve|m|ll|d)(?![A-Za-z])"  # the tail of a contraction
    r"| ?\d{1,3}"
    r"| ?_+"
    r"| ?[^\W\d_]{1,2}"  # letters of other scripts carry more per letter
    r"| ?[^\w\s]{1,4}"
    r"|\s+"
)

MOST = 1_000_000
"""Tokens that one reply may have been sent, and may have written: more is a server's mistake."""
_CACHED_TEXT_CHARS = 20_000  # longer texts are counted anew, so that the cache stays small


def split(text: str) -> list[str]:
    r"""Cut `text` into tokens; joined, they are `text` again.

    >>> split("[[ ## answer ## ]]\nParis, since 1789.")
    ['[[', ' ##', ' answer', ' ##', ' ]]', '\n', 'Paris', ',', ' since', ' 178', '9', '.']
    """
    return _PIECE.findall(text)


def count(text: str, *, most: int = sys.maxsize) -> int:
    """Return how many tokens `text` has; of a long one with more than `most`, some number above it.

    >>> count("Where is my parcel?")
    5
    """
    if len(text) <= _CACHED_TEXT_CHARS:
        return _count_cached(text)
    size = max(most + 2, _CACHED_TEXT_CHARS)
    while size < len(text):  # the cut may go through a piece, and make two of it
        if (found := len(_PIECE.findall(text, 0, size))) > most + 1:
            return found
        size *= 2
    return len(_PIECE.findall(text))


def reported(usage: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the tokens sent and written that a reply's usage tells, and those sent that its cache had.

    A server may report none, null, no number, or a count below 0, which is 0 here, or above MOST.

    >>> reported({"prompt_tokens": 9, "completion_tokens": -5, "prompt_tokens_details": None})
    (9, 0, 0)
    """
    cached = dict(usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached)


def _count(value: object) -> int:
    return int(min(max(0, value), MOST)) if isinstance(value, int | float) else 0  # of NaN, too


@lru_cache(maxsize=1024)
def _count_cached(text: str) -> int:
    return len(_PIECE.findall(text))
