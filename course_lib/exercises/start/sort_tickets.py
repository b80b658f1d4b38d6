"""Exercise 0.1, a program that sorts tickets: what it returns, and what the model's server saw of it.

Main path: EXERCISE -> engine.registry. Checks call the simulator, whichever model the learner chose, each
time with another text, so that a program that remembers answers, or whose model does, asks all the same.
Source: dspy.ChatAdapter (DSPy 3.4.1).
"""

from __future__ import annotations

import random
import re
from functools import partial
from typing import Any
from uuid import uuid4

import dspy

from course_lib import desk, lm
from course_lib.adapters.prompt import scripted
from course_lib.exercises.engine.checks import expect, expect_one_of
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted

_NAMES = "shipping", "returns", "billing", "account", "product", "warranty"
_PROSE = "I would call the customer back."
_FOREIGN = ("other", "kayak", "None", "unknown", "general", "shipping and returns", "", _PROSE)
"""Answers of a model that keeps to no list; the last is a whole reply, in which no field stands."""

_LISTS = {
    r"# note: .* one of: (.*)": r"[^;.\s`\"}][^;.\n`\"}]*",
    r"`category` \(Literal\[(.*?)\]\)": r"\w+",
    r"JSON schema: (.*)": r"\w+",
}
"""How DSPy shows what a field's type allows, and how a name looks there; a description can say anything."""


def _texts() -> list[str]:
    """Return the first development ticket of each category, made unlike all texts before."""
    first: dict[str, str] = {ticket.category: ticket.text.strip() for ticket in reversed(desk.tickets("dev"))}
    return [f"{first[name]}\n(message {uuid4().hex})" for name in _NAMES]


def _sorted(sort_ticket: Any, text: str, **settings: Any) -> tuple[Any, list[lm.Call]]:
    """Return the category that a text gets (of an enum's member, its value), and what was asked for it."""
    with dspy.context(**{"lm": lm.connect("sim-large", cache=False), **settings}):
        prediction, calls = counted(lambda: sort_ticket(ticket=text))
    fields = list(prediction.keys()) if hasattr(prediction, "keys") else []
    what = "the prediction has a field `category`"
    expect("category" in fields, what, observed=prediction, expected="a prediction with this field")
    return getattr(prediction["category"], "value", prediction["category"]), calls


def _prompts(calls: list[lm.Call]) -> str:
    return "\n".join(str(message.get("content", "")) for call in calls for message in call.messages)


def answers_what_the_model_says(sort_ticket: Any) -> None:
    """For each ticket the model is asked, and its answer, one of the six, is the program's."""
    is_program = callable(sort_ticket) and not isinstance(sort_ticket, type | desk.Triage)
    wanted = "something to call with ticket=..., and not the shop's desk.Triage"
    expect(is_program, "a program of your own", observed=sort_ticket, expected=wanted)
    for text in _texts():
        label, calls = _sorted(sort_ticket, text)
        expect_one_of(label, _NAMES, "every answer is one of the six categories, letter for letter")
        what, seen = "the server saw each ticket", f"{len(calls)} requests, none with the text {text!r:.50}"
        expect(text in _prompts(calls), what, observed=seen, expected="a request with the ticket's text")
        what, seen = "the program answers what the model said", f"{label!r}, from {calls[-1].reply!r:.200}"
        is_said = any(label in (call.reply or "") for call in calls)
        expect(is_said, what, observed=seen, expected="the category that stands in the reply")


def offers_all_six(sort_ticket: Any) -> None:
    """The type of the field, as the prompt shows it, allows the six categories and nothing else."""
    prompts = _prompts(_sorted(sort_ticket, f"Ohne Worte. {uuid4().hex}")[1])
    plain = re.sub(r'"(anyOf|type|enum)":|"string", +(?="enum")', "", prompts)
    found = [(re.findall(form, plain), word) for form, word in _LISTS.items()]
    lists = [sorted(re.findall(word, each)) for texts, word in found for each in texts]
    lists = [each for each in lists if {*each} >= {*_NAMES[:4]}]
    what, hint = "the six are what the field's type allows", "Compare your Literal with desk.CATEGORIES."
    seen, wanted = max(lists, key=len, default=re.findall(r"`category` .*", prompts)[:1]), sorted(_NAMES)
    expect(wanted in lists, what, observed=f"{seen}", expected=f"{wanted}", hint=hint)


def _expect_told(sort_ticket: Any, text: str, word: str, expected: str, hint: str) -> None:
    """Fail unless a text gets what a model says, be it `word`; or an error, where that is no category."""
    _, calls = _sorted(sort_ticket, f"{text} {uuid4().hex}")
    changed = partial(re.sub, "(?s).+" if word == _PROSE else "|".join(_NAMES), word)
    model, _ = scripted([changed(calls[-1].reply or "")] * 9)
    careless = dspy.ChatAdapter(use_json_adapter_fallback=False)  # a program may have a model of its own
    careless.parse = lambda form, reply, parse=careless.parse: parse(form, changed(reply))
    try:
        label, calls = _sorted(sort_ticket, f"{text} {uuid4().hex}", lm=model, adapter=careless)
        is_right = label in _NAMES and (label == word or any(label in (call.reply or "") for call in calls))
    except Exception as error:  # border: how a program refuses an answer is its own affair
        label, is_right = error, word not in _NAMES
    seen = f"category {label!r:.100}, when the model said {word!r} of {text!r:.60}..."
    expect(is_right, observed=seen, expected=expected, hint=hint)


def follows_the_model(sort_ticket: Any) -> None:
    """The answer is what the model says, whatever words are in the ticket."""
    for ticket in desk.tickets("dev"):
        for word in random.sample(_NAMES, 2):
            _expect_told(sort_ticket, ticket.text, word, repr(word), "The model decides, not a rule.")


def lets_nothing_else_through(sort_ticket: Any) -> None:
    """An answer that is none of the six does not come out as a category, whatever the model says."""
    wanted, hint = "an error: this one is made up", "A description asks the model; a type refuses as well."
    for foreign in _FOREIGN:
        _expect_told(sort_ticket, random.choice(_texts()), foreign, wanted, hint)


EXERCISE = Exercise(
    title="A program that sorts tickets",
    minutes=5,
    difficulty="easy",
    hints=(
        "Two steps are missing: an output field in the signature, and a module made from the signature.",
        "The type of the output field `category` lists the six names, as desk.Triage does above.",
        "dspy.Predict makes a program from a signature: that object is what you hand to check().",
    ),
    checks=(answers_what_the_model_says, offers_all_six, lets_nothing_else_through, follows_the_model),
    deadline_s=30.0,
    why="The type is the contract: it stands in the prompt, and refuses other answers. A str does neither.",
)
