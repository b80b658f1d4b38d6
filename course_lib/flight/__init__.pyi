from .byo import fly_program
from .gates import measured_gates
from .launch import Tick, fly, flying
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
from .program import ProgramError
from .recording import Row, keep, kept, mechanisms, recorded
from .reference import TicketWorker, ours
from .report import certificate
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
    "ProgramError",
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
    "certificate",
    "fly",
    "fly_program",
    "flying",
    "keep",
    "kept",
    "measured_gates",
    "mechanisms",
    "ours",
    "recorded",
]
