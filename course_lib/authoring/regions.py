"""Solution regions: the part of an exercise cell that the learner writes.

Main path: learner(source) shows the stub, solved(source) shows the solution.

    def double(x):
        ### BEGIN SOLUTION
        ### STUB: ...  # your code here
        return 2 * x
        ### END SOLUTION
"""

from __future__ import annotations

from dataclasses import dataclass, field

BEGIN, END, STUB = "### BEGIN SOLUTION", "### END SOLUTION", "### STUB:"


class BadRegionError(ValueError):
    """The markers of a cell do not pair up; `offset` is the line in the cell, counted from 0."""

    def __init__(self, offset: int, what: str, remedy: str) -> None:
        super().__init__(what)
        self.offset, self.what, self.remedy = offset, what, remedy


@dataclass(slots=True)
class Region:
    """What stands between one pair of markers."""

    offset: int
    """Line of the opening marker in the cell, counted from 0."""
    indent: str
    """What stands before the opening marker."""
    stub: list[str] = field(default_factory=list)
    """What the learner sees, indented as the opening marker is."""
    solution: list[str] = field(default_factory=list)
    """What the solution notebook shows."""


def split(source: str) -> list[str | Region]:
    """Split a cell into plain lines and regions, in order.

    Raises:
        BadRegionError: a marker is nested, stray or unclosed, or a region has no stub or no solution.
    """
    parts: list[str | Region] = []
    region: Region | None = None
    for offset, line in enumerate(source.split("\n")):
        mark = line.strip()
        if mark == BEGIN:
            if region:
                raise BadRegionError(offset, f"{BEGIN!r} inside a region", f"Close the first with {END!r}")
            region = Region(offset, line[: -len(line.lstrip())])
        elif region is None:
            if mark == END or mark.startswith(STUB):
                raise BadRegionError(offset, f"{mark!r} stands outside a region", f"Open it with {BEGIN!r}")
            parts.append(line)
        elif mark == END:
            parts.append(_whole(region))
            region = None
        elif mark.startswith(STUB):
            region.stub.append((region.indent + mark.removeprefix(STUB).removeprefix(" ")).rstrip())
        else:
            region.solution.append(line)
    if region:
        raise BadRegionError(region.offset, f"{BEGIN!r} is never closed", f"Add {END!r} below the solution")
    return parts


def _whole(region: Region) -> Region:
    if not region.stub:
        raise BadRegionError(region.offset, "the region has no stub", f"Add lines such as '{STUB} ...'")
    if not any(map(str.strip, region.solution)):
        raise BadRegionError(region.offset, "the region has no solution", "Write it below the stub")
    return region


def learner(source: str) -> str:
    r"""Return the cell as the learner gets it: each region replaced by its stub.

    >>> learner("a = 1\n### BEGIN SOLUTION\n### STUB: b = ...\nb = 2\n### END SOLUTION")
    'a = 1\nb = ...'
    """
    return "\n".join("\n".join(part.stub) if isinstance(part, Region) else part for part in split(source))


def solved(source: str) -> str:
    """Return the cell as the solution notebook shows it: without markers and stubs."""
    return "\n".join("\n".join(part.solution) if isinstance(part, Region) else part for part in split(source))
