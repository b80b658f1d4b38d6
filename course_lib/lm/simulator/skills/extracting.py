"""What a text says for the fields of a program: all of them are filled together, each mention used once.

Main path: stated(field, work) -> Result or None; extract(field, work) -> Result, the plainest value if it must.
The single values, also those of nested models, take what fits them best in the text (agents/filling.py), by kind,
preposition, label and unit, by the words beside it and by its meaning. Lists, records and mappings read what is left.
What the text does not state stays unknown: null, empty, or the plainest value with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.agents.filling import Fit, fits, joined_parts, joined_runs, reason
from course_lib.lm.simulator.agents.lexing import UNITS, Span, lex
from course_lib.lm.simulator.agents.slots import Slot, fields_of, plain, slot_of, slots
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.schema import Schema, is_only_named
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.choice import choose
from course_lib.lm.simulator.skills.keywords import phrases_of
from course_lib.lm.simulator.skills.limits import fallback, filled_up, limited, matching, validates, within
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text, is_reasoning

DEEPEST, MOST_PARTS, MOST_SLOTS, MOST_COMPARED = 4, 12, 40, 12
ENOUGH = 1.0
"""How well a mention must fit."""
BESIDE, MEANING, COUNTED = 2.0, 3.0, 2.0
"""What is worth a word beside a mention that the field is named after, a likeness in meaning, a number before it."""
_SENTENCES = frozenset("problem complaint issue question claim statement concern feedback remark description".split())  # noqa: SIM905
_VAGUE = re.compile(
    r"(?:\w+_)?(?:text|output|content|result|answer|value|data|response|reply|info|information|code|message)"
)
"""Names that ask for nothing in particular."""
_STRICT = frozenset(("email", "url", "phone", "date", "time", "date-time", "zip", "number", "integer", "street", "path"))
"""Kinds that are known by their form, wherever they stand."""
_OPEN = ("title", "thing", "person", "place", "text", "query")


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
    return stated(field, work) or Result(fallback(field.schema, field.name, field.schema.get("$defs", {})))


def stated(field: Field, work: Work) -> Result | None:
    """Fill the field's type from the input; a text that the input does not state is left to the last skill."""
    is_asked = all(re.fullmatch(r"(\w+_)?(question|query)", name) for name in work.task.inputs)
    if is_free_text(field) and (is_asked or _VAGUE.fullmatch(field.name)):
        return None  # a question holds no answer
    if work.read is None:
        fields = tuple(one for one in work.task.spec.outputs if not is_reasoning(one))
        work.read = _read(fields, _Scope(work.task.text, work, _known(fields)))
    value, named = work.read.get(field.name, _MISSING), field.name.replace("_", " ")
    if value is not _MISSING:
        return Result(value, f"the input gives {value!r} as the {named}" if isinstance(value, str | int | float) else "")
    if is_free_text(field):
        return None
    value = fallback(field.schema, field.name, field.schema.get("$defs", {}))
    return Result(value, f"the input does not say the {named}, so {value!r} is only there to fill the field")


def value_in(field: Field, text: str) -> Any:
    """Return what a text that stands for a field gives for it; None if it gives nothing."""
    (slot,) = slots((field,))[:1]
    value = _whole(_typed(slot), text)
    return value if value is not None and validates(plain(field.schema, {}), value) else None


def is_piece(field: Field) -> bool:
    """Say whether a field of this name asks for a piece of a text: a name, an amount, a date."""
    kind = slot_of((field.name,), field.schema, field.desc, True).kind
    return kind not in ("thing", "text", "query") and not _VAGUE.fullmatch(field.name)


def _known(fields: Sequence[Field]) -> frozenset[str]:
    return frozenset(words.stem(word) for one in fields for word in words.words(one.name.replace("_", " ")))


# -- all fields together ------------------------------------------------------------------------------------


