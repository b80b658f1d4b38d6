"""Exercise 1.2, a signature that a sloppy model can fill: what parses of its replies, and what was in them.

Source: dspy.JSONAdapter (DSPy 3.4.1).
"""

from __future__ import annotations

import json
import math
import random
from functools import lru_cache
from itertools import product
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect, expect_equal, expect_one_of
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted

_ALLOWED = {"category": desk.CATEGORIES, "urgency": desk.URGENCIES}
_NO_DEFAULTS = "A default turns a lost answer into a wrong one that nobody can tell from a right one."
_OTHER_WORDS = (
    "kayak other general delivery shipment parcel refund return exchange payment invoice bill money login "
    "password profile item goods order repair defect guarantee none unknown versand envío konto urgent "
    "critical asap immediate severe important medium moderate middle average standard routine minor mid "
    "highest lowest lo hi hoch niedrig dringend alta bajo s h"
)
"""Words near the labels, which a kind reader might take for one."""

_MARKS = "0123456789#.,;:!?-_*+/|~=%&()[]<>\u2026\u2013\u00a1\u3002"


@lru_cache(maxsize=1)
def _read_tickets(signature: Any) -> tuple[list[Any], list[lm.Call]]:
    """Return a prediction, or the parse error, per training ticket, and what the server saw."""

    def read(text: str) -> Any:
        try:
            return dspy.Predict(signature)(ticket=text)
        except AdapterParseError as error:
            return error

    with dspy.context(lm=lm.connect("sim-small", cache=False), adapter=dspy.JSONAdapter()):
        return counted(lambda: [read(ticket.text) for ticket in desk.tickets("train")])


def keeps_the_fields(signature: Any) -> None:
    """The signature still reads a ticket into category, urgency and note."""
    is_one = isinstance(signature, type) and issubclass(signature, dspy.Signature)
    expect(is_one, "SturdyTicket is a signature", observed=signature, expected="a class of dspy.Signature")
    for side, names in (("input", {"ticket"}), ("output", {"category", "urgency", "note"})):
        has, hint = set(getattr(signature, f"{side}_fields")), "Repair how fields are written, not which."
        expect_equal(has, names, f"the {side} fields are those of the original", hint=hint)


def parses_nearly_always(signature: Any) -> None:
    """At least 98 % of the replies parse, on the sloppy model."""
    got, _ = _read_tickets(signature)
    errors = [error for error in got if isinstance(error, Exception)]
    good, least = len(got) - len(errors), math.ceil(0.98 * len(got))
    first = f"; the first that did not: {errors[0]!s:.160}" if errors else ""
    expect(good >= least, observed=f"{good} of {len(got)}{first}", expected=f"at least {least} of {len(got)}")


def says_what_the_model_said(signature: Any) -> None:
    """Every label is one of the allowed, letter for letter, and what the model's reply says."""
    for prediction, call in zip(*_read_tickets(signature), strict=True):
        for name, labels in _ALLOWED.items() if not isinstance(prediction, Exception) else ():
            label = getattr(prediction[name], "value", prediction[name])
            expect_one_of(label, labels, f"every label is one of the allowed, letter for letter: {name}")
            is_said, seen = f'"{label}' in str(call.reply).lower(), f"{name} {label!r} of {call.reply!r:.200}"
            what, wanted = "each label is what the model's reply says", "a label that is in the reply"
            expect(is_said, what, observed=seen, expected=wanted, hint=_NO_DEFAULTS)


def _read(signature: Any, name: str, said: Any) -> Any:
    """Return how a field of a reply is read, if the reply says this of it; `...`: it leaves the field out."""
    values = {"category": "billing", "urgency": "normal", "note": "Charged twice for a tent.", name: said}
    reply = {each: values[each] for each in signature.output_fields if values[each] is not ...}
    try:
        label = dspy.JSONAdapter().parse(signature, json.dumps(reply))[name]
    except Exception:  # border: DSPy has several for what is no text
        return "an error"
    return repr(getattr(label, "value", label))


def _other_words(name: str) -> list[Any]:
    """Return what is no label of a field: other words, and labels misspelt or with others beside them."""
    said: list[Any] = [*_OTHER_WORDS.split(), "", True, False, []]
    for label in _ALLOWED[name]:
        at = random.randrange(1, len(label))
        for odd in _MARKS:
            said += [label[:at] + odd + label[at:], label + odd, odd + label, odd + label + odd]
        other = random.choice([each for each in _ALLOWED[name] if each != label])
        said += [label[:at] + label[at - 1 :], label[:at] + label[at + 1 :], f"{label}s", f"un{label}"]
        said += [f"({label})", f"[{label}]", f"<{label}>", f"{{{label}}}", [label], {name: label}]
        said += [f"{label} or {other}", f"{label}/{other}", f"{label}, ok", f"maybe {label}", f"not {label}"]
    said += [number for each in range(7) for number in (each, str(each), each / 2, -each)]
    return [each for each in said if each not in _ALLOWED[name]]


def reads_labels_and_no_more(signature: Any) -> None:
    """A label is read in small letters and in capitals; another word, or a field left out, stays an error."""
    hint = "An Enum is read by its members' values and names."
    for name, labels in _ALLOWED.items():
        for said in [*labels, *map(str.upper, labels)]:
            read, what = _read(signature, name, said), f"{name} {said!r} is read"
            expect_equal(read, repr(said.lower()), what, hint=hint)
    words = [(name, each) for name in _ALLOWED for each in _other_words(name)]
    words += [(name, each.upper()) for name, each in words if isinstance(each, str)]
    for name, said in [*words, *product(_ALLOWED, (None, ...)), ("note", ...)]:
        told = "without" if said is ... else f"that says {said!r} for"
        what = f"a reply {told} the field {name} is refused"
        expect_equal(_read(signature, name, said), "an error", what, hint=_NO_DEFAULTS)


EXERCISE = Exercise(
    title="A signature that a sloppy model can fill",
    minutes=10,
    difficulty="medium",
    hints=(
        "Print the errors and the replies, and count the kinds. There are two.",
        "Replies are cut at their end: which of the fields can afford that? Some labels are in capitals.",
        "A Literal compares letter for letter. An Enum is found by its value or NAME.",
    ),
    checks=(keeps_the_fields, parses_nearly_always, says_what_the_model_said, reads_labels_and_no_more),
    why="The free text comes last, where a cut does no harm. The enum accepts what is meant and hands "
    "on one spelling. DSPy 3.4.1 asks no Annotated validator and no `_missing_`; a default hides a loss.",
)
