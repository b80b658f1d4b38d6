"""Every exercise of the course is proved: stub, solution, right and wrong answers."""

from __future__ import annotations

import pytest

from course_lib.authoring.proof import prove_one
from course_lib.authoring.reading import read_all
from course_lib.paths import LESSONS

SET = [(lesson, exercise) for lesson in read_all(LESSONS) for exercise in lesson.exercise_ids()]


@pytest.mark.parametrize(("lesson", "exercise"), SET, ids=[exercise for _, exercise in SET])
def test_an_exercise_is_proved_from_four_sides(lesson, exercise):
    proof = prove_one(lesson, exercise)

    assert "\n".join(proof.problems) == ""
