"""A self-test on what the course takes for granted: signatures, modules, async. Nothing is graded or kept.

Main path: self_test() shows a question at a time; a choice is answered with the reason; the end sums up.
Source: static/questions.toml, for DSPy 3.4.1 and its DummyLM; a test runs every program. ipywidgets 8, with
buttons for the choices because JupyterLab takes the arrow keys away from radio buttons.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from html import escape
from typing import Any

from course_lib.labs.reading import INK, STATIC, with_still

ASK = "What does this print?"
_CODE = (
    "color:var(--jp-content-font-color1, #1f2328);background:var(--jp-layout-color2, #f2f4f6);"
    "font-family:var(--jp-code-font-family, monospace);font-size:var(--jp-code-font-size, 13px);"
    "line-height:1.4;padding:8px 12px;border-radius:4px;white-space:pre-wrap;margin:6px 0"
)
_INTRO = (
    "Read a short program and choose what it prints. Your answers are not graded and are forgotten with the "
    "kernel; the first choice counts for the summary, and you may try the others to read why."
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


def as_text(questions: Sequence[Question] = QUESTIONS) -> str:
    """Return the whole test as plain text, with the answers at the end."""
    programs, answers = [], []
    for number, question in enumerate(questions, 1):
        choices = "\n".join(f"   - {choice.text}" for choice in question.choices)
        programs.append(f"{number}. {question.topic}. {ASK}\n\n{question.code}\n\n{choices}")
        answers.append(f"{number}. {question.right.text}: {question.right.reason} Read: {question.read}.")
    return "\n\n".join([*programs, "Answers", *answers])


def in_words(first: Mapping[int, int], questions: Sequence[Question] = QUESTIONS) -> str:
    """Sum up the first choices (question index -> choice index) in sentences, and say what to read."""
    right = {index for index, choice in first.items() if questions[index].choices[choice].is_right}
    topics = dict.fromkeys(question.topic for question in questions)
    counts = []
    for topic in topics:
        of = [index for index, question in enumerate(questions) if question.topic == topic]
        counts.append(f"{topic}: {len(right & set(of))} of {len(of)}.")
    lines = [f"You chose right at once in {len(right)} of {len(questions)} questions. {' '.join(counts)}"]
    if len(first) < len(questions):
        lines.append(f"{len(questions) - len(first)} not answered yet.")
    if not first:
        return lines[-1]
    missed = dict.fromkeys(questions[index].read for index in sorted(set(first) - right))
    if not missed and len(first) < len(questions):
        lines.append("Nothing wrong so far.")
    elif not missed:
        lines.append("You have what this course takes for granted: go on.")
    elif len(right) * 2 < len(first):
        lines.append("Take an hour for the following before you go on; the course leans on all of it:")
    else:
        lines.append("You can go on, and read this when you meet it:")
    return "\n".join([*lines, *(f"- {read}" for read in missed)])


@cache
def _widget_class() -> type[Any]:
    """Return the widget's class, made on first use so that importing this file stays cheap."""
    import ipywidgets as widgets

    class SelfTest(widgets.VBox):  # type: ignore[misc]
        """The test in the notebook; `first` holds the first choice per question, by index."""

        def __init__(self, questions: Sequence[Question]) -> None:
            self._questions = questions
            self.first: dict[int, int] = {}
            self.page = 0
            self._head, self._verdict = widgets.HTML(), widgets.HTML()
            self._choices = widgets.VBox()
            self._back = widgets.Button(description="Back")
            self._next = widgets.Button()
            self._back.on_click(lambda _: self.turn(self.page - 1))
            self._next.on_click(lambda _: self.turn((self.page + 1) % (len(questions) + 1)))
            turning = widgets.HBox([self._back, self._next])
            super().__init__(
                [widgets.HTML(_paragraph(_INTRO)), self._head, self._choices, self._verdict, turning]
            )
            self.turn(0)

        def turn(self, page: int) -> None:
            """Show a question by its index, or the summary after the last one."""
            self.page = page
            last = len(self._questions)
            self._back.disabled = page == 0
            self._next.description = ("Next", "To the summary", "From the start")[
                (page >= last - 1) + (page >= last)
            ]
            self._verdict.value = ""
            if page == last:
                self._head.value = _summary(in_words(self.first, self._questions))
                self._choices.children = ()
                return
            question = self._questions[page]
            self._head.value = (
                f"{_paragraph(f'Question {page + 1} of {last}. {question.topic}. {ASK}', is_strong=True)}"
                f'<pre style="{_CODE}">{escape(question.code)}</pre>'
            )
            self._choices.children = [self._button(index) for index in range(len(question.choices))]
            if page in self.first:
                self.choose(self.first[page])

        def _button(self, index: int) -> Any:
            text = self._questions[self.page].choices[index].text
            button = widgets.Button(
                description=text, tooltip=text, layout=widgets.Layout(width="auto", min_width="24em")
            )
            button.on_click(partial(self._clicked, index))
            return button

        def _clicked(self, index: int, _: Any) -> None:
            self.choose(index)

        def choose(self, index: int) -> None:
            """Choose an answer to the question shown; tell whether it is right, why, and where to read."""
            question = self._questions[self.page]
            self.first.setdefault(self.page, index)
            choice = question.choices[index]
            verdict = "Right" if choice.is_right else "Not right"
            self._choices.children[index].description = f"{verdict}: {choice.text}"
            more = "" if choice.is_right else f" Read: {question.read}."
            self._verdict.value = _paragraph(f"{verdict}: {choice.text}. {choice.reason}{more}")

        def _repr_mimebundle_(self, **options: Any) -> Any:
            """Add the test as text, for viewers that run no widgets."""
            return with_still(super()._repr_mimebundle_(**options), text=as_text(self._questions))

    return SelfTest


def _with_code(words: str) -> str:
    """Escape prose for HTML, and set what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words))


def _paragraph(words: str, *, is_strong: bool = False) -> str:
    weight = ";font-weight:600" if is_strong else ""
    return f'<p role="status" style="{INK};line-height:1.5;max-width:80ch{weight}">{_with_code(words)}</p>'


def _summary(words: str) -> str:
    lines = words.splitlines()
    paragraphs = "".join(_paragraph(line) for line in lines if not line.startswith("- "))
    items = "".join(f"<li>{escape(line[2:])}</li>" for line in lines if line.startswith("- "))
    return f'{paragraphs}<ul style="{INK};line-height:1.5">{items}</ul>' if items else paragraphs


def self_test(questions: Sequence[Question] = QUESTIONS) -> Any:
    """Show the self-test; answer with the mouse, or with Tab and Enter."""
    return _widget_class()(questions)
