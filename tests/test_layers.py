"""Imports run down only, and in no circle: at the top of a file, in a function, for types alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.authoring.imports import Library, imported
from course_lib.paths import ROOT
from tests import house

LIBRARY = Library(ROOT)
LEVEL = {name: level for level, rooms in enumerate(house.LAYERS) for room in rooms for name in room.names}
BESIDE = {
    "course_lib.cli": {"authoring", "workshop", "doctor", "lab"},
    "course_lib.labs.progress_board": {"exercises"},
    "course_lib.files": {"errors"},
}
"""Modules, or rooms with all that is in them, that may import these rooms of their own layer too."""
DSPY_IN_LM = "course_lib.lm.connect"


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "course_lib" and len(parts) > 1 else None


def breaches(library: Library) -> list[str]:
    """Return every import of the library that does not run down, as module:line: what."""
    found: list[str] = []
    for module, path in library.paths.items():
        is_package = path.name == "__init__.py"
        for line, name in imported(library.trees[module], module, is_package=is_package):
            if words := breach(module, name):
                found.append(f"{module}:{line}: {words}")
    return found


def breach(module: str, name: str) -> str | None:
    here, there = room_of(module), room_of(name)
    if here == "lm" and name.split(".")[0] == "dspy" and module != DSPY_IN_LM:
        return f"{module} imports dspy; in lm only connect.py may"
    if here is None or there is None or here == there or there == "__version__":
        return None
    unknown = [room for room in (here, there) if room not in LEVEL]
    if unknown:
        return f"{unknown[0]} stands in no layer; add it to house.LAYERS"
    allowed = {room for key, rooms in BESIDE.items() if f"{module}.".startswith(f"{key}.") for room in rooms}
    if LEVEL[there] > LEVEL[here] or there in allowed:
        return None
    return f"{module} imports {name}; imports run down only, and not between rooms of one layer"


def test_imports_run_down_only():
    assert breaches(LIBRARY) == []


BAD = {
    "upwards": (
        "lm/a.py",
        "from course_lib.desk import data",
        "course_lib.lm.a:1: course_lib.lm.a imports",
    ),
    "upwards in a function": (
        "desk/a.py",
        "def f():\n    import course_lib.labs.x",
        "course_lib.desk.a:2:",
    ),
    "relative": ("lm/deep/a.py", "from ...exercises import check", "imports course_lib.exercises.check"),
    "relative in a package": ("desk/__init__.py", "from ..cli import main", "imports course_lib.cli.main"),
    "by name": (
        "lm/a.py",
        "import importlib\nimportlib.import_module('course_lib.desk')",
        "course_lib.lm.a:2:",
    ),
    "from the package": ("lm/a.py", "from course_lib import desk", "imports course_lib.desk"),
    "beside": ("caching/a.py", "import course_lib.adapters", "not between rooms of one layer"),
    "labs to exercises": ("labs/a.py", "from course_lib.exercises import check", "not between rooms"),
    "dspy in lm": ("lm/server.py", "def f():\n    from dspy import LM", "only connect.py may"),
    "new room": ("attic/a.py", "from course_lib import lm", "attic stands in no layer"),
    "type checking": ("lm/a.py", "if TYPE_CHECKING:\n    from course_lib import desk", "course_lib.lm.a:2:"),
}


@pytest.mark.parametrize(("file", "source", "words"), BAD.values(), ids=BAD.keys())
def test_an_import_that_does_not_run_down_is_named(tmp_path, file, source, words):
    write(tmp_path, {file: source})

    (found,) = breaches(Library(tmp_path))

    assert words in found


GOOD = {
    "down": ("exercises/a.py", "from course_lib import desk, lm"),
    "inside a room": ("lm/a.py", "from . import b\nfrom course_lib.lm import c"),
    "dspy in connect": ("lm/connect.py", "import dspy"),
    "the board": ("labs/progress_board.py", "from course_lib.exercises import progress"),
    "the command": ("cli.py", "from course_lib import doctor, authoring"),
    "errors": ("lm/a.py", "from course_lib.errors import CourseError"),
}


@pytest.mark.parametrize(("file", "source"), GOOD.values(), ids=GOOD.keys())
def test_an_import_that_runs_down_is_let_through(tmp_path, file, source):
    write(tmp_path, {file: source})

    assert breaches(Library(tmp_path)) == []


def write(root: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        path = root / "course_lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, "utf-8")


def test_no_modules_import_one_another():
    assert LIBRARY.cycles() == []


CYCLES = {
    "at the top": {"lm/a.py": "import course_lib.lm.b", "lm/b.py": "from course_lib.lm import a"},
    "in a function": {"lm/a.py": "from course_lib.lm.b import f", "lm/b.py": "def f():\n    from . import a"},
    "for types": {
        "lm/a.py": "from course_lib.lm.b import f",
        "lm/b.py": "if TYPE_CHECKING:\n    from .a import g",
    },
    "by name": {
        "lm/a.py": "from course_lib.lm.b import f",
        "lm/b.py": "import importlib\nimportlib.import_module('course_lib.lm.a')",
    },
    "through the lazy face": {
        "lm/__init__.py": "attach(__name__, submod_attrs={'a': ['A'], 'b': ['B']})",
        "lm/a.py": "from course_lib.lm import B",
        "lm/b.py": "from course_lib.lm import A",
    },
    "through the package's file": {
        "lm/__init__.py": "from .a import f",
        "lm/a.py": "from course_lib.lm import g",
    },
    "over a third": {
        "lm/a.py": "from . import b",
        "lm/b.py": "from . import c",
        "lm/c.py": "from . import a",
    },
}


@pytest.mark.parametrize("files", CYCLES.values(), ids=CYCLES.keys())
def test_modules_that_import_one_another_are_named(tmp_path, files):
    write(tmp_path, files)

    (cycle,) = Library(tmp_path).cycles()

    assert len(cycle) >= 2


def test_modules_that_share_a_third_are_no_cycle(tmp_path):
    write(
        tmp_path,
        {
            "lm/__init__.py": "from course_lib.lm.a import f\nfrom course_lib.lm.b import g",
            "lm/a.py": "from course_lib.lm.c import h",
            "lm/b.py": "from course_lib.lm.c import h\nCOMMAND = ['-m', 'course_lib.lm.a']",
            "lm/c.py": "",
        },
    )

    assert Library(tmp_path).cycles() == []
