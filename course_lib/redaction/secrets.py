"""One safe line out of any error text: no password, key, connection string, file path or traceback.

Main path: one_line(text, known=(...)); hide(text, known) replaces only values that are known to be secret, in
any encoding; hide_secrets() also what looks like a secret, and errs on the side of hiding: it is a net below
the adapters, which should not put secrets in their messages in the first place.
Source: the shapes of keys that GitHub's secret scanning and detect-secrets look for.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus, unquote

LINE_CHARS = 300
"""How much of an error's text a model is shown."""
READ_CHARS = 5000
"""How much of it is looked at: more cannot matter to a line, and patterns take time."""

_NO_KEYS = "tur mon don oc whis hot sort sort_ primary primary_ foreign foreign_ cache cache_"
NAMES = (
    r"pass(?:wor[dt]|wd|phrase|code|(?<!compass)(?<!bypass))|pwd|secret|token|credentials?|dsn|jwt|session_?id"
    r"|mot[_ ]de[_ ]passe|contraseña|wachtwoord|hasło"
    rf"|key{''.join(f'(?<!{word}key)' for word in _NO_KEYS.split())}"
)
"""How names of secrets end: before an = or a colon in a text, and those of fields."""
_NAME = rf"[\w.-]{{0,30}}(?:{NAMES}|(?:sig(?:nature)?|auth)(?==|%))"
_QUOTE = r"(?:\\{0,4}[\"']|&(?:quot|apos|#34|#39|#x22|#x27);|%2[27])"
_IS = r"\s{0,3}(?:=>|[:=]|%3[ad]|&#61;)\s{0,3}"
_VALUE = (
    r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[\"'][^\"'\n]*\Z"
    rf"|{_QUOTE}.{{0,500}}?{_QUOTE}|(?:bearer|basic)\s+[^\s,;&]+|[^\s,;&\"')\]}}]+)"
)
_KEY = (
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|whsec|gh[opsur]|github_pat|gl(?:pat|dt|rt)|xox[a-z]|xapp|hf|pypi|npm|gsk|xai"
    r"|r8|nvapi|pplx|tvly|do[opr]_v1|shp[a-z]{2}|sq0[a-z]{3}|lin_api|figd|ntn|GOCSPX|sntrys|dckr_pat|PMAK"
    r"|glsa|NRAK|sbp|pcsk|pscale_tkn|lsv2_pt|rubygems|AGE-SECRET-KEY)[-_][\w-]{8,}|dapi[0-9a-f]{32}|hvs\.[\w-]{8,}"
    r"|A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{12,}|AIza[\w-]{30,}|ya29\.[\w.-]{10,}|SK[0-9a-f]{32}"
    r"|SG\.[\w-]{10,}\.[\w-]{10,}|[0-9]{8,10}:[\w-]{35}|[MNO][\w-]{23,}\.[\w-]{6}\.[\w-]{27,})"
)
_SECRETS = {
    r"(?s)-----BEGIN [A-Z ]{0,40}KEY( BLOCK)?-----.*?(?:-----END [A-Z ]{0,40}KEY\1-----|\Z)": "[key]",
    r"(?i)\b[a-z][a-z0-9+.-]{1,30}://\S*@[^\s\"'<>]*": "[address]",
    r"(?<![:/\w])//\S{1,200}@[^\s\"'<>]*": "[address]",
    rf"(?i)({_QUOTE}?\b{_NAME}{_QUOTE}?{_IS}){_VALUE}": r"\1[hidden]",
    r"(?i)\b((?:password|identified by)\s{1,3})"
    r"(?:[eu]?&?(?:'[^']*(?:'|\Z))+|\"[^\"]*\"|\$(\w*)\$.*?\$\2\$)": r"\1[hidden]",
    rf"(?i)((?:--|\bx-){_NAME}\s{{1,3}})(?!(?:is|was|header)\b){_VALUE}": r"\1[hidden]",
    r"(\bcurl\b[^\n]{0,200}?\s(?:-u|--user)[ =]?[\"']?[^\s:\"']{1,64}:)[^\s\"']+": r"\1[hidden]",
    r"(\bmysql\w{0,10}\b[^\n]{0,200}?\s-p)[^\s\"']\S*": r"\1[hidden]",
    rf"(?i)(<(?:\w{{1,30}}:)?{_NAME}\b[^<>]{{0,100}}>)[^<]+": r"\1[hidden]",
    rf"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)({_QUOTE}?{_IS})[^\r\n}}]+": r"\1\2[hidden]",
    r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}": r"\1 [hidden]",
    r"\beyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*)?": "[token]",
    _KEY: "[key]",
    r"\b(hooks\.slack\.com/services/|discord(?:app)?\.com/api/webhooks/)[\w/-]+": r"\1[hidden]",
    r"\b(for user|role|database) \"[^\"]*\"": r"\1 [hidden]",
}
_PLACES = {
    r"(?i)\bfile:/[^\s\"'<>]*": "[path]",
    r"\"(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^\"\n]*\"|'(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^'\n]*'": "[path]",
    r"(?<![\w/:.<])~?/[\w.~@%+-][^\s\"',;:)>\]]*": "[path]",
    r"(?<!\w)(?:[A-Za-z]:[\\/]|\\\\)[^\s\"',;)>\]]+": "[path]",
    r",? line \d+(?:, in \S+)?": "",
}
PATTERNS = tuple((re.compile(pattern), instead) for pattern, instead in {**_SECRETS, **_PLACES}.items())
"""What is replaced, in this order: whole keys and addresses before the words inside them."""
SECRETS = tuple(re.compile(pattern) for pattern in _SECRETS)
"""Of these, what is secret wherever it stands; the others are places on a machine."""

