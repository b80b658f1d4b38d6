"""One safe line out of any error text: no password, key, connection string, file path or traceback.

Main path: one_line(text, known=(...)); redact() leaves the line breaks alone.
The patterns err on the side of hiding. They are a net below the adapters, which should not put secrets in
their messages in the first place; a value that is known to be secret is named in `known`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LINE_CHARS = 300
"""How much of an error's text a model is shown."""
READ_CHARS = 5000
"""How much of it is looked at: more cannot matter to a line, and patterns take time."""

_NAMES = (
    r"\w{0,30}(?:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|dsn)"
    r"|(?:\w{1,30}[_-])?(?:api|access|private)?key"
)
_VALUE = r"""(?:"[^"]*"|'[^']*'|(?:bearer|basic)\s+[^\s,;&]+|[^\s,;&"')\]}]+)"""

PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]{0,40}KEY-----.*?(?:-----END [A-Z ]{0,40}KEY-----|\Z)", re.DOTALL),
        "[key]",
    ),
    (re.compile(r"\b[a-z][a-z0-9+.-]{1,30}://[^\s\"'<>]*@[^\s\"'<>]*", re.IGNORECASE), "[address]"),
    (re.compile(r"\bfile:/[^\s\"'<>]*", re.IGNORECASE), "[path]"),
    (
        re.compile(rf"(?i)([\"']?\b(?:{_NAMES})[\"']?\s{{0,3}}[:=]\s{{0,3}}){_VALUE}"),
        r"\1[hidden]",
    ),
    (
        re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)([\"']?\s{0,3}[:=]\s{0,3})[^\r\n,;}]+"),
        r"\1\2[hidden]",
    ),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), r"\1 [hidden]"),
    (re.compile(r"\beyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*)?"), "[token]"),
    (re.compile(r"\b(?:sk|pk|rk|ghp|gho|ghs|glpat|github_pat|xox[abpr]|hf|pypi)[-_][\w-]{8,}"), "[key]"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"), "[key]"),
    (re.compile(r"\b(user|role|database) \"[^\"]*\""), r"\1 [hidden]"),
    (re.compile(r"\"(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^\"\n]*\"|'(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^'\n]*'"), "[path]"),
    (re.compile(r"(?<![\w/:.<])~?/[\w.~@%+-][^\s\"',;:)>\]]*"), "[path]"),
    (re.compile(r"(?<!\w)(?:[A-Za-z]:[\\/]|\\\\)[^\s\"',;)>\]]+"), "[path]"),
    (re.compile(r",? line \d+(?:, in \S+)?"), ""),
)
"""What is replaced, in this order: whole keys and addresses before the words inside them."""


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Replace every secret and path in `text`; `known` are values to hide wherever they stand."""
    text = hide(text, known)
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return text


def hide(text: str, known: Iterable[str]) -> str:
    """Replace only the values in `known`, the longest first."""
    for value in sorted((value for value in known if value), key=len, reverse=True):
        text = text.replace(value, "[hidden]")
    return text


def one_line(text: str, known: Iterable[str] = ()) -> str:
    """Return `text` as one redacted line of at most LINE_CHARS; a traceback becomes its last line."""
    if "Traceback (most recent call last)" in text:
        text = text.strip().splitlines()[-1]
    line = " ".join(redact(text[:READ_CHARS], known).split())
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= LINE_CHARS else f"{line[: LINE_CHARS - 1]}…"
