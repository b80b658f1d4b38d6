"""The programs that the service offers, and their states in files.

Main path: save_program(program, folder, "answer", "2") -> a file in JSON; load_program("answer", path).
Source: dspy.Module.dump_state and load_state (DSPy 3.4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import dspy
import orjson

from course_lib import desk
from course_lib.errors import CourseError
from course_lib.files import write_whole

_STATE = frozenset({"traces", "train", "demos", "signature", "lm", "fields", "config"})


class Served(NamedTuple):
    """A program as the service offers it."""

    make: Callable[[], dspy.Module]
    input: str
    outputs: tuple[str, ...]


SERVED = {
    "answer": Served(desk.Answer, "question", ("answer", "citations")),
    "triage": Served(desk.Triage, "ticket", ("category", "urgency")),
}


class ProgramError(CourseError):
    """A saved program that cannot be loaded, or must not be written."""


def save_program(program: dspy.Module, folder: Path, name: str, version: str) -> Path:
    """Write a program's state, which is JSON, as a version that does not exist yet; no model is in it.

    Raises:
        ProgramError: the version is there already: what was released is never changed.
    """
    path = folder / name / f"{version}.json"
    if path.exists():
        raise ProgramError(f"{path} exists; a version is written once, so give the next one a new name")
    state = {key: _without_model(value) for key, value in program.dump_state().items()}
    write_whole(path, orjson.dumps(state, option=orjson.OPT_INDENT_2).decode())
    return path


def load_program(name: str, path: Path) -> dspy.Module:
    """Return a program with the state of a file; whatever model or address it names is left out.

    Raises:
        ProgramError: it is no state of this program, or no JSON (a pickle could run code, and is never read).
    """
    program = SERVED[name].make()
    try:
        state = orjson.loads(path.read_bytes())
        read = {key: _without_model(value) for key, value in state.items() if key != "metadata"}
        program.load_state(read)
    except Exception as error:  # border: a file may hold anything
        raise ProgramError(
            f"{path} is no state of the program {name!r} ({type(error).__name__}); "
            "save it with save_program()"
        ) from None
    return program


def _without_model(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in state.items() if key in _STATE}, "lm": None}
