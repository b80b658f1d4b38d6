"""Adapter X-ray: what an adapter writes, what the model replies, what is read from it, and what that costs.

Main path: xray() shows two adapters side by side; look(...) takes one picture, print() writes it.
Source: messages, tokens and money from the endpoint's ledger, so hidden second requests are in the picture.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from textwrap import indent
from typing import Any

import dspy
import ipywidgets as widgets

from course_lib import desk, lm
from course_lib.adapters.prompt.measuring import ADAPTERS, ReadTicket
from course_lib.adapters.prompt.script import quiet_dspy
from course_lib.desk.programs import AnswerFromArticles, SortTicket
from course_lib.errors import CourseError
from course_lib.labs.reading import INK, PRE, Rendered, show_messages, table
from course_lib.labs.widget import Lab, choice

MODELS = ("sim-large", "sim-small", "sim-large@sloppy", "sim-small@sloppy")
SIGNATURES: Mapping[str, Any] = {
    "flat: sort a ticket": SortTicket,
    "nested: read a ticket": ReadTicket,
    "citations: answer from articles": AnswerFromArticles,
}
OWN = "your own"

_INTRO = (
    "Choose a signature, two adapters and a model, then press Look. Each side shows every request that was "
    "made, with its messages and the raw reply, and what the program got in the end."
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One adapter at work on one request."""

    adapter: str
    ledger: lm.Ledger
    """The requests as the endpoint saw them."""
    outcome: str
    """What the program got: fields and values, or the error."""
    is_read: bool
    """Whether there was an answer in the end."""
    duration_ms: float

    def row(self) -> dict[str, Any]:
        """Return the figures, as table() shows them."""
        return {
            "adapter": self.adapter,
            "result": "read" if self.is_read else "not read",
            "requests": self.ledger.requests,
            "prompt tokens": self.ledger.prompt_tokens,
            "completion tokens": self.ledger.completion_tokens,
            "cost": f"${self.ledger.cost_usd:.6f}",
            "time": f"{self.duration_ms:.0f} ms",
        }

    def requests(self) -> dict[str, Rendered]:
        """Return each request's messages and raw reply, under a line that says which it is."""
        return {
            f"request {number} of {self.ledger.requests}: {call.prompt_tokens} tokens in, "
            f"{call.completion_tokens} out": show_messages(
                {"messages": call.messages, "reply": call.reply or f"(status {call.status}, no text)"}
            )
            for number, call in enumerate(self.ledger.calls, 1)
        }

    def __str__(self) -> str:
        parts = {line: shown.text for line, shown in self.requests().items()} | {"result": self.outcome}
        return "\n".join(f"{line}\n{indent(text, '  ')}" for line, text in parts.items())


def _own_signature(text: str) -> Any:
    """Read a learner's signature."""
    right = "write it as `ticket -> product, is_angry: bool`"
    try:
        made = dspy.Signature(text)
    except Exception as error:  # border: a learner's text, parsed by DSPy
        raise CourseError(f"the signature {text!r} cannot be read ({error}); {right}") from None
    if not made.input_fields or not made.output_fields:
        raise CourseError(f"the signature {text!r} needs an input and an output; {right}")
    return made


def _inputs(signature: Any, text: str) -> dict[str, Any]:
    """Put the text into the first text field, and articles that fit into `context`."""
    names = list(signature.input_fields)
    values: dict[str, Any] = dict.fromkeys(names, text)
    if "context" in names:
        values["context"] = [hit.article.chunk for hit in desk.search_articles(text, 2)]
    return values


def look(
    signature: str, adapter: str, model: str = "sim-large", *, text: str = "", own: str = "ticket -> summary"
) -> Picture:
    """Ask once, and return all there is to see.

    Args:
        signature: one of SIGNATURES, or `your own`, which is read from `own`.
        adapter: one of ADAPTERS.
        model: as `lm.connect` takes it.
        text: the input; the default is a ticket of the shop, or a question for the articles.
        own: a signature as a string.

    Raises:
        CourseError: the own signature cannot be read.
    """
    chosen = _own_signature(own) if signature == OWN else SIGNATURES[signature]
    model_lm = lm.connect(model, cache=False)
    since = lm.ledger().requests
    begun = time.perf_counter()
    try:
        with quiet_dspy(), dspy.context(lm=model_lm, adapter=ADAPTERS[adapter](model_lm)):
            answer = dspy.Predict(chosen)(**_inputs(chosen, text or sample(signature)))
        outcome, is_read = "\n".join(f"{name} = {value!r}" for name, value in answer.items()), True
    except Exception as error:  # border: whatever the adapter or the model raises belongs in the picture
        outcome, is_read = f"{type(error).__name__}: {str(error).strip()}", False
    duration_ms = (time.perf_counter() - begun) * 1000
    return Picture(adapter, lm.ledger(since=since), outcome, is_read, duration_ms)


