"""Answering from a text: the sentences that bear on the question, and the ids of their passages.

Main path: quote(field, work) -> Result. Nothing that bears on the question, or no context: it says so.
One passage is read sentence by sentence (words, meaning, the kind of thing asked for: asked.py); of several,
the one that covers most of the question is read.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.agents.lexing import lex
from course_lib.lm.simulator.prompts import Field, Task
from course_lib.lm.simulator.reading import parsed
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.asked import STRICT, kind_asked, told
from course_lib.lm.simulator.skills.extracting import value_in
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

CONTEXT = re.compile(
    r"contexts?|passages?|documents?|docs|evidence|sources?|articles?|chunks?|knowledge|references?|snippets?"
    r"|retrieved|search_results|results|background|paragraphs?|excerpts?|polic(?:y|ies)|faqs?|manuals?|guidelines",
    re.IGNORECASE,
)
QUESTION = re.compile(
    r"questions?|query|ask|prompt|request|message|ticket|claim|problem|issue|statement|(\w+_)?question",
    re.IGNORECASE,
)
CITED = re.compile(
    r"citations?|cites|cited|sources?|references?|evidence_ids|article_ids|doc_ids|articles", re.IGNORECASE
)
_ASIDE = re.compile(
    r"history|(\w+_)?(options|choices|candidates|labels|categories)|answer|prediction", re.IGNORECASE
)

# Of several passages
BEARS = 0.95  # how much of the question's weight a chunk must cover
ABSENT = 0.75  # weight of a word that the context does not have, against a rare one that it has
TITLE = 2.0  # how much more a word counts that stands in a chunk's first line
LENGTH = 0.3  # how much a long chunk is discounted for holding more words
SHORT, SHORT_SHARE = 4, 0.55  # of a question of so few words, so much must be in one chunk
BREADTH = 0.5  # how much more of a longer question must be covered
IDEA = 0.15  # weight of an idea that question and context share, against a shared word
# Of one
NEAR = {"": 0.85, "whether": 0.95, "where": 1.0, "duration": 0.9}
"""How near a sentence must be to the question, in the share of its words plus the cosine."""
TYPED = 0.3  # what it adds that a sentence has the kind of thing asked for
UNTYPED = 1.0  # what it takes that it has not
CLEAR = 0.7  # a lead that needs no comparison of meanings, which takes 15 ms a new sentence
MOST_COMPARED = 8
LONGEST_QUESTION = 250  # a longer text is a message, of which no single sentence has all
UNKNOWN = (
    "I don't know: the context does not say.",
    "I don't know. Nothing in the context bears on this question.",
    "The context does not answer this, so I don't know.",
)

_GENERAL = words.roots("happen tell mean people person time day kind need have get text say much many use")
_NAME_OF = re.compile(r"\bnames? of\b|\bkind of\b|\bnumber of\b", re.IGNORECASE)
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


_NOTHING = Quote((), ())


def is_question(text: str) -> bool:
    """Say whether a text asks something."""
    asks = ("what", "who", "when", "where", "which", "how", "why", "whose")
    return text.rstrip(" \"'").endswith("?") or any(
        first.lower() in asks for first in text.split(None, 1)[:1]
    )


def context_names(work: Work) -> list[str]:
    """Return the input fields that hold a context, if the program also asks a question."""
    names = [field.name for field in work.task.spec.inputs]
    held = [name for name in names if CONTEXT.fullmatch(name) or CONTEXT.fullmatch(name.rsplit("_", 1)[-1])]
    asking = [name for name in names if re.fullmatch(r"(\w+_)?(questions?|query)", name)]
    if not held and len(asking) == 1 and len(names) > 1:
        return [name for name in names if name not in asking and not _ASIDE.fullmatch(name)]
    return held if len(held) < len(names) else []


def quote(field: Field, work: Work) -> Result | None:
    """Answer a field, or list the citations, from the context; pass if the program has none."""
    held = context_names(work)
    kind = field.schema.get("type")
    if kind not in ("string", "array", "integer", "number"):
        return None
    context, question = _halves(work, held) if held else _beside(work)
    if not context:
        return Result(work.vary(UNKNOWN), "no context is given") if held and is_free_text(field) else None
    quoted = bearing(context, question)
    if held and any(CITED.fullmatch(name) for name in (field.name, field.name.rsplit("_", 1)[-1])):
        return _cited(field, quoted)
    if kind == "array" or (not held and not quoted.sentences):
        return None
    if not is_free_text(field):
        return _typed(field, question, quoted)
    if not quoted.sentences:
        return Result(work.vary(UNKNOWN), "nothing in the context bears on the question")
    because = f'the context says: "{quoted.sentences[0].rstrip(".")}"'
    if wants_short(field, work):
        return Result(span(question, quoted.sentences[0]), because)
    return Result(_worded(quoted, work), because)


def _worded(quoted: Quote, work: Work) -> str:
    """Return the sentences that answer; with a temperature, fewer of them or other words around them."""
    lengths = range(len(quoted.sentences), 0, -1)
    texts = [" ".join(quoted.sentences[:length]) for length in lengths]
    first = quoted.sentences[0]
    return work.vary([*texts, f"The text says: {first}", f"{first} This is what the text says."])


def _cited(field: Field, quoted: Quote) -> Result | None:
    """List the sources of an answer."""
    if field.schema.get("type") == "string":
        return Result(", ".join(quoted.ids))
    is_plain = field.schema.get("items", {}).get("type", "string") == "string"
    return Result(list(quoted.ids)) if is_plain and "x-class" not in field.schema.get("items", {}) else None


def _typed(field: Field, question: str, quoted: Quote) -> Result | None:
    """Take a number or a date from the sentences that bear on the question."""
    text = " ".join(quoted.sentences)
    if not text:
        return None
    pieces = told(kind_asked(question), question, quoted.sentences[0])
    value = value_in(field, pieces[0]) if pieces else None
    value = value_in(field, text) if value is None else value
    return None if value is None else Result(value, f'the context says: "{quoted.sentences[0].rstrip(".")}"')


_SHORT = re.compile(
    r"\b(short|brief|concise|few words|(?:one|a single|two|three) words?|\d(?:-| to )\d words"
    r"|to three words|phrase|span|entity|exact)\b",
    re.IGNORECASE,
)


def wants_short(field: Field, work: Work) -> bool:
    """Say whether a few words are wanted: the prompt says so, or the demos answer so."""
    if _SHORT.search(f"{field.desc} {work.task.spec.instructions}"):
        return True
    outputs = [str(turn.outputs[field.name]) for turn in work.task.demos if field.name in turn.outputs]
    return bool(outputs) and sum(len(text.split()) for text in outputs) <= 5 * len(outputs)


def span(question: str, sentence: str) -> str:
    """Return the few words of `sentence` that answer such a question; all of it if that is unclear."""
    kind = kind_asked(question)
    if pieces := told(kind, question, focused(question, sentence)) or told(kind, question, sentence):
        return pieces[0]
    if kind or not re.search(r"\b(?:what|which)\b", question, re.IGNORECASE):
        return sentence
    names = [str(one.value) for one in lex(sentence) if one.kind == "name"]
    return next((name for name in names if name.lower() not in question.lower()), sentence)


def focused(question: str, sentence: str) -> str:
    """Return the clause of a sentence that is nearest to a question, where several have what it asks for."""
    pieces = told(kind_asked(question), question, sentence)
    clauses = re.split(r"[,;]\s+|\s(?:and|but|while)\s", sentence)
    homes = [clause for clause in clauses if any(piece in clause for piece in pieces)]
    asked = set(words.stems(question))
    shares = [asked.intersection(words.stems(clause)) for clause in homes]
    best = max(shares, key=len, default=set())
    if len(homes) < 2 or shares.count(best) > 1 or not all(share <= best for share in shares):
        return sentence
    return homes[shares.index(best)].strip(" .") + "."


def _halves(work: Work, held: Sequence[str]) -> tuple[str, str]:
    """Return the context fields and the other inputs, each as one text."""
    inputs = work.task.inputs
    context = "\n\n".join(inputs[name] for name in held if name in inputs)
    return context, "\n".join(value for name, value in inputs.items() if name not in held)


def _beside(work: Work) -> tuple[str, str]:
    """Return what instructions and earlier turns say, and the question, where no input is a context."""
    question = work.task.text.strip()
    if not is_question(question) or len(question) > LONGEST_QUESTION:
        return "", question
    told_before = [turn.text for turn in work.task.history]
    told_before += [str(value) for turn in work.task.history for value in turn.outputs.values()]
    return "\n".join([_declared(work.task.spec.instructions), *told_before]).strip(), question


_ORDERS = re.compile(
    r"^(?:you (?:are|must|should|will)|answer|reply|respond|return|use|do not|don't|never|always|given"
    r"|be |if |output|write|extract"
    r"|classify|keep|say|only|please|your|produce|think|in adhering)\b",
    re.IGNORECASE,
)


def _declared(instructions: str) -> str:
    """Return what instructions state as facts, without what they tell the model to do."""
    return "\n".join(
        one for one in words.sentences(instructions) if not _ORDERS.match(one) and len(one.split()) >= 3
    )


# -- chat --------------------------------------------------------------------------------------------------


def passages_of(message: str, task: Task) -> tuple[str, str]:
    """Return the question of a chat message, and what may answer it: the rest, the system, earlier turns."""
    quoted = re.search(r"[\"'“](.{40,}?)[\"'”](?=\s|$)", message, re.DOTALL)
    if quoted:
        question = (message[: quoted.start()] + message[quoted.end() :]).strip(" :\n")
        asking = [one for one in words.sentences(question) if is_question(one)]
        return (asking or [question])[-1], quoted.group(1)
    sentences = words.sentences(
        re.sub(r"^(?:context|text|question|passage)\s*:\s*", "", message, flags=re.IGNORECASE | re.MULTILINE)
    )
    asking = [one for one in sentences if is_question(one)]
    question = (
        re.sub(r"^(?:and|so|but|ok|now|then)\b,?\s*", "", asking[-1], flags=re.IGNORECASE)
        if asking
        else message.strip()
    )
    rest = [one for one in sentences if one not in asking and not _ORDERS.match(one)] if asking else []
    earlier = [turn.text for turn in (*task.demos, *task.history) if not is_question(turn.text)]
    return question, "\n".join([*rest, _declared(task.spec.instructions), *earlier]).strip()


def answer_from(context: str, question: str, work: Work) -> str:
    """Return the answer to a chat question from a text, or an empty text if it has none."""
    quoted = bearing(context, question)
    return _worded(quoted, work) if quoted.sentences else ""


# -- passages ----------------------------------------------------------------------------------------------


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
    if not passages or not question.strip():
        return _NOTHING
    is_found = not all(chunk.id.isdigit() for chunk in passages)  # by a search, for a message of any kind
    are_short = len(passages) == 1 or max(len(chunk.text) for chunk in passages) < 200
    bears = _nearest if len(question) <= LONGEST_QUESTION and are_short and not is_found else _covering
    found = [bears(passages, part) for part in _parts(question)]
    sentences = dict.fromkeys(text for quote in found for text in quote.sentences)
    return Quote(tuple(sentences), tuple(dict.fromkeys(one for quote in found for one in quote.ids)))


_AND = re.compile(r",?\s+and\s+(?=(?:who|what|when|where|which|why|how)\b)", re.IGNORECASE)


def _parts(question: str) -> list[str]:
    """Cut a question that asks two things; one that points back with a pronoun stays whole."""
    parts = _AND.split(question)
    return parts if not re.search(r"\b(?:it|its|they|their|them|he|she|his|her)\b", question) else [question]


def _nearest(passages: Sequence[Chunk], question: str) -> Quote:
    """Return the sentence nearest to a question in words and meaning, and of the kind asked for."""
    stated = [
        (chunk.id, one) for chunk in passages for one in words.sentences(chunk.text) if not one.endswith("?")
    ]
    if not stated:
        return _NOTHING
    kind = kind_asked(question)
    spoken = list(_with_subjects([sentence for _, sentence in stated], set(words.stems(question))))
    scores = _shares(question, spoken)
    for at, (_, sentence) in enumerate(stated):
        is_told = bool(told(kind, question, sentence))
        is_wrong = kind in STRICT and not is_told
        scores[at] += TYPED * is_told - UNTYPED * is_wrong
    least = NEAR.get(kind, NEAR[""])
    ranked = sorted(range(len(stated)), key=lambda at: (-scores[at], at))
    if len(ranked) > 1 and not (scores[ranked[0]] >= least and scores[ranked[0]] - scores[ranked[1]] > CLEAR):
        compared = ranked[:MOST_COMPARED]
        near = encode([spoken[at] for at in compared]) @ encode([question])[0]
        for at, likeness in zip(compared, near, strict=True):
            scores[at] += float(likeness)
        ranked = sorted(compared, key=lambda at: (-scores[at], at))
    best = ranked[0]
    home, sentence = stated[best]
    return Quote((focused(question, sentence),), (home,)) if scores[best] >= least else _NOTHING


def _with_subjects(sentences: Sequence[str], asked: set[str]) -> Iterator[str]:
    """Yield the sentences; where one begins with a pronoun, and has a word asked for, with its subject."""
    subject = ""
    for one in sentences:
        pronoun = re.match(r"(?:It|He|She|They)\b", one)
        if not pronoun:
            first = next((piece for piece in lex(one) if piece.kind in ("name", "phrase")), None)
            subject = one[: first.end] if first else ""
        yield (
            subject + one[pronoun.end() :]
            if pronoun and subject and asked.intersection(words.stems(one))
            else one
        )


def _shares(question: str, sentences: Sequence[str]) -> list[float]:
    """Return for each sentence how much it has of the question's words, the rarer ones weighing more."""
    wanted = {
        feature: weight
        for feature, weight in _wanted(_NAME_OF.sub("", question)).items()
        if feature not in _GENERAL and feature[0] != "@"
    }
    texts = [words.features(sentence, parts=False) for sentence in sentences]
    weigh = _weights(wanted, texts, absent=1.0)
    most = sum(weigh.values()) or 1.0
    return [sum(weight * _has(feature, text) for feature, weight in weigh.items()) / most for text in texts]


