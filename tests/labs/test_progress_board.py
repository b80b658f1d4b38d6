"""The progress board: follows the checks, reads as text, and never stands in a check's way."""

from __future__ import annotations

import pytest

from course_lib.exercises import check, hint
from course_lib.exercises.engine import progress, registry
from course_lib.labs import progress_board
from course_lib.labs.progress_board import board, in_words, rendered, rows
from tests.exercises.conftest import SAMPLES


@pytest.fixture(autouse=True)
def sample_section(work, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {sample.id: sample for sample in SAMPLES})


def double(value):
    return value * 2


def row(exercise_id="99.1"):
    return next(each for each in rows() if each["id"] == exercise_id)


def test_a_row_tells_an_exercise_in_words():
    hint("99.1")
    check("99.1", lambda value: 1)

    assert (row()["state"], row()["attempts"], row()["hints"]) == ("failed", 1, "1 of 2")
    assert row("99.2")["state"] == "not attempted"
    assert row("99.1")["notebook"] == "99_sample"
    assert row("0.1")["notebook"] == "00 Start here"


def test_a_board_in_a_notebook_is_shown_once_and_redrawn_by_each_event(monkeypatch):
    shown = []
    monkeypatch.setattr(progress_board, "get_ipython", object)
    monkeypatch.setattr(progress_board, "display", lambda what, **how: shown.append((repr(what), how)))
    progress_board._follow.cache_clear()

    assert board() is None
    assert board() is None, "run again, it follows the events once"
    check("99.1", double)
    progress._observers.pop()

    texts, ways = zip(*shown, strict=True)
    assert [way.get("update", False) for way in ways] == [False, False, True, True]  # started, passed
    assert {way["display_id"] for way in ways} == {"course-board"}
    assert "99.1 Sample 99.1" in " ".join(texts[0].split())
    assert "passed" not in texts[0].splitlines()[3:][0]
    assert "1 of " in texts[-1].splitlines()[-1]


def test_the_text_form_holds_every_state_and_what_is_left():
    before = row()
    check("99.1", double)

    lines = repr(rendered()).splitlines()

    (line,) = (line for line in lines if line.startswith("99.1"))
    assert " ".join(line.split()) == "99.1 Sample 99.1 99_sample 3 easy passed 1 0 of 2"
    assert lines[-1] == in_words(rows())
    assert in_words([row()]) == "1 of 1 exercises passed."
    assert in_words([before]) == "0 of 1 exercises passed; about 3 minutes of exercises left."


def test_an_interrupted_check_is_told():
    progress.record("99.1", "started", run="gone")

    assert row()["state"] == "interrupted: run the check again"
    assert "99.1 was interrupted (kernel stopped?)" in in_words(rows())


def test_trouble_with_the_file_is_told_by_the_check_and_by_a_new_board(work, capsys):
    check("99.2", None)
    for told in (lambda: check("99.1", double), lambda: print(board())):
        (work / "progress.sqlite3").write_bytes(b"this is not a database" * 300)
        told()
        assert capsys.readouterr().out.count("the progress file was damaged") == 1
