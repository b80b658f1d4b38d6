"""Holds every `dspy.` name that the course says or uses against the installed DSPy.

Main path: faults(paths) -> names that do not exist or are deprecated, each with file, line and remedy.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from course_lib.authoring.installed import deprecation, missing
from course_lib.authoring.reading import read
from course_lib.authoring.rules import parse

NAME = re.compile(r"(?<![\w./-])dspy(?:\.[A-Za-z_]\w*)++(?!/)")
INVENTED, REAL_AGAIN = "<!-- invented names -->", "<!-- end of invented names -->"
WEB_SITE = "dspy.ai"
NOT_AS_A_BASE = {
    "dspy.BaseLM": "pass an engine with complete(Request) -> Response to dspy.LM(engine=...)",
}
"""Classes that warn when a subclass of them is used (dspy/clients/base_lm.py)."""


@dataclass(frozen=True, slots=True)
class Mention:
    """One `dspy.` name at one place."""

    path: Path
    line: int
    name: str
    use: str
    """`prose`, `code`, or `base` for the base of a class."""
    around: str
    """The text around it: its paragraph, its docstring or its line."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A mention that does not hold."""

    mention: Mention
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.mention.path}:{self.mention.line}: {self.what}. {self.remedy}."


def faults(paths: Iterable[Path], *, lessons: Path | None = None) -> list[Fault]:
    """Return the mentions in these files that do not hold; scripts in the folder `lessons` are lessons."""
    return [
        fault for path in paths for mention in mentions(path, lessons=lessons) for fault in _judge(mention)
    ]


def mentions(path: Path, *, lessons: Path | None = None) -> list[Mention]:
    """Return every mention in a file, but for those in places marked as showing invented names."""
    if path.suffix == ".md":
        return list(_in_prose(path, path.read_text("utf-8"), 1))
    if lessons is not None and path.parent == lessons:
        return list(_in_lesson(path))
    return list(_in_code(path, path.read_text("utf-8"), 1))


def _in_lesson(path: Path) -> Iterator[Mention]:
    for cell in read(path).cells:
        if cell.has("invented-names"):
            continue
        inside = _in_prose if cell.kind == "markdown" else _in_code
        yield from inside(path, cell.source, cell.line + 1)


def _in_prose(path: Path, text: str, first: int) -> Iterator[Mention]:
    is_invented = False
    for start, paragraph in _paragraphs(text):
        for offset, line in enumerate(paragraph.split("\n"), start):
            is_invented = (is_invented or INVENTED in line) and REAL_AGAIN not in line
            if not is_invented:
                for name in NAME.findall(line):
                    if name != WEB_SITE:
                        yield Mention(path, first + offset, name, "prose", paragraph)


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for paragraph in re.split(r"(\n\s*\n)", text):
        if paragraph.strip():
            yield start, paragraph
        start += paragraph.count("\n")


def _in_code(path: Path, text: str, first: int) -> Iterator[Mention]:
    tree = parse(text)
    used = [(line + first - 1, name, use) for line, name, use in _uses(tree)]
    for line, name, use in used:
        yield Mention(path, line, name, use, "")
    in_code = {(line, name) for line, name, _ in used}
    for mention in _in_prose(path, text, first):
        if not any(line == mention.line and name.startswith(mention.name) for line, name in in_code):
            yield mention


def _uses(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    bases = {id(base) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_dspy(node.module or ""):
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}", "code"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_dspy(alias.name) and alias.name != "dspy":
                    yield node.lineno, alias.name, "code"
        elif isinstance(node, ast.Attribute) and id(node) not in inner:
            name = _dotted(node)
            if name and _is_dspy(name):
                yield node.lineno, name, "base" if id(node) in bases else "code"


def _is_dspy(name: str) -> bool:
    return name.split(".")[0] == "dspy"


def _dotted(node: ast.expr) -> str | None:
    """Return `a.b.c` for a chain of names, without what hangs on a call or an index."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _judge(mention: Mention) -> Iterator[Fault]:
    if problem := missing(mention.name):
        yield Fault(mention, problem, "Write a name that exists, or mark the place as showing invented names")
        return
    words = deprecation(mention.name)
    if mention.use == "base" and mention.name in NOT_AS_A_BASE:
        words = f"a subclass of {mention.name} is deprecated; {NOT_AS_A_BASE[mention.name]}"
    if words and not (mention.use == "prose" and "deprecat" in mention.around.lower()):
        yield Fault(
            mention,
            f"{mention.name} is deprecated: {words}",
            "Use its successor, or say that it is deprecated",
        )
