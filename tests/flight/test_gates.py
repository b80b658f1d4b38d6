"""The quality gates measure: what is not reliable, not covered or not safe shows in their figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.flight import gates

MODULE = """
def half(number):
    if number > 1:
        return number / 2
    return 0
"""
SHAKY = """
import pytest
from own_module import half

@pytest.fixture(autouse=True, params=range(3))
def run(request):
    return request.param

@pytest.mark.parametrize("case", ["a", "b"])
def test_steady(case):
    assert half(4) == 2

def test_shaky(run):
    assert run != 1

def test_security_hole():
    assert False
"""


def test_the_desk_s_own_gates_hold():
    """Runs 40 tests, some with faults, in ten seconds."""
    measured = gates.measured_gates()

    assert [each.name for each in measured if not each.holds] == []
    assert [each.name for each in measured] == [
        "coverage",
        "reliability of tests",
        "benchmark, for an answer",
        "security",
    ]


def test_each_test_is_counted_once_with_all_that_became_of_it(tmp_path: Path):
    """Runs pytest in a process of its own."""
    tests = tmp_path / "shaky_tests.py"
    tests.write_text(SHAKY)
    (tmp_path / "own_module.py").write_text(MODULE)

    outcomes, covered = gates._run(tests, "own_module", tmp_path)

    assert outcomes == {
        "test_steady-a": {"PASSED"},
        "test_steady-b": {"PASSED"},
        "test_shaky": {"PASSED", "FAILED"},
        "test_security_hole": {"FAILED"},
    }
    assert 50 < covered < 90, "one line and one branch of it were not run"


def test_tests_that_do_not_run_are_told(tmp_path: Path):
    tests = tmp_path / "broken_tests.py"
    tests.write_text("import no_such_module\n")

    with pytest.raises(gates.GateError, match=r"broken_tests\.py did not run"):
        gates._run(tests, "course_lib.errors", tmp_path)


def test_tests_without_an_end_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tests = tmp_path / "endless_tests.py"
    tests.write_text("import time\ntime.sleep(1_000)\n")
    monkeypatch.setattr(gates, "_TIME_S", 0.5)

    with pytest.raises(gates.GateError, match=r"endless_tests\.py had no end"):
        gates._run(tests, "course_lib.errors", tmp_path)
