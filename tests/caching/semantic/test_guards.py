from __future__ import annotations

import tomllib
from collections import Counter

import pytest

from course_lib import desk
from course_lib.caching.semantic import SemanticCache, labelled_pairs, refusal
from course_lib.paths import ROOT

REFUSED = {
    "another order": ("Where is order O-10154?", "Where is order O-10145?", "numbers"),
    "another country": ("Is delivery to Norway possible?", "Do you ship to Sweden?", "terms"),
    "a country more": ("What is the postage to Norway?", "How much is shipping?", "terms"),
    "another product": ("May the Glow Max get wet?", "Is the Glow waterproof?", "terms"),
    "not": ("My parcel did not come.", "The parcel has come.", "terms"),
    "off and on": ("Where do I switch off the alerts?", "How can I turn on alerts?", "terms"),
    "other way round": ("How many euros per point?", "How many points per euro?", "order"),
    "to and from": ("Do parcels go to Lisbon?", "Are parcels sent from Lisbon?", "marks"),
    "another mark": ("Is A+ the best class of tents?", "Is A++ the best class of tents?", "marks"),
    "a mark less": ("What does energy class B- mean?", "What does energy class B mean?", "marks"),
    "more stars": ("Do you have hotels of ***?", "Do you have hotels of *****?", "marks"),
    "a country in capitals": ("Can you send a label to US?", "Can you send a label to us?", "marks"),
    "time and price": ("How long does a repair take?", "What is the price of a repair?", "terms"),
}
ALLOWED = {
    "two weeks are 14 days": ("Is a return fine within two weeks?", "Can I return it in 14 days?"),
    "two spellings of a country": ("Do you ship to Britain?", "Is delivery to the United Kingdom possible?"),
    "a number said in words": ("How come you charged me twice?", "Why did you take the money two times?"),
    "capitals and marks": ("HOW DO I RETURN A TENT", "How do I return a tent?"),
    "a greeting": ("Hi, how do I return a tent? Thanks!", "How do I return a tent?"),
    "a curly apostrophe": ("I don\u2019t get mails", "I don't get mails"),
    "punctuation": ("Tents \u2013 how do I return one\u2026", "Tents - how do I return one?!"),
    "us is not the USA": ("Can you send us a label?", "Could I get a label?"),
}


@pytest.mark.parametrize(("asked", "cached", "guard"), REFUSED.values(), ids=REFUSED)
def test_a_pair_with_another_answer_is_refused_both_ways(asked, cached, guard):
    there, back = refusal(asked, cached), refusal(cached, asked)

    assert there is not None
    assert back is not None
    assert there.guard == back.guard == guard
    assert there.reason


@pytest.mark.parametrize(("asked", "cached"), ALLOWED.values(), ids=ALLOWED)
def test_a_pair_that_says_the_same_is_let_through(asked, cached):
    assert refusal(asked, cached) is None


def test_of_each_kind_of_near_miss_at_most_one_in_twenty_is_answered_with_all_questions_in_one_cache():
    lines = (ROOT / "tests/caching/semantic/near_misses.txt").read_text("utf-8").splitlines()
    groups = [line.split(" | ") for line in lines]
    cache = SemanticCache(threshold=0.684)
    for _, cached, *_ in groups:
        cache.put(cached, cached, tenant="t")

    served = Counter(kind for kind, *_, near_miss in groups if cache.get(near_miss, tenant="t"))
    hits = [cache.get(same, tenant="t") for *_, same, _ in groups]
    right = [bool(hit) and hit.answer == cached for hit, (_, cached, *_) in zip(hits, groups, strict=True)]

    assert {kind: count for kind, count in served.items() if count > 1} == {}  # of 20
    assert sum(right) >= 0.6 * len(groups)


def test_no_question_is_refused_for_itself():
    for question in {text for pair in labelled_pairs("test") for text in (pair.asked, pair.cached)}:
        assert refusal(question, question) is None
        assert refusal(question.upper(), question) is None


def test_every_product_name_of_the_vocabulary_stands_in_the_catalogue():
    vocabulary = tomllib.loads((ROOT / "course_lib/caching/semantic/data/vocabulary.toml").read_text("utf-8"))
    catalogue = " ".join(product.name.lower() for product in desk.products())

    names = [name for line in vocabulary["strict"]["product"] for name in line.split(", ")]
    assert [name for name in names if name not in catalogue] == []
