"""hint() and solution(): help in steps, remembered across kernels."""

from __future__ import annotations

import json

import pytest

from course_lib import paths
from course_lib.exercises import check, hint, solution
from course_lib.exercises.engine import progress


@pytest.fixture
def solved(tmp_path, monkeypatch):
    """A solved notebook for the sample lesson."""
    folder = tmp_path / "solutions"
    folder.mkdir()
    monkeypatch.setattr(paths, "SOLUTIONS", folder)
    metadata = {"exercise": "99.1", "tags": ["exercise"]}
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Sample"},
        {"cell_type": "code", "id": "b", "metadata": metadata, "source": [
            "def double(value):\n", "    return 2 * value",
        ]},
        {"cell_type": "code", "id": "c", "metadata": {"exercise": "99.1"}, "source": "check()"},
    ]  # fmt: skip
    path = folder / "99_sample.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def double(value):
    return value * 2


def test_hints_come_one_at_a_time_with_their_number(capsys):
    hint("99.1")
    assert "99.1 Sample 99.1: hint 1 of 2\n  Hint 1 of 2: Look closely." in capsys.readouterr().out

    hint("99.1")
    out = capsys.readouterr().out
    assert "hint 2 of 2" in out
    assert "This was the last hint" in out

    hint("99.1")
    assert "no more hints (2 of 2 taken)" in capsys.readouterr().out
    assert progress.standing(progress.read(), "99.1").hints == 2


def test_the_solution_before_a_pass_comes_on_asking_twice(solved, capsys):
    hint("99.1")
    capsys.readouterr()

    solution("99.1")
    out = capsys.readouterr().out
    assert 'hint("99.1") has 1 more for you' in out
    assert 'ask again: solution("99.1")' in out
    assert "2 * value" not in out

    solution("99.1")
    assert "2 * value" in capsys.readouterr().out


def test_after_a_pass_the_solution_stands_beside_the_learners_own_with_the_reason(solved, capsys):
    progress.record("99.1", "finished", outcome="passed", source="def double(value):\n    return value * 2")
    capsys.readouterr()

    solution("99.1")

    out = capsys.readouterr().out
    assert "Why: Because multiplication is repeated addition." in out
    yours, ours = out.split("Ours:")
    assert "return value * 2" in yours
    assert "return 2 * value" in ours
    assert progress.standing(progress.read(), "99.1").solution_shown


def test_without_a_check_there_is_nothing_to_put_beside(solved, capsys):
    solution("99.1")
    solution("99.1")

    assert "(nothing yet: it is kept when you run the check)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is missing; `make build` makes it"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"cells": []}', "holds no cell for exercise 99.1"),
    ],
)
def test_a_missing_or_broken_solution_is_told_with_the_remedy(solved, capsys, content, told):
    check("99.1", double)
    solved.unlink()
    if content is not None:
        solved.write_text(content)

    solution("99.1")

    out = capsys.readouterr().out
    assert told in out
    assert "`make build` makes it" in out
    assert not progress.standing(progress.read(), "99.1").solution_shown
