"""Every `dspy.` name that the course says or uses exists in the installed DSPy and is not deprecated."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.paths import LESSONS, ROOT
from tests import api_names
from tests.api_names import missing
from tests.authoring.conftest import DATA

PLACES = ("*.md", "docs/**/*.md", "lessons/*.py", "course_lib/**/*.py", "course_lib/**/*.md", "bench/**/*.py")
FILES = [path for place in PLACES for path in sorted(ROOT.glob(place))]


def test_there_are_names_to_look_at():
    files = [ROOT / "README.md", *LESSONS.glob("*.py")]
    mentions = [mention for path in files for mention in api_names.mentions(path, lessons=LESSONS)]

    assert len({mention.name for mention in mentions}) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_dspy_name_holds(path: Path):
    assert "\n".join(map(str, api_names.faults([path], lessons=LESSONS))) == ""


NAMES = DATA / "names"
FOUND = {
    "good.py": [],
    "bad.py": [
        (1, "dspy.performance.Cache"),
        (4, "dspy.clients.NoSuchClient"),
        (11, "dspy.ChainOfThougt"),
        (13, "dspy.ProgramOfThought"),
        (14, "dspy.Image(download"),
        (14, "dspy.Image.from_PIL"),
    ],
    "book.md": [
        (3, "dspy.performance.Cache"),
        (13, "dspy.batch.BatchProcessor"),
        (14, "dspy.CodeAct"),
        (14, "dspy.OutputField(parser"),
    ],
    "00_names.py": [(4, "dspy.CustomAdapter"), (13, "dspy.Predictor"), (16, "dspy.InputField(prefix")],
}


@pytest.mark.parametrize(("file", "expected"), FOUND.items(), ids=FOUND.keys())
def test_names_that_do_not_hold_are_found_with_their_line_but_for_those_marked_as_invented(file, expected):
    lessons = NAMES if file.startswith("00") else None

    found = sorted(api_names.faults([NAMES / file], lessons=lessons), key=lambda it: (it.line, it.what))

    assert [problem.line for problem in found] == [line for line, _ in expected]
    for problem, (_, name) in zip(found, expected, strict=True):
        assert problem.what.startswith((f"{name} does not exist", f"{name} is deprecated: "))
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
