"""Asks once more when a reply cannot be read, and tells the model why.

Main path: dspy.configure(adapter=ReAsk(CustomAdapter())); the second request repeats the first and adds the
bad reply and what was wrong with it.
Source: dspy.Adapter.__call__, acall (dspy/adapters/base.py) and adapter_fallback_scope
(dspy/clients/call_context.py), DSPy 3.4.1.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import dspy
from dspy.clients.call_context import adapter_fallback_scope
from dspy.utils.exceptions import AdapterParseError

_NOT_A_REASON = "\n\nAdapter "


@dataclass(frozen=True, slots=True)
class ReAskCounts:
    """What became of the calls so far."""

    calls: int = 0
    """Answers asked for."""
    asked_again: int = 0
    """Of these, how many needed a second request."""
    mended: int = 0
    """Of those, how many were then answered well."""

    def __str__(self) -> str:
        return f"{self.calls} calls, {self.asked_again} asked again, {self.mended} of them mended"


def reason(error: AdapterParseError) -> str:
    """Return why a reply could not be read, in words that a model can act upon."""
    given, separator, _ = str(error).partition(_NOT_A_REASON)
    if separator and given:
        return given.strip()
    found = set(error.parsed_result or ())
    missing = [name for name in error.signature.output_fields if name not in found]
    return f"missing: {', '.join(missing)}" if missing else "not in the format asked for"


def _inner(name: str) -> Callable[..., Any]:
    """Make a method that is the inner adapter's."""

    def delegate(self: Any, *args: Any, **options: Any) -> Any:
        return getattr(self.inner, name)(*args, **options)

    delegate.__name__ = name
    delegate.__doc__ = "Do as the inner adapter does."
    return delegate


def _setting(name: str) -> property:
    """Make a setting that is the inner adapter's; setting it spares other adapters around the same one."""

    def write(self: Any, value: Any) -> None:
        self.inner = copy.copy(self.inner)
        setattr(self.inner, name, value)

    return property(lambda self: getattr(self.inner, name), write)


class ReAsk(dspy.Adapter):
    """An adapter around another one, which re-asks at most once after an `AdapterParseError`.

    Works around any adapter, sync and async. The inner adapter's own fallback to JSON is switched off: the
    one extra request is this one. Errors of the model (rate limits, outages, time-outs) pass untouched, and
    nothing is asked again once parts of the bad reply were streamed to a reader. `counts` says how often.
    """

    def __init__(self, adapter: Any = None) -> None:
        inner = copy.copy(adapter if adapter is not None else dspy.ChatAdapter())
        if hasattr(inner, "use_json_adapter_fallback"):
            inner.use_json_adapter_fallback = False
        self.inner = inner  # settings such as callbacks are the inner adapter's, so no super().__init__()
        self.counts = ReAskCounts()
        self._counting = threading.Lock()

    def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> list[Any]:
        """Ask, and ask again if need be."""
        self._count(calls=1)
        with adapter_fallback_scope() as progress:
            try:
                return list(self.inner(lm, dict(lm_kwargs), signature, demos, inputs))
            except AdapterParseError as error:
                if progress.emitted:
                    raise
                again = self._again(error)
            answers = list(again(lm, dict(lm_kwargs), signature, demos, inputs))
        self._count(mended=1)
        return answers

    async def acall(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> list[Any]:
        """Do the same without blocking the event loop."""
        self._count(calls=1)
        with adapter_fallback_scope() as progress:
            try:
                return list(await self.inner.acall(lm, dict(lm_kwargs), signature, demos, inputs))
            except AdapterParseError as error:
                if progress.emitted:
                    raise
                again = self._again(error)
            answers = list(await again.acall(lm, dict(lm_kwargs), signature, demos, inputs))
        self._count(mended=1)
        return answers

    def _again(self, error: AdapterParseError) -> Any:
        """Return the inner adapter, once more, with the failed exchange at the end of its prompt."""
        self._count(asked_again=1)
        again = copy.copy(self.inner)
        again.format = lambda signature, demos, inputs: _with_failure(
            self.inner.format(signature, demos, inputs), error
        )
        return again

    def _count(self, **by: int) -> None:
        with self._counting:
            now = {name: getattr(self.counts, name) + more for name, more in by.items()}
            self.counts = replace(self.counts, **now)

    def format(self, signature: Any, demos: Any, inputs: Any) -> list[dict[str, Any]]:
        """Write the prompt as the inner adapter does."""
        return list(self.inner.format(signature, demos, inputs))

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """Read a reply as the inner adapter does."""
        return dict(self.inner.parse(signature, completion))

    callbacks = _setting("callbacks")
    use_native_function_calling = _setting("use_native_function_calling")
    native_response_types = _setting("native_response_types")
    parallel_tool_calls = _setting("parallel_tool_calls")
    format_system_message = _inner("format_system_message")
    format_field_description = _inner("format_field_description")
    format_field_structure = _inner("format_field_structure")
    format_task_description = _inner("format_task_description")
    format_user_message_content = _inner("format_user_message_content")
    format_assistant_message_content = _inner("format_assistant_message_content")
    format_demos = _inner("format_demos")
    format_conversation_history = _inner("format_conversation_history")


def _with_failure(messages: list[dict[str, Any]], error: AdapterParseError) -> list[dict[str, Any]]:
    """Add the bad reply and what was wrong with it; the request is repeated, so that it stands last."""
    *earlier, request = messages
    told = (
        f"This reply cannot be read: {reason(error)}\n"
        "Here is the request again. Answer it in the format asked for, and write nothing else."
    )
    content = request["content"]
    if isinstance(content, str):
        content = f"{told}\n\n{content}"
    else:
        content = [{"type": "text", "text": told}, *content]
    bad = {"role": "assistant", "content": str(error.lm_response) or "(nothing)"}
    return [*earlier, request, bad, {**request, "content": content}]
