from __future__ import annotations

import json
import sys

import pytest

from course_lib.authoring import kernel
from course_lib.files import FileError


def test_the_kernel_runs_this_python_under_the_course_s_name_and_is_written_once(tmp_path):
    file = kernel.install(tmp_path) / "kernel.json"
    before = file.stat().st_ino

    spec = json.loads(file.read_text("utf-8"))
    assert (file.parent.name, spec["display_name"]) == ("advanced-dspy", "Advanced DSPy")
    assert spec["argv"][0] == sys.executable
    assert kernel.install(tmp_path) == file.parent
    assert file.stat().st_ino == before

    file.write_text("{}", "utf-8")  # another environment's
    kernel.install(tmp_path)
    assert json.loads(file.read_text("utf-8")) == spec


def test_a_place_that_cannot_be_written_names_the_remedy(tmp_path):
    (tmp_path / "share").write_text("a file where a folder should be", "utf-8")

    with pytest.raises(FileError, match=r"advanced-dspy/kernel.json: .* make the folder writable"):
        kernel.install(tmp_path)
