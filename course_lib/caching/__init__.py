"""Caching and performance: an answer paid for once, many answers at once, and knowing what they cost.

Main path: `from course_lib.caching import CacheManager, TieredCache`; names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "AnswerWithin": "context_budget",
    "BatchProcessor": "batch.processor",
    "CacheManager": "manager",
    "CachedLM": "front",
    "Cascade": "cascade",
    "DiskTier": "disk",
    "MemoryTier": "memory",
    "MiniLM": "semantic.minilm",
    "RedisTier": "redis_tier",
    "SemanticCache": "semantic.cache",
    "TieredCache": "tiered",
    "ask_both": "pareto",
    "cascade_at": "pareto",
    "cascade_gain": "pareto",
    "changing_last": "prefix",
    "draw_latency_budget": "latency",
    "draw_pareto": "pareto",
    "each_alone": "pareto",
    "latency_budget": "latency",
    "scope": "keys",
    "search_agrees": "cascade",
    "shared_prefixes": "prefix",
}
"""Public names, and the module below this package that each comes from."""

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
