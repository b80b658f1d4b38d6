"""Text tools for a model: extract, cut; time grows with the length only, whatever the text.

Main path: text_tools(), or e.g. extract(text, "email"), cut_at_sentence(text, 200).
Every pattern has bounded repeats, so that no text makes one slow; a text of more than TEXT_CHARS is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, TypeAlias

from email_validator import EmailNotValidError, validate_email

from course_lib.adapters.tools.limits import LimitedTool, ToolRefused, limited

TEXT_CHARS = 100_000
"""A longer text is refused."""
MOST_RESULTS = 100
"""Things that one extraction returns at most."""
_BLANK = r"[ \u00a0\u2009\u202f]"
NUMBER = (
    r"(?P<number>[1-9][0-9]{0,2}(?P<group>[.,'\u2019 \u00a0\u2009\u202f])[0-9]{3}"
    r"(?:(?P=group)[0-9]{3}){0,3}(?:(?!(?P=group))[.,][0-9]{1,2})?|[0-9]{1,12}(?:[.,][0-9]{1,2})?)"
)
"""An amount as people write it, in groups of three digits or without, to the cent."""
_NO_PART_BEFORE = (
    r"(?<![\w.,'\u2019%€$£¥+\u2212\u2013-])(?<![0-9][:/])"
    rf"(?<!(?:EUR|USD|GBP|CHF){_BLANK})(?<![€$£¥]{_BLANK})(?:(?<![0-9]{_BLANK})|(?![0-9]{{3}}(?![0-9])))"
)
_NO_PART_AFTER = (
    rf"(?![\w€'\u2019%]|[.,:/\u2212\u2013-][0-9]|{_BLANK}[0-9]{{3}}(?![0-9])"
    rf"|{_BLANK}?(?:EUR|USD|GBP|CHF|[€$£¥]|(?i:thousand|million|billion|mio|mrd|tsd)\b))"
)
"""What would make an amount a part of something longer, which is then no amount."""

Kind: TypeAlias = Literal["email", "order", "customer", "ticket", "amount", "date"]
_BETWEEN = r"\s<>()\[\],;:\"“”„«»…"
"""What stands between e-mail addresses, and never in one."""
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "email": re.compile(
        rf"(?<![^{_BETWEEN}])[^@{_BETWEEN}]{{1,64}}@[^@{_BETWEEN}]{{1,255}}(?![^{_BETWEEN}])"
    ),
    "order": re.compile(r"(?<![\w-])O-[0-9]{5}(?![\w-]|[.,/:][0-9])"),
    "customer": re.compile(r"(?<![\w-])C-[0-9]{3}(?![\w-]|[.,/:][0-9])"),
    "ticket": re.compile(r"(?<![\w-])T-[0-9]{4}(?![\w-]|[.,/:][0-9])"),
    "amount": re.compile(
        rf"{_NO_PART_BEFORE}(?P<before>(?:€|EUR){_BLANK}?)?[-+\u2212]?{NUMBER}"
        rf"(?(before)|{_BLANK}?(?:€|EUR|[Ee]uros?)){_NO_PART_AFTER}"
    ),
    "date": re.compile(
        r"(?<![\w-])[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])(?![\w-]|[.,/:][0-9])"
    ),
}
"""What can be extracted, and the shape of it; an e-mail address is then checked as a whole."""

_SENTENCE_END = re.compile(r"\w\w[.!?…][\"')\]]?(?=\s)")  # not after a single letter: an initial, "e.g."


def extract(text: str, kind: Kind) -> list[str]:
    """Find the e-mail addresses, ids, amounts in euros or dates in a text, each once, in order.

    >>> extract("O-10001, not o-1; and O-10002, O-10001 again", "order")
    ['O-10001', 'O-10002']
    """
    if kind not in PATTERNS:
        raise ToolRefused(f"{kind!r} cannot be extracted; choose one of {', '.join(PATTERNS)}")
    matches = PATTERNS[kind].finditer(_sized(text))
    results = map(_address if kind == "email" else re.Match.group, matches)
    return list(dict.fromkeys(filter(None, results)))[:MOST_RESULTS]


def _address(match: re.Match[str]) -> str | None:
    address = re.sub(r"^(['*`|_]+)(.+)\1$", r"\2", match[0].rstrip(".!?")).rstrip(".!?")
    with suppress(EmailNotValidError):
        validate_email(address, check_deliverability=False)
        return address
    return None


def cut_at_sentence(text: str, characters: int) -> str:
    """Shorten a text to so many characters, at the end of a sentence if there is one, else of a word."""
    if not 1 <= characters <= TEXT_CHARS:
        raise ToolRefused(f"cut to 1 to {TEXT_CHARS} characters, not {characters}")
    text = _sized(text).strip()
    if len(text) <= characters:
        return text
    head = text[: characters + 1]  # one more, to see whether a sentence ends exactly there
    if ends := [match.end() for match in _SENTENCE_END.finditer(head)]:
        return head[: ends[-1]]
    head = text[: max(characters - 1, 0)]
    space = max(head.rfind(" "), head.rfind("\n"))
    return (head[:space] if space > 0 else head).rstrip() + "…"


def text_tools() -> list[LimitedTool]:
    """Return the functions above as limited tools."""
    return [limited(function, deadline_s=2.0) for function in (extract, cut_at_sentence)]


def _sized(text: str) -> str:
    if len(text) > TEXT_CHARS:
        raise ToolRefused(f"the text has {len(text)} characters; at most {TEXT_CHARS} are taken")
    return text
