"""Whoever is called sees the time that is left."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest

from course_lib.resilience import Deadline


@pytest.mark.parametrize(("inner_s", "left_s"), [(2, 2), (60, 10)], ids=["inner earlier", "outer earlier"])
def test_nested_calls_see_the_earlier_deadline(clock, inner_s, left_s):
    with Deadline.after(10, clock=clock).applied() as outer:
        with Deadline.after(inner_s, clock=clock).applied() as inner:
            assert inner.remaining_s() == left_s
            assert Deadline.current() is inner
        assert Deadline.current() is outer

    assert Deadline.current() is None
    clock.advance(11)
    assert outer.remaining_s() == 0


def test_tasks_inherit_it_and_do_not_disturb_each_other(clock):
    async def left_s(limit_s: float) -> float:
        with Deadline.after(limit_s, clock=clock).applied() as deadline:
            await asyncio.sleep(0)
            return deadline.remaining_s()

    async def main() -> list[float]:
        with Deadline.after(10, clock=clock).applied():
            return await asyncio.gather(left_s(5), left_s(20), left_s(7))

    assert asyncio.run(main()) == [5, 10, 7]


@contextmanager
def around() -> Iterator[None]:
    with Deadline.after(60).applied():
        yield


def test_no_generator_keeps_a_deadline_open_for_its_reader():
    async def held() -> Any:
        async with Deadline.after(0.01).held():
            yield 1

    def rows(block: Any) -> Any:
        with block:
            yield 1

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"in the generator held\(\) would hold for whoever reads it"):
            await anext(held())
        for block in (Deadline.after(60).applied(), around()):
            with pytest.raises(RuntimeError, match=r"in the generator rows\(\)"):
                next(rows(block))
        with around():
            assert Deadline.current()
        assert Deadline.current() is None

    asyncio.run(main())


@pytest.mark.parametrize("threads", [1, 2])
def test_dspys_threads_inherit_it(threads):
    with Deadline.after(60).applied() as deadline:
        seen = dspy.Parallel(num_threads=threads, disable_progress_bar=True)(
            [(lambda **_: Deadline.current(), {})] * 2
        )

    assert seen == [deadline] * 2


def test_a_deadline_at_no_time_is_refused():
    with pytest.raises(ValueError, match="cannot be at nan"):
        Deadline.after(math.nan)
