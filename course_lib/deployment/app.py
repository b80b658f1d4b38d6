# mypy: allow-untyped-decorators, allow-subclassing-any
"""The service: its routes, and what it is made of.

Main path: create_app(config) -> Guard -> a route -> Answering, Store, Audit, Jobs of the Service, which opens
them in the application's lifespan. `course_lib.deployment.replica` runs it.
Source: FastAPI 0.165. Routes return bytes of orjson's; their models are there for what comes in, and for the
OpenAPI document, which names every status.
"""
# No `from __future__ import annotations`: the models depend on the settings, and FastAPI reads annotations.

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any, Literal

import dspy
import orjson
from anyio import CancelScope
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from course_lib.concurrency.streaming import Error, Final, Stream, as_json, kind_of
from course_lib.concurrency.streaming.events import error_of
from course_lib.deployment.audit import AuditError, Broken
from course_lib.deployment.config import DeploymentConfig
from course_lib.deployment.guard import OPEN, PROGRAM_PATHS, Guard
from course_lib.deployment.problems import SCHEMA, Problem, documented, problem_of
from course_lib.deployment.queue import QueueUnavailable
from course_lib.deployment.service import Seen, Service, of_request
from course_lib.errors import CourseError

VERSION = "1.0"
_HEARTBEAT_S = 10.0
_SAVED_AFTER_S = 0.3  # the replica that gave an answer saves it a moment later


# -- what comes in, and what goes out ----------------------------------------------------------------------


def _is_text(text: str) -> str:
    if not text.strip():
        raise ValueError("a text that says something")
    if "\0" in text:
        raise ValueError("a text without NUL characters")
    return text


Id = Annotated[str, InPath(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
Customer = Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$", description="of whom it is asked")]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class FeedbackRequest(_In):
    """What somebody thought of an answer."""

    answer_id: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
    score: int = Field(ge=1, le=5)
    comment: Annotated[str, AfterValidator(lambda text: text.replace("\0", ""))] = Field("", max_length=2_000)


class _Out(BaseModel):
    request_id: str


class _Answered(_Out):
    id: str
    version: str
    cached: bool


class AnswerReply(_Answered):
    """An answer with its sources."""

    answer: str
    citations: list[str]


class TriageReply(_Answered):
    """A ticket's category and urgency."""

    category: str
    urgency: str


class JobReply(_Out):
    """A batch of inputs, and what was answered so far."""

    id: str
    program: str
    version: str
    status: Literal["queued", "running", "failed", "done", "dead", "erased"]
    attempts: int
    inputs: int
    results: list[dict[str, Any]]
    error: str


class HistoryReply(_Out):
    """Answers of this tenant, newest first."""

    answers: list[dict[str, Any]]


class AuditReply(_Out):
    """Records of the audit log, newest first."""

    entries: list[dict[str, Any]]


class CustomerReply(_Out):
    """What is held about a customer, or how much of it was erased, by place."""

    held: dict[str, Any]


class Told(_Out):
    """Something was done."""

    status: str


class Health(BaseModel):
    """Whether the process lives, or what its parts are up to."""

    status: str
    parts: dict[str, str] = {}


_NO_PROGRAM = {"at": "body.program", "problem": "one of the programs of the OpenAPI document"}
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["token", "citation", "status", "heartbeat", "final", "error", "done"]},
        "data": {"type": "string", "description": "JSON"},
        "id": {"type": "string"},
    },
}
_ALWAYS = ("unauthorized", "forbidden", "quota", "internal", "dependency")
_POSTED = ("too_slow", "too_large", "unsupported_media_type", "invalid", "running", "key_reused", "not_found")
_MODEL = ("budget", "bad_answer", "model_refused", "model_busy", "model_down", "busy", "draining", "deadline")


