from .help_pages import SCHEMA, HelpPages, Line, fill, fresh
from .kubernetes import findings
from .manifests import Pod, connects, evictions
from .own_parts import joined, passed
from .three_levels import File, ThreeLevels, redis_client

EXERCISES: tuple[tuple[str, ...], ...]

__all__ = [
    "SCHEMA",
    "File",
    "HelpPages",
    "Line",
    "Pod",
    "ThreeLevels",
    "connects",
    "evictions",
    "fill",
    "findings",
    "fresh",
    "joined",
    "passed",
    "redis_client",
]
