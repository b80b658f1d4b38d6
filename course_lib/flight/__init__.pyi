from .parts import (
    Busy,
    Cache,
    Canary,
    Documents,
    Job,
    Made,
    Monitor,
    Parts,
    Reply,
    Request,
    Runner,
    Servers,
    System,
    Tracer,
    Worker,
)
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
