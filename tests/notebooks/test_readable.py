"""Every notebook can be read by everyone, and is pleasant to read."""

from __future__ import annotations

import nbformat
import pytest

from course_lib.authoring import readable
from tests.notebooks import shipped


@pytest.mark.parametrize("path", [*shipped.LEARNER, *shipped.SOLVED], ids=shipped.name)
def test_a_notebook_is_accessible(path):
    findings = readable.findings(nbformat.read(path, as_version=4))

    assert "\n".join(map(str, findings)) == ""


@pytest.mark.parametrize("path", shipped.LEARNER, ids=shipped.name)
def test_a_learner_s_notebook_has_good_form(path):
    findings = readable.form_findings(nbformat.read(path, as_version=4))

    assert "\n".join(map(str, findings)) == ""
