"""Marks by which a text belongs to one customer or one moment, so that it must not be served to another.

Main path: private_mark(question or answer) -> "order number", "e-mail address", ... or "".
These are the marks that a pattern can find. "Where is my parcel?" has none, and is private all the same.
Source: dspy.utils.callback.BaseCallback.on_tool_start (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

Mark = Callable[[Any], str]
"""Names what makes a question or an answer private, or returns an empty text."""

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


def private_mark(content: Any) -> str:
    """Return what in a text, or in the texts of a Prediction or dict, belongs to one customer; else "".

    >>> private_mark("Where is O-10154?"), private_mark("Do you ship to Norway?")
    ('order number', '')
    """
    text = "\n".join(_texts(content))
    return next((name for name, pattern in _PATTERNS.items() if pattern.search(text)), "")


def _texts(content: Any) -> Iterator[str]:
    if callable(getattr(content, "items", None)):  # a dict or a dspy.Prediction
        content = [value for _, value in content.items()]
    if isinstance(content, list | tuple | set | frozenset):
        for value in content:
            yield from _texts(value)
    else:
        yield str(content)


_LEFT_BY_AGENTS = ("trajectory", "termination_reason", "actions")
"""Fields of a Prediction that ReAct, CodeAct, RLM, ReActV2 or desk.Act made."""


def used_tools(answer: Any) -> str:
    """Return "tools" if the answer's fields say that an agent made it with tools; else ""."""
    fields = answer if isinstance(answer, dict) else getattr(answer, "toDict", dict)()
    return "tools" if any(fields.get(name) for name in _LEFT_BY_AGENTS) else ""


class ToolWatch(BaseCallback):
    """Notices the call of a dspy.Tool."""

    was_used = False

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Remember that a tool was called."""
        self.was_used = True


@contextmanager
def tools_watched() -> Iterator[ToolWatch]:
    """Notice each dspy.Tool that is called in this block, also deep inside a program."""
    watch = ToolWatch()
    with dspy.context(callbacks=[*dspy.settings.callbacks, watch]):
        yield watch
