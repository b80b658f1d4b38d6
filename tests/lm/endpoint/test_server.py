"""The endpoint over HTTP, as the official client and as any other sees it."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from course_lib.lm.client import RefusedError, call
from course_lib.lm.endpoint import sending
from course_lib.lm.endpoint.routes import app
from course_lib.lm.endpoint.server import Endpoint
from tests.lm.conftest import MESSAGES, Echo, Served

TOOL: Any = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


def client(served: Served, key: str = "k", **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=served.url, api_key=key, **{"max_retries": 0, **options})


def ask(served: Served, model: str = "sim-large", **options: Any) -> Any:
    with client(served) as ai:
        answer: Any = ai.chat.completions.create(model=model, messages=MESSAGES, **options)
        return list(answer) if options.get("stream") else answer


def ledger(served: Served, key: str = "k", since: int = 0) -> dict[str, Any]:
    with served.http(key) as http:
        answer: dict[str, Any] = http.get(f"/course/ledger?since={since}").json()
        return answer


def define(served: Served, name: str, **fields: Any) -> None:
    with served.http() as http:
        http.post("/course/profiles", json={"name": name, **fields}).raise_for_status()


def to(model: str, messages: Any = MESSAGES, **more: Any) -> bytes:
    """Return the body of a request to a model."""
    return json.dumps({"model": model, "messages": messages, **more}).encode()


def final_choice(served: Served, model: str, *, stream: bool, **options: Any) -> Any:
    """Return the answer's one choice, of a stream put together by the client."""
    if not stream:
        return ask(served, model, **options).choices[0]
    with (
        client(served) as ai,
        ai.chat.completions.stream(model=model, messages=MESSAGES, **options) as events,
    ):
        try:
            return events.get_final_completion().choices[0]
        except openai.LengthFinishReasonError as error:
            return error.completion.choices[0]


# -- the official client ------------------------------------------------------------------------------


def test_a_chat_completion_and_its_line_in_the_ledger(echo: Served) -> None:
    answer = ask(echo)

    assert (answer.model, answer.choices[0].finish_reason) == ("sim-large", "stop")
    usage, seen = answer.usage, ledger(echo)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 3, 10)
    assert seen["cost_usd"] == pytest.approx((7 * 2.5 + 3 * 10) / 1e6)
    line = {"messages": MESSAGES, "reply": "one two three", "prompt_tokens": 7, "completion_tokens": 3}
    assert seen["calls"][0].items() >= line.items()


def test_choices_and_repeated_requests_are_samples_if_there_is_a_temperature(echo: Served) -> None:
    hot, several = {"temperature": 1}, {"n": 2}
    answers = [ask(echo, **options) for options in (hot, hot, hot | several, several)]

    texts = [choice.message.content.removeprefix("one two three") for a in answers for choice in a.choices]
    assert texts == ["", " #1", "", " #1", "", ""]


def test_a_stream_has_usage_if_it_was_asked_for(echo: Served) -> None:
    plain, chunks = (ask(echo, stream=True, stream_options={"include_usage": each}) for each in (False, True))

    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert texts == ["one", " two", " three"]
    assert chunks[-1].usage.total_tokens == 10
    assert not any(chunk.usage for chunk in plain)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls(echo: Served, stream: bool) -> None:
    choice = final_choice(echo, "sim-large", stream=stream, tools=[TOOL])

    arguments = [json.loads(call.function.arguments) for call in choice.message.tool_calls]
    assert choice.finish_reason == "tool_calls"
    assert arguments == [{"text": "one two three"}, {"text": "again"}]


def test_models_are_listed_and_found_by_name(echo: Served) -> None:
    with client(echo) as ai:
        assert [model.id for model in ai.models.list()] == ["sim-large", "sim-small", "sim-embed"]
        assert ai.models.retrieve("sim-large").id == "sim-large"
        with pytest.raises(openai.NotFoundError, match=r"no model named .*gpt-9"):
            ai.models.retrieve("gpt-9")


def test_embeddings_in_both_encodings_and_as_many_dimensions_as_asked_for(echo: Served) -> None:
    with client(echo) as ai:  # which asks for base64
        packed = ai.embeddings.create(model="sim-embed", input=["a tent", "a lamp"])
        plain = ai.embeddings.create(model="sim-embed", input="a tent", encoding_format="float")
        short = ai.embeddings.create(model="sim-embed", input="a tent", dimensions=100)

    assert len(packed.data) == 2
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.usage.prompt_tokens == 4
    assert len(short.data[0].embedding) == 100
    assert math.hypot(*short.data[0].embedding) == pytest.approx(1)


