"""A DSPy program of somebody's own, run in a process of its own, which may hang and is killed then.

Main path: byo.py starts `python -m course_lib.flight.program TASK`, which watches over a second process, the
program's, and kills its group at the end. That one adds JSON objects to a file, a line each: load, then the
first question on a calm model -> {"tried"}; after the word GO, {"ended"} of each one; {"other"} is a model
that it asked beside its own. load() also tells a wrong name, and check_fields() fields that do not fit.
Source: dspy.Module.__call__ and acall; dspy.clients.execution.execute and aexecute (DSPy 3.4.1), to which all
calls of an LM come, whether from BaseLM.__call__, BaseLM.acall or LM.forward.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
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
    fields_of = getattr(shape, "input_fields", {})
    wanted = {name for name, each in fields_of.items() if each.is_required()}
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
    lines = traceback.format_exception_only(error)
    if notes := len(getattr(error, "__notes__", ())):
        lines = lines[:-notes]
    return one_line(lines[-1])


def _model(name: str) -> Any:
    """Return the simulated model with the retries and the timeout of the program's own, and no cache."""
    import dspy

    own = dspy.settings.lm
    kept = {
        key: each for key, each in getattr(own, "kwargs", {}).items() if key in _KEPT and each is not None
    }
    return lm.connect(name, cache=False, num_retries=getattr(own, "num_retries", 3), **kept)


class _Guard:
    """Has each call of each LM in this process ask the simulated model, and no other address.

    What is the LM's own stays: its retries, and its options but those that say where and as whom to ask. Each
    call is numbered, so that the same line of a file is another question each time.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        """Stand before all calls from here on."""
        from dspy import BaseLM
        from dspy.clients import execution

        self.model, self._say, self._others = _model("sim-large"), say, set[str]()
        execute, aexecute = execution.execute, execution.aexecute
        called = {name: getattr(BaseLM, name) for name in ("__call__", "acall")}

        async def guarded(model: Any, call: Any) -> Any:
            return await aexecute(*self._turned(model, call))

        def made(cls: Any, /, **_: Any) -> None:
            """Leave a class no way of its own to be called, which would lead past this."""
            for name in called.keys() & vars(cls).keys():
                setattr(cls, name, called[name])

        execution.execute = lambda model, call: execute(*self._turned(model, call))
        execution.aexecute = guarded
        BaseLM.__init_subclass__ = classmethod(made)

    def _turned(self, model: Any, call: Any) -> tuple[Any, Any]:
        from dspy.clients.backend_selection import CLIENT_KEYS

        to, asked = self.model, str(call.legacy.get("model") or model.model)
        is_own = asked.partition("@")[0] == to.model.partition("@")[0]
        if not is_own and asked not in self._others:
            self._others.add(asked)
            self._say({"other": asked})
        legacy = {key: each for key, each in call.legacy.items() if key not in CLIENT_KEYS - {*_KEPT}}
        legacy |= {"model": to.model}
        if "messages" in legacy:
            legacy["messages"] = _numbered(legacy["messages"])
        request = call.request and replace(call.request, model=to.model)
        turned = replace(call, legacy=legacy, request=request, cache=False, managed=True)
        return to.copy(num_retries=getattr(model, "num_retries", to.num_retries)), turned


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

    def __init__(self, program: Any, guard: _Guard, say: Callable[[dict[str, Any]], None]) -> None:
        self._program, self._guard, self._say = program, guard, say
        self._loop = None if hasattr(program, "forward") else asyncio.new_event_loop()
        if self._loop:
            threading.Thread(target=self._turn, args=(self._loop,), daemon=True).start()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            with suppress(BaseException):  # a task of the program's may exit
                loop.run_forever()

    def on(self, model: str) -> None:
        """Have the program ask this model."""
        self._guard.model = _model(model)

    def answer(self, number: int, fields: Mapping[str, Any]) -> str:
        """Return "" if the program answers, else what it raised."""
        import dspy

        async def ask() -> str:
            _number.set(number)
            try:
                with dspy.context(lm=self._guard.model):
                    return _lacking(await self._program.acall(**fields))
            except BaseException as error:  # border: an exit would end the loop
                return _told(error)

        try:
            if self._loop:
                return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()
            _number.set(number)
            with dspy.context(lm=self._guard.model):
                return _lacking(self._program(**fields))
        except BaseException as error:  # border: a program of somebody else's may raise anything
            return _told(error)

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


def _lacking(answer: Any) -> str:
    """Return "" for an answer, else what is wrong with it."""
    import dspy

    if answer is None:
        return "no answer: the program returned None"
    if isinstance(answer, dspy.Prediction) and all(each is None for each in answer.values()):
        return "no answer: every field of what the program returned is None"
    return ""


def run(task: dict[str, Any], words: int) -> None:
    """Load the program, try it, and ask it all when the word comes; end when no more words can come."""
    lock, inputs = threading.Lock(), list(task["inputs"].values())

    def say(told: dict[str, Any]) -> None:
        with lock, open(task["said"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(json.dumps(told) + "\n")

    def ready() -> None:
        try:
            sys.path.insert(0, os.getcwd())  # noqa: PTH109
            guard = _Guard(say)
            program = load(task["spec"])
            check_fields(program, task["inputs"])
            riders.append(_Rider(program, guard, say))
            riders[0].on("sim-large")
        except ProgramError as error:
            say({"refused": str(error)})
        except BaseException as error:  # border: a module of somebody else's may even exit
            say({"refused": f"{task['spec']} cannot be loaded: {_told(error)}"})
        else:
            say({"tried": riders[0].answer(0, inputs[0])})

    riders: list[_Rider] = []
    threading.Thread(target=ready, daemon=True).start()
    while os.read(words, 1) == GO:
        riders[0].on(task["model"])
        threading.Thread(target=riders[0].ask_all, args=(inputs, task["at_s"]), daemon=True).start()
    os.killpg(0, signal.SIGKILL)  # the watcher is gone


def watch(path: Path) -> None:
    """Run the program of this task in a process of this one's group; kill the group when it is to end.

    The program may hold its interpreter for ever, starts what it likes, and reads an input that is empty.
    """
    task = json.loads(path.read_text("utf-8"))
    words, said = os.pipe()
    command = [sys.executable, "-P", "-m", "course_lib.flight.program", str(path), str(words)]
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[words])  # noqa: S603  (this file)
    os.close(words)
    word = None
    while program.poll() is None and (word := next_word(task["owner"])) not in (b"", STOP):
        with suppress(BrokenPipeError):
            os.write(said, word or b"")
    program.kill()
    program.wait()
    if word == b"":  # the owner, who would do it, is gone
        remove(path.parent)
    os.killpg(0, signal.SIGKILL)  # whatever the program has started, and this process


if __name__ == "__main__":
    _path, *_words = sys.argv[1:]
    if _words:
        os.set_inheritable(int(_words[0]), False)
        run(json.loads(Path(_path).read_text("utf-8")), int(_words[0]))
    else:
        watch(Path(_path))
