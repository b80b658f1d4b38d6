from .calls import Call, Ledger
from .client import embed, is_answering, ledger, profile, reset
from .connection import connect
from .process import key, stop, url
from .profiles import PROFILES, Profile

__all__ = [
    "PROFILES",
    "Call",
    "Ledger",
    "Profile",
    "connect",
    "embed",
    "is_answering",
    "key",
    "ledger",
    "profile",
    "reset",
    "stop",
    "url",
]
