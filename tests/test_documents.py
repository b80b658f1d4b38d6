"""What the documents say of the project is so: minutes, targets of make, files, rooms and their budgets."""

from __future__ import annotations

import re

import pytest

from course_lib.authoring.reading import read_all
from course_lib.paths import LESSONS, ROOT
from tests import house

DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob(".github/**/*.md")),
]
README = (ROOT / "README.md").read_text("utf-8")
MAINTAINING = (ROOT / "docs" / "maintaining.md").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
PART = re.compile(r"^\| \d+\..* \| (\d+) \|$", re.MULTILINE)


@pytest.mark.parametrize("lesson", read_all(LESSONS), ids=lambda lesson: lesson.name)
def test_the_readme_says_a_lesson_s_minutes(lesson):
    minutes = sum(map(int, PART.findall("\n".join(cell.source for cell in lesson.cells))))

    assert re.search(rf"^\| `{lesson.name}` \| .* \| {minutes} \|$", README, re.MULTILINE), minutes


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(path):
    text = path.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]

    assert {*re.findall(r"`make ([a-z]+)", text)} - TARGETS == set()
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_maintainer_s_guide_has_every_room_with_its_budget():
    rows = dict(re.findall(r"^\| ([a-z, ]+) \| .* \| ([\d,]+) \|$", MAINTAINING, re.MULTILINE))

    assert rows == {room: f"{budget:,}" for layer in house.LAYERS for room, budget in layer.items()}
