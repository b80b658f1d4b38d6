"""Exercise 1.5, a tool that says no well: what it answers and refuses, and whether an agent can go on.

Main path: EXERCISE -> engine.registry.
Source: dspy.ReAct (DSPy 3.4.1). DSPy is imported when a check runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from course_lib import desk
from course_lib.exercises.engine.checks import expect, expect_error
from course_lib.exercises.engine.registry import Exercise

OrderStatus = Callable[[str], str]

_FORM = re.compile(r"O-\d{5}|five digits|5 digits", re.IGNORECASE)
_BAD_IDS = ("my last order", "O-1", "NP400213517")
_UNKNOWN_ID = "O-99999"
_WANTED = 13
"""Which order of the data the careless model asks for."""


def answers_for_an_order(order_status: OrderStatus) -> None:
    """The tool tells the status of an order."""
    for order in desk.orders()[:5]:
        said = order_status(order.id)
        expect(
            isinstance(said, str) and order.status in said,
            observed=f"{said!r} for {order.id}",
            expected=f"a text with {order.status!r}",
            hint="desk.orders() has them all; each has an id and a status.",
        )


def _refusal(order_status: OrderStatus, order_id: str) -> str:
    """Return the line with which the tool refuses."""
    from course_lib.adapters.tools.limits import ToolRefused

    what, hint = (
        f"{order_id!r} is refused with ToolRefused",
        "Raise ToolRefused with a line for the model to read.",
    )
    return str(expect_error(ToolRefused, lambda: order_status(order_id), what, hint=hint))


def refuses_what_is_no_order_number(order_status: OrderStatus) -> None:
    """What is not an order number is refused, in one line that shows how one looks."""
    for bad in _BAD_IDS:
        line = _refusal(order_status, bad)
        expect(
            "\n" not in line and _FORM.search(re.sub(rf"(?<![\w-]){re.escape(bad)}(?!\w)", "", line)),
            "the refusal shows how an order number looks",
            observed=f"{line:.200}",
            expected="one line with an example such as O-10001",
            hint="The reader of this line is a model that wants to do better. What does it need to know?",
        )


def tells_unknown_from_malformed(order_status: OrderStatus) -> None:
    """A well-formed number that does not exist is refused as unknown, without naming other orders."""
    line = _refusal(order_status, _UNKNOWN_ID)
    expect(
        _UNKNOWN_ID in line,
        "the refusal names the unknown order",
        observed=f"{line:.200}",
        expected=f"a line with {_UNKNOWN_ID}",
        hint="Another form will not help here; the model should tell the customer.",
    )
    others = set(re.findall(r"O-\d{5}", line)) - {_UNKNOWN_ID}
    expect(
        len(others) <= 1,
        "the refusal does not name orders that nobody asked about",
        observed=f"{len(others)} other order numbers in it",
        expected="none: the model may tell them to whoever asks",
    )


def _written(**fields: str) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def _step(tool: str, args: str) -> str:
    return _written(next_thought="Look it up.", next_tool_name=tool, next_tool_args=args)


def lets_an_agent_recover(order_status: OrderStatus) -> None:
    """An agent that passes the bare digits learns the right form from the refusal, and gets its answer."""
    import dspy

    from course_lib.adapters.prompt import scripted
    from course_lib.adapters.tools.limits import limited

    order = desk.orders()[_WANTED]
    digits, tool = order.id.removeprefix("O-"), limited(order_status, name="order_status")
    learned = order.id if _FORM.search(str(tool(order_id=digits))) else digits
    steps = [_step("order_status", f'{{"order_id": "{each}"}}') for each in (digits, learned)]
    answer = _written(reasoning="As observed.", answer=f"Your order is {order.status}.")
    model, _ = scripted([*steps, _step("finish", "{}"), answer])
    with dspy.context(lm=model, adapter=dspy.ChatAdapter()):
        trajectory = dspy.ReAct("question -> answer", tools=[tool])(question=f"Where is {digits}?").trajectory
    seen = [str(value) for key, value in trajectory.items() if key.startswith("observation_")]
    expect(
        any(order.status in line for line in seen),
        observed=" / ".join(seen),
        expected=f"an observation with {order.status!r}",
        hint="The model asked with the bare digits. Does your line say what is wrong with them?",
    )


EXERCISE = Exercise(
    id="1.5",
    title="A tool that says no well",
    lesson="01_adapters",
    minutes=10,
    difficulty="medium",
    concepts=("dspy.Tool", "validation", "errors as observations"),
    hints=(
        "Three cases: not an order number at all, a number that no order has, an order.",
        're.fullmatch(r"O-\\d{5}", order_id) tells the first case. Raise ToolRefused with one line that '
        "shows a right number.",
        "For the second case name the number asked for and nothing else; a list of known orders would be "
        "a leak.",
    ),
    checks=(
        answers_for_an_order,
        refuses_what_is_no_order_number,
        tells_unknown_from_malformed,
        lets_an_agent_recover,
    ),
    why="The reader of a tool's error is the next prompt. A line that says what a right argument looks "
    "like is worth a retry; a traceback is noise at best and a leak at worst; and 'unknown' must not "
    "sound like 'malformed', or the model tries other spellings for ever.",
)
