"""Redaction of texts, of nested JSON values, and of texts that come in chunks.

Main path: redact(text), redact_value({"to": ...}); redactor.feed(chunk), then redactor.end().
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from course_lib.redaction.fields import OF_A_TOOL, TYPES, kind_of
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


def redact(text: str) -> str:
    """Return a text with a label in the place of what is personal or secret: "call [phone]"."""
    if len(text) <= LONGEST:
        return labelled(text, find(text))
    head = text[:LOOKED_AT]
    found = find(head)
    return labelled(head, found, end=_safe_end(head, found, LONGEST)) + _CUT


def redact_value(value: Any, *, _depth: int = 0) -> Any:
    """Return a JSON value with every text in it redacted, keys too; other objects become their redacted text.

    What stands in a field that is named for what it holds (`last_name`, `api_key`) is replaced as a whole.
    """
    if value is None or isinstance(value, bool):
        return value
    if _depth > _DEEPEST:
        return _CUT
    if isinstance(value, int | float):
        number = f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
        shown = redact(number) if abs(value) >= 10**6 else number
        return value if shown == number else shown
    if isinstance(value, Mapping):
        fields: dict[str, Any] = {}
        for key, each in value.items():
            name = redact(str(key))
            name = name if name not in fields else f"{name} {len(fields) + 1}"
            fields[name] = _label(str(key), each, value) or redact_value(each, _depth=_depth + 1)
        return fields
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(each, _depth=_depth + 1) for each in value]
    return redact(str(value))


def _label(key: str, value: Any, beside: Mapping[Any, Any]) -> str:
    """Return the label for a value that its field's name gives away; empty if it does not."""
    is_schema = isinstance(value, Mapping) and (str(value.get("type")) in TYPES or "$ref" in value)
    is_of_tool = key == "name" and not OF_A_TOOL.isdisjoint(beside)
    if is_schema or is_of_tool or isinstance(value, bool) or value in ("", None, [], {}):
        return ""
    return f"[{kind}]" if (kind := kind_of(key)) else ""


class StreamRedactor:
    """Redacts a text that comes in chunks: what may be a part of something is held back until it is known."""

    def __init__(self) -> None:
        self._text, self._done, self._look_at, self._is_cut = "", 0, _HELD + _STEP, False

    def feed(self, chunk: str) -> str:
        """Take a chunk; return what is sure by now, perhaps nothing.

        A stream ends where one thing in it, such as a key without an end, is longer than LONGEST.
        """
        self._text += "" if self._is_cut else chunk
        if len(self._text) < self._look_at:  # to look at each chunk anew would cost too much
            return ""
        passed = self._passed(len(self._text) - _HELD)
        held = len(self._text) - self._done
        if held > LONGEST:
            passed += self.end() + _CUT
            self._is_cut, self._text, self._done = True, "", 0
        self._look_at = len(self._text) + max(_STEP, held // 4)
        return passed

    def end(self) -> str:
        """Return the rest."""
        return self._passed(len(self._text), is_last=True)

    def _passed(self, most: int, *, is_last: bool = False) -> str:
        if most <= self._done:
            return ""
        found = find(self._text)
        end = most if is_last else _safe_end(self._text, found, most, self._done)
        if end <= self._done:
            return ""
        passed = labelled(self._text, found, self._done, end)
        start = max(0, end - _BEFORE)
        self._text, self._done = self._text[start:], end - start
        return passed


def _safe_end(text: str, found: list[Found], most: int, least: int = 0) -> int:
    """Return where a text can be cut: in no piece that was found, and in no word; `least` if nowhere."""
    end = max((least + match.end() for match in re.finditer(r"\s", text[least:most])), default=least)
    if end == least and most - least > 2 * _HELD:  # one long word
        end = most
    for each in reversed(found):
        if each.start < end < each.end:
            end = each.start
    return end
