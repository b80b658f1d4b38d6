"""Tells whether something is still the stub that the notebook gave out.

Main path: is_stub(thing) -> compares what the code does, instruction by instruction, never its text.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from functools import cache, partial
from types import CodeType, FunctionType

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


def is_stub_function(function: Callable[..., object]) -> bool:
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
        return is_stub_function(function)
    return isinstance(thing, type) and _adds_nothing(thing)


def _has_stub_methods(thing: object, names: tuple[str, ...]) -> bool:
    if thing is None or thing is ...:
        return True
    cls = thing if isinstance(thing, type) else type(thing)
    functions = [_plain(vars(cls).get(name)) for name in names]
    return any(functions) and all(function is None or is_stub_function(function) for function in functions)


def stub_methods(*names: str) -> Callable[[object], bool]:
    """Return an `is_stub` for a class of which only these methods are left to the learner."""
    return partial(_has_stub_methods, names=names)
