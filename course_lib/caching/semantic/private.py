"""Marks by which a text belongs to one customer or one moment, so that it must not be served to another.

Main path: private_mark(question or answer) -> "order number", "e-mail address", ... or "".
These are the marks that a pattern can find. "Where is my parcel?" has none, and is private all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Mark = Callable[[Any], str]
"""Names what makes a thing private, or returns an empty text."""

_PATTERNS = {
    "order number": re.compile(r"\bO-?\d{5}\b", re.IGNORECASE),
    "customer number": re.compile(r"\bC-\d{3}\b", re.IGNORECASE),
    "repair number": re.compile(r"\bR-\d{4}\b", re.IGNORECASE),
    "tracking number": re.compile(r"\bNP\d{9}\b", re.IGNORECASE),
    "invoice number": re.compile(r"\b(?:LN|CR)\d\d-\d{5}", re.IGNORECASE),
    "gift card code": re.compile(r"\bLG-\w{4,}", re.IGNORECASE),
    "e-mail address": re.compile(r"[\w.+-]+@[\w-]+\.\w+"),
    "card number": re.compile(r"\b(?:\d[ -]?){12,18}\d\b"),
}


def private_mark(thing: Any) -> str:
    """Return what in a text, or in the texts of a Prediction or dict, belongs to one customer; else "".

    >>> private_mark("Where is O-10154?"), private_mark("Do you ship to Norway?")
    ('order number', '')
    """
    text = "\n".join(_texts(thing))
    return next((name for name, pattern in _PATTERNS.items() if pattern.search(text)), "")


def used_tools(answer: Any) -> str:
    """Return "tools" if an agent made this answer with them: dspy.ReAct tells by its trajectory."""
    return "tools" if _field(answer, "trajectory") else ""


def _field(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _texts(thing: Any) -> list[str]:
    if isinstance(thing, str):
        return [thing]
    if isinstance(thing, Mapping):
        return [text for value in thing.values() for text in _texts(value)]
    if isinstance(thing, list | tuple | set):
        return [text for value in thing for text in _texts(value)]
    if callable(getattr(thing, "items", None)):  # a dspy.Prediction
        return [text for _, value in thing.items() for text in _texts(value)]
    return [] if thing is None else [str(thing)]
