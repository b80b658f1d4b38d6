# mypy: allow-subclassing-any
"""dspy.clients.cache.Cache without its own tiers: no DSPy LRU, no diskcache, no pickles.

Main path: TieredCache derives from Seam and brings its own get, put and cache_key.
Source: dspy.clients.cache.Cache (DSPy 3.4.1).
"""

from __future__ import annotations

from dspy.clients.cache import Cache

from course_lib.errors import CourseError


class CacheMisuseError(CourseError):
    """The cache was asked for something that it does not do, or that would drop nothing."""


class Seam(Cache):
    """What DSPy takes for its cache."""

    def __init__(self) -> None:
        super().__init__(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None)

    def save_memory_cache(self, filepath: str) -> None:
        """Refuse: DSPy's file is a pickle, which runs code when it is read."""
        raise CacheMisuseError(
            f"nothing was written to {filepath}, which would be a pickle; "
            "TieredCache(disk_path=...) keeps answers from one day to the next"
        )

    def load_memory_cache(self, filepath: str, allow_pickle: bool = False) -> None:  # noqa: ARG002
        """Refuse: DSPy's file is a pickle, which runs code when it is read."""
        raise CacheMisuseError(
            f"{filepath} was not read, since it is a pickle; warm() takes keys and plain records"
        )
