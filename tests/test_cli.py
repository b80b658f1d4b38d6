"""The `course` command as a shell sees it: exit codes, one-line errors, help with an example."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from course_lib import desk
from course_lib.cli import app
from course_lib.deployment import RegistryError

COMMANDS = {each.name or each.callback.__name__: each for each in app.registered_commands} | {
    f"{group.name or group.typer_instance.info.name} {each.name or each.callback.__name__}": each
    for group in app.registered_groups
    for each in group.typer_instance.registered_commands
}
EXAMPLE = r"Example: (git pull && |[A-Z_]+=\S+ )*course "


def course(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "course_lib.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_every_command_has_help_with_an_example():
    learner, maintainer = "diff doctor export flight lab lm reset setup update", "build proof"
    service = "audit-verify config-check replica revive serve worker"
    releases = " ".join(f"release-{each}" for each in ["register", "status", "check", "promote", "rollback"])
    known = f"{learner} {maintainer} {service} {releases}"
    assert sorted(name.replace(" ", "-") for name in COMMANDS) == sorted(known.split())
    for name, command in COMMANDS.items():
        assert re.search(f"{EXAMPLE}{name}", " ".join(command.callback.__doc__.split())), name


def test_progress_is_exported_to_the_learner_s_folder_without_a_name_or_a_path(work: Path):
    ended = course("export")

    assert ended.returncode == 0, ended.stderr
    exported = (work / "progress.json").read_text()
    assert str(work / "progress.json") in ended.stdout
    assert isinstance(json.loads(exported), dict)
    assert str(Path.home()) not in exported


def test_an_error_of_ours_is_one_line_with_what_and_remedy(work: Path, tmp_path: Path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        commands = {
            ("lm", "--port", port): (port, "--port"),
            ("reset", "9.9"): ("9.9", "0.1"),  # what was asked, what is there
            ("export", str(blocker / "mine.json")): ("could not write", "nothing was changed"),
        }

        for words, expected in commands.items():
            ended = course(*words)

            assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
            assert ended.stderr.startswith("course: ")
            assert all(word in ended.stderr for word in expected), ended.stderr
    assert [path.name for path in tmp_path.iterdir() if path != work] == ["file"]


def test_set_up_makes_copies_once_and_never_overwrites(work: Path):
    assert course("setup").returncode == 0
    notebook = work / "00_start_here.ipynb"
    mine = notebook.read_text() + "\n"
    notebook.write_text(mine)

    ended = course("setup")

    assert notebook.read_text() == mine
    assert re.search(r"Set up\. Your notebooks are in .*work\.", ended.stdout), ended.stderr


def test_a_release_is_gated_by_an_exit_code(tmp_path: Path):
    """Sixty tickets are sorted, which takes three seconds."""
    versions = {"1": "", "worse": "\nChoose warranty if unsure."}
    folder = ("--folder", str(tmp_path / "programs"))
    runner = CliRunner()
    for version, words in versions.items():
        program = desk.Triage()
        instructions = program.sort.signature.instructions + words
        program.sort.signature = program.sort.signature.with_instructions(instructions)
        program.save(str(tmp_path / f"{version}.json"))
        command = ["release", "register", "triage", version, str(tmp_path / f"{version}.json"), *folder]
        assert runner.invoke(app, command).exit_code == 0

    first = runner.invoke(app, ["release", "promote", "triage", "1", *folder])
    refused = runner.invoke(app, ["release", "check", "triage", "worse", *folder])
    undecided = runner.invoke(app, ["release", "check", "triage", "1", *folder])
    unknown = runner.invoke(app, ["release", "check", "triage", "9", *folder])

    assert re.search(r"1 +live +by hand\nworse +candidate", first.output)
    assert (refused.exit_code, undecided.exit_code) == (1, 3)
    assert "triage worse: refuse; it is worse" in refused.output
    assert isinstance(unknown.exception, RegistryError)


def test_a_flight_with_a_wrong_argument_ends_with_2_and_says_which(tmp_path: Path):
    """The last one starts a process that imports DSPy."""
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"question": "a"}')
    commands = {
        ("--program", "a:B"): "go together",
        ("--seed", "-1"): "--seed",
        ("--html", str(tmp_path)): "is a directory",
        ("--json", str(lines / "flown.json")): "could not write",
        ("--program", "a:B", "--inputs", str(tmp_path / "none")): "cannot be read",
        ("--program", "a:B", "--inputs", str(lines), "--certificate", "c"): "leave out --program",
        ("--program", "no_such:B", "--inputs", str(lines)): "no module 'no_such'",
    }

    for words, expected in commands.items():
        ended = CliRunner().invoke(app, ["flight", *words])

        assert ended.exit_code == 2, ended.output
        assert expected in " ".join(ended.output.replace("\u2502", " ").split()), ended.output


@pytest.mark.soak
def test_a_flight_ends_with_0_when_every_level_holds_and_writes_its_files(work: Path, tmp_path: Path):
    """Flies the whole of it, some two minutes."""
    names = {"--json": "flown.json", "--html": "scorecard.html", "--certificate": "certificate.html"}
    options = [word for option, name in names.items() for word in (option, str(tmp_path / name))]

    ended = CliRunner().invoke(app, ["flight", *options, "--name", "Ada"])

    assert ended.exit_code == 0, ended.output
    assert sorted(path.name for path in tmp_path.iterdir() if path != work) == sorted(names.values())
    assert json.loads((tmp_path / "flown.json").read_text())["holds"] is True
    assert "Ada" in (tmp_path / "certificate.html").read_text()
    assert "All 9 service levels hold, and all 4 quality gates." in ended.output
