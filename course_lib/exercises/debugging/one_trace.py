"""Exercise 4.3, one trace over a hop: both halves of a request, joined by a header.

Main path: EXERCISE -> engine.registry; httpx's requests reach the handler in a context of their own.
What a check says of a trace is its paths, from the first span to each that has none below: "POST > answer".
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from itertools import product
from typing import Any
from unittest.mock import Mock

import dspy
import httpx
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from starlette.requests import Request

from course_lib.debugging import Tracer
from course_lib.exercises.engine.checks import expect, expect_equal, show
from course_lib.exercises.engine.registry import Exercise

_URL = "http://service"
_BELOW = "POST > answer > Support"
_UNUSABLE = (
    *("", "garbage", "00-1234-5678-01", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01"),
    *(f"ff-{'1' * 32}-{'2' * 16}-01", f"00-{'g' * 32}-{'2' * 16}-01", f"00-{'1' * 32}", "00-1-2-3-4-5"),
    *(f"00-{'A' * 32}-{'2' * 16}-01", f"00-{'1' * 32}-{'2' * 16}-01-more"),
)


class Support(dspy.Module):  # type: ignore[misc]
    """The program of the service; it lets others have their turn, and fails if it has to."""

    error: BaseException | None = None

    async def aforward(self, ticket: str, copies: int) -> dspy.Prediction:
        """Answer with what was asked."""
        await asyncio.sleep(random.random() / 500)
        if self.error:
            raise self.error
        return dspy.Prediction(answer=f"about {ticket}", copies=copies)


class _Service:
    """The learner's handler at the end of a network; keeps what came out, and answers 500 to an error."""

    def __init__(self, tracer: Tracer, handler: Any) -> None:
        self.program, self.came = Support(), list[Any]()
        self.places = list[str | None]()
        self._handle, self._context = handler(tracer, self.program), contextvars.copy_context()

    async def __call__(self, sent: httpx.Request) -> httpx.Response:
        """Carry a request over, into a context in which no span of the client is known."""

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)  # a body takes a moment to arrive
            return {"type": "http.request", "body": sent.content}

        self.places.append(sent.headers.get("traceparent"))
        headers = [(name.lower(), value) for name, value in sent.headers.raw]
        scope = {"type": "http", "method": sent.method, "path": sent.url.path, "headers": headers}
        answering = _came(lambda: self._handle(Request(scope, receive)))
        came = await asyncio.get_running_loop().create_task(answering, context=self._context.copy())
        self.came.append(came)
        return httpx.Response(200, json=came) if isinstance(came, dict) else httpx.Response(500)


async def _came(call: Callable[[], Awaitable[Any]]) -> Any:
    """Return what a call returns, or the error that it raises."""
    try:
        return await call()
    except (Exception, asyncio.CancelledError) as error:  # border: the learner's code may raise anything
        return error


@asynccontextmanager
async def _hop(
    handler: Any, *, within: str = ""
) -> AsyncIterator[tuple[Tracer, _Service, httpx.AsyncClient]]:
    """Start a service, perhaps within a span, and let a new tracer listen on both sides."""
    tracer = Tracer()
    with dspy.context(callbacks=[tracer]):
        with tracer.span(within) if within else nullcontext():
            service = _Service(tracer, handler)
        async with httpx.AsyncClient(transport=httpx.MockTransport(service), base_url=_URL) as client:
            yield tracer, service, client


def _body() -> dict[str, Any]:
    return {"ticket": f"Where is order {random.randint(10_000, 99_999)}?", "copies": random.randint(1, 9)}


def _paths(spans: Sequence[ReadableSpan]) -> list[str]:
    """Return the path to each span that has none below it."""
    known = {(span.context.trace_id, span.context.span_id): span for span in spans}

    def path(span: ReadableSpan) -> str:
        if span.parent is None:
            return span.name
        parent = known.get((span.parent.trace_id, span.parent.span_id))
        return f"{path(parent) if parent else '(a span that is not there)'} > {span.name}"

    paths = sorted(map(path, spans))
    return [each for each in paths if not any(other.startswith(f"{each} >") for other in paths)]


