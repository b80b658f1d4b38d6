"""Dates, times of day and durations: how long between two, what comes so much later, which weekday, what age.

Main path: when(text) -> Moment or None. Dates are read by lexing.py; nothing here knows what day it is.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from course_lib.lm.simulator.agents.lexing import Mention, lex
from course_lib.lm.simulator.skills.quantities import (
    Quantity,
    in_figures,
    kind_of,
    quantities,
    sizes,
)

_MONTH = "|".join(calendar.month_name[1:])
_YEAR = re.compile(r"\b(?:1[5-9]|2\d)\d\d\b")
_WEEKDAY = re.compile(rf"\b({'|'.join(calendar.day_name)})s?\b", re.IGNORECASE)
_BACK = re.compile(r"\b(?:before|earlier|ago|prior|back|previous)\b", re.IGNORECASE)
_BETWEEN = re.compile(
    r"\b(?:between|from|until|till|to|since|lasts?|long|take|takes|elapsed?|pass|passes|apart|begins?"
    r"|starts?|ends?|opens?|closes?|leaves?|arrives?|departs?|lands?)\b",
    re.IGNORECASE,
)
_ABOUT_TIME = re.compile(rf"\d|{_WEEKDAY.pattern}", re.IGNORECASE)
_SECONDS, _MONTHS = sizes("time"), sizes("months")


@dataclass(frozen=True, slots=True)
class Moment:
    """An answer about time: a date, a time of day, a weekday, a number or a duration."""

    value: Any
    because: str
    said: str = ""

    @property
    def text(self) -> str:
        """The answer as it is written."""
        return self.said or (f"{self.value:g}" if isinstance(self.value, float) else str(self.value))


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day, in minutes, and whether it is written with am or pm."""

    minutes: int
    is_twelve: bool

    @property
    def text(self) -> str:
        """The time as it was written, with two hours or with am and pm."""
        hours, minutes = divmod(self.minutes % 1440, 60)
        if not self.is_twelve:
            return f"{hours}:{minutes:02}"
        return f"{hours % 12 or 12}:{minutes:02} {'am' if hours < 12 else 'pm'}"


def clocks(text: str) -> list[tuple[Clock, Mention]]:
    """Return the times of day in a text, in order, each with where it stands; bare hours are none."""
    written = [(text[one.start : one.end], one) for one in lex(text) if one.kind == "time"]
    return [
        (
            Clock(
                _minutes_of(one.value) % (720 if _SPOKEN.search(spelled) else 1440),
                bool(_TWELVE.search(spelled)),
            ),
            one,
        )
        for spelled, one in written
        if re.search(r"\W|[a-z]{2}", spelled)
    ]


_TWELVE = re.compile(r"[ap]\.?m\b", re.IGNORECASE)
_SPOKEN = re.compile(r"\b(?:past|to)\b(?!.*\b[ap]\.?m\b)", re.IGNORECASE)  # "half past eight": in the morning


def _minutes_of(clock: str) -> int:
    return 60 * int(clock[:2]) + int(clock[3:5])


def clocks_in_figures(text: str) -> str:
    """Write times of day with figures and 24 hours.

    >>> clocks_in_figures("from half past eight to 6 pm")
    'from 8:30 to 18:00'
    """
    for clock, one in reversed(clocks(text)):
        end = one.end - (text[one.end - 1] == ".")
        if not text[:end].endswith("o'clock"):  # "10 o'clock" is the same as "at 10"
            text = f"{text[: one.start]}{clock.minutes // 60}:{clock.minutes % 60:02}{text[end:]}"
    return text


