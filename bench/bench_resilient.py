"""What each mechanism of the resilient processor is worth under `storm` and `outage`: all of them, less one.

Every row has the same requests at the same times, and its own copy of the profile, so that no row feels
another. Behind stands the same model of another provider, which is `busy` and could have answered every
request: so the share answered within the deadline is of all requests. The bulkhead and the timeout have no
row: with these deadlines and this load neither has anything to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

RATE_PER_S = 4.0
DURATION_S = 13.0
DEADLINE_S = 5.0
ROUNDS = 2
"""Copies of the row with all mechanisms, each with a seed of its own."""
ANSWERED_AT_LEAST = 0.99
CALLS_AT_MOST = 1.3

Build = Callable[[Any, Any], Any]
"""Makes a program of the model that fails and of the one behind it."""


@dataclass
class Row:
    """What became of the requests of one row."""

    answered: int = 0
    by_first: int = 0
    requests: int = 0
    calls: int = 0
    slowest_s: float = 0.0
    errors: list[str] = field(default_factory=list)
    """Why the others were not."""

    def __str__(self) -> str:
        of = max(1, self.requests)
        return (
            f"{self.answered / of:7.1%} answered, {self.by_first / of:4.0%} by the first model, "
            f"{self.calls / of:.2f} calls a request, slowest answer {self.slowest_s:.1f} s"
        )


def builds() -> dict[str, Build]:
    from course_lib import desk
    from course_lib.concurrency.policies import ExponentialBackoff
    from course_lib.concurrency.processor import ResilientProcessor, recommended
    from course_lib.resilience import RetryBudget

    def less(*left_out: str, is_alone: bool = False) -> Build:
        policies = partial(recommended, without=left_out)

        def build(large: Any, other: Any) -> Any:
            models = (large,) if is_alone else (large, other)
            return ResilientProcessor(desk.Triage(), *models, deadline_s=DEADLINE_S, policies=policies)

        return build

    def backoff_alone(budget: RetryBudget | None) -> Build:
        policies = [ExponentialBackoff(5, budget=budget)]

        def build(large: Any, _other: Any) -> Any:
            return ResilientProcessor(
                desk.Triage(), large, deadline_s=DEADLINE_S, policies=lambda _name, **_: policies
            )

        return build

    def plain(large: Any, _other: Any) -> Any:
        program = desk.Triage()
        program.set_lm(large.copy(num_retries=3))
        return program

    return {
        "all of it": less(),
        **{f"less the {name}": less(name) for name in ("backoff", "hedge", "breaker")},
        "less the fallback": less(is_alone=True),
        "plain DSPy, 3 retries": plain,
        "5 attempts, no budget": backoff_alone(RetryBudget(100, burst=1e9)),
        "5 attempts, with a budget": backoff_alone(None),
    }


async def ask(program: Any, ticket: str, first: str, row: Row) -> None:
    import dspy

    from course_lib.errors import CourseError

    begun_s = time.perf_counter()
    row.requests += 1
    try:
        async with asyncio.timeout(DEADLINE_S + 1):
            prediction = await program.acall(ticket=ticket)
    except (dspy.DSPyError, CourseError, TimeoutError) as error:
        row.errors.append(f"{type(error).__name__}: {error}")
        return
    row.answered += 1
    row.by_first += prediction.get("answered_by", [first])[-1:] == [first]
    row.slowest_s = max(row.slowest_s, time.perf_counter() - begun_s)


async def load(program: Any, first: str, row: Row, tickets: list[str]) -> None:
    """Ask at even distances, whether or not answers have come."""
    async with asyncio.TaskGroup() as group:
        for n in range(int(RATE_PER_S * DURATION_S)):
            group.create_task(ask(program, f"{tickets[n % len(tickets)]} ({n})", first, row))
            await asyncio.sleep(1 / RATE_PER_S)


async def measured(weather: str) -> dict[str, Row]:
    from course_lib import desk, lm
    from course_lib.lm.profiles import PROFILES, as_values

    tickets = [example.ticket for example in desk.examples("train")]
    rows, made = {}, []
    for name, build in builds().items():
        row = rows[name] = Row()
        for seed in range(ROUNDS if name == "all of it" else 1):
            own = f"{weather}-{len(made)}"
            lm.profile(own, **{**as_values(PROFILES[weather]), "seed": seed})
            lm.profile(f"busy-{own}", **as_values(PROFILES["busy"]))
            large = lm.connect(f"sim-large@{own}", cache=False)
            other = lm.connect(f"sim-large@busy-{own}", cache=False)
            made.append((build(large, other), large, other, own, row))
    lm.reset()
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as counting:
        counting.create_task(count_calls({own: row for _, _, _, own, row in made}, ended))
        async with asyncio.TaskGroup() as group:
            for program, large, _other, _own, row in made:
                group.create_task(load(program, large.model, row, tickets))
                await asyncio.sleep(1 / RATE_PER_S / len(made))
        ended.set()
    for _, large, other, *_ in made:
        await large.aclose()
        await other.aclose()
    return rows


async def count_calls(rows: dict[str, Row], ended: asyncio.Event) -> None:
    """Count what the endpoint saw, again and again: it keeps the last 300 requests only."""
    from course_lib import lm

    seen, is_last = 0, False
    while not is_last:
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 1)
        is_last = ended.is_set()
        ledger = await asyncio.to_thread(lm.ledger, seen)
        seen += ledger.requests
        assert len(ledger.calls) == ledger.requests
        for call in ledger.calls:
            rows[call.profile.removeprefix("busy-")].calls += 1


def main() -> bool:
    results = []
    for weather in ("storm", "outage"):
        rows = asyncio.run(measured(weather))
        print(f"resilient, {weather}: {RATE_PER_S:g} requests a second, {DEADLINE_S:g} s for each")
        for name, row in rows.items():
            print(f"  {name:26} {row}")
        ours = rows["all of it"]
        print(
            *(f"  not answered: {error}" for error in ours.errors), sep="\n", end="\n" if ours.errors else ""
        )
        for what, value, holds in (
            ("answered", ours.answered / ours.requests, ours.answered >= ANSWERED_AT_LEAST * ours.requests),
            ("calls a request", ours.calls / ours.requests, ours.calls <= CALLS_AT_MOST * ours.requests),
        ):
            limit = f"at least {ANSWERED_AT_LEAST}" if what == "answered" else f"at most {CALLS_AT_MOST}"
            print(f"resilient, {weather}, {what}: {value:.3f} ({limit}): {'holds' if holds else 'MISSED'}")
            results.append(holds)
    return all(results)
