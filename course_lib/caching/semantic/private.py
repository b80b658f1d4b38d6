"""Marks by which a text belongs to one customer or one moment, so that it must not be served to another.

Main path: private_mark(question or answer) -> "order number", "e-mail address", "tools", ... or "".
These are the marks that a pattern can find. "Where is my parcel?" has none, and is private all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

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
_LEFT_BY_AGENTS = ("trajectory", "termination_reason", "actions")
"""Fields of a Prediction that ReAct, CodeAct, RLM, ReActV2 or desk.Act made."""


def private_mark(content: Any) -> str:
    """Return what in a text, a Prediction or a dict belongs to one customer or one moment; else "".

    >>> private_mark("Where is O-10154?"), private_mark("Do you ship to Norway?")
    ('order number', '')
    """
    if any(name in _LEFT_BY_AGENTS and value for name, value in _fields(content).items()):
        return "tools"
    text = "\n".join(_texts(content))
    return next((name for name, pattern in _PATTERNS.items() if pattern.search(text)), "")


def _fields(content: Any) -> dict[str, Any]:
    """Return the fields of a dict or a dspy.Prediction; none of anything else."""
    return dict(content.items()) if callable(getattr(content, "items", None)) else {}


def _texts(content: Any) -> Iterator[str]:
    content = list(_fields(content).values()) or content
    if isinstance(content, list | tuple | set | frozenset):
        for value in content:
            yield from _texts(value)
    else:
        yield str(content)
