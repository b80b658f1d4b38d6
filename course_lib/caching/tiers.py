"""What the tiers of the cache share: how names are encoded, and how a store that fails is left alone.

Main path: a tier has get, put, delete, drop_tag, clear, size_bytes, close and last_error, none of which
raises because the store is gone, slow or full; its Guard calls the store through two circuit breakers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from course_lib.resilience.breaker import CircuitBreaker

T = TypeVar("T")
Clock = Callable[[], float]
"""Returns seconds."""

UTF_8 = ("utf-8", "surrogatepass")
"""How names are encoded; half a character, which JSON can smuggle in, is no reason to fail."""

LARGEST_BYTES = 2 * 1024 * 1024
"""No larger answer leaves the process or is read, compressed or not: JSON of that size, made to be as
wasteful as it can be, takes 50 MB when it is read."""

CLOCKS_DIFFER_S = 60.0
"""At most, between two machines; what was kept later than that from now on is no longer served."""

_LONGEST_WAIT = 8  # in first waits


class Guard:
    """Calls a store through circuit breakers: one for all calls, one for writes alone.

    Args:
        name: of the store.
        first_wait_s: how long the store is left alone after a failure; doubles up to eight times that.
        diagnose: gets the error of a call and whether it was to write; returns what is wrong (nothing, if the
            text is empty), and whether that concerns writing alone.
    """

    def __init__(
        self, name: str, *, first_wait_s: float, diagnose: Callable[[Exception, bool], tuple[str, bool]]
    ) -> None:
        longest_wait_s = _LONGEST_WAIT * first_wait_s
        begin = partial(CircuitBreaker, threshold=1, first_wait_s=first_wait_s, longest_wait_s=longest_wait_s)
        self.calls, self.writes = begin(name), begin(f"writing to {name}")
        self._diagnose = diagnose

    @property
    def last_error(self) -> str:
        """What is wrong, in one line; empty when nothing is."""
        return self.calls.last_error or self.writes.last_error

    def attempt(self, work: Callable[[], T], otherwise: T, *, writes: bool = False) -> T:
        """Return work()'s value; `otherwise` while a breaker is open, and when it raises an error."""
        breakers = (self.calls, self.writes) if writes else (self.calls,)
        for breaker in breakers:
            if breaker.last_error and not breaker.allows():
                return otherwise
        try:
            result = work()
        except Exception as error:  # border: a store that fails must not fail the call that it was to spare
            line, is_of_writes = self._diagnose(error, writes)
            if is_of_writes:
                self.calls.record_success()
            if line:
                (self.writes if is_of_writes else self.calls).record_failure(line)
            return otherwise
        for breaker in breakers:
            if breaker.last_error:
                breaker.record_success()
        return result
