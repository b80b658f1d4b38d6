"""Project 6, stages 2 and 3: rules and a dashboard, evaluated by promtool over series of the check's own.

Main path: BURNING, SHOWN -> engine.registry; `_evaluated` asks promtool for what expressions say.
Source: promtool 2.42; a query that expects nothing tells as a failure what it found, by the label `seen`.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal, without_error
from course_lib.exercises.engine.promtool import promtool
from course_lib.exercises.engine.registry import Exercise

REMEDY = (
    "what {0} say could not be checked, because promtool, which comes with Prometheus, is not installed: "
    "apt-get install prometheus, or brew install prometheus; then run it again"
)
_SEEN = re.compile(r'\{([^{}]*?)seen="(\d+)"([^{}]*)\} ([\w.+-]+)')
Series = Iterator[tuple[str, list[float]]]
Told = dict[str, float]
"""The value of each series, by its labels."""


def _read_by_prometheus(rules: str, about: str) -> subprocess.CompletedProcess[str]:
    words, remedy = ("check", "rules", "--lint=none", "rules.yml"), REMEDY.format(about)
    return promtool(*words, about=about, remedy=remedy, rules=rules)


def _evaluated(
    scenes: list[Series], queries: list[tuple[str, int]], *, step_s: int, about: str, **rules: str
) -> list[list[Told]]:
    """Return for each scene what each query, an expression and its minute, tells; NaN tells nothing."""
    tests = []
    for first, scene in enumerate(scenes):
        asked = [
            {
                "expr": f'label_replace({query}, "seen", "{first * len(queries) + number}", "", "")',
                "eval_time": f"{minute}m",
                "exp_samples": [],
            }
            for number, (query, minute) in enumerate(queries)
        ]
        series = [
            {"series": name, "values": " ".join(f"{each:g}" for each in values)} for name, values in scene
        ]
        tests.append({"interval": f"{step_s}s", "input_series": series, "promql_expr_test": asked})
    files = [f"{name}.yml" for name in rules]
    plan = json.dumps({"rule_files": files, "evaluation_interval": f"{step_s}s", "tests": tests})
    words, remedy = ("test", "rules", "tests.yml"), REMEDY.format(about)
    told = promtool(*words, about=about, remedy=remedy, tests=plan, **rules)
    found: list[list[Told]] = [[{} for _ in queries] for _ in scenes]
    for before, number, after, value in _SEEN.findall(told.stdout + told.stderr):
        scene_number, query_number = divmod(int(number), len(queries))
        if not math.isnan(float(value)):
            found[scene_number][query_number][f"{before}{after}"] = float(value)
    is_clear = told.returncode == 0 or any(any(each) for each in found)
    expect(is_clear, "what promtool says", observed=told.stderr[:400], expected="no other failure")
    return found


# -- stage 2: a budget that burns ------------------------------------------------------------------------

WINDOWS = {"5m": 5, "30m": 30, "1h": 60, "6h": 360}
"""In minutes."""
ALERTS = {"BudgetBurnsFast": "page", "BudgetBurnsSlowly": "ticket"}
_BEGINS, _AFTER, _STEP_MIN = 400, 60, 2
_ENDED = {"answered": 0.7, "cached": 0.2, "degraded": 0.1}
_FIRING = 'ALERTS{{alertname="{0}",alertstate="firing"}}'


@dataclass(frozen=True, slots=True)
class Scene:
    """Two replicas that end requests, after some hours without a failure; in minutes."""

    told: str
    failed: float
    lasts: int = 300
    per_minute: float = 300.0
    refused: float = 0.0
    """How many more are refused, as a share of the others."""
    rest: float = 0.0
    """The share that still fails after it."""
    fast: tuple[int, int, int] | None = None
    """The latest after its beginning that the alert fires first; from when to when after its end it ends."""
    slow: tuple[int, int, int] | None = None

    @property
    def length(self) -> int:
        """How long it is looked at."""
        return _BEGINS + self.lasts + _AFTER

    def series(self) -> Series:
        """Yield the name and the values of each series; one replica is restarted in the fault.

        It has a third of the other's requests, of which fewer fail.
        """
        for replica in range(2):
            for outcome in (*_ENDED, "failed", "refused"):
                count, values = 0.0, list[float]()
                for minute in range(0, self.length, _STEP_MIN):
                    since = minute - _BEGINS
                    fails = 0.0 if since <= 0 else self.failed if since <= self.lasts else self.rest
                    fails = fails**2 if replica else (4 * fails - fails**2) / 3
                    share = {"failed": fails, "refused": self.refused}.get(outcome)
                    share = (1 - fails) * _ENDED[outcome] if share is None else share
                    count = count * (minute != _BEGINS + 20 or replica == 0)
                    count += self.per_minute * _STEP_MIN / 4 * (1 if replica else 3) * share
                    values.append(round(count))
                labels = f'job="desk",instance="10.0.0.{replica}:8000",outcome="{outcome}"'
                yield f"desk_requests_total{{{labels}}}", values


def _scenes() -> list[Scene]:
    return [
        Scene("all fail", 1.0, 120, fast=(16, 2, 12)),
        Scene(
            "30 % fail, and as many requests again are refused, and 5 % later",
            0.3,
            120,
            refused=1.0,
            rest=0.05,
            fast=(36, -4, 12),
        ),
        Scene("9 % fail, and 2 % later", 0.09, 300, rest=0.02, slow=(270, 6, 45)),
        Scene("all fail, but not longer", 1.0, 6),
        Scene("14 % fail", 0.14, 140),
        Scene("3 % fail", 0.03, refused=1.0),
        Scene("there are no requests", 0.0, 6, per_minute=0.0),
    ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _rules(text: Any, name: str, kind: str) -> list[dict[str, Any]]:
    """Return the rules of the text of a rule file, which Prometheus reads; fail the check if it does not."""
    expect(isinstance(text, str), name, observed=type(text).__name__, expected="the text of a rule file")
    read = without_error(lambda: yaml.safe_load(text), name, expected="YAML")
    groups = read.get("groups") if isinstance(read, dict) else None
    inner = [group.get("rules") for group in _listed(groups) if isinstance(group, dict)]
    found = [rule for rules in inner for rule in _listed(rules)]
    is_right = found and all(isinstance(rule, dict) and kind in rule for rule in found)
    expect(is_right, name, observed=read, expected=f"groups with rules, each of them with `{kind}`")
    said = _read_by_prometheus(str(text), "the rules")
    expect(
        said.returncode == 0,
        f"what promtool says of {name}",
        observed=said.stderr[:400],
        expected="that it reads it",
    )
    return found


def are_read(recording: Any, alerts: Any) -> None:
    """Prometheus reads both; they hold the four recording rules and the two alerts by their names."""
    names = [str(rule["record"]) for rule in _rules(recording, "recording", "record")]
    expect_equal(
        sorted(names), sorted(f"desk:failed:ratio_rate{each}" for each in WINDOWS), "names in recording"
    )
    rules = {str(rule["alert"]): rule for rule in _rules(alerts, "alerts", "alert")}
    severities = {name: (rule.get("labels") or {}).get("severity") for name, rule in rules.items()}
    expect_equal(severities, ALERTS, "the alerts and their severity")
    without = [name for name, rule in rules.items() if not (rule.get("annotations") or {}).get("summary")]
    expect_equal(without, [], "alerts without an annotation summary")


def records(recording: Any, _: Any) -> None:
    """Each recording rule is the share that failed of the requests that were not refused, over its window."""
    scene = Scene("", 0.3, refused=1.0)
    passed = (6, 16, 46, 120)
    queries = [(f"desk:failed:ratio_rate{window}", _BEGINS + each) for window in WINDOWS for each in passed]
    (found,) = _evaluated(
        [scene.series()], queries, step_s=60 * _STEP_MIN, about="the rules", recording=recording
    )
    cases = [(lasts, each) for lasts in WINDOWS.values() for each in passed]
    for (query, _minute), told, (lasts, since) in zip(queries, found, cases, strict=True):
        due = 0.3 * min(1.0, since / lasts)
        near = 0.01 if since >= lasts or since == passed[-1] else 0.03  # a step is two minutes
        is_one = len(told) == 1 and abs(next(iter(told.values())) - due) < near
        seen = {labels.strip(", "): round(value, 4) for labels, value in told.items()}
        wanted = f"one series without labels, about {due:.3f}"
        hint = "sum(rate(...)) over all replicas, divided by the same of all outcomes but refused."
        is_bare = all(set(re.findall(r"(\w+)=", each)) <= {"__name__"} for each in told)
        what = f"{query}, {since} minutes after 30 % began to fail"
        expect(is_one and is_bare, what, observed=seen or "nothing", expected=wanted, hint=hint)


def burns(recording: Any, alerts: Any) -> None:
    """The alerts fire for their burn, and end with it; not for a blip, few failures, or without requests."""
    scenes = _scenes()
    queries = [_fired(name, kind) for name in ALERTS for kind in ("min", "max")]
    series, files = [each.series() for each in scenes], {"recording": str(recording), "alerts": str(alerts)}
    found = _evaluated(series, queries, step_s=60 * _STEP_MIN, about="the rules", **files)
    for scene, told in zip(scenes, found, strict=True):
        first, last, first_slow, last_slow = (next(iter(each.values()), None) for each in told)
        _expect_fired("BudgetBurnsFast", scene, scene.fast, first, last)
        if not scene.fast:  # of a fast burn both may tell
            _expect_fired("BudgetBurnsSlowly", scene, scene.slow, first_slow, last_slow)


def _fired(name: str, kind: str) -> tuple[str, int]:
    """Return the query for the time when an alert fired first (min) or last (max), asked after all scenes."""
    end = max(each.length for each in _scenes())
    times = f"timestamp(count({_FIRING.format(name)}))[{end}m:{_STEP_MIN}m]"
    return f"{kind}_over_time({times})", end


def _expect_fired(
    name: str, scene: Scene, due: tuple[int, int, int] | None, first_s: Any, last_s: Any
) -> None:
    """Fail the check unless an alert fired when it is due; None: never."""
    what = f"when {name} fires, where {scene.told}, from minute 0 to {scene.lasts}"
    if first_s is None or last_s is None:
        expect(due is None, what, observed="never", expected=f"from minute {due and due[0]} on, or before")
        return
    first, last = first_s / 60 - _BEGINS, last_s / 60 - _BEGINS
    told = f"first in minute {first:g}, last in minute {last:g}"
    if due is None:
        raise CheckFailed(what, observed=told, expected="never")
    latest, least, most = due[0], scene.lasts + due[1], scene.lasts + due[2]
    wanted = f"first in minute {latest} or before, last from minute {least} to {most}"
    expect(0 < first <= latest and least <= last <= most, what, observed=told, expected=wanted)


# -- stage 3: a dashboard --------------------------------------------------------------------------------

_UNITS = {
    "rate": {"reqps", "ops", "cps", "rps"},
    "errors": {"percentunit", "percent", "reqps", "ops", "cps", "rps"},
    "duration": {"s"},
    "saturation": {"short", "none", "percentunit"},
}
_MOST = dict.fromkeys(_UNITS["rate"], 10.0) | {"percentunit": 1.0, "percent": 100.0, "s": 10.0}
"""By unit, the most that is shown at even load."""
_BOUNDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_MACROS = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}
_SHOWN_MIN, _LATER_MIN, _STEP_S = 30, 38, 30


def _desk(
    per_s: float = 10.0, failed: float = 0.02, takes_s: float = 0.3, in_flight: int = 5, took_s: float = 0.1
) -> Series:
    """Yield the series of two replicas at even load, after a thousand requests that took `took_s`."""
    ended = {
        "answered": 0.6,
        "cached": 0.3,
        "degraded": 0.1 - failed / 2,
        "refused": failed / 2,
        "failed": failed,
    }
    ended["answered"] -= failed
    steps = range(_LATER_MIN * 60 // _STEP_S + 2)
    for replica in range(2):
        where = f'job="desk",instance="10.0.0.{replica}:8000"'

        def counter(share: float, before: float = 1_000.0) -> list[float]:
            return [before + step * _STEP_S * per_s / 2 * share for step in steps]

        for outcome, share in ended.items():
            yield f'desk_requests_total{{{where},outcome="{outcome}"}}', counter(share)
        for bound in (*_BOUNDS, math.inf):
            part = 0.5 * (takes_s <= bound) + 0.5 * (4 * takes_s <= bound)
            name = "+Inf" if bound == math.inf else str(bound)
            before = 1_000.0 * (took_s <= bound)
            yield f'desk_request_seconds_bucket{{{where},le="{name}"}}', counter(part, before)
        yield f"desk_request_seconds_count{{{where}}}", counter(1.0)
        yield f"desk_request_seconds_sum{{{where}}}", counter(2.5 * takes_s, 1_000 * took_s)
        yield f"desk_requests_in_flight{{{where}}}", [float(in_flight) for _ in steps]
        yield f"desk_requests_allowed{{{where}}}", [20.0 for _ in steps]
        yield f"up{{{where}}}", [1.0 for _ in steps]


CHANGES: Mapping[str, Callable[[], Series]] = {
    "rate": lambda: _desk(per_s=30.0),
    "errors": lambda: _desk(failed=0.09),
    "duration": lambda: _desk(takes_s=0.9),
    "saturation": lambda: _desk(in_flight=17),
}
"""By signal, the desk where it alone is another."""


def _panels(dashboard: Any) -> list[dict[str, Any]]:
    """Return the panels of what `dashboard` returns, as Grafana reads it; those of rows too."""
    board = without_error(dashboard, "dashboard()")
    read = without_error(lambda: json.loads(json.dumps(board)), "dashboard()", expected="what JSON can hold")
    expect(isinstance(read, dict), "dashboard()", observed=read, expected="a dict, as Grafana reads it")
    without_error(lambda: Dashboard.from_json(read), "what Grafana's SDK reads", expected="a dashboard")
    expect(read.get("title"), "title of the dashboard", observed=read.get("title"), expected="a text")
    panels = read.get("panels") or []
    inner = [each for panel in panels for each in panel.get("panels") or []]
    found = [each for each in (*panels, *inner) if each.get("type") not in ("row", "text")]
    expect(found, "panels of the dashboard", observed=found, expected="some")
    return found


def _expressions(panel: dict[str, Any]) -> list[str]:
    found = [str(each.get("expr") or "") for each in panel.get("targets") or []]
    for name, value in _MACROS.items():
        found = [each.replace(name, value) for each in found]
    return found


def has_panels(dashboard: Any) -> None:
    """The dashboard is data that Grafana reads; each panel has a title of its own, and a unit."""
    panels = _panels(dashboard)
    titles = [str(each.get("title") or "") for each in panels]
    is_named = all(map(str.strip, titles)) and len({*titles}) == len(titles)
    expect(is_named, "titles of the panels", observed=titles, expected="one each, no two alike")
    for title, panel in zip(titles, panels, strict=True):
        unit = ((panel.get("fieldConfig") or {}).get("defaults") or {}).get("unit")
        expect(
            isinstance(unit, str) and unit,
            f"unit of {title!r}",
            observed=unit,
            expected="a unit, such as reqps",
        )
        told = _expressions(panel)
        expect(told and all(told), f"expressions of {title!r}", observed=told, expected="one or more")


def are_parsed(dashboard: Any) -> None:
    """Prometheus reads every expression."""
    for panel in _panels(dashboard):
        for each in _expressions(panel):
            rules = json.dumps({"groups": [{"name": "x", "rules": [{"record": "x", "expr": each}]}]})
            said = _read_by_prometheus(rules, "the expressions")
            what, wanted = f"an expression of {panel['title']!r}: {each}", "that it is read"
            expect(said.returncode == 0, what, observed=said.stderr.strip()[:300], expected=wanted)


def shows_the_signals(dashboard: Any) -> None:
    """Each expression shows something, at even load the same; all four signals are seen, in fitting units."""
    panels = _panels(dashboard)
    owner = [(panel, each) for panel in panels for each in _expressions(panel)]
    queries = [(each, minute) for _, each in owner for minute in (_SHOWN_MIN, _LATER_MIN)]
    scenes = [_desk(), _desk(took_s=10.0), *(change() for change in CHANGES.values())]
    calm, past, *changed = _evaluated(scenes, queries, step_s=_STEP_S, about="the expressions")
    changes: dict[str, set[str]] = {panel["title"]: set() for panel in panels}
    grown: dict[str, set[str]] = {panel["title"]: set() for panel in panels}
    for number, (panel, each) in enumerate(owner):
        now, later = calm[2 * number : 2 * number + 2]
        what = f"what {each} shows, in {panel['title']!r}"
        hint = "Is there such a metric, with such a label? See METRICS."
        expect(now, what, observed="nothing", expected="a value at even load", hint=hint)
        told, hint = (
            f"{_short(now)}, and {_short(later)} later",
            "A counter only grows: ask for its rate(...).",
        )
        wanted = "the same at even load"
        expect(_is_like(now, later), what, observed=told, expected=wanted, hint=hint)
        told, wanted = f"{_short(past[2 * number])}, where requests took long before", f"still {_short(now)}"
        expect(_is_like(now, past[2 * number]), what, observed=told, expected=wanted, hint=hint)
        unit = panel["fieldConfig"]["defaults"]["unit"]
        most, told = _MOST.get(unit, math.inf), f"{_short(now)}, in {unit}"
        wanted = f"at most {most:g} in this unit, at 10 requests a second"
        expect(max(now.values()) <= 1.01 * most, what, observed=told, expected=wanted)
        for signal, other in zip(CHANGES, changed, strict=True):
            then = other[2 * number]
            if not _is_like(now, then):
                changes[panel["title"]].add(signal)
            if any(value > 1.01 * now.get(name, math.inf) for name, value in then.items()):
                grown[panel["title"]].add(signal)
    for panel in panels:
        unit, seen = panel["fieldConfig"]["defaults"]["unit"], sorted(changes[panel["title"]])
        fits = {name for signal in seen for name in _UNITS[signal]}
        what = f"unit of {panel['title']!r}, which changes with {' and '.join(seen)}"
        expect(not seen or unit in fits, what, observed=unit, expected=f"one of {', '.join(sorted(fits))}")
    for signal in CHANGES:
        found = [title for title, seen in grown.items() if signal in seen]
        expect(
            found,
            f"panels that grow when only this does: {signal}",
            observed="none",
            expected="one or more",
        )
    led = [each.get("exemplar") for panel in panels if "duration" in changes[panel["title"]]
           for each in panel["targets"]]  # fmt: skip
    wanted = "exemplar: true in one of them at least"
    expect(True in led, "exemplar in the targets that show the duration", observed=led, expected=wanted)


def _is_like(one: Told, other: Told) -> bool:
    return one.keys() == other.keys() and all(
        math.isclose(one[each], other[each], rel_tol=0.01) for each in one
    )


def _short(told: Told) -> str:
    return ", ".join(f"{value:g}" for value in list(told.values())[:3]) or "nothing"


BURNING = Exercise(
    title="A budget that burns",
    minutes=15,
    difficulty="hard",
    hints=(
        "1 % may fail: a burn rate of 14.4 is a share of 14.4 %, over the last hour. Four recording rules of "
        "one form, which differ in their window alone.",
        'outcome!="refused" leaves out what was refused, in the divisor; rate first, then sum, then divide.',
        "A long window says that it matters, a short one that it goes on: long > 0.144 and short > 0.144, on "
        "the recorded names.",
    ),
    checks=(are_read, records, burns),
    deadline_s=30.0,
    why="The long window keeps a blip of five minutes from waking anybody; the short one ends the alert when "
    "the fault has ended, not an hour later. Two burn rates divide what must be mended now from what can "
    "wait for the morning. What was refused is in neither part: else anybody could hide a fault behind it.",
)
SHOWN = Exercise(
    title="A dashboard as data",
    minutes=10,
    difficulty="medium",
    hints=(
        "A panel: {'type': 'timeseries', 'title': ..., 'fieldConfig': {'defaults': {'unit': ...}}, "
        "'targets': [{'expr': ...}]}. Or the builders of grafana_foundation_sdk, whose encoder writes JSON.",
        'sum(rate(desk_requests_total[5m])) is the rate; the same with outcome="failed", divided by it, the '
        "errors; histogram_quantile(0.95, sum by (le) (rate(..._bucket[5m]))) the duration.",
        "Saturation is how full it is: desk_requests_in_flight against desk_requests_allowed.",
    ),
    checks=(has_panels, are_parsed, shows_the_signals),
    deadline_s=30.0,
    why="A dashboard that was clicked together cannot be reviewed, and shows nothing without a word when a "
    "metric is renamed. As data, its expressions can be asked before anybody needs them.",
)
