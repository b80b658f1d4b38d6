from .kubernetes import findings
from .manifests import Pod, connects, evictions

EXERCISES: tuple[tuple[str, ...], ...]

__all__ = ["Pod", "connects", "evictions", "findings"]
