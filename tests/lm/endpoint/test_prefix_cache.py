"""The simulated prompt cache of a provider, alone and through the endpoint."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from course_lib.lm.endpoint import faults, prefixes, wire
from course_lib.lm.endpoint.prefixes import IDLE_S, LONG_IDLE_S, MIN_TOKENS, Prefixes
from tests.lm.conftest import Served
from tests.lm.endpoint.test_server import TOOL, ask, client, define, ledger
from tests.lm.endpoint.test_upstream import Chain, chain  # noqa: F401  # a fixture

SYSTEM = "You sort tickets. " + "Tents are shipped on Mondays. " * 250  # six tokens each


def body(question: str = "Where is my tent?", system: str = SYSTEM, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return {"messages": messages, **more}


def read(kept: Prefixes, asked: dict[str, Any], now_s: float = 0.0) -> int:
    return kept.read(asked.get("model", "sim-large"), asked, wire.count_prompt(asked), now_s)


PARTS = [{"type": "text", "text": "Look:"}, {"type": "image_url"}]
PROMPTS = [
    body(tools=[TOOL], response_format={"type": "json_object"}),
    {"messages": [{"role": "user", "content": PARTS}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}]},
]


@pytest.mark.parametrize("asked", PROMPTS)
def test_a_prompt_shares_all_its_tokens_with_itself_as_the_endpoint_counts_them(asked: Any) -> None:
    assert prefixes.shared_tokens(asked, asked) == wire.count_prompt(asked)


def test_the_second_prompt_with_the_same_beginning_finds_it_in_whole_steps() -> None:
    kept = Prefixes()
    first, second = body(), body("Where is my stove, and when will it come?")

    assert read(kept, first) == 0
    cached = read(kept, second)

    assert cached == prefixes.cacheable_tokens(prefixes.shared_tokens(first, second))
    assert cached % 128 == 0
    assert MIN_TOKENS < cached < wire.count_prompt(second)


OTHERS = {
    "another beginning": body(system=f"It is 10:42. {SYSTEM}"),
    "a schema, which comes first": body(response_format={"type": "json_object"}),
    "tools, which do": body(tools=[{"a": 1}]),
    "another role": {"messages": [{**body()["messages"][0], "role": "developer"}]},
    "another model": body(model="sim-small"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_at_the_beginning_finds_nothing(other: str) -> None:
    kept = Prefixes()
    read(kept, body())

    assert read(kept, OTHERS[other]) == 0


@pytest.mark.parametrize(("more", "idle_s"), [({}, IDLE_S), ({"prompt_cache_retention": "24h"}, LONG_IDLE_S)])
def test_use_keeps_a_prefix_and_idleness_loses_it(more: dict[str, Any], idle_s: float) -> None:
    kept = Prefixes()
    read(kept, body(**more))

    assert read(kept, body(**more), now_s=idle_s - 1) > 0
    assert read(kept, body(**more), now_s=2 * idle_s - 2) > 0
    assert read(kept, body(**more), now_s=3 * idle_s - 1) == 0


def test_memory_is_bounded_and_the_longest_unused_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "MAX_MARKS", 40)
    kept = Prefixes()
    read(kept, body())
    for number in range(20):
        read(kept, body(system=f"Customer {number}. {SYSTEM}"))
        assert read(kept, body()) > 0  # used all the time

    assert len(kept) == 40
    assert read(kept, body(system=f"Customer 1. {SYSTEM}")) == 0
    assert read(kept, body(system=f"Customer 19. {SYSTEM}")) > 0


# -- at the endpoint ----------------------------------------------------------------------------------


def say(served: Served, question: str, model: str = "sim-large", key: str = "k", **options: Any) -> Any:
    with client(served, key) as ai:
        answer: Any = ai.chat.completions.create(model=model, messages=body(question)["messages"], **options)
        return list(answer)[-1] if options.get("stream") else answer


def test_the_reply_and_the_ledger_show_what_was_cached_and_it_is_cheaper(echo: Served) -> None:
    shown = [cached(say(echo, question)) for question in ("Where is my tent?", "Where is my lamp?")]

    seen = ledger(echo)
    assert shown == [call["cached_tokens"] for call in seen["calls"]] == [0, 1408]
    assert seen["cached_tokens"] == ledger(echo, since=1)["cached_tokens"] == 1408
    saved_usd = seen["calls"][0]["cost_usd"] - seen["calls"][1]["cost_usd"]
    assert saved_usd == pytest.approx(1408 * (2.50 - 1.25) / 1e6)


def cached(answer: Any) -> int:
    return int(answer.usage.prompt_tokens_details.cached_tokens)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("sim-large", {"stream": True, "stream_options": {"include_usage": True}}),
        ("sim-large@odd", {}),  # what corrupts the answer leaves its usage
    ],
)
def test_every_answer_shows_what_was_cached(echo: Served, model: str, options: dict[str, Any]) -> None:
    define(echo, "odd", prose_around_rate=1)
    say(echo, "Where is my tent?")

    assert cached(say(echo, "Where is my tent?", model, **options)) == 1408


def test_each_key_has_a_cache_of_its_own_which_failures_do_not_fill_and_a_reset_empties(echo: Served) -> None:
    define(echo, "down", unavailable_rate=1)
    with pytest.raises(openai.InternalServerError):
        say(echo, "Where is my tent?", "sim-large@down")

    assert cached(say(echo, "Where is my tent?")) == 0
    assert cached(say(echo, "Where is my tent?", key="other")) == 0
    with echo.http() as http:
        http.post("/course/reset")
    assert cached(say(echo, "Where is my tent?")) == 0
    assert ask(echo).usage.prompt_tokens_details is None  # a short prompt's usage is as it always was


def test_a_cached_beginning_shortens_the_wait_for_the_first_token() -> None:
    slow = faults.Plan(ttft_s=1.0, tokens_per_s=50.0)

    assert faults.sooner(slow, 0.0) == slow
    assert faults.sooner(slow, 0.5).ttft_s == pytest.approx(0.6)
    assert faults.sooner(faults.Plan(), 0.5).ttft_s == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_hosted_providers_own_count_is_billed(chain: Chain, stream: bool) -> None:  # noqa: F811
    front = chain()
    for _ in range(2):
        say(front, "Where is my tent?", "openai/sim-large", stream=stream)

    assert [call["cached_tokens"] for call in ledger(front)["calls"]] == [0, 1408]
