"""What docs/endpoint.md shows is run, each block for itself, against `course lm`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from course_lib import lm
from course_lib.lm.conduct import _RULES
from course_lib.lm.endpoint.accounts import MAX_CALLS
from course_lib.lm.profiles import FAULTS, PROFILES
from course_lib.paths import ROOT
from tests.services.processes import running

TEXT = (ROOT / "docs" / "endpoint.md").read_text("utf-8")
BLOCKS = dict(
    re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start `course lm` on a free port; returns where it answers."""
    command = [sys.executable, "-m", "course_lib.cli", "lm", "--port", "0"]
    with running(command, stdout=subprocess.PIPE) as alone:
        assert alone.stdout
        said = alone.stdout.readline() + alone.stdout.readline()
        yield re.findall(r"export COURSE_LM_URL=(http://127\.0\.0\.1:\d+/v1)", said)[0]
        alone.send_signal(signal.SIGINT)
        assert alone.wait(10) == 0


@pytest.mark.parametrize("title", BLOCKS)
def test_a_block_of_python_runs_and_what_it_asserts_holds(
    title: str, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COURSE_LM_URL", address)
    monkeypatch.setenv("COURSE_LM_KEY", f"document-{title}")
    monkeypatch.chdir(tmp_path)

    exec(compile(BLOCKS[title], f"docs/endpoint.md: {title}", "exec"), {"__name__": "document"})

    assert lm.ledger().requests or "/course/reset" in BLOCKS[title]


def test_every_block_is_run_and_every_kind_profile_and_option_is_there() -> None:
    assert len(BLOCKS) == TEXT.count("```python") == 9
    for name in (
        *FAULTS,
        *PROFILES,
        *(kind for kind, _, _ in _RULES),
        "rate_limited",
        "--port",
        "--host",
        "--record",
        "--replay",
    ):
        assert f"`{name}`" in TEXT, name
    assert f"the last {MAX_CALLS} calls" in TEXT.replace("\n", " ")


def run_tests(folder: Path, tests: str, *options: str) -> str:
    """Run pytest in a project of a learner's own; return what it prints."""
    (folder / "conftest.py").write_text('pytest_plugins = ["course_lib.lm.testing"]\n')
    (folder / "test_mine.py").write_text(tests)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--basetemp={folder / 'tmp'}",
        *options,
        str(folder),
    ]
    alone = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # to load all takes a second
    env = {**os.environ, **alone}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False).stdout


def test_the_fixture_of_the_page_works_in_a_project_of_ones_own(tmp_path: Path) -> None:
    (tests,) = re.findall(r"^```pytest\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)

    assert "3 passed" in run_tests(tmp_path, tests)
    assert "3 passed" in run_tests(tmp_path, tests, "-p", "xdist", "-n", "2")


FAILING = """
import httpx

def ask(endpoint, model, count):
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}]}
    with httpx.Client(headers={"Authorization": f"Bearer {endpoint.key}"}) as http:
        return [http.post(f"{endpoint.url}/chat/completions", json=body).status_code for _ in range(count)]

def test_hasty(endpoint):
    ask(endpoint, endpoint.model("rate_limited", retry_after_s=9), 2)
    endpoint.assert_clean()

def test_other_statuses(endpoint):
    ask(endpoint, endpoint.model("error"), 1)
    endpoint.assert_requests(200)

def test_no_finding(endpoint):
    ask(endpoint, "sim-large", 1)
    endpoint.assert_finding("retry_storm")

def test_not_recorded(endpoint):
    with endpoint.record("run.jsonl"):
        ask(endpoint, "sim-large", 1)
    with endpoint.replay("run.jsonl"):
        ask(endpoint, "sim-small", 1)
"""


def test_what_the_fixture_asserts_fails_with_what_was_seen(tmp_path: Path) -> None:
    printed = run_tests(tmp_path, FAILING)

    assert "4 failed" in printed
    for words in (
        "retry_after_ignored (1): a request came again before it was allowed to",
        "the endpoint saw [500], not [200]",
        "no retry_storm among no findings",
        '+ model: "sim-small"',
    ):
        assert words in printed
