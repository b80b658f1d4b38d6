"""Caching and performance: an answer paid for once, many answers at once, and knowing what they cost.

The parts are those of `lessons/02_caching.py`. Names are loaded when first used, so the face costs nothing.

| name | what it is | part |
| --- | --- | --- |
| latency_budget, draw_latency_budget | where the milliseconds of a prediction go | 1 |
| MemoryTier | answers in this process, bounded by bytes (exercise 2.2) | 3 |
| RedisTier | answers that all processes share (exercise 2.3) | 3 |
| DiskTier | answers in a SQLite file | 3 |
| encode, decode, NotOurs | an answer as bytes that can be checked, and back | 3 |
| TieredCache, CacheMisuseError | memory, Redis and disk under every `dspy.LM` call | 3 |
| CacheManager | sets a TieredCache up under DSPy, and takes it away again | 3 |
| scope, current_scope | for whom, and by which version of a program, a call is made | 3 |
| SingleFlight | one call for all who ask the same at once (exercise 2.4) | 3 |
| CachedLM | an LM whose identical calls share a request, and whose hits stream | 3 |
| SemanticCache | questions that mean the same (exercise 2.5); more in `caching.semantic` | 4 |
| BatchProcessor | many items, each paid for once (exercise 2.6); more in `caching.batch` | 5 |
| changing_last, shared_prefixes | prompts that a provider's own cache can use | 6 |
| ask_both, search_agrees | a cheap and a dear model asked the same, and how far to trust the cheap | 7 |
| each_alone, cascade_at, draw_pareto | what each, and a cascade of both, costs and gets right | 7 |
| AnswerWithin | the part of a context that fits a budget | 7 |
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
