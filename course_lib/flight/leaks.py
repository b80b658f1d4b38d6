"""Where planted personal data may have come to: all texts of a Redis.

Main path: texts_of_redis(url) -> one text to be searched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

_READERS: dict[bytes, Callable[[Any, bytes], Any]] = {
    b"string": lambda client, key: client.get(key),
    b"hash": lambda client, key: client.hgetall(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1),
    b"stream": lambda client, key: client.xrange(key),
}


def texts_of_redis(url: str) -> str:
    """Return all keys and values; nothing where it does not answer."""
    try:
        with redis.Redis.from_url(url, socket_timeout=2, retry=None) as client:
            return str([(key, _value(client, key)) for key in client.scan_iter()])
    except redis.RedisError:
        return ""


def _value(client: Any, key: bytes) -> Any:
    reader = _READERS.get(client.type(key))
    return reader and reader(client, key)
