"""Exercise 1.2, a signature that a sloppy model can fill: what parses of its replies, and what was in them.

Main path: EXERCISE -> engine.registry.
Source: dspy.JSONAdapter (DSPy 3.4.1). DSPy is imported when a check runs.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted

PARSED_SHARE = 0.98
_ALLOWED = {"category": desk.CATEGORIES, "urgency": desk.URGENCIES}


def _plain(label: Any) -> Any:
    return getattr(label, "value", label)


@lru_cache(maxsize=1)
def _read_tickets(signature: Any) -> tuple[list[Any], list[lm.Call]]:
    """Return a prediction, or the parse error, per training ticket, and what the server saw.

    The checks of one run share them: a signature cannot change in between.
    """
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    sort = dspy.Predict(signature)

    def read(text: str) -> Any:
        try:
            return sort(ticket=text)
        except AdapterParseError as error:
            return error

    with dspy.context(lm=lm.connect("sim-small", cache=False), adapter=dspy.JSONAdapter()):
        return counted(lambda: [read(ticket.text) for ticket in desk.tickets("train")])


def keeps_the_fields(signature: Any) -> None:
    """The signature still reads a ticket into category, urgency and note."""
    import dspy

    expect(
        isinstance(signature, type) and issubclass(signature, dspy.Signature),
        "SturdyTicket is a signature",
        observed=signature,
        expected="a class derived from dspy.Signature",
    )
    for side, names in (("input", {"ticket"}), ("output", {"category", "urgency", "note"})):
        has = list(getattr(signature, f"{side}_fields"))
        expect(
            set(has) == names,
            f"the {side} fields are those of the original",
            observed=", ".join(has) or "none",
            expected=", ".join(sorted(names)),
            hint="A caller reads these fields: repair how they are written down, not which there are.",
        )


def parses_nearly_always(signature: Any) -> None:
    """At least 98 % of the replies parse, on the sloppy model."""
    got, _ = _read_tickets(signature)
    errors = [error for error in got if isinstance(error, Exception)]
    good = len(got) - len(errors)
    expect(
        good >= PARSED_SHARE * len(got),
        observed=f"{good} of {len(got)}; the first that did not: {errors[0]!s:.160}" if errors else "all",
        expected=f"at least {math.ceil(PARSED_SHARE * len(got))} of {len(got)}",
        hint="Which field does the error name, and what does the reply say there?",
    )


def gives_allowed_labels(signature: Any) -> None:
    """Every label is one of the allowed, letter for letter."""
    got, _ = _read_tickets(signature)
    for prediction in got:
        for name, labels in _ALLOWED.items() if not isinstance(prediction, Exception) else ():
            label = _plain(getattr(prediction, name))
            expect(
                label in labels,
                observed=f"{name} {label!r}",
                expected=f"one of {', '.join(labels)}",
                hint="Parsing everything is easy for a str; the program behind still needs one spelling.",
            )


def says_what_the_model_said(signature: Any) -> None:
    """Each label is what the model's reply says; none is made up."""
    got, calls = _read_tickets(signature)
    for prediction, call in zip(got, calls, strict=True):
        for name in ("category", "urgency") if not isinstance(prediction, Exception) else ():
            label = str(_plain(getattr(prediction, name)))
            expect(
                f'"{label}' in (call.reply or "").lower(),
                observed=f"{name} {label!r} from the reply {call.reply!r:.200}",
                expected="a label that stands in the reply",
                hint="A default turns a lost answer into a wrong one that nobody can tell from a right one.",
            )


def _read(signature: Any, **changes: Any) -> Any:
    """Return what a reply reads as, in the signature's order of fields; None if it does not parse."""
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    said = {"category": "billing", "urgency": "normal", "note": "Charged twice for a tent."} | changes
    reply = {name: said[name] for name in signature.output_fields if said[name] is not ...}
    try:
        return dspy.JSONAdapter().parse(signature, json.dumps(reply))
    except AdapterParseError:
        return None


def reads_capitals(signature: Any) -> None:
    """Each allowed label is read, in small letters and in capitals, and comes out in small ones."""
    for name, labels in _ALLOWED.items():
        for label in labels:
            for said in (label, label.upper()):
                got = _read(signature, **{name: said})
                expect(
                    got is not None and _plain(got[name]) == label,
                    observed=f"{name} {said!r} read as {_plain(got[name])!r}"
                    if got
                    else f"no {name} {said!r}",
                    expected=f"{name} {label!r}",
                    hint="An Enum is read by its members' values and by their names.",
                )


def makes_nothing_up(signature: Any) -> None:
    """A reply with another word for a label, or without a field, stays an error."""
    for name, said in (
        *((name, word) for name in _ALLOWED for word in ("kayak", "", "s", "h", None)),
        *((name, ...) for name in ("category", "urgency", "note")),
    ):
        got = _read(signature, **{name: said})
        expect(
            got is None,
            observed=f"{name} {_plain(got[name]) if got else ''!r} from a reply "
            + (f"without {name}" if said is ... else f"with {name} {said!r}"),
            expected="AdapterParseError",
            hint="A default turns a lost answer into a wrong one that nobody can tell from a right one.",
        )


EXERCISE = Exercise(
    id="1.2",
    title="A signature that a sloppy model can fill",
    lesson="01_adapters",
    minutes=12,
    difficulty="medium",
    concepts=("signature design", "Literal", "Enum", "JSONAdapter"),
    hints=(
        "Look at what went wrong, not at what you would write: print the errors and the replies, and "
        "count the kinds. There are two.",
        "Replies are cut at their end, so what stands last is lost first; which of the three fields can "
        "best afford that? And some labels come in capitals.",
        "A Literal compares letter for letter. For an Enum, DSPy 3.4.1 looks for a member with this value, "
        "then for one with this name; the names may be in capitals. It does not ask `_missing_`.",
    ),
    checks=(
        keeps_the_fields,
        parses_nearly_always,
        gives_allowed_labels,
        says_what_the_model_said,
        reads_capitals,
        makes_nothing_up,
    ),
    why="The fields that the program acts on come first and the free text last, where a cut does no "
    "harm. The enum accepts what is clearly meant and still hands on one spelling. Annotated validators "
    "and an enum's `_missing_` would be the obvious tools, but DSPy 3.4.1 asks neither; and a default "
    "would hide the loss.",
)
