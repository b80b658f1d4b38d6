"""The reasoning field: an honest sentence about what the other values rest on.

Main path: is_reasoning(field) tells which fields wait for the others; explain(work) writes them.
"""

from __future__ import annotations

import re

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

_REASONING = re.compile(
    r"reasoning|rationale|thoughts?|explanation|justification|why|chain_of_thought|steps?|analysis"
)


def is_reasoning(field: Field) -> bool:
    """Say whether the field asks for the reasons of the others."""
    return is_free_text(field) and _REASONING.fullmatch(field.name) is not None


def explain(work: Work) -> Result:
    """Write the reasons that the skills gave, one sentence each."""
    reasons = dict.fromkeys(result.because for result in work.results.values() if result.because)
    if not reasons:
        names = ", ".join(name.replace("_", " ") for name in work.results) or "the answer"
        return Result(f"I read the input for {names}.")
    lead = work.vary(("", "Let me think. ", "Looking at the input: "))
    text = " ".join(f"{reason[:1].upper()}{reason[1:]}." for reason in reasons)
    return Result(lead + text)
