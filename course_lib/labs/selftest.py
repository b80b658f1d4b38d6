"""A self-test on what the course takes for granted: signatures, modules, async. Nothing is graded or kept.

Main path: self_test() shows every program with its choices; a choice opens and says if it is right, and why.
Source: static/questions.toml, for DSPy 3.4.1 and its DummyLM; a test runs every program. It is plain HTML
and works without a kernel, with the mouse and with the keyboard.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from course_lib.labs.reading import INK, PRE, STATIC, Rendered

ASK = "What does this print?"
_INTRO = (
    "Read a short program, decide what it prints, and open that choice to read whether it is right and why. "
    "Nothing is graded or kept. If more than half of your first choices are not right, take an hour for the "
    "pages named there before you go on; the course leans on all of it."
)


@dataclass(frozen=True, slots=True)
class Question:
    """A program to read, and what it might print."""

    topic: str
    code: str
    choices: list[tuple[str, str]]
    """Each a text and the reason why it is right or wrong, told after it was chosen."""
    right: int
    """Which choice it does print, counted from 1."""
    read: str
    """Where to read about it: in the documentation or in this course."""

    def told(self) -> Iterator[tuple[str, str]]:
        """Yield each choice with what opening it says."""
        for number, (text, reason) in enumerate(self.choices, 1):
            is_right = number == self.right
            yield text, f"Right. {reason}" if is_right else f"Not right. {reason} Read: {self.read}."


QUESTIONS = tuple(
    Question(**told) for told in tomllib.loads((STATIC / "questions.toml").read_text("utf-8"))["question"]
)


def self_test() -> Rendered:
    """Show the self-test; open a choice with the mouse, or with Tab and Enter."""
    shown = "".join(_shown(number, question) for number, question in enumerate(QUESTIONS, 1))
    return Rendered(
        f'<div style="{INK};line-height:1.5;max-width:80ch"><p>{_INTRO}</p>{shown}</div>', _text()
    )


def _shown(number: int, question: Question) -> str:
    choices = "".join(
        f'<details style="margin:2px 0"><summary style="cursor:pointer"><code>{escape(text)}</code></summary>'
        f'<p style="margin:2px 0 6px 1.2em">{_with_code(told)}</p></details>'
        for text, told in question.told()
    )
    return (
        f'<details{" open" * (number == 1)} style="margin:8px 0"><summary style="cursor:pointer">'
        f"<strong>{number}. {question.topic}. {ASK}</strong></summary>"
        f'<pre style="{PRE}">{escape(question.code.strip())}</pre>{choices}</details>'
    )


def _with_code(words: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words))


def _text() -> str:
    """Return the whole test as plain text, with the answers at the end."""
    programs, answers = [], []
    for number, question in enumerate(QUESTIONS, 1):
        choices = "\n".join(f"   - {text}" for text, _ in question.choices)
        programs.append(f"{number}. {question.topic}. {ASK}\n\n{question.code}\n\n{choices}")
        text, reason = question.choices[question.right - 1]
        answers.append(f"{number}. {text}: {reason} Read: {question.read}.")
    return "\n\n".join([*programs, "Answers", *answers])
