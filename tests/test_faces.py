"""Each room has a face: its `__init__` names what is public, and lessons import from there."""

from __future__ import annotations

import importlib
import re

import pytest

from course_lib.authoring.imports import Library, imported
from course_lib.authoring.reading import read
from course_lib.authoring.rules import parse
from course_lib.paths import LESSONS, ROOT

LIBRARY = Library(ROOT)
LESSON_FILES = sorted(LESSONS.glob("*.py"))
LEFT_BEHIND = ("desk",)
"""Rooms from whose modules lessons still import, until their faces have all the names."""
LEFT_UNNAMED = ("course_lib.adapters.data", "course_lib.adapters.tools")
"""Faces that do not yet name all that is public."""
SHADOWED = {"course_lib.lm.connect", "course_lib.lm.ledger"}
"""Functions that hide the module they come from; loaded at once, so that no order of imports matters."""


def room_of(module: str) -> str:
    return module.split(".")[1]


def imports_of(path) -> set[str]:
    """Return the full names that a lesson's cells import from the library, wrong answers included."""
    cells = [cell for cell in read(path).cells if cell.kind == "code"]
    names = {name for cell in cells for _, name in imported(parse(cell.source), path.stem)}
    return {name for name in names if name.split(".")[0] == "course_lib"}


def behind(name: str) -> str | None:
    """Return the module inside a room that an imported name belongs to, None when it is had from a face."""
    owner = name if name in LIBRARY.paths else name.rpartition(".")[0]
    is_face = owner.count(".") < 2 or LIBRARY.paths[owner].name == "__init__.py"
    return None if is_face else owner


def faces() -> list[str]:
    """Return the rooms, and the packages inside them that a lesson imports from."""
    rooms = {
        name for name, path in LIBRARY.paths.items() if name.count(".") == 1 and path.name == "__init__.py"
    }
    used = {
        name for path in LESSON_FILES for each in imports_of(path) for name in (each, each.rpartition(".")[0])
    }
    return sorted(
        rooms
        | {name for name in used if name in LIBRARY.paths and LIBRARY.paths[name].name == "__init__.py"}
        - {"course_lib"}
    )


@pytest.mark.parametrize("path", LESSON_FILES, ids=lambda path: path.stem)
def test_a_lesson_imports_from_faces_only(path):
    found = {module for name in imports_of(path) if (module := behind(name))}

    assert sorted(module for module in found if room_of(module) not in LEFT_BEHIND) == []


def test_a_module_inside_a_room_is_no_face():
    assert behind("course_lib.exercises.engine.registry.get") == "course_lib.exercises.engine.registry"
    assert behind("course_lib.exercises.engine.registry") == "course_lib.exercises.engine.registry"
    assert [behind(f"course_lib.{name}") for name in ("lm", "exercises.check", "doctor.doctor")] == [None] * 3


@pytest.mark.parametrize("face", faces())
def test_a_face_names_all_that_is_public(face):
    module = importlib.import_module(face)
    words = set(re.findall(r"\w+", module.__doc__ or ""))

    missing = [name for name in getattr(module, "__all__", ()) if name not in words]

    assert missing == [] or face in LEFT_UNNAMED


@pytest.mark.parametrize("face", faces())
def test_no_public_name_is_that_of_a_module_beside_it(face):
    beside = {f"{face}.{name}" for name in getattr(importlib.import_module(face), "__all__", ())}
    modules = {name for name, path in LIBRARY.paths.items() if path.name != "__init__.py"}

    assert beside & modules <= SHADOWED
