"""How people write dates of birth, postal addresses and names: in English, and in the languages around it.

Main path: plain(text) -> births(text), places(text), each of NAMES -> where they stand.
No library that could be locked here finds these; a statistical one (Presidio with spaCy) weighs 500 MB.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise
from urllib.parse import unquote

Spans = Iterator[tuple[int, int]]


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def compiled(pattern: str, *, any_case: bool = True) -> re.Pattern[str]:
    """Compile a pattern; `^` and `$` are those of a line."""
    return re.compile(pattern, (re.IGNORECASE if any_case else re.NOFLAG) | re.MULTILINE)


def found_by(
    pattern: str, is_real: Callable[[str], object] = bool, *, any_case: bool = True
) -> Callable[[str], Spans]:
    """Return the detector for a pattern, of one with a group that group, where `is_real` says so too."""
    looked_for = compiled(pattern, any_case=any_case)

    def detect(text: str) -> Spans:
        for match in looked_for.finditer(text):
            group = match.lastindex or 0
            if match[group] and is_real(match[group]):
                yield match.span(group)

    return detect


# -- characters ------------------------------------------------------------------------------------------

_SIGN = re.compile(
    r"(?:%(?:25)*[0-9a-fA-F]{2})+|\\{1,4}u[0-9a-fA-F]{4}|\\n|&#?\w{1,8};"
    r"|((?<=\w)\+(?=\w)(?![\w.+-]{0,64}(?:@|%40)))"  # a space in a URL, but for a + in an e-mail address
    r"|([^%\\&+_\t\x80-\U0010ffff]+)"  # what is ordinary already
    r"|(\\(?=[@._*-])|(?<![^\W_])_(?=\d)|(?<=\d)_(?![^\W_]))"  # of Markdown
    r"|[\s\S]"
)
_BESIDE = re.compile("(?<!\\d)\u2014(?=[\\d+(])|(?<=\\d)\u2014(?!\\d)")
"""A dash that touches a number and is no part of it."""


def plain(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return a text with ordinary spaces, dashes, digits and letters, and where each character of it stood.

    What URLs, JSON and HTML write in codes is decoded; what has no width is left out.
    """
    shown, places = [], list[tuple[int, int]]()
    for match in _SIGN.finditer(text):
        start, end = match.span()
        is_blank = (match[1] and "%" in text) or match[3] == "_"
        shown.append(match[2] or (" " if is_blank else "" if match[3] else _ordinary(match[0])))
        places += pairwise(range(start, end + 1)) if match[2] else [(start, end)] * len(shown[-1])
    return _BESIDE.sub(" ", "".join(shown)).replace("\u2014", "-"), places


@functools.lru_cache(maxsize=2048)
def _ordinary(sign: str) -> str:
    if len(sign) > 1 and sign[0] == "\\":
        sign = ("\\" + sign.lstrip("\\")).encode().decode("unicode_escape")
    return "".join(map(_letter, html.unescape(unquote(re.sub("%(?:25)+", "%", sign)))))


def _letter(sign: str) -> str:
    kind = unicodedata.category(sign)
    if kind in ("Cf", "Mn"):  # zero-width spaces, soft hyphens, accents that stand behind their letter
        return ""
    if sign == "\t" or kind in ("Zl", "Zp"):
        return " "
    if sign in "\u2013\u2014\u2015":
        return "\u2014"
    if kind == "Pd" or sign == "\N{MINUS SIGN}":
        return "-"
    return str(unicodedata.decimal(sign, unicodedata.normalize("NFKC", sign)))


_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶĹĽŁŃŅŇŌŐŘŚŞŠȘŢŤȚŪŮŰŲŹŻŽ"
_APOS = r"'\u2019"

_NAME = rf"[{_UPPER}](?:[\w\u2019]|['-](?=\w)){{1,20}}"
_INITIAL = rf"[{_UPPER}]\."
_PARTICLE = (
    r"(?:van der|van den|van de|van|von der|von|de la|de|der|den|del|della|di|da|dos|du|le|la|al|bin|ibn)"
)
_FULL_NAME = rf"(?:{_NAME}|{_INITIAL})(?:[ ](?:{_PARTICLE}[ ])?(?:{_NAME}|{_INITIAL})){{0,3}}"
_SIGNED = rf"{_NAME}(?:[ ](?:{_PARTICLE}[ ])?{_NAME}){{1,3}}"
"""Two names or more."""

# -- dates of birth --------------------------------------------------------------------------------------

