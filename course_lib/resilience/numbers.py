"""Settings that are numbers: a wrong one is told where it is set, not where it is used.

Main path: positive(rate_per_s=rate_per_s, capacity=capacity).
"""

from __future__ import annotations

import math


def positive(**settings: float) -> None:
    """Refuse what is not above 0 and finite (NaN is neither).

    Raises:
        ValueError: the first such setting, by its name.
    """
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} ({value!r}) must be above 0, and finite")
