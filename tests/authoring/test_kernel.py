from __future__ import annotations

import json
import sys

import pytest

from course_lib.authoring import kernel
from course_lib.authoring.errors import KernelSetupError


def test_the_kernel_runs_this_python_under_the_course_s_name(tmp_path):
    folder = kernel.install(tmp_path)

    spec = json.loads((folder / "kernel.json").read_text("utf-8"))
    assert folder.name == "advanced-dspy"
    assert spec["argv"][0] == sys.executable
    assert spec["display_name"] == "Advanced DSPy"


def test_installing_again_writes_nothing(tmp_path):
    file = kernel.install(tmp_path) / "kernel.json"
    before = file.stat()

    kernel.install(tmp_path)

    assert file.stat().st_ino == before.st_ino


def test_a_kernel_of_another_environment_is_replaced(tmp_path):
    file = kernel.install(tmp_path) / "kernel.json"
    file.write_text("{}", "utf-8")

    kernel.install(tmp_path)

    assert json.loads(file.read_text("utf-8"))["argv"]


def test_a_place_that_cannot_be_written_names_the_remedy(tmp_path):
    (tmp_path / "share").write_text("a file where a folder should be", "utf-8")

    with pytest.raises(KernelSetupError, match=r"kernel 'advanced-dspy'.*then run: make setup"):
        kernel.install(tmp_path)
