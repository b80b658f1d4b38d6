"""The `course` command as a shell sees it: exit codes, one-line errors, help with an example."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib.cli import app

COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


def course(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "course_lib.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )


def test_every_command_of_the_foundation_is_there():
    assert COMMANDS == [
        "build", "diff", "doctor", "export", "lab", "lm", "proof", "reset", "setup", "update",
    ]  # fmt: skip


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda command: command.callback.__name__)
def test_every_command_has_help_with_an_example(command):
    assert "Example: " in command.callback.__doc__
    assert "course " in command.callback.__doc__


def test_help_does_not_pay_for_importing_dspy():
    code = "import sys, course_lib.cli; sys.exit('dspy' in sys.modules or 'jupyter_server' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_exercise_is_one_line_that_names_the_known_ones(work: Path):
    ended = course("reset", "9.9")

    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "9.9" in ended.stderr
    assert "0.1" in ended.stderr


def test_progress_is_exported_without_a_name_or_a_path(work: Path, tmp_path: Path):
    to = tmp_path / "mine.json"

    ended = course("export", str(to))

    assert ended.returncode == 0, ended.stderr
    text = to.read_text()
    assert isinstance(json.loads(text), dict)
    assert str(Path.home()) not in text


def test_an_export_to_a_place_that_cannot_be_written_says_so_and_leaves_nothing(work: Path, tmp_path: Path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")

    ended = course("export", str(blocker / "mine.json"))

    assert ended.returncode == 1
    assert ended.stderr.startswith("course: could not write")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_port_in_use_is_said_with_the_remedy():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        ended = course("lm", "--port", str(port))

    assert ended.returncode == 1
    assert str(port) in ended.stderr
    assert "--port" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_set_up_makes_copies_once_and_never_overwrites(work: Path):
    assert course("setup").returncode == 0
    notebook = work / "00_start_here.ipynb"
    mine = notebook.read_text() + "\n"
    notebook.write_text(mine)

    ended = course("setup")

    assert ended.returncode == 0
    assert notebook.read_text() == mine
    assert re.search(r"Set up\. Your notebooks are in .*work\.", ended.stdout)
