"""Embeddings without a model: hashed words and letter n-grams, the same on every machine.

Main path: vector(text) -> DIMENSIONS floats of unit length; texts that share words and word parts are near.
They know nothing of meaning: "cheap" and "inexpensive" are strangers to them. For that, use a real model.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from functools import lru_cache

DIMENSIONS = 256
_WORD = re.compile(r"\w{1,40}")  # longer words in pieces
_WHOLE_WORD, _PART = 1.0, 0.35


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Embed `text`, in the first of all dimensions; a text without words gives the zero vector."""
    sums = [0.0] * DIMENSIONS
    for word in _WORD.findall(text.lower()):
        for place, weight in _features(word):
            sums[place] += weight
    del sums[dimensions:]
    length = math.sqrt(math.fsum(x * x for x in sums))
    return [x / length for x in sums] if length else sums


def as_base64(values: list[float]) -> str:
    """Return a vector as OpenAI's base64 encoding: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


@lru_cache(maxsize=20_000)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    marked = f"<{word}>"
    parts = {marked[at : at + size] for size in (3, 4) for at in range(len(marked) - size + 1)}
    return (_place(f"word {word}", _WHOLE_WORD), *(_place(part, _PART) for part in sorted(parts)))


def _place(feature: str, weight: float) -> tuple[int, float]:
    number = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest())
    return number % DIMENSIONS, weight if number >> 63 else -weight
