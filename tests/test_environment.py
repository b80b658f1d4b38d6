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
    by_course_setup = set(wheels.DATA_ONLY)

    assert set(CONDA_PINS) | by_conda_itself | by_course_setup == {wanted.name for wanted in WANTED}


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
def test_the_locked_version_is_one_that_pyproject_admits(wanted: Requirement):
    if wanted.marker is not None and not wanted.marker.evaluate():
        pytest.skip("not needed on this system")

    assert wanted.specifier.contains(locked_versions()[canonicalize_name(wanted.name)])


@pytest.mark.parametrize("name", sorted(CONDA_PINS))
def test_environment_yml_pins_the_locked_version(name: str):
    locked = locked_versions()
    if canonicalize_name(name) not in locked:
        pytest.skip("not needed on this system")

    assert CONDA_PINS[name] == locked[canonicalize_name(name)]


def test_the_same_pythons_are_named_everywhere():
    assert f"python {PROJECT['requires-python']}" in CONDA


@pytest.mark.parametrize(
    "name", ["requirements.lock", "environment.yml", "pyproject.toml", "Makefile", ".ci/run"]
)
def test_no_file_that_installs_names_a_host(name: str):
    assert not re.search(r"https?://", (ROOT / name).read_text())


def test_every_locked_package_carries_a_hash():
    text = (ROOT / "requirements.lock").read_text()

    for block in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]
