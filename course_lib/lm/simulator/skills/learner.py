"""Learning from one prompt which label a text gets: from the labels' meaning, its rules and its demos.

Main path: Learner(labels, about, rules, demos).scores(text) -> {label: score}.

A softmax regression in its dual form. It starts from what the labels mean: the vectors and the words of their
names, or of the conditions that the instructions give them. Then it takes gradient steps on the demos. So
each demo speaks for its label in the measure of its likeness to the text, a demo that the labels' own meaning
explains already says little, and how far that meaning counts is learned too: demos that contradict it win.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from course_lib.lm import encoder
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.polarity import degrees, direction, is_mixed, polarity, side
from course_lib.lm.simulator.skills.rules import REST, Rule

# Set on the desk's train and dev tickets and on two other small tasks, never on the desk's test tickets.
NEAR = 12.0  # how much nearness in meaning weighs
WORDS = 0.4  # how much the words of a label and of its conditions weigh
IDEAS, MANNERS = 1.5, 7.5  # how much more an idea weighs that both are about, or a manner of writing
NAME_WORDS = 1.0  # how much the words and ideas of a label's name count against those of its conditions
SHORT = 3.0  # words of a condition that count in full
NAMED = 0.7  # nearness to a name alone, against nearness to a condition
ALSO_NAMED = 0.5  # how much nearness to a label's name adds to that to its conditions
EXCEPTION, EXCEPTION_FROM, EXCEPTION_LEAST = (3.0, 0.25, -0.02)
"""Nearness to a rule where not all labels have one: how much it weighs, from where on, and at least."""
SHARPNESS = 10.0  # how much the nearest part of a condition counts against its other parts
REST_NEARNESS = 0.3  # nearness of any text to "everything else"
NOT_NEARNESS = 0.13  # nearness of a text that is not what a field of True and False asks
DEFAULT = 0.3  # head start of a label that means "nothing special"
AGAINST, AGAINST_FROM = 2.0, 0.25  # how much an exception counts, and from which nearness on
PREFERRED = 0.5  # head start of a label that the instructions prefer to others
NEUTRAL = 0.6  # polarity below which a text is rather neutral, doubled
PRESSING, USUAL, SHIFT = (
    2.0,
    0.6,
    0.2,
)  # how much urgency counts; half the width of the middle; what "in doubt" shifts
DEGREES = frozenset(
    ("degrees", "lower", "higher", "middle")
)  # ways to read that ask for how urgent a text is
FEELING = 3.0  # how much a kind or an unkind word speaks for a label that names praise or blame
SHARE = 0.03  # how much a demo speaks for its label whatever the text, so that frequent labels are learned
LIKE, LIKE_FROM, SAME_WORDS = 1.0, 0.1, 0.4  # a demo's likeness: in meaning, from which nearness on, in words
SHOWN = 12.0  # how much likeness to a label's demos weighs before anything is learned from them
TRUST = 0.6  # how much demos count at least that the labels' meaning explains
STEPS, RATE, SCALE_RATE = 16, 0.3, 1.0  # gradient steps on the demos
KIND_WEIGHTS = {"@": 2.0, "~": 0.5}  # ideas and parts of words, against whole words
WEAK_DIMENSIONS = 96  # what sim-small has of a vector

_DEFAULT_LABELS = re.compile(
    r"normal|neutral|medium|average|standard|others?|none|general|regular|ordinary|mixed|misc\w*",
    re.IGNORECASE,
)

Array = NDArray[np.float64]
Features = Mapping[str, float]


class Meaning:
    """What labels mean before any demo is seen."""

    def __init__(
        self,
        labels: Sequence[str],
        about: str,
        rules: Sequence[Rule],
        ways: frozenset[str],
        *,
        weak: bool,
    ) -> None:
        self.labels, self.weak, self._ways = tuple(labels), weak, ways
        ruled = {rule.label for rule in rules if rule.weight > 0}
        named = {label: label.replace("_", " ") for label in labels} | ({"True": about} if about else {})
        self.sides = np.array([side(named.get(label, label)) for label in labels])
        self._feels = {1, -1} <= set(self.sides.tolist()) or bool(about and self.sides.any())
        self._degrees = np.array(degrees(labels) if ways & DEGREES else ())
        self.rules = [rule for rule in rules if rule.condition not in ("", REST)]
        if not self._feels and not self._degrees.size:
            unruled = (pair for pair in named.items() if pair[0] not in ruled and pair[1] != "False")
            self.rules += [Rule(label, name, NAMED) for label, name in unruled]
        rests = {rule.label: REST_NEARNESS for rule in rules if rule.condition == REST}
        rests = {"False": NOT_NEARNESS} | rests if about else rests
        self._floors = np.array([rests.get(label, -np.inf) for label in labels])
        self._starts = np.array([DEFAULT if _DEFAULT_LABELS.fullmatch(label) else 0.0 for label in labels])
        for rule in rules:
            if not rule.condition:
                self._starts[self.labels.index(rule.label)] += PREFERRED
        self._named = [
            at
            for at, label in enumerate(labels)
            if label in ruled and not (self._feels or about or self._degrees.size)
        ]
        self._is_complete = set(labels) <= ruled | rests.keys()
        self._names = encoded([named[labels[at]] for at in self._named], weak=weak)
        phrases = [phrase for rule in self.rules for phrase in rule.phrases]
        self._phrases = encoded(phrases, weak=weak)
        self._words = _words_of(
            self.labels, tuple((r.label, r.condition) for r in self.rules if r.weight > 0)
        )

    def own(self, texts: Sequence[str], features: Sequence[Features]) -> Array:
        """Return how the labels' own meaning speaks for texts: a row a text, a column a label."""
        scores: Array = self._starts + NEAR * self._nearness(texts)
        for row, of_text in zip(scores, features, strict=True):
            for feature in filter(self._words.__contains__, of_text):
                for at, weight in self._words[feature]:
                    row[at] += WORDS * of_text[feature] * weight
        if self._feels:
            felt = np.clip([[polarity(text)] for text in texts], -1.0, 1.0)
            scores += FEELING * (self.sides * felt + (self.sides == 0) * (NEUTRAL - abs(felt)))
            if "mixed" in self.labels:
                scores[:, self.labels.index("mixed")] = [
                    FEELING * (1.0 if is_mixed(text) else -NEUTRAL) + row.max()
                    for text, row in zip(texts, scores, strict=True)
                ]
        if self._degrees.size:
            scores += self._urgency(texts)
        return scores

    def _urgency(self, texts: Sequence[str]) -> Array:
        vectors = encoded(texts, weak=self.weak)
        urgent = vectors @ direction("urgency", vectors.shape[1])[:, None]
        urgent = urgent + SHIFT * (("higher" in self._ways) - ("lower" in self._ways))
        usual = USUAL + SHIFT * ("middle" in self._ways)
        scores: Array = PRESSING * (2 * self._degrees * urgent + (self._degrees == 0) * (usual - abs(urgent)))
        return scores

    def nearest(self, texts: Sequence[str]) -> Array:
        """Return the nearness of texts to each rule's condition, in which the nearest part counts most."""
        if not self.rules:
            return np.zeros((len(texts), 0))
        sizes = np.array([len(rule.phrases) for rule in self.rules])
        powers = np.exp(SHARPNESS * (encoded(texts, weak=self.weak) @ self._phrases.T))
        nearness: Array = (
            np.log(np.add.reduceat(powers, np.cumsum(sizes) - sizes, axis=1) / sizes) / SHARPNESS
        )
        return nearness

    def _nearness(self, texts: Sequence[str]) -> Array:
        best = np.full((len(texts), len(self.labels)), -np.inf)
        against = np.zeros(best.shape)
        for rule, near in zip(self.rules, self.nearest(texts).T, strict=True):
            at = self.labels.index(rule.label)
            if rule.weight > 0:
                best[:, at] = np.maximum(best[:, at], near * rule.weight)
            else:
                against[:, at] += AGAINST * np.maximum(near - AGAINST_FROM, 0.0)
        best = np.maximum(best, self._floors)
        if not self._is_complete:  # what the rules do not speak of is left to the names
            best[:, self._named] = EXCEPTION * np.maximum(
                best[:, self._named] - EXCEPTION_FROM, EXCEPTION_LEAST
            )
        nearness: Array = np.where(np.isinf(best), 0.0, best) - against
        if self._named:
            weight = ALSO_NAMED if self._is_complete else NAMED
            nearness[:, self._named] += weight * (encoded(texts, weak=self.weak) @ self._names.T)
        return nearness


