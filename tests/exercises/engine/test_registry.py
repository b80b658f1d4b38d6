"""The list of exercises: what it accepts, and how it answers a wrong id."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from course_lib.exercises.engine import registry
from course_lib.exercises.engine.registry import BadExerciseError, UnknownExerciseError
from tests.exercises.conftest import SAMPLES


def test_an_unknown_id_lists_those_that_exist():
    with pytest.raises(UnknownExerciseError, match=r"no exercise '9\.9'; known: 0\.1, .*99\.1, 99\.2"):
        registry.get("9.9")


def test_in_a_notebook_an_unknown_id_shows_its_message_and_no_traceback():
    with pytest.raises(UnknownExerciseError) as caught:
        registry.get("9.9")

    (line,) = caught.value._render_traceback_()
    assert line.startswith("UnknownExerciseError: no exercise '9.9'")


def test_exercises_come_in_the_order_of_the_course():
    later = dataclasses.replace(SAMPLES[0], id="99.10")
    registry.register(later)
    try:
        ids = [exercise.id for exercise in registry.exercises()]
    finally:
        registry.unregister("99.10")

    assert ids[0] == "0.1"
    assert ids[-2:] == ["99.5", "99.10"]


def test_two_exercises_cannot_share_an_id():
    with pytest.raises(BadExerciseError, match=r"'99\.1' \(Another\) has the id of 'Sample 99\.1'"):
        registry.register(dataclasses.replace(SAMPLES[0], title="Another"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": "one"}, "not of the form"),
        ({"difficulty": "fiendish"}, "'fiendish' is unknown"),
        ({"hints": ()}, "0 hints; give one to three"),
        ({"hints": ("a", "b", "c", "d")}, "4 hints; give one to three"),
        ({"checks": ()}, "no checks"),
        ({"minutes": 0}, "0 minutes"),
        ({"deadline_s": 0}, "needs some time"),
        ({"checks": (lambda thing: None,)}, "no docstring"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_exercise_that_cannot_work_is_refused(change, complaint):
    with pytest.raises(BadExerciseError, match=complaint):
        dataclasses.replace(SAMPLES[0], **change)


def test_every_shipped_exercise_names_a_lesson_of_its_own_section():
    for exercise in registry.exercises():
        section = exercise.id.split(".")[0]
        assert exercise.lesson.startswith(f"{int(section):02}_")


def test_a_check_loads_the_module_of_its_own_exercise_and_no_other(work):
    """In a process of its own: here, other tests have imported everything."""
    code = (
        "import sys, json\nfrom course_lib.exercises import check\n"
        "class Lru:\n    def __init__(self, max_entries, ttl_s, clock): pass\n"
        "    def get(self, key): return 1\n    def put(self, key, value): pass\n"
        "assert check('2.2', Lru).outcome == 'failed'\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])

    rooms = [name.split(".")[1:] for name in loaded if name.startswith("course_lib.")]
    assert {room[0] for room in rooms} == {"errors", "exercises", "files", "paths"}
    sections = {tuple(room[1:]) for room in rooms if room[0] == "exercises" and room[1:2] != ["engine"]}
    assert sections == {(), ("caching",), ("caching", "lru")}
    assert not {"dspy", "IPython", "numpy"} & set(loaded)


def test_ids_are_known_without_importing_an_exercise():
    code = (
        "import sys\nfrom course_lib.exercises.engine import registry\nprint(registry.known())\n"
        "print([name for name in sys.modules if '.exercises.' in name and name.count('.') == 3\n"
        "       and '.engine.' not in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        str([each for each in registry.known() if not each.startswith("99")]),
        "[]",
    ]
