from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.authoring import proof
from course_lib.authoring.lesson import AuthoringError
from course_lib.authoring.proof import Proof, prove
from tests.authoring.conftest import DATA

SOURCE = (DATA / "proof" / "09_proof.py").read_text("utf-8")
FIRST_RIGHT = '# %% exercise="9.1" tags=["right"]\n'
FIRST_WRONG = '# %% exercise="9.1" tags=["wrong"] outcome="failed" message="expected 6, got 9"\n'


def prove_source(folder: Path, source: str) -> Proof:
    (folder / "09_proof.py").write_text(source, "utf-8")
    (found,) = prove(lessons=folder)
    return found


def test_a_good_exercise_is_proved_from_all_four_sides():
    (found,) = prove(lessons=DATA / "proof")

    assert found.holds, found.problems
    as_json = found.as_dict()
    assert (as_json["id"], as_json["stub"], as_json["solution"]) == ("9.1", "not attempted", "passed")
    assert [each["outcome"] for each in as_json["right"]] == ["passed"] * 2
    assert [each["outcome"] for each in as_json["wrong"]] == ["failed", "crashed", *["failed"] * 4]
    assert as_json["wrong"][0]["message"] == "three is doubled; expected 6, got 9"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "    ### STUB: ...\n",
            "    ### STUB: return 6\n",
            ":37: the stub should be 'not attempted', it is 'passed'",
        ),
        ("return FACTOR * x", "return FACTOR + x", ":37: the solution should be 'passed', it is 'failed'"),
        ("x + x", "x + 1", ":47: the right answer should be 'passed', it is 'failed': three is doubled"),
        ("return x * x", "return x + x", ":55: the wrong answer should be 'failed', it is 'passed'"),
        ('message="expected 6, got 9"', 'message="got 10"', ":55: the wrong answer should be told 'got 10'"),
        ("FACTOR = 2", "FACTOR = 1 / 0", "the exercise's cell raised ZeroDivisionError"),
        ("await asyncio.sleep(0)", "import gone", "a set-up cell raised ModuleNotFoundError"),
        ('check("9.1", double)', 'oops\ncheck("9.1", double)', "the check's cell raised NameError"),
        ("await asyncio.sleep(0)", "import os; os._exit(3)", "its process ended with exit code 3"),
    ],
    ids=[
        "easy stub",
        "solution",
        "refused right answer",
        "accepted wrong answer",
        "message",
        "cell",
        "set-up",
        "check cell",
        "dead process",
    ],
)
def test_a_side_that_does_not_hold_is_named(tmp_path, old, new, problem):
    assert old in SOURCE

    found = prove_source(tmp_path, SOURCE.replace(old, new))

    assert not found.holds
    assert any(problem in each for each in found.problems), found.problems
    assert all(each.startswith("lessons/09_proof.py:") for each in found.problems)


def test_a_process_that_never_ends_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "EXERCISE_DEADLINE_S", 1.0)

    found = prove_source(tmp_path, SOURCE.replace("await asyncio.sleep(0)", "await asyncio.sleep(600)"))

    assert "was stopped after 1 s" in found.problems[0]


def test_one_attempt_does_not_see_the_names_of_another(tmp_path):
    wrong = (
        '# %% exercise="9.1" tags=["wrong"] outcome="crashed" message="KeyError"\nasync def double(x):\n    '
    )
    leak = wrong + 'return globals()["FACTOR"] * x\n\n'

    found = prove_source(tmp_path, SOURCE.replace(FIRST_WRONG, leak + FIRST_WRONG))

    assert found.holds, found.problems  # FACTOR is defined by the solution's cell alone


def test_too_few_answers_are_refused_and_so_are_indistinct_ones(tmp_path):
    start, end = SOURCE.index(FIRST_RIGHT), SOURCE.index('# %% exercise="9.1" tags=["check"]')
    answer = FIRST_WRONG + "async def double(x):\n    return 9\n\n"

    found = prove_source(tmp_path, SOURCE[:start] + 2 * answer + SOURCE[end:])

    assert found.problems == (
        "lessons/09_proof.py:37: 2 wrong answers are shipped; at least 6 are needed",
        "lessons/09_proof.py:37: 0 right answers are shipped; at least 2 are needed",
        "lessons/09_proof.py:37: two wrong answers are the same",
    )


def test_an_unknown_exercise_is_refused():
    with pytest.raises(AuthoringError, match=r"no lesson sets exercise 5.5; known: 9.1"):
        prove(["5.5"], lessons=DATA / "proof")
