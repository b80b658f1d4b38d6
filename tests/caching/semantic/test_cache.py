from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

from course_lib import lm
from course_lib.caching import scope
from course_lib.caching.semantic import SemanticCache, SemanticCacheError

from .conftest import bag


def cache_of(**options) -> SemanticCache:
    return SemanticCache(bag, **({"threshold": 0.9, "guards": ()} | options))


def counted(cache: SemanticCache, *names: str) -> list[int]:
    return [cache.stats().get(name, 0) for name in names]


def test_another_wording_is_answered_without_computing_again():
    cache = SemanticCache(threshold=0.6)
    computed = []

    def compute(question):
        computed.append(question)
        return "5 days"

    first = cache.ask("How long does a refund take?", compute, tenant="lantern")
    again = cache.ask("When do I get my money back after a return?", compute, tenant="lantern")

    assert (first, again) == ("5 days", "5 days")
    assert computed == ["How long does a refund take?"]
    assert cache.stats() == {"hits": 1, "misses": 1, "puts": 1, "evicted": 0, "expired": 0}


def test_a_guard_stops_what_the_vectors_would_serve():
    cache = SemanticCache(threshold=0.6)
    cache.put("Do you ship to Norway?", "yes", tenant="lantern")

    assert cache.get("Do you ship to Iceland?", tenant="lantern") is None
    assert counted(cache, "refused by terms", "misses") == [1, 1]
    (seen,) = cache.explain("Do you ship to Iceland?", tenant="lantern")
    assert (seen.question, seen.refused_by) == ("Do you ship to Norway?", "terms")
    assert seen.similarity > 0.6


def test_the_second_best_is_tried_when_the_best_is_refused():
    cache = cache_of(threshold=0.7, guards=(lambda asked, cached: "no lamps" if "lamp" in cached else "",))
    cache.put("tent lamp shipping", "a lamp's answer", tenant="t")
    cache.put("tent shipping", "right", tenant="t")

    hit = cache.get("tent lamp shipping!", tenant="t")

    assert hit is not None
    assert hit.answer == "right"


@pytest.mark.parametrize(("threshold", "near"), [(0.99, "tent tent tent tent"), (1.0, "tent")])
def test_vectors_of_any_length_are_compared_by_direction(threshold, near):
    cache = cache_of(threshold=threshold)
    cache.put("tent", "a", tenant="t")

    assert cache.get(near, tenant="t") is not None
    assert cache.get("tent lamp lamp lamp lamp lamp", tenant="t") is None


# -- partitions -----------------------------------------------------------------------------------------

OWN = {"tenant": "a", "version": "1", "partition": ("de", "mobile")}


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "b"},
        {"version": "2"},
        {"version": "de"},
        {"partition": ("de",)},
        {"partition": ("demobile",)},
        {"partition": ("de", "mobile", "")},
        {"tenant": "a1", "version": "", "partition": ("de", "mobile")},
    ],
    ids=str,
)
def test_another_partition_gets_nothing_however_low_the_threshold(other):
    cache = cache_of(threshold=1e-6)
    cache.put("tent", "x", **OWN)

    assert cache.get("tent", **OWN) is not None
    assert cache.get("tent", **(OWN | other)) is None
    assert cache.explain("tent", **(OWN | other)) == []


def test_what_a_call_does_not_name_is_taken_from_the_scope():
    cache = cache_of()
    with scope(tenant="a", customer="C-1", version="7"):
        cache.put("tent", "x")

        assert cache.get("tent") is not None
        assert cache.get("tent", tenant="b") is None
    for other in ({"customer": "C-2", "version": "7"}, {"version": "7"}):
        with scope(tenant="a", **other):
            assert cache.get("tent") is None


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "belongs to one tenant"),
        ({"tenant": ""}, "belongs to one tenant"),
        ({"tenant": 7}, "belongs to one tenant"),
        ({"tenant": "a", "partition": "de"}, "no list of texts"),
    ],
    ids=str,
)
def test_without_a_partition_that_is_clear_nothing_is_kept_or_served(where, message):
    cache = cache_of()

    for call in (lambda: cache.put("tent", "x", **where), lambda: cache.get("tent", **where)):
        with pytest.raises(SemanticCacheError, match=message):
            call()


