"""The language model that every notebook talks to: a simulator, or a real model, behind one local endpoint.

Main path: model = lm.connect(); dspy.configure(lm=model); lm.ledger() says what it saw.
"""

from course_lib.lm.client import embed, ledger, profile, reset
from course_lib.lm.connect import connect
from course_lib.lm.ledger import Call, Ledger
from course_lib.lm.process import key, stop, url
from course_lib.lm.profiles import PROFILES, Profile

__all__ = [
    "PROFILES",
    "Call",
    "Ledger",
    "Profile",
    "connect",
    "embed",
    "key",
    "ledger",
    "profile",
    "reset",
    "stop",
    "url",
]
