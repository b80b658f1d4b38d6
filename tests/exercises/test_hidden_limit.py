"""The server of exercise 3.5: what a fixed rate makes of a limit that it does not know."""

from __future__ import annotations

import pytest

from course_lib.exercises.concurrency.hidden_limit import against


class Fixed:
    """A rate that learns nothing, and notes what it is told."""

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.told: list[tuple[str, float]] = []

    def success(self, now_s: float, waited: bool) -> None:
        self.told.append(("waited" if waited else "at once", now_s))

    def refusal(self, now_s: float) -> None:
        self.told.append(("refused", now_s))


def test_half_the_limit_is_used_and_never_refused():
    used, refused = against(Fixed(20.0), [(0.0, 40.0)], 60.0).shares(20.0, 60.0)

    assert used == pytest.approx(0.5, abs=0.02)
    assert refused == 0


def test_twice_the_limit_is_refused_once_the_burst_is_over():
    run = against(Fixed(80.0), [(0.0, 40.0)], 60.0)

    first = next(at_s for at_s, _, is_through in run.calls if not is_through)
    assert first == pytest.approx(1.0, abs=0.1)
    assert run.shares(20.0, 60.0)[1] > 0.01


def test_the_limiter_is_told_of_each_request_on_its_own_clock():
    limiter = Fixed(30.0)

    run = against(limiter, [(0.0, 10.0)], 30.0, begins_at_s=5000.0)

    assert len(limiter.told) == len(run.calls)
    assert {kind for kind, _ in limiter.told} == {"waited", "at once", "refused"}
    assert all(5000.0 <= now_s <= 5031.0 for _, now_s in limiter.told)


def test_what_the_server_allows_may_move():
    run = against(Fixed(15.0), [(0.0, 20.0), (30.0, 10.0)], 60.0)

    assert run.shares(0.0, 30.0)[1] == 0
    assert run.shares(35.0, 60.0)[1] > 0
