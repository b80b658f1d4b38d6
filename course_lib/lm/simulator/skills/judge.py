"""Judging: is a claim borne out by its evidence, does an answer say what the truth says, and how far.

Main path: judge(field, work) -> Result for a field that asks for such a verdict: as True or False, a label, a
score, or in words. A statement is borne out in the measure in which its words and its meaning stand in the
evidence, and not at all where a number, a name or a negation differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.choice import closed_set
from course_lib.lm.simulator.skills.limits import limited
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

_TRUTH = r"(?:ground_?)?truths?|gold(?:en)?|reference|expected|correct|ideal|target|label|solution"
_EVIDENCE = r"contexts?|evidence|passages?|documents?|sources?|premise|facts?|retrieved\w*|article|background"
_GIVEN = r"\w*response|\w*answer|claims?|statements?|hypothesis|summary|predict\w+|candidate|output|sentence"
_ROLES = {
    "truth": re.compile(rf"(?:\w+_)?(?:{_TRUTH})(?:_\w+)?", re.IGNORECASE),
    "evidence": re.compile(rf"(?:\w+_)?(?:{_EVIDENCE})", re.IGNORECASE),
    "question": re.compile(r"(?:\w+_)?(?:question|query|task|prompt)", re.IGNORECASE),
    "given": re.compile(rf"(?:\w+_)?(?:{_GIVEN})", re.IGNORECASE),
}
_PRECISION = re.compile(r"precision|ground|faithful|support|entail|hallucin|attribut|verdict", re.IGNORECASE)
_RECALL = re.compile(r"recall|complete|coverage", re.IGNORECASE)
_ASKS = re.compile(
    r"precision|recall|complete|coverage|ground|faithful|support|entail|correct|accura|verdict|score|rating|grade"
    r"|equivalen|match|same|consistent|true|verified|backed|similar|quality|judge?ment|pass(?:ed|es)?$|f1|right",
    re.IGNORECASE,
)
_YES = re.compile(
    r"support|correct|entail|faithful|ground|pass|yes|true|equivalent|match|good|right|same", re.IGNORECASE
)
_NO = re.compile(
    r"refut|contra|incorrect|(?:un|not|mis|in)\w*|fail|no|false|wrong|bad|different", re.IGNORECASE
)
_MIDDLE = re.compile(
    r"neutral|not_?enough\w*|nei|part\w*|unknown|unsure|unclear|insufficient\w*|mixed", re.IGNORECASE
)
_NO_ANSWER = re.compile(
    r"\b(?:i (?:do not|don't|can(?:no|')t|am not|have no)|i'm not|no idea|not sure|unknown|n/a"
    r"|no information|(?:do(?:es)? not|doesn't) (?:say|mention|contain)|cannot (?:be )?answer\w*)\b",
    re.IGNORECASE,
)
_NEGATIONS = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot)\b|n't\b", re.IGNORECASE
)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_FREE = re.compile(
    r"\b(?:(?:pay|cost)s? nothing|(?:at )?no (?:charge|cost)|free of charge|for nothing)\b", re.IGNORECASE
)
_COUNTS = {word: value for word, value in words.NUMBERS.items() if value > 1} | {
    "single": 1,
    "once": 1,
    "twice": 2,
}
BORNE_OUT = 0.6  # from which share on a claim holds
ENOUGH = 0.98  # share of words and nearness in meaning that together bear a claim out
SAME = 0.5  # share of a claim's words from which on a sentence speaks of the same
FEW = 3  # an answer of so few words beside the question's has to have them all
SYNONYM = 0.8  # a word of near meaning against the word itself
UNRELATED = 0.45  # nearness below which a text neither says nor denies it
_OPPOSITES = tuple(
    tuple(frozenset(side.split()) for side in pair.split("/")) for pair in words.ENGLISH["opposites"]
)


@dataclass(frozen=True)
class Statement:
    """A sentence with what can contradict another: its numbers, names and negations."""

    text: str

    @cached_property
    def words(self) -> dict[str, str]:
        """The words that matter, numbers left out: {stem: word}."""
        plain = _FREE.sub("free", self.text)
        said = {words.stem(word): word for word in words.words(plain) if word not in words.STOP}
        return {root: word for root, word in said.items() if not root[0].isdigit() and word not in _COUNTS}

    @cached_property
    def numbers(self) -> frozenset[float]:
        """The numbers, in figures or in words."""
        said = [float(found.replace(",", "")) for found in _NUMBER.findall(self.text)]
        return frozenset(said + [float(_COUNTS[word]) for word in words.words(self.text) if word in _COUNTS])

    @cached_property
    def names(self) -> frozenset[str]:
        """Words with a capital; the first word only before another one, or in an answer of few words."""
        found = re.findall(r"(?<=[a-z,;] )[A-Z][\w'-]+|^[A-Z][\w'-]+(?= [A-Z])", self.text)
        first = words.words(self.text)[:1] if len(self.text.split()) <= 2 and self.text[:1].isupper() else []
        return frozenset(words.stem(name.lower()) for name in found + first) & self.words.keys()

    @cached_property
    def is_negative(self) -> bool:
        """Whether it denies."""
        return _NEGATIONS.search(_FREE.sub("free", self.text)) is not None

    def turns_round(self, other: Statement) -> bool:
        """Say whether one denies what the other says, or says the opposite."""
        mine, its = self.words.keys() - other.words.keys(), other.words.keys() - self.words.keys()
        opposite = any(
            (mine & left and its & right) or (mine & right and its & left) for left, right in _OPPOSITES
        )
        return opposite != (self.is_negative != other.is_negative)


@lru_cache(maxsize=2_048)
def statements(text: str) -> tuple[Statement, ...]:
    """Return the sentences of a text, a list or an answer."""
    parts = (part.strip() for sentence in words.sentences(text) for part in re.split(r"[;\n]", sentence))
    return tuple(Statement(part) for part in parts if re.search(r"\w", part))


@lru_cache(maxsize=2_048)
def borne_out(claim: str, evidence: str, known: str = "") -> float:
    """Return from 0 to 1 how far `evidence` bears `claim` out; what is `known` need not be shown."""
    if _NO_ANSWER.search(claim) or _NO_ANSWER.search(evidence):
        return 0.0
    claims, shown = statements(claim), statements(evidence)
    if not claims or not shown:
        return 0.0
    given = frozenset(words.stems(known))
    return sum(_of_statement(one, shown, given) for one in claims) / len(claims)


def _of_statement(claim: Statement, shown: Sequence[Statement], given: frozenset[str]) -> float:
    whole = Statement(" ".join(one.text for one in shown))
    if not claim.numbers <= whole.numbers or claim.names - whole.words.keys() - given:
        return 0.0
    wanted = {root: word for root, word in claim.words.items() if root not in given}
    if not wanted and not claim.numbers:
        wanted = claim.words
    shares = [len(wanted.keys() & one.words.keys()) / max(len(wanted), 1) for one in shown]
    cosines = encode([one.text for one in shown]) @ encode([claim.text])[0]
    best = max(range(len(shown)), key=lambda at: shares[at] + float(cosines[at]))
    if any(claim.turns_round(one) for at, one in enumerate(shown) if at == best or shares[at] >= SAME):
        return 0.0
    if not wanted:
        return float(bool(claim.numbers))
    share = (_share(wanted, whole.words) + max(_share(wanted, one.words) for one in shown)) / 2
    if share >= 1.0 or (given and len(wanted) <= FEW):
        return share
    return min(BORNE_OUT / ENOUGH * (share + float(max(cosines))), 1.0)


def _share(wanted: Mapping[str, str], shown: Mapping[str, str]) -> float:
    """Return the share of words that are shown, others of near meaning counting in part."""
    missing = [word for root, word in wanted.items() if root not in shown]
    found = float(len(wanted) - len(missing))
    if missing and shown:
        nearest = (encode(missing) @ encode(list(shown.values())).T).max(1)
        found += SYNONYM * float(np.clip((nearest - 0.5) / 0.25, 0.0, 1.0).sum())
    return found / len(wanted)


def judge(field: Field, work: Work) -> Result | None:
    """Judge what was given by what is true; pass on fields that ask something else, or have demos."""
    if not (_ASKS.search(f"{field.name} {field.desc}") or is_free_text(field)):
        return None
    given, truth, question = _roles(work)
    if not given or not truth or any(field.name in turn.outputs for turn in work.task.demos):
        return None
    if is_free_text(field) and not closed_set(field, ()):
        return _in_words(field, given, truth, question, work)
    score, why = _verdict(field.name, given, truth, question)
    labels = closed_set(field, ())
    if labels == (False, True):
        asks_for_fault = bool(
            re.match(r"(is_|has_|contains_)?(hallucin|contra|incorrect|wrong|un)", field.name)
        )
        return Result((score >= BORNE_OUT) != asks_for_fault, why)
    if labels:
        label = _label(labels, score, given, truth)
        return None if label is None else Result(label, why)
    if field.schema.get("type") in ("number", "integer"):
        low, high = bounds(field)
        return Result(limited(field.schema, round(low + score * (high - low), 2)), why)
    return None


def _roles(work: Work) -> tuple[str, str, str]:
    """Return what is to be judged, what it is judged by, and the question, from the names of the inputs."""
    found: dict[str, str] = {}
    for name, value in work.task.inputs.items():
        role = next((role for role, names in _ROLES.items() if names.fullmatch(name)), "")
        if role:
            found[role] = f"{found[role]}\n{value}" if role in found else value
    truth = found.get("truth") or found.get("evidence") or ""
    return found.get("given", ""), truth, found.get("question", "")


def _verdict(name: str, given: str, truth: str, question: str) -> tuple[float, str]:
    """Return from 0 to 1 how right what was given is, as the field's name asks, and why."""
    precision = borne_out(given, truth, question)
    if _PRECISION.search(name):
        return precision, f"{_measure(precision)} of what is said is borne out by the text"
    recall = borne_out(truth, given, question)
    if _RECALL.search(name):
        return recall, f"{_measure(recall)} of the truth is in the answer"
    same = max(precision, recall) if min(precision, recall) > 0 else 0.0
    return same, f"{_measure(same)} of the answer agrees with the truth"


