"""What is called with what: values by role and meaning, one call a wish, or words for what is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from course_lib.lm.simulator.engine import answer

TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
TEXTS = {"type": "array", "items": TEXT}


def _tool(tool: str, desc: str, /, optional: tuple[str, ...] = (), **params: Any) -> dict[str, Any]:
    required = [param for param in params if param not in optional]
    schema = {"type": "object", "properties": params, "required": required}
    return {"type": "function", "function": {"name": tool, "description": desc, "parameters": schema}}


def _record(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


DATE = {**TEXT, "description": "YYYY-MM-DD"}
CABIN = {"enum": ["economy", "premium_economy", "business"]}
ZONE = {"enum": ["lawn", "roses", "hedge"]}
TOOLS = [
    _tool("book_table", "Book a table.", ("day",), restaurant=TEXT, party_size=WHOLE, time=TEXT, day=TEXT),
    _tool("add", "Add two numbers.", a=NUMBER, b=NUMBER),
    _tool("convert_units", "Convert a value to another unit.", value=NUMBER, from_unit=TEXT, to_unit=TEXT),
    _tool("find_flights", "Find flights.", ("cabin",), origin=TEXT, destination=TEXT, date=DATE, cabin=CABIN),
    _tool("water", "Water a part of the garden.", zone=ZONE, minutes=WHOLE),
    _tool("light_on", "Turn the light of a room on.", room=TEXT),
    _tool("light_off", "Turn the light of a room off.", room=TEXT),
    _tool("create_event", "Create an event.", ("guests",), title=TEXT, start=TEXT, guests=TEXTS),
    _tool(
        "send_mail", "Send an e-mail.", to={**TEXT, "description": "e-mail address"}, subject=TEXT, body=TEXT
    ),
    _tool("close_ticket", "Close a ticket.", ticket_id=WHOLE),
    _tool(
        "place_order",
        "Order several products.",
        items={"type": "array", "items": _record(["product", "quantity"], product=TEXT, quantity=WHOLE)},
        address=_record(["street", "city"], street=TEXT, city=TEXT),
    ),
    _tool("get_weather", "Get the weather of a city.", city=TEXT),
    _tool("find_person", "Find a person: returns the telephone number.", name=TEXT),
    _tool("call", "Call a telephone number.", telephone={**TEXT, "description": "such as 555-0100"}),
]
MAIL = 'Send an e-mail to nina@acme.io with the subject "March" saying "It is attached."'
ORDER = "Order 2 lamps and 4 chairs to 12 Mill Lane in Bath."
FLIGHT = {"origin": "Vienna", "destination": "Rome", "date": "2027-06-12"}


def _made(text: str, **settings: Any) -> tuple[list[tuple[str, Any]], str]:
    """Run an agent whose tools say "ok"; return its calls and its last words."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": text}]
    made: list[tuple[str, Any]] = []
    for _ in range(6):
        reply = answer({"model": "sim-large", "messages": messages, "tools": TOOLS, **settings})
        if not reply.tool_calls:
            return made, reply.text or ""
        for call in reply.tool_calls:
            made.append((call.name, call.arguments))
            function = {"name": call.name, "arguments": json.dumps(call.arguments)}
            asked = {"id": f"call_{len(made)}", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [asked]})
            messages.append({"role": "tool", "tool_call_id": asked["id"], "content": "ok"})
    raise AssertionError(f"it does not come to an end: {made}")


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (
            "Book a table at Luigi's for 4 people at 19:00",
            [("book_table", {"restaurant": "Luigi's", "party_size": 4, "time": "19:00"})],
        ),
        ("Add 11 and 49", [("add", {"a": 11, "b": 49})]),
        ("convert 12 miles to km", [("convert_units", {"value": 12, "from_unit": "miles", "to_unit": "km"})]),
        ("Fly me to Rome? Find flights from Vienna to Rome on 12 June 2027.", [("find_flights", FLIGHT)]),
        (
            "Find flights to Rome from Vienna on 2027-06-12 in business class",
            [("find_flights", {**FLIGHT, "cabin": "business"})],
        ),
        (
            "Water the roses for half an hour and the hedge for 5 minutes",
            [("water", {"zone": "roses", "minutes": 30}), ("water", {"zone": "hedge", "minutes": 5})],
        ),
        ("Please switch off the light in the kitchen", [("light_off", {"room": "kitchen"})]),
        (
            'Create an event called "Budget" at 14:00 with Anna and Ravi',
            [("create_event", {"title": "Budget", "start": "14:00", "guests": ["Anna", "Ravi"]})],
        ),
        (MAIL, [("send_mail", {"to": "nina@acme.io", "subject": "March", "body": "It is attached."})]),
        ("Close tickets 14 and 15.", [("close_ticket", {"ticket_id": n}) for n in (14, 15)]),
        (
            ORDER,
            [
                (
                    "place_order",
                    {
                        "items": [{"product": "lamps", "quantity": 2}, {"product": "chairs", "quantity": 4}],
                        "address": {"street": "12 Mill Lane", "city": "Bath"},
                    },
                )
            ],
        ),
        (
            "What's the weather in Oslo, and add 2 and 3.",
            [("get_weather", {"city": "Oslo"}), ("add", {"a": 2, "b": 3})],
        ),
    ],
)
def test_each_value_has_its_place_and_each_wish_its_call(text: str, calls: list[Any]) -> None:
    assert _made(text)[0] == calls


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Book a table at Luigi's for 4 people", "time"),
        ("Find flights from Vienna to Rome", "date"),
        ("Add 5", " b,"),
        ("Close the ticket.", "ticket id"),
        ("Cancel my booking.", "cannot"),
        ("Print report.pdf", "cannot"),
    ],
)
def test_what_is_missing_is_named_and_what_no_tool_does_is_declined(text: str, said: str) -> None:
    made, words = _made(text)

    assert made == []
    assert said in words


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "close_ticket"}}], ids=["any", "named"]
)
def test_a_demanded_call_is_made_once(choice: Any) -> None:
    assert _made("Close ticket 7", tool_choice=choice)[0] == [("close_ticket", {"ticket_id": 7})]


