"""Each room has a face: its `__init__` names what is public, and lessons import from there."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

from course_lib.authoring.imports import Library, imported
from course_lib.authoring.reading import read
from course_lib.authoring.rules import parse
from course_lib.paths import LESSONS, ROOT

LIBRARY = Library(ROOT)
LESSON_FILES = sorted(LESSONS.glob("*.py"))
IMPORT = re.compile(r"from (course_lib[\w.]*) import (\([^)]*\)|.*)")


def imports_of(path) -> set[str]:
    """Return the full names that a lesson's cells import from the library, wrong answers included."""
    cells = [cell for cell in read(path).cells if cell.kind == "code"]
    names = {name for cell in cells for _, name in imported(parse(cell.source), path.stem)}
    return {name for name in names if name.split(".")[0] == "course_lib"}


def is_package(name: str) -> bool:
    return name in LIBRARY.paths and LIBRARY.paths[name].name == "__init__.py"


def is_from_a_face(name: str) -> bool:
    """Whether an imported name is a face or stands in one, or in a room of a single module."""
    owner = name if name in LIBRARY.paths else name.rpartition(".")[0]
    return owner.count(".") < 2 or is_package(owner)


def faces() -> list[str]:
    """Return the rooms, and the packages inside them that a lesson imports from.

    Found by the lines: every worker collects this file, and to read the lessons whole takes it seconds.
    """
    found = [each for path in LESSON_FILES for each in IMPORT.findall(path.read_text("utf-8"))]
    used = {f"{owner}.{name}" for owner, names in found for name in re.findall(r"\w+", names)}
    names = used | {owner for owner, _ in found} | {name for name in LIBRARY.paths if name.count(".") == 1}
    return sorted(filter(is_package, names - {"course_lib"}))


@pytest.mark.parametrize("path", LESSON_FILES, ids=lambda path: path.stem)
def test_a_lesson_imports_from_faces_only(path):
    assert [name for name in sorted(imports_of(path)) if not is_from_a_face(name)] == []


def test_a_module_inside_a_room_is_no_face():
    inside = ("exercises.engine.registry.get", "exercises.engine.registry")

    assert not any(is_from_a_face(f"course_lib.{name}") for name in inside)
    assert all(is_from_a_face(f"course_lib.{name}") for name in ("lm", "exercises.check", "doctor.doctor"))


@pytest.mark.parametrize("face", faces())
def test_a_face_names_all_that_is_public_and_nothing_like_a_module_beside_it(face):
    module = importlib.import_module(face)
    public = set(getattr(module, "__all__", ()))
    modules = {name for name in LIBRARY.paths if not is_package(name)}

    assert [name for name in public if not hasattr(module, name)] == []
    assert public - set(re.findall(r"\w+", module.__doc__ or "")) == set()
    assert {f"{face}.{name}" for name in public} & modules == set()


LAZY = {
    "course_lib.cli": ["dspy", "jupyter_server"],
    "course_lib.lm": ["dspy", "starlette", "uvicorn", "httpx", "orjson", "asyncio", "urllib.request"],
    "course_lib.adapters, course_lib.adapters.prompt, course_lib.adapters.data": ["dspy", "psycopg"],
}


@pytest.mark.parametrize("names", LAZY)
def test_a_face_loads_nothing_heavy_before_a_name_is_used(names):
    code = f"import sys, {names}; print([heavy for heavy in {LAZY[names]} if heavy in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
