"""Answering from a context: the sentences that bear on the question, and the ids of their chunks.

Main path: quote(field, work) -> Result. Nothing that bears on the question, or no context: it says so.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.reading import parsed
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.candidates import candidates, number_leaf, text_leaf
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

CONTEXT = re.compile(
    r"contexts?|passages?|documents?|docs|evidence|sources?|articles?|chunks?|knowledge|references?|snippets?"
    r"|retrieved|search_results|results|background|paragraphs?|excerpts?",
    re.IGNORECASE,
)
QUESTION = re.compile(
    r"questions?|query|ask|prompt|request|message|ticket|claim|problem|issue|statement", re.IGNORECASE
)
CITED = re.compile(
    r"citations?|cites|cited|sources?|references?|evidence_ids|article_ids|doc_ids|articles", re.IGNORECASE
)

BEARS = 0.95  # how much of the question's weight a chunk must cover
ABSENT = 0.75  # weight of a word that the context does not have, against a rare one that it has
TITLE = 2.0  # how much more a word counts that stands in a chunk's first line
LENGTH = 0.3  # how much a long chunk is discounted for holding more words
SHORT, SHORT_SHARE = 4, 0.55  # of a question of so few words, so much must be in one chunk
BREADTH = 0.5  # how much more of a longer question must be covered
IDEA = 0.15  # weight of an idea that question and context share, against a shared word
UNKNOWN = (
    "I don't know: the context does not say.",
    "I don't know. Nothing in the context bears on this question.",
    "The context does not answer this, so I don't know.",
)

_ID = re.compile(r"^\s*\[([\w][\w .:/-]{0,60})\]\s*")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage of the context."""

    id: str
    """What stands in brackets at its start; its number if nothing does."""
    text: str


@dataclass(frozen=True, slots=True)
class Quote:
    """The sentences that answer, best first, and the ids of their chunks."""

    sentences: tuple[str, ...]
    ids: tuple[str, ...]
    shared: tuple[str, ...]


_NOTHING = Quote((), (), ())


def context_names(work: Work) -> list[str]:
    """Return the input fields that hold a context, if the program also asks a question."""
    names = [field.name for field in work.task.spec.inputs]
    held = [name for name in names if CONTEXT.fullmatch(name) or CONTEXT.fullmatch(name.rsplit("_", 1)[-1])]
    return held if len(held) < len(names) else []


def quote(field: Field, work: Work) -> Result | None:
    """Answer a field, or list the citations, from the context; pass if the program has none."""
    held = context_names(work)
    kind = field.schema.get("type")
    if not held or kind not in ("string", "array", "integer", "number"):
        return None
    context, question = _halves(work, held)
    quoted = bearing(context, question)
    if any(CITED.fullmatch(name) for name in (field.name, field.name.rsplit("_", 1)[-1])):
        return _cited(field, quoted)
    if kind == "array":
        return None
    if not is_free_text(field):
        return _typed(field, quoted)
    if not quoted.sentences:
        return Result(work.vary(UNKNOWN), "nothing in the context bears on the question")
    shared = ", ".join(f"'{word}'" for word in quoted.shared[:3])
    where = f" in {quoted.ids[0]}" if quoted.ids else ""
    because = f"the context speaks of {shared}{where}"
    if wants_short(field, work):
        return Result(span(question, quoted.sentences[0]), because)
    lengths = range(len(quoted.sentences), 0, -1)
    return Result(work.vary([" ".join(quoted.sentences[:length]) for length in lengths]), because)


def _cited(field: Field, quoted: Quote) -> Result | None:
    """List the sources of an answer."""
    if field.schema.get("type") == "string":
        return Result(", ".join(quoted.ids))
    is_plain = field.schema.get("items", {}).get("type", "string") == "string"
    return Result(list(quoted.ids)) if is_plain and "x-class" not in field.schema.get("items", {}) else None


def _typed(field: Field, quoted: Quote) -> Result | None:
    """Take a number or a date from the sentences that bear on the question."""
    text = " ".join(quoted.sentences)
    leaf = text_leaf if field.schema.get("type") == "string" else number_leaf
    value = leaf(field.schema, field.name, field.desc, text) if text else None
    return None if value is None else Result(value, f"the context says '{quoted.sentences[0]}'")


_SHORT = re.compile(
    r"\b(short|brief|concise|few words|one word|1-\d words|phrase|span|entity|exact)\b", re.IGNORECASE
)


def wants_short(field: Field, work: Work) -> bool:
    """Say whether a few words are wanted: the prompt says so, or the demos answer so."""
    if _SHORT.search(f"{field.desc} {work.task.spec.instructions}"):
        return True
    outputs = [str(turn.outputs[field.name]) for turn in work.task.demos if field.name in turn.outputs]
    return bool(outputs) and sum(len(text.split()) for text in outputs) <= 5 * len(outputs)


_HOW_MUCH = r"\bhow (?:much|many|long|old|far|big|heavy)\b|\bwhat (?:price|number|percentage)\b"


