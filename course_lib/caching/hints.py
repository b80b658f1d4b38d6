"""What a model can do, looked up once for each setting of an LM instead of before every call.

Main path: CachedLM.engine -> known_hints(lm, ...) -> Hints, where DSPy asks an engine what it supports.
Source: dspy/clients/capabilities.py (DSPy 3.4.1). For an engine that is named by a word ("auto") it derives
the model's capabilities anew from provider tables, about 0.13 ms, in a worker thread before every acall of an
adapter; of an engine object it reads four attributes. This is such an object, for the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dspy import LM
from dspy.clients.backend_selection import CLIENT_KEYS

_MOST = 64


@dataclass(frozen=True, slots=True, eq=False)
class Hints:
    """Equal to, and shown as, the word that it stands for."""

    selection: str
    supports_function_calling: bool
    supports_reasoning: bool
    supports_response_schema: bool
    supported_params: frozenset[str]

    def __eq__(self, other: object) -> bool:
        return bool(self.selection == (other.selection if isinstance(other, Hints) else other))

    def __hash__(self) -> int:
        return hash(self.selection)

    def __repr__(self) -> str:
        return repr(self.selection)

    def __str__(self) -> str:
        return self.selection


def known_hints(lm: Any, selection: str, known: dict[Any, Hints]) -> Hints:
    """Return what `lm` supports by its model and its own settings; look it up if `known` has not got it.

    A single call's own client settings (`headers`, say) do not change it.
    """
    clients = tuple((name, repr(lm.kwargs[name])) for name in sorted(CLIENT_KEYS & lm.kwargs.keys()))
    setting = (selection, lm.model, lm.model_type, clients)
    found = known.get(setting)
    if found is None:
        if len(known) >= _MOST:
            known.clear()
        found = known[setting] = _looked_up(lm, selection)
    return found


def _looked_up(lm: Any, selection: str) -> Hints:
    plain = LM.__new__(LM)
    plain.__dict__.update(lm.__dict__)
    return Hints(
        selection,
        plain.supports_function_calling,
        plain.supports_reasoning,
        plain.supports_response_schema,
        frozenset(plain.supported_params),
    )
