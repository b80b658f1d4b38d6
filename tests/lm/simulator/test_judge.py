"""Judging a claim by its evidence, and an answer by the truth."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dspy.evaluate.auto_evaluation import (
    AnswerCompleteness,
    AnswerGroundedness,
    SemanticRecallPrecision,
    f1_score,
)

from tests.lm.simulator.test_rules import ask

SUPPORTED = "claim, evidence -> supported: bool"
CLAIMS = [
    ("Maria Lopez wrote the report.", "The report was written by Maria Lopez in 2019.", True),
    ("Pedro Lopez wrote the report.", "The report was written by Maria Lopez in 2019.", False),
    ("The report came out in 2020.", "The report was written by Maria Lopez in 2019.", False),
    ("Sales went up in the third quarter.", "In the third quarter, sales increased by eight percent.", True),
    ("Sales fell in the third quarter.", "In the third quarter, sales increased by eight percent.", False),
    ("The battery is included.", "The lamp comes with a charger and a battery.", True),
    ("The battery is not included.", "The lamp comes with a charger and a battery.", False),
    ("The course lasts six weeks.", "It is a six-week course with two evenings a week.", True),
    ("Dogs may enter the dining room.", "Dogs are welcome outside but not in the dining room.", False),
    ("Eva plays the drums.", "Both twins play an instrument: Eva the cello, Max the drums.", False),
    ("The bridge was built in 1998.", "The bridge was built in 1932 and repaired in 1998.", False),
    ("The office shuts at 6 pm.", "The office closes at 18:00.", True),
    ("The invoice is unpaid.", "The invoice was paid by card on 3 May.", False),
]


@pytest.mark.parametrize(("claim", "evidence", "holds"), CLAIMS)
def test_a_claim_is_judged_by_its_evidence(claim: str, evidence: str, holds: bool) -> None:
    verdict = "claim, evidence -> verdict: Literal['supported', 'refuted']"

    assert ask(SUPPORTED, claim=claim, evidence=evidence)["supported"] is holds
    assert ask(verdict, claim=claim, evidence=evidence)["verdict"] == ("supported" if holds else "refuted")


ANSWERS = [
    ("Penicillin was discovered by Alexander Fleming.", 0.7, 1.0),
    ("Louis Pasteur discovered penicillin.", 0.0, 0.3),
    ("I don't know.", 0.0, 0.2),
    ("I'm not sure, the text of 1928 does not say.", 0.0, 0.2),
]


@pytest.mark.parametrize(("answer", "low", "high"), ANSWERS)
def test_semantic_f1_and_a_score_follow_the_truth(answer: str, low: float, high: float) -> None:
    asked: dict[str, Any] = {"question": "Who discovered penicillin?"}
    shares = ask(SemanticRecallPrecision, ground_truth="Alexander Fleming", system_response=answer, **asked)
    signature = dspy.Signature("question, answer, gold_answer -> score: int")
    score = ask(
        signature.with_updated_fields("score", desc="from 1 to 5"),
        answer=answer,
        gold_answer="Alexander Fleming",
        **asked,
    )

    assert low <= f1_score(shares["precision"], shares["recall"]) <= high
    assert 1 + 4 * low <= score["score"] <= 1 + 4 * high


def test_completeness_and_groundedness_count_ideas_and_say_which_are_missing() -> None:
    question, said = "What should I bring?", "Bring a towel. Bring 3 apples."
    truth = "Bring a towel. Bring sturdy shoes."
    complete = ask(AnswerCompleteness, question=question, ground_truth=truth, system_response=said)
    grounded = ask(AnswerGroundedness, question=question, retrieved_context=truth, system_response=said)

    assert complete["completeness"] == grounded["groundedness"] == 0.5
    assert "It does not say: Bring sturdy shoes." in complete["discussion"]
    assert "It does not bear out: Bring 3 apples." in grounded["discussion"]
    assert grounded["system_response_claims"] == "1. Bring a towel.\n2. Bring 3 apples."


ROLES = [
    ("sign, question -> allowed: bool", {"sign": "No dogs.", "question": "Are dogs allowed?"}, False),
    ("text, claims: list[str] -> verdicts: list[bool]",
     {"text": "Ida Moen won in 41 minutes. Paula Roth is from Graz.",
      "claims": ["Ida Moen won.", "Paula Roth comes from Linz."]}, [True, False]),
    ("reference, answer_a, answer_b -> winner: Literal['A', 'B']",
     {"reference": "Use salt and water.", "answer_a": "Buy one.", "answer_b": "Take water and salt."}, "B"),
    ("reply, criterion -> fulfilled: bool",
     {"reply": "Your order is on its way.", "criterion": "The reply names a price."}, False),
    ("question, answer -> relevant: bool",
     {"question": "How do I reset the timer?", "answer": "Our soup is pumpkin."}, False),
]  # fmt: skip


@pytest.mark.parametrize(("signature", "inputs", "verdict"), ROLES)
def test_what_is_judged_and_by_what_is_told_by_the_inputs(
    signature: str, inputs: dict[str, Any], verdict: Any
) -> None:
    assert list(ask(signature, **inputs).values()) == [verdict]
