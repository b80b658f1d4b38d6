from __future__ import annotations

import pytest

from course_lib.authoring import apinames
from course_lib.authoring.apinames import missing
from tests.authoring.conftest import DATA

NAMES = DATA / "names"
FOUND = {
    "good.py": [],
    "bad.py": [
        (1, "dspy.performance.Cache"),
        (4, "dspy.clients.NoSuchClient"),
        (11, "dspy.ChainOfThougt"),
    ],
    "book.md": [(3, "dspy.performance.Cache"), (13, "dspy.batch.BatchProcessor")],
    "00_names.py": [(4, "dspy.CustomAdapter"), (13, "dspy.Predictor")],
}


@pytest.mark.parametrize(("file", "expected"), FOUND.items(), ids=FOUND.keys())
def test_names_that_do_not_hold_are_found_with_their_line_but_for_those_marked_as_invented(file, expected):
    lessons = NAMES if file.startswith("00") else None

    found = sorted(apinames.faults([NAMES / file], lessons=lessons), key=lambda problem: problem.line)

    assert [problem.line for problem in found] == [line for line, _ in expected]
    for problem, (_, name) in zip(found, expected, strict=True):
        assert f"{name} does not exist" in problem.what
        assert problem.remedy


@pytest.mark.parametrize(
    "name",
    ["LM", "Prediction.completions", "lm15.Request.messages", "settings.lm", "settings.lm.model"],
)
def test_members_of_modules_classes_fields_and_objects_exist(name):
    assert missing(f"dspy.{name}") is None


def test_a_near_name_is_offered_and_what_dspy_imports_is_not_dspy_s():
    assert "did you mean dspy.ChainOfThought?" in str(missing("dspy.ChainOfThougt"))
    assert missing("dspy.threading") is not None
