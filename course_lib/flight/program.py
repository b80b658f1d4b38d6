"""A DSPy program of somebody's own, run in a process of its own, which may hang and is killed then.

Main path: byo.py starts `python -m course_lib.flight.program TASK`, which adds JSON objects to a file, a line
each: load, then the first question on a calm model -> {"tried"}; after the word GO, {"ended"} of each one.
load() is also what tells a wrong name, and check_fields() what tells fields that do not fit.
Source: dspy.Module.__call__ and acall, dspy.LM.__call__ and acall (DSPy 3.4.1), which adapters call.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from course_lib import lm
from course_lib.errors import CourseError
from course_lib.redaction import one_line
from course_lib.services.child import STOP, next_word, remove

GO = b"g"
_KEPT = ("temperature", "max_tokens", "timeout")
_number: ContextVar[int] = ContextVar("number", default=0)


class ProgramError(CourseError):
    """What was named cannot be flown: no such module or name, no program, inputs that do not fit."""


def load(spec: str) -> Any:
    """Return the program that `module:Name` names, a dspy.Module; a class is called without arguments.

    Raises:
        ProgramError: there is no such module or name, it cannot be imported or made, or is no dspy.Module.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise ProgramError(f"--program is {spec!r}; it should look like my_module:MyProgram")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # border: a module of somebody else's
        if isinstance(error, ModuleNotFoundError) and error.name == module_name.split(".")[0]:
            where = f"no module {module_name!r} in {os.getcwd()}"  # noqa: PTH109  (shown, not opened)
            raise ProgramError(f"{where}; go to the folder in which {module_name}.py is") from None
        raise ProgramError(f"{module_name} cannot be imported: {_told(error)}") from None
    found = getattr(module, name, None)
    if found is None:
        has = ", ".join(each for each, thing in vars(module).items() if _is_program(thing)) or "none"
        raise ProgramError(f"{module_name} has no {name!r}; the programs in it: {has}")
    if not _is_program(found):
        raise ProgramError(
            f"{spec} is {found!r:.80}, and not a dspy.Module; name a class or an object that is"
        )
    if not isinstance(found, type):
        return found
    try:
        return found()
    except Exception as error:  # border: a program of somebody else's
        told = f"{name}() cannot be made without arguments: {_told(error)}"
        raise ProgramError(f"{told}; name an object of the module instead") from None


def _is_program(thing: object) -> bool:
    import dspy

    if isinstance(thing, type):
        return issubclass(thing, dspy.Module) and not thing.__module__.startswith("dspy.")
    return isinstance(thing, dspy.Module)


def check_fields(program: Any, lines: Mapping[Any, Mapping[str, Any]]) -> None:
    """See whether the program takes the fields of each line, by its number.

    Raises:
        ProgramError: one has a field too few or too many, with the number of its line.
    """
    shape = getattr(program, "signature", None)
    wanted = set(getattr(shape, "input_fields", ()))
    takes = inspect.signature(getattr(program, "forward", None) or program.aforward)
    for line, fields in lines.items():
        try:
            takes.bind(**fields)
        except TypeError as error:
            told = f"line {line}: {error}; its fields are {', '.join(fields)}"
            raise ProgramError(f"{told}; the program takes {takes}") from None
        if missing := wanted - set(fields):
            told = f"line {line}: no field {', '.join(sorted(missing))}"
            raise ProgramError(f"{told}; it has {', '.join(fields) or 'none'}")


def _told(error: BaseException) -> str:
    return one_line(traceback.format_exception_only(error)[-1])


def _model(name: str) -> Any:
    """Return the simulated model with the retries and the timeout of the program's own, and no cache."""
    import dspy

    own = dspy.settings.lm
    kept = {
        key: each for key, each in getattr(own, "kwargs", {}).items() if key in _KEPT and each is not None
    }
    made = lm.connect(name, cache=False, num_retries=getattr(own, "num_retries", 3), **kept)

    class Numbered(dspy.LM):
        """One that numbers what is asked, so that the same line of a file is another question each time."""

        def __call__(self, prompt: Any = None, *, messages: Any = None, **options: Any) -> Any:
            return super().__call__(prompt, messages=_numbered(messages), **options)

        async def acall(self, prompt: Any = None, *, messages: Any = None, **options: Any) -> Any:
            return await super().acall(prompt, messages=_numbered(messages), **options)

    made.__class__ = Numbered
    return made


