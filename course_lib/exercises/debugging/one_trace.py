"""Exercise 4.3, one trace over a hop: both halves of a request, joined by a header.

Main path: EXERCISE -> engine.registry; requests go through httpx to Starlette, in a context of their own.
What a check says of a trace is its paths, from the first span to each that has none below: "POST > answer".
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import dspy
import httpx
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from course_lib.debugging import Tracer
from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal, show
from course_lib.exercises.engine.registry import Exercise

_URL = "http://service"
_STATUSES = 200, 404, 429, 503, 302
_BELOW = "POST > answer > Support > Search"
_UNUSABLE = (
    *("", "garbage", "00-1234-5678-01", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01"),
    *(f"ff-{'1' * 32}-{'2' * 16}-01", f"00-{'g' * 32}-{'2' * 16}-01", f"00-{'1' * 32}", "00-1-2-3-4-5"),
)


class Search(dspy.Module):  # type: ignore[misc]
    """A step of the program; it lets others have their turn."""

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Answer with what was asked."""
        for _ in range(random.randrange(1, 5)):
            await asyncio.sleep(0)
        return dspy.Prediction(answer=f"about {inputs['ticket']}", copies=inputs["copies"])


class Support(dspy.Module):  # type: ignore[misc]
    """The program of the service."""

    def __init__(self) -> None:
        super().__init__()
        self.search = Search()
        self.error: Exception | None = None

    async def aforward(self, ticket: str, copies: int) -> dspy.Prediction:
        """Search, then fail if it has to."""
        found = await self.search.acall(ticket=ticket, copies=copies)
        if self.error:
            raise self.error
        return found


class _Asked(Request):
    """A request whose body takes a moment to arrive."""

    async def json(self) -> Any:
        await asyncio.sleep(0)
        return await super().json()


