"""What passes through the endpoint is recorded in one file, and replayed byte for byte without a model."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from course_lib import lm
from course_lib.lm import taping
from course_lib.lm.endpoint import replaying
from course_lib.lm.endpoint.replaying import Replay, Tapes
from course_lib.lm.endpoint.server import Endpoint
from course_lib.lm.endpoint.upstream import Upstream
from course_lib.lm.process import EndpointError
from course_lib.lm.recordings import (
    Recorded,
    RecordingError,
    TornLineWarning,
    Writer,
    differing,
    load,
    missed,
    redacted,
)
from course_lib.redaction import redact
from tests.lm.conftest import Echo, Served
from tests.redaction import corpus
from tests.services.processes import happens, running

CHAT = "/v1/chat/completions"


def body(text: str, model: str = "sim-large", **options: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **options}


def received(url: str, key: str, asked: list[dict[str, Any]], path: str = CHAT) -> list[Any]:
    """Ask one after the other; return of each answer what a client gets: status, headers and every byte."""
    root, answers = url.removesuffix("/v1"), []
    with httpx.Client(base_url=root, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
        for each in asked:
            got, status, headers = bytearray(), 0, {}
            try:
                with http.stream("POST", path, json=each) as answer:
                    status, headers = answer.status_code, dict(answer.headers)
                    for chunk in answer.iter_raw():
                        got += chunk
            except httpx.HTTPError as error:
                headers["ended by"] = type(error).__name__
            answers.append((status, headers | {"date": ""}, bytes(got)))
    return answers


@contextmanager
def alone(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `course lm` with these options; yields its address."""
    command = [sys.executable, "-m", "course_lib.cli", "lm", "--port", "0", *options]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        said = process.stdout.readline() + process.stdout.readline()
        try:
            yield re.findall(r"export COURSE_LM_URL=(http://127\.0\.0\.1:\d+/v1)", said)[0], process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)


FIRST = ["unavailable", "rate_limited", "cut_midway", "no_finish", "broken_chunk", "error", "cut_before"]
MIXED = [
    *(body(f"What is {n} + 4? Grüße", "sim-large@first", stream=n % 2 == 0) for n in range(8)),
    body("What is 3 + 4?", stream=True, stream_options={"include_usage": True}),
    body("Say something.", temperature=1.0),
    body("Say something.", temperature=1.0),
    body("Find lamps", tools=[{"type": "function", "function": {"name": "search", "parameters": {}}}]),
    body("Who?", "sim-enormous"),
]


def test_another_process_replays_every_byte_of_a_run_with_faults_and_no_model(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with alone("--record", str(file)) as (url, _):
        root = url.removesuffix("/v1")
        profile = {"name": "first", "first": FIRST, "retry_after_s": 0.4, "limit_requests_per_s": 1000}
        httpx.post(f"{root}/course/profiles", json=profile, headers={"Authorization": "Bearer secret-key-1"})
        live = received(url, "secret-key-1", MIXED)
        vectors = received(url, "secret-key-1", [{"model": "sim-embed", "input": ["one"]}], "/v1/embeddings")

    with alone("--replay", str(file)) as (url, _):
        again = received(url, "secret-key-2", MIXED)
        assert received(url, "k", [{"model": "sim-embed", "input": ["one"]}], "/v1/embeddings") == vectors

    assert again == live
    assert [status for status, _, _ in live[:7]] == [503, 429, 200, 200, 200, 500, 0]
    assert live[9] != live[10]  # equal requests, each with its own answer
    text = file.read_text()
    assert "secret-key" not in text
    assert "authorization" not in text.lower()
    assert "Grüße" in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_comes_from_a_provider_is_recorded_too_and_replayed_without_it(
    echo: Served, serve: Callable[[Endpoint], Served], tmp_path: Path
) -> None:
    writer = Writer(tmp_path / "run.jsonl")
    way_out = Upstream({"OPENAI_API_BASE": echo.url, "OPENAI_API_KEY": "sk-secret"})
    front = serve(Endpoint(Echo(), upstream=way_out, tapes=Tapes(writer.add_line)))
    asked = [body("one two", "openai/sim-small", stream=is_stream) for is_stream in (False, True)]
    live = received(front.url, "k", asked)
    front.stop()
    writer.close()

    recorded = load(writer.path)
    again = serve(Endpoint(Echo(), upstream=Upstream({}), tapes=Tapes(replay=Replay(recorded))))

    assert received(again.url, "k", asked) == live
    assert [each.reply for each in recorded] == ["one two", "one two"]
    with again.http() as http:
        seen = http.get("/course/ledger").json()
    assert [call["prompt_tokens"] for call in seen["calls"]] == [6, 6]
    assert seen["cost_usd"] > 0
    assert "sk-secret" not in writer.path.read_text()


def test_a_client_records_its_own_requests_and_no_one_else_s(tmp_path: Path, monkeypatch) -> None:
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), [body("mine")])
        received(lm.url(), "another", [body("not mine")])
    received(lm.url(), lm.key(), [body("later")])

    assert [each.request["messages"][0]["content"] for each in load(tmp_path / "run.jsonl")] == ["mine"]


