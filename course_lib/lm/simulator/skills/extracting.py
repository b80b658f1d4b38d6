"""What a text says for the fields of a program: all of them are filled together, each mention used once.

Main path: stated(field, work) -> Result or None; extract(field, work) -> Result, the plainest value if it must.
The single values, also those of nested models, take what fits them best in the text (agents/filling.py), by kind,
preposition, label and unit, by the words beside it and by its meaning. Lists, records and mappings read what is left.
What the text does not state stays unknown: null, empty, or the plainest value with a reason.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.agents.filling import LABEL, ROLE, Fit, fits, joined_parts, joined_runs
from course_lib.lm.simulator.agents.lexing import FILLERS, PREPOSITIONS, UNITS, VERB_FORMS, Span, lex
from course_lib.lm.simulator.agents.slots import Slot, fields_of, plain, slot_of, slots, words_of
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.schema import Schema, is_only_named
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.choice import choose
from course_lib.lm.simulator.skills.keywords import phrases_of
from course_lib.lm.simulator.skills.limits import fallback, filled_up, limited, matching, resolve, validates, within
from course_lib.lm.simulator.skills.polarity import polarity
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text, is_reasoning

DEEPEST, MOST_PARTS, MOST_SLOTS, MOST_COMPARED = 4, 12, 40, 12
ENOUGH, CLEAR, TOLD, SURE = 1.0, 2.0, 3.1, 3.5
"""How well a mention must fit; a common noun; an open text that may be missing; and in a record, where what is left over will do, one for an open text."""
BESIDE, MEANING, COUNTED, ARTICLE, NAMED, OWNED = 2.0, 6.0, 1.5, 0.5, 1.5, 2.5
"""What it is worth that a word stands beside which the field is named after, to be like it in meaning, to be counted, to
have an article, to be a name; and what it takes to be what something else is "of"."""
_SENTENCES = frozenset("caus problem complaint issu question claim statement concern feedback remark description".split())  # noqa: SIM905
_VAGUE = re.compile(
    r"code|(?:\w+_)?(?:text|output|content|result|answer|value|data|response|reply|info|information|message)"
)
"""Names that ask for nothing in particular."""
_STRICT = frozenset(("email", "url", "phone", "date", "time", "date-time", "zip", "number", "integer", "street", "path"))
"""Kinds that are known by their form, wherever they stand."""
_PROPER = ("person", "place", "company", "language")
"""Kinds that names are of."""
_OPEN = ("title", "thing", "text", "query", *_PROPER)


@dataclass(frozen=True, slots=True)
class _Scope:
    """The text that is read, and for what."""

    text: str
    work: Work
    known: frozenset[str]
    """Stems of the fields' own words: they are no values."""
    depth: int = 0
    taken: tuple[Span, ...] = ()
    whole: bool = False
    """The text is one record, or one value, and nothing else."""
    rivals: frozenset[str] = frozenset()
    """The prepositions that introduce other fields."""

    def on(self, text: str, *, whole: bool = True) -> _Scope:
        """Return the scope one level deeper, reading a part of the text."""
        return replace(self, text=text, depth=self.depth + 1, taken=(), whole=whole)

    @property
    def left(self) -> str:
        """The text, with spaces where something is taken."""
        text = self.text
        for start, end in self.taken:
            text = text[:start] + " " * (end - start) + text[end:]
        return text


_MISSING = object()


def extract(field: Field, work: Work) -> Result:
    """Fill the field's type from the input, or with the plainest value."""
    return stated(field, work) or Result(_plainest(field))


def stated(field: Field, work: Work) -> Result | None:
    """Fill the field's type from the input; a text that the input does not state is left to the last skill."""
    if is_free_text(field) and (is_vague(field) or not is_text(work)):
        return None
    if work.read is None:
        fields = tuple(one for one in work.task.spec.outputs if not is_reasoning(one))
        work.read = _read(fields, _Scope(work.task.text, work, _known(fields))) if is_text(work) else {}
    value, named = work.read.get(field.name, _MISSING), field.name.replace("_", " ")
    if value is not _MISSING:
        return Result(value, f"the input gives {value!r} as the {named}" if isinstance(value, str | int | float) else "")
    if is_free_text(field):
        return None
    value = _plainest(field)
    return Result(value, f"the input does not say the {named}, so {value!r} is only there to fill the field")


def value_in(field: Field, text: str) -> Any:
    """Return what a text that stands for a field gives for it; None if it gives nothing."""
    (slot,) = slots((field,))[:1]
    value = _whole(_typed(slot), text)
    return value if value is not None and validates(plain(field.schema, {}), value) else None


def is_text(work: Work) -> bool:
    """Say whether the inputs are a text to read; a question holds no answer, a name no facts, an image no words."""
    if len(work.task.text.split()) < 3 and not re.search(r"[\d:@]", work.task.text):
        return False
    is_asked = all(re.fullmatch(r"(\w+_)?(question|query)", name) for name in work.task.inputs)
    return not is_asked and '"type": "image_url"' not in work.task.text


def is_vague(field: Field) -> bool:
    """Say whether the name of a field asks for nothing in particular."""
    return _VAGUE.fullmatch(field.name) is not None


def is_piece(field: Field) -> bool:
    """Say whether a field of this name asks for a piece of a text: a name, an amount, a date."""
    kind = slot_of((field.name,), field.schema, field.desc, True).kind
    return kind not in ("thing", "text", "query") and not is_vague(field)


def _known(fields: Sequence[Field]) -> frozenset[str]:
    return frozenset(words.stem(word) for one in fields for word in words.words(one.name.replace("_", " ")))


# -- all fields together ------------------------------------------------------------------------------------


