"""Choosing from a closed set: a vote of the demos nearest to the input, and the words of the labels.

Main path: classify(field, work) -> Found. A demo votes for its label by its likeness to the input; a label
speaks for itself through its name, its description in the prompt, and everyday associations. How far the
labels' own words are trusted is learned from the demos: where they contradict them, the demos win.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from course_lib.lm.prompts import Field, Turn
from course_lib.lm.prompts.values import labelled
from course_lib.lm.skills import words
from course_lib.lm.skills.work import Found, Work

OWN = 1.0  # how much the labels' own words weigh before a demo is seen
GLOSS = 1.2  # how much a word of a label's description weighs against the label's name
DEFAULT = 0.3  # head start of a label that means "nothing special"
SHARE = 0.02  # how much a demo speaks for its label whatever the input, so that frequent labels are learned
STEPS, RATE, OWN_RATE = 12, 0.5, 0.1  # gradient steps on the demos
RELEVANT = 2.0  # how much more a feature that some label is about counts in likeness
KIND_WEIGHTS = {"@": 2.0, "~": 0.5}  # ideas and parts of words, against whole words
WEAK_DEMOS = 4  # how many demos sim-small keeps in mind

DEFAULT_LABELS = re.compile(
    r"normal|neutral|medium|average|standard|other|none|general|regular|ordinary", re.IGNORECASE
)

Vector = Mapping[str, float]


def classify(field: Field, work: Work) -> Found | None:
    """Choose one of the field's labels, or pass if it has none."""
    labels = closed_set(field, work.task.demos)
    if not labels:
        return None
    if said := _said_outright(field, labels, work):
        return said
    return choose(field.name, field.desc, labels, work)


def closed_set(field: Field, demos: Sequence[Turn]) -> tuple[Any, ...]:
    """Return the labels of a field: its enum, True and False, or short texts that the demos keep repeating."""
    options = [field.schema, *field.schema.get("anyOf", ())]
    for option in options:
        if "enum" in option:
            return tuple(option["enum"])
        if "const" in option:
            return (option["const"],)
    if any(option.get("type") == "boolean" for option in options):
        return (True, False)
    if field.schema.get("type") != "string" or "format" in field.schema:
        return ()
    if listed := _listed_choices(field.desc):
        return listed
    return _repeated(field.name, demos) if field.name not in ("answer", "reasoning") else ()


@lru_cache(maxsize=512)
def _listed_choices(desc: str) -> tuple[str, ...]:
    """Return the choices of a description such as `one of: red, green, blue`."""
    found = re.search(r"\b(?:one of|either|choose from|choices:|options:)[: ]+([^.\n]+)", desc, re.IGNORECASE)
    if not found:
        return ()
    parts = (part.strip(" `'\"()[]") for part in re.split(r",\s*(?:or\s+)?|/|\||;|\bor\b", found.group(1)))
    choices = tuple(dict.fromkeys(part for part in parts if part))
    return choices if len(choices) > 1 and all(len(choice.split()) <= 3 for choice in choices) else ()


def _repeated(name: str, demos: Sequence[Turn]) -> tuple[str, ...]:
    shown = [str(turn.outputs[name]) for turn in demos if name in turn.outputs]
    counts = Counter(shown)
    if len(shown) < 3 or len(counts) > len(shown) * 0.7 or any(len(text.split()) > 3 for text in counts):
        return ()
    return tuple(sorted(counts))


def _said_outright(field: Field, labels: Sequence[Any], work: Work) -> Found | None:
    """Take the label from a `name: label` line of the input, as in a text to extract fields from."""
    said = labelled(work.task.text, (field.name,)).get(field.name)
    if said is None:
        return None
    line = said.strip().split("\n", 1)[0].strip(" `'\".").lower()
    for label in labels:
        if str(label).lower() == line:
            return Found(label, f"the text says {field.name}: {label}")
    return None


def choose(name: str, desc: str, labels: Sequence[Any], work: Work) -> Found:
    """Choose the best of `labels` for the input, by demos and by the labels' own words."""
    return Found(*_choose(name, desc, labels, work.task.text, work))


def choose_label(name: str, desc: str, labels: Sequence[Any], text: str, work: Work) -> Any:
    """Choose the best of `labels` for a part of the input, as in a record."""
    return _choose(name, desc, labels, text, work)[0]


