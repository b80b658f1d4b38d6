from .calls import Call, Ledger
from .client import embed, is_answering, ledger, profile, reset, verdict
from .conduct import Verdict
from .connection import connect
from .process import key, stop, url
from .profiles import PROFILES, Profile

__all__ = [
    "PROFILES",
    "Call",
    "Ledger",
    "Profile",
    "Verdict",
    "connect",
    "embed",
    "is_answering",
    "key",
    "ledger",
    "profile",
    "reset",
    "stop",
    "url",
    "verdict",
]
