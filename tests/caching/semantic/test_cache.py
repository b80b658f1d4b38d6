from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

from course_lib.caching import scope
from course_lib.caching.semantic.cache import SemanticCache, SemanticCacheError

from .conftest import bag


def cache_of(**options) -> SemanticCache:
    return SemanticCache(bag, **({"threshold": 0.9, "guards": ()} | options))


def test_another_wording_is_answered_without_computing_again():
    cache = SemanticCache(threshold=0.6)
    computed = []

    first = cache.ask("How long does a refund take?", computed.append, tenant="lantern")
    cache.put("How long does a refund take?", "5 days", tenant="lantern")
    again = cache.ask("When do I get my money back after a return?", computed.append, tenant="lantern")

    assert (first, again) == (None, "5 days")
    assert computed == ["How long does a refund take?"]


def test_a_guard_stops_what_the_vectors_would_serve():
    cache = SemanticCache(threshold=0.6)
    cache.put("Do you ship to Norway?", "yes", tenant="lantern")

    assert cache.get("Do you ship to Iceland?", tenant="lantern") is None
    assert cache.stats().refused_by == {"kinds": 1}
    (seen,) = cache.explain("Do you ship to Iceland?", tenant="lantern")
    assert (seen.question, seen.refused_by) == ("Do you ship to Norway?", "kinds")
    assert seen.similarity > 0.6


def test_the_second_best_is_tried_when_the_best_is_refused():
    cache = cache_of(guards=(lambda asked, cached: "no lamps" if "lamp" in cached else "",))
    cache.put("tent lamp shipping", "a lamp's answer", tenant="t")
    cache.put("tent shipping", "right", tenant="t")

    hit = cache.get("tent lamp shipping!", tenant="t")

    assert cache.threshold == 0.9
    assert hit is None or hit.answer == "right"
    lower = cache_of(threshold=0.7, guards=cache.guards)
    lower.put("tent lamp shipping", "a lamp's answer", tenant="t")
    lower.put("tent shipping", "right", tenant="t")
    found = lower.get("tent lamp shipping!", tenant="t")
    assert found is not None
    assert found.answer == "right"


def test_vectors_of_any_length_are_compared_by_direction():
    cache = cache_of(threshold=0.99)
    cache.put("tent", "a", tenant="t")

    assert cache.get("tent tent tent tent", tenant="t") is not None
    assert cache.get("tent lamp lamp lamp lamp lamp", tenant="t") is None


def test_the_same_question_is_a_hit_at_threshold_one():
    cache = SemanticCache(threshold=1.0)
    cache.put("How do I reset my password?", "so", tenant="t")

    assert cache.get("How do I reset my password?", tenant="t") is not None


# -- partitions -----------------------------------------------------------------------------------------


def test_another_tenant_gets_nothing_however_low_the_threshold():
    cache = cache_of(threshold=1e-6)
    cache.put("tent", "of a", tenant="a")

    assert cache.get("tent", tenant="b") is None
    assert cache.explain("tent", tenant="b") == []


@pytest.mark.parametrize(
    "other",
    [{"version": "2"}, {"partition": ("de",)}, {"version": "de"}, {"partition": ("1", "de")}],
    ids=str,
)
def test_version_and_partition_are_walls_too(other):
    cache = cache_of()
    cache.put("tent", "x", tenant="a", version="1", partition=("de", "mobile"))

    assert cache.get("tent", tenant="a", version="1", partition=("de", "mobile")) is not None
    assert (
        cache.get("tent", **({"tenant": "a", "version": "1", "partition": ("de", "mobile")} | other)) is None
    )


def test_parts_of_a_partition_do_not_run_into_one_another():
    cache = cache_of()
    cache.put("tent", "x", tenant="a", partition=("b", "c"))

    assert cache.get("tent", tenant="a", partition=("bc",)) is None
    assert cache.get("tent", tenant="a", partition=("b", "c", "")) is None
    assert cache.get("tent", tenant="ab", partition=("c",)) is None


def test_what_a_call_does_not_name_is_taken_from_the_scope():
    cache = cache_of()
    with scope(tenant="a", customer="C-1", version="7"):
        cache.put("tent", "x")

        assert cache.get("tent") is not None
        assert cache.get("tent", tenant="b") is None
    with scope(tenant="a", customer="C-2", version="7"):
        assert cache.get("tent") is None
    with scope(tenant="a", version="7"):
        assert cache.get("tent") is None


