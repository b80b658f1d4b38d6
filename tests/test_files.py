"""A whole-file write is all or nothing."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from course_lib.files import FileError, appending, check_place, lock_folder, write_whole


def test_a_file_is_written_with_its_folder_and_keeps_its_permissions(tmp_path: Path):
    path = tmp_path / "a" / "b.txt"

    write_whole(path, "old\n")
    path.chmod(0o600)
    write_whole(path, "new\n")

    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_fills_up_leaves_the_old_file_and_no_scrap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "b.txt"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(FileError, match="No space left on device; nothing was changed"):
        write_whole(path, "new")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_into_and_a_link_stays_one(tmp_path: Path):
    """A rename over /dev/null would take it from the whole machine."""
    pipe, link, linked = tmp_path / "pipe", tmp_path / "link", tmp_path / "there" / "linked"
    os.mkfifo(pipe)
    link.symlink_to(linked)

    with ThreadPoolExecutor(1) as thread:
        read = thread.submit(pipe.read_text)
        write_whole(pipe, "told")
        write_whole(link, "told too")

        assert read.result() == "told"
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert linked.read_text() == "told too"


def test_a_place_that_cannot_be_written_is_told_before(tmp_path: Path):
    (tmp_path / "file").write_text("old")

    check_place(tmp_path / "new" / "file")
    check_place(Path(os.devnull))
    for path in (tmp_path / "file" / "below", tmp_path):
        with pytest.raises(FileError, match="could not write"):
            check_place(path)

    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["file"]


def test_who_appends_writes_to_the_file_that_is_there_also_when_it_was_just_replaced(tmp_path: Path):
    path = tmp_path / "log"
    with path.open("w+") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as thread:
            appending_later = thread.submit(append, path, b"new\n")
            write_whole(path, "replaced\n")
            fcntl.flock(old, fcntl.LOCK_UN)
            appending_later.result()

        assert (path.read_text(), old.read()) == ("replaced\nnew\n", "")


def append(path: Path, line: bytes) -> None:
    with appending(path, mode=0o600) as file:
        file.write(line)


def test_a_new_file_is_for_whom_the_mode_says(tmp_path: Path):
    append(tmp_path / "log", b"line\n")

    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_locked_folder_keeps_others_out(tmp_path: Path):
    seen = []

    def enter() -> None:
        with lock_folder(tmp_path):
            seen.append("second")

    with ThreadPoolExecutor(1) as thread:
        with lock_folder(tmp_path):
            waiting = thread.submit(enter)
            seen.append("first")
        waiting.result()

    assert seen == ["first", "second"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize(
    "lock", [lambda folder: appending(folder / "log"), lock_folder], ids=["file", "folder"]
)
def test_a_child_that_was_forked_meanwhile_keeps_no_lock(tmp_path: Path, lock: Callable[[Path], Any]):
    with lock(tmp_path):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        for path in tmp_path, *tmp_path.iterdir():
            handle = os.open(path, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(handle)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
