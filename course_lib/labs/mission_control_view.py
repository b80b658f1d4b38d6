"""Mission control: load on the running service, faults at a button, and what becomes of the answers, live.

Main path: mission_control(stack) shows it; run(script) sets faults by a list; show(run) draws what was seen.
mission_load.py asks and looks. It ends by itself after two minutes; whenever it ends, every fault is undone.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar

import ipywidgets as widgets

from course_lib import lm
from course_lib.deployment import Stack, running_stack
from course_lib.errors import CourseError
from course_lib.labs.mission_load import GOOD, PARTS, PERCENTILES, Load, Run, percentiles_ms
from course_lib.labs.reading import INK, Rendered, table
from course_lib.labs.widget import Lab, choice
from course_lib.lm.client import own_profiles
from course_lib.lm.profiles import as_values, split_model
from course_lib.measure.strips import Band, drawn

RATES_PER_S = (5, 10, 30)
USUAL = "as before"
MODEL: dict[str, dict[str, Any]] = {
    USUAL: {},
    "slow": {"ttft_p50_ms": 4_000},
    "rate limited": {"limit_requests_per_s": 2},
    "down": {"unavailable_rate": 1.0},
}
"""What the model may be, as fields of its profile; as before: those that it had when the load began."""
OWN_PARTS = ("redis", "database", "queue", "replica-1", "replica-2", "worker")
MOST_S = 120.0
Script = Sequence[tuple[float, str, str]]
"""At which second to press what: (1.5, "model", "down"), (3.0, "redis", "kill"), (4.0, "redis", "start")."""

_PROFILE, _MOST_PHASES = "mission-control", 8
_INTRO = (
    "Press Start: customers ask, half of them what others have asked, and a job goes into the queue every "
    "second. Then break something, and watch who notices. Faults are marked over time; Stop undoes them."
)
_IDLE = "No load has been sent yet."
_PHASES = "What the load's client saw through the gateway, from change to change"
_REPLICAS = "What each replica says of itself (/health/ready, /metrics)"

# -- what is shown -------------------------------------------------------------------------------------


def show(run: Run) -> Rendered:
    """Show a run as it stands: drawn over time, its phases as the client saw them, its replicas' words."""
    if not run.ticks:
        return Rendered(f'<p style="{INK}">{_IDLE}</p>', _IDLE)
    known = {"at_s", *GOOD, *PERCENTILES, *PARTS}
    said = [*GOOD, *sorted({name for tick in run.ticks for name in tick} - known)]
    strips = {"answers per second": said, "ms until an answer": [*PERCENTILES], "jobs, parts": PARTS}
    summary = _summary(run, said)
    phases = [_row(run, *each) for each in run.phases()[-_MOST_PHASES:]]
    tables = [table(phases, caption=_PHASES), table(run.replicas, caption=_REPLICAS)]
    html = drawn(run.ticks, strips, run.faults, label=summary) + "".join(each.html for each in tables)
    return Rendered(
        f'<div style="{INK}">{html}</div>', "\n\n".join([summary, *(each.text for each in tables)])
    )


def _summary(run: Run, said: Sequence[str]) -> str:
    last = run.ticks[-1]
    rates = ", ".join(f"{last[name]:.0f} {name}" for name in said if last.get(name)) or "none"
    times = ", ".join(f"{name} {_ms(last[name])}" for name in PERCENTILES)
    counts = ", ".join(f"{name} {last[name]:.0f}" for name in PARTS)
    faults = ", ".join(each.name for each in run.faults if each.until_s > last["at_s"]) or "none"
    return f"After {last['at_s']:.1f} s: per second {rates}; {times}; {counts}; faults now: {faults}."


def _ms(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.0f} ms"


def _row(run: Run, begin: float, end: float, broken: str) -> dict[str, str]:
    came = [each for each in run.answers if begin <= each.at_s < end]
    said = Counter(each.said for each in came)
    good = {name: str(said.pop(name, 0)) for name in GOOD}
    refused = ", ".join(f"{count} x {name}" for name, count in said.most_common()) or "none"
    times = {name: _ms(value) for name, value in percentiles_ms(came).items()}
    return {"seconds": f"{begin:.1f} to {end:.1f}", "broken": broken, **good, "refused": refused, **times}


# -- the widget ----------------------------------------------------------------------------------------


