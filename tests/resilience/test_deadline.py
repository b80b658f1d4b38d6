"""Whoever is called sees the time that is left."""

from __future__ import annotations

import asyncio
from typing import Any

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


def test_an_async_generator_closed_elsewhere_raises_nothing(clock):
    async def numbers() -> Any:
        with Deadline.after(5, clock=clock).applied():
            yield 1

    async def main() -> None:
        stream = numbers()
        await asyncio.create_task(anext(stream))
        await asyncio.create_task(stream.aclose())

    asyncio.run(main())
