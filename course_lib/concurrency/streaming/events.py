"""What a reader of a stream is told: one small dataclass a kind of event, with a JSON form.

Main path: Token, ..., Final, Done; after a failure Token, ..., Error, Done. Done comes at the end of every
stream. as_json(event) -> dict; from_json(kind, text) -> event, for a client in Python.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any

import dspy
from dspy.clients.errors import wrap_error
from dspy.lm15 import LM15Error
from pydantic_core import to_jsonable_python

from course_lib.concurrency.limits import RateDeadlineExceeded
from course_lib.concurrency.processor import HalfAnswer, Unanswered
from course_lib.errors import CourseError
from course_lib.resilience import BreakerOpen, BulkheadFull

LOCAL = {"is_local": True}
"""Marks a field that stays in this process."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of an output field's text."""

    field: str
    text: str
    is_last: bool = False
    """Whether the field ends here; if the program writes it again, more tokens follow."""
    is_replayed: bool = False
    """Whether it was cut from a finished answer: cached, or of a model or adapter that cannot stream."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the program is doing, in the words of a `dspy.streaming.StatusMessageProvider`."""

    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    """A source that the answer names; the first has number 1."""

    source: str
    number: int


@dataclass(frozen=True, slots=True)
class Final:
    """The finished answer; where it differs from the tokens, it is right and they were not."""

    fields: dict[str, Any]
    """The fields that were asked for; others of the program's stay in this process."""
    is_cut: bool = False
    """Whether the model stopped at its limit, or for no reason: this may be half an answer."""
    prediction: Any = field(default=None, repr=False, compare=False, metadata=LOCAL)


@dataclass(frozen=True, slots=True)
class Error:
    """Why there is no answer: a stable code and one sentence, with nothing of the exception's own text."""

    code: str
    message: str
    partial: dict[str, str] = field(default_factory=dict)
    """What came so far, by field: half answers, not to be taken for whole ones."""
    retry_after_s: float | None = None
    cause: BaseException | None = field(default=None, repr=False, compare=False, metadata=LOCAL)


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing follows."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing came for a while, and the stream is alive."""


Event = Token | Status | Citation | Final | Error | Done | Heartbeat
_KINDS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind for kind in (Token, Status, Citation, Final, Error, Done, Heartbeat)
}


def kind_of(event: Event) -> str:
    """Return the name that an event has outside of Python, such as `done`."""
    return type(event).__name__.lower()


def as_json(event: Event) -> dict[str, Any]:
    """Return the event as JSON has it, without its kind.

    >>> as_json(Token("answer", "Par"))
    {'field': 'answer', 'text': 'Par', 'is_last': False, 'is_replayed': False}
    """
    shown = {one.name: getattr(event, one.name) for one in fields(event) if not one.metadata}
    plain: dict[str, Any] = to_jsonable_python(shown, fallback=str, inf_nan_mode="null")
    return plain


def from_json(kind: str, text: str) -> Event:
    """Return the event that was sent as `text` under the name `kind`."""
    return _KINDS[kind](**json.loads(text))


class NotAPredictionError(CourseError):
    """A program that ended with something else than a dspy.Prediction."""


_SENTENCES = {
    "abandoned": "Nobody was reading, so the answer was given up; ask again.",
    "adapter_parse_error": "The model's answer was not in the form that was asked for.",
    "breaker_open": "The model has failed often of late and is not asked at the moment; try again later.",
    "bulkhead_full": "The model has too many questions before yours; try again in a moment.",
    "busy": "Too many answers are under way; try again in a moment.",
    "closing": "The service is closing.",
    "context_window_exceeded": "The question is too long for the model.",
    "deadline": "The answer was not finished in the time that it had.",
    "gone": "This part of the stream is no longer kept; ask again.",
    "inputs": "The request has to give each input of the program once, as text that is not too long.",
    "internal": "The program failed.",
    "not_a_prediction": "The program ended without a dspy.Prediction, which a stream has to end with.",
    "rate_deadline": "The model's rate limit lets the question through only when its time is over.",
    "rate_limit": "The model has too many requests; try again in a moment.",
    "server": "The model's server failed; try again in a moment.",
    "stream_assembly": "The model's answer broke off; what came so far is not the whole answer.",
    "timeout": "The model did not answer in time.",
    "transport": "The connection to the model broke; try again in a moment.",
    "unanswered": "No model could be asked, or none answered in time; try again in a moment.",
}


def error_of(code: str, **details: Any) -> Error:
    """Return the error of this code, with the sentence that belongs to it."""
    return Error(code, _SENTENCES.get(code, "The model could not answer."), **details)


_CODES: dict[type[Exception], str] = {  # the first that fits
    NotAPredictionError: "not_a_prediction",
    BreakerOpen: "breaker_open",
    BulkheadFull: "bulkhead_full",
    RateDeadlineExceeded: "rate_deadline",
    HalfAnswer: "stream_assembly",
    Unanswered: "unanswered",
    TimeoutError: "deadline",  # also DeadlineExceeded
}


def failure(error: BaseException, partial: dict[str, str]) -> Error:
    """Return what a reader is told of an exception, whose own text may quote keys, prompts and addresses."""
    reason = error
    while isinstance(reason, (HalfAnswer, Unanswered)) and reason.__cause__:
        reason = reason.__cause__
    if isinstance(reason, LM15Error):  # the cause of a HalfAnswer: DSPy has not translated it
        reason = wrap_error(reason, model="")
    code = str(reason.code or "lm_error") if isinstance(reason, dspy.DSPyError) else "internal"
    code = next((own for kind, own in _CODES.items() if isinstance(reason, kind)), code)
    return error_of(code, partial=partial, retry_after_s=getattr(reason, "retry_after", None), cause=error)
