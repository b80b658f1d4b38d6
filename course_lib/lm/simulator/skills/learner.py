"""Learning from the demos of one prompt which label a text gets.

Main path: Learner(labels, about, glosses, demos).scores(features of a text) -> {label: score}.

A softmax regression in its dual form. It starts from what the labels mean (their names, what the prompt
says of them, everyday associations) and takes a few gradient steps on the demos. So each demo speaks for its
label in the measure of its likeness to the input, a demo that the labels' own words explain already says
little, and how far those words count is learned too: demos that contradict them win.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import mul

from course_lib.lm.simulator.skills import words

# Set on the desk's train and dev tickets, never on its test tickets.
OWN = 1.2  # how much the labels' own words weigh before a demo is seen
GLOSS = 1.2  # how much a word of a label's description weighs against the label's name
DEFAULT = 0.3  # head start of a label that means "nothing special"
SHARE = 0.01  # how much a demo speaks for its label whatever the input, so that frequent labels are learned
STEPS, RATE = 12, 0.5  # gradient steps on the demos
DOUBT = (0.0, 0.15)  # what the demos must show before these weights grow
SCALE_RATES = (0.1, 0.3)  # how fast the weight of own words, and of loose ideas, is learned
RELEVANT = 2.0  # how much more a feature that some label is about counts in likeness
KIND_WEIGHTS = {"@": 2.0, "~": 0.5}  # ideas and parts of words, against whole words

_DEFAULT_LABELS = re.compile(
    r"normal|neutral|medium|average|standard|other|none|general|regular|ordinary", re.IGNORECASE
)

Vector = Mapping[str, float]


class Learner:
    """What one set of labels, descriptions and demos teaches; built once per prompt."""

    def __init__(
        self,
        labels: Sequence[str],
        about: str,
        glosses: Sequence[str],
        demos: Sequence[tuple[str, str]],
        *,
        parts: bool = True,
    ) -> None:
        self.labels = tuple(labels)
        self.demo_labels = [label for _, label in demos]
        self.demo_features = [words.features(text, parts=parts) for text, _ in demos]
        self.meaning = _meanings(self.labels, about, tuple(glosses))
        self.loose = _loose_meanings(self.labels)
        self.defaults = [OWN * DEFAULT if _DEFAULT_LABELS.fullmatch(label) else 0.0 for label in self.labels]
        seen = Counter(feature for features in self.demo_features for feature in features)
        self.unknown = math.log(1 + (len(demos) + 1) / 0.5)
        self.gain = {
            feature: math.log(1 + (len(demos) + 1) / (count + 0.5))
            * KIND_WEIGHTS.get(feature[0], 1.0)
            * (RELEVANT if feature in self.meaning or feature in self.loose else 1.0)
            for feature, count in seen.items()
        }
        self.index: dict[str, list[tuple[int, float]]] = {}
        for at, features in enumerate(self.demo_features):
            gained = {feature: weight * self.gain[feature] for feature, weight in features.items()}
            length = math.sqrt(sum(weight**2 for weight in gained.values())) or 1.0
            for feature, weight in gained.items():
                self.index.setdefault(feature, []).append((at, weight / length))
        # Of the labels' own words; of what they loosely stand for, once demos show it.
        self.scales = [1.0, 0.0]
        self.columns = [[0.0] * len(demos) for _ in self.labels]  # the pull of each demo towards each label
        self._learn()

    def own_words(self, features: Vector) -> tuple[list[float], list[float]]:
        """Return for each label how its own words, and what it loosely stands for, speak for a text."""
        direct = list(self.defaults)
        loosely = [0.0] * len(self.labels)
        # Most features of a text mean nothing to the labels: filter() passes them over at little cost.
        for feature in filter(self.meaning.__contains__, features):
            weight = features[feature]
            for at, known in self.meaning[feature]:
                direct[at] += weight * known
        for feature in filter(self.loose.__contains__, features):
            for at in self.loose[feature]:
                loosely[at] += features[feature] * OWN
        return direct, loosely

    def likeness(self, features: Vector) -> list[float]:
        """Return the likeness of each demo to a text, from 0 to 1."""
        alike = [0.0] * len(self.demo_labels)
        known_weights = known_squared = 0.0
        gain, index = self.gain, self.index
        for feature in filter(gain.__contains__, features):
            weight = features[feature]
            known_weights += weight * weight
            weight *= gain[feature]
            known_squared += weight * weight
            for at, other in index[feature]:
                alike[at] += weight * other
        unseen = max(sum(map(mul, features.values(), features.values())) - known_weights, 0.0)
        length = math.sqrt(known_squared + unseen * self.unknown**2) or 1.0
        return [value / length for value in alike]

    def _learn(self) -> None:
        if not self.demo_labels:
            return
        own = [self.own_words(features) for features in self.demo_features]
        kernel = [[SHARE + value for value in self.likeness(features)] for features in self.demo_features]
        wanted = [self.labels.index(label) for label in self.demo_labels]
        shown_labels = set(wanted)
        for _ in range(STEPS):
            # A label that no demo shows is left to its own words, not taken for wrong.
            misses = [
                [
                    (wanted[at] == label) - chance if label in shown_labels else 0.0
                    for label, chance in enumerate(_softmax(self._joined(own[at], row)))
                ]
                for at, row in enumerate(kernel)
            ]
            for label, column in enumerate(self.columns):
                self.columns[label] = [
                    pull + RATE * miss[label] for pull, miss in zip(column, misses, strict=True)
                ]
            for which, scale in enumerate(self.scales):
                slope = sum(
                    part * score
                    for miss, scores in zip(misses, own, strict=True)
                    for part, score in zip(miss, scores[which], strict=True)
                )
                step = SCALE_RATES[which] * (slope / len(misses) - DOUBT[which])
                self.scales[which] = min(max(scale + step, 0.0), 2.0)

    def _joined(self, own: tuple[list[float], list[float]], alike: Sequence[float]) -> list[float]:
        direct, loosely = self.scales
        scores = [direct * named + loosely * meant for named, meant in zip(*own, strict=True)]
        pulls = (sum(map(mul, column, alike)) for column in self.columns)
        return [score + pull for score, pull in zip(scores, pulls, strict=True)] if alike else scores

    def scores(self, features: Vector) -> dict[str, float]:
        """Return a score for each label; the highest is the answer."""
        alike = [SHARE + value for value in self.likeness(features)] if self.demo_labels else []
        return dict(zip(self.labels, self._joined(self.own_words(features), alike), strict=True))

    def because(self, name: str, chosen: str, text: str) -> str:
        """Say in a sentence what the choice rests on."""
        features = words.features(text)
        if self.demo_labels:
            alike = self.likeness(features)
            best = max(range(len(alike)), key=alike.__getitem__)
            if alike[best] > 0 and self.demo_labels[best] == chosen:
                shared = [f for f in self.demo_features[best] if f in features and f[0] not in "@~"][:3]
                sharing = f", sharing {_quoted(shared)}" if shared else ""
                return f"the input is most like an example with {name} {chosen}{sharing}"
        at = self.labels.index(chosen)
        hits = [feature for feature in features if at in dict(self.meaning.get(feature, ()))]
        if plain := [feature for feature in hits if feature[0] not in "@~"][:3]:
            return f"{_quoted(plain)} in the input points to {name} {chosen}"
        if ideas := [feature[1:] for feature in hits if feature[0] == "@"]:
            idea = ideas[0].replace("_", " ")
            return f"the words of the input are about {idea}, which points to {name} {chosen}"
        return f"nothing in the input speaks for another {name} than {chosen}"


@lru_cache(maxsize=256)
def _meanings(
    labels: tuple[str, ...], about: str, glosses: tuple[str, ...]
) -> dict[str, list[tuple[int, float]]]:
    """Return {feature: [(label, weight)]} of the labels' words; what all labels share says nothing."""
    per_label: list[dict[str, float]] = []
    for label, gloss in zip(labels, glosses, strict=True):
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
            if shared[feature] < max(2, len(labels)):
                rarity = math.log(1 + len(labels) / shared[feature])
                meaning.setdefault(feature, []).append((at, OWN * weight * rarity))
    return meaning


@lru_cache(maxsize=256)
def _loose_meanings(labels: tuple[str, ...]) -> dict[str, list[int]]:
    """Return {feature: [label]} for the ideas that a label may stand for without naming them."""
    loose: dict[str, list[int]] = {}
    for at, label in enumerate(labels):
        for idea in words.loose_ideas(label.replace("_", " ")):
            loose.setdefault(idea, []).append(at)
    return loose


def _softmax(scores: Sequence[float]) -> list[float]:
    best = max(scores)
    powers = [math.exp(score - best) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


def _quoted(items: Sequence[str]) -> str:
    return ", ".join(f"'{item}'" for item in items)
