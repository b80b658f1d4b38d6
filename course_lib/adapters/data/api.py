"""An HTTP API handed to an agent as limited tools, which reach that API and nothing else.

Main path: `with APIAdapter(url, spec) as api: dspy.ReAct(..., tools=api.tools())`; or await api.request().
Source: httpx 0.28 and httpcore 1.0; dspy.Tool (DSPy 3.4.1) has no time-out, no retry, no allow-list.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpcore
import httpx

from course_lib.adapters.data import openapi
from course_lib.adapters.data.addresses import Origin, Reach, Resolver, origin_of, resolve
from course_lib.adapters.tools.injection import neutralised_answer
from course_lib.adapters.tools.limits import LimitedTool, ToolRefused, limited
from course_lib.errors import CourseError
from course_lib.redaction.secrets import hide
from course_lib.resilience.retries import retry

_IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIED = frozenset({429, 502, 503, 504})
ATTEMPT_S, ATTEMPTS = 3.0, 3
"""Seconds for each step of a try (connect, send, next piece), and tries of an idempotent request: after 429,
502, 503, 504 or a broken connection there is another."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 2.0
"""The wait before the second try, which doubles with each, and the longest: a Retry-After beyond it is told
to the caller instead of being waited for."""
_MOST_BYTES = 200_000  # of an answer
_PATH_TRICK = re.compile(r"%2f|%5c|%2e|%25|//|(^|/)\.{1,2}(/|$)", re.IGNORECASE)
_CONTROL = re.compile(r"%[01][0-9a-f]|%7f", re.IGNORECASE)
_CHARSET = re.compile(r"(ascii|big5|cp|euc|gb|iso|koi8|latin|shift|us|utf|windows)[\w-]*", re.IGNORECASE)
"""Charsets of texts; some others that Python has are slow, or are no texts."""
_DETAIL_CHARS = 300
_JSON = "application/json"
_HEADERS = {
    "Accept": "application/json, text/*;q=0.5",
    "Accept-Encoding": "identity",
    "User-Agent": "advanced-dspy-course",
}


class APIError(CourseError):
    """The API cannot be used as asked, or did not answer as it should; the message carries no secret."""


class APITimeoutError(APIError, TimeoutError):
    """The API did not answer in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The API's answer."""

    status: int
    text: str
    wait_s: float = 0.0
    """How long the API asks to wait; 0 if it does not say."""


