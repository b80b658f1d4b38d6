"""Exercise 5.2, an endpoint with the right error for every bad input: each has its status and its code.

Main path: EXERCISE -> engine.registry; each check sends requests of its own to the learner's application, as
a server would, and knows what its `answer` was asked.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import string
import time
from collections.abc import AsyncIterator
from typing import Any

import dspy
import httpx

from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise

LARGEST, LONGEST = 4_096, 500
_DEADLINE_S = 0.3
_JSON = {"content-type": "application/json"}


def _word(count: int = 12) -> str:
    return "".join(random.choices(string.ascii_letters, k=count))


class _Service:
    """The learner's application, around an answer of ours."""

    def __init__(self, desk: Any, outcome: Any = None, *, waits_s: float = 0.0) -> None:
        self.asked, self.was_cancelled = list[Any](), False

        async def answer(question: str) -> str:
            self.asked.append(question)
            try:
                await asyncio.sleep(waits_s)
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome or f"about {question}"

        made = without_error(lambda: desk(answer, _DEADLINE_S), "what answer_app(answer) returns")
        self._transport = httpx.ASGITransport(made, raise_app_exceptions=False)

    async def send(self, method: str = "POST", path: str = "/answers", **request: Any) -> httpx.Response:
        """Send a request, and return what comes back."""
        async with httpx.AsyncClient(transport=self._transport, base_url="http://desk") as client:
            try:
                async with asyncio.timeout(5):
                    return await client.request(method, path, **request)
            except Exception as error:  # border: the learner's application may do anything
                what = f"what {method} {path} with {request!r:.120} gets"
                expect(False, what, observed=f"{type(error).__name__}: {error}", expected="an answer")
                raise


def _told(reply: httpx.Response) -> dict[str, Any]:
    try:
        found = reply.json()
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _refused(reply: httpx.Response, status: int, code: str, what: str, hint: str = "") -> None:
    """Fail the check unless a reply is this problem."""
    told = _told(reply)
    got = reply.status_code, told.get("code")
    expect_equal(got, (status, code), f"status and code of {what}", hint=hint)
    media = reply.headers.get("content-type", "").partition(";")[0]
    shape = f"the problem of {what}"
    expect_equal(media, "application/problem+json", f"content type of {shape}")
    right = told.get("status") == status and isinstance(told.get("title"), str) and told["title"]
    expect(
        right, f"status and title in {shape}", observed=reply.text[:200], expected=f"{status}, and a title"
    )
    same = told.get("request_id") == reply.headers.get("x-request-id") != None  # noqa: E711
    expect(same, f"request_id in {shape}", observed=reply.text[:200], expected="that of X-Request-Id")


async def answers(desk: Any) -> None:
    """A question is answered with 200 and what `answer` returns, also several at the same time."""
    service, questions = _Service(desk, waits_s=0.05), [f"{_word()} ü?" for _ in range(8)]
    replies = await asyncio.gather(*(service.send(json={"question": each}) for each in questions))
    got = [(reply.status_code, _told(reply).get("answer")) for reply in replies]
    expect_equal(got, [(200, f"about {each}") for each in questions], "status and answer to 8 questions")
    for text in (_word(LONGEST), "?"):
        reply = await service.send(json={"question": text})
        expect_equal(reply.status_code, 200, f"status for a question of {len(text)} characters")
    reply = await service.send(
        content=json.dumps({"question": "a?"}), headers={"content-type": "Application/JSON; charset=utf-8"}
    )
    expect_equal(reply.status_code, 200, "status for Content-Type: Application/JSON; charset=utf-8")


async def refuses_bad_questions(desk: Any) -> None:
    """What is no question of 1 to 500 characters is 422, and `answer` is not called."""
    texts: list[Any] = ["", "  \n", "x" * (LONGEST + 1), None, random.randint(1, 99), True, ["x"], {"a": 1}]
    bodies: list[Any] = [{"question": text} for text in texts]
    bodies += [{}, [], "x", 7, None, {"Question": "x"}, {"question": "x", _word(5): "y"}]
    raw = [json.dumps(each).encode() for each in bodies]
    raw += [b"", b"{", b'{"question": "x"', b"\xff\xfe", b'{"question": "\\ud800"}']
    for body in raw:
        service = _Service(desk)
        reply = await service.send(content=body, headers=_JSON)
        _refused(reply, 422, "invalid", f"the body {body[:60]!r}", "pydantic: strict=True, extra='forbid'.")
        expect_equal(service.asked, [], f"what answer is asked after the body {body[:60]!r}")


async def refuses_other_media(desk: Any) -> None:
    """A body that is not declared as application/json is 415."""
    for media in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/xml",
        "",
    ):
        service = _Service(desk)
        reply = await service.send(content=b'{"question": "x"}', headers={"content-type": media})
        _refused(reply, 415, "unsupported_media_type", f"Content-Type: {media or '(empty)'}")
        expect_equal(service.asked, [], f"what answer is asked after Content-Type: {media}")


async def refuses_large_bodies(desk: Any) -> None:
    """A body of more than 4,096 bytes is 413, however it is sent, and is not read to its end."""
    sent = 0

    async def chunks(count: int) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(count):
            sent += 1
            yield b" " * 1_024

    small = json.dumps({"question": "x"}).encode()
    hint = "Read request.stream() chunk by chunk, and stop when it is too much."
    reply = await _Service(desk).send(content=small.ljust(LARGEST), headers=_JSON)
    expect_equal(reply.status_code, 200, f"status for a body of {LARGEST} bytes", hint=hint)
    reply = await _Service(desk).send(content=small.ljust(LARGEST + 1), headers=_JSON)
    _refused(reply, 413, "too_large", f"a body of {LARGEST + 1} bytes", hint)
    reply = await _Service(desk).send(content=chunks(400), headers=_JSON)
    _refused(reply, 413, "too_large", "a body in 400 chunks, without Content-Length", hint)
    expect(sent < 300, "how much is read of 400 chunks", observed=f"{sent}", expected="some 5", hint=hint)


