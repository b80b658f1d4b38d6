from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.authoring.lesson import BrokenLessonError
from course_lib.authoring.reading import read, read_all
from tests.authoring.conftest import SAMPLE

GOOD = SAMPLE.read_text("utf-8")


def lesson_at(folder: Path, text: str, name: str = "00_sample.py") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_lesson_knows_its_exercises_and_its_cells_their_lines_and_ids():
    lesson = read(SAMPLE)
    lines = GOOD.split("\n")

    assert lesson.exercise_ids() == ["0.9"]
    assert [cell.outcome for cell in lesson.cells_of("0.9", "wrong")] == ["failed", "crashed"]
    assert all(lines[cell.line - 1].startswith("# %%") for cell in lesson.cells)
    # a hash of its text, its name, and its part in an exercise
    assert [lesson.cells[place].id for place in (0, 1, 3)] == ["1d344ddf06d0", "setup", "exercise-0-9"]


def test_an_inserted_cell_moves_no_other_id(tmp_path):
    before = [cell.id for cell in read(SAMPLE).cells]
    inserted = lesson_at(tmp_path, GOOD.replace("# %% [markdown]", "# %%\nnew = 1\n\n# %% [markdown]", 1))

    after = [cell.id for cell in read(inserted).cells]

    assert after[1:] == before


def test_a_comment_that_looks_like_a_magic_stays_a_comment(tmp_path):
    comments = "# %s of it\n# !sure\n# ls of the folder\n# cd to it\n# ?what"

    (cell,) = read(lesson_at(tmp_path, f"# %%\n{comments}\nx = 1\n")).cells

    assert cell.source == f"{comments}\nx = 1"


STUB, CHECK, CALL = (
    "### STUB: ...  # your code here",
    'exercise="0.9" tags=["check"]',
    'check("0.9", by_urgency)',
)
WRONG = GOOD[GOOD.index('# %% exercise="0.9" tags=["wrong"]') : GOOD.index(f"# %% {CHECK}")]
BROKEN = {
    "unclosed region": ("    ### END SOLUTION\n", "", "never closed", 21),
    "duplicate name": ("# %%\nRANKS", '# %% name="setup"\nRANKS', "is named 'setup', as is", 48),
    "no check cell": (CHECK, "", "exercise 0.9 has no check cell", 18),
    "another's check": (CALL, 'check("0.8", by_urgency)', "does not end in check", 38),
    "check is not last": (CALL, f"{CALL}\n1", "does not end in check", 38),
    "syntax error": ('RANKS = {"low": 0,', 'RANKS = "low": 0,', "not valid Python: unmatched", 9),
    "syntax error in the stub": (STUB, "### STUB: return (", "with the stub", 18),
    "unknown tag": ('tags=["needs"]', 'tags=["neeeds"]', "unknown tag 'neeeds'", 6),
    "unknown key": ('name="setup"', 'nmae="setup"', "nmae=", 6),
    "backslash in a value": ('message="KeyError"', r'message="Key\[Error"', "cell's line reads", 33),
    "escaped quote in a value": ('message="KeyError"', r'message="a \"b\""', "cell's line reads", 33),
    "unquoted value": ('name="setup"', "name=3", "name=3", 6),
    "no outcome": (' outcome="crashed"', "", "declares outcome None", 33),
    "passing wrong answer": ('outcome="crashed"', 'outcome="passed"', "declares outcome 'passed'", 33),
    "no message": (' message="KeyError"', "", "which message", 33),
    "exercise without id": (CHECK, 'tags=["check"]', "names no exercise", 38),
    "two parts": ('tags=["check"]', 'tags=["check", "wrong"]', "tagged check and wrong", 38),
    "marker in a string": ("RANKS = {", 'TEXT = """\n# %%\n"""\nRANKS = {', "lines start a cell", 1),
    "no wrong answer": (WRONG, "", "exercise 0.9 has no wrong cell", 18),
}


@pytest.mark.parametrize(("old", "new", "what", "line"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_lesson_names_file_line_fault_and_remedy(tmp_path, old, new, what, line):
    assert old in GOOD
    path = lesson_at(tmp_path, GOOD.replace(old, new))

    with pytest.raises(BrokenLessonError) as error:
        read(path)

    found = [problem for problem in error.value.problems if what in problem.what]
    assert [problem.line for problem in found][:1] == [line], str(error.value)
    assert found[0].remedy
    assert f"00_sample.py:{line}: " in str(error.value)


def test_all_problems_of_all_lessons_come_together_two_with_one_exercise_among_them(tmp_path):
    lesson_at(tmp_path, GOOD.replace('tags=["needs"]', 'tags=["x", "y"]'))
    lesson_at(tmp_path, "# %% [raw]\nhello\n", "01_other.py")
    for name in ("02_first.py", "03_second.py"):
        lesson_at(tmp_path, GOOD, name)

    with pytest.raises(BrokenLessonError, match=r"exercise 0.9 is already set in 02_first.py") as error:
        read_all(tmp_path)

    assert len(error.value.problems) == 4
