"""What a flight returns, as plain data: it is written as JSON and read again.

Main path: Flown -> report.py draws it, the certificate names it, `course flight --json` writes it.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import version


@dataclass(frozen=True, slots=True)
class Scene:
    """A part of the script: what holds from one second to another."""

    name: str
    begins_s: float
    ends_s: float
    told: str
    """What is broken meanwhile, in a sentence."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request or job, as its sender saw it."""

    at_s: float
    """When it was sent, after the flight began."""
    took_s: float
    scene: str
    kind: str
    """"question" or "job"."""
    outcome: str
    """"answered", "cached", "degraded", "refused", "failed"; of a job "done", "lost" or "twice"."""
    is_right: bool | None = None
    """Whether the answer agrees with what is known of the question; None: there was none."""
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Level:
    """A service level, and whether it holds."""

    name: str
    bar: str
    """What is promised: "at least 97 %"."""
    seen: str
    """What was measured, in the same form."""
    holds: bool
    by_scene: dict[str, float] = field(default_factory=dict)
    """What each scene took from it: which fault cost what."""
    advice: str = ""
    """Which part to improve, where it does not hold."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A quality gate of the chapter: coverage, reliability of tests, benchmark against baseline, findings."""

    name: str
    bar: str
    seen: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Flown:
    """One flight."""

    seed: int
    began: str
    """Date and time, ISO 8601, UTC."""
    versions: dict[str, str]
    """Of Python, DSPy and the course."""
    parts: dict[str, str]
    """By the part's name: "ours" or "yours"."""
    scenes: list[Scene]
    seen: list[Seen]
    levels: list[Level]
    gates: list[Gate] = field(default_factory=list)
    helps: list[str] = field(default_factory=list)
    """What would have helped a program of one's own, that which gains most first."""

    @property
    def holds(self) -> bool:
        """Whether every level and every gate holds."""
        return all(level.holds for level in self.levels) and all(gate.holds for gate in self.gates)


def versions() -> dict[str, str]:
    """Return those of Python, DSPy and the course."""
    names = {"dspy": "dspy", "course": "advanced-dspy-course"}
    return {"python": platform.python_version(), **{key: version(name) for key, name in names.items()}}
