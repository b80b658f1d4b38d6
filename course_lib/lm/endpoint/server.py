"""The OpenAI-compatible endpoint: faults and a ledger in front of the simulator or a real provider.

Main path: Endpoint.chat: parse, admit (model, profile, limits), draw the fault, answer, enter in the ledger.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import orjson

from course_lib.lm import tokens
from course_lib.lm.calls import client_of
from course_lib.lm.endpoint import embeddings, faults, sending, wire
from course_lib.lm.endpoint.accounts import Account, Accounts, Clock, Exchange, Usage
from course_lib.lm.endpoint.faults import Plan
from course_lib.lm.endpoint.prefixes import MIN_TOKENS
from course_lib.lm.endpoint.replaying import Tapes
from course_lib.lm.endpoint.sending import SMALL_BYTES, Channel, ClientGoneError, Load, Scope
from course_lib.lm.endpoint.upstream import Upstream
from course_lib.lm.endpoint.wire import ApiError, ChatRequest, unknown_model
from course_lib.lm.profiles import PROFILES, Profile, split_model
from course_lib.lm.reply import Engine, Reply, SlowError

SIMULATED = ("sim-large", "sim-small")
EMBEDDING = "sim-embed"
MODELS = (*SIMULATED, EMBEDDING)
"""Models that need no key."""
MAX_ALL_S, FAST_S = 1.0, 0.02
"""Seconds of processor time for all choices of a request; from how much on a step is a heavy one."""
_MAX_REST_S = 0.01
_MAX_TRIES = 40  # for an answer whose engine gets further each time, as with vectors that it then remembers
_SMALL_TEXTS_BYTES = 200
_NUMBER_BYTES = 8  # of an embedding, in an answer that is under way

_log = logging.getLogger("course_lib.lm")
Handler = Callable[[bytes, Account, Exchange, Channel], Awaitable[None]]


class Endpoint:
    """What is behind the address: engine, upstream, accounts and, in a workshop, the keys let in."""

    def __init__(
        self,
        engine: Engine,
        *,
        patient: Engine | None = None,
        upstream: Upstream | None = None,
        tapes: Tapes | None = None,
        keys: Collection[str] = (),
        owner: str = "",
        name: str = "localhost",
        clock: Clock = time.monotonic,
    ) -> None:
        """Serve `engine`; what it finds too slow goes to `patient`, which makes one answer at a time.

        `keys` if given are the only ones let in; `owner` alone may use paid models. `name` is the host's.
        """
        self.accounts = Accounts(clock)
        self.load = Load()
        self.tapes = tapes or Tapes()
        self.clock, self.name = clock, name
        self._engine = engine
        self._patient = patient or engine
        self._heavy = asyncio.Lock()
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
            sent = "an unknown key" if key else "no key"
            message = f"{sent} was sent; set COURSE_LM_KEY to the key your instructor gave you"
            raise ApiError(401, "invalid_api_key", message)
        return client

    def profile(self, account: Account, name: str) -> Profile:
        """Return a profile by name, the client's own before the shipped ones.

        Raises:
            ApiError: 404 when there is none.
        """
        profile = account.profiles.get(name) or PROFILES.get(name)
        if profile is None:
            known = ", ".join(sorted({*PROFILES, *account.profiles}))
            raise unknown_model(
                f"no profile named {name!r}; known: {known}. Add your own with lm.profile({name!r}, ...)."
            )
        return profile

    def check_model(self, account: Account, model: str) -> None:
        """Make sure that `model` (without profile) can be served to a client.

        Raises:
            ApiError: 404 for an unknown model, 401 for a provider's key that is missing.
        """
        if model in SIMULATED:
            return
        if model != "local" and "/" not in model:
            raise unknown_model(
                f"no model named {model!r}; known: {', '.join(SIMULATED)}, local, "
                'or a hosted one as provider/model, such as "openai/gpt-4o-mini"'
            )
        if self._owner and account.client != self._owner:
            message = f"{model} may cost money, so only the notebook that started this endpoint may use it"
            raise ApiError(401, "invalid_api_key", message)
        self._upstream.check(model)

    # -- routes --------------------------------------------------------------------------------------

    async def route(self, handler: Handler, scope: Scope, exchange: Exchange, channel: Channel) -> None:
        """Run one exchange from body to ledger; every error leaves here as an OpenAI error body."""
        try:
            client, raw = self.client(scope), await channel.body()
            account = self.accounts.of(client)
        except ApiError as error:
            await channel.error(error)
            return
        except ClientGoneError:
            return
        account.begin(exchange)
        tape = self.tapes.tape(client, channel)
        try:
            if not await self.tapes.is_replayed(client, scope["path"], raw, exchange, channel):
                await handler(raw, account, exchange, channel)
        except ApiError as error:
            exchange.status = error.status
            await channel.error(error)
        except (RecursionError, MemoryError):
            exchange.status = 400
            message = "the request is nested too deep, or asks for too much; make it smaller"
            await channel.error(ApiError(400, "request_too_large", message))
        except ClientGoneError:
            exchange.status = 499 if exchange.fault != "cut_before" else 0
        except Exception as error:  # border: a fault of ours must not take the endpoint down
            _log.exception("the endpoint failed on a request")
            exchange.status = 500
            message = f"the endpoint itself failed: {type(error).__name__}: {error}"
            await channel.error(ApiError(500, "endpoint_failed", message))
        finally:
            account.finish(exchange)
            if tape is not None:
                self.tapes.keep(client, tape.entry(scope["path"], raw, exchange))

    async def chat(self, raw: bytes, account: Account, exchange: Exchange, channel: Channel) -> None:
        """Answer one chat completion, as the profile in its model name says."""
        is_heavy = len(raw) > SMALL_BYTES
        async with self._turn(account, is_heavy=is_heavy):
            request = wire.parse(raw)
        exchange.stream, exchange.messages = request.is_stream, request.body["messages"]
        exchange.question = wire.question(exchange.messages)
        exchange.tools = [tool["function"]["name"] for tool in request.body.get("tools", ())]
        usage, plan = await self._admit(account, exchange, channel, request.model, request.profile)
        if request.model in SIMULATED:
            cached = None
            if request.prompt_tokens >= MIN_TOKENS:
                async with self._turn(account, is_heavy=is_heavy):
                    cached = account.prefixes.read(
                        request.model, request.body, request.prompt_tokens, exchange.begun_s
                    )
                plan = faults.sooner(plan, cached / request.prompt_tokens)
            body = await self._simulate(request, account, cached, is_heavy=is_heavy)
        elif request.is_stream and plan.fault is None:
            await self._relay(request, usage, plan, exchange, channel)
            return
        else:
            body = await self._upstream.complete(request)
        if plan.fault in faults.CORRUPTIONS:
            sending.corrupt(body, plan, request.prompt_tokens)
        sending.bill(exchange, usage, body["usage"])
        message = body["choices"][0]["message"]
        exchange.reply = message.get("content")
        exchange.tool_calls = [call["function"] for call in message.get("tool_calls") or ()]
        if request.is_stream:
            await sending.stream(body, request.wants_usage, plan, exchange, channel)
        else:
            await sending.whole(body, plan, exchange, channel)

    async def embed(self, raw: bytes, account: Account, exchange: Exchange, channel: Channel) -> None:
        """Answer one embeddings request."""
        is_heavy = len(raw) > _SMALL_TEXTS_BYTES
        async with self._turn(account, is_heavy=is_heavy):
            body = wire.parse_embeddings(raw, EMBEDDING, embeddings.DIMENSIONS)
        model, profile = split_model(body["model"])
        if model != EMBEDDING:
            raise unknown_model(f"no embedding model named {model!r}; known: {EMBEDDING}")
        exchange.question = wire.question([{"role": "user", "content": body["input"]}])
        usage, plan = await self._admit(account, exchange, channel, model, profile)
        encode = embeddings.as_base64 if body["encoding_format"] == "base64" else list
        texts, dimensions = body["input"], body["dimensions"]
        channel.hold(_NUMBER_BYTES * len(texts) * dimensions)
        data: list[dict[str, Any]] = []
        while len(data) < len(texts):
            async with self._turn(account, is_heavy=is_heavy):
                until_s = time.thread_time() + FAST_S
                while len(data) < len(texts) and time.thread_time() < until_s:
                    at = len(data)
                    vector = encode(embeddings.vector(texts[at], dimensions))
                    data.append({"object": "embedding", "index": at, "embedding": vector})
        count = sum(map(tokens.count, texts))
        used = {"prompt_tokens": count, "total_tokens": count}
        answer = {"object": "list", "data": data, "model": body["model"], "usage": used}
        sending.bill(exchange, usage, used)
        await sending.whole(answer, plan, exchange, channel)

    async def _admit(
        self, account: Account, exchange: Exchange, channel: Channel, model: str, profile_name: str
    ) -> tuple[Usage, Plan]:
        """Look model and profile up, hold the limits, draw the request's fate, and play it if it is early."""
        exchange.model, exchange.profile = model, profile_name
        profile = self.profile(account, profile_name)
        if model != EMBEDDING:
            self.check_model(account, model)
        usage = account.usage(model, profile_name, exchange.begun_s)
        profile = profile.at(exchange.begun_s - usage.since_s)
        wait_s = usage.limit_wait_s(profile)
        exchange.limit_headers = usage.limit_headers(profile)
        if wait_s > 0:
            exchange.fault = "rate_limited"
            message = f"too many requests for {model}@{profile_name}; try again in {wait_s:.2f} s"
            asked_s = profile.retry_after_s or wait_s
            raise ApiError(429, "rate_limit_exceeded", message, retry_after_s=asked_s)
        plan = faults.draw(profile, model, next(usage.numbers))
        exchange.fault = plan.fault
        await sending.fail_early(plan, exchange, channel, retry_after_s=profile.retry_after_s or None)
        return usage, plan

    @asynccontextmanager
    async def _turn(self, account: Account, *, is_heavy: bool) -> AsyncIterator[None]:
        """Do a heavy step when no other is done, and answer the rest of the requests after it."""
        if not is_heavy:
            yield
            return
        async with account.turn, self._heavy:  # a client with many such requests waits behind the others
            begun_s = time.thread_time()
            try:
                yield
            finally:
                await asyncio.sleep(min(_MAX_REST_S, time.thread_time() - begun_s))

    async def _simulate(
        self, request: ChatRequest, account: Account, cached_tokens: int | None, *, is_heavy: bool
    ) -> dict[str, Any]:
        choices, samples = request.body.get("n", 1), [0]
        if request.body.get("temperature"):
            first = account.sample(request.identity(), choices)
            samples = list(range(first, first + choices))
        replies: list[Reply] = []
        spent_s, tries = 0.0, 0
        while len(replies) < len(samples):
            async with self._turn(account, is_heavy=is_heavy):
                begun_s = time.thread_time()
                engine = self._patient if is_heavy else self._engine
                try:
                    replies.append(engine(request.body, sample=samples[len(replies)]))
                except SlowError as error:
                    tries += 1
                    if is_heavy and not (error.gets_further and tries < _MAX_TRIES):
                        raise ApiError(400, "request_too_large", str(error)) from None
                    is_heavy = True
                    continue
                spent_s += time.thread_time() - begun_s
            is_heavy = is_heavy or spent_s > FAST_S
            if spent_s > MAX_ALL_S:
                message = f"{choices} choices take more than {MAX_ALL_S:g} s of processor time; ask for fewer"
                raise ApiError(400, "request_too_large", message, param="n")
        replies *= choices // len(samples)  # without a temperature all are alike
        async with self._turn(account, is_heavy=is_heavy):
            return wire.completion(request, replies, cached_tokens=cached_tokens)

    async def _relay(
        self, request: ChatRequest, usage: Usage, plan: Plan, exchange: Exchange, channel: Channel
    ) -> None:
        """Pass a provider's stream on, chunk by chunk, no faster than the profile allows."""
        text: list[str] = []
        used = wire.usage(0, 0)
        due_s = exchange.begun_s + plan.ttft_s
        async for chunk in self._upstream.stream(request):
            used = chunk.get("usage") or used
            if not chunk.get("choices") and not request.wants_usage:
                continue
            pieces = [choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices", ())]
            text += pieces
            await channel.pause_until(due_s)
            due_s += tokens.count("".join(pieces)) / plan.tokens_per_s if plan.tokens_per_s else 0.0
            await channel.event(b"data: " + orjson.dumps({**chunk, "model": request.full_model}) + b"\n\n")
        await channel.end()
        exchange.reply = "".join(text)
        sending.bill(exchange, usage, used)
