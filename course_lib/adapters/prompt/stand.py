"""The test stand of the conformance suite: runs an adapter with a scripted model and says what was sent.

Main path: Stand(adapter).run(program, expected, inputs) -> Run: prediction, messages, options, requests.
"""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from typing import Any

import dspy

from course_lib.adapters.prompt.script import scripted
from course_lib.adapters.tools.limits import in_thread


@dataclass(frozen=True, slots=True)
class Run:
    """One call of a program with the scripted model."""

    prediction: Any
    messages: list[dict[str, Any]]
    options: dict[str, Any]
    """What went to the model beside the messages."""
    requests: int


class Stand:
    """An adapter under test; every run gets a copy of it and a new script."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self.has_extractor = hasattr(adapter, "extraction_model")

    def adapter(self, **changes: Any) -> Any:
        """Return a copy of the adapter with attributes changed."""
        changed = copy.copy(self._adapter)
        for name, value in changes.items():
            setattr(changed, name, value)
        return changed

    def prepared(self, signature: Any, expected: Any, **changes: Any) -> Any:
        """Return a copy whose extraction model, if it has one, finds `expected`."""
        if self.has_extractor:
            text = dspy.ChatAdapter().format_assistant_message_content(signature, expected)
            changes["extraction_model"] = scripted([text])[0]
        return self.adapter(**changes)

    def written(self, signature: Any, outputs: Any) -> str:
        """Return a reply that holds the outputs, as the adapter itself writes them in a demo."""
        return str(self._adapter.format_assistant_message_content(signature, outputs))

    def parse(self, signature: Any, text: str, expected: Any = None) -> dict[str, Any]:
        """Parse a text."""
        adapter = self.adapter() if expected is None else self.prepared(signature, expected)
        return dict(adapter.parse(signature, text))

    def run(
        self,
        program: Any,
        expected: Any,
        inputs: Any,
        *,
        reply: Any = None,
        adapter: Any = None,
        use_acall: bool = False,
    ) -> Run:
        """Call a program whose model replies `expected` as the adapter writes it, or `reply` as it stands."""
        signature = program.predictors()[0].signature
        adapter = adapter or self.prepared(signature, expected)
        lm, script = scripted([self.written(signature, expected) if reply is None else reply])
        with dspy.context(lm=lm, adapter=adapter):
            prediction = awaited(lambda: program.acall(**inputs)) if use_acall else program(**inputs)
        entry = lm.history[0]
        return Run(prediction, entry["messages"], entry["kwargs"], script.requests)


def awaited(make: Any) -> Any:
    """Run the coroutine that `make` returns to its end in another thread: a notebook's loop is running."""
    return in_thread(lambda: asyncio.run(make()), name="conformance").result()


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message, without its parts of other kinds."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