class App:
    """What a server runs: the guard around the application; its parts are opened when it starts."""

    def __init__(self, config: DeploymentConfig, service: Service | None = None) -> None:
        self.service = service or Service(config)
        """What all requests share."""
        self.api = _api(config, self.service)
        """FastAPI's part, with the OpenAPI document."""
        self._asgi: ASGIApp = Guard(self.api, config, self.service)
        if config.cors_origins:
            options: dict[str, Any] = {"allow_headers": ["*"], "allow_methods": ["GET", "POST"]}
            self._asgi = CORSMiddleware(self._asgi, allow_origins=list(config.cors_origins), **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._asgi(scope, receive, send)


create_app = App


def _api(config: DeploymentConfig, service: Service) -> FastAPI:
    answering, quotas = service.answering, service.quotas

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.opened():
            yield

    app = FastAPI(
        title="Lantern's support desk",
        version=VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url="/openapi.json" if config.docs else None,
        docs_url="/docs" if config.docs else None,
        redoc_url=None,
    )
    bounds = Field(min_length=1, max_length=config.max_question_chars)
    Text = Annotated[str, bounds, AfterValidator(_is_text)]  # noqa: N806  (a type)
    Name = Annotated[str, Field(json_schema_extra={"enum": list(config.programs)})]  # noqa: N806  (a type)

    class AnswerRequest(_In):
        """A question to the help centre."""

        question: Text
        customer: Customer = None

    class TriageRequest(_In):
        """A ticket to be sorted."""

        ticket: Text
        customer: Customer = None

    class JobRequest(_In):
        """Inputs of one program, to be answered by a worker."""

        program: Name
        inputs: list[Text] = Field(min_length=1, max_length=config.max_batch)
        customer: Customer = None

    post = _routes(app.post, *_POSTED)

    if "answer" in config.programs:

        @post("/v1/answers", _MODEL, response_model=AnswerReply)
        async def create_answer(asked: AnswerRequest) -> Response:
            """Answer one question."""
            raise NotImplementedError  # the guard has answered

        @post("/v1/answers/stream", _MODEL, response_class=StreamingResponse, streams=True)
        async def stream_answer(request: Request, given: AnswerRequest) -> Response:
            """Answer one question as events: token, citation, status, heartbeat, final, error, done."""
            seen = of_request(request.scope)
            await quotas.check_tokens(seen.caller)
            await service.name(seen, given.customer)
            tenant, customer, version = seen.caller.tenant, given.customer, seen.version
            asked = await answering.asked(
                "answer", given.question, tenant=tenant, customer=customer, version=version
            )
            events, finished, cost_when_left = answering.stream(asked)

            async def told(final: Final) -> dict[str, Any]:
                said = finished(final)
                await quotas.charge_tokens(seen.caller, said.tokens)
                await service.record(seen, "answer", said.id, cached=said.is_cached)
                return {"id": said.id, "version": said.version, "request_id": seen.request_id}

            async def left() -> None:
                tokens = cost_when_left()
                await quotas.charge_tokens(seen.caller, tokens)
                await service.record(seen, "answer.left", seen.request_id, tokens=tokens)

            headers = {"cache-control": "no-store"}
            return _ClosedStream(
                _server_sent(events, seen, told, lambda: service.later(left())),
                media_type="text/event-stream",
                headers=headers,
            )

    if "triage" in config.programs:

        @post("/v1/triage", _MODEL, response_model=TriageReply)
        async def create_triage(asked: TriageRequest) -> Response:
            """Sort one ticket."""
            raise NotImplementedError  # the guard has answered

    @post("/v1/jobs", response_model=JobReply, status_code=202)
    async def create_job(request: Request, asked: JobRequest) -> Response:
        """Take a batch of inputs, which a worker answers; Location says where its results will be.

        429: too many of the tenant's jobs are not done yet, or its tokens of this day are spent.
        """
        seen, store = of_request(request.scope), service.needed_store()
        if asked.program not in config.programs:
            raise Problem("invalid", "There is no such program.", errors=[_NO_PROGRAM])
        answering.program(asked.program, seen.version)
        queue = service.needed(service.queue, "queue")
        await quotas.check_tokens(seen.caller)
        once = seen.idempotency_key and f"{seen.idempotency_key}:{seen.digest.hex()}"  # key and body: one job
        job = await store.create_job(
            seen.caller.tenant,
            asked.program,
            seen.version,
            await answering.inputs(asked.program, asked.inputs),
            customer=asked.customer,
            idempotency_key=once,
            most_waiting=config.max_waiting_jobs,
        )
        await service.name(seen, asked.customer)
        try:
            await queue.send(job.id)
        except QueueUnavailable:
            await store.withdraw_job(seen.caller.tenant, job.id)  # 503 says that nothing was taken
            raise
        await service.record(seen, "job", job.id, inputs=len(asked.inputs))
        headers = {"location": f"/v1/jobs/{job.id}"}
        return _json(_job_told(job, [], seen), status=202, headers=headers)

    get = _routes(app.get)

    @get("/v1/jobs/{job_id}", ("not_found", "invalid"), response_model=JobReply)
    async def read_job(request: Request, job_id: Id) -> Response:
        """Tell how far a job is, with its results so far."""
        seen, store = of_request(request.scope), service.needed_store()
        job = await store.job(seen.caller.tenant, job_id)
        if job is None:
            raise Problem("not_found", "No job of yours has this id.")
        return _json(_job_told(job, await store.results(seen.caller.tenant, job_id), seen))

    @get("/v1/answers", ("invalid",), response_model=HistoryReply)
    async def read_history(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        customer: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = None,
    ) -> Response:
        """Tell what was answered, newest first."""
        seen, store = of_request(request.scope), service.needed_store()
        found = await store.history(seen.caller.tenant, customer=customer, limit=limit)
        shown = ("id", "program", "version", "question", "answer", "created", "score", "comment")
        rows = [{name: getattr(one, name) for name in shown} for one in found]
        return _json({"answers": rows, "request_id": seen.request_id})

    @post("/v1/feedback", response_model=Told, status_code=201)
    async def create_feedback(request: Request, given: FeedbackRequest) -> Response:
        """Keep what somebody thought of an answer; the last word counts."""
        seen, store = of_request(request.scope), service.needed_store()
        told = given.answer_id, given.score, await answering.redacted(given.comment)
        if not await store.feedback(seen.caller.tenant, *told):
            if not await answering.keep_now(given.answer_id):  # another replica may have given it
                await asyncio.sleep(_SAVED_AFTER_S)
            if not await store.feedback(seen.caller.tenant, *told):
                raise Problem("not_found", "No answer of yours has this id.")
        await service.record(seen, "feedback", given.answer_id, score=given.score)
        return _json({"status": "kept", "request_id": seen.request_id}, status=201)

    @get("/v1/audit", ("invalid",), response_model=AuditReply)
    async def read_audit(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    ) -> Response:
        """Tell what was done for this tenant, newest first; `before` goes on from a sequence number."""
        seen, audit = of_request(request.scope), service.needed(service.audit, "database")
        found = await audit.entries(seen.caller.tenant, before=before, limit=limit)
        shown = ("actor", "action", "target", "at")
        entries = [
            {"seq": seq, **{name: getattr(one, name) for name in shown}, "detail": _detail(one.detail)}
            for seq, one in found
        ]
        return _json({"entries": entries, "request_id": seen.request_id})

    @post("/v1/audit/verify", response_model=Told)
    async def verify_audit(request: Request) -> Response:
        """Say whether every record is as it was written, or which is the first that is not."""
        seen, audit = of_request(request.scope), service.needed(service.audit, "database")
        try:
            await audit.flush()
            found = await audit.verify()
        except AuditError as error:
            raise Problem("dependency", "What keeps the audit log's head does not answer.") from error
        status = f"broken at record {found.seq}" if isinstance(found, Broken) else f"verified{found.doubt}"
        return _json({"status": status, "request_id": seen.request_id})

    @get("/v1/customers/{customer}/export", ("invalid", "busy"), response_model=CustomerReply)
    async def export_customer(request: Request, customer: Id) -> Response:
        """Return all that is held about a customer."""
        seen, customers = of_request(request.scope), service.needed(service.customers, "database")
        held = await customers.export(seen.caller.tenant, customer, actor=seen.caller.name)
        return _json({"held": held, "request_id": seen.request_id})

    @_routes(app.delete)("/v1/customers/{customer}", ("invalid", "busy"), response_model=CustomerReply)
    async def erase_customer(request: Request, customer: Id) -> Response:
        """Erase all that is held about a customer, everywhere; 503 says that a place is away: ask again.

        Till then another replica may give an answer that it has in memory. What is asked of this customer
        while it is erased may be kept, under a new pseudonym.
        """
        seen, customers = of_request(request.scope), service.needed(service.customers, "database")
        done = await customers.erase(seen.caller.tenant, customer, actor=seen.caller.name)
        if not done.is_complete:
            raise Problem("dependency", f"Not erased yet: {', '.join(done.failed)}. Ask again.")
        return _json({"held": done.erased, "request_id": seen.request_id})

    @get("/v1/admin/status")
    async def read_status(request: Request) -> Response:
        """Tell the state of the service's parts, its cache and its settings; of keys the tenant's own."""
        seen = of_request(request.scope)
        own_keys = [key.name for key in config.api_keys if key.tenant == seen.caller.tenant]
        told = {
            "parts": service.parts(),
            "cache": str(answering.cache.stats()).splitlines(),
            "versions": [list(each) for each in answering.programs],
            "settings": {**config.shown(), "api_keys": ",".join(own_keys)},
        }
        return _json({**told, "request_id": seen.request_id})

    @get("/metrics", text=True)
    async def read_metrics() -> Response:
        """Tell Prometheus what happened."""
        await service.gauges.refresh()
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/health/live", response_model=Health)
    async def live() -> Response:
        """Say that the process answers."""
        return _json({"status": "ok", "parts": {}})

    @app.get("/health/ready", response_model=Health, responses=documented("draining", "starting"))
    async def ready() -> Response:
        """Say whether to send requests here, and which parts are missed; answers need the model alone."""
        if service.is_draining or service.is_starting:
            raise Problem("draining" if service.is_draining else "starting")
        parts = service.parts()
        is_whole = all(text == "ok" for text in parts.values())
        return _json({"status": "ok" if is_whole else "degraded", "parts": parts})

    _tell_problems(app)
    service.routes = {route.path: route for route in app.routes if isinstance(route, APIRoute)}
    models: dict[str, type[BaseModel]] = {"/v1/answers": AnswerRequest, "/v1/triage": TriageRequest}
    service.asked = {path: models[path] for path, name in PROGRAM_PATHS.items() if name in config.programs}
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _routes(method: Callable[..., Any], *usual: str) -> Callable[..., Any]:
    """Return a decorator for routes of one method, which documents what each may answer."""

    def route(
        path: str, codes: tuple[str, ...] = (), *, streams: bool = False, text: bool = False, **options: Any
    ) -> Any:
        responses = documented(*_ALWAYS, *usual, *codes)
        if streams or text:
            media, schema = ("text/event-stream", _EVENT) if streams else ("text/plain", {"type": "string"})
            responses[200] = {"content": {media: {"schema": schema}}}
            options["response_class"] = Response
        return method(path, responses=responses, **options)

    return route


def _json(told: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(told), status, headers, "application/json")


def _detail(text: str) -> dict[str, Any]:
    """Return the detail of an audit record, which somebody may have changed in the database."""
    try:
        found = orjson.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"problem": "this record was changed; verify the log"}


