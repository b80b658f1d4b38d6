"""The image file: a linter passes it, it installs what the lock file pins, and it takes in nothing secret."""

from __future__ import annotations

import re
import subprocess

import pytest
from packaging.utils import canonicalize_name

from course_lib.doctor import locked_versions
from course_lib.paths import ROOT
from tests.deploy.manifests import DOCKERFILE, LISTED, script

TEXT = DOCKERFILE.read_text()


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    command = [script("hadolint"), "--no-color", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


def test_a_linter_passes_it():
    assert hadolint(TEXT).stdout == ""


@pytest.mark.parametrize(
    ("found", "planted", "rule"),
    [
        ("FROM python:3.12.12-slim-bookworm\n", "FROM python:latest\n", "DL3007"),
        ("USER 10001:10001", "USER root", "DL3002"),
        ("WORKDIR /course\nCOPY pyproject", "WORKDIR course\nCOPY pyproject", "DL3000"),
    ],
)
def test_the_linter_refuses_a_mistake(found: str, planted: str, rule: str):
    assert TEXT.count(found) == 1

    assert rule in hadolint(TEXT.replace(found, planted)).stdout


def test_it_installs_what_the_tests_ran_with_by_its_hashes():
    locked = locked_versions()

    assert [each.name for each in LISTED if locked[canonicalize_name(each.name)] not in each.specifier] == []
    assert all(str(each.specifier).startswith("==") for each in LISTED)
    assert "--require-hashes" in TEXT
    assert f"/uv:{locked['uv']} " in TEXT


def test_it_is_built_from_named_paths_alone_and_no_secret_is_among_them():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE)

    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(" ".join(copied).split())
    assert not re.search(r"^(ARG|ENV).*(SECRET|KEY|PASSWORD|TOKEN)", TEXT, re.MULTILINE | re.IGNORECASE)


def test_it_runs_as_an_ordinary_user_and_says_whether_it_lives():
    assert int(re.search(r"^USER (\d+):\d+$", TEXT, re.MULTILINE)[1]) >= 10_000
    assert "/health/live" in re.search(r"^HEALTHCHECK.*?\n.*", TEXT, re.MULTILINE)[0]
