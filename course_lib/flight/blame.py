"""Which part raised: the others reach each part through something that notes what it raises.

Main path: Blame().noted("cache", part) -> the part, as the others see it; Blame.raised counts part and class.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from course_lib.flight.parts import Busy

SYSTEM = "system"
Raised = Counter[tuple[str, str]]
"""How often, by part and class of the error."""


class Blame:
    """Knows the parts of a flight."""

    def __init__(self) -> None:
        self.raised = Raised()
        self._names = dict[int, tuple[str, Any]]()

    def know(self, name: str, thing: Any) -> None:
        """Remember what an object belongs to; it is kept, so that no other one gets its id."""
        self._names[id(thing)] = name, thing

    def noted(self, name: str, part: Any) -> Any:
        """Return what does all that the part does, and notes what it raises."""
        seen = _Noted(self, name, part)
        self.know(name, part)
        self.know(name, seen)
        return seen

    def guilty(self, error: BaseException) -> str:
        """Return the innermost part in which an error was raised; where it was in none, the system."""
        name = SYSTEM
        for frame, _ in walk_tb(error.__traceback__):
            name, _ = self._names.get(id(frame.f_locals.get("self")), (name, None))
        return name

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Count what this part raises; not what passes through it, nor a runner's refusals."""
        try:
            yield
        except Exception as error:  # border: the part may be the learner's
            refuses = name == "runner" and isinstance(error, Busy | TimeoutError)
            if not refuses and self.guilty(error) == name:
                self.raised[name, type(error).__name__] += 1
            raise


class _Noted:
    """A part, of which each call is watched; what is awaited is watched until it ends."""

    def __init__(self, blame: Blame, name: str, part: Any) -> None:
        self._blame, self._name, self._part = blame, name, part

    def __getattr__(self, attribute: str) -> Any:
        with self._noting():
            thing = getattr(self._part, attribute)
        if not callable(thing):
            return thing

        def called(*given: Any, **named: Any) -> Any:
            with self._noting():
                result = thing(*given, **named)
            return self._awaited(result) if inspect.isawaitable(result) else result

        return called

    async def _awaited(self, result: Any) -> Any:
        with self._noting():
            return await result

    def _noting(self) -> Any:
        return self._blame.noting(self._name)
