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
    ],
    "book.md": [(3, "dspy.performance.Cache"), (13, "dspy.batch.BatchProcessor")],
    "00_names.py": [(4, "dspy.CustomAdapter"), (13, "dspy.Predictor")],
}


@pytest.mark.parametrize(("file", "expected"), FOUND.items(), ids=FOUND.keys())
def test_names_that_do_not_hold_are_found_with_their_line_but_for_those_marked_as_invented(file, expected):
    lessons = NAMES if file.startswith("00") else None

    found = sorted(api_names.faults([NAMES / file], lessons=lessons), key=lambda problem: problem.line)

    assert [problem.line for problem in found] == [line for line, _ in expected]
    for problem, (_, name) in zip(found, expected, strict=True):
        assert f"{name} does not exist" in problem.what
        assert problem.remedy


CELLS = """\
# %% [markdown]
# Beside `dspy.CodeAct` there is `dspy.OutputField(desc="a number", parser=int)`.

# %%
program = dspy.ProgramOfThought(
    Asked.append("note", dspy.InputField(desc=f"{a(b)}", prefix="Note:"), str),
)
picture = dspy.Image.from_PIL(raw), dspy.Image("a.png", download=True), dspy.Image(url="a.png")
"""


def test_names_and_parameters_that_dspy_deprecates_are_found(tmp_path: Path):
    lesson = tmp_path / "09_invented.py"
    lesson.write_text(CELLS)

    found = api_names.faults([lesson], lessons=tmp_path)

    assert sorted((problem.line, problem.what.partition(" is deprecated: ")[0]) for problem in found) == [
        (2, "dspy.CodeAct"),
        (2, "dspy.OutputField(parser"),
        (5, "dspy.ProgramOfThought"),
        (6, "dspy.InputField(prefix"),
        (8, "dspy.Image(download"),
        (8, "dspy.Image.from_PIL"),
    ]


@pytest.mark.parametrize(
    "name",
    ["LM", "Prediction.completions", "lm15.Request.messages", "settings.lm", "settings.lm.model"],
)
def test_members_of_modules_classes_fields_and_objects_exist(name):
    assert missing(f"dspy.{name}") is None


def test_a_near_name_is_offered_and_what_dspy_imports_is_not_dspy_s():
    assert "did you mean dspy.ChainOfThought?" in str(missing("dspy.ChainOfThougt"))
    assert missing("dspy.threading") is not None
