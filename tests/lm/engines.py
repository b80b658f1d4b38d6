"""The simulator as an in-process engine of dspy.LM: no endpoint, no socket."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

from course_lib.lm.simulator.engine import answer


def _text(parts: Any) -> str:
    return parts if isinstance(parts, str) else "".join(part.text for part in parts)


class InProcess:
    """Answers DSPy's typed requests with the simulator."""

    def __init__(self, model: str = "sim-large") -> None:
        self.model = model
        self.bodies: list[dict[str, Any]] = []

    def complete(self, request: Request) -> Response:
        messages = [{"role": "system", "content": _text(request.system)}] if request.system else []
        messages += [{"role": message.role, "content": _text(message.parts)} for message in request.messages]
        body = {"model": self.model, "messages": messages}
        self.bodies.append(body)
        text = answer(body).text or ""
        return Response(
            id="1",
            model=request.model,
            message=Message.assistant([TextPart(text)]),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2),
        )


def simulated(model: str = "sim-large") -> dspy.LM:
    """Return an uncached dspy.LM in front of the simulator."""
    return dspy.LM(f"sim/{model}", engine=InProcess(model), cache=False, num_retries=0)