def _read(fields: tuple[Field, ...], scope: _Scope) -> dict[str, Any]:
    """Return the values that the text states, by field; nested models are filled up."""
    fields = tuple(replace(one, schema=_guessed(one.name, one.schema)) for one in fields)
    optional = {one.name for one in fields if _is_nullable(one.schema)}
    wanted = [_typed(slot, required=slot.path[0] not in optional) for slot in slots(fields)[:MOST_SLOTS]]
    labelled = _labelled(wanted, scope.text)
    rest = [slot for slot in wanted if slot.path not in labelled]
    spans = [span for _, span in labelled.values()]
    values = {slot.path: _whole(slot, labelled[slot.path][0]) for slot in wanted if slot.path in labelled}
    chosen = _assigned(rest, scope, spans, SURE)
    for one in fields:  # a list takes its items before a text takes what is left
        if (listed := _plain_list(one, replace(scope, taken=tuple(spans)))) and (one.name,) not in labelled:
            values[(one.name,)] = listed
            spans += [(at, at + len(str(item))) for item in listed if (at := scope.text.find(str(item))) >= 0]
    chosen |= _assigned([slot for slot in rest if slot.path not in chosen], scope, spans, ENOUGH)
    values |= {path: fit.value for path, fit in chosen.items()}
    values = {path: value for path, value in values.items() if value is not None}
    found = _Found(values, {path: text for path, (text, _) in labelled.items()}, replace(scope, taken=tuple(spans)))
    built = {one.name: found.value(one, (one.name,)) for one in fields}
    return {name: value for name, value in built.items() if value is not _MISSING}


