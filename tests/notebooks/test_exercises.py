"""Every exercise of the course is proved: stub, solution, right and wrong answers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from course_lib.authoring.proof import Proof, prove
from course_lib.authoring.reading import read_all
from course_lib.paths import LESSONS

SET = [exercise for lesson in read_all(LESSONS) for exercise in lesson.exercise_ids()]
NEEDS_PROMTOOL = {"5.5", "6.6.2", "6.6.3"}


# One to two minutes: two hundred answers in a process for each exercise, two of which wait beside each other.
@pytest.fixture(scope="module")
def proofs(request) -> dict[str, Proof]:
    """The proofs of the exercises that this run asks for."""
    here = [item for item in request.session.items if item.path == Path(__file__)]
    return {proof.id: proof for proof in prove([item.callspec.params["exercise"] for item in here])}


@pytest.mark.parametrize("exercise", SET)
def test_an_exercise_is_proved_from_four_sides(exercise, proofs):
    if exercise in NEEDS_PROMTOOL and not shutil.which("promtool") and not os.environ.get("CI"):
        pytest.skip("promtool is not installed: apt-get install prometheus, or brew install prometheus")
    assert "\n".join(proofs[exercise].problems) == ""
