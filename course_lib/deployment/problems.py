"""What went wrong, as HTTP says it: one table of codes, and which error of ours or DSPy's becomes which.

Main path: problem_of(error) -> Problem -> problem.document(request_id), the body of RFC 9457.
Source: dspy.utils.exceptions (DSPy 3.4.1). A body tells what the caller can act on. What an exception says
may quote a prompt, an address or a key, so it is in no body; the request's id is what support asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import dspy
import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from course_lib.concurrency import HalfAnswer
from course_lib.debugging import BudgetExceeded
from course_lib.deployment.audit import AuditError
from course_lib.deployment.callers import Forbidden, Unauthorized
from course_lib.deployment.database import StoreUnavailable
from course_lib.deployment.queue import QueueUnavailable
from course_lib.deployment.quotas import QuotaExceeded
from course_lib.deployment.store import ErasedMeanwhile, TooManyJobs
from course_lib.errors import CourseError
from course_lib.resilience import BreakerOpen, BulkheadFull, DeadlineExceeded
from course_lib.resilience.retries import asked_s

MEDIA_TYPE = "application/problem+json"


KINDS = {
    "unauthorized": (401, "Nobody is known by these credentials"),
    "forbidden": (403, "These credentials do not allow this"),
    "not_found": (404, "There is no such thing here"),
    "method_not_allowed": (405, "This address does not take this method"),
    "too_slow": (408, "The request did not arrive in time"),
    "running": (409, "The first request with this Idempotency-Key is still running"),
    "too_large": (413, "The request is too large"),
    "unsupported_media_type": (415, "The request is not JSON"),
    "invalid": (422, "The request is not valid"),
    "key_reused": (422, "This Idempotency-Key was used for another request"),
    "quota": (429, "The quota is used up"),
    "budget": (429, "What this request may cost is spent"),
    "internal": (500, "The service failed"),
    "bad_answer": (502, "The model's answer cannot be used"),
    "model_refused": (502, "The model's server refused the request"),
    "model_busy": (503, "The model's server takes no more requests at the moment"),
    "model_down": (503, "The model's server does not answer"),
    "busy": (503, "The service has too much to do"),
    "dependency": (503, "A part that this request needs does not answer"),
    "draining": (503, "This replica is about to end"),
    "starting": (503, "This replica has just begun"),
    "deadline": (504, "There was no answer in time"),
}
"""Every code that a body can have, with status and title; a code is kept for ever, its words may change."""

RETRY_AFTER_S = 1.0
"""What a 503 says when nobody knows better."""
_MOST_RETRY_S = 86_400.0  # whatever a model's server says


class Problem(CourseError):  # noqa: N818  (the word of RFC 9457)
    """An error with a code of the table; `detail` is for the caller, and holds nothing of ours."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        retry_after_s: float | None = None,
        errors: Sequence[dict[str, str]] = (),
    ) -> None:
        super().__init__(detail or KINDS[code][1])
        self.code, self.detail, self.errors = code, detail, errors
        self.status, self.title = KINDS[code]
        self.retry_after_s = RETRY_AFTER_S if retry_after_s is None and self.status == 503 else retry_after_s

    def document(self, request_id: str) -> bytes:
        """Return the body of the response."""
        told: dict[str, Any] = {"type": f"urn:course:problem:{self.code}", "title": self.title}
        told |= {"status": self.status, "code": self.code, "request_id": request_id}
        told |= {"detail": self.detail} if self.detail else {}
        told |= {"errors": list(self.errors)} if self.errors else {}
        return orjson.dumps(told)

    @property
    def headers(self) -> dict[str, str]:
        """The response's own headers."""
        headers = {"content-type": MEDIA_TYPE}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(min(self.retry_after_s, _MOST_RETRY_S))))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