_MONTH = (
    r"(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez|janv|févr|avril|juin|juil|août|déc)"
    r"[\w.]{0,7}"
)
_DATE = (
    r"(?:\d{1,2}[./ -]{1,2}\d{1,2}[./ -]{1,2}(?:\d{4}|\d{2})|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?,?[ ](?:of[ ])?{_MONTH},?(?:[ ]\d{{4}})?"
    rf"|{_MONTH}[ ]\d{{1,2}}(?:st|nd|rd|th)?(?:,?[ ]\d{{4}})?|(?:19|20)\d\d)"
)
BIRTH = (
    r"(?:\bborn|\bd\.?o\.?b\b\.?|(?:date|day) of birth|\bbirth ?(?:date|day)|\bgeboren|\bgeb\."
    r"|geburts(?:datum|tag)|\bnée?\b|date de naissance|fecha de nacimiento|\bnacid[oa]|\bnat[oa] il"
    r"|data di nascita|geboortedatum)"
)
births = found_by(rf"{BIRTH}(?:[ {_APOS}]?s)?[^\d\n]{{0,20}}?({_DATE})\b")

NATIONAL = (
    r"ssn|social security|national (?:insurance|id|identity)|nino|nhs|bsn|nif|dni|cpr|cpf|pesel|ahv"
    r"|codice fiscale|steuer-?id\w*|tax(?:payer)? (?:id|number)|personal(?:ausweis|nummer| number)"
    r"|personnummer|passport|reisepass|(?:driving|driver'?s?) licen[cs]e|id card|identity card|aadhaar"
)

# -- postal addresses ------------------------------------------------------------------------------------