@pytest.mark.parametrize(
    ("limit", "retry_after_s"),
    [({"limit_requests_per_s": 0.5}, "2"), ({"limit_tokens_per_s": 10}, "1")],  # 7 tokens asked, 3 answered
    ids=["requests", "tokens of prompt and completion"],
)
def test_above_a_limit_the_answer_is_429_with_the_wait(
    serve: Callable[[Endpoint], Served], limit: dict[str, float], retry_after_s: str
) -> None:
    served = serve(Endpoint(Echo(), clock=lambda: 0.0))  # no time passes, so nothing comes back
    define(served, "slow", **limit)

    ask(served, "sim-large@slow")
    with pytest.raises(openai.RateLimitError, match="too many requests for sim-large@slow") as caught:
        ask(served, "sim-large@slow")

    headers, counted = caught.value.response.headers, next(iter(limit)).split("_")[1]
    assert headers["retry-after"] == retry_after_s
    assert headers[f"x-ratelimit-remaining-{counted}"] == "0"
    assert headers["x-request-id"] == ledger(served)["calls"][-1]["request_id"]
    assert ledger(served)["faults"] == {"rate_limited": 1}


CHAT, PROFILES, EMBED = "POST /v1/chat/completions", "POST /course/profiles", "POST /v1/embeddings"
DEEP = "[" * 200 + "]" * 200
TOO_LARGE = b" " * (sending.MAX_BODY_BYTES + 1)
REFUSED: list[tuple[str, Any, int, str]] = [
    (CHAT, b"hello", 400, "the body is not JSON"),
    (CHAT, to("gpt-9"), 404, "known: sim-large, sim-small, local"),
    (CHAT, to("sim-large@nope"), 404, "no profile named 'nope'; known: "),
    (CHAT, to("openai/gpt-9"), 401, "needs OPENAI_API_KEY"),
    (CHAT, to("sim-large", [{"role": "user", "content": "a b " * 70_000}]), 400, "context_length_exceeded"),
    (CHAT, to("sim-large", stop=["a", "b", "c", "d", "e"]), 400, "invalid_value"),
    (CHAT, to("sim-large", tools=[TOOL] * 129), 400, "invalid_value"),
    (
        CHAT,
        to("sim-large", tools=[TOOL], tool_choice={"function": "f"}),
        400,
        "it should be none, auto, required",
    ),
    (CHAT, b'{"model": "sim-large", "tools": %s}' % DEEP.encode(), 400, "invalid_json"),
    (CHAT, TOO_LARGE, 413, "larger than 1 MB"),
    (EMBED, TOO_LARGE, 413, "larger than 1 MB"),
    (PROFILES, TOO_LARGE, 413, "larger than 1 MB"),
    ("POST /course/reset", TOO_LARGE, 413, "larger than 1 MB"),
    *[(EMBED, {"model": "sim-embed", "input": bad}, 400, "input") for bad in ([], 5, [5], None)],
    (EMBED, {"input": ["a"] * 3000}, 400, "up to 2048 texts"),
    (EMBED, {"input": "tent " * 9000}, 400, "none of more than 8192 tokens"),
    *[(EMBED, {"input": "a", "dimensions": bad}, 400, "number from 1 to 384") for bad in (0, 385, "8")],
    ("GET /v1/chat/completions", None, 404, "nothing answers GET /v1/chat/completions; known: "),
    ("POST /v1/responses", None, 404, "nothing answers POST /v1/responses; known: /v1/chat"),
    ("GET /course/ledger?since=1.5", None, 400, "it should be a request's number"),
    (f"GET /course/ledger?since={'9' * 5000}", None, 400, "it should be a request's number"),
    (PROFILES, {"name": "x", "rate": 1}, 400, "unknown field 'rate'"),
    (PROFILES, {"name": "X Y"}, 400, "not usable after an @"),
    (PROFILES, {"name": "p", "limit_requests_per_s": 5e-324}, 400, "a number from 1e-06 to 1e+09"),
]