class _BusyError(APIError):
    """A status that may be another one after a while."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class APIAdapter(AbstractContextManager["APIAdapter"]):
    """One HTTP API, asked by name through checked addresses only.

    Args:
        base_url: where the API lives; requests go to paths below it.
        spec: its OpenAPI 3 document (mapping, or path of a JSON file); without: one tool, `get_path`.
        hosts: further web addresses whose origin (scheme, host, port) may be asked. No redirect is followed.
        methods: what may be sent. All but GET change something, so each is to be allowed.
        allow_private: web addresses by IP ("http://127.0.0.1:8080") that may be used although not public.
        auth: headers with secrets. They go to base_url's origin only, and are cut out of every answer.
        deadline_s: for everything together: tries, waits between them, reading.
        resolver: gives the IP addresses of a name, once per connection.
        tls: another trust than the usual certificate authorities.

    Raises:
        ToolRefused: an address is not spelled plainly.
        APIError: a secret would travel unencrypted, a header is not one line, or a method is unknown.
        openapi.SpecError: the document cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        spec: Mapping[str, Any] | Path | None = None,
        *,
        hosts: Collection[str] = (),
        methods: Collection[str] = ("GET",),
        allow_private: Collection[str] = (),
        auth: Mapping[str, str] | None = None,
        deadline_s: float = 8.0,
        resolver: Resolver = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._home = origin_of(base_url)
        self._base = base_url.rstrip("/")
        self._root = httpx.URL(self._base).path.rstrip("/")
        self._reach = Reach([base_url, *hosts], allow_private=allow_private, resolver=resolver)
        self._auth = _checked_auth(auth or {}, self._home, private=allow_private)
        self._secrets = {word for value in self._auth.values() for word in (value, value.split()[-1])}
        self._methods = frozenset(methods)
        if unknown := sorted(self._methods - openapi.METHODS):
            raise APIError(f"the method {unknown[0]!r} is none of {', '.join(sorted(openapi.METHODS))}")
        operations, left_out = openapi.operations({} if spec is None else openapi.load(spec), self._methods)
        self.left_out: Mapping[str, str] = left_out
        """The document's operations that are no tools, by name, each with the reason."""
        self._functions: dict[str, Any] = {one.name: openapi.as_tool(one, self._text) for one in operations}
        if spec is None:
            self._functions["get_path"] = self.get_path
        self._deadline_s = deadline_s
        is_encrypted = any(origin.scheme == "https" for origin in self._reach.origins)
        self._tls = tls or (httpx.create_ssl_context(trust_env=False) if is_encrypted else None)
        self._send_again = retry(
            is_retryable=_is_retryable,
            attempts=ATTEMPTS,
            deadline_s=deadline_s,
            first_wait_s=FIRST_WAIT_S,
            longest_wait_s=LONGEST_WAIT_S,
        )(self._send)
        self._is_closed = False

    def tools(self, *, only: Collection[str] | None = None) -> list[LimitedTool]:
        """Return one limited tool for each operation, or for those named in `only`.

        Raises:
            APIError: a name in `only` is no operation, or one that is left out.
        """
        if unknown := sorted(set(only or ()) - set(self._functions)):
            reason = self.left_out.get(unknown[0], f"there are {', '.join(self._functions)}")
            raise APIError(f"no operation {unknown[0]!r} to make a tool of: {reason}")
        deadline_s = self._deadline_s + 1  # the adapter's own deadline comes first
        return [
            limited(function, name=name, deadline_s=deadline_s, redact=[*self._secrets])
            for name, function in self._functions.items()
            if only is None or name in only
        ]

    async def get_path(self, path: str) -> str:
        """Get a path of the API, as text."""
        return await self._text("GET", path)

    async def _text(self, method: str, target: str, body: Any = None, body_kind: str = _JSON) -> str:
        """Return the answer as the model may see it; one with an error status is raised."""
        answer = await self.request(method, target, body=body, body_kind=body_kind)
        text = neutralised_answer(answer.text)
        if answer.wait_s > 0 and answer.status in _RETRIED:
            text = f"busy; it asks to come back in {answer.wait_s:.0f} s"
        if httpx.codes.is_error(answer.status):
            raise APIError(f"status {answer.status}: {_detail(text)}")
        return text

    async def request(self, method: str, target: str, *, body: Any = None, body_kind: str = _JSON) -> Answer:
        """Send one request, with retries if it is idempotent, and return the answer whatever its status.

        Args:
            method: GET or another one that is allowed.
            target: a path below base_url ("/v1/health"), or a whole web address that is allowed.
            body: sent as JSON, if not None.
            body_kind: its media type.

        Raises:
            ToolRefused: method or target is not allowed, or the answer redirects, is no text or too large.
            APITimeoutError: no whole answer within the deadline.
            APIError: no connection, a damaged answer, or the adapter is closed.
        """
        if self._is_closed:
            raise APIError("the adapter is closed; make a new one")
        if method not in self._methods:
            allowed = ", ".join(sorted(self._methods))
            raise ToolRefused(f"the method {method!r} is not allowed, only {allowed}")
        url = self._checked(self._base + target if target.startswith("/") else target)
        send = self._send_again if method in _IDEMPOTENT else self._send
        try:
            async with asyncio.timeout(self._deadline_s):
                return await send(method, url, None if body is None else (body_kind, body))
        except _BusyError as busy:
            return busy.answer
        except APITimeoutError:
            raise
        except TimeoutError:
            raise APITimeoutError(f"no answer within {self._deadline_s:g} s; {_advice(method)}") from None

    def close(self) -> None:
        """Refuse all further requests; no connection outlives its request, so no more is to be done."""
        self._is_closed = True

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, url: str) -> str:
        """Return an address that may be asked: its origin is allowed, its path plain and below base_url."""
        origin = self._reach.check(url)
        path = url.partition("//")[2].partition("?")[0]
        path = path[path.find("/") :] if "/" in path else "/"
        if _PATH_TRICK.search(path) or _CONTROL.search(url):
            tricks = "dots, double or encoded slashes or control characters"
            raise ToolRefused(f"a path with {tricks} is not allowed")
        if origin == self._home and not f"{path}/".startswith(f"{self._root}/"):
            raise ToolRefused(f"only paths below {self._base} may be asked")
        return url

    async def _send(self, method: str, url: str, body: Any) -> Answer:
        """Send a request once; the body is None, or its media type and what is sent as JSON."""
        try:
            answer = await self._ask(method, url, body)
        except httpcore.TimeoutException:
            raise APITimeoutError(f"the API did not answer in time; {_advice(method)}") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
            raise APIError(f"the connection failed or broke; {_advice(method)}") from None
        if answer.status in _RETRIED:
            raise _BusyError(answer)
        return answer

    async def _ask(self, method: str, url: str, body: Any) -> Answer:
        # No httpx.AsyncClient: it would parse redirects, keep cookies, and read the environment.
        async with _sent(self._message(method, url, body), self._reach, tls=self._tls) as response:
            if response.status in _REDIRECTS:
                kept = "ask for another path" if method == "GET" else "look what was done"
                redirects = f"the API redirects (status {response.status}), which is not followed"
                raise ToolRefused(f"{redirects}; {kept}")
            text = hide(await _read_text(response), self._secrets)
            wait = httpx.Headers(response.headers).get("retry-after", "")
            wait_s = float(wait) if re.fullmatch(r"[0-9]{1,9}", wait) else 0.0
            return Answer(response.status, text, wait_s)

    def _message(self, method: str, url: str, body: Any) -> httpx.Request:
        secrets = self._auth if origin_of(url) == self._home else {}
        timeouts = {"timeout": httpx.Timeout(ATTEMPT_S).as_dict()}
        kind, content = body or (None, None)
        headers = {**_HEADERS, **({"Content-Type": kind} if kind else {}), **secrets}
        return httpx.Request(method, url, headers=headers, json=content, extensions=timeouts)