class Learner:
    """What one set of labels, rules and demos teaches; built once per prompt."""

    def __init__(self, meaning: Meaning, demos: Sequence[tuple[str, str]]) -> None:
        self.meaning = meaning
        self.labels = meaning.labels
        self.demo_labels = [label for _, label in demos]
        self.demo_features = [self._features(text) for text, _ in demos]
        self._vectors = encoded([text for text, _ in demos], weak=meaning.weak)
        seen = Counter(feature for features in self.demo_features for feature in features)
        self._unknown = math.log(1 + (len(demos) + 1) / 0.5)
        self._gain = {
            feature: math.log(1 + (len(demos) + 1) / (count + 0.5)) * KIND_WEIGHTS.get(feature[0], 1.0)
            for feature, count in seen.items()
        }
        self._index: dict[str, list[tuple[int, float]]] = {}
        for at, features in enumerate(self.demo_features):
            length = (
                math.hypot(*(weight * self._gain[feature] for feature, weight in features.items())) or 1.0
            )
            for feature, weight in features.items():
                self._index.setdefault(feature, []).append((at, weight * self._gain[feature] / length))
        self._labelled = np.array(
            [[label == other for other in self.labels] for label in self.demo_labels], float
        )
        self._pulls = np.zeros((len(demos), len(self.labels)))
        self._trust = 1.0  # of the demos themselves
        self._scale = 1.0  # of the labels' own meaning
        if demos:
            self._learn([text for text, _ in demos])
        self.scores = lru_cache(maxsize=512)(self._scores)

    def _features(self, text: str) -> Features:
        return words.features(text, parts=not self.meaning.weak)

    def _likeness(self, texts: Sequence[str], features: Sequence[Features]) -> Array:
        """Return the likeness of texts to each demo, in words and in meaning: a row a text."""
        alike = np.zeros((len(texts), len(self.demo_labels)))
        for row, of_text in zip(alike, features, strict=True):
            squared = 0.0
            for feature, weight in of_text.items():
                gained = weight * self._gain.get(feature, self._unknown)
                squared += gained * gained
                for at, other in self._index.get(feature, ()):
                    row[at] += gained * other
            row /= math.sqrt(squared) or 1.0
        near = np.maximum(encoded(texts, weak=self.meaning.weak) @ self._vectors.T - LIKE_FROM, 0.0)
        likeness: Array = SAME_WORDS * alike + LIKE * near + SHARE
        return likeness

    def _shown(self, alike: Array, *, themselves: bool = False) -> Array:
        """Return for each label how its demos speak for a text; one without demos gets the mean."""
        counted = np.ones(alike.shape) - np.eye(len(alike)) if themselves else np.ones(alike.shape)
        counts = counted @ self._labelled
        sums = (np.exp(SHARPNESS * alike) * counted) @ self._labelled
        has = counts > 0
        scores = SHOWN / SHARPNESS * np.log(np.where(has, sums, 1.0) / np.where(has, counts, 1.0))
        means = scores.sum(1, keepdims=True) / np.maximum(has.sum(1, keepdims=True), 1)
        shown: Array = np.where(has, scores, means)
        return shown

    def _learn(self, texts: Sequence[str]) -> None:
        own = self.meaning.own(texts, self.demo_features)
        kernel = self._likeness(texts, self.demo_features)
        self._trust = max(float((own.argmax(1) != self._labelled.argmax(1)).mean()), TRUST)
        shown = self._trust * self._shown(kernel, themselves=True)
        seen = self._labelled.any(
            0
        )  # a label that no demo shows is left to its own meaning, not taken for wrong
        for _ in range(STEPS):
            misses = (self._labelled - _softmax(self._scale * own + shown + kernel @ self._pulls)) * seen
            self._pulls += RATE * misses
            self._scale = min(max(self._scale + SCALE_RATE * float((misses * own).sum(1).mean()), 0.0), 1.5)

    def _scores(self, text: str) -> dict[str, float]:
        features = [self._features(text)]
        scores = self._scale * self.meaning.own([text], features)
        if self.demo_labels:
            alike = self._likeness([text], features)
            scores = scores + self._trust * self._shown(alike) + alike @ self._pulls
        return dict(zip(self.labels, scores[0].tolist(), strict=True))

    def because(self, name: str, chosen: str, text: str) -> str:
        """Say in a sentence what the choice rests on."""
        if self.demo_labels:
            alike = self._likeness([text], [self._features(text)])[0]
            if self.demo_labels[int(alike.argmax())] == chosen:
                return f"the input is most like an example with {name} {chosen}"
        near = zip(self.meaning.nearest([text])[0].tolist(), self.meaning.rules, strict=True)
        own = [(n, rule.condition) for n, rule in near if rule.label == chosen and rule.weight > 0]
        condition = max(own, default=(0.0, ""))[1]
        if condition and condition != chosen.replace("_", " "):
            return f"the input is about {condition}, which is {name} {chosen}"
        return f"of the choices for {name}, {chosen} is nearest to the input in meaning"