class MissionControl(Lab):
    """The lab in the notebook."""

    last: ClassVar[MissionControl | None] = None
    """The one that was started last: the next one ends its load, and waits for that."""

    def __init__(self, stack: Stack | None = None) -> None:
        self.seen = Run()
        self.flight: asyncio.Task[None] | None = None
        """The load, till all faults are undone."""
        self._given = self._stack = stack
        self._over, self._turn, self._is_up = asyncio.Event(), asyncio.Lock(), False
        self._works = set[asyncio.Task[None]]()
        self._profile, self._model = "", USUAL
        self._usual: dict[str, Any] | None = None
        self._faults: dict[str, Band] = {}
        self.button = widgets.Button(description="Start", tooltip="Start the load, or end it")
        self.button.on_click(lambda _: self.stop() if self.is_running else self.begin())
        rates = {str(rate): rate for rate in RATES_PER_S}
        self.rate = choice("questions per s", rates, 10, label_width="9em")
        self.model = choice("the model is", {name: name for name in MODEL}, USUAL, label_width="9em")
        self.model.observe(lambda change: self._choose_model(change["new"]), "value")
        names = [name for name in stack.parts if name != "gateway"] if stack else OWN_PARTS
        self.parts = {name: widgets.Button(layout={"width": "auto"}) for name in names}
        for name, button in self.parts.items():
            button.on_click(lambda _, name=name: self.switch(name))
            self._label(name, "kill")
        row = widgets.HBox(list(self.parts.values()), layout={"flex_flow": "row wrap"})
        super().__init__(_INTRO, [self.button, self.rate, self.model, row])
        self.show(show(self.seen))
        self.say("Press Start." if stack else "Press Start: a stack is started first, in some ten seconds.")

    @property
    def is_running(self) -> bool:
        """Whether the load runs, or is being ended."""
        return self.flight is not None and not self.flight.done()

    def begin(self, script: Script = (), for_s: float = MOST_S) -> None:
        """Start the load, in the notebook's event loop.

        Raises:
            CourseError: the script names what there is not.
        """
        offered = {"model": tuple(MODEL), **dict.fromkeys(self.parts, ("kill", "start"))}
        for _, name, what in script:
            if what not in offered.get(name, ()):
                known, pair = ", ".join(offered.get(name, offered)), (name, what)
                raise CourseError(f"the script has {pair!r}, which cannot be pressed; choose of: {known}")
        self._over.clear()
        self.button.description = "Stop"
        self.say("Starting …")
        before, MissionControl.last = MissionControl.last, self
        self.flight = asyncio.get_running_loop().create_task(self._fly(before, script, for_s))

    def stop(self) -> None:
        """End the load; all faults are undone."""
        if self.is_running and not self._over.is_set():
            self.say("Ending: all faults are undone first …")
        self._over.set()

    async def run(self, script: Script = (), *, for_s: float = MOST_S) -> None:
        """Run for so long with faults by a script; return when all of them are undone."""
        if not self.is_running:
            self.begin(script, for_s)
        assert self.flight is not None
        try:
            await asyncio.shield(self.flight)
        except asyncio.CancelledError:  # the cell was interrupted
            self.stop()
            await asyncio.wait([self.flight])  # a second interrupt ends this wait, and not the mending
            raise

    def close(self) -> None:
        """End the load with the widget."""
        self.stop()
        super().close()

    async def _fly(self, before: MissionControl | None, script: Script, for_s: float) -> None:
        opened = ExitStack()
        try:
            if before is not None and before is not self and before.flight and before.is_running:
                before.stop()
                await asyncio.wait([before.flight])
            if self._given is None:
                lm.profile(_PROFILE, ttft_p50_ms=50)
                own = running_stack(model=f"sim-large@{_PROFILE}")
                self._stack = await asyncio.to_thread(opened.enter_context, own)
            assert self._stack is not None
            words = await self._ask(self._stack, script, for_s)
        except CourseError as error:
            words = f"Ended: {error}"
        finally:
            if self._given is None:
                self.say("Ending: the stack ends, within ten seconds …")
            await asyncio.to_thread(opened.close)
            self.button.description = "Start"
        self.say(words)

    async def _ask(self, stack: Stack, script: Script, for_s: float) -> str:
        """Ask till the end, mend what is broken, and return in words how it ended."""
        self._profile = split_model(stack.config.model)[1]
        mine = own_profiles.get(self._profile)
        self._usual = as_values(mine) if mine else None
        self.seen, self._is_up = Run(), True
        self._take_over(stack)
        self._tell("Asking. Break something.")
        presses = asyncio.create_task(self._press_all(script))
        rate_per_s, seen = partial(getattr, self.rate, "value"), lambda: self.show(show(self.seen))
        async with Load(stack, self.seen, rate_per_s, seen) as load:
            try:
                await load.until(self._over, for_s)
            finally:
                presses.cancel()
                await self._mend_all(load)
        self.show(show(self.seen))
        if not load.is_there():
            return "Ended with the stack. Open a stack again, and mission_control(stack) for it."
        if self._faults:
            return f"Ended, but not undone: {self._left()}. End the stack, and open it again."
        late = f" Jobs not done: {len(self.seen.jobs)}." if self.seen.jobs else ""
        return f"Ended, and every fault is undone. Start begins anew.{late}"

    # -- faults ----------------------------------------------------------------------------------------

    def _take_over(self, stack: Stack) -> None:
        """Begin with the parts as they are: one that is gone already is a fault, and may be started."""
        self._faults.clear()
        for name in self.parts:
            part = stack.parts[name]
            is_gone = not part.pid and not getattr(part, "is_shared", False)
            self._label(name, "start" if is_gone else "kill")
            if is_gone:
                self._breaks(name, f"{name} gone")

    async def _press_all(self, script: Script) -> None:
        async with asyncio.TaskGroup() as group:
            for each in script:
                group.create_task(self._press_at(*each))

    async def _press_at(self, second: float, name: str, what: str) -> None:
        await asyncio.sleep(max(0.0, second - self.seen.now_s()))
        while name in self.parts and self.parts[name].description.startswith("wait:"):
            await asyncio.wait(self._works, return_when=asyncio.FIRST_COMPLETED)
        self.press(name, what)

    def press(self, name: str, what: str) -> None:
        """Do what a choice or a button does: ("model", "down"), ("redis", "kill")."""
        if name == "model":
            self.model.value = what
        elif self.parts[name].description == f"{what} {name}":
            self.switch(name)

    def switch(self, name: str) -> None:
        """Kill a part, or start it again."""
        if not self._may_break():
            return
        word = self.parts[name].description.split()[0]
        if word == "wait:":
            self.say(f"{name} is being killed or started: wait a moment.")
            return
        self._label(name, "wait:")
        self.say(f"{name}: {word} …")
        self._do(self._switched(name, word))

    async def _switched(self, name: str, word: str) -> None:
        assert self._stack is not None
        if word == "kill":
            self._breaks(name, f"{name} gone")
        try:
            await asyncio.to_thread(getattr(self._stack, word), name)
        except CourseError as error:  # such as a server that the environment names
            is_gone, told = word == "start", f"{name} stays as it is: {error}"
        else:
            is_gone, told = word == "kill", f"{name} is {'gone' if word == 'kill' else 'there again'}."
            if (word, name) == ("start", "worker"):  # of all parts, it alone has no way to say so
                told = "worker is started: it takes jobs when it has loaded, in some seconds."
        if not is_gone:
            self._mends(name)
        self._label(name, "start" if is_gone else "kill")
        self._tell(told)

    def _label(self, name: str, word: str) -> None:
        self.parts[name].description = f"{word} {name}"
        self.parts[name].button_style = "" if word == "kill" else "warning"

    def _choose_model(self, what: str) -> None:
        if what == self._model:
            return
        if self._is_up and self._usual is None:
            self.say("The stack's model has no profile of yours: name one with @, after lm.profile(...).")
        if not self._may_break() or self._usual is None:
            self.model.value = self._model
            return
        self._model = what
        self.say(f"The model: {what} …")
        self._do(self._model_is(what))

    async def _model_is(self, what: str) -> None:
        async with self._turn:  # one after the other, however fast they are chosen
            try:
                await asyncio.to_thread(lm.profile, self._profile, **(MODEL[what] or self._usual or {}))
            except CourseError as error:
                self._tell(f"The model stays as it is: {error}")
                return
            self._mends("model")
            if what != USUAL:
                self._breaks("model", f"model {what}")
        self._tell(f"The model is {what}.")

    def _may_break(self) -> bool:
        if not self._is_up:
            self.say("Nothing is asked at the moment: press Start first.")
        return self._is_up

    def _tell(self, words: str) -> None:
        """Say what has just happened, and what else is broken: a slow start may end long after its press."""
        self.say(f"{words} Faults now: {self._left()}.")

    def _left(self) -> str:
        return ", ".join(fault.name for fault in self._faults.values()) or "none"

    def _breaks(self, what: str, name: str) -> None:
        self._faults[what] = Band(name, self.seen.now_s())
        self.seen.faults.append(self._faults[what])

    def _mends(self, what: str) -> None:
        if fault := self._faults.pop(what, None):
            fault.until_s = self.seen.now_s()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    async def _mend_all(self, load: Load) -> None:
        """Undo every fault; of a stack that was ended meanwhile, nothing is started again.

        The model is first: a replica that starts is ready only when nothing that it needs is missing.
        """
        self._is_up, tried = False, set[str]()
        if self._model != USUAL:
            self._do(self._model_is(USUAL))
            self._model = self.model.value = USUAL
        while self._works or (load.is_there() and not tried.issuperset(self._gone())):
            for name in self._gone() if load.is_there() else ():
                if name not in tried:
                    self._label(name, "wait:")
                    self._do(self._switched(name, "start"))
                tried.add(name)
            self.say(f"Ending, which waits a minute at most; faults now: {self._left()} …")
            await asyncio.wait(self._works)
        if load.is_there():
            await load.recover(self.say)
            await load.finish_jobs(self.say)

    def _gone(self) -> list[str]:
        return [name for name, button in self.parts.items() if button.description.startswith("start")]


def mission_control(stack: Stack | None = None) -> MissionControl:
    """Show the lab, for a stack that runs or one of its own; use the mouse, or Tab and Enter.

    The load of an earlier one, such as that of the same cell, ends.
    """
    if MissionControl.last is not None:
        MissionControl.last.stop()
    return MissionControl(stack)