def _choose(name: str, desc: str, labels: Sequence[Any], text: str, work: Work) -> tuple[Any, str]:
    task = work.task
    key = tuple(str(label) for label in labels)
    glosses = _glosses(key, f"{desc}\n{task.spec.instructions}")
    demos = task.demos[-WEAK_DEMOS:] if work.weak else task.demos
    shown = tuple(
        (turn.text, str(label))
        for turn in demos
        if (label := _match(turn.outputs.get(name), key)) is not None
    )
    model = _learn(key, _about(name, desc) if key == ("True", "False") else "", glosses, shown, not work.weak)
    scores = model.scores(words.features(text, parts=not work.weak))
    by_text = dict(zip(key, labels, strict=True))
    chosen = work.pick(scores)
    return by_text[chosen], model.because(name, chosen, text)


def _match(shown: Any, key: Sequence[str]) -> str | None:
    """Return the label that a demo's output spells, however it is cased."""
    text = str(shown).strip().strip("\"'")
    if text in key:
        return text
    return next((label for label in key if label.lower() == text.lower()), None)


def _about(name: str, desc: str) -> str:
    return f"{name.replace('_', ' ')} {desc}"


@lru_cache(maxsize=512)
def _glosses(labels: tuple[str, ...], text: str) -> tuple[str, ...]:
    """Return for each label what the prompt says it means: the words after `label:`, `label =` or `label (`."""
    spelled = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    pattern = re.compile(
        rf"(?<![\w-])[`\"'*]*({spelled})[`\"'*]*\s*(?::|=|\(|–|—| - | means | is for | if | when )",
        re.IGNORECASE,
    )
    marks = list(pattern.finditer(text))
    glosses = dict.fromkeys(labels, "")
    lower = {label.lower(): label for label in labels}
    for at, mark in enumerate(marks):
        limit = marks[at + 1].start() if at + 1 < len(marks) else len(text)
        line_end = text.find("\n", mark.end())
        end = min(limit, line_end if line_end >= 0 else len(text))
        label = lower[mark.group(1).lower()]
        glosses[label] = f"{glosses[label]} {text[mark.end() : end]}".strip()
    return tuple(glosses[label] for label in labels)