class Question:
    """A text with what it says of time."""

    def __init__(self, text: str, *, year: str | None = None) -> None:
        self.text = text
        self.has_year = year != ""
        self.dates = [
            date.fromisoformat(one.value) for one in lex(text) if one.kind == "date" and _exists(one.value)
        ]
        self.is_iso = bool(re.search(r"\d{4}-\d{2}-\d{2}", text))
        self.clocks = [clock for clock, _ in clocks(text)]
        self.weekdays = [calendar.day_name[:].index(name.capitalize()) for name in _WEEKDAY.findall(text)]
        self.spans = [one for one in _spans(text) if one.unit]

    def asks(self, pattern: str) -> bool:
        """Say whether the text has the words of a pattern."""
        return re.search(pattern, self.text, re.IGNORECASE) is not None

    @property
    def sign(self) -> int:
        """-1 where what is asked for comes before, 1 where it comes after."""
        return -1 if _BACK.search(self.text) else 1

    def day(self, value: date) -> Moment:
        """Answer with a date, in the question's own spelling."""
        shown = (
            value.isoformat() if self.is_iso else f"{value.day} {value:%B}" + f" {value.year}" * self.has_year
        )
        return Moment(value, f"counting from {self.dates[0].isoformat()} gives {value.isoformat()}", shown)


def _exists(iso: str) -> bool:
    try:
        return bool(date.fromisoformat(iso))
    except ValueError:
        return False


def _spans(text: str) -> list[Quantity]:
    times = [(one.start, one.end) for _, one in clocks(text)]
    return [
        one
        for one in quantities(text)
        if kind_of(one.unit) in ("time", "months") and not any(at <= one.start < end for at, end in times)
    ]


def later(start: date, spans: list[Quantity], sign: int = 1) -> date:
    """Return the date so many days, weeks, months or years after another; a month's end stays within it."""
    for one in spans:
        (unit,) = one.unit
        if kind_of(one.unit) == "months":
            year, month = divmod(
                start.year * 12 + start.month - 1 + int(sign * one.value * _MONTHS[unit]), 12
            )
            start = date(year, month + 1, min(start.day, calendar.monthrange(year, month + 1)[1]))
        else:
            start += timedelta(seconds=sign * one.value * _SECONDS[unit])
    return start


def span_text(minutes: int) -> str:
    """Write a duration in words.

    >>> span_text(95), span_text(120)
    ('1 hour 35 minutes', '2 hours')
    """
    hours, rest = divmod(minutes, 60)
    parts = [f"{n} {name}{'s' * (n != 1)}" for n, name in ((hours, "hour"), (rest, "minute")) if n]
    return " ".join(parts) or "0 minutes"


def _minutes(spans: list[Quantity]) -> float:
    return sum(one.value * _SECONDS.get(next(iter(one.unit)), 0) for one in spans) / 60


Rule = Callable[[Question], Moment | None]


def _age(ask: Question) -> Moment | None:
    if not ask.asks(r"\bborn\b|birthday") or not ask.asks(r"\bhow old\b|\bage\b") or len(ask.dates) != 2:
        return None
    born, then = sorted(ask.dates)
    years = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
    return Moment(years, f"from {born.isoformat()} to {then.isoformat()} are {years} whole years")


def _weekday(ask: Question) -> Moment | None:
    asked = r"\b(?:which|what) (?:week)?day\b(?! of the month)|\bday of the week\b|\bweekday\b"
    if not ask.asks(asked):
        return None
    if len(ask.dates) == 1:
        start = later(ask.dates[0], ask.spans, ask.sign)
        name = calendar.day_name[start.weekday()]
        return Moment(name, f"{start.isoformat()} is a {name}")
    if len(ask.weekdays) != 1:
        return None
    if not ask.spans:
        return None
    days = ask.sign * round(_minutes(ask.spans) / 1440)
    name = calendar.day_name[(ask.weekdays[0] + days) % 7]
    return Moment(name, f"{days} days from a {calendar.day_name[ask.weekdays[0]]} it is a {name}")


