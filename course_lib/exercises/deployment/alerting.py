"""Exercise 5.5, metrics and an alert that fires: calls of the check's own are counted, and faults are played.

Main path: EXERCISE -> engine.registry; `fires` and `is_silent` write the series of each Scene for `promtool
test rules`, which evaluates the learner's rule over them, and judge when it says that the alert fired.
Source: promtool 2.42; its tests also store ALERTS, which a query can read. Prometheus 3 has the same.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import re
import string
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as _openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal, without_error
from course_lib.exercises.engine.promtool import promtool
from course_lib.exercises.engine.registry import Exercise

ROUTES, OUTCOMES = ("answers", "jobs", "other"), ("ok", "error", "cancelled")
REMEDY = (
    "the metrics are right; whether the alert fires could not be checked, because promtool, which comes with "
    "Prometheus, is not installed: apt-get install prometheus, or brew install prometheus; then run it again"
)
_COUNT, _TIME = "shop_requests_total", "shop_request_seconds"
_LATE_S, _MEET_S, _LEAP_S = 8.0, 2.0, 6.0
_TARGET_S, _CLOCKS_S = 2.0, 0.005
"""The target, and by how much two clocks may differ over one call."""


class ParcelLostError(Exception):
    """An error of a class that no table knows."""


def _group(text: str) -> Exception:
    return ExceptionGroup(text, [ParcelLostError(text)])


_ERRORS: tuple[Callable[[str], Exception], ...] = (
    *(ValueError, KeyError, TimeoutError, ParcelLostError, OSError, RuntimeError, ConnectionError),
    _group,
)
_UNKNOWN = "", "Answers", "answers/", "answers ", "job", "/answers", "answers?", "jobs\n", " jobs"


def _word(count: int = 16) -> str:
    return "".join(random.choices(string.ascii_letters, k=count))


class _Shop:
    """The learner's function around an answer of ours, and what it should have counted."""

    def __init__(self, with_metrics: Any) -> None:
        self.registry = CollectorRegistry()
        self.ended = Counter[tuple[str, str]]()
        self.inside_s, self.outside_s = dict.fromkeys(ROUTES, 0.0), dict.fromkeys(ROUTES, 0.0)
        self.asked, self.words = list[tuple[Any, ...]](), set[str]()
        self.running, self.most = set[str](), 0
        """The questions whose `answer` is under way, and the most at once."""
        self.at_once, self.full = 1, asyncio.Event()
        """So many calls of `answer` wait for each other, until `full`."""
        self.errors = itertools.cycle(random.sample(_ERRORS, len(_ERRORS)))
        self.under_way: Callable[[], None] = lambda: None
        """Called while a call is under way."""
        self._ends = dict[str, tuple[object, float]]()
        what = "what with_metrics(answer, registry) returns"
        self._made = without_error(lambda: with_metrics(self._answer, self.registry), what)
        expect(callable(self._made), what, observed=repr(self._made)[:200], expected="an async function")

    async def _answer(self, route: str, question: str, customer: str) -> object:
        self.asked.append((route, question, customer))
        end, wait_s = self._ends[question]
        self.running.add(question)
        self.most = max(self.most, len(self.running))
        began_s = time.perf_counter()
        try:
            self.under_way()
            if self.most >= self.at_once:
                self.full.set()
            await self.full.wait()
            await asyncio.sleep(wait_s)
            if isinstance(end, BaseException):
                raise end
            return end
        finally:
            self.running.discard(question)
            self.inside_s[_known(route)] += time.perf_counter() - began_s

    async def call(
        self, route: str, outcome: str, wait_s: float = 0.0, *, words: Sequence[str] | None = None
    ) -> None:
        """Call once, with a question, a customer and a secret; fail unless it ends as `answer` did."""
        question, customer, secret = words = words or [_word(16 + len(self.asked)) for _ in range(3)]
        self.words |= {*words, *([route] if len(route) >= len(secret) else [])}
        ends = [next(self.errors)(secret)] if outcome == "error" else [None, "", 0, [secret]]
        end: object = random.choice(ends)
        as_given = repr(end)
        self._ends[question] = end, 3_600.0 if outcome == "cancelled" else wait_s

        async def one() -> object:
            return await self._made(route, question, customer)

        began_s, before = time.perf_counter(), len(self.asked)
        task = asyncio.ensure_future(one())
        if outcome == "cancelled":
            await asyncio.wait([task], timeout=wait_s or 0.001)
            task.cancel()
        await asyncio.wait([task], timeout=_LATE_S)
        self.outside_s[_known(route)] += time.perf_counter() - began_s
        what = f"a call whose answer ends with {outcome}"
        expect(task.done(), what, observed=f"it goes on for {_LATE_S:g} s", expected="an end")
        error = None if task.cancelled() else task.exception()
        if isinstance(error, CheckFailed):
            raise error
        got = "CancelledError" if task.cancelled() else error or task.result()
        wanted = "CancelledError" if outcome == "cancelled" else end
        hint = "`raise` alone, in an except block, raises the same error again."
        right = got == wanted if outcome == "cancelled" else got is wanted and repr(got) == as_given
        seen, wanted = repr(got)[:200], as_given if wanted is end else wanted
        expect(right, f"how {what} ends", observed=seen, expected=str(wanted), hint=hint)
        what = f"what answer does after {what}"
        expect(question not in self.running, what, observed="it goes on", expected="nothing")
        asked = [each for each in self.asked[before:] if each[1] == question]
        expect_equal(asked, [(route, question, customer)], "with what answer was called")
        self.ended[_known(route), outcome] += 1

    def text(self) -> str:
        """Return all metrics as Prometheus reads them."""
        return without_error(lambda: generate_latest(self.registry).decode(), "the metrics of the registry")

    def samples(self) -> list[Sample]:
        """Return the samples of the text."""
        families = without_error(lambda: [*text_string_to_metric_families(self.text())], "the metrics' text")
        return [sample for family in families for sample in family.samples]

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the values of one metric by its labels' values; fail the check if it has other labels."""
        labels = ("route", "outcome") if name == _COUNT else ("route",)
        own = [sample for sample in self.samples() if sample.name == name]
        names = sorted({tuple(sorted(sample.labels)) for sample in own})
        expect_equal(names, [tuple(sorted(labels))], f"names of the labels of {name}")
        return {tuple(sample.labels[each] for each in labels): sample.value for sample in own}

    def expect_counted(self, when: str) -> None:
        """Fail the check unless each call that ended is counted and timed, and nothing else."""
        wanted: dict[tuple[str, ...], float] = {
            (route, outcome): self.ended[route, outcome] for route in ROUTES for outcome in OUTCOMES
        }
        timed: dict[tuple[str, ...], float] = {
            (route,): sum(self.ended[route, outcome] for outcome in OUTCOMES) for route in ROUTES
        }
        for name, want in ((_COUNT, wanted), (f"{_TIME}_count", timed)):
            got = self.values(name)
            odd = sorted(key for key in {*got, *want} if got.get(key) != want.get(key))
            seen, due = ({key: values.get(key, "no series") for key in odd} for values in (got, want))
            expect_equal(seen, due, f"{name}, {when}")