def test_redacted_content_is_in_no_line_and_is_replayed_by_what_was_asked(tmp_path: Path) -> None:
    asked = [body("What is 2000 + 2711?", stream=is_stream) for is_stream in (True, False)]
    with taping.record(tmp_path / "run.jsonl", redact=lambda text: re.sub(r"\d{4}", "(code)", text)):
        live = received(lm.url(), lm.key(), asked)
    recorded = load(tmp_path / "run.jsonl")

    assert b"4711" in live[1][2]
    messages = str([(each.request, each.reply) for each in recorded])
    assert "4711" not in messages
    assert "(code)" in messages
    with taping.replay(recorded):
        again = received(lm.url(), lm.key(), asked)
    assert [status for status, _, _ in again] == [200, 200]
    assert b"(code)" in again[1][2]


def test_a_request_that_is_not_recorded_is_refused_and_the_block_ends_with_the_difference(tmp_path) -> None:
    long = "word " * 400
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), [body(f"{long}boots{long}"), body("Something else entirely")])

    with pytest.raises(RecordingError, match="1 requests were not recorded") as caught:  # noqa: SIM117
        with taping.replay(load(tmp_path / "run.jsonl")):
            (status, _, sent), *_ = received(lm.url(), lm.key(), [body(f"{long}tents{long}")])

    error = json.loads(sent)["error"]
    assert (status, error["code"]) == (400, "not_recorded")
    assert error["message"] in str(caught.value)
    assert "the nearest is number 1" in error["message"]
    assert re.search(r"^- \.\.\..*boots.*\n\+ \.\.\..*tents", error["message"], re.MULTILINE)
    assert len(error["message"]) < 1000


def test_a_miss_names_a_setting_that_differs_and_a_request_that_came_too_often(tmp_path: Path) -> None:
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), [body("once", temperature=0.5)])
    recorded = load(tmp_path / "run.jsonl")

    assert "+ temperature: 0.7" in missed(CHAT, body("once", temperature=0.7), recorded)
    assert "recorded 1 times, and was asked once more" in missed(
        CHAT, {"temperature": 0.5, "stream": False, **body("once")}, recorded
    )
    assert "nothing is recorded of /v1/embeddings" in missed("/v1/embeddings", {}, recorded)


def test_of_long_texts_a_part_is_compared_and_that_is_said() -> None:
    before = ["alike"] * 5_000 + [f"{n % 150}" for n in range(60_000)]

    found = differing(before, [*before[:5_000], "new", *before[5_000:]])

    assert found == ["+ new", "- 99", "(59,001 lines behind these were not compared)"]
    assert differing(before, before) == []


def test_others_are_answered_while_the_nearest_recorded_request_is_looked_for(
    serve: Callable[[Endpoint], Served],
) -> None:
    loops = set()

    class Watched(list[Recorded]):
        def __iter__(self) -> Iterator[Recorded]:
            loops.add(asyncio._get_running_loop())
            return super().__iter__()

    front = serve(Endpoint(Echo(), tapes=Tapes(replay=Replay(Watched([Recorded(body("one"))])))))

    ((status, _, sent),) = received(front.url, "k", [body("two")])

    assert (status, json.loads(sent)["error"]["code"]) == (400, "not_recorded")
    assert loops == {None}


