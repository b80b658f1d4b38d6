"""Embeddings: the sentence encoder's vectors, so that texts of near meaning are near.

Main path: vector(text) -> DIMENSIONS floats of unit length, or the first of them, made unit length again.
"""

from __future__ import annotations

import base64
import struct

from course_lib.lm import encoder

DIMENSIONS = 384


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Embed `text`, in the first of all dimensions."""
    row: list[float] = encoder.unit(encoder.encode([text])[:, :dimensions])[0].tolist()
    return row


def as_base64(values: list[float]) -> str:
    """Return a vector as OpenAI's base64 encoding: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
