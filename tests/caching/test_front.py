"""CachedLM in one process: one call for many, and all that an ordinary dspy.LM does besides."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError

from course_lib import lm
from course_lib.caching import CachedLM, TieredCache, scope, single_flight
from course_lib.caching.front import CannotFrontError, fronted
from tests.caching.front_parts import caching, history_of, slow_model, under_way, until, waiters_of

pytestmark = pytest.mark.anyio
ASK = "question -> answer"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def cache() -> Iterator[TieredCache]:
    with caching(TieredCache()) as cache:
        yield cache


@pytest.fixture
def model(cache: TieredCache) -> CachedLM:
    return cache.front(slow_model())


# One call for many.


def test_threads_that_ask_the_same_make_one_call(model: CachedLM, cache: TieredCache) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: model("Where is my parcel?"), range(50)))

    assert (lm.ledger().requests, len({str(answer) for answer in answers})) == (1, 1)
    assert len(cache.single_flight) == 0


async def test_tasks_that_ask_the_same_make_one_call(model: CachedLM) -> None:
    program = dspy.Predict(ASK)
    with dspy.context(lm=model):
        answers = await asyncio.gather(*(program.acall(question="Where is it?") for _ in range(100)))

    assert (lm.ledger().requests, len({answer.answer for answer in answers})) == (1, 1)


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"cache": False}, 4),
        ({"rollout_id": 1, "temperature": 1.0}, 1),
        ({"temperature": 1.0}, 4),
        ({"rollout_id": 1, "n": 2, "temperature": 1.0}, 2),
    ],
    ids=[
        "cache=False never",
        "one rollout",
        "each rollout for itself",
        "n=2: DSPy asks twice",
    ],
)
def test_what_is_shared(model: CachedLM, options: dict[str, Any], calls: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: model("Which?", **{"rollout_id": n} | options), range(4)))

    assert lm.ledger().requests == calls
    assert {len(answer) for answer in answers} == {options.get("n", 1)}


def test_tenants_never_wait_for_each_other(model: CachedLM) -> None:
    def ask(tenant: str) -> Any:
        with scope(tenant=tenant):
            return model("Whose is it?")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, ["a", "b"] * 4))

    assert (lm.ledger().requests, lm.ledger().most_at_once) == (2, 2)


# When the leader goes wrong.


@pytest.fixture
def down(cache: TieredCache) -> CachedLM:
    """A model that fails, a moment late."""
    slow_model()
    lm.profile("down", ttft_p50_ms=150, ttft_p99_ms=151, unavailable_rate=1.0)
    return cache.front(lm.connect("sim-large@down", num_retries=0))


def test_an_error_is_everybodys_and_is_not_kept(down: CachedLM) -> None:
    with ThreadPoolExecutor(10) as pool:
        errors = [future.exception() for future in [pool.submit(down, "Anybody there?") for _ in range(10)]]

    assert all(isinstance(error, dspy.LMServerError) for error in errors)
    assert len({id(error) for error in errors}) == 10
    assert lm.ledger().requests == 1
    with pytest.raises(dspy.LMServerError):
        down("Anybody there?")
    assert lm.ledger().requests == 2


@pytest.mark.parametrize("difference", [{"api_key": "another"}, {"num_retries": 1}], ids=str)
def test_who_differs_in_what_may_fail_does_not_share_the_error(
    down: CachedLM, cache: TieredCache, difference: dict[str, Any]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(down, "Anybody there?")
        under_way(cache)
        second = pool.submit(down.copy(**difference), "Anybody there?")
        errors = [first.exception(), second.exception()]

    assert errors[1].__cause__ is not errors[0]


def test_truncated_answers_are_not_kept_but_shared(cache: TieredCache) -> None:
    model = cache.front(slow_model())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: model("Tell me all about tents.", max_tokens=3), range(8)))
    model("Tell me all about tents.", max_tokens=3)

    assert lm.ledger().requests == 2


# Hits.


def test_a_hit_of_acall_makes_no_change_of_threads(model: CachedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    model("Warm.")

    async def ask() -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "to_thread", None)
            return await model.acall("Warm.")

    assert asyncio.run(ask()) == model("Warm.")
    assert lm.ledger().requests == 1


def test_sync_and_async_warm_each_other(model: CachedLM) -> None:
    asyncio.run(model.acall("First async."))
    model("First async.")
    model("First sync.")
    asyncio.run(model.acall("First sync."))

    assert lm.ledger().requests == 2


def test_only_the_leader_has_used_tokens(model: CachedLM) -> None:
    with dspy.track_usage() as tracker, dspy.context(lm=model):
        for _ in range(3):
            dspy.Predict(ASK)(question="Tokens?")

    assert tracker.get_total_tokens()[model.model]["completion_tokens"] == lm.ledger().completion_tokens
    assert [bool(usage) for usage in history_of(model)] == [True, False, False]


def test_a_waiter_has_used_none_and_has_its_own_history_entry(model: CachedLM, cache: TieredCache) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: model("History?"), range(4)))

    assert sorted(bool(usage) for usage in history_of(model)) == [False, False, False, True]
    assert len({entry["uuid"] for entry in model.history}) == 4
    assert len({id(entry["outputs"]) for entry in model.history}) == 4
    hits = cache.stats().hits
    assert hits.get("in flight", 0) + hits.get("memory", 0) == 3


def test_messages_of_an_adapter_and_typed_requests_are_answered_from_the_cache(model: CachedLM) -> None:
    request = lm15.Request(model=model.model, messages=(lm15.Message.user("Typed?"),))

    first, second = model(request), asyncio.run(model.acall(request))

    assert (type(first), first.message.text) == (lm15.Response, second.message.text)
    assert lm.ledger().requests == 1


def test_under_another_cache_it_is_an_ordinary_lm(model: CachedLM) -> None:
    former, dspy.cache = dspy.cache, dspy.clients.Cache(False, True, None)
    try:
        assert model("Ordinary?") == model("Ordinary?")
    finally:
        dspy.cache = former

    assert lm.ledger().requests == 1


# All that an ordinary dspy.LM does.


class Seen(BaseCallback):
    """Notes the starts and ends of LM calls."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.ends: list[Any] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.starts.append(inputs)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.ends.append(outputs)


