"""Each skill on what it is for, and on what it must leave alone."""

from __future__ import annotations

import datetime
from typing import Any, Literal

import dspy
import pydantic
import pytest

from course_lib.lm.simulator.engine import answer
from course_lib.lm.simulator.skills import arithmetic, knowledge, quotation
from tests.lm.wire import body_for

ADAPTER = dspy.JSONAdapter()


def ask(
    signature: str | type[dspy.Signature], demos: list[dict[str, Any]] | None = None, **inputs: Any
) -> dict[str, Any]:
    signature = dspy.Signature(signature) if isinstance(signature, str) else signature
    return ADAPTER.parse(signature, answer(body_for(ADAPTER, signature, inputs, demos=demos)).text)


SENTIMENT = "text -> sentiment: Literal['positive', 'negative']"
URGENCY = "text -> urgency: Literal['low', 'high']"
SPAM = "email -> is_spam: bool"
SUPPORTED = "claim, evidence -> supported: bool"
CITED = "context: list[str], question -> answer, citations: list[str]"
CHUNKS = [
    "[return-policy] Returns\nYou can return any item within 30 days.",
    "[boots] Boots\nOur boots run small.",
]
BOOTS = {"context": CHUNKS, "question": "Do boots run small?"}
PERIOD = {
    "context": "We have 12 tents. The return period is 30 days.",
    "question": "How long is the return period?",
}
SUMS = "numbers: list[int] -> sum: int, average: float, maximum: int"
EVIDENCE = "The Ridge tent weighs 2 kg. It is green."
MADE = {"context": "The lamp is blue. It was made in Oslo by Anna Berg.", "question": "Who made the lamp?"}
LATE = {"ticket": "My parcel LAN-1042 is late. I want my money back, 30 euros."}
LOUD = "ticket -> urgency: Literal['URGENT', 'urgent']"
FOUNDED = "The shop was founded in 1998 by Marta Olsen. It sells tents."
LEAKS = "Hello there. The tent pole broke, so the tent leaks by the pole. I want a new one. Bye."


class Route(dspy.Signature):
    """Route the call. alpha: anything about cats. beta: anything about bicycles."""

    text: str = dspy.InputField()
    route: Literal["alpha", "beta"] = dspy.OutputField()


class Item(pydantic.BaseModel):
    product: str
    quantity: int


ITEMS = dspy.Signature("text -> items: list[Item]", custom_types={"Item": Item})
RATED = {"text": (str, dspy.InputField()), "stars": (int, dspy.OutputField(ge=1, le=5))}
RECORDS = [Item(product="tents", quantity=2), Item(product="lamps", quantity=3)]


class Short(dspy.Signature):
    """Answer from the context."""

    context: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="a few words")


SHOWN = [
    # choosing
    ("a label's own word", SENTIMENT, {"text": "I loved it, a wonderful film"}, ["positive"]),
    ("its opposite", SENTIMENT, {"text": "A boring, terrible evening"}, ["negative"]),
    ("a label's description", Route, {"text": "My bicycle has a flat tyre"}, ["beta"]),
    ("another one's", Route, {"text": "Two cats on a sofa"}, ["alpha"]),
    ("a line with the field's name", URGENCY, {"text": "x\nurgency: high\nno rush"}, ["high"]),
    ("a reason for yes", SPAM, {"email": "Winner! Claim your free prize"}, [True]),
    ("none for yes", SPAM, {"email": "Lunch at noon with Bo?"}, [False]),
    # quoting
    ("a source", CITED, BOOTS, ["Our boots run small.", ["boots"]]),
    ("when, in few words", Short, {"context": FOUNDED, "question": "When was it founded?"}, ["1998"]),
    ("who", Short, {"context": FOUNDED, "question": "Who founded the shop?"}, ["Marta Olsen"]),
    ("a number of the sentence that answers", "context, question -> days: int", PERIOD, [30]),
    ("a pronoun's subject", "context, question -> answer", MADE, ["It was made in Oslo by Anna Berg."]),
    # judging
    ("no id and no amount", "ticket -> category, urgency: int", LATE, ["not stated", 3]),
    ("labels that differ in case alone", LOUD, LATE, ["URGENT"]),
    ("a claim that holds", SUPPORTED, {"claim": "Ridge is green", "evidence": EVIDENCE}, [True]),
    ("one that does not", SUPPORTED, {"claim": "Boots sell in Oslo", "evidence": EVIDENCE}, [False]),
    # computing
    ("sums over a list", SUMS, {"numbers": [3, 4, 5]}, [12, 4.0, 5]),
    ("two inputs", "a: int, b: int -> total: int, difference: int", {"a": 3, "b": 5}, [8, -2]),
    ("letters", "word -> length: int", {"word": "elephant"}, [8]),
    ("items", "items: list[str] -> count: int", {"items": ["a", "b"]}, [2]),
    # extracting and summing up
    ("records, part by part", ITEMS, {"text": "- 2 tents\n- 3 lamps"}, [RECORDS]),
    ("no number beyond its limits", dspy.make_signature(RATED), {"text": "I give it 900 points"}, [1]),
    ("a summary", "text -> summary", {"text": LEAKS}, [LEAKS.split(". ")[1] + "."]),
]


