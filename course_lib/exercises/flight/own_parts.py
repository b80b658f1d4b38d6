"""The parts of a flight: what the learner has written, and ours where a stage is still a stub.

Main path: joined(runner=BoundedRunner, reply=reply) -> Parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from course_lib.exercises.engine.registry import is_stub
from course_lib.exercises.flight.help_pages import HelpPages
from course_lib.exercises.flight.three_levels import ThreeLevels
from course_lib.flight import Desk, Parts, Servers, TicketWorker


def joined(
    *,
    documents: Sequence[Any] = (),
    cache: Sequence[Any] = (),
    runner: Any = None,
    tracer: Any = None,
    monitor: Any = None,
    reply: Any = None,
    handle: Any = None,
    canary: Any = None,
) -> Parts:
    """Return the parts of a flight.

    Args:
        documents: Pool, Search and Watched (stages 6.1.1 to 6.1.3).
        cache: Lookup, Memory, Shared and Counted (6.2.1 to 6.2.3).
        runner: the class BoundedRunner (6.3.1).
        tracer: the class SpanTracer (6.4.1).
        monitor: the class Monitor (6.6.1).
        reply: what becomes of one question (6.7.1).
        handle: does one job (6.7.2).
        canary: the class Canary (6.7.3).
    """
    is_own = {name for name, thing in locals().items() if not _is_missing(thing)}
    makers: dict[str, Any] = {
        "documents": lambda servers: HelpPages(servers.database_url, *documents),
        "cache": lambda servers: ThreeLevels(servers.redis_url, servers.folder, *cache),
        "runner": lambda _: runner(12, 36),
        "tracer": lambda _: tracer(),
        "monitor": lambda servers: monitor((servers.folder / "requests.jsonl").open("a", encoding="utf-8")),
        "reply": lambda servers, made: Desk(servers, made, reply=reply),
        "handle": partial(_worker, handle),
        "canary": lambda _: canary(),
    }
    named = {"reply": "system", "handle": "worker"}
    return Parts(**{named.get(name, name): makers[name] for name in is_own})


def _is_missing(thing: Any) -> bool:
    return all(map(is_stub, thing)) if isinstance(thing, list | tuple) else is_stub(thing)


def _worker(handle: Any, servers: Servers) -> TicketWorker:
    return TicketWorker(servers, handle=handle)