@pytest.mark.parametrize("tenant", [None, "", 7])
def test_without_a_tenant_nothing_is_kept_or_served(tenant):
    cache = cache_of()

    for call in (lambda: cache.put("tent", "x", tenant=tenant), lambda: cache.get("tent", tenant=tenant)):
        with pytest.raises(SemanticCacheError, match="belongs to one tenant"):
            call()


def test_a_text_is_no_partition():
    with pytest.raises(SemanticCacheError, match="no list of texts"):
        cache_of().get("tent", tenant="a", partition="de")


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
    assert cache.stats().hits > 100
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
    ids=lambda thing: str(thing)[:30],
)
def test_what_belongs_to_one_customer_or_one_moment_is_not_kept(question, answer, why):
    cache = cache_of()

    assert cache.put(question, answer, tenant="a") is False
    assert cache.stats().not_kept == {why: 1}
    assert len(cache) == 0


def test_an_answer_is_not_kept_when_a_tool_was_called_for_it_however_deep():
    stock = dspy.Tool(lambda sku: f"3 of {sku}", name="stock")

    class Told(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(answer=f"There are {stock(sku='TN-100')}.")

    cache = cache_of()

    answer = cache.ask("How many tents are there?", lambda asked: Told()(question=asked), tenant="a")

    assert answer.answer == "There are 3 of TN-100."
    assert (len(cache), cache.stats().not_kept) == (0, {"tools": 1})


def test_an_agent_that_is_awaited_is_noticed_too():
    stock = dspy.Tool(lambda sku: f"3 of {sku}", name="stock")
    cache = cache_of()

    async def compute(question: str) -> str:
        return f"There are {await stock.acall(sku='TN-100')}."

    asyncio.run(cache.ask_async("How many tents are there?", compute, tenant="a"))

    assert (len(cache), cache.stats().not_kept) == (0, {"tools": 1})


@pytest.mark.parametrize("agent", [dspy.ReAct, dspy.ReActV2])
def test_what_dspy_s_agents_answer_is_known_by_what_they_leave_behind(agent):
    from course_lib import lm
    from course_lib.caching.semantic.private import used_tools

    def weather(city: str) -> str:
        """Return the weather of a city."""
        return f"sunny in {city}"

    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        answer = agent("question -> answer", tools=[weather])(question="What is the weather in Oslo?")

    assert used_tools(answer) == "tools"


def test_a_question_with_an_order_number_is_not_even_looked_up():
    cache = cache_of(threshold=0.1)
    cache.put("Where is my tent?", "here", tenant="a")

    assert cache.get("Where is my tent of O-10154?", tenant="a") is None
    assert cache.stats().not_kept == {"order number": 1}


def test_an_error_is_not_kept():
    cache = cache_of()

    def fail(question: str) -> str:
        raise ConnectionError(question)

    with pytest.raises(ConnectionError):
        cache.ask("tent", fail, tenant="a")
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
    assert cache.stats().embed_errors == 2
    assert "embedding: 2 errors" in str(cache.stats())
    is_down[0] = False
    assert cache.ask("tent", lambda _: "computed", tenant="a") == "cached"


def test_changing_an_answer_changes_nobody_else_s():
    cache = cache_of()
    answer = {"articles": ["tent-care"]}
    cache.put("tent", answer, tenant="a")
    answer["articles"].append("mine")

    first = cache.get("tent", tenant="a")
    assert first is not None
    first.answer["articles"].clear()

    again = cache.get("tent", tenant="a")
    assert again is not None
    assert again.answer == {"articles": ["tent-care"]}


def test_a_new_answer_takes_the_place_of_the_old_one():
    cache = cache_of()
    cache.put("tent", "old", tenant="a")
    cache.put("tent", "new", tenant="a")

    hit = cache.get("tent", tenant="a")

    assert hit is not None
    assert (hit.answer, len(cache)) == ("new", 1)


# -- limits ---------------------------------------------------------------------------------------------


def test_an_answer_is_served_until_its_time_is_over(clock):
    cache = cache_of(ttl_s=60, clock=clock)
    cache.put("tent", "x", tenant="a")

    clock.now_s += 59
    hit = cache.get("tent", tenant="a")
    clock.now_s += 1

    assert hit is not None
    assert hit.age_s == 59
    assert cache.get("tent", tenant="a") is None
    assert (cache.stats().expired, len(cache)) == (1, 0)


def test_an_old_answer_does_not_hide_a_fresh_one(clock):
    cache = cache_of(threshold=0.5, ttl_s=60, candidates=1, clock=clock)
    cache.put("tent", "old", tenant="a")
    clock.now_s += 59
    cache.put("tent lamp", "fresh", tenant="a")
    clock.now_s += 1

    hit = cache.get("tent", tenant="a")

    assert hit is not None
    assert hit.answer == "fresh"


def test_the_one_unused_for_longest_makes_room():
    cache = cache_of(max_entries=2)
    cache.put("tent", 1, tenant="a")
    cache.put("lamp", 2, tenant="a")
    cache.get("tent", tenant="a")

    cache.put("refund", 3, tenant="a")

    assert cache.get("lamp", tenant="a") is None
    assert cache.get("tent", tenant="a") is not None
    assert (len(cache), cache.stats().evicted) == (2, 1)


def test_a_tenant_that_writes_much_does_not_crowd_out_another():
    cache = cache_of(max_entries=2)
    cache.put("tent", 1, tenant="quiet")
    for number in range(50):
        cache.put(f"tent {number}", number, tenant="loud")

    assert cache.get("tent", tenant="quiet") is not None


def test_partitions_are_limited_and_the_unused_one_goes():
    cache = cache_of(max_partitions=2)
    for tenant in "abc":
        cache.put("tent", tenant, tenant=tenant)

    assert cache.get("tent", tenant="a") is None
    assert cache.get("tent", tenant="c") is not None


def test_a_thousand_entries_come_and_go_in_a_matrix_that_grows_once():
    cache = cache_of(max_entries=100)
    for number in range(1000):
        cache.put(f"{'tent ' * (number % 7)}{'lamp ' * (number % 5)} {number}", number, tenant="a")

    (held,) = cache._partitions.values()
    assert len(cache) == 100
    assert len(held._rows) <= 128


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"threshold": 1.2}, {"max_entries": 0}], ids=str)
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SemanticCacheError):
        cache_of(**wrong)


