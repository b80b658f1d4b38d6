"""Text tools for a model: extract, cut; time grows with the length only, whatever the text.

Main path: text_tools(), or e.g. extract(text, "email"), cut_at_sentence(text, 200).
Every pattern has bounded repeats and no two that can match the same characters in two ways, so that no text
makes one slow; and a text longer than TEXT_CHARS is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from email_validator import EmailNotValidError, validate_email

from course_lib.adapters.tools.limits import LimitedTool, ToolRefused, limited

TEXT_CHARS = 100_000
"""A longer text is refused."""
MOST_RESULTS = 100
"""Things that one extraction returns at most."""
NUMBER = r"(?:[1-9]\d{0,2}(?:[.,' ]\d{3}){1,4}|\d{1,12})(?:[.,]\d{1,2})?"
"""An amount as people write it, in groups of three digits or without, to the cent."""

Kind: TypeAlias = Literal["email", "order", "customer", "ticket", "amount", "date"]
_EURO = r"(?:€|EUR|euros?)"
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "email": re.compile(r"(?<![^\s<>()\[\],;:\"])[^\s<>()\[\],;:\"@]{1,64}@[^\s<>()\[\],;:\"@]{1,255}"),
    "order": re.compile(r"(?<![\w-])O-[0-9]{5}(?![\w-])"),
    "customer": re.compile(r"(?<![\w-])C-[0-9]{3}(?![\w-])"),
    "ticket": re.compile(r"(?<![\w-])T-[0-9]{4}(?![\w-])"),
    "amount": re.compile(
        rf"(?<![\w.,])(?:(?:€|EUR) ?{NUMBER}|{NUMBER} ?{_EURO})(?![\w']|[.,]\d| \d{{3}}(?!\d))", re.ASCII
    ),
    "date": re.compile(r"(?<![\w-])[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])(?![\w-])"),
}
"""What can be extracted, and the shape of it; an e-mail address is then checked as a whole."""

_SENTENCE_END = re.compile(r"[.!?…][\"')\]]?(?=\s)")
_ABBREVIATIONS = "e.g. i.e. mr. mrs. ms. dr. no. st. approx. incl. vs. etc."


def extract(text: str, kind: Kind) -> list[str]:
    """Find the e-mail addresses, ids, amounts in euros or dates in a text, each once, in order.

    >>> extract("O-10001, not o-1; and O-10002, O-10001 again", "order")
    ['O-10001', 'O-10002']
    """
    if kind not in PATTERNS:
        raise ToolRefused(f"{kind!r} cannot be extracted; choose one of {', '.join(PATTERNS)}")
    matches = (match[0] for match in PATTERNS[kind].finditer(_sized(text)))
    results = dict.fromkeys(_addresses(matches) if kind == "email" else matches)
    return list(results)[:MOST_RESULTS]


def _addresses(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        address = word.strip(".'!?")
        try:
            validate_email(address, check_deliverability=False)
        except EmailNotValidError:
            continue
        yield address


def cut_at_sentence(text: str, characters: int) -> str:
    """Shorten a text to so many characters, at the end of a sentence if there is one, else of a word."""
    if not 1 <= characters <= TEXT_CHARS:
        raise ToolRefused(f"cut to 1 to {TEXT_CHARS} characters, not {characters}")
    text = _sized(text).strip()
    if len(text) <= characters:
        return text
    head = text[: characters + 1]  # one more, to see whether a sentence ends exactly there
    ends = [match.end() for match in _SENTENCE_END.finditer(head) if not _abbreviated(head[: match.end()])]
    if ends:
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


def _abbreviated(head: str) -> bool:
    """Whether a text ends in an abbreviation or a single initial, not a sentence."""
    word = head[-20:].split()[-1].casefold()
    return word in _ABBREVIATIONS.split() or (len(word) == 2 and word[0].isalpha() and word[1] == ".")
