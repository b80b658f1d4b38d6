"""Adapters, in both senses of the word: how a prompt is written and read, and how data reaches a model.

Main path: `from course_lib.adapters import CustomAdapter`; names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "CustomAdapter": "prompt.lines",
    "Money": "prompt.types",
    "OrderId": "prompt.types",
    "ReAsk": "prompt.reask",
    "conformance": "prompt.conformance",
    "count_fallbacks": "prompt.fallbacks",
    "measure": "prompt.measuring",
}
"""Public names, and the module below this package that each comes from."""

__all__ = sorted(_PLACES)  # noqa: PLE0605  # the table above is the list


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
