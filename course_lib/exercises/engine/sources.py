"""Finds the learner's code: the cell that made a thing, and the line at which it crashed.

Main path: source_of(things) -> text of the cell; crash_line(error) -> "line 3 of fill: return 1 / 0".
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Any

LONGEST_SOURCE_CHARS = 20_000

_LIBRARY_FOLDERS = tuple(
    {str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_OURS = str(Path(__file__).resolve().parents[2])


def shell() -> Any | None:
    """Return the running IPython shell, or None; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _bound_names(cell: str) -> set[str]:
    """Return the names that a cell's top level binds; none for a cell that is not plain Python."""
    try:
        module = compile(cell, "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):
        return set()
    names = {
        node.id for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return names | {node.name for node in module.body if isinstance(node, defined)}


def _cell_that_made(thing: object, running: Any) -> str | None:
    """Return the latest cell that binds a name under which the notebook knows `thing`."""
    names = {name for name, value in running.user_ns.items() if value is thing and not name.startswith("_")}
    if not names:
        return None
    cells: list[str] = running.history_manager.input_hist_raw
    return next((cell for cell in reversed(cells) if names & _bound_names(cell)), None)


def _source(thing: object) -> str | None:
    running = shell()
    if running is not None and (cell := _cell_that_made(thing, running)):
        return cell
    target: Any = thing if isinstance(thing, type) or inspect.isroutine(thing) else type(thing)
    if str(getattr(target, "__module__", "")).split(".")[0] in ("builtins", "dspy", "course_lib"):
        return None
    try:
        return inspect.getsource(target)
    except (OSError, TypeError):
        return None


def source_of(things: tuple[object, ...]) -> str | None:
    """Return the code that made these things, each cell once; None if it cannot be found."""
    found = [source for thing in things if (source := _source(thing))]
    return "\n\n".join(dict.fromkeys(text.strip("\n") for text in found))[:LONGEST_SOURCE_CHARS] or None


def _is_learners(filename: str) -> bool:
    return not filename.startswith(("<frozen", _OURS, *_LIBRARY_FOLDERS))


def crash_line(traceback: TracebackType | None, *, check_file: str) -> str:
    """Return the innermost line of the learner's own code in a traceback, "" if there is none.

    A line of `check_file`, where the check is written, is not the learner's.
    """
    line = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename != check_file and _is_learners(code.co_filename):
            text = linecache.getline(
                code.co_filename, traceback.tb_lineno, traceback.tb_frame.f_globals
            ).strip()
            where = "" if code.co_name.startswith("<") else f" of {code.co_name}"
            line = f"line {traceback.tb_lineno}{where}" + (f": {text}" if text else "")
        traceback = traceback.tb_next
    return line