# -- the verifier ---------------------------------------------------------------------------------------


def test_the_verifier_sees_both_questions_and_the_answer_and_has_the_last_word():
    seen = []
    cache = cache_of(verifier=lambda *heard: seen.append(heard) or False)
    cache.put("tent", "x", tenant="a")

    assert cache.get("tent tent", tenant="a") is None
    assert seen == [("tent tent", "tent", "x")]
    assert (cache.stats().verifier_refusals, cache.stats().misses) == (1, 1)


def test_a_verifier_that_fails_costs_a_hit_and_no_answer():
    def down(*_: object) -> bool:
        raise ConnectionError

    cache = cache_of(verifier=down)
    cache.put("tent", "x", tenant="a")

    assert cache.ask("tent", lambda _: "computed", tenant="a") == "computed"
    assert cache.stats().verifier_errors == 1


def test_what_is_forgotten_while_the_verifier_thinks_is_not_served():
    cache = cache_of(verifier=lambda *_: cache.forget() or True)
    cache.put("tent", "x", tenant="a")

    assert cache.get("tent", tenant="a") is None
    assert (cache.stats().hits, cache.stats().misses) == (0, 1)


def test_two_questions_on_one_article_share_it():
    from course_lib.caching.semantic.verifiers import shares_article

    assert shares_article("Is machine washing all right for a tent?", "Can I wash my tent?")
    assert not shares_article("Can I wash my tent?", "How long does a refund take?")


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
        assert may_go_on.wait(5), "the loop stood still while a text was embedded"
        return bag(texts)

    cache = SemanticCache(slow, threshold=0.9, guards=())

    async def run() -> str:
        asked = asyncio.create_task(cache.ask_async("tent", compute, tenant="a"))
        await asyncio.sleep(0)
        may_go_on.set()
        return await asked

    async def compute(question: str) -> str:
        return question

    assert asyncio.run(run()) == "tent"


def test_the_counts_read_as_lines():
    cache = SemanticCache(bag, threshold=0.9)
    cache.put("How long does shipping to Norway take?", "x", tenant="a")
    cache.get("How long does shipping to Norway take", tenant="a")
    cache.get("How much shipping to Norway, how long", tenant="a")
    cache.get("Where is O-10154?", tenant="a")

    lines = str(cache.stats()).splitlines()

    assert lines[0] == "1 hits, 2 misses (33% hits), 1 answers kept"
    assert "not kept or looked up: order number 1" in lines
