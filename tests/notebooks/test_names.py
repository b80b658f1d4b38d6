"""The projects of the flight test are taken in any order: no name means something else in another one."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from course_lib.authoring.reading import read
from course_lib.paths import LESSONS

SCRATCH = {"_", "axes", "axis", "begun_s", "figure", "found", "name", "row", "rows"}
"""Names that each cell binds for itself, and none reads from another cell."""
INNER = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
COMPREHENSION = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each name that a cell binds at its top level, and what is bound: an import, or its own value."""
    match node:
        case ast.Import(names=names):
            yield from ((each.asname or each.name.partition(".")[0], f"import {each.name}") for each in names)
        case ast.ImportFrom(module=module, names=names):
            yield from ((each.asname or each.name, f"{module}.{each.name}") for each in names)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name, "its own"
        case ast.Name(id=name, ctx=ast.Store()):
            yield name, "its own"
    if not isinstance(node, INNER | COMPREHENSION):
        for inner in ast.iter_child_nodes(node):
            yield from bound(inner)


# Four seconds: the lesson has 17,000 lines.
def test_no_name_means_something_else_in_another_project():
    project, meanings = "set-up", defaultdict[str, set[tuple[str, str]]](set)
    for cell in read(LESSONS / "06_exercises.py").cells:
        project = cell.id if cell.id.startswith("project-") else project
        if cell.kind == "code" and not (cell.has("right") or cell.has("wrong")):
            for name, what in bound(ast.parse(cell.source)):
                meanings[name].add((what, project if what == "its own" else "any"))
    twice = {name: where for name, where in meanings.items() if len(where) > 1 and name not in SCRATCH}
    assert twice == {}
