"""BAMLAdapter takes a model that is used twice for one that contains itself, and refuses it."""

from __future__ import annotations

import dspy
import pydantic
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter

from course_lib.adapters import CustomAdapter


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
    with pytest.raises(ValueError, match="recursive"):  # when it raises no more: say so in the lesson
        BAMLAdapter().format(ReadShipment, [], LETTER)


def test_the_custom_adapter_takes_a_model_used_twice():
    leeds, york = Address(street="Mill Lane 1", town="Leeds"), Address(street="High Street 2", town="York")
    shipment = Shipment(sender=leeds, receiver=york)
    adapter = CustomAdapter()

    written = adapter.format_assistant_message_content(ReadShipment, {"shipment": shipment})

    assert adapter.format(ReadShipment, [], LETTER)
    assert adapter.parse(ReadShipment, written) == {"shipment": shipment}