def _plain_list(field: Field, scope: _Scope) -> list[Any]:
    """Return the list of texts that a field wants, if it wants one."""
    definitions = field.schema.get("$defs", {})
    schema = plain(field.schema, definitions)
    item = plain(schema.get("items") or {}, definitions)
    is_plain = item.get("type") == "string" and "enum" not in item
    return list(_list(Field(field.name, {**schema, "minItems": 0}, field.desc), scope.on(scope.left, whole=False), definitions)) if is_plain else []


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found in a text, by path, to be put into the form of the fields."""

    values: Mapping[tuple[str, ...], Any]
    labelled: Mapping[tuple[str, ...], str]
    scope: _Scope

    def value(self, field: Field, path: tuple[str, ...]) -> Any:
        """Return the value of a field, null where that is allowed; _MISSING if the text does not state it."""
        definitions = {**field.schema.get("definitions", {}), **field.schema.get("$defs", {})}
        schema = guess(field.name, plain(field.schema, definitions))
        value = self._of(replace(field, schema={**schema, "$defs": definitions}), path)
        return None if _is_nullable(field.schema) and (value is _MISSING or value in ([], {})) else value

    def _of(self, field: Field, path: tuple[str, ...]) -> Any:
        schema, text, definitions = field.schema, self.labelled.get(path), field.schema["$defs"]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema or schema.get("type") == "boolean":
            return self._closed(field, text or self.scope.text)
        if path in self.values and schema.get("type") == "array":
            return self.values[path]
        if schema.get("type") == "array" or "prefixItems" in schema:
            scope = self.scope.on(text or self.scope.left, whole=text is not None)
            return _list(field, scope, definitions)
        if properties := schema.get("properties"):
            return self._object(field, path, properties, definitions)
        if schema.get("type") == "object":
            return _mapping(field, self.scope.on(text or self.scope.left), definitions)
        value = self.values.get(path, _MISSING)
        return value if value is not _MISSING and validates(schema, value) else _MISSING

    def _object(self, field: Field, path: tuple[str, ...], properties: Mapping[str, Schema], definitions: Any) -> Any:
        parts = {one.name: one for one in fields_of(field.schema, definitions)}
        if len(path) >= DEEPEST:
            return _plainest(field)
        found = {name: self.value(part, (*path, name)) for name, part in parts.items()}
        return {
            name: _plainest(part) if found[name] is _MISSING else found[name]
            for name, part in parts.items()
        }

    def _closed(self, field: Field, text: str) -> Any:
        """Return the label that the text names alone, or else speaks for."""
        labels = field.schema.get("enum", (False, True))
        told = [label for label in labels if isinstance(label, str) and re.search(rf"\b{re.escape(label)}\b", text, re.IGNORECASE)]
        return told[0] if len(told) == 1 else choose(field.name, field.desc, labels, text, self.scope.work).value


def _guessed(name: str, schema: Schema) -> Schema:
    """Return the schema with a guessed type for each part of which the prompt shows none."""
    if properties := schema.get("properties"):
        return {**schema, "properties": {one: _guessed(one, child) for one, child in properties.items()}}
    return {**schema, "items": _guessed(name, schema["items"])} if "items" in schema else guess(name, schema)


def _plainest(field: Field) -> Any:
    return fallback(_guessed(field.name, field.schema), field.name, field.schema.get("$defs", {}))


def guess(name: str, schema: Schema) -> Schema:
    """Return the type that a name suggests, where the prompt shows nothing else (a leaf of nested XML)."""
    if "x-opaque" not in schema:
        return schema
    if re.match(r"(is|has|can|should|was|needs)_", name):
        return {"type": "boolean"}
    as_number = slot_of((name,), {"type": "number"}, "", True)
    if as_number.unit[0] or as_number.stems & _FIGURES or name.startswith("number_of"):
        return {"type": "number", "x-whole": True}
    is_day = slot_of((name,), {"type": "string"}, "", True).kind == "date"
    return {"type": "string", "format": "date"} if is_day else {"type": "string"}


_FIGURES = frozenset(map(words.stem, ("age", "year", "score", "rating", "temperature", "page", "total", "population", "speed", "stars", "points", "stock", "area", "level", "minute")))


def _typed(slot: Slot, *, required: bool = True) -> Slot:
    """Return a slot with the kind and the prepositions that it has in a text."""
    last, kind = words_of(slot.path[-1])[-1:], "url" if slot.schema.get("format") == "uri" else slot.kind
    if kind == "thing" and last and _is_person(last[0]):
        kind = "person"
    if last and last[0] in ("number", "id", "code", "no", "ref") and kind in _OPEN:
        kind = "id"
    roles = slot.roles - ({"for"} if kind in ("title", "place") else set())
    if kind == "place" and not roles & {"from", "to"}:
        roles |= {"in", "at", "near", "from", "to"}
    kind = "thing" if kind == "query" else kind
    return replace(slot, required=required, kind=kind, roles=roles or frozenset(("by",) if kind in _PROPER else ()))


@lru_cache(maxsize=1024)
def _is_person(word: str) -> bool:
    """Say whether a field of this name is for a person: nearer in meaning to people than to things or jobs."""
    (near,) = encode([_singular(word)]) @ encode([*_PEOPLE, *_THINGS, *_JOBS]).T
    people, things, job = near[:4].mean(), near[4:11].mean(), near[11:].max()
    return bool(people >= 0.3 and people - things >= 0.07 and job - people < 0.23)


_PEOPLE = ("person", "man or woman", "worker", "employee")
_THINGS = ("thing", "object", "device", "tool", "topic", "idea", "reason")
_JOBS = ("job", "profession", "gender", "role")


def _assigned(wanted: Sequence[Slot], scope: _Scope, taken: list[Span], least: float = ENOUGH) -> dict[tuple[str, ...], Fit]:
    """Return the best fit for each slot; no place of the text is used twice."""
    single = [slot for slot in wanted if slot.kind not in ("array", "object", "enum", "boolean", "null")]
    for slot in wanted:
        for label in slot.schema.get("enum", ()):
            taken += [hit.span() for hit in re.finditer(rf"\b{re.escape(str(label))}\b", scope.text, re.IGNORECASE)]
    offered = [(slot, fit) for slot in single for fit in _offered(slot, replace(scope, rivals=_rivals(slot, single)))]
    order = {slot.path: at for at, slot in enumerate(single)}
    chosen: dict[tuple[str, ...], Fit] = {}
    is_last = least == ENOUGH
    least = SURE if scope.whole else least
    for slot, fit in sorted(offered, key=lambda pair: (-pair[1].score, order[pair[0].path], pair[1].start, -pair[1].end)):
        is_free = not fit.touches(taken) or fit.start == fit.end
        if slot.path not in chosen and is_free and fit.score >= max(least if slot.kind in _OPEN else ENOUGH, _least(slot, fit)):
            chosen[slot.path] = fit
            taken.append((fit.start, _with_unit(fit, scope.text)))
    if scope.whole and is_last:
        rest = [slot for slot in single if slot.kind in _OPEN and slot.required and slot.path not in chosen]
        for slot, fit in _shared_out(rest, [pair for pair in offered if pair[0] in rest], scope, taken):
            chosen[slot.path] = fit
            taken.append((fit.start, fit.end))
    return chosen


def _with_unit(fit: Fit, text: str) -> int:
    """Return where a number with its unit ends."""
    unit = re.match(r"\s?([A-Za-z°%]+)\b(?:\sof\b)?", text[fit.end :]) if isinstance(fit.value, int | float) else None
    return fit.end + (unit.end() if unit and words.stem(unit.group(1).lower()) in UNITS else 0)


def _rivals(slot: Slot, wanted: Sequence[Slot]) -> frozenset[str]:
    return frozenset(role for one in wanted if one is not slot and one.roles != slot.roles for role in one.roles) - slot.roles


def _least(slot: Slot, fit: Fit) -> float:
    """Return how well a fit must do: a common noun needs more than that it is one, and so does a name for a thing."""
    if not slot.required and slot.kind in _OPEN:
        return TOLD
    if re.search(r"\d", str(fit.value)):
        return ENOUGH
    is_common = slot.kind == "title" and str(fit.value)[:1].islower()
    return CLEAR if (is_common or slot.kind == "thing") and fit.start < fit.end else ENOUGH


def _shared_out(rest: Sequence[Slot], offered: Sequence[tuple[Slot, Fit]], scope: _Scope, taken: Sequence[Span]) -> list[tuple[Slot, Fit]]:
    """Return for the open fields of a record what is left of it: its pieces in order, or else what fits best."""
    pieces = list(_pieces(scope.text, taken, scope.known))
    if len(rest) == len(pieces) <= 4:
        orders = itertools.permutations(pieces)
        best = max(orders, key=lambda order: sum(_worth(slot, piece, offered, pieces[0]) for slot, piece in zip(rest, order, strict=True)))
        return [(slot, _core(slot, piece, offered)) for slot, piece in zip(rest, best, strict=True)]
    found: list[tuple[Slot, Fit]] = []
    for slot, fit in sorted(offered, key=lambda pair: (-pair[1].score, pair[1].start)):
        used = [*taken, *((one.start, one.end) for _, one in found)]
        if slot not in [one for one, _ in found] and not fit.touches(used) and fit.score > 0:
            found.append((slot, fit))
    return found


def _worth(slot: Slot, piece: Fit, offered: Sequence[tuple[Slot, Fit]], first: Fit) -> float:
    """Return how well a piece fits a slot; records begin with what they are called."""
    inside = [fit.score for one, fit in offered if one is slot and piece.start <= fit.start < fit.end <= piece.end]
    return max(inside, default=0.0) + NAMED * (piece is first and bool(slot.stems & _HEADS))


_HEADS = frozenset(map(words.stem, ("name", "title", "item", "product")))


def _core(slot: Slot, piece: Fit, offered: Sequence[tuple[Slot, Fit]]) -> Fit:
    """Return what a slot wants of a piece: the name in it, or what fits best where it is more than a phrase."""
    inside = [fit for one, fit in offered if one is slot and piece.start <= fit.start < fit.end <= piece.end]
    inside.sort(key=lambda fit: -fit.score)
    if slot.kind in _PROPER or slot.stems <= _NAMES:
        return next((fit for fit in inside if str(fit.value)[:1].isupper()), piece)
    is_phrase = not any(word in _LOOSE or word in VERB_FORMS for word in words.words(piece.value))
    return piece if is_phrase or not inside else inside[0]


_LOOSE = frozenset("i we you they he she it is are was has have".split())  # noqa: SIM905
_EDGE = r"(?i:\s|\b(?:x|and|or|is|are|was|the|an?|with|at|for|from|of|on|in|by|to|costs?|called|named|left|each)\b|\d+\s?x\b|[-\u2013,;:.|()\"'*\u2022=])+"


def _pieces(text: str, taken: Sequence[Span], known: frozenset[str]) -> Iterator[Fit]:
    """Yield what is left of a text between what is taken and its commas, colons, dashes and brackets."""
    blank = text
    for start, end in taken:
        blank = blank[:start] + "|" * (end - start) + blank[end:]
    for hit in re.finditer(r"(?:(?!\s[-\u2013]\s)[^|,;:()\n])+", blank):
        left, right = re.match(_EDGE, hit.group()), re.search(_EDGE + "$", hit.group())
        start, end = hit.start() + (left.end() if left else 0), hit.end() - (len(right.group()) if right else 0)
        piece = text[start:end]
        if not all(word in words.STOP or word in FILLERS or words.stem(word) in known for word in words.words(piece)) and not (_UNITS.fullmatch(piece) and re.search(r"\d\s?$", text[:start])):
            yield Fit(ENOUGH, piece, start, end)


_UNITS = re.compile(r"[a-z%°€$£]{1,3}\d?|[A-Z]{3}|euros?|dollars?|pounds?|years? old|degrees?")


# -- one value ----------------------------------------------------------------------------------------------


def _offered(slot: Slot, scope: _Scope) -> Iterator[Fit]:
    """Yield what the text offers for a slot, weighed by what stands beside it, before it, and by its meaning."""
    text = scope.text
    if pattern := slot.schema.get("pattern"):
        hit = matching(str(pattern), text, must=False)
        at = text.find(hit) if hit else -1
        yield from [Fit(4.0, hit, at, at + len(hit))] if hit and at >= 0 else []
        return
    if not scope.whole and (slot.kind == "text" or slot.stems & _SENTENCES):
        yield from _told(slot, text)
        if slot.kind == "thing":
            return
    if slot.kind in _OPEN or slot.kind == "date":
        yield from _measured(slot, scope)
    found = [fit for fit in fits(slot, text, scope.known, rivals=scope.rivals) if _is_value(slot, fit, scope)]
    if not found and slot.unit[0] in ("count", "money"):  # "2.5 litres" for a quantity, "200 g" for an amount
        found = list(fits(replace(slot, unit=("", 1.0, "")), text, scope.known))
    found += [part for fit in found for part in _attributes(slot, fit)]
    near = _likeness(slot, tuple(dict.fromkeys(str(fit.value) for fit in found))) if slot.kind in _OPEN else {}
    for fit in found:
        score = fit.score + MEANING * near.get(str(fit.value), 0.0)
        score += _beside(slot, fit, text) + _introduced(slot, fit, scope)
        score -= ARTICLE * bool(re.search(r"[a-z]\s\d+$|\s[A-Z]\s\d+$", str(fit.value)))  # "Team B 9"
        placed = _placed(fit, text)
        score += LABEL * any(_is_akin(word, slot) for word in words.words(text[fit.start : placed.start]))  # "size XL"
        yield replace(placed, score=score, value=_scaled(fit, text))
    if slot.stems <= _ENDS and slot.kind in _OPEN:  # of a way or of the time that it takes
        moments = (fit for kind in ("time", "date") for fit in fits(replace(slot, kind=kind), text, scope.known))
        yield from (replace(fit, score=fit.score + 1, value=text[fit.start : fit.end]) for fit in moments)


_ENDS = frozenset(map(words.stem, ("departure", "arrival", "start", "end", "begin", "finish", "opens", "closes")))


def _attributes(slot: Slot, fit: Fit) -> Iterator[Fit]:
    """Yield the words before the last of a phrase, for an attribute such as a colour: "blue" of "a blue vase"."""
    first, _, rest = str(fit.value).partition(" ")
    is_form = first in VERB_FORMS or first in words.COMMON_WORDS or first.endswith(("ing", "ed"))
    if slot.kind == "thing" and rest and first.isalpha() and first.islower() and not is_form:
        yield replace(fit, score=fit.score - ARTICLE, value=first)


def _placed(fit: Fit, text: str) -> Fit:
    """Return a fit where its value stands, without the words before it that were left out."""
    at = text.find(fit.value, fit.start, fit.end) if isinstance(fit.value, str) else -1
    return replace(fit, start=at, end=at + len(fit.value)) if at >= 0 else fit


def _is_value(slot: Slot, fit: Fit, scope: _Scope) -> bool:
    """Say whether a fit may be the value of a slot: not all of the text, no label, for a name no common word."""
    if isinstance(fit.value, int | float):
        return not slot.path[-1].endswith("year") or 1000 <= fit.value <= 2100
    spoken = words.words(fit.value)
    verbs = () if _DETERMINED.search(scope.text[: fit.start]) else VERB_FORMS.keys()
    is_all = not scope.whole and fit.end - fit.start > 0.9 * len(scope.text.strip(" .\n"))
    if is_all or all(words.stem(word) in scope.known or word in words.STOP | words.COMMON_WORDS or word in verbs for word in spoken):
        return False
    if spoken and all(word.isdigit() for word in spoken) and slot.kind in ("title", "thing"):
        return _is_akin(_last(scope.text[: fit.start]), slot)  # "room 4.12"
    if slot.kind == "id" and not re.search(r"\d", scope.text[fit.start : fit.end]):
        return not spoken[0].isdigit()  # "two" is no id
    if "middl" in slot.stems or (slot.kind in ("place", "company") and _TITLED.match(fit.value)):
        return False
    if slot.kind in _PROPER and scope.text[fit.start : fit.start + 1] in _QUOTES:
        return False
    if not scope.whole and all(_is_akin(word, slot) for word in spoken):
        return False  # the label of a value is none
    if scope.whole or not (slot.kind in _PROPER or words_of(slot.path[-1])[-1:] == ["name"]):
        return True
    if fit.value[:1].islower():  # "in the café"
        return slot.kind == "place" and _SITED.search(scope.text[: fit.start]) is not None and not _PARTS_OF_DAY.search(fit.value)
    return fit.start in _name_starts(scope.text)


_SITED = re.compile(r"\b(?:in|at|near|from|to) (?:an?|the|our|my) $")
_PARTS_OF_DAY = re.compile(r"\b(?:morning|afternoon|evening|night|day|week|month|year|end|beginning)\b")
_TITLED = re.compile(r"(?:Mr|Mrs|Ms|Dr|Prof)\b")


@lru_cache(maxsize=1024)
def _name_starts(text: str) -> frozenset[int]:
    return frozenset(one.start for one in lex(text) if one.kind not in ("phrase", "number", "text", "short text"))


def _measured(slot: Slot, scope: _Scope) -> Iterator[Fit]:
    """Yield amounts as they are written, for a text that is named after one: a price, a weight."""
    number = slot_of(slot.path, {"type": "number"}, slot.desc, True)
    if number.unit[0] in ("", "count", "people") or number.unit[1]:
        return
    for fit in fits(number, scope.text, scope.known):
        unit = re.match(r"\s?(?:[%€$£°]\s?)?(?:[A-Za-z]+\b)?", scope.text[fit.end :])
        start = fit.start - (scope.text[fit.start - 1 : fit.start] in ("$", "€", "£"))
        end = fit.end + (len(unit.group().rstrip()) if unit else 0)
        yield Fit(fit.score + _beside(slot, fit, scope.text), scope.text[start:end], start, end)


def _introduced(slot: Slot, fit: Fit, scope: _Scope) -> float:
    """Return what it is worth for a thing that it is counted or has an article, and for a name that it is one."""
    if slot.kind not in _OPEN:
        return 0.0
    text = scope.text
    before, is_name = text[: fit.start], re.match(r"[^\W\d_a-z]\D*$", str(fit.value)) is not None
    owner = _last(before.rpartition("of ")[0]) if re.search(r"\bof (?:the |an? )?$", before) else ""
    if owner and owner not in _CALLED and _is_akin(owner, slot):
        return -OWNED  # "the capital of Estonia" is not Estonia
    if re.match(r"\sof\s", text[fit.end :]):
        return -COUNTED  # of "bags of soil", all is meant
    if is_name:
        return _as_name(slot, fit, scope) + _addressed(slot, before)
    if slot.kind == "title" and (_WANTED.search(before) or re.match(r"\s(?:that\s|which\s)?(?:I|we)\s", text[fit.end :])):
        return COUNTED
    if slot.kind in ("title", "thing") and _COUNTED.search(before) and scope.known & _COUNTS:
        return COUNTED
    is_introduced = _DETERMINED.search(before) or not before.strip()
    return ARTICLE if slot.kind == "title" and is_introduced else 0.0


_DETERMINED = re.compile(r"\b(?:an?|the|my|our|this|your|his|her|their|all|every|each)\s$", re.IGNORECASE)
_WANTED = re.compile(
    r"\b(?:need|want|like|order|buy|bought|sell|selling|return|ordered|received|got|get|have|has)s?\s(?:to\s(?:buy|order|return)\s)?"
    r"(?:an?\s|the\s|some\s|my\s|our\s|this\s)?(?:\w+\s)?$"
)
"""What stands before a thing that somebody wants or has."""


def _addressed(slot: Slot, before: str) -> float:
    """Return what it is worth for a name to stand in a letter's first or last line."""
    greeted, signed = re.search(r"\b(?:dear|hi|hello),?\s$", before, re.IGNORECASE), _SIGNED.search(before)
    if not (greeted or signed):
        return 0.0
    is_to, is_from = "to" in slot.roles and slot.kind == "person", slot.kind == "person" or slot.stems <= _NAMES
    return ROLE if (is_to if greeted else is_from and not is_to) else -ROLE


