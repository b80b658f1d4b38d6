"""The whole cache in one `with`: set up, watched, reported on, and taken down again.

Main path: with CacheManager(...) as manager: dspy.configure(lm=manager.front(lm.connect())).
Source: dspy.cache and dspy.settings.callbacks (DSPy 3.4.1), which are as before when the block ends.
"""

from __future__ import annotations

from typing import Any

import dspy

from course_lib.caching.cache import CacheMisuseError, TieredCache
from course_lib.services import running_redis


class CacheManager:
    """Puts a TieredCache under DSPy, and takes it away again.

    dspy.cache is one for all threads. The watcher is set with dspy.configure: attach where you configure
    DSPy, and not inside a `with dspy.context`, which would not see it.
    """

    def __init__(self, *, redis: bool = True, redis_url: str | None = None, **options: Any) -> None:
        """Make the cache; DSPy keeps its own until attach().

        Args:
            redis: whether to share answers through Redis.
            redis_url: which; None for a server of this machine, started if need be, or that of REDIS_URL.
            options: everything else that TieredCache takes.

        Raises:
            ServerError: there is no server, and none can be started.
            CacheMisuseError: `redis` is something else than True or False.
        """
        if not isinstance(redis, bool):  # its value may hold a password
            raise CacheMisuseError("redis= takes True or False; an address goes into redis_url=")
        if redis and redis_url is None:
            redis_url = running_redis().url
        self.cache = TieredCache(redis_url=redis_url if redis else None, **options)
        self.front, self.invalidate, self.report = self.cache.front, self.cache.invalidate, self.cache.stats
        """What TieredCache has under these names, or as stats()."""
        self._former: Any = None
        self.is_attached = False

    def __exit__(self, *error: object) -> None:
        self.close()

    def attach(self) -> CacheManager:
        """Put the cache under DSPy; returns the manager.

        Raises:
            CacheMisuseError: it is attached already.
        """
        if self.is_attached:
            raise CacheMisuseError("this cache is attached already; close() it, and make another")
        self._former = vars(dspy).get("cache")  # DSPy makes its own only when it is first asked for
        dspy.configure(callbacks=[*(dspy.settings.get("callbacks") or ()), self.cache.watcher])
        dspy.cache = self.cache
        self.is_attached = True
        return self

    __enter__ = attach

    def close(self) -> None:
        """Give DSPy its former cache and callbacks back, where ours still stand, and close the tiers."""
        try:
            if self.is_attached:
                self._detach()
        finally:
            self.cache.close()

    def _detach(self) -> None:
        self.is_attached = False
        if vars(dspy).get("cache") is self.cache:
            if self._former is None:
                del dspy.cache
            else:
                dspy.cache = self._former
        now = dspy.settings.get("callbacks") or ()
        dspy.configure(callbacks=[each for each in now if each is not self.cache.watcher])
