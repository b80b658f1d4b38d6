"""A model that costs nothing to ask and counts what it is asked."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy.lm15 import Message, Request, Response, TextPart, Usage


class Model:
    """Answers `answer: re <the question>`, or garbage to a question that begins with "bad"."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.lm = dspy.LM("course/sim-large", engine=self, cache=False, num_retries=0)

    def complete(self, request: Request) -> Response:
        """Count the question, and answer."""
        text = "".join(part.text for part in request.messages[-1].parts if isinstance(part, TextPart))
        question = text.split("[[ ## question ## ]]")[1].split("[[", 1)[0].split("Respond")[0].strip()
        with self._lock:
            self.asked[question] += 1
        answer = "?" if question.startswith("bad") else f"[[ ## answer ## ]]\nre {question}\n"
        message = Message.assistant([TextPart(answer)])
        usage = Usage(input_tokens=100, output_tokens=10, total_tokens=110)
        return Response(id="1", model=request.model, message=message, finish_reason="stop", usage=usage)


@pytest.fixture
def model() -> Iterator[Model]:
    """The model, set for the test."""
    model = Model()
    with dspy.context(lm=model.lm, adapter=dspy.ChatAdapter()):
        yield model


@pytest.fixture
def ask() -> Any:
    """A program of one call."""
    return dspy.Predict("question -> answer")


def questions(count: int) -> list[dict[str, str]]:
    """Inputs for `ask`."""
    return [{"question": f"q{number}"} for number in range(count)]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No thread of a batch outlives its test."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("course-batch")]