def _named(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    """Return the span of this name; fail the check if there is none, or a second one."""
    found = [span for span in spans if span.name == name]
    expect_equal(len(found), 1, f"spans named {name!r} among {_paths(spans)}")
    return found[0]


def _place(span: ReadableSpan) -> str:
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"


async def one_trace(ask: Any, handler: Any) -> None:
    """Both halves of a request are one trace, and the answer comes."""
    async with _hop(handler) as (tracer, service, client):
        body = _body()
        await ask(client, tracer, "/answer", body)
        wanted = {"answer": f"about {body['ticket']}", "copies": body["copies"]}
        expect_equal(service.came, [wanted], f"what the handler returned, asked {body}")
        posts = [_place(span) for span in tracer.spans if span.name == "POST"]
        hint = _OF if posts == service.places else _ORDER  # the half that is to blame
        expect_equal(_paths(tracer.spans), [_BELOW], "spans of a request", hint=hint)
        kinds = [_named(tracer.spans, name).kind for name in ("POST", "answer")]
        expect_equal(kinds, [SpanKind.CLIENT, SpanKind.SERVER], "kinds of the spans POST and answer")
        await ask(client, tracer, "/answer", body)
        asked = sum(span.name == "Support" for span in tracer.spans)
        expect_equal(asked, 2, "how often the program is called for two requests with the same body")


async def _asked(
    ask: Any, end: httpx.Response | BaseException, body: Any = None, path: str = "/answer"
) -> Any:
    """Return what comes out of ask when its request ends so, its span, and it amid the client's own ones."""
    tracer, body, network = Tracer(), _body() if body is None else body, Mock(side_effect=9 * [end])
    wire, own = httpx.MockTransport(network), {"authorization": f"Bearer {random.random()}", "x-shop": "7"}
    async with httpx.AsyncClient(transport=wire, base_url=f"{_URL}/v1", headers=own) as client:
        before = client.build_request("POST", path, json=body)
        with tracer.span("customer", plan="gold"):
            got = await _came(lambda: ask(client, tracer, path, body))
        after = client.build_request("POST", path, json=body)
    expect_equal(network.call_count, 1, f"requests that are sent where the first ends with {end!r}")
    return got, _named(tracer.spans, "POST"), (before, network.call_args.args[0], after)


async def returns_any_status(ask: Any, _: Any) -> None:
    """An answer of any status is returned, and the span of the request tells its number."""
    for status in (200, 404, 429, 503, 302):
        end = httpx.Response(status, text=f"{random.random()}", headers={"location": "/elsewhere"})
        got, span, _ = await _asked(ask, end)
        observed = (got.status_code, got.text) if isinstance(got, httpx.Response) else repr(got)
        expect_equal(observed, (status, end.text), "status and text that ask returns", hint="Do not raise.")
        told = span.attributes.get("http.response.status_code")
        expect_equal(told, status, f"http.response.status_code of a request answered with {status}")


def _of_itself(sent: httpx.Request) -> list[Any]:
    kind, within_s = sent.headers.get("content-type", "")[:16], sent.extensions.get("timeout")
    return [sent.method, str(sent.url), json.loads(sent.content or "null"), kind, within_s]


async def sends_one_header(ask: Any, _: Any) -> None:
    """The request is the client's own but for one more header, traceparent, of the request's span."""
    for body in ({}, _body()):
        _, span, (before, sent, after) = await _asked(ask, httpx.Response(200), body)
        got, wanted = map(_of_itself, (sent, before))
        expect_equal(got, wanted, "method, address, JSON, content-type and time limits of the request")
    own = {**before.headers, "traceparent": _place(span)}.items()
    amiss = [each for each in sorted(own ^ dict(sent.headers).items()) if not each[0].startswith("content-")]
    expect_equal(amiss, [], "headers that are not the client's own and a traceparent of POST", hint=_ORDER)
    expect_equal(dict(after.headers), dict(before.headers), "headers of the client, which others use")


async def trusts_no_header(_: Any, handler: Any) -> None:
    """With a valid traceparent, sampled or not, the answer is below it; without one it begins a trace."""
    place = f"{random.getrandbits(128) | 1:032x}", f"{random.getrandbits(64) | 1:016x}"
    valid = [f"00-{place[0]}-{place[1]}-{flags}" for flags in ("01", "00", "03")]
    sent = [{"traceparent": each} for each in (*valid, *_UNUSABLE)]
    for headers, within in (
        *((each, "") for each in (*sent, {})),
        *product(({}, sent[0], sent[-1]), ["open"]),
    ):
        async with _hop(handler, within=within) as (tracer, service, client):
            await client.post("/a", json=_body(), headers=headers)
            what = f"with the headers {headers}{', handled while another span is open' * bool(within)}"
            hint = "tracer.span(..., of=headers) reads them for you."
            came = [type(each).__name__ for each in service.came]
            expect_equal(came, ["dict"], f"what came out of the handler {what}", hint=hint)
            parent = _named(tracer.spans, "answer").parent
            got = None if parent is None else (f"{parent.trace_id:032x}", f"{parent.span_id:016x}")
            wanted = place if headers.get("traceparent") in valid else None
            expect_equal(got, wanted, f"trace and span above the answer to a request {what}", hint=hint)


def _expect_itself(got: Any, error: BaseException, what: str) -> None:
    observed = f"{show(got)}{', but another one' * (repr(got) == repr(error))}"
    expect(got is error, what, observed=observed, expected=f"{error!r} itself", hint=_AROUND)


async def lets_errors_out(ask: Any, handler: Any) -> None:
    """What the program raises comes out of the handler, what the client raises out of ask; spans say so."""
    for error in ValueError("no such order"), asyncio.CancelledError():
        async with _hop(handler) as (tracer, service, client):
            service.program.error = error
            await ask(client, tracer, "/answer", _body())
            what = f"what comes out of the handler when the program raises {type(error).__name__}"
            _expect_itself(service.came[0], error, what)
            status = _named(tracer.spans, "answer").status.status_code
            expect_equal(status, StatusCode.ERROR, "status of the span answer", hint=_AROUND)
    for refused in httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), asyncio.CancelledError():
        got, span, _ = await _asked(ask, refused)
        _expect_itself(got, refused, f"what comes out of ask when the client raises {type(refused).__name__}")
        expect_equal(span.status.status_code, StatusCode.ERROR, "status of the span POST", hint=_AROUND)


