"""What a text offers for a field of a program, and how well it fits.

Main path: typed(slot) -> Slot; offered(slot, passage) -> Fits; whole_value(slot, text) -> the value of a text
that stands for it alone. To what agents/filling.py weighs (kind, preposition, label, unit) come the words
beside a mention, how it is introduced, and its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.agents.filling import ROLE, Fit, fits
from course_lib.lm.simulator.agents.lexing import SPELLED_OUT, VERB_FORMS, lex
from course_lib.lm.simulator.agents.slots import Slot, words_of
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.limits import matching, within

MOST_COMPARED = 12
ENOUGH, CLEAR, TOLD, SURE = 1.0, 1.6, 3.1, 3.5
"""How well a mention must fit; a common noun; an open text that may be missing; and in a record, where the
rest will do, a mention for an open text."""
BESIDE, MEANING, COUNTED, ARTICLE, NAMED = 2.0, 6.0, 1.5, 0.5, 1.5
"""What is worth a word beside a mention that the field is named after, a likeness in meaning, a number or an
article before it, and to be a name."""
STRICT = frozenset(
    ("email", "url", "phone", "date", "time", "date-time", "zip", "number", "integer", "street", "path")
)
"""Kinds that are known by their form, wherever they stand."""
PROPER = ("person", "place", "company", "language")
"""Kinds that names are of."""
OPEN = ("title", "thing", "text", "query", *PROPER)
_SENTENCES = words.roots(
    "cause problem complaint issue question claim statement concern remark note summary message comment"
)
"""Texts of whole sentences: no phrase of a text is one."""


@dataclass(frozen=True, slots=True)
class Passage:
    """The text that is read, and what is known of it."""

    text: str
    known: frozenset[str] = frozenset()
    """Stems of the fields' own words: they are no values."""
    whole: bool = False
    """The text is one record, or one value, and nothing else."""


# -- what a field wants -----------------------------------------------------------------------------------


def typed(slot: Slot, *, required: bool = True) -> Slot:
    """Return a slot with the kind and the prepositions that it has in a text."""
    last = (words_of(slot.path[-1]) or [""])[-1]
    kind = "url" if slot.schema.get("format") == "uri" else "thing" if slot.kind == "query" else slot.kind
    if kind in OPEN and last in ("number", "id", "code", "no", "ref"):
        kind = "id"
    roles = slot.roles - ({"for"} if kind in ("title", "place") else set())
    if kind == "place" and not roles & {"from", "to"}:
        roles |= {"in", "at", "near", "from", "to"}
    return replace(
        slot, required=required, kind=kind, roles=roles or frozenset(("by",) if kind in PROPER else ())
    )


# -- what a text offers for it -----------------------------------------------------------------------------


def offered(slot: Slot, passage: Passage) -> Iterator[Fit]:
    """Yield what the text offers for a slot, weighed by what stands beside it, and by its meaning."""
    text = passage.text
    if pattern := slot.schema.get("pattern"):
        hit = matching(str(pattern), text, must=False)
        yield from [Fit(SURE, hit, text.find(hit), text.find(hit) + len(hit))] if hit else []
        return
    if not passage.whole and slot.kind in ("thing", "text") and slot.stems & _SENTENCES:
        return
    yield from _weighed(slot, _fitted(slot, passage), passage)
    if slot.stems <= _ENDS and slot.kind in OPEN:  # of a way or of the time that it takes
        moments = (
            fit for kind in ("time", "date") for fit in fits(replace(slot, kind=kind), text, passage.known)
        )
        yield from (replace(fit, score=fit.score + 1, value=text[fit.start : fit.end]) for fit in moments)


def _fitted(slot: Slot, passage: Passage) -> list[Fit]:
    """Return the fits that may be values, also words of phrases; a number with another unit if it must."""
    text, known = passage.text, passage.known
    found = [fit for fit in fits(slot, text, known) if _is_value(slot, fit, passage)]
    if not found and slot.unit[0] in ("count", "money"):  # "2.5 litres" for a quantity, "200 g" for an amount
        return list(fits(replace(slot, unit=("", 1.0, "")), text, known))
    return [*found, *(part for fit in found for part in _attributes(slot, fit))]


def _weighed(slot: Slot, found: Sequence[Fit], passage: Passage) -> Iterator[Fit]:
    near = _likeness(slot, tuple(dict.fromkeys(str(fit.value) for fit in found))) if slot.kind in OPEN else {}
    for fit in found:
        placed = _placed(fit, passage.text)
        score = fit.score + MEANING * near.get(str(fit.value), 0.0)
        score += _beside(slot, fit, passage.text) + _introduced(slot, fit, passage)
        yield replace(placed, score=score)


