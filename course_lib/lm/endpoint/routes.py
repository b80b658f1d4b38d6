"""Every route of the endpoint: chat and embeddings, models and health, and each client's ledger and profiles.

Main path: app(endpoint) -> the ASGI application; lm/client.py calls what begins with /course.
Written without a framework, since the faults have to reach the connection under a request.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

import orjson

from course_lib.lm import profiles
from course_lib.lm.endpoint.accounts import MAX_PROFILES, Account, Exchange
from course_lib.lm.endpoint.sending import Channel, ClientGoneError, Receive, Scope, Send, read_body
from course_lib.lm.endpoint.server import MODELS, Endpoint
from course_lib.lm.endpoint.wire import ApiError, read_object
from course_lib.lm.profiles import PROFILES, ProfileError, as_values, split_model

_STARTED = int(time.time())
_ONE_MODEL = "/v1/models/"
Query = Mapping[str, str]


def app(endpoint: Endpoint) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the ASGI application around `endpoint`."""
    exchanges = {"/v1/chat/completions": endpoint.chat, "/v1/embeddings": endpoint.embed}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(endpoint, receive, send)
        elif scope["method"] == "POST" and scope["path"] in exchanges:
            await endpoint.route(exchanges[scope["path"]], scope, receive, send)
        else:
            await _control(endpoint, Channel(scope, receive, send, Exchange(0.0)), scope, receive)

    return application


async def _live(endpoint: Endpoint, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await endpoint.aclose()
    await send({"type": "lifespan.shutdown.complete"})


async def _control(endpoint: Endpoint, channel: Channel, scope: Scope, receive: Receive) -> None:
    """Answer what is not entered in the ledger."""
    path, query = scope["path"], dict(parse_qsl(scope["query_string"].decode("latin-1")))
    if path.startswith(_ONE_MODEL):
        path, query = _ONE_MODEL, {"model": path.removeprefix(_ONE_MODEL)}
    handler = _CONTROLS.get((scope["method"], path))
    try:
        if path == "/course/health":
            answer: object = {"status": "ok", "models": MODELS}
        elif handler is None:
            known = "/v1/chat/completions, /v1/embeddings, /v1/models"
            message = f"nothing answers {scope['method']} {path:.200}; known: {known}"
            raise ApiError(404, "not_found", message)
        else:
            account = endpoint.accounts.of(endpoint.client(scope))
            answer = handler(endpoint, account, query, await read_body(receive))
        await channel.json(200, orjson.dumps(answer))
    except ApiError as error:
        await channel.error(error)
    except ClientGoneError:
        return


_Control = Callable[[Endpoint, Account, Query, bytes], object]


def _models(_endpoint: Endpoint, _account: Account, _query: Query, _raw: bytes) -> object:
    return {"object": "list", "data": [_entry(name) for name in MODELS]}


def _model(endpoint: Endpoint, account: Account, query: Query, _raw: bytes) -> object:
    if query["model"] not in MODELS:
        _check(endpoint, account, query, _raw)
    return _entry(query["model"])


def _check(endpoint: Endpoint, account: Account, query: Query, _raw: bytes) -> object:
    """Say whether a model string could be used, without using it."""
    model, profile = split_model(query.get("model", ""))
    endpoint.profile(account, profile)
    endpoint.check_model(account, model)
    return {"status": "ok"}


def _ledger(_endpoint: Endpoint, account: Account, query: Query, _raw: bytes) -> object:
    since = query.get("since", "0")
    try:
        return account.view(int(since))
    except ValueError:
        message = f"since is {since[:40]!r}; it should be a request's number"
        raise ApiError(400, "invalid_value", message, param="since") from None


def _reset(_endpoint: Endpoint, account: Account, _query: Query, _raw: bytes) -> object:
    account.reset()
    return {"status": "ok"}


def _profiles(_endpoint: Endpoint, account: Account, _query: Query, _raw: bytes) -> object:
    return {name: as_values(profile) for name, profile in {**PROFILES, **account.profiles}.items()}


def _add_profile(_endpoint: Endpoint, account: Account, _query: Query, raw: bytes) -> object:
    values = read_object(raw)
    name = str(values.pop("name", ""))
    if name not in account.profiles and len(account.profiles) >= MAX_PROFILES:
        raise ApiError(400, "too_many_profiles", f"{MAX_PROFILES} profiles are enough; reuse a name")
    try:
        account.profiles[name] = profiles.build(name, values)
    except ProfileError as error:
        raise ApiError(400, "invalid_profile", str(error)) from None
    account.forget_usage(name)
    return {"status": "ok"}


def _entry(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "course"}


_CONTROLS: dict[tuple[str, str], _Control] = {
    ("GET", "/v1/models"): _models,
    ("GET", _ONE_MODEL): _model,
    ("GET", "/course/check"): _check,
    ("GET", "/course/ledger"): _ledger,
    ("POST", "/course/reset"): _reset,
    ("GET", "/course/profiles"): _profiles,
    ("POST", "/course/profiles"): _add_profile,
}
