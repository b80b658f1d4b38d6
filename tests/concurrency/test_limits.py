"""Calls at the rate that the model allows: seen at the endpoint, and over minutes in simulated time."""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest

from course_lib import desk, lm
from course_lib.concurrency.limits import AdaptiveLimiter, RateDeadlineExceeded, RateLimit, limited
from course_lib.concurrency.runner import AsyncRunner
from course_lib.resilience import Deadline, TokenBucket

pytestmark = pytest.mark.anyio
PLENTY = {"requests_per_s": 10_000.0}


@pytest.fixture
def connect() -> Callable[..., dspy.LM]:
    """Connect to a model with such a profile; its ledger is empty."""

    def connect(profile: dict[str, Any], **options: Any) -> dspy.LM:
        lm.connect()
        lm.profile("own", **profile)
        lm.reset()
        return lm.connect("sim-large@own", **{"cache": False, **options})

    return connect


def questions(number: int) -> list[str]:
    return [f"Question {n}?" for n in range(number)]


class Clock:
    """Seconds that pass when told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


# -- a limit that is known -----------------------------------------------------------------------------


async def test_as_many_calls_as_the_limit_allows_meet_no_refusal(connect):
    model = limited(connect({"limit_requests_per_s": 20}, num_retries=0), RateLimit(20))

    await AsyncRunner(32).run(model.acall, questions(32))

    assert lm.ledger().statuses == {200: 32}


def test_threads_keep_to_it_too(connect):
    model = limited(connect({"limit_requests_per_s": 20}, num_retries=0), RateLimit(20))

    with dspy.context(lm=model):
        answers = dspy.Parallel(num_threads=8, disable_progress_bar=True)(
            [(desk.Triage(), example) for example in desk.examples("train")[:25]]
        )

    assert None not in answers
    assert lm.ledger().statuses == {200: 25}


async def test_tokens_that_calls_have_used_hold_up_the_calls_after_them(connect):
    model = connect({"limit_tokens_per_s": 200}, num_retries=0)
    limit = RateLimit(tokens_per_s=200)
    asked = limited(model, limit)

    await asked.acall("How long does it take?")
    await AsyncRunner(4).run(asked.acall, questions(32))

    ledger = lm.ledger()
    assert ledger.statuses == {200: 33}
    assert ledger.prompt_tokens + ledger.completion_tokens > 300


def test_a_wait_that_the_server_asks_for_has_a_cap_and_jitter():
    clock = Clock()
    limit = RateLimit(**PLENTY, longest_wait_s=2.0, clock=clock)

    waits_s = [limit.record_refusal(asked_s) for asked_s in (3600, 3600, 1.0, 1.0, 0.0)]

    assert all(2.0 <= wait_s <= 2.2 for wait_s in waits_s[:2])
    assert all(1.0 <= wait_s <= 1.1 for wait_s in waits_s[2:4])
    assert len(set(waits_s)) == 5
    with limit._in_line() as left_s:
        assert left_s() == pytest.approx(max(waits_s))
        clock.now_s += 2.3
        assert left_s() == 0


@pytest.mark.parametrize("rates", [(0,), (None, 0), (-1,), (math.nan,), (None, math.nan)], ids=str)
def test_a_limit_that_lets_nothing_through_is_refused(rates):
    with pytest.raises(ValueError, match="above 0"):
        RateLimit(*rates)


@pytest.mark.parametrize("longest_wait_s", [-1, math.nan, math.inf])
def test_a_longest_wait_that_is_none_is_refused(longest_wait_s):
    with pytest.raises(ValueError, match="0 or above"):
        AdaptiveLimiter(longest_wait_s=longest_wait_s)


@pytest.mark.parametrize("tokens", [10**13, 1e308, 10**400, math.inf, math.nan, -1e13])
@pytest.mark.parametrize("tokens_per_s", [None, 100])
def test_a_false_figure_of_tokens_makes_nobody_wait_longer_than_the_longest_wait(tokens, tokens_per_s):
    clock = Clock()
    limit = RateLimit(50, tokens_per_s, longest_wait_s=2.0, clock=clock)

    for _ in range(3):
        with limit._in_line() as left_s:
            assert left_s() <= (2.0 if tokens_per_s else 0.0)
            clock.now_s += left_s()
        limit.charge(tokens)
    clock.now_s += 60
    for _ in range(40):
        with limit._in_line() as left_s:
            clock.now_s += left_s() + 0.02
        limit.charge(1)

    assert clock.now_s < 60 + (20 if tokens_per_s else 2), "what is true is soon believed again"


# -- under a model -------------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1])
async def test_dspy_tries_a_refused_call_again_after_the_limiters_wait_or_tells_of_it(connect, retries):
    model = limited(connect({"limit_requests_per_s": 1}, num_retries=retries), limit := RateLimit(**PLENTY))
    await model.acall("First?")

    (outcome,) = await AsyncRunner(1).run(model.acall, ["Second?"])

    assert lm.ledger().statuses == ({200: 2, 429: 1} if retries else {200: 1, 429: 1})
    assert limit.refusals == 1
    if not retries:
        assert isinstance(outcome.error, dspy.LMRateLimitError)
        assert 1.0 <= outcome.error.retry_after <= 1.1


@pytest.mark.parametrize("in_task", [True, False], ids=["acall", "call"])
async def test_beyond_the_deadline_nothing_is_asked_and_nothing_is_tried_again(connect, in_task):
    model = limited(connect({"limit_requests_per_s": 1}), limit := RateLimit(**PLENTY))

    async def ask(question: str) -> None:
        with Deadline.after(0.5).applied(), pytest.raises(RateDeadlineExceeded) as caught:
            await (model.acall(question) if in_task else asyncio.to_thread(model, question))
        assert isinstance(caught.value, dspy.LMError)
        assert isinstance(caught.value, TimeoutError)

    await model.acall("First?")
    await ask("Refused: Retry-After lies beyond the deadline?")
    assert lm.ledger().requests == 2
    limit.record_refusal(600)
    await ask("Not asked: the pause lies beyond the deadline?")
    assert lm.ledger().requests == 2


@pytest.mark.parametrize("is_async_program", [True, False], ids=["task", "thread"])
async def test_streams_wait_retry_and_are_charged_like_other_calls(connect, is_async_program):
    refusals = 0 if is_async_program else 1
    model = limited(connect({"limit_requests_per_s": 2 - refusals}), limit := RateLimit(10_000, 10_000))
    await model.acall("First?")

    chunks = []
    with dspy.context(lm=model):
        program = dspy.streamify(
            dspy.Predict("question -> answer"),
            stream_listeners=[dspy.streaming.StreamListener("answer")],
            is_async_program=is_async_program,
        )
        async for part in program(question="How long does express delivery take?"):
            chunks.append(part)  # noqa: PERF401

    assert len(chunks) > 2
    assert "".join(part.chunk for part in chunks[:-1]) == chunks[-1].answer
    assert lm.ledger().requests == 2 + refusals
    assert limit.refusals == refusals
    assert limit._tokens_per_call > 0


async def test_a_hit_of_the_cache_waits_for_nothing(connect):
    model = limited(connect({}, cache=True), limit := RateLimit(**PLENTY))
    answer = await model.acall("How long does express delivery take?")
    limit.record_refusal(600)

    with Deadline.after(1.0).applied():
        assert await model.acall("How long does express delivery take?") == answer


async def test_to_a_program_it_is_the_model_itself(connect):
    model = connect({}, timeout=20)
    asked = limited(model, RateLimit(**PLENTY))

    with dspy.context(lm=asked), dspy.track_usage() as usage:
        await desk.Triage().acall(ticket="Where is my parcel?")

    ledger = lm.ledger()
    assert usage.get_total_tokens()[model.model]["prompt_tokens"] == ledger.prompt_tokens > 0
    assert (len(asked.history), len(model.history), ledger.requests) == (1, 0, 1)
    for name in ("supports_function_calling", "supports_reasoning", "supports_response_schema"):
        assert getattr(asked, name) == getattr(model, name)
    assert asked.supported_params == model.supported_params
    assert copy.deepcopy(asked).engine._limiter is asked.engine._limiter


async def test_the_models_own_timeout_holds_under_the_limiter(connect):
    model = limited(connect({"hang_rate": 1.0}, timeout=0.2, num_retries=0), RateLimit(**PLENTY))

    with pytest.raises(dspy.LMTransportError):
        await model.acall("Anybody?")


# -- a limit that is to be found, in simulated time ----------------------------------------------------

CALLERS, LATENCY_S = 40, 0.03
Log = list[tuple[float, bool]]


def simulate(limits: list[tuple[float, float]], until_s: float) -> Log:
    """Let callers ask as fast as the limiter lets them; return when each request came and whether it passed.

    `limits` is (from second, requests per second) of a server that refuses as the course's endpoint does.
    """
    random.seed(7)  # the jitter
    clock, log = Clock(), Log()
    limiter = AdaptiveLimiter(clock=clock)
    buckets = {limit: TokenBucket(limit, limit, clock=clock) for _, limit in limits}

    def caller() -> Iterator[float]:
        """Yield the seconds to the next step."""
        while True:
            with limiter._in_line() as left_s:
                while wait_s := left_s():
                    yield wait_s + 1e-6
            yield LATENCY_S
            bucket = buckets[next(limit for from_s, limit in reversed(limits) if from_s <= clock.now_s)]
            is_let_through = bucket.wait_s() == 0
            log.append((clock.now_s, is_let_through))
            if is_let_through:
                bucket.charge(1)
                limiter.record_success()
            else:
                yield limiter.record_refusal(1.0)

    steps = [(0.0, number, caller()) for number in range(CALLERS)]
    for number in itertools.count(CALLERS):
        now_s, _, steps_of_one = heapq.heappop(steps)
        if now_s > until_s:
            return log
        clock.now_s = max(clock.now_s, now_s)
        heapq.heappush(steps, (clock.now_s + next(steps_of_one), number, steps_of_one))
    raise AssertionError


def shares(log: Log, from_s: float, until_s: float, limit: float) -> tuple[float, float]:
    """Return the share of the limit that was let through, and the share of the requests that was refused."""
    passed = [is_let_through for at_s, is_let_through in log if from_s <= at_s < until_s]
    return sum(passed) / (until_s - from_s) / limit, passed.count(False) / len(passed)


@pytest.mark.parametrize("limit", [24, 60])
@pytest.mark.parametrize("factor", [0.5, 2.0], ids=["halves", "doubles"])
def test_it_finds_the_limit_and_finds_it_again_within_ten_seconds_after_it_moves(limit, factor):
    log = simulate([(0, limit), (45, limit * factor)], 90)

    for from_s, until_s, true_limit in ((20, 45, limit), (55, 90, limit * factor)):
        used, refused = shares(log, from_s, until_s, true_limit)
        assert used >= 0.9
        assert refused < 0.02


def test_a_rate_that_nobody_uses_is_not_raised():
    clock = Clock()
    limiter = AdaptiveLimiter(4.0, clock=clock)

    for _ in range(100):
        clock.now_s += 1.0
        with limiter:
            pass

    assert limiter.rate_per_s == 4.0


def test_the_refusals_of_one_pause_count_once_and_growth_begins_after_it():
    clock = Clock()
    limiter = AdaptiveLimiter(100.0, clock=clock)

    for _ in range(5):
        limiter.record_refusal(1.0)
    assert limiter.rate_per_s == 80.0
    limiter.record_success()
    assert limiter.rate_per_s == 80.0
    clock.now_s += 1.2
    limiter.record_refusal(1.0)
    assert limiter.rate_per_s == 64.0


async def test_calls_that_overlap_are_charged_for_all_their_tokens():
    limit = RateLimit(tokens_per_s=1000, clock=Clock())

    for _ in range(32):  # all begin before one has ended
        await limit.__aenter__()
    for _ in range(32):
        await limit.__aexit__(None, None, None)
        limit.charge(1000)

    assert limit._tokens.wait_s() > 30, "32,000 tokens at 1,000 a second"
