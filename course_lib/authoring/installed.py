"""What the installed DSPy has under a dotted name, and whether it warns of its removal.

Main path: missing(name) and deprecation(name) -> words, or None when all is well.
Source: DSPy 3.4.1; deprecations are read from its docstrings and its own warnings, not from a list of ours.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import textwrap
import types
import warnings
from difflib import get_close_matches
from functools import cache
from typing import Any

_DECLARED = object()
"""Stands for a member that only instances have, or whose value is None: nothing in it can be looked up."""


@cache
def missing(name: str) -> str | None:
    """Return what is wrong with a dotted name, None when the installed DSPy has it."""
    found, reached = _walk(name)
    if reached == name:
        return None
    near = get_close_matches(name[len(reached) + 1 :].split(".")[0], dir(found), n=1)
    hint = f"; did you mean {reached}.{near[0]}?" if near else ""
    return f"{name} does not exist: nothing of that name in {reached}{hint}"


@cache
def deprecation(name: str) -> str | None:
    """Return the words with which DSPy deprecates a name, None when it does not."""
    found, _ = _walk(name)
    target = getattr(found, "__init__", None) if isinstance(found, type) else found
    documented = (inspect.getdoc(found) or "") if callable(found) else ""
    if note := re.search(r"^(Deprecated|\.\. deprecated::).*(\n {2,}.*)*", documented, re.MULTILINE):
        return " ".join(note[0].split())
    source = _source(inspect.unwrap(target)) if callable(target) else ""
    warns = re.search(r'^    warnings\.warn\(\s*"([^"]*)', source, re.MULTILINE)  # whenever it is called
    return warns[1] if warns and "DeprecationWarning" in source else None


def _walk(name: str) -> tuple[Any, str]:
    """Return the part of a dotted name that is there, as an object and as a text."""
    first, *parts = name.split(".")
    found, reached = importlib.import_module(first), first
    for part in parts:
        inside = _member(found, part, reached)
        if inside is None:
            break
        if inside is _DECLARED:
            return None, name
        found, reached = inside, f"{reached}.{part}"
    return found, reached


def _member(holder: Any, part: str, reached: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(holder, types.ModuleType):
            with contextlib.suppress(ModuleNotFoundError):  # then it is an attribute, or nothing
                importlib.import_module(f"{reached}.{part}")
        try:
            value = getattr(holder, part)
        except AttributeError:
            return _DECLARED if isinstance(holder, type) and _declares(holder, part) else None
    if isinstance(value, types.ModuleType) and not value.__name__.startswith("dspy"):
        return None  # what DSPy imports is not DSPy's
    return _DECLARED if value is None else value


def _declares(cls: type, part: str) -> bool:
    """Whether instances have this member: a field, an annotation, or assigned to self in a method."""
    for one in cls.__mro__:
        if part in getattr(one, "model_fields", {}) or part in inspect.get_annotations(one):
            return True
        if one.__module__.startswith("dspy") and re.search(rf"\bself\.{part}\b\s*[:=]", _source(one)):
            return True
    return False


def _source(thing: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        return ""