def test_with_asks_the_model_answers_what_is_not_recorded(tmp_path: Path) -> None:
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), [body("What is 1 + 1?")])
    (one,) = load(tmp_path / "run.jsonl")

    with taping.replay([one.with_reply("eleven")], asks=True):
        answers = received(lm.url(), lm.key(), [body("What is 1 + 1?"), body("What is 1 + 2?")])

    texts = [json.loads(sent)["choices"][0]["message"]["content"] for _, _, sent in answers]
    assert texts[0] == "eleven"
    assert "3" in texts[1]


@pytest.mark.parametrize("stream", [False, True])
def test_the_ledger_of_a_replay_is_that_of_the_run(tmp_path: Path, stream: bool) -> None:
    lm.profile("slips", first=["unavailable", "missing_field"], retry_after_s=2.0)
    fields = {"order_id": {"type": "string", "description": "number of the order, such as O-10001"}}
    looks_up = {"name": "look_up_order", "description": "Look up an order: its status"}
    looks_up["parameters"] = {"type": "object", "properties": fields, "required": ["order_id"]}
    tools = [{"type": "function", "function": looks_up}]
    question = "What is the status of order O-10154?"
    asked = [
        body(question, "sim-large@slips", stream=stream, **extra) for extra in ({}, {}, {"tools": tools})
    ]
    asked.append(body("What is 1 + 1?", stream=stream))
    lm.reset()
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), asked)
    live = lm.ledger()

    lm.reset()
    with taping.replay(load(tmp_path / "run.jsonl")):
        received(lm.url(), lm.key(), asked)

    again = lm.ledger()
    assert (again.statuses, again.faults, again.cost_usd) == (live.statuses, live.faults, live.cost_usd)
    figures = "model profile status fault prompt_tokens completion_tokens question request_id retry_after_s"
    for one, other in zip(live.calls, again.calls, strict=True):
        for name in (*figures.split(), "messages", "reply", "tools", "tool_calls", "stream"):
            assert (getattr(one, name) or None) == (getattr(other, name) or None), name
    assert again.calls[2].tool_calls


def test_a_stream_is_edited_as_an_answer_is(tmp_path: Path) -> None:
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), [body("What is 1 + 1?", stream=True)])
    (one,) = load(tmp_path / "run.jsonl")

    edited = one.with_reply("It is eleven, as everybody knows.")
    with taping.replay([edited]):
        ((_, _, sent),) = received(lm.url(), lm.key(), [body("What is 1 + 1?", stream=True)])

    assert one.text != edited.text == "It is eleven, as everybody knows."
    assert sent.count(b"It is eleven, as everybody knows.") == 1
    assert sent.endswith(b"data: [DONE]\n\n")
    lm.profile("silent", unavailable_rate=1)
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), [body("one", "sim-large@silent")])
    with pytest.raises(
        RecordingError, match="no text that could be another: 'status 503: the model is overl"
    ):
        load(tmp_path / "run.jsonl")[0].with_reply("ok")


@pytest.mark.parametrize("pace", [0, 1])
def test_an_answer_comes_at_once_or_as_late_as_it_was_recorded(tmp_path: Path, pace: float) -> None:
    lm.profile("late", ttft_p50_ms=1500)
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), [body("hello", "sim-large@late", stream=True)])
    recorded = load(tmp_path / "run.jsonl")
    assert recorded[0].took_ms > 1200

    lm.reset()
    with taping.replay(recorded, pace=pace):
        received(lm.url(), lm.key(), [body("hello", "sim-large@late", stream=True)])

    assert (lm.ledger().calls[0].duration_ms > 1200) is bool(pace)


