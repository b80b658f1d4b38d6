"""The architecture of a production DSPy system, as a picture whose boxes answer when clicked.

Main path: BOXES is the table; picture.py draws it; architecture() shows it with static/architecture.js.
Source: anywidget 0.11; JupyterLab's --jp-* colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from course_lib.errors import CourseError
from course_lib.labs import chapters, picture

_STATIC = Path(__file__).parent / "static"


class UnknownBoxError(CourseError):
    """The picture has no box of this name."""


@dataclass(frozen=True, slots=True)
class Box:
    """One part of the system, as the picture and the list tell it."""

    key: str
    """What `architecture(highlight=...)` takes."""
    name: str
    group: str
    """Key of the box this one stands in, or empty."""
    does: str
    asks: str
    """The question this part answers."""
    without: str
    """What breaks when it is missing."""
    notebooks: tuple[str, ...]
    """Numbers of the notebooks that build it, first the one that does most."""


BOXES = {
    box.key: box
    for box in (
        Box(
            "users",
            "Users",
            "",
            "People and programs that ask: here Lantern's customers, and a load test that plays them.",
            "Who is asking, how many at once, and how long will they wait?",
            "You size the system by guess, and meet your real traffic on the day it arrives.",
            ("06", "05"),
        ),
        Box(
            "balancer",
            "Load balancer",
            "",
            "Spreads requests over the copies of the service, and only over those that say they are ready.",
            "Which copy of the service takes this request?",
            "One slow or restarting copy takes the whole service down with it; a release means an outage.",
            ("05",),
        ),
        Box(
            "gateway",
            "Gateway",
            "",
            "The one door: every request is checked, limited and sent on here, before it can cost anything.",
            "May this request come in, and where does it go?",
            "Each program repeats these checks, and the one that forgets is the one that is found.",
            ("05",),
        ),
        Box(
            "router",
            "Router",
            "gateway",
            "Sends each request to the right program and the right version of it.",
            "Which program, in which version, answers this?",
            "A new version is all or nothing: no canary, no way back but another release.",
            ("05",),
        ),
        Box(
            "auth",
            "Authentication",
            "gateway",
            "Finds out who asks, and what that role may do, from a signed token or a key.",
            "Who are you, and are you allowed to?",
            "Anyone spends your money, and one customer can read another's data.",
            ("05",),
        ),
        Box(
            "limiter",
            "Rate limiter",
            "gateway",
            "Gives every client its share of requests and tokens, counted over all copies of the service.",
            "How much more may this client ask right now?",
            "One loop in one client uses up the model's quota, and everybody else gets errors.",
            ("05", "03"),
        ),
        Box(
            "application",
            "Application",
            "",
            "Your DSPy programs, running many requests at once with deadlines, streams and fallbacks.",
            "How is a good answer made, in time, when things go wrong?",
            "Requests wait for one another, half answers look whole, and retries make an outage worse.",
            ("03", "01"),
        ),
        Box(
            "modules",
            "Modules",
            "application",
            "Signatures, adapters and tools in a dspy.Module: the logic that turns a ticket into an answer.",
            "What do we ask the model, in what form, and what do we make of its reply?",
            "Prompts are strings scattered in the code; nothing can be tested, traced or optimised.",
            ("01", "00"),
        ),
        Box(
            "optimizer",
            "Optimizer",
            "application",
            "Improves prompts and demos by measured quality; a new version runs only when it is better.",
            "Is this version better than the one that runs now?",
            "Quality drifts as the questions change, and every edit of a prompt is a guess.",
            ("05", "04"),
        ),
        Box(
            "services",
            "Services",
            "",
            "The stateful parts that all copies of the application share.",
            "What must outlive one process?",
            "Every restart forgets everything, and two copies of the service disagree.",
            ("05",),
        ),
        Box(
            "cache",
            "Cache",
            "services",
            "Keeps answers already paid for, near and far: memory, then Redis, then disk.",
            "Have we answered this before, for this reader, and is it still true?",
            "You pay and wait for the same answer again and again; a popular question becomes a stampede.",
            ("02",),
        ),
        Box(
            "queue",
            "Queue",
            "services",
            "Holds work that need not be done while the user waits, until a worker takes it.",
            "What can be done later, and is it done exactly as often as it should be?",
            "Long jobs time out in the user's face, and a worker that dies takes its job with it.",
            ("05", "03"),
        ),
        Box(
            "database",
            "Database",
            "services",
            "Stores customers, orders, predictions and the audit log; the model reads through narrow tools.",
            "What do we know, and what did we answer to whom?",
            "Answers cannot be explained or erased afterwards, and the model has no facts to stand on.",
            ("01", "05"),
        ),
        Box(
            "model",
            "Language model",
            "",
            "The endpoint that completes prompts: here a simulator, or a real model when you choose one.",
            "What comes next, given this prompt, and at what price?",
            "There is no answer. It is slow, limited, priced and sometimes down: hence all the rest.",
            ("00", "02"),
        ),
        Box(
            "observability",
            "Observability",
            "",
            "Watches every part from the side, and must never slow it down or leak what it sees.",
            "What is happening, and why?",
            "The first to report a fault are your users, and nobody can say what changed.",
            ("04", "05"),
        ),
        Box(
            "metrics",
            "Metrics",
            "observability",
            "Counts over time, and alerts on them: requests, errors, percentiles, tokens, cost.",
            "How much, how fast, how often, and is that normal?",
            "A slow decline goes unseen until the bill or the complaints arrive.",
            ("05", "04"),
        ),
        Box(
            "traces",
            "Traces",
            "observability",
            "The path of one request through all parts, with times, prompts, tokens and cost for each step.",
            "Where did this one answer lose its time or its quality?",
            "You know that it is slow, never where.",
            ("04",),
        ),
        Box(
            "logs",
            "Logs",
            "observability",
            "What happened, one structured line each, without secrets or personal data.",
            "What exactly was done, and in which order?",
            "After an incident there is nothing to read, or there is a customer's address in it.",
            ("04", "05"),
        ),
    )
}


def facts(box: Box) -> list[tuple[str, str]]:
    """Return what is said about a box, as (heading, sentence), all but where it is built."""
    return [("What it does", box.does), ("The question it answers", box.asks), ("Without it", box.without)]


def as_text(highlight: str | None = None) -> str:
    """Return the architecture as an indented list in plain text."""
    lines = ["Architecture of a production DSPy system"]
    for box in BOXES.values():
        indent = "    " if box.group else "  "
        here = " (this notebook)" if box.key == highlight else ""
        lines.append(f"{indent}- {box.name}{here}: {box.does}")
        lines.append(f"{indent}  Built in notebook {', '.join(map(chapters.label, box.notebooks))}.")
    return "\n".join(lines)


def _entry(box: Box, highlight: str | None) -> str:
    here = " (this notebook)" if box.key == highlight else ""
    sentences = " ".join(f"<em>{heading}:</em> {escape(sentence)}" for heading, sentence in facts(box))
    built = ", ".join(escape(chapters.label(number)) for number in box.notebooks)
    return f"<strong>{escape(box.name)}{here}.</strong> {sentences} <em>Built in notebook:</em> {built}."


def as_list(highlight: str | None = None) -> str:
    """Return the architecture as an HTML list, parts inside their group."""
    items = []
    for box in BOXES.values():
        if box.group:
            continue
        parts = "".join(
            f"<li>{_entry(part, highlight)}</li>" for part in BOXES.values() if part.group == box.key
        )
        items.append(f"<li>{_entry(box, highlight)}{f'<ul>{parts}</ul>' if parts else ''}</li>")
    return f"<ul>{''.join(items)}</ul>"


def _as_values(box: Box) -> dict[str, Any]:
    """Return a box as the front end shows it, with links to the notebooks that lie beside this one."""
    return {
        "name": box.name,
        "facts": facts(box),
        "notebooks": [[chapters.label(number), chapters.link(number) or ""] for number in box.notebooks],
    }


@cache
def _widget_class() -> type[Any]:
    """Return the widget's class, made on first use so that its files are read once."""

    class Architecture(anywidget.AnyWidget):  # type: ignore[misc]
        """The picture in the notebook; `selected` is the key of the open box, or empty."""

        _esm = (_STATIC / "architecture.js").read_text(encoding="utf-8")
        _css = (_STATIC / "architecture.css").read_text(encoding="utf-8")
        drawing = traitlets.Unicode().tag(sync=True)
        listing = traitlets.Unicode().tag(sync=True)
        boxes = traitlets.Dict().tag(sync=True)
        selected = traitlets.Unicode("").tag(sync=True)

        def __init__(self, highlight: str | None) -> None:
            super().__init__(
                drawing=picture.draw(BOXES, highlight=highlight, is_clickable=True),
                listing=as_list(highlight),
                boxes={box.key: _as_values(box) for box in BOXES.values()},
                selected=highlight or "",
            )
            self._highlight = highlight

        def _repr_mimebundle_(self, **options: Any) -> Any:
            """Add a still picture and plain text, for viewers that run no widgets."""
            bundle = super()._repr_mimebundle_(**options)
            still = picture.draw(BOXES, highlight=self._highlight, is_clickable=False)
            static = {"text/plain": as_text(self._highlight), "text/html": still + as_list(self._highlight)}
            data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
            return {**data, **static}, metadata

    return Architecture


def architecture(highlight: str | None = None) -> Any:
    """Show the architecture; click a box, or Tab to it and press Enter, to read about it.

    Args:
        highlight: key of the box that this notebook builds; it is outlined, named and open from the start.

    Raises:
        UnknownBoxError: there is no such box.
    """
    if highlight is not None and highlight not in BOXES:
        raise UnknownBoxError(f"the architecture has no box {highlight!r}; choose one of: {', '.join(BOXES)}")
    return _widget_class()(highlight)
