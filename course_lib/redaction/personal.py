"""Where personal data and secrets stand in a text: one small detector for each kind.

Main path: find(text) -> Found(start, end, "email"), in order, without overlaps.
Source: email-validator, phonenumbers and python-stdnum decide where a form alone would not; forms of addresses,
greetings and dates are those of English, with German, Dutch, French, Spanish, Italian, Portuguese and Nordic ones.

A form that says nothing by itself (nine digits) counts after a word that says what it is ("BSN", "phone").
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import NamedTuple

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from stdnum import iban, luhn

from course_lib.redaction.secrets import SECRETS


class Found(NamedTuple):
    """A piece of a text that is personal or secret."""

    start: int
    end: int
    kind: str


Spans = Iterator[tuple[int, int]]


def _compiled(pattern: str, *, any_case: bool = True) -> re.Pattern[str]:
    return re.compile(pattern, (re.IGNORECASE if any_case else re.NOFLAG) | re.MULTILINE)


def _groups(pattern: str, *, any_case: bool = True) -> Callable[[str], Spans]:
    """Return the detector for a pattern; of a pattern with a group, that group."""
    compiled = _compiled(pattern, any_case=any_case)
    group = 1 if compiled.groups else 0

    def detect(text: str) -> Spans:
        yield from (match.span(group) for match in compiled.finditer(text) if match[group])

    return detect


# -- what libraries decide -------------------------------------------------------------------------------

_EMAIL = _compiled(r"(?<![\w.+-])[\w.!#$&'*+/=?^`{|}~-]{1,64}(?:@|%40)(?:[\w-]{1,63}\.){0,5}[\w-]{2,63}")
_SPELLED_EMAIL = _groups(
    r"\b[\w.+-]{1,64}\s{0,2}[\[({]\s?at\s?[\])}]\s{0,2}[\w-]{1,63}"
    r"(?:(?:\.|\s{0,2}[\[({]\s?dot\s?[\])}]\s{0,2})[\w-]{2,63}){1,4}"
)

_ROLES = frozenset(
    "account accounts admin billing contact hello help info jobs news newsletter no-reply noreply office orders"
    " postmaster press privacy returns sales security service support team webmaster".split()
)
"""Mailboxes of a job, not of a person."""


def _emails(text: str) -> Spans:
    yield from _SPELLED_EMAIL(text)
    for match in _EMAIL.finditer(text) if "@" in text or "%40" in text else ():
        address = match[0].strip("'`*/{|}=").replace("%40", "@")
        if address.partition("@")[0].casefold() in _ROLES:
            continue
        try:  # a name of a host without a dot is one in a company's network
            validate_email(address, check_deliverability=False, globally_deliverable=False)
        except EmailNotValidError:
            continue
        yield match.span()


_IBAN = _compiled(r"\b[a-z]{2}\d{2}(?:[ -]?[a-z0-9]{1,4}){2,9}\b")


def _ibans(text: str) -> Spans:
    for match in _IBAN.finditer(text):
        end = match.end()
        while end - match.start() >= 15:  # the words after it may look like a part of it
            if iban.is_valid(text[match.start() : end]):
                yield match.start(), end
                break
            end = match.start() + max(map(text[match.start() : end].rfind, " -"))


_CARD = _compiled(r"(?<![\w.,-])[2-6](?:[ .-]?\d){12,18}(?![\w-]|[.,]\d)")


def _cards(text: str) -> Spans:
    for match in _CARD.finditer(text):
        if luhn.is_valid(re.sub(r"\D", "", match[0])):
            yield match.span()
    for compiled in _CARDS_BY_WORD:
        yield from compiled(text)


_CARDS_BY_WORD = (
    _groups(r"\bcard\b[^\n\d]{0,25}((?:\d{4}[ .-]?){3}\d{1,7})\b"),
    _groups(r"\b(?:cvv2?|cvc2?|security code)\b[^\d\n]{0,12}(\d{3,4})\b"),
)

_IPV4 = _compiled(r"(?<![\w.])(?<!version )(?<!v)\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = _compiled(r"(?<![\w:.])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:\d{0,2}(?:\.\d{1,3}){3})?(?![\w:])")
_MAC = _compiled(r"(?<![\w:-])[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}(?![\w:-])")


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


_PHONE_WORD = r"(?:tele)?phone|tel|mobile|cell|call|ring|text|fax|whatsapp|reach|handy|telefon|mobil|móvil|cellulare"
_PHONE = _compiled(r"(?<![\w.,/-])(?:\+|00|\(?0|\()?\d(?:[ ./()-]{0,2}\d){6,14}(?![\w-]|[.,]\d)")
_DATE_LIKE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-](?:\d\d){1,2}\b|\d{4}[./-]\d{1,2}[./-]\d{1,2}\b")
_US_PHONE = re.compile(r"(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}|555-01\d\d")
_FR_PHONE = re.compile(r"0\d(?:[ .-]\d\d){4}")
_BY_PHONE_WORD = _compiled(
    rf"\b(?:{_PHONE_WORD})\b[^\n\d+(]{{0,25}}((?:\+|\()?\d(?:[ ./()-]{{0,2}}\d){{5,14}})(?!\w|[.,]\d)"
)
_ALONE = _compiled(r"^[ \t]*((?:\+|\()?\d(?:[ ./()-]{0,2}\d){6,14})[ \t]*$")
_REGIONS = ("GB", "DE", "FR", "NL", "BE", "AT", "CH", "IT", "ES", "PT", "IE", "SE", "NO", "DK", "FI", "PL", "CZ")


def _phones(text: str) -> Spans:
    yield from _US_OR_LOCAL(text)
    for compiled in (_BY_PHONE_WORD, _ALONE):
        yield from (match.span(1) for match in compiled.finditer(text) if not _DATE_LIKE.search(match[1]))
    for match in _PHONE.finditer(text):
        if not _DATE_LIKE.search(match[0]) and _is_phone(match[0]):
            yield match.span()


_US_OR_LOCAL = _groups(rf"(?<![\w.-])(?:\+?1[ .-])?(?:{_US_PHONE.pattern})(?![\w-])")


def _is_phone(number: str) -> bool:
    if _FR_PHONE.fullmatch(number):
        return True
    if number.startswith(("+", "00")):
        return _is_valid(f"+{number.lstrip('+0')}", None)
    has_form = number.startswith(("0", "(0")) and re.search(r"[ ./()-]", number)
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
    "gb.nino": r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]",
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
    "eu.vat": r"(?:AT|BE|BG|CY|CZ|DE|DK|EE|EL|ES|FI|FR|HR|HU|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI|SK) ?[A-Z0-9]{8,12}",
}
_NATIONALS = [
    (
        _compiled(rf"(?<![\w.-])(?:{pattern})(?![\w-]|[.,]\d)", any_case=False),
        import_module(f"stdnum.{name}").is_valid if name != "gb.nino" else bool,  # its form is all there is
    )
    for name, pattern in _NATIONAL.items()
]
_BY_NATIONAL_WORD = _groups(
    r"\b(?:ssn|social security|national (?:insurance|id|identity)|nino|nhs|bsn|nif|nie|dni|cpr|cpf|pesel|pps|ahv"
    r"|codice fiscale|steuer-?id\w*|tax(?:payer)? (?:id|number)|personal(?:ausweis|nummer| number)|personnummer"
    r"|passport|reisepass|(?:driving|driver'?s?) licen[cs]e|id card|identity card|aadhaar|sin|vat)\b"
    r"(?:\s{1,2}(?:no|nr|num|number|nummer|id|is|card))*[^\w\n]{0,4}([A-Z]{0,3}(?=[\d .-]{3})[\dA-Z]{0,12}\d[\dA-Z]{0,12}(?:[ .-]\d[\dA-Z]{0,5}){0,5}(?:[ -][A-Z])?)\b",
)


def _national_ids(text: str) -> Spans:
    for pattern, is_valid in _NATIONALS:
        for match in pattern.finditer(text):
            if is_valid(match[0]):
                yield match.span()
    yield from _BY_NATIONAL_WORD(text)


# -- what its form and the words before it tell ----------------------------------------------------------

_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶĹĽŁŃŅŇŌŐŘŚŞŠȘŢŤȚŪŮŰŲŹŻŽ"
_WORD = rf"[{_UPPER}][\w'’.-]{{0,20}}"
_NAME = rf"[{_UPPER}](?:[\w’]|['-](?=\w)){{1,20}}"
_PARTICLE = r"(?:van der|van den|van de|van|von der|von|de la|de|der|den|del|della|di|da|dos|du|le|la|al|bin|ibn)"
_FULL_NAME = rf"(?:{_NAME}|[{_UPPER}]\.)(?:[ ](?:{_PARTICLE}[ ])?(?:{_NAME}|[{_UPPER}]\.)){{0,3}}"

_MONTH = (
    r"(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez|janv|févr|avril|juin|juil|août|déc)[\w.]{0,7}"
)
_DATE = (
    r"(?:\d{1,2}[./ -]{1,2}\d{1,2}[./ -]{1,2}(?:\d{4}|\d{2})|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?,?[ ](?:of[ ])?{_MONTH},?(?:[ ]\d{{4}})?|{_MONTH}[ ]\d{{1,2}}(?:st|nd|rd|th)?"
    r"(?:,?[ ]\d{4})?|(?:19|20)\d\d)"
)
_BIRTH = (
    r"(?:\bborn|\bd\.?o\.?b\b\.?|(?:date|day) of birth|\bbirth ?(?:date|day)|\bgeboren|\bgeb\.|geburts(?:datum|tag)"
    r"|\bnée?\b|date de naissance|fecha de nacimiento|\bnacid[oa]|\bnat[oa] il|data di nascita|geboortedatum)"
)
_births = _groups(rf"{_BIRTH}(?:[ '’]?s)?[^\d\n]{{0,20}}?({_DATE})\b")

_STREET = (
    r"street|str?\.?|road|rd\.?|avenue|ave\.?|lane|ln\.?|drive|dr\.?|court|ct\.?|place|pl\.?|square|sq\.?|terrace|row"
    r"|crescent|close|way|boulevard|blvd\.?|hill|gardens?|grove|park|mews|quay|walk|parade|highway|alley|circle|trail"
)
_SURE_STREET = r"street|road|avenue|lane|crescent|terrace|boulevard|rd|ave|blvd"
_NO_STREET = r"(?!(?:min|mile|km|met|hour|day|week|month|year|the|of|on|in|down|from|for|per|way|to|and|or|side)\w{0,6}\b)"
_POSTCODE_GB = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
_POSTCODE = (
    rf"(?:{_POSTCODE_GB}|[A-Z]\d[\dW] [A-Z\d]{{4}}|(?:[A-Z]{{1,2}}-)?\d{{5}}(?:-\d{{4}})?|\d{{3}} ?\d{{2}}|\d{{4}}(?: ?[A-Z]{{2}})?"
    r"|\d{2}-\d{3}|\d{4}-\d{3})"
)
_PLACE_WORD = rf"[{_UPPER}][\w'’-]{{1,20}}"
_CITY = rf"{_PLACE_WORD}(?:[ -](?:{_PLACE_WORD}|am|an|de|la|sur|upon|of|den)){{0,3}}"
_PLACE = rf"(?:,?[ \n]{{1,2}}(?:{_POSTCODE}[ ,]{{1,2}}{_CITY}|{_CITY},?[ ](?:[A-Z]{{2}}[ ])?{_POSTCODE})|,[ ]{_CITY})?"
_FLAT = r"(?:(?i:flat|apt\.?|apartment|unit|suite)[ ]\w{1,5},?[ ])?"
_ADDRESSES = (
    _groups(  # 17 Elm Avenue
        rf"{_FLAT}\b\d{{1,5}}[a-zA-Z]?,?[ ](?:{_WORD}[ ]){{1,4}}(?i:{_STREET})\b{_PLACE}", any_case=False
    ),
    _groups(rf"\b\d{{1,5}}[a-z]?[ ](?:{_NO_STREET}[a-z'’]{{2,20}}[ ]){{1,2}}(?:{_SURE_STREET})\b"),
    _groups(  # Lindenweg 12, Ahornstr. 9, Björkvägen 3, Molenstraat 15
        rf"\b[{_UPPER}][\w'’-]{{1,25}}(?:(?:[ -][Ss]|s)(?:traße|trasse|tr\.)|weg|platz|allee|gasse|ufer|damm|straat|laan"
        rf"|gracht|plein|kade|singel|dijk|vägen|gatan|gata|gaten|veien|vegen|vej|gade|katu)[ ]\d{{1,4}}[ ]?[a-zA-Z]?\b{_PLACE}",
        any_case=False,
    ),
    _groups(  # 5 rue des Tilleuls
        rf"\b\d{{1,4}}(?:[ ](?:bis|ter))?,?[ ](?:rue|avenue|av\.|boulevard|bd|place|chemin|allée|impasse|quai|cours)[ ]"
        rf"(?:(?:de la|du|des|de l['’]|de|d['’])[ ]?)?(?:[\w'’-]{{2,20}}[ ]?){{1,3}}\b{_PLACE}"
    ),
    _groups(  # Via Roma 102, Rua das Flores 56, ul. Długa 5
        rf"\b(?:Calle|C/|Avenida|Av\.|Plaza|Paseo|Via|Viale|Piazza|Corso|Rua|Travessa|Largo|Praça|[Uu]l\.|[Uu]lica|Nám\.)"
        rf"[ ](?:[^\W\d][\w'’.-]{{0,20}}[ ,]{{1,2}}){{1,4}}\d{{1,4}}[a-z]?\b{_PLACE}",
        any_case=False,
    ),
    _groups(  # after a word: my address is Na Louce 12, Praha
        r"(?i:\b(?:address|adresse|dirección|live[sd]? (?:at|in)|ship(?:ped)? to|deliver(?:ed)? to|moved to|office is|go to))"
        rf"[ :,]{{1,3}}(?:[a-z]{{1,8}}[: ]{{1,2}}){{0,2}}((?:{_WORD}[ ]){{1,4}}\d{{1,4}}[a-z]?\b{_PLACE})",
        any_case=False,
    ),
    _groups(rf"(?<![\w-])({_POSTCODE_GB})(?![\w-])", any_case=False),
    _groups(
        r"\b(?:post ?code|zip ?code|zip(?=:)|plz|postleitzahl|code postal)\b[^\w\n]{0,3}(?:is )?"
        r"((?=[\w -]{0,8}\d)\w{2,5}(?:[ -]\w{2,4})?)\b"
    ),
    _groups(r"\b(?:p\.? ?o\.? ?box|postfach|boîte postale)[ ]\d{1,6}\b"),
    _groups(rf"\b{_WORD}(?:[ ]{_WORD})?,[ ][A-Z]{{2}}[ ]\d{{5}}(?:-\d{{4}})?\b", any_case=False),
)


def _places(text: str) -> Spans:
    for detect in _ADDRESSES:
        yield from detect(text)


_TITLE = (
    r"(?:Mrs|Mr|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Lady|Lord|Herrn?|Frau|Monsieur|Madame|Mme|Mlle|Señora?|Sra?|Signora?"
    r"|Dhr|Mevr|Dona|Dom|Fru|Hr|Pani|Pan)"
)
_GREETING = (
    r"(?:[Dd]ear|[Hh]i|[Hh]ello|[Hh]ey|[Hh]allo|[Ll]ieber?|[Ss]ehr geehrter?|[Bb]onjour|[Ss]alut|[Cc]h(?:er|ère)|[Hh]ola"
    r"|[Ee]stimad[oa]|[Cc]iao|[Gg]entile|[Bb]este|[Oo]lá|[Hh]ej|[Mm]oin|[Gg]ood (?:morning|afternoon|evening|day))"
)
_INTRODUCTION = (
    r"(?:(?:[Mm]y|[Hh]er|[Hh]is|[Tt]heir|[Tt]he customer'?s?|[Cc]ustomer|[Ff]ull|[Cc]ontact) name(?: is|'s|:)|[Nn]ame:|[Ii]ch heiße|[Mm]ein Name ist|[Jj]e m['’]appelle"
    r"|[Mm]e llamo|[Mm]i chiamo|[Ii]k heet|[Tt]his is|[Ss]igned,?|[Cc]ustomer:|[Ff]rom:|[Cc]ontact:)"
)
_CLOSING = (
    r"(?:(?:[Kk]ind|[Bb]est|[Ww]arm|[Mm]any)? ?(?:[Rr]egards|[Ww]ishes|[Tt]hanks)|[Bb]est|[Cc]heers|[Ss]incerely|[Yy]ours"
    r"(?: (?:sincerely|faithfully|truly))?|[Tt]hank you|(?:[Mm]it )?(?:freundlichen|besten|lieben|viele|liebe) Grüßen?|MfG|LG|VG"
    r"|[Cc]ordialement|[Mm]erci|[Ss]aludos|[Gg]racias|[Ss]aluti|[Gg]roe(?:ten|tjes)|[Ll]ove)"
)
_NOBODY = frozenset(
    "sir madam team lantern support all there customer customers everyone everybody damen herren dear friend friends folks"
    " people desk service colleague colleagues help thanks thank hello regards best kind the this that order we you it i a an"
    " your our my not what how when where who why which please sorry just question no yes ok okay again world both guys"
    " product products shop agent assistant user system note after before if in on at for from with".split()
)
_AFTER_WORDS = [
    _compiled(rf"\b{_TITLE}\.?[ ]({_FULL_NAME})", any_case=False),
    _compiled(rf"(?:^|(?<=[.!?>:\"' ]))(?:{_GREETING})[ ](?:{_TITLE}\.?[ ])?({_FULL_NAME})(?=[ ]?[,!.:;\n]|$)", any_case=False),
    _compiled(rf"\b{_INTRODUCTION}[ ]({_FULL_NAME})", any_case=False),
    _compiled(rf"\b{_CLOSING}[,.! ]{{0,2}}\n{{1,2}}[ \t/~-]{{0,3}}({_FULL_NAME})(?=[ ]?[,.]?(?:\n|$))", any_case=False),
    _compiled(  # a signature: a line of its own at the end of a text, or before an empty line
        rf"(?<=[.!?)\]:;,\w\"'😄😩]\n)\n?[/~-]?[ ]?({_NAME}(?:[ ](?:{_PARTICLE}[ ])?{_NAME}){{1,3}})(?=[ ]?(?:[,.]|, {_WORD}| \([^\n]*)?(?:\n|\Z))",
        any_case=False,
    ),
    _compiled(rf"\n[/~-]?[ ]?((?:[{_UPPER}]\. )?{_NAME})[ ]?[,.]?\s*\Z", any_case=False),
    _compiled(rf"(?:[.!?)] |\b{_CLOSING}, )({_NAME} {_NAME})(?:, {_WORD})?[.]?\s*\Z", any_case=False),
]


def _names(text: str) -> Spans:
    for pattern in _AFTER_WORDS:
        for match in pattern.finditer(text):
            if not {word.casefold().strip(".") for word in match[1].split()} & _NOBODY:
                yield match.span(1)


_IDS = _groups(
    r"(?<![\w-])(?:[OCRT]-\d{3,8}|NP\d{8,10}|LG-[A-Z0-9-]{4,20}|(?:ORD|CUST|INV|ACC|REF|TKT)[-_#]?\d{4,12})(?![\w-])"
    r"|\b(?:order|customer|account|client|member(?:ship)?|invoice|booking|tracking|reference|ticket|kunden|bestell|rechnungs)"
    r"(?:[ -]?(?:no|nr|num|number|nummer|id|ref))?\.?[ ]?(?:#|:|is)?[ ]?#?(?=[A-Z-]{0,6}\d)[A-Z]{0,5}[-_]?\d[\dA-Z-]{3,19}\b"
)


_SECRET_WORD = _compiled(r"pass|pwd|secret|token|cred|dsn|key|jwt|sig|auth|cookie|bearer|basic|identified|user|role|database")
_LONG_OR_ADDRESS = re.compile(r"[\w.-]{12}|//")


def _secrets(text: str) -> Spans:
    if _SECRET_WORD.search(text) or _LONG_OR_ADDRESS.search(text):
        for pattern in SECRETS:
            yield from (match.span() for match in pattern.finditer(text))


_FIVE_DIGITS = re.compile(r"\d(?:\D{0,3}\d){4}")
_WITH_DIGITS = frozenset({"iban", "card", "national id", "phone"})

DETECTORS: dict[str, Callable[[str], Spans]] = {
    "secret": _secrets,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "national id": _national_ids,
    "ip": _addresses_of_machines,
    "date of birth": _births,
    "id": _IDS,
    "phone": _phones,
    "address": _places,
    "name": _names,
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

