"""What an engine answers with, before the wire gives it ids, choices and chunks.

Main path: an engine is called with (body, sample=n) -> Reply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from course_lib.errors import CourseError


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool that the model asks for; the wire layer gives it its id."""

    name: str
    """Name of the function, as the request's `tools` spell it."""
    arguments: dict[str, Any]
    """Arguments by name; the wire layer writes them as JSON."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One completed answer: text, tool calls, or both."""

    text: str | None
    """The message's content; None when only tools are called."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Tools to call, in order."""
    finish_reason: str = "stop"
    """OpenAI's word for why the answer ends: stop, length, tool_calls."""


class SlowError(CourseError):
    """An engine cannot answer within the processor time that it has; it may have got further than before."""

    def __init__(self, message: str, *, gets_further: bool = False) -> None:
        super().__init__(message)
        self.gets_further = gets_further


Engine = Callable[..., Reply]
"""Called with (body, sample=n), where n is 0 at temperature 0, else the n-th draw for this same request.

It may raise SlowError."""
