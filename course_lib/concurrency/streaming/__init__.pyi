from .events import (
    Citation,
    Done,
    Error,
    Event,
    Final,
    Heartbeat,
    NotAPredictionError,
    Status,
    Token,
    as_json,
    from_json,
    kind_of,
)
from .run import UnknownFieldError
from .service import Service, serve, streaming_app
from .streams import Stream, stream

__all__ = [
    "Citation",
    "Done",
    "Error",
    "Event",
    "Final",
    "Heartbeat",
    "NotAPredictionError",
    "Service",
    "Status",
    "Stream",
    "Token",
    "UnknownFieldError",
    "as_json",
    "from_json",
    "kind_of",
    "serve",
    "stream",
    "streaming_app",
]
