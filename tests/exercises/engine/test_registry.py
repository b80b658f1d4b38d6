"""The list of exercises: what it accepts, and how it answers a wrong id."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from course_lib.exercises.caching import EXERCISES
from course_lib.exercises.engine import registry
from course_lib.exercises.engine.registry import UnknownExerciseError
from tests.exercises.conftest import SAMPLES


def test_an_unknown_id_lists_those_that_exist_in_one_line_without_a_traceback():
    with pytest.raises(
        UnknownExerciseError, match=r"no exercise '9\.9'; known: 0\.1, .*99\.1, 99\.2"
    ) as caught:
        registry.get("9.9")

    assert caught.value._render_traceback_() == [f"UnknownExerciseError: {caught.value}"]


def test_exercises_come_in_the_order_of_the_course():
    registry.register(dataclasses.replace(SAMPLES[0], id="99.10"))

    ids = [exercise.id for exercise in registry.exercises()]

    assert ids[0] == "0.1"
    assert ids[-2:] == ["99.7", "99.10"]


@pytest.mark.parametrize("exercise", registry.exercises(), ids=lambda exercise: exercise.id)
def test_a_shipped_exercise_is_whole(exercise):
    assert exercise.lesson.startswith(f"0{exercise.id.split('.')[0]}_")
    assert exercise.minutes >= 1
    assert 1 <= len(exercise.hints) <= 3
    assert all(check.__doc__ for check in exercise.checks), "a check's docstring is shown on the card"


def test_a_check_loads_the_module_of_its_own_exercise_and_no_other(work):
    """In a process of its own: here, other tests have imported everything."""
    code = (
        "import sys, json\nfrom course_lib.exercises import check\n"
        "class Lru:\n    def __init__(self, max_entries, ttl_s, clock): pass\n"
        "    def get(self, key): return 1\n    def put(self, key, value): pass\n"
        "from course_lib.exercises.engine import registry\nassert '2.6' in registry.known()\n"
        "assert check('2.2', Lru).outcome == 'failed'\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])

    rooms = [name.split(".")[1:] for name in loaded if name.startswith("course_lib.")]
    assert {room[0] for room in rooms} == {"errors", "exercises", "paths"}
    modules = [room[1:] for room in rooms if room[0] == "exercises" and len(room) > 2 and room[1] != "engine"]
    assert [module for _, module in modules if module in EXERCISES] == ["lru"]
    assert not {"dspy", "IPython", "numpy", "pydantic"} & set(loaded)
