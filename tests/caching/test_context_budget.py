"""Context is cut to a budget by whole sentences, the question never, and what was dropped is named."""

from __future__ import annotations

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import desk, lm
from course_lib.caching import AnswerWithin
from course_lib.caching.context_budget import BudgetError, fit
from course_lib.lm import tokens

QUESTION = "Can I return a gift card?"
FOUND = desk.FindArticles(4)(question=QUESTION).context


@pytest.fixture
def simulator():
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        lm.reset()
        yield


@settings(max_examples=40, deadline=None)
@given(budget=st.integers(min_value=8, max_value=1600))
def test_no_budget_is_overspent_and_only_whole_sentences_are_kept_in_their_order(budget):
    fitted = fit(FOUND, budget_tokens=budget, question=QUESTION)

    assert sum(map(tokens.count, [*fitted.context, QUESTION])) == fitted.tokens <= budget
    lost = sum(map(tokens.count, FOUND)) - sum(map(tokens.count, fitted.context))
    assert sum(fitted.dropped.values()) == lost
    for part in fitted.context:
        whole = next(text for text in FOUND if text.startswith(part.partition("\n")[0]))
        lines = [line for line in part.split("\n") if line not in ("", "[...]")]
        places = [whole.find(line) for line in lines]
        assert -1 not in places
        assert places == sorted(places)
        ends = [place + len(line) for place, line in zip(places, lines, strict=True)]
        assert all(whole[end : end + 1] in ("", "\n", " ") for end in ends)


def test_the_sentence_that_the_question_asks_for_is_kept():
    fitted = fit([desk.article("return-policy").chunk], budget_tokens=60, question=QUESTION)

    assert "Gift cards cannot be returned once the code has been shown." in fitted.context[0]
    assert fitted.context[0].startswith("[return-policy]")
    assert "[...]" in fitted.context[0]


def test_the_desk_answers_within_its_budget(simulator):
    answer = AnswerWithin(200)(question=QUESTION)
    with pytest.raises(BudgetError, match="never cut"):
        AnswerWithin(3)(question=QUESTION)

    assert answer.citations
    assert answer.fitted.tokens <= 200
    assert answer.fitted.dropped
    (call,) = lm.ledger().calls
    assert call.prompt_tokens < 200 + 350  # the format's own words come on top
