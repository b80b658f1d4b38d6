from .batch.processor import BatchProcessor
from .cache import CacheMisuseError, TieredCache
from .cascade import ask_both, cascade_at, draw_pareto, each_alone, search_agrees
from .context_budget import AnswerWithin
from .disk import DiskTier
from .front import CachedLM
from .keys import current_scope, scope
from .latency import draw_latency_budget, latency_budget
from .manager import CacheManager
from .memory import MemoryTier
from .prefix import changing_last, shared_prefixes
from .redis_tier import RedisTier
from .semantic.cache import SemanticCache
from .single_flight import SingleFlight
from .wire import NotOurs, decode, encode

__all__ = [
    "AnswerWithin",
    "BatchProcessor",
    "CacheManager",
    "CacheMisuseError",
    "CachedLM",
    "DiskTier",
    "MemoryTier",
    "NotOurs",
    "RedisTier",
    "SemanticCache",
    "SingleFlight",
    "TieredCache",
    "ask_both",
    "cascade_at",
    "changing_last",
    "current_scope",
    "decode",
    "draw_latency_budget",
    "draw_pareto",
    "each_alone",
    "encode",
    "latency_budget",
    "scope",
    "search_agrees",
    "shared_prefixes",
]
