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
from course_lib.lm.simulator.skills.polarity import polarity, side
from course_lib.lm.simulator.skills.rules import REST, Rule

# Set on the desk's train and dev tickets and on two other small tasks, never on the desk's test tickets.
NEAR = 12.0  # how much nearness in meaning weighs
WORDS = 0.4  # how much the words of a label and of its conditions weigh
IDEAS = 1.5  # how much more an idea weighs that both are about
NAMED = 0.7  # nearness to a name alone, against nearness to a condition
SHARPNESS = 10.0  # how much the nearest part of a condition counts against its other parts
REST_NEARNESS = 0.3  # nearness of any text to "everything else"
NOT_NEARNESS = 0.13  # nearness of a text that is not what a field of True and False asks
DEFAULT = 0.3  # head start of a label that means "nothing special"
AGAINST, AGAINST_FROM = 2.0, 0.25  # how much an exception counts, and from which nearness on
PREFERRED = 0.5  # head start of a label that the instructions prefer to others
FEELING = 3.0  # how much a kind or an unkind word speaks for a label that names praise or blame
SHARE = 0.03  # how much a demo speaks for its label whatever the text, so that frequent labels are learned
LIKE, LIKE_FROM, SAME_WORDS = 1.0, 0.1, 0.4  # a demo's likeness: in meaning, from which nearness on, in words
SHOWN = 12.0  # how much likeness to a label's demos weighs before anything is learned from them
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

    def __init__(self, labels: Sequence[str], about: str, rules: Sequence[Rule], *, weak: bool) -> None:
        self.labels, self.weak = tuple(labels), weak
        ruled = {rule.label for rule in rules if rule.weight > 0}
        named = {label: label.replace("_", " ") for label in labels} | ({"True": about} if about else {})
        self.sides = np.array([side(named.get(label, label)) for label in labels])
        self._feels = {1, -1} <= set(self.sides.tolist()) or bool(about and self.sides.any())
        self.rules = [rule for rule in rules if rule.condition not in ("", REST)]
        if not self._feels:
            unruled = (pair for pair in named.items() if pair[0] not in ruled and pair[1] != "False")
            self.rules += [Rule(label, name, NAMED) for label, name in unruled]
        rests = {rule.label: REST_NEARNESS for rule in rules if rule.condition == REST}
        rests = {"False": NOT_NEARNESS} | rests if about else rests
        self._floors = np.array([rests.get(label, -np.inf) for label in labels])
        self._starts = np.array([DEFAULT if _DEFAULT_LABELS.fullmatch(label) else 0.0 for label in labels])
        for rule in rules:
            if not rule.condition:
                self._starts[self.labels.index(rule.label)] += PREFERRED
        phrases = [phrase for rule in self.rules for phrase in rule.phrases]
        self._phrases = encoded(phrases, weak=weak)
        self._ends = np.cumsum([len(rule.phrases) for rule in self.rules])
        self._words = _words_of(
            self.labels, tuple((r.label, r.condition) for r in self.rules if r.weight > 0)
        )

    def own(self, text: str, features: Features) -> Array:
        """Return how the labels' own meaning speaks for a text."""
        scores = self._starts + NEAR * self._nearness(text)
        for feature in filter(self._words.__contains__, features):
            for at, weight in self._words[feature]:
                scores[at] += WORDS * features[feature] * weight
        if self._feels:
            felt = max(-1.0, min(polarity(text), 1.0))
            scores += FEELING * (self.sides * felt + (self.sides == 0) * (0.6 - abs(felt)))
        return scores

    def speaks(self, word: str, label: str) -> bool:
        """Say whether a word of a text is one of the label's own words."""
        return any(self.labels[at] == label for at, _ in self._words.get(words.stem(word), ()))

    def nearest(self, text: str) -> Array:
        """Return the nearness of each rule's condition to a text."""
        if not self.rules:
            return np.zeros(0)
        cosines = self._phrases @ encoded([text], weak=self.weak)[0]
        parts = np.split(cosines, self._ends[:-1])
        return np.array([_best_of(part) for part in parts])

    def _nearness(self, text: str) -> Array:
        best = np.full(len(self.labels), -np.inf)
        against = np.zeros(len(self.labels))
        for rule, near in zip(self.rules, self.nearest(text), strict=True):
            at = self.labels.index(rule.label)
            if rule.weight > 0:
                best[at] = max(best[at], near * rule.weight)
            else:
                against[at] += AGAINST * max(near - AGAINST_FROM, 0.0)
        best = np.maximum(best, self._floors)
        best[np.isinf(best)] = 0.0
        nearness: Array = best - against
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
        self._pulls = np.zeros((len(demos), len(self.labels)))
        self._trust = 1.0
        self._scale = 1.0  # of the labels' own meaning
        self._learn([text for text, _ in demos])
        self.scores = lru_cache(maxsize=512)(self._scores)

    def _features(self, text: str) -> Features:
        return words.features(text, parts=not self.meaning.weak)

    def likeness(self, text: str, features: Features) -> Array:
        """Return the likeness of each demo to a text, in words and in meaning."""
        alike = np.zeros(len(self.demo_labels))
        squared = 0.0
        for feature, weight in features.items():
            gained = weight * self._gain.get(feature, self._unknown)
            squared += gained * gained
            for at, other in self._index.get(feature, ()):
                alike[at] += gained * other
        near = self._vectors @ encoded([text], weak=self.meaning.weak)[0]
        likeness: Array = SAME_WORDS * alike / (math.sqrt(squared) or 1.0) + LIKE * np.maximum(
            near - LIKE_FROM, 0.0
        )
        return likeness

    def _learn(self, texts: Sequence[str]) -> None:
        if not texts:
            return
        own = np.array([self.meaning.own(*pair) for pair in zip(texts, self.demo_features, strict=True)])
        kernel = SHARE + np.array(
            [self.likeness(*pair) for pair in zip(texts, self.demo_features, strict=True)]
        )
        shown = np.array([self._shown(row, but=at) for at, row in enumerate(kernel)])
        wanted = np.array([[label == other for other in self.labels] for label in self.demo_labels], float)
        self._trust = float((own.argmax(1) != wanted.argmax(1)).mean())
        shown = shown * self._trust
        seen = wanted.any(0)  # a label that no demo shows is left to its own meaning, not taken for wrong
        for _ in range(STEPS):
            misses = (wanted - _softmax(self._scale * own + shown + kernel @ self._pulls)) * seen
            self._pulls += RATE * misses
            self._scale = min(max(self._scale + SCALE_RATE * float((misses * own).sum(1).mean()), 0.0), 1.5)

    def _shown(self, alike: Array, but: int = -1) -> Array:
        """Return for each label how its demos, but one, speak for a text; one without demos gets the mean."""
        scores = np.full(len(self.labels), np.nan)
        for at, label in enumerate(self.labels):
            own = [alike[n] for n, other in enumerate(self.demo_labels) if other == label and n != but]
            if own:
                scores[at] = SHOWN * _best_of(np.array(own))
        return np.where(np.isnan(scores), 0.0 if np.isnan(scores).all() else np.nanmean(scores), scores)

    def _scores(self, text: str) -> dict[str, float]:
        features = self._features(text)
        scores = self._scale * self.meaning.own(text, features)
        if self.demo_labels:
            alike = SHARE + self.likeness(text, features)
            scores = scores + self._trust * self._shown(alike) + alike @ self._pulls
        return dict(zip(self.labels, scores.tolist(), strict=True))

    def because(self, name: str, chosen: str, text: str) -> str:
        """Say in a sentence what the choice rests on."""
        features = self._features(text)
        if self.demo_labels:
            alike = self.likeness(text, features)
            best = int(alike.argmax())
            if self.demo_labels[best] == chosen:
                shared = [w for w in _said(text) if words.stem(w) in self.demo_features[best]][:3]
                sharing = f", sharing {_quoted(shared)}" if shared else ""
                return f"the input is most like an example with {name} {chosen}{sharing}"
        near = self.meaning.nearest(text)
        own = [
            (n, r)
            for n, r in zip(near, self.meaning.rules, strict=True)
            if r.label == chosen and r.weight > 0
        ]
        _, rule = max(own, key=lambda pair: pair[0], default=(0.0, Rule(chosen)))
        if rule.condition and rule.condition != chosen.replace("_", " "):
            return f"the input is about {rule.condition}, which is {name} {chosen}"
        hits = [w for w in _said(text) if self.meaning.speaks(w, chosen)][:3]
        if hits:
            return f"{_quoted(hits)} in the input points to {name} {chosen}"
        return f"in meaning the input is nearest to {name} {chosen}"


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
        own: dict[str, float] = dict(words.features(label.replace("_", " ")))
        for text in (text for other, text in said if other == label):
            for feature, weight in words.features(text).items():
                own[feature] = max(own.get(feature, 0.0), weight)
        per_label.append(own)
    shared = Counter(feature for own in per_label for feature in own)
    meaning: dict[str, list[tuple[int, float]]] = {}
    for at, own in enumerate(per_label):
        for feature, weight in own.items():
            if shared[feature] < max(2, len(labels)):
                weight *= (
                    math.log(1 + len(labels) / shared[feature])
                    * (IDEAS if feature[0] == "@" else 1.0)
                    * (5.0 if feature in words.MANNERS else 1.0)
                )
                meaning.setdefault(feature, []).append((at, weight))
    return meaning


def _best_of(nearness: Array) -> float:
    """Return a mean in which the nearest counts most."""
    return float(np.log(np.exp(SHARPNESS * nearness).mean()) / SHARPNESS)


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    chances: Array = powers / powers.sum(1, keepdims=True)
    return chances


def _said(text: str) -> list[str]:
    return list(dict.fromkeys(word for word in words.words(text) if word not in words.STOP))


def _quoted(items: Sequence[str]) -> str:
    return ", ".join(f"'{item}'" for item in items)
