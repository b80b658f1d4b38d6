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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import dspy
import httpx
from fastapi.exceptions import HTTPException, RequestValidationError
from pydantic import ValidationError

from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise

LARGEST, LONGEST = 4_096, 500
_LONG_S, _REPLY_S = 60.0, 10.0
_TRIES = 8
"""How often a time is taken, since the machine may be busy; the shortest counts."""
_JSON = {"content-type": "application/json"}
_BASE, _DOCS = "http://desk", ("/docs", "/redoc", "/openapi.json")


def _word(count: int = 12) -> str:
    return "".join(random.choices(string.ascii_letters, k=count))


async def _about(question: str) -> Any:
    return f"about {question}"


async def _never(_: str) -> Any:
    await asyncio.sleep(_LONG_S)


def _ends_with(outcome: Any) -> Callable[[str], Awaitable[Any]]:
    async def work(_: str) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return work


class _Service:
    """The learner's application, around an answer of ours, which does `work`."""

    def __init__(
        self, desk: Any, work: Callable[[str], Awaitable[Any]] = _about, deadline_s: float = _LONG_S
    ) -> None:
        self.asked, self.cancelled = list[Any](), asyncio.Event()

        async def answer(question: str) -> Any:
            self.asked.append(question)
            try:
                return await work(question)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        made = without_error(lambda: desk(answer, deadline_s), "what answer_app(answer, deadline_s) returns")
        self._transport = httpx.ASGITransport(made, raise_app_exceptions=False)

    async def send(self, method: str = "POST", path: str = "/answers", **request: Any) -> httpx.Response:
        """Send a request, and return what comes back."""
        async with httpx.AsyncClient(transport=self._transport, base_url=_BASE) as client:
            try:
                async with asyncio.timeout(_REPLY_S):
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


def _expect_untold(reply: httpx.Response, text: str, what: str) -> None:
    """Fail the check if five characters of the text are in the body or in a header of the reply."""
    told = reply.text + str(reply.headers.multi_items())
    parts = [text[place : place + 5] for place in range(len(text) - 4)]
    seen = [part for part in parts if part in told]
    expect(not seen, what, observed=f"{seen[:1]} in body or headers", expected="none of it")


