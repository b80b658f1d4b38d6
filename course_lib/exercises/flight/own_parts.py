"""The parts of a flight: what the learner has written, and ours where a stage is still a stub or not there.

Main path: joined(globals()) -> Parts. passed() -> the ids of the exercises that the certificate names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from course_lib.exercises.engine import progress, registry
from course_lib.exercises.engine.registry import is_stub
from course_lib.exercises.flight.help_pages import HelpPages
from course_lib.exercises.flight.three_levels import ThreeLevels
from course_lib.flight import Desk, Made, Parts, Servers, TicketWorker

_AT_ONCE, _WAITING = 8, 16
"""As many as our runner takes; the level allows 12 calls, of which a few are still ending."""
_NAMES: Mapping[str, tuple[str, ...]] = {
    "documents": ("Pool", "Search", "Watched"),
    "cache": ("Lookup", "Memory", "Shared", "Counted"),
    "runner": ("BoundedRunner",),
    "tracer": ("SpanTracer",),
    "monitor": ("Monitor",),
    "worker": ("handle",),
    "canary": ("Canary",),
    "system": ("reply",),
}
"""What each part is made of: classes and functions of the stages, by the names that these have."""


def joined(names: Mapping[str, Any]) -> Parts:
    """Return the parts of a flight.

    Args:
        names: what there is by its name, such as globals(). Of it are taken Pool, Search and Watched (stages
            6.1.1 to 6.1.3); Lookup, Memory, Shared and Counted (6.2.1 to 6.2.3); BoundedRunner (6.3.1);
            SpanTracer (6.4.1); Monitor (6.6.1); reply, handle and Canary (6.7.1 to 6.7.3). What is not there,
            a stub, or nothing that can be called is ours.
    """
    own = {part: [_written(names.get(name)) for name in parts] for part, parts in _NAMES.items()}
    return Parts(**{part: partial(_MAKERS[part], *things) for part, things in own.items() if any(things)})


def passed() -> list[str]:
    """Return the ids of the exercises that the learner has passed."""
    events = progress.read()
    return [each for each in registry.known() if progress.standing(events, each).state == "passed"]


def _written(thing: Any) -> Any:
    return thing if callable(thing) and not is_stub(thing) else None


def _documents(pool: Any, search: Any, watched: Any, servers: Servers) -> HelpPages:
    return HelpPages(servers.database_url, pool, search, watched)


def _cache(lookup: Any, memory: Any, shared: Any, counted: Any, servers: Servers) -> ThreeLevels:
    return ThreeLevels(servers.redis_url, servers.folder, lookup, memory, shared, counted)


def _runner(runner: Any, _: Servers) -> Any:
    return runner(_AT_ONCE, _WAITING)


def _plain(part: Any, _: Servers) -> Any:
    return part()


def _monitor(monitor: Any, servers: Servers) -> Any:
    return monitor((servers.folder / "requests.jsonl").open("a", encoding="utf-8"))


def _worker(handle: Any, servers: Servers) -> TicketWorker:
    return TicketWorker(servers, handle=handle)


def _system(reply: Any, servers: Servers, made: Made) -> Desk:
    return Desk(servers, made, reply=reply)


_MAKERS: Mapping[str, Callable[..., Any]] = {
    "documents": _documents,
    "cache": _cache,
    "runner": _runner,
    "tracer": _plain,
    "monitor": _monitor,
    "worker": _worker,
    "canary": _plain,
    "system": _system,
}