def _known(route: str) -> str:
    return route if route in ROUTES else "other"


async def passes_on(with_metrics: Any, _: Any) -> None:
    """A call ends as that of `answer` does, of which it is made once with the same arguments."""
    shop = _Shop(with_metrics)
    for outcome in (*OUTCOMES, *OUTCOMES, *("error" for _ in _ERRORS)):
        await shop.call(random.choice([*ROUTES, _word()]), outcome)
    question, customer, secret = _word(), _word(), _word()
    for who in (customer, customer, _word(), ""):
        for outcome in ("ok", "error"):
            await shop.call("answers", outcome, words=(question, who, secret))
    await shop.call("answers", "ok", words=("", customer, secret))


async def is_there_from_the_start(with_metrics: Any, _: Any) -> None:
    """Every series is there before the first call, with 0; the histogram has a bound at 2 seconds."""
    shop = _Shop(with_metrics)
    shop.expect_counted("before the first call")
    families = [*text_string_to_metric_families(shop.text())]
    types = {each.name: each.type for each in families if each.name in ("shop_requests", _COUNT, _TIME)}
    expect_equal(types, {"shop_requests": "counter", _TIME: "histogram"}, "types of the metrics")
    bounds = {float(each.labels["le"]) for each in shop.samples() if each.name == f"{_TIME}_bucket"}
    expect(_TARGET_S in bounds, f"bounds of {_TIME}", observed=sorted(bounds), expected="2.0 among them")


