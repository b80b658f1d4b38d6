"""Streaming race: the same question asked whole and as a stream, side by side, shown while it is written.

Main path: streaming_race() shows it; run(...) races once, with a function that is told of each change.
Source: course_lib.concurrency.stream on the right, a plain `acall` on the left; one model, one moment.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape

import dspy
import ipywidgets as widgets
import matplotlib.pyplot as plt

from course_lib import desk, lm
from course_lib.concurrency import stream
from course_lib.concurrency.streaming import Error, Token
from course_lib.errors import CourseError
from course_lib.labs.reading import INK, Rendered, plot
from course_lib.labs.widget import Lab, choice

QUESTIONS = {
    "washing down": "How do I wash a down sleeping bag?",
    "express": "What does shipping to Norway cost, and how long does express delivery take?",
    "the composer": "Which composer wrote the anthem of Peru?",
}
SPEEDS = (30, 60, 120)
"""Tokens per second."""
WAITS_MS = (50, 200, 800)
"""Until the first token."""
_PROFILE = "streaming-race"
_INTRO = (
    "One question, asked twice at the same moment: on the left the program waits for the whole answer, on "
    "the right it hands on what is written. Choose the model's speed, and race."
)


@dataclass(slots=True)
class Lane:
    """One side of the race."""

    name: str
    came_s: list[float] = field(default_factory=list)
    """When each piece of the answer's text came."""
    text: str = ""
    end_s: float = 0.0
    """When the whole answer was there; 0 before."""

    def add(self, piece: str, at_s: float) -> None:
        """Note a piece of text."""
        self.came_s.append(at_s)
        self.text += piece

    def state(self) -> str:
        """Return in words how far it is."""
        if not self.came_s:
            return "waiting …"
        ended = f", end after {self.end_s:.2f} s" if self.end_s else ""
        return f"first text after {self.came_s[0]:.2f} s{ended}"


Lanes = tuple[Lane, Lane]


def run(
    question: str, *, speed: int = 60, wait_ms: int = 200, changed: Callable[[Lanes], object] = lambda _: None
) -> Lanes:
    """Race once; return the lane of the whole answer and the one of the stream.

    Raises:
        CourseError: the stream ended with an error.
    """
    model = f"sim-large@{_PROFILE}"
    lm.profile(_PROFILE, ttft_p50_ms=wait_ms, speed_p50_tokens_per_s=speed)
    with dspy.context(lm=lm.connect(model, cache=False)):
        race = _race(question, changed)
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has an event loop that is running
            return thread.submit(context.run, asyncio.run, race).result()


async def _race(question: str, changed: Callable[[Lanes], object]) -> Lanes:
    lanes = Lane("whole"), Lane("streamed")
    whole, streamed = lanes
    program, begun = desk.Answer(), time.perf_counter()

    async def wait_for_all() -> None:
        prediction = await program.acall(question=question)
        whole.end_s = time.perf_counter() - begun
        whole.add(prediction.answer, whole.end_s)
        changed(lanes)

    async def read_along() -> None:
        async with stream(program, question=question) as events:
            async for event in events:
                if isinstance(event, Error):
                    raise CourseError(f"the stream ended with {event.code}: {event.message}")
                if isinstance(event, Token) and event.text:
                    streamed.add(event.text, time.perf_counter() - begun)
                    changed(lanes)
        streamed.end_s = time.perf_counter() - begun
        changed(lanes)

    changed(lanes)
    await asyncio.gather(wait_for_all(), read_along())
    return lanes


# -- what is shown -------------------------------------------------------------------------------------


def show(lanes: Lanes) -> Rendered:
    """Show both sides as they stand: text, and in words when it came; a drawing when both have ended."""
    has_ended = all(lane.end_s for lane in lanes)
    summary, drawing = (_summary(lanes), _drawing(lanes).html) if has_ended else ("", "")
    columns = "".join(map(_column, lanes))
    html = (
        f'<div style="{INK};line-height:1.5"><p>{escape(summary)}</p>'
        f'<div style="display:flex;flex-wrap:wrap;gap:16px">{columns}</div>{drawing}</div>'
    )
    told = "\n".join(f"{lane.name}: {lane.state()}\n  {lane.text}" for lane in lanes)
    return Rendered(html, f"{summary}\n{told}".strip())


def _column(lane: Lane) -> str:
    return (
        f'<section aria-label="{lane.name}" style="flex:1 1 22em;min-width:0">'
        f'<h4 style="margin:8px 0 0;color:inherit">{lane.name}: {lane.state()}</h4>'
        '<p style="min-height:8em;margin:4px 0;border-left:3px solid;padding-left:8px">'
        f"{escape(lane.text)}</p></section>"
    )


def _summary(lanes: Lanes) -> str:
    whole, streamed = lanes
    sooner = whole.came_s[0] / streamed.came_s[0]
    return (
        f"The first words came {sooner:.1f} times sooner as a stream ({streamed.came_s[0]:.2f} s against "
        f"{whole.came_s[0]:.2f} s); the ends are {abs(whole.end_s - streamed.end_s):.2f} s apart. "
        "After the last piece of the answer the model still writes the citations; then a side has ended."
    )


def _drawing(lanes: Lanes) -> Rendered:
    figure, axes = plt.subplots(figsize=(7.5, 1.8), layout="constrained")
    for row, lane in enumerate(lanes):
        axes.plot(lane.came_s, [row] * len(lane.came_s), "|", color="#3b6ea5", markersize=16)
        axes.plot(lane.came_s[0], row, ">", color="#222222", markersize=9)
        axes.plot(lane.end_s, row, "s", color="#222222", markersize=7)
    axes.set(xlabel="seconds (▸ first text, ■ end)", xlim=(0, None), ylim=(1.6, -0.6))
    axes.set_yticks(range(len(lanes)), [lane.name for lane in lanes])
    return plot(figure, f"When text came, on each side. {_summary(lanes)}")


# -- the widget ----------------------------------------------------------------------------------------


class StreamingRace(Lab):
    """The lab in the notebook."""

    def __init__(self) -> None:
        self.question, self.speed, self.wait = controls = [
            choice(label, {name.format(value): value for name, value in offered}, first, label_width="9em")
            for label, offered, first in (
                ("question", QUESTIONS.items(), QUESTIONS["washing down"]),
                ("tokens per second", [("{}", speed) for speed in SPEEDS], 60),
                ("first token after", [("{} ms", wait) for wait in WAITS_MS], 200),
            )
        ]
        self.button = widgets.Button(description="Race", tooltip="Ask on both sides at the same moment")
        self.button.on_click(lambda _: self.race())
        super().__init__(_INTRO, [*controls, self.button])
        self.race()

    def race(self) -> None:
        """Race with what is chosen now; both sides are shown while they are written."""
        self.button.disabled = True
        self.say("Asking on both sides …")
        try:
            lanes = run(
                self.question.value,
                speed=self.speed.value,
                wait_ms=self.wait.value,
                changed=lambda lanes: self.show(show(lanes)),
            )
        except (CourseError, dspy.DSPyError) as error:
            self.say(str(error))
        else:
            self.show(show(lanes))
            self.say("Done: both sides have ended.")
        finally:
            self.button.disabled = False


def streaming_race() -> StreamingRace:
    """Show the lab, with a first race run; choose with the mouse, or with Tab and Enter."""
    return StreamingRace()
