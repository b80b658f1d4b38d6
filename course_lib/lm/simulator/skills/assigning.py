"""Which part of a text goes to which field: labels first, then the best fits, in a record the rest.

Main path: labelled(slots, text) and assigned(slots, passage, taken); no place of the text is used twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from course_lib.lm.simulator.agents.filling import Fit
from course_lib.lm.simulator.agents.lexing import FILLERS, UNITS, VERB_FORMS, Span
from course_lib.lm.simulator.agents.slots import Slot
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.offers import (
    CLEAR,
    ENOUGH,
    NAMED,
    NAMES,
    OPEN,
    PROPER,
    SURE,
    TOLD,
    Passage,
    offered,
)

Path = tuple[str, ...]
Pairs = Sequence[tuple[Slot, Fit]]


def assigned(wanted: Sequence[Slot], passage: Passage, taken: list[Span]) -> dict[Path, Fit]:
    """Return the best fit for each slot, and add its place to those `taken`; no place is used twice."""
    single = [slot for slot in wanted if slot.kind not in ("array", "object", "enum", "boolean", "null")]
    taken += _named_labels(wanted, passage.text)
    found = [(slot, fit) for slot in single for fit in offered(slot, passage)]
    order = {slot.path: at for at, slot in enumerate(single)}
    found.sort(key=lambda pair: (-pair[1].score, order[pair[0].path], pair[1].start, -pair[1].end))
    chosen: dict[Path, Fit] = {}
    for slot, fit in found:
        is_free = fit.start == fit.end or not fit.touches(taken)
        must = _least(slot, fit, SURE if passage.whole else ENOUGH)
        if slot.path not in chosen and is_free and fit.score >= must:
            chosen[slot.path] = fit
            taken.append((fit.start, with_unit(fit, passage.text)))
    if passage.whole:
        rest = [slot for slot in single if slot.kind in OPEN and slot.required and slot.path not in chosen]
        for slot, fit in _shared_out(rest, [pair for pair in found if pair[0] in rest], passage, taken):
            chosen[slot.path] = fit
            taken.append((fit.start, fit.end))
    return chosen


def _named_labels(wanted: Sequence[Slot], text: str) -> list[Span]:
    labels = (str(label) for slot in wanted for label in slot.schema.get("enum", ()))
    return [
        hit.span() for one in labels for hit in re.finditer(rf"\b{re.escape(one)}\b", text, re.IGNORECASE)
    ]


def with_unit(fit: Fit, text: str) -> int:
    """Return where a number with its unit ends."""
    unit = (
        re.match(r"\s?([A-Za-z°%]+)\b(?:\sof\b)?", text[fit.end :])
        if isinstance(fit.value, int | float)
        else None
    )
    return fit.end + (unit.end() if unit and words.stem(unit.group(1).lower()) in UNITS else 0)


def _least(slot: Slot, fit: Fit, least: float) -> float:
    """Return how well a fit must do: common nouns need more than to be such, and so do names for things."""
    if slot.kind not in OPEN:
        return ENOUGH
    if not slot.required:
        return max(TOLD, least)
    is_common = slot.kind == "thing" or (slot.kind == "title" and str(fit.value)[:1].islower())
    is_form = fit.start == fit.end or re.search(r"\d", str(fit.value))
    return max(CLEAR if is_common and not is_form else ENOUGH, least)


# -- what is left of a record ------------------------------------------------------------------------------


def _shared_out(rest: Sequence[Slot], offered: Pairs, passage: Passage, taken: Sequence[Span]) -> Pairs:
    """Return what is left of a record for its open fields: a piece each in order, or what fits best."""
    pieces = list(_pieces(passage, taken))
    if len(rest) == len(pieces):
        return [(slot, _core(slot, piece, offered)) for slot, piece in zip(rest, pieces, strict=True)]
    first = (
        range(pieces[0].start, pieces[0].end) if pieces else range(0)
    )  # records begin with what they are called
    headed = [
        (slot, fit, fit.score + NAMED * (bool(slot.stems & _HEADS) and fit.start in first))
        for slot, fit in offered
    ]
    found: list[tuple[Slot, Fit]] = []
    for slot, fit, score in sorted(headed, key=lambda one: (-one[2], one[1].start)):
        used = [*taken, *((one.start, one.end) for _, one in found)]
        if slot not in [one for one, _ in found] and not fit.touches(used) and score > 0:
            found.append((slot, fit))
    return found


_HEADS = words.roots("0 name title item product")


def _inside(slot: Slot, piece: Fit, offered: Pairs) -> list[Fit]:
    """Return what was offered to a slot inside a piece, the best first."""
    found = [fit for one, fit in offered if one is slot and piece.start <= fit.start < fit.end <= piece.end]
    return sorted(found, key=lambda fit: -fit.score)


def _core(slot: Slot, piece: Fit, offered: Pairs) -> Fit:
    """Return what a slot wants of a piece: the name in it, the best fit in a clause, else all of it."""
    inside = _inside(slot, piece, offered)
    if slot.kind in PROPER or slot.stems <= NAMES:
        return next((fit for fit in inside if str(fit.value)[:1].isupper()), piece)
    is_phrase = not any(word in _LOOSE or word in VERB_FORMS for word in words.words(piece.value))
    return piece if is_phrase or not inside else inside[0]


_LOOSE = frozenset("i we you they he she it is are was has have".split())  # noqa: SIM905
_EDGE = (
    r"(?i:\s|\b(?:x|and|or|is|are|was|the|an?|with|at|for|from|of|on|in|by|to|costs?|called|named|left|each)\b"
    r"|\d+\s?x\b|[-\u2013,;:.|()\"'*\u2022=])+"
)


def _pieces(passage: Passage, taken: Sequence[Span]) -> Iterator[Fit]:
    """Yield what is left of a text between what is taken and its commas, colons, dashes and brackets."""
    text = passage.text
    for start, end in taken:
        text = text[:start] + "|" * (end - start) + text[end:]
    for hit in re.finditer(r"(?:(?!\s[-\u2013]\s)[^|,;:()\n])+", text):
        left, right = re.match(_EDGE, hit.group()), re.search(_EDGE + "$", hit.group())
        start, end = (
            hit.start() + (left.end() if left else 0),
            hit.end() - (len(right.group()) if right else 0),
        )
        piece = passage.text[start:end]
        is_unit = _UNITS.fullmatch(piece) and re.search(r"\d\s?$", passage.text[:start])
        if not is_unit and not all(_is_empty(word, passage) for word in words.words(piece)):
            yield Fit(ENOUGH, piece, start, end)


def _is_empty(word: str, passage: Passage) -> bool:
    return word in words.STOP | FILLERS or word.endswith("ed") or words.stem(word) in passage.known


_UNITS = re.compile(r"[a-z%°€$£]{1,3}\d?|[A-Z]{3}|euros?|dollars?|pounds?|years? old|degrees?")

# -- labels ------------------------------------------------------------------------------------------------

_LABEL = re.compile(
    r"(?:^|(?<=[;|\n])|(?<=\. )|(?<=, ))[ \t*#-]*([A-Za-z][\w %./'-]{0,30}?)[ \t*]*(?:\([^)]*\))?"
    r"[ \t]*[:=][ \t]+"
    r"(\S[^\n;|]*?)(?=\s*$|[;|\n]|\.\s|,\s+[A-Za-z][\w ]{0,20}[:=])",
    re.MULTILINE,
)


def labelled(wanted: Sequence[Slot], text: str) -> dict[Path, tuple[str, Span]]:
    """Return the text after the label of each slot that has one, such as "From: Otto" for a sender."""
    pairs = [
        (-share, hit.start(), slot.path, hit)
        for hit in _LABEL.finditer(text)
        for slot in wanted
        if (share := _share(hit.group(1), slot)) >= 0.5
    ]
    found: dict[Path, tuple[str, Span]] = {}
    used: set[int] = set()
    for _, start, path, hit in sorted(pairs, key=lambda pair: pair[:2]):
        if path not in found and start not in used:
            found[path] = (hit.group(2).strip("* "), hit.span())
            used.add(start)
    return found


@lru_cache(maxsize=4096)
def _share(label: str, slot: Slot) -> float:
    """Return how much of a label the name of a field has; nothing where it has a number, as "Part 100"."""
    spoken = words.words(re.sub(r"\d+\s?%", "", label))
    stems = {words.stem(word) for word in spoken if word not in words.STOP or word in ("from", "to")}
    if not stems or any(word.isdigit() for word in spoken):
        return 0.0
    common = len(stems & slot.stems)
    is_role = len(spoken) == 1 and bool({*spoken} & slot.roles)
    return max(common / len(stems) + 0.1 * common / max(1, len(slot.stems)), 0.9 * is_role)
