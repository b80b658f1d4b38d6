"""The scorecard of a flight, and the certificate: pages that need no network, and text for a shell.

Main path: as_html(flown), as_text(flown), certificate(flown); sections(flown) are their tables as rows, and
timeline(flown) is their drawing, for whoever shows them in another way.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from html import escape
from textwrap import shorten
from typing import Any

from course_lib.flight.result import Flown, Gate, Level, Seen
from course_lib.flight.script import NAMES
from course_lib.measure import percentile
from course_lib.measure.strips import Band, Tick, drawn

OUTCOMES = ("answered", "cached", "degraded", "refused", "failed")
"""Of a question; the order is that of the drawing."""
Rows = list[dict[str, str]]
_CALM, _WINDOW_S, _LONGEST = "calm", 3.0, 64
_OUTCOMES = "questions per second"
_STRIPS: dict[str, Sequence[str]] = {
    _OUTCOMES: OUTCOMES,
    "ms until an answer": ("p50", "p99"),
    "cost, thousandths of a dollar per second": ("cost",),
}
_UNITS = {
    "availability": "percentage points",
    "99th percentile": "seconds",
    "cost per answer": "dollars",
    "correctness": "percentage points",
    "load on the models": "calls at once",
    "answers": "questions lost",
    "p99 latency": "seconds",
    "requests per answer": "requests",
}
"""Of what a scene took from a level; what is not here is a count."""
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --edge: #c4c8cd; --good: #14622b;
  --bad: #a40e26; --jp-content-font-color1: var(--ink); --jp-ui-font-family: system-ui, sans-serif }
@media (prefers-color-scheme: dark) { @media screen { :root { --ink: #e6e8eb; --paper: #14171a;
  --edge: #4a5058; --good: #6fd08c; --bad: #ff9aa5 } } }
body { margin: 0 auto; padding: 1.5rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 1.8rem 0 .4rem }
.wide { overflow-x: auto } table { border-collapse: collapse; min-width: 50%; font-size: .93rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid var(--edge) }
tbody th { font-weight: 600 } .holds { color: var(--good); font-weight: 600 }
.fails { color: var(--bad); font-weight: 600 } td span { white-space: nowrap } figure { margin: 0 }
@media print { body { max-width: none; padding: 0 } h2 { break-after: avoid }
  tr, figure { break-inside: avoid }
  .wide { overflow: visible } table { font-size: .8rem } }
"""
_ON_ONE_PAGE = """
@page { size: landscape; margin: 12mm }
body { max-width: 60rem } main { border: 3px double var(--ink); padding: 1.6rem 2.4rem; text-align: center }
h1 { font-size: 2.1rem } table { margin: 0 auto }
main p { margin: .5rem auto; max-width: 50rem } main .name { font-size: 1.7rem } .small { font-size: .88rem }
@media print { html { font-size: 11px } main { break-inside: avoid; padding: .6rem 2rem }
  main th, main td { padding: .15rem .7rem; font-size: 11px } }
"""


# -- what is told --------------------------------------------------------------------------------------


def verdict(flown: Flown) -> str:
    """Return in a sentence whether it passed, and what did not hold."""
    judged: list[Level | Gate] = [*flown.levels, *flown.gates]
    if missed := [each.name for each in judged if not each.holds]:
        do = "does" if len(missed) == 1 else "do"
        return f"{len(missed)} of {len(judged)} {do} not hold: {', '.join(missed)}."
    gates = f", and all {len(flown.gates)} quality gates" if flown.gates else ""
    return f"All {len(flown.levels)} service levels hold{gates}."


def advice(flown: Flown) -> dict[str, list[str]]:
    """Return what to improve, of each level that does not hold, and what would have helped."""
    missed = [f"{level.name}: {level.advice or 'no advice'}" for level in flown.levels if not level.holds]
    told = {"What to improve": missed or ["Nothing: every level holds."]}
    return told | ({"What would have helped, most gain first": flown.helps} if flown.helps else {})


def sections(flown: Flown) -> dict[str, Rows]:
    """Return the tables, each under its heading, as rows of words; those without a row are left out."""
    tables = {
        "Service levels": _judged(flown.levels),
        "What happened in each scene": _scenes(flown),
        "Which fault cost what": _costs(flown),
        "Quality gates": _judged(flown.gates),
        "Parts": [{"part": name, "made by": whose} for name, whose in flown.parts.items()],
    }
    return {heading: rows for heading, rows in tables.items() if rows}


