"""What a field's name tells counts in a text too: in JSON, in Python's values, and as adapters write them."""

from __future__ import annotations

import json
import time

import pytest
from pydantic import BaseModel

from course_lib.redaction import redact


class Customer(BaseModel):
    last_name: str
    pin: int = 4821
    note: str = "a lamp"


NESTED = json.dumps({"arguments": json.dumps({"last_name": "Kovács"})}, ensure_ascii=False)
TEXTS = {
    "JSON": '{"last_name": "Kovács", "pin": 4821}',
    "JSON in codes": '{"last_name":"Kov\\u00e1cs"}',
    "JSON in JSON": NESTED,
    "JSON in JSON in JSON": json.dumps([NESTED], ensure_ascii=False),
    "JSON that was cut": '{"last_name": "Kovács',
    "HTML": "{&quot;last_name&quot;: &quot;Kovács&quot;}",
    "a list": '{"names": ["Béla", "Kovács"], "n": 1}',
    "an object": '{"address": {"road": "Kovács", "no": [1, {"a": "b]"}]}, "n": 1}',
    "a dict": str({"lastName": "Kovács", "phone": 4821}),
    "an error": str(ValueError({"Last name": "Kovács"})),
    "a model": repr(Customer(last_name="Kovács")),
    "a parameter": f"no customer last_name={'Kovács'!r}",
    "an adapter's part": "[[ ## last_name ## ]]\nKovács\n\n[[ ## question ## ]]\nWhere is it?",
    "XML": "<last_name>Kovács</last_name>",
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_value_is_redacted_by_the_name_of_its_field_and_once(what):
    shown = redact(TEXTS[what])

    assert "[" in shown
    assert not any(part in shown for part in ("Kov", "4821", "Béla"))
    assert redact(shown) == shown


def test_the_fields_beside_it_stay_and_json_stays_json():
    shown = redact(json.dumps({"last_name": 'O"Neil', "note": "it's broken", "n": 1}))

    assert json.loads(shown) == {"last_name": "[name]", "note": "it's broken", "n": 1}


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "find_customer", "args": {"order": 1}}',
        '{"tool_call_id": "c1", "name": "find_customer", "content": "x"}',
        "ToolCall(name='find_customer', args={})",
        '{"properties": {"last_name": {"description": "its name", "type": "string"}}}',
        '{"last_name": null, "pin": true, "address": ""}',
        "[[ ## last_name ## ]]\n{last_name}\n\n[[ ## completed ## ]]",
        "The 'name': he said it, and it's a name = none.",
    ],
)
def test_tools_schemas_and_what_is_no_value_stay(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "unit", ['"name":', '"name":{', '"name":{"type":"string",', '"name":"\\', "name=a(", "[[ ## name ## ]]\n"]
)
def test_a_hostile_text_takes_no_time(unit):
    before_s = time.process_time()
    redact((unit * 16_000)[:16_000])

    assert time.process_time() - before_s < 1
