"""How far one call walks through the library: few enough files and changes to follow with one's eyes."""

from __future__ import annotations

import pytest

from bench.trace_walk import walks

LIMITS = {"miss": (16, 66), "redis hit": (14, 40), "memory hit": (10, 24)}
"""Files of course_lib, and changes from one to another."""


def test_a_call_stays_within_its_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)

    found = {name: (walk.files, walk.changes) for name, walk in walks().items()}

    for name, (files, changes) in LIMITS.items():
        assert (found[name][0] <= files, found[name][1] <= changes) == (True, True), f"{name}: {found[name]}"
