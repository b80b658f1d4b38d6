"""Exercise 1.2, a signature that a sloppy model can fill: what parses of its replies, and what was in them.

Main path: EXERCISE -> engine.registry.
Source: dspy.JSONAdapter (DSPy 3.4.1). DSPy is imported when a check runs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from course_lib import desk, lm
from course_lib.exercises.engine.checks import expect
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted

PARSED_SHARE = 0.95


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
    """At least 95 % of the replies parse, on the sloppy model."""
    got, _ = _read_tickets(signature)
    errors = [error for error in got if isinstance(error, Exception)]
    good = len(got) - len(errors)
    expect(
        good >= PARSED_SHARE * len(got),
        observed=f"{good} of {len(got)}; the first that did not: {errors[0]!s:.160}" if errors else "all",
        expected=f"at least {PARSED_SHARE * len(got):.0f} of {len(got)}",
        hint="Which field does the error name, and what does the reply say there?",
    )


def gives_allowed_labels(signature: Any) -> None:
    """Every label is one of the allowed, letter for letter."""
    got, _ = _read_tickets(signature)
    allowed = {"category": desk.CATEGORIES, "urgency": desk.URGENCIES}
    for prediction in got:
        for name, labels in allowed.items() if not isinstance(prediction, Exception) else ():
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
        "A Literal compares letter for letter. An Enum may have a `_missing_` class method that is asked "
        "about every value it does not know, and can return the member meant.",
    ),
    checks=(keeps_the_fields, parses_nearly_always, gives_allowed_labels, says_what_the_model_said),
    why="The fields that the program acts on come first and the free text last, where a cut does no "
    "harm. The enum accepts what is clearly meant and still hands on one spelling. Annotated "
    "validators would be the obvious tool, but DSPy 3.4.1 drops them; and a default would hide the loss.",
)
