"""Context is cut to a budget by whole sentences, the question never, and what was dropped is said."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import desk, lm
from course_lib.caching.context_budget import AnswerWithin, BudgetError, fit, fit_history
from course_lib.lm import tokens

QUESTION = "Can I return a gift card?"
FOUND = desk.FindArticles(4)(question=QUESTION).context


@pytest.fixture
def simulator():
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        lm.reset()
        yield


def test_what_fits_is_untouched():
    fitted = fit(FOUND, budget_tokens=10_000, question=QUESTION)

    assert fitted.context == FOUND
    assert fitted.dropped == []
    assert fitted.tokens == sum(map(tokens.count, [*FOUND, QUESTION]))


@settings(max_examples=40, deadline=None)
@given(budget=st.integers(min_value=8, max_value=1600), keep=st.sampled_from(["sentences", "texts"]))
def test_no_budget_is_ever_overspent(budget, keep):
    fitted = fit(FOUND, budget_tokens=budget, question=QUESTION, keep=keep)

    assert sum(map(tokens.count, [*fitted.context, QUESTION])) == fitted.tokens <= budget
    lost = sum(loss.tokens for loss in fitted.dropped)
    assert lost == sum(map(tokens.count, FOUND)) - sum(map(tokens.count, fitted.context))


@settings(max_examples=40, deadline=None)
@given(budget=st.integers(min_value=8, max_value=1600))
def test_only_whole_sentences_are_kept_in_their_order(budget):
    fitted = fit(FOUND, budget_tokens=budget, question=QUESTION)

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


def test_better_texts_are_served_first_and_losses_are_told():
    fitted = fit(FOUND, budget_tokens=tokens.count(QUESTION) + tokens.count(FOUND[0]), question=QUESTION)

    assert fitted.context == FOUND[:1]
    assert [loss.text for loss in fitted.dropped] == [text.partition("\n")[0] for text in FOUND[1:]]
    assert all(loss.is_whole for loss in fitted.dropped)
    assert f"dropped all of '{fitted.dropped[0].text}'" in str(fitted)


def test_whole_texts_only_leaves_out_what_does_not_fit_and_goes_on():
    small = "[note] A note\nGift cards last three years."

    fitted = fit([FOUND[0], small], budget_tokens=40, question=QUESTION, keep="texts")

    assert fitted.context == [small]


def test_a_question_over_the_budget_is_refused_not_cut():
    with pytest.raises(BudgetError, match="never cut"):
        fit(FOUND, budget_tokens=3, question=QUESTION)


def test_another_way_to_count_is_used_throughout():
    fitted = fit(["one two three. Four five."], budget_tokens=3, count=lambda text: len(text.split()))

    assert fitted.context == []
    assert fitted.dropped[0].tokens == 5


def test_of_a_history_the_newest_turns_stay_whole():
    turns = [{"question": f"question {number}", "answer": "an answer of five words"} for number in range(6)]

    history, dropped = fit_history(dspy.History(messages=turns), budget_tokens=21)

    assert (history.messages, dropped) == (turns[-3:], 3)


def test_the_desk_answers_within_its_budget(simulator):
    answer = AnswerWithin(200)(question=QUESTION)

    assert answer.citations
    assert answer.fitted.tokens <= 200
    assert answer.fitted.dropped
    (call,) = lm.ledger().calls
    assert call.prompt_tokens < 200 + 350  # the format's own words come on top


def test_async_is_the_same(simulator):
    program = AnswerWithin(200)

    assert asyncio.run(program.acall(question=QUESTION)).fitted == program(question=QUESTION).fitted


def test_our_count_of_the_context_is_the_endpoints(simulator):
    """Two prompts that differ in one text differ by that text's tokens, but for the commas around it."""
    answer = desk.Answer()
    answer(question=QUESTION, context=FOUND[:1])
    answer(question=QUESTION, context=FOUND[:2])

    one, two = (call.prompt_tokens for call in lm.ledger().calls)
    assert two - one == pytest.approx(tokens.count(FOUND[1]), rel=0.05)
