"""What a journal belongs to: the program, its state, its code, its model and its adapter.

Main path: fingerprint(program) -> {"program": ..., "code": ..., ...}; differences(old, new) in words.
Source: dspy.Module.dump_state (demos, instructions, fields; no keys), dspy.settings (DSPy 3.4.1).
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import dspy

_WORDS = {
    "program": "another program",
    "state": "other instructions, fields or demos",
    "code": "other code",
    "lm": "another model, or other settings of it",
    "adapter": "another adapter",
    "version": "another version",
    "keys": "other keys for the items",
}


def fingerprint(program: Any, *, version: str | None = None) -> dict[str, str]:
    """Return what tells this program from another; the model and adapter are those that hold now.

    `version` names the program instead of its code, state, model and adapter: for code that changes
    without changing answers, or a batch that may go on with another model.
    """
    name = _name(program)
    if version is not None:
        return {"program": name, "version": version}
    lm, adapter = dspy.settings.lm, dspy.settings.adapter
    parts = {"program": name, "code": _hash(_source(program)), "adapter": type(adapter).__qualname__}
    if isinstance(program, dspy.Module):
        parts["state"] = _hash(json.dumps(program.dump_state(), sort_keys=True, default=str))
    if isinstance(lm, dspy.BaseLM):
        parts["lm"] = f"{lm.model} {_hash(json.dumps(_settings(lm), sort_keys=True, default=str))}"
    return parts


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Return in words what differs; empty if nothing does."""
    names = [name for name in _WORDS if old.get(name) != new.get(name)]
    return ", ".join(f"{_WORDS[name]} ({old.get(name)!r} then, {new.get(name)!r} now)" for name in names)


def _name(program: Any) -> str:
    thing: Any = program if hasattr(program, "__qualname__") else type(program)
    return f"{thing.__module__}.{thing.__qualname__}"


def _settings(lm: Any) -> dict[str, Any]:
    """Return the options that change answers; not retries, cache or keys."""
    silent = ("key", "api_", "base", "timeout", "retries", "rollout")
    return {name: value for name, value in lm.kwargs.items() if not any(word in name for word in silent)}


def _source(program: Any) -> str:
    thing: Any = program if hasattr(program, "__qualname__") else type(program)
    if isinstance(program, dspy.Module) and type(program).__module__.startswith("dspy."):
        return str(dspy.__version__)
    try:
        return str(inspect.getsource(thing))
    except (OSError, TypeError):
        return ""  # typed at a prompt, or built in: its name must do


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
