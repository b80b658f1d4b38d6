"""What the documents say of the project is so: minutes, targets of make, files, rooms and their budgets."""

from __future__ import annotations

import re

import pytest

from course_lib.authoring.reading import read_all
from course_lib.exercises.engine import registry
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
MOST_CORE = {"05_deployment": 147, "06_exercises": 240}
"""Minutes of a core path that is longer than the others': a section in two halves, and seven projects."""
HEADING = re.compile(r"^### (?:Exercise|Stage) ([\d.]+):.*\((\d+) minutes", re.MULTILINE)
PART = re.compile(r"^\| (\d+\. |)(Deeper|).*? \| (\d+) \|$", re.MULTILINE)


def parts(lesson):
    """Return the rows of a lesson's first table: the line, whether it is a deeper part, its minutes."""
    rows = PART.finditer(next(cell.source for cell in lesson.cells if cell.name == "title"))
    return [(row[0], bool(row[2]), int(row[3])) for row in rows]


@pytest.mark.parametrize("lesson", read_all(LESSONS), ids=lambda lesson: lesson.name)
def test_a_lesson_s_minutes_add_up_and_the_readme_says_them(lesson):
    core = sum(minutes for _, is_deeper, minutes in parts(lesson) if not is_deeper)
    deeper = sum(minutes for _, is_deeper, minutes in parts(lesson) if is_deeper)
    said = f"{core} + {deeper}" if deeper else str(core)

    assert core <= MOST_CORE.get(lesson.name, 90)
    assert f" | {said} |" in next(line for line in README.splitlines() if f"`{lesson.name}`" in line)
    for line, _, minutes in parts(lesson):
        assert minutes >= sum(registry.get(each).minutes for each in re.findall(r"\d(?:\.\d)+", line)), line
    for cell in lesson.cells:
        for each, said in HEADING.findall(cell.source):
            assert registry.get(each).minutes == int(said), each


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(path):
    text = path.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]

    assert {*re.findall(r"`make ([a-z]+)", text)} - TARGETS == set()
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_maintainer_s_guide_has_every_room_with_its_budget():
    rows = dict(re.findall(r"^\| ([a-z, ]+) \| .* \| ([\d,]+) \|$", MAINTAINING, re.MULTILINE))

    assert rows == {room: f"{budget:,}" for layer in house.LAYERS for room, budget in layer.items()}
