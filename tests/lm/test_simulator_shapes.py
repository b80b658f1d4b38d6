"""Whatever signature is asked, through whatever adapter, the answer parses and its values validate."""

from __future__ import annotations

import enum
import json
from typing import Any

import dspy
import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import TypeAdapter

from course_lib.lm.simulator import answer
from tests.lm.signatures import programs
from tests.lm.wire import body_for

CASES = 500
often = settings(
    max_examples=CASES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
Program = tuple[type[dspy.Signature], dict[str, Any]]


def _holds(adapter: dspy.Adapter, program: Program, *, schema: bool = False) -> None:
    signature, inputs = program
    body = json.loads(json.dumps(body_for(adapter, signature, inputs, schema=schema)))

    reply = answer(body)

    parsed = adapter.parse(signature, reply.text)
    assert list(parsed) == list(signature.output_fields)
    for name, field in signature.output_fields.items():
        TypeAdapter(field.annotation).validate_python(parsed[name])


@often
@given(programs())
def test_every_signature_parses_through_the_chat_adapter(program: Program) -> None:
    _holds(dspy.ChatAdapter(), program)


@often
@given(programs(number_enums=True))
def test_every_signature_parses_through_the_json_adapter(program: Program) -> None:
    _holds(dspy.JSONAdapter(), program)


@often
@given(programs(number_enums=True))
def test_every_signature_parses_through_the_json_adapter_with_a_schema(program: Program) -> None:
    signature, _ = program
    open_ended = any(
        getattr(f.annotation, "__origin__", None) is dict for f in signature.output_fields.values()
    )
    _holds(dspy.JSONAdapter(), program, schema=not open_ended)  # DSPy sends no schema for an open mapping


@often
@given(programs(xml=True))
def test_every_signature_parses_through_the_xml_adapter(program: Program) -> None:
    _holds(dspy.XMLAdapter(), program)
