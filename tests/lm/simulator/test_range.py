"""What the simulated model reads out of texts, and how it says what it cannot do."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pydantic
import pytest

from course_lib.lm.simulator.engine import answer
from tests.lm.simulator.test_skills import ask


class Part(pydantic.BaseModel):
    name: str
    quantity: int


class Guest(pydantic.BaseModel):
    name: str
    age: int


class Leg(pydantic.BaseModel):
    origin: str
    destination: str
    price: float | None = None


def listed(kind: Any) -> type[dspy.Signature]:
    return dspy.make_signature({"text": (str, dspy.InputField()), "out": (list[kind], dspy.OutputField())})


READ = [
    (
        "names by role",
        "text -> sender, recipient",
        "Dear Otto,\nthe keys are in the shed.\nLove, Maya",
        ["Maya", "Otto"],
    ),
    (
        "places by role",
        "text -> origin, destination",
        "One seat from Graz to Lyon, please.",
        ["Graz", "Lyon"],
    ),
    (
        "amounts by name",
        "text -> deposit: float, rent: float",
        "The deposit is €500, the rent €720.",
        [500.0, 720.0],
    ),
    (
        "a quantity and its thing",
        "text -> count: int, item",
        "Put by three bags of soil for me.",
        [3, "bags of soil"],
    ),
    ("units", "text -> weight_kg: float", "The box weighs 250 g.", [0.25]),
    (
        "a list after a colon",
        "text -> ingredients: list[str]",
        "Ingredients: rye, salt, water. Bake it.",
        [["rye", "salt", "water"]],
    ),
    (
        "a list by meaning",
        "text -> animals: list[str]",
        "They keep a cat, a dog and a parrot.",
        [["cat", "dog", "parrot"]],
    ),
    (
        "counted things",
        "text -> stock: dict[str, int]",
        "We have 14 apples and 9 pears.",
        [{"apples": 14, "pears": 9}],
    ),
    ("what is not said", "text -> phone: str | None, name", "This is Ida Roth speaking.", [None, "Ida Roth"]),
]


@pytest.mark.parametrize(("name", "signature", "text", "expected"), READ, ids=[row[0] for row in READ])
def test_a_field_gets_the_piece_that_its_name_and_role_ask_for(
    name: str, signature: str, text: str, expected: list[Any]
) -> None:
    assert list(ask(signature, text=text).values()) == expected


RECORDS: list[tuple[Any, str, list[list[Any]]]] = [
    (Part, "We need 4 hinges, 12 screws and one lock.", [["hinges", 4], ["screws", 12], ["lock", 1]]),
    (Guest, "Olga is 34 and her friend Ben is 29.", [["Olga", 34], ["Ben", 29]]),
    (
        Leg,
        "We go from Rome to Athens for €90, then from Athens to Cairo for €75.",
        [["Rome", "Athens", 90.0], ["Athens", "Cairo", 75.0]],
    ),
]


@pytest.mark.parametrize(("kind", "text", "expected"), RECORDS)
def test_several_records_are_told_apart(kind: Any, text: str, expected: list[list[Any]]) -> None:
    assert [list(one.model_dump().values()) for one in ask(listed(kind), text=text)["out"]] == expected


MILL = (
    "The mill was built in 1790 by Peter Anker. It grinds rye on Mondays. A visit costs 4 euros and takes an "
    "hour. The miller lives next door."
)


@pytest.mark.parametrize(
    ("question", "heard"),
    [
        ("When was the mill built?", "1790"),
        ("Who built it?", "Peter Anker"),
        ("How much is a visit?", "4 euros"),
        ("On which day does it grind rye?", "Mondays"),
        ("How many millers live there?", "know"),
        ("What colour is the mill?", "know"),
        ("When does the mill close?", "know"),
    ],
)
def test_a_passage_answers_what_it_says_and_nothing_else(question: str, heard: str) -> None:
    assert heard in ask("passage, question -> answer", passage=MILL, question=question)["answer"]


def chat(*turns: str, system: str = "", **settings: Any) -> str:
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(turns)]
    return answer({"model": "sim-large", "messages": messages, **settings}).text or ""


@pytest.mark.parametrize(
    ("turns", "system", "heard"),
    [
        (["How much is a visit?"], MILL, "4 euros"),
        (["My dog is called Bruno.", "Nice!", "What is my dog's name?"], "", "Bruno"),
        (["Who are you?"], "", "simulated model of the course"),
        (["Many thanks!"], "", "welcome"),
        ([f"Summarise this: {MILL}"], "", "mill"),
        (["Should I buy a house?"], "", "I can't answer this"),
        (["Write a poem about rain"], "", "I can't answer this"),
        (["Translate to French: good day"], "", "I can't answer this"),
        (["Why is the sea salty?"], "", "I can't answer this"),
    ],
)
def test_chat_is_answered_from_what_was_said_or_declined(turns: list[str], system: str, heard: str) -> None:
    assert heard in chat(*turns, system=system)


@pytest.mark.parametrize(
    ("system", "said", "expected"),
    [
        (
            'Reply with JSON like {"city": "...", "people": 0}.',
            "Porto has 231,000 people.",
            {"city": "Porto", "people": 231000},
        ),
        (
            'JSON: {"items": [{"name": "string", "qty": 1}]}',
            "Send 3 mugs.",
            {"items": [{"name": "mugs", "qty": 3}]},
        ),
        (
            '{"type": "object", "properties": {"age": {"type": "integer"}}} is the JSON schema.',
            "Ann is 30.",
            {"age": 30},
        ),
        ("Answer in JSON with the keys name (string) and tags (list of strings).", "Kim: tags: a, b", None),
        (
            "",
            'Return JSON with the keys "name" and "email" for: "I am Ann Roe, ann@roe.example".',
            {"name": "Ann Roe", "email": "ann@roe.example"},
        ),
    ],
)
def test_the_form_of_a_json_reply_is_read_from_the_prompt(
    system: str, said: str, expected: dict[str, Any] | None
) -> None:
    reply = json.loads(chat(said, system=system))

    assert reply == expected or (expected is None and list(reply) == ["name", "tags"])


def test_a_validators_message_is_heeded() -> None:
    complaint = "1 validation error for Person\nage\n  Input should be a valid integer [type=int_parsing]"

    reply = chat("Kai turned 31.", '{"age": "31 years"}', complaint, system='Return JSON: {"age": "..."}')

    assert json.loads(reply) == {"age": 31}


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("english -> french", {"english": "The shop opens at nine."}),
        ("topic -> poem", {"topic": "the sea"}),
        ("text -> polite_text", {"text": "Shut the door."}),
        ("question -> answer", {"question": "How does a fridge work?"}),
        ("city -> population: int, note", {"city": "Metz"}),
        ("question -> choice: Literal['gold', 'bonds'], reasoning", {"question": "What should I invest in?"}),
    ],
)
def test_what_is_outside_the_range_is_declined_in_words(signature: str, inputs: dict[str, str]) -> None:
    assert "I can't answer this" in " ".join(map(str, ask(signature, **inputs).values()))


@pytest.mark.parametrize(
    ("field", "begins"), [("python_code", "# "), ("sql_query", "-- "), ("javascript_code", "// ")]
)
def test_code_is_declined_in_a_comment(field: str, begins: str) -> None:
    assert ask(f"task -> {field}", task="Sort the orders by date.")[field].startswith(f"{begins}I can't")


def test_free_text_varies_with_a_temperature_and_stays_true() -> None:
    texts = {chat("What is the capital of Norway?", temperature=1.0, seed=seed) for seed in range(20)}

    assert len(texts) > 1
    assert all("Oslo" in text for text in texts)


@pytest.mark.parametrize(
    ("signature", "question", "given"),
    [
        ("question -> population: int", "How many people lived in Ulan-Ude in 1939?", 0),
        ("question -> answer: bool", "Will house prices in Leeds rise next year?", False),
        ("question -> books: list[str]", "Which five novels should I read?", []),
        ("question -> topic: Literal['delivery', 'account']", "Will my parcel arrive tomorrow?", "delivery"),
    ],
)
def test_a_question_alone_fills_no_type_with_its_own_words_but_may_be_labelled(
    signature: str, question: str, given: Any
) -> None:
    assert list(ask(signature, question=question).values()) == [given]
