"""The progress board: follows the checks, reads as text, and never stands in a check's way."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from course_lib.exercises import check, hint
from course_lib.exercises.engine import progress, registry
from course_lib.labs.progress_board import COLUMNS, as_table, as_text, board, in_words, rows
from tests.exercises.conftest import SAMPLES


@pytest.fixture(autouse=True)
def sample_section(work):
    registry.register(*SAMPLES)
    yield
    for sample in SAMPLES:
        registry.unregister(sample.id)


def double(value):
    return value * 2


def run_python(code: str, **variables: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)


def row(exercise_id="99.1"):
    return next(each for each in rows() if each.id == exercise_id)


def test_a_row_tells_an_exercise_in_words():
    hint("99.1")
    check("99.1", lambda value: 1)

    assert row().cells() == ("99.1", "Sample 99.1", "3", "easy", "failed", "1", "1 of 2")
    assert row("99.2").state == "not attempted"
    assert row("99.1").lesson == "99_sample"
    assert row("0.1").lesson == "00 Start here"


def test_a_check_redraws_the_board_at_once():
    shown = board()
    assert "0 of" in shown.status

    check("99.1", double)

    assert "<td>passed</td><td>1</td>" in shown.table
    assert shown.status.startswith("1 of ")


def test_a_board_that_nobody_holds_is_told_no_more():
    before = len(progress._observers)
    shown = board()
    assert len(progress._observers) == before + 1

    shown.close()
    del shown
    gc.collect()
    assert len(progress._observers) == before


def test_refresh_shows_what_another_notebook_did(work):
    shown = board()
    code = (
        "from course_lib.exercises import check\n"
        "from course_lib.exercises.engine import registry\n"
        "from tests.exercises.conftest import SAMPLES\n"
        "registry.register(*SAMPLES)\ncheck('99.1', lambda value: value * 2)"
    )
    assert shown.status.startswith("0 of ")

    run_python(code, COURSE_WORK=str(work))
    shown._handle_custom_msg({"kind": "refresh"}, [])

    assert shown.status.startswith("1 of ")


def test_viewers_without_widgets_get_the_table_and_the_text():
    shown = board()
    check("99.1", double)

    data, _ = shown._repr_mimebundle_()

    assert data["text/plain"] == as_text(rows()) == repr(shown)
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<td>passed</td>" in data["text/html"]


def test_the_table_has_a_caption_and_header_cells():
    table = ElementTree.fromstring(as_table(rows()))

    assert table.find("caption").text == "Your exercises"
    assert [cell.text for cell in table.iterfind("thead/tr/th[@scope='col']")] == list(COLUMNS)
    assert [cell.text for cell in table.iterfind("tbody/tr/th[@scope='rowgroup']")][-1] == "99_sample"
    assert "99.1" in [cell.text for cell in table.iterfind("tbody/tr/th[@scope='row']")]


def test_the_text_form_holds_every_state_and_what_is_left():
    before = row()
    check("99.1", double)

    text = as_text(rows())

    assert "  99.1 Sample 99.1 (3 min, easy): passed; attempts 1, hints 0 of 2" in text
    assert "  99.2 Sample 99.2 (3 min, easy): not attempted; attempts 0, hints 0 of 1" in text
    assert text.splitlines()[-1] == in_words(rows())
    assert in_words([row()]) == "1 of 1 exercises passed."
    assert in_words([before]) == "0 of 1 exercises passed; about 3 minutes of exercises left."


def test_an_interrupted_check_is_told():
    progress.record("99.1", "started", run="gone", limit_s=-1.0)

    assert row().state == "interrupted: run the check again"
    assert "99.1 was interrupted (kernel stopped?)" in in_words(rows())


def test_trouble_with_the_file_is_told_by_the_check_and_by_a_new_board(work, capsys):
    check("99.2", None)
    shown = board()
    (work / "progress.sqlite3").write_bytes(b"this is not a database" * 300)
    check("99.1", double)
    assert capsys.readouterr().out.count("the progress file was damaged") == 1

    (work / "progress.sqlite3").write_bytes(b"this is not a database" * 300)
    assert "the progress file was damaged" in board().status
    assert "damaged" not in shown.status


def test_without_a_notebook_the_board_is_its_text():
    printed = run_python("from course_lib.labs import board\nprint(board())")

    assert printed.startswith("Your exercises\n00 Start here\n  0.1 ")
