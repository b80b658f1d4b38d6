"""Judging: is a claim borne out by its evidence, does an answer say what the truth says, and how far.

Main path: judge(field, work) -> Result for a field that asks for such a verdict: as True or False, a label, a
score, a list of them, or in words. What is judged, and by what, is told by the names of the inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.reading import parsed
from course_lib.lm.simulator.skills.choice import closed_set
from course_lib.lm.simulator.skills.claims import BORNE_OUT, NO_ANSWER, Verdict, borne_out, statements
from course_lib.lm.simulator.skills.limits import limited
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text, is_reasoning

_TRUTH = r"(?:ground_?)?truths?|gold(?:en)?|reference|expected|correct|right|ideal|target|label|solution"
_EVIDENCE = (
    r"contexts?|evidence|passages?|documents?|sources?|premise|facts?|retrieved\w*|articles?|background"
)
_GIVEN = r"\w*response|\w*answer(?:_[a-z])?|summary|predict\w+|candidate(?:_[a-z])?|output|reply|submission"
_ROLES = {
    "truth": re.compile(rf"(?:\w+_)?(?:{_TRUTH})(?:_\w+)?|(?:model|sample|teacher_?s?|official)_answer"),
    "evidence": re.compile(rf"(?:\w+_)?(?:{_EVIDENCE})"),
    "question": re.compile(r"(?:\w+_)?(?:question|query|task|prompt)"),
    "claim": re.compile(r"(?:\w+_)?(?:claims?|statements?|hypothes[ie]s|assertions?|sentence)"),
    "criterion": re.compile(r"(?:\w+_)?(?:criteri(?:on|a)|requirements?|rubric|condition)"),
    "given": re.compile(rf"(?:\w+_)?(?:{_GIVEN})"),
}
_PRECISION = re.compile(r"precision|ground|faithful|support|entail|hallucin|attribut|verdict")
_RECALL = re.compile(r"recall|complete|coverage")
_ASKS = re.compile(
    r"precision|recall|complete|coverage|ground|faithful|support|entail|correct|accura|verdict|score|rating|grade"
    r"|equivalen|match|same|consistent|true|verified|backed|similar|quality|judge?ment|pass(?:ed|es)?$|f1|right"
    r"|\bmarks?\b|points|relevan|fulfil|met$|meets|satisf|label|answered",
    re.IGNORECASE,
)
_FAULT = re.compile(r"(is_|has_|contains_)?(hallucin|contra|incorrect|wrong|un|refut|false)")
_YES = re.compile(
    r"support|correct|entail|faithful|ground|pass|yes|true|equivalent|match|good|right|same", re.IGNORECASE
)
_NO = re.compile(
    r"refut|contra|incorrect|(?:un|not|mis|in)\w*|fail|no|false|wrong|bad|different", re.IGNORECASE
)
_MIDDLE = re.compile(
    r"neutral|not[_ -]?(?:enough|given|stated|mentioned|in_the)[\w ]*|nei|part\w*"
    r"|un(?:known|sure|clear|stated)|insufficient\w*|mixed|open|cannot.*",
    re.IGNORECASE,
)
_WHETHER = re.compile(
    r"(?:is|are|was|were|does|do|did|can|could|may|must|has|have|had|will|should) (?P<claim>.+)\?\s*$",
    re.IGNORECASE | re.DOTALL,
)
_LABELS = re.compile(
    r"\b(yes|true|supported) (?:or|and) (no|false|not supported|unsupported|refuted)\b|\byes/no\b"
)


def judge(field: Field, work: Work) -> Result | None:
    """Judge what was given by what is true; pass on fields that ask something else, or have demos."""
    if any(field.name in turn.outputs for turn in work.task.demos):
        return None
    roles = _roles(work, field)
    labels = _labels(field, work)
    asks = (
        _ASKS.search(f"{field.name} {field.desc}") or roles.get("claim") or (labels and is_free_text(field))
    )
    given, question = roles.get("given", ""), roles.get("question", "")
    truth = roles.get("truth") or roles.get("evidence") or ""
    if better := _better(labels, work.task.inputs, truth, question):
        return better
    if not asks and not is_free_text(field):
        return None
    if roles.get("claim") and roles.get("evidence"):
        return _of_claim(field, labels, roles)
    if given and not truth and labels == (False, True):
        return _by_meaning(given, _HAS.sub("", roles.get("criterion") or question))
    if not given or not truth:
        return None
    if is_free_text(field) and not labels:
        return _in_words(field, given, truth, question, work)
    verdict, why = _verdict(field.name, given, truth, question)
    return _in_type(field, labels, verdict, why)


def _labels(field: Field, work: Work) -> tuple[Any, ...]:
    """Return the labels of a field, also those that only the instructions name (`answer yes or no`)."""
    labels = closed_set(field, ())
    if labels or not is_free_text(field) or is_reasoning(field):
        return labels
    named = _LABELS.search(f"{field.desc}\n{work.task.spec.instructions}".lower())
    return () if named is None else (named[1], named[2]) if named[1] else ("yes", "no")


def _roles(work: Work, field: Field) -> dict[str, str]:
    """Return what is to be judged, what it is judged by, and the question, from the names of the inputs."""
    found: dict[str, str] = {}
    others: list[str] = []
    for name, value in work.task.inputs.items():
        role = next((role for role, names in _ROLES.items() if names.fullmatch(name.lower())), "")
        if role:
            found[role] = f"{found[role]}\n{value}" if role in found else value
        else:
            others.append(value)
    is_text = is_free_text(field) and not _labels(field, work)
    whether = _WHETHER.match(found.get("question", ""))
    if whether and not found.keys() & {"claim", "given", "truth"} and not is_text:
        found["claim"] = whether["claim"]
    if "claim" in found and not found.keys() & {"evidence", "truth"}:
        found["evidence"] = "\n".join(others)
    if "claim" in found and "evidence" not in found:
        found["given"] = found.pop("claim")
    return found


def _of_claim(field: Field, labels: Sequence[Any], roles: dict[str, str]) -> Result | None:
    """Judge one claim, or each of several where the field is a list."""
    items = field.schema.get("items", {})
    if field.schema.get("type") != "array":
        return _of_one(field, labels, roles["claim"], roles["evidence"])
    claims = parsed(roles["claim"])
    if not isinstance(claims, list) or not ("enum" in items or items.get("type") == "boolean"):
        return None
    each = tuple(items.get("enum", (False, True)))
    found = [_of_one(field, each, str(claim), roles["evidence"]) for claim in claims]
    return Result(
        [one.value for one in found if one], " ".join(dict.fromkeys(one.because for one in found if one))
    )


def _of_one(field: Field, labels: Sequence[Any], claim: str, evidence: str) -> Result | None:
    verdict = borne_out(claim, evidence)
    return _in_type(
        field, labels, verdict, f"{_measure(verdict.share)} of what is said is borne out by the text"
    )


def _in_type(field: Field, labels: Sequence[Any], verdict: Verdict, why: str) -> Result | None:
    """Write a verdict as True or False, as one of the labels, or as a score."""
    if tuple(labels) == (False, True):
        return Result((verdict.share >= BORNE_OUT) != bool(_FAULT.match(field.name)), why)
    if labels:
        label = _label(labels, verdict)
        return None if label is None else Result(label, why)
    if field.schema.get("type") in ("number", "integer"):
        low, high = bounds(field)
        return Result(limited(field.schema, round(low + verdict.share * (high - low), 2)), why)
    return None


def _verdict(name: str, given: str, truth: str, question: str) -> tuple[Verdict, str]:
    """Return how right what was given is, as the field's name asks, and why."""
    precision = borne_out(given, truth, question)
    if _PRECISION.search(name):
        return precision, f"{_measure(precision.share)} of what is said is borne out by the text"
    recall = borne_out(truth, given, question)
    if _RECALL.search(name):
        return recall, f"{_measure(recall.share)} of the truth is in the answer"
    shares = sorted((precision.share, recall.share))
    same = (shares[0] + 2 * shares[1]) / 3 if shares[0] else 0.0
    return Verdict(same, precision.is_denied), f"{_measure(same)} of the answer agrees with the truth"


