from .api import APIAdapter, APIError, APITimeoutError
from .connections import DatabaseError, DatabaseGone
from .database import DatabaseAdapter
from .desk_tables import load_desk
from .files import FileSystemAdapter
from .predictions import StoredPrediction

__all__ = [
    "APIAdapter",
    "APIError",
    "APITimeoutError",
    "DatabaseAdapter",
    "DatabaseError",
    "DatabaseGone",
    "FileSystemAdapter",
    "StoredPrediction",
    "load_desk",
]
