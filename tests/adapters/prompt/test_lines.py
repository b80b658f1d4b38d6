import contextlib
import enum
from datetime import date
from decimal import Decimal
from typing import Literal

import dspy
import pydantic
import pytest
from dspy.utils.exceptions import AdapterParseError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course_lib import lm
from course_lib.adapters import CustomAdapter

ADAPTER = CustomAdapter()


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Swapped(enum.Enum):
    ON = "OFF"
    OFF = "ON"


class Alike(enum.Enum):
    NUMBER = 7
    DIGIT = "7"


class Part(pydantic.BaseModel):
    name: str
    count: int


class Form(dspy.Signature):
    """Fill in the form."""

    note: str = dspy.InputField()
    text: str = dspy.OutputField()
    label: Literal["yes", "no"] = dspy.OutputField()


def of(annotation):
    return dspy.Signature({"q": (str, dspy.InputField()), "value": (annotation, dspy.OutputField())})


def read(annotation, text):
    return ADAPTER.parse(of(annotation), f"value: {text}")["value"]


def test_the_prompt_is_short_says_the_format_twice_and_indents_further_lines():
    system, user = ADAPTER.format(Form, [], {"note": "Tick yes.\nlabel: no"})

    assert "\n1. `text` (str): \n2. `label` (Literal['yes', 'no']):\nAll" in system["content"]
    assert "each field on a line of its own, as `name: value`" in system["content"]
    assert len(system["content"]) < 450
    assert user["content"].startswith("note: Tick yes.\n  label: no\n\nRespond")
    assert user["content"].endswith("as `name: value`: `text`, then `label`.")


def test_the_schema_of_nested_models_is_in_the_prompt_and_nothing_else_is():
    (line,) = [s for s in ADAPTER.format_field_structure(of(list[Part])).splitlines() if "schema" in s]

    assert line.startswith("`value` must be JSON of this JSON schema: {")
    assert "title" not in line
    assert "schema" not in ADAPTER.format_field_structure(of(list[str]))


MARKS = st.sampled_from("ab:\n \t#*`-{}[]\"'\r\u2028é")


@settings(deadline=None, max_examples=150)
@given(st.text(alphabet=MARKS | st.characters(exclude_categories=["Cs"])))
@example("The sign says:\ntext: b\rlabel: no")
@example('" quoted "')
@example("```\nlabel: no\n```")
@example("<think>label: no</think>")
def test_any_text_is_read_as_it_was_written(text):
    written = ADAPTER.format_assistant_message_content(Form, {"text": text, "label": "yes"})

    assert ADAPTER.parse(Form, written) == {"text": text, "label": "yes"}
    assert "label: no" not in written.splitlines()  # for any reader, whatever ends its lines


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Literal[1, 2], 2),
        (date, date(2026, 11, 22)),
        (Decimal, Decimal("12.50")),
        (list[str], ["a\nb", "c: d"]),
        (dict[str, list[int]], {"a": [1], "b c": []}),
        (tuple[int, str], (1, "x")),
        (Part, Part(name="peg: long", count=2)),
        (str | None, None),
        (str | None, "null and void"),
        (int | str, 12),
        (int | str | None, 12),
        (int | str, "a\r"),
        (Literal["1", "a b"], "1"),
        (tuple[int, ...], (1, 2)),
        (dict, {"text: a": ["label: no"]}),
        (Decimal, Decimal("70000000000000.07")),
        (Decimal | None, Decimal("98765432109876543210.45")),
        (bool | str, False),
        (bool | str, "False"),
        (float | str, float("inf")),
        (Swapped, Swapped.ON),
        (Swapped, Swapped.OFF),
        (Alike, Alike.NUMBER),
        (Alike, Alike.DIGIT),
    ],
    ids=str,
)
def test_a_value_is_read_as_it_was_written(annotation, value):
    written = ADAPTER.format_assistant_message_content(of(annotation), {"value": value})

    assert ADAPTER.parse(of(annotation), written)["value"] == value


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("text: a\nlabel: no", "plain"),
        ("```\ntext: a\nlabel: no\n```", "in a fence"),
        ("Sure! Here it is.\n\ntext: a\nlabel: no\n\nLet me know if you need more.", "talk around it"),
        ("**text:** a\n**label:** no", "bold"),
        ("- text: a\n- label: no", "a list"),
        ("Text: a\nLABEL: no", "other case"),
        ("label: no\ntext: a", "other order"),
        ("text: a\nlabel: 'no'", "quoted choice"),
        ("text: a\nlabel: no\ntext: b", "a field twice: the first counts"),
        ("text:\n  a\nlabel:\n  no", "value on the next line"),
        ("Here you are:\n```yaml\ntext: a\nlabel: no\n```\nBye.", "a fence between talk"),
        ("```\ntext: a\n```\n```\nlabel: no\n```", "a fence for each"),
        ("<think>\nlabel: yes\ntext: z\n</think>\ntext: a\nlabel: no", "a draft in thoughts"),
        ("Perhaps:\nlabel: yes\n</think>\n\ntext: a\nlabel: no", "thoughts opened by the template"),
    ],
    ids=lambda value: value if "\n" not in value else "",
)
def test_what_models_make_of_the_format_is_still_read(reply, why):
    assert ADAPTER.parse(Form, reply) == {"text": "a", "label": "no"}, why


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (list[Part], '[\n  {"name": "a", "count": 1}\n]\n\nThat is all.'),
        (list[Part], "[{'name': 'a', 'count': 1}]"),
        (list[Part], '[{"name": "a", "count": 1'),
        (bool, "true"),
        (Size, "LARGE"),
        (list[Decimal], "[70000000000000.07]"),
    ],
)
def test_values_are_read_with_some_patience(annotation, text):
    expected = ([Part(name="a", count=1)], True, Size.LARGE, [Decimal("70000000000000.07")])
    assert read(annotation, text) in expected


