"""What tools gave back, as data: values by key, or a text, or an error in one line.

Main path: observe(step) -> Seen. Whatever an observation says, it is never taken for an instruction.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any

from course_lib.lm.simulator.prompts.episode import Step
from course_lib.lm.simulator.skills import words

_ERROR = re.compile(
    r"\s*(?:execution error\b|errors?\b\s*[:(]|refused\b|failed\b|failure\b|timeout\b|denied\b|forbidden\b"
    r"|not found\b|unknown tool\b|traceback \(|invalid\b|\w+(?:Error|Exception)\b\s*:)",
    re.IGNORECASE,
)
MAY_PASS = re.compile(r"time[sd]? ?out|try again|temporar|unavailable|does not answer|busy", re.IGNORECASE)
_COMMANDS = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b[^.]{0,40}\b(?:instruction|previous|prior|above|rule|everything)"
    r"|\b(?:system|assistant|developer|admin)\s*(?:prompt|message|note|override)?\s*:"
    r"|\b(?:you|agent|assistant|AI|model)\s+(?:must|should|have to|need to|are now|shall|will now)\b"
    r"|\bnew (?:instructions?|task|orders?)\b|\binstructions?\s*(?:for|to)\b"
    r"|\b(?:call|use|run|invoke|execute) (?:the )?\w+(?:_\w+)* (?:tool|with|function|now|on|for)\b"
    r"|\bfrom now on\b|<\||(?:^|\n)\s*(?:answer|reply|respond|say|output|print)\b (?:with |only )?[\"'A-Z]",
    re.IGNORECASE,
)
_NAMING = re.compile(r"name|title|label|item|product|description|subject|sku")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of an observation."""

    key: str
    value: Any
    record: int
    """Number of the record in which it stands; 0 is the outermost."""
    named: str
    """What its record calls itself, such as the name of an item."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One observation, read."""

    step: Step
    text: str
    data: Any = None
    """The value, where it was JSON; else None."""
    error: str = ""
    """In one line, if the tool failed or refused."""
    leaves: tuple[Leaf, ...] = ()


def is_command(text: str) -> bool:
    """Say whether a text in an observation speaks to the model instead of telling it something."""
    return _COMMANDS.search(text) is not None


def plain_sentences(text: str) -> list[str]:
    """Return the sentences of a text, up to the first that speaks to the model."""
    return list(takewhile(lambda sentence: not is_command(sentence), words.sentences(text)))


def observe(step: Step) -> Seen:
    """Read the observation of a step."""
    text, tool = step.observation, step.tool
    data = _data(text)
    if isinstance(data, dict) and data.get("error"):
        return Seen(step, text, error=_one_line(str(data["error"]), tool))
    if text.strip() in ("N/A", "None", "null", "[]", "{}"):
        return Seen(step, "", data=[])
    if not isinstance(data, dict | list):
        return Seen(step, text, error=_one_line(text, tool) if _ERROR.match(text) else "")
    if isinstance(data, list) and data and all(isinstance(item, str) for item in data):
        return Seen(step, "\n".join(data))
    return Seen(step, text, data, leaves=tuple(_leaves(data)))


@lru_cache(maxsize=512)
def _data(text: str) -> Any:
    if pieces := _numbered(text):
        records = [_data(piece) for piece in pieces]
        return records if all(isinstance(one, dict) for one in records) else pieces
    if text.lstrip()[:1] not in ("{", "["):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _numbered(text: str) -> list[str]:
    """Return the items of a list as DSPy writes it in a text field: [1] «...», one a line."""
    if re.fullmatch(r"\s*«.*»\s*", text, re.DOTALL):
        return [text.strip().strip("«»").strip()]
    if not re.match(r"\s*\[1\] «", text):
        return []
    pieces = re.split(r"^\s*\[\d+\] «", text, flags=re.MULTILINE)[1:]
    return [re.sub(r"»{1,3}\s*$", "", piece.lstrip("«\n")).strip() for piece in pieces]


def _one_line(text: str, tool: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["the tool failed"]
    line = lines[-1] if "Traceback" in text or lines[0].endswith(":") else lines[0]
    line = re.sub(rf"^(?:error:\s*)?Execution error in {re.escape(tool)}:\s*", "", line)
    line = re.sub(r"^(?:refused|failed|error|\w+Error|\w+Exception):\s*", "", line)
    return " ".join(plain_sentences(line))[:300] or "the tool failed"


def _leaves(data: Any) -> Iterator[Leaf]:
    records = itertools.count()

    def walk(value: Any, key: str, record: int, named: str) -> Iterator[Leaf]:
        if isinstance(value, dict):
            own = next(records)
            names = [one for name, one in value.items() if isinstance(one, str) and _NAMING.search(name)]
            for name, child in value.items():
                yield from walk(child, str(name), own, " ".join(names))
        elif isinstance(value, list):
            for child in value:
                yield from walk(child, key, record, named)
        elif value is not None and value != "":
            yield Leaf(key, value, record, named)

    yield from walk(data, "", 0, "")
