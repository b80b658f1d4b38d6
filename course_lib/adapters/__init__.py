"""Adapters, in both senses of the word: how a prompt is written and read, and how data reaches a model.

Main path: `from course_lib.adapters import CustomAdapter`; names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "APIAdapter": "data.api",
    "CustomAdapter": "prompt.lines",
    "DatabaseAdapter": "data.database",
    "FileSystemAdapter": "data.files",
    "Money": "prompt.types",
    "OrderId": "prompt.types",
    "ReAsk": "prompt.reask",
    "ToolRefused": "tools.limits",
    "conformance": "prompt.conformance",
    "count_fallbacks": "prompt.fallbacks",
    "limited": "tools.limits",
    "measure": "prompt.measuring",
}
"""Public names, and the module below this package that each comes from."""

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
