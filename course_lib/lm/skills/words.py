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

COMMON = 0.3  # weight of a common word against another
MANNER = 0.5  # weight of how a text is written
PHRASE = 1.2  # a phrase of the lexicon says more than a word of it

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
    word = _IRREGULAR.get(word, word)
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


_IRREGULAR = {
    **dict.fromkeys(("sent", "sends"), "send"),
    **dict.fromkeys(("bought", "buys"), "buy"),
    **dict.fromkeys(("paid", "pays"), "pay"),
    **dict.fromkeys(("broke", "broken"), "break"),
    **dict.fromkeys(("gone", "goes", "went"), "go"),
    **dict.fromkeys(("came", "comes"), "come"),
    **dict.fromkeys(("gave", "given"), "give"),
    **dict.fromkeys(("took", "taken"), "take"),
    **dict.fromkeys(("got", "gotten"), "get"),
    **dict.fromkeys(("tore", "torn"), "tear"),
    **dict.fromkeys(("left", "leaves"), "leave"),
    **dict.fromkeys(("lost", "loses"), "lose"),
    **dict.fromkeys(("stole", "stolen"), "steal"),
    **dict.fromkeys(("wrote", "written"), "write"),
    **dict.fromkeys(("flew", "flown", "flies"), "fly"),
    **dict.fromkeys(("sewn", "sewed"), "sew"),
    **dict.fromkeys(("feet",), "foot"),
    **dict.fromkeys(("children", "kids", "kid"), "child"),
    **dict.fromkeys(("men",), "man"),
    **dict.fromkeys(("women",), "woman"),
}

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


# Common words say little about what a text is about, wherever they stand.
_COMMON = frozenset(
    [
        "actually",
        "ago",
        "already",
        "always",
        "another",
        "anyone",
        "anything",
        "around",
        "ask",
        "away",
        "back",
        "become",
        "best",
        "better",
        "big",
        "bit",
        "bring",
        "call",
        "came",
        "come",
        "could",
        "couple",
        "day",
        "days",
        "different",
        "doing",
        "done",
        "easy",
        "either",
        "else",
        "end",
        "enough",
        "even",
        "ever",
        "every",
        "everybody",
        "everything",
        "exactly",
        "far",
        "feel",
        "few",
        "fine",
        "first",
        "five",
        "four",
        "found",
        "friend",
        "full",
        "gave",
        "get",
        "getting",
        "give",
        "go",
        "god",
        "going",
        "gone",
        "good",
        "got",
        "great",
        "guess",
        "guy",
        "half",
        "happen",
        "happens",
        "happy",
        "hard",
        "hear",
        "help",
        "home",
        "hope",
        "hour",
        "hours",
        "idea",
        "instead",
        "keep",
        "kind",
        "knew",
        "know",
        "known",
        "last",
        "late",
        "later",
        "least",
        "leave",
        "left",
        "less",
        "let",
        "like",
        "likely",
        "line",
        "little",
        "live",
        "long",
        "look",
        "looked",
        "looking",
        "lot",
        "love",
        "made",
        "make",
        "makes",
        "man",
        "many",
        "may",
        "maybe",
        "mean",
        "might",
        "mind",
        "minute",
        "minutes",
        "moment",
        "month",
        "months",
        "morning",
        "much",
        "must",
        "name",
        "need",
        "needed",
        "needs",
        "never",
        "new",
        "next",
        "nice",
        "night",
        "nobody",
        "nothing",
        "now",
        "number",
        "oh",
        "ok",
        "okay",
        "old",
        "one",
        "ones",
        "onto",
        "open",
        "others",
        "part",
        "people",
        "perhaps",
        "person",
        "place",
        "point",
        "possible",
        "put",
        "quite",
        "rather",
        "read",
        "real",
        "really",
        "reason",
        "right",
        "said",
        "same",
        "saw",
        "say",
        "says",
        "see",
        "seem",
        "seems",
        "seen",
        "send",
        "set",
        "several",
        "shall",
        "show",
        "side",
        "simply",
        "since",
        "six",
        "small",
        "someone",
        "something",
        "sometimes",
        "soon",
        "sorry",
        "sort",
        "start",
        "still",
        "stop",
        "straight",
        "stuff",
        "such",
        "sure",
        "take",
        "talk",
        "tell",
        "ten",
        "thing",
        "things",
        "think",
        "third",
        "though",
        "thought",
        "three",
        "time",
        "times",
        "together",
        "told",
        "tomorrow",
        "took",
        "towards",
        "tried",
        "try",
        "trying",
        "turn",
        "two",
        "understand",
        "use",
        "used",
        "using",
        "usually",
        "want",
        "wanted",
        "wants",
        "way",
        "week",
        "weeks",
        "well",
        "whether",
        "whole",
        "wish",
        "within",
        "without",
        "wonder",
        "word",
        "work",
        "works",
        "world",
        "write",
        "wrong",
        "yeah",
        "year",
        "years",
        "yes",
        "yesterday",
        "yet",
        "able",
    ]
)


@lru_cache(maxsize=20_000)
def _of_word(word: str) -> tuple[tuple[str, float], ...]:
    """Return the features of one word: its stem, its ideas, and its four-letter parts."""
    root = stem(word)
    if word in STOP or root in STOP:
        return ()
    if word in _COMMON:
        return ((root, COMMON), *((f"@{idea}", 0.8) for idea in ideas(root)))
    found = [(root, 1.0)]
    found += [(f"@{idea}", 0.8) for idea in ideas(root)]
    if len(root) >= 5 and not root.isdigit():
        parts = {f"~{root[at : at + 4]}" for at in range(len(root) - 3)}
        found += [(part, 0.6 / len(parts)) for part in sorted(parts)]
    return tuple(found)


# How a text is written, beside what it is about.
_MANNER = (
    ("asks", re.compile(r"\?")),
    ("insists", re.compile(r"[!?]{2}|\b[A-Z]{4,}\b")),
    ("exclaims", re.compile(r"!")),
    ("names a case", re.compile(r"\b[A-Z]{1,4}-\d{2,}\b|#\d{2,}")),
    ("dates", re.compile(r"\b\d{1,2}(?:st|nd|rd|th)\b|\b\d{4}-\d{2}-\d{2}\b")),
    ("counts money", re.compile(r"[$€£]\s?\d|\d[.,]\d{2}\b")),
)


def manners() -> frozenset[str]:
    """Return the features that tell how a text is written, not what it is about."""
    return frozenset(f"@{manner}" for manner, _ in _MANNER)


@lru_cache(maxsize=4_096)
def features(text: str, *, parts: bool = True) -> dict[str, float]:
    """Return the features of `text` and their weights; `parts=False` leaves the parts of words out."""
    found: dict[str, float] = {}
    recent: list[str] = []
    for manner, pattern in _MANNER:
        if pattern.search(text):
            found[f"@{manner}"] = MANNER
    for word in words(text):
        for feature, weight in _of_word(word):
            if parts or feature[0] != "~":
                found[feature] = found.get(feature, 0.0) + weight
        root = stem(word)
        for earlier in recent:  # "send back" is also seen in "send it all back"
            for idea in ideas(f"{earlier}_{root}"):
                found[f"@{idea}"] = found.get(f"@{idea}", 0.0) + PHRASE
        recent = [*recent[-2:], root]
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
