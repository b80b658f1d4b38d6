"""Checks of what somebody wrote down: an IBAN, e-mail, order, date or phone, with the reason if it is wrong.

Main path: validate("iban", "DE89 3704 0044 0532 0130 00") -> "valid: DE89370400440532013000".
Source: python-stdnum, email-validator and phonenumbers. A check of form only: that an address is well-formed
does not mean that anybody reads mail there.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from contextlib import suppress
from typing import Literal, TypeAlias

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from stdnum import iban
from stdnum.exceptions import ValidationError

from course_lib.adapters.tools.limits import LimitedTool, limited
from course_lib.adapters.tools.text import PATTERNS

VALUE_CHARS = 200
"""Longer values are refused unread."""

Kind: TypeAlias = Literal["iban", "email", "order", "date", "phone"]


def validate(kind: Kind, value: str) -> str:
    """Check an iban, email, order id, date (year-month-day) or phone number that somebody wrote.

    >>> validate("order", "o-10001")
    "not valid: 'o-10001' is not an order id; they are O- and five digits, such as O-10001"
    """
    try:
        return f"valid: {_CHECKS[kind](_plain(value))}"
    except ValueError as reason:
        return f"not valid: {reason}"


def validator() -> LimitedTool:
    """Return `validate` as a limited tool; it answers "valid: <normal form>" or "not valid: <reason>"."""
    return limited(validate, desc=str(validate.__doc__).partition("\n")[0], deadline_s=2.0, output_chars=500)


def _plain(value: str) -> str:
    """Return a value without blanks around it; letters that only look like ASCII are no honest spelling."""
    if len(value) > VALUE_CHARS:
        raise ValueError(f"it is longer than {VALUE_CHARS} characters")
    if odd := [character for character in value if not (character.isascii() and character.isprintable())]:
        raise ValueError(f"it contains {unicodedata.name(odd[0], 'an invisible character').lower()}")
    if not value.strip():
        raise ValueError("it is empty")
    return value.strip()


def _iban(value: str) -> str:
    try:
        return str(iban.validate(value))
    except ValidationError as error:
        shape = "two letters, two check digits and the account, as in DE89 3704 0044 0532 0130 00"
        raise ValueError(f"{error} An IBAN is {shape}") from None


def _email(value: str) -> str:
    try:
        return validate_email(value, check_deliverability=False, strict=True).normalized
    except EmailNotValidError as error:
        raise ValueError(f"{error} An address looks like name@shop.example") from None


def _order(value: str) -> str:
    if not PATTERNS["order"].fullmatch(value):
        raise ValueError(f"{value!r} is not an order id; they are O- and five digits, such as O-10001")
    return value


def _date(value: str) -> str:
    with suppress(ValueError):
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return datetime.date.fromisoformat(value).isoformat()
    raise ValueError(f"{value!r} is no day of the calendar; write year-month-day, such as 2026-05-31")


def _phone(value: str) -> str:
    international = f"+{value[2:]}" if value.startswith("00") else value
    if not international.startswith("+"):
        raise ValueError("it lacks its country; write + and the country's number first, as in +49 30 901820")
    if not re.fullmatch(r"\+[0-9 ()./-]+", international):
        raise ValueError("a phone number has only digits, spaces and ( ) . / - after its +")
    try:
        number = phonenumbers.parse(international)
    except phonenumbers.NumberParseException as error:
        raise ValueError(f"it is not a phone number: {error}") from None
    if not phonenumbers.is_valid_number(number):
        country = number.country_code
        raise ValueError(f"no phone number of country +{country} looks like this; check its digits")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


_CHECKS = {"iban": _iban, "email": _email, "order": _order, "date": _date, "phone": _phone}
"""Each check returns the normal form of a value, or raises ValueError with the reason."""
