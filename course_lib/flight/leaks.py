"""Where planted personal data may have come to: all texts of a Redis, and of a PostgreSQL.

Main path: texts_of_redis(url) -> one text to be searched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import redis
from psycopg import sql

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


def texts_of_postgres(url: str) -> str:
    """Return all rows of all tables; nothing where it does not answer."""
    try:
        with psycopg.connect(url) as connection:
            tables = connection.execute(
                "select table_schema, table_name from information_schema.tables "
                "where table_schema not in ('pg_catalog', 'information_schema')"
            ).fetchall()
            rows = sql.SQL("select row_to_json(each)::text from {} as each")
            return str([connection.execute(rows.format(sql.Identifier(*name))).fetchall() for name in tables])
    except psycopg.Error:
        return ""


def _value(client: Any, key: bytes) -> Any:
    reader = _READERS.get(client.type(key))
    return reader and reader(client, key)
