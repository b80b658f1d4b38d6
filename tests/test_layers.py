"""Imports run down only, wherever they stand: at the top of a file, in a function, relative or not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from course_lib.paths import ROOT

LAYERS = (
    {"cli", "authoring", "workshop", "doctor", "lab"},
    {"labs", "exercises"},
    {"deployment"},
    {"adapters", "caching", "concurrency", "debugging"},
    {"desk"},
    {"measure"},
    {"lm"},
    {"services", "resilience"},
    {"errors", "paths", "files"},
)
"""Rooms of course_lib, top first: a room may import those of the layers below its own."""
BESIDE = {
    "course_lib.cli": LAYERS[0],
    "course_lib.labs.progress_board": {"exercises"},
    "course_lib.files": {"errors"},
}
"""Modules, or rooms with all that is in them, that may import these rooms of their own layer too."""
DSPY_IN_LM = "course_lib.lm.connect"

LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything a file imports; a relative import is made absolute."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module.split(".") if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and is_dynamic_import(node):
            yield node.lineno, ast.literal_eval(node.args[0])


def is_dynamic_import(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    is_fixed = bool(call.args) and isinstance(call.args[0], ast.Constant)
    return name in ("import_module", "__import__") and is_fixed


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "course_lib" and len(parts) > 1 else None


def breaches(root: Path) -> list[str]:
    """Return every import below root/course_lib that does not run down, as file:line: what."""
    found: list[str] = []
    for path in sorted(root.glob("course_lib/**/*.py")):
        module = module_name(path, root)
        for line, name in imported(path, module):
            if words := breach(module, name):
                found.append(f"{path.relative_to(root)}:{line}: {words}")
    return found


def breach(module: str, name: str) -> str | None:
    here, there = room_of(module), room_of(name)
    if here == "lm" and name.split(".")[0] == "dspy" and module != DSPY_IN_LM:
        return f"{module} imports dspy; in lm only connect.py may"
    if here is None or there is None or here == there or there == "__version__":
        return None
    unknown = [room for room in (here, there) if room not in LEVEL]
    if unknown:
        return f"{unknown[0]} stands in no layer; add it to LAYERS"
    allowed = {room for key, rooms in BESIDE.items() if f"{module}.".startswith(f"{key}.") for room in rooms}
    if LEVEL[there] > LEVEL[here] or there in allowed:
        return None
    return f"{module} imports {name}; imports run down only, and not between rooms of one layer"


def test_imports_run_down_only():
    assert breaches(ROOT) == []


BAD = {
    "upwards": (
        "lm/a.py",
        "from course_lib.desk import data",
        "course_lib/lm/a.py:1: course_lib.lm.a imports",
    ),
    "upwards in a function": (
        "desk/a.py",
        "def f():\n    import course_lib.labs.x",
        "course_lib/desk/a.py:2:",
    ),
    "relative": ("lm/deep/a.py", "from ...exercises import check", "imports course_lib.exercises.check"),
    "relative in a package": ("desk/__init__.py", "from ..cli import main", "imports course_lib.cli.main"),
    "by name": ("lm/a.py", "import importlib\nimportlib.import_module('course_lib.desk')", "lm/a.py:2:"),
    "from the package": ("lm/a.py", "from course_lib import desk", "imports course_lib.desk"),
    "beside": ("caching/a.py", "import course_lib.adapters", "not between rooms of one layer"),
    "labs to exercises": ("labs/a.py", "from course_lib.exercises import check", "not between rooms"),
    "dspy in lm": ("lm/server.py", "def f():\n    from dspy import LM", "only connect.py may"),
    "new room": ("attic/a.py", "from course_lib import lm", "attic stands in no layer"),
    "type checking": ("lm/a.py", "if TYPE_CHECKING:\n    from course_lib import desk", "lm/a.py:2:"),
}


@pytest.mark.parametrize(("file", "source", "words"), BAD.values(), ids=BAD.keys())
def test_an_import_that_does_not_run_down_is_named(tmp_path, file, source, words):
    path = tmp_path / "course_lib" / file
    path.parent.mkdir(parents=True)
    path.write_text(source, "utf-8")

    (found,) = breaches(tmp_path)

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
    path = tmp_path / "course_lib" / file
    path.parent.mkdir(parents=True)
    path.write_text(source, "utf-8")

    assert breaches(tmp_path) == []
