"""The three places that name dependencies agree, and none of them names a host."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course_lib.authoring import wheels
from course_lib.doctor import locked_versions
from course_lib.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
CONDA = (ROOT / "environment.yml").read_text()
CONDA_PINS = dict(re.findall(r"^      - ([\w.-]+)(?:\[[\w,]+\])?==(\S+)", CONDA, flags=re.MULTILINE))


def test_environment_yml_names_the_dependencies_of_pyproject_and_no_others():
    by_conda_itself = {"pip"}
    by_course_setup = {wheels.WEIGHTS}

    assert set(CONDA_PINS) | by_conda_itself | by_course_setup == {wanted.name for wanted in WANTED}


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
def test_the_locked_version_is_one_that_pyproject_admits_and_the_one_of_environment_yml(wanted: Requirement):
    if wanted.marker is not None and not wanted.marker.evaluate():
        pytest.skip("not needed on this system")
    version = locked_versions()[canonicalize_name(wanted.name)]

    assert wanted.specifier.contains(version)
    assert CONDA_PINS.get(wanted.name, version) == version


def test_the_same_pythons_are_named_everywhere():
    assert f"python {PROJECT['requires-python']}" in CONDA


@pytest.mark.parametrize(
    "name", ["requirements.lock", "environment.yml", "pyproject.toml", "Makefile", ".ci/run"]
)
def test_no_file_that_installs_names_a_host(name: str):
    assert not re.search(r"https?://", (ROOT / name).read_text())


def test_every_locked_package_carries_a_hash():
    blocks = re.split(r"^(?=\w)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)[1:]

    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