def _is_retryable(error: Exception) -> bool | float:
    """Return whether to try again; or after how many seconds, if the API says so."""
    if isinstance(error, _BusyError) and error.answer.wait_s > 0:
        return error.answer.wait_s if error.answer.wait_s <= LONGEST_WAIT_S else False
    return isinstance(error, APIError)


def _advice(method: str) -> str:
    """Return what to do after a request that may or may not have arrived."""
    if method in _IDEMPOTENT:
        return "try again later"
    return "it may have been carried out all the same, so look before you send it again"


def _checked_auth(auth: Mapping[str, str], home: Origin, *, private: Collection[str]) -> dict[str, str]:
    for name, value in auth.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not value.isascii() or not value.isprintable():
            raise APIError(f"the header {name!r} is not one line of ASCII; check where its value comes from")
    if auth and home.scheme != "https" and home not in {origin_of(url) for url in private}:
        raise APIError(f"{home} is not encrypted, so no secret is sent to it; use https")
    return {name: value for name, value in auth.items() if value.strip()}


def _detail(text: str) -> str:
    """Return the sentence of a problem document (RFC 9457), or the start of any other text."""
    problem: Any = None
    with suppress(ValueError, RecursionError):
        problem = json.loads(text)
    sentence = problem.get("detail") or problem.get("title") if isinstance(problem, dict) else None
    return " ".join(str(sentence or text).split())[:_DETAIL_CHARS] or "no explanation"


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only.

    httpcore asks its backend for every connection, so a name is resolved here, once, checked, and connected
    to by the checked IP: an answer of DNS that changes in between changes nothing. The Host header and TLS
    keep the name.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._real = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        address = await self._reach.vet(host, port)
        return await self._real.connect_tcp(address, port, timeout, local_address, socket_options)


@asynccontextmanager
async def _sent(
    request: httpx.Request, reach: Reach, *, tls: ssl.SSLContext | None
) -> AsyncIterator[httpcore.Response]:
    """Send one request, over a connection of its own that ends with the `with`; yield the answer, unread.

    No connection is kept for the next request, so each is checked, and it works from any event loop.
    """
    url = request.url
    reach.check(str(url))  # as httpx reads it
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    parts: dict[str, Any] = {"content": request.stream, "extensions": request.extensions}
    message = httpcore.Request(request.method, target, headers=request.headers.raw, **parts)
    async with httpcore.AsyncConnectionPool(tls, network_backend=_CheckedBackend(reach)) as pool:
        yield await pool.handle_async_request(message)


async def _read_text(response: httpcore.Response) -> str:
    """Read a body as text, piece by piece; refuse one that is too large, no text, or compressed, unasked."""
    headers = httpx.Headers(response.headers)
    kind = headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    if not (kind.startswith("text/") or kind.endswith(("json", "xml", "yaml")) or kind == ""):
        raise ToolRefused(f"the answer is no text but {kind[:40]!r}; it was not read")
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise ToolRefused(f"the answer is compressed as {encoding[:40]!r}, which was not asked for")
    body = bytearray()
    async for piece in response.aiter_stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise ToolRefused(f"the answer is larger than {_MOST_BYTES} bytes; ask for less of it")
    charset = httpx.Response(200, headers=headers).charset_encoding or "utf-8"
    try:
        return body.decode(charset if _CHARSET.fullmatch(charset) else "?", "replace")
    except LookupError:
        raise ToolRefused(f"the answer is in the charset {charset[:40]!r}, which is not read") from None