_STREET = (
    r"street|str?\.?|road|rd\.?|avenue|ave\.?|lane|ln\.?|drive|dr\.?|court|ct\.?|place|pl\.?|square|sq\.?"
    r"|terrace|row|crescent|close|way|boulevard|blvd\.?|hill|gardens?|grove|park|mews|quay|walk|parade|highway"
    r"|alley|circle|trail|view|yard|wharf"
)
_SURE_STREET = r"street|road|avenue|lane|crescent|terrace|boulevard|rd|ave|blvd"
_NO_STREET = (
    r"(?!(?:min|mile|km|met|hour|day|week|month|year|the|of|on|in|down|from|for|per|way|to|and|or|side)"
    r"\w{0,6}\b)"
)
_POSTCODE_GB = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
_POSTCODE = (
    rf"(?:{_POSTCODE_GB}|[A-Z]\d[\dW] [A-Z\d]{{4}}|(?:[A-Z]{{1,2}}-)?\d{{5}}(?:-\d{{4}})?|\d{{3}} ?\d{{2}}"
    r"|\d{4}(?: ?[A-Z]{2})?|\d{2}-\d{3}|\d{4}-\d{3})"
)
_WORD = rf"[{_UPPER}][\w{_APOS}.-]{{0,20}}"
_HOUSE = r"\d{1,4}(?:[/-]\d{1,4})?(?:[ ]?[a-zA-Z]\b)?"
_PLACE_WORD = rf"[{_UPPER}][\w{_APOS}-]{{1,20}}"
_CITY = rf"{_PLACE_WORD}(?:[ -](?:{_PLACE_WORD}|am|an|de|la|sur|upon|of|den)){{0,3}}"
_PLACE = (
    rf"(?:,?[ \n]{{1,2}}(?:in[ ])?(?:{_POSTCODE}[ ,]{{1,2}}{_CITY}|{_CITY},?[ ](?:[A-Z]{{2}}[ ])?{_POSTCODE})"
    rf"|,[ ]{_CITY})?"
)
_ONE_WORD_STREET = (
    r"(?:[ -][Ss]|s)(?:traße|trasse|tr\.)|weg|platz|allee|gasse|ufer|damm|straat|laan|gracht|plein|kade"
    r"|singel|dijk|vägen|gatan|gata|gaten|veien|vegen|vej|gade|katu"
)
_NO_ADDRESS = r"(?:(?:Spiel|Park|Camping|Stell|Sitz|Arbeits)platz|(?:Arbeits|Heim|Um|Hin|Rück)weg)\b"
_STREET_FIRST = (
    r"Calle|C/|Avenida|Av\.|Plaza|Paseo|Via|Viale|Piazza|Corso|Rua|Travessa|Largo|Praça"
    r"|[Uu]l\.|[Uu]lica|Nám\."
)
_TO = r"address|adresse|dirección|live[sd]? (?:at|in)|ship(?:ped)? to|deliver(?:ed)? to|moved to|office is"
_ADDRESSES = [
    found_by(pattern, any_case=False)
    for pattern in (
        rf"(?:(?i:flat|apt\.?|apartment|unit|suite)[ ]\w{{1,5}},?[ ])?"  # Flat 3, 17 Elm Avenue
        rf"\b\d{{1,5}}[a-zA-Z]?,?[ ](?:{_WORD}[ ]){{1,4}}(?i:{_STREET})\b{_PLACE}",
        rf"(?i:\b\d{{1,5}}[a-z]?[ ](?:{_NO_STREET}[a-z{_APOS}]{{2,20}}[ ]){{1,2}}(?:{_SURE_STREET})\b)",
        rf"\b(?!{_NO_ADDRESS})[{_UPPER}][\w{_APOS}-]{{0,25}}(?:{_ONE_WORD_STREET})"
        rf"[ ]{_HOUSE}(?:[ ]\d{{1,3}})?\b{_PLACE}",
        r"(?i:\b\d{1,4}(?:[ ](?:bis|ter))?,?[ ](?:rue|avenue|av\.|boulevard|bd|chemin|allée|impasse)"
        rf"[ ](?:(?:de la|du|des|de l[{_APOS}]|de|d[{_APOS}])[ ]?)?"
        rf"(?:[\w{_APOS}-]{{2,20}}[ ]?){{1,3}}\b){_PLACE}",
        rf"\b\d{{1,4}},?[ ](?:[Pp]lace|[Qq]uai)[ ](?:d[eu]s?[ ](?:la[ ])?)?{_WORD}{_PLACE}",
        rf"\b(?:{_STREET_FIRST})[ ](?:[^\W\d][\w{_APOS}.-]{{0,20}}[ ,]{{1,2}}){{1,4}}{_HOUSE}\b{_PLACE}",
        rf"(?i:\b(?:{_TO}))[ :,]{{1,3}}(?:[a-z]{{1,8}}[: ]{{1,2}}){{0,2}}"  # my address is Na Louce 12, Praha
        rf"((?:{_WORD}[ ]){{1,4}}{_HOUSE}\b{_PLACE})",
        # whatever the street is called, a postcode and a town behind a number say that it is one
        rf"\b(?:{_WORD}[ ]){{1,3}}{_HOUSE}(?:[ ]\d{{1,3}})?,?[ \n]"
        rf"(?:\d{{5,6}}|\d{{3}} \d\d|\d\d-\d{{3}})[ ]{_CITY}",
        rf"\b\d{{1,4}}[a-z]?[ ](?:{_WORD}[ ]?){{1,3}},?[ \n]{_POSTCODE_GB}(?:[ ]{_CITY})?",
        rf"(?<![\w-])({_POSTCODE_GB})(?![\w-])",
        r"(?i:\b(?:post ?code|zip ?code|zip(?=:)|plz|postleitzahl|code postal)\b[^\w\n]{0,3}(?:is )?)"
        r"((?=[\w -]{0,8}\d)\w{2,5}(?:[ -]\w{2,4})?)\b",
        r"(?i:\b(?:p\.? ?o\.? ?box|postfach|boîte postale)[ ]\d{1,6}\b)",
        rf"\b{_WORD}(?:[ ]{_WORD})?,[ ][A-Z]{{2}}[ ]\d{{5}}(?:-\d{{4}})?\b",  # Portland, OR 97201
    )
]

_RECIPIENT = compiled(rf"{_SIGNED}(?:,[ ]|,?\n)\Z", any_case=False)


def places(text: str) -> Spans:
    """Yield postal addresses: streets with a number, the town, who lives there; some postcodes alone."""
    for detect in _ADDRESSES:
        for start, end in detect(text):
            who = _RECIPIENT.search(text, max(0, start - 80), start)
            yield who.start() if who else start, end


# -- names -----------------------------------------------------------------------------------------------