_SPELLED = ("&#{};", "&#x{:x};", r"\u{:04x}", r"\u{:04X}", r"\x{:02x}", "%{:02X}")
_ENCODERS: tuple[Callable[[str], str], ...] = (
    *(str, html.escape, quote, quote_plus, unquote, lambda text: quote(text, safe="")),
    *(lambda text: json.dumps(text)[1:-1], lambda text: json.dumps(text, ensure_ascii=False)[1:-1]),
    lambda text: re.sub("[<>&]", lambda sign: rf"\u{ord(sign[0]):04x}", json.dumps(text)[1:-1]),
    lambda text: text.replace("/", r"\/"),
    lambda text: re.sub("%..", lambda code: code[0].lower(), quote(text, safe="")),
    *(lambda text: html.escape(text, quote=False), lambda text: html.escape(text).replace("&#x27;", "&#39;")),
    *(lambda text: repr(text)[1:-1], lambda text: repr(text.encode(errors="replace"))[2:-1]),
    lambda text: base64.b64encode(text.encode(errors="replace")).decode().rstrip("="),
    *(lambda text: text.encode().hex(), lambda text: text.encode().hex().upper()),
    *(lambda text, form=form: "".join(form.format(ord(sign)) for sign in text) for form in _SPELLED),
)
"""What JSON, HTML, URLs, Python and HTTP make of a text; one may stand within another."""


def hide_secrets(text: str, known: Iterable[str] = ()) -> str:
    """Replace every secret and path in `text`; `known` are values to hide wherever they stand."""
    text = hide(text, known)
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return text


def hide(text: str, known: Iterable[str]) -> str:
    """Replace only the values in `known`, the longest first, also as JSON, HTML, a URL or base64 has them."""
    forms = {form for value in known if value for form in _forms(value) if form.strip()}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "[hidden]")
    return text


@functools.lru_cache(maxsize=256)
def _forms(value: str) -> frozenset[str]:
    once = {encode(value.encode(errors="replace").decode()) for encode in _ENCODERS}
    forms = {value} | {encode(form) for form in once for encode in _ENCODERS}
    for before in range(3 if len(value) > 4 else 0):  # within base64, as a password behind its user
        padded = bytes(before) + value.encode(errors="replace")
        forms.add(base64.b64encode(padded).decode()[-(-before * 8 // 6) : len(padded) * 8 // 6])
    return frozenset(forms)


def one_line(text: str, known: Iterable[str] = ()) -> str:
    """Return `text` as one redacted line of at most LINE_CHARS; a traceback becomes its last line."""
    if "Traceback (most recent call last)" in text:
        text = text.strip().splitlines()[-1]
    line = " ".join(hide_secrets(text[:READ_CHARS], known).split())
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= LINE_CHARS else f"{line[: LINE_CHARS - 1]}…"
