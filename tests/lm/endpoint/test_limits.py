"""No request brings the endpoint down, fills its memory, or keeps other clients waiting."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from course_lib import lm
from course_lib.lm.endpoint import running, sending
from course_lib.lm.endpoint.routes import app
from course_lib.lm.endpoint.server import Endpoint
from course_lib.lm.reply import Reply, SlowError
from course_lib.lm.simulator import engine
from tests.lm.conftest import MESSAGES, Served

LISTED = "Your output fields are:\n"


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "sim-large", "messages": MESSAGES, **more}


def says(text: str, **more: Any) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": text}], **more)


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"schema": {"properties": properties}}}


LOOP = {"type": "object", "properties": {name: {"$ref": "#/$defs/A"} for name in "abcdef"}}
ODD = {
    "deep JSON": '{"model": "sim-large", "messages": %s}' % ("[" * 300 + "]" * 300),
    "deep JSON in the text": says("[" * 20_000),
    "a type that never ends": says(f"{LISTED}1. `a` ({'list[' * 1500}int{']' * 1500}): x"),
    "a definition that holds itself": chat(
        response_format={"type": "json_schema", "json_schema": {"schema": {**LOOP, "$defs": {"A": LOOP}}}}
    ),
    "counts without end": chat(
        response_format=schema(
            a={"type": "string", "minLength": 10**9},
            b={"type": "array", "items": {"type": "string"}, "minItems": 10**8},
            c={"type": "string", "pattern": "^a{99999999}$"},
        )
    ),
    "keywords of wrong types": chat(
        response_format=schema(
            a={"type": "integer", "minimum": "x", "multipleOf": []},
            b={"enum": []},
            c={"type": ["x", 5], "anyOf": 7},
            d=True,
            e={"type": "array", "items": 5, "minItems": "many"},
            f={"$ref": 5, "pattern": 5, "format": []},
        )
    ),
    "a pattern that backtracks": says("a" * 60 + "b", response_format=schema(a={"pattern": "^(a+)+$"})),
    "thousands of fields": says(LISTED + "".join(f"{n}. `f{n}` (int):\n" for n in range(1, 9000))),
    "digits and blanks": says("1 " * 200_000),
    "many samples": says("What is 3 + 4? " * 1000, n=128, temperature=1),
    "many stops": chat(n=128, stop=[f"s{n}" for n in range(80_000)]),
    "objects without end": chat(metadata=[{}] * 250_000),
    "a long name of a model": chat(model="x" * 500_000),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    yield lm.url()
    lm.stop()


# A child of its own imports the simulator and works on large requests: some seconds.
@pytest.mark.parametrize("case", ODD)
def test_others_are_answered_meanwhile_and_the_request_is_answered_or_refused(case: str, url: str) -> None:
    raw = ODD[case] if isinstance(ODD[case], str) else json.dumps(ODD[case])
    statuses: dict[str, int] = {}

    def ask(key: str, content: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.post(f"{url}/chat/completions", content=content, headers=headers, timeout=60)
        statuses[key] = answer.status_code

    thread = threading.Thread(target=ask, args=("odd", raw))
    thread.start()
    ask("other", json.dumps(says("What is 2 + 2?")))
    thread.join()

    assert statuses["other"] == 200
    assert statuses["odd"] in (200, 400, 404)


def test_an_answer_that_takes_too_long_is_stopped_even_within_a_regular_expression() -> None:
    before = signal.signal(signal.SIGVTALRM, running._interrupt)
    began_s = time.process_time()

    with pytest.raises(SlowError, match=r"within 0\.05 s; make the request smaller"):
        running.simulate(ODD["a pattern that backtracks"], sample=0, within_s=0.05)

    signal.signal(signal.SIGVTALRM, before)
    assert time.process_time() - began_s < 5  # to the end it would take years
    assert running.simulate(says("What is 3 + 4?"), sample=0).text == "3 + 4 = 7"


def test_what_the_simulator_keeps_in_mind_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[None] = []
    monkeypatch.setattr(running, "forget", lambda: forgotten.append(engine.forget()))
    monkeypatch.setattr(running, "MAX_CACHED_CHARS", 1000)

    texts = [running.simulate(says(f"What is 3 + {n}?" + " " * 300), sample=0).text for n in range(8)]

    assert len(forgotten) == 2
    assert texts == [f"3 + {n} = {3 + n}" for n in range(8)]


# -- what one request, or one connection, may take from the others ---------------------------------------


def test_an_easy_question_waits_for_one_hard_one_and_not_for_all() -> None:
    done: list[str] = []

    def quick(body: Mapping[str, Any], *, sample: int) -> Reply:
        if body["messages"][-1]["content"] != "easy":
            raise SlowError("too hard")
        return patient(body, sample=sample)

    def patient(body: Mapping[str, Any], *, sample: int) -> Reply:
        text = str(body["messages"][-1]["content"])
        if text == "never":
            raise SlowError(f"too hard for sample {sample}")
        done.append(text)
        return Reply(text)

    async def ask_all(*texts: str) -> list[int]:
        transport = httpx.ASGITransport(app(Endpoint(quick, patient=patient)))
        async with httpx.AsyncClient(transport=transport, base_url="http://x/v1") as http:
            asked = [
                http.post("/chat/completions", json=says(text), headers={"Authorization": f"Bearer {n}"})
                for n, text in enumerate(texts)
            ]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(ask_all(*["hard"] * 10, "easy", "never")) == [200] * 11 + [400]
    assert done.index("easy") <= 1


@pytest.mark.parametrize(("steps", "status"), [(5, 200), (1_000, 400)])
def test_an_answer_that_gets_further_with_each_try_is_made_in_the_end_but_not_for_ever(
    steps: int, status: int
) -> None:
    tries = iter(range(steps))

    def engine(_: Mapping[str, Any], *, sample: int) -> Reply:
        if next(tries, None) is not None:
            raise SlowError("not yet", gets_further=True)
        return Reply("done")

    async def ask() -> int:
        transport = httpx.ASGITransport(app(Endpoint(engine)))
        async with httpx.AsyncClient(transport=transport, base_url="http://x/v1") as http:
            headers = {"Authorization": "Bearer 1"}
            return (await http.post("/chat/completions", json=says("hard"), headers=headers)).status_code

    assert asyncio.run(ask()) == status


def test_large_requests_are_refused_while_others_hold_the_room_and_small_ones_are_not(
    echo: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MAX_HELD_BYTES", 100_000)
    with echo.http() as http:
        large = http.post("/v1/chat/completions", json=says("x" * 100_000))
        small = http.post("/v1/chat/completions", json=says("x"))
        vectors = http.post("/v1/embeddings", json={"input": ["a"] * 100})

    assert [large.status_code, small.status_code, vectors.status_code] == [429, 200, 429]
    assert large.headers["retry-after"] == "1"
    assert echo.endpoint.load.held_bytes == 0


def test_a_body_that_does_not_arrive_is_given_up(echo: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MAX_BODY_S", 0.05)

    answer = raw(
        echo, b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    )

    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000, b"GET /course/health HTTP/1.1\r\n\r\n" * 5_000],
    ids=["a header", "requests ahead of their answers"],
)
def test_what_comes_without_end_ends_the_connection(echo: Served, sent: bytes) -> None:
    raw(echo, sent, until_closed=True)

    assert httpx.get(f"{echo.url.removesuffix('/v1')}/course/health").status_code == 200


def raw(served: Served, sent: bytes, *, until_closed: bool = False) -> bytes:
    """Send bytes over a connection of its own; returns what came back first, or until it was closed."""
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as line:
        received = b""
        with contextlib.suppress(ConnectionError):
            line.sendall(sent)
            while part := line.recv(65536):
                received += part
                if not until_closed:
                    break
        return received
