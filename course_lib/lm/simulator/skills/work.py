"""What a skill is given and what it gives back.

Main path: a skill is a function (field, work) -> Result or None; None passes the field on to the next skill.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.lm.simulator.prompts import Field, Task

_TIE = 1e-5
"""Scores of one meaning differ by less: their 32 bits depend on the machine and on the texts beside them."""


@dataclass(frozen=True, slots=True)
class Result:
    """A value for a field, and the honest reason for it."""

    value: Any
    because: str = ""
    """A sentence about what the value rests on; the reasoning field is made of these."""


@dataclass(slots=True)
class Work:
    """One request under way: the task, how to draw, and the results so far."""

    task: Task
    draw: random.Random | None = None
    """Seeded for this sample; None when the likeliest answer is wanted."""
    temperature: float = 0.0
    weak: bool = False
    """sim-small: fewer features, a shorter memory for demos."""
    results: dict[str, Result] = field(default_factory=dict)
    """Results so far, by field name."""
    read: dict[str, Any] | None = None
    """What the input says for the output fields, once it was read for one of them."""

    def pick(self, scores: Mapping[Any, float]) -> Any:
        """Return the key with the highest score; with a temperature, draw by softmax. First wins a tie."""
        best = max(scores.values())
        if self.draw is None or len(scores) == 1:
            return next(key for key, score in scores.items() if score >= best - _TIE)
        heat = max(self.temperature, 1e-3) * 0.5
        weights = [math.exp((score - best) / heat) for score in scores.values()]
        return self.draw.choices(list(scores), weights)[0]

    def vary(self, phrasings: Sequence[str]) -> str:
        """Return the first phrasing, or with a temperature any of them."""
        return phrasings[0] if self.draw is None else self.draw.choice(phrasings)


Skill = Callable[[Field, Work], Result | None]


def is_free_text(field: Field) -> bool:
    """Say whether any text will do: a string without choices, format or pattern."""
    schema = field.schema
    return schema.get("type") == "string" and not {"enum", "format", "pattern"} & schema.keys()


_REASONING = re.compile(
    r"reasoning|rationale|thoughts?|explanation|justification|why|chain_of_thought|steps?|analysis"
)


def is_reasoning(field: Field) -> bool:
    """Say whether the field asks for the reasons of the others."""
    return is_free_text(field) and _REASONING.fullmatch(field.name) is not None
