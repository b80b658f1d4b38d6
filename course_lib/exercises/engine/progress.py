"""Where the learner stands: what happened is recorded here, and each exercise's state is worked out from it.

Main path: record(...) -> Store.append -> the boards are told; read() -> standing(events, "0.1") -> a row.
"""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from course_lib.exercises.engine import registry
from course_lib.exercises.engine.journal import Event, Kind, ProgressError, Store
from course_lib.paths import work_dir

T = TypeVar("T")

EXPORT_VERSION = 1
ATTEMPTS = ("passed", "failed", "crashed")

_stores: dict[Path, Store] = {}
_observers: list[Callable[[], None]] = []
_running: set[str] = set()
_notes: dict[str, str] = {}


def current() -> Store:
    """Return the store of the learner's folder."""
    folder = work_dir()
    return _stores.setdefault(folder, Store(folder))


def subscribe(observer: Callable[[], None]) -> Callable[[], None]:
    """Have `observer` called after each event of this kernel; return the call that ends it."""
    _observers.append(observer)
    return lambda: _observers.remove(observer)


def record(exercise_id: str, kind: Kind, **details: object) -> None:
    """Append one event and tell the observers. Never raises: `notes` says what went wrong."""
    event = Event(
        id=uuid.uuid4().hex,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        exercise=exercise_id,
        kind=kind,
        pid=os.getpid(),
        **details,  # type: ignore[arg-type]  # the fields of Event
    )
    _attempt("saving", lambda: current().append(event))
    for observer in tuple(_observers):
        try:
            observer()
        except Exception as error:  # border: a broken board must not break a check
            _notes["redrawing"] = f"a progress board could not be redrawn: {type(error).__name__}: {error}"


def read() -> list[Event]:
    """Return all events; where the file cannot be read, those in memory. Never raises: see `notes`."""
    events = _attempt("reading", current().events)
    return current().unsaved() if events is None else events


def _attempt(doing: str, call: Callable[[], T]) -> T | None:
    """Keep trouble with the file as a note, and forget it when the same works again."""
    try:
        result = call()
    except ProgressError as error:
        _notes[doing] = str(error)
        return None
    _notes.pop(doing, None)
    return result


def notes() -> list[str]:
    """Return what the learner should be told about the progress file, once."""
    told = current().take_notices()
    if trouble := _notes.get("saving") or _notes.get("reading"):  # one of them says it all
        told.append(trouble)
    told += [_notes["redrawing"]] if "redrawing" in _notes else []
    _notes.clear()
    return told


def start(exercise_id: str, *, source: str | None, limit_s: float) -> str:
    """Record that a check starts; return its run id."""
    run = uuid.uuid4().hex
    _running.add(run)
    record(exercise_id, "started", run=run, source=source, limit_s=limit_s)
    return run


def finish(exercise_id: str, run: str, **details: object) -> None:
    """Record how a check ended."""
    _running.discard(run)
    record(exercise_id, "finished", run=run, **details)


def end_run(exercise_id: str, run: str) -> None:
    """Record that a check was cut off."""
    _running.discard(run)
    record(exercise_id, "interrupted", run=run)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's, so it exists
    return True


def _was_interrupted(started: Event) -> bool:
    """Say whether a check without an end can no longer be running."""
    if started.run in _running:
        return False
    age_s = time.time() - datetime.fromisoformat(started.at).timestamp()
    return started.pid == os.getpid() or age_s > started.limit_s or not _is_alive(started.pid)


def interrupted(events: list[Event]) -> list[Event]:
    """Return the checks among `events` that started and can never end, because their kernel stopped."""
    ended = {event.run for event in events if event.kind in ("finished", "interrupted")}
    return [
        event
        for event in events
        if event.kind == "started" and event.run not in ended and _was_interrupted(event)
    ]


@dataclass(frozen=True, slots=True)
class Standing:
    """One exercise as the learner's events tell it."""

    state: str
    """passed once it ever passed; else interrupted, checking now, or the last outcome."""
    attempts: int
    hints: int
    """Number of the highest hint taken."""
    solution_asked: int
    """How often the solution was asked for, shown or not."""
    solution_shown: bool
    interrupted: int
    resets: int
    stuck_on: dict[str, int]
    """Title of the check that failed or crashed: how often."""


def _state(events: list[Event], cut_off: list[Event]) -> str:
    if any(event.outcome == "passed" for event in events if event.kind == "finished"):
        return "passed"
    checks = [event for event in events if event.kind in ("started", "finished", "interrupted")]
    if not checks:
        return "not attempted"
    last = checks[-1]
    if last.kind == "interrupted" or last in cut_off:
        return "interrupted"
    return last.outcome if last.kind == "finished" else "checking now"


def standing(events: list[Event], exercise_id: str) -> Standing:
    """Work out one exercise's standing from all events."""
    own = [event for event in events if event.exercise == exercise_id]
    cut_off = interrupted(own)
    finished = [event for event in own if event.kind == "finished"]
    solutions = [event for event in own if event.kind == "solution"]
    return Standing(
        state=_state(own, cut_off),
        attempts=sum(event.outcome in ATTEMPTS for event in finished),
        hints=max((int(event.outcome) for event in own if event.kind == "hint"), default=0),
        solution_asked=len(solutions),
        solution_shown=any(event.outcome == "shown" for event in solutions),
        interrupted=len(cut_off) + sum(event.kind == "interrupted" for event in own),
        resets=sum(event.kind == "reset" for event in own),
        stuck_on=dict(Counter(event.checked for event in finished if event.checked)),
    )


def last_source(events: list[Event], exercise_id: str) -> str | None:
    """Return the learner's code as it was at the latest check that knew it."""
    sources = [event.source for event in events if event.exercise == exercise_id and event.source]
    return sources[-1] if sources else None


def export() -> dict[str, Any]:
    """Return the progress as one small JSON object without any name, path, time or code.

    Raises:
        ProgressError: the progress file cannot be read.
    """
    events = current().events()
    rows = {exercise.id: standing(events, exercise.id) for exercise in registry.exercises()}
    return {
        "schema": EXPORT_VERSION,
        "exercises": {
            exercise_id: {
                "state": row.state,
                "attempts": row.attempts,
                "hints": row.hints,
                "solution_shown": row.solution_shown,
                "interrupted": row.interrupted,
                "resets": row.resets,
                "stuck_on": row.stuck_on,
            }
            for exercise_id, row in rows.items()
        },
    }
