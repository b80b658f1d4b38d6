"""Every exercise of the course: what it asks, how long it takes, what checks it, when it is still a stub.

Main path: get("2.3") -> section "2" is caching -> caching.EXERCISES names the module `redis` -> its EXERCISE.
Only that module is imported; `known()` lists the ids without importing any. `is_stub` compares what code
does, instruction by instruction, never its text.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, Literal

from course_lib.errors import CourseError

Difficulty = Literal["easy", "medium", "hard"]

SECTIONS = {"0": "start", "1": "adapters", "2": "caching"}
"""What an id begins with, and the package of that section's exercises.

The package's EXERCISES maps each id to the name of its module, which holds EXERCISE.
"""

Shape = tuple[tuple[str, object], ...]

_BODIES = ("...", "return ...", "raise NotImplementedError", "raise NotImplementedError()",
           "raise NotImplementedError('words')")  # fmt: skip
_GIVEN_BY_PYDANTIC = frozenset({"model_config", "_abc_impl"})
_SILENT = {"RESUME", "NOP", "CACHE", "EXTENDED_ARG", "PRECALL", "PUSH_NULL"}


def _shape(code: CodeType) -> Shape:
    """Return what the code does, without line numbers, names of arguments, or the text of a message."""
    return tuple(
        (step.opname, str if step.opname == "LOAD_CONST" and isinstance(step.argval, str) else step.argval)
        for step in dis.get_instructions(code)
        if step.opname not in _SILENT
    )


@cache
def _stub_shapes() -> frozenset[Shape]:
    """Return the shape of every body that does nothing, as this Python compiles it."""
    texts = (f"{start} stub(): {body}" for start in ("def", "async def") for body in _BODIES)
    constants = (constant for text in texts for constant in compile(text, "<stub>", "exec").co_consts)
    return frozenset(_shape(code) for code in constants if isinstance(code, CodeType))


def _is_stub_function(function: Callable[..., object]) -> bool:
    """Say whether a function's body is only `...`, `pass`, a docstring or `raise NotImplementedError`."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return isinstance(code, CodeType) and _shape(code) in _stub_shapes()


def _plain(member: object) -> FunctionType | None:
    """Return the function inside a method, property, static or class method; None for anything else."""
    if isinstance(member, property):
        member = member.fget
    member = getattr(member, "__func__", member)
    return member if isinstance(member, FunctionType) else None


def _adds_nothing(cls: type) -> bool:
    """Say whether a class body is only `...`, `pass` or a docstring."""
    own = (name for name in vars(cls) if not name.startswith("__") and name not in _GIVEN_BY_PYDANTIC)
    return next(own, None) is None and not vars(cls).get("__annotations__")


def is_stub(thing: object) -> bool:
    """Say whether `thing` is `...`, None, or a function or class that nobody has filled in.

    A class whose methods are given out as stubs needs `stub_methods`.
    """
    if thing is None or thing is ...:
        return True
    if (function := _plain(thing)) is not None:
        return _is_stub_function(function)
    return isinstance(thing, type) and _adds_nothing(thing)


def stub_methods(*names: str) -> Callable[[object], bool]:
    """Return an `is_stub` for a class of which only these methods are left to the learner."""

    def untouched(thing: object) -> bool:
        cls = thing if isinstance(thing, type) else type(thing)
        functions = [_plain(vars(cls).get(name)) for name in names]
        is_as_given = all(function is None or _is_stub_function(function) for function in functions)
        return thing is None or thing is ... or (any(functions) and is_as_given)

    return untouched


class UnknownExerciseError(CourseError):
    """No exercise has this id, or none was given."""

    def _render_traceback_(self) -> list[str]:
        """Show the message alone in a notebook: the mistake is in the cell, not in our files."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """One exercise, as its module describes it."""

    id: str
    """Section and number: "2.3"."""
    title: str
    lesson: str
    """The lesson's id, which is also its file name: "02_caching"."""
    minutes: int
    difficulty: Difficulty
    concepts: tuple[str, ...]
    hints: tuple[str, ...]
    """One to three, each saying more than the one before."""
    checks: tuple[Callable[..., object], ...]
    """Plain functions that take the learner's thing; line 1 of the docstring is shown as what was checked."""
    why: str
    """Why our solution is the way it is; shown with it."""
    deadline_s: float = 10.0
    """Time that each check may take."""
    is_stub: Callable[[Any], bool] = is_stub
    """Tells whether one of the things handed to `check` is still as it was given out."""

    @property
    def count(self) -> int:
        """How many things `check` takes for it."""
        return len(inspect.signature(self.checks[0]).parameters)


_registered: dict[str, Exercise] = {}


def register(*exercises: Exercise) -> None:
    """Add exercises to the course, in place of any of the same id."""
    _registered.update({exercise.id: exercise for exercise in exercises})


def unregister(exercise_id: str) -> None:
    """Take an exercise out again: for an instructor's trial, and for tests."""
    _registered.pop(exercise_id, None)


def _modules(section: str) -> dict[str, str]:
    """Return the full module name of each exercise of a section, by id; no module is imported."""
    package = f"course_lib.exercises.{SECTIONS[section]}"
    return {key: f"{package}.{module}" for key, module in import_module(package).EXERCISES.items()}


def _order(exercise_id: str) -> tuple[int, int]:
    section, number = exercise_id.split(".")
    return int(section), int(number)


def known() -> list[str]:
    """Return the id of every exercise, in the order of the course."""
    return sorted({*_registered, *(key for section in SECTIONS for key in _modules(section))}, key=_order)


def exercises() -> list[Exercise]:
    """Return every exercise, in the order of the course; imports the modules of all."""
    return [get(exercise_id) for exercise_id in known()]


def get(exercise_id: object) -> Exercise:
    """Return the exercise with this id; imports the module of that exercise and no other.

    Raises:
        UnknownExerciseError: there is none; the message lists those that exist.
    """
    if not isinstance(exercise_id, str):
        given = "" if exercise_id is None else f", not {type(exercise_id).__name__}"
        raise UnknownExerciseError(
            f'the exercise\'s id comes first, as text{given}: check("0.1", ...), hint("0.1"). '
            f"Known: {', '.join(known())}."
        )
    if exercise_id in _registered:
        return _registered[exercise_id]
    section = exercise_id.split(".")[0]
    module = _modules(section).get(exercise_id) if section in SECTIONS else None
    if module is None:
        raise UnknownExerciseError(f"no exercise {exercise_id!r}; known: {', '.join(known())}.")
    register(import_module(module).EXERCISE)
    return _registered[exercise_id]
