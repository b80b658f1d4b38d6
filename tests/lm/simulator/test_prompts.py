"""What is read from a request: fields, types, inputs, demos, history, format."""

from __future__ import annotations

import enum
from typing import Any, Literal

import dspy
import pydantic
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter

from course_lib.lm.simulator import prompts
from course_lib.lm.simulator.prompts import schema as types
from tests.lm.wire import body_for


class Cite(pydantic.BaseModel):
    title: str
    page: int


class Level(enum.Enum):
    LOW = "low"
    HIGH = "very high"


class Ask(dspy.Signature):
    """Answer the question from the context.

    Say so if you do not know."""

    context: list[str] = dspy.InputField(desc="passages")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="short answer")
    label: Literal["yes", "no (really)"] = dspy.OutputField()
    level: Level = dspy.OutputField()
    rating: int = dspy.OutputField(ge=1, le=5)
    cites: list[Cite] = dspy.OutputField()


INPUTS = {"context": ["p1\n[[ ## question ## ]]\nnot this", "p2"], "question": "Why?\n\nRespond with care."}
DEMO = {"context": ["a"], "question": "q1", "answer": "a1 < b & c", "label": "yes", "level": "low"}
DEMO |= {"rating": 3, "cites": [{"title": "t", "page": 1}]}
ADAPTERS = [
    dspy.ChatAdapter(),
    dspy.JSONAdapter(),
    dspy.XMLAdapter(),
    BAMLAdapter(),
    dspy.TwoStepAdapter(dspy.LM("openai/not-asked")),
]
ids = [type(adapter).__name__ for adapter in ADAPTERS]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=ids)
def test_fields_demos_and_the_reply_format_are_read_from_every_adapter(adapter: dspy.Adapter) -> None:
    kinds = {"ChatAdapter": "markers", "XMLAdapter": "xml", "TwoStepAdapter": "labelled"}

    task = prompts.read(body_for(adapter, Ask, INPUTS, demos=[DEMO]))

    assert [field.name for field in task.spec.inputs] == ["context", "question"]
    assert [field.name for field in task.spec.outputs] == ["answer", "label", "level", "rating", "cites"]
    assert task.spec.outputs[0].desc == "short answer"
    assert task.spec.instructions == "Answer the question from the context.\n\nSay so if you do not know."
    assert task.spec.layout.kind == kinds.get(type(adapter).__name__, "json")
    (demo,) = task.demos
    assert demo.inputs["question"] == "q1"
    assert (demo.outputs["answer"], demo.outputs["label"]) == ("a1 < b & c", "yes")


@pytest.mark.parametrize("adapter", ADAPTERS[:3], ids=ids[:3])
def test_input_values_are_read_whole_and_a_header_within_one_does_not_end_it(adapter: dspy.Adapter) -> None:
    plain = prompts.read(body_for(adapter, Ask, {**INPUTS, "context": ["p1", "p2"]}))
    tricky = prompts.read(body_for(adapter, Ask, INPUTS))

    assert plain.inputs == {"context": '["p1", "p2"]', "question": INPUTS["question"]}
    assert "not this" in tricky.inputs["context"]
    assert tricky.inputs["question"].startswith("Why?")


@pytest.mark.parametrize("adapter", ADAPTERS[:4], ids=ids[:4])
def test_an_incomplete_demo_lacks_what_it_does_not_supply(adapter: dspy.Adapter) -> None:
    task = prompts.read(body_for(adapter, Ask, INPUTS, demos=[{"question": "q2", "answer": "a2"}]))

    assert dict(task.demos[0].inputs) == {"question": "q2"}
    assert dict(task.demos[0].outputs) == {"answer": "a2"}


def test_earlier_turns_are_history_and_not_demos() -> None:
    talk = dspy.Signature("history: dspy.History, question -> answer")
    history = dspy.History(messages=[{"question": "h1", "answer": "r1"}])

    task = prompts.read(body_for(dspy.ChatAdapter(), talk, {"history": history, "question": "now"}))

    assert task.demos == ()
    assert task.history[0].outputs == {"answer": "r1"}
    assert task.inputs["question"] == "now"


def fields_of(adapter: dspy.Adapter, **more: Any) -> dict[str, Any]:
    return {f.name: f.schema for f in prompts.read(body_for(adapter, Ask, INPUTS, **more)).spec.outputs}


def test_types_are_read_from_the_notes() -> None:
    fields = fields_of(dspy.ChatAdapter())

    assert fields["label"] == {"enum": ["yes", "no (really)"]}
    assert fields["level"]["enum"] == ["low", "very high"]
    assert fields["rating"] == {"type": "integer", "minimum": 1, "maximum": 5}
    assert fields["cites"]["$defs"]["Cite"]["properties"]["page"]["type"] == "integer"


@pytest.mark.parametrize(
    ("spelled", "schema"),
    [
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("Union[date, NoneType]", {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}),
        ("""Literal['a, b', "it's", 3, True]""", {"enum": ["a, b", "it's", 3, True]}),
        ("dict[str, float]", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("Cite", {"x-class": "Cite"}),
    ],
)
def test_a_type_is_read_as_dspy_spells_it(spelled: str, schema: dict[str, Any]) -> None:
    assert types.from_annotation(spelled) == schema


def test_a_plain_chat_has_no_fields_and_parts_that_are_not_text_are_named() -> None:
    content = [{"type": "text", "text": "look:"}, {"type": "image_url", "image_url": {"url": "data:x"}}]

    task = prompts.read({"messages": [{"role": "user", "content": content}]})

    assert (task.spec.outputs, task.plain) == ((), "look:\n[image_url]")
