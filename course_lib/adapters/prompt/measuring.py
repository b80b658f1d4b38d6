"""Adapters side by side on one task: how often the first reply can be read, and what an answer costs.

Main path: measure(n=20) -> rows, one per adapter, signature and model, as table() shows them.
Source: tokens and calls from the endpoint's ledger, fallbacks from count_fallbacks().
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import itertools
import time
from collections import Counter
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
from course_lib.adapters.prompt.reask import ReAsk
from course_lib.adapters.prompt.script import quiet_dspy
from course_lib.desk.programs import SortTicket
from course_lib.desk.records import Category


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
    models: Sequence[str] = ("sim-large", "sim-large@sloppy"),
    n: int = 20,
) -> list[Measured]:
    """Ask for `n` answers in every combination, one after the other, past DSPy's cache.

    Args:
        adapters: by name, a dspy.Adapter or what makes one for a dspy.LM. Default: ADAPTERS.
        signatures: by name, each with the one input `ticket`. Default: SIGNATURES.
        models: model strings, as `lm.connect` takes them.
        n: answers per combination, each about another ticket.
    """
    adapters, signatures = adapters or ADAPTERS, signatures or SIGNATURES
    tickets = [ticket.text for ticket in (*desk.tickets("dev"), *desk.tickets("test"))][:n]
    rows = []
    for model, shape, name in itertools.product(models, signatures, adapters):
        model_lm = lm.connect(model, cache=False)
        adapter = adapters[name] if isinstance(adapters[name], dspy.Adapter) else adapters[name](model_lm)
        since = lm.ledger().requests
        with dspy.context(lm=model_lm, adapter=adapter), quiet_dspy():
            answers = [_answer(dspy.Predict(signatures[shape]), ticket) for ticket in tickets]
        rows.append(_row(name, shape, model, answers, lm.ledger(since=since)))
    return rows


def _answer(program: Any, ticket: str) -> tuple[bool, bool, float]:
    """Return whether the first reply was read, whether there was an answer, and the milliseconds it took."""
    adapter = dspy.settings.adapter
    counts: Counter[str] = adapter.counts if isinstance(adapter, ReAsk) else Counter()
    begun, before, is_answered = time.perf_counter(), counts["asked_again"], True
    with count_fallbacks() as fallbacks:
        try:
            program(ticket=ticket)
        except (AdapterParseError, dspy.LMError):
            is_answered = False
    is_first_read = is_answered and not fallbacks and counts["asked_again"] == before
    return is_first_read, is_answered, (time.perf_counter() - begun) * 1000


def _row(name: str, shape: str, model: str, answers: list[tuple[bool, bool, float]], usage: Any) -> Measured:
    first_read, answered, durations_ms = zip(*answers, strict=True)
    count = len(answers)
    return Measured(
        adapter=name,
        signature=shape,
        model=model,
        first_read_share=round(sum(first_read) / count, 3),
        answered_share=round(sum(answered) / count, 3),
        calls_per_answer=round(usage.requests / count, 2),
        prompt_tokens=round(usage.prompt_tokens / count, 1),
        completion_tokens=round(usage.completion_tokens / count, 1),
        latency_p50_ms=round(median(durations_ms), 1),
    )
