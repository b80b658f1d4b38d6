"""A model that is down, or asks to come back in 100 s: what a user of the documentation's service sees."""

from __future__ import annotations

import time

import dspy
import httpx
import pytest
from fastapi import FastAPI

from course_lib import desk, lm
from tests.deployment.serving import QUESTION
from tests.deployment.serving import desk as service
from tests.traps.conftest import SOLVED

pytestmark = pytest.mark.anyio

DAYS = {
    "down": {"unavailable_rate": 1.0},
    "spent": {"first": ("rate_limited",) * 9, "retry_after_s": 100.0},
}


@pytest.fixture(params=DAYS)
def day(request) -> str:
    lm.connect()
    lm.profile(f"trap-{request.param}", **DAYS[request.param])
    lm.reset()
    return request.param


async def test_plain_dspy_holds_the_user_and_then_says_that_the_service_is_broken(day, monkeypatch):
    waits_s: list[float] = []
    monkeypatch.setattr("dspy.clients.execution.time.sleep", waits_s.append)
    app, answer = FastAPI(), dspy.asyncify(desk.Answer())

    @app.post("/answers")
    async def answers(question: str) -> str:
        return (await answer(question=question)).answer

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with dspy.context(lm=lm.connect(f"sim-large@trap-{day}", cache=False)):
        async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
            reply = await client.post("/answers", params={"question": QUESTION})

    assert reply.status_code == 500, SOLVED.format("a model that is down is told apart")
    assert sum(waits_s) > {"down": 5, "spent": 100}[day], SOLVED.format("waits have a bound")


async def test_the_service_says_within_its_deadline_when_to_come_back(day):
    begun_s = time.monotonic()
    async with service(model=f"sim-large@trap-{day}", deadline_s=1.5) as served, served.client() as client:
        reply = await client.post("/v1/answers", json={"question": QUESTION})

    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= {"down": 1, "spent": 100}[day]
    assert time.monotonic() - begun_s < 5  # the deadline, on a busy machine