async def counts_calls(with_metrics: Any, _: Any) -> None:
    """Every call is counted once under its route and outcome, when it has ended."""
    shop = _Shop(with_metrics)
    calls = [(route, outcome) for route in ROUTES for outcome in (*OUTCOMES, random.choice(OUTCOMES))]
    calls += [("jobs", "error") for _ in _ERRORS]
    calls += [(route, "ok") for route in (*_UNKNOWN, _word())]
    random.shuffle(calls)
    for route, outcome in calls:
        shop.under_way = lambda: shop.expect_counted("while a call is under way")
        await shop.call(route, outcome)
        shop.expect_counted(f"after {sum(shop.ended.values())} calls")


async def counts_calls_at_once(with_metrics: Any, _: Any) -> None:
    """Many calls are under way at once, and each is counted under its own route and outcome."""
    shop = _Shop(with_metrics)
    calls = [(route, outcome) for route in ROUTES for outcome in ("ok", "error")] * 6
    shop.at_once = len(calls)
    asyncio.get_running_loop().call_later(_MEET_S, shop.full.set)
    random.shuffle(calls)
    await asyncio.gather(*(shop.call(route, outcome) for route, outcome in calls))
    expect_equal(shop.most, len(calls), "calls under way at once")
    shop.expect_counted(f"after {len(calls)} calls at once")


async def counts_slow_calls(with_metrics: Any, _: Any) -> None:
    """An answer that comes late is returned, and counted as what it is."""
    shop, clock, hint = _Shop(with_metrics), time.monotonic, "Observe what the clock says, as it is."
    began_s = clock()
    with ExitStack() as forward:

        def leap() -> None:
            for name in ("monotonic", "perf_counter", "time"):
                clock = getattr(time, name)
                forward.enter_context(patch.object(time, name, lambda clock=clock: clock() + _LEAP_S))

        shop.under_way = leap
        await shop.call("answers", "ok", 0.01)  # a slow one: the clocks are put forward, also the loop's
    when = f"after calls of which one took {_LEAP_S:g} s"
    shop.expect_counted(when)
    got_s, wanted = shop.values(f"{_TIME}_sum")["answers",], f"{_LEAP_S:g} s at least"
    if clock() - began_s < _TARGET_S <= got_s:  # else its clock is none of those that were put forward
        expect(got_s >= _LEAP_S, f"sum of {_TIME}, {when}", observed=got_s, expected=wanted, hint=hint)


async def takes_the_time(with_metrics: Any, _: Any) -> None:
    """The histogram has the seconds from call to end, whatever the end, also of calls at the same time."""
    shop = _Shop(with_metrics)

    async def one(route: str, outcome: str, *, begins_s: float, takes_s: float) -> None:
        await asyncio.sleep(begins_s)
        await shop.call(route, outcome, takes_s)

    for outcome in OUTCOMES:
        first = (one(route, outcome, begins_s=0.0, takes_s=random.uniform(0.06, 0.08)) for route in ROUTES)
        later = (one(route, "ok", begins_s=0.04, takes_s=random.uniform(0.0, 0.01)) for route in ROUTES)
        await asyncio.gather(*first, *later)
        when = f"after calls at once of which one ends with {outcome}"
        for (route,), got_s in shop.values(f"{_TIME}_sum").items():
            slack_s = _CLOCKS_S * sum(count for key, count in shop.ended.items() if key[0] == route)
            least_s, most_s = shop.inside_s[route] - slack_s, shop.outside_s[route] + slack_s
            wanted = f"{least_s:.3f} to {most_s:.3f} s"
            what = f"sum of {_TIME} of {route}, {when}"
            expect(least_s <= got_s <= most_s, what, observed=f"{got_s:.3f} s", expected=wanted)
        shop.expect_counted(when)
    own = [each for each in shop.samples() if each.name == f"{_TIME}_bucket"]
    timely = {(each.labels["route"],): each.value for each in own if float(each.labels["le"]) == _TARGET_S}
    if max(shop.outside_s.values()) < _TARGET_S:  # so that each call took less
        expect_equal(timely, shop.values(f"{_TIME}_count"), "calls in the bucket of 2 s")