def _read(fields: tuple[Field, ...], scope: _Scope) -> dict[str, Any]:
    """Return the values that the text states, by field; nested models are filled up."""
    wanted = [_typed(slot) for slot in slots(fields)[:MOST_SLOTS]]
    labelled = _labelled(wanted, scope.text)
    chosen = _assigned([slot for slot in wanted if slot.path not in labelled], scope, [span for _, span in labelled.values()])
    own = {slot.path: _whole(slot, labelled[slot.path][0]) for slot in wanted if slot.path in labelled}
    values = {path: fit.value for path, fit in chosen.items()} | {k: v for k, v in own.items() if v is not None}
    spans = (*((fit.start, fit.end) for fit in chosen.values()), *(span for _, span in labelled.values()))
    texts = {path: text for path, (text, _) in labelled.items()}
    found = _Found(values, texts, replace(scope, taken=spans))
    built = {one.name: found.value(one, (one.name,)) for one in fields}
    return {name: value for name, value in built.items() if value is not _MISSING}


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
        is_nullable = "null" in str(field.schema.get("anyOf", field.schema.get("type")))
        return None if is_nullable and (value is _MISSING or value in ([], {})) else value

    def _of(self, field: Field, path: tuple[str, ...]) -> Any:
        schema, text, definitions = field.schema, self.labelled.get(path), field.schema["$defs"]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema or schema.get("type") == "boolean":
            return self._closed(field, text or self.scope.text)
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
            return fallback(field.schema, field.name, definitions)
        found = {name: self.value(part, (*path, name)) for name, part in parts.items()}
        return {
            name: fallback(part.schema, name, definitions) if found[name] is _MISSING else found[name]
            for name, part in parts.items()
        }

    def _closed(self, field: Field, text: str) -> Any:
        """Return the label that the text names alone, or else speaks for."""
        labels = field.schema.get("enum", (False, True))
        told = [label for label in labels if isinstance(label, str) and re.search(rf"\b{re.escape(label)}\b", text, re.IGNORECASE)]
        return told[0] if len(told) == 1 else choose(field.name, field.desc, labels, text, self.scope.work).value


def guess(name: str, schema: Schema) -> Schema:
    """Return the type that a name suggests, where the prompt shows nothing else (a leaf of nested XML)."""
    if "x-opaque" not in schema:
        return schema
    if re.match(r"(is|has|can|should|was|needs)_", name):
        return {"type": "boolean"}
    as_number = slot_of((name,), {"type": "number"}, "", True)
    if as_number.unit[0] or as_number.stems & _FIGURES:
        return {"type": "number", "x-whole": True}
    is_day = slot_of((name,), {"type": "string"}, "", True).kind == "date"
    return {"type": "string", "format": "date"} if is_day else {"type": "string"}


_FIGURES = frozenset(map(words.stem, ("age", "year", "score", "rating", "temperature", "pages", "total", "number")))


def _typed(slot: Slot) -> Slot:
    """Return a slot with the kind that its format asks for; a name says nothing of a number's."""
    form = str(slot.schema.get("format") or "")
    return replace(slot, required=True, kind="url") if form == "uri" else replace(slot, required=True)


def _assigned(wanted: Sequence[Slot], scope: _Scope, taken: list[Span]) -> dict[tuple[str, ...], Fit]:
    """Return the best fit for each slot; no place of the text is used twice."""
    single = [slot for slot in wanted if slot.kind not in ("array", "object", "enum", "boolean", "null")]
    offered = [(slot, fit) for slot in single for fit in _offered(slot, scope)]
    order = {slot.path: at for at, slot in enumerate(single)}
    chosen: dict[tuple[str, ...], Fit] = {}
    for slot, fit in sorted(offered, key=lambda pair: (-pair[1].score, order[pair[0].path], pair[1].start, -pair[1].end)):
        is_free = not fit.touches(taken) or fit.start == fit.end
        if slot.path not in chosen and is_free and fit.score >= ENOUGH:
            chosen[slot.path] = fit
            taken.append((fit.start, fit.end))
    return chosen


# -- one value ----------------------------------------------------------------------------------------------


