"""One request over HTTP and a queue is one trace; what others send can neither hide it nor break it."""

from __future__ import annotations

import dspy
import httpx
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route

from course_lib import desk
from course_lib.concurrency.events import Event
from course_lib.concurrency.streaming import serve, streaming_app
from course_lib.debugging import TracedRequests, Tracer
from tests.concurrency.events import consuming, drained, stream_of
from tests.debugging.traces import everything, named, roots, traces

TICKET = next(ticket.text for ticket in desk.tickets("train"))


def app_of(tracer, publish=None):
    triage = desk.Triage()

    async def answer(request):
        prediction = await triage.acall(ticket=TICKET)
        if publish:
            await publish(Event("ticket", tracer.inject({"category": prediction.category})))
        return JSONResponse({"category": prediction.category})

    async def fails(request):
        raise ValueError("anna@example.com")

    routes = [Route("/tickets/{customer}", answer), Route("/fails", fails)]
    app = Starlette(routes=routes)
    app.add_middleware(TracedRequests, tracer=tracer)
    return app


@pytest.mark.anyio
async def test_a_request_over_http_and_a_queue_is_one_trace(redis_url):
    asking, serving, consuming_side = Tracer(), Tracer(), Tracer()

    async def handle(event):
        with consuming_side.span("handle ticket", of=event.data, kind=SpanKind.CONSUMER):
            await desk.Triage().acall(ticket=TICKET)

    async with stream_of(redis_url) as events:
        transport = httpx.ASGITransport(app_of(serving, events.publish))
        with serving, asking, asking.span("ask"):
            async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
                reply = await client.get("/tickets/anna", headers=asking.inject({}))
        with consuming_side:
            async with consuming(events, handle):
                await drained(events)

    assert reply.status_code == 200
    ids = {span.context.trace_id for tracer in (asking, serving, consuming_side) for span in tracer.spans}
    assert len(ids) == 1
    (request,) = named(serving.spans, "GET /tickets/{customer}")
    (ask,) = named(asking.spans, "ask")
    (handled,) = named(consuming_side.spans, "handle ticket")
    assert request.parent.span_id == ask.context.span_id
    assert handled.parent.span_id == request.context.span_id
    assert (request.kind, handled.kind) == (SpanKind.SERVER, SpanKind.CONSUMER)
    assert request.attributes["http.response.status_code"] == 200
    assert "anna" not in everything([*serving.spans, *consuming_side.spans])


def test_a_real_server_in_another_thread_joins_a_clients_trace():
    tracer = Tracer()
    with tracer:
        app = streaming_app(dspy.Predict("question -> answer"))
        app.add_middleware(TracedRequests, tracer=tracer)
        with serve(app) as service, tracer.span("reader"):
            headers = tracer.inject({"accept": "text/event-stream"})
            text = httpx.get(f"{service.url}/stream?question=anna", headers=headers, timeout=20).text

    assert "event: final" in text
    (spans,) = traces(tracer.spans)
    assert [span.name for span in roots(spans)] == ["reader"]
    assert {"GET /stream", "Predict(StringSignature)", "chat sim-large"} <= {span.name for span in spans}
    assert "anna" not in everything(spans)


HEADERS = {
    "none": {},
    "no trace": {"traceparent": "hello"},
    "zeros": {"traceparent": f"00-{'0' * 32}-{'0' * 16}-01"},
    "not sampled": {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-00"},
    "long": {"traceparent": "00-" + "a" * 5000},
}


@pytest.mark.anyio
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
async def test_whatever_a_client_sends_its_request_is_traced(headers):
    with Tracer() as tracer:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app_of(tracer)), base_url="http://d"
        ) as client:
            await client.get("/tickets/anna", headers=headers)
            await client.request("ANNA@EXAMPLE.COM", "/nowhere/anna", headers=headers)

    assert len(tracer.spans) == 5 + 1 + 1
    assert not {"anna", "ANNA"} & set(everything(tracer.spans).replace("@", '"').split('"'))


def test_of_an_events_data_only_a_text_is_a_parent():
    with Tracer() as tracer:
        for given in (7, None, ["00"], {"a": 1}):
            with tracer.span("handle", of={"traceparent": given}):
                pass
        assert tracer.inject({"a": 1}) == {"a": 1}

    assert len(traces(tracer.spans)) == 4


@pytest.mark.parametrize("of", [{}, {"traceparent": "garbage"}], ids=["no header", "garbage"])
def test_a_carrier_without_a_place_begins_a_trace_of_its_own_whichever_span_is_open(of):
    with Tracer() as tracer, tracer.span("open"), tracer.span("answer", of=of), tracer.span("below"):
        pass

    below, answer, opened = tracer.spans
    assert answer.parent is None
    assert below.context.trace_id == answer.context.trace_id != opened.context.trace_id


@pytest.mark.anyio
async def test_a_server_that_fails_says_so_without_words():
    tracer = Tracer()
    transport = httpx.ASGITransport(app_of(tracer), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://d") as client:
        assert (await client.get("/fails")).status_code == 500

    (failed,) = tracer.spans
    assert failed.name == "GET /fails"
    assert failed.attributes["http.response.status_code"] == 500
    assert not failed.status.is_ok
    assert "anna" not in everything(tracer.spans)


@pytest.mark.anyio
async def test_a_stream_that_fails_has_the_status_that_was_sent():
    async def parts():
        yield b"a part"
        raise ValueError("anna@example.com")

    tracer = Tracer()
    app = Starlette(routes=[Route("/stream", lambda _: StreamingResponse(parts()))])
    transport = httpx.ASGITransport(TracedRequests(app, tracer), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://d") as client:
        reply = await client.get("/stream")

    (failed,) = tracer.spans
    assert failed.attributes["http.response.status_code"] == reply.status_code == 200
    assert not failed.status.is_ok


ROUTES = {
    "/desk/tickets/anna": "GET /desk/tickets/{customer}",
    "/desk/shop/of/anna/tickets/anna": "GET /desk/shop/of/{tenant}/tickets/{customer}",
    "/desk/shop/api/anna/tickets/anna": "GET /desk/shop/api/{tenant}/tickets/{customer}",
    "/desk/nowhere/anna": "GET /desk",
    "/nowhere/anna": "GET",
}


@pytest.mark.anyio
@pytest.mark.parametrize("is_within", [True, False])
async def test_a_route_has_the_prefixes_of_what_it_is_mounted_in(is_within):
    tracer, router, shop, tenant = Tracer(), APIRouter(), FastAPI(), FastAPI()

    @tenant.get("/tickets/{customer}")
    @router.get("/tickets/{customer}")
    async def answer(customer: str):
        return customer

    shop.include_router(router, prefix="/api/{tenant}")
    shop.mount("/of/{tenant}", tenant)
    routes = [Route("/tickets/{customer}", lambda _: JSONResponse({})), Mount("/shop", shop)]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop), base_url="http://d") as client:
        for path in ("/of/anna/tickets/anna", "/api/anna/tickets/anna"):
            await client.get(path)  # FastAPI reads the sources of an endpoint once, and blocks
    app = Starlette(routes=[Mount("/desk", routes=routes)])
    if is_within:
        app.add_middleware(TracedRequests, tracer=tracer)
    transport = httpx.ASGITransport(app if is_within else TracedRequests(app, tracer))
    async with httpx.AsyncClient(transport=transport, base_url="http://d") as client:
        for path in ROUTES:
            await client.get(path)

    assert [span.name for span in tracer.spans] == [*ROUTES.values()]
    assert "anna" not in everything(tracer.spans)
