"""Word problems of one or two steps: prices, rates, percentages, shares, changes, comparisons, simple shapes.

Main path: solve(text) -> Worked or None. Each method works with the problem's amounts, which remember what
went into them; a result that leaves a quantity out is none: what is not understood is declined.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
class Amount:
    """An amount with the expression that it comes from and the places of the quantities that went into it."""

    value: float
    shown: str
    places: frozenset[int] = frozenset()
    unit: Unit = NONE

    @property
    def start(self) -> int:
        """Where the first of its quantities stands."""
        return min(self.places)

    def __add__(self, other: Amount) -> Amount:
        return self._and("+", other, self.value + other.value)

    def __sub__(self, other: Amount) -> Amount:
        return self._and("-", other, self.value - other.value)

    def __mul__(self, other: Amount) -> Amount:
        return self._and("*", other, self.value * other.value)

    def __truediv__(self, other: Amount) -> Amount:
        return self._and("/", other, self.value / other.value if other.value else math.inf)

    def _and(self, sign: str, other: Amount, value: float) -> Amount:
        mine, its = (
            f"({one.shown})" if sign in "*/" and re.search(r" [+-] ", one.shown) else one.shown
            for one in (self, other)
        )
        return Amount(value, f"{mine} {sign} {its}", self.places | other.places, self.unit or other.unit)


def _of(one: Quantity, by: float = 1.0) -> Amount:
    return Amount(one.value * by, written(one.value * by), frozenset([one.start]), one.unit)


def _plain(value: float) -> Amount:
    return Amount(value, written(value))


_ASKS = re.compile(
    r"\b(?:how (?:many|much|far|long|fast|old|tall|big|high|wide|warm|cold|heavy|deep)|what|which|calculate"
    r"|compute|find|work out)\b",
    re.IGNORECASE,
)
_LOWERED = (
    r"reduc\w+|off|discount\w*|less|fewer|cheaper|fell|falls?|dropp?\w*|los[et]s?|decreas\w*|cut|down|sale|sold"
    r"|sells?|eaten|ate|used|gave|gives?"
)
_HIGHER = (
    r"up|rose|rises?|increas\w*|raise\w*|more|plus|tax|vat|tip|interest|grew|grows?|add\w*|surcharge|service"
)
_GOES = (
    r"giv\w+ away|spends?|spent|eats?|uses?|fl(?:ies|ew)|leaves|took|takes|taken|broke|breaks?|died|remov\w+"
    r"|pays?|paid|donat\w+|dr[aiu]nks?|lends?|lent|withdr\w+|costs?|short\w*|got off|g[eo]t out|burn\w*"
    r"|go away|went away|throw\w*|threw|miss\w*|absent|rotten|on loan|away|reserved|booked|occupied"
)
_COMES = (
    r"buys?|bought|gets?|got|receiv\w+|finds?|found|gain\w*|c[ao]mes?|back|wins?|won|earn\w*|deposit\w*|pick(?:s|ed)?"
    r"|join\w*|collect\w*|another|bakes?|baked|makes?|made|arriv\w+|on top"
)


def _said(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})\b", re.IGNORECASE)


_CUT, _RAISED = _said(_LOWERED), _said(_HIGHER)
_DOWN, _UP = _said(f"{_LOWERED}|{_GOES}"), _said(f"{_HIGHER}|{_COMES}")
_LEFT = _said("left|remain\\w*|still|free|change|over|empty|unsold|keeps?|don't|do not|did not|didn't|not")
_BEFORE = _said("before|originally|original|at first|in the beginning")
_TOTAL = _said("altogether|in all|in total|total|together|sum|both|combined|overall")
_MORE = _said(r"difference|how (?:many|much) (?:\w+ )?(?:more|less|fewer|[a-z]{2,}er)")
_TIMES = {"twice": 2.0, "double": 2.0, "half": 0.5, "three times": 3.0, "four times": 4.0, "five times": 5.0,
          "triple": 3.0, "ten times": 10.0, "a third": 1 / 3, "a quarter": 0.25}  # fmt: skip
_ASKED_KINDS = {
    "km": "how far|what distance",
    "hour": "how long|how much time",
    "year": "how old",
    "dollar": r"\b(?:costs?|price|pay|paid|earns?|rent|bill|change|spen[dt]|worth|wage|charge|fee|owe)\b",
}


class Problem:
    """A text, its quantities and what its question asks for."""

    def __init__(self, text: str) -> None:
        self.text = text
        asks = [match.start() for match in _ASKS.finditer(text)]
        self.question = text[asks[-1] if asks else 0 :].lower()
        self.names = re.findall(r"\b[A-Z][a-z]+", text[asks[-1] + 3 if asks else 0 :])
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
        meant = next((frozenset({name}) for name, asked in _ASKED_KINDS.items() if self.asks(asked)), NONE)
        units = (unit for one in self.all for unit in (one.unit, one.per))
        return next((unit for unit in units if meant and kind_of(unit) == kind_of(meant)), meant)

    def clause(self, start: int) -> str:
        """Return what stands around a place up to the nearest comma, full stop, `and` or `then`."""
        breaks = [m.end() for m in re.finditer(r"[.,;?!](?!\d)|\b(?:and|then|but)\b", self.text)]
        before = max((at for at in breaks if at <= start), default=0)
        return self.text[before : min((at for at in breaks if at > start), default=len(self.text))]

    @cached_property
    def amounts(self) -> list[Amount]:
        """The plain quantities."""
        return [_of(one) for one in self.plain]

    def asks(self, pattern: str) -> bool:
        """Say whether the question has the words of a pattern."""
        return re.search(pattern, self.question, re.IGNORECASE) is not None


Method = Callable[[Problem], Amount | None]


@lru_cache(maxsize=512)
def solve(text: str) -> Worked | None:
    """Return the result of a problem in words, or None where it is not surely understood."""
    if len(text) > 700 or not _ASKS.search(text) or re.search(r"\d\s?/\s?\d", text):
        return None
    problem = Problem(in_figures(text))
    for method in _METHODS if problem.all else ():
        found = method(problem)
        if found and len(found.places) == len(problem.all) and 0 <= found.value < math.inf:
            return _whole(problem, found)
    return None


def _whole(problem: Problem, found: Amount) -> Worked | None:
    """Round what is counted in whole pieces, up where so many are needed, down where so many can be had."""
    value, asked = found.value, problem.asked
    is_counted = asked and problem.question.startswith("how many") and not kind_of(asked)
    if is_counted and abs(value - round(value)) > 1e-9:
        if problem.asks(r"\b(?:need\w*|must|have to|required|at least)\b"):
            value = math.ceil(value)
        elif problem.asks(r"\b(?:can|could|buy|afford|full|fill|at most)\b"):
            value = math.floor(value)
        else:
            return None
    return Worked(value, found.shown, asked)


def _convert(problem: Problem) -> Amount | None:
    """Write one quantity in another unit."""
    by = factor(problem.all[0].unit, problem.asked) if kind_of(problem.asked) else None
    if len(problem.all) != 1 or by in (None, 1.0):
        return None
    one = _of(problem.all[0], by or 1.0)
    return replace(
        one, shown=f"{written(problem.all[0].value)} {_named(one.unit)} in {_named(problem.asked)}s"
    )


def _percentage(problem: Problem) -> Amount | None:
    """Say what percentage one amount is of another, or by how many percent it changed."""
    if problem.percents or len(problem.plain) != 2 or not problem.asks("percent|%"):
        return None
    first, second = problem.amounts
    if re.search(r"\bby (?:how|what)|increase|decrease|r[io]se|fall|fell|dropp?|grow|grew", problem.text):
        gap = second - first if second.value > first.value else first - second
        return gap / first * _plain(100)
    part, whole = sorted((first, second), key=lambda one: one.value)
    return part / whole * _plain(100)


_PARTS = r"\b(?:discount|tip|tax|vat|interest|commission|saves?|deposit|reduction)\b|(?:%|percent) of\b"
_WHOLES = r"\b(?:total|pay|including|with|after|final|new|left|altogether)\b"
_HOLDS = re.compile(r"(?:%|percent)(?: \w+)? (?:is|are|were|was|have|has)\b|\b(?:is|are|were|was) \w+$")


def _percent(problem: Problem) -> Amount | None:
    """Take a percentage of an amount, or add it, or take it off."""
    terms = _terms(problem)
    if len(problem.percents) != 1 or len(terms) != 1:
        return None
    base, percent = terms[0], _of(problem.percents[0])
    part = percent / _plain(100) * base
    clause, question = problem.clause(percent.start), problem.question
    is_share = re.search(r"(?:%|percent) of\b", clause) or (
        kind_of(base.unit) != "money" and _HOLDS.search(clause)
    )
    if (problem.asks(_PARTS) and not problem.asks(_WHOLES)) or (is_share and not _LEFT.search(question)):
        return part
    is_up = _RAISED.search(clause) and not _CUT.search(clause)
    is_down = not is_up and (_CUT.search(problem.text) or _LEFT.search(question))
    if _BEFORE.search(question):
        return None
    if is_down:
        return base - part
    return base + part if is_up or _RAISED.search(problem.text) else None


_LESS = ("younger", "shorter", "lighter", "less", "fewer", "cheaper", "smaller", "lower")


def _compare(problem: Problem) -> Amount | None:
    """Find an amount that is so many times, or so much more or less than, another."""
    text, total = problem.text, _TOTAL.search(problem.question)
    times = re.search(rf"\b({'|'.join(_TIMES)}|(?P<n>\d+) times) (?:as |the |that )", text, re.IGNORECASE)
    within = [one for one in problem.amounts if times and times.start() <= one.start < times.end()]
    others = [one for one in problem.amounts if one not in within]
    if times and len(others) == 1:
        by = float(times["n"]) if times["n"] else _TIMES[times[1].lower()]
        many = Amount(by, written(by), frozenset(one.start for one in within))
        is_object = _is_object(problem, times.end()) and not total
        other = others[0] / many if is_object else many * others[0]
        return others[0] + other if total else other
    than = re.search(r"(\w+er|more|less|fewer)\b[^.?]*?\bthan\b", text)
    if not than or len(problem.plain) != 2 or _MORE.search(problem.question):
        return None
    ends = [abs(than.start() - one.end) if one.end <= than.start() + 1 else 999 for one in problem.plain]
    near = problem.amounts[ends.index(min(ends))]
    base = problem.amounts[1 - ends.index(min(ends))]
    other = base - near if (than[1] in _LESS) != _is_object(problem, than.end()) else base + near
    return base + other if total else other


def _is_object(problem: Problem, end: int) -> bool:
    """Say whether the question asks about the one that another is compared with."""
    compared = re.match(r"[\w ]*?\b(?:as |than |of )?([A-Z]\w+)", problem.text[end:])
    return bool(compared and compared.group(1) in problem.names)


_SHARES = re.compile(r"\b(?:shar|divid|split|equal|distribut|among|between)\w*", re.IGNORECASE)


def _share(problem: Problem) -> Amount | None:
    """Divide an amount among so many."""
    if not _SHARES.search(problem.text) or len(problem.plain) != 2 or problem.rates or problem.percents:
        return None
    whole, parts = problem.amounts
    is_turned = kind_of(parts.unit) and not kind_of(whole.unit)  # "four friends share 36 euros"
    return parts / whole if is_turned else whole / parts


_PAIR = (
    r"\b(?:cost|costs|weigh|weighs|need|needs|takes?|make|makes|uses?|covers?|drives?|walks?|runs?"
    r"|rides?|for|in|on|with|earns?|pays?|flies|fills?|and|prints?|reads?|types?|goes)\b"
)


def _proportion(problem: Problem) -> Amount | None:
    """Carry a pair of amounts over to another amount of the first or the second kind."""
    if problem.rates or problem.percents or len(problem.plain) not in (2, 3):
        return None
    first, second = problem.amounts[:2]
    between = problem.text[problem.plain[0].end : second.start]
    is_pair = first.unit and re.search(_PAIR, between) and factor(first.unit, second.unit) is None
    if not is_pair or re.search(r"\b(?:older|younger)\b", problem.text):
        return None
    if len(problem.plain) == 2:
        return first / second if problem.asks(r"\bspeed|how fast|\b(?:per|each|one)\b") else None
    third = problem.amounts[2]
    if (same := factor(third.unit, first.unit)) is not None:
        if kind_of(second.unit) in ("time", "months") and not kind_of(first.unit):
            return None  # more of them may be quicker, or take longer
        return second / first * (third if same == 1.0 else third * _plain(same))
    same = factor(third.unit, second.unit)
    return None if same is None else first / second * (third if same == 1.0 else third * _plain(same))


_HELD = re.compile(
    r"\b(?:an?|each|every|one|per) ([a-z]+)(?: of [a-z]+)? (?:\w+ )?(?:holds?|contains?|has|have|costs?"
    r"|weighs?|with|is|needs|takes|of|for|can hold|has room for|seats|gives|produces|makes|uses"
    r"|lasts)(?: \w+)? $",
    re.IGNORECASE,
)
_ROWS = re.compile(r"\b([a-z]+) (?:of|with|containing|that hold|at|for) [$€£]?$", re.IGNORECASE)


def _rated(problem: Problem) -> Iterator[tuple[Quantity, Unit]]:
    """Yield the rates of a problem with the unit that each is for: said so, or `a box holds 12 eggs`."""
    for one in problem.rates:
        earlier = [other for other in problem.plain if other.start < one.start] or problem.plain
        yield one, one.per if "each" not in one.per else earlier[-1].unit if earlier else NONE
    for one in problem.plain:
        before, after = problem.text[: one.start], problem.text[one.end :]
        served = re.match(r" (?:for|an?) ([a-z]+)", after) if kind_of(one.unit) == "money" else None
        others = [problem.asked, *(other.unit for other in problem.plain if other is not one)]
        for container in (served, _HELD.search(before.replace("$", "")), _ROWS.search(before)):
            per = unit_of(container[1]) if container else NONE
            # More hands do the same work in less time: that is no rate.
            if (
                kind_of(one.unit) != "time"
                and factor(one.unit, per) is None
                and any(unit & per for unit in others)
            ):
                yield one, per
                break


def _terms(problem: Problem) -> list[Amount]:
    """Return the amounts of a problem, rates multiplied by what they are for."""
    rated = list(_rated(problem))
    left = [one for one in problem.plain if not any(one is rate for rate, _ in rated)]
    terms: list[Amount] = []
    for rate, per in rated:
        fits = [one for one in left if factor(one.unit, per) is not None]
        if fits:
            one = min(fits, key=lambda fit: abs(fit.start - rate.start))
            left.remove(one)
            product = _of(one, factor(one.unit, per) or 1.0) * _of(rate)
            product = product if rate.per_value == 1 else product / _plain(rate.per_value)
            terms.append(replace(product, unit=rate.unit))
    return sorted([*terms, *map(_of, left)], key=lambda term: term.start)


def _rates(problem: Problem) -> Amount | None:
    """Divide an amount by a rate."""
    rated = list(_rated(problem))
    amounts = [one for one in problem.plain if not any(one is rate for rate, _ in rated)]
    if len(rated) == 1 and len(amounts) == 1:
        return _by_rate(problem, *rated[0], amounts[0])
    return None


def _by_rate(problem: Problem, rate: Quantity, per: Unit, amount: Quantity) -> Amount | None:
    """Divide an amount by a rate: how many boxes for so many eggs, how long for so many pages."""
    is_loose = not kind_of(amount.unit) and not kind_of(rate.unit)  # the same thing by other names
    by = factor(amount.unit, rate.unit) or (1.0 if is_loose else None)
    to = factor(per, problem.asked) if problem.asked else None if is_loose else 1.0
    if by is None or to is None:
        return None
    times = _plain(rate.per_value * to)
    found = _of(amount, by) / _of(rate)
    return found if times.value == 1 else found * times


def _change(problem: Problem) -> Amount | None:
    """Add what comes and take off what goes."""
    terms, question = _terms(problem), problem.question
    asked = problem.asked or (terms[0].unit if terms else NONE)
    sizes = [factor(one.unit, asked) if one.unit and asked else 1.0 for one in terms]
    is_total = _TOTAL.search(question) and not any(kind_of(one.unit) for one in terms)
    is_mixed = kind_of(asked) == "money" and bool(terms) and not terms[0].unit
    if (
        not terms
        or is_mixed
        or (None in sizes and not is_total)
        or (len(terms) == 1 and len(terms[0].places) < 2)
    ):
        return None
    same = [
        one if size in (None, 1.0) else one * _plain(size or 1.0)
        for one, size in zip(terms, sizes, strict=True)
    ]
    if len(same) == 2 and (_MORE.search(question) or re.search(r"\bchange\b", question)):
        return same[0] - same[1] if same[0].value > same[1].value else same[1] - same[0]
    is_back = -1 if _BEFORE.search(question) else 1
    found = same[0]
    for term, one in zip(terms[1:], same[1:], strict=True):
        sign = is_back * _sign(problem, term)
        if not sign:
            return None
        found = found + one if sign > 0 else found - one
    return found


def _sign(problem: Problem, term: Amount) -> int:
    """Return 1 for an amount that is added, -1 for one that goes, 0 where the problem does not tell."""
    clause, question = problem.clause(term.start), problem.question
    is_given = any(re.search(rf"\bto {name}\b", clause) for name in problem.names)
    if is_given or (_TOTAL.search(question) and not _LEFT.search(question)):
        return 1
    up, down = _UP.search(clause), _DOWN.search(clause)
    is_up = up and (not down or re.search(r"\b(?:buy|bought|back|found|got|gets)\b", clause))
    if is_up and "more than" not in clause:
        return -1 if kind_of(term.unit) == "money" and re.search(r"\b(?:buys?|bought)\b", clause) else 1
    if down or _LEFT.search(question):
        return -1
    if "*" in term.shown or problem.asks(r"\b(?:pay|cost|earn|spend|sell|sold|paid)\b"):
        return 1
    before = problem.text[: term.start]  # `spent 3 on a book and 6 on lunch`: the verb before
    verbs = [
        (found.start(), sign) for sign, verb in ((1, _UP), (-1, _DOWN)) for found in verb.finditer(before)
    ]
    return max(verbs)[1] if verbs else 0


_METHODS: tuple[Method, ...] = (
    _percentage, _percent, _convert, _compare, _share, _rates, _proportion, _change,
)  # fmt: skip


def _named(unit: Unit) -> str:
    return next(iter(unit), "")
