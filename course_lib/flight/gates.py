"""The chapter's quality gates as figures: coverage, reliability of tests, security findings, a benchmark.

Main path: measured_gates() -> a Gate each, in some ten seconds. `course flight` puts them on the scorecard; a
notebook gives them, or figures of a project of its own, to flight_lab(gates=...). They are measured as in
lesson 04, part 7: the tests of gate_tests.py run in a process of their own, each five times, with faults.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from course_lib import desk, lm
from course_lib.errors import CourseError
from course_lib.flight.result import Gate
from course_lib.paths import ROOT

COVERED, MOST_ABOVE = 90.0, 1.1
"""Percent of lines and branches; a benchmark may be so much above its baseline."""
BASELINE = {"requests": 1.0, "tokens": 1566.0}
"""For an answer of desk.Answer: counted when it was released. Seconds would tell more of the machine."""
_TESTS, _OF = Path(__file__).with_name("gate_tests.py"), "course_lib.desk.programs"
_TIME_S, _QUESTIONS = 120.0, 8


class GateError(CourseError):
    """The gates could not be measured."""


def measured_gates() -> list[Gate]:
    """Run the tests of the desk's programs, and the benchmark of desk.Answer.

    Raises:
        GateError: pytest or pytest-cov is missing, found no test or had no end.
    """
    with tempfile.TemporaryDirectory(prefix="course-gates-") as folder:
        outcomes, covered = _run(_TESTS, _OF, Path(folder))
    same = [test for test, each in outcomes.items() if each == {"PASSED"}]
    unsafe = [test for test, each in outcomes.items() if "security" in test and each != {"PASSED"}]
    figures = _benchmark()
    told = ", ".join(f"{figures[name]:.4g} {name}" for name in BASELINE)
    baseline = ", ".join(f"{each:.4g} {name}" for name, each in BASELINE.items())
    is_fast = all(figures[name] <= MOST_ABOVE * each for name, each in BASELINE.items())
    return [
        Gate("coverage", f"at least {COVERED:.0f} %", f"{covered:.0f} % of {_OF}", covered >= COVERED),
        Gate(
            "reliability of tests",
            "each passes in each of 5 runs",
            f"{len(same)} of {len(outcomes)} do",
            len(same) == len(outcomes),
        ),
        Gate("benchmark, for an answer", f"at most a tenth above {baseline}", told, is_fast),
        Gate("security", "no finding", f"{len(unsafe)} findings", not unsafe),
    ]


def _run(tests: Path, of: str, folder: Path) -> tuple[dict[str, set[str]], float]:
    """Return the outcomes of each test, whose first parameter is the run, and how much of `of` is covered."""
    report = folder / "coverage.json"
    options = ["-q", "-rA", "--tb=no", "--color=no", "-c", os.devnull, "--rootdir", str(folder)]
    plugins = [
        "--disable-plugin-autoload",
        *(f"-p{each}" for each in ("pytest_cov", "course_lib.lm.testing")),
    ]
    coverage = [f"--cov={of}", "--cov-branch", f"--cov-report=json:{report}"]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": paths, "COVERAGE_FILE": str(folder / "coverage"), "COURSE_LM_URL": lm.url()}
    try:
        ran = subprocess.run(  # noqa: S603  (our own program)
            [sys.executable, "-m", "pytest", "-pno:cacheprovider", *options, *plugins, *coverage, str(tests)],
            env={**os.environ, **own, "DSPY_CACHEDIR": str(folder / "cache")},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIME_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        told = f"the tests of {tests.name} had no end within {_TIME_S:.0f} s"
        raise GateError(f"{told}; measure again when the machine is less busy") from None
    outcomes: dict[str, set[str]] = defaultdict(set)
    for line in ran.stdout.splitlines():
        outcome, _, test = line.partition(" ")
        if outcome in ("PASSED", "FAILED", "ERROR") and "::" in test:
            name, _, parameters = test.partition("::")[2].partition(" - ")[0].partition("[")
            outcomes["-".join([name, *parameters.rstrip("]").split("-")[1:]])].add(outcome)
    if not outcomes or not report.exists():
        last = (ran.stderr or ran.stdout).strip().splitlines()[-1:] or ["nothing"]
        raise GateError(f"the tests of {tests.name} did not run, with pytest and pytest-cov; said: {last[0]}")
    return outcomes, json.loads(report.read_text("utf-8"))["totals"]["percent_covered"]


def _benchmark() -> dict[str, float]:
    """Return requests and tokens for an answer."""
    import dspy

    since, program = lm.ledger().requests, desk.Answer()
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        for ticket in desk.tickets("dev")[:_QUESTIONS]:
            program(question=ticket.text)
    seen = lm.ledger(since)
    tokens = seen.prompt_tokens + seen.completion_tokens
    return {"requests": seen.requests / _QUESTIONS, "tokens": tokens / _QUESTIONS}