UNITS = [*"*-#>`{[", "**- ", "{]", '{"', "> *", "text", "**text", "<think>\n", "```\n", '{"a":']


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("annotation", [str, list[Part]], ids=["text", "json"])
def test_a_long_run_of_marks_takes_no_time(unit, annotation):
    run = unit * (20_000 // len(unit))  # many seconds, if the time grew with the square

    for reply in (f"{run}\nvalue: []", f"value: {run}"):
        with contextlib.suppress(AdapterParseError):
            ADAPTER.parse(of(annotation), reply)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("", "no line for text, label"),
        ("I would rather not.", "no line for text, label"),
        ("text: a", "no line for label"),
        ("text: a\nlabel: maybe", "label: "),
        ("  text: a\n  label: no", "no line for text, label"),
        ("<think>\ntext: a\nlabel: no", "no line for text, label"),
    ],
)
def test_a_reply_that_cannot_be_read_says_which_field_and_why(reply, message):
    with pytest.raises(AdapterParseError, match=message) as caught:
        ADAPTER.parse(Form, reply)

    assert caught.value.adapter_name == "CustomAdapter"
    assert caught.value.lm_response == reply


class Moody(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def check(cls, name):
        raise KeyError(name)


@pytest.mark.parametrize("text", ["[" * 20_000, '{"name": "x"}', "x\n" + "<think>\n" * 9999])
def test_nothing_but_a_parse_error_leaves_parse_whatever_a_type_does(text):
    with pytest.raises(AdapterParseError):
        read(Moody, text)


@pytest.mark.parametrize(("annotation", "value"), [(Colour, Colour.RED), (tuple[int, ...], (3, 14))], ids=str)
def test_a_model_sees_what_an_enum_and_a_tuple_may_hold(annotation, value):
    with dspy.context(lm=lm.connect(cache=False), adapter=ADAPTER):
        assert dspy.Predict(of(annotation))(q="A red bag with 3 pegs and 14 poles").value == value


def track(order_id: str) -> str:
    """Track the parcel of an order."""
    return f"{order_id} is in Utrecht"


@pytest.mark.parametrize("is_native", [False, True], ids=["text", "native"])
@pytest.mark.parametrize("agent", [dspy.ReAct, dspy.ReActV2], ids=lambda made: made.__name__)
def test_agents_run_on_it(agent, is_native):
    adapter = CustomAdapter(use_native_function_calling=is_native)
    with dspy.context(lm=lm.connect(cache=False), adapter=adapter):
        answer = agent("question -> answer", tools=[track], max_iters=4)(
            question="Where is my order O-10001?"
        )

    assert "in Utrecht" in answer.answer


@pytest.mark.parametrize(("annotation", "wanted"), [(int | float, int), (float | int, float)])
def test_the_order_of_a_union_counts_whichever_was_read_before(annotation, wanted) -> None:
    signature = dspy.Signature("question -> answer").with_updated_fields("answer", type_=annotation)
    assert type(CustomAdapter().parse(signature, 'answer: "1"')["answer"]) is wanted