@pytest.mark.parametrize(("route", "body", "status", "message"), REFUSED, ids=lambda it: str(it)[:30])
def test_what_cannot_be_answered_says_why(
    echo: Served, monkeypatch: pytest.MonkeyPatch, route: str, body: Any, status: int, message: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    content = body if isinstance(body, bytes) else json.dumps(body)
    with echo.http() as http:
        answer = http.request(*route.split(" ", 1), content=content)

    assert answer.status_code == status
    assert message in f"{answer.json()['error']}"
    if route == CHAT and status != 413:
        assert ledger(echo)["statuses"] == {str(status): 1}


def test_an_engine_that_breaks_is_a_500_that_names_the_error(
    echo: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        pytest.raises(openai.InternalServerError, match="ZeroDivisionError: the engine broke"),
        client(echo) as ai,
    ):
        ai.chat.completions.create(model="sim-large", messages=[{"role": "user", "content": "break"}])

    assert ask(echo).choices


# -- keys ---------------------------------------------------------------------------------------------


def test_two_keys_have_two_ledgers_and_two_sets_of_profiles(echo: Served) -> None:
    define(echo, "mine", error_rate=1)
    ask(echo)
    with client(echo, "other") as ai:
        for _ in range(2):
            ai.chat.completions.create(model="sim-small", messages=MESSAGES)

        assert ledger(echo)["requests"] == 1
        assert {call["model"] for call in ledger(echo, "other")["calls"]} == {"sim-small"}
        assert ledger(echo, "other")["requests"] == 2
        with pytest.raises(openai.NotFoundError, match="no profile named 'mine'"):
            ai.chat.completions.create(model="sim-large@mine", messages=MESSAGES)


def test_a_workshop_lets_only_its_keys_in_and_only_its_owner_spend_money(
    serve: Callable[[Endpoint], Served],
) -> None:
    served = serve(Endpoint(Echo(), keys=["anna"], owner="someone"))

    with client(served, "anna") as ai:
        assert ai.chat.completions.create(model="sim-large", messages=MESSAGES).choices
        with pytest.raises(openai.AuthenticationError, match="may cost money"):
            ai.chat.completions.create(model="openai/gpt-4o-mini", messages=MESSAGES)
    eve = client(served, "eve")
    with eve as ai, pytest.raises(openai.AuthenticationError, match="an unknown key was sent"):
        ai.models.list()
    assert httpx.get(f"{served.url}/models").status_code == 401
    assert httpx.get(served.url.replace("/v1", "/course/health")).json()["status"] == "ok"


FOREIGN = [{"Origin": origin} for origin in ("https://evil.example", "null", "http://[")]
FOREIGN += [{"Host": host} for host in ("evil.example", "[")]
FOREIGN += [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site")]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_site_gets_nothing_and_spends_nothing(
    echo: Served, headers: dict[str, str]
) -> None:
    body, sent = json.dumps({"model": "sim-large", "messages": MESSAGES}), {"Content-Type": "text/plain"}

    with echo.http() as http:
        answers = [http.post("/v1/chat/completions", content=body, headers=sent | headers)]
        answers += [http.get("/course/ledger", headers=headers), http.post("/course/reset", headers=headers)]

    assert [answer.status_code for answer in answers] == [403] * 3
    assert answers[0].json()["error"]["code"] == "foreign_page"
    assert ledger(echo)["requests"] == 0


def test_a_program_may_use_each_name_of_the_host(serve: Callable[[Endpoint], Served]) -> None:
    served = serve(Endpoint(Echo(), name="Lab-3"))
    port = served.url.split(":")[2].removesuffix("/v1")

    for host in ("127.0.0.1", "localhost", "[::1]", "lab-3"):
        assert httpx.get(f"{served.url}/models", headers={"Host": f"{host}:{port}"}).status_code == 200


@pytest.mark.anyio
async def test_where_it_is_reached_by_another_address_than_loopback_any_name_will_do() -> None:
    transport = httpx.ASGITransport(app(Endpoint(Echo())))
    async with httpx.AsyncClient(transport=transport, base_url="http://192.0.2.7") as http:
        named, foreign = [
            (await http.get("/v1/models", headers={"Host": "workshop.example", **more})).status_code
            for more in ({}, {"Origin": "https://evil.example"})
        ]

    assert (named, foreign) == (200, 403)


# -- faults -------------------------------------------------------------------------------------------


def test_an_answer_cut_midway_has_begun_and_does_not_end(echo: Served) -> None:
    define(echo, "cut", cut_midway_rate=1)
    body = {"model": "sim-large@cut", "messages": MESSAGES}
    seen = []

    with echo.http() as http:
        with (
            http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as answer,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            seen += answer.iter_lines()
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
            http.post("/v1/chat/completions", json=body)  # shorter than announced

    assert answer.status_code == 200
    assert any("one" in line or "assistant" in line for line in seen)
    assert "data: [DONE]" not in seen


@pytest.mark.parametrize(
    ("fields", "fault"), [({"hang_rate": 1}, "hang"), ({"ttft_p50_ms": 60_000}, None)], ids=["hang", "slow"]
)
def test_a_client_that_gives_up_waiting_is_noticed(
    echo: Served, fields: dict[str, Any], fault: str | None
) -> None:
    define(echo, "late", **fields)

    with pytest.raises(openai.APITimeoutError):
        ask(echo, "sim-large@late", timeout=0.2)

    call = wait_for_calls(echo, 1)[0]
    assert (call["status"], call["fault"]) == (499, fault)
    assert ask(echo).choices


@pytest.mark.parametrize("tokens_per_s", [20, 500])
def test_a_client_that_leaves_in_the_middle_of_a_stream_is_noticed_at_any_speed(
    echo: Served, tokens_per_s: int
) -> None:
    define(echo, "mine", speed_p50_tokens_per_s=tokens_per_s)
    messages = [{"role": "user", "content": "one " * 5_000}]

    body = {"model": "sim-large@mine", "messages": messages, "stream": True}
    with echo.http() as http, http.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())

    (call,) = wait_for_calls(echo, 1)
    assert call["status"] == 499


def wait_for_calls(served: Served, count: int) -> list[dict[str, Any]]:
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:
        calls: list[dict[str, Any]] = ledger(served)["calls"]
        if len(calls) >= count:
            return calls
        time.sleep(0.01)
    raise AssertionError(f"fewer than {count} calls in the ledger after 5 s")


def events(served: Served, model: str) -> list[str]:
    """Return the data lines of a stream."""
    body = {"model": model, "messages": MESSAGES, "stream": True}
    with served.http() as http:
        answer = http.post("/v1/chat/completions", json=body)
    return [line.removeprefix("data: ") for line in answer.text.splitlines() if line]


def test_a_stream_without_an_end_says_done_but_no_finish_reason_and_lacks_text(echo: Served) -> None:
    define(echo, "mine", no_finish_rate=1)

    *chunks, done = events(echo, "sim-large@mine")
    whole = ask(echo, "sim-large@mine").choices[0]

    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert done == "[DONE]"
    assert {choice["finish_reason"] for choice in choices} == {None} == {whole.finish_reason}
    text = "".join(choice["delta"]["content"] for choice in choices)
    assert text == whole.message.content
    assert text in {"", "one", "one two"}


def test_one_chunk_of_a_stream_is_broken_or_the_body_is(echo: Served) -> None:
    define(echo, "mine", broken_chunk_rate=1)

    *chunks, done = events(echo, "sim-large@mine")
    with echo.http() as http:
        answer = http.post("/v1/chat/completions", content=to("sim-large@mine"))

    assert done == "[DONE]"
    assert len([chunk for chunk in chunks if not is_json(chunk)]) == 1
    assert is_json(chunks[-1])
    assert answer.status_code == 200
    assert not is_json(answer.text)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("stream", [False, True])
def test_what_stalls_goes_silent_until_the_client_leaves(echo: Served, stream: bool) -> None:
    define(echo, "mine", stall_rate=1)

    with pytest.raises((openai.APITimeoutError, httpx.ReadTimeout)):
        ask(echo, "sim-large@mine", stream=stream, timeout=0.2)

    call = wait_for_calls(echo, 1)[0]
    assert call["status"] == 499
    assert (call["ttft_ms"] < call["duration_ms"]) == stream


def test_the_first_requests_of_each_client_and_model_get_what_the_profile_says(echo: Served) -> None:
    define(echo, "mine", first=["unavailable", "ok", "rate_limited"], retry_after_s=3600)

    answers = []
    with echo.http() as http, echo.http("other") as other:
        other.post("/course/profiles", json={"name": "mine", "first": ["error"]}).raise_for_status()
        for each, model in itertools.product((http, other), ("sim-large", "sim-small")):
            content = to(f"{model}@mine")
            answers += [each.post("/v1/chat/completions", content=content) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [503, 200, 429, 200] * 2 + [500, 200, 200, 200] * 2
    assert [answers[at].headers["retry-after-ms"] for at in (0, 2)] == ["3600000"] * 2
    assert "retry-after" not in answers[8].headers
    assert len({answer.headers["x-request-id"] for answer in answers}) == 16


def test_the_first_requests_come_anew_after_a_reset_and_after_a_definition(echo: Served) -> None:
    define(echo, "mine", first=["error"])

    found = [fates(echo, 2)]
    with echo.http() as http:
        http.post("/course/reset")
    found.append(fates(echo, 2))
    define(echo, "mine", first=["error"])
    found.append(fates(echo, 2)[2:])

    assert found == [["error", None]] * 3


def test_headers_say_what_is_left_of_a_limit(serve: Callable[[Endpoint], Served]) -> None:
    served = serve(Endpoint(Echo(), clock=lambda: 0.0))
    define(served, "mine", limit_requests_per_s=4, limit_tokens_per_s=100)

    with served.http() as http:
        headers = [http.post("/v1/chat/completions", content=to("sim-large@mine")).headers for _ in range(2)]
        free = http.post("/v1/chat/completions", content=to("sim-large")).headers

    said = [{k.removeprefix("x-ratelimit-"): v for k, v in each.items() if "limit" in k} for each in headers]
    assert said[0]["limit-requests"] == "4"
    assert said[0]["remaining-requests"] == "3"
    assert said[0]["reset-requests"] == "0.250s"
    assert [each["remaining-tokens"] for each in said] == ["100", "90"]
    assert not [name for name in free if "ratelimit" in name]


@pytest.mark.parametrize("kind", ["prose_around", "cut_by_length"])
@pytest.mark.parametrize("stream", [False, True])
def test_malformed_answers_arrive_whole_and_malformed_arguments_are_not_json(
    echo: Served, kind: str, stream: bool
) -> None:
    define(echo, "odd", **{f"{kind}_rate": 1})

    choice = final_choice(echo, "sim-large@odd", stream=stream)
    called = ask(echo, "sim-large@odd", tools=[TOOL]).choices[0].message.tool_calls[0]

    assert choice.message.content != "one two three"
    assert choice.finish_reason == ("length" if kind == "cut_by_length" else "stop")
    with pytest.raises(json.JSONDecodeError):
        json.loads(called.function.arguments)


def fates(served: Served, requests: int) -> list[str | None]:
    """Send requests one after another and return what struck them."""
    with served.http() as http:
        for _ in range(requests):
            with contextlib.suppress(httpx.HTTPError):
                http.post("/v1/chat/completions", content=to("sim-large@mine"))
    return [call["fault"] for call in wait_for_calls(served, requests)]


def test_the_same_seed_repeats_after_a_reset_and_after_a_restart(
    echo: Served, serve: Callable[[Endpoint], Served]
) -> None:
    rates = {"error_rate": 0.2, "unavailable_rate": 0.2, "cut_before_rate": 0.1, "cut_midway_rate": 0.1}
    define(echo, "mine", **rates)

    first = fates(echo, 60)
    with echo.http() as http:
        http.post("/course/reset")
    second = fates(echo, 60)
    restarted = serve(Endpoint(Echo()))
    define(restarted, "mine", **rates)
    third = fates(restarted, 60)

    assert first == second == third
    assert set(first) == {None, "error", "unavailable", "cut_before", "cut_midway"}


def test_speed_spreads_the_tokens_of_a_stream(echo: Served) -> None:
    define(echo, "mine", speed_p50_tokens_per_s=20)

    with client(echo) as ai, ai.chat.completions.create(
        model="sim-large@mine", messages=MESSAGES, stream=True
    ) as stream:  # fmt: skip
        times_s = [time.monotonic() for _ in stream]

    gaps_s = sorted(after - before for before, after in itertools.pairwise(times_s))
    assert gaps_s[len(gaps_s) // 2] >= 0.03  # 0.05 apart as planned; a busy machine only adds to it


def test_a_client_that_resets_its_connection_does_no_harm(echo: Served) -> None:
    host, port = echo.url.removeprefix("http://").removesuffix("/v1").split(":")
    for sent in (
        b"",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    ):
        rude = socket.create_connection((host, int(port)))
        rude.sendall(sent)
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        rude.close()

    assert ask(echo).choices


def test_choices_that_together_take_long_are_refused() -> None:
    work = [{"role": "user", "content": "call f with 1 2 3 " * 3}]
    fields = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(90)}}
    tools = [
        {"type": "function", "function": {"name": f"f{number}", "parameters": fields}} for number in range(40)
    ]

    with pytest.raises(RefusedError, match=r"ask for fewer|make the request smaller"):  # one alone, if slow
        call(
            "POST",
            "/v1/chat/completions",
            json.loads(to("sim-large", work, tools=tools, n=128, temperature=1)),
        )
