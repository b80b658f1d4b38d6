"""A verdict finds what a client does wrong, and nothing in one that behaves."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from itertools import count
from typing import Any

import dspy
import httpx
import openai
import pytest

from course_lib import lm
from course_lib.lm.calls import Call
from course_lib.lm.conduct import Judge, Verdict

NOTHING: dict[str, Any] = {field.name: 0 for field in fields(Call)}


def call(at_s: float, *, lasting_s: float = 0.1, **values: Any) -> Call:
    """Return a request that came at `at_s` and succeeded, unless `values` say otherwise."""
    duration_ms = lasting_s * 1000
    own = {"at_s": at_s, "number": int(at_s * 10), "duration_ms": duration_ms, "ttft_ms": duration_ms}
    plain = {"model": "a", "profile": "calm", "status": 200, "fault": None, "question": "q"}
    return Call(**NOTHING | plain | own | values)


def failed(at_s: float, **values: Any) -> Call:
    return call(at_s, **{"status": 503, "fault": "unavailable", **values})


def every(pauses_s: list[float], **values: Any) -> list[Call]:
    """Return requests that fail, each so long after the one before has ended."""
    times = [sum(pauses_s[:at]) + 0.1 * at for at in range(len(pauses_s) + 1)]
    return [failed(at_s, **values) for at_s in times]


def kinds(calls: list[Call], **limits: Any) -> dict[str, int]:
    return {finding.kind: finding.count for finding in Judge(calls, **limits).verdict().findings}


TOLD = {"status": 429, "fault": "rate_limited", "retry_after_s": 2.0}
CUT = {"stream": True, "fault": "cut_midway"}
LEFT = {"status": 499, "fault": None}

BAD: dict[str, tuple[list[Call], dict[str, Any], str]] = {
    "came before the time": ([call(0, **TOLD), call(1)], {}, "retry_after_ignored"),
    "went elsewhere and came before the time": (
        [failed(0, retry_after_s=5), failed(1, model="b"), call(2)],
        {},
        "retry_after_ignored",
    ),
    "came early to a server that asks for an hour": (
        [failed(0, retry_after_s=3600), call(10)],
        {},
        "retry_after_ignored",
    ),
    "sent seven times": (every([0.5, 1, 2, 4, 4, 4]), {}, "retry_storm"),
    "sent more often than the lesson allows": (every([0.5, 1]), {"most_sent": 2}, "retry_storm"),
    "all of them are sent three times": (
        [each for n in range(5) for each in every([0.5, 1], question=str(n))],
        {"most_ratio": 2},
        "retry_storm",
    ),
    "sent again at once": (every([0.001, 0.004, 0.002, 0.009]), {}, "retry_storm"),
    "sent again at a steady beat": (every([1, 1.01, 1, 1.02]), {}, "retry_storm"),
    **{
        kind: ([call(0, stream=True, fault=kind)], {}, "truncated_taken")
        for kind in ("cut_midway", "no_finish", "broken_chunk")
    },
    "left though the answer was due": (
        [call(0, lasting_s=0.3, due_ms=900, **LEFT)],
        {"deadline_s": 2},
        "gave_up_early",
    ),
    "held on to a hanging request": (
        [call(0, lasting_s=5, **LEFT | {"fault": "hang"})],
        {"deadline_s": 2},
        "beyond_deadline",
    ),
    "went on retrying": (every([1, 2]), {"deadline_s": 2}, "beyond_deadline"),
}
ALL = {"deadline_s": 2.0, "most_sent": 3, "most_ratio": 1.5}
GOOD: dict[str, tuple[list[Call], dict[str, Any]]] = {
    "nothing": ([], ALL),
    "waited as told, to the tick": ([call(0, **TOLD), call(2.09)], {}),
    "waited as told, eight times": ([*(call(at * 2.1, **TOLD) for at in range(8)), call(20)], {}),
    "two users were told to wait, and one comes": (
        [call(0, **TOLD), call(0, **TOLD | {"retry_after_s": 1.0}), call(1.2), call(2.2)],
        {},
    ),
    "went to another model meanwhile": ([call(0, **TOLD), call(0.2, model="b")], ALL),
    "waited a minute where an hour was asked for": ([failed(0, retry_after_s=3600), call(60.1)], {}),
    "asked the same often and had an answer each time": ([call(at / 10) for at in range(99)], ALL),
    "asked the same side by side, and each once more": ([*(failed(0.0) for _ in range(9)), call(0.7)], ALL),
    "asked again much later": ([*every([0.5]), *(failed(20.0 * at) for at in range(1, 9))], ALL),
    "retried with growing pauses": (every([0.5, 1, 2, 4]), {}),
    "retried with full jitter": (every([0.4, 0.1, 1.7, 0.9]), {}),
    "a cut stream came again": ([call(0, **CUT), call(1, stream=True)], ALL),
    "a cut stream was answered elsewhere": ([call(0, **CUT), call(0.05, model="b", lasting_s=0.2)], ALL),
    "a cut answer that was no stream": ([call(0, fault="cut_midway")], ALL),
    "left what was due too late": ([call(0, lasting_s=1.9, due_ms=2500, **LEFT)], ALL),
    "left at the deadline, and had been slow to send": ([call(0, lasting_s=1.2, due_ms=1500, **LEFT)], ALL),
    "left what would never have come": ([call(0, lasting_s=0.3, **LEFT | {"fault": "hang"})], ALL),
    "left the slower of two": ([call(0, lasting_s=0.4, due_ms=900, **LEFT), call(0.2, lasting_s=0.2)], ALL),
    "left, and had the answer at the second try": (
        [call(0, lasting_s=0.4, due_ms=900, **LEFT), call(0.5)],
        ALL,
    ),
    "a reader who left in the middle of a stream": (
        [call(0, lasting_s=0.4, due_ms=900, ttft_ms=100, stream=True, **LEFT)],
        ALL,
    ),
    "left at the deadline, as seen over there": ([call(0, lasting_s=2.1, **LEFT | {"fault": "hang"})], ALL),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_client_does_wrong_is_found_and_nothing_else(case: str) -> None:
    calls, limits, kind = BAD[case]

    found = Judge(calls, **limits).verdict()

    assert {finding.kind for finding in found.findings} == {kind}
    assert {*found.findings[0].requests} <= {each.number for each in calls}
    assert not found.is_clean
    assert f"- {kind} ({found.findings[0].count}): " in repr(found)


@pytest.mark.parametrize("case", GOOD)
def test_what_may_be_honest_is_let_pass(case: str) -> None:
    calls, limits = GOOD[case]

    assert kinds(calls, **limits) == {}


def test_without_a_deadline_nothing_is_early_or_late() -> None:
    calls = [call(0, lasting_s=0.3, due_ms=900, **LEFT), call(5, lasting_s=60, question="other")]

    assert kinds(calls) == {}
    assert kinds(calls, deadline_s=2) == {"gave_up_early": 1, "beyond_deadline": 1}


# -- clients, over the endpoint --------------------------------------------------------------------------

_numbers = count(1)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a profile; the requests before it are forgotten."""
    monkeypatch.setenv("COURSE_LM_KEY", f"conduct-{next(_numbers)}")
    lm.url()
    lm.reset()
    return "sim-large@mine"


