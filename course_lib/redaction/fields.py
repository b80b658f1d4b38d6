"""What the name of a field tells of its value: in JSON, and in texts that hold JSON, Python's values or XML.

Main path: kind_of("billing_address_2") -> "address"; named(text) -> where the values of such fields stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from course_lib.redaction.forms import BIRTH, NATIONAL, words
from course_lib.redaction.secrets import NAMES


def _as_name(pattern: str) -> str:
    """Return a pattern for words in a text as one for a field's name."""
    return pattern.replace(r"\b", "").replace(" ?", "_?").replace(" ", "_?").replace("-", "_")


_FIELDS = {
    "secret": rf"\w*?(?:{NAMES})|(?:api|access|secret|private|auth|account|signing|encryption|master)_?keys"
    r"|secrets|otp|pass(?:word|wd|phrase|code)?s|pin|cookies?|authorization|auth|sig",
    "name": r"(?:first|last|full|given|family|middle|maiden|customer|user|contact|holder)_?names?|surname"
    r"|recipient|signed_by|(?<!_)names?",
    "email": r"e_?mails?(?:_?address(?:es)?)?",
    "phone": r"(?:tele|mobile_?)?phones?(?:_?numbers?)?|mobile|tel|fax",
    "ip": r"(?:ip|mac)s?(?:_?address(?:es)?)?",
    "address": r"address(?:es)?(?:_?line)?|street|post_?code|plz|postleitzahl|zip(?:_?code)?|ship_to",
    "date_of_birth": rf"birth|{_as_name(BIRTH)}",
    "card": r"(?:card|pan)(?:_?number)?|cvv|cvc",
    "iban": r"ibans?|bank_?account|account_?number",
    "national_id": rf"(?:{_as_name(NATIONAL)})(?:_?(?:no|nr|number|nummer))?",
}
_KIND_OF_FIELD = re.compile(
    rf"(?i)(?:\w+?_)?(?:{'|'.join(f'(?P<{kind}>{pattern})' for kind, pattern in _FIELDS.items())})_?\d{{0,2}}"
)
"""The last words of a field's name tell what it holds: `db_password`, `billing_address_2`."""
OF_A_TOOL = words("args arguments parameters function input input_schema tool_call_id")
"""A `name` beside these is that of a tool."""
TYPES = words("string object number integer array boolean null")
"""What has one of these as its `type` is no value but a JSON schema of one."""


def kind_of(name: str) -> str:
    """Return what a field holds, by its name: "date of birth"; empty if the name does not tell."""
    match = _KIND_OF_FIELD.fullmatch(
        re.sub(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[- .]", "_", name)
    )
    return (match.lastgroup or "").replace("_", " ") if match else ""


# -- within a text: each piece of it is read once, so that no text takes longer than its length ------------

_NAMED = re.compile(
    r"(?P<quote>\\{0,4}[\"'])(?P<field>[^\W\d][\w .-]{0,60})(?P=quote)\s{0,9}:\s{0,9}"  # "last_name": "Kiss"
    r"|(?<![\w.-])(?P<parameter>[^\W\d]\w{0,60})=(?=[\"'\d\[{(-]|\w[\w.]{0,40}\()"  # last_name='Kiss'
    r"|\[\[ ## (?P<part>\w{1,60}) ## \]\]\n(?!\{\w{1,60}\})"  # as DSPy's ChatAdapter writes it
    r"|<(?P<tag>\w{1,60})>"
)
_STRING = {
    quote: re.compile(rf"(?s)(?:[^{quote}\\]|\\.)*") for quote in ("'", '"')
}  # to its end, or to that of the text
_QUOTE = re.compile(r"(\\{0,4})([\"'])")
_NUMBER = re.compile(r"-?\d[\w.]{0,60}")
_BRACKETS = re.compile(r"[\w.]{0,41}[\[{(]")
_TOKEN = re.compile(r"(?s)\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|[\[\]{}()]")
_PART, _TAGGED = re.compile(r"(?s)(?:(?!\n\n|\n?\[\[ ##).){1,2000}"), re.compile(r"[^<]{1,2000}(?=</)")
_MOST_IN_BRACKETS = 4_000
_SCHEMA = re.compile(
    rf"[\"']type\\{{0,4}}[\"']: ?\\{{0,4}}[\"'](?:{'|'.join(sorted(TYPES))})\\{{0,4}}[\"']|[\"']\$ref"
)
_OF_A_TOOL = rf"(?:[\"'](?:{'|'.join(sorted(OF_A_TOOL))})\\{{0,4}}[\"']:|\bargs=)"
_BEFORE_IT = re.compile(rf"{_OF_A_TOOL}[^{{}}\[\]()]*\Z")
_BEHIND_IT = re.compile(rf"[^{{}}\[\]()]{{0,300}}?{_OF_A_TOOL}")
_LABEL = re.compile(r"\[[a-z ]{2,20}\]")


def named(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where a text holds the value of a field whose name tells what it is, and what."""
    at = schema_end = 0
    while match := _NAMED.search(text, at):
        at = match.end()
        name = match["field"] or match["parameter"] or match["part"] or match["tag"]
        if not (kind := kind_of(name)):
            at = match.end("field") if match["field"] else at  # its quote may be another one's first
            continue
        start, end, at = _value(text, match)
        if start == end >= schema_end and (opened := _BRACKETS.match(text, start)):
            end = at = _closed(text, opened.end())
            if _SCHEMA.search(text, start, end):  # read on within it, where no bracket is looked at again
                schema_end, end, at = end, start, start
        is_told = end > start and not _LABEL.fullmatch(text, start, end)
        if is_told and not (name == "name" and _is_of_tool(text, match.start(), at)):
            yield start, end, kind


def _value(text: str, match: re.Match[str]) -> tuple[int, int, int]:
    """Return where the value behind a name begins, ends, and where to read on; in brackets it is empty."""
    start = match.end()
    if match["part"] or match["tag"]:
        value = (_PART if match["part"] else _TAGGED).match(text, start)
        return (start, value.end(), value.end()) if value else (start, start, start)
    if opening := _QUOTE.match(text, start):
        start = opening.end()
        if not opening[1]:
            end = _STRING[opening[2]].match(text, start).end()  # type: ignore[union-attr]
            return start, end, min(end + 1, len(text))
        closing = re.compile(rf"(?<!\\){re.escape(opening[0])}").search(text, start)
        end = closing.start() if closing else len(text)
        return start, end, closing.end() if closing else end
    if value := _NUMBER.match(text, start):
        return start, value.end(), value.end()
    return start, start, start


def _closed(text: str, start: int) -> int:
    """Return where the bracket ends that was opened before; of a very long one, and one left open, a part."""
    depth, most = 1, min(start + _MOST_IN_BRACKETS, len(text))
    for token in _TOKEN.finditer(text, start, most):
        if len(token[0]) == 1:
            depth += 1 if token[0] in "[{(" else -1
        if not depth:
            return token.end()
    return most


def _is_of_tool(text: str, before: int, behind: int) -> bool:
    start = max(0, before - 300)
    return bool(_BEFORE_IT.search(text[start:before]) or _BEHIND_IT.match(text, behind))
