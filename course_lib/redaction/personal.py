"""Where personal data and secrets stand in a text: a table of detectors for each kind.

Main path: find(text) -> Found(start, end, "email"), in order, without overlaps.
Source: email-validator, phonenumbers and python-stdnum decide where a form alone would not.

A form that says nothing by itself (nine digits) counts after a word that says what it is ("BSN", "phone").
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from stdnum import iban, luhn

from course_lib.redaction import fields, forms
from course_lib.redaction.forms import Spans, compiled, found_by, words
from course_lib.redaction.secrets import SECRETS


class Found(NamedTuple):
    """A piece of a text that is personal or secret."""

    start: int
    end: int
    kind: str


_BEGIN, _END = r"(?<![A-Za-z\d.-])", r"(?![A-Za-z\d-]|\.\d)"
"""Around a number. Letters that are not Latin may touch it, as in scripts that write no spaces."""
_WORD = r"(?:(?=\w{1,30}:)\w*[g-z_]\w*:)?"
"""Before an address with colons: `client:fe80::1`, but for a word that may be its first part."""


# -- what libraries decide -------------------------------------------------------------------------------

_ROLES = words(
    "account accounts admin billing contact git hello help info jobs news newsletter no-reply noreply office"
    " orders postmaster press privacy returns sales security service support team webmaster"
)
"""Mailboxes of a job, not of a person."""


def _is_email(address: str) -> bool:
    if address.partition("@")[0].casefold() in _ROLES:
        return False
    try:  # a name of a host without a dot is one in a company's network
        validate_email(address, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        return "special-use" in str(error)
    return True


_IBAN = compiled(r"(?<![a-z\d])(?=([a-z]{2}\d{2}(?:[ .-]?[a-z0-9]){11,30}))")


def _ibans(text: str) -> Spans:
    for match in _IBAN.finditer(text):
        start, most = match.span(1)
        ends = [part.end() for part in re.finditer(r"\w+", text[start:most])]
        for end in reversed(ends):  # the words after it may look like a part of it
            if end >= 15 and iban.is_valid(match[1][:end].replace(".", "")):
                yield start, start + end
                break


def _is_card(number: str) -> bool:
    return luhn.is_valid(re.sub(r"\D", "", number))


def _is_of_others(address: str) -> bool:
    try:
        machine = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (machine.is_loopback or machine.is_unspecified)  # this machine's own tell nothing of anybody


_PHONE_WORD = (
    r"(?:tele)?phone|tel|mobile|cell|call|ring|text|fax|whatsapp|reach|handy|my number|meine nummer|telefon"
    r"|mobil|móvil|cellulare"
)
_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_DATE = re.compile(
    rf"(?:{_DAY}[./-]{_MONTH}|{_MONTH}/{_DAY})[./-](?:(?:19|20)\d\d|\d\d)(?![./-]?\d)"
    rf"|(?:19|20)\d\d([./-]?){_MONTH}\1{_DAY}(?:\D|\d{{6}}|\Z)"
)
_FR_PHONE = re.compile(r"0\d(?:[ .-]\d\d){4}")
_REGIONS = words("GB DE FR NL BE AT CH IT ES PT IE SE NO DK FI PL CZ")


def _is_no_date(number: str) -> bool:
    return not _DATE.match(number)


def _is_phone(number: str) -> bool:
    if _FR_PHONE.fullmatch(number):
        return True
    if number.startswith(("+", "00")):
        return _is_valid(f"+{number.lstrip('+0')}", None)
    has_form = re.match(r"\(?0\d", number) and re.search(r"[ ./()-]", number)
    return bool(has_form or re.fullmatch(r"0[17]\d{8,10}", number)) and any(
        _is_no_date(number) and _is_valid(number, region) for region in _REGIONS
    )


def _is_valid(number: str, region: str | None) -> bool:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(parsed) if region is None else phonenumbers.is_valid_number(parsed)


_NATIONAL = {
    "us.ssn": r"\d{3}-\d{2}-\d{4}",
    "gb.nino": r"(?:QQ|(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z])(?: ?\d\d){3} ?[A-D]",
    "gb.nhs": r"\d{3}[ -]\d{3}[ -]\d{4}",
    "fr.nir": r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}",
    "de.idnr": r"[1-9]\d(?: ?\d{3}){3}",
    "es.dni": r"\d{8}[ -]?[A-Z]",
    "es.nie": r"[XYZ][ -]?\d{7}[ -]?[A-Z]",
    "it.codicefiscale": r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]",
    "pl.pesel": r"\d{11}",
    "se.personnummer": r"(?:\d{2})?\d{6}[-+]\d{4}",
    "dk.cpr": r"\d{6}-\d{4}",
    "no.fodselsnummer": r"\d{6} ?\d{5}",
    "fi.hetu": r"\d{6}[-+A]\d{3}[0-9A-Y]",
    "ch.ssn": r"756\.\d{4}\.\d{4}\.\d{2}",
    "be.nn": r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}",
    "ie.pps": r"\d{7}[A-W][A-IW]?",
    "cz.rc": r"\d{6}/\d{3,4}",
    "br.cpf": r"\d{3}\.\d{3}\.\d{3}-\d{2}",
    "ca.sin": r"\d{3}[ -]\d{3}[ -]\d{3}",
    "in_.aadhaar": r"\d{4} \d{4} \d{4}",
    "in_.pan": r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]",
    "eu.vat": r"(?:AT|B[EG]|C[YZ]|D[EK]|E[ELS]|F[IR]|H[RU]|I[ET]|L[TUV]|MT|NL|P[LT]|RO|S[EIK])"
    r" ?[A-Z0-9]{8,12}",
}
_NATIONALS = [
    found_by(
        rf"{_BEGIN}(?:{pattern}){_END}",
        import_module(f"stdnum.{name}").is_valid if name != "gb.nino" else bool,  # its form is all there is
        any_case=False,
    )
    for name, pattern in _NATIONAL.items()
]
_BY_NATIONAL_WORD = found_by(
    rf"\b(?:{forms.NATIONAL}|ni(?= n)|nie|pps|sin|vat)\b"
    r"(?:\s{1,2}(?:no|nr|num|number|nummer|id|is|card))*[^\w\n]{0,4}"
    r"([A-Z]{0,3} ?(?=[\d .-]{3})[\dA-Z]{0,12}\d[\dA-Z]{0,12}(?:[ .-]\d[\dA-Z]{0,5}){0,5}(?:[ -][A-Z])?)\b",
)


# -- what words and numbers around it tell ----------------------------------------------------------------

_IS_SECRET = compiled(
    r"\d|.{24}|pass|pwd|secret|cred|token|cookie|//|(?:api|access)[_-]?key|(?:user|role|database) \""
)
"""Of what secrets.py hides in errors: not "key: keep", which is prose."""


def _secrets(text: str) -> Spans:
    for pattern in SECRETS:
        yield from (match.span() for match in pattern.finditer(text) if _IS_SECRET.search(match[0]))


_FIVE_DIGITS = re.compile(r"\d(?:\D{0,3}\d){4}")
_WITH_DIGITS = frozenset({"iban", "card", "national id", "phone"})

DETECTORS: dict[str, tuple[Callable[[str], Spans], ...]] = {
    "secret": (
        _secrets,
        found_by(
            r"\b(?:password|passwort|passcode|pin|pwd|mot de passe|contraseña|wachtwoord|hasło)"
            r"(?: (?:is|was|ist|est|es)|[ ]?:) [\"']?((?=[^\s\d]{0,40}\d)[^\s,]{4,60}?)(?=[\"',.]?(?:\s|$))"
            r"|\b(?:pin|passcode|otp)(?: code)? (\d{4,8})\b"
        ),
    ),
    "email": (
        found_by(
            r"(?<!\w)\w[\w.!#$&'*+/=?^`{|}~-]{0,63}@(?:(?:[^\W_]|-){1,63}\.){0,5}"
            r"(?=[\d-]*[^\W\d_])(?:[^\W_]|-){2,63}",
            _is_email,
        ),
        found_by(
            r"\b[\w.+-]{1,64}\s{0,2}[\[({]\s?at\s?[\])}]\s{0,2}[\w-]{1,63}"
            r"(?:(?:\.|\s{0,2}[\[({]\s?dot\s?[\])}]\s{0,2})[\w-]{2,63}){1,4}"
            r"|\b[\w.+-]{1,64} at (?:[\w-]{1,63} dot ){1,4}(?:com|org|net|edu|io|eu|[a-z]{2})\b"
        ),
    ),
    "iban": (_ibans,),
    "card": (
        found_by(rf"{_BEGIN}(?<!\+)(?:2[2-7]|[3-6](?:[ -]?\d))(?:[ .+-]?\d){{11,17}}{_END}", _is_card),
        found_by(  # in its usual groups, whatever number stands before it or behind
            rf"{_BEGIN}((?:2[2-7]|[3-6]\d)\d\d([ .-]?)(?:\d{{4}}\2\d{{4}}\2\d{{4}}|\d{{6}}\2\d{{5}})){_END}",
            _is_card,
        ),
        found_by(r"\bcard\b[^\n\d]{0,25}((?:\d{4}[ .-]?){3}\d{1,7})\b"),
        found_by(r"\b(?:cvv2?|cvc2?|security code)\b[^\d\n]{0,12}(\d{3,4})\b"),
    ),
    "national id": (*_NATIONALS, _BY_NATIONAL_WORD),
    "ip": (
        found_by(
            r"(?<![A-Za-z\d.])(?<!version )(?<!section )(?<!chapter )(?<!v)"
            r"\d{1,3}(?:\.\d{1,3}){3}(?![A-Za-z\d]|\.\d)"
            rf"|(?<![A-Za-z\d_:.]){_WORD}"
            r"([0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:\d{0,2}(?:\.\d{1,3}){3})?)(?![A-Za-z\d_:])",
            _is_of_others,
        ),
        found_by(
            rf"(?<![A-Za-z\d_:-]){_WORD}([0-9a-f]{{2}}(?:(?::[0-9a-f]{{2}}){{5}}|(?:-[0-9a-f]{{2}}){{5}}))"
            r"(?![A-Za-z\d_:-])"
        ),
    ),
    "date of birth": (forms.births,),
    "id": (
        found_by(
            r"(?<![A-Za-z\d-])(?:[OCRT]-\d{3,8}|NP\d{8,10}|LG-[A-Z0-9-]{4,20}"
            r"|(?:ORD|CUST|INV|ACC|REF|TKT)[-_#]?\d{4,12})(?![A-Za-z\d-])"
            r"|\b(?:order|customer|account|client|member(?:ship)?|invoice|booking|tracking|reference|ticket"
            r"|kunden|bestell|rechnungs)"
            r"(?:[ -]?(?:no|nr|num|number|nummer|id|ref))?\.?[ ]?(?:#|:|is)?[ ]?#?"
            r"(?=[A-Z-]{0,6}\d)[A-Z]{0,5}[-_]?\d[\dA-Z-]{3,19}\b"
        ),
    ),
    "phone": (
        found_by(
            rf"{_BEGIN}(?:\+?1[ .-])?(?:(?:\(\d{{3}}\) ?|\d{{3}}[.-])\d{{3}}[.-]\d{{4}}|555-01\d\d){_END}"
        ),
        found_by(
            rf"\b(?:{_PHONE_WORD})\b[^\n\d+(]{{0,25}}((?:\+|\()?\d(?:[ ./()-]{{0,2}}\d){{5,14}})"
            r"(?![A-Za-z\d]|\.\d)|^[ \t]*((?:\+|\()?\d(?:[ ./()-]{0,2}\d){6,14})[ \t]*$",
            _is_no_date,
        ),
        found_by(rf"{_BEGIN}(?<!\d/)(?:\+|00|\(?0|\()?\d(?:[ ./()-]{{0,2}}\d){{6,14}}{_END}", _is_phone),
    ),
    "address": (forms.places,),
    "name": forms.NAMES,
}
"""What is looked for, the surest first: of two that overlap, the earlier kind names the piece."""
_RANKS = {kind: rank for rank, kind in enumerate(DETECTORS)}


def find(text: str) -> list[Found]:
    """Return what is personal or secret in a text, in order; pieces that overlap are joined."""
    shown, places = forms.plain(text)
    left_out = frozenset() if _FIVE_DIGITS.search(shown) else _WITH_DIGITS
    found = [
        Found(places[start][0], places[end - 1][1], kind)
        for kind, detectors in DETECTORS.items()
        for detect in (() if kind in left_out else detectors)
        for start, end in detect(shown)
        if end > start
    ]
    found += [Found(places[start][0], places[end - 1][1], kind) for start, end, kind in fields.named(shown)]
    if shown != text:  # secrets.py knows codes, too, and a secret may have a + or a % in it
        found += [Found(*span, "secret") for span in _secrets(text)]
    joined: list[Found] = []
    for each in sorted(found):
        if joined and each.start < joined[-1].end:
            last = joined[-1]
            kind = min(last.kind, each.kind, key=_RANKS.__getitem__)
            joined[-1] = Found(last.start, max(last.end, each.end), kind)
        else:
            joined.append(each)
    return joined


def labelled(text: str, found: list[Found], start: int = 0, end: int | None = None) -> str:
    """Return a text, from start to end, with a label such as [email] in the place of each piece."""
    parts, end = [], len(text) if end is None else end
    for each in found:
        if start < each.end <= end:
            parts += [text[start : each.start], f"[{each.kind}]"]
            start = each.end
    return "".join([*parts, text[start:end]])
