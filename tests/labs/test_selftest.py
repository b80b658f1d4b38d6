from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io

import pytest

from course_lib.labs.selftest import QUESTIONS, as_text, in_words, self_test


def _printed(code: str) -> str:
    """Run a snippet as a notebook cell would, `await` at the top included; return what it prints."""
    compiled = compile(code, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, object] = {"__name__": "__main__"}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if compiled.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(compiled, names))
        else:
            exec(compiled, names)
    return out.getvalue().strip()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"{q.topic}: {q.right.text}")
def test_the_right_choice_is_what_the_program_prints(question):
    assert _printed(question.code) == question.right.text


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"{q.topic}: {q.right.text}")
def test_a_question_has_one_right_choice_and_a_reason_for_each(question):
    assert len({choice.text for choice in question.choices}) == len(question.choices) >= 3
    assert all(choice.reason.endswith(".") for choice in question.choices)
    assert question.read


def test_all_three_prerequisites_are_asked_about_and_the_right_choice_changes_its_place():
    places = [question.choices.index(question.right) for question in QUESTIONS]

    assert {question.topic for question in QUESTIONS} == {"Signatures", "Modules", "Async"}
    assert max(places.count(place) for place in set(places)) <= len(QUESTIONS) // 2


def _texts(test) -> list[str]:
    return [button.description for button in test._choices.children]


def test_a_wrong_choice_tells_why_and_counts_though_others_may_be_tried():
    test = self_test()

    test._choices.children[1].click()
    assert _texts(test)[1] == "Not right: list"
    assert "each field has its own" in test._verdict.value
    assert "page Signatures" in test._verdict.value

    test._choices.children[0].click()
    assert _texts(test)[0] == "Right: str"
    test._next.click()
    test._back.click()
    assert _texts(test)[1] == "Not right: list"
    assert test.first == {0: 1}


def test_a_walk_to_the_end_sums_up_in_words():
    test = self_test()
    for question in QUESTIONS:
        test.choose(question.choices.index(question.right))
        test._next.click()

    assert f"right at once in {len(QUESTIONS)} of {len(QUESTIONS)}" in test._head.value
    assert "go on" in test._head.value
    assert test._next.description == "From the start"


@pytest.mark.parametrize(
    ("first", "advice"),
    [
        ({0: 1}, "before you go on"),
        ({}, "10 not answered yet."),
        ({0: 0}, "Nothing wrong so far."),
        ({0: 1, 1: 0, 3: 1}, "Signatures: 1 of 3."),
        ({0: 1, 1: 0, 3: 1}, "when you meet it:\n- dspy.ai, page Signatures, on types in inline"),
    ],
)
def test_the_summary_advises_by_what_was_answered(first, advice):
    assert advice in in_words(first)


def test_viewers_without_widgets_get_the_test_as_text():
    data, _ = self_test()._repr_mimebundle_()

    assert data["text/plain"] == as_text()
    assert "coroutine: Calling an async function runs nothing" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data