def _numbered(messages: Any) -> Any:
    """Return the messages with the question's number before the last one of the user."""
    for at in range(len(messages or ()) - 1, -1, -1):
        text = messages[at].get("content")
        if messages[at].get("role") == "user" and isinstance(text, str):
            told = {**messages[at], "content": f"(Question {_number.get()}.)\n{text}"}
            return [*messages[:at], told, *messages[at + 1 :]]
    return messages


class _Rider:
    """The program on one model: each question in a thread of its own, or on one event loop."""

    def __init__(self, program: Any, say: Callable[[dict[str, Any]], None]) -> None:
        self._program, self._say, self._model = program, say, None
        self._loop = None if hasattr(program, "forward") else asyncio.new_event_loop()
        if self._loop:
            threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def on(self, model: str) -> None:
        """Have the program, and each of its predictors that has a model of its own, ask this one."""
        self._model = _model(model)
        for predictor in self._program.predictors():
            if getattr(predictor, "lm", None) is not None:
                predictor.lm = self._model

    def answer(self, number: int, fields: Mapping[str, Any]) -> str:
        """Return "" if the program answers, else what it raised."""
        import dspy

        async def ask() -> None:
            _number.set(number)
            with dspy.context(lm=self._model):
                await self._program.acall(**fields)

        try:
            if self._loop:
                asyncio.run_coroutine_threadsafe(ask(), self._loop).result()
            else:
                _number.set(number)
                with dspy.context(lm=self._model):
                    self._program(**fields)
        except BaseException as error:  # border: a program of somebody else's may raise anything
            return _told(error)
        return ""

    def ask_all(self, inputs: Sequence[Mapping[str, Any]], at_s: Sequence[float]) -> None:
        """Ask at these seconds, the inputs in turn, and say of each when it has ended and how."""
        begun_s = time.perf_counter()

        def one(number: int) -> None:
            sent_s = time.perf_counter()
            error = self.answer(number + 1, inputs[number % len(inputs)])
            took_s, sent_s = time.perf_counter() - sent_s, sent_s - begun_s
            self._say({"ended": number, "at_s": sent_s, "took_s": took_s, "error": error})

        for number, second in enumerate(at_s):
            time.sleep(max(0.0, begun_s + second - time.perf_counter()))
            threading.Thread(target=one, args=(number,), daemon=True).start()


def run(task: dict[str, Any]) -> None:
    """Load the program, try it, and ask it all when the owner says so."""
    lock, inputs = threading.Lock(), list(task["inputs"].values())

    def say(told: dict[str, Any]) -> None:
        with lock, open(task["said"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(json.dumps(told) + "\n")

    def ready() -> None:
        try:
            sys.path.insert(0, os.getcwd())  # noqa: PTH109
            program = load(task["spec"])
            check_fields(program, task["inputs"])
            riders.append(_Rider(program, say))
            riders[0].on("sim-large")
        except ProgramError as error:
            say({"refused": str(error)})
        except BaseException as error:  # border: a module of somebody else's may even exit
            say({"refused": f"{task['spec']} cannot be loaded: {_told(error)}"})
        else:
            say({"tried": riders[0].answer(0, inputs[0])})

    riders: list[_Rider] = []
    threading.Thread(target=ready, daemon=True).start()
    while (word := next_word(task["owner"])) not in (b"", STOP):
        if word == GO:
            riders[0].on(task["model"])
            threading.Thread(target=riders[0].ask_all, args=(inputs, task["at_s"]), daemon=True).start()
    if word == b"":  # the owner, who would do it, is gone
        remove(os.path.dirname(task["said"]))  # noqa: PTH120
    os._exit(0)  # whatever still hangs


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as _file:  # noqa: PTH123
        _task = json.load(_file)
    run(_task)
