"""A plain chat message, with no fields in sight: a plain answer.

Main path: chat(work) -> text.
"""

from __future__ import annotations

from course_lib.lm.skills import words
from course_lib.lm.skills.work import Work

_GREETINGS = frozenset({"hi", "hello", "hey", "greetings"})


def chat(work: Work) -> str:
    """Answer the last user message in plain words."""
    asked = work.task.plain.strip()
    said = words.words(asked)
    if not said or (said[0] in _GREETINGS and len(said) <= 3):
        return work.vary(("Hello! What can I do for you?", "Hi! How can I help?"))
    return "I don't know."