_SIGNED = re.compile(r"\b(?:regards|love|cheers|yours|sincerely|wishes|thanks|thank you|best)[,.]?\s+$", re.IGNORECASE)


def _as_name(slot: Slot, fit: Fit, scope: _Scope) -> float:
    """Return what it is worth to be a name: for the name of something, against a thing; in quotes for a title."""
    inside = BESIDE * any(_is_akin(word, slot) for word in words.words(str(fit.value)))
    is_quoted = scope.text[fit.start : fit.start + 1] in _QUOTES
    if slot.kind == "thing" and not is_quoted:
        return inside - (ARTICLE if scope.whole else NAMED)
    return inside + NAMED * (slot.stems <= _NAMES or (slot.kind in ("title", "thing") and is_quoted))


_CALLED = ("name", "title", "city", "town", "village", "state", "island", "port", "lake", "river")
"""Words before "of" that say what the name behind it is."""


def _last(text: str) -> str:
    return (words.words(text) or [""])[-1]


_NAMES = frozenset(("nam", "full"))
_QUOTES = ("\"", "\u201c", "\u00ab", "'")
_COUNTS = frozenset(map(words.stem, ("quantity", "qty", "count", "amount", "number", "pieces", "units", "value")))
_COUNTED = re.compile(rf"(?:\d|\b(?:{'|'.join(words.NUMBERS)}|dozen))\s$")


