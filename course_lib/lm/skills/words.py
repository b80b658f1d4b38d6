"""Words of a text as weighted features: stems, parts of words, and the everyday ideas they belong to.

Main path: features(text) -> {feature: weight}; overlap of two texts is a sum over what they share.
Ideas come from lexicon.json, a small list of which English words are about the same thing.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from importlib import resources

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")

STOP = frozenset(
    [
        "a",
        "about",
        "above",
        "after",
        "again",
        "all",
        "also",
        "am",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "below",
        "between",
        "both",
        "but",
        "by",
        "can",
        "can't",
        "could",
        "did",
        "didn't",
        "do",
        "does",
        "doesn't",
        "doing",
        "don't",
        "down",
        "during",
        "each",
        "few",
        "for",
        "from",
        "further",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "here",
        "hers",
        "him",
        "his",
        "how",
        "i",
        "i'd",
        "i'll",
        "i'm",
        "i've",
        "if",
        "in",
        "into",
        "is",
        "isn't",
        "it",
        "it's",
        "its",
        "itself",
        "just",
        "let's",
        "me",
        "more",
        "most",
        "my",
        "myself",
        "no",
        "nor",
        "not",
        "of",
        "off",
        "on",
        "once",
        "only",
        "or",
        "other",
        "our",
        "ours",
        "out",
        "over",
        "own",
        "please",
        "same",
        "she",
        "should",
        "so",
        "some",
        "such",
        "than",
        "thank",
        "thanks",
        "that",
        "that's",
        "the",
        "their",
        "theirs",
        "them",
        "then",
        "there",
        "there's",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "too",
        "under",
        "until",
        "up",
        "us",
        "very",
        "was",
        "we",
        "were",
        "what",
        "what's",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "yours",
        "hello",
        "hi",
        "hey",
        "dear",
        "regards",
    ]
)


def words(text: str) -> list[str]:
    """Return the words of `text` in lower case, numbers among them."""
    return _WORD.findall(text.lower())


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return the word without its usual English endings.

    >>> [stem(word) for word in ("shipping", "shipped", "deliveries", "delivery", "charges")]
    ['ship', 'ship', 'deliver', 'deliver', 'charg']
    """
    word = word.partition("'")[0]
    if len(word) < 4 or word.isdigit():
        return word
    for ending, replaced in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + replaced
            break
    if word.endswith(("ing", "ed")):
        bare = word[:-3] if word.endswith("ing") else word[:-2]
        if len(bare) >= 3 and re.search(r"[aeiouy]", bare):
            word = bare[:-1] if bare[-1] == bare[-2] and bare[-1] not in "lsz" else bare
    return word[:-1] if len(word) > 3 and word[-1] in "eyi" else word


_ENDINGS = (
    ("ments", ""),
    ("ment", ""),
    ("ations", "at"),
    ("ation", "at"),
    ("nesses", ""),
    ("ness", ""),
    ("ies", "y"),
    ("sses", "ss"),
    ("shes", "sh"),
    ("ches", "ch"),
    ("xes", "x"),
    ("fully", ""),
    ("ful", ""),
    ("ly", ""),
    ("ss", "ss"),
    ("us", "us"),
    ("s", ""),
)


@cache
def _lexicon() -> dict[str, tuple[str, ...]]:
    """Return {stem or stem_stem: names of the ideas it belongs to}."""
    text = resources.files(__package__).joinpath("lexicon.json").read_text(encoding="utf-8")
    ideas: dict[str, list[str]] = {}
    for idea, members in json.loads(text).items():
        for member in [idea, *members.split(", ")]:
            key = "_".join(stem(word) for word in words(member))
            if idea not in ideas.setdefault(key, []):
                ideas[key].append(idea)
    return {key: tuple(names) for key, names in ideas.items()}


@lru_cache(maxsize=20_000)
def ideas(key: str) -> tuple[str, ...]:
    """Return the names of the everyday ideas that a stem, or two joined by `_`, belongs to."""
    return _lexicon().get(key, ())


@lru_cache(maxsize=20_000)
def _of_word(word: str) -> tuple[tuple[str, float], ...]:
    """Return the features of one word: its stem, its ideas, and its four-letter parts."""
    root = stem(word)
    if word in STOP or root in STOP:
        return ()
    found = [(root, 1.0)]
    found += [(f"@{idea}", 0.8) for idea in ideas(root)]
    if len(root) >= 5 and not root.isdigit():
        parts = {f"~{root[at : at + 4]}" for at in range(len(root) - 3)}
        found += [(part, 0.6 / len(parts)) for part in sorted(parts)]
    return tuple(found)


@lru_cache(maxsize=4_096)
def features(text: str, *, parts: bool = True) -> dict[str, float]:
    """Return the features of `text` and their weights; `parts=False` leaves the parts of words out."""
    found: dict[str, float] = {}
    previous = ""
    for word in words(text):
        for feature, weight in _of_word(word):
            if parts or feature[0] != "~":
                found[feature] = found.get(feature, 0.0) + weight
        root = stem(word)
        if previous:
            for idea in ideas(f"{previous}_{root}"):
                found[f"@{idea}"] = found.get(f"@{idea}", 0.0) + 0.8
        previous = root
    # The tenth mention of a word says less than the first.
    return {feature: weight if weight <= 1.0 else weight**0.5 for feature, weight in found.items()}


@lru_cache(maxsize=4_096)
def stems(text: str) -> tuple[str, ...]:
    """Return the stems of the words that carry meaning, in order."""
    return tuple(stem(word) for word in words(text) if word not in STOP)


_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n+")


@lru_cache(maxsize=4_096)
def sentences(text: str) -> tuple[str, ...]:
    """Return the sentences (and lines) of `text`."""
    return tuple(part.strip() for part in _SENTENCE.split(text) if part and part.strip())
