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
