"""The outputs of a prompt without DSPy's field list: a picture of the object, a schema, keys that it names.

Main path: loose_outputs(system, last, answers) -> fields; payload(last) -> the text to work on;
corrected(fields, message) -> the fields as a validator's message says that they should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from course_lib.lm.simulator.prompts import schema as types
from course_lib.lm.simulator.prompts.fields import types_of
from course_lib.lm.simulator.prompts.schema import Schema
from course_lib.lm.simulator.prompts.task import Field
from course_lib.lm.simulator.prompts.values import read_json
from course_lib.lm.simulator.reading import parsed

_TALKS_OF_FIELDS = re.compile(r"json|yaml|xml|\bkeys?\b|\bfields?\b|\blabel|`\w+`", re.IGNORECASE)
_LABEL = re.compile(r"^\s*[#*-]*\s*([A-Za-z_][\w ]{0,30}?)\**\s*[:=]", re.MULTILINE)
_TICKED = re.compile(r"`([A-Za-z_]\w{0,40})`")
_KEYED = re.compile(r"[\"']([A-Za-z_]\w{0,40})[\"']\s*:")
_QUOTED_KEYS = re.compile(
    r"\bkeys?\b[^.\n]{0,20}?((?:[\"'][A-Za-z_]\w{0,40}[\"'](?:\s*\([^)]*\))?(?:\s*,\s*"
    r"|\s*(?:,\s*)?and\s+)?)+)"
)
_NAMED = r"[a-z_]\w*(?:\s*\((?:[^()]*)\))?"
_LISTED = re.compile(
    r"\b(?:keys?|fields?|columns?|labels?|extract(?: the)?|give me|reply with|respond with|answer with|return"
    r"|output)\b[\s:]+"
    rf"({_NAMED}(?:\s*(?:,\s*(?:and\s+)?|\sand\s)\s*(?:the\s+|an?\s+)?{_NAMED})*)\s*(?:[.:;\n]|$|as\b"
    rf"|in\b|from\b)",
    re.IGNORECASE,
)
_CHOICES = re.compile(
    r"[\w-]+(?: [\w-]+)?(?:\s*[,|/]\s*(?:or |and )?[\w-]+(?: [\w-]+)?)+(?:,? (?:or|and) [\w-]+)?"
)
_NOT_NAMES = frozenset(
    "a an the and then json yaml xml only one object with its valid this these that array list as".split()  # noqa: SIM905
)
_TYPES = (
    (r"(?:list|array) of (?:strings?|texts?|words)|list\[str\]|string\[\]"
    r"|strings", {"type": "array", "items": {"type": "string"}}),
    (r"(?:list|array) of (?:int\w*|numbers?|floats?)", {"type": "array", "items": {"type": "number"}}),
    (r"string|str|text", {"type": "string"}),
    (r"int|integer|whole number", {"type": "integer"}),
    (r"float|number|decimal|double", {"type": "number"}),
    (r"bool|boolean|true/false|true or false|true ?\| ?false", {"type": "boolean"}),
    (r"date|iso date|yyyy-mm-dd", {"type": "string", "format": "date"}),
    (r"list|array", {"type": "array", "items": {"type": "string"}}),
)  # fmt: skip


def loose_outputs(system: str, last: str, answers: tuple[str, ...]) -> list[Field]:
    """Return the output fields that demos show or that the prompt names; none for plain chat."""
    text = f"{system}\n{last}"
    for answer in answers:
        if names := _names_in(answer):
            return [_field(name, text) for name in names]
    if not _TALKS_OF_FIELDS.search(text):
        return []
    for part in (last, system):
        if pictured := _pictured(part):
            return pictured
        keys = " ".join(_QUOTED_KEYS.findall(part))
        for candidates in (
            re.findall(r"\w+(?=[\"'])", keys),
            _TICKED.findall(part),
            _KEYED.findall(part),
            _listed(part),
        ):
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
    return re.findall(r"[A-Za-z_]\w*", re.sub(r"\([^)]*\)", "", named.group(1))) if named else []


def _proper(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.lower() not in _NOT_NAMES]


def _field(name: str, text: str) -> Field:
    """Make a field of a name, with the type or the choices beside it."""
    said = re.search(rf"[`\"']?\b{re.escape(name)}\b[`\"']?\s*\(([^()]{{1,80}})\)", text, re.IGNORECASE)
    if said and (stated := _stated(said.group(1))):
        return Field(name=name, schema=stated, desc=said.group(1))
    beside = re.search(
        rf"[`\"']?{re.escape(name)}[`\"']?\s*(?:\(|:|is|must be|should be)+\s*(?:one of)?:?\s*"
        rf"({_CHOICES.pattern})",
        text,
        re.IGNORECASE,
    )
    if beside and (choices := _split(beside.group(1))):
        return Field(name=name, schema={"enum": choices}, desc=beside.group(1))
    return Field(name=name, schema=_listed_or_single(name), desc=said.group(1) if said else "")


def _split(listed: str) -> list[str]:
    parts = (part.strip(" \"'`") for part in re.split(r"[,|/]|\bor\b|\band\b", listed))
    choices = [part for part in dict.fromkeys(parts) if part]
    return choices if len(choices) > 1 and all(len(choice.split()) <= 2 for choice in choices) else []


def _stated(said: str) -> Schema | None:
    """Return the type that words state, such as `list of strings` or `a whole number`."""
    bare = re.sub(r"^(?:an?|the)\s+|,.*$", "", said.strip().strip("<>").lower())
    return next((dict(kind) for pattern, kind in _TYPES if re.fullmatch(pattern, bare)), None)


def guessed(name: str) -> Schema:
    """Return the type that a bare name suggests."""
    if re.match(r"(?:is|has|can|should|was|needs)_", name):
        return {"type": "boolean"}
    if re.fullmatch(_FIGURES, name):
        return {"type": "number", "x-whole": True}
    return (
        {"type": "string", "format": "date"}
        if re.search(r"(?:^|_)(?:date|birthday)$", name)
        else {"type": "string"}
    )


def _listed_or_single(name: str) -> Schema:
    is_list = re.fullmatch(_LISTS, name)
    return {"type": "array", "items": {"type": "string"}} if is_list else guessed(name)


_FIGURES = (
    r"(?:\w+_)?(?:age|count|quantity|qty|price|amount|total|population|score|rating|cost|weight|height|year|page"
    r"|confidence|number_of_\w+|temperature|stars|points|stock|area|level|speed|length|width|duration)"
)
_LISTS = (
    r"(?:\w+_)?(?:tags|keywords|topics|names|items|steps|points|people|cities|entities|ingredients|emails)"
)

# -- a picture of the object -------------------------------------------------------------------------------


def _pictured(text: str) -> list[Field]:
    """Return the fields of the first JSON object, or schema, that a text shows as the form of the reply."""
    for start in (match.start() for match in re.finditer(r"\{\s*[\"'\w]", text)):
        block = re.sub(r"//[^\n]*", "", text[start : _closing(text, start)])
        whole = parsed(block, types.literal(block))
        if isinstance(whole, dict) and isinstance(whole.get("properties"), dict):
            return types_of(whole)
        shown = _shape(whole, "") if isinstance(whole, dict) else types.from_baml(block)
        if shown.get("properties"):
            return types_of(shown)
    return []


def _closing(text: str, start: int) -> int:
    depth = 0
    for mark in re.finditer(rf"{types.QUOTED}|[{{}}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(mark.group(), 0)
        if depth == 0:
            return start + mark.end()
    return len(text)


def _shape(shown: Any, name: str) -> Schema:
    """Return the type of a value of which an example is shown, or a word for its type, or alternatives."""
    if isinstance(shown, dict):
        return {
            "type": "object",
            "properties": {str(key): _shape(one, str(key)) for key, one in shown.items()},
        }
    if isinstance(shown, list):
        item = _shape(shown[0], name.removesuffix("s")) if shown else {"type": "string"}
        return {"type": "array", "items": item}
    if not isinstance(shown, str):
        kind = {bool: "boolean", int: "integer", float: "number"}.get(type(shown))
        return {"type": kind} if kind else guessed(name)
    options = [part.strip("\"'<> ") for part in shown.split("|")]
    if stated := next(filter(None, map(_stated, options)), None):
        return stated
    if len(options) > 1:
        return {"enum": options}
    guess = _listed_or_single(name) if options[0] in ("", "...") else {"type": "string"}
    return {**guess, "description": options[0]} if " " in options[0] else guess


# -- the text to work on -----------------------------------------------------------------------------------

_FORM = re.compile(
    r"\b(?:json|keys?|schema|format|yaml|respond|reply|answer (?:as|in|with|only)|output only"
    r"|no other text)\b",
    re.IGNORECASE,
)
_INTRODUCED = re.compile(
    r"(?:^|[.!?\n]\s*|\b)(?:this |the |following |my )?(?:text|input|review|message|e-?mail|sentence|note"
    r"|ticket|passage|document|article|comment"
    r"|description|order|post|paragraph)\s*:\s*(?=\S)",
    re.IGNORECASE,
)


def payload(last: str) -> str:
    """Return the part of a message that is to be worked on, without what it says of the form of the reply."""
    quoted = re.search(r":\s*[\"“']([^\"”]{8,})[\"”']\s*\.?$", last) or re.search(
        r"(?<!\w)[\"“]([^\"”\n]{25,})[\"”]", last
    )
    if quoted:
        return quoted.group(1)
    start = last.find("{")
    bare = (
        (last[:start] + last[_closing(last, start) :]).strip()
        if start >= 0 and re.search(r"[\"']\s*:", last[start:])
        else last
    )
    if introduced := _INTRODUCED.search(bare):
        return bare[introduced.end() :].strip()
    head, colon, tail = bare.partition(":")
    if colon and len(tail.split()) > 2 and _FORM.search(head):
        return tail.strip()
    kept = [part for part in re.split(r"(?<=[.!?])\s+|\n+", bare) if not _FORM.search(part)]
    return "\n".join(kept).strip() or bare


# -- a second try ------------------------------------------------------------------------------------------

_COMPLAINS = re.compile(
    r"validation errors?\b|could not (?:be )?pars|failed to pars|not valid json|invalid json"
    r"|input should be|is not valid|did not (?:match|validate)"
    r"|correct (?:the|your) (?:errors?|json|output|answer)|fix the errors?",
    re.IGNORECASE,
)


def is_complaint(message: str) -> bool:
    """Say whether a message is a validator's, about the reply before it."""
    return _COMPLAINS.search(message) is not None


def corrected(fields: tuple[Field, ...], message: str) -> tuple[Field, ...]:
    """Return the fields with the types and bounds that a validator's message asks for."""
    return tuple(replace(field, schema={**field.schema, **_asked(field.name, message)}) for field in fields)


def _asked(name: str, message: str) -> Schema:
    said = re.search(
        rf"^[`\"']?{re.escape(name)}\b[^\n]*\n?[^\n]*(?:should|must|at least|at most)[^\n]*",
        message,
        re.MULTILINE,
    )
    if not said:
        return {}
    if among := re.search(r"should be ('[^\n\[]+')", said.group()):
        return {"enum": re.findall(r"'([^']*)'", among.group(1))}
    kind = re.search(r"\bvalid (\w+)", said.group())
    asked: Schema = (_stated(kind[1]) if kind else None) or {}
    for phrase, keyword in types.LIMITS.items():
        if bound := re.search(rf"{phrase} (-?\d[\d.]*)", said.group()):
            return {**asked, keyword: types.literal(bound.group(1))}
    return asked
