"""Where a `with` block stands: what holds in a context must not be opened in a generator.

Main path: name, frame = opener(sys._getframe(1)); a name is that of the generator, and a reason to refuse.
"""

from __future__ import annotations

import contextlib
import inspect
from types import FrameType

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_OPENING = {"__enter__", "__aenter__", "enter_context", "enter_async_context"}


def opener(frame: FrameType) -> tuple[str, FrameType]:
    """Return the name of the generator that opens a block, "" for none, and the frame that opens it.

    It looks through context managers: a generator that contextlib drives is none.
    """
    while True:
        is_generator = frame.f_code.co_flags & _GENERATORS
        if is_generator and (frame.f_back or frame).f_code.co_filename != contextlib.__file__:
            return frame.f_code.co_name, frame
        if frame.f_back is None or not (is_generator or frame.f_code.co_name in _OPENING):
            return "", frame
        frame = frame.f_back
