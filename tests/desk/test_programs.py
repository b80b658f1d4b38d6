import asyncio
import logging
from typing import get_args

import dspy
import pytest

from course_lib import desk, lm
from course_lib.desk import records


@pytest.fixture(autouse=True)
def simulator():
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        lm.reset()
        yield


RETURNS = desk.article("return-policy").chunk
QUESTION = "How many days do I have to return an item?"


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_triage_answers_with_labels_in_one_call_through_every_usual_adapter(adapter):
    with dspy.context(adapter=adapter()):
        labels = desk.Triage()(ticket="The zip of my Halden 2 broke. Is that a warranty case?")

    assert labels.category in desk.CATEGORIES
    assert labels.urgency in desk.URGENCIES
    assert lm.ledger().requests == 1


@pytest.mark.parametrize(
    ("question", "context", "words", "cited"),
    [
        (QUESTION, [RETURNS], "within 30 days of delivery", {"return-policy"}),
        ("What is the welcome code?", None, "LANTERN10", {"promo-codes", "newsletter"}),
        (QUESTION, [], "don't know", set()),
    ],
    ids=["from what it is given", "from what it finds", "from nothing"],
)
def test_an_answer_quotes_and_cites_articles_in_one_call(question, context, words, cited):
    answer = desk.Answer()(question=question, context=context)

    assert words in answer.answer
    assert set(answer.citations) <= cited
    assert bool(answer.citations) == bool(cited)
    assert lm.ledger().requests == 1


AS_THEY_ARE_CALLED = [
    (desk.Triage, {"ticket": desk.tickets("dev")[1].text}),
    (desk.FindArticles, {"question": QUESTION}),
    (desk.Answer, {"question": QUESTION}),
    (desk.Answer, {"question": QUESTION, "context": [RETURNS]}),
]


def test_finding_articles_gives_ids_and_texts_without_any_call():
    found = desk.FindArticles(k=2)(question=QUESTION)

    assert found.articles == [hit.article.id for hit in desk.search_articles(QUESTION, 2)]
    assert found.context == [desk.article(name).chunk for name in found.articles]
    assert lm.ledger().requests == 0


@pytest.mark.parametrize(("program", "inputs"), AS_THEY_ARE_CALLED)
def test_awaited_they_answer_the_same(program, inputs, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dspy"), "propagate", True)  # else caplog sees nothing

    waited = asyncio.run(program().acall(**inputs))

    assert waited.toDict() == program()(**inputs).toDict()
    assert caplog.messages == []


@pytest.mark.parametrize("split", get_args(records.Split))
def test_an_example_has_the_ticket_as_its_only_input_and_the_labels_beside_it(split):
    examples = desk.examples(split)

    assert [example.id for example in examples] == [ticket.id for ticket in desk.tickets(split)]
    assert set(examples[0].inputs().keys()) == {"ticket"}
    assert {"category", "urgency", "article"} <= set(examples[0].labels().keys())


@pytest.mark.parametrize(("category", "is_right"), [("billing", True), ("returns", False)])
def test_the_metric_compares_categories(category, is_right):
    example = dspy.Example(ticket="?", category="billing", urgency="high").with_inputs("ticket")

    assert desk.category_match(example, dspy.Prediction(category=category, urgency="low")) is is_right
