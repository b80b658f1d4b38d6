"""How an answer leaves the endpoint, as its plan says: late, slowly, malformed, in part, or not at all.

Main path: fail_early(plan, ...), then corrupt(body, plan, ...), then whole(body, ...) or stream(body, ...).
"""

from __future__ import annotations

from typing import Any

import orjson

from course_lib.lm import prices
from course_lib.lm.endpoint import faults, wire
from course_lib.lm.endpoint.accounts import Exchange, Usage
from course_lib.lm.endpoint.channel import Channel, ClientGoneError
from course_lib.lm.endpoint.faults import Plan
from course_lib.lm.endpoint.wire import ApiError

HANG_LIMIT_S = 120.0
"""A hanging request is cut after this long, as a load balancer would; most clients wait longer by default."""


async def fail_early(plan: Plan, exchange: Exchange, channel: Channel) -> None:
    """Play the faults that leave no answer."""
    if plan.fault == "hang":
        await channel.hang(HANG_LIMIT_S)
    if plan.fault not in {"error", "unavailable", "cut_before"}:
        return
    await channel.pause_until(exchange.begun_s + plan.ttft_s)
    if plan.fault == "cut_before":
        await channel.cut()
        raise ClientGoneError("the profile cut the connection")
    if plan.fault == "error":
        raise ApiError(500, "server_error", "the model failed on this request (fault of the profile)")
    raise ApiError(503, "overloaded", "the model is overloaded (fault of the profile); try again later")


def corrupt(body: dict[str, Any], plan: Plan, prompt_tokens: int) -> None:
    """Malform the answer's texts, and the arguments of its tool calls."""
    assert plan.fault is not None
    for choice in body["choices"]:
        message = choice["message"]
        if message.get("content"):
            message["content"] = faults.corrupt(message["content"], plan.fault, plan.spot)
        for call in message.get("tool_calls") or ():
            function = call["function"]
            function["arguments"] = faults.corrupt(function["arguments"], plan.fault, plan.spot)
        if plan.fault == "cut_by_length":
            choice["finish_reason"] = "length"
    written = sum(wire.count_message(choice["message"]) for choice in body["choices"])
    body["usage"] = body["usage"] | wire.usage(prompt_tokens, written)


def bill(exchange: Exchange, usage: Usage, used: dict[str, Any]) -> None:
    """Enter tokens and cost, and charge the tokens against the profile's limit."""
    exchange.prompt_tokens = used.get("prompt_tokens", 0)
    exchange.completion_tokens = used.get("completion_tokens", 0)
    exchange.cached_tokens = wire.cached_read(used)
    exchange.cost_usd = prices.cost_usd(
        exchange.model, exchange.prompt_tokens, exchange.completion_tokens, exchange.cached_tokens
    )
    usage.charge("tokens", exchange.prompt_tokens + exchange.completion_tokens)


async def whole(body: dict[str, Any], plan: Plan, exchange: Exchange, channel: Channel) -> None:
    """Send the answer in one piece, when the last token would be written."""
    writing_s = exchange.completion_tokens / plan.tokens_per_s if plan.tokens_per_s else 0.0
    await channel.pause_until(exchange.begun_s + plan.ttft_s + writing_s)
    if plan.fault == "cut_midway":
        await channel.json_cut(orjson.dumps(body), plan.spot)
    else:
        await channel.json(200, orjson.dumps(body))


async def stream(
    body: dict[str, Any], wants_usage: bool, plan: Plan, exchange: Exchange, channel: Channel
) -> None:
    """Send the answer token by token, at the plan's speed."""
    events = list(wire.chunks(body, with_usage=wants_usage))
    cut_at = max(1, int(len(events) * plan.spot)) if plan.fault == "cut_midway" else None
    due_s = exchange.begun_s + plan.ttft_s
    for event in events[:cut_at]:
        await channel.pause_until(due_s)
        await channel.event(event)
        due_s += 1 / plan.tokens_per_s if plan.tokens_per_s else 0.0
    if cut_at is not None:
        await channel.cut()
    else:
        await channel.end()
