"""What is seen of a version while a rollout goes on: its replicas' metrics, and the scores of its answers.

Main path: observing(stack, "answer", scores=stored_scores(...)) -> what Rollout calls to observe a version.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from course_lib.deployment.guard import PROGRAM_PATHS
from course_lib.deployment.rollout import RolloutError, Seen, checked_scores
from course_lib.deployment.stack import Stack


def observing(
    stack: Stack,
    program: str,
    *,
    slow_s: float = 2.5,
    scores: Callable[[str], Sequence[float]] = lambda _version: (),
) -> Callable[[str], Seen]:
    """Return what tells of a version by the metrics of its replicas, over their restarts.

    A replica whose metrics cannot be read tells nothing in this look, and later what it counted; whether it
    is gone is the gateway's health check's business.

    Args:
        stack: the processes; each replica answers with one version.
        program: whose requests count.
        slow_s: what takes longer is slow; where one of the histogram's buckets ends.
        scores: tells the scores of a version's answers, such as stored_scores().
    """
    paths = tuple(path for path, name in PROGRAM_PATHS.items() if name == program)
    known: dict[str, Seen] = {}
    totals: dict[str, Seen] = {}

    def observe(version: str) -> Seen:
        total = totals.get(version, Seen())
        for name, part in stack.parts.items():
            if not name.startswith("replica") or part.config.program_version != version:
                continue
            try:
                told = httpx.get(f"{part.url}/metrics", headers=stack.headers, timeout=5, trust_env=False)
                now = _figures(told.raise_for_status().text, paths, slow_s)
            except httpx.HTTPError:
                continue
            new, known[part.url] = now.since(known.get(part.url, Seen())), now
            total = Seen(total.requests + new.requests, total.failed + new.failed, total.slow + new.slow)
        totals[version] = total
        return replace(total, scores=scores(version))

    return observe


def _figures(text: str, paths: tuple[str, ...], slow_s: float) -> Seen:
    """Return how many requests to these paths a replica has answered, how many failed, how many were slow.

    Raises:
        RolloutError: no bucket ends at `slow_s`.
    """
    counted, ends, name = Counter[tuple[str, Any]](), set[float](), "service_request_seconds"
    for sample in (each for family in text_string_to_metric_families(text) for each in family.samples):
        labels = sample.labels
        end_s = float(labels["le"]) if sample.name == f"{name}_bucket" else None
        ends |= {end_s} if end_s is not None else set()
        if labels.get("route", "").startswith(paths):
            counted[sample.name, end_s or labels.get("status", "")[:1]] += int(sample.value)
    if ends and slow_s not in ends:
        raise RolloutError(f"slow_s is {slow_s!r}, where no bucket of {name} ends")
    failed = counted["service_requests_total", "5"]
    requests = counted["service_requests_total", "2"] + failed
    slow = counted[f"{name}_count", ""] - counted[f"{name}_bucket", slow_s]
    return Seen(requests, failed, min(slow, requests))


_ANSWERS = """
    SELECT tenant, id, question, answer FROM answers
    WHERE program = %s AND version = %s AND created >= %s ORDER BY created, id
"""


def stored_scores(
    database_url: str, program: str, since: datetime, judge: Callable[[str, Mapping[str, Any]], float]
) -> Callable[[str], list[float]]:
    """Return what tells the scores of a version's answers, from the service's tables.

    Each tenant has one voice: what is new since the last call is one score for each tenant, the mean of its
    answers. What customers say of answers does not count, or one of them could decide for all.

    Args:
        database_url: of the service's database.
        program: whose answers.
        since: earlier answers are left out; a canary's `changed` in the registry stays after a crash.
        judge: scores a question and an answer, 0 to 1; each answer once.
    """
    judged: set[tuple[str, str]] = set()
    told: dict[str, list[float]] = defaultdict(list)

    def scores(version: str) -> list[float]:
        with psycopg.connect(database_url, connect_timeout=2) as connection:
            connection.execute("SET ROLE course_service")
            connection.execute("SELECT set_config('course.tenant', '*', true)")
            rows = connection.execute(_ANSWERS, [program, version, since]).fetchall()
        new = [(row[:2], judge(*row[2:])) for row in rows if row[:2] not in judged]
        checked_scores(version, [score for _, score in new])
        by_tenant: dict[str, list[float]] = defaultdict(list)
        for (tenant, _), score in new:
            by_tenant[tenant].append(score)
        judged.update(answer for answer, _ in new)
        told[version] += [sum(each) / len(each) for each in by_tenant.values()]
        return list(told[version])

    return scores