def test_what_is_asked_at_once_is_recorded_whole_and_replayed_in_any_order(tmp_path: Path) -> None:
    asked = [body(f"Say something about {n % 20}.", temperature=1.0, stream=n % 3 == 0) for n in range(60)]

    async def all_at_once(order: list[int]) -> dict[int, bytes]:
        headers = {"Authorization": f"Bearer {lm.key()}"}
        async with httpx.AsyncClient(base_url=lm.url(), headers=headers, timeout=60) as http:
            answers = await asyncio.gather(*(http.post("/chat/completions", json=asked[at]) for at in order))
        return {at: answer.content for at, answer in zip(order, answers, strict=True)}

    with taping.record(tmp_path / "run.jsonl"):
        live = asyncio.run(all_at_once(list(range(60))))
    recorded = load(tmp_path / "run.jsonl")
    with taping.replay(recorded):
        again = asyncio.run(all_at_once(list(range(60))[::-1]))

    assert len(recorded) == 60
    for n in range(20):
        same = [at for at in range(60) if asked[at] == asked[n]]
        assert sorted(live[at] for at in same) == sorted(again[at] for at in same)


@pytest.fixture
def shared(serve: Callable[[Endpoint], Served], monkeypatch: pytest.MonkeyPatch) -> Served:
    """An endpoint that others use too, as in a workshop."""
    served = serve(Endpoint(Echo()))
    monkeypatch.setenv("COURSE_LM_URL", served.url)
    return served


def test_at_a_shared_endpoint_the_file_is_the_client_s(shared: Served, tmp_path: Path) -> None:
    with taping.record(tmp_path / "run.jsonl"):
        live = received(lm.url(), lm.key(), [body("one")])
    with taping.replay(load(tmp_path / "run.jsonl")):
        assert received(lm.url(), lm.key(), [body("one")]) == live
        assert received(lm.url(), "another", [body("two")])[0][0] == 200


TOOL = {"type": "function", "function": {"name": "note", "parameters": {}}}


def test_nothing_personal_of_a_corpus_is_in_a_redacted_recording(shared: Served, tmp_path: Path) -> None:
    items = corpus.items(1)
    asked = [
        body(item.text, stream=n % 2 == 0, **({"tools": [TOOL]} if n % 3 == 0 else {}))
        for n, item in enumerate(items)
    ]

    with taping.record(tmp_path / "run.jsonl", redact=redact):
        live = received(lm.url(), lm.key(), asked)

    assert len(items) >= 300
    assert {status for status, _, _ in live} == {200}
    file, steps = (tmp_path / "run.jsonl").read_text(), load(tmp_path / "run.jsonl")
    shown = [f"{step.prompt}\n{step.reply}" for step in steps]  # short parts also stand in ids and times
    pairs = zip(items, shown, strict=True)
    left = [
        item
        for item, text in pairs
        if any(part in text or (len(part) > 5 and part in file) for part in item.telling)
    ]
    assert left == []


def test_a_redacted_recording_hides_what_the_name_of_a_field_tells(shared: Served, tmp_path: Path) -> None:
    call = {"name": "login", "arguments": '{"user": "bob", "password": "hunter3", "pin": 4711, "n": 3}'}
    asked = body('{"password": "hunter2", "api_key": "abcd", "note": "hi"}')
    asked["messages"] += [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "c", "content": '{"ok": true, "token": "hunter4"}'},
    ]

    with taping.record(tmp_path / "run.jsonl", redact=redact):
        received(lm.url(), lm.key(), [asked])

    (step,) = load(tmp_path / "run.jsonl")
    first, second, third = step.request["messages"]
    assert json.loads(first["content"]) == {"password": "[secret]", "api_key": "[secret]", "note": "hi"}
    arguments = json.loads(second["tool_calls"][0]["function"]["arguments"])
    assert arguments == {"user": "bob", "password": "[secret]", "pin": "[secret]", "n": 3}
    assert json.loads(third["content"]) == {"ok": True, "token": "[secret]"}


OF_ANNA = {
    "user": "Anna Kovacs",
    "prompt_cache_key": "anna@example.com",
    "metadata": {
        "customer_name": "Anna Kovacs",
        "phone": 447700900123,
        "anna@example.com": 1,
        "kiss@example.com": 2,
        "pin": 4711,
        "address": {"street": "Elm", "no": 17},
        "plan": "gold",
    },
}
BY_NAME = {"type": "object", "properties": {"last_name": {"anyOf": [{"type": "string"}]}}}
OF_THE_PROGRAM = {
    "seed": 12345678,
    "tools": [{"type": "function", "function": {"name": "find", "parameters": BY_NAME}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "Answer", "schema": BY_NAME}},
}


