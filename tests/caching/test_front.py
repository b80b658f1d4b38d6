"""CachedLM in one process: one call for many, and all that an ordinary dspy.LM does besides."""

from __future__ import annotations

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.utils.callback import BaseCallback

from course_lib import lm
from course_lib.caching import CachedLM, TieredCache, scope
from course_lib.caching.front import CannotFrontError, fronted
from course_lib.resilience import single_flight
from tests.caching.conftest import slow_model, under_way

ASK = "question -> answer"


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"rollout_id": None}, 1),
        ({"cache": False}, 4),
        ({"rollout_id": 1, "temperature": 1.0}, 1),
        ({"temperature": 1.0}, 4),
        ({"rollout_id": 1, "n": 2, "temperature": 1.0}, 2),
    ],
    ids=["plain", "cache=False", "one rollout", "each rollout for itself", "n=2: DSPy asks twice"],
)
def test_what_is_shared(model: CachedLM, cache: TieredCache, options: dict[str, Any], calls: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: model("Which?", **{"rollout_id": n} | options), range(4)))

    assert lm.ledger().requests == calls
    assert {len(answer) for answer in answers} == {options.get("n", 1)}
    assert len(cache.single_flight) == 0


@pytest.mark.parametrize("difference", [{}, {"api_key": "another"}, {"num_retries": 1}], ids=str)
def test_an_error_is_everybodys_who_does_not_differ_in_what_may_fail_and_is_not_kept(
    cache: TieredCache, difference: dict[str, Any]
) -> None:
    slow_model()
    lm.profile("down", ttft_p50_ms=150, ttft_p99_ms=151, unavailable_rate=1.0)
    down = cache.front(lm.connect("sim-large@down", num_retries=0))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(down, "Anybody there?")
        under_way(cache)
        second = pool.submit(down.copy(**difference), "Anybody there?")
        errors = [first.exception(), second.exception()]

    assert isinstance(errors[0], dspy.LMServerError)
    assert (errors[1].__cause__ is errors[0]) is (difference == {})
    lm.reset()
    with pytest.raises(dspy.LMServerError):
        down("Anybody there?")
    assert lm.ledger().requests == 1


def test_a_hit_of_acall_makes_no_change_of_threads(model: CachedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    model("Warm.")

    async def ask() -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "to_thread", None)
            return await model.acall("Warm.")

    assert asyncio.run(ask()) == model("Warm.")
    assert lm.ledger().requests == 1


def test_a_typed_request_is_answered_from_the_cache(model: CachedLM) -> None:
    request = lm15.Request(model=model.model, messages=(lm15.Message.user("Typed?"),))

    first, second = model(request), asyncio.run(model.acall(request))

    assert (type(first), first.message.text) == (lm15.Response, second.message.text)
    assert lm.ledger().requests == 1


def test_under_another_cache_it_is_an_ordinary_lm(model: CachedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dspy, "cache", dspy.clients.Cache(False, True, None))

    assert model("Ordinary?") == model("Ordinary?")
    assert lm.ledger().requests == 1


class Seen(BaseCallback):
    """Notes the starts and ends of LM calls."""

    def __init__(self) -> None:
        self.inputs: list[frozenset[str]] = []
        self.ends = 0

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.inputs.append(frozenset(inputs))

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.ends += 1


def test_a_waiter_has_used_none_and_has_callbacks_and_a_history_entry_of_its_own(
    model: CachedLM, cache: TieredCache
) -> None:
    seen = Seen()
    model = model.copy(callbacks=[seen])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(model, ["Whose?"] * 4))
    asyncio.run(model.acall("Whose?"))

    assert seen.inputs == [{"prompt", "messages", "kwargs"}] * 5
    assert seen.ends == 5
    assert sorted(bool(entry["usage"]) for entry in model.history) == [False] * 4 + [True]
    assert len({entry["uuid"] for entry in model.history}) == 5
    assert len({id(entry["outputs"]) for entry in model.history}) == 5
    assert sum(cache.stats().hits.values()) == 4


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


def test_sync_calls_in_asyncios_thread_pool_do_not_stop_a_leading_task(
    model: CachedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "POOL_PATIENCE_S", 0.1)

    async def crowd() -> list[Any]:
        tasks = [asyncio.create_task(model.acall("Pool?")) for _ in range(20)]
        return await asyncio.gather(*tasks, *(asyncio.to_thread(model, "Pool?") for _ in range(40)))

    assert len({str(answer) for answer in asyncio.run(crowd())}) == 1
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