_ENDS = words.roots("departure arrival start end begin finish opens closes")


def _attributes(slot: Slot, fit: Fit) -> Iterator[Fit]:
    """Yield the first word of a phrase, for an attribute such as a colour: "blue" of "a blue vase"."""
    first, _, rest = str(fit.value).partition(" ")
    is_form = first in VERB_FORMS or first in words.COMMON_WORDS or first.endswith(("ing", "ed"))
    if slot.kind == "thing" and rest and first.isalpha() and first.islower() and not is_form:
        yield replace(fit, score=fit.score - ARTICLE, value=first)


def _placed(fit: Fit, text: str) -> Fit:
    """Return a fit where its value stands, without the words before it that were left out."""
    at = text.find(fit.value, fit.start, fit.end) if isinstance(fit.value, str) else -1
    return replace(fit, start=at, end=at + len(fit.value)) if at >= 0 else fit


def whole_value(slot: Slot, text: str) -> Any:
    """Return the value for a slot out of a text that stands for it alone; None if it has none."""
    if slot.kind in ("array", "object", "enum", "boolean"):
        return None
    found = list(offered(slot, Passage(text, whole=True)))
    is_range = slot.kind == "time" and "format" not in slot.schema and len(found) > 1
    if (slot.kind in STRICT and not is_range) or "pattern" in slot.schema or slot.shape:
        return max(found, key=lambda fit: (fit.score, -fit.start)).value if found else None
    return within(slot.schema, bare(text)) or None


def bare(text: str) -> str:
    """Return a text without an article before it and signs around it."""
    return re.sub(
        r"^(?:an?|the|and|or|some)\s+",
        "",
        text.strip().strip("\"'*-\u2022 ").rstrip(".,;"),
        flags=re.IGNORECASE,
    )


# -- what is no value --------------------------------------------------------------------------------------


_EMPTY = words.STOP | words.COMMON_WORDS


def _is_value(slot: Slot, fit: Fit, passage: Passage) -> bool:
    """Say whether a fit may be the value of a slot: not all of the text, no label, no common word."""
    text = passage.text
    if isinstance(fit.value, int | float):
        return not slot.path[-1].endswith("year") or 1000 <= fit.value <= 2100
    spoken = words.words(fit.value)
    verbs = () if _DETERMINED.search(_before(fit, text)) else VERB_FORMS.keys()
    if all(words.stem(one) in passage.known or one in _EMPTY or one in verbs for one in spoken):
        return False
    if not passage.whole:
        is_all = fit.end - fit.start > 0.9 * len(text.strip(" .\n"))
        if is_all or all(_is_akin(word, slot) for word in spoken):
            return False  # the label of a value is none
    return _has_form(slot, fit, passage)


def _has_form(slot: Slot, fit: Fit, passage: Passage) -> bool:
    """Say whether a text looks like a value of the slot's kind: an id like one, a name like one."""
    before, spoken = _before(fit, passage.text), words.words(fit.value)
    if all(word.isdigit() for word in spoken) and slot.kind in ("title", "thing"):
        return _is_akin(_last(before), slot)  # "room 4.12"
    if slot.kind == "id" and not re.search(r"\d", passage.text[fit.start : fit.end]):
        return not spoken[0].isdigit()  # "two" is no id
    is_proper = slot.kind in PROPER or words_of(slot.path[-1])[-1:] == ["name"]
    if passage.whole or not is_proper:
        return True
    if fit.value[:1].islower():  # "in the café"
        return slot.kind == "place" and bool(_SITED.search(before)) and not _PARTS_OF_DAY.search(fit.value)
    return fit.start in _name_starts(passage.text)


_SITED = re.compile(r"\b(?:in|at|near|from|to) (?:an?|the|our|my) $")


_PARTS_OF_DAY = re.compile(r"\b(?:morning|afternoon|evening|night|day|week|month|year|end|beginning)\b")


@lru_cache(maxsize=1024)
def _name_starts(text: str) -> frozenset[int]:
    return frozenset(
        one.start for one in lex(text) if one.kind not in ("phrase", "number", "text", "short text")
    )


# -- what speaks for a value -------------------------------------------------------------------------------


