"""Arguments for a tool, out of what a request mentions and of what tools gave back.

Main path: fill(params, text) -> Filled, each mention used once, the best fits first;
from_observations(want, ...) -> values, best first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.schema import Schema
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.fits import ENOUGH, SURE, Fit, fits, labels
from course_lib.lm.simulator.skills.mentions import mentions
from course_lib.lm.simulator.skills.observed import Leaf, Seen, is_command
from course_lib.lm.simulator.skills.wanted import UNITS, Wanted, plain, wanted, wanted_of, words_of

# -- lists ------------------------------------------------------------------------------------------------


def _list(want: Wanted, text: str, known: frozenset[str], taken: Sequence[tuple[int, int]]) -> Fit | None:
    """Return the list that the text gives: what stands joined by commas and "and"."""
    definitions = want.schema.get("$defs", {})
    item = plain(want.schema.get("items") or {}, definitions)
    if item.get("properties"):
        return _records(want, item, text, known, taken)
    name = want.path[-1].removesuffix("s") if want.path[-1].endswith("s") else want.path[-1]
    single = replace(
        wanted_of((*want.path[:-1], name), item, want.desc, want.required), required=want.required
    )
    single = replace(single, roles=want.roles | single.roles)
    if single.kind == "enum":
        named = [fit for fit in _every_label(single, text, known) if not fit.touches(taken)]
        return _joined(named) if named else None
    runs = _runs([fit for fit in fits(single, text, known) if not fit.touches(taken)], text)
    runs = [run for run in runs if run[0].score >= ENOUGH]
    return _joined(max(runs, key=lambda run: run[0].score + 0.5 * (len(run) > 1))) if runs else None


def _lists(want: Wanted, text: str, known: frozenset[str]) -> list[Fit]:
    """Return a list of several plain values, to be weighed against what single values could take of it."""
    fit = _list(want, text, known, ())
    is_plain = fit and len(fit.value) > 1 and not isinstance(fit.value[0], dict)
    return [replace(fit, score=fit.score + 0.5)] if fit and is_plain else []


def _every_label(single: Wanted, text: str, known: frozenset[str]) -> list[Fit]:
    for spoken, days in _DAYS:
        if hit := re.search(rf"\b(?:{spoken})\b", text, re.IGNORECASE):
            allowed = [str(label) for label in single.schema["enum"]]
            chosen = [label for label in allowed if any(day.startswith(label.lower()) for day in days)]
            return [Fit(SURE, label, *hit.span()) for label in chosen]
    return sorted(labels(single, text, known), key=lambda fit: fit.start)


_WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS = (("weekdays|working days", _WEEK[:5]), ("weekends?", _WEEK[5:]), ("every day|daily", _WEEK))


def _runs(offered: Sequence[Fit], text: str) -> list[list[Fit]]:
    """Return the fits that stand joined to each other, of those at the same place the best."""
    best: list[Fit] = []
    for fit in sorted(offered, key=lambda one: (-one.score, one.start)):
        if not fit.touches([(one.start, one.end) for one in best]):
            best.append(fit)
    runs: list[list[Fit]] = []
    for fit in sorted(best, key=lambda one: one.start):
        between = text[runs[-1][-1].end : fit.start] if runs else ""
        if (
            runs
            and between.strip()
            and re.fullmatch(r"\W*(?:(?:and|or|plus)\W*)?(?:an?|the|some|my)?\W*", between)
        ):
            runs[-1].append(fit)
        else:
            runs.append([fit])
    return runs


def _joined(run: Sequence[Fit]) -> Fit:
    values = list(dict.fromkeys(fit.value for fit in run))
    return Fit(
        max(fit.score for fit in run), values, min(fit.start for fit in run), max(fit.end for fit in run)
    )


def _records(
    want: Wanted, item: Schema, text: str, known: frozenset[str], taken: Sequence[tuple[int, int]]
) -> Fit | None:
    """Return a list of objects: one for each joined part of the text that has all that an object needs."""
    properties, definitions = item["properties"], want.schema.get("$defs", {})
    needs = item.get("required") or list(properties)
    fields = tuple(
        Field(
            name, {**child, "$defs": definitions}, str(child.get("description", "")), required=name in needs
        )
        for name, child in properties.items()
    )
    records, spans = [], []
    for start, end in taken:
        text = text[:start] + " " * (end - start) + text[end:]
    for start, end in parts(text):
        filled = fill(fields, text[start:end], known)
        if not filled.missing:
            records.append(filled.args)
            spans += [(start + one, start + other) for one, other in filled.spans]
    if not records:
        return None
    return Fit(SURE, records, min(start for start, _ in spans), max(end for _, end in spans))


_JOINT = re.compile(r"\s*(?:;|,\s*and\b|,\s*or\b|\band\b|\bor\b|,|&)\s*(?:one\s|another\s)?", re.IGNORECASE)


@lru_cache(maxsize=512)
def parts(text: str) -> tuple[tuple[int, int], ...]:
    """Return from where to where the joined parts of a text reach; commas count only before an "and"."""
    whole = [(one.start, one.end) for one in mentions(text) if one.kind not in ("phrase", "text")]
    joints = [
        hit
        for hit in _JOINT.finditer(text)
        if not any(start < hit.end() and hit.start() < end for start, end in whole)
    ]
    if not any(re.search(r"and|or|;|&", hit.group()) for hit in joints):
        joints = []
    edges = [0, *(place for hit in joints for place in hit.span()), len(text)]
    return tuple((start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end)


_OPEN = ("thing", "person", "place", "id", "naming", "text")


# -- all arguments of a tool ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filled:
    """The arguments that a text gives for a tool."""

    args: dict[str, Any]
    missing: tuple[str, ...]
    """Names of required arguments that it does not give."""
    spans: tuple[tuple[int, int], ...] = ()
    """What was used of the text."""
    is_free: bool = False
    """Some value is a text that was handed on as it stands."""
    is_weak: bool = False
    """A value was taken only since nothing else was left."""


def fill(
    params: Sequence[Field],
    text: str,
    known: frozenset[str] = frozenset(),
    *,
    within: tuple[int, int] | None = None,
) -> Filled:
    """Return arguments for a tool out of a text, or out of a part of it: the best fits first, each used once.

    `known` are the stems of the tool's own words, which are no values.
    """
    wants = wanted(tuple(params))
    filling = _Filling(within)
    for want, fit in _in_order(wants, text, known, SURE):
        filling.take(want, fit)
    for want in wants:
        listed = _list(want, text, known, filling.spans) if want.kind == "array" else None
        if listed and (want.required or listed.score >= SURE - 0.5):
            filling.take(want, listed)
    for want, fit in _in_order(wants, text, known, ENOUGH):
        filling.take(want, fit)
    lacking = [want for want in wants if want.required and want.path not in filling.chosen]
    sure = len(filling.chosen)
    if len(lacking) == 1 and lacking[0].kind in _OPEN and within is None:
        filling.take_only(lacking[0], fits(lacking[0], text, known))
    missing = tuple(want.name for want in lacking if want.path not in filling.chosen)
    is_free = any(
        want.kind in ("text", "query", "sum", "sql") for want in wants if want.path in filling.chosen
    )
    is_weak = len(filling.chosen) > sure
    return Filled(_nested(wants, filling.chosen), missing, tuple(filling.spans), is_free, is_weak)


@dataclass(slots=True)
class _Filling:
    within: tuple[int, int] | None
    chosen: dict[tuple[str, ...], Fit] = field(default_factory=dict)
    spans: list[tuple[int, int]] = field(default_factory=list)

    def take(self, want: Wanted, fit: Fit) -> None:
        """Take a fit for an argument that has none, if nothing else has taken its place in the text."""
        start, end = self.within or (fit.start, fit.end)
        is_inside = start <= fit.start <= fit.end <= end or fit.start == fit.end
        if want.path not in self.chosen and is_inside and not fit.touches(self.spans):
            self.chosen[want.path] = fit
            self.spans.append((fit.start, fit.end))

    def take_only(self, want: Wanted, offered: Sequence[Fit]) -> None:
        """Take what is left, if only one place of the text is left."""
        left = sorted((fit for fit in offered if not fit.touches(self.spans)), key=lambda fit: -fit.score)
        if left and all(fit.touches([(left[0].start, left[0].end)]) for fit in left):
            self.take(want, left[0])


def _in_order(
    wants: Sequence[Wanted], text: str, known: frozenset[str], least: float
) -> list[tuple[Wanted, Fit]]:
    pairs = []
    for want in wants:
        offered = _lists(want, text, known) if want.kind == "array" else fits(want, text, known)
        pairs += [(want, fit) for fit in offered if fit.score >= (least if want.required else SURE)]
    order = {want.path: at for at, want in enumerate(wants)}

    def place(pair: tuple[Wanted, Fit]) -> tuple[float, int, int, int]:
        want, fit = pair
        is_last = "until" in want.roles and want.kind == "unit"  # "15:00 in London, what is it in Tokyo"
        return (
            -fit.score - want.required / 2,
            order[want.path],
            -fit.start if is_last else fit.start,
            -fit.end,
        )

    return sorted(pairs, key=place)


def _nested(wants: Sequence[Wanted], chosen: Mapping[tuple[str, ...], Fit]) -> dict[str, Any]:
    """Put the values where their paths say; an optional object with a part missing stays away."""
    broken = {one.path[:-1] for one in wants if one.is_part and not one.required and one.path not in chosen}
    args: dict[str, Any] = {}
    for want in wants:
        if want.path in chosen and not (len(want.path) > 1 and want.path[:-1] in broken):
            inner = args
            for name in want.path[:-1]:
                inner = inner.setdefault(name, {})
            inner[want.path[-1]] = chosen[want.path].value
    return args


# -- out of observations ----------------------------------------------------------------------------------

_ALL = re.compile(r"\b(?:whole|full|fully|entire|all of|complete|everything|the lot)\b", re.IGNORECASE)


def from_observations(want: Wanted, request: str, seen: Sequence[Seen], tool: str, about: str) -> list[Any]:
    """Return the values that observations offer for an argument, best first; those as good stay in order.

    `about` is the part of the request that says which of several records is meant.
    """
    leaves = [leaf for one in reversed(seen) if not one.error for leaf in one.leaves]
    scored = [(_leaf_fits(want, leaf, about, tool), leaf) for leaf in leaves]
    fitting = [(score + _hinted(leaf, request), leaf.value) for score, leaf in scored if score > 0]
    values = [value for _, value in sorted(fitting, key=lambda one: -one[0])]
    return [value for at, value in enumerate(values) if value not in values[:at]]


def _leaf_fits(want: Wanted, leaf: Leaf, request: str, tool: str) -> float:
    if want.kind in ("integer", "number"):
        is_number = isinstance(leaf.value, int | float) and not isinstance(leaf.value, bool)
        if not is_number or (not leaf.value and want.unit[0] == "money"):
            return 0.0
        return _key_fits(want, leaf, request, tool)
    if (
        want.schema.get("type", "string") != "string"
        or not isinstance(leaf.value, str)
        or is_command(leaf.value)
    ):
        return 0.0
    if want.shapes:
        return 3.0 if any(re.fullmatch(shape, leaf.value) for shape, _, _ in want.shapes) else 0.0
    return _key_fits(want, leaf, request, tool) if len(leaf.value) <= 80 else 0.0


def _key_fits(want: Wanted, leaf: Leaf, request: str, tool: str) -> float:
    key, name = leaf.key.lower(), want.path[-1].lower()
    if key == name:
        return 4.0
    if "_" in key and re.search(rf"\b{re.escape(key)}\b", want.desc.lower()):
        asked = set(words.stems(request)) if not _ALL.search(request) else set()
        return 3.0 + 0.3 * (leaf.record == 0) + 1.5 * bool(asked & set(words.stems(leaf.named)))
    mine, its = name.split("_"), key.split("_")
    if len(mine) > 1 and len(its) > 1 and mine[-1] == its[-1] in UNITS:
        shared = set(words.stems(request)) & set(words.stems(" ".join(its[:-1])))
        shared -= set(words.stems(tool.replace("_", " ")))  # "refund" asks for one, it does not say how much
        return 4.5 if shared else 0.0
    return 2.0 if want.stems == set(map(words.stem, words_of(key))) else 0.0


def _hinted(leaf: Leaf, request: str) -> float:
    """Weigh a record up that the request describes by a date, an amount or a word such as its status."""
    given = {one.value for one in mentions(request) if one.kind in ("date", "money")}
    asked = set(words.stems(request))
    bonus = 0.0
    for value in leaf.siblings:
        is_number = re.fullmatch(r"\d+(?:\.\d+)?", value)
        bonus += 3.0 * (value[:10] in given or bool(is_number and float(value) in given))
        is_state = len(value) <= 24 and re.fullmatch(r"[a-z_ ]+", value)
        bonus += bool(is_state and asked & set(words.stems(value.replace("_", " "))))
    return bonus
