from .consumer import Consumer, consuming
from .effects import Effects
from .live_index import LiveIndex
from .stream import Entry, Event, EventError, EventStream
from .support_desk import SupportDesk

__all__ = [
    "Consumer",
    "Effects",
    "Entry",
    "Event",
    "EventError",
    "EventStream",
    "LiveIndex",
    "SupportDesk",
    "consuming",
]