async def answers(desk: Any) -> None:
    """A question is answered with 200 and what `answer` returns for it, several at the same time."""
    all_asked, under_way, count = asyncio.Event(), 0, 40

    async def work(question: str) -> Any:
        nonlocal under_way
        if len(service.asked) == count:
            all_asked.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(all_asked.wait(), _REPLY_S / 2)
        under_way = under_way or len(service.asked)
        all_asked.set()
        return f"about {question}"

    service, questions = _Service(desk, work), [f"{_word()} ü?" for _ in range(count // 2)] * 2
    replies = await asyncio.gather(*(service.send(json={"question": each}) for each in questions))
    seen = [(reply.status_code, _told(reply)) for reply in replies]
    want = [(200, {"answer": f"about {each}"}) for each in questions]
    expect_equal(seen, want, f"status and answer to {count} questions")
    hint = "Nothing is shared by two requests, be they for the same question: no lock, no limit, no answer."
    expect_equal(under_way, count, f"how many of {count} questions are under way at once", hint=hint)
    dicts: tuple[Any, ...] = {_word(): {"a": [1, "ü"]}}, {"answer": _word()}, {"a": None, "b": [None]}
    for outcome in ("", " a\n", 0, False, None, 1.5, 1 / 3, 2**60 + 1, [_word()], _word(5_000), *dicts):
        reply = await _Service(desk, _ends_with(outcome)).send(json={"question": "x"})
        got = [reply.status_code, _told(reply)]
        expect_equal(
            repr(got), repr([200, {"answer": outcome}]), f"status and body where answer returns {outcome!r}"
        )
    own = ["the first's", "the second's"]
    both = [_Service(desk, _ends_with(each)) for each in own]
    told = [_told(await each.send(json={"question": "x"})).get("answer") for each in both]
    expect_equal(told, own, "what two applications answer, each with an answer function of its own")


async def asks_as_sent(desk: Any) -> None:
    """`answer` is called once for each good question, with the question as it was sent."""
    for text in (
        _word(LONGEST),
        "ü" * LONGEST,
        "😀" * LONGEST,
        "?",
        f"  {_word()} \n",
        "Where?\tu\u0308",
        "a\r\nb\rc?",
    ):
        service, what = _Service(desk), f"a question of {len(text)} characters, {text[:12]!r}"
        for sent in (1, 2):
            reply = await service.send(json={"question": text})
            expect_equal(reply.status_code, 200, f"status for {what}")
            expect_equal(
                service.asked, [text] * sent, f"what answer was asked, when {what}, came {sent} times"
            )
    content = json.dumps({"question": "a?"})
    for media in ("Application/JSON; charset=utf-8", "application/json;charset=UTF-8"):
        reply = await _Service(desk).send(content=content, headers={"content-type": media})
        expect_equal(reply.status_code, 200, f"status for Content-Type: {media}")
    told: str = f"{_word()} 😀 ü \0\a"
    for body in (json.dumps({"question": told}), "\n\t " + json.dumps({"question": told}) + "\r\n"):
        service = _Service(desk)
        await service.send(content=body, headers=_JSON)
        expect_equal(service.asked, [told], f"what answer was asked after the body {body!r}")
    reply = await _Service(desk).send(path=f"/answers?{_word()}=1", content=content, headers=_JSON)
    expect_equal(reply.status_code, 200, "status for POST /answers?..., whose path is /answers")


async def refuses_bad_questions(desk: Any) -> None:
    """What is no question of 1 to 500 characters is 422, nothing of it is told, `answer` is not called."""
    mark, length = (
        _word(16),
        "Field(max_length=500, pattern=r'\\S') says how long, and that not all are spaces.",
    )
    strict, form = (
        "pydantic: strict=True, extra='forbid'.",
        "Whatever the parser raises means 422, also RecursionError.",
    )
    texts: list[tuple[Any, str]] = [
        ("", length),
        ("  \n\t", length),
        ("\u00a0\u3000", length),
        (mark.ljust(LONGEST + 1, "x"), length),
        (mark.ljust(LONGEST + 1), length),
    ]
    texts += [(other, strict) for other in (None, random.randint(1, 99), True, [mark], {"a": mark})]
    bodies: list[tuple[Any, str]] = [({"question": text}, hint) for text, hint in texts]
    objects: tuple[Any, ...] = (
        {},
        [],
        mark,
        7,
        None,
        {"Question": mark},
        {"question": "x", mark: "y"},
        {"question": "x", mark: None},
        {"question": "x", "": mark},
        [{"question": mark}],
        ["question"],
    )
    bodies += [(each, strict) for each in objects]
    raw = [(json.dumps(each).encode(), hint) for each, hint in bodies]
    torn = (
        b"",
        b"{",
        b'{"question": "' + mark.encode(),
        b"\xff\xfe",
        b"[" * 4_000,
        b'{"question": ' + b"[" * 4_000,
        b'{"question": "' + mark.encode() + b'\xff"}',
        *(b'{"question": "x"} ' + more for more in (mark.encode(), b"{}", b"]")),
        str({"question": mark}).encode(),
    )
    raw += [(each, form) for each in torn]
    half = "Half of a surrogate pair has no form in UTF-8: text.encode() fails."
    raw += [(b'{"question": "%s"}' % text, half) for text in (b"\\ud800", b"a\\udc00b")]
    for body, hint in raw:
        service = _Service(desk)
        reply = await service.send(content=body, headers=_JSON)
        _refused(reply, 422, "invalid", f"the body {body[:60]!r}", hint)
        expect_equal(service.asked, [], f"what answer is asked after the body {body[:60]!r}")
        _expect_untold(reply, mark, f"the body in the answer to {body[:60]!r}")


async def refuses_other_media(desk: Any) -> None:
    """A body that is not declared as application/json is 415."""
    for media in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/xml",
        "text/json",
        "application/problem+json",
        "",
        None,
    ):
        service, headers = _Service(desk), {} if media is None else {"content-type": media}
        reply = await service.send(content=b'{"question": "x"}', headers=headers)
        _refused(reply, 415, "unsupported_media_type", f"Content-Type: {media or f'({media!r})'}")
        expect_equal(service.asked, [], f"what answer is asked after Content-Type: {media}")


async def refuses_large_bodies(desk: Any) -> None:
    """A body of more than 4,096 bytes is 413, however it is sent, and is not read to its end."""
    sent = 0

    async def chunks(count: int) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(count):
            sent += 1
            yield b" " * 1_024

    async def parts(body: bytes) -> AsyncIterator[bytes]:
        for place in range(0, len(body), 1_024):
            yield body[place : place + 1_024]
            yield b""

    small = json.dumps({"question": "x"}).encode()
    hint = "Read request.stream() chunk by chunk, and stop when it is too much."
    reply = await _Service(desk).send(content=small.ljust(LARGEST), headers=_JSON)
    expect_equal(reply.status_code, 200, f"status for a body of {LARGEST} bytes", hint=hint)
    reply = await _Service(desk).send(content=small.ljust(LARGEST + 1), headers=_JSON)
    _refused(reply, 413, "too_large", f"a body of {LARGEST + 1} bytes", hint)
    reply = await _Service(desk).send(content=parts(small.ljust(LARGEST)), headers=_JSON)
    expect_equal(reply.status_code, 200, f"status for {LARGEST} bytes in chunks", hint=hint)
    for count in (LARGEST + 1, LARGEST + 1_024):
        service = _Service(desk)
        reply = await service.send(content=parts(small.ljust(count)), headers=_JSON)
        _refused(reply, 413, "too_large", f"{count} bytes in chunks, without Content-Length", hint)
        expect_equal(service.asked, [], f"what answer is asked after {count} bytes")
    emojis = json.dumps({"question": "😀" * 2_000}, ensure_ascii=False).encode()
    reply = await _Service(desk).send(content=emojis, headers=_JSON)
    _refused(reply, 413, "too_large", f"2,000 emojis, which are {len(emojis)} bytes", "Count bytes.")
    for count, most, what in ((400, 300, ""), (400, 300, ", with Content-Length"), (8, 8, "")):
        sent, more = 0, {"content-length": f"{count * 1_024}"} if what else {}
        reply = await _Service(desk).send(content=chunks(count), headers={**_JSON, **more})
        whole = f"a body in {count} chunks of 1 kB{what or ', without Content-Length'}"
        _refused(reply, 413, "too_large", whole, hint)
        told = f"how much is read of {count} chunks{what}"
        expect(sent < most, told, observed=f"{sent}", expected="some 5", hint=hint)


async def knows_other_paths(desk: Any) -> None:
    """Another path is 404, also `/answers/` and pages of a framework's own; another method 405."""
    service = _Service(desk)
    hints = dict.fromkeys(_DOCS, "FastAPI(openapi_url=None) shows none of its own pages.")
    hints["/answers/"] = "redirect_slashes=False: else a router sends /answers/ on to /answers."
    for method, path, status, code in (
        ("POST", f"/{_word(5)}", 404, "not_found"),
        ("POST", "/answers/", 404, "not_found"),
        ("POST", f"/answers/{_word(5)}", 404, "not_found"),
        ("POST", "/ANSWERS", 404, "not_found"),
        *(("POST", f"{_BASE}{path}", 404, "not_found") for path in ("/v1/answers", "//answers")),
        *(("GET", path, 404, "not_found") for path in ("/", *_DOCS)),
        ("PUT", f"/{_word(5)}", 404, "not_found"),
        *(
            (method, "/answers", 405, "method_not_allowed")
            for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS")
        ),
    ):
        reply = await service.send(method, path, json={"question": "x"})
        _refused(reply, status, code, f"{method} {path}", hints.get(path, ""))
    reply = await service.send("HEAD", "/answers")
    expect_equal(reply.status_code, 405, "status of HEAD /answers, which has no body")
    expect_equal(service.asked, [], "what answer is asked by other paths and methods")


_OTHER_ERRORS = (
    *(KeyError, ValueError, OSError, ConnectionError, dspy.LMAuthError),
    *(UnicodeError, RecursionError, AssertionError, MemoryError),
)


def _and_special(error_class: Any, *arguments: Any) -> list[Exception]:
    """Return an error of a class, and one of a subclass."""
    special = type(f"Special{error_class.__name__}", (error_class,), {})
    return [error_class(*arguments), special(*arguments)]


async def tells_failures(desk: Any) -> None:
    """What `answer` raises becomes the status of the table, a subclass too; nothing of its text is told."""
    secret = _word(16)
    parse = "ChatAdapter", dspy.Signature("question -> answer"), secret
    for errors, status, code in (
        (_and_special(dspy.LMServerError, secret), 503, "model_down"),
        (_and_special(dspy.LMTransportError, secret), 503, "model_down"),
        (_and_special(dspy.LMRateLimitError, secret), 503, "model_busy"),
        (_and_special(dspy.LMTimeoutError, secret), 504, "deadline"),
        (_and_special(TimeoutError, secret), 504, "deadline"),
        (_and_special(dspy.AdapterParseError, *parse), 502, "bad_answer"),
        (_and_special(RuntimeError, secret), 500, "internal"),
        *((_and_special(kind, secret), 500, "internal") for kind in _OTHER_ERRORS),
        (_and_special(HTTPException, 404, secret), 500, "internal"),
        (_and_special(RequestValidationError, [{"msg": secret}]), 500, "internal"),
        (list[Exception]([ValidationError.from_exception_data(secret, [])]), 500, "internal"),
        (_and_special(json.JSONDecodeError, secret, secret, 0), 500, "internal"),
        (_and_special(ExceptionGroup, secret, [ValueError(secret)]), 500, "internal"),
    ):
        for error in errors:
            error.__cause__ = OSError(secret)
            error.add_note(secret)
            service, question, name = _Service(desk, _ends_with(error)), _word(16), type(error).__name__
            reply = await service.send(json={"question": question})
            hint = "One table from class to status and code, read with isinstance."
            _refused(reply, status, code, name, hint)
            _expect_untold(reply, secret, f"the error's own text in the answer to a {name}")
            _expect_untold(reply, question, f"the question in the answer to a {name}")
            expect_equal(len(service.asked), 1, f"how often answer is called where it raises {name}")


async def tells_when_to_come_back(desk: Any) -> None:
    """A 503 has the error's wait in whole seconds, rounded up, at least 1, and comes at once."""
    for error_class in (dspy.LMRateLimitError, dspy.LMServerError, dspy.LMTransportError):
        for wait_s, told in (
            (100.0, "100"),
            (4000.0, "4000"),
            (0.2, "1"),
            (7.01, "8"),
            (None, "1"),
            (0.0, "1"),
            (-5.0, "1"),
        ):
            service, begun_s = (
                _Service(desk, _ends_with(error_class("no", retry_after=wait_s))),
                time.monotonic(),
            )
            reply = await service.send(json={"question": "x"})
            what = f"retry_after={wait_s} of {error_class.__name__}"
            expect_equal(reply.status_code, 503, f"status for {what}")
            expect_equal(reply.headers.get("retry-after"), told, f"Retry-After for {what}")
            expect_equal(len(service.asked), 1, f"how often answer is called with {what}")
            took_s = time.monotonic() - begun_s
            expect(took_s < 5, f"how long {what} takes", observed=f"{took_s:.1f} s", expected="no wait")


async def _expect_one_of(
    tries: int,
    desk: Any,
    work: Callable[[str], Awaitable[Any]],
    deadline_s: float,
    status: int,
    what: str,
    hint: str,
) -> None:
    """Fail the check unless one of some tries has the status: a busy machine may spoil one."""
    for _ in range(tries):
        reply = await _Service(desk, work, deadline_s).send(json={"question": "x"})
        if reply.status_code == status:
            break
    expect_equal(reply.status_code, status, f"status of {what}", hint=hint)


async def holds_the_deadline(desk: Any) -> None:
    """Without an answer within `deadline_s` it is 504, and the call of `answer` is cancelled; before, 200."""
    hint = "async with asyncio.timeout(deadline_s): around the call of answer alone."

    async def in_time(question: str) -> Any:
        await asyncio.sleep(1.3)
        return await _about(question)

    async def soon(question: str) -> Any:
        await asyncio.sleep(0.16)
        return await _about(question)

    async def late_body() -> AsyncIterator[bytes]:
        await asyncio.sleep(1.3)
        yield b'{"question": "x"}'

    reply, late = await asyncio.gather(
        _Service(desk, in_time, 8.0).send(json={"question": "x"}),
        _Service(desk, deadline_s=1.2).send(content=late_body(), headers=_JSON),
    )
    expect_equal(reply.status_code, 200, "status of an answer after 1.3 s where deadline_s=8", hint=hint)
    expect_equal(late.status_code, 200, "status where the body takes 1.3 s and deadline_s=1.2", hint=hint)
    await _expect_one_of(2, desk, soon, 0.05, 504, "an answer after 0.16 s where deadline_s=0.05", hint)
    await _expect_one_of(3, desk, in_time, 1.9, 200, "an answer after 1.3 s where deadline_s=1.9", hint)
    took_s, deadline_s, most_s = _LONG_S, 0.4, 0.75
    for _ in range(_TRIES):
        service, begun_s = _Service(desk, _never, deadline_s), time.monotonic()
        reply = await service.send(json={"question": "x"})
        took_s = min(took_s, time.monotonic() - begun_s)
        _refused(reply, 504, "deadline", "an answer that does not come", hint)
        with suppress(TimeoutError):  # a task is told of it in its next step
            await asyncio.wait_for(service.cancelled.wait(), 2)
        expect(service.cancelled.is_set(), "the call of answer after the deadline", observed="it goes on",
               expected="it is cancelled", hint=hint)  # fmt: skip
        if took_s < most_s:
            break
    what = f"how long a 504 takes where deadline_s={deadline_s}"
    expect(took_s < most_s, what, observed=f"{took_s:.1f} s", expected=f"{deadline_s} s", hint=hint)


async def gives_ids(desk: Any) -> None:
    """Each response has X-Request-Id: that of the request if it is one, else one of its own."""
    service, down = _Service(desk), _Service(desk, _ends_with(dspy.LMServerError("no")))
    all_asked, long = asyncio.Event(), _word(65)

    async def together(_: str) -> Any:
        if len(pair.asked) == len(ids):
            all_asked.set()
        await asyncio.wait_for(all_asked.wait(), _REPLY_S / 2)
        raise dspy.LMServerError("no")

    pair = _Service(desk, together)
    good: dict[str, Any] = {"json": {"question": "x"}}
    others: tuple[dict[str, Any], ...] = {"json": {}}, {"json": " " * LARGEST}, {"content": b"x"}
    requests = [
        *((service, "POST", "/answers", each) for each in (good, *others)),
        *((service, "POST", "/", good), (service, "GET", "/answers", {}), (down, "POST", "/answers", good)),
    ]
    for given in (_word(1), "-", f"{_word(20)}-{random.randint(1, 99)}", _word(64)):
        for asked, method, path, request in requests:
            reply = await asked.send(method, path, headers={"x-request-id": given}, **request)
            what = f"X-Request-Id for {given!r}, in a {reply.status_code}"
            expect_equal(reply.headers.get("x-request-id"), given, what)
    ids = [_word(20) for _ in range(4)]
    sent = (pair.send(headers={"x-request-id": each}, json={"question": "x"}) for each in ids)
    for given, reply in zip(ids, await asyncio.gather(*sent), strict=True):
        got = reply.headers.get("x-request-id"), _told(reply).get("request_id")
        expect_equal(got, (given, given), "X-Request-Id and request_id of one of four requests at once")
    seen = {long[:64], long[1:]}
    for other in ("", long, "a b", 'a"b', "a<b>", "a_b", "a.b", "a:b", "a/b@c", b"\xe9", None):
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
        *(answers, asks_as_sent, refuses_bad_questions, refuses_other_media, refuses_large_bodies),
        *(knows_other_paths, tells_failures, tells_when_to_come_back, holds_the_deadline, gives_ids),
    ),
    why="A caller acts on the status, a program on the code, and support on the request_id; the text of an "
    "exception helps none of them, and may hold a prompt or a key. The service has the same table in "
    "deployment/problems.py, and the guard in front of its routes reads the body.",
)
