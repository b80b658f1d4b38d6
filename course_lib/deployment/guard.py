"""What stands before every route: who asks, how often, how much at once; and answers to repeated questions.

Main path: Guard(app, service): request id -> caller -> quota -> role -> body -> idempotency key -> the same
request as before? -> a program, or a route of the application, with what is known in `scope["course"]`.
Source: plain ASGI 3. Starlette's BaseHTTPMiddleware runs each request in a task of its own, at half the rate;
FastAPI's routing, dependencies and responses take as long as all of this, so it only documents these two.

A span costs as much as a repeated answer. What memory answers has none: metrics count it, and the audit log.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import time
from typing import Any

import orjson
from cachetools import LRUCache
from prometheus_client import Counter, Histogram
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_lib.debugging import TracedRequests
from course_lib.deployment.answering import Answered, Asked
from course_lib.deployment.config import DeploymentConfig
from course_lib.deployment.problems import KINDS, Problem, invalid, problem_of
from course_lib.deployment.programs import SERVED
from course_lib.deployment.records import Ended
from course_lib.deployment.service import Seen, Service, of_request
from course_lib.deployment.store import Store
from course_lib.redaction import one_line

OPEN = frozenset({"/health/live", "/health/ready", "/openapi.json", "/docs"})
"""What anybody may ask; it tells nothing of a tenant."""
ROLES = {
    "/v1/answers": "ask",
    "/v1/triage": "ask",
    "/v1/jobs": "ask",
    "/v1/feedback": "ask",
    "/metrics": "operate",
    "/v1/admin": "operate",
    "/v1/audit": "audit",
    "/v1/customers": "privacy",
}
"""By the first two parts of a path, the role that it needs."""
WATCHING = frozenset({"operate", "audit"})
"""Roles whose requests have a quota of their own, so that no flood of questions hides itself."""
PROGRAM_PATHS = {"/v1/answers": "answer", "/v1/triage": "triage"}
BODY_WITHIN_S = 15.0
_LOST_S = 60.0
"""So long after its deadline a request with an idempotency key is taken for lost with its replica."""
_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_KEY = re.compile(rb"[\x21-\x7e]{1,128}")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_JSON = (b"content-type", b"application/json")
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_log = logging.getLogger("course_lib.deployment")


def reply(answered: Answered, request_id: str) -> bytes:
    """Return the body that an answer is sent as."""
    told = {"id": answered.id, **answered.outputs, "version": answered.version}
    return orjson.dumps({**told, "cached": answered.is_cached, "request_id": request_id})


class Guard:
    """ASGI middleware around the application, for a service that knows its routes."""

    def __init__(self, app: ASGIApp, config: DeploymentConfig, service: Service) -> None:
        self._app, self._config, self._service = app, config, service
        self._traced = TracedRequests(self._inside, service.tracer)
        self._callers, self._quotas = service.callers, service.quotas
        self._answering, self._records = service.answering, service.records
        self._logs = self._records.folder is not None
        self._keys: LRUCache[bytes, tuple[str, str | None]] = LRUCache(512)
        labels, registry = ["route", "status"], service.metrics.registry
        self._requests = Counter("service_requests", "Requests answered", labels, registry=registry)
        self._seconds = Histogram(
            "service_request_seconds",
            "From head to end, if not refused",
            ["route"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        for route in {*ROLES, "/v1/history", *service.routes}:
            for failed in {status for status, _ in KINDS.values() if status >= 500}:
                if route.startswith("/v1/"):  # begun at 0, or the first failures were no rise of a count
                    self._requests.labels(route, str(failed))
        repeated = "Answers that memory had, so that no program asked for them"
        self._repeated = Counter("service_repeated", repeated, ["program"], registry=registry)
        self._counted: dict[tuple[str, int], Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens in it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_s, status, is_whole = time.perf_counter(), 0, False
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _ID.fullmatch(given) else secrets.token_hex(8)

        scope["course_request_id"] = request_id

        async def sending(message: Message) -> None:
            nonlocal status, is_whole
            is_whole = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._admit(scope, receive, sending, headers, request_id)
        except Exception as error:  # border: whatever is raised in here becomes a response
            problem = problem_of(error)
            if problem.code == "internal":
                _log.error("request %s failed: %s", request_id, one_line(repr(error)))
            if is_whole:
                return
            if status:  # a part of the answer is out: break the connection, so that nobody takes it for whole
                status = problem.status
                raise
            raw = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
            await _send(sending, problem.status, problem.document(request_id), *raw)
        finally:
            route = getattr(scope.get("route"), "path", None) or _family(scope["path"])
            route = route if route in OPEN or _family(route) in ROLES else "other"
            took_s = time.perf_counter() - begun_s
            seen = scope.get("course")
            status = (seen and seen.failed) or status
            is_history = scope["method"] == "GET" and route in PROGRAM_PATHS  # no program is asked
            self._count("/v1/history" if is_history else route, status, took_s)
            if self._logs and seen:  # nobody's requests are counted, not logged
                who = seen.caller.tenant, seen.subject, seen.trace_id
                ended = Ended(time.time(), took_s, request_id, scope["method"], route, status or 499, *who)
                self._records.put(ended)

    async def _admit(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], request_id: str
    ) -> None:
        path: str = scope["path"]
        if path in OPEN:
            await self._app(scope, receive, send)
            return
        caller = self._callers.identify(_text(headers, b"authorization"), _text(headers, b"x-api-key"))
        role = ROLES.get(family := _family(path))
        is_watching = role in WATCHING and role in caller.roles
        await self._quotas.take_request(caller, apart=f"{role}" if is_watching else "")
        named = _text(headers, b"x-program-version")
        for needed in (role, None if named is None else "operate"):
            if needed is not None and needed not in caller.roles:
                self._service.count(caller, "forbidden", family)
                caller.require(needed)
        if named is not None and sum(name == b"x-program-version" for name, _ in scope["headers"]) > 1:
            raise Problem("invalid", "Send X-Program-Version once.")  # the gateway goes by any of them
        seen = scope["course"] = Seen(request_id, caller, named or self._answering.version)
        if scope["method"] not in _WITH_BODY:
            await self._traced(scope, receive, send)
            return
        body = await self._body(receive, headers)
        head = f"{caller.tenant}\n{path}\n{seen.version}\n".encode(errors="replace")
        seen.digest = hashlib.sha256(head + body).digest()
        if b"idempotency-key" in headers and path != "/v1/answers/stream":
            await self._once(scope, receive, send, body, headers[b"idempotency-key"])
        else:
            await self._answer(scope, receive, send, body)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        """Answer what memory has at once; all else within a span."""
        seen, path = of_request(scope), scope["path"]
        if path in self._service.asked and scope["method"] == "POST":
            scope["route"] = self._service.routes[path]
            key, customer = self._keys.get(seen.digest) or ("", None)
            said = None
            if key:
                await self._answering.refreshed()
                said = self._answering.found(key)
            if said is None:
                asked = scope["course_asked"] = await self._read(seen, path, body)
                customer, said = asked.customer, self._answering.at_once(asked)
            if customer and self._logs:
                await self._service.name(seen, customer)
            if said is not None:  # this tenant's before, or it would not be in memory
                self._keys[seen.digest] = said.key, customer
                self._service.count(seen.caller, "answer.repeated", PROGRAM_PATHS[path])
                self._repeated.labels(PROGRAM_PATHS[path]).inc()
                await _send(send, 200, reply(said, seen.request_id), _JSON)
                return
        await self._traced(scope, _again(body, receive), send)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask a program's model; let the application answer the rest."""
        seen = of_request(scope)
        seen.trace_id = place.trace_id if (place := self._service.tracer.place) else None
        if "course_asked" not in scope:
            await self._app(scope, receive, send)
            return
        asked = scope["course_asked"]
        self._records.mark(seen.subject)
        await self._quotas.check_tokens(seen.caller)
        said = await self._answering.ask(asked)
        if said.tokens:
            await self._quotas.charge_tokens(seen.caller, said.tokens)
        self._keys[seen.digest] = said.key, asked.customer
        await self._service.record(seen, "answer", said.id, cached=said.is_cached)
        await _send(send, 200, reply(said, seen.request_id), _JSON)

    async def _read(self, seen: Seen, path: str, body: bytes) -> Asked:
        """Return what is asked of which program, by whom about whom.

        Raises:
            Problem: the body is nothing that the program can be asked.
        """
        try:
            given = self._service.asked[path].model_validate_json(body)
        except ValidationError as error:
            raise invalid(
                error.errors(include_url=False, include_context=False, include_input=False)
            ) from None
        name, tenant = PROGRAM_PATHS[path], seen.caller.tenant
        text = getattr(given, SERVED[name].input)
        return await self._answering.asked(
            name, text, tenant=tenant, customer=given.customer, version=seen.version
        )

    async def _body(self, receive: Receive, headers: dict[bytes, bytes]) -> bytes:
        """Return the body, which is JSON of a bounded size.

        Raises:
            Problem: it is something else, too large or too slow.
        """
        most = self._config.max_body_bytes
        if int(headers.get(b"content-length") or 0) > most:
            raise Problem("too_large", f"A body may have {most} bytes.")
        body, has_more = b"", True
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                while has_more and len(body) <= most:
                    message = await receive()
                    body += message.get("body", b"")
                    has_more = message.get("more_body", False)
        except TimeoutError:
            raise Problem("too_slow", f"Send the body within {BODY_WITHIN_S:g} s.") from None
        if len(body) > most:
            raise Problem("too_large", f"A body may have {most} bytes.")
        media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if body and media != b"application/json":
            raise Problem("unsupported_media_type", "Send Content-Type: application/json.")
        if not _is_utf_8(body):  # Python's parser reads UTF-16 and UTF-32 too, pydantic's does not
            raise Problem("invalid", "Send JSON in UTF-8, without a byte order mark.")
        return body

    async def _once(self, scope: Scope, receive: Receive, send: Send, body: bytes, given: bytes) -> None:
        """Answer a request with an idempotency key: the first one is done, the others get its answer."""
        if not _KEY.fullmatch(given):
            raise Problem("invalid", "Idempotency-Key has 1 to 128 visible ASCII characters.")
        seen, key, store = of_request(scope), given.decode(), self._service.needed_store()
        tenant, subject = seen.caller.tenant, await _subject(store, seen.caller.tenant, body)
        seen.idempotency_key = key
        lost_s = _LOST_S + self._config.deadline_s
        begun = await store.begin(tenant, key, seen.digest.hex(), subject=subject, stale_s=lost_s)
        if begun.state == "running":
            raise Problem("running", "Wait for its answer.", retry_after_s=1.0)
        if begun.state == "conflict":
            raise Problem("key_reused", "Use a new key for a new request.")
        if begun.state == "done":
            headers = [_JSON, (b"idempotent-replayed", b"true")]
            if begun.status == 202:  # a job, whose place is told again
                headers.append((b"location", f"/v1/jobs/{begun.body['id']}".encode()))
            await _send(send, begun.status, orjson.dumps(begun.body), *headers)
            return
        captured, is_kept = list[Message](), False

        async def capture(message: Message) -> None:
            captured.append(message)

        try:
            await self._answer(scope, receive, capture, body)
            status, text = captured[0]["status"], b"".join(each.get("body", b"") for each in captured[1:])
            if status < 400:
                await store.complete(tenant, key, status, orjson.loads(text))
                is_kept = True
        finally:
            if not is_kept:
                await store.forget_key(tenant, key)
        for message in captured:
            await send(message)

    def _count(self, route: str, status: int, took_s: float) -> None:
        counted = self._counted.get((route, status))
        if counted is None:
            both = self._requests.labels(route, str(status or 499)), self._seconds.labels(route)
            counted = self._counted[route, status] = both
        counted[0].inc()
        if not 400 <= status < 500:  # who is refused at once would hide how long the others wait
            counted[1].observe(took_s)


async def _subject(store: Store, tenant: str, body: bytes) -> str | None:
    """Return the pseudonym of the customer that a body names, so that the kept answer goes with them."""
    try:
        customer = orjson.loads(body)["customer"]
    except (ValueError, TypeError, KeyError):
        return None  # nobody is named; what is wrong is said by the route
    is_name = isinstance(customer, str) and _ID.fullmatch(customer.encode(errors="replace"))
    return await store.subject(tenant, customer) if is_name else None


def _is_utf_8(body: bytes) -> bool:
    """Return whether a body may be JSON in UTF-8, which has no NUL; other encodings of it have."""
    try:
        return not body.decode().startswith("\ufeff") and b"\0" not in body
    except UnicodeDecodeError:
        return False


def _text(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _family(path: str) -> str:
    """Return the first two parts of a path.

    >>> _family("/v1/jobs/job_1"), _family("/metrics"), _family("/v1")
    ('/v1/jobs', '/metrics', '/v1')
    """
    first, *rest = path[1:].split("/", 2)
    return f"/{first}/{rest[0]}" if first == "v1" and rest else f"/{first}"


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, and then what comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return left.pop() if left else await receive()

    return receiving


async def _send(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
