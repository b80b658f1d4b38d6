"""Exercises of lesson 00, Start here.

Main path: EXERCISES -> registry.exercises().
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from course_lib.exercises.checks import expect, expect_equal
from course_lib.exercises.registry import Exercise

Urgent = Callable[[list[Any], Callable[..., Any]], list[str]]


@dataclass
class _Asked:
    """A triage whose verdicts are fixed, and which remembers the tickets it was asked about."""

    verdicts: dict[str, str]
    tickets: list[str] = field(default_factory=list)

    def __call__(self, *, ticket: str) -> Any:
        self.tickets.append(ticket)
        return SimpleNamespace(category="shipping", urgency=self.verdicts[ticket])


_TICKETS = [
    SimpleNamespace(id="T-1", text="The stove leaks gas and I am in a hut.", urgency="low"),
    SimpleNamespace(id="T-2", text="Do you sell gift cards?", urgency="high"),
    SimpleNamespace(id="T-3", text="My tent must arrive before Friday or the trip is off.", urgency="normal"),
]
"""The labels disagree with the verdicts on purpose: an answer that reads the label is seen."""
_VERDICTS = dict(zip((ticket.text for ticket in _TICKETS), ("high", "low", "high"), strict=True))


def _returns_the_ids(urgent: Urgent) -> None:
    """The ids of the tickets that triage calls high come back, in order."""
    got = urgent(_TICKETS, _Asked(_VERDICTS))
    expect(
        not any(ticket in _TICKETS for ticket in got),
        "what comes back is ids",
        observed=got,
        expected="a list of ids such as 'T-1', not the tickets",
        hint="A ticket has .id and .text.",
    )
    expect_equal(
        list(got),
        ["T-1", "T-3"],
        "the ids of the tickets that triage calls high, in the order given",
        hint="Ask the program about each ticket, and read .urgency of its prediction.",
    )


def _asks_once_per_ticket(urgent: Urgent) -> None:
    """Each ticket is asked about once: every call of a model costs time and money."""
    asked = _Asked(_VERDICTS)
    urgent(_TICKETS, asked)
    expect_equal(
        len(asked.tickets),
        len(_TICKETS),
        f"calls of triage for {len(_TICKETS)} tickets",
        hint="Keep the prediction in a variable when you need it twice.",
    )


EXERCISES = (
    Exercise(
        id="0.1",
        title="Which tickets cannot wait?",
        lesson="00_start_here",
        minutes=5,
        difficulty="easy",
        concepts=("call a module", "read a typed prediction"),
        hints=(
            "Call the program once per ticket: triage(ticket=...) takes the ticket's text.",
            "The prediction has a typed field: prediction.urgency is 'low', 'normal' or 'high'.",
            "One line will do: a list comprehension over tickets, with the call in its condition.",
        ),
        checks=(_returns_the_ids, _asks_once_per_ticket),
        why=(
            "The program is handed in, so the same function works with the plain program, an optimised one, "
            "or a test's stand-in. Urgency is a Literal, so == is enough: no lower(), no parsing. "
            "One call per ticket."
        ),
    ),
)
