"""Saying a text in fewer words: the sentence that shares most with the rest.

Main path: summarise(field, work) for fields named summary, title and the like.
"""

from __future__ import annotations

import re
from collections import Counter

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

_SUMMARY = re.compile(r"(\w+_)?(summary|gist|tldr|abstract|synopsis|overview|digest)", re.IGNORECASE)
_TITLE = re.compile(r"(\w+_)?(title|headline|subject|subject_line|heading)", re.IGNORECASE)
TITLE_WORDS = 8


def summarise(field: Field, work: Work) -> Result | None:
    """Fill a summary or a title with the most central sentence; pass on other fields."""
    is_title = _TITLE.fullmatch(field.name) is not None
    if not is_free_text(field) or not (is_title or _SUMMARY.fullmatch(field.name)):
        return None
    longest = max(work.task.inputs.values(), key=len, default="")
    sentence = central(longest)
    if not sentence:
        return None
    text = " ".join(sentence.split()[:TITLE_WORDS]).rstrip(".,;:") if is_title else sentence
    return Result(text, "this sentence shares most with the rest of the text")


def central(text: str) -> str:
    """Return the sentence of `text` whose words are the most frequent in it, the earlier on a tie."""
    counts = Counter(words.stems(text))
    best, best_score = "", 0.0
    for sentence in words.sentences(text):
        roots = words.stems(sentence)
        score = sum(counts[root] for root in set(roots)) / (len(roots) + 4) ** 0.5
        if score > best_score:
            best, best_score = sentence, score
    return best
