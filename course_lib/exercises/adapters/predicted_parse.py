"""Exercise 1.1, predict the parse: six replies of a model, and what ChatAdapter makes of each.

Source: dspy.ChatAdapter.parse (DSPy 3.4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from course_lib import desk
from course_lib.exercises.engine.checks import expect, show
from course_lib.exercises.engine.registry import Exercise


def _reply(category: str, days: str, order_ids: str, end: str = "\n\n[[ ## completed ## ]]") -> str:
    fields = {"category": category, "days_waited": days, "order_ids": order_ids}
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()) + end


_GIVEN = {
    "A": "Sure! Here is what you asked for.\n\n" + _reply("shipping", "4", '["O-10001"]'),
    "B": _reply("Shipping", "4", '["O-10001"]'),
    "C": _reply('"shipping"', "4.0", "['O-10001', 'O-10002']"),
    "D": _reply("shipping", "4 days", "[]"),
    "E": _reply("shipping", "4", '["O-10001", "O-100', end=""),
    "F": '{"category": "shipping", "days_waited": 4, "order_ids": ["O-10001"]}',
}
REPLIES = dict(_GIVEN)
"""Six replies for `ticket -> category, days_waited: int, order_ids: list[str]`, to be shown."""

_REPLY_HINTS = {
    "A": "ChatAdapter looks for its headers; what stands before the first one is no field.",
    "B": "A Literal is compared letter for letter, capitals included.",
    "C": "Quotes around a label fall away, 4.0 is a whole number, and a list may be written as in Python.",
    "D": "An int is read from a number, not out of a sentence.",
    "E": "The list was cut off in the middle; broken JSON is repaired, right or not.",
    "F": "The headers are missing, and with them every field, however good the JSON.",
}


def parsed(text: str) -> dict[str, Any] | str:
    """Return what ChatAdapter makes of a reply: its fields, or the word error."""
    six = f"Literal{list(desk.CATEGORIES)}"
    signature = dspy.Signature(f"ticket -> category: {six}, days_waited: int, order_ids: list[str]")
    try:
        return dict(dspy.ChatAdapter().parse(signature, text))
    except AdapterParseError:
        return "error"


def says_something_of_each_reply(predicted: Any) -> None:
    """Each of the six replies has a prediction: a dict of three fields, or "error"."""
    said = list(predicted) if isinstance(predicted, Mapping) else predicted
    is_right = isinstance(predicted, Mapping) and set(predicted) == set(_GIVEN)
    expect(is_right, "a dict of six letters", observed=said, expected="the keys A, B, C, D, E and F")


def _written(said: Any) -> str:
    """Return a prediction as a text, in which `4`, `4.0` and `"4"` differ, and its keys are in order."""
    return show({name: said[name] for name in sorted(said)} if isinstance(said, Mapping) else said)


def predicts_the_parse(predicted: Mapping[str, Any]) -> None:
    """Each prediction is what ChatAdapter's parse really does."""
    for letter, text in _GIVEN.items():
        said, hint = _written(predicted[letter]), _REPLY_HINTS[letter]
        what, wanted = f"your prediction of reply {letter} is what parse() gives", "another prediction"
        expect(said == _written(parsed(text)), what, observed=said, expected=wanted, hint=hint)


EXERCISE = Exercise(
    title="Predict the parse",
    minutes=6,
    difficulty="easy",
    hints=(
        "ChatAdapter first cuts the reply at its headers, then casts each field to its type by itself.",
        "A Literal must match letter for letter, quotes apart. JSON that is a little broken is repaired.",
        "Three of the six are errors. Of the other three, one holds an order number that does not exist.",
    ),
    checks=(says_something_of_each_reply, predicts_the_parse),
    why="An adapter forgives at the edges and is strict in the middle. An error is not always a bad answer "
    "(B, F), and no error is not always a good one (E: half an order number came through).",
)
