"""The test stand of the conformance suite: an adapter, a scripted model, and the signatures they meet.

Main path: Stand(adapter).run(signature, expected, **inputs) -> Ran: prediction, messages, requests.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import contextvars
import copy
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal

import dspy
import pydantic

from course_lib.adapters.prompt.scripted import scripted
from course_lib.adapters.prompt.types import Money
from course_lib.errors import CourseError

Messages = list[dict[str, Any]]


class Part(pydantic.BaseModel):
    """A nested model."""

    name: str
    count: int


class Sort(dspy.Signature):
    """Sort a ticket."""

    ticket: str = dspy.InputField()
    label: Literal["billing", "returns"] = dspy.OutputField()
    note: str = dspy.OutputField()


class Ask(dspy.Signature):
    """Answer the question."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    score: int = dspy.OutputField()


SORTED = {"label": "returns", "note": "The lamp came broken."}


@dataclass(frozen=True, slots=True)
class Ran:
    """One run against the scripted model."""

    prediction: Any
    messages: Messages
    options: dict[str, Any]
    """What went to the model beside the messages."""
    requests: int


class Stand:
    """An adapter on the stand; every run gets a copy of it and a new script."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self.name = type(adapter).__name__
        self.has_extractor = hasattr(adapter, "extraction_model")

    def adapter(self, **changes: Any) -> Any:
        """Return a copy of the adapter with attributes changed."""
        made = copy.copy(self._adapter)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def prepared(self, signature: Any, expected: Any, **changes: Any) -> Any:
        """Return a copy whose extraction model, if it has one, is going to find `expected`."""
        if self.has_extractor:
            text = dspy.ChatAdapter().format_assistant_message_content(signature, expected)
            changes["extraction_model"] = scripted([text])[0]
        return self.adapter(**changes)

    def written(self, signature: Any, expected: Any) -> str:
        """Return the reply to be read as `expected`, as the adapter itself writes it in a demo."""
        return str(self._adapter.format_assistant_message_content(signature, expected))

    def run(
        self, program: Any, expected: Any, inputs: Any, *, reply: Any = None, adapter: Any = None, **kw: Any
    ) -> Ran:
        """Call a program whose model replies `expected`, or `reply` as it stands."""
        signature = _signature(program)
        adapter = adapter or self.prepared(signature, expected)
        lm, script = scripted([self.written(signature, expected) if reply is None else reply])
        with dspy.context(lm=lm, adapter=adapter, **kw):
            prediction = program(**inputs)
        return _ran(prediction, lm, script)

    def run_async(self, program: Any, expected: Any, inputs: Any) -> Ran:
        """Do the same with `acall`."""
        signature = _signature(program)
        lm, script = scripted([self.written(signature, expected)])
        with dspy.context(lm=lm, adapter=self.prepared(signature, expected)):
            prediction = waited(program.acall(**inputs))
        return _ran(prediction, lm, script)

    def read(self, signature: Any, text: str, expected: Any = None) -> dict[str, Any]:
        """Parse a text."""
        adapter = self.prepared(signature, expected) if expected is not None else self.adapter()
        return dict(adapter.parse(signature, text))


def _signature(program: Any) -> Any:
    return program.predictors()[0].signature


def _ran(prediction: Any, lm: Any, script: Any) -> Ran:
    entry = lm.history[0]
    return Ran(prediction, entry["messages"], entry["kwargs"], script.asked)


def waited(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end in a thread of its own: a notebook has a running loop already."""
    result: list[Any] = []
    failure: list[BaseException] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result.append(context.run(asyncio.run, work))
        except BaseException as error:  # border: it is raised again in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def text_of(message: dict[str, Any]) -> str:
    """Return what a message says, parts that are not text left out."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


def example(**values: Any) -> Any:
    """Return a demo."""
    return dspy.Example(**values)


def price(text: str) -> Money:
    """Return a value of a custom type."""
    return Money.model_validate(text)  # type: ignore[no-any-return]  # pydantic's model behind an Any base


class NotClaimedError(CourseError):
    """The adapter does not offer the feature, which is its right."""


def same(got: Any, expected: Any, what: str = "outputs") -> None:
    """Demand that what was got is what was expected."""
    assert got == expected, f"{what}: expected {expected!r:.90}, got {got!r:.90}"


def once(requests: int) -> str:
    """Demand a single request; say so."""
    assert requests == 1, f"{requests} requests for one good reply; expected 1"
    return "1 request"