def test_a_request_s_own_fields_are_redacted_as_a_tool_s_arguments_are() -> None:
    request = body("hi", "sim-large@storm", **OF_ANNA, **OF_THE_PROGRAM)
    request["messages"] += [
        {"role": "user", "name": "Anna Kovacs", "content": "hi"},
        {"role": "tool", "tool_call_id": "c", "name": "find", "content": "{}"},
    ]
    line = Recorded(request=request).as_line()

    shown = json.loads(redacted(line, redact))["request"]
    assert {name: shown[name] for name in (*OF_ANNA, *OF_THE_PROGRAM, "model")} == {
        "user": "[name]",
        "prompt_cache_key": "[email]",
        "metadata": {
            "customer_name": "[name]",
            "phone": "[phone]",
            "[email]": 1,
            "[email] 4": 2,
            "pin": "[secret]",
            "address": "[address]",
            "plan": "gold",
        },
        "model": "sim-large@storm",
        **OF_THE_PROGRAM,
    }
    assert shown["messages"][1:] == [{**request["messages"][1], "name": "[name]"}, request["messages"][2]]

    hidden = json.loads(redacted(line, lambda _: "..."))["request"]
    assert hidden["messages"][0] == {"role": "...", "content": "..."}
    assert not [each for each in ("Anna", "4711", "anna@", "Elm", "900123") if each in str(hidden)]


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


PARTS = ("Call +44 20 ", "7946 09", "58 now")
WRITTEN = {
    "reasoning": [chunk(reasoning_content=part) for part in PARTS],
    "refusal": [chunk(refusal=part) for part in PARTS],
    "blocks": [chunk(blocks=[{"index": 0, "text": part}]) for part in PARTS],
    "text": [f"data: {json.dumps(chunk(content=part))}\n\n" for part in PARTS],
    "cuts": [f"data: {json.dumps(chunk(content='Call +44 20 7946 0958 now'))}\n\n"[at : at + 20]
             for at in range(0, 120, 20)],
}  # fmt: skip


@pytest.mark.parametrize("pieces", WRITTEN.values(), ids=WRITTEN)
def test_what_is_streamed_in_pieces_is_redacted_as_a_whole(pieces: list[Any]) -> None:
    request = body("hi", stream=True)
    line = Recorded(request=request, pieces=tuple((0.0, piece) for piece in pieces)).as_line()

    shown = redacted(line, redact).decode()

    assert "Call [phone] now" in shown
    assert not [part for part in ("44 20", "7946", "58") if part in shown]


def test_a_client_that_leaves_is_forgotten(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "_LOOK_EVERY_S", 0.05)
    with shared.http() as http, http.stream("GET", "/course/recording?name=x"):
        assert len(shared.endpoint.tapes._recorders) == 1

    assert happens(lambda: not shared.endpoint.tapes._recorders)


def test_what_would_fill_the_endpoint_s_memory_is_refused_and_told(shared, tmp_path, monkeypatch) -> None:
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), [body("one")])
    monkeypatch.setattr(replaying, "MOST_BYTES", 50)

    with pytest.raises(EndpointError, match="others replay large recordings"):
        taping.replay(load(tmp_path / "run.jsonl")).__enter__()
    with pytest.raises(RecordingError, match="more came than could be written"):  # noqa: SIM117
        with taping.record(tmp_path / "other.jsonl"):
            received(lm.url(), lm.key(), [body("one")])
    assert shared.endpoint.tapes._waiting_bytes == 0


# -- the file --------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with taping.record(tmp_path / "run.jsonl"):
        received(lm.url(), lm.key(), [body(f"number {n}") for n in range(3)])
    return tmp_path / "run.jsonl"


def test_a_torn_last_line_is_told_and_left_out(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])

    with pytest.warns(TornLineWarning, match=r"run.jsonl: line 4 is torn"):
        recorded = load(file)

    assert [each.request["messages"][0]["content"] for each in recorded] == ["number 0", "number 1"]


def test_a_last_line_without_its_end_is_whole(file: Path) -> None:
    file.write_bytes(file.read_bytes().rstrip())

    assert len(load(file)) == 3