def _job_told(job: Any, results: Any, seen: Seen) -> dict[str, Any]:
    """Return what a tenant sees of a job; of a row that somebody else has written, that it is unreadable."""
    return {
        **{name: getattr(job, name) for name in ("id", "program", "version", "status", "attempts", "error")},
        "inputs": len(job.inputs) if isinstance(job.inputs, list) else 0,
        "results": [{"index": each.index, **_readable(each.result)} for each in results],
        "request_id": seen.request_id,
    }


def _readable(result: Any) -> dict[str, Any]:
    try:
        orjson.dumps(result)
    except TypeError:  # such as a number of 400 digits
        result = None
    return result if isinstance(result, dict) else {"error": "unreadable"}


class _ClosedStream(StreamingResponse):
    """A response whose events end with it; left to the garbage collector, the model would go on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await self.body_iterator.aclose()  # type: ignore[attr-defined]


async def _server_sent(
    events: Stream, seen: Seen, told_at_end: Callable[[Final], Any], left: Callable[[], object]
) -> AsyncIterator[bytes]:
    """Yield a stream's events as a browser's EventSource reads them; call `left` if its reader leaves early.

    A stream whose model has failed costs nothing, and counts as its error's status would. An answer that
    broke off where it could still be read is a failure too: nobody is to take it for whole.
    """
    is_over = False
    try:
        async with events, aclosing(events.follow(heartbeat_s=_HEARTBEAT_S)) as numbered:
            async for number, event in numbered:
                if isinstance(event, Final) and event.is_cut:
                    event = error_of("stream_assembly", partial=event.fields)
                if isinstance(event, Error):
                    seen.failed = (problem_of(event.cause) if event.cause else Problem("bad_answer")).status
                is_over |= isinstance(event, Final | Error)
                told = as_json(event)
                if isinstance(event, Final):
                    told |= await told_at_end(event)
                yield f"event: {kind_of(event)}\nid: {number}\ndata: {json.dumps(told)}\n\n".encode()
    finally:
        if not is_over:
            left()


def _tell_problems(app: FastAPI) -> None:
    """Let every error leave as a problem; the rest is the guard's."""

    async def told(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        headers = {**problem.headers, **((isinstance(error, HTTPException) and error.headers) or {})}
        return Response(problem.document(request.scope["course_request_id"]), problem.status, headers)

    for kind in (RequestValidationError, HTTPException, CourseError, dspy.DSPyError, Exception):
        app.add_exception_handler(kind, told)  # Starlette raises an Exception again: the guard logs it


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the document: with how to sign in, and what every error looks like."""
    if app.openapi_schema:
        return app.openapi_schema
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    parts = found.setdefault("components", {})
    parts.setdefault("schemas", {})["Problem"] = SCHEMA
    parts["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    }
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in OPEN else [{"key": []}, {"token": []}]
            for response in operation["responses"].values():  # FastAPI adds its own form beside ours
                content = response.get("content", {})
                if "application/problem+json" in content:
                    content.pop("application/json", None)
    app.openapi_schema = found
    return found
