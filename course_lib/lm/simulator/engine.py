"""The simulator: answers a chat request by learning from what its prompt shows, and from nothing else.

Main path: answer(body, sample=n) -> Reply: read the prompt, find each output, write in the format asked.
Pure: the same body and sample give the same reply, in any process.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from course_lib.lm.reply import Reply
from course_lib.lm.simulator import formats
from course_lib.lm.simulator.agents.answering import act
from course_lib.lm.simulator.agents.answering import values as agent_values
from course_lib.lm.simulator.formats import write_with_errors
from course_lib.lm.simulator.prompts import read
from course_lib.lm.simulator.prompts.episode import read_episode
from course_lib.lm.simulator.skills.answers import reply
from course_lib.lm.simulator.skills.proposer import reflect
from course_lib.lm.simulator.skills.solving import solve_all
from course_lib.lm.simulator.skills.work import Work

SMALL = "sim-small"
_SHAPES_THE_ANSWER = frozenset(
    ("model", "messages", "tools", "tool_choice", "response_format", "temperature", "top_p", "seed")
)


def answer(body: Mapping[str, Any], *, sample: int = 0) -> Reply:
    """Answer a chat body; `sample` numbers the draws of one request at a temperature above 0."""
    task = read(body)
    temperature = body.get("temperature") or 0.0
    weak = body.get("model") == SMALL
    draw = random.Random(_seed(body, f"draw {sample}")) if temperature > 0 else None
    work = Work(task, draw=draw, temperature=float(temperature), weak=weak)
    episode = read_episode(body, task)
    if episode and episode.form == "native":
        return act(episode, task)
    if not task.spec.outputs:
        return Reply(formats.bare(task.spec, reflect(task.plain, work) or reply(task.plain.strip(), work)))
    values = agent_values(episode, task) if episode else solve_all(work)
    if not weak:
        return Reply(formats.write(task.spec, values))
    # The word in the seed is older than its name: another one would change every answer of sim-small.
    rng = random.Random(_seed(body, f"slip {sample if draw else 0}"))
    return Reply(write_with_errors(task, values, rng))


def forget() -> None:
    """Empty what the simulator keeps in mind of texts that it has read; answers are the same without."""
    for name, module in list(sys.modules.items()):
        for kept in vars(module).values() if name.startswith(__package__) else ():
            if hasattr(kept, "cache_clear"):
                kept.cache_clear()


def _seed(body: Mapping[str, Any], purpose: str) -> int:
    """Return a seed from what shapes the answer, the same in every process."""
    shaping = {key: body[key] for key in _SHAPES_THE_ANSWER if key in body}
    text = json.dumps(shaping, sort_keys=True, default=str)
    return int.from_bytes(sha256(f"{purpose}\n{text}".encode()).digest()[:8], "big")
