"""The OpenAI-compatible endpoint: faults and a ledger in front of the simulator or a real provider.

Main path: Endpoint.chat: parse, admit (model, profile, limits), draw the fault, answer, enter in the ledger.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from typing import Any

import orjson

from course_lib.lm import tokens
from course_lib.lm.endpoint import embeddings, faults, sending, wire
from course_lib.lm.endpoint.accounts import Account, Accounts, Exchange, Usage
from course_lib.lm.endpoint.channel import Channel, ClientGoneError, Receive, Scope, Send, read_body
from course_lib.lm.endpoint.faults import Plan
from course_lib.lm.endpoint.prefixes import MIN_TOKENS
from course_lib.lm.endpoint.upstream import Upstream
from course_lib.lm.endpoint.wire import ApiError, Asked
from course_lib.lm.keys import client_of
from course_lib.lm.profiles import MALFORMED, PROFILES, Profile, split_model
from course_lib.lm.reply import Engine

SIMULATED = ("sim-large", "sim-small")
EMBEDDING = "sim-embed"

_log = logging.getLogger("course_lib.lm")
_Handler = Callable[[bytes, Account, Exchange, Channel], Awaitable[None]]


class Endpoint:
    """What is behind the address: engine, upstream, accounts and, in a workshop, the keys let in."""

    def __init__(
        self, engine: Engine, *, upstream: Upstream | None = None, keys: Collection[str] = (), owner: str = ""
    ) -> None:
        """Serve `engine`; `keys` if given are the only ones let in; `owner` alone may use paid models."""
        self.accounts = Accounts()
        self._engine = engine
        self._upstream = upstream or Upstream()
        self._admitted = frozenset(map(client_of, keys))
        self._owner = owner

    async def aclose(self) -> None:
        """Let go of what the endpoint holds open."""
        await self._upstream.aclose()

    # -- who is asking, and for what ---------------------------------------------------------------

    def client(self, scope: Scope) -> str:
        """Return the client's name: a hash of its key.

        Raises:
            ApiError: 401 when the endpoint has a list of keys and this one is not in it.
        """
        headers = dict(scope["headers"])
        key = headers.get(b"authorization", b"").decode("latin-1").removeprefix("Bearer ").strip()
        client = client_of(key)
        if self._admitted and client not in self._admitted:
            found = "an unknown key" if key else "no key"
            raise ApiError(
                401,
                "invalid_api_key",
                f"{found} was sent; set COURSE_LM_KEY to the key your instructor gave you",
            )
        return client

    def profile(self, account: Account, name: str) -> Profile:
        """Return a profile by name, the client's own before the shipped ones.

        Raises:
            ApiError: 404 when there is none.
        """
        found = account.profiles.get(name) or PROFILES.get(name)
        if found is None:
            known = ", ".join(sorted({*PROFILES, *account.profiles}))
            raise ApiError(
                404,
                "model_not_found",
                f"no profile named {name!r}; known: {known}. Add your own with lm.profile({name!r}, ...).",
                param="model",
            )
        return found

    def check_model(self, client: str, model: str) -> None:
        """Make sure that `model` (without profile) can be served to `client`.

        Raises:
            ApiError: 404 for an unknown model, 401 for a provider's key that is missing.
        """
        if model in SIMULATED:
            return
        if model != "local" and "/" not in model:
            raise ApiError(
                404,
                "model_not_found",
                f"no model named {model!r}; known: {', '.join(SIMULATED)}, local, "
                'or a hosted one as provider/model, such as "openai/gpt-4o-mini"',
                param="model",
            )
        if self._owner and client != self._owner:
            raise ApiError(
                401,
                "invalid_api_key",
                f"{model} may cost money, so only the notebook that started this endpoint may use it",
            )
        self._upstream.check(model)

    def models(self) -> list[str]:
        """Return the models that need no key."""
        return [*SIMULATED, EMBEDDING]

    # -- routes --------------------------------------------------------------------------------------

    async def route(self, handler: _Handler, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one exchange from body to ledger; every error leaves here as an OpenAI error body."""
        exchange = Exchange(begun_s=time.monotonic())
        channel = Channel(scope, receive, send, exchange)
        try:
            exchange.client = self.client(scope)
            account = self.accounts.of(exchange.client)
            raw = await read_body(receive)
        except ApiError as error:
            await channel.error(error)
            return
        except ClientGoneError:
            return
        account.begin(exchange)
        try:
            await handler(raw, account, exchange, channel)
        except ApiError as error:
            exchange.status = error.status
            await channel.error(error)
        except ClientGoneError:
            exchange.status = 499 if exchange.fault != "cut_before" else 0
        except Exception as error:  # border: a fault of ours must not take the endpoint down
            _log.exception("the endpoint failed on a request")
            exchange.status = 500
            await channel.error(
                ApiError(
                    500, "endpoint_failed", f"the endpoint itself failed: {type(error).__name__}: {error}"
                )
            )
        finally:
            account.finish(exchange)

    async def chat(self, raw: bytes, account: Account, exchange: Exchange, channel: Channel) -> None:
        """Answer one chat completion, as the profile in its model name says."""
        asked = wire.parse(raw)
        exchange.stream, exchange.messages, exchange.size_chars = (
            asked.is_stream,
            asked.messages,
            asked.size_chars,
        )
        exchange.tools = [tool["function"]["name"] for tool in asked.body.get("tools", ())]
        usage, plan = self._admit(account, exchange, asked.model, asked.profile)
        await sending.fail_early(plan, exchange, channel)
        if asked.model in SIMULATED:
            cached = None
            if asked.prompt_tokens >= MIN_TOKENS:
                cached = account.prefixes.read(asked.model, asked.body, asked.prompt_tokens, exchange.begun_s)
                plan = faults.sooner(plan, cached / asked.prompt_tokens)
            body = await self._simulate(asked, account, cached)
        elif asked.is_stream and plan.fault is None:
            await self._relay(asked, usage, plan, exchange, channel)
            return
        else:
            body = await self._upstream.complete(asked)
        if plan.fault in MALFORMED:
            sending.spoil(body, plan, asked.prompt_tokens)
        sending.bill(exchange, usage, body["usage"])
        message = body["choices"][0]["message"]
        exchange.reply = message.get("content")
        exchange.tool_calls = [call["function"] for call in message.get("tool_calls") or ()]
        exchange.size_chars += len(exchange.reply or "")
        if asked.is_stream:
            await sending.stream(body, asked.wants_usage, plan, exchange, channel)
        else:
            await sending.whole(body, plan, exchange, channel)

    async def embed(self, raw: bytes, account: Account, exchange: Exchange, channel: Channel) -> None:
        """Answer one embeddings request."""
        body = wire.read_object(raw)
        model, profile = split_model(str(body.get("model", EMBEDDING)))
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise ApiError(400, "invalid_value", "input should be a text or a list of texts", param="input")
        if model != EMBEDDING:
            raise ApiError(
                404,
                "model_not_found",
                f"no embedding model named {model!r}; known: {EMBEDDING}",
                param="model",
            )
        exchange.size_chars = len(raw)
        usage, plan = self._admit(account, exchange, model, profile)
        await sending.fail_early(plan, exchange, channel)
        encode = embeddings.as_base64 if body.get("encoding_format") == "base64" else list
        data = [
            {"object": "embedding", "index": at, "embedding": encode(embeddings.vector(text))}
            for at, text in enumerate(texts)
        ]
        count = sum(map(tokens.count, texts))
        answer = {"object": "list", "data": data, "model": body.get("model", EMBEDDING)}
        answer["usage"] = {"prompt_tokens": count, "total_tokens": count}
        sending.bill(exchange, usage, answer["usage"])
        await sending.whole(answer, plan, exchange, channel)

    def _admit(
        self, account: Account, exchange: Exchange, model: str, profile_name: str
    ) -> tuple[Usage, Plan]:
        """Look model and profile up, hold the limits, and draw the request's fate."""
        exchange.model, exchange.profile = model, profile_name
        profile = self.profile(account, profile_name)
        if model != EMBEDDING:
            self.check_model(exchange.client, model)
        usage = account.usage(model, profile_name, exchange.begun_s)
        profile = profile.at(exchange.begun_s - usage.since_s)
        wait_s = usage.limit_wait_s(profile, exchange.begun_s)
        if wait_s > 0:
            exchange.fault = "rate_limited"
            raise ApiError(
                429,
                "rate_limit_exceeded",
                f"too many requests for {model}@{profile_name}; try again in {wait_s:.2f} s",
                retry_after_s=wait_s,
            )
        plan = faults.draw(profile, model, usage.next())
        exchange.fault = plan.fault
        return usage, plan

    async def _simulate(self, asked: Asked, account: Account, cached_tokens: int | None) -> dict[str, Any]:
        samples = [0] * asked.choices
        if asked.body.get("temperature"):
            first = account.sample(asked.identity(), asked.choices)
            samples = list(range(first, first + asked.choices))
        replies = [await self._engine.complete(asked.body, sample=n) for n in samples]
        return wire.completion(asked, replies, cached_tokens=cached_tokens)

    async def _relay(
        self, asked: Asked, usage: Usage, plan: Plan, exchange: Exchange, channel: Channel
    ) -> None:
        """Pass a provider's stream on, chunk by chunk, no faster than the profile allows."""
        text: list[str] = []
        used = wire.usage(0, 0)
        due_s = exchange.begun_s + plan.ttft_s
        async for chunk in self._upstream.stream(asked):
            used = chunk.get("usage") or used
            if not chunk.get("choices") and not asked.wants_usage:
                continue
            pieces = [choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices", ())]
            text += pieces
            await channel.pause_until(due_s)
            due_s += tokens.count("".join(pieces)) / plan.tokens_per_s if plan.tokens_per_s else 0.0
            await channel.event(b"data: " + orjson.dumps({**chunk, "model": asked.full_model}) + b"\n\n")
        await channel.end()
        exchange.reply = "".join(text)
        sending.bill(exchange, usage, used)


class _Raw:
    """A route without Starlette's Request and Response, which the faults could not reach through."""

    def __init__(self, call: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._call(scope, receive, send)


def app(endpoint: Endpoint) -> Any:
    """Return the ASGI application around `endpoint`."""
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route

    from course_lib.lm.endpoint import control

    async def no_route(scope: Scope, receive: Receive, send: Send) -> None:
        known = "/v1/chat/completions, /v1/embeddings, /v1/models"
        error = ApiError(
            404, "not_found", f"nothing answers {scope['method']} {scope['path']}; known: {known}"
        )
        await Channel(scope, receive, send, Exchange(begun_s=time.monotonic())).error(error)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        yield
        await endpoint.aclose()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/v1/chat/completions", _Raw(partial(endpoint.route, endpoint.chat)), methods=["POST"]),
            Route("/v1/embeddings", _Raw(partial(endpoint.route, endpoint.embed)), methods=["POST"]),
            *control.routes(endpoint),
            Mount("/", no_route),
        ],
    )