def ask_all(model: str, questions: int, **options: Any) -> None:
    """Ask different questions side by side with the official client, which retries as it does by default."""

    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=lm.url(), api_key=lm.key(), **options) as ai:
            asked = [
                ai.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": f"{n} + 1 is?"}]
                )
                for n in range(questions)
            ]
            return await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(run())


# The storm has a limit of 8 requests per second, and the client waits half a second after a fault.
@pytest.mark.parametrize("questions", [16, pytest.param(150, marks=pytest.mark.soak)])
def test_the_official_client_is_clean_under_storm(questions: int) -> None:
    lm.reset()

    ask_all("sim-large@storm", questions, max_retries=9, timeout=6)

    verdict = lm.verdict(deadline_s=300)
    assert verdict.is_clean, verdict
    # On a busy machine a client may pause so long that its next attempt is taken for another user's.
    assert questions <= verdict.questions < verdict.requests


# DSPy waits a second, as the header in whole seconds says.
def test_dspy_that_waits_as_it_is_told_is_clean_and_its_error_has_the_request_id(model: str) -> None:
    lm.profile("mine", first=["rate_limited", "ok", "unavailable"], retry_after_s=0.3)
    chat = lm.connect(model, cache=False, num_retries=1)

    chat("What is 3 + 4?")
    with pytest.raises(dspy.LMServerError) as caught:
        chat.copy(num_retries=0)("What is 3 + 5?")

    last = lm.ledger().calls[-1]
    assert (caught.value.request_id, caught.value.retry_after) == (last.request_id, 1.0)
    assert lm.verdict(deadline_s=10).is_clean
    assert (lm.verdict().requests, lm.verdict().questions) == (3, 2)


