"""Words of a text as weighted features: stems, parts of words, and the everyday ideas they belong to.

Main path: features(text) -> {feature: weight}; two texts are alike in the sum over what they share.
A stem stands for itself, `~ship` is a part of a word, `@parcels` an idea of lexicon.json: a small list of
which English words, and a few German, French and Spanish ones, are about the same thing.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from importlib import resources
from typing import Any

COMMON = 0.3  # weight of a common word against another
IDEA = 0.8  # weight of an idea that a word belongs to
PHRASE = 1.2  # a phrase of the lexicon says more than a word of it
MANNER = 0.5  # weight of how a text is written
PARTS = 0.6  # weight of the parts of one word together

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def data(name: str) -> dict[str, Any]:
    """Return one of the tables beside this file."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return dict(json.loads(text))


ENGLISH = data("english.json")
STOP = frozenset(ENGLISH["stop"].split())
COMMON_WORDS = frozenset(ENGLISH["common"].split())
NUMBERS = {word: value for value, word in enumerate(ENGLISH["numbers"].split())}
NUMBERS |= {word: 10 * value for value, word in enumerate(ENGLISH["tens"].split(), 3)}
_ENDINGS = ENGLISH["endings"]
_IRREGULAR = {form: root for root, forms in ENGLISH["irregular"].items() for form in forms.split()}


def words(text: str) -> list[str]:
    """Return the words of `text` in lower case, numbers among them."""
    return _WORD.findall(text.lower())


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return the word without its usual English endings.

    >>> [stem(word) for word in ("shipping", "shipped", "deliveries", "delivery", "charges", "broken")]
    ['ship', 'ship', 'deliver', 'deliver', 'charg', 'break']
    """
    word = word.partition("'")[0]
    word = _IRREGULAR.get(word, word)
    if len(word) < 4 or word.isdigit():
        return word
    for ending, replaced in _ENDINGS.items():
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + replaced
            break
    if word.endswith(("ing", "ed")):
        bare = word[:-3] if word.endswith("ing") else word[:-2]
        if len(bare) >= 3 and re.search(r"[aeiouy]", bare):
            word = bare[:-1] if bare[-1] == bare[-2] and bare[-1] not in "lsz" else bare
    return word[:-1] if len(word) > 3 and word[-1] in "eyi" else word


def are_akin(one: str, other: str) -> bool:
    """Say whether two stems are the same, or begin alike: `designer`, `designed`."""
    return one == other or (len(one) > 4 and one[:5] == other[:5])


def roots(listed: str) -> frozenset[str]:
    """Return the stems of the words that are listed."""
    return frozenset(map(stem, words(listed)))


@cache
def _lexicon() -> tuple[dict[str, list[str]], dict[str, dict[str, list[str]]]]:
    """Return the ideas of single stems, and those of phrases as {last stem: {an earlier stem: ideas}}."""
    single: dict[str, list[str]] = {}
    phrases: dict[str, dict[str, list[str]]] = {}
    for idea, members in data("lexicon.json").items():
        for member in [idea, *members.split(", ")]:
            of_member = [stem(word) for word in words(member)]
            ideas_by_stem = single if len(of_member) == 1 else phrases.setdefault(of_member[-1], {})
            named = ideas_by_stem.setdefault(of_member[0], [])
            if f"@{idea}" not in named:
                named.append(f"@{idea}")
    return single, phrases


@lru_cache(maxsize=50_000)
def _of_word(word: str) -> tuple[str, tuple[tuple[str, float], ...]]:
    """Return the stem of one word, and its features: the stem, its ideas, its four-letter parts."""
    root = stem(word)
    if word in STOP or root in STOP:
        return root, ()
    ideas = [(idea, IDEA) for idea in _lexicon()[0].get(root, ())]
    if word in COMMON_WORDS:
        return root, ((root, COMMON), *ideas)
    parts: list[str] = []
    if len(root) >= 5 and not root.isdigit():
        parts = list(dict.fromkeys(f"~{root[at : at + 4]}" for at in range(0, len(root) - 3, 2)))
    return root, ((root, 1.0), *ideas, *((part, PARTS / len(parts)) for part in parts))


_MANNERS = {
    "@asks": re.compile(
        r"\?|\bquestions?\b|^(?:what|who|when|where|which|how|why|can|could|do|does|is|are) ", re.IGNORECASE
    ),
    "@soon": re.compile(rf"\b(?:{ENGLISH['soon']})\b", re.IGNORECASE),
    "@exclaims": re.compile("!"),
    "@insists": re.compile(r"[!?]{2}|\b[A-Z]{4,}\b"),
    "@names a case": re.compile(r"[A-Z]-\d{2,}\b|#\d{2,}"),
    "@dates": re.compile(r"\d(?:st|nd|rd|th)\b|\b\d{4}-\d{2}-\d{2}\b"),
    "@counts money": re.compile(r"[$€£]\s?\d|\d[.,]\d{2}\b"),
}
MANNERS = _MANNERS.keys()
"""The features that tell how a text is written, not what it is about."""


@lru_cache(maxsize=4_096)
def features(text: str, *, parts: bool = True) -> dict[str, float]:
    """Return the features of `text` and their weights; `parts=False` leaves the parts of words out."""
    weights = {manner: MANNER for manner, pattern in _MANNERS.items() if pattern.search(text)}
    weight_so_far = weights.get
    known = list(map(_of_word, words(text)))
    for _, of_word in known:
        for feature, weight in of_word:
            weights[feature] = weight_so_far(feature, 0.0) + weight
    phrases = _lexicon()[1]
    for at, (root, _) in enumerate(known):
        if root in phrases:  # "send back" is also seen in "send it all back"
            for earlier, _ in known[max(at - 3, 0) : at]:
                for idea in phrases[root].get(earlier, ()):
                    weights[idea] = weight_so_far(idea, 0.0) + PHRASE
    for feature, weight in weights.items():
        if weight > 1.0:  # the tenth mention of a word says less than the first
            weights[feature] = weight**0.5
    return weights if parts else {f: weight for f, weight in weights.items() if f[0] != "~"}


@lru_cache(maxsize=4_096)
def stems(text: str) -> tuple[str, ...]:
    """Return the stems of the words that carry meaning, in order."""
    return tuple(stem(word) for word in words(text) if word not in STOP)


_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n+")


@lru_cache(maxsize=4_096)
def sentences(text: str) -> tuple[str, ...]:
    """Return the sentences (and lines) of `text`."""
    return tuple(part.strip() for part in _SENTENCE.split(text) if part and part.strip())
