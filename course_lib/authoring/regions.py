"""Solution regions: the part of an exercise cell that the learner writes.

Main path: learner(source) shows the stub, solved(source) shows the solution.

    def double(x):
        ### BEGIN SOLUTION
        ### STUB: ...  # your code here
        return 2 * x
        ### END SOLUTION
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BEGIN, END, STUB = "### BEGIN SOLUTION", "### END SOLUTION", "### STUB:"


class BadRegionError(ValueError):
    """The markers of a cell do not pair up; `offset` is the line in the cell, counted from 0."""

    def __init__(self, offset: int, what: str, remedy: str) -> None:
        super().__init__(what)
        self.offset, self.what, self.remedy = offset, what, remedy


@dataclass(frozen=True, slots=True)
class Region:
    """What stands between one pair of markers."""

    offset: int
    """Line of the opening marker in the cell, counted from 0."""
    stub: tuple[str, ...]
    """What the learner sees, indented as the opening marker is."""
    solution: tuple[str, ...]
    """What the solution notebook shows."""


def split(source: str) -> list[str | Region]:
    """Split a cell into plain lines and regions, in order.

    Raises:
        BadRegionError: a marker is nested, stray or unclosed, or a region has no stub or no solution.
    """
    parts: list[str | Region] = []
    lines = iter(enumerate(source.split("\n")))
    for offset, line in lines:
        if line.strip() == BEGIN:
            parts.append(_region(offset, line, lines))
        elif line.strip() == END or line.strip().startswith(STUB):
            raise BadRegionError(
                offset, f"{line.strip()!r} stands outside a solution region", f"Open it with {BEGIN!r}"
            )
        else:
            parts.append(line)
    return parts


def _region(start: int, opening: str, lines: Iterator[tuple[int, str]]) -> Region:
    indent = opening[: len(opening) - len(opening.lstrip())]
    stub: list[str] = []
    solution: list[str] = []
    for offset, line in lines:
        mark = line.strip()
        if mark == BEGIN:
            raise BadRegionError(
                offset, f"{BEGIN!r} inside a solution region", f"Close the first with {END!r}"
            )
        if mark == END:
            if not stub:
                raise BadRegionError(
                    start, "the solution region has no stub", f"Add lines such as '{STUB} ...'"
                )
            if not any(map(str.strip, solution)):
                raise BadRegionError(
                    start, "the solution region has no solution", "Write the solution below the stub"
                )
            return Region(start, tuple(stub), tuple(solution))
        if mark.startswith(STUB):
            stub.append((indent + mark.removeprefix(STUB).removeprefix(" ")).rstrip())
        else:
            solution.append(line)
    raise BadRegionError(start, f"{BEGIN!r} is never closed", f"Add {END!r} where the solution ends")


def learner(source: str) -> str:
    r"""Return the cell as the learner gets it: each region replaced by its stub.

    >>> learner("a = 1\n### BEGIN SOLUTION\n### STUB: b = ...\nb = 2\n### END SOLUTION")
    'a = 1\nb = ...'
    """
    return "\n".join("\n".join(part.stub) if isinstance(part, Region) else part for part in split(source))


def solved(source: str) -> str:
    r"""Return the cell as the solution notebook shows it: without markers and stubs.

    >>> solved("a = 1\n### BEGIN SOLUTION\n### STUB: b = ...\nb = 2\n### END SOLUTION")
    'a = 1\nb = 2'
    """
    return "\n".join("\n".join(part.solution) if isinstance(part, Region) else part for part in split(source))


def solution_lines(source: str) -> list[str]:
    """Return the lines that only the solution may show, stripped, without blanks and lines of the stub."""
    regions = [part for part in split(source) if isinstance(part, Region)]
    shown = {line.strip() for line in learner(source).split("\n")}
    lines = (line.strip() for region in regions for line in region.solution)
    return [line for line in lines if line and line not in shown]
