"""The desk's agent: tickets that need something looked up, tracked or paid back.

Main path: Act(session)(ticket=...) -> answer, actions; act_match returns whether a ticket was solved.
Source: dspy.ReAct and dspy.ReActV2 (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal

import dspy
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from course_lib.desk import records
from course_lib.desk.actions import Session
from course_lib.desk.records import STRICT, Text, read_records

Kind = Literal["look-up", "tracking", "refund", "impossible"]
ToolSplit = Literal["dev", "test"]

MOST_STEPS = 8


class HandleTicket(dspy.Signature):
    """Handle a customer's ticket with the tools of Lantern's desk, and answer it from what they return.

    Pay back only what the customer asks for. If the tools cannot do it, or refuse, say that you cannot.
    """

    ticket: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="what was found or done, in a few words")


class _OffLoop(dspy.Tool):
    """A tool whose function blocks: awaited, it runs in a thread, so that the loop goes on."""

    async def acall(self, **arguments: Any) -> Any:
        """Run the tool in a thread."""
        return await asyncio.to_thread(self.__call__, **arguments)


class Act(dspy.Module):
    """Handle a ticket with tools: `ticket` -> `answer`, `actions` (list of {tool, args, result})."""

    def __init__(self, session: Session, *, calls: Literal["text", "native"] = "text") -> None:
        """Put an agent to work in `session`.

        Args:
            session: where the tools work and where refunds are written down.
            calls: "text" is ReAct, whose calls are text fields; "native" is ReActV2 with the API's own calls.
        """
        super().__init__()
        self.calls = calls
        agent = dspy.ReAct if calls == "text" else dspy.ReActV2
        tools = [_OffLoop(tool) for tool in session.tools()]
        self.agent = agent(HandleTicket, tools=tools, max_iters=MOST_STEPS)

    def forward(self, ticket: str) -> dspy.Prediction:
        """Handle one ticket."""
        with dspy.context(**self._settings()):
            pred = self.agent(ticket=ticket)
        return dspy.Prediction(answer=pred.answer, actions=_actions(pred))

    async def aforward(self, ticket: str) -> dspy.Prediction:
        """Handle one ticket without blocking the event loop."""
        with dspy.context(**self._settings()):
            pred = await self.agent.acall(ticket=ticket)
        return dspy.Prediction(answer=pred.answer, actions=_actions(pred))

    def _settings(self) -> dict[str, Any]:
        is_native = self.calls == "native"
        return {"adapter": dspy.ChatAdapter(use_native_function_calling=True)} if is_native else {}


def _actions(pred: dspy.Prediction) -> list[dict[str, Any]]:
    """Return the calls made, in order, without the one that ends the task."""
    if "trajectory" in pred:
        steps = pred.trajectory
        parts = {"tool": "tool_name", "args": "tool_args", "result": "observation"}
        numbers = [key.rsplit("_", 1)[1] for key in steps if key.startswith("tool_name_")]
        made = [{name: steps[f"{part}_{n}"] for name, part in parts.items()} for n in numbers]
    else:
        made = [
            {"tool": call.name, "args": call.args, "result": result.value}
            for event in pred.history.messages
            if "tool_calls" in event
            for call, result in zip(
                event["tool_calls"].tool_calls,
                event["tool_calls"].tool_call_results.tool_call_results,
                strict=True,
            )
        ]
    return [action for action in made if action["tool"] not in ("finish", "submit")]


# -- tickets ----------------------------------------------------------------------------------------------


def _refund(value: Any) -> Any:
    return (value["order_id"], value["amount_eur"]) if isinstance(value, dict) else value


@dataclass(frozen=True, slots=True, config=STRICT)
class ToolTicket:
    """A ticket that needs tools, and what handling it must come to."""

    id: Annotated[str, Field(pattern=r"^A-\d{3}$")]
    split: ToolSplit
    kind: Kind
    text: Text
    says: tuple[tuple[str, ...], ...]
    """The answer must contain, of each group, one spelling."""
    refund: Annotated[tuple[str, float] | None, BeforeValidator(_refund)]
    """Order and euros of the one refund that must be in the audit; None if there must be none."""
    declines: bool
    """True if the answer must say that it cannot be done."""


def tool_tickets(split: ToolSplit | None = None) -> list[ToolTicket]:
    """Return the tool tickets of "dev" or "test", or all.

    Raises:
        RecordError: when the data file is missing or wrong; it names file and line.
    """
    tickets = read_records(records.DATA / "tool_tickets.jsonl", ToolTicket)
    return [ticket for ticket in tickets if split in (None, ticket.split)]


_DECLINES = re.compile(r"\b(?:cannot|can't|could not|couldn't|unable|not able|not possible)\b", re.IGNORECASE)


def act_match(ticket: ToolTicket, pred: dspy.Prediction, session: Session) -> bool:
    """Return whether a ticket was solved: the answer has the facts, and the audit what it should, no more.

    `session` is one that handled this ticket only.
    """
    paid = [(line.order_id, line.amount_eur) for line in session.refunds()]
    if paid != ([ticket.refund] if ticket.refund else []):
        return False
    answer = pred.answer.casefold()
    if ticket.declines != bool(_DECLINES.search(answer)):
        return False
    return all(any(spelling.casefold() in answer for spelling in group) for group in ticket.says)
