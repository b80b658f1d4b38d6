"""A process of ours that ends with this one, whatever ends this one: the owner's side.

Main path: Child(command) starts it, stop() ends it; inside, it waits in supervisor.wait_for_word().
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from course_lib.services.supervisor import STOP

_STOP_S = 10.0


class Child:
    """A running child; a forked copy of its owner can look at it, and not end it."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        """Start the command; the options are those of subprocess.Popen."""
        self._owner = os.getpid()
        self.process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  (our own programs)
            command,
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # an interrupt of the notebook is not meant for it
            **options,
        )

    def is_running(self) -> bool:
        """Return whether it runs; a forked copy of its owner cannot know and says yes."""
        return os.getpid() != self._owner or self.process.poll() is None

    def ends_within(self, limit_s: float) -> bool:
        """Return whether it has ended, or does so in time."""
        if os.getpid() == self._owner:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(limit_s)
        return not self.is_running()

    def stop(self, word: bytes = STOP) -> bool:
        """Tell it to end, and wait until it has; return whether it was ours to end."""
        if os.getpid() != self._owner:
            return False
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError), self.process.stdin as pipe:
            pipe.write(word)  # an error: it has ended, or was stopped before
        if not self.ends_within(_STOP_S):
            self.process.kill()
            self.process.wait()
        return True