def test_under_load_each_tenant_gets_its_own_answers_only():
    cache = cache_of(threshold=0.5, max_entries=5, max_partitions=6)
    questions = ["tent", "lamp", "tent lamp", "refund", "shipping norway", "password", "how long", "how much"]
    foreign = []

    def customer(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(150):
            tenant, question = draw.choice("abcdefgh"), draw.choice(questions)
            answer = cache.ask(question, lambda asked, whose=tenant: (whose, asked), tenant=tenant)
            if answer[0] != tenant:
                foreign.append((tenant, answer))
            if draw.random() < 0.02:
                cache.forget(tenant=tenant)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(customer, range(16)))

    assert foreign == []
    assert cache.stats()["hits"] > 100
    assert len(cache) <= 30


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
    assert (cache.forget(), len(cache)) == (1, 0)


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
        ("How many points?", dspy.Prediction(answer="841", trajectory={"tool_name_0": "points"}), "tools"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_belongs_to_one_customer_or_one_moment_is_not_kept(question, answer, why):
    cache = cache_of()

    assert cache.put(question, answer, tenant="a") is False
    assert counted(cache, f"kept out: {why}", "puts") == [1, 0]
    assert len(cache) == 0


def test_a_question_with_an_order_number_is_not_even_looked_up():
    cache = cache_of(threshold=0.1)
    cache.put("Where is my tent?", "here", tenant="a")

    assert cache.get("Where is my tent of O-10154?", tenant="a") is None
    assert counted(cache, "kept out: order number", "misses") == [1, 1]


@pytest.mark.parametrize("is_async", [False, True])
def test_an_answer_is_not_kept_when_a_tool_was_called_for_it_however_deep(is_async):
    stock = dspy.Tool(lambda sku: f"3 of {sku}", name="stock")

    class Answer(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(answer=stock(sku="TN-100"))

        async def aforward(self, question):
            return dspy.Prediction(answer=await stock.acall(sku="TN-100"))

    cache = cache_of()
    if is_async:
        answer = asyncio.run(
            cache.ask_async("How many tents?", lambda q: Answer().acall(question=q), tenant="a")
        )
    else:
        answer = cache.ask("How many tents?", lambda q: Answer()(question=q), tenant="a")

    assert answer.answer == "3 of TN-100"
    assert (len(cache), counted(cache, "kept out: tools")) == (0, [1])


@pytest.mark.parametrize("agent", [dspy.ReAct, dspy.ReActV2])
def test_what_dspy_s_agents_answer_is_known_by_its_fields(agent):
    def weather(city: str) -> str:
        """Return the weather of a city."""
        return f"sunny in {city}"

    question = "What is the weather in Oslo?"
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        answer = agent("question -> answer", tools=[weather])(question=question)

    assert cache_of().put(question, answer, tenant="a") is False


def test_an_error_is_not_kept():
    cache = cache_of()

    with pytest.raises(ZeroDivisionError):
        cache.ask("tent", lambda _: 1 / 0, tenant="a")
    assert len(cache) == 0


def test_without_embeddings_questions_are_computed_and_not_lost():
    is_down = [False]

    def embed(texts):
        if is_down[0]:
            raise ConnectionError
        return bag(texts)

    cache = SemanticCache(embed, threshold=0.9)
    cache.put("tent", "cached", tenant="a")
    is_down[0] = True

    assert cache.ask("tent", lambda _: "computed", tenant="a") == "computed"
    assert counted(cache, "embedding failed") == [2]
    is_down[0] = False
    assert cache.ask("tent", lambda _: "computed", tenant="a") == "cached"


def test_a_new_answer_takes_the_place_of_the_old_one_and_changing_it_changes_nobody_else_s():
    cache = cache_of()
    cache.put("tent", "old", tenant="a")
    answer = {"articles": ["tent-care"]}
    cache.put("tent", answer, tenant="a")
    answer["articles"].append("mine")

    cache.get("tent", tenant="a").answer["articles"].clear()

    assert (cache.get("tent", tenant="a").answer, len(cache)) == ({"articles": ["tent-care"]}, 1)


# -- limits ---------------------------------------------------------------------------------------------


def test_an_answer_is_served_until_its_time_is_over(clock):
    cache = cache_of(ttl_s=60, clock=clock)
    cache.put("tent", "x", tenant="a")

    clock.now_s += 59
    hit = cache.get("tent", tenant="a")
    clock.now_s += 1

    assert hit.age_s == 59
    assert cache.get("tent", tenant="a") is None
    assert (counted(cache, "expired"), len(cache)) == ([1], 0)


def test_an_old_answer_does_not_hide_a_fresh_one(clock):
    cache = cache_of(threshold=0.5, ttl_s=60, candidates=1, clock=clock)
    cache.put("tent", "old", tenant="a")
    clock.now_s += 59
    cache.put("tent lamp", "fresh", tenant="a")
    clock.now_s += 1

    assert cache.get("tent", tenant="a").answer == "fresh"


def test_the_one_unused_for_longest_makes_room_and_each_answer_keeps_its_own_vector():
    cache = cache_of(max_entries=2)
    cache.put("tent", 1, tenant="a")
    cache.put("lamp", 2, tenant="a")
    cache.get("tent", tenant="a")

    cache.put("refund", 3, tenant="a")

    assert cache.get("lamp", tenant="a") is None
    assert [cache.get(question, tenant="a").answer for question in ("tent", "refund")] == [1, 3]
    assert (len(cache), counted(cache, "evicted")) == (2, [1])


def test_a_tenant_that_writes_much_does_not_crowd_out_another_but_unused_partitions_go():
    cache = cache_of(max_entries=2, max_partitions=2)
    cache.put("tent", 1, tenant="quiet")
    for number in range(50):
        cache.put(f"tent {number}", number, tenant="loud")
    assert cache.get("tent", tenant="quiet") is not None

    cache.put("tent", 1, tenant="third")

    found = [tenant for tenant in ("loud", "quiet", "third") if cache.get("tent", tenant=tenant)]
    assert found == ["quiet", "third"]


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"threshold": 1.2}, {"max_entries": 0}], ids=str)
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SemanticCacheError):
        cache_of(**wrong)


