"""One thread for NumPy's matrix products, also when NumPy has long been imported.

Main path: `with one_blas_thread(): a @ b`; the count that held before comes back at the end.

The threads of BLAS wait for each other when the cores are busy. Measured on two busy cores: 19 ms with two
threads and 5 ms with one for (200 x 384) @ (384 x 1536), 20 ms and 0.3 ms for (3000 x 384) @ (384).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users = 0
_limit: Any = None


@cache
def _blas() -> Any:
    """Return the controller of NumPy's BLAS, made once: it looks through all loaded libraries for 5 ms."""
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread, for the whole process, until the last of several threads leaves the block."""
    global _users, _limit
    with _lock:
        if not _users:
            _limit = _blas().limit(limits=1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limit.restore_original_limits()
