"""Imports run down only, and in no circle: at the top of a file, in a function, for types alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.authoring.imports import Library
from course_lib.paths import ROOT
from tests import house

LIBRARY = Library(ROOT)
LEVEL = {name: level for level, rooms in enumerate(house.LAYERS) for name in ", ".join(rooms).split(", ")}
BESIDE = {
    "course_lib.cli": {"authoring", "workshop", "doctor", "lab"},
    "course_lib.labs.progress_board": {"exercises"},
    "course_lib.files": {"errors"},
}
"""Modules that may import these rooms of their own layer too."""
DSPY_IN_LM = "course_lib.lm.connection"


def breaches(library: Library) -> list[str]:
    """Return every import of the library that does not run down, as module:line: what."""
    found = [
        (f"{module}:{line}", breach(module, name))
        for module in library.paths
        for line, name in library.imports_of(module)
    ]
    return [f"{place}: {words}" for place, words in found if words]


def breach(module: str, name: str) -> str | None:
    (_, here, *_), (package, there, *_) = f"{module}.".split("."), f"{name}.".split(".")
    if here == "lm" and package == "dspy" and module != DSPY_IN_LM:
        return f"{module} imports dspy; in lm only {DSPY_IN_LM} may"
    if package != "course_lib" or there in ("", here, "__version__") or not here:
        return None
    if unknown := [room for room in (here, there) if room not in LEVEL]:
        return f"{unknown[0]} stands in no layer; add it to house.LAYERS"
    if LEVEL[there] > LEVEL[here] or there in BESIDE.get(module, ()):
        return None
    return f"{module} imports {name}; imports run down only, and not between rooms of one layer"


def library_of(root: Path, files: dict[str, str]) -> Library:
    for name, source in files.items():
        path = root / "course_lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, "utf-8")
    return Library(root)


def test_imports_run_down_only_and_in_no_circle():
    assert breaches(LIBRARY) == LIBRARY.cycle() == []


UP = "from course_lib import desk"
BAD = {
    "upwards": ("lm/a.py", "from course_lib.desk import data", "course_lib.lm.a:1: course_lib.lm.a imports"),
    "upwards in a function": ("desk/a.py", "def f():\n    import course_lib.labs.x", "course_lib.desk.a:2:"),
    "relative": ("lm/deep/a.py", "from ...exercises import check", "imports course_lib.exercises.check"),
    "relative in a package": ("desk/__init__.py", "from ..cli import main", "imports course_lib.cli.main"),
    "by name": ("lm/a.py", "import importlib\nimportlib.import_module('course_lib.desk')", "lm.a:2:"),
    "from the package": ("lm/a.py", UP, "imports course_lib.desk"),
    "beside": ("caching/a.py", "import course_lib.adapters", "not between rooms of one layer"),
    "labs to exercises": ("labs/a.py", "from course_lib.exercises import check", "not between rooms"),
    "dspy in lm": ("lm/server.py", "def f():\n    from dspy import LM", f"only {DSPY_IN_LM} may"),
    "new room": ("attic/a.py", "from course_lib import lm", "attic stands in no layer"),
    "type checking": ("lm/a.py", f"if TYPE_CHECKING:\n    {UP}", "course_lib.lm.a:2:"),
}


@pytest.mark.parametrize(("file", "source", "words"), BAD.values(), ids=BAD.keys())
def test_an_import_that_does_not_run_down_is_named(tmp_path, file, source, words):
    (found,) = breaches(library_of(tmp_path, {file: source}))

    assert words in found


GOOD = {
    "exercises/a.py": "from course_lib import desk, lm",
    "lm/a.py": "from . import b\nfrom course_lib.lm import c\nfrom course_lib.errors import CourseError",
    "lm/connection.py": "import dspy",
    "labs/progress_board.py": "from course_lib.exercises import progress",
    "cli.py": "from course_lib import doctor, authoring",
}


def test_an_import_that_runs_down_is_let_through(tmp_path):
    assert breaches(library_of(tmp_path, GOOD)) == []


TO_B = "from course_lib.lm.b import f"
CYCLES = {
    "at the top": {"a.py": "import course_lib.lm.b", "b.py": "from course_lib.lm import a"},
    "in a function": {"a.py": TO_B, "b.py": "def f():\n    from . import a"},
    "for types": {"a.py": TO_B, "b.py": "if TYPE_CHECKING:\n    from .a import g"},
    "by name": {"a.py": TO_B, "b.py": "import importlib\nimportlib.import_module('course_lib.lm.a')"},
    "through the lazy face": {
        "__init__.py": "attach_stub(__name__, __file__)",
        "__init__.pyi": "from .a import A\nfrom .b import B",
        "a.py": "from course_lib.lm import B",
        "b.py": "from course_lib.lm import A",
    },
    "through the package's file": {"__init__.py": "from .a import f", "a.py": "from course_lib.lm import g"},
    "over a third": {"a.py": "from . import b", "b.py": "from . import c", "c.py": "from . import a"},
}
THIRD = "from course_lib.lm.c import h"
NO_CYCLE = {
    "__init__.py": f"from course_lib.lm.a import f\n{TO_B}",
    "a.py": THIRD,
    "b.py": f"{THIRD}\nCOMMAND = ['-m', 'course_lib.lm.a']",
    "c.py": "",
}


@pytest.mark.parametrize("files", [*CYCLES.values(), NO_CYCLE], ids=[*CYCLES.keys(), "none"])
def test_modules_that_import_one_another_are_named(tmp_path, files):
    cycle = library_of(tmp_path, {f"lm/{name}": text for name, text in files.items()}).cycle()

    assert (len(cycle) >= 3) is (files is not NO_CYCLE)  # the first stands at the end too
