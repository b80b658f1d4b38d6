"""The flight while it flies, and its scorecard in the notebook.

Main path: flight_lab(parts) shows a button; what is flown is drawn twice a second, and the scorecard stands
there at the end, is kept in the work folder, and stands there again when the lab is shown anew.
scorecard(flown) shows one that was flown before, such as the recorded one.
The flight has a thread and an event loop of its own: a cell that runs meanwhile does not slow it.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any, ClassVar

import ipywidgets as widgets

from course_lib.errors import CourseError
from course_lib.flight import Flown, Gate, Parts, Scene, Tick, flying, keep, kept, report
from course_lib.flight.script import plan
from course_lib.labs.reading import INK, Rendered, table
from course_lib.labs.widget import Lab
from course_lib.measure.strips import Band, drawn
from course_lib.redaction import one_line

_EVERY_S = 0.5
_INTRO = (
    "Press Start: the system is put together, and flown through its scenes, one fault after the other, which "
    "takes about two minutes. Below is how its answers come; at the end, its scorecard stands there. "
    "Stop ends it; an interrupt of the kernel does not."
)
_IDLE = "Nothing has been flown yet."
_GATES = "quality gates"
Gates = Sequence[Gate] | Callable[[], Sequence[Gate]]


def scorecard(flown: Flown) -> Rendered:
    """Show what a flight was like, in the order of the page that `course flight --html` writes."""
    shown = {heading: table(rows, caption=heading) for heading, rows in report.sections(flown).items()}
    lists = "".join(
        f"<p><strong>{heading}</strong></p><ol>{''.join(f'<li>{escape(each)}</li>' for each in words)}</ol>"
        for heading, words in report.advice(flown).items()
    )
    first, *others = (each.html for each in shown.values())
    head = f"<p><strong>{escape(report.verdict(flown))}</strong><br>{escape(report.facts(flown))}</p>"
    html = "".join([head, first, lists, report.timeline(flown), *others])
    return Rendered(f'<div style="{INK}">{html}</div>', report.as_text(flown))


class FlightLab(Lab):
    """The lab in the notebook; `flown` is what the last flight was like that was not ended, None before."""

    last: ClassVar[FlightLab | None] = None
    """The one whose flight began last: another one's ends it."""

    def __init__(
        self, parts: Parts, options: Mapping[str, Any], scenes: Sequence[Scene], gates: Gates
    ) -> None:
        self.flown = kept()
        self.flight: asyncio.Task[Flown | None] | None = None
        self._parts, self._options, self._scenes, self._gates = parts, options, scenes, gates
        self._tick, self._under_way = Tick(), asyncio.Event()
        self._inner: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._is_over = False
        self.button = widgets.Button(description="Start", tooltip="Start the flight, or end it")
        self.button.on_click(lambda _: self.stop() if self.is_flying else self.begin())
        super().__init__(_INTRO, [self.button])
        self.show(scorecard(self.flown) if self.flown else Rendered(f'<p style="{INK}">{_IDLE}</p>', _IDLE))
        self.say("This is your last flight. Press Start for another one." if self.flown else "Press Start.")

    @property
    def is_flying(self) -> bool:
        """Whether a flight is under way, or is being ended."""
        return self.flight is not None and not self.flight.done()

    def begin(self) -> None:
        """Start a flight, in the notebook's event loop."""
        before, FlightLab.last = FlightLab.last, self
        self.flight = asyncio.get_running_loop().create_task(self._fly(before))

    def stop(self) -> None:
        """End the flight; its servers end too."""
        self._is_over = True
        if self._inner:
            self.say("Ending: the servers end …")
            loop, task = self._inner
            loop.call_soon_threadsafe(task.cancel)

    async def run(self) -> Flown | None:
        """Fly, and return what it was like; None if it was ended."""
        if not self.is_flying:
            self.begin()
        assert self.flight is not None
        try:
            return await asyncio.shield(self.flight)
        except asyncio.CancelledError:  # the cell was interrupted
            self.stop()
            await asyncio.wait([self.flight])
            raise

    def close(self) -> None:
        """End the flight with the widget."""
        self.stop()
        super().close()

    async def _fly(self, before: FlightLab | None) -> Flown | None:
        self._tick, self._is_over = Tick(), False
        self.button.description = "Stop"
        self.say("The servers start, and the parts are put together …")
        if before is not None and before is not self and before.flight and before.is_flying:
            before.stop()
            await asyncio.wait([before.flight])
        work = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(self._flown())))
        scene = ""
        try:
            while not (await asyncio.wait([work], timeout=_EVERY_S))[0]:
                if self._tick.scene != scene:
                    scene = self._tick.scene
                    self.say(self._told(scene))
                if self._tick.seen:
                    self.show(self._live())
            self.flown = work.result()
            self.show(scorecard(self.flown))
            self.say(report.verdict(self.flown))
            keep(self.flown)
            return self.flown
        except asyncio.CancelledError:
            self.say("Ended before its time. Start begins anew.")
        except CourseError as error:
            self.say(f"Ended: {error}")
        except Exception as error:  # border: a part may be the learner's, and raise when it is left
            self.say(f"Ended: {one_line(f'{type(error).__name__}: {error}')}")
        finally:
            self._inner, self.button.description = None, "Start"
        return None

    async def _flown(self) -> Flown:
        """Fly, in the thread's own event loop."""
        task = asyncio.current_task()
        assert task is not None
        self._inner = asyncio.get_running_loop(), task
        if self._is_over:  # it was stopped before it began
            task.cancel()
        flown = await flying(self._parts, on_tick=self._ticked, **self._options)
        self._tick = replace(self._tick, scene=_GATES)
        try:
            gates = await asyncio.to_thread(self._gates) if callable(self._gates) else self._gates
        except CourseError as error:  # the flight is not lost with them
            gates = [Gate("quality gates", "can be measured", one_line(str(error)), holds=False)]
        return replace(flown, gates=list(gates))

    def _ticked(self, tick: Tick) -> None:
        self._tick = Tick(tick.at_s, tick.scene, list(tick.seen))

    def _told(self, name: str) -> str:
        """Return in a sentence what is broken now."""
        if name == _GATES:
            return "The quality gates are measured, some ten seconds …"
        scene = next((each for each in self._scenes if each.name == name), None)
        return f"{scene.begins_s:.0f} s, {name}: {scene.told}" if scene else "Under way."

    def _live(self) -> Rendered:
        """Draw what has ended so far, by when it ended."""
        tick = self._tick
        ended = [replace(each, at_s=each.at_s + each.took_s) for each in tick.seen]
        ticks = report.ticks(ended, tick.at_s // 1)  # a second that has not ended would look low
        bands = [
            Band(each.name, each.begins_s, each.ends_s)
            for each in self._scenes
            if 0 < each.begins_s <= tick.at_s
        ]
        words = f"After {tick.at_s:.0f} s: {report.outcomes(tick.seen)}. Since {self._told(tick.scene)}"
        return Rendered(
            f'<div style="{INK}">{drawn(ticks, report.strips(tick.seen), bands, label=words)}</div>', words
        )


def flight_lab(parts: Parts | None = None, *, gates: Gates = (), **options: Any) -> FlightLab:
    """Show the lab; use the mouse, or Tab and Enter.

    Args:
        parts: what the system is assembled from; ours where one is not given.
        gates: the quality gates that the scorecard shows, or what measures them after the flight, such as
            measured_gates.
        options: `seed`, `only` (names of scenes) and `off` (mechanisms), as of flight.flying.

    Raises:
        ScriptError: there is no such scene.
    """
    scenes = plan(options.get("seed", 7), options.get("only", ())).scenes
    if FlightLab.last is not None:
        FlightLab.last.stop()
    return FlightLab(parts or Parts(), options, scenes, gates)
