"""The reasoning field: an honest sentence about what the other values rest on.

Main path: is_reasoning(field) tells which fields wait for the others; explain(work) writes them.
"""

from __future__ import annotations

import re

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills.work import Found, Work, is_free_text

_REASONING = re.compile(
    r"reasoning|rationale|thoughts?|explanation|justification|why|chain_of_thought|steps?|analysis"
)


def is_reasoning(field: Field) -> bool:
    """Say whether the field asks for the reasons of the others."""
    return is_free_text(field) and _REASONING.fullmatch(field.name) is not None


def explain(work: Work) -> Found:
    """Write the reasons that the skills gave, one sentence each."""
    reasons = dict.fromkeys(found.because for found in work.found.values() if found.because)
    if not reasons:
        names = ", ".join(name.replace("_", " ") for name in work.found) or "the answer"
        return Found(f"I read the input for {names}.")
    lead = work.vary(("", "Let me think. ", "Looking at the input: "))
    told = " ".join(f"{reason[:1].upper()}{reason[1:]}." for reason in reasons)
    return Found(lead + told)
