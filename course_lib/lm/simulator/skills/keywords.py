"""A text in fewer words: its central sentence, a title, its keywords.

Main path: summarise(field, work) for a summary or a title; phrases_of(name, text) for
keywords, points and steps.
"""

from __future__ import annotations

import re
from collections import Counter

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.agents.lexing import lex
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.values import labelled
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.quantities import NUMBER, number
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

TITLE_WORDS, MOST_WORDS, MOST_POINTS = 10, 5, 8
SHORTEST = 12  # a text of fewer words is not shortened
LEAD = 1.25  # how much more the first sentence counts: texts begin with what they are about
_SUMMARY = re.compile(
    r"(\w+_)?(summary|summarization|summari[sz]ed|gist|tl_?dr|abstract|synopsis|overview|digest|recap|note|memo"
    r"|main_idea|main_point|takeaway"
    r"|topic_sentence|key_sentence|headline_sentence)(_text)?|short_version|in_short|condensed\w*"
    r"|shortened\w*",
    re.IGNORECASE,
)
_TITLE = re.compile(
    r"(?:(?:email|mail|news|article|blog|post|page|section|suggested|new|short|generated|best|catchy)_)?(title|headline|subject|subject_line|heading|caption)",
    re.IGNORECASE,
)
_POINTS = re.compile(
    r"(\w+_)?(steps?|points?|sentences?|claims?|facts?|questions?|tasks?|actions?|action_items|reasons?"
    r"|bullets?|bullet_points"
    r"|takeaways|highlights|findings|arguments|statements|todos?|summary)"
)
_KEYWORDS = re.compile(
    r"(\w+_)?(keywords?|key_?words|tags?|topics?|key_?phrases?|terms?|themes?|labels|subjects)"
)


def is_summary(name: str) -> bool:
    """Say whether a field of this name wants a text in fewer words, or its title."""
    return bool(_SUMMARY.fullmatch(name) or _TITLE.fullmatch(name))


def summarise(field: Field, work: Work) -> Result | None:
    """Fill a summary, a title or a list of keywords from the longest input; pass on other fields."""
    longest = max(work.task.inputs.values(), key=len, default="")
    said = f"{field.desc}\n{work.task.spec.instructions}"
    if field.schema.get("type") == "array" and _KEYWORDS.fullmatch(field.name):
        found = keywords(
            longest, _most(said, r"(?:key ?words|key ?phrases|tags|topics|terms|themes)") or MOST_WORDS
        )
        is_text = len(longest.split()) >= SHORTEST and "enum" not in field.schema.get("items", {})
        return (
            Result(found, "these are said most, or are nearest to the text in meaning")
            if is_text and found
            else None
        )
    if not is_free_text(field) or not is_summary(field.name) or len(longest.split()) < 3:
        return None
    if _TITLE.fullmatch(field.name) and (
        len(longest.split()) < SHORTEST
        or any(one.kind == "quoted" for one in lex(longest))
        or labelled(longest, (field.name,))
    ):
        return None  # a title that stands in the text is found there
    text = shortened(field.name, longest, work, most=_most(said, "words"))
    return Result(text, "this says most of what the text is about") if text else None


def _most(said: str, things: str) -> int:
    """Return how many words or keywords are allowed at most, where it is said; 0 where it is not."""
    found = re.search(rf"({NUMBER})(?: (?:to|or) ({NUMBER}))? (?:\w+ )?{things}\b", said, re.IGNORECASE)
    return int(number(found[2] or found[1])) if found else 0


def shortened(name: str, text: str, work: Work, *, most: int = 0) -> str:
    """Return a title or a sentence that stands for a text; with a temperature, another good one at times."""
    ranked = central(text)
    if not ranked:
        return ""
    if _TITLE.fullmatch(name):
        return title_of(
            work.pick({one: -0.5 * at for at, one in enumerate(ranked[:3])}), text, most or TITLE_WORDS
        )
    fits = [one for one in ranked if not most or len(one.split()) <= most] or ranked
    sentence: str = work.pick({one: -0.5 * at for at, one in enumerate(fits[:3])})
    return sentence


def title_of(sentence: str, text: str, most: int) -> str:
    """Return a sentence up to a comma, if so few words will do, else two of the text's keywords."""
    clause = re.split(r"[,;:\u2013(]\s", sentence)[0].rstrip(".,;:!? ")
    if 2 < len(clause.split()) <= most:
        return clause
    about = " and ".join(keywords(text)[:2])
    return about[:1].upper() + about[1:]


def central(text: str) -> list[str]:
    """Return the sentences of `text`, those first whose words are the most frequent in it."""
    counts = Counter(words.stems(text))
    sentences = [one for one in words.sentences(text) if words.stems(one) and not _COURTESY.match(one)]

    def score(sentence: str) -> float:
        roots = words.stems(sentence)
        likeness = sum(counts[root] for root in set(roots)) / (len(roots) + 4) ** 0.5
        return float(likeness * (LEAD if sentence is sentences[0] else 1.0))

    return sorted(sentences, key=score, reverse=True)


_COURTESY = re.compile(
    r"(?:dear|hi|hello|hey|best|kind|regards|thanks|thank you|cheers|yours)\b[^.!?]{0,30}[,.!]?$",
    re.IGNORECASE,
)


def phrases_of(name: str, text: str) -> list[str]:
    """Return the items of a list of texts that says something of the whole text: points or keywords."""
    if _KEYWORDS.fullmatch(name):
        return keywords(text)
    lines = re.findall(r"^\s*(?:[-*\u2022]|\d+[.)])\s+(.+)$", text, re.MULTILINE)
    sentences = [one.rstrip(".") for one in words.sentences(text) if not _COURTESY.match(one)]
    return (lines or sentences[:MOST_POINTS]) if _POINTS.fullmatch(name) else []


def keywords(text: str, most: int = MOST_WORDS) -> list[str]:
    """Return the phrases that say best what a text is about: often said, and near to it in meaning."""
    found = [
        str(one.value) for one in lex(text) if one.kind in ("phrase", "name") and len(str(one.value)) > 2
    ]
    phrases = {" ".join(words.stems(one)): " ".join(one.split()[-3:]) for one in reversed(found)}
    counts, chosen = Counter(words.stems(text)), list[str]()
    near = dict(zip(phrases, encode([*phrases.values()]) @ encode([text])[0], strict=True))
    often = {roots: max((counts[root] for root in roots.split()), default=0) for roots in phrases}
    for roots in sorted(phrases, key=lambda roots: -(float(near[roots]) + 0.15 * min(often[roots], 4))):
        if roots and not any({*roots.split()} & {*words.stems(one)} for one in chosen):
            chosen.append(phrases[roots])
    return chosen[:most]
