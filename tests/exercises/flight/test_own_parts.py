"""What a learner has written takes the place of ours, by its name; the rest is ours."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from course_lib.exercises.flight import joined, passed
from course_lib.flight import Parts, Servers

SERVERS = Servers("redis://127.0.0.1:1", "postgresql://127.0.0.1:1/none", Path("nowhere"))


class BoundedRunner:
    def __init__(self, at_once: int, waiting: int) -> None:
        self.taken = at_once, waiting

    async def run(self, call: Any, within_s: float) -> Any:
        return await call()


def own(parts: Parts) -> set[str]:
    return {each.name for each in fields(Parts) if getattr(parts, each.name)}


def test_what_is_not_there_or_is_no_part_is_ours():
    async def reply(request, made, ask): ...

    assert own(joined({})) == set()
    assert own(joined({"reply": reply, "handle": "a word", "Pool": None})) == set(), "a stub and other things"


def test_one_class_of_several_makes_a_part():
    assert own(joined({"Search": BoundedRunner, "BoundedRunner": BoundedRunner})) == {"documents", "runner"}


def test_a_runner_of_ones_own_has_the_room_that_ours_has():
    made: Any = joined({"BoundedRunner": BoundedRunner}).runner

    assert made(SERVERS).taken == (8, 16)


def test_nothing_is_passed_at_first(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_WORK", str(tmp_path))

    assert passed() == []