def _judged(judged: Sequence[Level | Gate]) -> Rows:
    words = {True: "holds", False: "does not hold"}
    return [
        {"name": each.name, "promised": each.bar, "measured": each.seen, "verdict": words[each.holds]}
        for each in judged
    ]


def _scenes(flown: Flown) -> Rows:
    rows = []
    for scene in flown.scenes:
        seen = [each for each in flown.seen if each.scene == scene.name]
        asked = [each for each in seen if each.kind == "question"]
        jobs = Counter(each.outcome for each in seen if each.kind == "job")
        took_ms = [1000 * each.took_s for each in asked]
        row = {"scene": scene.name, "seconds": f"{scene.begins_s:.0f} to {scene.ends_s:.0f}"}
        row |= {"what is broken": scene.told, "questions": outcomes(asked)}
        row |= {f"p{share} ms": _number(percentile(took_ms, share)) for share in (50, 99)}
        row["dollars"] = f"{sum(each.cost_usd for each in seen):.4f}"
        rows.append(row | ({"jobs": _counted(jobs)} if any(s.kind == "job" for s in flown.seen) else {}))
    return rows


def _costs(flown: Flown) -> Rows:
    """Return what each scene took from each level, a row a scene."""
    told = [level for level in flown.levels if any(level.by_scene.values())]
    rows = []
    for scene in flown.scenes if told else ():
        taken = {_with_unit(level): _number(level.by_scene.get(scene.name, 0.0)) for level in told}
        rows.append(
            {"scene": scene.name} | {name: "-" if each == "0" else each for name, each in taken.items()}
        )
    return rows


def _with_unit(level: Level) -> str:
    return f"{level.name}, {_UNITS.get(level.name, 'count')}"


def outcomes(seen: Iterable[Seen]) -> str:
    """Return how many questions ended in which way, in words."""
    return _counted(Counter(each.outcome for each in seen if each.kind == "question"), OUTCOMES)


def _counted(said: Counter[str], order: Sequence[str] = ()) -> str:
    names = [*(name for name in order if said[name]), *(name for name in said if name not in order)]
    return ", ".join(f"{said[name]} {name}" for name in names) or "none"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if 0 < abs(value) < 0.01:
        return f"{value:.5f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def facts(flown: Flown) -> str:
    """Return seed, date and versions in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in flown.versions.items())
    began = datetime.fromisoformat(flown.began).strftime("%Y-%m-%d %H:%M UTC")
    return f"Seed {flown.seed}; {began}; {versions}."


# -- the drawing ---------------------------------------------------------------------------------------


def timeline(flown: Flown) -> str:
    """Return outcomes, latency and cost over the seconds as SVG, the scenes as bands."""
    end_s = max([scene.ends_s for scene in flown.scenes], default=1.0)
    bands = [Band(each.name, each.begins_s, each.ends_s) for each in flown.scenes if each.name != _CALM]
    label = "Questions per second by outcome, latency and cost over time; the tables have the figures."
    return drawn(ticks(flown.seen, end_s), strips(flown.seen), bands, label=label, shown_s=math.inf)


def strips(seen: Iterable[Seen]) -> dict[str, Sequence[str]]:
    """Return what is drawn: of the outcomes, those that there were."""
    were = {each.outcome for each in seen}
    return {**_STRIPS, _OUTCOMES: [name for name in OUTCOMES if name in were]}


def ticks(seen: Sequence[Seen], until_s: float) -> list[Tick]:
    """Return the figures of each second, those of latency over three; what strips() name."""
    asked = [each for each in seen if each.kind == "question"]
    return [_tick(asked, second) for second in range(1, max(1, math.ceil(until_s)) + 1)]


def _tick(asked: Sequence[Seen], second: int) -> Tick:
    now = [each for each in asked if second - 1 <= each.at_s < second]
    took_ms = [1000 * each.took_s for each in asked if second - _WINDOW_S <= each.at_s < second]
    figures = {"at_s": float(second), "cost": 1000 * sum(each.cost_usd for each in now)}
    figures |= {f"p{share}": percentile(took_ms, share) for share in (50, 99)}
    return figures | dict(Counter(each.outcome for each in now))


class Telling:
    """What a flight is to call twice a second: each scene that begins is told in a line."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say, self._scene = say, ""

    def __call__(self, tick: Any) -> None:
        """Look at a Tick."""
        if tick.scene != self._scene:
            self._scene = tick.scene
            self._say(f"{tick.at_s:3.0f} s  {tick.scene}; so far {outcomes(tick.seen)}")


# -- pages and text ------------------------------------------------------------------------------------


