"""BAMLAdapter takes a model that is used twice for one that contains itself, and refuses it."""

from __future__ import annotations

import dspy
import pydantic
from dspy.adapters.baml_adapter import BAMLAdapter

from course_lib.adapters import CustomAdapter
from tests.traps.conftest import SOLVED


class Address(pydantic.BaseModel):
    street: str
    town: str


class Shipment(pydantic.BaseModel):
    sender: Address
    receiver: Address


class ReadShipment(dspy.Signature):
    letter: str = dspy.InputField()
    shipment: Shipment = dspy.OutputField()


LETTER = {"letter": "From Ada, Mill Lane 1, Leeds to Bob, High Street 2, York."}


def test_plain_baml_refuses_a_model_used_twice():
    refusal = ""
    try:
        BAMLAdapter().format(ReadShipment, [], LETTER)
    except ValueError as error:
        refusal = str(error)

    assert "recursive" in refusal, SOLVED.format("BAMLAdapter takes a model that is used twice")


def test_the_custom_adapter_takes_a_model_used_twice():
    there_and_back = {"sender": {"street": "Mill Lane 1", "town": "Leeds"}}
    there_and_back["receiver"] = {"street": "High Street 2", "town": "York"}
    shipment = Shipment.model_validate(there_and_back)
    adapter = CustomAdapter()

    written = adapter.format_assistant_message_content(ReadShipment, {"shipment": shipment})

    assert adapter.format(ReadShipment, [], LETTER)
    assert adapter.parse(ReadShipment, written) == {"shipment": shipment}
