"""Instructions count, in the forms in which they are written; and rules are drawn from examples."""

from __future__ import annotations

import json
from typing import Any, Literal

import dspy
import pytest

from course_lib import desk
from course_lib.desk.programs import SortTicket
from course_lib.lm.simulator.engine import answer
from course_lib.lm.simulator.skills.polarity import polarity
from course_lib.lm.simulator.skills.proposer import examples_in
from course_lib.lm.simulator.skills.rules import REST, read_rules
from tests.lm.wire import body_for

ADAPTER = dspy.JSONAdapter()
DESKS = ("north", "harbour", "desk_1")


def ask(signature: Any, model: str = "sim-large", **inputs: Any) -> dict[str, Any]:
    signature = dspy.Signature(signature) if isinstance(signature, str) else signature
    body = body_for(ADAPTER, signature, inputs, temperature=0) | {"model": model}
    return ADAPTER.parse(signature, answer(body).text or "")


FORMS = {
    "prose": ("Questions about a late parcel go to desk_1.", [("desk_1", "questions about a late parcel")]),
    "a colon": ("north: rooms, keys", [("north", "rooms , keys")]),
    "use": ("Use north for rooms and harbour for loans.", [("north", "rooms"), ("harbour", "loans")]),
    "if, then": ("If a parcel is late, then it is harbour.", [("harbour", "parcel is late")]),
    "a table": ("| what | where |\n|---|---|\n| late parcels | north |", [("north", "late parcels")]),
    "an arrow": ("late parcels -> desk_1", [("desk_1", "late parcels")]),
    "a heading": ("## north\n- rooms\n- keys", [("north", "rooms"), ("north", "keys")]),
    "the rest": ("Everything else is harbour.", [("harbour", REST)]),
    "two clauses": (
        "Loans belong to harbour, and keys to desk 1.",
        [("harbour", "loans"), ("desk_1", "keys")],
    ),
    "a field named": ("For desk, use north for keys.", [("north", "keys")]),
    "a choice named": ("Sort into north, harbour or desk_1.", []),
    "a mere word": ("Write to us before the north wind blows.", []),
}


@pytest.mark.parametrize(("text", "rules"), FORMS.values(), ids=FORMS.keys())
def test_a_rule_is_read_in_every_form(text: str, rules: list[tuple[str, str]]) -> None:
    assert [(rule.label, rule.condition) for rule in read_rules(text, DESKS)] == rules


CORRECTIONS = {
    "If money is asked back, choose north, not harbour.": [("north", 1.0), ("harbour", -1.0)],
    "harbour: late parcels, unless the address is wrong": [("harbour", 1.0), ("harbour", -1.0)],
    "Do not use desk_1 for refunds; use north instead.": [("desk_1", -1.0), ("north", 1.0)],
    "Never mark a lost key desk_1.": [("desk_1", -1.0)],
    "north takes priority over harbour.": [("north", 0.5)],
}


@pytest.mark.parametrize("text", CORRECTIONS)
def test_corrections_exceptions_and_priorities_are_read(text: str) -> None:
    assert [(rule.label, rule.weight) for rule in read_rules(text, DESKS)] == CORRECTIONS[text]


class Route(dspy.Signature):
    """Say who gets it. north: anything about heating, water and leaks. All about rent goes to harbour."""

    message: str = dspy.InputField()
    who: Literal["north", "harbour"] = dspy.OutputField()


def test_a_rule_holds_in_other_words() -> None:
    assert ask(Route, message="The radiator in my flat is cold")["who"] == "north"
    assert ask(Route, message="My payment for this month will come late")["who"] == "harbour"


CARD = """Sort a support ticket of a shop for camping gear. Category is what the main problem is about.
shipping: where a parcel is, delivery, customs, the address. returns: sending something back, refunds, wrong
or damaged items. billing: payments, invoices, codes, gift cards. account: login, e-mail address, newsletter,
points. product: questions about choosing, sizing or using gear. warranty: something broke in use, guarantee,
repairs.
Urgency is high for danger, money wrongly taken or any deadline within 3 days; low if nothing has to be done
soon (feedback, questions before buying); normal for the rest."""


