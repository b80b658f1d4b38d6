"""What a solution's outputs rest on: the library's code and data that its lesson reaches, as one digest.

Main path: digests(lessons) -> one for each, kept in its solution; with another, outputs may differ.
A change of comments, docstrings or layout leaves the digest as it is; so does another version of Python.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

from course_lib.authoring import regions
from course_lib.authoring.imports import PACKAGE, Library, imported
from course_lib.authoring.lesson import Lesson
from course_lib.authoring.rules import FOR_THE_PROOF, parse
from course_lib.paths import ROOT

CODE = (".py", ".pyi", ".pyc", ".md")
PINNED = re.compile(r"^(?:dspy|litellm)==\S+", re.MULTILINE)


def digests(lessons: Iterable[Lesson], root: Path = ROOT) -> dict[str, str]:
    """Return, by the lesson's name, the digest of all that its solution rests on, its own cells apart."""
    library = Library(root)
    lock = root / "requirements.lock"
    pinned = PINNED.findall(lock.read_text("utf-8")) if lock.exists() else []
    code = cache(lambda module: repr(_plain(library.trees[module])))
    found = {}
    for lesson in lessons:
        modules = library.reached(_roots(lesson, library))
        parts = [*map(code, sorted(modules)), *_data(library, modules), *pinned]
        found[lesson.name] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return found


def _roots(lesson: Lesson, library: Library) -> set[str]:
    """Return what the lesson imports, and the checks of its section, which the engine loads by name."""
    section = f"{PACKAGE}.exercises.{lesson.name.partition('_')[2]}"
    names = {module for module in library.paths if f"{module}.".startswith(f"{section}.")}
    for cell in lesson.cells:
        if cell.kind == "code" and FOR_THE_PROOF.isdisjoint(cell.tags):
            names |= {name for _, name in imported(parse(regions.solved(cell.source)), lesson.name)}
    return library.modules_of(names)


def _plain(node: object) -> object:
    """Return code as nested lists, without positions, docstrings, and what not every Python writes down."""
    if isinstance(node, list):
        return [_plain(each) for each in node if not _is_docstring(each)]
    if not isinstance(node, ast.AST):
        return node
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", *_pieces(node)]
    fields = [(name, _plain(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *fields]


def _pieces(text: ast.JoinedStr) -> Iterator[object]:
    """Yield the pieces of an f-string; how its plain text is cut differs between Pythons."""
    for is_plain, group in groupby(text.values, key=lambda piece: isinstance(piece, ast.Constant)):
        if not is_plain:
            yield from map(_plain, group)
        elif words := "".join(str(piece.value) for piece in group if isinstance(piece, ast.Constant)):
            yield words


def _is_docstring(node: object) -> bool:
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant and isinstance(node.value.value, str)  # type: ignore[attr-defined]


def _data(library: Library, modules: set[str]) -> list[str]:
    """Return a digest of each file beside and below these modules that is no code: tables, texts, scripts."""
    folders = {library.paths[module].parent for module in modules} - {library.paths[PACKAGE].parent}
    paths = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    data = [path for path in paths if path.suffix not in CODE and "__pycache__" not in path.parts]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(data)]
