"""hint() and solution(): help in steps, remembered across kernels."""

from __future__ import annotations

import json

import pytest

from course_lib import paths
from course_lib.exercises import check, hint, solution
from course_lib.exercises.engine import progress
from course_lib.exercises.engine.cards import Card
from tests.copies.test_merging import cell, notebook
from tests.exercises.conftest import double


@pytest.fixture
def solved(tmp_path, monkeypatch):
    """A solved notebook for the sample lesson."""
    monkeypatch.setattr(paths, "SOLUTIONS", tmp_path)
    ours = cell("b", ["def double(value):\n", "    return 2 * value"], exercise="99.1", tags=["exercise"])
    path = tmp_path / "99_sample.ipynb"
    path.write_text(json.dumps(notebook(cell("a", "# Sample"), ours, cell("c", "check()", exercise="99.1"))))
    return path


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
    out = capsys.readouterr().out
    assert "(nothing yet: it is kept when you run the check)" in out
    assert "2 * value" in out


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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is missing; `make build` makes it"),
        ("{", "cannot be read"),
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


def test_code_in_a_card_is_shown_as_code_and_what_was_seen_as_it_was():
    card = Card("99.1 failed", (("Think about", "call `f(x) < 3`"), ("Observed", "'`x`'")))

    assert "<code>f(x) &lt; 3</code>" in card.html()
    assert "&#x27;`x`&#x27;" in card.html()
