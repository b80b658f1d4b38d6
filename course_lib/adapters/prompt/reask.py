"""Asks once more when a reply cannot be read, and tells the model why.

Main path: dspy.configure(adapter=ReAsk(CustomAdapter())).
Source: dspy.Adapter.__call__, acall (dspy/adapters/base.py) and adapter_fallback_scope
(dspy/clients/call_context.py), DSPy 3.4.1.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import dspy
from dspy.clients.call_context import adapter_fallback_scope
from dspy.utils.exceptions import AdapterParseError


def reason(error: AdapterParseError) -> str:
    """Return why a reply could not be read, in words that a model can act upon."""
    words, separator, _ = str(error).partition("\n\nAdapter ")
    if separator and words:
        return words.strip()
    missing = [name for name in error.signature.output_fields if name not in (error.parsed_result or ())]
    return f"missing: {', '.join(missing)}" if missing else "not in the format asked for"


class ReAsk(dspy.Adapter):
    """An adapter around another one, which re-asks at most once after an `AdapterParseError`.

    Works around any adapter, sync and async. The inner adapter's own fallback to JSON is switched off: the
    one extra request is this one. Errors of the model (rate limits, outages, time-outs) pass untouched, and
    nothing is asked again once parts of the bad reply were streamed to a reader. `counts` says how many
    `calls` there were, how many of these were `asked_again`, and how many of those were `mended`.
    """

    def __init__(self, adapter: Any = None) -> None:
        inner = copy.copy(adapter if adapter is not None else dspy.ChatAdapter())
        if hasattr(inner, "use_json_adapter_fallback"):
            inner.use_json_adapter_fallback = False
        self.inner = inner  # settings such as callbacks are the inner adapter's, so no super().__init__()
        self.counts: Counter[str] = Counter()
        self._counting = threading.Lock()

    def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> list[Any]:
        """Ask, and ask again if need be."""

        async def ask(adapter: Any) -> Any:
            return adapter(lm, dict(lm_kwargs), signature, demos, inputs)

        return _finished(self._ask(ask))

    async def acall(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> list[Any]:
        """Do the same without blocking the event loop."""
        return await self._ask(lambda one: one.acall(lm, dict(lm_kwargs), signature, demos, inputs))

    async def _ask(self, ask: Callable[[Any], Awaitable[Any]]) -> list[Any]:
        self._count("calls")
        with adapter_fallback_scope() as progress:
            try:
                return list(await ask(self.inner))
            except AdapterParseError as error:
                if progress.emitted:
                    raise
                again = self._with_failure(error)
            self._count("asked_again")
            answers = list(await ask(again))
        self._count("mended")
        return answers

    def _with_failure(self, error: AdapterParseError) -> Any:
        """Return the inner adapter with the failed exchange at the end of its prompt."""
        again = copy.copy(self.inner)
        again.format = lambda *request, **named: _extended(self.inner.format(*request, **named), error)
        return again

    def _count(self, what: str) -> None:
        with self._counting:
            self.counts[what] += 1


def _finished(work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    """Return the result of a coroutine that never has to wait: the sync form of an async body."""
    try:
        work.send(None)
    except StopIteration as finished:
        return list(finished.value)
    raise RuntimeError("the coroutine waits for something, so it needs an event loop")


def _of_inner(name: str) -> property:
    def write(self: ReAsk, value: Any) -> None:
        self.inner = copy.copy(self.inner)  # other adapters around the same one keep theirs
        setattr(self.inner, name, value)

    return property(lambda self: getattr(self.inner, name), write, doc="As in the inner adapter.")


for _name in (*vars(dspy.Adapter), *vars(dspy.Adapter())):
    if not _name.startswith("_") and _name != "acall":
        setattr(ReAsk, _name, _of_inner(_name))


def _extended(messages: list[dict[str, Any]], error: AdapterParseError) -> list[dict[str, Any]]:
    """Add the bad reply and what was wrong with it; the request is repeated, so that it stands last."""
    *earlier, request = messages
    explanation = (
        f"This reply cannot be read: {reason(error)}\n"
        "Here is the request again. Answer it in the format asked for, and write nothing else."
    )
    content = request["content"]
    if isinstance(content, str):
        content = f"{explanation}\n\n{content}"
    else:
        content = [{"type": "text", "text": explanation}, *content]
    bad = {"role": "assistant", "content": str(error.lm_response) or "(nothing)"}
    return [*earlier, request, bad, {**request, "content": content}]
