"""Word problems of one or two steps: prices, rates, percentages, shares, changes, comparisons, simple shapes.

Main path: solve(text) -> Worked or None. Each method says which of the problem's quantities it used; a result
that leaves one out is none, so that a problem that is not understood is declined and not guessed at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from course_lib.lm.simulator.skills.arithmetic import Worked, written
from course_lib.lm.simulator.skills.quantities import (
    NONE,
    PERCENT,
    Quantity,
    Unit,
    factor,
    in_figures,
    kind_of,
    quantities,
    unit_of,
)


@dataclass(frozen=True, slots=True)
class Term:
    """An amount that stands in the problem, or a product of two of its quantities."""

    value: float
    unit: Unit
    start: int
    shown: str


_ASKS = re.compile(
    r"\b(?:how (?:many|much|far|long|fast|old|tall|big|high|wide|warm|cold|heavy|deep)|what|which|calculate"
    r"|compute|find"
    r"|work out)\b",
    re.IGNORECASE,
)
_DOWN = re.compile(
    r"\b(?:reduc\w+|off|discount\w*|less|fewer|cheaper|fell|falls?|dropp?\w*|los[et]s?|decreas\w*|cut"
    r"|down|sold|sells?"
    r"|gives?|gave|giv\w+ away|spends?|spent|eats?|ate|eaten|us(?:es|ed?)|fl(?:ies|ew)|leaves|took|takes"
    r"|taken|broke|breaks?"
    r"|died|remov\w+|pays?|paid|donat\w+|dr[aiu]nks?|lends?|lent|withdr\w+|costs?|short\w*|got off"
    r"|g[eo]t out|burn\w*|go away"
    r"|went away|throw\w*|threw|miss\w*|absent|rotten|on loan|lent out|away|missing|reserved|booked"
    r"|occupied)\b",
    re.IGNORECASE,
)
_UP = re.compile(
    r"\b(?:up|rose|rises?|increas\w*|raise\w*|more|plus|tax|vat|tip|interest|grew|grows?|add\w*|surcharge"
    r"|service|buys?"
    r"|bought|gets?|got|receiv\w+|finds?|found|gain\w*|c[ao]mes?|back|wins?|won|earn\w*|deposit\w*|picks?"
    r"|picked|join\w*"
    r"|collect\w*|another|bakes?|baked|makes?|made|arriv\w+|on top)\b",
    re.IGNORECASE,
)
_CUT = re.compile(
    r"\b(?:reduc\w+|off|discount\w*|less|fewer|cheaper|fell|falls?|dropp?\w*|los[et]s?|decreas\w*|cut"
    r"|down|sale|sold|sells?|eaten|ate|used"
    r"|gave|gives?)\b",
    re.IGNORECASE,
)
_RAISED = re.compile(
    r"\b(?:up|rose|rises?|increas\w*|raise\w*|more|plus|tax|vat|tip|interest|grew|grows?|add\w*|surcharge"
    r"|service)\b",
    re.IGNORECASE,
)
_HANDS = re.compile(
    r"\b(?:people|men|women|friends|students|pupils|machines|pumps|taps|cooks|robots|children|horses|hands|tractors|\w+[st]ers"
    r"|\w+(?:ork|ild|int|rden|each|arm)ers)\b",
    re.IGNORECASE,
)
"""Those of whom more do the same work in less time."""
_LEFT = re.compile(
    r"\b(?:left|remain\w*|still|free|change|over|empty|unsold|keeps?|don't|do not|did not|didn't|not)\b",
    re.IGNORECASE,
)
_BEFORE = re.compile(r"\b(?:before|originally|original|at first|in the beginning)\b", re.IGNORECASE)
_TOTAL = re.compile(
    r"\b(?:altogether|in all|in total|total|together|sum|both|combined|overall)\b", re.IGNORECASE
)
_MORE = re.compile(
    r"\b(?:difference|how (?:many|much) (?:\w+ )?(?:more|less|fewer|[a-z]{2,}er))\b", re.IGNORECASE
)
_TIMES = {"twice": 2.0, "double": 2.0, "half": 0.5, "three times": 3.0, "four times": 4.0, "five times": 5.0,
          "triple": 3.0, "ten times": 10.0, "a third": 1 / 3, "a quarter": 0.25}  # fmt: skip
_ASKED_KINDS = (
    (r"how far|what distance", "km"),
    (r"how long|how much time", "hour"),
    (r"how old", "year"),
    (
        r"\b(?:cost|costs|price|pay|paid|earn|earns|rent|bill|change|spend|spent|worth|wage|salary|charge"
        r"|fee|owe)\b",
        "dollar",
    ),
)


class Problem:
    """A text, its quantities and what its question asks for."""

    def __init__(self, text: str) -> None:
        self.text = text
        asks = [match.start() for match in _ASKS.finditer(text)]
        self.question = text[asks[-1] if asks else 0 :].lower()
        self.names = re.findall(r"\b[A-Z][a-z]+", text[asks[-1] + 3 if asks else 0 :])
        self.asks_at = asks[-1] if asks else 0
        self.all = quantities(text)
        self.percents = [one for one in self.all if one.unit == PERCENT]
        self.plain = [one for one in self.all if one.unit != PERCENT and not one.per]
        self.rates = [one for one in self.all if one.per]

    @cached_property
    def asked(self) -> Unit:
        """The unit that the question asks for; empty where it does not say."""
        named = re.match(r"how (?:many|much) ([a-z]+)", self.question)
        unit = unit_of(named.group(1)) if named else NONE
        into = re.search(r"\b(?:in|to|into) ([a-z]+)\W*$", self.question, re.IGNORECASE)
        if into and kind_of(unit_of(into.group(1))):
            return unit_of(into.group(1))
        if named and unit and not re.match(r"(?:money|time|change|\w+er)\b", named.group(1)):
            return unit
        for asked, name in _ASKED_KINDS:
            if re.search(asked, self.question, re.IGNORECASE):
                return self._like(frozenset({name}))
        return NONE

    def _like(self, unit: Unit) -> Unit:
        """Return the unit of the problem that measures the same, or the unit itself."""
        units = [unit for one in self.all for unit in (one.unit, one.per)]
        kinds = [one for one in units if kind_of(one) == kind_of(unit)]
        return kinds[0] if kinds else unit

    def clause(self, start: int) -> str:
        """Return what stands around a place up to the nearest comma, full stop, `and` or `then`."""
        breaks = [
            0,
            *(m.end() for m in re.finditer(r"[.,;?!](?!\d)|\b(?:and|then|but)\b", self.text)),
            len(self.text),
        ]
        before = max(at for at in breaks if at <= start)
        return self.text[before : min((at for at in breaks if at > start), default=len(self.text))]


Solved = tuple[float, str, int]
"""A value, the expression, and how many of the quantities went into it."""
Method = Callable[[Problem], Solved | None]


@lru_cache(maxsize=512)
def solve(text: str) -> Worked | None:
    """Return the result of a problem in words, or None where it is not surely understood."""
    if len(text) > 700 or not re.search(
        r"\?|\b(?:calculate|compute|convert|find|how|what)\b", text, re.IGNORECASE
    ):
        return None
    problem = Problem(in_figures(text))
    for method in _METHODS if (problem.all and _ASKS.search(text)) or "onvert" in text else ():
        solved = method(problem)
        if solved and solved[2] == len(problem.all) and solved[0] >= 0:
            return _whole(problem, *solved[:2])
    return None


def _whole(problem: Problem, value: float, shown: str) -> Worked | None:
    """Round what is counted in whole pieces, up where so many are needed, down where so many can be had."""
    is_counted = re.match(r"how many", problem.question, re.IGNORECASE) and not kind_of(problem.asked)
    if not is_counted or abs(value - round(value)) < 1e-9 or not problem.asked:
        return Worked(value, shown, problem.asked)
    if re.search(r"\b(?:need\w*|must|have to|required|at least)\b", problem.question):
        return Worked(math.ceil(value), shown, problem.asked)
    is_bought = re.search(r"\b(?:can|could|buy|afford|full|fill|at most)\b", problem.question)
    return Worked(math.floor(value), shown, problem.asked) if is_bought else None


def _convert(problem: Problem) -> Solved | None:
    """Write one quantity, or several that make one, in another unit."""
    asked = problem.asked
    sizes = [factor(one.unit, asked) for one in problem.plain]
    units = {one.unit for one in problem.plain}
    if not kind_of(asked) or None in sizes or len(units) < len(sizes) or problem.rates:
        return None
    between = problem.text[problem.plain[0].end : problem.plain[-1].start] if len(sizes) > 1 else ""
    if len(sizes) > 1 and not re.fullmatch(
        r"\W*(?:and|plus)?\W*", re.sub(r"[\d.]+|\bhours?\b|\bminutes?\b", "", between)
    ):
        return None
    if len(sizes) == 1 and factor(problem.plain[0].unit, asked) == 1.0:
        return None
    shown = " + ".join(f"{written(one.value)} {_named(one.unit)}" for one in problem.plain)
    value = sum(one.value * (size or 0.0) for one, size in zip(problem.plain, sizes, strict=True))
    return value, f"{shown} in {_named(asked)}s", len(sizes)


def _percentage(problem: Problem) -> Solved | None:
    """Say what percentage one amount is of another, or by how many percent it changed."""
    if problem.percents or len(problem.plain) != 2 or not re.search(r"percent|%", problem.question):
        return None
    first, second = (one.value for one in problem.plain)
    if (
        re.search(r"\bby (?:how|what)|increase|decrease|r[io]se|fall|fell|dropp?|grow|grew", problem.text)
        and first
    ):
        return (
            100 * abs(second - first) / first,
            f"({written(second)} - {written(first)}) / {written(first)} * 100",
            2,
        )
    part, whole = sorted((first, second))
    return 100 * part / whole, f"{written(part)} / {written(whole)} * 100", 2


def _percent(problem: Problem) -> Solved | None:
    """Take a percentage of an amount, or add it, or take it off."""
    if len(problem.percents) != 1:
        return None
    share = problem.percents[0].value / 100
    terms, used = _terms(problem)
    if not terms and len(problem.rates) == 1:  # "2400 a month", of which a share is asked
        rate = problem.rates[0]
        terms, used = [Term(rate.value, rate.unit, rate.start, written(rate.value))], 1
    if len(terms) != 1 or used != len(problem.all) - 1:
        return None
    base, shown = terms[0].value, terms[0].shown
    part, question = written(problem.percents[0].value), problem.question
    clause = problem.clause(problem.percents[0].start)
    wants_part = re.search(
        r"\b(?:discount|tip|tax|vat|interest|commission|saves?|deposit|reduction)\b|% of\b|percent of\b",
        question,
        re.IGNORECASE,
    ) and not re.search(r"\b(?:total|pay|including|with|after|final|new|left|altogether)\b", question)
    has = r"(?:%|percent)(?: \w+)? (?:is|are|were|was|have|has)\b|\b(?:is|are|were|was) \w+$"
    is_share = re.search(r"(?:%|percent) of\b", clause) or (
        kind_of(terms[0].unit) != "money" and re.search(has, clause)
    )
    asks_others = (
        is_share
        and problem.asked
        and not kind_of(problem.asked)
        and not problem.asked & (unit_of(clause) | terms[0].unit)
    )
    if asks_others:
        return base * (1 - share), f"{shown} - {part} / 100 * {shown}", used + 1
    if wants_part or (is_share and not _LEFT.search(question)):
        return base * share, f"{part} / 100 * {shown}", used + 1
    if _BEFORE.search(question):
        share = -share if _CUT.search(problem.text) else share
        return base / (1 + share), f"{shown} / {written(1 + share)}", used + 1
    if _RAISED.search(clause) and not _CUT.search(clause):
        return base * (1 + share), f"{shown} + {part} / 100 * {shown}", used + 1
    if _CUT.search(problem.text) or _LEFT.search(question):
        return base * (1 - share), f"{shown} - {part} / 100 * {shown}", used + 1
    return (
        (base * (1 + share), f"{shown} + {part} / 100 * {shown}", used + 1)
        if _RAISED.search(problem.text)
        else None
    )


def _shape(problem: Problem) -> Solved | None:
    """Measure a rectangle, a square or a box."""
    lengths = [one.value for one in problem.plain]
    text = problem.text.lower()
    if re.search(r"\b(?:square|cube)\b(?! (?:met|kilo|f[eo]|cent))", text) and len(lengths) == 1:
        lengths *= 3 if "cube" in text else 2
    named = re.search(
        r"\b(area|perimeter|volume|circumference|square(?= (?:k|c|m|f[eo])))\b|\b(?:fence|around)\b",
        problem.text,
        re.IGNORECASE,
    )
    if not named or not 2 <= len(lengths) <= 3 or re.search(r"circle|triang|radius|pool", text):
        return None
    shown = [written(length) for length in lengths]
    used = len(problem.plain)
    if (named.group(1) or "").lower() in ("area", "volume", "square"):
        value = lengths[0] * lengths[1] * (lengths[2] if len(lengths) == 3 else 1.0)
        return value, " * ".join(shown), used
    return 2 * (lengths[0] + lengths[1]), f"2 * ({shown[0]} + {shown[1]})", used


def _compare(problem: Problem) -> Solved | None:
    """Find an amount that is so many times, or so much more or less than, another."""
    text = problem.text
    times = re.search(rf"\b({'|'.join(_TIMES)}|(?P<n>\d+) times) (?:as |the |that )", text, re.IGNORECASE)
    used = [one for one in problem.plain if not (times and times.start() <= one.start < times.end())]
    total = _TOTAL.search(problem.question)
    if times and len(used) == 1:
        base, by = used[0].value, float(times["n"]) if times["n"] else _TIMES[times.group(1).lower()]
        if _is_object(problem, times.end()) and not total:
            return base / by, f"{written(base)} / {written(by)}", len(problem.plain)
        other, shown = base * by, f"{written(by)} * {written(base)}"
        return (
            (base + other, f"{written(base)} + {shown}", len(problem.plain))
            if total
            else (other, shown, len(problem.plain))
        )
    than = re.search(r"(\w+er|more|less|fewer)\b[^.?]*?\bthan\b", text)
    if not than or len(problem.plain) != 2 or _MORE.search(problem.question):
        return None
    near = min(
        problem.plain, key=lambda one: abs(than.start() - one.end) if one.end <= than.start() + 1 else 999
    )
    base = next(one.value for one in problem.plain if one is not near)
    is_less = than.group(1) in (
        "younger",
        "shorter",
        "lighter",
        "less",
        "fewer",
        "cheaper",
        "smaller",
        "lower",
    )
    sign = -1 if is_less != _is_object(problem, than.end()) else 1
    other, shown = base + sign * near.value, f"{written(base)} {'+-'[sign < 0]} {written(near.value)}"
    return (base + other, f"{written(base)} + {shown}", 2) if total else (other, shown, 2)


def _is_object(problem: Problem, end: int) -> bool:
    """Say whether the question asks about the one that another is compared with."""
    compared = re.match(r"[\w ]*?\b(?:as |than |of )?([A-Z]\w+)", problem.text[end:])
    return bool(compared and compared.group(1) in problem.names)


def _share(problem: Problem) -> Solved | None:
    """Divide an amount among so many."""
    shares = re.search(
        r"\b(?:shar\w+|divid\w+|split\w*|equal\w*|distribut\w+|among\w*|between)\b",
        problem.text,
        re.IGNORECASE,
    )
    if not shares or len(problem.plain) != 2 or problem.rates or problem.percents:
        return None
    whole, parts = (one.value for one in problem.plain)
    if kind_of(problem.plain[1].unit) and not kind_of(problem.plain[0].unit):  # "four friends share 36 euros"
        whole, parts = parts, whole
    return (whole / parts, f"{written(whole)} / {written(parts)}", 2) if parts else None


_PAIR = (
    r"\b(?:cost|costs|weigh|weighs|need|needs|takes?|make|makes|uses?|covers?|drives?|walks?|runs?"
    r"|rides?|for|in|on|with|earns?|pays?|flies|fills?|and|prints?|reads?|types?|goes)\b"
)


def _proportion(problem: Problem) -> Solved | None:
    """Carry a pair of amounts over to another amount of the first or the second kind."""
    plain = problem.plain
    if problem.rates or problem.percents or len(plain) not in (2, 3):
        return None
    first, second = plain[:2]
    if not first.unit or re.search(r"\b(?:older|younger)\b", problem.text):
        return None
    between = problem.text[first.end : second.start]
    if not re.search(_PAIR, between) or factor(first.unit, second.unit) is not None:
        return None
    one, two = written(first.value), written(second.value)
    if len(plain) == 2 and (
        ratio := re.search(
            r"\b(?:many|much) ([a-z]+)\b.*? (?:per|for each|to each|for every) ([a-z]+)", problem.question
        )
    ):
        if factor(second.unit, unit_of(ratio.group(1))) and first.value:
            return second.value / first.value, f"{two} / {one}", 2
        return (
            (first.value / second.value, f"{one} / {two}", 2)
            if factor(first.unit, unit_of(ratio.group(1)))
            else None
        )
    if len(plain) == 2:
        if (
            re.search(r"\bspeed|how fast|\bper\b|\b(?:each|one|a single)\b|an hour", problem.question)
            and second.value
        ):
            is_pace = kind_of(second.unit) == "time" or not kind_of(second.unit)
            return (
                (first.value / second.value, f"{one} / {two}", 2)
                if is_pace
                else (second.value / first.value, f"{two} / {one}", 2)
            )
        return None
    third, three = plain[2], written(plain[2].value)
    if (same := factor(third.unit, first.unit)) is not None:
        if kind_of(second.unit) in ("time", "months") and _HANDS.search(
            problem.text[first.start : first.end]
        ):
            return first.value * second.value / third.value, f"{one} * {two} / {three}", 3
        if kind_of(second.unit) in ("time", "months") and re.search(r"needs?\b", between):
            return None  # more of them may be quicker, or take longer
        return second.value * third.value * same / first.value, f"{two} / {one} * {three}", 3
    if (same := factor(third.unit, second.unit)) is not None:
        return first.value * third.value * same / second.value, f"{one} / {two} * {three}", 3
    return None


def _rated(problem: Problem) -> Iterator[tuple[Quantity, Unit]]:
    """Yield the rates of a problem with the unit that each is for: said so, or `a box holds 12 eggs`."""
    for one in problem.rates:
        per = one.per
        if "each" in per:
            earlier = [other for other in problem.plain if other.start < one.start] or problem.plain
            per = earlier[-1].unit if earlier else NONE
        yield one, per
    for one in problem.plain:
        held = re.search(
            r"\b(?:an?|each|every|one|per) ([a-z]+(?: of [a-z]+)?) (?:\w+ )?(?:holds?|contains?|has|have"
            r"|costs?|weighs?|with|is|needs|takes|of|for"
            r"|can hold|has room for|seats|gives|produces|makes|uses|lasts)(?: \w+)? $",
            problem.text[: one.start].replace("$", ""),
            re.IGNORECASE,
        )
        rows = re.search(
            r"\b([a-z]+) (?:of|with|containing|that hold|at|for) [$€£]?$",
            problem.text[: one.start],
            re.IGNORECASE,
        )
        others = [problem.asked, *(other.unit for other in problem.plain if other is not one)]
        served = re.match(r" (?:for|an?) ([a-z]+)", problem.text[one.end :])
        for container in (
            served.group(1) if served and kind_of(one.unit) == "money" else "",
            held.group(1).split(" of ")[0] if held else "",
            rows.group(1) if rows else "",
        ):
            per = unit_of(container)
            is_work = kind_of(one.unit) == "time" and _HANDS.search(
                f"{container}s"
            )  # more of them are quicker
            if not is_work and factor(one.unit, per) is None and any(unit & per for unit in others):
                yield one, per
                break


def _terms(problem: Problem) -> tuple[list[Term], int]:
    """Return the amounts of a problem, rates multiplied by what they are for, and how many went in."""
    rated = list(_rated(problem))
    used = {id(one) for one, _ in rated}
    amounts = [one for one in problem.plain if id(one) not in used]
    taken: set[int] = set()
    terms: list[Term] = []
    for rate, per in rated:
        fits = [
            (one, by) for one in amounts if (by := factor(one.unit, per)) is not None and id(one) not in taken
        ]
        fits.sort(key=lambda fit: abs(fit[0].start - rate.start))
        if not fits:
            continue
        amount, by = fits[0]
        taken |= {id(amount), id(rate)}
        shown = f"{written(amount.value * by)} * {written(rate.value)}"
        shown += f" / {written(rate.per_value)}" if rate.per_value != 1 else ""
        value = amount.value * by * rate.value / rate.per_value
        terms.append(Term(value, rate.unit, min(rate.start, amount.start), shown))
    rest = [one for one in amounts if id(one) not in taken]
    terms += [Term(one.value, one.unit, one.start, written(one.value)) for one in rest]
    return sorted(terms, key=lambda term: term.start), len(taken) + len(rest)


def _are_loose(one: Quantity, other: Quantity) -> bool:
    """Say whether two units may be the same thing by other names, or one is left out: neither is measured."""
    return not kind_of(one.unit) and not kind_of(other.unit)


def _rates(problem: Problem) -> Solved | None:
    """Chain rates, or divide an amount by a rate."""
    rated = list(_rated(problem))
    rates = {id(one) for one, _ in rated}
    amounts = [one for one in problem.plain if id(one) not in rates]
    if len(rated) == 1 and len(amounts) == 1:
        (rate, per), amount = rated[0], amounts[0]
        by = factor(amount.unit, rate.unit) or (1.0 if _are_loose(amount, rate) else None)
        asks_per = factor(per, problem.asked) is not None or (
            not problem.asked and not _are_loose(amount, rate)
        )
        if by is not None and rate.value and asks_per:
            to = factor(per, problem.asked) or 1.0 if problem.asked else 1.0
            value = amount.value * by / rate.value * rate.per_value * to
            return value, f"{written(amount.value * by)} / {written(rate.value / rate.per_value)}", 2
    if len(rated) == 2 and len(amounts) <= 1:
        (one, for_one), (two, for_two) = rated
        for inner, outer, per in ((one, two, for_two), (two, one, for_one)):
            if (by := factor(inner.unit, per)) is not None:
                times = amounts[0].value if amounts else 1.0
                value = inner.value * by * outer.value * times
                shown = f"{written(inner.value)} * {written(outer.value)}"
                return value, shown + (f" * {written(times)}" if times != 1 else ""), 2 + len(amounts)
    return None


def _change(problem: Problem) -> Solved | None:
    """Add what comes and take off what goes."""
    terms, used = _terms(problem)
    parts = [
        one
        for one in terms
        if 0 < one.value < 1 and not one.unit and "/" in problem.text[one.start : one.start + 5]
    ]
    if len(parts) == 1 and len(terms) == 2:
        (whole,) = (one for one in terms if one is not parts[0])
        share = 1 - parts[0].value if _LEFT.search(problem.question) else parts[0].value
        return whole.value * share, f"{written(share)} * {whole.shown}", used
    asked = problem.asked or (terms[0].unit if terms else NONE)
    sizes = [factor(one.unit, asked) if one.unit and asked else 1.0 for one in terms]
    is_total = _TOTAL.search(problem.question) and not any(kind_of(one.unit) for one in terms)
    is_mixed = kind_of(asked) == "money" and bool(terms) and not terms[0].unit
    strange = is_mixed or (None in sizes and not is_total)
    if not terms or strange or (len(terms) == 1 and used < 2):
        return None
    values = [one.value * (size if size is not None else 1.0) for one, size in zip(terms, sizes, strict=True)]
    if len(values) == 2 and (_MORE.search(problem.question) or re.search(r"\bchange\b", problem.question)):
        return abs(values[0] - values[1]), f"{written(max(values))} - {written(min(values))}", used
    is_back = -1 if _BEFORE.search(problem.question) else 1
    signs = [1, *(is_back * _sign(problem, one) for one in terms[1:])]
    if 0 in signs:
        return None
    value = sum(sign * value for sign, value in zip(signs, values, strict=True))
    shown = terms[0].shown + "".join(
        f" {'+-'[sign < 0]} {one.shown}" for sign, one in zip(signs[1:], terms[1:], strict=True)
    )
    return value, shown, used


def _sign(problem: Problem, term: Term) -> int:
    """Return 1 for an amount that is added, -1 for one that goes, 0 where the problem does not tell."""
    if _TOTAL.search(problem.question) and not _LEFT.search(problem.question):
        return 1
    clause = problem.clause(term.start)
    up, down = _UP.search(clause), _DOWN.search(clause)
    if any(re.search(rf"\bto {name}\b", clause) for name in problem.names):
        return 1
    if (
        up
        and (not down or re.search(r"\b(?:buy|bought|back|found|got|gets)\b", clause))
        and "more than" not in clause
    ):
        return -1 if kind_of(term.unit) == "money" and re.search(r"\b(?:buys?|bought)\b", clause) else 1
    if down or _LEFT.search(problem.question):
        return -1
    if "*" in term.shown:
        return 1
    return (
        1
        if re.search(r"\b(?:pay|cost|earn|spend|sell|sold|paid)\b", problem.question)
        else _sign_before(problem, term)
    )


def _sign_before(problem: Problem, term: Term) -> int:
    """Return the sign of the verb before, where a clause has none (`spent 3 on a book and 6 on lunch`)."""
    before = problem.text[: term.start]
    signs = [
        *((m.start(), 1) for m in _UP.finditer(before)),
        *((m.start(), -1) for m in _DOWN.finditer(before)),
    ]
    return max(signs)[1] if signs else 0


def _terms_total(problem: Problem) -> Solved | None:
    """Take the one product that the whole problem comes to."""
    terms, used = _terms(problem)
    if len(terms) != 1 or used < 2 or problem.percents:
        return None
    to = factor(terms[0].unit, problem.asked) if problem.asked else 1.0
    return None if to is None else (terms[0].value * to, terms[0].shown, used)


_METHODS: tuple[Method, ...] = (
    _percentage, _percent, _shape, _convert, _compare, _share, _rates, _terms_total, _proportion, _change,
)  # fmt: skip


def _named(unit: Unit) -> str:
    return next(iter(unit), "")
