from .help_pages import SCHEMA, HelpPages, Line, fill, fresh
from .three_levels import File, ThreeLevels, redis_client

__all__ = [
    "SCHEMA",
    "File",
    "HelpPages",
    "Line",
    "ThreeLevels",
    "fill",
    "fresh",
    "redis_client",
]