def _introduced(slot: Slot, fit: Fit, passage: Passage) -> float:
    """Return what it is worth that a thing is counted or has an article, and that a name is one."""
    text = passage.text
    before, after = _before(fit, text), text[fit.end :]
    if slot.kind not in OPEN:
        return 0.0
    if re.match(r"\sof\s", after):
        return -COUNTED  # of "bags of soil", all is meant
    if re.match(r"[^\W\d_a-z]\D*$", str(fit.value)):
        is_quoted = text[fit.start : fit.start + 1] in _QUOTES
        named = slot.stems <= NAMES or (slot.kind in ("title", "thing") and is_quoted)
        least = ARTICLE if passage.whole else NAMED
        return NAMED * named - least * (slot.kind == "thing" and not is_quoted) + _addressed(slot, before)
    if slot.kind == "title" and (
        _WANTED.search(before) or re.match(r"\s(?:that\s|which\s)?(?:I|we)\s", after)
    ):
        return COUNTED
    if slot.kind in ("title", "thing") and _COUNTED.search(before) and passage.known & _COUNTS:
        return COUNTED
    is_introduced = _DETERMINED.search(before) or not before.strip()
    return ARTICLE if slot.kind == "title" and is_introduced else 0.0


_DETERMINED = re.compile(r"\b(?:an?|the|my|our|this|your|his|her|their|all|every|each)\s$", re.IGNORECASE)
_WANTED = re.compile(
    r"\b(?:need|want|like|order|buy|bought|sell|selling|return|ordered|received|got|get|have|has)s?\s(?:to\s(?:buy|order|return)\s)?"
    r"(?:an?\s|the\s|some\s|my\s|our\s|this\s)?(?:\w+\s)?$"
)
"""What stands before a thing that somebody wants or has."""
_COUNTS = words.roots("quantity qty count amount number pieces units value")
_COUNTED = re.compile(rf"(?:\d|\b(?:{'|'.join(words.NUMBERS)}|dozen))\s$")


def _before(fit: Fit, text: str) -> str:
    """Return what stands right before a mention, however long the text is."""
    return text[max(fit.start - 80, 0) : fit.start]


def _last(text: str) -> str:
    return (words.words(text) or [""])[-1]


def _addressed(slot: Slot, before: str) -> float:
    """Return what it is worth for a name to stand in a letter's first or last line."""
    greeted, signed = re.search(r"\b(?:dear|hi|hello),?\s$", before, re.IGNORECASE), _SIGNED.search(before)
    if not (greeted or signed):
        return 0.0
    is_to, is_from = (
        "to" in slot.roles and slot.kind == "person",
        slot.kind == "person" or slot.stems <= NAMES,
    )
    return ROLE if (is_to if greeted else is_from and not is_to) else -ROLE


_SIGNED = re.compile(
    r"\b(?:regards|love|cheers|yours|sincerely|wishes|thanks|thank you|best)[,.]?\s+$", re.IGNORECASE
)


NAMES = frozenset(("nam", "full"))
_QUOTES = ('"', "\u201c", "\u00ab", "'")


def _beside(slot: Slot, fit: Fit, text: str) -> float:
    """Return how near the words of the field's name, or of their family, stand in the sentence."""
    before = words.words(re.split(r"[.!?;]\s|\n", _before(fit, text))[-1])[::-1]
    after = words.words(re.split(r"[.!?;]\s|\n", text[fit.end : fit.end + 50])[0])
    sides = ((1.0, before), (0.5, after))
    near = [
        worth / (1 + at / 2) for worth, side in sides for at, word in enumerate(side) if _is_akin(word, slot)
    ]
    return BESIDE * max(near, default=0.0)


def _is_akin(word: str, slot: Slot) -> bool:
    """Say whether a word is one that the field is named after, or of its family: "won" and winner."""
    stem = words.stem(VERB_FORMS.get(word, SPELLED_OUT.get(word, word)))
    own = (slot.stems - _GENERAL - words.STOP) or slot.stems
    is_alike = any(words.are_akin(stem, one) for one in own)
    acts = any(f"{stem}{ending}" in own for ending in ("er", "or", f"{stem[-1:]}er"))
    return is_alike or acts or (stem in slot.about and word not in words.COMMON_WORDS)


_GENERAL = words.roots("date time name number id code full day amount city place")
"""Words of a field's name that say of which kind it is, and not which one."""


@lru_cache(maxsize=2048)
def _near(name: str, phrases: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(float(one) for one in encode(list(phrases)) @ encode([name])[0])


def _likeness(slot: Slot, phrases: tuple[str, ...]) -> dict[str, float]:
    """Return how near in meaning phrases are to what the field is named after; names mean nothing."""
    phrases = tuple(phrase for phrase in phrases if phrase[:1].islower())[:MOST_COMPARED]
    near = _near(slot.path[-1].replace("_", " "), phrases) if phrases else ()
    return {phrase: max(0.0, one - 0.2) for phrase, one in zip(phrases, near, strict=True)}
