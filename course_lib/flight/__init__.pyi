from .parts import Busy, Cache, Documents, Monitor, Runner, Servers, Tracer
from .result import Flown, Gate, Level, Scene, Seen

__all__ = [
    "Busy",
    "Cache",
    "Documents",
    "Flown",
    "Gate",
    "Level",
    "Monitor",
    "Runner",
    "Scene",
    "Seen",
    "Servers",
    "Tracer",
]