def _scaled(fit: Fit, text: str) -> Any:
    """Return a number with the thousands or millions behind it."""
    large = re.match(r"\s?(?:(k|thousand)|(million)|(billion|bn))\b", text[fit.end :])
    if not large or not isinstance(fit.value, int | float):
        return fit.value
    return fit.value * (1e3 if large[1] else 1e6 if large[2] else 1e9)


def _beside(slot: Slot, fit: Fit, text: str) -> float:
    """Return how near the words of the field's name, or of the same family, stand to a fit in its sentence."""
    before = re.split(r"[.!?;]\s|\n", text[max(fit.start - 80, 0) : fit.start])[-1]
    after = re.split(r"[.!?;]\s|\n", text[fit.end : fit.end + 50])[0]
    is_agent = before.endswith("by ")
    found = [
        (weight if words.stem(word) in slot.stems else acts) / (1 + distance / 2)
        for side, weight, acts in ((_spoken(before, 1)[::-1], 1.0, 1.0 if is_agent else 0.4), (_spoken(after), 0.5, 1.0))
        for distance, word in enumerate(side)
        if _is_akin(word, slot) and not (acts == 1.0 and side[distance - 1 : distance] in (["was"], ["were"], ["is"], ["been"]))
    ]
    return BESIDE * max(found, default=0.0)