def test_the_desk_s_label_rules_in_prose_raise_category_and_urgency() -> None:
    tickets = [*desk.tickets("train"), *desk.tickets("dev")]

    def right(signature: Any, name: str) -> int:
        told = (ask(signature, ticket=ticket.text)[name] == getattr(ticket, name) for ticket in tickets)
        return sum(told)

    ruled = SortTicket.with_instructions(CARD)
    assert right(ruled, "category") >= right(SortTicket, "category") + 8
    assert right(ruled, "urgency") >= right(SortTicket, "urgency") + 2


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Not bad at all, we will come back.", 1),
        ("I could not be happier with it.", 1),
        ("We were over the moon.", 1),
        ("It isn't good.", -1),
        ("What a waste of money.", -1),
        ("Not exactly what I would call a comfortable bed.", -1),
        ("Hardly a day goes by without it breaking.", -1),
        ("I wanted to love it, but the zip broke.", -1),
        ("Half the staff ignored us and nobody apologised.", -1),
    ],
)
def test_praise_and_blame_are_told_apart_with_negation_and_idiom(text: str, sign: int) -> None:
    assert polarity(text) * sign > 0


# -- proposals ---------------------------------------------------------------------------------------------

SHOWN = [
    ("The radiator is cold again", "crew"),
    ("Water drips from the bathroom ceiling", "crew"),
    ("My rent was taken twice", "office"),
    ("Please send me a copy of the lease", "office"),
]
FED_BACK = [
    {
        "Inputs": {"message": text},
        "Generated Outputs": {"who": "crew"},
        "Feedback": f"The correct who is {label}.",
    }
    for text, label in SHOWN
]
PROGRAM = {
    "module_names": ["self"],
    "program_inputs": {"message": SHOWN[2][0]},
    "oracle_metadata": {"who": "office"},
}
RUNS = {"better_program_outputs": {"who": "office"}, "worse_program_outputs": {"who": "crew"}}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "GEPA": (
        "current_instruction, examples_with_feedback -> new_instruction",
        {"current_instruction": "Say who gets it.", "examples_with_feedback": json.dumps(FED_BACK)},
    ),
    "InferRules": (
        "examples_text -> natural_language_rules",
        {
            "examples_text": "".join(
                f"Input Fields:\nmessage: {t}\n\n=========\nOutput Fields:\nwho: {w}\n\n" for t, w in SHOWN
            )
        },
    ),
    "MIPROv2's summary": (
        "examples -> observations",
        {"examples": repr([dspy.Example(message=t, who=w).with_inputs("message") for t, w in SHOWN])},
    ),
    "SIMBA": (
        f"{', '.join([*PROGRAM, *RUNS])} -> module_advice: dict[str, str]",
        {name: json.dumps(value) for name, value in (PROGRAM | RUNS).items()},
    ),
}


@pytest.mark.parametrize(("signature", "inputs"), ASKED.values(), ids=ASKED.keys())
def test_rules_are_drawn_from_the_examples_of_the_prompt_and_are_read_again(
    signature: str, inputs: dict[str, Any]
) -> None:
    (written,) = ask(signature, **inputs).values()
    text = written["self"] if isinstance(written, dict) else written

    rules = {rule.label: rule.condition for rule in read_rules(text, ("crew", "office"))}
    shown = " ".join(text for text, _ in SHOWN).lower()
    assert "rent" in rules["office"]
    assert all(
        part in shown
        for condition in rules.values()
        for part in condition.replace(" and ", " , ").split(" , ")
    )


def test_feedback_is_read_field_by_field() -> None:
    said = {
        "Inputs": {"message": "The radiator is cold"},
        "Generated Outputs": {"who": "office", "lane": "high"},
        "Feedback": "who: got 'office', expected 'crew'. lane: 'high' is right.",
    }

    assert {one.out: one.label for one in examples_in(json.dumps([said]))} == {"who": "crew", "lane": "high"}


def test_degrees_are_told_apart_by_how_soon_and_how_bad_if_the_instruction_says_so() -> None:
    told = dspy.Signature("note -> level: Literal['low', 'high']", "Say how soon this has to be done.")

    assert ask(told, note="There is smoke in the cellar and a child is still inside!")["level"] == "high"
    assert ask(told, note="No hurry at all, it was only an idea for next year.")["level"] == "low"


def test_the_best_attempt_is_kept_and_varied_and_proposals_differ_with_a_temperature() -> None:
    tried = [
        *("Instruction #1: Guess.", "Prefix #1: A:", "Resulting Score #1: 10.0"),
        *("Instruction #2: Read it well.", "Prefix #2: A:", "Resulting Score #2: 60.0"),
    ]
    signature = dspy.Signature("attempted_instructions -> proposed_instruction")
    body = body_for(ADAPTER, signature, {"attempted_instructions": tried}, temperature=1.0)
    proposed = {answer(body, sample=sample).text for sample in range(6)}

    assert len(proposed) > 2
    assert all("Read it well." in str(text) and "Guess" not in str(text) for text in proposed)
