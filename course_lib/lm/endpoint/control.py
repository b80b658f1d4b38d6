"""The endpoint's side doors: models, health, and each client's ledger, profiles and reset.

Main path: routes(endpoint); lm/client.py is who calls them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from course_lib.lm import profiles
from course_lib.lm.endpoint.accounts import MAX_PROFILES, Account
from course_lib.lm.endpoint.wire import ApiError, read_object
from course_lib.lm.profiles import PROFILES, ProfileError, as_values, split_model

if TYPE_CHECKING:
    from course_lib.lm.endpoint.server import Endpoint

_STARTED = int(time.time())


def routes(endpoint: Endpoint) -> list[Route]:
    """Return the control routes of `endpoint`."""

    def route(path: str, handler: _Handler, method: str = "GET") -> Route:
        async def call(request: Request) -> Response:
            try:
                return _json(await handler(endpoint, request))
            except ApiError as error:
                return Response(error.body(), error.status, media_type="application/json")

        return Route(path, call, methods=[method])

    return [
        route("/v1/models", _models),
        route("/v1/models/{model:path}", _model),
        route("/course/health", _health),
        route("/course/check", _check),
        route("/course/ledger", _ledger),
        route("/course/reset", _reset, "POST"),
        route("/course/profiles", _profiles),
        route("/course/profiles", _add_profile, "POST"),
    ]


_Handler = Callable[["Endpoint", Request], Awaitable[object]]


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
        said = f"since is {since[:40]!r}; it should be a request's number"
        raise ApiError(400, "invalid_value", said, param="since") from None
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


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