def _spoken(text: str, last: int = 0) -> list[str]:
    """Return the words of a text in lower case, with nothing for a name in it, but for the `last`."""
    found = re.findall(r"[^\W_]+(?:'\w+)?", text)
    begins = not found[1:2] or found[1].islower()
    return [word.lower() if word.islower() or (at == 0 and begins) or at == len(found) - last else "" for at, word in enumerate(found)]


def _is_akin(word: str, slot: Slot) -> bool:
    """Say whether a word is one that the field is named after, or of its family: "won" and winner."""
    stem, own = words.stem(VERB_FORMS.get(word, _SPELLED_OUT.get(word, word))), (slot.stems - _GENERAL - words.STOP) or slot.stems
    alike = any(stem[:5] == one[:5] for one in own if len(one) > 4 and len(stem) > 4)
    is_act = stem and any(_AGENT.sub("", one) == _AGENT.sub("", stem + "er") for one in own if one.endswith(("er", "or")))
    return stem in own or alike or bool(is_act) or (stem in slot.about and word not in words.COMMON_WORDS)


_AGENT = re.compile(r"(?<=(.))\1?[eo]r$")
_SPELLED_OUT = {"dr": "doctor", "prof": "professor", "long": "length", "wide": "width", "tall": "height", "high": "height", "deep": "depth"}
_SPELLED_OUT |= {"heavy": "weight", "weighs": "weight", "old": "age", "aged": "age", "costs": "price", "cost": "price"}
_GENERAL = frozenset(map(words.stem, ("date", "time", "name", "number", "id", "code", "full", "day", "amount", "city", "place")))
"""Words of a field's name that say of which kind it is, and not which one."""


