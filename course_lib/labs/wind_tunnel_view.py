"""Wind tunnel: concurrency, latency, rate limit; throughput and percentiles, with Little's law over them.

Main path: wind_tunnel() shows it; measure(setting) sends real requests, show(setting, results) draws.
Source: concurrency/runner.py and limits.py make the calls; the profile is the lab's own.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from html import escape

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from course_lib import lm
from course_lib.concurrency import AsyncRunner, RateLimit, limited
from course_lib.labs.reading import INK, Rendered, plot, table
from course_lib.labs.widget import Lab, choice
from course_lib.resilience import DeadlineExceeded

CONCURRENCY = (1, 2, 4, 8, 16, 32)
LATENCIES_MS = (50, 100, 200)
LIMITS_PER_S = {"20": 20.0, "40": 40.0, "80": 80.0, "none": math.inf}
MEASURES_S = 2.5

_PROFILE = "wind-tunnel"
_TELLS_S, _P99 = 0.2, 1.5
_PERCENTILES = (50, 95, 99)
_INTRO = (
    "How many answers a second do you get, and how long does one take? Choose; the lines are Little's law. "
    "Measure sends real requests for some seconds, which the ledger counts, and adds what came out as dots. "
    "The rate limit is kept by a RateLimit: calls above it wait in line."
)
_BEGIN = "Choose, then press Measure."


@dataclass(frozen=True, slots=True)
class Setting:
    """What is chosen, and what Little's law says of it."""

    concurrency: int = 4
    latency_ms: int = 100
    limit: str = "40"
    """A key of LIMITS_PER_S."""

    def rate_per_s(self, concurrency: float | None = None) -> float:
        """Return the law's throughput: L / W, and never above the limit."""
        calls = self.concurrency if concurrency is None else concurrency
        return min(1000 * calls / self.latency_ms, LIMITS_PER_S[self.limit])

    def wait_ms(self, concurrency: float | None = None) -> float:
        """Return the law's time of a call, waiting in line included: L / rate."""
        calls = self.concurrency if concurrency is None else concurrency
        return 1000 * calls / self.rate_per_s(calls)


@dataclass(slots=True)
class Result:
    """What was measured under a setting."""

    setting: Setting
    took_s: list[float] = field(default_factory=list)
    """Of each answer, waiting in line included."""
    seconds: float = 0.0

    def rate_per_s(self) -> float:
        """Return the answers per second."""
        return len(self.took_s) / self.seconds if self.seconds else 0.0

    def percentiles_ms(self) -> list[float]:
        """Return the 50th, 95th and 99th percentile of a call's time."""
        values: list[float] = (1000 * np.percentile(self.took_s or [0.0], _PERCENTILES)).tolist()
        return values

    def under_way(self) -> float:
        """Return λW: answers per second times the mean time of one."""
        return self.rate_per_s() * float(np.mean(self.took_s or [0.0]))


async def measure(
    setting: Setting, *, for_s: float = MEASURES_S, tell: Callable[[Result], None] = lambda _: None
) -> Result:
    """Ask for `for_s` seconds with so many calls at once; tell the result as it stands, now and then."""
    waits = {"ttft_p50_ms": setting.latency_ms, "ttft_p99_ms": _P99 * setting.latency_ms}
    await asyncio.to_thread(lm.profile, _PROFILE, **waits)
    model = await asyncio.to_thread(lm.connect, f"sim-large@{_PROFILE}", cache=False, num_retries=0)
    if (limit_per_s := LIMITS_PER_S[setting.limit]) < math.inf:
        model = limited(model, RateLimit(limit_per_s))
    questions = (f"Where is parcel {number}?" for number in itertools.count())
    result, began, told_s = Result(setting), time.perf_counter(), 0.0
    runner = AsyncRunner(setting.concurrency, deadline_s=for_s, progress=False)
    try:
        async for outcome in runner.stream(model.acall, questions, in_order=False):
            if not outcome.ok:
                continue  # cut off at the end
            result.took_s.append(outcome.took_s)
            result.seconds = time.perf_counter() - began
            if result.seconds - told_s > _TELLS_S:
                told_s = result.seconds
                tell(result)
    except DeadlineExceeded:
        return result
    raise AssertionError("the questions are endless")


# -- what is shown -------------------------------------------------------------------------------------


def show(setting: Setting, results: Collection[Result] = ()) -> Rendered:
    """Show the law's lines under one setting, the results of its latency and limit, and their figures."""
    alike = [each for each in results if (each.setting.latency_ms, each.setting.limit) == _kind(setting)]
    alike.sort(key=lambda result: result.setting.concurrency)
    summary = _summary(setting)
    figures = table([_row(result) for result in alike], caption=_caption(setting)) if alike else None
    html = (
        f'<div style="{INK};line-height:1.5"><p style="margin:6px 0;max-width:80ch">{escape(summary)}</p>'
        f"{_drawing(setting, alike).html}{figures.html if figures else ''}</div>"
    )
    return Rendered(html, f"{summary}\n\n{figures.text}" if figures else summary)


def _kind(setting: Setting) -> tuple[int, str]:
    return setting.latency_ms, setting.limit


def _caption(setting: Setting) -> str:
    return f"Measured: latency {setting.latency_ms} ms, limit {setting.limit} per s"


