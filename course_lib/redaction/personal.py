"""Where personal data and secrets stand in a text: one small detector for each kind.

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

from course_lib.redaction import forms
from course_lib.redaction.forms import Spans, compiled, found_by, words
from course_lib.redaction.secrets import SECRETS


class Found(NamedTuple):
    """A piece of a text that is personal or secret."""

    start: int
    end: int
    kind: str


# -- what libraries decide -------------------------------------------------------------------------------

_EMAIL = compiled(r"(?<![\w.+-])[\w.!#$&'*+/=?^`{|}~-]{1,64}(?:@|%40)(?:[\w-]{1,63}\.){0,5}[\w-]{2,63}")
_SPOKEN_EMAIL = found_by(r"\b[\w.+-]{1,64} at (?:[\w-]{1,63} dot ){1,4}(?:com|org|net|edu|io|eu|[a-z]{2})\b")
_SPELLED_EMAIL = found_by(
    r"\b[\w.+-]{1,64}\s{0,2}[\[({]\s?at\s?[\])}]\s{0,2}[\w-]{1,63}"
    r"(?:(?:\.|\s{0,2}[\[({]\s?dot\s?[\])}]\s{0,2})[\w-]{2,63}){1,4}"
)

_ROLES = words(
    "account accounts admin billing contact hello help info jobs news newsletter no-reply noreply office"
    " orders postmaster press privacy returns sales security service support team webmaster"
)
"""Mailboxes of a job, not of a person."""


def _emails(text: str) -> Spans:
    yield from _SPELLED_EMAIL(text)
    yield from _SPOKEN_EMAIL(text)
    for match in _EMAIL.finditer(text) if "@" in text or "%40" in text else ():
        address = match[0].strip("'`*/{|}=").replace("%40", "@")
        if address.partition("@")[0].casefold() in _ROLES:
            continue
        try:  # a name of a host without a dot is one in a company's network
            validate_email(address, check_deliverability=False, globally_deliverable=False)
        except EmailNotValidError as error:
            if "special-use" not in str(error):
                continue
        start = match.start() + match[0].find(address[0])
        yield start, start + len(address.replace("@", "%40") if "%40" in match[0] else address)


_IBAN = compiled(r"\b[a-z]{2}\d{2}(?:[ -]?[a-z0-9]{1,4}){2,9}\b")


def _ibans(text: str) -> Spans:
    for match in _IBAN.finditer(text):
        end = match.end()
        while end - match.start() >= 15:  # the words after it may look like a part of it
            if iban.is_valid(text[match.start() : end]):
                yield match.start(), end
                break
            end = match.start() + max(map(text[match.start() : end].rfind, " -"))


_CARD = compiled(r"(?<![\w.,+-])[2-6](?:[ .-]?\d){12,18}(?![\w-]|[.,]\d)")


def _cards(text: str) -> Spans:
    for match in _CARD.finditer(text):
        if luhn.is_valid(re.sub(r"\D", "", match[0])):
            yield match.span()
    for detect in _CARDS_BY_WORD:
        yield from detect(text)


_CARDS_BY_WORD = (
    found_by(r"\bcard\b[^\n\d]{0,25}((?:\d{4}[ .-]?){3}\d{1,7})\b"),
    found_by(r"\b(?:cvv2?|cvc2?|security code)\b[^\d\n]{0,12}(\d{3,4})\b"),
)

_IPV4 = compiled(r"(?<![\w.])(?<!version )(?<!v)\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = compiled(r"(?<![\w:.])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:\d{0,2}(?:\.\d{1,3}){3})?(?![\w:])")
_MAC = compiled(r"(?<![\w:-])[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}(?![\w:-])")


def _addresses_of_machines(text: str) -> Spans:
    for match in [*_IPV4.finditer(text), *_IPV6.finditer(text)]:
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified):  # this machine's own tell nothing of anybody
            yield match.span()
    for match in _MAC.finditer(text):
        yield match.span()


_PHONE_WORD = (
    r"(?:tele)?phone|tel|mobile|cell|call|ring|text|fax|whatsapp|reach|handy|my number|meine nummer|telefon"
    r"|mobil|móvil|cellulare"
)
_PHONE = compiled(r"(?<![\w.,/-])(?:\+|00|\(?0|\()?\d(?:[ ./()-]{0,2}\d){6,14}(?![\w-]|[.,]\d)")
_DATE_LIKE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-](?:\d\d){1,2}\b|\d{4}[./-]\d{1,2}[./-]\d{1,2}\b")
_US_PHONE = re.compile(r"(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}|555-01\d\d")
_FR_PHONE = re.compile(r"0\d(?:[ .-]\d\d){4}")
_BY_PHONE_WORD = compiled(
    rf"\b(?:{_PHONE_WORD})\b[^\n\d+(]{{0,25}}((?:\+|\()?\d(?:[ ./()-]{{0,2}}\d){{5,14}})(?!\w|[.,]\d)"
)
_ALONE = compiled(r"^[ \t]*((?:\+|\()?\d(?:[ ./()-]{0,2}\d){6,14})[ \t]*$")
_REGIONS = (
    "GB",
    "DE",
    "FR",
    "NL",
    "BE",
    "AT",
    "CH",
    "IT",
    "ES",
    "PT",
    "IE",
    "SE",
    "NO",
    "DK",
    "FI",
    "PL",
    "CZ",
)


def _phones(text: str) -> Spans:
    yield from _US_OR_LOCAL(text)
    for pattern in (_BY_PHONE_WORD, _ALONE):
        yield from (match.span(1) for match in pattern.finditer(text) if not _DATE_LIKE.search(match[1]))
    for match in _PHONE.finditer(text):
        if not _DATE_LIKE.search(match[0]) and _is_phone(match[0]):
            yield match.span()


_US_OR_LOCAL = found_by(rf"(?<![\w.-])(?:\+?1[ .-])?(?:{_US_PHONE.pattern})(?![\w-])")


def _is_phone(number: str) -> bool:
    if _FR_PHONE.fullmatch(number):
        return True
    if number.startswith(("+", "00")):
        return _is_valid(f"+{number.lstrip('+0')}", None)
    has_form = re.match(r"\(?0\d", number) and re.search(r"[ ./()-]", number)
    return bool(has_form or re.fullmatch(r"0[17]\d{8,10}", number)) and any(
        _is_valid(number, region) for region in _REGIONS
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
    (
        compiled(rf"(?<![\w.-])(?:{pattern})(?![\w-]|[.,]\d)", any_case=False),
        import_module(f"stdnum.{name}").is_valid if name != "gb.nino" else bool,  # its form is all there is
    )
    for name, pattern in _NATIONAL.items()
]
_BY_NATIONAL_WORD = found_by(
    r"\b(?:ssn|ni(?= n)|social security|national (?:insurance|id|identity)|nino|nhs|bsn|nif|nie|dni|cpr|cpf"
    r"|pesel|pps|ahv|codice fiscale|steuer-?id\w*|tax(?:payer)? (?:id|number)"
    r"|personal(?:ausweis|nummer| number)|personnummer|passport|reisepass|(?:driving|driver'?s?) licen[cs]e"
    r"|id card|identity card|aadhaar|sin|vat)\b"
    r"(?:\s{1,2}(?:no|nr|num|number|nummer|id|is|card))*[^\w\n]{0,4}"
    r"([A-Z]{0,3} ?(?=[\d .-]{3})[\dA-Z]{0,12}\d[\dA-Z]{0,12}(?:[ .-]\d[\dA-Z]{0,5}){0,5}(?:[ -][A-Z])?)\b",
)


def _national_ids(text: str) -> Spans:
    for pattern, is_valid in _NATIONALS:
        for match in pattern.finditer(text):
            if is_valid(match[0]):
                yield match.span()
    yield from _BY_NATIONAL_WORD(text)


# -- what words and numbers around it tell ----------------------------------------------------------------

_IDS = found_by(
    r"(?<![\w-])(?:[OCRT]-\d{3,8}|NP\d{8,10}|LG-[A-Z0-9-]{4,20}|(?:ORD|CUST|INV|ACC|REF|TKT)[-_#]?\d{4,12})(?![\w-])"
    r"|\b(?:order|customer|account|client|member(?:ship)?|invoice|booking|tracking|reference|ticket|kunden|bestell"
    r"|rechnungs)"
    r"(?:[ -]?(?:no|nr|num|number|nummer|id|ref))?\.?[ ]?(?:#|:|is)?[ ]?#?"
    r"(?=[A-Z-]{0,6}\d)[A-Z]{0,5}[-_]?\d[\dA-Z-]{3,19}\b"
)


_SECRET_WORD = compiled(
    r"pass|pwd|secret|token|cred|dsn|key|jwt|sig|auth|cookie|bearer|basic|identified|user|role|database"
)
_IS_SECRET = compiled(r"\d|.{24}|pass|pwd|secret|cred|token|cookie|//|user|role|database")
"""Of what secrets.py hides in errors: not "key: keep", which is prose."""
_LONG_OR_ADDRESS = re.compile(r"[\w.-]{12}|//")


_SAID_PASSWORD = found_by(
    r"\b(?:password|passwort|passcode|pin|pwd)(?: (?:is|was|ist)|:) [\"']?"
    r"((?=[^\s\d]{0,40}\d)[^\s,]{4,60}?)(?=[\"',.]?(?:\s|$))"
)


def _secrets(text: str) -> Spans:
    yield from _SAID_PASSWORD(text)
    if _SECRET_WORD.search(text) or _LONG_OR_ADDRESS.search(text):
        for pattern in SECRETS:
            yield from (match.span() for match in pattern.finditer(text) if _IS_SECRET.search(match[0]))


_FIVE_DIGITS = re.compile(r"\d(?:\D{0,3}\d){4}")
_WITH_DIGITS = frozenset({"iban", "card", "national id", "phone"})

DETECTORS: dict[str, Callable[[str], Spans]] = {
    "secret": _secrets,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "national id": _national_ids,
    "ip": _addresses_of_machines,
    "date of birth": forms.births,
    "id": _IDS,
    "phone": _phones,
    "address": forms.places,
    "name": forms.names,
}
"""What is looked for, the surest first: of two that overlap, the earlier kind names the piece."""


def find(text: str) -> list[Found]:
    """Return what is personal or secret in a text, in order; pieces that overlap are joined."""
    ranks = {kind: rank for rank, kind in enumerate(DETECTORS)}
    left_out = frozenset() if _FIVE_DIGITS.search(text) else _WITH_DIGITS
    found = sorted(
        Found(start, end, kind)
        for kind, detect in DETECTORS.items()
        if kind not in left_out
        for start, end in detect(text)
        if end > start
    )
    joined: list[Found] = []
    for each in found:
        if joined and each.start < joined[-1].end:
            last = joined[-1]
            kind = min(last.kind, each.kind, key=ranks.__getitem__)
            joined[-1] = Found(last.start, max(last.end, each.end), kind)
        else:
            joined.append(each)
    return joined


def labelled(text: str, found: list[Found]) -> str:
    """Return a text with a label such as [email] in the place of each piece."""
    parts, at = [], 0
    for each in found:
        parts += [text[at : each.start], f"[{each.kind}]"]
        at = each.end
    return "".join([*parts, text[at:]])
