"""What is outside the range, who the model is, and how it says so.

Main path: refuse(field, work) -> Result for a text that asks for what no skill here does; decline(field, work), the
last skill, for what no skill found; small_talk(message) -> a reply to a greeting, to thanks, to "who are you?".
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.extracting import is_piece, is_text, is_vague
from course_lib.lm.simulator.skills.limits import UNSTATED, fallback, within
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

CANNOT = "I can't answer this"
IDENTITY = (
    "I am a simulated model of the course: a program that answers from its prompt by rules, not a person and not a large"
    " language model."
)
_RANGE = (
    "I can label and extract from texts, answer questions about a text that you give me, work out sums and dates, shorten"
    " texts, use tools, and tell a few everyday facts."
)
_TABLES = words.data("outside.json")
_REASONS: dict[str, dict[str, str]] = _TABLES["reasons"]


@cache
def _patterns(said: str) -> dict[str, re.Pattern[str]]:
    """Return by reason what a field is called, or how a text wishes, that is outside the range."""
    lists = {name: _TABLES[name] for name in ("languages", "written", "codes")}
    lists["spoken_written"] = lists["written"].replace("_?", " ?")
    patterns = {}
    for reason, row in _REASONS.items():
        pattern = re.sub(r"%(\w+)%", lambda name: lists[name[1]], row[said]) or "(?!)"
        patterns[reason] = re.compile(pattern, re.IGNORECASE)
    return patterns


@lru_cache(maxsize=1024)
def wished(text: str) -> str:
    """Return what a text asks for that is outside the range, as the reason to decline it; empty if nothing is."""
    return next((_REASONS[why]["says"] for why, how in _patterns("wishes").items() if how.search(text)), "")


@lru_cache(maxsize=1024)
def named(name: str) -> str:
    """Return what a field of this name asks for that is outside the range; empty if nothing is."""
    return next(
        (_REASONS[why]["says"] for why, how in _patterns("fields").items() if how.fullmatch(name)), ""
    )


def is_code(field: Field) -> bool:
    """Say whether a field wants code, by its type or its name."""
    return (
        field.schema.get("x-class") == "Code"
        or "Code" in field.type_name
        or named(field.name) == _REASONS["code"]["says"]
    )


def declined(reason: str, field: Field | None = None) -> str:
    """Return the words that decline, in a comment where code is asked for."""
    text = f"{CANNOT}: {reason}."
    if field is None or not is_code(field):
        return text
    language = f"{field.name} {field.type_name} {field.desc}".lower()
    return next((form for known, form in _TABLES["comments"] if re.search(known, language)), "# {}").format(
        text
    )


_CHOICE = {"enum", "anyOf", "boolean"}


def refuse(field: Field, work: Work) -> Result | None:
    """Decline a field whose name, or whose program, asks for what is outside the range."""
    is_text, is_choice = is_free_text(field), bool(_CHOICE & {*field.schema, str(field.schema.get("type"))})
    is_read = not is_text and "\n" in work.task.text.strip()  # a record of that name, to be read from lines
    reason = "" if is_choice or is_read else _REASONS["code"]["says"] if is_code(field) else named(field.name)
    if not reason and not (is_text and is_piece(field)):
        program, request = wished(work.task.spec.instructions.split("\n\n")[0]), wished(_request(work))
        is_meant = _is_answer(field) or request == _REASONS["image"]["says"]
        reason = program or (wished(field.desc) if is_text else "") or (request if is_meant else "")
    return Result(_least(field, reason), reason) if reason else None


def _least(field: Field, reason: str) -> Any:
    """Return the value that does least harm: words that decline, or the plainest of the field's type."""
    schema = field.schema
    if is_free_text(field) or "x-class" in schema:
        return within(schema, declined(reason, field))
    if is_code(field) and "code" in schema.get("properties", {}):
        return {"code": declined(reason, field)}
    unsure = [label for label in schema.get("enum", ()) if _UNSURE.search(str(label))]
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    return unsure[0] if unsure else fallback(schema, field.name, definitions)


_UNSURE = re.compile(r"unknown|unsure|unclear|undecided|none|n/a|neither|cannot|can't|not ", re.IGNORECASE)


def _is_answer(field: Field) -> bool:
    """Say whether a field is for the answer itself: a label, say, may be given to any question."""
    names = r"(\w+_)?(answer|response|reply|result|output|solution|description)|yes|winner|choice|decision|will_\w+|best_\w+"
    return re.fullmatch(names, field.name) is not None


def _request(work: Work) -> str:
    """Return the inputs as a request, unless they hold a text to work on."""
    inputs = work.task.inputs
    asks = r"(\w+_)?(question|query|request|prompt|task|instruction|wish|topic)s?"
    texts = [value for name, value in inputs.items() if not re.fullmatch(asks, name)]
    if len(texts) < len(inputs):
        return "" if any(len(text.split()) > SHORT for text in texts) else "\n".join(inputs.values())
    return work.task.text if len(inputs) == 1 and len(work.task.text) < 200 else ""


SHORT = 8  # an input of so few words is no text to answer from


def decline(field: Field, work: Work) -> Result | None:
    """Fill a text that no skill could: what was to be extracted is not stated, all else is declined."""
    if not is_free_text(field):
        return None
    if is_piece(field) or (not is_vague(field) and not reason_of(work) and is_text(work)):
        text = f"the input does not say the {field.name.replace('_', ' ')}"
        return Result(within(field.schema, UNSTATED), text)
    return Result(
        within(field.schema, declined("it is outside what I can do", field)), "this is outside what I can do"
    )


def reason_of(work: Work) -> str:
    """Return why the whole request is outside the range; empty if it is not."""
    instructions = work.task.spec.instructions.split("\n\n")[0]
    return wished(instructions) or wished(_request(work))


_WHO, _ABLE = (re.compile(_TABLES[asks], re.IGNORECASE) for asks in ("who", "able"))


def small_talk(message: str) -> tuple[str, ...]:
    """Return the replies that fit a greeting, thanks, or a question about the model itself; none for all else."""
    bare = re.sub(r"[^\w' ]+", " ", message.lower()).strip()
    if len(bare) < 120 and _ABLE.search(message):
        return (_RANGE,)
    if len(bare) < 120 and _WHO.search(message):
        return (IDENTITY, f"{IDENTITY} {_RANGE}")
    bare = re.sub(r" +", " ", bare)
    return next((tuple(replies) for how, replies in _TABLES["talk"] if re.fullmatch(how, bare)), ())
