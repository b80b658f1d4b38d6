"""Settings under which a cache would only seem to work, refused when it is made.

Main path: check_settings(locals()) in TieredCache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from course_lib.errors import CourseError


class CacheMisuseError(CourseError):
    """The cache was asked for something that it does not do, or that would drop nothing."""


def check_settings(given: Mapping[str, Any]) -> None:
    """Refuse what keeps nothing, keeps nothing apart, or lets anybody sign.

    Raises:
        CacheMisuseError: a size or a time is no positive number, the jitter no share, or the key is empty.
    """
    for name in ("memory_bytes", "disk_bytes", "ttl_s"):
        value = given[name]
        if not (value is None and name == "ttl_s") and not (_is_number(value) and value > 0):
            raise CacheMisuseError(f"{name}={value!r} keeps nothing; give a number above 0")
    share = given["ttl_jitter_share"]
    if not (_is_number(share) and 0 <= share < 1):
        raise CacheMisuseError(f"ttl_jitter_share={share!r} is no share; give a number from 0 to below 1")
    key = given["signing_key"]
    if key is not None and (not isinstance(key, bytes) or not key):  # the value is a secret
        what = f"a {type(key).__name__}" if key else "nothing, with which anybody could sign"
        raise CacheMisuseError(f"signing_key takes bytes, not {what}")
    if not isinstance(given["namespace"], str) or not given["namespace"]:
        raise CacheMisuseError(f"namespace={given['namespace']!r} keeps nothing apart; give a text")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