def _measure(share: float) -> str:
    return "all" if share > 0.95 else "most" if share >= BORNE_OUT else "a part" if share > 0.1 else "nothing"


def _label(labels: Sequence[Any], score: float, given: str, truth: str) -> Any:
    """Return the label for a verdict: yes, no, or neither where what is said is not denied either."""
    no = [label for label in labels if _NO.match(str(label))]
    middle = [label for label in labels if _MIDDLE.match(str(label))]
    yes = [label for label in labels if _YES.search(str(label)) and label not in no + middle]
    if not yes or not no:
        return None
    if score >= BORNE_OUT:
        return yes[0]
    near = max(encode([one.text for one in statements(truth)]) @ encode([given])[0], default=0.0)
    if middle and (near < UNRELATED or score > 0.3):
        return middle[0]
    return no[0]


_RANGE = re.compile(
    r"(-?\d+(?:\.\d+)?)\s*(?:-|\u2013|to|and|\.\.)\s*(\d+(?:\.\d+)?)|out of (\d+(?:\.\d+)?)|percent|%"
)


def bounds(field: Field) -> tuple[float, float]:
    """Return the lowest and the highest score of a field, by its limits, its description, or custom."""
    schema = field.schema
    low, high = (
        schema.get(key, schema.get(f"exclusive{key.capitalize()}")) for key in ("minimum", "maximum")
    )
    if said := _RANGE.search(field.desc):
        named = (said[1] or 0.0, said[2] or said[3] or 100.0)
    else:
        named = (0.0, 1.0 if schema.get("type") == "number" else 10.0)
    return float(low if low is not None else named[0]), float(high if high is not None else named[1])


def _in_words(field: Field, given: str, truth: str, question: str, work: Work) -> Result | None:
    """List the ideas of an input, or say which ideas of the truth were given and which were not."""
    source = next(
        (value for name, value in work.task.inputs.items() if field.name.startswith(f"{name}_")), ""
    )
    if source and re.search(r"ideas?|claims?|points?|facts?", field.name):
        return Result("\n".join(f"{at}. {one.text}" for at, one in enumerate(statements(source), 1)))
    if not re.fullmatch(r"discussion|critique|feedback|comparison|justification|\w*comments?", field.name):
        return None
    names = " ".join(other.name for other in work.task.spec.outputs)
    if _PRECISION.search(names) and not _RECALL.search(names):
        told, by, says, lacks = given, truth, "The text bears out", "It does not bear out"
    else:
        told, by, says, lacks = truth, given, "The answer says", "It does not say"
    ideas = [(f"{one.text.rstrip('.')}.", borne_out(one.text, by, question)) for one in statements(told)]
    found = [f"{says}: {text}" for text, score in ideas if score >= BORNE_OUT]
    missed = [f"{lacks}: {text}" for text, score in ideas if score < BORNE_OUT]
    return Result(" ".join(found[:3] + missed[:3]))
