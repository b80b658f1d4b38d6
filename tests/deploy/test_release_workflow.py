"""The workflow of a release: its gates stand before the image, and what it runs is there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from course_lib.cli import app
from course_lib.paths import ROOT

WORKFLOWS = {
    path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")
}
RELEASE = WORKFLOWS["release.yml"]
RUNS = [
    line
    for workflow in WORKFLOWS.values()
    for job in workflow["jobs"].values()
    for step in job.get("steps", [])
    for line in step.get("run", "").splitlines()
]
GROUPS = {group.name or group.typer_instance.info.name for group in app.registered_groups}
COMMANDS = {each.name or each.callback.__name__ for each in app.registered_commands} | GROUPS


def test_every_job_ends_and_every_need_is_a_job():
    for workflow in WORKFLOWS.values():
        assert {"on", True} & set(workflow)  # YAML reads `on` as a boolean
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            needs = job.get("needs", [])
            assert set([needs] if isinstance(needs, str) else needs) <= set(workflow["jobs"])
            assert "uses" in job or job["timeout-minutes"] > 0


def test_every_action_is_named_by_a_version():
    used = [
        step["uses"] for job in RELEASE["jobs"].values() for step in job.get("steps", []) if "uses" in step
    ]

    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", each) for each in used)


@pytest.mark.parametrize("line", RUNS)
def test_what_is_run_is_there(line: str):
    first, *rest = line.split()
    if first == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif "course_lib.cli" in rest:
        assert rest[rest.index("course_lib.cli") + 1] in COMMANDS
    elif first == "bash":
        assert (ROOT / rest[0]).exists()


def test_no_image_without_both_gates():
    image, tests, evaluation = (RELEASE["jobs"][name] for name in ("image", "tests", "evaluation"))

    assert image["needs"] == ["tests", "evaluation"]
    called = WORKFLOWS[Path(tests["uses"]).name]
    assert "workflow_call" in called.get("on", called.get(True))
    assert "bash .ci/run" in [step.get("run") for step in called["jobs"]["test"]["steps"]]
    assert any("release check" in step.get("run", "") for step in evaluation["steps"])
    assert [name for name, job in RELEASE["jobs"].items() if "packages" in job.get("permissions", {})] == [
        "image"
    ]


def test_manifests_name_the_image_by_its_digest():
    line = next(line for line in RUNS if "sed" in line).partition(" > ")[0]
    values = {"IMAGE": "ghcr.io/somebody/desk", "DIGEST": f"sha256:{'0' * 64}", "PATH": os.defpath}

    told = subprocess.run(line, shell=True, cwd=ROOT, env=values, capture_output=True, text=True, check=True)

    images = re.findall(r"image: (\S+)", told.stdout)
    assert len(images) == 3
    assert set(images) == {f"{values['IMAGE']}@{values['DIGEST']}"}
