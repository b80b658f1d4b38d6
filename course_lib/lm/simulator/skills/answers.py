"""Answering without a context: arithmetic, everyday facts or "I don't know", and the input in fewer words.

Main path: answer_question(field, work) and summarise(field, work) for a field; reply(text, work) for chat.
"""

from __future__ import annotations

import re
from collections import Counter

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.values import labelled
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.arithmetic import work_out
from course_lib.lm.simulator.skills.candidates import first_number, limited
from course_lib.lm.simulator.skills.knowledge import recall
from course_lib.lm.simulator.skills.quotation import QUESTION, bearing
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

UNKNOWN = ("I don't know.", "I don't know the answer to this.", "I do not know.")
_ANSWER = re.compile(r"answers?|response|reply|result|output|solution|completion|final_answer", re.IGNORECASE)
_REPLY = re.compile(r"reply|response|message|draft|email|email_body|letter", re.IGNORECASE)
_GREETINGS = frozenset({"hi", "hello", "hey", "greetings"})


def answer_question(field: Field, work: Work) -> Result | None:
    """Answer a text or number field from arithmetic, a demo of the same question, or everyday facts."""
    kind = field.schema.get("type")
    if kind not in ("integer", "number") and not is_free_text(field):
        return None
    question_asked = _question(work)
    if question_asked is None and not _ANSWER.fullmatch(field.name):
        return None
    question = question_asked if question_asked is not None else work.task.text
    if worked := work_out(question):
        value = worked.text if kind == "string" else limited(field.schema, worked.value)
        return Result(value, f"{worked.expression} is {worked.text}")
    if example := _same_question(field, work):
        return example
    if fact := recall(question):
        return _as_answer(field, fact.short, fact.sentence)
    if kind != "string":
        return None
    if question_asked is not None and (_ANSWER.fullmatch(field.name) or _is_question(question_asked)):
        return Result(work.vary(UNKNOWN), "this is not among the things I know, and no context is given")
    if _REPLY.fullmatch(field.name):
        return Result(_acknowledge(work), "the message is not a question that I can answer")
    return None


def _question(work: Work) -> str | None:
    """Return the input that asks: by its name, or because it ends in a question mark."""
    inputs = work.task.inputs
    for name, value in inputs.items():
        if QUESTION.fullmatch(name) and name.lower() not in ("ticket", "message"):
            return value
    text = work.task.text.strip()
    return text if _is_question(text) and len(text) <= 300 else None


def _is_question(text: str) -> bool:
    asks = ("what", "who", "when", "where", "which", "how", "why")
    return text.rstrip().endswith("?") or any(first.lower() in asks for first in text.split(None, 1)[:1])


def _same_question(field: Field, work: Work) -> Result | None:
    """Repeat what a demo answers to the very same input."""
    stems = words.stems(work.task.text)
    for turn in (*work.task.demos, *work.task.history):
        value = turn.outputs.get(field.name)
        is_same = bool(stems) and words.stems(turn.text) == stems
        if is_same and isinstance(value, str) and value and field.schema.get("type") == "string":
            return Result(value, "an example answers the same question")
    return None


def _as_answer(field: Field, short: str, sentence: str) -> Result | None:
    because = f"it is common knowledge: {sentence.rstrip('.')}"
    if field.schema.get("type") == "string":
        wants_sentence = re.search(r"\bsentence|full\b", field.desc)
        return Result(sentence if wants_sentence else short, because)
    number = first_number(short)
    return None if number is None else Result(limited(field.schema, number), because)


def _acknowledge(work: Work) -> str:
    about = [word for word in words.words(work.task.text) if len(word) > 4 and word not in words.STOP][:2]
    topic = f" about {' and '.join(about)}" if about else ""
    return f"Thank you for your message{topic}. We are looking into it and will come back to you."


def reply(message: str, work: Work) -> str:
    """Answer a plain chat message."""
    spoken = words.words(message)
    if not spoken or (spoken[0] in _GREETINGS and len(spoken) <= 3):
        return work.vary(("Hello! How can I help you?", "Hi! What can I do for you?"))
    parts = labelled(message, ("context", "question"))
    if len(parts) == 2:
        quote = bearing(parts["context"], parts["question"])
        return " ".join(quote.sentences) if quote.sentences else work.vary(UNKNOWN)
    if worked := work_out(message):
        return work.vary((f"{worked.expression} = {worked.text}", f"The answer is {worked.text}."))
    if fact := recall(message):
        return work.vary((fact.sentence, f"{fact.short}."))
    return work.vary(UNKNOWN)


# -- in fewer words ----------------------------------------------------------------------------------------

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

    def score(sentence: str) -> float:
        roots = words.stems(sentence)
        return float(sum(counts[root] for root in set(roots)) / (len(roots) + 4) ** 0.5)

    return max(filter(score, words.sentences(text)), key=score, default="")
