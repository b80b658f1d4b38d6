from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import dspy
import numpy as np
import pytest

from course_lib import lm
from course_lib.caching import scope
from course_lib.caching.semantic import SemanticCache, SemanticCacheError
from tests.caching.conftest import Clock

WORDS = ("norway", "shipping", "refund", "tent", "lamp", "password", "how", "long", "much")


def bag(texts: Sequence[str]) -> np.ndarray:
    """Embed by counting a few words, longer texts longer: quick, and not of unit length."""
    rows = [[text.lower().count(word) for word in WORDS] for text in texts]
    return np.array(rows, np.float32) * 3 + 0.01


def cache_of(**options) -> SemanticCache:
    return SemanticCache(bag, **({"threshold": 0.9, "guards": ()} | options))


def counted(cache: SemanticCache, *names: str) -> list[int]:
    return [cache.stats().get(name, 0) for name in names]


def test_another_wording_is_answered():
    cache = SemanticCache(threshold=0.6)
    cache.put("How long does a refund take?", "5 days", tenant="lantern")

    hit = cache.get("When do I get my money back after a return?", tenant="lantern")

    assert (hit.answer, hit.question) == ("5 days", "How long does a refund take?")
    assert cache.get("Do you sell boots?", tenant="lantern") is None
    assert cache.stats() == {"hits": 1, "misses": 1, "puts": 1}


def test_a_guard_stops_what_the_vectors_would_serve():
    cache = SemanticCache(threshold=0.6)
    cache.put("Do you ship to Norway?", "yes", tenant="lantern")

    assert cache.get("Do you ship to Iceland?", tenant="lantern") is None
    assert counted(cache, "refused by terms", "misses") == [1, 1]
    seen = cache.explain("Do you ship to Iceland?", tenant="lantern")
    assert (seen.question, seen.refused_by) == ("Do you ship to Norway?", "terms")
    assert seen.similarity > 0.6


# -- partitions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [{"tenant": "b"}, {"version": "2"}, {"tenant": "a1", "version": ""}], ids=str
)
def test_another_partition_gets_nothing_however_low_the_threshold(other):
    own, cache = {"tenant": "a", "version": "1"}, cache_of(threshold=1e-6)
    cache.put("tent", "x", **own)

    assert cache.get("tent", **own) is not None
    assert cache.get("tent", **(own | other)) is None
    assert cache.explain("tent", **(own | other)) is None


@pytest.mark.parametrize("where", [{}, {"tenant": ""}, {"tenant": 7}], ids=str)
def test_without_a_tenant_nothing_is_kept_or_served(where):
    for call in (lambda: cache_of().put("tent", "x", **where), lambda: cache_of().get("tent", **where)):
        with pytest.raises(SemanticCacheError, match="belongs to one tenant"):
            call()


def test_under_load_each_tenant_gets_its_own_answers_only():
    cache = cache_of(threshold=0.5, max_entries=5, max_partitions=6)
    questions = ["tent", "lamp", "tent lamp", "refund", "shipping norway", "password", "how long", "how much"]

    def customer(seed: int) -> list[tuple[str, str]]:
        draw, served = random.Random(seed), []
        for _ in range(150):
            tenant, question = draw.choice("abcdefgh"), draw.choice(questions)
            if hit := cache.get(question, tenant=tenant):
                served.append((tenant, hit.answer))
            else:
                cache.put(question, tenant, tenant=tenant)
            if draw.random() < 0.02:
                cache.forget(tenant=tenant)
        return served

    with ThreadPoolExecutor(16) as pool:
        served = [each for some in pool.map(customer, range(16)) for each in some]

    assert [tenant for tenant, answer in served if tenant != answer] == []
    assert cache.stats()["hits"] == len(served) > 100
    assert cache.forget() <= 30


def test_what_a_call_does_not_name_is_taken_from_the_scope():
    cache = cache_of()
    with scope(tenant="a", customer="C-1", version="7"):
        cache.put("tent", "x")

        assert cache.get("tent") is not None
        assert cache.get("tent", tenant="b") is None
    for other in ({"customer": "C-2", "version": "7"}, {"version": "7"}):
        with scope(tenant="a", **other):
            assert cache.get("tent") is None


def test_forgetting_reaches_a_tenant_a_version_or_a_customer():
    cache = cache_of()
    for tenant in "ab":
        for version in "12":
            cache.put("tent", "x", tenant=tenant, version=version)
    with scope(tenant="a", customer="C-1"):
        cache.put("tent", "x")

    assert cache.forget(customer="C-1") == 1
    assert cache.forget(tenant="a", version="1") == 1
    assert cache.get("tent", tenant="a", version="2") is not None
    assert cache.forget(version="2") == 2
    assert (cache.forget(), cache.forget()) == (1, 0)


