"""Every route of the endpoint: chat and embeddings, models and health, and each client's ledger and profiles.

Main path: app(endpoint) -> the ASGI application; lm/client.py calls what begins with /course.
Written without a framework, since the faults have to reach the connection under a request.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import orjson

from course_lib.lm import profiles
from course_lib.lm.endpoint.accounts import MAX_PROFILES, Account, Exchange
from course_lib.lm.endpoint.sending import Channel, ClientGoneError, Receive, Scope, Send
from course_lib.lm.endpoint.server import MODELS, Endpoint
from course_lib.lm.endpoint.wire import ApiError, read_object
from course_lib.lm.profiles import PROFILES, ProfileError, as_values, split_model
from course_lib.lm.recordings import MOST_BYTES
from course_lib.services.web import LOOPBACK, is_own

_STARTED = int(time.time())
_OK = {"status": "ok"}


def app(endpoint: Endpoint) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the ASGI application around `endpoint`."""
    exchanges = {"/v1/chat/completions": endpoint.chat, "/v1/embeddings": endpoint.embed}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(endpoint, receive, send)
            return
        exchange = Exchange(begun_s=endpoint.clock())
        channel = Channel(scope, receive, send, exchange, endpoint.load)
        try:
            if not _is_own(endpoint, scope):
                message = "a page of another site asked, or by a name that is not this server's; programs may"
                await channel.error(ApiError(403, "foreign_page", message))
            elif scope["method"] == "POST" and scope["path"] in exchanges:
                await endpoint.route(exchanges[scope["path"]], scope, exchange, channel)
            else:
                await _control(endpoint, channel, scope)
        finally:
            channel.release()

    return application


def _is_own(endpoint: Endpoint, scope: Scope) -> bool:
    """Return whether no foreign page asks; where others were let in by an address, it may have any name."""
    address = str(scope["server"][0]).removeprefix("::ffff:")
    is_near = address == "::1" or address.startswith("127.")
    names = {*LOOPBACK, address, endpoint.name.lower()} if is_near else None
    return is_own(scope, names=names, is_page=scope["path"] == "/course/health")


async def _live(endpoint: Endpoint, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await endpoint.aclose()
    await send({"type": "lifespan.shutdown.complete"})


async def _control(endpoint: Endpoint, channel: Channel, scope: Scope) -> None:
    """Answer what is not entered in the ledger."""
    try:
        if (scope["method"], scope["path"]) == ("GET", "/course/recording"):
            await endpoint.tapes.stream(endpoint.client(scope), _query(scope).get("name", ""), channel)
            return
        await channel.json(200, orjson.dumps(await _answer(endpoint, channel, scope)))
    except ApiError as error:
        await channel.error(error)
    except ClientGoneError:
        return


async def _answer(endpoint: Endpoint, channel: Channel, scope: Scope) -> object:
    method, path = scope["method"], scope["path"]
    if path == "/course/health":
        return {"status": "ok", "models": MODELS}
    is_recording = path == "/course/replay"
    account = endpoint.accounts.of(endpoint.client(scope))
    raw, query = await channel.body(*[MOST_BYTES] * is_recording), _query(scope)
    match method, path:
        case "GET", "/v1/models":
            return {"object": "list", "data": [_entry(name) for name in MODELS]}
        case "GET", "/course/ledger":
            return _ledger(account, query.get("since", "0"), has_texts="figures" not in query)
        case "GET", "/course/profiles":
            return {name: as_values(kept) for name, kept in {**PROFILES, **account.profiles}.items()}
        case "GET", "/course/check":
            return _check(endpoint, account, query.get("model", ""))
        case "POST", "/course/profiles":
            return _add_profile(account, raw)
        case "POST", "/course/recording":
            endpoint.tapes.stop(account.client, query.get("name", ""))
            return _OK
        case "POST", "/course/replay":
            await endpoint.tapes.begin(account.client, read_object(raw), len(raw))
            return _OK
        case "DELETE", "/course/replay":
            return endpoint.tapes.finish(account.client)
        case "POST", "/course/reset":
            account.reset()
            return _OK
    name = path.removeprefix("/v1/models/")
    if method == "GET" and name != path:
        if name not in MODELS:
            _check(endpoint, account, name)
        return _entry(name)
    known = "/v1/chat/completions, /v1/embeddings, /v1/models"
    raise ApiError(404, "not_found", f"nothing answers {method} {path:.200}; known: {known}")


def _query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode("latin-1")))


def _check(endpoint: Endpoint, account: Account, name: str) -> object:
    """Say whether a model string could be used, without using it."""
    model, profile = split_model(name)
    endpoint.profile(account, profile)
    endpoint.check_model(account, model)
    return _OK


def _ledger(account: Account, since: str, *, has_texts: bool) -> object:
    try:
        return account.view(int(since), has_texts=has_texts)
    except ValueError:
        message = f"since is {since[:40]!r}; it should be a request's number"
        raise ApiError(400, "invalid_value", message, param="since") from None


def _add_profile(account: Account, raw: bytes) -> object:
    values = read_object(raw)
    name = str(values.pop("name", ""))
    if name not in account.profiles and len(account.profiles) >= MAX_PROFILES:
        raise ApiError(400, "too_many_profiles", f"{MAX_PROFILES} profiles are enough; reuse a name")
    try:
        account.profiles[name] = profiles.build(name, values)
    except ProfileError as error:
        raise ApiError(400, "invalid_profile", str(error)) from None
    account.forget_usage(name)
    return _OK


def _entry(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "course"}
