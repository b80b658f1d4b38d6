"""Holds every `dspy.` name that the course says or uses against the installed DSPy.

Main path: faults(paths) -> names that do not exist, and names and parameters that DSPy deprecates, each with
file, line and remedy; missing(name), deprecation(name).
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
import types
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from course_lib.authoring.imports import imported
from course_lib.authoring.lesson import Problem
from course_lib.authoring.reading import read
from course_lib.authoring.rules import parse

NAME = re.compile(r"(?<![\w./-])dspy(?:\.[A-Za-z_]\w*)++(?!/)")
GIVEN = re.compile(r"\b(\w+)=")
CALL = re.compile(rf"({NAME.pattern})\(([^()]*)")
INVENTED, REAL_AGAIN = "<!-- invented names -->", "<!-- end of invented names -->"
WEB_SITE = "dspy.ai"
OF_SPANS = {"dspy.kind", "dspy.class", "dspy.cache.hit"}
"""Attributes of our spans (course_lib/debugging/attributes.py): texts, and no names of DSPy's."""
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Mention:
    """One `dspy.` name at one place; a parameter of it stands behind: "dspy.InputField(prefix"."""

    path: Path
    line: int
    name: str


def faults(paths: Iterable[Path], *, lessons: Path | None = None) -> list[Problem]:
    """Return the mentions in these files that do not hold; scripts in the folder `lessons` are lessons."""
    remedy = "Write a name that exists and stays, or mark the place as showing invented names"
    named = (each for path in paths for each in mentions(path, lessons=lessons))
    found = ((each, missing(each.name) or deprecation(each.name)) for each in named)
    return list(dict.fromkeys(Problem(at.path, at.line, problem, remedy) for at, problem in found if problem))


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
    for number, line in enumerate(text.split("\n"), first):
        is_invented = (is_invented or INVENTED in line) and REAL_AGAIN not in line
        called = [f"{name}({given}" for name, all_ in CALL.findall(line) for given in GIVEN.findall(all_)]
        for name in [] if is_invented else NAME.findall(line) + called:
            if name != WEB_SITE and name not in OF_SPANS:
                yield Mention(path, number, name)


def _uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of what code imports or names."""
    yield from ((line, name) for line, name in imported(tree, "") if name.startswith("dspy."))
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    inner = {id(node.value) for node in attributes}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    keywords = {id(call.func): [word.arg for word in call.keywords if word.arg] for call in calls}
    for node in attributes:
        chain = NAME.fullmatch(ast.unparse(node)) if id(node) not in inner else None
        if chain:
            yield node.lineno, chain[0]
            yield from ((node.lineno, f"{chain[0]}({given}") for given in keywords.get(id(node), ()))


@cache
def missing(name: str) -> str | None:
    """Return what is wrong with a dotted name, None when the installed DSPy has it."""
    holder, reached, part = _walk(name)
    if not part:
        return None
    near = get_close_matches(part, dir(holder), n=1)
    hint = f"; did you mean {reached}.{near[0]}?" if near else ""
    return f"{name} does not exist: nothing of that name in {reached}{hint}"


@cache
def deprecation(name: str) -> str | None:
    """Return the words with which DSPy deprecates a name or a parameter, None when it does not.

    They stand at the beginning of its docstring, or in a warning of its module: "X is deprecated".
    """
    dotted, _, parameter = name.partition("(")
    thing, _, _ = _walk(dotted)
    if not callable(thing) or not str(getattr(thing, "__module__", "")).startswith("dspy"):
        return None
    source = inspect.getsource(importlib.import_module(thing.__module__))
    if parameter:
        said = re.search(rf"[`'(]{parameter}\b[^.\n]*(\.{{3}}\))? (is|are) deprecated.*", source)
    else:
        part = rf"(?<!in |to )(?<!/)\b{dotted.rpartition('.')[2]}(\(\))?(/\S+)?"
        documented = inspect.getdoc(thing) or ""
        said = re.search(r"^(\.\. deprecated|DEPRECATED|Deprecated)\b.*(\n.+)*", documented, re.MULTILINE)
        said = said or re.search(rf"{part} (is|has been) deprecated.*", source)
    return f"{name} is deprecated: {' '.join(said[0].split())}" if said else None


def _walk(name: str) -> tuple[Any, str, str]:
    """Return the part of a dotted name that is there, as an object and as a text, and what is not in it."""
    first, *parts = name.partition("(")[0].split(".")
    holder, reached = importlib.import_module(first), first
    for part in parts:
        value = _member(holder, part, reached)
        if value is _NOTHING:
            return holder, reached, part
        if value is None:  # a setting that is not made: nothing in it can be looked up
            break
        holder, reached = value, f"{reached}.{part}"
    return holder, reached, ""


def _member(holder: Any, part: str, reached: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(holder, types.ModuleType):
            with contextlib.suppress(ModuleNotFoundError):  # then it is an attribute, or nothing
                importlib.import_module(f"{reached}.{part}")
        value = getattr(holder, part, _NOTHING)
    is_foreign = isinstance(value, types.ModuleType) and not value.__name__.startswith("dspy")
    return _NOTHING if is_foreign else value  # what DSPy imports is not DSPy's
