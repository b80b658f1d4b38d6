"""The rooms of the house: their layers, what each holds, and how many lines each may have.

Main path: LAYERS for the rule that imports run down; report() -> rooms, budgets and today's lines.

python -m tests.house
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from course_lib.paths import ROOT


@dataclass(frozen=True, slots=True)
class Room:
    """Some packages or modules of course_lib that are counted together."""

    names: tuple[str, ...]
    holds: str
    budget: int
    """Lines that it may have when all seven lessons are there: a measure to look at, not a fence."""


LAYERS: tuple[tuple[Room, ...], ...] = (
    (Room(("cli", "authoring", "workshop", "doctor", "lab"), "the course command; notebooks; proof", 2_800),),
    (
        Room(("labs",), "interactive views, one file a lab", 3_300),
        Room(("exercises",), "an engine, and a folder of checks a section", 4_600),
    ),
    (Room(("deployment",), "section 5", 3_200),),
    (
        Room(("adapters",), "section 1: prompt/, tools/, data/", 4_300),
        Room(("caching",), "section 2: the cache, batch/, semantic/", 4_200),
        Room(("concurrency",), "section 3", 2_500),
        Room(("debugging",), "section 4", 2_500),
    ),
    (Room(("desk",), "Lantern, the running example", 1_700),),
    (Room(("measure",), "usage, percentiles, the report", 350),),
    (Room(("lm",), "the language model: endpoint/, simulator/, client", 7_600),),
    (
        Room(("services",), "child processes that hold real servers", 600),
        Room(("resilience",), "retry, circuit breaker, deadline, token bucket", 400),
    ),
    (Room(("errors", "paths", "files"), "shared by all", 70),),
)
"""Top first: a room may import those of the layers below its own."""


def lines_of(names: tuple[str, ...], root: Path = ROOT) -> int:
    """Return the lines of Python in these packages and modules of course_lib."""
    return sum(map(_length, _files(names, root / "course_lib")))


def _files(names: tuple[str, ...], library: Path) -> Iterator[Path]:
    for name in names:
        module = library / f"{name}.py"
        yield from [module] if module.exists() else sorted((library / name).glob("**/*.py"))


def _length(path: Path) -> int:
    return len(path.read_bytes().splitlines())


def report(root: Path = ROOT) -> str:
    """Return one line a room, a blank line between layers, and the sums."""
    lines = [f"{'lines':>7} {'budget':>7}  room"]
    for layer in LAYERS:
        lines += [
            _row(lines_of(room.names, root), room.budget, f"{', '.join(room.names)}: {room.holds}")
            for room in layer
        ]
        lines.append("")
    rooms = [room for layer in LAYERS for room in layer]
    total = sum(lines_of(room.names, root) for room in rooms)
    lines.append(_row(total, sum(room.budget for room in rooms), "course_lib"))
    lines.append(_row(sum(map(_length, (root / "tests").glob("**/*.py"))), None, "tests"))
    return "\n".join(lines)


def _row(lines: int, budget: int | None, what: str) -> str:
    return f"{lines or '-':>7} {budget or '':>7}  {what}"


if __name__ == "__main__":
    print(report())