def sample(signature: str) -> str:
    """Return an input that fits a signature."""
    if signature.startswith("citations"):
        return "How many days do I have to return an item?"
    if signature.startswith("nested"):
        return "I ordered 3 tents and 2 stoves but got only 1 stove."
    return desk.tickets("dev")[0].text


def side_by_side(left: Picture, right: Picture) -> Rendered:
    """Show two pictures: their figures in a table, and below it one column each."""
    figures = table([left.row(), right.row()], caption="What it took")
    columns = "".join(_column(side, picture) for side, picture in (("left", left), ("right", right)))
    html = (
        f'<div style="{INK}">{figures.html}'
        f'<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">{columns}</div></div>'
    )
    text = "\n\n".join([figures.text, f"== {left.adapter}\n{left}", f"== {right.adapter}\n{right}"])
    return Rendered(html, text)


def _column(side: str, picture: Picture) -> str:
    label = escape(f"{picture.adapter}Adapter")
    requests = "".join(
        f'<details open><summary style="cursor:pointer;padding:4px 0">{line}</summary>{shown.html}</details>'
        for line, shown in picture.requests().items()
    )
    verdict = "what the program got" if picture.is_read else "the program got an error"
    border = "2px solid var(--jp-brand-color1, #1976d2)" if picture.is_read else "2px dashed currentColor"
    return (
        f'<section aria-label="{label}, {side}" style="flex:1 1 22em;min-width:0;line-height:1.5">'
        f'<h4 style="margin:10px 0 4px;color:inherit">{label}</h4>{requests or "<p>No request was made.</p>"}'
        f'<div style="border:{border};border-radius:6px;margin:6px 0;padding:6px 12px">'
        f'<strong>{verdict}</strong><pre style="{PRE}">{escape(picture.outcome)}</pre></div></section>'
    )


class XRay(Lab):
    """The lab in the notebook."""

    def __init__(self) -> None:
        rows = self.signature, self.left, self.right, self.model = [
            choice(label, {name: name for name in offered}, first, label_width="6em")
            for label, first, offered in (
                ("signature", "flat: sort a ticket", [*SIGNATURES, OWN]),
                ("left", "Chat", ADAPTERS),
                ("right", "JSON", ADAPTERS),
                ("model", "sim-large", MODELS),
            )
        ]
        looks = {"layout": {"width": "49em", "max_width": "100%"}, "style": {"description_width": "6em"}}
        self.own = widgets.Text(description=OWN, value="ticket -> product, is_angry: bool", **looks)
        self.text = widgets.Textarea(description="input", value=sample(self.signature.value), rows=3, **looks)
        self.button = widgets.Button(description="Look", tooltip="Ask the model through both adapters")
        self.signature.observe(self._changed, "value")
        self.button.on_click(lambda _: self.look())
        super().__init__(_INTRO, [rows[0], self.own, *rows[1:], self.text, self.button])
        self._changed()
        self.look()

    def _changed(self, change: Mapping[str, Any] | None = None) -> None:
        """Show the field for an own signature where it is needed, and an input that fits."""
        self.own.layout.display = "" if self.signature.value == OWN else "none"
        if change is not None and self.text.value == sample(change["old"]):
            self.text.value = sample(self.signature.value)

    def look(self) -> None:
        """Ask through both adapters and show what was seen; say in a line what came of it."""
        self.button.disabled = True
        self.say("Asking …")
        chosen = {"text": self.text.value, "own": self.own.value}
        try:
            pictures = [
                look(self.signature.value, adapter.value, self.model.value, **chosen)
                for adapter in (self.left, self.right)
            ]
        except CourseError as error:
            self.say(str(error))
        else:
            self.show(side_by_side(*pictures))
            self.say(
                "; ".join(
                    f"{p.adapter}: {p.row()['result']}, requests: {p.ledger.requests}" for p in pictures
                )
            )
        finally:
            self.button.disabled = False


def xray() -> XRay:
    """Show the lab, with a first look taken; choose with the mouse, or with Tab and Enter."""
    return XRay()
