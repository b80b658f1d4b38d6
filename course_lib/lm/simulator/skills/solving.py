"""What the simulator can do, in the order in which it is tried for each field.

Main path: solve(field, work) walks SKILLS; the first that finds a value wins; decline is the last.
To add a skill, write (field, work) -> Result | None in a file of its own and give it a place in SKILLS.
"""

from __future__ import annotations

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills.answers import answer_question, choose_listed
from course_lib.lm.simulator.skills.arithmetic import aggregate
from course_lib.lm.simulator.skills.choice import classify
from course_lib.lm.simulator.skills.extracting import stated
from course_lib.lm.simulator.skills.judge import judge
from course_lib.lm.simulator.skills.keywords import summarise
from course_lib.lm.simulator.skills.limits import within
from course_lib.lm.simulator.skills.outside import CANNOT, decline, reason_of, refuse
from course_lib.lm.simulator.skills.proposer import propose
from course_lib.lm.simulator.skills.quotation import quote
from course_lib.lm.simulator.skills.work import Result, Skill, Work, is_free_text, is_reasoning

SKILLS: tuple[Skill, ...] = (
    propose, judge, refuse, classify, choose_listed,
    quote, aggregate, answer_question, summarise, stated, decline,
)  # fmt: skip


def solve_all(work: Work) -> dict[str, object]:
    """Return a value for each output field; reasons are written last, from what the others rest on."""
    fields = work.task.spec.outputs
    reasons = [field for field in fields if is_reasoning(field)] if len(fields) > 1 else []
    for field in fields:
        if field not in reasons:
            work.results[field.name] = solve(field, work)
    reasoning = {field.name: explain(work) for field in reasons}
    return {field.name: (reasoning.get(field.name) or work.results[field.name]).value for field in fields}


def solve(field: Field, work: Work) -> Result:
    """Return the first value that a skill finds for `field`, cut to the length that the field allows."""
    result = next(result for skill in SKILLS if (result := skill(field, work)) is not None)
    if isinstance(result.value, str) and is_free_text(field):
        return Result(within(field.schema, result.value), result.because)
    return result


def explain(work: Work) -> Result:
    """Write the reasons that the skills gave, one sentence each."""
    reasons = dict.fromkeys(result.because for result in work.results.values() if result.because)
    if (outside := reason_of(work)) and outside in reasons:
        return Result(f"{CANNOT}: {outside}. What the fields hold is only there to fill them.")
    if not reasons:
        names = ", ".join(name.replace("_", " ") for name in work.results) or "the answer"
        return Result(f"I read the input for {names}.")
    lead = work.vary(("", "Let me think. ", "Looking at the input: "))
    text = " ".join(f"{reason[:1].upper()}{reason[1:]}." for reason in reasons)
    return Result(lead + text)