def test_a_client_that_does_not_wait_is_found(model: str) -> None:
    lm.profile("mine", first=["rate_limited"])
    body = {"model": model, "messages": [{"role": "user", "content": "What is 3 + 4?"}]}

    with httpx.Client(headers={"Authorization": f"Bearer {lm.key()}"}) as http:
        for _ in range(2):
            http.post(f"{lm.url()}/chat/completions", json=body)

    assert [each.kind for each in lm.verdict().findings] == ["retry_after_ignored"]
    assert lm.verdict().findings[0].requests == (2,)
    assert lm.verdict(since=1).is_clean


def test_embeddings_are_judged_too(model: str) -> None:
    lm.profile("mine", first=["rate_limited"])

    with httpx.Client(headers={"Authorization": f"Bearer {lm.key()}"}) as http:
        body = {"model": "sim-embed@mine", "input": "a tent"}
        statuses = [http.post(f"{lm.url()}/embeddings", json=body).status_code for _ in range(2)]

    assert statuses == [429, 200]
    assert [each.kind for each in lm.verdict().findings] == ["retry_after_ignored"]
    assert (lm.verdict().requests, lm.verdict().questions) == (2, 1)


@pytest.mark.parametrize("again", [False, True])
def test_a_stream_without_an_end_is_found_unless_the_question_comes_again(model: str, again: bool) -> None:
    lm.profile("mine", first=["no_finish"])
    messages: Any = [{"role": "user", "content": "What is 3 + 4?"}]

    with openai.OpenAI(base_url=lm.url(), api_key=lm.key()) as ai:
        for _ in range(1 + again):
            list(ai.chat.completions.create(model=model, messages=messages, stream=True))

    assert lm.verdict().is_clean == again


def test_dspy_that_asks_in_another_form_after_half_an_answer_asks_the_same_again(model: str) -> None:
    lm.profile("mine", first=["no_finish"])

    with dspy.context(lm=lm.connect(model, cache=False), adapter=dspy.ChatAdapter()):
        dspy.Predict("question -> reasoning, answer")(question="What is 3 + 4?")

    assert (lm.verdict().requests, lm.verdict().questions) == (2, 1)


def test_a_client_that_gives_up_early_is_found(model: str) -> None:
    lm.profile("mine", ttft_p50_ms=700)

    ask_all(model, 1, max_retries=0, timeout=0.2)
    while lm.ledger().under_way:
        pass

    assert [each.kind for each in lm.verdict(deadline_s=5).findings] == ["gave_up_early"]
    assert lm.verdict(deadline_s=0.5).is_clean
    assert isinstance(lm.verdict(), Verdict)
