import re
from datetime import date

import pytest

from course_lib import desk
from course_lib.desk import help_centre
from course_lib.errors import CourseError

IDS = [article.id for article in desk.articles()]

# A fact, what all articles say of it, and the articles that must say it. Every match of the pattern, in any
# article but those the data card names as out of date, has to have this value.
FACTS = [
    ("return window", r"return any item within (\d+) days|returned unused within (\d+) days", "30",
     ["return-policy", "spare-parts"]),
    ("return label", r"label (?:costs|of|for) EUR (\d+\.\d+)|Return label \| EUR (\d+\.\d+)", "3.95",
     ["return-policy", "start-return", "refund-times", "exchange-item", "repair-service", "loyalty-points"]),
    ("free shipping", r"[Ff]ree (?:shipping )?(?:from|for orders of) EUR (\d+)", "60",
     ["shipping-costs", "loyalty-points", "promo-codes"]),
    ("EU postage", r"Standard shipping costs EUR (\d+\.\d+)|EU shipping price of EUR (\d+\.\d+)", "4.95",
     ["shipping-costs", "international-shipping"]),
    ("parts postage", r"spare parts alone is EUR (\d+\.\d+)|letter post \| EUR (\d+\.\d+)", "2.95",
     ["spare-parts", "shipping-costs"]),
    ("postage outside the EU", r"Norway (?:\| |costs )EUR (\d+\.\d+)", "14.95",
     ["shipping-costs", "international-shipping"]),
    ("days outside the EU", r"Norway.{0,40}?(\d+ to \d+) working days", "6 to 10",
     ["shipping-times", "international-shipping"]),
    ("pay later limit", r"orders of up to EUR (\d+)|order is over EUR (\d+)", "400",
     ["payment-methods", "payment-declined"]),
    ("welcome code", r"LANTERN10 (?:takes|for) (\d+) %", "10", ["promo-codes", "newsletter"]),
    ("no scan", r"no new scan for (\d+) working days", "5", ["track-order", "lost-parcel"]),
    ("invoices kept", r"for (\d+) years, because Dutch|invoice of the last (\d+) years", "7",
     ["delete-account", "invoice-copy"]),
    ("cleaning", r"charge EUR (\d+) for cleaning", "15", ["warranty-terms", "repair-service"]),
    ("gold repairs", r"(\d+) % off(?:\.$| \|$)", "20", ["loyalty-points", "repair-service"]),
    ("battery warranty", r"[Ll]ess than (\d+) %|\| (\d+) % of capacity", "70",
     ["lamp-battery", "warranty-terms"]),
]  # fmt: skip


@pytest.mark.parametrize("article_id", IDS)
def test_an_article_is_long_enough_to_answer_from_and_short_enough_to_read(article_id):
    article = desk.article(article_id)

    assert 120 <= len(article.body.split()) <= 400
    assert article.title[0].isupper()
    assert not article.title.endswith(".")
    assert date(2024, 1, 1) <= article.updated <= date(2026, 3, 16)
    assert "€" not in article.body  # amounts are written one way, EUR first
    assert len(article.keywords) >= 8
    for line in filter(None, article.body.splitlines()):  # whole lines, so that a quoted sentence is whole
        assert line.startswith(("|", "- ", "1", "2", "3", "4", "5")) or line.endswith((".", ":", "]"))


def test_a_reference_by_title_names_an_article_that_exists():
    titles = {article.title for article in desk.articles()}
    named = [
        (article.id, title)
        for article in desk.articles()
        for title in re.findall(r'(?:see|See also|read|[Ss]uch as|on|and) "([A-Z][^"]+)"', article.body)
        if " " in title
    ]

    assert len(named) >= 15
    assert [(source, title) for source, title in named if title not in titles] == []


@pytest.mark.parametrize(
    ("pattern", "value", "where"), [fact[1:] for fact in FACTS], ids=[fact[0] for fact in FACTS]
)
def test_a_number_told_in_several_articles_is_the_same_in_all(pattern, value, where):
    found = {
        (article.id, match[match.lastindex])
        for article in desk.articles()
        for match in re.finditer(pattern, article.body, re.MULTILINE)
        if article.id != "newsletter" or "LANTERN10" in pattern  # out of date on purpose: see the data card
    }

    assert {number for _, number in found} == {value}
    assert {article_id for article_id, _ in found} == set(where)


def test_the_out_of_date_sentences_are_the_ones_in_the_data_card():
    assert "free shipping from EUR 50" in desk.article("newsletter").body
    assert "the limit of EUR 60 applies" in desk.article("shipping-costs").body
    assert "within 14 days of delivery. [Note" in desk.article("exchange-item").body
    assert "still says 14 days, this page applies" in desk.article("return-policy").body


def test_a_chunk_starts_with_the_id_that_a_citation_names_and_an_unknown_id_is_answered_with_the_known():
    chunk = desk.article("return-policy").chunk

    assert chunk.startswith("[return-policy] Our return policy\nYou can return any item within 30 days")
    with pytest.raises(CourseError, match=r"'retunr-policy'; known: boot-sizing, "):
        desk.article("retunr-policy")


@pytest.mark.parametrize(
    "text",
    [
        "No head at all.",
        "---\ntitle: Hours\n---\nAlways open.",
        "---\ntitle: Hours\nupdated: soon\n---\nAlways open.",
    ],
    ids=["no head", "no date", "not a date"],
)
def test_a_broken_file_says_what_its_head_needs(text):
    with pytest.raises(help_centre.ArticleError, match=r"'hours' .* a line such as 'updated: 2026-02-01'"):
        help_centre.parse("hours", text)


def test_there_are_31_articles_also_after_somebody_cleared_the_list():
    desk.articles().clear()

    assert len(desk.articles()) == len(IDS) == 31
