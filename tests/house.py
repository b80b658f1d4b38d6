"""The rooms of the house: their layers, and how many lines each may have.

Main path: LAYERS for the rule that imports run down; report() -> rooms, budgets and today's lines.

python -m tests.house
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from course_lib.paths import ROOT

LAYERS: tuple[dict[str, int], ...] = (
    {"cli, authoring, workshop, doctor, lab": 2_500},
    {"copies": 300},
    {"labs": 3_300, "exercises": 4_600},
    {"flight": 1_500},
    {"deployment": 3_200},
    {"adapters": 4_300, "caching": 4_200, "concurrency": 2_500, "debugging": 2_500},
    {"desk": 1_700},
    {"measure": 350},
    {"lm": 7_600},
    {"services": 600, "resilience": 400, "redaction": 400},
    {"errors, paths, files, notes": 110},
)
"""Top first: a room may import those of the layers below its own. Each has the lines that it may
have when all seven lessons are there: a measure to look at, not a fence."""


def lines_of(files: Iterable[Path]) -> int:
    """Return how many lines these files have together."""
    return sum(len(path.read_bytes().splitlines()) for path in files)


def report() -> str:
    """Return one line a room, a blank line between layers, and the sums."""
    library = ROOT / "course_lib"
    rows, total = [f"{'lines':>7} {'budget':>7}  room"], 0
    for layer in LAYERS:
        for room, budget in layer.items():
            found = [path for name in room.split(", ") for path in library.glob(f"{name}.py")]
            found += [path for name in room.split(", ") for path in library.glob(f"{name}/**/*.py")]
            rows.append(f"{lines_of(found) or '-':>7} {budget:>7}  {room}")
            total += lines_of(found)
        rows.append("")
    rows.append(f"{total:>7} {sum(sum(layer.values()) for layer in LAYERS):>7}  course_lib")
    rows.append(f"{lines_of((ROOT / 'tests').glob('**/*.py')):>7} {'':>7}  tests")
    return "\n".join(rows)


if __name__ == "__main__":
    print(report())
