"""Answering from a context: the sentences that bear on the question, with the ids of the chunks they stand in.

Main path: quote(field, work) -> Found. Nothing that bears on the question, or no context: it says so.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from course_lib.lm.prompts import Field
from course_lib.lm.skills import words
from course_lib.lm.skills.work import Found, Work

CONTEXT = re.compile(
    r"contexts?|passages?|documents?|docs|evidence|sources?|articles?|chunks?|knowledge|references?|snippets?"
    r"|retrieved|search_results|results|background|paragraphs?|excerpts?",
    re.IGNORECASE,
)
QUESTION = re.compile(
    r"questions?|query|ask|prompt|request|message|ticket|claim|problem|issue", re.IGNORECASE
)
CITED = re.compile(
    r"citations?|cites|cited|sources?|references?|evidence_ids|article_ids|doc_ids|articles", re.IGNORECASE
)

BEARS = 0.34  # share of the question's weight that a sentence and its chunk must cover
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


def context_names(work: Work) -> list[str]:
    """Return the input fields that hold a context, if the program also asks a question."""
    names = [field.name for field in work.task.spec.inputs]
    held = [name for name in names if CONTEXT.fullmatch(name) or CONTEXT.fullmatch(name.rsplit("_", 1)[-1])]
    return held if len(held) < len(names) else []


def quote(field: Field, work: Work) -> Found | None:
    """Answer a text field, or a list of citations, from the context; pass if the program has none."""
    held = context_names(work)
    kind = field.schema.get("type")
    if not held or kind not in ("string", "array") or "format" in field.schema:
        return None
    found = find(work, held)
    if CITED.fullmatch(field.name.rsplit("_", 1)[-1]) or CITED.fullmatch(field.name):
        items = field.schema.get("items", {})
        if kind == "array" and items.get("type", "string") == "string" and "x-class" not in items:
            return Found(list(found.ids), "")
        return Found(", ".join(found.ids), "") if kind == "string" else None
    if kind == "array":
        return None
    if not found.sentences:
        return Found(work.vary(UNKNOWN), "nothing in the context bears on the question")
    told = ", ".join(f"'{word}'" for word in found.shared[:3])
    where = f" in {found.ids[0]}" if found.ids else ""
    return Found(" ".join(found.sentences), f"the context speaks of {told}{where}")


def find(work: Work, held: Sequence[str]) -> Quote:
    """Return the sentences of the context fields that bear on the other inputs; kept for the next field."""
    if "quote" not in work.notes:
        inputs = work.task.inputs
        asked = "\n".join(value for name, value in inputs.items() if name not in held)
        context = "\n\n".join(inputs[name] for name in held if name in inputs)
        work.notes["quote"] = bearing(context, asked)
    found: Quote = work.notes["quote"]
    return found


@lru_cache(maxsize=512)
def chunks(context: str) -> tuple[Chunk, ...]:
    """Cut a context into passages: a JSON list, DSPy's «numbered» passages, `[id]` paragraphs, or one text."""
    texts = _listed(context)
    found = []
    for number, text in enumerate(texts, 1):
        head = _ID.match(text)
        body = text[head.end() :] if head else text
        found.append(Chunk(head.group(1) if head else str(number), body.strip("«» \n")))
    return tuple(chunk for chunk in found if chunk.text)


def _listed(context: str) -> list[str]:
    stripped = context.strip()
    if stripped.startswith("[") and stripped.endswith("]"):
        try:
            values = json.loads(stripped)
            return [value if isinstance(value, str) else json.dumps(value) for value in values]
        except ValueError:
            pass
    if "«" in stripped:
        return [part.strip() for part in re.findall(r"«+(.*?)»+", stripped, re.DOTALL)]
    if re.search(r"^\s*\[[\w-]+\]", stripped, re.MULTILINE):
        return re.split(r"\n\s*(?=\[[\w-]+\])", stripped)
    return [] if stripped in ("", "[]", "N/A", "None", "null") else [stripped]


@lru_cache(maxsize=512)
def bearing(context: str, question: str) -> Quote:
    """Return what of `context` bears on `question`."""
    passages = chunks(context)
    wanted = Counter(words.stems(question))
    if not passages or not wanted:
        return Quote((), (), ())
    rows = [
        (at, sentence, set(words.stems(sentence)))
        for at, chunk in enumerate(passages)
        for sentence in words.sentences(chunk.text)
    ]
    seen = Counter(root for _, _, roots in rows for root in roots)
    weigh = {root: math.log(1 + (len(rows) + 1) / (seen[root] + 0.5)) for root in wanted}
    most = sum(weigh.values())
    per_chunk = [0.0] * len(passages)
    for at, chunk in enumerate(passages):
        roots = set(words.stems(chunk.text))
        per_chunk[at] = sum(weight for root, weight in weigh.items() if root in roots) / most
    scored = []
    for order, (at, sentence, roots) in enumerate(rows):
        own = sum(weight for root, weight in weigh.items() if root in roots) / most
        if own > 0:
            scored.append((0.6 * own + 0.4 * per_chunk[at], -order, at, sentence))
    scored.sort(reverse=True)
    if not scored or scored[0][0] < BEARS:
        return Quote((), (), ())
    best, _, home, first = scored[0]
    chosen = [(home, first)]
    for score, _, at, sentence in scored[1:]:
        if score >= 0.75 * best and len(chosen) < 2 and sentence != first:
            chosen.append((at, sentence))
    shared = tuple(root for root in wanted if root in set(words.stems(first)))
    ids = tuple(dict.fromkeys(passages[at].id for at, _ in chosen))
    return Quote(tuple(sentence for _, sentence in chosen), ids, shared)
