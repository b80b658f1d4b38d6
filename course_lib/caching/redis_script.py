"""What the Redis tier has the server do in one step, in Redis' own language.

Main path: PUT, registered and run by redis_tier.py.
KEYS: the entry, then the notes of each of its tags. ARGV: time to live in ms (0: none), the value, the key.
"""

from __future__ import annotations

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