def test_callbacks_run_once_for_each_call(model: CachedLM) -> None:
    seen = Seen()

    def ask(_: int) -> Any:
        with dspy.context(callbacks=[seen]):
            return model("Callbacks?")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    with dspy.context(callbacks=[seen]):
        asyncio.run(model.acall("Callbacks?"))

    assert (len(seen.starts), len(seen.ends)) == (5, 5)
    assert {frozenset(inputs) for inputs in seen.starts} == {frozenset({"prompt", "messages", "kwargs"})}


def test_copies_share_the_calls_and_have_their_own_history(model: CachedLM) -> None:
    copies = [model, model.copy(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one("Copies?"), copies))

    assert {type(one) for one in copies} == {CachedLM}
    assert lm.ledger().requests == 1
    assert [len(one.history) for one in copies] == [1, 1, 1, 1]


def test_a_program_saved_with_it_loads_as_an_ordinary_program(model: CachedLM, tmp_path: Any) -> None:
    program = dspy.Predict(ASK)
    program.set_lm(model)
    program.save(tmp_path / "program.json")

    loaded = dspy.Predict(ASK)
    loaded.load(tmp_path / "program.json")

    assert (type(loaded.lm), loaded.lm.model) == (dspy.LM, model.model)
    assert type(CachedLM.load_state(model.dump_state())) is CachedLM


def test_it_stands_only_before_an_lm_that_asks_the_cache() -> None:
    class Own(dspy.LM):
        pass

    with pytest.raises(CannotFrontError, match="cannot put a front before"):
        fronted(Own("course/sim-large"))


def test_a_fronted_model_with_an_engine_of_its_own_is_shared(cache: TieredCache) -> None:
    calls = []

    class Canned:
        def complete(self, request: lm15.Request) -> lm15.Response:
            calls.append(request)
            until(lambda: waiters_of(cache) == 3)
            message = lm15.Message.assistant([lm15.TextPart("canned")])
            usage = lm15.Usage(input_tokens=1, output_tokens=1, total_tokens=2)
            return lm15.Response(
                id="1", model=request.model, message=message, finish_reason="stop", usage=usage
            )

    model = cache.front(dspy.LM("own/canned", engine=Canned()))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: model("Engine?"), range(4)))

    assert answers == [["canned"]] * 4
    assert len(calls) == 1


def test_an_answer_that_cannot_be_read_is_shared_but_not_kept(cache: TieredCache) -> None:
    slow_model()
    lm.profile("chatty", ttft_p50_ms=150, ttft_p99_ms=151, missing_field_rate=1.0)
    strict = dspy.ChatAdapter(use_json_adapter_fallback=False)
    settings = {"lm": cache.front(lm.connect("sim-large@chatty")), "adapter": strict}

    def ask() -> Any:
        with dspy.context(**settings, callbacks=[cache.watcher]), pytest.raises(AdapterParseError):
            dspy.Predict("question -> reasoning, answer")(question="Unreadable?")

    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(ask) for _ in range(8)]:
            one.result()
    shared = lm.ledger().requests
    ask()

    assert (shared, lm.ledger().requests) == (1, 2)


async def test_sync_calls_in_asyncios_thread_pool_do_not_stop_a_leading_task(
    model: CachedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "POOL_PATIENCE_S", 0.1)
    tasks = [asyncio.create_task(model.acall("Pool?")) for _ in range(20)]
    threads = [asyncio.to_thread(model, "Pool?") for _ in range(40)]

    answers = await asyncio.wait_for(asyncio.gather(*tasks, *threads), 20)

    assert len({str(answer) for answer in answers}) == 1
    assert lm.ledger().requests <= 2  # the task's that was held up, and the thread's that overtook it


def test_a_caller_that_arrives_after_an_invalidation_starts_a_new_call(
    model: CachedLM, cache: TieredCache
) -> None:
    def ask() -> Any:
        with scope(tenant="a"):
            return model("Old or new?")

    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(ask)
        under_way(cache)
        cache.invalidate(tenant="a")
        after = pool.submit(ask)
        before.result(), after.result()

    assert lm.ledger().requests == 2