def _days_between(ask: Question) -> Moment | None:
    if len(ask.dates) != 2 or ask.spans:
        return None
    first, last = ask.dates
    if first > last and not ask.has_year and not ask.asks(r"\b(?:until|till|before)\b"):
        last = last.replace(year=last.year + 1)
    first, last = sorted((first, last))
    days = (last - first).days
    months = (last.year - first.year) * 12 + last.month - first.month - (last.day < first.day)
    because = f"from {first.isoformat()} to {last.isoformat()} are {days} days"
    for unit, count in (("weeks", days / 7), ("months", months)):
        if ask.asks(rf"\b{unit}\b"):
            return Moment(int(count), because) if count == int(count) else None
    if not ask.asks(r"\bday|\blong\b"):
        return None
    return Moment(days, because, "" if ask.asks(r"\bhow many\b") else f"{days} days")


def _date_later(ask: Question) -> Moment | None:
    is_short = any({"hour", "minute"} & one.unit for one in ask.spans)
    if len(ask.dates) != 1 or not ask.spans or is_short:
        return None
    return ask.day(later(ask.dates[0], ask.spans, ask.sign))


def _between_times(ask: Question) -> Moment | None:
    has_break = ask.asks(r"\b(?:break|pause|lunch|stop|rest)\b")
    if len(ask.clocks) != 2 or not _BETWEEN.search(ask.text) or (ask.spans and not has_break):
        return None
    first, last = ask.clocks
    minutes = (last.minutes - first.minutes) % 1440 - round(_minutes(ask.spans))
    because = f"from {first.text} to {last.text} are {span_text(minutes)}"
    if ask.asks(r"\bhow many minutes\b|\bin minutes\b"):
        return Moment(minutes, because)
    if ask.asks(r"\bhow many hours\b(?! and)|\bin hours\b"):
        return Moment(minutes / 60, because)
    return Moment(minutes, because, span_text(minutes))


def _time_later(ask: Question) -> Moment | None:
    asked = r"\bwhen\b|\bwhat time\b|\bat what\b|\bwhich time\b|\buntil\b|\bend\b"
    if len(ask.clocks) != 1 or not ask.spans or not ask.asks(asked):
        return None
    is_start_asked = ask.asks(
        r"\bwhen (?:must|should|do|does|did|has|have|would) [^?]*\b(?:leave|start|begin|depart|set off"
        r"|get up|wake|put)\b"
    ) and ask.asks(r"\b(?:must|need|have to|by|at the latest|in time)\b")
    sign = -1 if is_start_asked else ask.sign
    start, minutes = ask.clocks[0], round(_minutes(ask.spans))
    end = Clock(start.minutes + sign * minutes, start.is_twelve)
    because = f"{span_text(minutes)} {'before' if sign < 0 else 'after'} {start.text} is {end.text}"
    return Moment(end, because, end.text)


_RULES: tuple[Rule, ...] = (
    _age, _weekday, _days_between, _date_later, _between_times, _time_later,
)  # fmt: skip


@lru_cache(maxsize=512)
def when(text: str) -> Moment | None:
    """Return the answer to a question about dates or times, or None if it is none, or not understood."""
    text = in_figures(text[:MOST])
    if not _ABOUT_TIME.search(text):
        return None
    if not _YEARLESS.search(text) or len(text) == MOST:
        return _first(Question(text))
    year = next(iter(_YEAR.findall(text)), "")
    found = [
        _first(Question(_YEARLESS.sub(rf"\g<0> {some}", text), year=year))
        for some in ([year] if year else (2027, 2028))
    ]
    return found[0] if found[0] and all(one and one.text == found[0].text for one in found) else None


MOST = 500  # a longer text is no question
_YEARLESS = re.compile(
    rf"\b(?:\d{{1,2}}(?:st|nd|rd|th)?(?: of)? (?:{_MONTH})|(?:{_MONTH}) \d{{1,2}}(?:st|nd|rd|th)?)\b"
    r"(?!,? \d{4})",
    re.IGNORECASE,
)
"""A day without its year: the answer must be the same in a leap year and in another one."""


def _first(ask: Question) -> Moment | None:
    try:
        return next((moment for rule in _RULES if (moment := rule(ask)) is not None), None)
    except (OverflowError, ValueError):
        return None
