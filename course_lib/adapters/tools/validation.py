"""Checks of what somebody wrote down: an IBAN, e-mail, order, date or phone, with the reason if it is wrong.

Main path: validate("iban", "DE89 3704 0044 0532 0130 00") -> Verdict(True, "DE89370400440532013000", "");
validator() is the same as a limited tool. A reason says what would be right, so that an agent can mend it.
A check of form only: that an address is well-formed does not mean that anybody reads mail there.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from course_lib.adapters.tools.limits import LimitedTool, ToolRefused, limited
from course_lib.adapters.tools.text import PATTERNS

VALUE_CHARS = 200
"""Longer values are refused unread."""

Kind: TypeAlias = Literal["iban", "email", "order", "date", "phone"]

_LENGTHS = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 ES24
    FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IS26 IT27 JO30 KW30 KZ20 LB28
    LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24
    RS22 SA24 SE24 SI19 SK24 SM27 TN24 TR26 UA29 VA22 VG24 XK20
"""
IBAN_LENGTHS: Mapping[str, int] = MappingProxyType({row[:2]: int(row[2:]) for row in _LENGTHS.split()})
"""Length by country, from the IBAN registry."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found."""

    is_valid: bool
    value: str
    """The value in its normal form, if valid; as it was given, if not."""
    reason: str
    """Why it is not valid, and what would be right; empty if it is."""


def validate(kind: Kind, value: str) -> Verdict:
    """Check a value and give it in its normal form, or say what is wrong with it.

    >>> validate("order", "o-10001").reason
    "'o-10001' is not an order id; they are O- and five digits, such as O-10001"
    """
    if kind not in _CHECKS:
        raise ToolRefused(f"{kind!r} cannot be checked; choose one of {', '.join(_CHECKS)}")
    if len(value) > VALUE_CHARS:
        return Verdict(False, value[:VALUE_CHARS], f"it is longer than {VALUE_CHARS} characters")
    if not value.strip():
        return Verdict(False, value, "it is empty")
    if not value.isascii() or not value.isprintable():
        odd = next(c for c in value if not (c.isascii() and c.isprintable()))
        return Verdict(False, value, f"it contains {unicodedata.name(odd, 'an invisible character').lower()}")
    normal, reason = _CHECKS[kind](value.strip())
    return Verdict(not reason, value if reason else normal, reason)


def validator() -> LimitedTool:
    """Return `validate` as a limited tool; its answer is "valid: <normal form>" or "not valid: <reason>"."""

    def check(kind: Kind, value: str) -> str:
        """Check an iban, email, order id, date (year-month-day) or phone number that somebody wrote."""
        verdict = validate(kind, value)
        return f"valid: {verdict.value}" if verdict.is_valid else f"not valid: {verdict.reason}"

    return limited(check, name="validate", deadline_s=2.0, output_chars=500)


def _iban(value: str) -> tuple[str, str]:
    text = value.replace(" ", "").upper()
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}", text):
        return "", "an IBAN is two letters, two digits, and then letters and digits"
    length = IBAN_LENGTHS.get(text[:2])
    if length is None:
        return "", f"{text[:2]!r} is not a country with IBANs"
    if len(text) != length:
        return "", f"an IBAN of {text[:2]} has {length} characters, and this has {len(text)}"
    number = int("".join(str(int(character, 36)) for character in text[4:] + text[:4]))
    return (text, "") if number % 97 == 1 else ("", "its check digits do not fit: a character is wrong")


def _email(value: str) -> tuple[str, str]:
    if value.count("@") != 1:
        return "", f"an e-mail address has one @, and this has {value.count('@')}"
    name, _, domain = value.partition("@")
    if len(name) > 64:
        return "", "the part before the @ is longer than 64 characters"
    if not PATTERNS["email"].fullmatch(value):
        return "", f"{value!r} is not an e-mail address; they look like name@shop.example"
    return f"{name}@{domain.lower()}", ""


def _order(value: str) -> tuple[str, str]:
    if PATTERNS["order"].fullmatch(value):
        return value, ""
    return "", f"{value!r} is not an order id; they are O- and five digits, such as O-10001"


def _date(value: str) -> tuple[str, str]:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return "", f"{value!r} is not a date; write year-month-day, such as 2026-05-31"
    try:
        return datetime.date.fromisoformat(value).isoformat(), ""
    except ValueError as error:
        return "", f"{value} is not in the calendar: {error}"


def _phone(value: str) -> tuple[str, str]:
    digits = re.sub(r"[ ()./-]", "", value)
    digits = f"+{digits[2:]}" if digits.startswith("00") else digits
    if not digits.startswith("+"):
        return "", "it lacks its country; write + and the country's number first, such as +49 30 901820"
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}", digits):
        return "", "a phone number is + and 7 to 15 digits, the first of them not 0"
    return digits, ""


_CHECKS: Mapping[str, Callable[[str], tuple[str, str]]] = MappingProxyType(
    {"iban": _iban, "email": _email, "order": _order, "date": _date, "phone": _phone}
)
"""Each check: a stripped value to its normal form and no reason, or to a reason."""
