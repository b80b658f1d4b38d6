"""Every notebook can be read by everyone, and is pleasant to read."""

from __future__ import annotations

import re

import nbformat
import pytest

from tests.notebooks import readable, shipped


@pytest.mark.parametrize("path", [*shipped.LEARNER, *shipped.SOLVED], ids=shipped.name)
def test_a_notebook_is_accessible(path):
    assert readable.findings(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("path", shipped.LEARNER, ids=shipped.name)
def test_a_learner_s_notebook_has_good_form(path):
    assert readable.form_findings(nbformat.read(path, as_version=4)) == []


LINK = re.compile(r"\]\(([\w-]*(?:\.ipynb)?)#([^)]+)\)")
CELLS = {path.name: nbformat.read(path, as_version=4).cells for path in shipped.LEARNER}


def anchors(name):
    """Return what JupyterLab lets one link to: each heading, with hyphens for blanks."""
    texts = [cell.source for cell in CELLS.get(name, ()) if cell.cell_type == "markdown"]
    return {
        line.lstrip("#").strip().replace(" ", "-")
        for text in texts
        for line in text.split("\n")
        if line[:1] == "#"
    }


@pytest.mark.parametrize("name", CELLS)
def test_each_link_to_a_heading_leads_there(name):
    links = [
        found for cell in CELLS[name] if cell.cell_type == "markdown" for found in LINK.findall(cell.source)
    ]

    assert [link for link in links if link[1] not in anchors(link[0] or name)] == []


def test_the_index_of_the_chapter_leads_to_every_notebook_that_is_there():
    (index,) = [
        cell.source for cell in CELLS["00_start_here.ipynb"] if "### An index of the chapter" in cell.source
    ]

    assert {target for target, _ in LINK.findall(index)} - {""} == set(CELLS) - {"00_start_here.ipynb"}
