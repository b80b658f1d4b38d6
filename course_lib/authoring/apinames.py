"""Holds every `dspy.` name that the course says or uses against the installed DSPy.

Main path: faults(paths) -> names that do not exist or are deprecated, each with file, line and remedy.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from course_lib.authoring.imports import imported
from course_lib.authoring.installed import deprecation, missing
from course_lib.authoring.lesson import Problem
from course_lib.authoring.reading import read
from course_lib.authoring.rules import parse

NAME = re.compile(r"(?<![\w./-])dspy(?:\.[A-Za-z_]\w*)++(?!/)")
INVENTED, REAL_AGAIN = "<!-- invented names -->", "<!-- end of invented names -->"
WEB_SITE = "dspy.ai"


@dataclass(frozen=True, slots=True)
class Mention:
    """One `dspy.` name at one place."""

    path: Path
    line: int
    name: str
    paragraph: str = ""
    """In prose: the paragraph around it, which may say that the name is deprecated."""


def faults(paths: Iterable[Path], *, lessons: Path | None = None) -> list[Problem]:
    """Return the mentions in these files that do not hold; scripts in the folder `lessons` are lessons."""
    found = (fault for path in paths for each in mentions(path, lessons=lessons) for fault in _judge(each))
    return list(dict.fromkeys(found))


def mentions(path: Path, *, lessons: Path | None = None) -> list[Mention]:
    """Return every mention in a file, but for those in places marked as showing invented names."""
    texts = [(path.suffix == ".md", 1, path.read_text("utf-8"))]
    if path.parent == lessons:
        cells = [cell for cell in read(path).cells if not cell.has("invented-names")]
        texts = [(cell.kind == "markdown", cell.line + 1, cell.source) for cell in cells]
    found: list[Mention] = []
    for is_prose, first, text in texts:
        uses = [] if is_prose else _uses(parse(text))
        found += [Mention(path, line + first - 1, name) for line, name in uses]
        found += _in_prose(path, text, first)  # in code too: its comments and docstrings
    return found


def _in_prose(path: Path, text: str, first: int) -> Iterator[Mention]:
    is_invented = False
    for _, group in groupby(enumerate(text.split("\n"), first), key=lambda each: bool(each[1].strip())):
        lines = list(group)
        paragraph = " ".join(line for _, line in lines)
        for number, line in lines:
            is_invented = (is_invented or INVENTED in line) and REAL_AGAIN not in line
            for name in [] if is_invented else NAME.findall(line):
                if name != WEB_SITE:
                    yield Mention(path, number, name, paragraph)


def _uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of what code imports or names."""
    yield from ((line, name) for line, name in imported(tree, "") if name.startswith("dspy."))
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    inner = {id(node.value) for node in attributes}
    for node in attributes:
        chain = NAME.fullmatch(ast.unparse(node)) if id(node) not in inner else None
        if chain:
            yield node.lineno, chain[0]


def _judge(mention: Mention) -> Iterator[Problem]:
    if problem := missing(mention.name):
        remedy = "Write a name that exists, or mark the place as showing invented names"
        yield Problem(mention.path, mention.line, problem, remedy)
        return
    words = deprecation(mention.name)
    if words and "deprecat" not in mention.paragraph.lower():
        remedy = "Use its successor, or say that it is deprecated"
        yield Problem(mention.path, mention.line, f"{mention.name} is deprecated: {words}", remedy)
