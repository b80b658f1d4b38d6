"""The two commands of the Redis tier that count: read an entry, and write one with its notes in one step.

Main path: first_bytes() reads; PUT, in Redis' own language, is registered and run by redis_tier.py.
KEYS: the entry, then the notes of each of its tags. ARGV: time to live in ms (0: none), the value, the key.
"""

from __future__ import annotations

from typing import Any

import redis

PUT = """
local ttl_ms = tonumber(ARGV[1])
if ttl_ms > 0 then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
else redis.call('SET', KEYS[1], ARGV[2]) end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
for n = 2, #KEYS do
  if redis.call('TYPE', KEYS[n]).ok ~= 'zset' then redis.call('DEL', KEYS[n]) end
  redis.call('ZREMRANGEBYSCORE', KEYS[n], '-inf', now_ms)
  local left_ms = redis.call('PTTL', KEYS[n])
  redis.call('ZADD', KEYS[n], ttl_ms > 0 and now_ms + ttl_ms or '+inf', ARGV[3])
  if ttl_ms <= 0 then redis.call('PERSIST', KEYS[n])
  elseif left_ms ~= -1 and left_ms < ttl_ms then redis.call('PEXPIRE', KEYS[n], ARGV[1]) end
end
return 1
"""
"""Sets the value and notes it, with the time it runs out, under each of its tags: both or neither."""


def first_bytes(client: redis.Redis, name: bytes, count: int) -> Any:
    """Return what client.getrange(name, 0, count) does, in four fifths of its time.

    A hit is nothing but this, and the client's own way leads past hooks that nobody uses here.
    """
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_command("GETRANGE", name, 0, count)  # type: ignore[no-untyped-call]
        return connection.read_response()
    except redis.ResponseError:
        raise
    except BaseException:  # half an answer may be on its way, and must not become another caller's
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    finally:
        pool.release(connection)