async def tells_nothing(with_metrics: Any, _: Any) -> None:
    """There are as many series for many customers as for few, with nothing from a call in them."""
    shop, counts = _Shop(with_metrics), []
    for kinds in (_ERRORS[:3], _ERRORS):
        shop.errors = itertools.cycle(kinds)
        for number in range(30):
            await shop.call(_word(), OUTCOMES[number % 3])
        counts.append(len(shop.samples()))
    whole: Any = lambda: _openmetrics(shop.registry).decode()  # type: ignore[no-untyped-call]  # noqa: E731
    text = shop.text() + without_error(whole, "the metrics of the registry as OpenMetrics")
    told = [word for word in shop.words if word[:8] in text]  # a part, too
    hint = "Each value of a label is a series that is kept for good; what callers choose has no end."
    what = "text of questions, customers, errors and unknown routes in the metrics"
    expect(not told, what, observed=f"{len(told)} of {len(shop.words)} words", expected="none", hint=hint)
    what = "number of samples after twice as many customers, and other errors"
    expect_equal(counts[1], counts[0], what, hint=hint)


async def keeps_to_the_registry(with_metrics: Any, _: Any) -> None:
    """Two functions with a registry each count apart."""
    first, second = _Shop(with_metrics), _Shop(with_metrics)
    await first.call("answers", "ok")
    await second.call("jobs", "error")
    for each in (first, second):
        each.expect_counted("of two functions that have a registry each")


# -- the alert -------------------------------------------------------------------------------------------

