"""Programs of somebody's own: what cannot be flown is told, and what can is, whatever it does."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import dspy
import pytest

from course_lib.flight import byo
from course_lib.flight.program import ProgramError, check_fields, load
from course_lib.flight.result import Scene
from tests.flight.test_levels import call

MODULE = '''
import time
import dspy

class Moody(dspy.Module):
    """Raises, hangs or answers, as its question says."""

    def __init__(self):
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question):
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

class Silent(dspy.Module):
    def forward(self, question):
        return dspy.Prediction(answer="always the same")

made = dspy.Predict("question, topic -> answer")
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


REFUSED = {
    "no colon": ("own_programs", "it should look like my_module:MyProgram"),
    "no module": ("no_such:X", "no module 'no_such' in"),
    "an import that fails": (
        "own_broken:X",
        "cannot be imported: ModuleNotFoundError: No module named 'no_such",
    ),
    "no name": ("own_programs:Mody", "has no 'Mody'; the programs in it: Moody, Stuck, Needs, Silent, made"),
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
