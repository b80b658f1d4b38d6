"""Redaction of texts, of nested JSON values, and of texts that come in chunks.

Main path: redact(text), redact_value({"to": ...}); redactor.feed(chunk), then redactor.end().
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from course_lib.redaction.personal import Found, find, labelled

LONGEST = 16_000
"""So many characters of a text are looked at and kept; the rest is cut off."""
_HELD, _STEP, _BEFORE = 240, 60, 240
"""Of a stream: so many of the last characters are held back, handed on in such steps, and so many before them
are looked at again."""
LOOKED_AT = LONGEST + _HELD
"""So many characters of a text matter: the last of them tell what those before are a part of."""
_DEEPEST = 20
_CUT = "… [cut]"

_FIELDS = {
    "secret": r"(?:api|access|secret|private|auth)?_?(?:key|token|secret|passw(?:or)?d|pwd|credentials?)"
    r"|authorization",
    "name": r"(?:(?:first|last|full|given|family|sur|middle|customer|user|contact|holder)_?)?name|surname"
    r"|recipient|signed_by",
    "email": r"e_?mail(?:_?address)?",
    "phone": r"(?:tele|mobile_?)?phone(?:_?number)?|mobile|tel|fax",
    "address": r"(?:(?:home|street|postal|shipping|billing|delivery|ship_to)_?)?(?:address|street|postcode)"
    r"|zip(?:_?code)?|ship_to",
    "date of birth": r"birth_?(?:date|day)|date_of_birth|dob",
    "card": r"(?:card|credit_?card|pan)(?:_?number)?|cvv|cvc",
    "iban": r"iban|bank_?account|account_?number",
    "national id": r"ssn|national_?id|passport(?:_?number)?|tax_?id|nino|bsn",
    "ip": r"ip(?:_?address)?|client_?ip",
}
_KIND_OF_FIELD = re.compile(
    "|".join(f"(?P<{kind.replace(' ', '_')}>{pattern})" for kind, pattern in _FIELDS.items()), re.IGNORECASE
)
_NO_PERSON = frozenset({"args", "arguments", "parameters", "type", "function"})
"""A `name` beside these is that of a tool."""


def redact(text: str) -> str:
    """Return a text with a label in the place of what is personal or secret: "call [phone]"."""
    if len(text) <= LONGEST:
        return labelled(text, find(text))
    head = text[:LOOKED_AT]
    found = find(head)
    end = _safe_end(head, found, LONGEST)
    return labelled(head[:end], [each for each in found if each.end <= end]) + _CUT


def redact_value(value: Any, *, _depth: int = 0) -> Any:
    """Return a JSON value with every text in it redacted, keys too; other objects become their redacted text.

    What stands in a field that is named for what it holds (`last_name`, `api_key`) is replaced as a whole.
    """
    if value is None or isinstance(value, bool | float):
        return value
    if _depth > _DEEPEST:
        return _CUT
    if isinstance(value, int):
        shown = redact(str(value)) if abs(value) >= 10**6 else str(value)
        return value if shown == str(value) else shown
    if isinstance(value, Mapping):
        is_tool = not _NO_PERSON.isdisjoint(value)
        return {
            redact(str(key)): _labelled_field(str(key), each, is_tool=is_tool)
            or redact_value(each, _depth=_depth + 1)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(each, _depth=_depth + 1) for each in value]
    return redact(str(value))


def _labelled_field(key: str, value: Any, *, is_tool: bool) -> str:
    """Return the label for a value that its field's name gives away; empty if it does not."""
    spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).replace("-", "_").replace(" ", "_")
    match = _KIND_OF_FIELD.fullmatch(spelled)
    if match is None or value in ("", None) or not isinstance(value, str | int) or isinstance(value, bool):
        return ""
    if is_tool and key == "name":
        return ""
    return f"[{(match.lastgroup or '').replace('_', ' ')}]"


class StreamRedactor:
    """Redacts a text that comes in chunks: what may be a part of something is held back until it is known."""

    def __init__(self) -> None:
        self._text, self._done = "", 0

    def feed(self, chunk: str) -> str:
        """Take a chunk; return what is sure by now, perhaps nothing."""
        self._text += chunk
        if len(self._text) - self._done < _HELD + _STEP:  # to look at each chunk anew would cost too much
            return ""
        return self._passed(len(self._text) - _HELD)

    def end(self) -> str:
        """Return the rest."""
        return self._passed(len(self._text), is_last=True)

    def _passed(self, most: int, *, is_last: bool = False) -> str:
        if most <= self._done:
            return ""
        found = find(self._text)
        end = most if is_last else _safe_end(self._text, found, most)
        if end <= self._done:
            return ""
        here = [
            Found(max(each.start, self._done) - self._done, each.end - self._done, each.kind)
            for each in found
            if each.end > self._done and each.end <= end
        ]
        passed = labelled(self._text[self._done : end], here)
        start = max(0, end - _BEFORE)
        self._text, self._done = self._text[start:], end - start
        return passed


def _safe_end(text: str, found: list[Found], most: int) -> int:
    """Return where a text can be cut: in no piece that was found, and in no word."""
    end = max((match.end() for match in re.finditer(r"\s", text[:most])), default=0)
    if not end and most > 2 * _HELD:  # one long word
        end = most
    for each in reversed(found):
        if each.start < end < each.end:
            end = each.start
    return end
