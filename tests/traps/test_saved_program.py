"""A program saved whole holds the model's key; its state names a server that is not asked when loaded."""

from __future__ import annotations

import logging
from pathlib import Path

import dspy
import pytest

from course_lib import desk
from course_lib.deployment import load_program, save_program
from tests.traps.conftest import SOLVED

KEY, ADDRESS = "sk-of-this-test", "http://gateway.invalid/v1"


@pytest.fixture
def program() -> dspy.Module:
    program = desk.Answer()
    program.set_lm(dspy.LM("openai/gpt-4o-mini", api_key=KEY, api_base=ADDRESS))
    return program


def all_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_plain_dspy_writes_the_key_into_the_file(program, tmp_path):
    program.save(str(tmp_path), save_program=True)

    assert KEY.encode() in all_in(tmp_path), SOLVED.format("a saved program has no key")


def test_plain_dspy_ignores_the_saved_address_and_only_warns(program, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dspy"), "propagate", True)
    path = tmp_path / "state.json"
    program.save(str(path))
    loaded = desk.Answer()
    loaded.load(str(path))

    assert loaded.reply.lm.model == "openai/gpt-4o-mini", SOLVED.format("a state sets no model")
    assert "api_base" not in loaded.reply.lm.kwargs, SOLVED.format("a state's address is kept, or refused")
    assert "api_base" in caplog.text


def test_a_version_has_neither_key_nor_address_nor_model_and_leaves_the_service_s(program, tmp_path):
    path = save_program(program, tmp_path, "answer", "1")

    assert not any(each in all_in(tmp_path) for each in (KEY.encode(), b"gateway.invalid", b"gpt-4o-mini"))
    assert load_program("answer", path).reply.lm is None


def test_what_another_wrote_into_a_state_sets_no_model_either(program, tmp_path):
    program.save(str(tmp_path / "state.json"))

    assert load_program("answer", tmp_path / "state.json").reply.lm is None
