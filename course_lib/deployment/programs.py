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
        ProgramError: the version is there already, and what was released is never changed; or it is another
            program, which the service could not load.
    """
    path = folder / name / f"{version}.json"
    if path.exists():
        raise ProgramError(f"{path} exists; a version is written once, so give the next one a new name")
    try:
        text = orjson.dumps(_without_models(program.dump_state()), option=orjson.OPT_INDENT_2)
        SERVED[name].make().load_state(orjson.loads(text))
    except Exception as error:  # border: a program may be anything
        kind, own = type(program).__name__, type(SERVED[name].make()).__name__
        raise ProgramError(
            f"a {kind} is no state of the program {name!r} ({type(error).__name__}); save a {own}"
        ) from None
    write_whole(path, text.decode())
    return path


def load_program(name: str, path: Path) -> dspy.Module:
    """Return a program with the state of a file; whatever model or address it names is left out.

    Raises:
        ProgramError: it is no state of this program, or no JSON (a pickle could run code, and is never read).
    """
    program = SERVED[name].make()
    try:
        program.load_state(_without_models(orjson.loads(path.read_bytes())))
    except Exception as error:  # border: a file may hold anything
        raise ProgramError(
            f"{path} is no state of the program {name!r} ({type(error).__name__}); "
            "save it with save_program()"
        ) from None
    return program


def _without_models(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of each predictor."""
    return {
        name: {**{key: part[key] for key in part if key in _STATE}, "lm": None}
        for name, part in state.items()
        if name != "metadata"
    }
