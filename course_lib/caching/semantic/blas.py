"""One thread for NumPy's matrix products, also when NumPy has long been imported.

Main path: `with one_blas_thread(): a @ b`; the count that held before comes back at the end.

OPENBLAS_NUM_THREADS=1 does the same, but is read once, when NumPy is imported, and in a notebook that has
happened. So the C function is called that OpenBLAS keeps for this; it takes under a microsecond. Measured on
two busy cores, (200 x 384) @ (384 x 1536) in 32 bits: 22 ms with the default of two threads, which wait for
each other, 3 ms with one. The count is the process's: what others compute meanwhile has one thread too.
Where NumPy brings no OpenBLAS (Accelerate, on a Mac) nothing is done.
Source: libscipy_openblas64_ in NumPy's wheels (NumPy 2.4, OpenBLAS 0.3.31).
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_NAMES = (
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
)
_lock = threading.Lock()
_inside = 0
_before = 0


@cache
def _functions() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return OpenBLAS's getter and setter of the thread count; None where NumPy uses something else."""
    umath = importlib.import_module("numpy._core._multiarray_umath")
    try:
        library = ctypes.CDLL(str(umath.__file__))  # loaded already: a handle, and its dependencies
    except (OSError, AttributeError, TypeError):
        return None
    for get, put in _NAMES:
        if hasattr(library, get) and hasattr(library, put):
            setter = getattr(library, put)
            setter.argtypes, setter.restype = [ctypes.c_int], None
            return getattr(library, get), setter
    return None


def threads() -> int | None:
    """Return how many threads a matrix product may use now; None where that cannot be asked."""
    functions = _functions()
    return functions[0]() if functions else None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold OpenBLAS to one thread meanwhile; nests, and the last of several threads to leave restores."""
    global _inside, _before
    functions = _functions()
    if functions is None:
        yield
        return
    get, put = functions
    with _lock:
        _inside += 1
        if _inside == 1:
            _before = get()
            put(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                put(_before)
