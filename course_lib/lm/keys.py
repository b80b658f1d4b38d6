"""Clients' keys: only a hash of a key is ever kept.

Main path: client_of(key) names the account.
"""

from __future__ import annotations

import hashlib


def client_of(key: str) -> str:
    """Return the name under which a key's account is kept; the key itself is kept nowhere."""
    return hashlib.sha256(key.encode()).hexdigest()[:24]