def test_what_was_missing_may_come_in_the_next_message() -> None:
    first = {"role": "user", "content": "Book a table at Luigi's for 4 people"}
    asked = answer({"model": "sim-large", "messages": [first], "tools": TOOLS})
    later = [{"role": "assistant", "content": asked.text}, {"role": "user", "content": "At 19:00, please."}]

    reply = answer({"model": "sim-large", "messages": [first, *later], "tools": TOOLS})

    expected = {"restaurant": "Luigi's", "party_size": 4, "time": "19:00"}
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("book_table", expected)]


def test_a_short_question_goes_on_with_the_last_one() -> None:
    turns = [("user", "What is the weather in Oslo?"), ("assistant", "Rain."), ("user", "And in Bergen?")]
    messages = [{"role": role, "content": text} for role, text in turns]

    (call,) = answer({"model": "sim-large", "messages": messages, "tools": TOOLS}).tool_calls

    assert (call.name, call.arguments) == ("get_weather", {"city": "Bergen"})


def test_what_one_tool_needs_another_tells() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Call Samuel Ito."}]
    (first,) = answer({"model": "sim-large", "messages": messages, "tools": TOOLS}).tool_calls
    function = {"name": first.name, "arguments": json.dumps(first.arguments)}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "function": function}]},
        {
            "role": "tool",
            "tool_call_id": "call_1",
            "content": '{"name": "Samuel Ito", "telephone": "555-0102"}',
        },
    ]

    (second,) = answer({"model": "sim-large", "messages": messages, "tools": TOOLS}).tool_calls

    assert (first.name, first.arguments) == ("find_person", {"name": "Samuel Ito"})
    assert (second.name, second.arguments) == ("call", {"telephone": "555-0102"})
