"""Adapters side by side on one task: how often the first reply can be read, and what an answer costs.

Main path: measure(n=20) -> rows, one per adapter, signature and model, as table() shows them.
Source: tokens and calls from the endpoint's ledger, fallbacks from count_fallbacks().
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import dspy
import pydantic
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.utils.exceptions import AdapterParseError

from course_lib import desk, lm
from course_lib.adapters.prompt.fallbacks import count_fallbacks
from course_lib.adapters.prompt.lines import CustomAdapter
from course_lib.adapters.prompt.quiet import quiet_dspy
from course_lib.desk.programs import SortTicket
from course_lib.desk.records import Category

MODELS = ("sim-large", "sim-small@sloppy")
"""A model on its best behaviour, and one that often is not."""


class Item(pydantic.BaseModel):
    """A thing that a ticket is about."""

    product: str
    quantity: int


class ReadTicket(dspy.Signature):
    """Read a support ticket of Lantern, a shop for camping gear."""

    ticket: str = dspy.InputField()
    summary: str = dspy.OutputField(desc="one sentence")
    products: list[Item] = dspy.OutputField()
    category: Category = dspy.OutputField()


ADAPTERS: Mapping[str, Callable[[Any], Any]] = {
    "Chat": lambda _: dspy.ChatAdapter(),
    "JSON": lambda _: dspy.JSONAdapter(),
    "XML": lambda _: dspy.XMLAdapter(),
    "TwoStep": dspy.TwoStepAdapter,
    "BAML": lambda _: BAMLAdapter(),
    "Custom": lambda _: CustomAdapter(),
}
"""Adapters by a short name, made for a model: TwoStepAdapter needs one for its second step."""

SIGNATURES: Mapping[str, Any] = {"flat": SortTicket, "nested": ReadTicket}
"""Signatures with the one input `ticket`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One adapter on one signature and one model; costs are means over all answers asked for."""

    adapter: str
    signature: str
    model: str
    first_read_share: float
    """Share of the answers whose first reply could be read."""
    answered_share: float
    """Share that ended in a prediction, second requests included."""
    calls_per_answer: float
    """Requests that the model saw."""
    prompt_tokens: float
    completion_tokens: float
    latency_p50_ms: float
    """Median over the answers, from the call to the prediction."""


def measure(
    adapters: Mapping[str, Any] | None = None,
    signatures: Mapping[str, Any] | None = None,
    models: Sequence[str] = MODELS,
    n: int = 20,
    *,
    told: Callable[[int, int], None] | None = None,
) -> list[Measured]:
    """Ask for `n` answers in every combination, one after the other, past DSPy's cache.

    Args:
        adapters: name -> dspy.Adapter, or what makes one for a dspy.LM. Default: ADAPTERS.
        signatures: name -> signature with the one input `ticket`. Default: SIGNATURES.
        models: model strings, as `lm.connect` takes them.
        n: answers per combination, each about another ticket.
        told: called with (done, all) after each combination, for a progress bar.
    """
    adapters, signatures = adapters or ADAPTERS, signatures or SIGNATURES
    tickets = [ticket.text for ticket in (*desk.tickets("dev"), *desk.tickets("test"))][:n]
    grid = [(model, shape, name) for model in models for shape in signatures for name in adapters]
    rows = []
    for done, (model, shape, name) in enumerate(grid, 1):
        model_lm = lm.connect(model, cache=False)
        made = adapters[name] if isinstance(adapters[name], dspy.Adapter) else adapters[name](model_lm)
        with dspy.context(lm=model_lm, adapter=made):
            rows.append(_measured(name, shape, model, signatures[shape], tickets))
        if told:
            told(done, len(grid))
    return rows


def _measured(name: str, shape: str, model: str, signature: Any, tickets: Sequence[str]) -> Measured:
    program = dspy.Predict(signature)
    since = lm.ledger().requests
    durations_ms: list[float] = []
    first_read = answered = 0
    with quiet_dspy():
        for ticket in tickets:
            begun = time.perf_counter()
            was_read, was_answered = _ask(program, ticket)
            durations_ms.append((time.perf_counter() - begun) * 1000)
            first_read += was_read
            answered += was_answered
    seen, asked = lm.ledger(since=since), max(1, len(tickets))
    return Measured(
        adapter=name,
        signature=shape,
        model=model,
        first_read_share=round(first_read / asked, 3),
        answered_share=round(answered / asked, 3),
        calls_per_answer=round(seen.requests / asked, 2),
        prompt_tokens=round(seen.prompt_tokens / asked, 1),
        completion_tokens=round(seen.completion_tokens / asked, 1),
        latency_p50_ms=round(median(durations_ms or [0.0]), 1),
    )


def _ask(program: Any, ticket: str) -> tuple[bool, bool]:
    """Return whether the first reply could be read, and whether there was an answer in the end."""
    again = _asked_again()
    with count_fallbacks() as fallbacks:
        try:
            program(ticket=ticket)
        except (AdapterParseError, dspy.LMError):
            return False, False
    return not fallbacks.rows and _asked_again() == again, True


def _asked_again() -> int:
    """Return how often the adapter in use has re-asked, if it is one that does."""
    counts = getattr(dspy.settings.adapter, "counts", None)
    return getattr(counts, "asked_again", 0)
