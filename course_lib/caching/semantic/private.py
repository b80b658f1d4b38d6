"""Marks by which a text belongs to one customer or one moment, so that it must not be served to another.

Main path: private_mark(question or answer) -> "order number", "e-mail address", ... or "".
These are the marks that a pattern can find. "Where is my parcel?" has none, and is private all the same.
Source: dspy.utils.callback.BaseCallback.on_tool_start (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
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


_LEFT_BY_AGENTS = ("trajectory", "termination_reason", "actions")
"""Fields by which a Prediction of ReAct, CodeAct, RLM, ReActV2 or desk.Act tells that an agent made it."""


def used_tools(answer: Any) -> str:
    """Return "tools" if the answer says that an agent made it with tools; else ""."""
    return "tools" if any(_field(answer, name) for name in _LEFT_BY_AGENTS) else ""


class Watch:
    """Whether a tool was called."""

    was_used = False


@contextmanager
def tools_watched() -> Iterator[Watch]:
    """Notice each dspy.Tool that is called in this block, also deep inside a program that does not tell."""
    watch = Watch()
    if "dspy" not in sys.modules:  # no DSPy, no tools
        yield watch
        return
    import dspy

    with dspy.context(callbacks=[*dspy.settings.get("callbacks", []), _bell()(watch)]):
        yield watch


@cache
def _bell() -> Callable[[Watch], Any]:
    from dspy.utils.callback import BaseCallback

    class Bell(BaseCallback):
        """Tells a Watch that a tool is called."""

        def __init__(self, watch: Watch) -> None:
            self._watch = watch

        def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
            self._watch.was_used = True

    return Bell


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
