"""A cache that also serves questions asked in other words, and the means to know when it must not.

Main path: `from course_lib.caching.semantic import SemanticCache, calibrate`; a name is loaded when used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Calibration": "calibration",
    "GUARDS": "guards",
    "MiniLM": "minilm",
    "Pair": "pairs",
    "SemanticCache": "cache",
    "WeightsError": "weights",
    "calibrate": "calibration",
    "labelled_pairs": "pairs",
    "measured": "calibration",
    "refusal": "guards",
    "shared": "minilm",
}
"""Public names, and the module below this package that each comes from."""

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