def _offered(slot: Slot, scope: _Scope) -> Iterator[Fit]:
    """Yield what the text offers for a slot, weighed by what stands beside it, before it, and by its meaning."""
    text = scope.text
    if pattern := slot.schema.get("pattern"):
        hit = matching(str(pattern), text, must=False)
        at = text.find(hit) if hit else -1
        yield from [Fit(4.0, hit, at, at + len(hit))] if hit and at >= 0 else []
        return
    if slot.kind == "text" or slot.stems & _SENTENCES:
        yield from _told(slot, text)
    found = [fit for fit in fits(slot, text, scope.known) if _is_apart(fit, text, scope)]
    near = _likeness(slot, tuple(dict.fromkeys(str(fit.value) for fit in found))) if slot.kind in _OPEN and len(found) > 1 else {}
    for fit in found:
        score = fit.score + BESIDE * _beside(slot, fit, text) + MEANING * near.get(str(fit.value), 0.0)
        if slot.kind in ("title", "thing") and re.search(r"(?:\d|\b(?:one|two|three|four|five|six|ten|dozen))\s$", text[: fit.start]):
            score += COUNTED
        yield replace(fit, score=score, value=_scaled(fit, text))


def _is_apart(fit: Fit, text: str, scope: _Scope) -> bool:
    """Say whether a value is a part of the text, and not all of it that there is."""
    return scope.whole or fit.end - fit.start < 0.9 * len(text.strip(" .\n"))


def _scaled(fit: Fit, text: str) -> Any:
    """Return a number with the thousands or millions behind it."""
    large = re.match(r"\s?(?:(k|thousand)|(million|m)|(billion|bn))\b", text[fit.end :])
    if not large or not isinstance(fit.value, int | float):
        return fit.value
    return fit.value * (1e3 if large[1] else 1e6 if large[2] else 1e9)


def _beside(slot: Slot, fit: Fit, text: str) -> float:
    """Return how near the words of the field's name, or of the same family, stand to a fit in its sentence."""
    before = re.split(r"[.!?;]\s|\n", text[max(fit.start - 80, 0) : fit.start])[-1]
    after = re.split(r"[.!?,;]\s|\n", text[fit.end : fit.end + 50])[0]
    best = 0.0
    for side, weight in ((reversed(words.words(before)), 1.0), (words.words(after), 0.8)):
        for distance, word in enumerate(side):
            if _is_akin(word, slot):
                best = max(best, weight / (1 + distance / 2))
                break
    return best


def _is_akin(word: str, slot: Slot) -> bool:
    stem = words.stem(word)
    alike = any(stem[:5] == own[:5] for own in slot.stems if len(own) > 4 and len(stem) > 4)
    return stem in slot.stems or alike or (stem in slot.about and word not in words.COMMON_WORDS)