# -- what is kept ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "answer", "why"),
    [
        ("Where is O-10154?", "on its way", "order number"),
        ("Where is NP400213517?", "in a depot", "tracking number"),
        ("Where is my parcel?", "Order O-10154 is at customs.", "order number"),
        ("Who am I?", dspy.Prediction(answer="You are zoe.lindqvist@example.com"), "e-mail address"),
        ("Is my card 4242 4242 4242 4242 blocked?", "no", "card number"),
        ("Which mails?", {"found": ["a", ("b@example.org",)]}, "e-mail address"),
        ("Which orders?", {"found": [{"O-10154": "sent"}]}, "order number"),
        ("Where is \uff2f\uff0d\uff11\uff10\uff11\uff15\uff14?", "sent", "order number"),  # full-width
        *(
            (f"Where is O{sign}10154?", "", "order number")
            for sign in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
        ),
        ("How many points?", dspy.Prediction(answer="841", trajectory={"tool_name_0": "points"}), "tools"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_belongs_to_one_customer_or_one_moment_is_not_kept(question, answer, why):
    cache = cache_of(threshold=0.1)

    assert cache.put(question, answer, tenant="a") is False
    assert counted(cache, f"kept out: {why}", "puts") == [1, 0]
    assert cache.forget() == 0

    cache.put("Where is my tent?", "here", tenant="a")
    assert cache.get("Where is my tent of O-10154?", tenant="a") is None  # is not even looked up


@pytest.mark.parametrize("agent", [dspy.ReAct, dspy.ReActV2])
def test_what_dspy_s_agents_answer_is_known_by_its_fields(agent):
    def weather(city: str) -> str:
        """Return the weather of a city."""
        return f"sunny in {city}"

    question = "What is the weather in Oslo?"
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        answer = agent("question -> answer", tools=[weather])(question=question)

    assert cache_of().put(question, answer, tenant="a") is False


def test_without_embeddings_nothing_is_served_and_no_error_is_raised():
    is_down = [False]

    def embed(texts):
        if is_down[0]:
            raise ConnectionError
        return bag(texts)

    cache = SemanticCache(embed, threshold=0.9)
    cache.put("tent", "cached", tenant="a")
    is_down[0] = True

    assert cache.get("tent", tenant="a") is None
    assert cache.put("lamp", "x", tenant="a") is False
    is_down[0] = False
    assert cache.get("tent", tenant="a").answer == "cached"


def test_a_new_answer_takes_the_place_of_the_old_one_and_changing_it_changes_nobody_else_s():
    cache = cache_of()
    cache.put("tent", "old", tenant="a")
    answer = {"articles": ["tent-care"]}
    cache.put("tent", answer, tenant="a")
    answer["articles"].append("mine")

    cache.get("tent", tenant="a").answer["articles"].clear()

    assert (cache.get("tent", tenant="a").answer, cache.forget()) == ({"articles": ["tent-care"]}, 1)


# -- limits ---------------------------------------------------------------------------------------------


def test_an_answer_is_served_until_its_time_is_over_and_does_not_hide_a_fresh_one():
    clock = Clock()
    cache = cache_of(threshold=0.5, ttl_s=60, clock=clock)
    cache.put("tent", "old", tenant="a")
    clock.now_s += 59
    assert cache.get("tent", tenant="a").answer == "old"
    cache.put("tent lamp", "fresh", tenant="a")
    clock.now_s += 1

    assert cache.get("tent", tenant="a").answer == "fresh"
    clock.now_s += 59
    assert cache.get("tent", tenant="a") is None


def test_a_tenant_that_writes_much_does_not_crowd_out_another_but_unused_partitions_go():
    cache = cache_of(max_entries=2, max_partitions=2)
    for number, question in enumerate(("tent", "lamp", "refund")):
        cache.put(question, number, tenant="quiet")
        cache.get("tent", tenant="quiet")
    answers = [cache.get(question, tenant="quiet") for question in ("lamp", "refund", "tent")]
    assert [hit and hit.answer for hit in answers] == [None, 2, 0]
    for number in range(50):
        cache.put(f"tent {number}", number, tenant="loud")
    assert cache.get("tent", tenant="quiet") is not None

    cache.put("tent", 1, tenant="third")

    found = [tenant for tenant in ("loud", "quiet", "third") if cache.get("tent", tenant=tenant)]
    assert found == ["quiet", "third"]


# -- guards that judge ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "guard",
    [
        lambda asked, cached, cache: "no lamps" if "lamp" in cached else "",
        lambda asked, cached, cache: 1 / 0,
        lambda asked, cached, cache: cache.forget() and "",
    ],
    ids=["refuses the nearest, though another is near", "fails", "forgets while it works"],
)
def test_a_guard_decides_what_is_served(guard):
    cache = cache_of(threshold=0.7, guards=(lambda asked, cached: guard(asked, cached, cache),))
    cache.put("tent lamp shipping", "a lamp's answer", tenant="t")
    cache.put("tent shipping", "a tent's answer", tenant="t")

    assert cache.get("tent lamp shipping!", tenant="t") is None
    assert counted(cache, "hits", "misses") == [0, 1]


# -- what the embedding does not read ---------------------------------------------------------------------

LONG = "Our tour goes from hut to hut. " * 40
UNREAD = {
    "signs": ("\U0001f600", "\U0001f622"),
    "a sign in a sentence": ("The tent \U0001f44d?", "The tent \U0001f44e?"),
    "Thai": ("\u0e2a\u0e48\u0e07", "\u0e04\u0e37\u0e19"),
    "nothing": ("", " \n"),
    "marks": ("?", "!"),
    "the end of a long one": (f"{LONG} May we bring a dog?", f"{LONG} Is there a stove?"),
}


@pytest.mark.parametrize(("asked", "cached"), UNREAD.values(), ids=UNREAD)
def test_what_the_embedding_does_not_read_is_neither_kept_nor_looked_up(asked, cached):
    cache = SemanticCache(threshold=0.5, guards=())

    assert not cache.put(cached, "x", tenant="t")
    assert cache.get(asked, tenant="t") is None
    assert counted(cache, "kept out: not read by the embedding", "misses", "puts") == [2, 1, 0]


def test_other_latin_letters_and_a_broken_text_do_no_harm():
    cache = SemanticCache(threshold=0.5)

    assert cache.put("Do you ship to Troms\u00f8?", "yes", tenant="t")
    assert cache.get("Do you ship to Troms\u00f8?", tenant="t") is not None
    assert cache.get("Where is \udc80?", tenant="t") is None