_TITLE = (
    r"(?:Mrs|Mr|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Lady|Lord|Herrn?|Frau|Monsieur|Madame|Mme|Mlle|Señora?|Sra?"
    r"|Signora?|Dhr|Mevr|Dona|Dom|Fru|Hr|Pani|Pan)"
)
_GREETING = (
    r"(?:[Dd]ear|[Hh]i|[Hh]ello|[Hh]ey|[Hh]allo|[Ll]ieber?|[Ss]ehr geehrter?|[Bb]onjour|[Ss]alut"
    r"|[Cc]h(?:er|ère)|[Hh]ola|[Ee]stimad[oa]|[Cc]iao|[Gg]entile|[Bb]este|[Oo]lá|[Hh]ej|[Mm]oin"
    r"|[Gg]ood (?:morning|afternoon|evening|day))"
)
_INTRODUCTION = (
    r"(?:(?:[Mm]y|[Hh]er|[Hh]is|[Tt]heir|[Tt]he customer'?s?|[Cc]ustomer|[Ff]ull|[Cc]ontact) name(?: is|'s|:)"
    r"|[Nn]ame:|[Ii] am called|[Ii]ch heiße|[Mm]ein Name ist|[Jj]e m['\u2019]appelle|[Mm]e llamo|[Mm]i chiamo"
    r"|[Ii]k heet"
    r"|[Ss]igned,?|[Cc]ustomer:)"
)
_CLOSING = (
    r"(?:(?:[Kk]ind|[Bb]est|[Ww]arm|[Mm]any)? ?(?:[Rr]egards|[Ww]ishes|[Tt]hanks)|[Bb]est|[Cc]heers"
    r"|[Ss]incerely|[Yy]ours(?: (?:sincerely|faithfully|truly))?|[Tt]hank you"
    r"|(?:[Mm]it )?(?:(?:freundlich|best|lieb|viel|herzlich)en? )?[Gg]r[üu]ße?n?|[MmLlVv]f?[Gg]"
    r"|[Cc]ordialement|[Mm]erci"
    r"|[Ss]aludos|[Gg]racias|[Ss]aluti|[Gg]roe(?:ten|tjes)|[Ll]ove)"
)
_NOBODY = words(
    "sir madam team lantern support all there customer customers everyone everybody damen herren dear friend"
    " friends folks people desk service colleague colleagues help thanks thank hello regards best kind the"
    " this that order we you it i a an your our my not what how when where who why which please sorry just"
    " question no yes ok okay again world both guys product products shop agent assistant user system note"
    " after before if in on at for from with"
)


def _is_somebody(name: str) -> bool:
    return not {word.casefold() for word in name.split()} & _NOBODY


NAMES = tuple(
    found_by(pattern, _is_somebody, any_case=False)
    for pattern in (
        rf"\b(?:{_TITLE}\.?[ ]){{1,3}}({_FULL_NAME})",
        rf"(?:^|(?<=[.!?>:\"' ])){_GREETING}[ ](?:{_TITLE}\.?[ ]){{0,3}}({_FULL_NAME})(?=[ ]?[,!.:;\n-]|$)",
        r"^(?:hi|hey|hello|dear|hallo) ([a-z]{2,15})(?=[,!])",
        rf"\b{_INTRODUCTION}[ ]({_FULL_NAME})",
        rf"\b[Tt]his is ({_FULL_NAME})(?= (?:from|speaking|here|calling|again)\b)",
        rf"(?i:\b(?:signed (?:for )?by|delivered to|addressed to|on behalf of|c/o|attn\.?:?))[ ]({_SIGNED})",
        rf"\b(?:[Ff]rom|[Cc]ontact): ({_SIGNED})(?= <|\n|\Z)",
        r"(?i:\bmy name(?: is|'s)) ([a-z][\w'-]{1,20}"
        r"(?: (?!(?:and|from|but|on|in|i|at|is|the|not)\b)[a-z][\w'-]+)?)",
        rf"\b{_CLOSING}[,.! ]{{0,2}}\n{{1,2}}[ \t/~-]{{0,3}}({_FULL_NAME})(?=[ ]?[,.]?(?:\n|$))",
        # a signature: a line of its own, after a line; the text's last word; or the end of its last line
        rf"(?:(?<=[.!?)\]\"'😄😩]\n)\n?|(?<=[\w,;:]\n)\n)[/~-]?[ ]?"
        rf"({_SIGNED})(?=[ ]?(?:[,.]|, {_WORD}| \([^\n]*)?(?:\n|\Z))",
        rf"\n[/~-]?[ ]?({_SIGNED}|(?:{_INITIAL} )?{_NAME})[ ]?[,.]?\s*\Z",
        rf"(?:[.!?)] |\b{_CLOSING}, )({_NAME} {_NAME})(?:, {_WORD})?[.]?\s*\Z",
        rf"\b{_CLOSING}, ({_NAME})[.]?\s*\Z",
    )
)
"""Find names after a title, a greeting or an introduction, and those that sign a text."""
