"""Claims: how far a text bears one out, and whether it denies it.

Main path: borne_out(claim, evidence, known) -> Verdict. A sentence is borne out in the measure in which its
words and its meaning stand in the evidence; denied where a negation, an opposite, a number or a name differs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.agents.lexing import lex
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.days import clocks_in_figures
from course_lib.lm.simulator.skills.quantities import NUMBER, number, unit_of

BORNE_OUT = 0.6  # from which share on a claim holds
SAME = 0.5  # share of a claim's words from which on a sentence speaks of the same
_KNOWN = r"(?:available|known|mentioned|stated|given)"
NO_ANSWER = re.compile(
    r"\b(?:i(?:'m| am) (?:not (?:sure|able)|afraid|unable|sorry|only an?)|i was unable"
    r"|i (?:do not|don't|have no|could ?n[o']t)|unable to (?:say|tell|answer|find|help)"
    r"|(?:can(?:no|')?t|could(?: not|n't)) (?:say|tell|answer|find|help)|no idea|not sure|unknown|n/a"
    rf"|not (?:something i|{_KNOWN})|is(?:n't| not) {_KNOWN}|(?:no|without) information|hard to say"
    r"|(?:do(?:es)?(?: not|n't)) (?:say|tell|mention|contain|state))\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|except|unless|instead|rather than"
    r"|(?<!be )replaced by|(?:fail|refus)\w* to)\b|n't\b",
    re.IGNORECASE,
)
_STANCE = re.compile(r"\s*(yes|no|true|false)\s*(?:[,;.:!]\s*|$)", re.IGNORECASE)
_CLAUSES = re.compile(
    r"[;:]\s|,\s|\s(?:and|so|who|which|when|while|although)\s"
    r"|\s(?=(?:but|except|unless|instead of|rather than|without)\s)"
)
_SIDES = {
    root: (at, side)
    for at, pair in enumerate(words.ENGLISH["opposites"])
    for side, spoken in enumerate(pair.split("/"))
    for word in spoken.split()
    for root in (word, words.stem(word))
}
_PREFIX = re.compile(r"(?:un|in|im|dis|non)(?=\w{4})")
_TITLES = re.compile(r"\b(Dr|Mrs?|Ms|St|Prof|No)\.\s")
_MONEY = re.compile(r"([$€£])\s?(\d[\d.,]*\d|\d)")


def plain(text: str) -> str:
    """Write numbers, times of day and money in one way.

    >>> plain("Thirty-two guests pay €60 at 6:30 pm")
    '32 guests pay 60 euro at 18:30'
    """
    text = clocks_in_figures(text)
    text = _MONEY.sub(lambda found: f"{found[2]} {next(iter(unit_of(found[1])))}", text)
    for spoken, written in ((r"twice|double", "2"), (r"comes? with|contains?", "includes")):
        text = re.sub(rf"\b(?:{spoken})\b", written, text, flags=re.IGNORECASE)
    return re.sub(NUMBER, _in_figures, text, flags=re.IGNORECASE)


def _in_figures(found: re.Match[str]) -> str:
    value = number(found.group())
    is_word = not any(char.isdigit() for char in found.group())
    return found.group() if is_word and value < 2 else f"{value:g}" if value < 1e6 else f"{value:.0f}"


@dataclass(frozen=True)
class Statement:
    """A sentence, or a clause of one, with what can contradict another: its numbers, names and negations."""

    text: str

    @cached_property
    def words(self) -> dict[str, str]:
        """The words that matter, numbers left out: {stem: word}."""
        said = {words.stem(word): word for word in words.words(self.text) if word not in _LITTLE}
        return {root: word for root, word in said.items() if not root[0].isdigit()}

    @cached_property
    def numbers(self) -> frozenset[str]:
        """The numbers and times of day."""
        return frozenset(re.findall(r"\d{1,2}:\d{2}|\d+(?:\.\d+)?", self.text))

    @cached_property
    def names(self) -> frozenset[str]:
        """Words with a capital; the first word only before another one, or in an answer of few words."""
        found = re.findall(
            r"(?<=[\w,;] )[A-Z][\w'-]+|^[A-Z][\w'-]+(?= (?:[A-Z]|the\b|an?\b|[a-z]+s\b))", self.text
        )
        found += words.words(
            " ".join(str(one.value) for one in lex(self.text) if one.kind in ("name", "named"))
        )
        first = words.words(self.text)[:1] if len(self.text.split()) <= 2 and self.text[:1].isupper() else []
        return frozenset(words.stem(name.lower()) for name in [*found, *first]) & self.words.keys()

    @cached_property
    def is_negative(self) -> bool:
        """Whether it denies."""
        return len(_NEGATION.findall(self.text)) % 2 == 1

    @cached_property
    def clauses(self) -> tuple[Statement, ...]:
        """Its clauses, each with the negation that is in it."""
        return tuple(Statement(part) for part in _CLAUSES.split(self.text) if re.search(r"\w", part))


_TELLING = set(words.ENGLISH["telling"].split()) | words.NUMBERS.keys()
_LITTLE = words.STOP - _TELLING | set(words.ENGLISH["little"].split())
"""Words that say too little to be missed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a claim is borne out, from 0 to 1, and whether the evidence denies it."""

    share: float
    is_denied: bool = False


@lru_cache(maxsize=2_048)
def statements(text: str) -> tuple[Statement, ...]:
    """Return the sentences of a text, a list or an answer."""
    text = _TITLES.sub(r"\1 ", text)
    parts = (part.strip() for sentence in words.sentences(text) for part in re.split(r"[;\n]", sentence))
    return tuple(Statement(plain(part)) for part in parts if re.search(r"\w", part))


@lru_cache(maxsize=2_048)
def borne_out(claim: str, evidence: str, known: str = "") -> Verdict:
    """Tell how far `evidence` bears `claim` out; what is `known`, such as a question, need not be shown."""
    if NO_ANSWER.search(claim) or NO_ANSWER.search(evidence):
        return Verdict(0.0)
    mine, its = _STANCE.match(claim), _STANCE.match(evidence)
    if mine and its:
        if mine[1].lower() != its[1].lower():
            return Verdict(0.0, is_denied=True)
        if not claim[mine.end() :].strip(" .!") or not evidence[its.end() :].strip(" .!"):
            return Verdict(1.0)
    claims = statements(claim[mine.end() :] if mine else claim)
    shown = statements(evidence[its.end() :] if its else evidence)
    if not claims or not shown:
        return Verdict(0.0)
    given = frozenset(words.stems(known)) | frozenset(re.findall(r"\d+", plain(known)))
    found = [_of_statement(one, shown, given) for one in claims]
    share = sum(one.share for one in found) / len(found)
    return Verdict(
        max(share, BORNE_OUT) if mine and its and share else share, all(v.is_denied for v in found)
    )


def _of_statement(claim: Statement, shown: Sequence[Statement], given: Collection[str]) -> Verdict:
    wanted = {root: word for root, word in claim.words.items() if root not in given}
    if not wanted and not claim.numbers:
        wanted = claim.words
    near = [_near(wanted, one.words) for one in shown]
    cosines = encode([one.text for one in shown]) @ encode([claim.text])[0]
    best = max(range(len(shown)), key=lambda at: sum(near[at].values()) + float(cosines[at]))
    whole = Statement(" ".join(one.text for one in shown))
    found = _near(wanted, whole.words)
    figures = [_has_number(one, whole.numbers) for one in claim.numbers - set(given)]
    names = [name in whole.words for name in claim.names - set(given)]
    weights = len(wanted) + 2 * len(figures)
    share = (sum(found.values()) + 2 * sum(figures)) / max(weights, 1)
    others = whole.names - claim.names
    if not all(figures) or (not all(names) and (others or not any(names))):
        rest = [has for root, has in found.items() if root not in claim.names]
        return Verdict(0.0, is_denied=sum(rest) >= 0.75 * len(rest))  # the same with another number or name
    speaking = [one for one, has in zip(shown, near, strict=True) if sum(has.values()) >= SAME * len(wanted)]
    if any(_turns_round(claim, one) or _mixes_up(claim, one) for one in {*speaking, shown[best]}):
        return Verdict(0.0, is_denied=True)
    if share >= 1.0 or given:
        return Verdict(share)
    return Verdict(min(BORNE_OUT / ENOUGH * (share + float(max(cosines))), 1.0))


ENOUGH = 1.3  # share of words and nearness in meaning that together bear a claim out


def _near(wanted: dict[str, str], shown: dict[str, str]) -> dict[str, float]:
    """Return how far each word is shown: itself, its opposite, one near in meaning."""
    roots = list(wanted)
    missing = [root for root in roots if not _is_shown(root, shown)]
    found = dict.fromkeys(roots, 1.0)
    if missing and shown:
        nearest = (encode([wanted[root] for root in missing]) @ encode(list(shown.values())).T).max(1)
        found |= dict(zip(missing, np.clip((nearest - 0.45) / 0.25, 0.0, 0.8).tolist(), strict=True))
    return found | dict.fromkeys(missing, 0.0) if not shown else found


def _is_shown(root: str, shown: Iterable[str]) -> bool:
    matter = _SIDES.get(root, (-1, 0))[0]
    bare = _bare(root)
    return any(
        words.are_akin(root, one) or bare == _bare(one) or matter == _SIDES.get(one, (-2, 0))[0]
        for one in shown
    )  # fmt: skip


def _bare(root: str) -> str:
    """Return a word without a prefix that denies, so that `unpaid` is the opposite of `pay`."""
    return words.stem(_PREFIX.sub("", root))


def _has_number(mine: str, shown: Iterable[str]) -> bool:
    return any(mine == one or (":" not in mine + one and float(mine) == float(one)) for one in shown)


def _turns_round(claim: Statement, shown: Statement) -> bool:
    """Say whether a statement denies what the claim says, or says the opposite."""
    said = _cover(claim, shown)
    theirs = {root for one in said for root in one.words}
    mine, its = claim.words.keys() - theirs, theirs - claim.words.keys()
    flips = sum(any(_is_opposite(one, other) for other in its) for one in mine)
    denials = sum(one.is_negative for one in said) + claim.is_negative
    return (flips + denials) % 2 == 1


def _is_opposite(one: str, other: str) -> bool:
    matter, side = _SIDES.get(one, (-1, 0))
    if (matter, 1 - side) == _SIDES.get(other, (-2, 0)):
        return True
    return one != other and (_bare(one) == other or _bare(other) == one)


def _cover(claim: Statement, shown: Statement) -> list[Statement]:
    """Return the fewest clauses that have what the statement has of the claim's words, the best first."""
    left = {root for root in claim.words if _is_shown(root, shown.words)} | (claim.numbers & shown.numbers)
    chosen: list[Statement] = []
    while left:
        has = [
            {one for one in left if one in clause.numbers or _is_shown(one, clause.words)}
            for clause in shown.clauses
        ]
        best = max(range(len(has)), key=lambda at: len(has[at]))
        if not has[best]:
            break
        chosen.append(shown.clauses[best])
        left -= has[best]
    return chosen or [shown]


def _mixes_up(claim: Statement, shown: Statement) -> bool:
    """Say whether a name or a number of the claim stands in another clause than what is said of it.

    Each clause that says it must have a name or a number of its own.
    """
    said = [root for root in claim.words if root not in claim.names]
    for mark in claim.names | claim.numbers:
        after = re.search(rf"\b{re.escape(mark)}\s+(\w+)", claim.text) if mark in claim.numbers else None
        thing = (
            [root for root in said if after and root == words.stem(after[1].lower())] or said[-1:] or [""]
        )[0]
        own = [one for one in shown.clauses if mark in one.words or mark in one.numbers]
        about = [one for one in shown.clauses if thing in one.words]
        rivals = [
            (one.numbers if mark[:1].isdigit() else one.names) - claim.names - claim.numbers for one in about
        ]
        if own and about and all(rivals) and not any(one in own for one in about):
            return True
    return False