def _has(feature: str, text: Mapping[str, float]) -> float:
    """Say whether a text has a word, or nearly: another of the same family (`designer`, `designed`)."""
    if feature in text or len(feature) < 6:
        return float(feature in text)
    return 0.7 * any(words.are_akin(feature, other) for other in text)


def _covering(passages: Sequence[Chunk], question: str) -> Quote:
    """Return the sentences that bear on a text, from the passages that cover most of what it speaks of."""
    wanted = _wanted(question)
    if not wanted:
        return _NOTHING
    texts = [words.features(chunk.text, parts=False) for chunk in passages]
    weigh = _weights(wanted, texts)
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
    return _best_sentences(passages, weigh, [value / covered[home] for value in covered])


def _weights(
    wanted: Mapping[str, float], texts: Sequence[Mapping[str, float]], *, absent: float = ABSENT
) -> dict[str, float]:
    """Weigh what is looked for, the rarer the more; `absent` is for what no text has."""
    seen = Counter(feature for text in texts for feature in text)
    return {
        feature: weight
        * math.log(1 + (len(texts) + 1) / (seen[feature] + 0.5))
        * (1.0 if seen[feature] else absent)
        for feature, weight in wanted.items()
    }


def _best_sentences(passages: Sequence[Chunk], weigh: Mapping[str, float], covered: Sequence[float]) -> Quote:
    """Return the one or two best sentences of the passages that are not far behind the best one."""
    ranked = []
    for at, chunk in enumerate(passages):
        for order, sentence in enumerate(words.sentences(chunk.text) if covered[at] >= 0.6 else ()):
            if sentence[-1] in ".!?" or len(passages) == 1:  # titles and table rows are not answers
                own = sum(weigh.get(feature, 0.0) for feature in words.features(sentence, parts=False))
                ranked.append((own * covered[at], -at, -order, sentence))
    ranked.sort(reverse=True)
    if not ranked or ranked[0][0] <= 0:
        return _NOTHING
    chosen = [(-at, sentence) for score, at, _, sentence in ranked[:2] if score >= 0.75 * ranked[0][0]]
    ids = tuple(dict.fromkeys(passages[at].id for at, _ in chosen))
    return Quote(tuple(dict.fromkeys(sentence for _, sentence in chosen)), ids)


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
