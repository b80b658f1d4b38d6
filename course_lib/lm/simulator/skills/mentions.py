"""What a request mentions: numbers with their nouns, names, dates, phrases, and the small word before each.

Main path: mentions(text) -> tuple of Mention, in order. Pieces (a number, a name) and the phrases around them
are both listed; whoever takes one leaves the other alone, since they stand at the same place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.candidates import candidates

TABLES = words.data("tools.json")
ROLES = {marker: frozenset(map(words.stem, of.split())) for marker, of in TABLES["roles"].items()}
"""The small words before a phrase, and the stems of argument names that such a phrase is for."""
CODES = {name: code for code, names in TABLES["codes"].items() for name in names.split()}
"""What people say, and the code for it: of a currency or a language."""
_MONEY = [name for name, code in CODES.items() if code.isupper()] + [
    code for code in CODES.values() if code.isupper()
]
EFFECTS = {name: frozenset(verbs.split()) for name, verbs in TABLES["effects"].items()}
VERBS = frozenset(verb for verbs in EFFECTS.values() for verb in verbs if "_" not in verb)
COMMON = words.STOP | frozenset(words.ENGLISH["common"].split())
_UNIT_NAMES = frozenset(
    name for units in TABLES["units"].values() for names in units.values() for name in names.split()
)
_FILLERS = frozenset(TABLES["fillers"].split())
_NAMED = frozenset(("named", "called", "titled", "labelled", "labeled", "entitled"))
_JOINTS = frozenset((",", "and", "or", "&", "plus"))
_MARKERS = frozenset((*ROLES, *_NAMED, "onto", "without", "per", "till", "through", "around", "saying"))


@dataclass(frozen=True, slots=True)
class Mention:
    """A piece or a phrase of a request, and how the request introduces it."""

    kind: str
    """One of the pieces below, `phrase`, `counted` for what follows a number, `text` for words to hand on."""
    value: Any
    start: int
    end: int
    marker: str = ""
    """The small word before it: from, to, at, for; `:` after a label, `named` after "called"."""
    label: tuple[str, ...] = ()
    """Stems of the words before it that say what it is, as in "ticket 12" or "subject: Lunch"."""
    noun: tuple[str, ...] = ()
    """Stems of the words after it that say of what it is so many, as in "4 people"."""
    is_joined: bool = False
    """A comma, "and" or "or" stands between it and what came before."""
    reach: tuple[int, int] = (0, 0)
    """From the label to the end of the noun."""

    @property
    def span(self) -> tuple[int, int]:
        """Where it stands."""
        return self.start, self.end

    def touches(self, start: int, end: int) -> bool:
        """Say whether it shares a place with the text from `start` to `end`."""
        return self.start < end and start < self.end


MOST_READ = 4_000  # characters of a request that are read for what it asks

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?s?"
_STREET = rf"(?i:{'|'.join(TABLES['streets'].split())})"
_MONEY_WORD = "|".join(re.escape(name) for name in _MONEY)
_NAME = r"[A-ZÀ-Þ][\wÀ-ÿ'\u2019&]*(?:-[\wÀ-ÿ]+)*"
_SITE = rf"(?:\s(?:{'|'.join(TABLES['sites'].split())})\b)?"
TOKENS = {
    "quoted": r"[\"“„«][^\"”“»]{1,500}[\"”»]|(?<!\w)'[^'\n]{2,200}'(?!\w)",
    "email": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "url": r"https?://[^\s<>\"')\]]+",
    "tag": r"(?<!\w)[#@][A-Za-z][\w-]*",
    "date": rf"(?i:\b(?:\d{{4}}-\d{{2}}-\d{{2}}|\d{{1,2}}[./]\d{{1,2}}[./]\d{{4}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?(?:\sof)?\s{_MONTH}(?:,?\s\d{{4}})?|{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?\b"
    rf"(?:,?\s\d{{4}})?|(?:(?:this|next|coming)\s)?{_DAY}|next\s(?:week|weekend|month|year)"
    r"|(?:the\sday\safter\s)?tomorrow|today|tonight|yesterday)\b)",
    "time": r"(?i:\b\d{1,2}:\d{2}(?::\d{2})?(?:\s?[ap]\.?m\b\.?)?|\b\d{1,2}\s?[ap]\.?m\b"
    r"|\b(?:noon|midnight)\b"
    r"|\b\d{1,2}\so'clock)",
    "path": r"~?/?\b(?!(?:and/or|km/h)\b)(?:[\w.-]+/)+[\w.-]*\w|\b[\w-]+\.(?=\w*[a-z])[a-z0-9]{2,4}\b",
    "street": rf"\b\d{{1,4}}[a-z]?,?\s(?:{_NAME}\s){{0,3}}{_STREET}\b(?:\s{_NAME})?"
    rf"|\b{_NAME}(?:stra(?:ß|ss)e|weg|platz|gasse|allee)\s\d+[a-z]?\b",
    "percent": r"\d+(?:\.\d+)?\s?(?:%|percent\b|per\scent\b)",
    "money": rf"[$€£¥]\s?\d[\d.,]*|\b(?:EUR|USD|GBP|CHF|JPY)\s?\d[\d.,]*"
    rf"|\d[\d.,]*\s?(?:[€£$¥]|(?i:(?:u\.?s\.?|swiss|british)\s)?(?i:{_MONEY_WORD})\b)",
    "phone": r"\+\d[\d ()/-]{6,}\d"
    r"|\b0\d[\d ()/-]{5,}\d\b|\(\d{3}\)\s?\d{3}-\d{4}|\b\d{3}[- ]\d{3}[- ]\d{3,4}\b",
    "id": r"\b[A-Z]{1,3}-[A-Z]{1,3}\s\d{1,4}\b|\b[A-Z]{2,4}\s\d{2,4}\b(?!\s?[%a-z])"
    r"|\b(?=[\w-]*\d)(?=[\w-]*[A-Z])[A-Z0-9]+(?:-[A-Z0-9]+)*\b|\b\d+(?:-\d+)+\b|#\d+\b",
    "number": r"(?<![\w.])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.])-?\d+(?:\.\d+)?"
    rf"|\b(?i:{'|'.join(words.NUMBERS)})\b|\b(?:half\s)?an?(?=\s(?:second|minute|hour|day|week|month|year)\b)",
    "name": rf"(?:(?:Dr|Mr|Mrs|Ms|Prof)\.?\s)?{_NAME}"
    rf"(?:\s(?:(?:of|de|da|del|van|von|der|la|le|of\sthe|&)\s)?{_NAME})*{_SITE}",
    "word": r"[a-zß-ÿ][\wÀ-ÿ'\u2019-]*",
    "stop": r"[,;:.?!()\u2014\u2013=\n]",
}
_ID = re.compile(TOKENS["id"])
_TOKEN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in TOKENS.items()))


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        return self.text.lower()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while match := _TOKEN.search(text, at):
        token = _Token(match.lastgroup or "", match.group(), match.start(), match.end())
        inner = _ID.search(text, token.start + 1, token.end + 6) if token.kind == "name" else None
        if inner and inner.start() < token.end:
            token = token._replace(text=text[token.start : inner.start()].rstrip(), end=inner.start())
        if token.kind == "name" and (first := _common_start(token, found, text[token.end :])):
            token = _Token("word", first, token.start, token.start + len(first))
        if token.word == "one" and _following(text, token.end) in (*_MARKERS, ""):
            token = token._replace(kind="word")
        found.append(token)
        at = token.end
    return found


def _following(text: str, at: int) -> str:
    word = re.match(r"\s*([a-z]+)", text[at:])
    return word.group(1) if word else ""


def _common_start(token: _Token, before: Sequence[_Token], rest: str) -> str:
    """Return the first word of a name that is capitalised only because a sentence begins with it."""
    first = token.text.split()[0]
    plain, last = first.lower().partition("'")[0], before[-1].text if before else "."
    begins = last in (".", "?", "!", "\n", ":", ")")
    is_common = plain == "i" or (begins and (plain in COMMON or plain in VERBS))
    is_alone = begins and last != ":" and first == token.text and not first.isupper()
    return first if is_common or (is_alone and not _DOES.match(rest)) else ""


_DOES = re.compile(r"\s(?:\w+ed|is|has|was|wants|needs|gets|got|will|can)\b")


# -- phrases -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Phrase:
    marker: str
    tokens: list[_Token]
    is_joined: bool = False


def _phrases(text: str) -> Iterator[_Phrase]:
    phrase = _Phrase("", [])
    for token in _tokens(text):
        marker = _boundary(token)
        if marker is None:
            phrase.tokens.append(token)
            continue
        if phrase.tokens:
            yield phrase
        is_joined = marker in _JOINTS
        if is_joined and not phrase.tokens:  # ", and"
            phrase.is_joined = True
        else:
            phrase = _Phrase(phrase.marker if is_joined else marker, [], is_joined)
    if phrase.tokens:
        yield phrase


def _is_clause(phrase: _Phrase) -> bool:
    """Say whether a joined phrase begins with a verb, and so asks for something of its own."""
    return phrase.is_joined and len(phrase.tokens) > 1 and phrase.tokens[0].word in VERBS


def _boundary(token: _Token) -> str | None:
    """Return the marker with which a new phrase begins at this token; None within a phrase."""
    if token.kind == "stop":
        return {",": ",", ":": ":", "=": ":"}.get(token.text, "")
    if token.kind != "word" and token.text != "&":
        return None
    if token.word in _NAMED:
        return "named"
    if token.word in ("is", "are", "was"):
        return "is"
    return token.word if token.word in _MARKERS or token.word in _JOINTS else None


def _is_content(token: _Token) -> bool:
    return token.kind == "word" and token.word.partition("'")[0] not in words.STOP | _FILLERS


def _label(phrase: _Phrase, at: int, before: Sequence[_Token]) -> list[_Token]:
    """Return the words that say what the token is: the last two before it, or those before a colon."""
    own: list[_Token] = []
    for token in reversed(phrase.tokens[:at]):
        if token.kind != "word":
            break
        own.append(token)
    own = [token for token in own if _is_content(token)][:2]
    return own or (
        [token for token in before if _is_content(token)][-2:] if phrase.marker in (":", "is") else []
    )


def _noun(phrase: _Phrase, at: int) -> list[_Token]:
    noun: list[_Token] = []
    for token in phrase.tokens[at + 1 :]:
        if token.kind != "word" and token.word not in _UNIT_NAMES:
            break
        noun.append(token)
    return [token for token in noun if _is_content(token) or token.kind == "name"][:3]


def _pieces(phrase: _Phrase, before: Sequence[_Token]) -> Iterator[Mention]:
    for at, token in enumerate(phrase.tokens):
        if token.kind != "word":
            label, noun = _label(phrase, at, before), _noun(phrase, at)
            start = min([token.start, *(one.start for one in label if phrase.marker not in (":", "is"))])
            piece = _mention(token.kind, _value(token), [token], phrase, label)
            piece = replace(piece, noun=_stems(noun), reach=(start, noun[-1].end if noun else token.end))
            digits = re.search(r"\d[\d.,]*", token.text) if token.kind == "money" else None
            if digits:
                start, end = token.start + digits.start(), token.start + digits.end()
                piece = replace(piece, start=start, end=end, reach=(start, end))
                yield from _currency(token, digits, phrase)
            yield piece


def _currency(token: _Token, digits: re.Match[str], phrase: _Phrase) -> Iterator[Mention]:
    """Yield what an amount is of, as what is counted."""
    for start, end in ((0, digits.start()), (digits.end(), len(token.text))):
        if name := token.text[start:end].strip():
            at = token.text.index(name, start)
            part = _Token("word", CODES.get(name, name), token.start + at, token.start + at + len(name))
            yield _mention("counted", part.text, [part], phrase)


def _mention(
    kind: str, value: Any, tokens: Sequence[_Token], phrase: _Phrase, label: Sequence[_Token] = ()
) -> Mention:
    start, end = tokens[0].start, tokens[-1].end
    stems = _stems(label)
    return Mention(kind, value, start, end, phrase.marker, stems, (), phrase.is_joined, (start, end))


def _stems(tokens: Sequence[_Token]) -> tuple[str, ...]:
    return tuple(words.stem(token.word) for token in tokens)


def _value(token: _Token) -> Any:
    text = token.text
    if token.kind == "quoted":
        return text[1:-1].strip()
    if token.kind == "number":
        if token.word.split()[-1] in ("a", "an"):
            return 0.5 if " " in token.word else 1.0
        return float(words.NUMBERS.get(token.word, 0)) if text[-1].isalpha() else float(text.replace(",", ""))
    if token.kind == "percent":
        return float(re.match(r"[\d.]+", text).group())  # type: ignore[union-attr]
    if token.kind == "money":
        return amount(re.search(r"\d[\d.,]*", text).group())  # type: ignore[union-attr]
    if token.kind == "date":
        return next((day[:10] for day in candidates(text).dates), text)
    return text


def amount(written: str) -> float:
    """Read an amount in either way of writing decimals.

    >>> amount("39,50"), amount("1,234.50"), amount("1.234,50")
    (39.5, 1234.5, 1234.5)
    """
    written = written.rstrip(".,")
    decimals = re.search(r"[.,](\d{1,2})$", written)
    whole = re.sub(r"[.,]", "", written[: decimals.start()] if decimals else written)
    return float(f"{whole}.{decimals.group(1) if decimals else 0}")


# -- phrases as a whole, and texts to hand on --------------------------------------------------------------

_LABELLED = re.compile(
    r"(?P<label>[\w#+-]*(?:\s[\w#+-]+)?)\s?:\s+(?P<text>\S.*?)"
    r"(?=[,;.]?\s+(?:and\s|with\s|the\s)*[A-Za-z]{2,}(?:\s\w+)?:\s|\n|$)"
)
_SAID = re.compile(r"\b(?:saying|reading|says|that)\s+(?:that\s+)?(?P<label>)(?P<text>\S.*?)(?=\n|$)")
_TO_DO = re.compile(
    r"(?i:\b(?:remind|remember|task|to-?do|reminder)\w*\b.{0,40}?\bto)\s+(?P<label>)(?P<text>[a-z].*)"
)


@lru_cache(maxsize=512)
def mentions(text: str) -> tuple[Mention, ...]:
    """Return what `text` mentions, pieces and phrases, in order of appearance."""
    phrases = list(_phrases(text))
    found: list[Mention] = []
    before: Sequence[_Token] = ()
    for at, phrase in enumerate(phrases):
        if _is_clause(phrase):
            phrase.marker, phrase.is_joined = "", False
        found += _pieces(phrase, before)
        following = phrases[at + 1] if at + 1 < len(phrases) else None
        is_label = following and following.marker == ":" and not following.is_joined
        if not is_label or _trimmed(phrase) != phrase.tokens:
            found += _wholes(phrase, following, text, before)
        before = phrase.tokens
    found += _handed_on(text, found)
    return tuple(sorted(_shared_nouns(found), key=lambda one: (one.start, one.end)))


def _wholes(
    phrase: _Phrase, following: _Phrase | None, text: str, before: Sequence[_Token]
) -> Iterator[Mention]:
    """Yield the phrase without its verb and article, what follows a number in it, and "packs of coffee"."""
    tokens = _trimmed(phrase)
    label = _label(phrase, 0, before)
    choices = [("phrase", tokens), *_runs(tokens)]
    if (
        following
        and following.marker == "of"
        and not following.is_joined
        and following.tokens[0].word not in words.STOP
    ):
        kind, last = choices[-1]
        choices += [(kind, [*last, *following.tokens])] if last and last[-1].kind == "word" else []
    for kind, chosen in choices:
        if chosen and (len(chosen) > 1 or chosen[0].kind == "word" or phrase.marker == "named"):
            value = text[chosen[0].start : chosen[-1].end]
            yield _mention(kind, value, chosen, phrase, label)


def _runs(tokens: Sequence[_Token]) -> Iterator[tuple[str, list[_Token]]]:
    """Yield the words between the figures and articles of a phrase; behind a figure is what is counted."""
    cuts = [at for at, one in enumerate(tokens) if one.kind in _FIGURES or one.word in _ARTICLES]
    if tokens and tokens[-1].kind == "number":  # "van 3" is called so
        cuts = cuts[:-1]
    for start, end in pairwise([-1, *cuts, len(tokens)]) if cuts else ():
        is_counted = start >= 0 and tokens[start].kind in _FIGURES
        yield "counted" if is_counted else "phrase", _trimmed(_Phrase("of", [*tokens[start + 1 : end]]))


_ARTICLES = frozenset(
    ("the", "a", "an", "my", "our", "your", "their", "his", "her", "its", "some", "this", "that")
)
_FIGURES = ("number", "money", "percent", "date", "time")


def _trimmed(phrase: _Phrase) -> list[_Token]:
    tokens = list(phrase.tokens)
    while tokens and tokens[-1].kind == "word" and not _is_content(tokens[-1]):
        tokens.pop()
    while tokens and tokens[0].kind == "word" and not _is_content(tokens[0]):
        tokens.pop(0)
    if phrase.marker in ("", ":", "is") and tokens and tokens[0].word in VERBS:
        return _trimmed(_Phrase("of", tokens[1:]))
    return tokens


def _handed_on(text: str, found: Sequence[Mention]) -> Iterator[Mention]:
    """Yield what is handed on as it stands: after a colon, after "saying", after "remind me to"."""
    for pattern in (_LABELLED, _SAID, _TO_DO):
        for match in pattern.finditer(text):
            start, end = match.span("text")
            if pattern is _TO_DO:
                times = (one for one in found if one.kind in ("date", "time") and one.start > start)
                end = min((one.start for one in times), default=end)
            value = re.sub(r"\s+(?:at|on|by|in|for|every)\s*$", "", text[start:end]).strip(" ,;")
            if value[:1] in '"\u201c':  # the quotation is a piece of its own
                continue
            label = tuple(map(words.stem, words.words(match.group("label"))))
            yield Mention("text", value, start, start + len(value), ":", label, (), False, (start, end))


def _shared_nouns(found: Sequence[Mention]) -> list[Mention]:
    """Give each number of "2 or 3 people" the noun, and of "tickets 14 and 15" the label."""
    shared = list(found)
    numbers = [at for at, one in enumerate(shared) if one.kind in ("number", "id")]
    for at, after in reversed(list(pairwise(numbers))):
        one, other = shared[at], shared[after]
        if one.noun in ((), ("x",)) and (other.is_joined or one.noun) and other.noun:
            shared[at] = replace(one, noun=other.noun)
    for at, after in pairwise(numbers):
        one, other = shared[at], shared[after]
        if other.is_joined and not other.label and not other.noun:
            shared[after] = replace(other, label=one.label)
    return shared


_RANGE = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(\s*(?:to|until|till|and|-|\u2013)\s*)(\d{{1,2}})(?:st|nd|rd|th)?"
    rf"\s({_MONTH})(\s\d{{4}})?",
    re.IGNORECASE,
)
_HALF_DATED = re.compile(
    rf"\b(\d{{1,2}}\s{_MONTH})(?!,?\s\d{{4}})(?=[^.?!]*\b\d{{1,2}}\s{_MONTH}\s(\d{{4}})\b)", re.IGNORECASE
)


def spelled_out(text: str) -> str:
    """Return the text, as much as is read of it, with each date of a range written in full.

    >>> spelled_out("from 2 to 4 March 2027, or 3 May and 5 June 2027")
    'from 2 March 2027 to 4 March 2027, or 3 May 2027 and 5 June 2027'
    """
    text = _RANGE.sub(
        lambda hit: f"{hit[1]} {hit[4]}{hit[5] or ''}{hit[2]}{hit[3]} {hit[4]}{hit[5] or ''}",
        text[:MOST_READ],
    )
    return _HALF_DATED.sub(r"\1 \2", text)
