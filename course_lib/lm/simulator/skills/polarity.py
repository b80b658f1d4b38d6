"""Kind or unkind, urgent or not: where a text lies between praise and blame, and how soon it wants something.

Main path: polarity(text) -> above 0 for praise, below 0 for blame; side(label) -> which of both it names;
direction(scale, dimensions) -> the direction in which a text's vector praises, or is urgent; degrees(labels).
A phrase ("over the moon", "a waste of money") counts as a whole, a word the other way behind a negation, and
more behind "but". Words and phrases are in english.json; a text without them is judged by meaning, learned
from sentences there that praise, blame or report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np

from course_lib.lm import encoder
from course_lib.lm.simulator.skills import words

PHRASE, WORD = 1.5, 1.0
BUT = 2.0  # how much more counts what stands behind "but"
REACH = 4  # words that a negation turns round
MEANING = 2.0  # how much the meaning counts of a text whose words say little
SURE = 0.7  # polarity of words from which on they decide alone
_KINDS = words.ENGLISH["polarity"]
_GOOD, _BAD, _NOT = (
    frozenset(words.stem(w) for w in _KINDS[kind].split()) for kind in ("good", "bad", "not")
)
_DEGREES = words.ENGLISH["degrees"]
_CLAUSE = re.compile(r"[.!?;:\n]+|,|\b(?:but|however|yet|although|though)\b")
_WHOLE = re.compile(r"\b(?:not|hardly|never|scarcely)\s+(?:exactly|really|quite|what|the kind of)\b")
"""What denies all that stands behind it in a clause."""
_TWICE = re.compile(r"\b(?:hardly|barely|scarcely|not|never|no|\w+n't)\b([^.!?]*?)\bwithout\b", re.IGNORECASE)
"""Two negations that cancel each other."""
_TURN = re.compile(r"\b(?:but|however|yet)\b|\bnow\b")


@cache
def _phrases() -> tuple[tuple[re.Pattern[str], float], ...]:
    kinds = (("good phrases", PHRASE), ("bad phrases", -PHRASE), ("plain phrases", 0.0))
    return tuple((re.compile(rf"\b(?:{'|'.join(_KINDS[kind])})\b"), sign) for kind, sign in kinds)


@cache
def direction(scale: str, dimensions: int) -> encoder.Vectors:
    """Return the direction in which a scale's upper sentences lie, by ridge regression on its sentences."""
    signs = {"up": 1.0, "middle": 0.0, "down": -1.0}
    said = words.ENGLISH["scales"][scale]
    vectors = encoder.unit(encoder.encode([text for end in signs for text in said[end]])[:, :dimensions])
    wanted = np.array([sign for end, sign in signs.items() for _ in said[end]], np.float32)
    weights = np.linalg.solve(vectors @ vectors.T + np.eye(len(wanted), dtype=np.float32), wanted)
    found: encoder.Vectors = vectors.T @ weights
    return found


@lru_cache(maxsize=4_096)
def polarity(text: str) -> float:
    """Return how much a text praises (above 0) or blames (below 0): by its words, else by its meaning."""
    text = _TWICE.sub(r"\1", text)
    said = by_words(text)
    is_plain = _phrases()[-1][0].search(text.lower())
    return (
        said
        if is_plain or abs(said) >= SURE
        else said + MEANING * float((vector := encoder.encode([text])[0]) @ direction("feeling", len(vector)))
    )


def by_words(text: str) -> float:
    """Return the polarity that words and phrases give; 0 where none is known."""
    return sum(_of_parts(text))


def _of_parts(text: str) -> list[float]:
    """Return the polarity of each phrase and clause; what stands behind "but" counts more."""
    plain = text.lower().replace("\u2019", "'")
    parts = [0.0]
    for pattern, sign in _phrases():
        parts += [sign] * len(pattern.findall(plain))
        plain = pattern.sub(" ", plain)
    turn = next((found.start() for found in reversed(list(_TURN.finditer(plain)))), len(plain))
    at = 0
    for clause in _CLAUSE.split(plain):
        at = plain.find(clause, at)
        parts.append(_of_clause(clause) * (BUT if at > turn else 1.0))
    return parts


def _of_clause(clause: str) -> float:
    total, turned = 0.0, 0
    reach = len(clause) if _WHOLE.search(clause) else REACH
    for word in re.findall(r"[a-z]+(?:'[a-z]+)?", clause):
        root = words.stem(word)
        if root in _NOT or word.endswith("n't"):
            turned = reach
            continue
        sign = (root in _GOOD) - (root in _BAD)
        total += WORD * sign * (-0.8 if turned > 0 else 1.0)
        turned -= 1
    return total


@lru_cache(maxsize=512)
def side(label: str) -> int:
    """Return 1 for a label that names praise, -1 for one that names blame, else 0."""
    said = by_words(label.replace("_", " "))
    return (said > 0) - (said < 0)


def degrees(labels: Sequence[str]) -> list[float]:
    """Return 1, 0 or -1 for labels that all name how urgent something is, else nothing."""
    known = {
        word: at
        for at, end in ((1.0, "up"), (0.0, "middle"), (-1.0, "down"))
        for word in _DEGREES[end].split()
    }
    found = [known.get(label.lower()) for label in labels]
    are_degrees = len({*found}) > 1 and None not in found
    return [at for at in found if at is not None and are_degrees]
