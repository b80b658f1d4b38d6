"""Answering: from a sum, a date, everyday facts; among listed options; chat.

Main path: answer_question(field, work), choose_listed(field, work) for a field; reply(text, work) for chat.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.reading import parsed
from course_lib.lm.simulator.skills.arithmetic import Worked, work_out
from course_lib.lm.simulator.skills.choice import choose
from course_lib.lm.simulator.skills.days import when
from course_lib.lm.simulator.skills.extracting import is_piece
from course_lib.lm.simulator.skills.keywords import keywords, shortened
from course_lib.lm.simulator.skills.knowledge import recall
from course_lib.lm.simulator.skills.limits import first_number, limited
from course_lib.lm.simulator.skills.outside import CANNOT, declined, small_talk, wished
from course_lib.lm.simulator.skills.problems import solve
from course_lib.lm.simulator.skills.quotation import QUESTION, answer_from, is_question, passages_of
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

UNKNOWN = (
    f"{CANNOT}: I don't know it.",
    f"{CANNOT}: it is not among the things that I know.",
    f"{CANNOT}: I don't know enough about it.",
)
_ANSWER = re.compile(
    r"(\w+_)?(answers?|response|reply|result|output|solution|completion|value)", re.IGNORECASE
)
_OPTIONS = re.compile(
    r"(\w+_)?(options|choices|candidates|labels|categories|alternatives|classes|tags|topics|answers"
    r"|possibilities)",
    re.IGNORECASE,
)


def answer_question(field: Field, work: Work) -> Result | None:
    """Answer a field from arithmetic, a date, or everyday facts."""
    kind, wanted = field.schema.get("type"), field.schema.get("format")
    if kind not in ("integer", "number") and wanted != "date" and not is_free_text(field):
        return None
    asked = _question(work, is_answer=_ANSWER.fullmatch(field.name) is not None)
    if asked is None and kind == "string" and (told := _of_subject(field, work)):
        return told
    question = work.task.text if asked is None or wanted else asked
    if asked is None and not _ANSWER.fullmatch(field.name) and not wanted:
        return None
    if reckoned := _reckoned(field, question):
        return reckoned
    if wanted:
        return None
    if fact := recall(question):
        return _as_answer(field, work.vary((fact.short, fact.sentence)), fact.sentence)
    if talk := small_talk(question) if kind == "string" else ():
        return Result(work.vary(talk), "the question is about me")
    if kind != "string" or is_piece(field):
        return None
    if asked is not None and (_ANSWER.fullmatch(field.name) or is_question(asked)):
        return Result(work.vary(UNKNOWN), "this is not among the things I know, and no context is given")
    return None


def _question(work: Work, *, is_answer: bool) -> str | None:
    """Return the input that asks: by its name, or for an answer because it ends in a question mark."""
    inputs = work.task.inputs
    for name, value in inputs.items():
        if QUESTION.fullmatch(name) and name.lower() not in ("ticket", "message"):
            return value
    text = work.task.text.strip()
    return text if is_answer and is_question(text) and len(text) <= 300 else None


# -- reckoning ---------------------------------------------------------------------------------------------


def worked_out(text: str) -> tuple[Any, str, str] | None:
    """Return (value, text, reason) of the sum, the date or the duration that a text asks for."""
    if moment := when(text):
        return moment.value, moment.text, moment.because
    worked: Worked | None = solve(text) or work_out(text)
    return (worked.value, worked.text, f"{worked.expression} is {worked.text}") if worked else None


def _reckoned(field: Field, question: str) -> Result | None:
    """Return what a question works out to, in the type of the field."""
    worked = worked_out(question)
    if worked is None:
        return None
    value, text, because = worked
    if field.schema.get("type") in ("integer", "number"):
        return Result(limited(field.schema, value), because) if isinstance(value, int | float) else None
    wanted = field.schema.get("format")
    if wanted == "date":
        return Result(value.isoformat(), because) if isinstance(value, date) else None
    return Result(text, because)


# -- what is known -----------------------------------------------------------------------------------------


def _of_subject(field: Field, work: Work) -> Result | None:
    """Return what is known of the one thing that is given, such as its capital."""
    thing = work.task.text.strip()
    is_thing = len(work.task.inputs) == 1 and len(thing.split()) <= 4
    fact = recall(f"{field.name.replace('_', ' ')} of {thing}") if is_thing else None
    return _as_answer(field, fact.short, fact.sentence) if fact else None


def _as_answer(field: Field, short: str, sentence: str) -> Result | None:
    because = f"it is common knowledge: {sentence.rstrip('.')}"
    if field.schema.get("type") == "string":
        wants_sentence = re.search(r"\bsentence|full\b", field.desc)
        return Result(sentence if wants_sentence else short, because)
    number = first_number(short)
    return None if number is None else Result(limited(field.schema, number), because)


# -- among options -----------------------------------------------------------------------------------------


def choose_listed(field: Field, work: Work) -> Result | None:
    """Choose among the options that an input lists, by what is known, what a text says, or their meaning."""
    inputs = work.task.inputs
    held = [name for name in inputs if _OPTIONS.fullmatch(name) or name == f"{field.name}s"]
    options = _listed(inputs[held[0]]) if len(held) == 1 and len(inputs) > 1 and is_free_text(field) else []
    if len(options) < 2:
        return None
    question = "\n".join(value for name, value in inputs.items() if name != held[0])
    told = [
        fact.short if (fact := recall(question)) else "",
        *(str(worked[1]) for worked in [worked_out(question)] if worked),
    ]
    for option in options:
        if any(known and re.search(rf"\b{re.escape(known)}\b", option, re.IGNORECASE) for known in told):
            return Result(option, f"{option} is the option that fits what is known")
    return choose(field.name, field.desc, options, question, work)


def _listed(text: str) -> list[str]:
    """Return the options of a JSON list, of lines, of `A) x B) y`, or of a list with commas."""
    if isinstance(values := parsed(text), list):
        return [str(value) for value in values]
    lettered = re.split(r"(?:^|\s)\(?[A-Ha-h1-9][.):]\s+", text)
    parts = lettered[1:] if len(lettered) > 2 else re.split(r"\n|;|\||," if "\n" not in text else r"\n", text)
    return [part.strip(" -*\"'.,") for part in parts if part.strip(" -*\"'.,")]


# -- chat --------------------------------------------------------------------------------------------------

_SHORTEN = re.compile(
    r"^\W*(?:please |could you |can you |now )*(?:(?P<sum>summari[sz]e|sum up|tl;?dr|shorten|condense"
    r"|give (?:me )?(?:a |the |an )?(?:\w+[- ])?"
    r"(?:summary|gist|overview)|what is the gist)|(?P<title>(?:give|find|suggest|write"
    r"|make)?\s*(?:me )?(?:a |an )?(?:\w+ )?(?:title|headline|subject line))"
    r"|(?P<key>(?:list|give|extract|find|name)\b[^:\n]{0,20}\bkey ?(?:words|phrases|terms)))\b",
    re.IGNORECASE,
)


_STATES = r"\W*(?:i|i'm|i am|my|we|our|the|this|it|he|she|they|there|an?|here|yes|no|ok|okay)\b"


def reply(message: str, work: Work) -> str:
    """Answer a plain chat message."""
    if talk := small_talk(message) or (() if message.strip() else small_talk("hi")):
        return work.vary(talk)
    if (wish := _SHORTEN.match(message)) and (text := _after_wish(message[wish.end() :])):
        if wish.group("key"):
            return ", ".join(keywords(text))
        return shortened("title" if wish.group("title") else "summary", text, work)
    if reason := wished(message):
        return declined(reason)
    question, passages = passages_of(message, work.task)
    if worked := worked_out(question) or worked_out(message):
        _, text, because = worked
        equation = (
            because.rsplit(" is ", 1)[0] + f" = {text}"
            if re.match(r"[\d.]+ [-+*/] ", because)
            else f"It is {text}."
        )
        return work.vary((equation, f"The answer is {text}."))
    if passages and (found := answer_from(passages, question, work)):
        return found
    if fact := recall(question):
        return work.vary((fact.sentence, f"{fact.short}."))
    if not is_question(question) and re.match(_STATES, question, re.IGNORECASE):
        return work.vary(
            ("I have read this. What would you like to know about it?", "All right. What shall I do with it?")
        )
    return work.vary(UNKNOWN)


def _after_wish(rest: str) -> str:
    """Return the text that a wish such as `Summarise this in one sentence: ...` is about."""
    _, mark, text = rest.partition(":") if ":" in rest.split("\n")[0][:80] else rest.partition("\n")
    return text.strip().strip("\"'") if mark else rest.strip() if len(rest.split()) > 25 else ""
