from __future__ import annotations

import re
from collections import Counter

import pytest

from course_lib.desk import records

TICKETS = records.tickets()
CUSTOMERS = {customer.id: customer for customer in records.customers()}
SIZES = {"train": 80, "dev": 30, "test": 50}
TEST_CARDS = {  # numbers that payment providers publish for testing; no bank issues them
    *("4242424242424242", "4111111111111111", "4000000000000002", "5555555555554444", "378282246310005")
}
FICTIONAL_PHONES = (  # ranges that the regulators of GB, US, DE and FR keep for films and books
    r"020 7946 0\d{3}",
    r"555-01\d\d",
    r"030 23125 \d{3}",
    r"01 99 00 \d\d \d\d",
)
ARTICLES = {path.stem for path in (records.DATA / "articles").glob("*.md")}


def test_there_are_160_tickets_in_three_parts_from_four_words_to_more_than_150_and_none_comes_twice() -> None:
    parts = {split: {ticket.id for ticket in records.tickets(split)} for split in records.SPLITS}
    words = Counter(" ".join(re.findall(r"\w+", ticket.text.lower())) for ticket in TICKETS)
    lengths = [len(ticket.text.split()) for ticket in TICKETS]

    assert {split: len(ids) for split, ids in parts.items()} == SIZES
    assert set.union(*parts.values()) == {f"T-{n:04}" for n in range(1, 161)}
    assert [text for text, count in words.items() if count > 1] == []
    assert min(lengths) <= 4
    assert max(lengths) >= 150


def test_every_article_is_of_one_category_and_answers_a_ticket_of_the_train_part() -> None:
    pairs = {(ticket.article, ticket.category) for ticket in TICKETS if ticket.article}

    assert {ticket.article for ticket in records.tickets("train")} == ARTICLES | {None}
    assert len(pairs) == len(ARTICLES) == 31


def test_customer_order_dates_names_and_streets_of_a_ticket_belong_together() -> None:
    orders = {order.id: order for order in records.orders()}

    for ticket in TICKETS:
        order = orders[ticket.order_id] if ticket.order_id else None
        parcels = {parcel.tracking_number for parcel in order.shipments} if order else set()
        assert CUSTOMERS[ticket.customer_id].joined <= ticket.received.date() < records.TODAY, ticket.id
        assert order is None or order.customer_id == ticket.customer_id, ticket.id
        assert order is None or order.placed < ticket.received, ticket.id
        assert set(re.findall(r"O-\d{5}", ticket.text)) <= {ticket.order_id}, ticket.id
        assert set(re.findall(r"NP\d+", ticket.text)) <= parcels, ticket.id
        sender = CUSTOMERS[ticket.customer_id]
        for other in CUSTOMERS.values():
            assert other.name not in ticket.text or other.name == sender.name, ticket.id
            # one parcel goes to a friend who is a customer as well, and the ticket says so
            assert other.street not in ticket.text or other is sender or "c/o" in ticket.text, ticket.id


EXAMPLES = {"example.com", "example.org", "example.net"}
CARD = r"\b\d(?:[ -]?\d){12,18}\b"


def test_what_could_reach_somebody_is_kept_for_examples() -> None:
    site = r"https?:|www\.|\w\.(com|de|net|org|eu|co\.uk|fr)\b(?<!example....)"

    for ticket in TICKETS:
        phones = re.sub("|".join((*FICTIONAL_PHONES, CARD, r"(NP|BE)\d+")), "", ticket.text)
        assert set(re.findall(r"@([\w.-]+\w)", ticket.text)) <= EXAMPLES, ticket.id
        assert not re.search(site, ticket.text), ticket.id
        assert not re.search(r"\d(?:[ /-]?\d){6,}", phones), ticket.id
    cards = {re.sub(r"\D", "", number) for ticket in TICKETS for number in re.findall(CARD, ticket.text)}
    assert cards
    assert cards <= TEST_CARDS


def test_an_unknown_part_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(records.RecordError, match=r"'valid'; choose one of train, dev, test"):
        records.tickets("valid")  # type: ignore[arg-type]