def _measure(share: float) -> str:
    return "all" if share > 0.95 else "most" if share >= BORNE_OUT else "a part" if share > 0.1 else "nothing"


def _label(labels: Sequence[Any], verdict: Verdict) -> Any:
    """Return the label for a verdict: yes, no, or neither where what is said is not denied either."""
    middle = [label for label in labels if _MIDDLE.fullmatch(str(label))]
    no = [label for label in labels if _NO.match(str(label)) and label not in middle]
    yes = [label for label in labels if _YES.search(str(label)) and label not in no + middle]
    if not yes or not no:
        return None
    if verdict.share >= BORNE_OUT:
        return yes[0]
    return middle[0] if middle and not verdict.is_denied else no[0]


NEAR = 0.2  # nearness in meaning from which on two texts are about the same
_HAS = re.compile(
    r"^.*?\b(?:contains?|includes?|mentions?|names?|gives?|states?|has|offers?)\b", re.IGNORECASE
)


def _by_meaning(given: str, asked: str) -> Result:
    """Say whether a text has what a criterion wants, or is about its question, by nearness in meaning."""
    near = max(encode([one.text for one in statements(given)]) @ encode([asked])[0], default=0.0)
    holds = bool(asked) and not NO_ANSWER.search(given) and float(near) >= NEAR
    return Result(holds, f"in meaning the text is {'near to' if holds else 'far from'} what is asked")


def _better(labels: Sequence[Any], inputs: Mapping[str, str], truth: str, question: str) -> Result | None:
    """Choose the better of several answers, which the labels call by the end of their names."""
    called = {
        label: _verdict("", value, truth, question)[0].share
        for label in labels
        for name, value in inputs.items()
        if truth and re.search(rf"_{str(label)[-1:]}$", name, re.IGNORECASE)
    }
    if len(called) < max(2, len(labels) - 1):
        return None
    chosen = max(called, key=called.__getitem__)
    return Result(chosen, f"{chosen} agrees more with the truth")


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
    ideas = [
        (f"{one.text.rstrip('.')}.", borne_out(one.text, by, question).share) for one in statements(told)
    ]
    found = [f"{says}: {text}" for text, score in ideas if score >= BORNE_OUT]
    missed = [f"{lacks}: {text}" for text, score in ideas if score < BORNE_OUT]
    return Result(" ".join(found[:3] + missed[:3]))
