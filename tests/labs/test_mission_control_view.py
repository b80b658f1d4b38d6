"""Mission control on a real stack: what it sends, what it breaks, and that all of it is there again.

One stack serves the tests of this file, since starting it takes some five seconds; each run takes a second or
two, since breakers and replicas need that.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable, Iterator

import pytest

from course_lib import lm
from course_lib.deployment import Stack, running_stack
from course_lib.errors import CourseError
from course_lib.labs import mission_control
from course_lib.labs.mission_control_view import OWN_PARTS, MissionControl, Script, show
from course_lib.labs.mission_load import BREAKERS, Answer, Run
from course_lib.lm.client import own_profiles
from course_lib.measure.strips import Band, drawn

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    lm.profile("mission-test", ttft_p50_ms=20)
    with running_stack(model="sim-large@mission-test", queue="nats", versions=("1",)) as running:
        yield running


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  (the lab tells no event of it)
            await asyncio.sleep(0.02)


async def begun(stack: Stack, script: Script = ()) -> MissionControl:
    """Return a lab that asks, and has looked once."""
    lab = mission_control(stack)
    lab.begin(script)
    await until(lambda: bool(lab.seen.ticks))
    return lab


def all_run(stack: Stack) -> bool:
    return all(part.pid for part in stack.parts.values())


async def test_a_script_breaks_what_it_names_and_the_end_mends_it(stack):
    before, ledger = own_profiles["mission-test"], lm.ledger().requests
    lab = mission_control(stack)

    await lab.run([(0.2, "redis", "kill"), (0.5, "model", "down")], for_s=1.2)

    assert [fault.name for fault in lab.seen.faults] == ["redis gone", "model down"]
    assert all(fault.until_s <= lab.seen.ticks[-1]["at_s"] for fault in lab.seen.faults)
    assert any(answer.said == "503 model_down" for answer in lab.seen.answers)
    assert any(answer.said == "answered" for answer in lab.seen.answers)
    assert own_profiles["mission-test"] == before
    assert lab.model.value == "as before"
    assert all_run(stack)
    assert {lab.seen.ticks[-1][name] for name in BREAKERS} == {0}, "what asks afterwards is answered"
    assert {200, 503} <= set(lm.ledger(since=ledger).statuses)
    assert not lab.seen.jobs, "each job that was sent is done"
    assert "every fault is undone" in lab._status.value
    assert lab.button.description == "Start"


async def test_a_press_is_told_at_once_and_a_killed_part_can_be_started_again(stack):
    lab = await begun(stack)

    lab.parts["worker"].click()
    assert "worker: kill" in lab._status.value
    lab.parts["worker"].click()
    assert "wait a moment" in lab._status.value
    await until(lambda: lab.parts["worker"].description == "start worker")
    assert not stack.parts["worker"].pid
    lab.parts["worker"].click()
    lab.button.click()
    assert "Ending" in lab._status.value
    await lab.flight

    assert all_run(stack)
    assert lab.seen.faults[0].until_s < math.inf


async def test_what_is_gone_at_the_start_is_told_and_can_be_started(stack):
    stack.kill("database")

    lab = await begun(stack)

    assert lab.parts["database"].description == "start database"
    assert "Faults now: database gone." in lab._status.value
    assert lab.seen.replicas[0]["ready"].startswith("yes"), "it answers, though its metrics take a second"
    lab.stop()
    await lab.flight
    assert all_run(stack)


async def test_a_slow_start_that_ends_later_does_not_hide_what_was_broken_meanwhile(stack):
    lab = await begun(stack)
    lab.press("database", "kill")
    await until(lambda: lab.parts["database"].description == "start database")

    lab.press("database", "start")
    lab.press("model", "down")
    await until(lambda: lab.parts["database"].description == "kill database")

    assert "Faults now: model down." in lab._status.value
    lab.stop()
    await lab.flight


async def test_a_stop_mends_the_model_before_it_waits_for_a_replica_that_needs_it(stack):
    """Takes as long as a replica takes to start."""
    lab = await begun(stack, [(0.0, "model", "down"), (0.0, "replica-1", "kill")])
    await until(lambda: lab.parts["replica-1"].description == "start replica-1")
    lab.press("replica-1", "start")

    lab.stop()
    async with asyncio.timeout(40):
        await lab.flight

    assert "every fault is undone" in lab._status.value


async def test_a_stop_tells_what_it_waits_for_and_how_long_at_most(stack):
    lab, told = await begun(stack), []
    lab._status.observe(lambda change: told.append(change["new"]), "value")
    lab.press("redis", "kill")
    await until(lambda: lab.parts["redis"].description == "start redis")

    lab.stop()
    await lab.flight

    waits = [words for words in told if "at most" in words]
    assert [any(what in words for words in waits) for what in ("redis", "breakers", "jobs")] == [True] * 3
    assert lab.seen.phases()[-1][1] <= lab.seen.asked_until_s, "a wait in which nothing is asked is no phase"


async def test_nothing_goes_on_after_the_widget_is_closed(stack):
    before = asyncio.all_tasks()
    lab = await begun(stack)
    lab.press("queue", "kill")

    lab.close()
    await lab.flight

    assert all_run(stack)
    assert not lab.seen.jobs, "the worker has nothing more to do"
    assert asyncio.all_tasks() == before


async def test_a_cell_that_is_interrupted_leaves_nothing_broken_and_prints_no_traceback(stack, caplog):
    lab = mission_control(stack)
    cell = asyncio.create_task(lab.run([(0.0, "database", "kill"), (60.0, "model", "down")]))
    await until(lambda: bool(lab.seen.ticks))

    cell.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cell
    gc.collect()  # asyncio complains of an exception that nobody took when its task goes

    assert all_run(stack)
    assert not lab.is_running
    assert caplog.messages == []


async def test_a_second_interrupt_does_not_end_the_mending(stack):
    lab = mission_control(stack)
    cell = asyncio.create_task(lab.run([(0.0, "database", "kill")]))
    await until(lambda: not stack.parts["database"].pid)

    cell.cancel()
    await until(lambda: "Ending" in lab._status.value)
    cell.cancel()
    await asyncio.wait([cell])
    assert lab.flight is not None
    await lab.flight

    assert all_run(stack)


async def test_another_one_ends_the_load_of_the_first(stack):
    first = await begun(stack)

    second = mission_control(stack)
    await second.run(for_s=0.1)

    assert not first.is_running
    assert second.seen.ticks


async def test_a_script_that_names_what_there_is_not_is_refused(stack):
    lab = mission_control(stack)

    with pytest.raises(CourseError, match=r"choose of: model, redis, database"):
        await lab.run([(0.0, "rabbit", "kill")])
    with pytest.raises(CourseError, match=r"choose of: as before, slow"):
        await lab.run([(0.0, "model", "fast")])

    assert not lab.is_running


async def test_of_a_stack_that_was_ended_meanwhile_nothing_is_started_again(stack):
    lab = await begun(stack, [(0.0, "redis", "kill")])

    stack.kill("gateway")  # as the end of a stack does
    await lab.flight

    assert not stack.parts["redis"].pid
    assert "Ended with the stack" in lab._status.value
    for name in ("gateway", "redis"):
        stack.start(name)
    stack.use()


async def test_a_model_without_a_profile_is_left_as_it_is(stack, monkeypatch):
    monkeypatch.delitem(own_profiles, "mission-test")
    lab = await begun(stack)

    lab.model.value = "down"

    assert "has no profile of yours" in lab._status.value
    assert lab.model.value == "as before"
    lab.stop()
    await lab.flight
    assert lab.seen.faults == []


def test_before_the_start_nothing_can_be_broken():
    lab = mission_control()

    lab.parts["redis"].click()
    lab.model.value = "down"

    assert list(lab.parts) == list(OWN_PARTS)
    assert "press Start first" in lab._status.value
    assert lab.model.value == "as before"
    assert "No load has been sent yet." in lab.rendered.text


def test_a_run_is_told_from_change_to_change_and_by_each_replica():
    run = Run(
        answers=[
            Answer(0.5, 0.02, "answered"),
            Answer(1.5, 0.1, "503 <model>"),
            Answer(1.6, 0.2, "from cache"),
        ],
        ticks=[{"at_s": 3.0, "answered": 2.0, "503": 1.0, "p50": 20.0, "p95": 30.0, "p99": math.nan}],
        faults=[Band("model down", 1.0, 2.0)],
        replicas=[{"replica": "replica-1", "ready": "no answer"}],
    )
    run.ticks[0] |= {"jobs not done": 4.0, "replicas ready": 1.0, **dict.fromkeys(BREAKERS, 0.0)}

    shown = show(run)

    assert "per second 2 answered, 1 503; p50 20 ms, p95 30 ms, p99 none; jobs not done 4" in shown.text
    rows = [line.split() for line in shown.text.splitlines() if " to " in line]
    assert [(row[0], row[2], row[3]) for row in rows[-3:]] == [
        ("0.0", "1.0", "nothing"),
        ("1.0", "2.0", "model"),
        ("2.0", "3.0", "nothing"),
    ]
    assert "1 x 503 &lt;model&gt;" in shown.html
    assert 'role="img" aria-label="After 3.0 s: per second' in shown.html


def test_lines_have_gaps_where_nothing_is_known_and_what_was_long_ago_is_left_out():
    told = [{"at_s": 1.0, "p50": 9.0}, *({"at_s": second, "p50": 5.0} for second in (50.0, 60.0))]
    told.insert(2, {"at_s": 55.0, "p50": math.nan})

    svg = drawn(told, {"ms": ["p50"]}, [Band("long ago", 2, 3), Band("redis <gone>", 52)], label="a & b")

    assert "ms, logarithmic" in svg
    assert "nan" not in svg
    assert svg.count("M") == 2 + 1 + 1, "a line with a gap, the axes, the key"
    assert "long ago" not in svg
    assert "redis &lt;gone&gt;" in svg
    assert 'aria-label="a &amp; b"' in svg
