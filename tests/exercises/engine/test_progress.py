"""Progress: kept through restarts and by several kernels at once, and never in the way of a check."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from course_lib.exercises import check, hint, solution
from course_lib.exercises.engine import progress, store
from course_lib.exercises.engine.store import FILE_NAME, ProgressError
from tests.exercises.conftest import REGISTERED, double


def standing(exercise_id="99.1"):
    return progress.standing(progress.read(), exercise_id)


def stored(work):
    with closing(sqlite3.connect(work / FILE_NAME)) as connection:
        return connection.execute("SELECT exercise, kind, outcome FROM events ORDER BY number").fetchall()


def in_another_kernel(work, code, **options):
    """Run code in a process of its own, with the sample exercises."""
    environment = os.environ | {"COURSE_WORK": str(work), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", REGISTERED + code], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


def test_each_check_is_two_events_none_is_ever_changed_and_a_pass_stays(work):
    check("99.1", double)
    before = stored(work)
    check("99.1", lambda value: 5)

    assert before == [("99.1", "started", ""), ("99.1", "finished", "passed")]
    assert stored(work) == [*before, ("99.1", "started", ""), ("99.1", "finished", "failed")]
    assert (standing().state, standing().attempts) == ("passed", 2)


def test_two_kernels_writing_at_once_lose_nothing(work):
    writes = "for number in range(20):\n    progress.record('99.1', 'hint', outcome=str(number))\n"
    code = writes + "print(*progress.notes(), end='')"
    kernels = [in_another_kernel(work, code) for _ in range(2)]

    assert [kernel.communicate()[0] for kernel in kernels] == ["", ""]
    assert len(stored(work)) == 40


def test_a_kernel_killed_in_mid_check_is_told_at_the_next_check_and_loses_nothing(work, capsys):
    dies = "import os, signal\ndef dies(value):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    kernel = in_another_kernel(work, "check('99.2', None)\n" + dies + "check('99.1', dies)")
    kernel.communicate()

    assert kernel.returncode == -signal.SIGKILL
    assert standing().state == "interrupted"

    check("99.2", None)
    told = "the last check of 99.1 was interrupted (kernel stopped?); run it again"
    assert capsys.readouterr().out.splitlines()[0] == told
    check("99.1", double)
    assert told not in capsys.readouterr().out
    assert standing().state == "passed"


def test_a_check_running_in_another_kernel_is_not_called_interrupted(work, capsys):
    waits = "import sys\ndef waits(value):\n    print('now', flush=True)\n    return sys.stdin.read()\n"
    kernel = in_another_kernel(work, waits + "check('99.1', waits)", stdin=subprocess.PIPE)
    try:
        assert kernel.stdout.readline() == "now\n"
        check("99.2", None)
        assert "interrupted" not in capsys.readouterr().out
        assert standing().state == "checking now"
    finally:
        kernel.communicate("")
    assert standing().state == "failed"


def test_a_check_is_interrupted_even_if_a_younger_process_has_its_kernel_s_number(work):
    progress.record("99.1", "started", run="a")
    (event,) = progress.read()
    young = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    old = dataclasses.replace(event, pid=young.pid, at="2026-01-01T00:00:00+00:00")
    now = dataclasses.replace(event, pid=young.pid, at="2126-01-01T00:00:00+00:00")

    try:
        assert progress.interrupted([old, now]) == [old]
    finally:
        young.communicate("")


def test_a_folder_that_cannot_exist_is_told_once_with_the_remedy(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "file" / "work"))

    assert check("99.1", double).outcome == "passed"

    out = capsys.readouterr().out
    assert "allow writing there, or set COURSE_WORK to a folder of yours" in out
    assert "saved with your next check (2 waiting)" in out
    assert out.count("could not be saved") == 1
    assert standing().state == "passed"


def test_with_a_full_disk_events_wait_in_memory_and_are_saved_later(work, capsys, monkeypatch):
    check("99.2", None)
    monkeypatch.setattr(store, "PRAGMAS", ("PRAGMA max_page_count=1",))  # SQLite then reports a full disk
    source = "x = 1\n" * 2000
    progress.record("99.1", "finished", outcome="failed", source=source)
    check("99.1", double)

    out = capsys.readouterr().out
    assert "the disk is full: free some space" in out
    assert "(3 waiting)" in out
    assert standing().state == "passed"
    assert len(stored(work)) == 2

    monkeypatch.setattr(store, "PRAGMAS", ())
    check("99.2", None)
    assert "could not" not in capsys.readouterr().out
    assert len(stored(work)) == 7
    assert progress.last_source(progress.read(), "99.1")


def damaged(whole, at):
    return bytes(byte ^ 0xFF if number == at else byte for number, byte in enumerate(whole))


DAMAGES = {
    "not a database": lambda whole: b"this is not a database" * 300,
    "torn": lambda whole: whole[:4096] + b"\xff" * 8192,
    "a byte of a text": lambda whole: damaged(whole, whole.rindex(b"Two becomes")),
    "a byte of the schema": lambda whole: damaged(whole, whole.index(b"exercise TEXT")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_moved_aside_and_never_deleted(work, capsys, damage):
    check("99.2", None)
    check("99.1", lambda value: 5)
    before = DAMAGES[damage]((work / FILE_NAME).read_bytes())
    (work / FILE_NAME).write_bytes(before)

    check("99.1", double)

    (aside,) = work.glob(f"{FILE_NAME}.damaged-*")
    assert aside.read_bytes()[:100] == before[:100]
    assert f"was damaged; it is kept as {aside}, and a new one was begun" in capsys.readouterr().out
    assert standing().state == "passed"
    if damage == "a byte of a text":
        assert ("99.2", "started", "") in stored(work), "the rest was not taken over"


def test_wherever_a_byte_is_flipped_progress_goes_on(work, monkeypatch):
    monkeypatch.setattr(store, "PRAGMAS", ("PRAGMA synchronous=OFF",))
    for _ in range(3):
        progress.record("99.1", "finished", outcome="failed", checked="Two becomes four", source="x" * 900)
    whole = (work / FILE_NAME).read_bytes()
    for at in range(0, len(whole), 211):
        (work / FILE_NAME).write_bytes(damaged(whole, at))

        progress.record("99.2", "hint", outcome="1")
        progress.export()

        aside = list(work.glob(f"{FILE_NAME}.damaged-*"))
        assert bool(aside) == any("damaged" in note for note in progress.notes()), at
        assert standing("99.2").hints == 1 or aside, at
        for path in aside:
            path.unlink()


def test_a_file_held_by_another_program_is_told_and_cannot_be_exported(work, capsys, monkeypatch):
    check("99.1", double)
    monkeypatch.setattr(store, "BUSY_WAIT_S", 0.05)
    with closing(sqlite3.connect(work / FILE_NAME)) as other:
        other.execute("BEGIN EXCLUSIVE")
        check("99.1", double)
        with pytest.raises(ProgressError, match="another kernel has held the file"):
            progress.export()

    assert "another kernel has held the file" in capsys.readouterr().out
    assert standing().attempts == 2


def test_the_export_is_small_and_names_nobody(work):
    def secret_name(value):
        return "Ada Lovelace"

    check("99.1", secret_name)
    hint("99.1")
    solution("99.1")

    exported = progress.export()

    assert exported["schema"] == 1
    assert exported["exercises"]["99.1"] == {
        "state": "failed", "attempts": 1, "hints": 1, "solution_asked": True, "solution_shown": False,
        "stuck_on": {"Two becomes four": 1},
    }  # fmt: skip
    assert not [word for word in ("Ada", "secret", str(work), "tmp", "def ") if word in json.dumps(exported)]


@pytest.fixture
def observe(monkeypatch):
    monkeypatch.setattr(progress, "_observers", [])
    return progress.subscribe


def test_observers_hear_of_every_event_and_a_broken_one_breaks_no_check(capsys, observe):
    heard = []
    observe(lambda: 1 / 0)
    observe(lambda: heard.append(1))

    assert check("99.1", double).outcome == "passed"
    assert len(heard) == 2
    assert "a progress board could not be redrawn: ZeroDivisionError" in capsys.readouterr().out


def test_a_read_only_file_is_told_and_read_also_where_a_board_reads_it(work, capsys, monkeypatch, observe):
    observe(progress.read)
    monkeypatch.setattr(store, "PRAGMAS", ("PRAGMA query_only=ON",))
    check("99.2", None)
    monkeypatch.setattr(store, "PRAGMAS", ())
    progress.record("99.2", "hint", outcome="1")
    monkeypatch.setattr(store, "PRAGMAS", ("PRAGMA query_only=ON",))
    capsys.readouterr()

    check("99.1", double)

    assert "the folder is read-only" in capsys.readouterr().out
    assert standing("99.2").hints == 1
