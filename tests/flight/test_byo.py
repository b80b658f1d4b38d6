"""Programs of somebody's own: what cannot be flown is told, and what can is, whatever it does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import dspy
import psutil
import pytest

from course_lib import lm
from course_lib.flight import byo
from course_lib.flight.program import ProgramError, check_fields, load
from course_lib.flight.result import Scene
from course_lib.paths import ROOT
from tests.flight.test_levels import call

MODULE = '''
import ctypes
import os
import subprocess
import sys
import time
import dspy

class Moody(dspy.Module):
    """Raises, hangs or answers, as its question says."""

    def __init__(self):
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question):
        if "none" in question:
            return None
        if "raise" in question:
            raise RuntimeError("my own error")
        return await self.ask.acall(question=question)

class Stuck(Moody):
    aforward = None

    def forward(self, question):
        if "hang" in question:
            time.sleep(1_000)
        return self.ask(question=question)

class Needs(dspy.Module):
    def __init__(self, size):
        self.size = size

class Own(dspy.BaseLM):
    """Is called in a way of its own."""

    def __call__(self, *_, **__):
        raise RuntimeError("past the guard")

class Wild(Moody):
    """Asks other models, starts processes, reads its input, exits, or has no answer."""

    def __init__(self):
        super().__init__()
        where = {"api_base": os.environ["ELSEWHERE"], "api_key": "of somebody"}
        self.other, self.where = dspy.LM("openai/gpt-4o", **where), where
        self.named = dspy.Predict("question -> answer")
        self.named.lm = dspy.LM("openai/named", **where)
        self.two_steps = dspy.TwoStepAdapter(dspy.LM("openai/in-an-adapter", **where))

    async def aforward(self, question):
        if "None" in question:
            return None
        if "exit" in question:
            sys.exit(3)
        assert input_of("cat") == ""
        with open("started", "a") as file:
            file.write(f"{subprocess.Popen(['sleep', '1000']).pid} ")
        with dspy.context(lm=self.other):
            await self.ask.acall(question=question)
        await self.ask.acall(question=question, lm=Own("own"))
        await self.ask.acall(question=question, config={**self.where, "model": "openai/option"})
        with dspy.context(adapter=self.two_steps):
            await self.ask.acall(question=question)
        return await self.named.acall(question=question)

def input_of(command):
    return subprocess.run([command], capture_output=True, text=True, timeout=5).stdout

class Holds(Moody):
    """Holds its interpreter for ever, with a process that it has started."""

    def forward(self, question):
        held = [os.getpid(), subprocess.Popen(["sleep", "1000"]).pid]
        with open("held.part", "w") as file:
            file.write(" ".join(map(str, held)))
        os.rename("held.part", "held")
        ctypes.PyDLL(None).sleep(1_000)

class Silent(dspy.Module):
    def forward(self, question):
        return dspy.Prediction(answer="always the same")

class Toned(dspy.Signature):
    question: str = dspy.InputField()
    tone: str = dspy.InputField(default="kind")
    answer: str = dspy.OutputField()

made = dspy.Predict("question, topic -> answer")
toned = dspy.Predict(Toned)
number = 3
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of somebody's own, and nothing else."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own_programs.py").write_text(MODULE)
    (folder / "own_broken.py").write_text("import no_such_library\n")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return folder


def inputs(folder: Path, *questions: str) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps({"question": each}) + "\n" for each in questions))
    return path


def pids(path: Path) -> list[int]:
    return [int(each) for each in path.read_text().split()]


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


REFUSED = {
    "no colon": ("own_programs", "it should look like my_module:MyProgram"),
    "no module": ("no_such:X", "no module 'no_such' in"),
    "an import that fails": (
        "own_broken:X",
        "cannot be imported: ModuleNotFoundError: No module named 'no_such",
    ),
    "no name": (
        "own_programs:Mody",
        "has no 'Mody'; the programs in it: Moody, Stuck, Needs, Wild, Holds, Silent, made, toned",
    ),
    "no program": ("own_programs:number", "is 3, and not a dspy.Module"),
    "needs arguments": ("own_programs:Needs", "cannot be made without arguments"),
}


@pytest.mark.parametrize(("spec", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_program_is_told_with_what_to_do(folder, spec, words):
    with pytest.raises(ProgramError) as raised:
        load(spec)

    assert words in str(raised.value)


def test_a_class_is_made_and_an_object_is_taken(folder):
    assert type(load("own_programs:Moody")).__name__ == "Moody"
    assert isinstance(load("own_programs:made"), dspy.Predict)


@pytest.mark.parametrize(
    ("spec", "fields", "words"),
    [
        ("own_programs:made", {"question": "a"}, "line 4: no field topic; it has question"),
        (
            "own_programs:Stuck",
            {"text": "a"},
            "line 4: missing a required argument: 'question'; its fields are text",
        ),
    ],
)
def test_fields_that_do_not_fit_are_told_with_their_line(folder, spec, fields, words):
    with pytest.raises(ProgramError) as raised:
        check_fields(load(spec), {4: fields})

    assert words in str(raised.value)


def test_a_field_with_a_default_may_be_left_out(folder):
    check_fields(load("own_programs:toned"), {1: {"question": "a"}})


def test_lines_end_where_json_lines_do(tmp_path):
    path = tmp_path / "lines"
    path.write_text('{"question": "a\u2028b"}\r\n{"question": "c"}\r\n', encoding="utf-8-sig")

    assert byo.read_inputs(path) == {1: {"question": "a\u2028b"}, 2: {"question": "c"}}


def test_bad_lines_are_told_with_their_numbers_and_empty_ones_are_left_out(tmp_path):
    path = tmp_path / "lines"
    path.write_text('{"question": "a"}\n\n{"question": \n[1]\n')

    with pytest.raises(ProgramError) as raised:
        byo.read_inputs(path)

    assert "line 3: Invalid JSON" in str(raised.value)
    assert "line 4: Input should be" in str(raised.value)
    path.write_text('\n{"question": "a"}\n')
    assert byo.read_inputs(path) == {2: {"question": "a"}}
    path.write_text("")
    with pytest.raises(ProgramError, match="has no line"):
        byo.read_inputs(path)


def test_a_program_that_asks_no_model_is_refused(folder):
    """Starts a process that imports DSPy."""
    with pytest.raises(ProgramError, match="without a request to the simulated model"):
        byo.fly_program("own_programs:Silent", inputs(folder, "a"))


def test_an_async_program_that_raises_is_flown_and_its_folder_left_alone(folder):
    """Flies six times as fast as usual: eight seconds, and up to two more for what has no end."""
    path = inputs(folder, "What is 2 plus 3?", "raise", "What is 4 plus 3?", "What is 2 plus 3?")
    before = sorted(folder.rglob("*"))
    said = list[str]()

    flown = byo.fly_program("own_programs:Moody", path, speed=6, on_tick=said.append)

    assert sorted(folder.rglob("*")) == before
    assert [scene.name for scene in flown.scenes][:2] == ["calm", "rate limit"]
    assert any("outage: The model does not answer." in each for each in said)
    assert {each.outcome for each in flown.seen} == {"answered", "failed"}
    levels = {level.name: level for level in flown.levels}
    assert not levels["answers"].holds
    assert "RuntimeError" in levels["answers"].advice
    assert any(each.startswith("A cache: 1 of 4 lines") for each in flown.helps)
    assert flown.helps[0].startswith("The program itself: ")
    assert sum(each.cost_usd for each in flown.seen) > 0


def test_no_request_leaves_for_another_model_and_nothing_outlives_the_flight(folder, monkeypatch):
    """Flies six times as fast as usual."""
    path = inputs(folder, "What is 2 plus 3?", "None", "exit")

    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        monkeypatch.setenv("ELSEWHERE", f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1")
        flown = byo.fly_program("own_programs:Wild", path, speed=6)
        elsewhere.settimeout(0)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()

    others = ["openai/gpt-4o", "own", "openai/option", "openai/in-an-adapter", "openai/named"]
    assert flown.parts == {"program": "own_programs:Wild"} | dict.fromkeys(others, "simulated")
    third = len(flown.seen) // 3
    assert f"{third} SystemExit" in flown.levels[0].advice, flown.levels[0]
    assert f"{(len(flown.seen) + 1) // 3} no answer" in flown.levels[0].advice
    assert all(has_ended(pid) for pid in pids(folder / "started"))
    answered = [each for each in flown.seen if each.outcome == "answered"]
    assert 0 < len(answered) <= len(flown.seen) - 2 * third


def test_a_program_that_answers_none_is_refused(folder):
    """Starts a process that imports DSPy."""
    with pytest.raises(ProgramError, match="no answer: the program returned None"):
        byo.fly_program("own_programs:Moody", inputs(folder, "none"))


def test_a_program_that_holds_its_interpreter_ends_with_its_owner(folder):
    """Starts two processes that import DSPy."""
    path = inputs(folder, "a")
    words = "import sys, pathlib; from course_lib.flight import byo;"
    words += "byo.fly_program('own_programs:Holds', pathlib.Path(sys.argv[1]))"
    paths = os.pathsep.join([str(ROOT), str(folder)])
    environment = {**os.environ, "PYTHONPATH": paths, "COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()}
    with subprocess.Popen([sys.executable, "-c", words, str(path)], env=environment) as owner:
        try:
            while not (folder / "held").exists():
                assert owner.poll() is None
                time.sleep(0.05)
        finally:
            owner.kill()

    while not all(has_ended(pid) for pid in pids(folder / "held")):
        time.sleep(0.05)


def test_a_program_that_never_ends_is_ended(folder):
    """Flies six times as fast as usual."""
    path = inputs(folder, "What is 2 plus 3?", "hang")

    flown = byo.fly_program("own_programs:Stuck", path, speed=6)

    ends = next(level for level in flown.levels if level.name == "every question ends")
    assert not ends.holds
    assert int(ends.seen.split()[0]) >= len(flown.seen) // 2


def test_a_request_that_comes_again_in_a_later_scene_is_booked_with_its_question():
    calm, outage = Scene("calm", 0.0, 5.0, ""), Scene("outage", 5.0, 9.0, "")
    calls = [call(at_s=10.0 + at_s, question=name) for at_s, name in ((0.0, "a"), (6.0, "a"), (7.0, "b"))]
    plain: Any = dict.fromkeys(each.name for each in fields(byo._Asked))
    asked = byo._Asked(**plain | {"scenes": [calm, outage], "calls": calls})

    assert [each.question for each in asked.begun("calm")] == ["a", "a"]
    assert [each.question for each in asked.begun("outage")] == ["b"]
    assert [each.question for each in asked.requests("outage")] == ["a", "b"]
