"""What `dspy.context` sets is lost in one's own thread pool; `configure` is refused to other tasks."""

from __future__ import annotations

import asyncio
import importlib
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import dspy
import pytest

from course_lib import lm
from course_lib.concurrency import AsyncRunner
from tests.traps.conftest import SOLVED

pytestmark = pytest.mark.anyio


def whose_model() -> str:
    return str(dspy.settings.lm and dspy.settings.lm.model)


async def in_a_task(_: object = None) -> str:
    return whose_model()


def test_plain_dspy_loses_it_in_a_pool() -> None:
    small = lm.connect("sim-small")

    with ThreadPoolExecutor(1) as pool, dspy.context(lm=small):
        lost = pool.submit(whose_model).result()
        kept = pool.submit(copy_context().run, whose_model).result()

    assert lost != small.model, SOLVED.format("a thread pool keeps dspy.context")
    assert kept == small.model


async def test_the_runner_keeps_it_also_when_the_block_is_left_meanwhile() -> None:
    small = lm.connect("sim-small")

    with dspy.context(lm=small):
        outcomes = AsyncRunner(2, progress=False).stream(in_a_task, range(5))

    assert [outcome.value async for outcome in outcomes] == [small.model] * 5


async def test_plain_dspy_refuses_configure_in_a_thread_and_in_another_task(monkeypatch) -> None:
    module = importlib.import_module("dspy.dsp.utils.settings")
    for owner in ("config_owner_thread_id", "config_owner_async_task"):
        monkeypatch.setattr(module, owner, None)
    before = dspy.settings.lm
    dspy.configure(lm=before)  # this thread and this task are the first

    async def configure() -> None:
        dspy.configure(lm=before)

    for someone in (asyncio.to_thread(dspy.configure, lm=before), asyncio.create_task(configure())):
        with pytest.raises(RuntimeError, match="can only be"):
            await someone
