"""A hit in Redis of an answer of 1 KB: ours against a bare GET with JSON decoding, LangChain's and LiteLLM's.

All read the same server through one redis-py client's worth of connections each. The peers are measured where
they are fastest: LiteLLM is given JSON text, which it decodes quicker than the form it writes itself.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.ratio import paired, report

ROUNDS = 15
HITS = 300
AT_MOST_TO_BARE = 1.5
AT_MOST_TO_PEERS = 1.0
KEY = "0" * 64


def answer() -> dict[str, Any]:
    """Return what DSPy stores for one answer, 1 KB as JSON."""
    usage = {"prompt_tokens": 212, "completion_tokens": 96, "total_tokens": 308}
    record = {
        "_dspy_format": "dspy-lm15-result-v1",
        "responses": [],
        "usage": usage,
        "cost": 0.0004,
        "cost_details": {},
        "raw": None,
        "response_model": "sim-large",
    }
    text = "Your parcel left our warehouse on Monday and is with the carrier. "
    spare = 1024 - len(json.dumps(record | {"outputs": [""]}))
    return record | {"outputs": [(text * 20)[:spare]]}


def seconds(hit: Callable[[], Any]) -> float:
    """Return the time of HITS hits."""
    begun = time.perf_counter()
    for _ in range(HITS):
        hit()
    return time.perf_counter() - begun


def main() -> bool:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it fetches a price list otherwise
    import redis
    from langchain_community.cache import RedisCache as LangChainCache
    from langchain_core.outputs import Generation
    from litellm.caching.redis_cache import RedisCache as LiteLLMCache

    from course_lib.caching import RedisTier, TieredCache
    from course_lib.caching.wire import decode, encode
    from course_lib.services import running_redis

    warnings.filterwarnings("ignore", message="The default value of `allowed_objects`")
    record, text = answer(), json.dumps(answer())
    assert len(text) == 1024
    with running_redis() as server, redis.Redis.from_url(server.url) as client:
        client.set("bare", text)
        tier = RedisTier(server.url)
        tier.put(KEY, encode(record, key=KEY), ttl_s=3600, tags=("customer:C-1",))
        chain = LangChainCache(redis.Redis.from_url(server.url), ttl=3600)
        chain.update("prompt", "model", [Generation(text=text)])
        lite = LiteLLMCache(url=server.url)
        lite.set_cache(KEY, text, ttl=3600)

        def ours() -> Any:
            blob = tier.get(KEY)
            assert blob is not None
            return decode(blob, key=KEY)

        cache = TieredCache(redis_url=server.url, namespace="whole")
        keys = [f"{n:064x}" for n in range(HITS)]
        cache.warm((key, record) for key in keys)

        def whole() -> float:
            cache.reset_memory_cache()  # each hit is then one in Redis, and fills memory
            left = iter(keys)
            return seconds(lambda: cache.find(next(left)))

        peers: dict[str, tuple[Callable[[], Any], float]] = {
            "a bare GET and json.loads": (lambda: json.loads(client.get("bare") or b""), AT_MOST_TO_BARE),
            "LangChain's RedisCache": (lambda: chain.lookup("prompt", "model"), AT_MOST_TO_PEERS),
            "LiteLLM's RedisCache": (lambda: lite.get_cache(KEY), AT_MOST_TO_PEERS),
        }
        cache.reset_memory_cache()
        hit = cache.find(keys[0])
        assert hit is not None
        assert hit.record == record
        assert ours() == record == peers["a bare GET and json.loads"][0]() == lite.get_cache(KEY)
        assert chain.lookup("prompt", "model") == [Generation(text=text)]
        held = [
            report(
                f"a hit in Redis to {name}",
                paired(partial(seconds, ours), partial(seconds, hit), rounds=ROUNDS),
                unit=f"s for {HITS} hits",
                at_most=at_most,
            )
            for name, (hit, at_most) in peers.items()
        ]
        held.append(
            report(
                "the same through all of TieredCache, memory filled, to a bare GET and json.loads",
                paired(whole, partial(seconds, peers["a bare GET and json.loads"][0]), rounds=ROUNDS),
                unit=f"s for {HITS} hits",
                at_most=AT_MOST_TO_BARE,
            )
        )
        tier.close()
        cache.close()
    return all(held)