async def knows_other_paths(desk: Any) -> None:
    """Another path is 404, another method 405."""
    service = _Service(desk)
    for method, path, status, code in (
        ("POST", f"/{_word(5)}", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/answers", 405, "method_not_allowed"),
        ("PUT", "/answers", 405, "method_not_allowed"),
    ):
        _refused(await service.send(method, path), status, code, f"{method} {path}")


class _UnknownError(RuntimeError):
    pass


async def tells_failures(desk: Any) -> None:
    """What `answer` raises becomes the status of the table, and nothing of its text is told."""
    secret = _word(16)
    signature = dspy.Signature("question -> answer")
    for error, status, code in (
        (dspy.LMServerError(secret), 503, "model_down"),
        (dspy.LMTransportError(secret), 503, "model_down"),
        (dspy.LMTimeoutError(secret), 504, "deadline"),
        (TimeoutError(secret), 504, "deadline"),
        (dspy.AdapterParseError("ChatAdapter", signature, secret), 502, "bad_answer"),
        (_UnknownError(secret), 500, "internal"),
        (KeyError(secret), 500, "internal"),
        (dspy.LMAuthError(secret), 500, "internal"),
    ):
        service, question = _Service(desk, error), _word(16)
        reply = await service.send(json={"question": question})
        _refused(reply, status, code, f"{type(error).__name__}", "One table from class to status and code.")
        for text, whose in ((secret, "the error's own text"), (question, "the question")):
            expect(text not in reply.text, f"{whose} in the answer to a {type(error).__name__}",
                   observed=reply.text[:200], expected="none of it")  # fmt: skip
        again = reply.headers.get("retry-after")
        if status == 503:
            expect_equal(again, "1", f"Retry-After after {type(error).__name__}")


async def tells_when_to_come_back(desk: Any) -> None:
    """A model that takes no more requests is 503 at once, with its wait in whole seconds, rounded up."""
    for wait_s, told in ((100.0, "100"), (0.2, "1"), (7.01, "8"), (None, "1"), (0.0, "1")):
        begun_s = time.monotonic()
        service = _Service(desk, dspy.LMRateLimitError("slow down", retry_after=wait_s))
        reply = await service.send(json={"question": "x"})
        _refused(reply, 503, "model_busy", f"LMRateLimitError, retry_after={wait_s}")
        expect_equal(reply.headers.get("retry-after"), told, f"Retry-After for retry_after={wait_s}")
        expect_equal(len(service.asked), 1, f"how often answer is called with retry_after={wait_s}")
        expect(time.monotonic() - begun_s < 3, "how long that takes", observed="seconds", expected="no wait")


async def holds_the_deadline(desk: Any) -> None:
    """Without an answer within `deadline_s` it is 504, and the call of `answer` is cancelled."""
    service, begun_s = _Service(desk, waits_s=60.0), time.monotonic()
    reply = await service.send(json={"question": "x"})
    took_s = time.monotonic() - begun_s
    hint = "async with asyncio.timeout(deadline_s): around the call of answer alone."
    _refused(reply, 504, "deadline", "an answer that does not come", hint)
    expect(took_s < 10 * _DEADLINE_S, "how long that takes", observed=f"{took_s:.1f} s",
           expected=f"{_DEADLINE_S} s", hint=hint)  # fmt: skip
    expect(service.was_cancelled, "the call of answer after the deadline", observed="it goes on",
           expected="it is cancelled", hint=hint)  # fmt: skip


async def gives_ids(desk: Any) -> None:
    """Each response has X-Request-Id: that of the request if it is one, else one of its own."""
    service = _Service(desk)
    for given in (_word(1), f"{_word(20)}-{random.randint(1, 99)}", _word(64)):
        requests: list[Any] = [{"json": {"question": "x"}}, {"json": {}}]
        for request in requests:
            reply = await service.send(headers={"x-request-id": given}, **request)
            expect_equal(reply.headers.get("x-request-id"), given, f"X-Request-Id for {given!r}")
    seen = set()
    for other in ("", _word(65), "a b", 'a"b', "a<b>", "a_b;c", None):
        headers = {} if other is None else {"x-request-id": other}
        reply = await service.send(headers=headers, json={"question": "x"})
        got = reply.headers.get("x-request-id", "")
        right = re.fullmatch(r"[A-Za-z0-9-]{1,64}", got) and got not in seen
        expect(right, f"X-Request-Id for {other!r}", observed=repr(got), expected="a new one")
        seen.add(got)


EXERCISE = Exercise(
    title="The right error for every bad input",
    minutes=20,
    difficulty="hard",
    hints=(
        "One exception of your own that knows status and code, and one place that turns any exception into a "
        "response: then each rule is a line that raises.",
        "`Model.model_validate_json(body)` with strict=True and extra='forbid' refuses all that is no "
        "question; its errors quote the input, so none of their text goes out.",
        "FastAPI reads a body before your code can count it. A Starlette Request has stream(), which yields "
        "chunks; it works in a plain `async def app(scope, receive, send)` too.",
    ),
    checks=(
        *(answers, refuses_bad_questions, refuses_other_media, refuses_large_bodies, knows_other_paths),
        *(tells_failures, tells_when_to_come_back, holds_the_deadline, gives_ids),
    ),
    why="A caller acts on the status, a program on the code, and support on the request_id; the text of an "
    "exception helps none of them, and may hold a prompt or a key. The service has the same table in "
    "deployment/problems.py, and the guard in front of its routes reads the body.",
)
