"""Whatever signature is asked, through whatever adapter, the answer parses and its values validate."""

from __future__ import annotations

import datetime
import enum
import json
from typing import Annotated, Any, Literal

import dspy
import pydantic
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from course_lib.lm.simulator.engine import answer
from tests.lm.signatures import drawn, programs
from tests.lm.wire import body_for

Program = tuple[type[dspy.Signature], dict[str, Any]]


WAYS: dict[str, tuple[dspy.Adapter, st.SearchStrategy[Program], bool]] = {
    "chat": (dspy.ChatAdapter(), programs(), False),
    "json": (dspy.JSONAdapter(), programs(number_enums=True), False),
    "json with a schema": (dspy.JSONAdapter(), programs(number_enums=True), True),
    "xml": (dspy.XMLAdapter(), programs(xml=True), False),
}


# A second or two each on a busy machine: 25 signatures are drawn, and their models built.
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.soak)])
def test_the_answer_to_every_signature_parses_and_its_values_validate(way: str, count: int) -> None:
    adapter, strategy, has_schema = WAYS[way]

    @drawn(count)
    @given(strategy)
    def holds(program: Program) -> None:
        signature, inputs = program
        kinds = [field.annotation for field in signature.output_fields.values()]
        # For an open mapping DSPy sends no schema.
        schema = has_schema and not any(getattr(kind, "__origin__", None) is dict for kind in kinds)

        reply = answer(json.loads(json.dumps(body_for(adapter, signature, inputs, schema=schema))))

        parsed = adapter.parse(signature, reply.text)
        assert list(parsed) == list(signature.output_fields)
        for name, field in signature.output_fields.items():
            TypeAdapter(field.annotation).validate_python(parsed[name])

    holds()


def _signature(kind: Any) -> type[dspy.Signature]:
    return dspy.make_signature({"text": (str, dspy.InputField()), "out": (kind, dspy.OutputField())})


class Mood(enum.Enum):
    CALM = "calm"
    CROSS = "very cross"


class Letter(pydantic.BaseModel):
    form: Literal["letter"]
    pages: int


class Call(pydantic.BaseModel):
    form: Literal["call"]
    caller: str


Contact = Annotated[Letter | Call, pydantic.Field(discriminator="form")]
MAPPINGS = {
    "lists of numbers by text": dict[str, list[int]],
    "numbers by label": dict[Literal["shipping", "billing"], int],
    "numbers by enum": dict[Mood, int],
    "lists by label": dict[Literal["shipping", "billing"], list[str]],
    "dates by number": dict[int, datetime.date],
    "records by enum": dict[Mood, Call],
    "a discriminated union": Contact,
    "a list of one": list[Contact],
    "perhaps a list of one": list[Contact] | None,
    "one by text": dict[str, Contact],
}
ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter(), BAMLAdapter()]
TEXTS = ["Order O-10001: 2 tents for $35.50 on 3 May 2025.", "shipping: 3 days\nvery cross: 4, 5", ""]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: type(adapter).__name__)
@pytest.mark.parametrize("kind", MAPPINGS.values(), ids=MAPPINGS)
def test_mappings_and_alternatives_are_written_as_their_types_want_them(
    adapter: dspy.Adapter, kind: Any
) -> None:
    for text in TEXTS:
        body = json.loads(json.dumps(body_for(adapter, _signature(kind), {"text": text})))

        value = adapter.parse(_signature(kind), answer(body).text)["out"]

        TypeAdapter(kind).validate_python(value)


def test_the_values_of_labels_come_from_their_lines() -> None:
    signature = _signature(dict[Literal["shipping", "billing"], int])
    body = body_for(dspy.ChatAdapter(), signature, {"text": "shipping: 3\nother: 7\nbilling: 5"})

    assert dspy.ChatAdapter().parse(signature, answer(body).text)["out"] == {"shipping": 3, "billing": 5}