_STEP_S, _LENGTH_MIN = 30, 80
_STEPS = range(_LENGTH_MIN * 60 // _STEP_S)
_BEGINS, _ENDS = 40, 60
"""In minutes, of a fault."""
_WITHIN, _AFTER = 10, 15
_RESTARTS = (45, 65)
"""In minutes, of the first replica; each further one follows after three more."""
_PLACES = {(0, "answers"): 0.5, (1, "jobs"): 0.49, (1, "other"): 0.005, (2, "answers"): 0.005}
"""Shares of the traffic by replica and route."""
_ALIKE = {(0, "answers"): 0.4, (1, "jobs"): 0.3, (2, "other"): 0.3}
_EVEN = {(0, "answers"): 1 / 3, (1, "jobs"): 1 / 3, (2, "other"): 1 / 3}
_MANY = {(replica, "answers"): 1 / 6 for replica in range(6)}
_FEW_ANSWERS = {(0, "jobs"): 0.5, (1, "jobs"): 0.45, (2, "answers"): 0.05}
_FIRING = 'ALERTS{alertstate="firing"}'
_QUERIES = {
    "first": f"min_over_time(timestamp(count({_FIRING}))[2h:30s])",
    "last": f"max_over_time(timestamp(count({_FIRING}))[2h:30s])",
    "alerts": f"sum_over_time(count({_FIRING})[2h:30s])",
    "kinds": f"count(count_over_time({_FIRING}[2h]))",
}
_SEEN = re.compile(r'\{seen="(\d+) (\w+)"\} ([\d.eE+]+)')
Fails = Callable[[float, int, str], float]


def _fault(share: float, begins: int = _BEGINS, ends: int = _ENDS, only: str = "") -> Fails:
    return lambda minute, _, route: share if begins <= minute < ends and only in ("", route) else 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What Prometheus scrapes of three replicas, or of as many as have a place, in 80 minutes."""

    told: str
    per_minute: float
    fails: Fails
    """The share of errors, by minute, replica and route."""
    begins: int = _BEGINS
    ends: int = _ENDS
    places: Mapping[tuple[int, str], float] = field(default_factory=lambda: _PLACES)
    cancelled: float = 0.02
    past: float = 0.0
    """The share of errors in what the counters hold from the days before."""
    restarts: bool = False
    gaps: bool = False
    """Two scrapes in a row fail now and then, and all come half-way between two evaluations."""
    takes_s: float = 0.5
    asked_until: float = math.inf
    scraped_until: float = math.inf
    """In minutes; 0: there are no metrics at all."""

    def series(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the name and the value at each scrape, `_` for one that failed, of each series."""
        count = max(3, *(1 + replica for replica, _ in self.places))
        for replica in range(count if self.scraped_until else 0):
            yield f'up{{job="shop",instance="10.0.0.{replica}:8000"}}', self._scraped([1] * len(_STEPS), "0")
        for (replica, route), share in self.places.items() if self.scraped_until else ():
            labels = f'job="shop",instance="10.0.0.{replica}:8000",route="{route}"'
            counts = [self._counts(replica, route, outcome, share) for outcome in OUTCOMES]
            for outcome, each in zip(OUTCOMES, counts, strict=True):
                yield f'{_COUNT}{{{labels},outcome="{outcome}"}}', self._scraped(each)
            ended = [sum(each) for each in zip(*counts, strict=True)]
            yield f"{_TIME}_count{{{labels}}}", self._scraped(ended)
            yield f"{_TIME}_sum{{{labels}}}", self._scraped([each * self.takes_s for each in ended])
            for bound in (2.0, 5.0, "+Inf"):
                within = [each * (self.takes_s <= float(bound)) for each in ended]
                yield f'{_TIME}_bucket{{{labels},le="{bound}"}}', self._scraped(within)

    def _counts(self, replica: int, route: str, outcome: str, share: float) -> list[int]:
        """Return a counter at each scrape; in a restart it begins at 0 again."""
        past = {"error": self.past, "cancelled": 0.0, "ok": 1 - self.past}[outcome]
        count, counts = 1_000_000 * past * share * bool(self.per_minute), []
        for step in _STEPS:
            minute = (step - 1) * _STEP_S / 60  # when what this scrape sees began
            if self.restarts and minute - 3 * replica in _RESTARTS:
                count = 0.0
            fails = self.fails(minute, replica, route)
            left = (1 - fails) * self.cancelled
            part = {"error": fails, "cancelled": left, "ok": 1 - fails - left}[outcome]
            count += self.per_minute * _STEP_S / 60 * share * part * (minute < self.asked_until)
            counts.append(round(count))
        return counts

    def _scraped(self, counts: Sequence[float], missed: str = "_") -> list[str]:
        ends = self.scraped_until * 60 / _STEP_S
        fails = [step >= ends or (self.gaps and step % 9 in (4, 5)) for step in _STEPS]
        return [missed if fail else str(each) for fail, each in zip(fails, counts, strict=True)]


def _firing() -> list[Scene]:
    share = random.uniform(0.23, 0.27)  # not nearer to 20 %: of few requests, whole numbers fail each minute
    some, part = _fault(share), f"{100 * share:.0f} %"
    lasts = _fault(0.33, 0, _LENGTH_MIN)
    bursts: Fails = lambda minute, *_: 2 * some(minute, 0, "") * (minute % 1 == 0)  # noqa: E731
    return [
        Scene("21 % of 6,000 requests a minute end in an error", 6_000, _fault(0.21), cancelled=0.0),
        Scene(f"{part} of 60 requests a minute end in an error", 60, some),
        Scene(f"{part} of 60 a minute do, over replicas that have 20 each", 60, some, places=_EVEN),
        Scene(f"{part} of 6,000 a minute do, while replicas are restarted", 6_000, some, restarts=True),
        Scene(f"{part} of 200 a minute do, and at times two scrapes in a row fail", 200, some, gaps=True),
        Scene("all of 300 a minute do", 300, _fault(1.0)),
        Scene("all of the route jobs do, 49 % of all", 300, _fault(1.0, only="jobs")),
        Scene("most of other do, 27 % of all", 300, _fault(0.9, only="other"), places=_ALIKE),
        Scene(f"{part} of 600 a minute do, all in one half of the minute", 600, bursts),
        Scene("a third of 300 a minute do, for an hour", 300, _fault(0.33, 0), begins=0),
        Scene("a third of 300 a minute do, to the end", 300, lasts, begins=0, ends=_LENGTH_MIN),
        Scene(f"{part} of 60 a minute do, over six replicas that have 10 each", 60, some, places=_MANY),
        Scene(f"{part} of 60 a minute do, few of them of answers", 60, some, places=_FEW_ANSWERS),
    ]


def _silent() -> list[Scene]:
    small: Fails = lambda _, replica, route: float(replica == 2 or route == "other")  # noqa: E731
    seldom: Fails = lambda minute, *_: float(minute % 10 < 1)  # noqa: E731
    one, every, minute = _fault(0.01, 0, _LENGTH_MIN), _fault(1.0, 0, _LENGTH_MIN), _fault(1.0, 40, 41)
    left = "1 % of 300 requests a minute end in an error, 97 % are cancelled, and some scrapes fail"
    flaky = "1 % of 6,000 a minute do, after worse days, with restarts"
    return [
        Scene(left, 300, one, cancelled=0.97, gaps=True),
        Scene(flaky, 6_000, one, past=0.3, restarts=True),
        Scene("all of 600 a minute do, for one minute", 600, minute),
        Scene("the small replica and route fail, 1 % of all", 6_000, small),
        Scene("one request a minute, at night, and all fail", 1, every),
        Scene("a request every other minute, and some fail", 0.5, seldom),
        Scene("all take 3 seconds, and few fail", 300, one, takes_s=3.0),
        Scene("no request after minute 40", 300, one, asked_until=40),
        Scene("no metrics after minute 40", 300, one, scraped_until=40),
        Scene("no request", 0, one),
        Scene("no metrics", 0, one, scraped_until=0),
    ]


def _promtool(alert: str, *words: str, **files: object) -> subprocess.CompletedProcess[str]:
    """Run promtool in a folder with the rules and these files."""
    contents = {name: json.dumps(content) for name, content in files.items()}  # JSON is YAML
    return promtool(*words, about="the rules", remedy=REMEDY, rules=alert, **contents)


def is_read(_: Any, alert: Any) -> None:
    """Prometheus reads `alert`; there is one alert, with the severity `page` and a summary."""
    expect(isinstance(alert, str), "alert", observed=type(alert).__name__, expected="the text of a rule file")
    without_error(alert.encode, "alert", expected="text that UTF-8 can hold")
    read = _promtool(alert, "check", "rules", "--lint=none", "rules.yml")
    wanted = "a rule file: groups, and in them rules with alert, expr, for, labels, annotations"
    what = "what promtool check rules says"
    expect(read.returncode == 0, what, observed=read.stderr.strip(), expected=wanted)
    groups = (yaml.safe_load(alert) or {}).get("groups") or []
    intervals = {str(group.get("interval") or f"{_STEP_S}s") for group in groups} - {f"{_STEP_S}s"}
    expect_equal(sorted(intervals), [], "intervals of groups other than 30 s")
    rules = [rule for group in groups for rule in group.get("rules") or [] if "alert" in rule]
    expect_equal(len(rules), 1, "number of alerts in the rule file")
    labels, annotations = (rules[0].get(each) or {} for each in ("labels", "annotations"))
    expect_equal(labels.get("severity"), "page", "the label severity of the alert")
    summary = annotations.get("summary")
    expect(str(summary or "").strip(), "the annotation summary", observed=summary, expected="a sentence")


def _seen(alert: str, scenes: list[Scene]) -> list[dict[str, float]]:
    """Return for each scene the minutes when an alert fired first and last, all that fired, and kinds."""
    tests = []
    for number, scene in enumerate(scenes):
        lag = "_ " * scene.gaps  # half a step: the scrapes are then between the evaluations
        series = [{"series": name, "values": lag + f" {lag}".join(values)} for name, values in scene.series()]
        queries = [
            {
                "expr": f'label_replace({query}, "seen", "{number} {name}", "", "")',
                "eval_time": f"{_LENGTH_MIN}m",
                "exp_samples": [],  # what is seen is then told as a failure
            }
            for name, query in _QUERIES.items()
        ]
        interval = f"{_STEP_S // (1 + scene.gaps)}s"
        tests.append({"interval": interval, "input_series": series, "promql_expr_test": queries})
    plan = {"rule_files": ["rules.yml"], "evaluation_interval": f"{_STEP_S}s", "tests": tests}
    told = _promtool(alert, "test", "rules", "tests.yml", tests=plan)
    found: list[dict[str, float]] = [{} for _ in scenes]
    for number, name, value in _SEEN.findall(told.stdout + told.stderr):
        found[int(number)][name] = float(value) / (60 if name in ("first", "last") else 1)
    is_clear = told.returncode == 0 or any(found)
    expect(is_clear, "what promtool test rules says", observed=told.stderr[:400], expected="no other failure")
    return found


def fires(_: Any, alert: str) -> None:
    """The alert fires within 10 minutes of a fault, as long as it lasts, and 15 minutes after it no more."""
    scenes = _firing()
    for scene, seen in zip(scenes, _seen(alert, scenes), strict=True):
        what = f"when the alert fires: {scene.told}, from minute {scene.begins} to {scene.ends}"
        latest = scene.begins + _WITHIN
        wanted = f"first in minute {latest} or before"
        expect(seen, what, observed="never", expected=wanted)
        told = f"first in minute {seen['first']:g}, last in minute {seen['last']:g}"
        expect(scene.begins < seen["first"] <= latest, what, observed=told, expected=wanted)
        wanted = f"last in a minute from {scene.ends} to {scene.ends + _AFTER}"
        expect(scene.ends <= seen["last"] <= scene.ends + _AFTER, what, observed=told, expected=wanted)
        count = round((seen["last"] - seen["first"]) * 60 / _STEP_S) + 1
        told, hint = f"{seen['alerts']:g} alerts in {count} evaluations", "sum(...) over all, then divide."
        what = f"alerts at each evaluation from the first to the last: {scene.told}"
        expect(seen["alerts"] == count, what, observed=told, expected="one at each", hint=hint)
        what, hint = f"alerts with other labels: {scene.told}", "What changes belongs into an annotation."
        expect_equal(round(seen["kinds"]), 1, what, hint=hint)


def is_silent(_: Any, alert: str) -> None:
    """The alert does not fire for few errors, one bad minute, at night, or without metrics."""
    scenes = _silent()
    for scene, seen in zip(scenes, _seen(alert, scenes), strict=True):
        told = f"first in minute {seen['first']:g}, last in {seen['last']:g}" if seen else ""
        expect(not seen, f"when the alert fires: {scene.told}", observed=told, expected="never")


EXERCISE = Exercise(
    title="Metrics, and an alert that fires",
    minutes=20,
    difficulty="medium",
    hints=(
        "outcome = 'error' first; 'ok' once answer has returned; 'cancelled' in an except block for "
        "asyncio.CancelledError, which is no Exception; count in finally. labels(...) alone makes a series.",
        "sum(rate(errors[5m])) / sum(rate(all[5m])): rate knows restarts, and must come before sum. A window "
        "of five minutes remembers one bad minute for six, as a fifth of its share.",
        "A share of few requests says little: `and sum(rate(...)) > 0.2`, per second. `for` waits until the "
        "condition has held so long; window, threshold and `for` together must stay below ten minutes.",
    ),
    checks=(
        *(passes_on, is_there_from_the_start, counts_calls, counts_calls_at_once, counts_slow_calls),
        *(takes_the_time, tells_nothing, keeps_to_the_registry, is_read, fires, is_silent),
    ),
    deadline_s=15.0,
    why="A metric is paid for by the series, so a label has few values, known beforehand; a series that is "
    "there with 0 shows its first error, too. The alert is on what users feel, over all replicas: a short "
    "window sees the end soon, `for` outlasts one bad minute, and a least traffic keeps the share of three "
    "requests from waking anybody.",
)
