from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io

import pytest

from course_lib.labs.selftest import QUESTIONS, self_test


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


def right(question):
    return question.choices[question.right - 1][0]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"{q.topic}: {right(q)}")
def test_the_right_choice_is_what_the_program_prints(question):
    assert _printed(question.code) == right(question)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"{q.topic}: {right(q)}")
def test_a_question_has_one_right_choice_and_a_reason_for_each(question):
    assert len(dict(question.choices)) == len(question.choices) >= 3
    assert all(reason.endswith(".") for _, reason in question.choices)
    assert question.read


def test_each_choice_opens_with_its_verdict_and_a_wrong_one_says_where_to_read():
    html = self_test().html

    assert html.count("<details") == len(QUESTIONS) + sum(len(question.choices) for question in QUESTIONS)
    assert html.count("Right. ") == len(QUESTIONS)
    assert (
        "Not right. That is the type of <code>context</code>; each field has its own. Read: dspy.ai" in html
    )
    assert ".." not in html.replace("...", "")


def test_it_stands_without_a_kernel_and_reads_as_text():
    shown = self_test()

    assert not hasattr(shown, "_repr_mimebundle_"), "no widget"
    assert "coroutine: Calling an async function runs nothing" in repr(shown)
