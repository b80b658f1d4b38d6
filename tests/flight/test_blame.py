"""What a part raises is noted as its own; what passes through it is not."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from course_lib.flight import Busy
from course_lib.flight.blame import Blame

pytestmark = pytest.mark.anyio


class Part:
    async def raises(self) -> None:
        raise OSError("gone")

    async def run(self, call) -> None:
        await call()

    async def refuses(self) -> None:
        raise Busy("full")

    @contextmanager
    def span(self):
        if self:
            raise KeyError("no trace")
        yield


async def test_what_is_raised_is_noted_for_the_innermost_part():
    blame = Blame()
    cache, runner = blame.noted("cache", Part()), blame.noted("runner", Part())

    with pytest.raises(OSError, match="gone"):
        await runner.run(cache.raises)
    with pytest.raises(Busy):
        await runner.refuses()
    with pytest.raises(AttributeError):
        cache.no_such_method()

    assert blame.raised == {("cache", "OSError"): 1, ("cache", "AttributeError"): 1}


async def test_a_call_that_fails_by_itself_is_the_systems():
    blame = Blame()
    runner, tracer = blame.noted("runner", Part()), blame.noted("tracer", Part())

    class Asking:
        async def ask(self) -> None:
            raise ValueError("no answer")

    asking = Asking()
    blame.know("system", asking)
    with pytest.raises(ValueError, match="no answer") as raised:
        await runner.run(asking.ask)
    with pytest.raises(KeyError) as spans, tracer.span():
        pass

    assert blame.raised == {}
    assert blame.guilty(raised.value) == "system"
    assert blame.guilty(spans.value) == "tracer"