def _summary(setting: Setting) -> str:
    knee = setting.latency_ms * LIMITS_PER_S[setting.limit] / 1000
    full = f"The limit is reached with {knee:g} calls at once." if knee < math.inf else "There is no limit."
    return (
        f"Little's law: {setting.concurrency} at once, {setting.latency_ms} ms: {setting.rate_per_s():.0f} "
        f"answers per second, {setting.wait_ms():.0f} ms for each. {full}"
    )


def _row(result: Result) -> dict[str, str]:
    percentiles = zip(_PERCENTILES, result.percentiles_ms(), strict=True)
    return {
        "concurrency (L)": str(result.setting.concurrency),
        "answers per s (λ)": f"{result.rate_per_s():.1f}",
        "by the law": f"{result.setting.rate_per_s():.1f}",
        **{f"p{share}": f"{value:.0f} ms" for share, value in percentiles},
        "λW": f"{result.under_way():.1f}",
    }


def _drawing(setting: Setting, results: list[Result]) -> Rendered:
    figure, (rates, waits) = plt.subplots(1, 2, figsize=(8, 3.1), layout="constrained")
    calls = np.geomspace(CONCURRENCY[0], CONCURRENCY[-1], 60).tolist()
    line = {"color": "#3b6ea5", "linewidth": 2, "label": "Little's law"}
    rates.plot(calls, [setting.rate_per_s(each) for each in calls], **line)
    waits.plot(calls, [setting.wait_ms(each) for each in calls], **line)
    measured = [result.setting.concurrency for result in results]
    rates.plot(measured, [result.rate_per_s() for result in results], "o", color="#222222", label="measured")
    for number, (share, mark) in enumerate(zip(_PERCENTILES, "o^s", strict=True)):
        values = [result.percentiles_ms()[number] for result in results]
        waits.plot(measured, values, mark, color="#222222", markersize=5, label=f"p{share}")
    _label(rates, setting, "answers per second")
    _label(waits, setting, "ms of a call")
    told = "; ".join(
        f"{each.setting.concurrency} at once: {each.rate_per_s():.0f} per second, "
        f"median {each.percentiles_ms()[0]:.0f} ms"
        for each in results
    )
    return plot(figure, f"Throughput and time of a call over concurrency. {_summary(setting)} {told}")


def _label(axes: Axes, setting: Setting, what: str) -> None:
    axes.axvline(setting.concurrency, color="#222222", linestyle=":")
    axes.set(xscale="log", xlabel="calls at once", ylabel=what)
    axes.set_ylim(bottom=0)
    axes.set_xticks(CONCURRENCY, [str(each) for each in CONCURRENCY], minor=False)
    axes.minorticks_off()
    axes.legend(fontsize="small")


# -- the widget ----------------------------------------------------------------------------------------


class WindTunnel(Lab):
    """The lab in the notebook."""

    def __init__(self) -> None:
        self.results: dict[Setting, Result] = {}
        self.measuring: asyncio.Task[None] | None = None
        self.concurrency, self.latency, self.limit = controls = [
            choice(label, {name.format(value): value for value in offered}, first, label_width="9em")
            for label, name, offered, first in (
                ("calls at once", "{}", CONCURRENCY, 4),
                ("latency", "{} ms", LATENCIES_MS, 100),
                ("limit per s", "{}", LIMITS_PER_S, "40"),
            )
        ]
        for control in controls:
            control.observe(lambda _: self.draw(), "value")
        self.start = widgets.Button(description="Measure", tooltip="Send requests for some seconds")
        self.start.on_click(lambda _: self.begin())
        super().__init__(_INTRO, [*controls, self.start])
        self.draw()

    def setting(self) -> Setting:
        """Return what is chosen now."""
        return Setting(self.concurrency.value, self.latency.value, self.limit.value)

    def draw(self) -> None:
        """Show the law and what was measured, for what is chosen now."""
        self.show(show(self.setting(), self.results.values()))
        if not self.measuring or self.measuring.done():
            self.say(_BEGIN)

    def begin(self) -> None:
        """Measure what is chosen now, in the notebook's event loop."""
        self.start.disabled = True
        self.say("Measuring …")
        self.measuring = asyncio.get_running_loop().create_task(self.measure())

    async def measure(self, for_s: float = MEASURES_S) -> None:
        """Measure what is chosen now, telling how it stands, and show what came out."""
        setting = self.setting()
        try:
            result = await measure(setting, for_s=for_s, tell=lambda so_far: self.say(_so_far(so_far)))
        except Exception as error:  # border: the lab says what went wrong
            self.say(f"Not measured: {error}")
            return
        finally:
            self.start.disabled = False
        self.results[setting] = result
        self.show(show(self.setting(), self.results.values()))
        self.say(f"Done: {_so_far(result)}; the law says {setting.rate_per_s():.0f} per second.")


def _so_far(result: Result) -> str:
    median_ms, *_, slowest_ms = result.percentiles_ms()
    return (
        f"{len(result.took_s)} answers in {result.seconds:.1f} s, {result.rate_per_s():.0f} per second, "
        f"p50 {median_ms:.0f} ms, p99 {slowest_ms:.0f} ms"
    )


def wind_tunnel() -> WindTunnel:
    """Show the lab; choose with the mouse, or with Tab and Enter."""
    return WindTunnel()
