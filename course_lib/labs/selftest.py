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
class Choice:
    """One possible answer, and why it is right or wrong, told after it was chosen."""

    text: str
    reason: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A program to read, and what it might print; the right choice is what it does print."""

    topic: str
    code: str
    choices: tuple[Choice, ...]
    read: str
    """Where to read about it: in the documentation or in this course."""

    @property
    def right(self) -> Choice:
        """The choice that is true."""
        return next(choice for choice in self.choices if choice.is_right)


def _questions() -> Iterator[Question]:
    for told in tomllib.loads((STATIC / "questions.toml").read_text(encoding="utf-8"))["question"]:
        choices = (
            Choice(text, reason, number == told["right"])
            for number, (text, reason) in enumerate(told["choices"], 1)
        )
        yield Question(told["topic"], told["code"], tuple(choices), told["read"])


QUESTIONS = tuple(_questions())


def self_test() -> Rendered:
    """Show the self-test; open a choice with the mouse, or with Tab and Enter."""
    shown = "".join(_shown(number, question) for number, question in enumerate(QUESTIONS, 1))
    return Rendered(
        f'<div style="{INK};line-height:1.5;max-width:80ch"><p>{_INTRO}</p>{shown}</div>', _text()
    )


def _shown(number: int, question: Question) -> str:
    choices = "".join(
        f'<details style="margin:2px 0"><summary style="cursor:pointer"><code>{escape(choice.text)}</code>'
        f'</summary><p style="margin:2px 0 6px 1.2em">{_verdict(question, choice)}</p></details>'
        for choice in question.choices
    )
    return (
        f'<details{" open" * (number == 1)} style="margin:8px 0"><summary style="cursor:pointer">'
        f"<strong>{number}. {question.topic}. {ASK}</strong></summary>"
        f'<pre style="{PRE}">{escape(question.code.strip())}</pre>{choices}</details>'
    )


def _verdict(question: Question, choice: Choice) -> str:
    verdict = "Right." if choice.is_right else "Not right."
    more = "" if choice.is_right else f" Read: {question.read}."
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(f"{verdict} {choice.reason}{more}"))


def _text() -> str:
    """Return the whole test as plain text, with the answers at the end."""
    programs, answers = [], []
    for number, question in enumerate(QUESTIONS, 1):
        choices = "\n".join(f"   - {choice.text}" for choice in question.choices)
        programs.append(f"{number}. {question.topic}. {ASK}\n\n{question.code}\n\n{choices}")
        answers.append(f"{number}. {question.right.text}: {question.right.reason} Read: {question.read}.")
    return "\n\n".join([*programs, "Answers", *answers])
