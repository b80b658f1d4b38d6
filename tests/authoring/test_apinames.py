from __future__ import annotations

import pytest

from course_lib.authoring import apinames
from course_lib.authoring.installed import deprecation, missing
from tests.authoring.conftest import DATA

NAMES = DATA / "names"


def found_in(file: str) -> list[tuple[int, str]]:
    return sorted(
        (fault.mention.line, fault.mention.name) for fault in apinames.faults([NAMES / file], lessons=None)
    )


def test_names_that_do_not_hold_in_code_are_found_with_their_line():
    assert found_in("bad.py") == [
        (1, "dspy.performance.Cache"),
        (4, "dspy.clients.NoSuchClient"),
        (7, "dspy.BaseLM"),
        (11, "dspy.ChainOfThougt"),
        (13, "dspy.ProgramOfThought"),
        (14, "dspy.Image.from_PIL"),
    ]


def test_names_that_hold_are_let_through():
    assert found_in("good.py") == []


def test_invented_names_are_let_through_where_they_are_marked():
    assert found_in("book.md") == [
        (3, "dspy.performance.Cache"),
        (13, "dspy.batch.BatchProcessor"),
        (14, "dspy.CodeAct"),
    ]


def test_a_lesson_is_read_by_cells():
    faults = apinames.faults([NAMES / "00_names.py"], lessons=NAMES)

    assert [(fault.mention.line, fault.mention.name) for fault in faults] == [
        (4, "dspy.CustomAdapter"),
        (13, "dspy.Predictor"),
    ]


def test_a_fault_says_where_what_and_what_to_do():
    (first, *_) = apinames.faults([NAMES / "bad.py"])

    assert str(first).startswith(f"{NAMES / 'bad.py'}:")
    assert "does not exist" in str(first) or "deprecated" in str(first)
    assert first.remedy


@pytest.mark.parametrize(
    "name",
    [
        "dspy.LM",
        "dspy.LM.model",
        "dspy.Prediction.completions",
        "dspy.lm15.Request.messages",
        "dspy.settings.lm",
    ],
)
def test_members_of_modules_classes_fields_and_objects_exist(name):
    assert missing(name) is None
    assert deprecation(name) is None


def test_a_near_name_is_offered():
    assert "did you mean dspy.ChainOfThought?" in str(missing("dspy.ChainOfThougt"))


def test_what_dspy_imports_is_not_dspy_s():
    assert missing("dspy.threading") is not None


def test_the_classes_not_to_derive_from_are_still_deprecated_by_dspy():
    for name in apinames.NOT_AS_A_BASE:
        holder = missing(name) is None and __import__("dspy").BaseLM
        assert "deprecated" in (holder.__doc__ or ""), (
            f"{name} is no longer deprecated as a base: drop its row"
        )
