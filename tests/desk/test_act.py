"""Act: held-out tickets, the audit, and what the desk refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import dspy
import pytest

from course_lib import desk, lm
from course_lib.desk import carrier
from course_lib.desk.acting import Act, act_match, tool_tickets
from course_lib.desk.actions import RefusedError, Session

LEAST_SHARE = 0.9
REFUND = "Please refund EUR 39 for order O-10161, the Glow lamp was broken."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with carrier.running_carrier() as address:
        yield address


@pytest.fixture
def session(tmp_path: Path, url: str) -> Session:
    return Session(audit=tmp_path / "audit.jsonl", carrier_url=url)


@pytest.fixture(autouse=True)
def simulator() -> Iterator[None]:
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        lm.reset()
        yield


# Seconds: each ticket is a whole run of the agent, with several calls.
@pytest.mark.parametrize("calls", ["text", "native"])
@pytest.mark.parametrize("split", ["dev", pytest.param("test", marks=pytest.mark.soak)])
def test_nine_tickets_in_ten_are_solved(split: Any, calls: Any, tmp_path: Path, url: str) -> None:
    tickets, missed = tool_tickets(split), []
    for ticket in tickets:
        session = Session(audit=tmp_path / ticket.id, carrier_url=url)
        pred = Act(session, calls=calls)(ticket=ticket.text)
        if not act_match(ticket, pred, session):
            missed.append((ticket.id, ticket.text, pred.answer))

    assert len(missed) <= (1 - LEAST_SHARE) * len(tickets), missed


def test_a_refund_leaves_exactly_its_line_and_the_records_as_they_are(session: Session) -> None:
    before = desk.orders()

    pred = Act(session)(ticket=REFUND)

    (line,) = [json.loads(text) for text in session.audit.read_text("utf-8").splitlines()]
    assert (line["order_id"], line["amount_eur"]) == ("O-10161", 39.0)
    assert datetime.fromisoformat(line["at"]).tzinfo
    assert "lamp" in line["reason"]
    assert [action["tool"] for action in pred.actions] == ["refund"]
    assert "39.00" in pred.answer
    assert desk.orders() == before
    assert session.look_up_order("O-10161")["refundable_eur"] == 59.0


def test_the_same_ticket_twice_pays_once_also_in_a_new_session(session: Session) -> None:
    Act(session)(ticket=REFUND)
    second = Act(session)(ticket=REFUND)

    assert len(session.refunds()) == 1
    assert "could not" in second.answer
    with pytest.raises(RefusedError, match="refunded already"):
        Session(audit=session.audit).refund("O-10161", 10.0, "again")


def test_threads_cannot_pay_one_order_twice(session: Session) -> None:
    pay = {tool.__name__: tool for tool in session.tools()}["refund"]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: pay(order_id="O-10161", amount_eur=5.0, reason="late"), range(16)))

    assert len(session.refunds()) == 1
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum("refused: " in result for result in results) == 15  # one line each


@pytest.mark.parametrize(
    ("order_id", "amount_eur", "why"),
    [
        ("O-10161", 0.0, "more than 0"),
        ("O-10161", -5.0, "more than 0"),
        ("O-10161", float("nan"), "whole cents"),
        ("O-10161", 1.005, "whole cents"),
        ("O-10161", 98.01, "only EUR 98.00"),
        ("O-10163", 289.0, "approval"),
        ("O-10193", 10.0, "not been delivered"),
        ("O-10197", 10.0, "not been delivered"),
        ("O-10126", 10.0, "14 days"),
        ("O-10138", 100.0, "only EUR 3.95"),
        ("O-19999", 10.0, "no order"),
    ],
)
def test_the_desk_refuses(session: Session, order_id: str, amount_eur: float, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        session.refund(order_id, amount_eur, "asked for")

    assert not session.audit.exists()


def test_without_a_carrier_the_agent_says_that_it_cannot(tmp_path: Path) -> None:
    pred = Act(Session(audit=tmp_path / "audit.jsonl"))(ticket="Track NP400174835 please")

    assert "could not" in pred.answer


def test_awaited_and_as_a_copy_it_works_at_the_same_desk(session: Session) -> None:
    pred = asyncio.run(Act(session).deepcopy().acall(ticket="Where is my parcel? Order O-10181."))
    Act(session).deepcopy()(ticket=REFUND)

    assert "Dover" in pred.answer
    assert [action["tool"] for action in pred.actions] == ["look_up_order", "track_parcel"]
    assert len(session.refunds()) == 1


def test_every_ticket_expects_what_the_records_say() -> None:
    known = {order.id for order in desk.orders()}
    tickets = tool_tickets()

    assert len({ticket.text for ticket in tickets}) == len(tickets)
    for ticket in tickets:
        assert ticket.declines == (ticket.kind == "impossible")
        assert bool(ticket.refund) == (ticket.kind == "refund")
        assert ticket.refund is None or ticket.refund[0] in known
