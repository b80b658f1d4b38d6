"""How far one call walks through the library: few enough files and changes to follow with one's eyes."""

from __future__ import annotations

import pytest

from bench.trace_walk import walks
from course_lib.debugging import MetricsCollector, Tracer

LIMITS = {"miss": (16, 66), "redis hit": (14, 40), "memory hit": (11, 24)}
"""Files of course_lib, and changes from one to another; one file is that of all who listen elsewhere."""


def test_a_call_stays_within_its_walk_whoever_listens_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    elsewhere = Tracer(), MetricsCollector(), Tracer()

    found = {name: (walk.files, walk.changes) for name, walk in walks().items()}

    assert not elsewhere[0].spans
    for name, (files, changes) in LIMITS.items():
        assert (found[name][0] <= files, found[name][1] <= changes) == (True, True), f"{name}: {found[name]}"