def as_html(flown: Flown) -> str:
    """Return the scorecard as a page of its own, for a screen in light or dark and for paper."""
    tables = {heading: _table(heading, rows) for heading, rows in sections(flown).items()}
    lists = [
        f"<h2>{heading}</h2><ol>{''.join(f'<li>{escape(each)}</li>' for each in words)}</ol>"
        for heading, words in advice(flown).items()
    ]
    parts = [
        f"<main><h1>Flight scorecard</h1><p>{_word(verdict(flown), holds=flown.holds)}</p>"
        f"<p>{escape(facts(flown))}</p>",
        tables.pop("Service levels", ""),
        *lists,
        f"<h2>The flight over time</h2><figure>{timeline(flown)}</figure>",
        *tables.values(),
        "</main>",
    ]
    return _page("Flight scorecard", "\n".join(parts), _STYLE)


def as_json(flown: Flown) -> str:
    """Return all of it as JSON, times to the thousandth of a second; what is no number is null."""
    plain = json.loads(json.dumps(asdict(flown)), parse_constant=lambda _: None)
    for level in plain["levels"]:
        level["by_scene"] = {name: each for name, each in level["by_scene"].items() if each is not None}
    plain["seen"] = [
        {**each, "at_s": round(each["at_s"], 3), "took_s": round(each["took_s"], 3)} for each in plain["seen"]
    ]
    return json.dumps({**plain, "holds": flown.holds}, indent=1) + "\n"


def as_text(flown: Flown) -> str:
    """Return the scorecard for a shell."""
    tables = [f"{heading}\n{text_table(rows)}" for heading, rows in sections(flown).items()]
    lists = [
        "\n".join([heading, *(f"{number}. {each}" for number, each in enumerate(words, 1))])
        for heading, words in advice(flown).items()
    ]
    return "\n\n".join([f"{verdict(flown)}\n{facts(flown)}", *tables[:1], *lists, *tables[1:]])


def certificate(flown: Flown, *, exercises: Iterable[str] = (), name: str = "") -> str:
    """Return a page that says what was passed; a name stands on it only where one is given.

    Args:
        flown: the flight.
        exercises: the ids of those that were passed.
        name: whom it names, as it was entered.
    """
    passed = list(exercises)
    kept = sum(level.holds for level in flown.levels)
    told = f"{kept} of {len(flown.levels)} service levels held under the scripted faults."
    done = f"{len(passed)} exercises passed: {', '.join(passed)}." if passed else "No exercise was recorded."
    whose = ", ".join(part for part, made in flown.parts.items() if made != "ours") or "none"
    rows = _judged([*flown.levels, *flown.gates])
    named = f'<p class="name">{escape(name)}</p>' if name else ""
    scenes, title = [each.name for each in flown.scenes], "Flight passed" if flown.holds else "Flight flown"
    if set(NAMES) - set(scenes):
        title, told = "Some scenes flown", f"{told} Of {len(NAMES)} scenes only: {', '.join(scenes)}."
    body = (
        f"<main><p>Advanced DSPy</p><h1>{title}</h1>{named}"
        f"<p>{escape(told)} Parts of one's own: {escape(whose)}.</p>{_table('', rows)}"
        f'<p class="small">{escape(done)}</p><p class="small">{escape(facts(flown))}</p></main>'
    )
    return _page("Certificate of a flight", body, _STYLE + _ON_ONE_PAGE)


def _page(title: str, body: str, style: str) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    head = f"<head>{head}<style>{style}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}\n<body>{body}</body></html>\n'


def _word(words: str, *, holds: bool) -> str:
    return f'<span class="{"holds" if holds else "fails"}">{escape(words)}</span>'


def _table(heading: str, rows: Rows) -> str:
    title = f"<h2>{escape(heading)}</h2>" if heading else ""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    body = []
    for row in rows:
        (_, first), *others = row.items()
        cells = "".join(
            f"<td>{_word(words, holds=words == 'holds') if name == 'verdict' else escape(words)}</td>"
            for name, words in others
        )
        body.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    label = escape(heading or "What was passed", quote=True)
    wide = f'<div class="wide" role="region" tabindex="0" aria-label="{label}">'
    return f"{title}{wide}<table><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"


def text_table(rows: Rows) -> str:
    """Return rows as aligned text under their names; long words are cut."""
    cut = [[shorten(each, _LONGEST, placeholder=" …") for each in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(list(rows[0]), *cut, strict=True)]
    lines = [list(rows[0]), ["-" * width for width in widths], *cut]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
