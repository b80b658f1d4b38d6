"""Finds the learner's code: the cell that made a thing, the one that failed to, the line of a crash.

Main path: source_of(things) -> text of the cell; crash_line(error) -> "line 3 of fill: return 1 / 0".
"""

from __future__ import annotations

import ast
import inspect
import linecache
import re
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
_ASSIGNED = re.compile(r"^(?:(?:async +)?def|class) +(\w+)|^(\w+) *(?::[^=\n]+)?=(?!=)", re.MULTILINE)
"""What a cell that is not Python (yet) would bind at its top level."""


def shell() -> Any | None:
    """Return the running IPython shell, or None; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _bound_names(cell: str) -> set[str]:
    """Return the names that a cell's top level binds, or would bind if it were plain Python."""
    try:
        module = compile(cell, "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):
        return {first or second for first, second in _ASSIGNED.findall(cell)}
    names = {
        node.id for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return names | {node.name for node in module.body if isinstance(node, defined)}


class _Cells:
    """Which names the notebook's cells should have bound and did not, since a cell failed."""

    def __init__(self, running: Any) -> None:
        self.errors: dict[str, str] = {}
        """What the cell raised, by the name that is missing or still means what it meant before."""
        self._namespace, self._before = running.user_ns, dict[str, object]()
        running.events.register("pre_run_cell", self._begin)
        running.events.register("post_run_cell", self._end)

    def _begin(self, info: Any) -> None:
        self._before = {name: self._namespace.get(name) for name in _bound_names(info.raw_cell or "")}

    def _end(self, result: Any) -> None:
        error = result.error_before_exec or result.error_in_exec
        for name, value in self._before.items():
            self.errors.pop(name, None)
            if error is not None and self._namespace.get(name) is value:
                self.errors[name] = _in_words(error)
        self._before = {}


def _in_words(error: BaseException) -> str:
    text = f"{error.msg}, line {error.lineno}" if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}"


_cells = _Cells(shell()) if shell() is not None else None  # from here on: a check cannot look back


def cell_that_failed() -> tuple[str, str] | None:
    """Return a name that the running cell uses and what its own cell raised; None if all cells ran."""
    running = shell()
    if _cells is None or running is None or not _cells.errors:
        return None
    now = running.history_manager.input_hist_raw[-1]
    used = {name for name in _cells.errors if re.search(rf"\b{re.escape(name)}\b", now)}
    return next(((name, _cells.errors[name]) for name in sorted(used)), None)


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
