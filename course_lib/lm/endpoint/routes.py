"""Every route of the endpoint: chat and embeddings, models and health, and each client's ledger and profiles.

Main path: app(endpoint) -> the ASGI application; lm/client.py calls what begins with /course.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from course_lib.lm import profiles
from course_lib.lm.endpoint.accounts import MAX_PROFILES, Account, Exchange
from course_lib.lm.endpoint.channel import Channel, Receive, Scope, Send
from course_lib.lm.endpoint.server import Endpoint, Handler
from course_lib.lm.endpoint.wire import ApiError, read_object
from course_lib.lm.profiles import PROFILES, ProfileError, as_values, split_model

_STARTED = int(time.time())


def app(endpoint: Endpoint) -> Starlette:
    """Return the ASGI application around `endpoint`."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await endpoint.aclose()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/v1/chat/completions", _Exchange(endpoint, endpoint.chat), methods=["POST"]),
            Route("/v1/embeddings", _Exchange(endpoint, endpoint.embed), methods=["POST"]),
            *(
                Route(path, partial(_answer, endpoint, handler), methods=[method])
                for path, method, handler in _CONTROLS
            ),
            Mount("/", _no_route),
        ],
    )


class _Exchange:
    """A route without Starlette's Request and Response, which the faults could not reach through."""

    def __init__(self, endpoint: Endpoint, handler: Handler) -> None:
        self._endpoint, self._handler = endpoint, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint.route(self._handler, scope, receive, send)


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    known = "/v1/chat/completions, /v1/embeddings, /v1/models"
    error = ApiError(404, "not_found", f"nothing answers {scope['method']} {scope['path']}; known: {known}")
    await Channel(scope, receive, send, Exchange(begun_s=time.monotonic())).error(error)


_Control = Callable[[Endpoint, Request], Awaitable[object]]


async def _answer(endpoint: Endpoint, handler: _Control, request: Request) -> Response:
    try:
        body, status = orjson.dumps(await handler(endpoint, request)), 200
    except ApiError as error:
        body, status = error.body(), error.status
    return Response(body, status, media_type="application/json")


async def _models(endpoint: Endpoint, request: Request) -> object:
    endpoint.client(request.scope)
    return {"object": "list", "data": [_entry(name) for name in endpoint.models()]}


async def _model(endpoint: Endpoint, request: Request) -> object:
    named = request.path_params["model"]
    model, profile = split_model(named)
    client = endpoint.client(request.scope)
    endpoint.profile(endpoint.accounts.of(client), profile)
    if model not in endpoint.models():
        endpoint.check_model(client, model)
    return _entry(named)


async def _health(endpoint: Endpoint, _request: Request) -> object:
    return {"status": "ok", "models": endpoint.models()}


async def _check(endpoint: Endpoint, request: Request) -> object:
    """Say whether a model string could be used, without using it."""
    client = endpoint.client(request.scope)
    model, profile = split_model(request.query_params.get("model", ""))
    endpoint.profile(endpoint.accounts.of(client), profile)
    endpoint.check_model(client, model)
    return {"status": "ok"}


async def _ledger(endpoint: Endpoint, request: Request) -> object:
    since = request.query_params.get("since", "0")
    try:
        number = int(since)
    except ValueError:
        message = f"since is {since[:40]!r}; it should be a request's number"
        raise ApiError(400, "invalid_value", message, param="since") from None
    return _account(endpoint, request).view(number)


async def _reset(endpoint: Endpoint, request: Request) -> object:
    _account(endpoint, request).reset()
    return {"status": "ok"}


async def _profiles(endpoint: Endpoint, request: Request) -> object:
    known = {**PROFILES, **_account(endpoint, request).profiles}
    return {name: as_values(profile) for name, profile in known.items()}


async def _add_profile(endpoint: Endpoint, request: Request) -> object:
    account = _account(endpoint, request)
    values = read_object(await request.body())
    name = str(values.pop("name", ""))
    if name not in account.profiles and len(account.profiles) >= MAX_PROFILES:
        raise ApiError(400, "too_many_profiles", f"{MAX_PROFILES} profiles are enough; reuse a name")
    try:
        account.profiles[name] = profiles.build(name, values)
    except ProfileError as error:
        raise ApiError(400, "invalid_profile", str(error)) from None
    account.forget_usage(name)
    return {"status": "ok"}


def _account(endpoint: Endpoint, request: Request) -> Account:
    return endpoint.accounts.of(endpoint.client(request.scope))


def _entry(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "course"}


_CONTROLS: tuple[tuple[str, str, _Control], ...] = (
    ("/v1/models", "GET", _models),
    ("/v1/models/{model:path}", "GET", _model),
    ("/course/health", "GET", _health),
    ("/course/check", "GET", _check),
    ("/course/ledger", "GET", _ledger),
    ("/course/reset", "POST", _reset),
    ("/course/profiles", "GET", _profiles),
    ("/course/profiles", "POST", _add_profile),
)
