"""Flights that are kept: the recorded one and the table of mechanisms, and the learner's last one.

Main path: python -m course_lib.flight.recording writes both anew (some five minutes); recorded() and
mechanisms() read them. keep(flown) writes the learner's last flight to the work folder; kept() reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from course_lib.files import write_whole
from course_lib.flight.launch import fly
from course_lib.flight.levels import MECHANISMS
from course_lib.flight.report import as_json
from course_lib.flight.result import Flown, Level
from course_lib.paths import work_dir

_FLIGHT, _TABLE = (Path(__file__).with_name(name) for name in ("recorded.json", "mechanisms.json"))


@dataclass(frozen=True, slots=True)
class Row:
    """One mechanism: the level that it is for, with it and without it, in a short flight of its scene."""

    mechanism: str
    scene: str
    level: str
    bar: str
    seen_with: str
    holds_with: bool
    seen_without: str
    holds_without: bool


def recorded() -> Flown:
    """Return the recorded flight of the reference system."""
    return TypeAdapter(Flown).validate_json(_FLIGHT.read_bytes())


def keep(flown: Flown) -> None:
    """Write the learner's last flight, in place of the one before.

    Raises:
        FileError: the work folder is read-only or full.
    """
    write_whole(_kept_at(), as_json(flown))


def kept() -> Flown | None:
    """Return the learner's last flight; None where there is none that can be read."""
    with suppress(OSError, ValidationError):
        return TypeAdapter(Flown).validate_json(_kept_at().read_bytes())
    return None


def _kept_at() -> Path:
    return work_dir() / "last_flight.json"


def mechanisms() -> list[Row]:
    """Return the recorded table."""
    return TypeAdapter(list[Row]).validate_json(_TABLE.read_bytes())


def row(mechanism: str, *, seed: int = 7, whole: Mapping[str, Level] | None = None) -> Row:
    """Fly a mechanism's scene without it, and with it unless the levels of such a flight are given."""
    scene, level, *_ = MECHANISMS[mechanism]
    whole = whole or levels_of(fly(seed=seed, only=(scene,)))
    without = levels_of(fly(seed=seed, only=(scene,), off=(mechanism,)))
    seen = whole[level].seen, whole[level].holds, without[level].seen, without[level].holds
    return Row(mechanism, scene, level, whole[level].bar, *seen)


def levels_of(flown: Flown) -> dict[str, Level]:
    """Return the levels by name."""
    return {level.name: level for level in flown.levels}


def table(*, seed: int = 7) -> list[Row]:
    """Fly each scene with everything, and without each mechanism that is for it: some five minutes."""
    scenes = dict.fromkeys(each.scene for each in MECHANISMS.values())
    whole = {scene: levels_of(fly(seed=seed, only=(scene,))) for scene in scenes}
    return [row(name, seed=seed, whole=whole[each.scene]) for name, each in MECHANISMS.items()]


if __name__ == "__main__":
    for _path, _plain in (
        (_TABLE, [asdict(each) for each in table()]),
        (_FLIGHT, json.loads(as_json(fly()))),
    ):
        write_whole(_path, f"{json.dumps(_plain, ensure_ascii=False, separators=(',', ':'))}\n")