def test_more_than_an_endpoint_replays_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taping, "MOST_BYTES", 50)

    with pytest.raises(RecordingError, match="bytes are recorded, over 50; replay a part"):
        taping.replay(load(file)).__enter__()


def test_lines_stand_whole_in_the_file_when_the_process_that_records_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with alone("--record", str(file)) as (url, process):
        received(url, "k", [body("one"), body("two")])
        httpx.get(url.replace("/v1", "/course/ledger"))  # answered after the lines were written
        process.kill()

    assert len(load(file)) == 2  # a torn line would be an error here


DAMAGED = {
    "version": (0, b'"version": 1', b'"version": 2', "has version 2, and this reads 1; record it again"),
    "format": (0, b"course-lm-recording", b"something", "is no recording"),
    "line": (2, b'{"request"', b'{"requ', "line 3 is damaged"),
    "field": (2, b'"status"', b'"state"', "line 3 is damaged .its status is missing"),
    "kind": (3, b'"headers": {', b'"headers": 1, "x": {', "line 4 is damaged .its headers is missing, or of"),
    "header": (2, b'"headers": {', b'"headers": {"x": 1, ', "line 3 is damaged"),
    "code": (2, b'"status": 200', b'"status": 99999', "line 3 is damaged .its status"),
    "figure": (2, b'"prompt_tokens": ', b'"prompt_tokens": "many", "x": ', "line 3 is damaged"),
    "tokens": (
        2,
        b'"prompt_tokens": ',
        b'"prompt_tokens": 1' + b"0" * 30,
        "line 3 is damaged .one of its num",
    ),
    "negative": (2, b'"cached_tokens": ', b'"cached_tokens": -1', "line 3 is damaged .one of its numbers"),
    "no number": (2, b'"cost_usd": ', b'"cost_usd": NaN, "x": ', "line 3 is damaged .one of its numbers"),
    "fault": (2, b'"fault": null', b'"fault": true', "line 3 is damaged"),
    "fault's name": (2, b'"fault": null', rb'"fault": "\ud800"', "line 3 is damaged"),
    "half a letter": (2, b'"content": "', rb'"content": "\ud800', "line 3 is damaged"),
    "choice": (2, b'"choices": [', b'"choices": [5, ', "line 3 is damaged"),
    "time": (2, b'"took_ms": ', b'"took_ms": "abc", "x": ', "line 3 is damaged .its took_ms"),
    "depth": (2, b'{"request"', b'{"x": ' + b"[" * 100_000 + b', "request"', "line 3 is damaged .Recursion"),
}


@pytest.mark.parametrize(("line", "old", "new", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_file_that_is_no_whole_recording_is_refused(file, line, old, new, message) -> None:
    lines = file.read_bytes().split(b"\n")
    lines[line] = lines[line].replace(old, new)
    file.write_bytes(b"\n".join(lines))

    with pytest.raises(RecordingError, match=message):
        load(file)


def test_course_lm_refuses_a_file_that_is_there_to_record_and_one_that_is_not_to_replay(file: Path) -> None:
    for option, path, message in (
        ("--record", file, "is there already"),
        ("--replay", file.with_name("none.jsonl"), "cannot be read"),
    ):
        command = [sys.executable, "-m", "course_lib.cli", "lm", "--port", "0", option, str(path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)

        assert ended.returncode == 1
        assert re.match(f"course: .*{message}", ended.stderr)


def test_an_endpoint_that_ends_in_the_block_is_told_and_nothing_goes_to_a_model_unseen(
    file: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecordingError, match="is not complete"), taping.record(tmp_path / "other.jsonl"):
        lm.stop()
    with pytest.raises(EndpointError, match="nothing is replayed any more"), taping.replay(load(file)):
        lm.stop()


def test_a_block_in_which_nothing_reaches_the_endpoint_is_told(file: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="is empty: no request of this key"):  # noqa: SIM117
        with taping.record(tmp_path / "other.jsonl"):
            received(lm.url(), "another", [body("one")])
    with pytest.raises(RecordingError, match="nothing was replayed: no request"), taping.replay(load(file)):
        pass