_AGAIN = "Send it again after Retry-After."
_MAPPED: tuple[tuple[type[BaseException], str, str], ...] = (
    (Forbidden, "forbidden", "Use a key or token with the role that this address needs."),
    (QuotaExceeded, "quota", _AGAIN),
    (TooManyJobs, "quota", f"As many of your jobs as may wait do so. {_AGAIN}"),
    (QueueUnavailable, "dependency", f"The queue does not answer. {_AGAIN}"),
    (AuditError, "dependency", f"The audit log cannot be written. {_AGAIN}"),
    (ErasedMeanwhile, "dependency", f"The customer was erased meanwhile. {_AGAIN}"),
    (StoreUnavailable, "dependency", f"The database does not answer. {_AGAIN}"),
    (DeadlineExceeded, "deadline", "The model took too long. Ask again, or ask less at once."),
    (BreakerOpen, "model_down", f"It failed so often that it is not asked now. {_AGAIN}"),
    (BulkheadFull, "busy", _AGAIN),
    (BudgetExceeded, "budget", "Ask for less in one request."),
    (HalfAnswer, "bad_answer", "It broke off in the middle. Ask again."),
    (dspy.AdapterParseError, "bad_answer", "It is not in the form that was asked for. Ask again."),
    (dspy.LMCollectionLimitError, "bad_answer", "It is larger than an answer can be. Ask for less."),
    (dspy.LMUnexpectedError, "bad_answer", "What the model's server sent cannot be read. Ask again."),
    (dspy.LMRateLimitError, "model_busy", _AGAIN),
    (dspy.ContextWindowExceededError, "invalid", "The text is longer than the model can read. Shorten it."),
    (dspy.LMTimeoutError, "deadline", "The model took too long. Ask again."),
    (dspy.LMServerError, "model_down", _AGAIN),
    (dspy.LMTransportError, "model_down", _AGAIN),
    (dspy.LMProviderError, "model_refused", "Tell the operator the request_id."),
)
"""The first row that fits counts."""


def problem_of(error: BaseException) -> Problem:
    """Return what a caller is told of an error; one that nobody expected is "internal"."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return invalid(error.errors())
    if isinstance(error, HTTPException):
        return Problem({404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid"))
    if isinstance(error, Unauthorized):
        return Problem("unauthorized", str(error))  # says what to send, and nothing of what was sent
    retry_after_s = getattr(error, "retry_after_s", None) or asked_s(error)
    for kind, code, detail in _MAPPED:
        if isinstance(error, kind):
            return Problem(code, detail, retry_after_s=retry_after_s)
    if isinstance(error, CourseError | dspy.LMError) and error.__cause__ is not None:
        return problem_of(error.__cause__)
    return Problem("internal", "Tell the operator the request_id.")


def invalid(errors: Iterable[Any]) -> Problem:
    """Return the problem of what pydantic found; it says where and why, never what was sent."""
    told = [
        {"at": ".".join(map(str, one["loc"])), "problem": str(one["msg"]).partition(", input")[0]}
        for one in errors
    ]
    where = ", ".join(dict.fromkeys(each["at"] for each in told)) or "body"
    return Problem("invalid", f"Correct {where}.", errors=told[:20])


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return what an operation's OpenAPI document says of these codes, for FastAPI's `responses`."""
    schema = {"$ref": "#/components/schemas/Problem"}
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = KINDS[code]
        earlier = found.get(status, {}).get("description")
        text = f"{earlier}; {code}: {title}" if earlier else f"{code}: {title}"
        found[status] = {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}
    return found


_TEXT = {"type": "string"}
_ERROR = {"type": "object", "properties": {"at": _TEXT, "problem": _TEXT}}
SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "code", "request_id"],
    "properties": {
        **dict.fromkeys(("type", "title", "detail", "request_id"), _TEXT),
        "status": {"type": "integer"},
        "code": {**_TEXT, "enum": list(KINDS)},
        "errors": {"type": "array", "items": _ERROR},
    },
}
"""Of the body, for the OpenAPI document."""
