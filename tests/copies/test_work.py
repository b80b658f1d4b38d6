"""The learner's copies: made once, reset, compared and updated, whole at every moment."""

from __future__ import annotations

import errno
import json
import os
from contextlib import closing

import nbformat
import pytest
from nbformat.sign import NotebookNotary

from course_lib import paths
from course_lib.copies import work as copies
from course_lib.errors import CourseError
from course_lib.exercises.engine import notebookfile
from course_lib.exercises.engine.registry import UnknownExerciseError
from course_lib.files import FileError
from tests.copies.test_merging import cell, notebook

NAME = "99_sample.ipynb"
STUB = "def double(value): ..."
OURS = "def double(value):\n    return 2 * value"
MINE = "def double(value):\n    return value + value"


def sample(answer, *, text="x = 1"):
    return notebook(
        cell("top", text),
        cell("ex", answer, exercise="99.1", tags=["exercise"]),
        cell("check", "check('99.1', double)", exercise="99.1", tags=["check"]),
    )


@pytest.fixture(autouse=True)
def course(tmp_path, monkeypatch):
    """A small course of one notebook, as built."""
    for name in ("NOTEBOOKS", "SOLUTIONS"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(paths, name, tmp_path / name)
    ship(sample(STUB))
    copies.write(paths.SOLUTIONS / NAME, sample(OURS))
    return tmp_path


def ship(content):
    copies.write(paths.NOTEBOOKS / NAME, content)


def change(work, edit):
    """Have `edit` change the copy, or return a new one, as a learner or another program does."""
    mine = json.loads((work / NAME).read_text())
    (work / NAME).write_text(json.dumps(edit(mine) or mine))


def write_answer(work, answer=MINE):
    outputs = [{"output_type": "stream", "name": "stdout", "text": "4"}]
    own = {"source": answer.splitlines(keepends=True), "outputs": outputs}
    change(work, lambda mine: mine["cells"][1].update(own))


def without_ids(mine):
    """Drop what a program that knows no ids drops."""
    for one in mine["cells"]:
        del one["id"]
    return mine | {"nbformat_minor": 4}


def sources(path):
    return [notebookfile.source_of(one) for one in json.loads(path.read_text())["cells"]]


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_copies_are_made_once_and_never_overwritten(work):
    assert copies.make_copies() == [work / NAME]
    assert (work / NAME).read_bytes() == (paths.NOTEBOOKS / NAME).read_bytes()

    write_answer(work)
    before = files(work)
    assert copies.make_copies() == []
    assert files(work) == before

    (work / NAME).unlink()  # as if cut off before the notebook was written
    assert copies.make_copies() == [work / NAME]


def test_reset_puts_the_stub_back_and_keeps_the_answer(work):
    copies.make_copies()
    write_answer(work)

    said = copies.reset("99.1")

    write_answer(work, "two = 2")
    copies.reset("99.1")
    kept = {str(path): path.read_text() for path in (work / ".attempts").iterdir()}
    assert sorted(kept.values()) == [MINE + "\n", "two = 2\n"]
    assert any(f"Your answer is kept in {path}." in said for path in kept)
    assert "Reload Notebook from Disk" in said
    assert sources(work / NAME) == ["x = 1", STUB, "check('99.1', double)"]
    assert json.loads((work / NAME).read_text())["cells"][1]["outputs"] == []


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_copy_that_jupyter_trusted_is_trusted_after_a_reset(work, is_trusted):
    copies.make_copies()
    write_answer(work)
    with closing(NotebookNotary()) as notary:
        if is_trusted:
            notary.sign(nbformat.read(work / NAME, 4))

        copies.reset("99.1")

        assert notary.check_signature(nbformat.read(work / NAME, 4)) is is_trusted


GONE = {
    "the answer": lambda _, check: [check],
    "the check": lambda answer, _: [answer],
    "the check's text": lambda answer, check: [answer, check | {"source": "print('mine')"}],
}


@pytest.mark.parametrize("gone", GONE)
def test_reset_brings_back_what_is_gone_to_its_place(work, gone):
    copies.make_copies()
    own = [cell("own", "y = 2"), cell("own", "z = 3")]
    change(work, lambda mine: mine | {"cells": [mine["cells"][0], *own, *GONE[gone](*mine["cells"][1:])]})

    copies.reset("99.1")

    assert sources(work / NAME) == ["x = 1", "y = 2", "z = 3", STUB, "check('99.1', double)"]


def test_reset_of_an_untouched_exercise_changes_nothing(work):
    copies.make_copies()
    before = files(work)

    assert copies.reset("99.1") == "99.1 is already as it was given out; nothing was changed."
    assert files(work) == before


def test_reset_of_an_unknown_exercise_or_without_a_copy_is_told(work):
    with pytest.raises(UnknownExerciseError, match=r"known: 0\.1"):
        copies.reset("9.9")
    with pytest.raises(copies.WorkError, match=r"99_sample\.ipynb is missing; `course setup` makes it"):
        copies.reset("99.1")


@pytest.mark.parametrize("content", ["", "{", '{"cells": 3}', "[]", '{"cells": ["text"]}'])
def test_a_broken_copy_is_refused_and_left_alone(work, content):
    copies.make_copies()
    (work / NAME).write_text(content)

    for refuses in (copies.reset, copies.diff):
        with pytest.raises(
            CourseError, match=r"cannot be read .*; restore it from .*\.backup, or move it away"
        ):
            refuses("99.1")
    assert "left alone" in str(copies.update())
    assert (work / NAME).read_text() == content


def test_a_shipped_notebook_that_is_missing_or_empty_is_told(work):
    copies.make_copies()
    ship(notebook(cell("top", "x")))
    with pytest.raises(copies.WorkError, match=r"no cell for exercise 99\.1; `make build`"):
        copies.reset("99.1")

    (paths.NOTEBOOKS / NAME).unlink()
    with pytest.raises(CourseError, match="is missing; `make build` makes it"):
        copies.reset("99.1")
    assert "`make build` makes it" in copies.update()


def test_diff_goes_from_the_learners_answer_to_ours_on_asking_twice(work):
    copies.make_copies()
    write_answer(work)
    assert "2 * value" not in copies.diff("99.1")
    assert copies.diff("99.1").splitlines() == [
        "--- yours", "+++ ours", "@@ -1,2 +1,2 @@", " def double(value):", "-    return value + value",
        "+    return 2 * value",
    ]  # fmt: skip

    write_answer(work, OURS)
    assert copies.diff("99.1") == "your answer to 99.1 is the same as ours, letter by letter."


@pytest.mark.parametrize(
    ("folder", "content", "message"),
    [
        ("SOLUTIONS", None, "is missing; `make build` makes it"),
        ("SOLUTIONS", notebook(cell("top", "x")), "holds no cell"),
        ("work", notebook(cell("top", "x")), r"any more; `course reset 99\.1`"),
    ],
)
def test_diff_without_a_solution_or_without_the_cell_is_told(work, folder, content, message):
    copies.make_copies()
    path = (work if folder == "work" else paths.SOLUTIONS) / NAME
    path.unlink()
    if content:
        copies.write(path, content)

    with pytest.raises(CourseError, match=message):
        copies.diff("99.1")


CHANGED = {
    "no ids": without_ids,
    "twice": lambda mine: mine | {"cells": [*mine["cells"], mine["cells"][1]]},
    "pasted": lambda mine: mine["cells"][1].update(id="pasted"),
}


@pytest.mark.parametrize("changed", CHANGED)
def test_an_answer_is_found_in_whatever_cells_carry_it(work, changed):
    copies.make_copies()
    write_answer(work)
    change(work, CHANGED[changed])
    copies.diff("99.1")
    assert "-    return value + value" in copies.diff("99.1")

    copies.reset("99.1")

    assert sources(work / NAME) == ["x = 1", STUB, "check('99.1', double)"]
    assert MINE in next((work / ".attempts").iterdir()).read_text()
    nbformat.validate(nbformat.reader.reads((work / NAME).read_text()))


def test_an_old_tab_saved_over_an_update_is_brought_up_to_date_again(work):
    copies.make_copies()
    write_answer(work)
    tab = (work / NAME).read_bytes()
    new = sample(STUB, text="x = 2")
    new["cells"].insert(1, cell("added", "y = 3"))
    ship(new)
    copies.update()
    (work / NAME).write_bytes(tab)

    assert f"{NAME}: updated" in copies.update()

    assert sources(work / NAME) == ["x = 2", "y = 3", MINE, "check('99.1', double)"]
    assert copies.update() == f"{NAME}: up to date"


def test_update_takes_the_new_keeps_the_learners_and_backs_up_the_old(work):
    copies.make_copies()
    write_answer(work)
    old = (work / NAME).read_bytes()
    ship(sample(STUB + "  # one line will do", text="x = 2"))

    report = str(copies.update())

    assert sources(work / NAME) == ["x = 2", MINE, "check('99.1', double)"]
    (backup,) = (work / ".backup").iterdir()
    assert backup.read_bytes() == old
    assert report.splitlines() == [
        f"{NAME}: updated (the old one is {backup})",
        "  taken from the course: top",
        "  changed by you and by the course, kept as you wrote it: ex (exercise 99.1)",
        copies.RELOAD,
    ]
    before = files(work)
    assert copies.update() == f"{NAME}: up to date"
    assert files(work) == before


def test_update_makes_a_missing_copy_and_needs_no_base(work):
    assert str(copies.update()) == f"{NAME}: new"
    write_answer(work)
    next((work / ".shipped").iterdir()).write_text("{")
    ship(sample(STUB, text="x = 2"))

    for _ in range(2):
        report = str(copies.update())

        assert report.startswith(
            f"{NAME}: perhaps older than the course (what was shipped to you, in .shipped"
        )
        assert "kept as you wrote it: top, ex (exercise 99.1)" in report
        assert sources(work / NAME) == ["x = 1", MINE, "check('99.1', double)"]
    write_answer(work, STUB)
    change(work, lambda mine: mine["cells"][0].update(source="x = 2"))
    assert copies.update() == f"{NAME}: up to date"


def test_a_copy_whose_cells_lost_their_ids_is_left_alone(work):
    copies.make_copies()
    change(work, without_ids)
    before = files(work)
    ship(sample(STUB, text="x = 2"))

    assert "lost their ids; move it away and update for a new copy" in str(copies.update())
    assert files(work) == before


def test_reset_of_a_copy_without_ids_and_marks_is_refused(work):
    copies.make_copies()
    mine = json.loads((work / NAME).read_text())
    mine["cells"] = [
        {"cell_type": "markdown", "metadata": {}, "source": one["source"]} for one in mine["cells"]
    ]
    (work / NAME).write_text(json.dumps(mine))
    before = files(work)

    with pytest.raises(copies.WorkError, match="lost their ids, so nothing was changed"):
        copies.reset("99.1")
    assert files(work) == before


def test_a_disk_that_fills_up_leaves_every_file_whole(work, monkeypatch):
    copies.make_copies()
    write_answer(work)
    ship(sample(STUB, text="x = 2"))
    before, writes = files(work), iter([True])  # there is room for the backup, not for the notebook

    def full(_):
        if not next(writes, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"No space left on device; nothing was changed\. Free some space"):
        copies.update()

    assert {path: whole for path, whole in files(work).items() if ".backup" not in path.parts} == before
