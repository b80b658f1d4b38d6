"""What the models cost, in dollars per million tokens.

Main path: cost_usd("sim-large", prompt_tokens, completion_tokens, cached_tokens).
Source: hosted models' prices come from the list that the pinned LiteLLM ships as a file (it is not imported).
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens."""

    prompt_usd: float
    """For tokens sent."""
    completion_usd: float
    """For tokens written."""
    cached_usd: float | None = None
    """For tokens sent that the provider had in its prompt cache; None: as for any other."""


PRICES = {
    "sim-large": Price(2.50, 10.00, 1.25),
    "sim-small": Price(0.15, 0.60, 0.075),
    "sim-embed": Price(0.02, 0.0),
    "local": Price(0.0, 0.0),
}
"""The course's own list. The simulator's figures resemble hosted models' of 2026; no one is billed."""

ASSUMED = Price(10.00, 30.00)
"""For a hosted model that no list knows: high, so that a spending cap errs on the safe side."""


def price(model: str) -> Price:
    """Return the price of `model` (without profile)."""
    return PRICES.get(model) or _hosted(model)


def cost_usd(model: str, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
    """Return what a call costs; `cached_tokens` are those of the prompt that came from the prompt cache.

    >>> cost_usd("sim-large", 2000, 100), cost_usd("sim-large", 2000, 100, 1024)
    (0.006, 0.00472)
    """
    rate = price(model)
    cost = prompt_tokens * rate.prompt_usd + completion_tokens * rate.completion_usd
    if cached_tokens and rate.cached_usd is not None:
        cost -= min(cached_tokens, prompt_tokens) * (rate.prompt_usd - rate.cached_usd)
    return cost / 1_000_000


@cache
def _hosted(model: str) -> Price:
    listed = _listed()
    entry = listed.get(model) or listed.get(model.partition("/")[2])
    if not entry or "input_cost_per_token" not in entry:
        return ASSUMED
    cached = entry.get("cache_read_input_token_cost")
    return Price(
        entry["input_cost_per_token"] * 1e6,
        entry.get("output_cost_per_token", 0.0) * 1e6,
        None if cached is None else cached * 1e6,
    )


@cache
def _listed() -> dict[str, Any]:
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    file = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    listed: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    return listed
