"""A tool's traceback, with whatever stands in its source lines and message, reaches the next prompt."""

from __future__ import annotations

import dspy

from course_lib.adapters.tools import limited
from tests.traps.conftest import SOLVED

PASSWORD = "hunter2"  # a secret to leak
STEP = (
    "[[ ## next_thought ## ]]\nLook it up.\n\n[[ ## next_tool_name ## ]]\nlook_up\n\n"
    '[[ ## next_tool_args ## ]]\n{"order": "O-10001"}\n\n[[ ## completed ## ]]'
)
FINISH = STEP.replace("look_up", "finish").replace('{"order": "O-10001"}', "{}")
ANSWER = "[[ ## reasoning ## ]]\nNothing.\n\n[[ ## answer ## ]]\nunknown\n\n[[ ## completed ## ]]"


def look_up(order: str) -> str:
    """Look up an order."""
    raise ConnectionError(f"could not connect to postgresql://desk:{PASSWORD}@db/lantern for {order}")


def test_plain_react_sends_path_and_password_to_the_model(script):
    served = script(STEP, FINISH, ANSWER)

    with dspy.context(lm=served.plain_lm()):
        dspy.ReAct("question -> answer", tools=[look_up])(question="Where is O-10001?")

    assert PASSWORD in served.prompts[1], SOLVED.format("tool errors are redacted")
    assert __file__ in served.prompts[1]


def test_with_a_limited_tool_the_model_reads_one_line_with_a_class_and_no_secret(script):
    served = script(STEP, FINISH, ANSWER)

    with dspy.context(lm=served.plain_lm()):
        dspy.ReAct("question -> answer", tools=[limited(look_up)])(question="Where is O-10001?")

    assert PASSWORD not in served.prompts[1]
    assert __file__ not in served.prompts[1]
    assert "Traceback" not in served.prompts[1]
    assert "failed: ConnectionError: could not connect to [address] for O-10001" in served.prompts[1]
