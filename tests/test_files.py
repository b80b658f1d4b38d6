"""A whole-file write is all or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from course_lib.files import FileError, write_whole


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
