"""Every exercise of the course is proved: stub, solution, right answers, and wrong ones, of which some here.

All wrong answers, 1,700, are tried by `make proof`, which the project's CI runs too.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from course_lib.authoring.proof import Proof, prove
from course_lib.authoring.reading import read_all
from course_lib.paths import LESSONS

LINE = re.compile(r"^# %% .*\"exercise\".* exercise=\"(.+?)\"", re.MULTILINE)
TEXTS = [path.read_text("utf-8") for path in sorted(LESSONS.glob("*.py"))]
SET = list(dict.fromkeys(exercise for text in TEXTS for exercise in LINE.findall(text)))
"""Found by their lines: every worker collects this file, and to read the lessons whole takes it seconds."""
NEEDS_PROMTOOL = {"5.5", "6.6.2", "6.6.3"}
MOST_WRONG = 12


# Minutes: 800 answers in a process for each exercise, six of which wait beside each other.
@pytest.fixture(scope="module")
def proofs(request) -> dict[str, Proof]:
    """The proofs of the exercises that this run asks for."""
    own = [item for item in request.session.items if item.path == Path(__file__)]
    here = [item for item in own if "exercise" in getattr(item, "fixturenames", ())]
    ids = [item.callspec.params["exercise"] for item in here]
    return {proof.id: proof for proof in prove(ids, most_wrong=MOST_WRONG)}


def test_no_exercise_is_left_out():
    assert [exercise for lesson in read_all(LESSONS) for exercise in lesson.exercise_ids()] == SET


@pytest.mark.parametrize("exercise", SET)
def test_an_exercise_is_proved_from_four_sides(exercise, proofs):
    if exercise in NEEDS_PROMTOOL and not shutil.which("promtool") and not os.environ.get("CI"):
        pytest.skip("promtool is not installed: apt-get install prometheus, or brew install prometheus")
    assert "\n".join(proofs[exercise].problems) == ""