# -- guards that judge ----------------------------------------------------------------------------------


def test_a_guard_that_fails_costs_a_hit_and_no_answer():
    def judge(asked: str, cached: str) -> str:
        raise ConnectionError

    cache = cache_of(guards=(judge,))
    cache.put("tent", "x", tenant="a")

    assert cache.ask("tent", lambda _: "computed", tenant="a") == "computed"
    assert counted(cache, "refused by error") == [1]


def test_what_is_forgotten_while_a_guard_is_at_work_is_not_served():
    cache = cache_of(guards=(lambda *_: cache.forget() and "",))
    cache.put("tent", "x", tenant="a")

    assert cache.get("tent", tenant="a") is None
    assert counted(cache, "hits", "misses") == [0, 1]


# -- asynchronous ---------------------------------------------------------------------------------------


def test_asking_in_a_loop_computes_once_and_keeps_the_scope():
    cache = cache_of()
    computed = []

    async def compute(question: str) -> str:
        computed.append(question)
        return question.upper()

    async def both() -> list[str]:
        with scope(tenant="a"):
            return [await cache.ask_async(question, compute) for question in ("tent", "tent tent")]

    assert asyncio.run(both()) == ["TENT", "TENT"]
    assert computed == ["tent"]


def test_the_loop_goes_on_while_a_question_is_embedded():
    may_go_on = threading.Event()

    def slow(texts):
        assert may_go_on.wait(30), "the loop stood still while a text was embedded"
        return bag(texts)

    cache = SemanticCache(slow, threshold=0.9, guards=())

    async def compute(question: str) -> str:
        return question

    async def run() -> str:
        answer = asyncio.create_task(cache.ask_async("tent", compute, tenant="a"))
        await asyncio.sleep(0)
        may_go_on.set()
        return await answer

    assert asyncio.run(run()) == "tent"
