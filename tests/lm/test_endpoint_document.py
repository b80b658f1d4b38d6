"""What docs/endpoint.md shows is run, each block for itself, against `course lm`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from course_lib import lm
from course_lib.lm.conduct import _RULES
from course_lib.lm.endpoint.accounts import MAX_CALLS
from course_lib.lm.profiles import FAULTS, PROFILES
from course_lib.paths import ROOT

TEXT = (ROOT / "docs" / "endpoint.md").read_text("utf-8")
BLOCKS = dict(
    re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start `course lm` on a free port; returns where it answers."""
    command = [sys.executable, "-m", "course_lib.cli", "lm", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as alone:
        assert alone.stdout
        said = alone.stdout.readline() + alone.stdout.readline()
        yield re.findall(r"export COURSE_LM_URL=(http://127\.0\.0\.1:\d+/v1)", said)[0]
        alone.send_signal(signal.SIGINT)
        assert alone.wait(10) == 0


@pytest.mark.parametrize("title", BLOCKS)
def test_a_block_of_python_runs_and_what_it_asserts_holds(
    title: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_LM_URL", address)
    monkeypatch.setenv("COURSE_LM_KEY", f"document-{title}")

    exec(compile(BLOCKS[title], f"docs/endpoint.md: {title}", "exec"), {"__name__": "document"})

    assert lm.ledger().requests or "/course/reset" in BLOCKS[title]


def test_every_block_is_run_and_every_kind_profile_and_option_is_there() -> None:
    assert len(BLOCKS) == TEXT.count("```python") == 8
    for name in (*FAULTS, *PROFILES, *(kind for kind, _, _ in _RULES), "rate_limited", "--port", "--host"):
        assert f"`{name}`" in TEXT, name
    assert f"the last {MAX_CALLS} calls" in TEXT.replace("\n", " ")
