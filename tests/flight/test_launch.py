"""Whole flights on real servers: what holds, what fails without a mechanism, and what is left afterwards.

A flight goes by the clock: with its servers a scene takes some 15 s, so these few are flown for all tests.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import psutil
import pytest

from course_lib.flight import MECHANISMS, Flown, Parts, Tick, fly
from course_lib.flight.launch import PartError
from course_lib.flight.levels import Mechanism
from course_lib.flight.recording import levels_of, mechanisms, recorded, row
from tests.services.processes import happens

SCENES = ("poisoned",)
OFF = "guard", "redaction"
TICKS: list[Tick] = []


class Broken:
    """A cache that raises at each call."""

    async def get(self, key: str) -> str | None:
        raise ConnectionError(f"no {key}")

    set = get


@cache
def whole() -> Flown:
    return fly(only=SCENES, on_tick=TICKS.append)


@cache
def reduced() -> Flown:
    return fly(only=SCENES, off=OFF)


def test_the_reference_holds_every_level():
    assert [level for level in whole().levels if not level.holds] == []
    assert whole().holds


def test_a_flight_tells_what_each_sender_saw():
    flown = whole()
    outcomes = {each.outcome for each in flown.seen if each.kind == "question"}

    assert {"answered", "cached", "refused"} <= outcomes
    assert {each.outcome for each in flown.seen if each.kind == "job"} == {"done"}
    assert set(flown.parts.values()) == {"ours"}
    assert TICKS
    assert TICKS[-1].seen[: len(flown.seen)] == flown.seen


@pytest.mark.parametrize("name", OFF)
def test_without_a_mechanism_its_level_fails_and_names_its_part(name):
    mechanism: Mechanism = MECHANISMS[name]
    level = levels_of(reduced())[mechanism.level]

    assert not level.holds
    assert level.by_scene.get(mechanism.scene)
    assert level.advice == f"{mechanism.part}: {mechanism.advice}"


def test_a_cache_that_raises_costs_no_answer_and_is_told():
    flown = fly(Parts(cache=lambda _: Broken()), only=("calm",))
    levels = levels_of(flown)

    assert levels["availability"].holds
    assert levels["cost per answer"].advice.startswith("cache: it raised ConnectionError, ")
    assert flown.parts["cache"] == "yours"
    assert flown.parts["runner"] == "ours"


def test_a_part_that_cannot_be_made_is_named_and_no_server_is_left():
    before = {each.pid for each in psutil.Process().children(recursive=True)}

    def canary(_: object) -> None:
        raise LookupError("no version")

    with pytest.raises(
        PartError, match=r"the part canary could not be made: LookupError: no version; mend it"
    ):
        fly(Parts(canary=canary))

    assert happens(lambda: {each.pid for each in psutil.Process().children(recursive=True)} <= before)


def test_a_mechanism_that_there_is_not_is_named():
    with pytest.raises(ValueError, match=r"no mechanism 'wings'; there are cache, "):
        fly(off=("wings",))


def test_an_owner_that_is_killed_leaves_no_process_and_no_file(short_folder: Path):
    short_folder.chmod(0o711)  # PostgreSQL runs as another user where this is root
    code = (
        "from course_lib.flight import fly\n"
        "fly(only=('worker killed',), on_tick=lambda tick: print(tick.at_s, flush=True))"
    )
    environment = {**os.environ, "TMPDIR": str(short_folder)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert len(list(short_folder.iterdir())) >= 3
        process.kill()

    assert happens(lambda: not list(short_folder.iterdir()))
    assert happens(lambda: not [each for each in psutil.process_iter() if _is_in(each, short_folder)])


def _is_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get("TMPDIR") == str(folder) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.mark.soak
@pytest.mark.parametrize("name", MECHANISMS)
def test_each_mechanism_keeps_its_level(name):
    flown = row(name)

    assert (flown.holds_with, flown.holds_without) == (True, False), flown


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(7, 10))
def test_the_whole_flight_holds_with_any_seed(seed):
    assert [level for level in fly(seed=seed).levels if not level.holds] == []


def test_the_recorded_table_has_every_mechanism_and_shows_what_it_is_for():
    assert [each.mechanism for each in mechanisms()] == list(MECHANISMS)
    assert all(each.holds_with and not each.holds_without for each in mechanisms())


def test_the_recorded_flight_is_whole_and_holds():
    assert recorded().holds
    assert recorded().scenes[-1].ends_s == 90.0


class Silent:
    """A system that cancels a third of its questions, and answers the others with something else."""

    def __init__(self, *_: object) -> None:
        self.asked = 0

    async def answer(self, _: object) -> object:
        self.asked += 1
        if self.asked % 3 == 0:
            raise asyncio.CancelledError
        return None

    async def submit(self, _: object) -> None:
        pass


def test_what_gets_no_reply_has_failed():
    flown = fly(Parts(system=Silent), only=("poisoned",))
    level = levels_of(flown)["availability"]

    assert {each.outcome for each in flown.seen if each.kind == "question"} == {"failed"}
    assert (level.holds, level.seen) == (False, "0.0%")
