"""Finds the learner's code: the cell that made a thing, the one that failed to, the line of a crash.

Main path: source_now() -> text of the cell; crash_line(error) -> "line 3 of fill: return 1 / 0".
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

LONGEST_SOURCE_CHARS = 20_000

_FOLDERS = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_OURS = Path(__file__).parents[2]
_NOT_THEIRS = ("<frozen", *(str(place) for one in (*_FOLDERS, _OURS) for place in (one, one.resolve())))
"""How the name of a file begins that the learner did not write."""
_ASSIGNED = re.compile(r"^(?:(?:async +)?def|class) +(\w+)|^(\w+) *(?::[^=\n]+)?=(?!=)", re.MULTILINE)
"""What a cell that is not Python (yet) would bind at its top level."""


def shell() -> Any | None:
    """Return the running IPython shell, or None; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _parsed(cell: str) -> ast.Module | None:
    try:
        module: ast.Module = compile(
            cell, "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
    except (SyntaxError, ValueError):
        return None
    return module


def _checked_names(cell: str) -> list[str]:
    """Return the names that a cell hands to check()."""
    calls = [node for node in ast.walk(_parsed(cell) or ast.Module([], [])) if isinstance(node, ast.Call)]
    handed = [arg for call in calls if ast.unparse(call.func).endswith("check") for arg in call.args]
    return [node.id for arg in handed for node in ast.walk(arg) if isinstance(node, ast.Name)]


def _bound_names(cell: str) -> set[str]:
    """Return the names that a cell's top level binds, or would bind if it were plain Python."""
    module = _parsed(cell)
    if module is None:
        return {first or second for first, second in _ASSIGNED.findall(cell)}
    names = {
        node.id for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return names | {node.name for node in module.body if isinstance(node, defined)}


class _Cells:
    """The notebook's cells by the names that they bind, and what went wrong in the latest."""

    def __init__(self, running: Any) -> None:
        self.texts, self.errors = dict[str, str](), dict[str, str]()
        """The cell that made a thing; what a later one raised that should have made it anew: by name."""
        self._namespace, self._before, self._now = running.user_ns, dict[str, object](), ""
        running.events.register("pre_run_cell", self._begin)
        running.events.register("post_run_cell", self._end)

    def _begin(self, info: Any) -> None:
        self._now = (info.raw_cell or "").strip("\n")
        self._before = {name: self._namespace.get(name) for name in _bound_names(self._now)}
        for name in self._before:
            self.errors.pop(name, None)

    def _end(self, result: Any) -> None:
        error = result.error_before_exec or result.error_in_exec
        for name, value in self._before.items():
            if error is not None and self._namespace.get(name) is value:
                self.errors[name] = in_words(error)
            else:
                self.texts[name] = self._now

    def failed(self) -> tuple[str, str] | None:
        """Return a name that the running cell checks, and what its own cell raised."""
        return next(
            ((name, self.errors[name]) for name in _checked_names(self._now) if name in self.errors), None
        )

    def sources(self) -> list[str]:
        """Return the cells that made what the running cell checks; it may be that cell itself."""
        texts = self.texts | dict.fromkeys(self._before, self._now)
        return [texts[name] for name in _checked_names(self._now) if name in texts]


def in_words(error: BaseException) -> str:
    """Return an error's class and message in one text."""
    try:
        words = f"{error.msg}, line {error.lineno}" if isinstance(error, SyntaxError) else str(error)
    except Exception:  # border: the learner's own __str__
        words = "(its message could not be read)"
    return type(error).__name__ + (f": {words}" if words else "")


_cells = _Cells(shell()) if shell() is not None else None  # from here on: a check cannot look back


def cell_that_failed() -> tuple[str, str] | None:
    """Return a name that the running cell checks and what its own cell raised; None if all cells ran."""
    return _cells.failed() if _cells else None


def source_now() -> str | None:
    """Return the cells that made what the running cell checks, each once; None outside of a notebook."""
    found = _cells.sources() if _cells else ()
    return "\n\n".join(dict.fromkeys(found))[:LONGEST_SOURCE_CHARS] or None


def crash_line(error: BaseException | None, *, check_file: str) -> str:
    """Return the innermost line of the learner's own code in an error's traceback, "" if there is none.

    A line of `check_file`, where the check is written, is not the learner's.
    """
    frames = traceback.extract_tb(error.__traceback__) if error else ()
    own = [each for each in frames if not each.filename.startswith((check_file, *_NOT_THEIRS))]
    if not own:
        return ""
    where = "" if own[-1].name.startswith("<") else f" of {own[-1].name}"
    return f"line {own[-1].lineno}{where}" + (f": {own[-1].line}" if own[-1].line else "")
