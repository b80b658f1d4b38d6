"""Memory, Redis and disk as one cache: who is asked, who is filled, what is not kept, what never gets out."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import orjson
import pytest
import redis

from course_lib import lm
from course_lib.caching import CacheMisuseError, TieredCache, scope, wire
from tests.caching.conftest import Clock


def request(question: str = "Where is my parcel?", **options: Any) -> dict[str, Any]:
    entry = {"_fn_identifier": "dspy.clients.lm.litellm_completion"}
    return {"model": "m", "messages": [{"role": "user", "content": question}]} | entry | options


def record(text: str | None = "On its way.", *, finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    message = {"role": "assistant", "parts": [{"type": "text", "text": text or ""}]}
    response = {"model": "sim-large", "finish_reason": finish_reason, "message": message}
    plain = {"_dspy_format": "dspy-lm15-result-v1", "responses": [response], "outputs": [text]}
    return plain | {"usage": usage, "cost": None, "response_model": "sim-large"} | more


def ask(cache: TieredCache, answer: Any = None, **options: Any) -> Any:
    """Ask as DSPy does: get, and after a miss put."""
    found = cache.get(request(**options), ["api_key", "api_base", "base_url"])
    if found is None:
        cache.put(request(**options), record() if answer is None else answer, ["api_key"])
    return found


@pytest.fixture
def make(tmp_path: Path):
    """Make caches; all are closed at the end."""
    made = []

    def build(*, disk: bool = False, **options: Any) -> TieredCache:
        made.append(TieredCache(**({"disk_path": tmp_path / "cache.db"} if disk else {}) | options))
        return made[-1]

    yield build
    for cache in made:
        cache.close()


def test_a_miss_is_kept_and_then_a_hit_in_memory_or_from_redis_of_another_process(make, redis_url):
    cache, other = make(redis_url=redis_url), make(redis_url=redis_url)

    assert [ask(cache), ask(cache)] == [None, record()]
    assert [ask(other), ask(other)] == [record()] * 2
    assert ask(make(redis_url=redis_url, namespace="another")) is None

    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.puts) == ({"memory": 1}, 1, 1)
    assert other.stats().hits == {"redis": 1, "memory": 1}


def test_a_hit_on_disk_fills_redis_and_memory(make, redis_url):
    ask(make(disk=True))
    cache = make(redis_url=redis_url, disk=True)

    for _ in range(2):
        assert ask(cache) == record()
    cache.memory.clear()
    assert ask(cache) == record()

    assert cache.stats().hits == {"disk": 1, "memory": 1, "redis": 1}


@pytest.mark.parametrize(
    "passed_s",
    [[61], [50, 11], [-61], [-3 * 86_400]],
    ids=["over", "promoted meanwhile", "clock set back", "by days"],
)
def test_an_answer_runs_out_everywhere_and_neither_a_tier_nor_a_clock_prolongs_its_life(
    make, redis_url, passed_s
):
    clock = Clock()
    cache = make(redis_url=redis_url, disk=True, ttl_s=60, clock=clock)
    ask(cache)
    for seconds in passed_s:
        cache.memory.clear()
        assert cache.get(request()) == record()
        clock.now_s += seconds

    assert ask(cache) is None


def test_what_was_kept_by_a_clock_that_was_ahead_leaves_the_file_when_it_is_found(make):
    clock = Clock()
    cache = make(disk=True, ttl_s=None, clock=clock)
    ask(cache)
    cache.memory.clear()
    clock.now_s -= 3 * 86_400
    found = cache.get(request())
    clock.now_s += 3 * 86_400 + 1  # three days later the answer would look fresh again

    assert (found, cache.get(request())) == (None, None)


def test_lifetimes_are_spread_but_never_longer_than_asked_for(make):
    clock = Clock()
    cache = make(ttl_s=100, clock=clock)
    for n in range(200):
        ask(cache, question=str(n))

    alive = []
    for passed_s in (89.9, 5.1, 5):
        clock.now_s += passed_s
        alive.append(sum(cache.get(request(str(n))) is not None for n in range(200)))
    assert alive[0] == 200
    assert 60 < alive[1] < 140
    assert alive[2] == 0


POISON = (
    {"_dspy_format": "another"},
    {"responses": [{"id": "x"}]},
    {"responses": 5},
    {"outputs": []},
    {"outputs": [["a"]]},
    {"outputs": [{"text": 1}]},
    {"outputs": [{"text": None, "tool_calls": [{"name": "f"}]}]},
    {"usage": {"prompt_tokens": "many"}},
    {"cost": "little"},
)


HEAD = [[], 0, 0.0, None, 0, 0.0]
UNREADABLE = ("a text", {"choices": 5}, {"_dspy_format": "dspy-lm15-result-v1"})
FORGED = [
    *((HEAD, value) for value in (*UNREADABLE, *(record() | wrong for wrong in POISON))),
    *((head, record()) for head in ({"a": 1}, HEAD[1:], [[], 0, 0.0, "soon", 0, 0.0])),
]


@pytest.mark.parametrize(("head", "value"), FORGED, ids=str)
def test_what_is_well_packed_but_no_answer_of_ours_is_refused_and_counted(make, redis_url, head, value):
    cache = make(redis_url=redis_url)
    key = cache.cache_key(request())
    right, blob = (
        wire._packed(b"\n".join(map(orjson.dumps, parts)), key, None)
        for parts in ((HEAD, record()), (head, value))
    )
    assert wire.unpacked(right, key).record == record()
    cache.shared.put(key, blob, ttl_s=None)

    assert cache.get(request()) is None
    assert cache.stats().refused == {"redis": 1}


def test_an_answer_too_large_to_be_shared_stays_in_memory(make, redis_url, monkeypatch):
    monkeypatch.setattr(wire, "LARGEST_BYTES", 1000)
    cache = make(redis_url=redis_url)
    ask(cache, record("word " * 1000))

    assert ask(cache) == record("word " * 1000)
    assert cache.stats().not_kept == {"only in memory: more than 1000 bytes of JSON": 1}


def test_a_caller_who_changes_its_answer_changes_no_one_elses(make, redis_url):
    cache = make(redis_url=redis_url)
    mine = record()
    cache.put(request(), mine)
    mine["outputs"].append("changed by who asked first")
    for is_promoted in (False, False, True):
        if is_promoted:
            cache.memory.clear()
        found = cache.get(request())
        found["outputs"][0] = "changed"
        found["usage"].clear()

    assert cache.get(request()) == record()


def embed_texts(texts: list[str]) -> np.ndarray:
    embed_texts.calls.append(texts)
    return np.array([[float(len(text))] for text in texts])


def test_arrays_and_other_objects_stay_in_memory_and_are_copied(make, redis_url, give_dspy):
    cache = give_dspy(make(redis_url=redis_url))
    embed, embed_texts.calls = dspy.Embedder(embed_texts), []

    first = embed(["a", "bb"])
    first[0] = 99
    second, third = embed(["a", "bb"]), asyncio.run(embed.acall(["a", "bb"]))

    assert second.tolist() == third.tolist() == [[1.0], [2.0]]
    assert len(embed_texts.calls) == 1
    assert cache.stats().not_kept == {"only in memory: a ndarray is no plain JSON": 1}


@pytest.mark.parametrize("value", [(1, 2), {1: "a"}, {"a": (1,)}, float("inf"), [1.5, None], "text", 0])
def test_any_value_comes_back_as_it_was(make, value, redis_url):
    cache = make(redis_url=redis_url)
    cache.put(request(), value)

    found = cache.get(request())
    assert (found, type(found)) == (value, type(value))


class Reply:
    """Looks like what LiteLLM answers with."""

    def __init__(self, text: str, finish_reason: str = "stop") -> None:
        message = type("Message", (), {"content": text})()
        self.choices = [type("Choice", (), {"message": message, "finish_reason": finish_reason})()]
        self.usage = {"prompt_tokens": 10, "completion_tokens": 5}


def test_objects_of_litellm_are_handed_out_as_dspy_does_with_usage_cleared(make):
    cache = make()
    cache.put(request(), Reply("hello"))

    found = cache.get(request())

    assert found.choices[0].message.content == "hello"
    assert (found.usage, found.cache_hit) == ({}, True)
    assert cache.stats().saved_tokens == 15


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (record("Once upon a", finish_reason="length"), "cut off at max_tokens"),
        (record("I can", finish_reason="content_filter"), "cut off by a content filter"),
        (record(""), "empty"),
        (record(" \n"), "empty"),
        (record(outputs=[]), "empty"),
        (record(outputs=["fine", ""]), "empty"),
        (record(outputs=[{"text": None, "reasoning_content": "hm"}]), "empty"),
        (record(outputs=[{"text": None, "tool_calls": [{"id": "1"}]}]), None),
        (Reply("half", "length"), "cut off at max_tokens"),
        (Reply(""), "empty"),
    ],
)
def test_negative_answers_are_not_kept(make, answer, reason, redis_url):
    cache = make(redis_url=redis_url)
    ask(cache, answer)

    assert (ask(cache, answer) is None) is (reason is not None)
    assert cache.stats().not_kept == ({reason: 2} if reason else {})


def test_an_error_of_the_cache_itself_is_a_miss_and_is_told(make, monkeypatch):
    cache = make()
    for name in ("get", "put"):
        monkeypatch.setattr(cache.memory, name, lambda *_, **__: 1 / 0)

    assert ask(cache) is None
    assert "ZeroDivisionError" in cache.stats().last_errors[0]


def test_pickles_are_refused(make, tmp_path):
    for refused in (make().save_memory_cache, make().load_memory_cache):
        with pytest.raises(CacheMisuseError, match="pickle"):
            refused(str(tmp_path / "x.pkl"))


def test_no_secret_reaches_redis_or_the_file(make, redis_url, tmp_path):
    cache = make(redis_url=redis_url, disk=True)
    with scope(tenant="acme-secret", customer="ada-secret"):
        ask(cache, api_key="key-secret", api_base="https://user:pw-secret@host/v1")
    cache.close()

    with redis.Redis.from_url(redis_url) as client:
        names = b"".join(client.keys())
        values = b"".join(client.get(name) for name in client.keys("*:e:*"))
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"On its way." in values
    assert b"secret" not in names + values + files


def test_at_once_nothing_is_given_that_could_have_been_dropped_since_redis_was_looked_at(make, redis_url):
    cache = make(redis_url=redis_url, lag_s=0)
    with scope(tenant="acme"):
        ask(cache)
        assert cache.find(cache.cache_key(request()), at_once=True) is None
        assert ask(cache) == record()


def test_answers_are_warmed_and_forgotten_by_key_in_every_tier(make, redis_url):
    cache = make(redis_url=redis_url, disk=True)
    key = cache.cache_key(request())
    assert cache.warm([(key, record()), ("x", record(""))]) == 1
    assert key in cache
    assert make(redis_url=redis_url).get(request()) == record()

    cache.forget(key)

    assert key not in cache
    assert ask(make(redis_url=redis_url, disk=True)) is None


def test_a_batch_is_answered_from_the_cache_and_saves_what_the_first_call_cost(cache):
    predict, question = dspy.Predict("question -> answer"), {"question": "What is 6 times 7?"}
    examples = [dspy.Example(**question).with_inputs("question")] * 3

    with dspy.context(lm=lm.connect("sim-large"), adapter=dspy.ChatAdapter()):
        lm.reset()
        answers = [predict(**question), *predict.batch(examples, num_threads=2, disable_progress_bar=True)]

    bill, stats = lm.ledger(), cache.stats()
    assert len({answer.answer for answer in answers}) == 1
    assert (bill.requests, stats.hits) == (1, {"memory": 3})
    assert stats.saved_tokens == 3 * (bill.prompt_tokens + bill.completion_tokens)
    assert stats.saved_cost_usd == pytest.approx(3 * bill.cost_usd)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_children_forked_while_threads_ask_go_on(make, redis_url):
    cache, over = make(redis_url=redis_url), threading.Event()
    ask(cache, question="before")
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()

    def child(new: str) -> None:
        queue.put([ask(cache, question=question) is not None for question in ("before", new, new)])

    def keep_busy() -> None:
        while not over.is_set():
            cache.invalidate(tenant="acme")
            ask(cache, question="busy")

    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(keep_busy) for _ in range(2)]
        children = [fork.Process(target=child, args=(f"new {n}",)) for n in range(5)]
        for process in children:
            process.start()
        over.set()

    assert [queue.get() for _ in children] == [[True, False, True]] * 5
    for process in children:
        process.join()
    assert [each.exception() for each in busy] == [None, None]
    assert ask(cache, question="new 0") == record()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ttl_s": 0}, "ttl_s=0 cannot be; give a number above 0"),
        ({"ttl_s": float("nan")}, "ttl_s=nan cannot be"),
        ({"disk_bytes": "1 MB"}, "disk_bytes='1 MB' cannot be"),
        ({"memory_bytes": True}, "memory_bytes=True cannot be"),
        ({"signing_key": b""}, "anybody could sign"),
        ({"signing_key": "a secret text"}, "signing_key takes bytes, not a str"),
        ({"namespace": ""}, "namespace='' keeps nothing apart"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str):
    with pytest.raises(CacheMisuseError, match=re.escape(words)) as refused:
        TieredCache(**settings)

    assert "a secret text" not in str(refused.value)