async def holds_nothing_personal(ask: Any, handler: Any) -> None:
    """Path, body and answer are in no span."""
    async with _hop(handler) as (tracer, service, client):
        body, name = _body(), f"ann-{random.randint(1_000, 9_999)}"
        for error in (None, ValueError(f"no order in {body['ticket']!r}")):
            service.program.error = error
            await ask(client, tracer, f"/customers/{name}?of={name}", body)
        said = f"no answer to {body['ticket']!r}"
        failed: list[Any] = [
            httpx.ConnectError(said),
            *(httpx.Response(each, text=said) for each in (404, 503)),
        ]
        others = [(await _asked(ask, end, body, f"/customers/{name}"))[1] for end in failed]
        for span in (*tracer.spans, *others):
            found = [each for each in (name, body["ticket"]) if each in span.to_json()]
            hint = "A trace is kept long and read by many: numbers and names of yours, no words of theirs."
            what = f"what of path, body and answer is in the span {span.name}"
            expect_equal(found, [], what, hint=hint)


async def keeps_apart(ask: Any, handler: Any) -> None:
    """Requests within spans, at the same time, stay apart: each has its answer, and its own whole trace."""
    async with _hop(handler) as (tracer, service, client):

        async def customer(number: int) -> Any:
            with tracer.span(f"customer {number}"):
                return await ask(client, tracer, "/answer", {"ticket": f"no. {number}", "copies": number})

        replies = await asyncio.gather(*(customer(number) for number in range(12)))
        answers = [reply.json() if reply.status_code == 200 else show(service.came) for reply in replies]
        wanted = [{"answer": f"about no. {number}", "copies": number} for number in range(12)]
        expect_equal(answers, wanted, "answers to 12 requests at once", hint=_SHARED)
        paths = [f"customer {number} > {_BELOW}" for number in range(12)]
        expect_equal(_paths(tracer.spans), sorted(paths), "spans of 12 requests at once", hint=_SHARED)


_ORDER = "First the span of the request, then the header within it: inject() writes the innermost."
_OF = "The header that `ask` sent is right; the handler reads it by tracer.span(..., of=request.headers)."
_SHARED = "What belongs to one request is given with it, and kept in variables of its own."
_AROUND = "The span has to be around what raises, and nothing may stop the error within it."

EXERCISE = Exercise(
    title="One trace over a hop",
    minutes=12,
    difficulty="medium",
    hints=(
        "tracer.span(name, kind=SpanKind.CLIENT) opens a span for the request; within it tracer.inject({}) "
        "returns the headers that name it. client.post takes them beside its own.",
        "On the other side `with tracer.span(..., of=request.headers, kind=SpanKind.SERVER):` reads the "
        "header, and takes no notice of one that is none. The program runs within this block.",
        "An error that goes through a span's block marks it by itself. An attribute is set before the block "
        "ends: what has ended takes nothing more.",
    ),
    checks=(
        *(one_trace, returns_any_status, sends_one_header, trusts_no_header, lets_errors_out),
        *(holds_nothing_personal, keeps_apart),
    ),
    why="The span comes first and the header out of it, so the other side stands below "
    "the request; nothing else goes over. TracedRequests does the same for every route of an application.",
)