class Model:
    """What one set of labels, descriptions and demos teaches; built once per prompt.

    A softmax regression in its dual form: it starts from what the labels mean and takes a few gradient steps
    on the demos, so that each demo speaks for its label in the measure of its likeness to the input, and how
    far the labels' own words count is learned too.
    """

    def __init__(
        self, labels: Sequence[str], about: str, glosses: Sequence[str], demos: Sequence[tuple[str, str]]
    ):
        self.labels = tuple(labels)
        self.demo_labels = [label for _, label in demos]
        self.demo_features = [words.features(text) for text, _ in demos]
        seen = Counter(feature for found in self.demo_features for feature in found)
        self.unknown = math.log(1 + (len(demos) + 1) / 0.5)
        self.idf = {
            feature: math.log(1 + (len(demos) + 1) / (count + 0.5)) for feature, count in seen.items()
        }
        self.meaning = self._meanings(about, glosses)
        self.units = [self._unit(found) for found in self.demo_features]
        self.index: dict[str, list[tuple[int, float]]] = {}
        for at, unit in enumerate(self.units):
            for feature, weight in unit.items():
                self.index.setdefault(feature, []).append((at, weight))
        self.own_scale = 1.0
        self.pull = [[0.0] * len(self.labels) for _ in demos]
        self._learn()

    def _unit(self, found: Vector) -> dict[str, float]:
        """Weigh features by kind and rarity, and scale to length 1."""
        weighted = {
            feature: weight
            * self.idf.get(feature, self.unknown)
            * KIND_WEIGHTS.get(feature[0], 1.0)
            * (RELEVANT if feature in self.meaning else 1.0)
            for feature, weight in found.items()
        }
        length = math.sqrt(sum(weight * weight for weight in weighted.values())) or 1.0
        return {feature: weight / length for feature, weight in weighted.items()}

    def _meanings(self, about: str, glosses: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """Return {feature: [(label, weight)]} for the words of the labels; what all labels share says nothing."""
        per_label: list[dict[str, float]] = []
        for label, gloss in zip(self.labels, glosses, strict=True):
            own = dict(words.features(label.replace("_", " ")))
            if about and label == "True":
                own.update(words.features(about))
            for feature, weight in words.features(gloss).items():
                own[feature] = own.get(feature, 0.0) + GLOSS * weight
            per_label.append(own)
        shared = Counter(feature for own in per_label for feature in own)
        meaning: dict[str, list[tuple[int, float]]] = {}
        for at, own in enumerate(per_label):
            for feature, weight in own.items():
                if shared[feature] < max(2, len(self.labels)):
                    meaning.setdefault(feature, []).append(
                        (at, weight * math.log(1 + len(self.labels) / shared[feature]))
                    )
        return meaning

    def own_words(self, found: Vector) -> list[float]:
        """Return for each label how strongly its own words speak for a text."""
        scores = [DEFAULT if DEFAULT_LABELS.fullmatch(label) else 0.0 for label in self.labels]
        for feature, weight in found.items():
            for at, meaning in self.meaning.get(feature, ()):
                scores[at] += weight * meaning
        return [OWN * score for score in scores]

    def likeness(self, unit: Vector) -> list[float]:
        """Return the likeness of each demo to a text, from 0 to 1."""
        alike = [0.0] * len(self.units)
        for feature, weight in unit.items():
            for at, other in self.index.get(feature, ()):
                alike[at] += weight * other
        return alike

    def _learn(self) -> None:
        if not self.demo_labels:
            return
        own = [self.own_words(found) for found in self.demo_features]
        kernel = [[SHARE + value for value in self.likeness(unit)] for unit in self.units]
        wanted = [self.labels.index(label) for label in self.demo_labels]
        shown = set(wanted)
        for _ in range(STEPS):
            misses = []
            for at, row in enumerate(kernel):
                chances = _softmax(self._joined(own[at], row))
                # A label that no demo shows is left to its own words, not taken for wrong.
                misses.append(
                    [
                        (wanted[at] == label) - chance if label in shown else 0.0
                        for label, chance in enumerate(chances)
                    ]
                )
            for at, miss in enumerate(misses):
                self.pull[at] = [pull + RATE * part for pull, part in zip(self.pull[at], miss, strict=True)]
            slope = sum(
                part * score
                for at, miss in enumerate(misses)
                for part, score in zip(miss, own[at], strict=True)
            )
            self.own_scale = min(max(self.own_scale + OWN_RATE * slope / len(misses), 0.0), 2.0)

    def _joined(self, own: Sequence[float], alike: Sequence[float]) -> list[float]:
        scores = [self.own_scale * score for score in own]
        for pull, value in zip(self.pull, alike, strict=True):
            for label, part in enumerate(pull):
                scores[label] += part * value
        return scores

    def scores(self, found: Vector) -> dict[str, float]:
        """Return a score for each label; the highest is the answer."""
        own = self.own_words(found)
        if self.demo_labels:
            alike = [SHARE + value for value in self.likeness(self._unit(found))]
            own = self._joined(own, alike)
        return dict(zip(self.labels, own, strict=True))

    def because(self, name: str, chosen: str, text: str) -> str:
        """Say in a sentence what the choice rests on."""
        found = words.features(text)
        if self.demo_labels:
            alike = self.likeness(self._unit(found))
            best = max(range(len(alike)), key=alike.__getitem__)
            if alike[best] > 0 and self.demo_labels[best] == chosen:
                shared = [f for f in self.demo_features[best] if f in found and f[0] not in "@~"][:3]
                told = f", sharing {_quoted(shared)}" if shared else ""
                return f"the input is most like an example with {name} {chosen}{told}"
        at = self.labels.index(chosen)
        hits = [
            feature for feature in found if any(label == at for label, _ in self.meaning.get(feature, ()))
        ]
        if plain := [feature for feature in hits if feature[0] not in "@~"][:3]:
            return f"{_quoted(plain)} in the input points to {name} {chosen}"
        if hits:
            return f"the words of the input are about {hits[0].lstrip('@~')}, which points to {name} {chosen}"
        return f"nothing in the input speaks for another {name} than {chosen}"


def _softmax(scores: Sequence[float]) -> list[float]:
    best = max(scores)
    powers = [math.exp(score - best) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


def _quoted(items: Sequence[str]) -> str:
    return ", ".join(f"'{item}'" for item in items)


@lru_cache(maxsize=256)
def _learn(
    labels: tuple[str, ...],
    about: str,
    glosses: tuple[str, ...],
    demos: tuple[tuple[str, str], ...],
    parts: bool,
) -> Model:
    return Model(labels, about, glosses, demos)
