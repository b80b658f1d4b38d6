"""Finds the learner's code: the cell that made a thing, the one that failed to, the line of a crash.

Main path: source_now() -> text of the cell; crash_line(error) -> "line 3 of fill: return 1 / 0".
"""

from __future__ import annotations

import ast
import re
import symtable
import sys
import sysconfig
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

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


def no_exit() -> AbstractContextManager[object]:
    """Have exit() and quit(), which in a notebook raise nothing and end the kernel, raise SystemExit here."""
    ask_exit = Mock(side_effect=SystemExit("exit() or quit() was called"))
    return patch.object(shell() or SimpleNamespace(), "ask_exit", ask_exit, create=True)


def _checked_names() -> list[str]:
    """Return the names that the running cell hands to check()."""
    try:
        module = ast.parse(_cells.now if _cells else "")
    except (SyntaxError, ValueError):
        return []
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call)]
    handed = [arg for call in calls if ast.unparse(call.func).endswith("check") for arg in call.args]
    return [node.id for arg in handed for node in ast.walk(arg) if isinstance(node, ast.Name)]


def _bound_names(cell: str) -> set[str]:
    """Return the names that a cell's top level binds, or would bind if it were plain Python."""
    try:
        symbols = symtable.symtable(cell, "<cell>", "exec").get_symbols()
    except (SyntaxError, ValueError):
        return {first or second for first, second in _ASSIGNED.findall(cell)}
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned()}


class _Cells:
    """The notebook's cells by the names that they bind, and what went wrong in the latest."""

    def __init__(self, running: Any) -> None:
        self.texts, self.errors = dict[str, str](), dict[str, str]()
        """The cell that made a thing; what a later one raised that should have made it anew: by name."""
        self._namespace, self.bound, self.now = running.user_ns, dict[str, object](), ""
        running.events.register("pre_run_cell", self._begin)
        running.events.register("post_run_cell", self._end)

    def _begin(self, info: Any) -> None:
        self.now = (info.raw_cell or "").strip("\n")
        self.bound = {name: self._namespace.get(name) for name in _bound_names(self.now)}
        for name in self.bound:
            self.errors.pop(name, None)

    def _end(self, result: Any) -> None:
        error = result.error_before_exec or result.error_in_exec
        for name, value in self.bound.items():
            if error is not None and self._namespace.get(name) is value:
                self.errors[name] = in_words(error)
            else:
                self.texts[name] = self.now


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
    errors = _cells.errors if _cells else {}
    return next(((name, errors[name]) for name in _checked_names() if name in errors), None)


def source_now() -> str | None:
    """Return the cells that made what the running cell checks, each once; None outside of a notebook."""
    texts = _cells.texts | dict.fromkeys(_cells.bound, _cells.now) if _cells else {}
    found = dict.fromkeys(texts[name] for name in _checked_names() if name in texts)
    return "\n\n".join(found)[:LONGEST_SOURCE_CHARS] or None


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