@lru_cache(maxsize=2048)
def _near(name: str, phrases: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(float(one) for one in encode(list(phrases)) @ encode([name])[0])


def _likeness(slot: Slot, phrases: tuple[str, ...]) -> dict[str, float]:
    """Return how near in meaning phrases are to what the field is named after; names mean nothing."""
    phrases = tuple(phrase for phrase in phrases if phrase[:1].islower())[:MOST_COMPARED]
    near = _near(slot.path[-1].replace("_", " "), phrases) if phrases else ()
    return {phrase: max(0.0, one - 0.2) for phrase, one in zip(phrases, near, strict=True)}


def _told(slot: Slot, text: str) -> Iterator[Fit]:
    """Yield the sentence that says what the field is about; a question for a question, why for a reason."""
    if slot.stems & {"reason", "caus", "why"} and (why := _WHY.search(text)):
        yield Fit(4.0, why.group(1).strip(), *why.span(1))
    sentences = [one for one in words.sentences(text)[:MOST_COMPARED] if len(one.split()) > 2]
    if "question" in slot.stems:
        sentences = [one for one in sentences if one.endswith("?")]
    if sentences and len(text.split()) > 4:
        if slot.stems & _BLAMED:
            yield Fit(3.0, min(sentences, key=polarity), 0, 0)
        near = _near(f"{slot.path[-1].replace('_', ' ')} {slot.desc}".strip(), tuple(sentences))
        yield Fit(4.0 if "question" in slot.stems else 1.5, max(zip(near, sentences, strict=True))[1], 0, 0)


_BLAMED = frozenset(map(words.stem, ("complaint", "problem", "issue", "defect", "criticism", "fault")))
_WHY = re.compile(r"\b(?:because(?: of)?|due to)\s+([^,.!?;\n]{4,100})", re.IGNORECASE)


def _whole(slot: Slot, text: str) -> Any:
    """Return the value for a slot out of a text that stands for it alone; None if it has none."""
    scope = _Scope(text, Work, frozenset(), whole=True)  # type: ignore[arg-type]
    if slot.kind in ("array", "object", "enum", "boolean"):
        return None
    offered = list(_offered(slot, scope))
    is_range = slot.kind == "time" and "format" not in slot.schema and len(offered) > 1
    if (slot.kind in _STRICT and not is_range) or "pattern" in slot.schema or slot.shape:
        return max(offered, key=lambda fit: (fit.score, -fit.start)).value if offered else None
    return within(slot.schema, _bare(text)) or None


def _bare(text: str) -> str:
    return re.sub(r"^(?:an?|the|and|or|some)\s+", "", text.strip().strip("\"'*-\u2022 ").rstrip(".,;"), flags=re.IGNORECASE)


# -- labels -------------------------------------------------------------------------------------------------

_LABEL = re.compile(
    r"(?:^|(?<=[;|\n])|(?<=\. )|(?<=, ))[ \t*#-]*([A-Za-z][\w %./'-]{0,30}?)[ \t*]*(?:\([^)]*\))?[ \t]*[:=][ \t]+"
    r"(\S[^\n;|]*?)(?=\s*$|[;|\n]|\.\s|,\s+[A-Za-z][\w ]{0,20}[:=])",
    re.MULTILINE,
)


def _labelled(wanted: Sequence[Slot], text: str) -> dict[tuple[str, ...], tuple[str, Span]]:
    """Return the text after the label of each slot that has one, such as "From: Otto" for a sender."""
    pairs = []
    for hit in _LABEL.finditer(text):
        spoken = words.words(re.sub(r"\d+\s?%", "", hit.group(1)))
        if any(word.isdigit() for word in spoken):
            continue  # "Part 100: 5 pieces" has no label, but a number
        stems = {words.stem(word) for word in spoken if word not in words.STOP or word in ("from", "to")}
        for slot in wanted:
            own = len(stems & slot.stems) / max(1, len(stems)) + 0.1 * len(stems & slot.stems) / len(slot.stems or "-")
            share = max(own, 0.9 * bool({*spoken} & slot.roles and len(spoken) == 1))
            if share >= 0.5:
                pairs.append((-share, hit.start(), slot.path, hit))
    found: dict[tuple[str, ...], tuple[str, Span]] = {}
    used: set[int] = set()
    for _, start, path, hit in sorted(pairs, key=lambda pair: pair[:2]):
        if path not in found and start not in used:
            found[path] = (hit.group(2).strip("* "), hit.span())
            used.add(start)
    return found


# -- lists --------------------------------------------------------------------------------------------------


def _list(field: Field, scope: _Scope, definitions: Mapping[str, Schema]) -> Any:
    """Return the list that the text gives, with as many items as the schema allows."""
    schema = field.schema
    if schema.get("prefixItems"):
        record = _tuple(schema, definitions)
        found = _read(record, replace(scope, whole=True))
        return [found.get(one.name, _plainest(one)) for one in record]
    named = resolve(schema.get("items") or {}, definitions)
    if is_only_named(named) and named.get("x-class", "Annotated") == "Annotated":
        return []  # of alternatives, of which the prompt shows nothing
    item = guess(field.name, plain(named, definitions))
    least, most = schema.get("minItems", 0), schema.get("maxItems", MOST_PARTS)
    if scope.depth > DEEPEST:
        return filled_up([], item, field.name, least, definitions)
    values = _items(field, {**item, "$defs": definitions}, scope)
    unique = [value for at, value in enumerate(values) if value not in values[:at]][:most]
    return filled_up(unique, item, field.name, least, definitions)


def _tuple(schema: Schema, definitions: Mapping[str, Schema]) -> tuple[Field, ...]:
    """Return the places of a tuple as fields."""
    return tuple(Field(f"{at}", {**one, "$defs": definitions}) for at, one in enumerate(schema["prefixItems"]))


def _items(field: Field, item: Schema, scope: _Scope) -> list[Any]:
    definitions = item["$defs"]
    if "enum" in item:
        told = [one for one in item["enum"] if re.search(rf"\b{re.escape(str(one))}\b", scope.text, re.IGNORECASE)]
        return told or [choose(field.name, field.desc, item["enum"], scope.text, scope.work).value]
    if item.get("properties") or item.get("prefixItems"):
        return _records(field, item, scope)
    if item.get("type") in ("array", "object"):
        inner = Field(field.name, item, field.desc)
        lines = [line for line in scope.text.splitlines() if line.strip()]
        read = _list if item["type"] == "array" else _mapping
        return [value for line in lines if (value := read(inner, scope.on(line), definitions))]
    if item.get("type") in ("boolean", "null"):
        return []
    slot = _typed(slot_of((_singular(field.name),), item, field.desc, True))
    return [value for value in _values(field.name, slot, scope) if validates(item, value)]


def _singular(name: str) -> str:
    return {"people": "person"}.get(name, re.sub(r"ies$", "y", name) if name.endswith("ies") else re.sub(r"(?<=[a-z])s$", "", name))


def _values(name: str, slot: Slot, scope: _Scope) -> list[Any]:
    """Return the single values of a list: all of a kind known by its form, or what an enumeration holds."""
    if slot.kind in (*_STRICT, "id") or "pattern" in slot.schema:
        offered = [fit for fit in fits(slot, scope.text, scope.known) if fit.score >= ENOUGH]
        if slot.kind == "street" and max((fit.score for fit in offered), default=0.0) < CLEAR:
            offered = list(fits(replace(slot, kind="email"), scope.text, scope.known))
        return [fit.value for fit in _alike(offered)]
    if listed := _listed(scope):
        return [_bare(part) for part in listed]
    if points := phrases_of(name, scope.text):
        return points
    anywhere = replace(slot, roles=frozenset(PREPOSITIONS))
    offered = [fit for fit in _offered(anywhere, scope) if fit.score >= ENOUGH]
    joined = joined_runs(offered, scope.text)
    if not joined:
        return []
    best = max(joined, key=lambda run: sum(fit.score for fit in run) / len(run) + 1.5 * (len(run) > 1))
    if not all(map(_is_name, best)):
        return [fit.value for fit in best]
    names = [run for run in joined if all(map(_is_name, run))]
    sited = [run for run in names if _AT.search(scope.text[: run[0].start])]
    if slot.kind in ("place", "person"):
        names = (sited if slot.kind == "place" else [run for run in names if run not in sited]) or names
    return [fit.value for run in names for fit in run]


_AT = re.compile(r"\b(?:in|at|from|to|near|via|through|for) (?:the )?$")


def _is_name(fit: Fit) -> bool:
    return not str(fit.value)[:1].islower()


def _alike(offered: Sequence[Fit]) -> list[Fit]:
    """Return the fits of those kinds that fit best, in order, one for each place."""
    best: list[Fit] = []
    most = min(max((fit.score for fit in offered), default=0.0), 3.5)
    for fit in sorted(offered, key=lambda one: (-one.score, one.start)):
        if fit.score >= most - 1.0 and not fit.touches([(one.start, one.end) for one in best]):
            best.append(fit)
    return sorted(best, key=lambda fit: fit.start)


def _listed(scope: _Scope) -> list[str]:
    """Return the parts of an enumeration that stands alone, after a colon or in lines."""
    text = scope.text.strip()
    after = re.search(r":\s*([^:.\n]+,[^:.\n]+)", text) if text.count(":") == 1 else None
    if not scope.whole and not after:
        return []
    parts = re.split(r"\n\s*[-*\u2022]?\s*|\s*[,;]\s*(?:and\s+|or\s+)?|\s+(?:and|or|&)\s+", after.group(1) if after else text.strip("[]"))
    return [part for part in parts if _bare(part)]


# -- records ------------------------------------------------------------------------------------------------


def _records(field: Field, item: Schema, scope: _Scope) -> list[Any]:
    """Return the records that a text gives, one for each block, line or joined part."""
    is_tuple = "prefixItems" in item
    fields = _tuple(item, item["$defs"]) if is_tuple else fields_of(item, item["$defs"])
    scope = replace(scope, known=_known(fields))
    rows = [_read(fields, scope.on(part)) for part in _parts(fields, scope)]
    full = [{one.name: row.get(one.name, _plainest(one)) for one in fields} for row in rows]
    return [list(row.values()) for row in full] if is_tuple else full


def _parts(fields: tuple[Field, ...], scope: _Scope) -> list[str]:
    """Cut a text into records: by blocks, by lines, or where a joined part begins what the last one had already."""
    text = scope.text
    if text.count(":") == 1 and (after := re.search(r":\s*([^:\n]+,[^:\n]+)$", text.strip())):
        text = after.group(1)
    blocks = [block for block in re.split(r"\n\s*\n", text) if block.strip()]
    lines = [re.sub(r"^\d+[.)]\s", "", line.strip(" .-*\u2022")) for line in text.splitlines() if line.strip(" .-*\u2022")]
    for cut in (blocks, lines, words.sentences(text)):
        complete = [part for part in cut if _filled(fields, part, scope) >= _needed(fields)]
        if len(complete) > 1:
            return complete[:MOST_PARTS]
    spans = joined_parts(text)
    parts: list[str] = []
    for start, end in spans:
        piece = text[start:end]
        longer = f"{parts[-1]}, {piece}" if parts else piece
        if parts and _needed(fields) > (so_far := _filled(fields, parts[-1], scope)) < _filled(fields, longer, scope):
            parts[-1] = longer
        else:
            parts.append(piece)
    complete = [part for part in parts if _filled(fields, part, scope) >= _needed(fields)]
    return complete[:MOST_PARTS] or [text]


def _needed(fields: Sequence[Field]) -> int:
    return max(1, len(_singles([one for one in fields if not _is_nullable(one.schema)])))


def _is_nullable(schema: Schema) -> bool:
    return "null" in str(schema.get("anyOf", schema.get("type")))


def _singles(fields: Sequence[Field]) -> list[Slot]:
    return [slot for slot in slots(tuple(fields)) if slot.kind not in ("array", "object", "enum", "boolean", "null")]


def _filled(fields: tuple[Field, ...], text: str, scope: _Scope) -> int:
    """Return how many single values of a record a part of a text has."""
    inner = scope.on(text)
    wanted = [_typed(slot) for slot in slots(fields)]
    labelled = _labelled(wanted, text)
    rest = [slot for slot in wanted if slot.path not in labelled]
    return len(labelled) + len(_assigned(rest, inner, [span for _, span in labelled.values()]))


# -- mappings -----------------------------------------------------------------------------------------------

_PAIR = re.compile(r"(?:^|(?<=[;|]))[ \t*-]*([A-Za-z][\w ]{0,30}?)[ \t]*[:=][ \t]*(\S[^\n;|]*)", re.MULTILINE)


def _mapping(field: Field, scope: _Scope, definitions: Mapping[str, Schema]) -> Any:
    """Fill an open mapping from "key: value" lines, or from what is counted or measured.

    It stays empty where the prompt does not show what its keys or values may be.
    """
    wanted = plain(field.schema.get("additionalProperties") or {}, definitions)
    names = plain(field.schema.get("propertyNames") or {"type": "string"}, definitions)
    is_open = field.schema.get("additionalProperties") is not False
    if not is_open or is_only_named(wanted) or is_only_named(names) or "format" in names or names.get("type", "string") != "string":
        return {}
    inner = Field("value", {**wanted, "$defs": definitions})
    pairs = _pairs(scope.text, names, is_number=wanted.get("type") in ("integer", "number"))
    filled: dict[str, Any] = {}
    for key, text in list(pairs.items())[: MOST_PARTS if scope.depth <= DEEPEST else 0]:
        read = _read((inner,), replace(scope.on(f"value: {text}"), known=frozenset()))
        filled[key] = read.get("value", _MISSING)
    if not pairs and wanted.get("type") in ("integer", "number"):
        record = (Field("name", {**names, "$defs": definitions}), inner)
        rows = _records(field, {"properties": {one.name: one.schema for one in record}, "required": ["name", "value"], "$defs": definitions}, scope)
        filled = {str(row["name"]): row["value"] for row in rows}
    filled = {key: fallback(wanted, key, definitions) if value is _MISSING else value for key, value in filled.items()}
    if not filled and field.schema.get("minProperties"):
        filled = {"value": fallback(wanted, "value", definitions)}
    return filled


def _pairs(text: str, names: Schema, *, is_number: bool) -> dict[str, str]:
    """Return the keys and values that a text pairs by a colon."""
    pairs = dict(_PAIR.findall(re.sub(r",\s*(?=[A-Za-z]\w*\s*[:=])", "\n", text)))
    labels = {str(label).lower(): label for label in names.get("enum", ())}
    if labels:
        pairs = {labels[key.lower()]: value for key, value in pairs.items() if key.lower() in labels}
    is_list = len(pairs) == 1 and "," in "".join(pairs.values())
    return {} if is_number and is_list else {k: v for k, v in pairs.items() if not is_number or re.search(r"\d", v)}