def span(question: str, sentence: str) -> str:
    """Return the few words of `sentence` that answer such a question; all of it if that is unclear."""
    lowered = question.lower()
    pieces = candidates(sentence)
    wanted: tuple[str, ...] = ()
    if re.search(_HOW_MUCH, lowered):
        figures = re.findall(r"\b\d[\d.,]*(?:\s+[a-z]+)?", sentence)
        wanted = (*pieces.of("money"), *pieces.of("percent"), *figures)
    elif re.search(r"\b(?:when|what year|which year|what date)\b", lowered):
        wanted = (*pieces.dates, *re.findall(r"\b(?:1[5-9]|20)\d\d\b", sentence), *pieces.of("time"))
    elif re.search(r"\b(?:who|whose|where|which|what)\b", lowered):
        wanted = tuple(name for name in pieces.names if name.lower() not in lowered)
    return wanted[0] if wanted else sentence


def _halves(work: Work, held: Sequence[str]) -> tuple[str, str]:
    """Return the context fields and the other inputs, each as one text."""
    inputs = work.task.inputs
    context = "\n\n".join(inputs[name] for name in held if name in inputs)
    return context, "\n".join(value for name, value in inputs.items() if name not in held)


@lru_cache(maxsize=512)
def chunks(context: str) -> tuple[Chunk, ...]:
    """Cut a context into passages: a JSON list, DSPy's «» passages, `[id]` paragraphs, or one text."""
    passages = []
    for number, text in enumerate(_listed(context), 1):
        head = _ID.match(text)
        body = text[head.end() :] if head else text
        passages.append(Chunk(head.group(1) if head else str(number), body.strip("«» \n")))
    return tuple(chunk for chunk in passages if chunk.text)


def _listed(context: str) -> list[str]:
    stripped = context.strip()
    if stripped.startswith("[") and stripped.endswith("]") and (values := parsed(stripped)) is not None:
        return [value if isinstance(value, str) else json.dumps(value) for value in values]
    if "«" in stripped:
        return [part.strip() for part in re.findall(r"«+(.*?)»+", stripped, re.DOTALL)]
    if re.search(r"^\s*\[[\w-]+\]", stripped, re.MULTILINE):
        return re.split(r"\n\s*(?=\[[\w-]+\])", stripped)
    return [] if stripped in ("", "[]", "N/A", "None", "null") else [stripped]


@lru_cache(maxsize=512)
def bearing(context: str, question: str) -> Quote:
    """Return what of `context` bears on `question`."""
    passages = chunks(context)
    wanted = _wanted(question)
    if not passages or not wanted:
        return _NOTHING
    texts = [words.features(chunk.text, parts=False) for chunk in passages]
    seen = Counter(feature for text in texts for feature in text)
    weigh = {
        feature: weight
        * math.log(1 + (len(texts) + 1) / (seen[feature] + 0.5))
        * (1.0 if seen[feature] else ABSENT)
        for feature, weight in wanted.items()
    }
    # A long message is about more than one article can cover, hence the root.
    most = sum(weight for feature, weight in weigh.items() if feature[0] != "@") ** BREADTH or 1.0
    titles = [words.features(chunk.text.split("\n", 1)[0], parts=False) for chunk in passages]
    longest = max(1, *(len(text) for text in texts))
    covered = [
        sum(weigh[feature] * (TITLE if feature in title else 1.0) for feature in text if feature in weigh)
        / (1.0 - LENGTH + LENGTH * len(text) / longest)
        for text, title in zip(texts, titles, strict=True)
    ]
    home = max(range(len(passages)), key=covered.__getitem__)
    if covered[home] / most < BEARS or not _covers_short(weigh, texts[home]):
        return _NOTHING
    ranked = []
    for at, chunk in enumerate(passages):
        if covered[at] < 0.6 * covered[home]:
            continue
        for order, sentence in enumerate(words.sentences(chunk.text)):
            if sentence[-1] in ".!?" or len(passages) == 1:  # titles and table rows are not answers
                own = sum(weigh.get(feature, 0.0) for feature in words.features(sentence, parts=False))
                ranked.append((own * covered[at] / covered[home], -at, -order, sentence))
    ranked.sort(reverse=True)
    if not ranked or ranked[0][0] <= 0:
        return _NOTHING
    best = ranked[0][0]
    chosen = [(-at, sentence) for score, at, _, sentence in ranked[:2] if score >= 0.75 * best]
    shared = tuple(f for f in words.features(chosen[0][1], parts=False) if f in weigh and f[0] != "@")
    ids = tuple(dict.fromkeys(passages[at].id for at, _ in chosen))
    return Quote(tuple(dict.fromkeys(sentence for _, sentence in chosen)), ids, shared)


def _covers_short(weigh: Mapping[str, float], text: Mapping[str, float]) -> bool:
    """Say whether a chunk has most words of a question of a few words; a long one need not be covered."""
    plain = [feature for feature in weigh if feature[0] != "@"]
    have = sum(weigh[feature] for feature in plain if feature in text)
    return len(plain) > SHORT or have >= SHORT_SHARE * sum(weigh[feature] for feature in plain)


def _wanted(question: str) -> dict[str, float]:
    """Return what to look for: the words of the question, those of its asking sentences twice."""
    wanted = dict(words.features(question, parts=False))
    asking = [sentence for sentence in words.sentences(question) if sentence.endswith("?")]
    for feature in words.features(" ".join(asking), parts=False) if len(question) > 120 else ():
        if feature in wanted:
            wanted[feature] *= 1.5
    return {
        f: weight * (IDEA if f[0] == "@" else 1.0) for f, weight in wanted.items() if f not in words.MANNERS
    }
