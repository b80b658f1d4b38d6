"""Where the learner stands: what happened is recorded here, and each exercise's state is worked out from it.

Main path: record(...) -> Store.append -> the boards are told; read() -> standing(events, "0.1") -> a row.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psutil

from course_lib.exercises.engine import registry
from course_lib.exercises.engine.store import Event, Kind, ProgressError, Store
from course_lib.paths import work_dir

_observers: list[Callable[[], None]] = []
_running: set[str] = set()
_notes: dict[str, str] = {}
_store_of = cache(Store)
"""The one store of each folder: it holds what could not be saved yet."""


def subscribe(observer: Callable[[], None]) -> None:
    """Have `observer` called after each event of this kernel."""
    _observers.append(observer)


def record(exercise_id: str, kind: Kind, **details: Any) -> None:
    """Append one event and notify the observers. Never raises: `notes` says what went wrong."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    event = Event(id=uuid.uuid4().hex, at=at, exercise=exercise_id, kind=kind, pid=os.getpid(), **details)
    with _noted("saving"):
        _store_of(work_dir()).append(event)
    for observer in tuple(_observers):
        try:
            observer()
        except Exception as error:  # border: a broken board must not break a check
            _notes["redrawing"] = f"a progress board could not be redrawn: {type(error).__name__}: {error}"


def read() -> list[Event]:
    """Return all events; where the file cannot be read, those in memory. Never raises: see `notes`."""
    store = _store_of(work_dir())
    events = store.unsaved
    with _noted("reading"):
        events = store.events()
    return list(events)


@contextmanager
def _noted(doing: str) -> Iterator[None]:
    """Keep trouble with the file as a note, and forget it when the same works again."""
    try:
        yield
    except ProgressError as error:
        _notes[doing] = str(error)
    else:
        _notes.pop(doing, None)


def notes() -> list[str]:
    """Return what the learner should be told about the progress file, once."""
    if "saving" in _notes:
        _notes.pop("reading", None)  # one of them says it all
    notices = _store_of(work_dir()).notices
    messages = [*notices, *_notes.values()]
    notices.clear()
    _notes.clear()
    return messages


@contextmanager
def checking(exercise_id: str, *, source: str | None) -> Iterator[dict[str, Any]]:
    """Record that a check starts and how it ends: interrupted, if the block is left by an exception.

    The block puts the fields of the "finished" event into the dict that it is given.
    """
    run, end = uuid.uuid4().hex, dict[str, Any]()
    _running.add(run)
    kind: Kind = "interrupted"
    try:
        record(exercise_id, "started", run=run, source=source)
        yield end
        kind = "finished"
    finally:
        _running.discard(run)
        record(exercise_id, kind, run=run, **end)


def close_interrupted() -> list[str]:
    """Record the end of the checks that a stopped kernel left open; return the ids of their exercises."""
    cut_off = interrupted(read())
    for event in cut_off:
        record(event.exercise, "interrupted", run=event.run)
    return list(dict.fromkeys(event.exercise for event in cut_off))


def interrupted(events: list[Event]) -> list[Event]:
    """Return the checks among `events` that started and can never end, because their kernel stopped."""
    ended = _running | {event.run for event in events if event.kind in ("finished", "interrupted")}
    still = [event for event in events if event.kind == "started" and event.run not in ended]
    return [event for event in still if _is_over(event)]


def _is_over(started: Event) -> bool:
    """Say whether the kernel of a check without an end, which does not run in this one, has stopped."""
    at_s = datetime.fromisoformat(started.at).timestamp()
    try:
        process = psutil.Process(started.pid)
        is_another = process.create_time() > at_s or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
    return is_another or started.pid == os.getpid()


@dataclass(frozen=True, slots=True)
class Standing:
    """One exercise as the learner's events tell it."""

    state: str
    """passed once it ever passed; else interrupted, checking now, or the last outcome."""
    attempts: int
    hints: int
    """How many hints were taken."""
    solution_asked: bool
    solution_shown: bool
    stuck_on: dict[str, int]
    """Title of the check that failed or crashed: how often."""


def _state(checks: list[Event]) -> str:
    if any(event.outcome == "passed" for event in checks):
        return "passed"
    if not checks:
        return "not attempted"
    last = checks[-1]
    if last.kind == "interrupted" or last in interrupted(checks):
        return "interrupted"
    return last.outcome or "checking now"


def standing(events: list[Event], exercise_id: str) -> Standing:
    """Work out one exercise's standing from all events."""
    own = [event for event in events if event.exercise == exercise_id]
    checks = [event for event in own if event.kind in ("started", "finished", "interrupted")]
    return Standing(
        state=_state(checks),
        attempts=sum(event.outcome in ("passed", "failed", "crashed") for event in own),
        hints=len({event.outcome for event in own if event.kind == "hint"}),
        solution_asked=any(event.kind == "solution" for event in own),
        solution_shown=any(event.outcome == "shown" for event in own),
        stuck_on=dict(Counter(event.checked for event in own if event.checked)),
    )


def last_source(events: list[Event], exercise_id: str) -> str | None:
    """Return the learner's code as it was at the latest check that knew it, the untouched stub apart."""
    stubs = {event.run for event in events if event.outcome == "not attempted"}
    own = [event for event in events if event.exercise == exercise_id and event.run not in stubs]
    return next((event.source for event in reversed(own) if event.source), None)


def export() -> dict[str, Any]:
    """Return the progress as one small JSON object without any name, path, time or code.

    Raises:
        ProgressError: the progress file cannot be read.
    """
    events = _store_of(work_dir()).events()
    return {"schema": 1, "exercises": {each: asdict(standing(events, each)) for each in registry.known()}}
