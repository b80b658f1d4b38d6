from .flying import Tick, fly, flying
from .levels import MECHANISMS
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
from .recording import Row, mechanisms, recorded
from .reference import TicketWorker, ours
from .result import Flown, Gate, Level, Scene, Seen
from .script import ScriptError
from .system import Desk

__all__ = [
    "MECHANISMS",
    "Busy",
    "Cache",
    "Canary",
    "Desk",
    "Documents",
    "Flown",
    "Gate",
    "Job",
    "Level",
    "Made",
    "Monitor",
    "Parts",
    "Reply",
    "Request",
    "Row",
    "Runner",
    "Scene",
    "ScriptError",
    "Seen",
    "Servers",
    "System",
    "Tick",
    "TicketWorker",
    "Tracer",
    "Worker",
    "fly",
    "flying",
    "mechanisms",
    "ours",
    "recorded",
]
