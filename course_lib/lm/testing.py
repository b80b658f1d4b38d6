"""A pytest plugin: the model's endpoint as a fixture, for any client that lets you set a base URL.

Main path: `pytest_plugins = ["course_lib.lm.testing"]` in conftest.py; a test takes the fixture `endpoint`.
It needs pytest and no DSPy. The endpoint is one process for the whole run; each test has a key of its own,
so tests that run side by side see nothing of one another.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from course_lib.lm import client, process, taping
from course_lib.lm.calls import Call, Ledger
from course_lib.lm.conduct import Verdict
from course_lib.lm.recordings import load


class ModelEndpoint:
    """The endpoint, as one test sees it."""

    def __init__(self) -> None:
        self.url = process.url()
        """The base URL for clients of OpenAI's format."""
        self.key = process.key()
        """The API key of this test."""
        self._numbers = count(1)

    def model(self, *first: str, base: str = "sim-large", **profile: Any) -> str:
        """Return the name of a model with faults: `endpoint.model("unavailable", "rate_limited")`.

        Args:
            first: what befalls its first requests, in order: kinds of faults, "rate_limited" or "ok".
            base: the model that answers.
            profile: further fields of lm.Profile, such as retry_after_s=0.2 or ttft_p50_ms=300.
        """
        name = f"test{next(self._numbers)}"
        client.profile(name, first=list(first), **profile)
        return f"{base}@{name}"

    @property
    def ledger(self) -> Ledger:
        """What the endpoint saw from this test."""
        return client.ledger()

    @property
    def calls(self) -> list[Call]:
        """The requests of this test, in the order in which they ended."""
        return self.ledger.calls

    def assert_requests(self, *statuses: int) -> None:
        """Fail unless these are the statuses of all requests, in their order."""
        found = [call.status for call in self.calls]
        assert found == list(statuses), f"the endpoint saw {found}, not {list(statuses)}"

    def assert_clean(self, deadline_s: float | None = None, **limits: Any) -> None:
        """Fail with the verdict unless the client waited as told, stopped in time and took no half answer.

        Args:
            deadline_s: what it had for one question, retries included.
            limits: those of lm.verdict.
        """
        verdict = client.verdict(deadline_s=deadline_s, **limits)
        assert verdict.is_clean, str(verdict)

    def assert_finding(self, kind: str, deadline_s: float | None = None, **limits: Any) -> Verdict:
        """Fail unless the verdict has a finding of this kind; return the verdict."""
        verdict = client.verdict(deadline_s=deadline_s, **limits)
        found = [each.kind for each in verdict.findings]
        assert kind in found, f"no {kind} among {found or 'no findings'}: {verdict}"
        return verdict

    def record(self, path: str | Path) -> AbstractContextManager[None]:
        """Record what passes through in a `with` block."""
        return taping.record(path)

    def replay(self, path: str | Path, **options: Any) -> AbstractContextManager[None]:
        """Answer from a recording in a `with` block, without a model; options as for taping.replay."""
        return taping.replay(load(path), **options)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelEndpoint]:
    """The model's endpoint, with a ledger, faults and recordings of this test's own."""
    monkeypatch.setenv("COURSE_LM_KEY", f"test-{secrets.token_hex(12)}")
    own = dict(client.own_profiles)
    yield ModelEndpoint()
    client.own_profiles.clear()  # they were this key's
    client.own_profiles.update(own)
