"""One safe line out of any error text: no password, key, connection string, file path or traceback.

Main path: one_line(text, known=(...)); hide(text, known) replaces only values that are known to be secret, in
any encoding; redact() also what looks like a secret. The patterns err on the side of hiding. They are a net
below the adapters, which should not put secrets in their messages in the first place.
Source: the shapes of keys are those that GitHub's secret scanning and detect-secrets look for.
"""

from __future__ import annotations

import base64
import functools
import html.entities
import json
import re
from collections.abc import Iterable
from urllib.parse import unquote

LINE_CHARS = 300
"""How much of an error's text a model is shown."""
READ_CHARS = 5000
"""How much of it is looked at: more cannot matter to a line, and patterns take time."""

_NAMES = (
    r"[\w.-]{0,30}(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|dsn|key|sig(?:nature)?|jwt)"
)
_QUOTE = r"(?:\\{0,4}[\"']|&(?:quot|apos|#34|#39|#x22|#x27);|%2[27])"
_IS = r"\s{0,3}(?:[:=]|%3[ad]|&#61;)\s{0,3}"
_VALUE = (
    r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
    rf"|{_QUOTE}.{{0,500}}?{_QUOTE}|(?:bearer|basic)\s+[^\s,;&]+|[^\s,;&\"')\]}}]+)"
)
_PREFIXES = (
    r"(?:sk|pk|rk|whsec|gh[opsur]|github_pat|gl(?:pat|dt|rt)|xox[a-z]|xapp|hf|pypi|npm|gsk|xai|r8|nvapi|pplx|tvly"
    r"|do[opr]_v1|shp[a-z]{2}|sq0[a-z]{3}|lin_api|dapi|figd|ntn|GOCSPX|sntrys|dckr_pat|PMAK|AGE-SECRET-KEY)[-_]"
)

PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]{0,40}KEY-----.*?(?:-----END [A-Z ]{0,40}KEY-----|\Z)", re.DOTALL),
        "[key]",
    ),
    (re.compile(r"\b[a-z][a-z0-9+.-]{1,30}://[^\s\"'<>]*@[^\s\"'<>]*", re.IGNORECASE), "[address]"),
    (re.compile(r"\bfile:/[^\s\"'<>]*", re.IGNORECASE), "[path]"),
    (re.compile(rf"(?i)({_QUOTE}?\b{_NAMES}{_QUOTE}?{_IS}){_VALUE}"), r"\1[hidden]"),
    (re.compile(rf"(?i)(<(?:\w{{1,30}}:)?{_NAMES}\b[^<>]{{0,100}}>)[^<]+"), r"\1[hidden]"),
    (
        re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)([\"']?\s{0,3}[:=]\s{0,3})[^\r\n,;}]+"),
        r"\1\2[hidden]",
    ),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), r"\1 [hidden]"),
    (re.compile(r"\beyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*)?"), "[token]"),
    (re.compile(rf"(?<![A-Za-z0-9]){_PREFIXES}[\w-]{{8,}}"), "[key]"),
    (
        re.compile(
            r"\b(?:A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{12,}|AIza[\w-]{30,}|ya29\.[\w.-]{10,}|SK[0-9a-f]{32})"
        ),
        "[key]",
    ),
    (
        re.compile(
            r"\bSG\.[\w-]{10,}\.[\w-]{10,}|\b[0-9]{8,10}:[\w-]{35}|\b[MNO][\w-]{23,}\.[\w-]{6}\.[\w-]{27,}"
        ),
        "[key]",
    ),
    (re.compile(r"\b(hooks\.slack\.com/services/|discord(?:app)?\.com/api/webhooks/)[\w/-]+"), r"\1[hidden]"),
    (re.compile(r"\b(user|role|database) \"[^\"]*\""), r"\1 [hidden]"),
    (re.compile(r"\"(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^\"\n]*\"|'(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^'\n]*'"), "[path]"),
    (re.compile(r"(?<![\w/:.<])~?/[\w.~@%+-][^\s\"',;:)>\]]*"), "[path]"),
    (re.compile(r"(?<!\w)(?:[A-Za-z]:[\\/]|\\\\)[^\s\"',;)>\]]+"), "[path]"),
    (re.compile(r",? line \d+(?:, in \S+)?"), ""),
)
"""What is replaced, in this order: whole keys and addresses before the words inside them."""


_SLASHES = r"(?:\\|%(?:25)?5c){1,8}"


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Replace every secret and path in `text`; `known` are values to hide wherever they stand."""
    text = hide(text, known)
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return text


def hide(text: str, known: Iterable[str]) -> str:
    """Replace only the values in `known`, the longest first, also as JSON, HTML, a URL or base64 has them."""
    values = {form for value in known if value for form in (value, unquote(value))}
    for value in sorted(values, key=len, reverse=True):
        text = _any_form(value).sub("[hidden]", text)
    return text


@functools.lru_cache(maxsize=256)
def _any_form(value: str) -> re.Pattern[str]:
    coded = base64.b64encode(value.encode(errors="replace")).decode().rstrip("=")
    return re.compile("|".join(["".join(map(_forms, value)), re.escape(coded)]), re.IGNORECASE)


def _forms(character: str) -> str:
    """Return a pattern of one character: as it is, and as JSON, HTML and URLs write it, once or twice."""
    if character.isascii() and character.isalnum():
        return character
    code, as_json = ord(character), json.dumps(character)[1:-1]
    name = html.entities.codepoint2name.get(code) or ("apos" if character == "'" else f"#{code}")
    in_bytes = "".join(rf"(?:%(?:25)?|\\x){byte:02x}" for byte in character.encode(errors="replace"))
    forms = [re.escape(character), re.escape(as_json).replace(r"\\", _SLASHES), rf"{_SLASHES}[ux]0*{code:x}"]
    forms += [rf"&(?:amp;)?(?:{name}|#0*{code}|#x0*{code:x});", in_bytes, *([r"\+"] * (character == " "))]
    return rf"(?:{_SLASHES})?(?:{'|'.join(forms)})"


def one_line(text: str, known: Iterable[str] = ()) -> str:
    """Return `text` as one redacted line of at most LINE_CHARS; a traceback becomes its last line."""
    if "Traceback (most recent call last)" in text:
        text = text.strip().splitlines()[-1]
    line = " ".join(redact(text[:READ_CHARS], known).split())
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= LINE_CHARS else f"{line[: LINE_CHARS - 1]}…"
