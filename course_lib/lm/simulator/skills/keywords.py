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
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

TITLE_WORDS, MOST_WORDS, MOST_POINTS, MOST_COMPARED = 10, 5, 4, 12
LEAD = 1.25  # how much more the first sentence counts: texts begin with what they are about
_SUMMARY = re.compile(
    r"(\w+_)?(summary|summarization|summari[sz]ed|gist|tl_?dr|abstract|synopsis|overview|digest|recap"
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
    """Fill a summary or a title with the most central sentence, or its beginning; pass on other fields."""
    if not is_free_text(field) or not is_summary(field.name):
        return None
    longest = max(work.task.inputs.values(), key=len, default="")
    if _TITLE.fullmatch(field.name) and (
        len(longest.split()) < 12
        or any(one.kind == "quoted" for one in lex(longest))
        or labelled(longest, (field.name,))
    ):
        return None  # a title that stands in the text is found there
    text = shortened(field.name, longest, work)
    return Result(text, "this sentence shares most with the rest of the text") if text else None


def shortened(name: str, text: str, work: Work) -> str:
    """Return a title or a sentence that stands for a text; with a temperature, another good one at times."""
    ranked = central(text)
    if not ranked:
        return ""
    sentence = work.pick({one: -0.5 * at for at, one in enumerate(ranked[:3])})
    return title_of(sentence) if _TITLE.fullmatch(name) else sentence


def title_of(sentence: str) -> str:
    """Return the beginning of a sentence, up to a pause that makes sense of it, at most ten words."""
    clause = re.split(
        r"[,;:\u2013(]\s|\s(?:because|although|but|so that|which|who|while|since|after|and)\s", sentence
    )[0]
    spoken = clause.split()[:TITLE_WORDS] if len(clause.split()) > 2 else sentence.split()[:TITLE_WORDS]
    while len(spoken) > 2 and spoken[-1].lower().strip(",.") in words.STOP:
        spoken.pop()
    return " ".join(spoken).rstrip(".,;:!?")


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
    if not _POINTS.fullmatch(name):
        return []
    listed = re.search(r":\s*([^:]+;[^:]+)$", text.strip())
    if listed:
        return [part.strip(" .") for part in listed.group(1).split(";") if part.strip(" .")]
    sentences = [one.rstrip(".") for one in words.sentences(text) if not _COURTESY.match(one)]
    if re.search(r"questions?$", name):
        return [one for one in sentences if one.endswith("?")]
    lines = [
        line.strip(" -*\u2022\t")
        for line in re.findall(r"^\s*(?:[-*\u2022]|\d+[.)])\s+(.+)$", text, re.MULTILINE)
    ]
    return (
        lines
        or sentences[: MOST_POINTS if re.search(r"point|takeaway|highlight|finding|summary", name) else 8]
    )


def keywords(text: str) -> list[str]:
    """Return the phrases that say best what a text is about: often said, and near to it in meaning."""
    pieces = [
        str(one.value) for one in lex(text) if one.kind in ("phrase", "name") and len(str(one.value)) > 2
    ]
    counts = Counter(stem for piece in pieces for stem in words.stems(piece))
    phrases = list(
        {" ".join(words.stems(piece)): " ".join(piece.split()[-3:]) for piece in reversed(pieces)}.values()
    )[::-1]
    if not phrases:
        return []
    phrases.sort(key=lambda phrase: -max((counts[stem] for stem in words.stems(phrase)), default=0))
    phrases = phrases[:MOST_COMPARED]
    near = encode(phrases) @ encode([text])[0]
    often = [max((counts[stem] for stem in words.stems(phrase)), default=0) for phrase in phrases]
    ranked = sorted(range(len(phrases)), key=lambda at: (-(float(near[at]) + 0.15 * min(often[at], 4)), at))
    chosen: list[str] = []
    for at in ranked:
        phrase = phrases[at] if re.search(r"[A-Z]{2}|\b[A-Z]\w+ [A-Z]", phrases[at]) else phrases[at].lower()
        if not any(set(words.stems(phrase)) & set(words.stems(one)) for one in chosen):
            chosen.append(phrase)
    return chosen[:MOST_WORDS]
