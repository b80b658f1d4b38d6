"""Exercise 0.1, a program that sorts tickets: what it returns, and what the model's server saw of it.

Main path: EXERCISE -> engine.registry. Checks call the simulator, whichever model the learner chose.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted

SortTicket = Callable[..., Any]


def _six() -> str:
    return ", ".join(desk.CATEGORIES)


@cache
def _tickets() -> tuple[desk.Ticket, ...]:
    """Return the first development ticket of each category."""
    first = {ticket.category: ticket for ticket in reversed(desk.tickets("dev"))}
    return tuple(first[category] for category in desk.CATEGORIES)


def _sorted(sort_ticket: SortTicket) -> tuple[list[Any], list[lm.Call]]:
    """Return the predictions for the tickets, and the requests that they cost."""
    import dspy

    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        return counted(lambda: [sort_ticket(ticket=ticket.text) for ticket in _tickets()])


def _prompt(call: lm.Call) -> str:
    return "\n".join(str(message.get("content", "")) for message in call.messages)


def gives_a_category(sort_ticket: SortTicket) -> None:
    """Each ticket gets a prediction with a field `category`."""
    expect(
        callable(sort_ticket) and not isinstance(sort_ticket, type),
        "sort_ticket is a program",
        observed=sort_ticket,
        expected="something to call with ticket=..., such as dspy.Predict of your signature",
        hint="A signature says what goes in and out; a module such as dspy.Predict does the asking.",
    )
    predictions, _ = _sorted(sort_ticket)
    for prediction in predictions:
        fields = list(prediction.keys()) if hasattr(prediction, "keys") else []
        expect(
            "category" in fields,
            "the prediction has a field `category`",
            observed=f"fields {fields}" if fields else prediction,
            expected="a prediction with the field 'category'",
            hint="The name of the signature's output field is the name you read from the prediction.",
        )


def asks_the_model(sort_ticket: SortTicket) -> None:
    """The model's server saw the text of each ticket."""
    _, calls = _sorted(sort_ticket)
    prompts = [_prompt(call) for call in calls]
    unseen = [ticket.id for ticket in _tickets() if not any(ticket.text.strip() in text for text in prompts)]
    expect(
        not unseen,
        observed=f"{len(calls)} requests for {len(_tickets())} tickets; in none of them: {', '.join(unseen)}",
        expected="a request with the ticket's text for each ticket",
        hint="Let a module ask the model: dspy.Predict(YourSignature), called with ticket=...",
    )


def answers_with_one_of_six(sort_ticket: SortTicket) -> None:
    """Every answer is one of the six categories, letter for letter."""
    predictions, _ = _sorted(sort_ticket)
    for ticket, prediction in zip(_tickets(), predictions, strict=True):
        expect(
            prediction.category in desk.CATEGORIES,
            observed=f"{prediction.category!r} for ticket {ticket.id}",
            expected=f"one of {_six()}",
            hint="A type can say which answers there are: Literal[...] binds the model and the parser.",
        )


def offers_all_six(sort_ticket: SortTicket) -> None:
    """The prompt that the server saw offers all six categories."""
    _, calls = _sorted(sort_ticket)
    prompt = _prompt(calls[0]).replace(_tickets()[0].text.strip(), "")
    missing = [name for name in desk.CATEGORIES if not re.search(rf"\b{name}\b", prompt)]
    expect(
        not missing,
        observed=f"a prompt without {', '.join(missing)}",
        expected=f"a prompt that names {_six()}",
        hint="The model can only choose what the prompt shows. Compare your Literal with desk.CATEGORIES.",
    )


EXERCISE = Exercise(
    id="0.1",
    title="A program that sorts tickets",
    lesson="00_start_here",
    minutes=5,
    difficulty="easy",
    concepts=("signature", "Literal output", "Predict"),
    hints=(
        "Two steps are missing: an output field in the signature, and a module made from the signature.",
        "The output field is called `category`. Its type lists the six names of desk.CATEGORIES; "
        "look at how desk.Triage does it, in the prompt shown above.",
        "dspy.Predict makes a program from a signature: that object is what you hand to check().",
    ),
    checks=(gives_a_category, asks_the_model, answers_with_one_of_six, offers_all_six),
    why="The type is the contract. DSPy's adapter writes a Literal's values into the prompt, so that the "
    "model knows its choices; and it refuses any other answer, so that the program behind can rely on "
    "them. A plain str would do neither.",
)
