"""Learning from one prompt which label a text gets: from the labels' meaning, its rules and its demos.

Main path: Learner(labels, about, rules, demos).scores(text) -> {label: score}.

What the labels mean counts first: the vectors and the words of their names, or of the conditions that the
instructions give them. To this comes what the demos show: each speaks for its label in the measure of its
likeness in meaning to the text, and the nearest most.
"""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from course_lib.lm import encoder
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.polarity import degrees, direction, polarity, side
from course_lib.lm.simulator.skills.rules import REST, Rule

# Set on the desk's train and dev tickets and on two other small tasks, never on the desk's test tickets.
NEAR = 12.0  # how much nearness in meaning weighs
WORDS = 0.4  # how much the words of a label and of its conditions weigh
IDEAS, MANNERS = 1.5, 7.5  # how much more an idea weighs that both are about, or a manner of writing
NAME_WORDS = 1.0  # how much the words and ideas of a label's name count against those of its conditions
SHORT = 3.0  # words of a condition that count in full
NAMED = 0.7  # nearness to a name alone, against nearness to a condition
ALSO_NAMED = 0.6  # how much nearness to a label's name adds to that to its conditions
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
LIKE_FROM = 0.1  # likeness of a text to a demo, at least
EXPLAINED = 2.0  # trust in the labels' own meaning, by the share of demos that it explains
SHOWN = 8.0  # how much likeness to a label's demos weighs
WEAK_DIMENSIONS = 96  # what sim-small has of a vector

_DEFAULT_LABELS = re.compile(
    r"normal|neutral|medium|average|standard|others?|none|general|regular|ordinary|mixed|misc\w*",
    re.IGNORECASE,
)

Array = NDArray[np.float64]


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
        is_named = not (self._feels or about or self._degrees.size)
        self._named = [at for at, label in enumerate(labels) if is_named and label in ruled]
        self._names = encoded([named[labels[at]] for at in self._named], weak=weak)
        phrases = [phrase for rule in self.rules for phrase in rule.phrases]
        self._phrases = encoded(phrases, weak=weak)
        self._words = _words_of(
            self.labels, tuple((r.label, r.condition) for r in self.rules if r.weight > 0)
        )

    def own(self, texts: Sequence[str]) -> Array:
        """Return how the labels' own meaning speaks for texts: a row a text, a column a label."""
        scores: Array = self._starts + NEAR * self._nearness(texts)
        for row, text in zip(scores, texts, strict=True):
            of_text = words.features(text, parts=not self.weak)
            for feature in filter(self._words.__contains__, of_text):
                for at, weight in self._words[feature]:
                    row[at] += WORDS * of_text[feature] * weight
        if self._feels:
            felt = np.clip([[polarity(text)] for text in texts], -1.0, 1.0)
            scores += FEELING * (self.sides * felt + (self.sides == 0) * (NEUTRAL - abs(felt)))
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
        nearness: Array = np.where(np.isinf(best), 0.0, best) - against
        nearness[:, self._named] += ALSO_NAMED * (encoded(texts, weak=self.weak) @ self._names.T)
        return nearness


class Learner:
    """What one set of labels, rules and demos teaches; built once per prompt."""

    def __init__(self, meaning: Meaning, demos: Sequence[tuple[str, str]]) -> None:
        self.meaning = meaning
        self.labels = meaning.labels
        self.demo_labels = [label for _, label in demos]
        texts = [text for text, _ in demos]
        self._vectors = encoded(texts, weak=meaning.weak)
        guessed = [self.labels[at] for at in meaning.own(texts).argmax(1)] if demos else []
        explained = sum(map(operator.eq, guessed, self.demo_labels)) / max(len(demos), 1)
        self._trust = min(EXPLAINED * explained, 1.0) if demos else 1.0  # in the labels' own meaning
        self.scores = lru_cache(maxsize=512)(self._scores)

    def _likeness(self, text: str) -> Array:
        """Return the likeness of a text to each demo."""
        likeness: Array = self._vectors @ encoded([text], weak=self.meaning.weak)[0]
        return np.maximum(likeness, LIKE_FROM)

    def _shown(self, text: str) -> Array:
        """Return for each label how its demos speak for a text; one without demos gets the mean."""
        powers = np.exp(SHARPNESS * self._likeness(text))
        own = [powers[[label == other for other in self.demo_labels]] for label in self.labels]
        scores = np.array([math.log(each.mean()) if each.size else math.nan for each in own])
        shown: Array = SHOWN / SHARPNESS * np.nan_to_num(scores, nan=float(np.nanmean(scores)))
        return shown

    def _scores(self, text: str) -> dict[str, float]:
        scores = self._trust * self.meaning.own([text])[0]
        if self.demo_labels:
            scores = scores + self._shown(text)
        return dict(zip(self.labels, scores.tolist(), strict=True))

    def because(self, name: str, chosen: str, text: str) -> str:
        """Say in a sentence what the choice rests on."""
        if self.demo_labels and self.demo_labels[int(self._likeness(text).argmax())] == chosen:
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