@lru_cache(maxsize=2048)
def _near(name: str, phrases: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(float(one) for one in encode(list(phrases)) @ encode([name])[0])


def _likeness(slot: Slot, phrases: tuple[str, ...]) -> dict[str, float]:
    """Return how near in meaning phrases are to what the field is named after."""
    phrases = phrases[:MOST_COMPARED]
    near = _near(slot.path[-1].replace("_", " "), phrases) if phrases else ()
    return {phrase: max(0.0, one - 0.2) for phrase, one in zip(phrases, near, strict=True)}


def _told(slot: Slot, text: str) -> Iterator[Fit]:
    """Yield the sentence that says what the field is about; a question for a question, why for a reason."""
    if slot.stems & {"reason", "caus", "why"}:
        yield from [Fit(3.0, reason(text), 0, 0)] if re.search(r"\b(?:because|since|as)\b", text) else []
    sentences = [one for one in words.sentences(text)[:MOST_COMPARED] if len(one.split()) > 2]
    if "question" in slot.stems:
        sentences = [one for one in sentences if one.endswith("?")]
    if sentences and len(text.split()) > 4:
        near = _near(f"{slot.path[-1].replace('_', ' ')} {slot.desc}".strip(), tuple(sentences))
        yield Fit(1.5, max(zip(near, sentences, strict=True))[1], 0, 0)


def _whole(slot: Slot, text: str) -> Any:
    """Return the value for a slot out of a text that stands for it alone; None if it has none."""
    scope = _Scope(text, Work, frozenset(), whole=True)  # type: ignore[arg-type]
    if slot.kind in ("array", "object", "enum", "boolean"):
        return None
    offered = list(_offered(slot, scope))
    if slot.kind in _STRICT or "pattern" in slot.schema or slot.shape:
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
        spoken = words.words(hit.group(1))
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
        return [found.get(one.name, fallback(one.schema, field.name, definitions)) for one in record]
    item = guess(field.name, plain(schema.get("items") or {}, definitions))
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
    if is_only_named(item) and item.get("x-class", "Annotated") == "Annotated":
        return []  # of alternatives, of which the prompt shows nothing
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
    listed = _listed(slot, scope)
    if slot.kind in _STRICT or "pattern" in slot.schema or slot.kind == "id":
        return [fit.value for fit in _alike(list(_offered(slot, scope)))]
    if listed:
        return [_bare(part) for part in listed]
    if points := phrases_of(name, scope.text):
        return points
    offered = [fit for fit in _offered(slot, scope) if fit.score >= ENOUGH]
    joined = joined_runs(offered, scope.text)
    if not joined:
        return []
    best = max(joined, key=lambda run: sum(fit.score for fit in run) / len(run) + (len(run) > 1))
    alike = [run for run in joined if run is best or (len(best) == 1 and _is_name(run[0]) and _is_name(best[0]))]
    return [fit.value for run in alike for fit in run]


def _is_name(fit: Fit) -> bool:
    return str(fit.value)[:1].isupper()


def _alike(offered: Sequence[Fit]) -> list[Fit]:
    """Return the fits of those kinds that fit best, in order, one for each place."""
    best: list[Fit] = []
    for fit in sorted(offered, key=lambda one: (-one.score, one.start)):
        if fit.score >= offered_best(offered) - 1.0 and not fit.touches([(one.start, one.end) for one in best]):
            best.append(fit)
    return sorted(best, key=lambda fit: fit.start)


def offered_best(offered: Sequence[Fit]) -> float:
    return max(fit.score for fit in offered)


def _listed(slot: Slot, scope: _Scope) -> list[str]:
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
    rows = [_read(fields, scope.on(part)) for part in _parts(fields, scope)]
    full = [{one.name: row.get(one.name, fallback(one.schema, one.name, item["$defs"])) for one in fields} for row in rows]
    return [list(row.values()) for row in full] if is_tuple else full


def _parts(fields: tuple[Field, ...], scope: _Scope) -> list[str]:
    """Cut a text into records: by blocks, by lines, or where a joined part begins what the last one had already."""
    text = scope.text
    blocks = [block for block in re.split(r"\n\s*\n", text) if block.strip()]
    lines = [line.strip(" .-*\u2022") for line in text.splitlines() if line.strip(" .-*\u2022")]
    for cut in (blocks, lines):
        complete = [part for part in cut if _filled(fields, part, scope) >= _needed(fields)]
        if len(complete) > 1:
            return complete[:MOST_PARTS]
    spans = joined_parts(text)
    parts: list[str] = []
    for start, end in spans:
        piece = text[start:end]
        longer = f"{parts[-1]}, {piece}" if parts else piece
        if parts and _filled(fields, longer, scope) > _filled(fields, parts[-1], scope):
            parts[-1] = longer
        else:
            parts.append(piece)
    complete = [part for part in parts if _filled(fields, part, scope) >= _needed(fields)]
    return complete[:MOST_PARTS] or [text]


def _needed(fields: Sequence[Field]) -> int:
    return max(1, sum("null" not in str(one.schema.get("anyOf", "")) for one in _singles(fields)))


def _singles(fields: Sequence[Field]) -> list[Slot]:
    return [slot for slot in slots(tuple(fields)) if slot.kind not in ("array", "object", "enum", "boolean", "null")]


def _filled(fields: tuple[Field, ...], text: str, scope: _Scope) -> int:
    """Return how many single values of a record a part of a text has."""
    inner = scope.on(text)
    wanted = [_typed(slot) for slot in _singles(fields)]
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
