"""Every exercise of the course: what it asks, how long it takes, what checks it, when it is still a stub.

Main path: get("2.3") -> the third of EXERCISES of the section `caching`, the module `redis` -> its EXERCISE.
A project has stages: get("6.2.3") -> the third of the second tuple, "levels:KEPT" -> KEPT of that module.
Only that module is imported; `known()` lists the ids without importing any. `is_stub` compares what code
does, instruction by instruction, never its text.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from types import CodeType, FunctionType, MethodType
from typing import Any, Literal

from course_lib.errors import CourseError

SECTIONS = {
    "start": "00_start_here",
    "adapters": "01_adapters",
    "caching": "02_caching",
    "concurrency": "03_async",
    "debugging": "04_debugging",
    "deployment": "05_deployment",
    "flight": "06_exercises",
}
"""The lesson of each package. Its EXERCISES names the modules of 2.1, 2.2, ... in their order.

A tuple in it is a project with stages, 6.1.1, 6.1.2, ...; "module:NAME" is an object of a module."""

Shape = tuple[tuple[str, object], ...]

_BODIES = ("...", "return ...", "raise NotImplementedError", "raise NotImplementedError()",
           "raise NotImplementedError('words')")  # fmt: skip
_GIVEN_BY_PYDANTIC = frozenset({"model_config", "_abc_impl"})
_BASES_GIVEN_OUT = {"builtins", "course_lib", "dspy"}
_FUNCTIONS = (FunctionType, MethodType, staticmethod, classmethod)
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


def _shape_of(member: object) -> Shape | None:
    """Return the shape of a function, method or property; None for anything else."""
    function: Any = member.fget if isinstance(member, property) else member
    is_one = isinstance(function, _FUNCTIONS)
    code = getattr(inspect.unwrap(function), "__code__", None) if is_one else None
    return _shape(code) if isinstance(code, CodeType) else None


def is_stub(thing: object) -> bool:
    """Say whether `thing` is `...`, None, or a function or class with nothing in it but a docstring.

    A class, or an object of it, is judged by its methods if it has any besides `__init__`, which is given.
    """
    if thing is None or thing is ... or _shape_of(thing) in _stub_shapes():
        return True
    made = thing if isinstance(thing, type) else type(thing)
    shapes = {_shape_of(member) for name, member in vars(made).items() if name != "__init__"} - {None}
    shapes -= {_shape_of(getattr(super(made, made), name, None)) for name in vars(made)} - _stub_shapes()
    if shapes or made is not thing:  # what DSPy wraps anew in each class, such as an adapter's format, is out
        return bool(shapes) and shapes <= _stub_shapes()
    own = {name for name in vars(made) if not name.startswith("__")} - _GIVEN_BY_PYDANTIC
    bases = {base.__module__.split(".")[0] for base in made.__bases__}  # others may hold the learner's answer
    return not own and not vars(made).get("__annotations__") and bases <= _BASES_GIVEN_OUT


class UnknownExerciseError(CourseError):
    """No exercise has this id, or none was given."""

    def _render_traceback_(self) -> list[str]:
        """Show the message alone in a notebook: the mistake is in the cell, not in our files."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """One exercise, as its module describes it."""

    title: str
    minutes: int
    difficulty: Literal["easy", "medium", "hard"]
    hints: tuple[str, ...]
    """One to three, each saying more than the one before."""
    checks: tuple[Callable[..., object], ...]
    """Functions, also async, of what is handed to `check`; line 1 of the docstring says what was checked."""
    why: str
    """Why our solution is the way it is; shown with it."""
    id: str = ""
    """Section and number, "2.3", or section, project and stage, "6.2.3"; `get` fills it in."""
    lesson: str = ""
    """The lesson's id, which is also its file name: "02_caching". `get` fills it in, from SECTIONS."""
    deadline_s: float = 10.0
    """Time that each check may take."""
    is_stub: Callable[[Any], bool] = is_stub
    """Tells whether one of the things handed to `check` is still as it was given out."""


_registered: dict[str, Exercise] = {}


def register(*exercises: Exercise) -> None:
    """Add exercises to the course, in place of any of the same id."""
    _registered.update({exercise.id: exercise for exercise in exercises})


@cache
def _modules() -> dict[str, str]:
    """Return the full module name of each exercise, by id; none of these modules is imported."""
    found = {}
    for section, lesson in SECTIONS.items():
        package = import_module(f"course_lib.exercises.{section}")
        for number, module in enumerate(package.EXERCISES, start=1):
            own = f"{int(lesson[:2])}.{number}"
            stages = {own: module} if isinstance(module, str) else _numbered(own, module)
            found.update({each: f"{package.__name__}.{name}" for each, name in stages.items()})
    return found


def _numbered(project: str, stages: Sequence[str]) -> dict[str, str]:
    return {f"{project}.{number}": name for number, name in enumerate(stages, start=1)}


def known() -> list[str]:
    """Return the id of every exercise, in the order of the course."""
    return sorted({*_registered, *_modules()}, key=lambda each: [int(number) for number in each.split(".")])


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
        wanted = f'the exercise\'s id comes first, as text{given}: check("0.1", ...), hint("0.1")'
        raise UnknownExerciseError(f"{wanted}. Known: {', '.join(known())}.")
    if exercise_id not in _registered:
        if exercise_id not in _modules():
            raise UnknownExerciseError(f"no exercise {exercise_id!r}; known: {', '.join(known())}.")
        name, _, constant = _modules()[exercise_id].partition(":")
        exercise: Exercise = getattr(import_module(name), constant or "EXERCISE")
        register(replace(exercise, id=exercise_id, lesson=SECTIONS[name.split(".")[-2]]))
    return _registered[exercise_id]