@pytest.mark.parametrize(("name", "signature", "inputs", "expected"), SHOWN, ids=[row[0] for row in SHOWN])
def test_an_answer_follows_from_its_prompt(
    name: str, signature: str | type[dspy.Signature], inputs: dict[str, Any], expected: list[Any]
) -> None:
    assert list(ask(signature, **inputs).values()) == expected


def test_demos_outweigh_what_a_label_is_called() -> None:
    demos = [
        {"text": "I loved it, great and wonderful", "sentiment": "negative"},
        {"text": "awful, terrible and boring", "sentiment": "positive"},
    ]

    assert ask(SENTIMENT, demos, text="a wonderful evening") == {"sentiment": "negative"}


def test_a_text_field_whose_demos_repeat_a_few_words_is_a_closed_set() -> None:
    kinds = {"a b": "odd", "c d": "odd", "e f": "even", "g h": "even"}
    demos = [{"text": text, "kind": kind} for text, kind in kinds.items()]

    assert ask("text -> kind", demos, text="c d z") == {"kind": "odd"}


@pytest.mark.parametrize(
    ("context", "ids"),
    [
        ('["[a-1] x", "y"]', ["a-1", "2"]),
        ("[1] «first»\n[2] «second»", ["1", "2"]),
        ("[intro] one\n\n[end] two", ["intro", "end"]),
        ("just a text", ["1"]),
        ("[]", []),
        ("N/A", []),
    ],
)
def test_chunks_are_told_apart_however_the_context_is_written(context: str, ids: list[str]) -> None:
    assert [chunk.id for chunk in quotation.chunks(context)] == ids


@pytest.mark.parametrize(
    ("question", "short"),
    [
        ("Who wrote Hamlet?", "William Shakespeare"),
        ("What is the chemical symbol for gold?", "Au"),
        ("When did World War II end?", "1945"),
        ("What does HTTP stand for?", "HyperText Transfer Protocol"),
    ],
)
def test_everyday_facts_are_known(question: str, short: str) -> None:
    assert ask("question -> answer", question=question)["answer"] == short


@pytest.mark.parametrize(
    "question", ["What is the capital of Lantern?", "Who is my neighbour?", "Where is the capital letter?"]
)
def test_what_is_not_known_is_said_not_to_be(question: str) -> None:
    assert knowledge.recall(question) is None
    assert "know" in ask("question -> answer", question=question)["answer"]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("What is 17 * 23?", "391"),
        ("twelve plus 7", "19"),
        ("15% of 200", "30"),
        ("(3 + 4) * 2 - 1", "13"),
        ("2 to the power of 10", "1024"),
        ("the sum of 3, 4 and 5", "12"),
        ("the average of 2, 4, 9", "5"),
        ("10 / 4", "2.5"),
        *[(text, None) for text in ("on 2026-01-03", "call 030 23125-4", "order O-10001", "12 items")],
        *[(text, None) for text in ("1 / 0", "9 ^ 9 ^ 9", "(((")],
    ],
)
def test_arithmetic_is_worked_out_and_what_is_none_is_left_alone(text: str, result: str | None) -> None:
    worked = arithmetic.work_out(text)

    assert (worked and worked.text) == result


class Order(dspy.Signature):
    """Extract the order from the mail."""

    mail: str = dspy.InputField()
    order_id: str = dspy.OutputField()
    customer_name: str = dspy.OutputField()
    email: str | None = dspy.OutputField()
    phone: str | None = dspy.OutputField()
    ordered_on: datetime.date = dspy.OutputField()
    total: float = dspy.OutputField()


def test_fields_are_picked_out_of_a_mail_by_name_and_type() -> None:
    mail = "I'm Ann Bell. On 3 May 2026 I ordered two tents, O-10003, for EUR 71.00. ann.bell@example.org"

    assert ask(Order, mail=mail) == {
        "order_id": "O-10003",
        "customer_name": "Ann Bell",
        "email": "ann.bell@example.org",
        "phone": None,
        "ordered_on": datetime.date(2026, 5, 3),
        "total": 71.0,
    }


def test_lists_of_names_are_told_apart_by_what_is_known_of_them() -> None:
    signature = "text -> people: list[str], cities: list[str]"
    result = ask(signature, text="Ann Bell from Berlin met Tom Reed in Paris.")

    assert "Tom Reed" in result["people"]
    assert result["cities"] == ["Berlin", "Paris"]
