"""The outputs of a prompt without a DSPy field list, as a learner's own adapter may write it.

Main path: loose_outputs(system, tail, answers) -> fields: from the demos, else from the prompt's own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from course_lib.lm.simulator.prompts.task import Field
from course_lib.lm.simulator.prompts.values import labelled, read_json

_TALKS_OF_FIELDS = re.compile(r"json|yaml|xml|\bkeys?\b|\bfields?\b|\blabel|`\w+`", re.IGNORECASE)
_LABEL = re.compile(r"^\s*[#*-]*\s*([A-Za-z_][\w ]{0,30}?)\**\s*[:=]", re.MULTILINE)
_TICKED = re.compile(r"`([A-Za-z_]\w{0,40})`")
_KEYED = re.compile(r"[\"']([A-Za-z_]\w{0,40})[\"']\s*:")
_LISTED = re.compile(
    r"\b(?:keys?|fields?|columns?|labels?|reply with|respond with|answer with|return|output)\b[\s:]+"
    r"([a-z_]\w*(?:\s*(?:,\s*(?:and\s+)?|\sand\s)\s*[a-z_]\w*)*)\s*(?:[.:;\n(]|$)",
    re.IGNORECASE,
)
_CHOICES = re.compile(
    r"[\w-]+(?: [\w-]+)?(?:\s*[,|/]\s*(?:or |and )?[\w-]+(?: [\w-]+)?)+(?:,? (?:or|and) [\w-]+)?"
)
_NOT_NAMES = frozenset(
    {"a", "an", "the", "and", "then", "json", "yaml", "xml", "only", "one", "object", "with"}
)


def loose_outputs(system: str, tail: str, answers: tuple[str, ...]) -> list[Field]:
    """Return the output fields that demos show or that the prompt names; none for plain chat."""
    text = f"{system}\n{tail}"
    for answer in answers:
        if names := _names_in(answer):
            record = {name: str(value) for name, value in (read_json(answer) or {}).items()}
            values = labelled(answer, tuple(names)) or record
            return [_field(name, text, values.get(name)) for name in names]
    if not _TALKS_OF_FIELDS.search(text):
        return []
    for part in (tail, system):
        for candidates in (_TICKED.findall(part), _KEYED.findall(part), _listed(part)):
            if names := _proper(candidates):
                return [_field(name, text) for name in names]
    return []


def _names_in(answer: str) -> list[str]:
    if record := read_json(answer):
        return [str(name) for name in record]
    if tags := re.findall(r"<([A-Za-z_]\w*)>", answer):
        return _proper(tags)
    if markers := re.findall(r"^\[\[ ## (\w+) ## \]\]", answer, re.MULTILINE):
        return [name for name in _proper(markers) if name != "completed"]
    return _proper(_LABEL.findall(answer))


def _listed(text: str) -> list[str]:
    named = _LISTED.search(text)
    return re.findall(r"[A-Za-z_]\w*", named.group(1)) if named else []


def _proper(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.lower() not in _NOT_NAMES]


def _field(name: str, text: str, example: str | None = None) -> Field:
    """Make a field of a name, with the choices beside it, or those among which a demo chooses."""
    beside = re.search(
        rf"[`\"']?{re.escape(name)}[`\"']?\s*(?:\(|:|is|must be|should be)+\s*(?:one of)?:?\s*"
        rf"({_CHOICES.pattern})",
        text,
        re.IGNORECASE,
    )
    if beside and (choices := _split(beside.group(1))):
        return Field(name=name, schema={"enum": choices}, desc=beside.group(1))
    for listed in _CHOICES.findall(text) if example else ():
        choices = _split(re.sub(r"^.*\b(?:into|as|either|of)\s+", "", listed))
        if example and example.strip() in choices:
            return Field(name=name, schema={"enum": choices}, desc=listed)
    return Field(name=name)


def _split(listed: str) -> list[str]:
    parts = (part.strip(" \"'`") for part in re.split(r"[,|/]|\bor\b|\band\b", listed))
    choices = [part for part in dict.fromkeys(parts) if part]
    return choices if len(choices) > 1 and all(len(choice.split()) <= 2 for choice in choices) else []