def encoded(texts: Sequence[str], *, weak: bool) -> encoder.Vectors:
    """Return the vectors of texts; for sim-small a part of each."""
    vectors = encoder.encode(texts)
    return encoder.unit(vectors[:, :WEAK_DIMENSIONS]) if weak else vectors


@lru_cache(maxsize=256)
def _words_of(
    labels: tuple[str, ...], said: tuple[tuple[str, str], ...]
) -> dict[str, list[tuple[int, float]]]:
    """Return {feature: [(label, weight)]} of the labels' names and conditions; what all share is left out."""
    per_label: list[dict[str, float]] = []
    for label in labels:
        name = words.features(label.replace("_", " "))
        own = {feature: NAME_WORDS * weight for feature, weight in name.items()}
        condition = words.features(" ; ".join(text for other, text in said if other == label))
        length = sum(feature[0] not in "@~" for feature in condition)  # a long list says less by each word
        for feature, weight in condition.items():
            own[feature] = max(own.get(feature, 0.0), weight * min(SHORT / max(length, 1), 1.0))
        per_label.append(own)
    shared = Counter(feature for own in per_label for feature in own)
    meaning: dict[str, list[tuple[int, float]]] = {}
    for at, own in enumerate(per_label):
        for feature, weight in own.items():
            if shared[feature] < max(2, len(labels)):
                kind = MANNERS if feature in words.MANNERS else IDEAS if feature[0] == "@" else 1.0
                rarity = math.log(1 + len(labels) / shared[feature])
                meaning.setdefault(feature, []).append((at, weight * rarity * kind))
    return meaning


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    chances: Array = powers / powers.sum(1, keepdims=True)
    return chances
