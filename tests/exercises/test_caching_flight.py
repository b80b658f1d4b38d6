"""Exercise 2.4: the library's own single-flight passes, and so does one that begins again."""

from __future__ import annotations

import asyncio
from typing import Any

from course_lib.caching import SingleFlight
from course_lib.exercises.caching.single_flight import EXERCISE
from course_lib.exercises.engine.checking import judge


class Ours(SingleFlight):
    async def run(self, key: Any, call: Any) -> Any:
        return (await self.run_async(key, call))[0]


class TakesOver:
    """Without a task for the call: whoever waits looks again when the one in front was cancelled."""

    def __init__(self) -> None:
        self.flights: dict[Any, asyncio.Future[Any]] = {}

    async def run(self, key: Any, call: Any) -> Any:
        while key in self.flights:
            future = self.flights[key]
            await asyncio.wait([future])
            if not future.cancelled():
                return future.result()
        future = self.flights[key] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(await call())
        except Exception as error:
            future.set_exception(error)
            future.exception()
            raise
        finally:
            del self.flights[key]
            future.cancel()
        return future.result()


def test_the_librarys_single_flight_passes() -> None:
    assert judge(EXERCISE, Ours).outcome == "passed"


def test_another_way_that_works_passes() -> None:
    assert judge(EXERCISE, TakesOver).outcome == "passed"