class _Wire(httpx.ASGITransport):
    """Carries a request to an application in a context in which no span of the client is known."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._context = contextvars.copy_context()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answering = super().handle_async_request(request)
        return await asyncio.get_running_loop().create_task(answering, context=self._context.copy())


class _Service:
    """The learner's handler behind a web framework; it keeps what came out, and answers 500 to an error."""

    def __init__(self, tracer: Tracer, handler: Any) -> None:
        self.program, self.came = Support(), list[Any]()
        self._handle = handler(tracer, self.program)

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer a request."""
        try:
            self.came.append(await self._handle(_Asked(request.scope, request.receive)))
            return JSONResponse(self.came[-1])
        except Exception as error:  # border: it is looked at
            self.came.append(error)
            return JSONResponse({}, 500)

    def expect_came(self, wanted: list[Any] | None, what: str) -> None:
        """Fail the check unless this came out of the handler; for None, anything but errors."""
        error = next((each for each in self.came if isinstance(each, Exception)), None)
        if error or (wanted is not None and self.came != wanted):
            expected = "no error" if wanted is None else repr(wanted)
            raise CheckFailed(what, observed=show(self.came), expected=expected, hint=_ENTRIES) from error


@asynccontextmanager
async def _hop(handler: Any) -> AsyncIterator[tuple[Tracer, _Service, httpx.AsyncClient]]:
    """Start a service, and let a new tracer listen on both sides."""
    tracer = Tracer()
    with dspy.context(callbacks=[tracer]):
        service = _Service(tracer, handler)
        app = Starlette(routes=[Route("/{path:path}", service.__call__, methods=["GET", "POST", "PUT"])])
        async with httpx.AsyncClient(transport=_Wire(app), base_url=_URL) as client:
            yield tracer, service, client


def _answers(sent: list[httpx.Request], end: int | Exception, text: str = "") -> httpx.MockTransport:
    """Return a network that answers with this status, or raises this error, and keeps what is sent."""

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if isinstance(end, Exception):
            raise end
        return httpx.Response(end, text=text, headers={"location": "/elsewhere"})

    return httpx.MockTransport(answer)


def _body() -> dict[str, Any]:
    return {"ticket": f"Where is order {random.randint(10_000, 99_999)}?", "copies": random.randint(1, 9)}


def _paths(spans: Sequence[ReadableSpan]) -> list[str]:
    """Return the path to each span that has none below it."""
    known, above = {span.context.span_id: span for span in spans}, set[int]()

    def path(span: ReadableSpan) -> str:
        if span.parent is None:
            return span.name
        above.add(span.parent.span_id)
        parent = known.get(span.parent.span_id)
        return f"{path(parent) if parent else '(a span that is not there)'} > {span.name}"

    found = [(span.context.span_id, path(span)) for span in spans]
    return sorted(words for number, words in found if number not in above)


def _named(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    """Return the span of this name; fail the check if there is none, or a second one."""
    found = [span for span in spans if span.name == name]
    expect_equal(len(found), 1, f"spans named {name!r} among {_paths(spans)}")
    return found[0]


async def one_trace(ask: Any, handler: Any) -> None:
    """Asked within a span or within none, both halves are one trace, and the answer comes."""
    for within in ("", "customer"):
        async with _hop(handler) as (tracer, service, client):
            body = _body()
            with tracer.span(within) if within else nullcontext():
                response = await ask(client, tracer, "/answer", body)
            is_one = isinstance(response, httpx.Response)
            expect(is_one, "what ask returns", observed=show(response), expected="the response of httpx")
            wanted = {"answer": f"about {body['ticket']}", "copies": body["copies"]}
            service.expect_came([wanted], f"what the handler returned, asked {body}")
            expect_equal(response.json(), wanted, "the response's JSON", hint=_ENTRIES)
            what = f"spans of a request that is sent within {f'the span {within}' if within else 'no span'}"
            path = f"{within} > {_BELOW}" if within else _BELOW
            expect_equal(_paths(tracer.spans), [path], what, hint=_ORDER)
            kinds = [_named(tracer.spans, name).kind for name in ("POST", "answer")]
            expect_equal(kinds, [SpanKind.CLIENT, SpanKind.SERVER], "kinds of the spans POST and answer")


async def returns_any_status(ask: Any, _: Any) -> None:
    """An answer of any status is returned, and the span of the request tells its number."""
    for status in _STATUSES:
        tracer, text, sent = Tracer(), f"{random.random()}", list[httpx.Request]()
        async with httpx.AsyncClient(transport=_answers(sent, status, text), base_url=_URL) as client:
            got = await _came(ask(client, tracer, "/answer", _body()))
        observed = (got.status_code, got.text) if isinstance(got, httpx.Response) else repr(got)
        expect_equal(observed, (status, text), "status and text that ask returns", hint="Do not raise here.")
        expect_equal(len(sent), 1, f"requests that are sent where the first is answered with {status}")
        told = (_named(tracer.spans, "POST").attributes or {}).get("http.response.status_code")
        what = f"http.response.status_code of a request answered with {status}"
        expect_equal(told, status, what, hint="As a number, and while the span is open.")


async def sends_one_header(ask: Any, _: Any) -> None:
    """Over the hop goes the client's own request, and the header traceparent of the request's span."""
    sent = list[httpx.Request]()
    own = {"authorization": f"Bearer {random.random()}", "x-shop": "7"}
    wire, url = _answers(sent, 200), f"{_URL}/v1"
    async with httpx.AsyncClient(transport=wire, base_url=url, headers=own) as client:
        body, tracer, before = _body(), Tracer(), dict(client.headers)
        await client.post("/plain", json=body)
        with tracer.span("customer", plan="gold"):
            await ask(client, tracer, "/answer", body)
            await ask(client, tracer, "/answer", body)
        expect_equal(dict(client.headers), before, "headers of the client, which others use", hint=_SHARED)
    plain, *asked = sent
    expect_equal(len(asked), 2, "requests that are sent when ask is called twice")
    for request, span in zip(asked, [each for each in tracer.spans if each.name == "POST"], strict=False):
        kind = request.headers.get("content-type", "no content-type").partition(";")[0]
        got = f"{request.method} {request.url} {json.loads(request.content)} as {kind}"
        wanted = f"POST {_URL}/v1/answer {body} as application/json"
        expect_equal(got, wanted, "method, address, JSON and content-type of the request")
        place = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
        header, what = request.headers.get("traceparent"), "traceparent of the request, whose span is POST"
        expect_equal(header, place, what, hint=_ORDER)
        more = {*request.headers} - {*plain.headers, "traceparent"}
        expect_equal(more, set(), "headers that are sent besides", hint="Only ids go to others.")
        kept = {name: request.headers.get(name) for name in own}
        expect_equal(kept, own, "the client's own headers", hint="They are sent as well.")


async def trusts_no_header(_: Any, handler: Any) -> None:
    """With a valid traceparent, sampled or not, the answer is below it; without one it begins a trace."""
    trace_id, span_id = random.getrandbits(128) | 1, random.getrandbits(64) | 1
    valid = [f"00-{trace_id:032x}-{span_id:016x}-{flags}" for flags in ("01", "00")]
    unusable: list[str | None] = [None, *_UNUSABLE]
    for header in (*valid, *unusable):
        async with _hop(handler) as (tracer, service, client):
            await client.post("/a", json=_body(), headers={} if header is None else {"traceparent": header})
            what = f"with traceparent {header!r}" if header is not None else "without traceparent"
            hint = "A header is what a stranger wrote: tracer.span(..., of=headers) reads it for you."
            came = [type(each).__name__ for each in service.came]
            expect_equal(came, ["dict"], f"what came out of the handler {what}", hint=hint)
            parent = _named(tracer.spans, "answer").parent
            got = None if parent is None else (f"{parent.trace_id:032x}", f"{parent.span_id:016x}")
            want = (f"{trace_id:032x}", f"{span_id:016x}") if header in valid else None
            expect_equal(got, want, f"trace and span above the answer to a request {what}", hint=hint)


async def lets_errors_out(ask: Any, handler: Any) -> None:
    """What the program raises comes out of the handler, what the client raises out of ask; spans say so."""
    hint = "The span has to be around what raises, and nothing may stop the error within it."
    async with _hop(handler) as (tracer, service, client):
        service.program.error = ValueError("no such order")
        await ask(client, tracer, "/answer", _body())
        came = service.came[0]
        is_same = came is service.program.error
        what = "what comes out of the handler when the program raises ValueError"
        expect(is_same, what, observed=repr(came), expected="the error itself", hint=hint)
        expect_equal(_paths(tracer.spans), [_BELOW], "spans of a request whose program raises", hint=hint)
        _expect_error(_named(tracer.spans, "answer"), hint)
    tracer, error = Tracer(), httpx.ConnectError("refused")
    async with httpx.AsyncClient(transport=_answers([], error), base_url=_URL) as client:
        got = await _came(ask(client, tracer, "/answer", _body()))
    what = "what comes out of ask when the client raises ConnectError"
    expect(got is error, what, observed=repr(got), expected="the error itself", hint=hint)
    _expect_error(_named(tracer.spans, "POST"), hint)


def _expect_error(span: ReadableSpan, hint: str) -> None:
    expect_equal(span.status.status_code, StatusCode.ERROR, f"status of the span {span.name}", hint=hint)


async def _came(call: Awaitable[Any]) -> Any:
    """Return what a call returns, or the error that it raises."""
    try:
        return await call
    except Exception as error:  # border: the learner's code may raise anything
        return error


async def holds_nothing_personal(ask: Any, handler: Any) -> None:
    """Path, body and answer are in no span."""
    async with _hop(handler) as (tracer, service, client):
        body, name = _body(), f"ann-{random.randint(1_000, 9_999)}"
        for error in (None, ValueError(f"no order in {body['ticket']!r}")):
            service.program.error = error
            await ask(client, tracer, f"/customers/{name}", body)
        for span in tracer.spans:
            shown = f"{span.name} {span.status.description} {dict(span.attributes or {})} " + " ".join(
                f"{event.name} {dict(event.attributes or {})}" for event in span.events
            )
            found = [each for each in (name, body["ticket"]) if each in shown]
            hint = "A trace is kept long and read by many: numbers and names of yours, no words of theirs."
            expect_equal(found, [], f"what of path, body and answer is in the span {shown:.300}", hint=hint)


async def keeps_apart(ask: Any, handler: Any) -> None:
    """Requests at the same time stay apart: each has its answer, and its own whole trace."""
    async with _hop(handler) as (tracer, service, client):

        async def customer(number: int) -> Any:
            with tracer.span(f"customer {number}"):
                return await ask(client, tracer, "/answer", {"ticket": f"no. {number}", "copies": number})

        replies = await asyncio.gather(*(customer(number) for number in range(12)))
        service.expect_came(None, "what the handler returned, asked 12 times at once")
        answers = [reply.json() for reply in replies]
        wanted = [{"answer": f"about no. {number}", "copies": number} for number in range(12)]
        expect_equal(answers, wanted, "answers to 12 requests at once", hint=_SHARED)
        paths = [f"customer {number} > {_BELOW}" for number in range(12)]
        expect_equal(_paths(tracer.spans), sorted(paths), "spans of 12 requests at once", hint=_SHARED)
        traces: Mapping[int, int] = Counter(span.context.trace_id for span in tracer.spans)
        expect_equal([*traces.values()], [5] * 12, "spans in each trace of 12 requests at once")


_ENTRIES = "program.acall(**entries), and a dict of the prediction's items."
_ORDER = "First the span of the request, then the header within it: inject() writes the innermost."
_SHARED = "What belongs to one request is given with it, and kept in variables of its own."

EXERCISE = Exercise(
    title="One trace over a hop",
    minutes=12,
    difficulty="medium",
    hints=(
        "tracer.span(name, kind=SpanKind.CLIENT) opens a span for the request; within it tracer.inject({}) "
        "returns the headers that name it. client.post takes them beside its own.",
        "On the other side `with tracer.span(..., of=request.headers, kind=SpanKind.SERVER):` reads the "
        "header, and takes no notice of one that is none. The program runs within this block.",
        "An error that goes through a span's block marks it by itself; catch nothing. A status is "
        "set within the block: a span that has ended takes nothing more.",
    ),
    checks=(
        *(one_trace, returns_any_status, sends_one_header, trusts_no_header, lets_errors_out),
        *(holds_nothing_personal, keeps_apart),
    ),
    why="The span comes first and the header out of it, so the other side stands below "
    "the request; nothing else goes over. TracedRequests does the same for every route of an application.",
)
