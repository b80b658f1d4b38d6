"""Instructions as rules: which texts get which label, in the forms in which people and optimizers write it.

Main path: read_rules(instructions, labels) -> Rule(label, phrases, weight), one per condition.
In a statement (a sentence, an item of a list, a row of a table) a label stands before its condition, as in
"billing: card payments" and "use billing for ...", or behind it: "card payments go to billing", "if ..., then
billing". Where it stands in neither place it is a word like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from course_lib.lm.simulator.skills import words

NAMED_BY = 3  # words that may name the field before "is" and a label
REST = "the rest"
"""The phrase of a rule for whatever no other rule is about."""


@dataclass(slots=True)
class Rule:
    """A label, and what a text is about that gets it; with a negative weight: that does not get it."""

    label: str
    condition: str = ""
    """As it is written; empty for a label that is only preferred to others, or avoided."""
    weight: float = 1.0

    @property
    def phrases(self) -> tuple[str, ...]:
        """The condition, and the parts that it lists."""
        parts = (_trimmed(part.split()) for part in _PARTS.split(self.condition))
        listed = dict.fromkeys(part for part in parts if len(part) > 2)
        return (self.condition, *listed) if len(listed) > 1 else (self.condition,)


_SETS = {kind: frozenset(said.split()) for kind, said in words.ENGLISH["rules"].items()}
_LINKS, _OPENERS, _NEGATIONS, _MARKS = (_SETS[kind] for kind in ("links", "openers", "negations", "marks"))
_HANDLING = _LINKS | _SETS["handling"]
_STATEMENT = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<=[.!?])[\"')\]*]*\s+|\n+")
_WRAPPED = re.compile(r"(?<=[^\n]{50}[a-z,])\n(?=[a-z(](?!\w*\s*[:=|-]))")  # a line broken within a sentence
_TOKEN = re.compile(r"[-=]+>|[^\W_](?:[\w'\u2019./-]*\w)?|[^\w\s]")
_PARTS = re.compile(r"[,;:()|/]|\b(?:or|and|such as|for example|like|e\.g|including)\b")
_LABEL = "[\ue000-\uefff]"
_RUN = re.compile(rf"{_LABEL}(?:[`\"'*]*\s*(?:[,/|]|\bor\b|\band\b)(?:\s*(?:or|and)\b)?\s*[`\"'*]*{_LABEL})+")
_WINS = re.compile(
    rf"({_LABEL})\W*(?:always )?(?:wins|beats|outranks|(?:takes|has) (?:precedence|priority)|comes before)"
)
_EXCEPT = re.compile(
    r"[,(]?\s*\b(?:unless|except(?: for)?|but not|and not|not|apart from|other than|excluding)\b"
)
_ASIDE = re.compile(r",?\s*\b(?:even (?:if|when|though)|although|no matter|regardless of)\b[^,.;]*")
_REST = re.compile(
    r"\b(?:otherwise|else|(?:the )?rest|(?:the |all |all the |any |every )others?|in doubt|unsure|none of"
    r"|remaining|nothing (?:else|above|of this|of these|fits|special))\b"
)
_GOES_ON = re.compile(r"\W*(?:also|this (?:includes|covers)|these|that includes|including|it also)\b")
_SEVERAL = re.compile(r"\b(?:both|several|more than one|two)\b.*\bthese\b")


WAYS = {
    "degrees": (
        "Where labels are degrees, they say how soon something has to be done and how bad it is.",
        re.compile(r"how (?:soon|bad|serious|urgent|pressing)\b|\burgency is\b"),
    ),
    "lower": (
        "In doubt between two degrees, choose the lower one.",
        re.compile(r"in doubt[^.]*\blower\b|do not overstate"),
    ),
    "higher": (
        "In doubt between two degrees, choose the higher one.",
        re.compile(r"in doubt[^.]*\bhigher\b|do not understate"),
    ),
    "middle": (
        "Keep the highest and the lowest degree for clear cases.",
        re.compile(r"\bfor clear cases|extremes? only"),
    ),
}
"""Ways to read that an instruction may ask for: how it is said here, and what it is known by."""


@lru_cache(maxsize=512)
def read_ways(text: str) -> frozenset[str]:
    """Return the ways to read that an instruction asks for."""
    return frozenset(way for way, (_, pattern) in WAYS.items() if pattern.search(text.lower()))


@lru_cache(maxsize=512)
def read_rules(text: str, labels: tuple[str, ...]) -> tuple[Rule, ...]:
    """Return the rules that `text` lays down for `labels`, in its order."""
    signs = {_plain(label): chr(0xE000 + at) for at, label in enumerate(labels)}
    names = {signs[_plain(label)]: label for label in reversed(labels)}  # "urgent" and "URGENT" share one
    back = str.maketrans({sign: label for label, sign in signs.items()})
    told = [rule for rule in _read(_with_signs(text, signs)) if rule.condition or rule.weight != 1]
    return tuple(Rule(names[rule.label], rule.condition.translate(back), rule.weight) for rule in told)


def _plain(label: str) -> str:
    return re.sub("[ _-]", " ", label.lower())


def _with_signs(text: str, signs: Mapping[str, str]) -> str:
    """Return the text in lower case, with one sign for each mention of a label."""
    spelled = (re.escape(name).replace("\\ ", "[ _-]") for name in sorted(signs, key=len, reverse=True))
    mention = re.compile(rf"(?<![\w-])(?:{'|'.join(spelled)})(?![\w-])")
    marked = mention.sub(lambda found: signs[_plain(found[0])], _WRAPPED.sub(" ", text).lower())
    return re.sub(r"\b(?:rather than|instead of)\b", "not", marked)


def _read(text: str) -> list[Rule]:
    rules: list[Rule] = []
    heading = ""  # a label alone on its line: the items below it are its conditions
    for statement in filter(str.strip, _STATEMENT.split(text)):
        found = list(_claims(statement))
        if found:
            alone = len(found) == 1 and not found[0].condition and found[0].weight == 1
            heading = found[0].label if alone else ""
        elif heading or (rules and _GOES_ON.match(statement)):
            found = [Rule(heading or rules[-1].label, _trimmed(_TOKEN.findall(statement)))]
        _correct(found, rules)
        rules.extend(found)
    return rules


def _correct(found: Sequence[Rule], before: Sequence[Rule]) -> None:
    """Give a label without a condition that of what it corrects ("..., not shipping")."""
    for rule in found:
        others = [
            other for other in (*before[-1:], *found) if other.condition and other.weight * rule.weight < 0
        ]
        if others and not rule.condition and abs(rule.weight) == 1:
            rule.condition = others[-1].condition


def _claims(statement: str) -> Iterator[Rule]:
    """Yield the labels of one statement with their conditions."""
    yield from (Rule(winner[1], "", 0.5) for winner in _WINS.finditer(statement))
    listed = _RUN.sub(lambda run: re.sub(_LABEL, "these", run[0]), _WINS.sub("", statement))
    tokens = _TOKEN.findall(_ASIDE.sub("", listed))
    start, opened, last = 0, None, ""
    for at, token in enumerate(tokens):
        if not re.fullmatch(_LABEL, token):
            continue
        cut = _last_cut(tokens, start, at) if opened else start
        side = _side(tokens[cut:at], tokens[at + 1 :])
        if not side:
            continue
        if opened:
            yield from _with_exceptions(opened, tokens[start:cut])
        rule = Rule(token, "", -1.0 if _denied(tokens[cut:at]) else 1.0)
        opened = rule
        if side == "behind":
            body = tokens[cut : at - len(_handling(tokens[cut:at]))]
            yield from _with_exceptions(rule, body[body[0] in _SETS["orders"] :])
            opened = Rule(token) if tokens[at + 1 : at + 2] in ([":"], ["("]) else None
        start, last = at + 1, token
    if opened:
        yield from _with_exceptions(opened, tokens[start:])
    elif last and tokens[start:] and (exception := _EXCEPT.match(" ".join(tokens[start:]))):
        yield Rule(last, _trimmed(" ".join(tokens[start:])[exception.end() :].split()), -1.0)


def _last_cut(tokens: Sequence[str], start: int, at: int) -> int:
    """Return where, between two labels, what is said of the first may end: at the last comma or "and"."""
    joints = (",", ";", "and", "but", "while", "whereas", "or", "not")
    return next((place for place in range(at - 1, start - 1, -1) if tokens[place] in joints), at)


def _side(lead: Sequence[str], after: Sequence[str]) -> str:
    """Say whether a label stands before its condition, behind it, or is a word like any other ("")."""
    plain = [token for token in lead if token not in _MARKS]
    quoted = bool(after) and after[0] in "`\"'*"
    after = [sign for sign in after if sign not in "`\"'*]"]
    ends = not after or after[0] in _SETS["ends"]
    if all(token in _HANDLING for token in plain):
        return "before" if ends or quoted or after[0] in _SETS["after"] else ""
    if (
        len(plain) <= NAMED_BY
        and plain[-1] in ("is", "are", "be")
        and after[:1]
        and after[0] in ("for", "if", "when")
    ):
        return "before"  # "Urgency is high for ..."
    joints = [at for at, sign in enumerate(plain) if sign in ":,"]
    if joints and not ends and after[0] in _SETS["after"] and _HANDLING.issuperset(plain[joints[-1] :]):
        return "before"  # "Urgency, in this order: high for ...", "For urgency, use high for ..."
    if plain[-1] == ",":
        return (
            "behind" if not after or after[0] == "." or plain[0] in ("if", "when", "whenever", "for") else ""
        )
    links = plain[-1] in _LINKS or _denied(lead) or plain[-1] in ("the", "a", "an", "always", "only")
    return "behind" if links and ends and _trimmed(lead) else ""


def _denied(lead: Sequence[str]) -> bool:
    """Say whether a label is denied: by a "not" before it, or by the whole ("never mark a key urgent")."""
    return bool(_NEGATIONS & {*_handling(lead), *lead[:1]} or list(lead[:2]) == ["do", "not"])


def _handling(lead: Sequence[str]) -> Sequence[str]:
    """Return the last words of `lead` that only lead over to the label."""
    kept = len(lead)
    while kept and (lead[kept - 1] in _HANDLING or lead[kept - 1] in _MARKS):
        kept -= 1
    return lead[kept:]


def _with_exceptions(rule: Rule, said: Sequence[str]) -> Iterator[Rule]:
    """Yield the rule with its condition, and one for what is excepted from it."""
    condition, *exceptions = (_trimmed(part.split()) for part in _EXCEPT.split(" ".join(said)))
    left = [
        word for word in _REST.sub("", " ".join(said)).split() if word not in _OPENERS | _HANDLING | _MARKS
    ]
    if _SEVERAL.search(condition):
        yield Rule(rule.label, "", 0.5)
    else:
        yield Rule(
            rule.label, REST if _REST.search(" ".join(said)) and len(left) < 2 else condition, rule.weight
        )
    yield from (Rule(rule.label, exception, -rule.weight) for exception in exceptions if exception)


def _trimmed(tokens: Sequence[str]) -> str:
    """Return the words without those that only begin or end a condition."""
    edge = _MARKS | {",", "|", ":", "="}
    first, last = 0, len(tokens)
    while first < last and tokens[first] in _OPENERS | edge | _NEGATIONS:
        first += 1
    while last > first and tokens[last - 1] in edge | {"instead"}:
        last -= 1
    return " ".join(tokens[first:last])
