"""Choosing from a closed set: which labels a field has, and which of them the learner gives to the input.

Main path: classify(field, work) -> Result; how demos and the labels' own words are weighed: learner.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from course_lib.lm.simulator.prompts import Field, Turn
from course_lib.lm.simulator.skills.learner import Learner, Meaning
from course_lib.lm.simulator.skills.limits import limited
from course_lib.lm.simulator.skills.rules import read_rules, read_ways
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text, is_reasoning

WEAK_DEMOS = 4  # how many demos sim-small keeps in mind


def classify(field: Field, work: Work) -> Result | None:
    """Choose one of the field's labels, or pass if it has none."""
    alone = sum(not is_reasoning(other) for other in work.task.spec.outputs) == 1
    labels = closed_set(field, work.task.demos) or (
        _listed_choices(work.task.spec.instructions) if alone and is_free_text(field) else ()
    )
    if not labels:
        return None
    return choose(field.name, field.desc, labels, work.task.text, work)


_DEGREES = {
    r"urgency|priority|severity|importance": ("low", "medium", "high"),
    r"sentiment|mood|polarity": ("negative", "neutral", "positive"),
}
_JUDGES = re.compile(
    rf"(?:\w+_)?(?:{'|'.join(_DEGREES)}|category|topic|type|kind|status|department|intent|class|label)(?:_(?:level|score))?"
)


def judges(path: Sequence[str]) -> bool:
    """Say whether a field asks for a judgement of the text: no id and no amount that stands in it."""
    return len(path) == 1 and _JUDGES.fullmatch(path[0]) is not None


def by_degree(field: Field, work: Work) -> Result | None:
    """Tell how urgent or how pleased a text is, for a field without labels."""
    is_number = field.schema.get("type") in ("integer", "number")
    labels = next((labels for names, labels in _DEGREES.items() if re.search(names, field.name)), ())
    if not labels or not (is_number or is_free_text(field)) or not judges((field.name,)):
        return None
    chosen = choose(field.name, field.desc, labels, work.task.text, work)
    low, high = (-1, 1) if "neutral" in labels else (1, 5)
    degree = low + labels.index(chosen.value) * (high - low) / 2
    return Result(limited(field.schema, degree), chosen.because) if is_number else chosen


def closed_set(field: Field, demos: Sequence[Turn]) -> tuple[Any, ...]:
    """Return the labels of a field: its enum, True and False, or texts that the demos keep repeating."""
    options = [field.schema, *field.schema.get("anyOf", ())]
    for option in options:
        if "enum" in option:
            return tuple(option["enum"])
        if "const" in option:
            return (option["const"],)
    if any(option.get("type") == "boolean" for option in options):
        return (False, True)
    if field.schema.get("type") != "string" or "format" in field.schema:
        return ()
    if listed := _listed_choices(field.desc):
        return listed
    return _repeated(field.name, demos) if field.name not in ("answer", "reasoning") else ()


_ITEM = r"[\w-]+(?: [\w-]+)?"
_LIST = re.compile(rf"({_ITEM}(?:(?:, |\s?[|/]\s?){_ITEM})+(?:,? or {_ITEM}|[|/]\s?{_ITEM}))")
"""A description that is a list of three or more: `low, normal or high`."""


@lru_cache(maxsize=512)
def _listed_choices(desc: str) -> tuple[str, ...]:
    """Return the choices of a description such as `one of: red, green, blue`."""
    match = re.search(
        r"\b(?:one of|one word|either|choose from|choices:|options:)[: ]+([^.\n]+)", desc, re.IGNORECASE
    ) or _LIST.fullmatch(desc.strip(" ."))
    if not match:
        return ()
    parts = (part.strip(" `'\"()[]") for part in re.split(r",\s*(?:or\s+)?|/|\||;|\bor\b", match.group(1)))
    choices = tuple(dict.fromkeys(part for part in parts if part))
    are_choices = len(choices) > 1 and all(len(choice.split()) <= 3 for choice in choices)
    return choices if are_choices and not match[1].lower().startswith(("the ", "these", "your")) else ()


def _repeated(name: str, demos: Sequence[Turn]) -> tuple[str, ...]:
    outputs = [str(turn.outputs[name]) for turn in demos if name in turn.outputs]
    counts = Counter(outputs)
    if len(outputs) < 3 or len(counts) > len(outputs) * 0.7 or any(len(text.split()) > 3 for text in counts):
        return ()
    return tuple(sorted(counts))


def choose(name: str, desc: str, labels: Sequence[Any], text: str, work: Work) -> Result:
    """Choose the best of `labels` for a text of the input, by demos and by the labels' own words."""
    task = work.task
    key = tuple(str(label) for label in labels)
    demos = task.demos[-WEAK_DEMOS:] if work.weak else task.demos
    learner = _taught((name, desc, task.spec.instructions), key, demos, weak=work.weak)
    scores = learner.scores(text)
    chosen = work.pick(scores)
    explains = any(is_reasoning(field) for field in task.spec.outputs)
    because = learner.because(name, chosen, text) if explains else ""
    return Result(labels[key.index(chosen)], because)


@lru_cache(maxsize=512)
def _taught(
    described: tuple[str, str, str], key: tuple[str, ...], demos: tuple[Turn, ...], *, weak: bool
) -> Learner:
    """Return the learner of a field's labels, given its name, description and the prompt's instructions.

    Demos are told apart by identity, so that finding a learner again costs next to nothing.
    """
    name, desc, instructions = described
    examples = tuple(
        (turn.text, str(label))
        for turn in demos
        if (label := _match(turn.outputs.get(name), key)) is not None
    )
    about = _about(name, desc) if key == ("False", "True") else ""
    return Learner(_meaning(key, about, f"{desc}\n{instructions}", weak=weak), examples)


@lru_cache(maxsize=256)
def _meaning(key: tuple[str, ...], about: str, said: str, *, weak: bool) -> Meaning:
    return Meaning(key, about, read_rules(said, key), read_ways(said), weak=weak)


def _about(name: str, desc: str) -> str:
    """Return what is true of a text for which a field of True and False is True."""
    parts = (_ASKS.sub("", part) for part in (name.replace("_", " "), desc.lower().strip(" .?")))
    return " ; ".join(part for part in parts if part)


_ASKS = re.compile(
    r"^(?:(?:true|yes|whether|if|is|are|was|has|have|does|do|did|should|needs?|contains?|mentions?|the|this|that|it|a|an"
    r"|text|message|ticket|customer|writer|author|e-?mail|sentence|review)\b[ ,:]*)+",
    re.IGNORECASE,
)


def _match(output: Any, key: Sequence[str]) -> str | None:
    """Return the label that a demo's output spells, however it is cased."""
    text = str(output).strip().strip("\"'")
    if text in key:
        return text
    return next((label for label in key if label.lower() == text.lower()), None)
