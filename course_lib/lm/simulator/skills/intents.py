"""What a request wants of the tools: which of them would serve it, and what none of them can do.

Main path: goals(request, tools) -> list of Goal. Tools are judged by names and descriptions alone: the verb
says what a tool may do; the other words, what they mean, and what the request gives say which tool it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.episode import ToolSpec
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.arguments import fill
from course_lib.lm.simulator.skills.mentions import (
    COMMON,
    EFFECTS,
    MOST_READ,
    TABLES,
    TOKENS,
    VERBS,
    mentions,
    spelled_out,
)
from course_lib.lm.simulator.skills.wanted import kinds_named, wanted, words_of

LEAST = {"order": 0.3, "ask": 0.34, "want": 0.38, "name": 0.38, "tell": 0.45}
"""How well a tool must fit what a clause orders, asks, wants or only tells."""
SAME_VERB, LIKE_VERB, NOUNS, DESC, IN_HAND, COMPLETE, USED = 0.25, 0.1, 0.25, 0.15, 0.12, 0.15, 0.15
SAME_WH, IDEA = 0.12, 0.08
ALIKE, FAIR = 0.6, 0.3  # so near an order may be whose verb the tables do not know
CLEAR = 0.05  # by so much one tool must fit better, where nothing is asked
FAR, FAR_ORDER = 0.24, 0.38  # what is no nearer to a tool is about something else
_STRICT = ("enum", "date", "email", "phone", "url", "path", "street")
PROMISES = 1.0  # a description that says less of an argument does not promise it
MOST_CLAUSES, LONGEST = 12, 1_000  # clauses of a request, and characters of each, that are read
MOST_TOOLS, TOLD = 8, 300  # tools that are weighed by meaning, and characters of what each says


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """One thing that the request wants done."""

    clause: str
    """The part of the request that asks for it."""
    tool: ToolSpec | None
    """The tool that would serve it; None if none does."""
    verb: str = ""
    """Without a tool: what was to be done."""


# -- what a tool does -------------------------------------------------------------------------------------

_FINAL = re.compile(r"submit the final|marks the task as complete|final answer", re.IGNORECASE)
_OPPOSITES = [tuple(pair.split("/")) for pair in TABLES["opposites"].split()]
_PURE = frozenset(("read", "compute", "translate", "pick", "skip"))
_PIECES = frozenset(TOKENS) - {"word", "stop"}
_RECKONS = frozenset(effect for effect in EFFECTS if effect.startswith("reckon"))
_LIGHT = frozenset(TABLES["light"].split())


def is_final(tool: ToolSpec) -> bool:
    """Say whether calling the tool ends the task."""
    return tool.name in ("finish", "submit", "final_answer") or bool(_FINAL.search(tool.desc))


def spoken(name: str) -> str:
    """Return a name of a tool or an argument in words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_.-]+", " ", name).lower()


def _effects_of(text: str) -> frozenset[str]:
    """Return what the first word of a text does, taken with "off", "up" or the like behind it."""
    listed = words.words(text)
    if not listed:
        return frozenset()
    first, root = listed[0], words.stem(listed[0])
    pairs = {f"{root}_{other}" for other in listed[1:]}
    exact = {name for name, verbs in _STEMMED.items() if pairs & verbs}
    return frozenset(exact or {name for name, verbs in _STEMMED.items() if {root, first} & verbs})


def _stemmed(verb: str) -> str:
    first, mark, particle = verb.partition("_")
    return verb if verb.endswith("s") else f"{words.stem(first)}{mark}{particle}"


_STEMMED = {name: frozenset(map(_stemmed, verbs)) for name, verbs in EFFECTS.items()}


_ARTICLES = frozenset(("a", "an", "the", "all", "some", "your"))


@lru_cache(maxsize=512)
def effects(tool: ToolSpec) -> frozenset[str]:
    """Return what the tool does, by its name or else by its description."""
    return _effects_of(spoken(tool.name)) | _effects_of(tool.desc)


def acts(tool: ToolSpec) -> bool:
    """Say whether the tool changes something, and does not only look or reckon."""
    does = _effects_of(tool.desc) or _effects_of(spoken(tool.name))
    first, second = (*words.words(tool.desc)[:2], "", "")[:2]
    if not does:  # "Brew coffee" is done, "Area of a rectangle" is told
        is_short = len(words.words(tool.desc)) <= 2
        return bool(first) and spoken(tool.name).startswith(first) and (is_short or second in _ARTICLES)
    reckons = bool(does & _RECKONS) and all(
        want.kind in ("integer", "number") for want in wanted(tool.params)
    )
    looks = bool(does & _PURE) or re.match(r"returns?\b", tool.desc, re.IGNORECASE) is not None
    return bool(does) and not looks and not reckons


def verbs_of(tools: Sequence[ToolSpec]) -> frozenset[str]:
    """Return the words with which the tools' descriptions begin: what they do is what may be ordered."""
    return frozenset(word for tool in tools for word in words.words(tool.desc)[:1])


@lru_cache(maxsize=512)
def own_stems(tool: ToolSpec) -> frozenset[str]:
    """Return the stems of a tool's own words: what they name in a request is no value."""
    told = f"{spoken(tool.name)} {tool.desc}"
    return frozenset(words.stem(word) for word in words.words(told) if word not in words.STOP)


def known_stems(tool: ToolSpec) -> frozenset[str]:
    """Return the stems of a tool's own words and of its arguments' names: none of them is a value."""
    return own_stems(tool) | {words.stem(word) for param in tool.params for word in words_of(param.name)}


# -- what a clause asks -----------------------------------------------------------------------------------

_POLITE = re.compile(
    r"^\W*(?:(?:hi|hello|hey|dear|good|please|pls|kindly|also|then|and|so|ok|okay|now|well|but"
    r"|thanks|thank you)\b"
    r"(?:\s(?:there|all|morning|day|evening|afternoon))?\W*)+",
    re.IGNORECASE,
)
_ASKS_TO = re.compile(
    r"^(?:.{0,40}?\b)?(?:(?:can|could|would|will) you|(?:can|could|may) (?:i|we)"
    r"|(?:i|we)(?:'d| would)? (?:like|want|need|have)(?: you)? to|let's|let us|help me(?: to)?"
    r"|(?:is it|would it be) possible to|would you mind|go ahead and|try to"
    r"|remember to|want to|please|kindly)\s+(?:please |kindly |also |just |now |to )*",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"^(?:what|what's|when|where|where's|who|who's|whose|which|how|why|is|are|was|were|has|have|had|did|does|do|will"
    r"|if|any)\b",
    re.IGNORECASE,
)
_OPEN_QUESTION = re.compile(
    r"(?:what|when|where|who|whose|which|how|why|does|did|do|are|is(?! it possible))\b", re.IGNORECASE
)
_WANTS = re.compile(
    r"^(?:.{0,40}?\b)?(?:i|we)(?:'d| would| am|'m)? (?:really )?"
    r"(?:like|want|need|wish|looking for|require|entitled to)\b",
    re.IGNORECASE,
)
_TELLS = re.compile(
    r"^(?:i|we|my|our|the|it|he|she|they|this|that|there|here|you|your|his|her|their)\b|^[a-z]+'s\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a request, and in what manner it asks."""

    text: str
    manner: str
    """`order`, `ask`, `want`, `name` (a thing, without a verb) or `tell`."""
    asked: str = ""
    """Ordered: the text from its verb on."""


@lru_cache(maxsize=1024)
def _read(text: str, verbs: frozenset[str]) -> Clause:
    bare = _POLITE.sub("", text)
    if me := re.match(r"(?:give|get|bring|hand|lend) (?:me|us)\b", bare, re.IGNORECASE):
        return Clause(text, "want", bare[me.end() :])
    if (own := re.match(r"(?:i|we)(?:'ll| will)? ((\w+).*)", bare, re.IGNORECASE | re.DOTALL)) and own[
        2
    ] in verbs:
        return Clause(text, "order", own[1])
    if (to := _ASKS_TO.match(bare)) and not _OPEN_QUESTION.match(bare):
        rest = bare[to.end() :]
        if not _TELLS.match(rest) and not _QUESTION.match(rest) and rest:
            is_known = words.words(rest)[0] in VERBS if words.words(rest) else False
            return Clause(text, "order" if is_known or not _WANTS.match(bare) else "want", rest)
    if _is_verb(bare, verbs) and not _QUESTION.match(bare):
        return Clause(text, "order", bare)
    if _QUESTION.match(bare) or bare.rstrip().endswith("?"):
        return Clause(text, "ask")
    if _WANTS.match(bare):
        return Clause(text, "want")
    if _TELLS.match(bare) or not bare:
        return Clause(text, "tell")
    is_order = re.match(r"[A-Za-z]+\s+(?:[a-z#\"']|$)|[A-Z][a-z]+\s+(?![A-Z]*-?\d)\S", bare)
    if re.match(
        r"\w+\s(?:\S+\s)?(?:gets?|has|is|needs?|wants?|was|were|have|will|must|should|weighs?|\w+ed)\b", bare
    ):
        return Clause(text, "tell")
    if (
        is_order
        and words.words(bare)[0] not in words.NUMBERS
        and not re.match(r"\w+\s*(?:[:,]|\b(?:is|are|has|was|needs|gets|wants|to|from|in|at|for)\b)", bare)
    ):
        return Clause(text, "order", bare)
    return Clause(text, "tell" if re.match(r"\w+:", bare) else "name")


def _is_verb(text: str, verbs: frozenset[str]) -> bool:
    """Say whether a text begins with a verb that the tables know, and not with a label or a noun."""
    first = next(iter(words.words(text)), "")
    if "id" in kinds_named(first) and re.match(r"\w+\s+(?:number\s+|#)?[A-Z]*-?\d[\w-]*\b\s*(?:\W|$)", text):
        return False  # "order 10154" names one
    return first in VERBS | verbs and not re.match(r"\w+\s*(?::|is\b|are\b|was\b|\w+:)", text)


_CUT = re.compile(
    r"\s*;\s+|,?\s+(?:and|then|and then|and also|but)\s+(?=(?P<verb>[a-z]+)\b)|,\s+(?=(?P<next>[a-z]+)\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bProf)[.!?]+[\"')\]]*(?=\s+[\"'(]?[A-Z0-9])|\n+"
)
_SENDS = frozenset(("send", "post", "comment", "remind", "translate"))


def clauses(request: str, verbs: frozenset[str] = frozenset()) -> list[Clause]:
    """Cut a request into the parts that tell or ask something; texts that are only handed on stay whole."""
    request = request[:MOST_READ]
    whole = [
        (one.start, one.end)
        for one in mentions(request)
        if one.kind == "quoted" or _is_handed_on(one, request)
    ]
    edges = [0, *(sentence.end() for sentence in _SENTENCE.finditer(request))]
    edges += [hit.end() for hit in _CUT.finditer(request) if _begins(hit, request, verbs)]
    kept = sorted({edge for edge in edges if not any(start < edge < end for start, end in whole)})
    pieces = [request[start:end].strip() for start, end in zip(kept, [*kept[1:], len(request)], strict=True)]
    pieces = [*_without_lone_verbs(pieces)]
    pieces = [re.sub(r"(?:[\s,;]+(?:and|then|but))?[\s,;]*$", "", piece) for piece in pieces]
    return [_read(piece[:LONGEST], verbs) for piece in pieces[:MOST_CLAUSES] if piece]


def _without_lone_verbs(pieces: Sequence[str]) -> Iterator[str]:
    """Join a verb that stands alone to what follows, as in "squash and merge it"."""
    held = ""
    for piece in pieces:
        held = f"{held} {piece}".strip()
        if len(words.words(_POLITE.sub("", held))) > (2 if held.endswith(" and") else 1):
            yield held
            held = ""
    if held:
        yield held


def _is_handed_on(mention: object, request: str) -> bool:
    one = mention
    return getattr(one, "kind", "") == "text" and bool(_SENDS & _effects_of(_POLITE.sub("", request)))


def _begins(hit: re.Match[str], request: str, verbs: frozenset[str]) -> bool:
    """Say whether something new is asked behind a joint: with a verb, with please, or a question."""
    word = (hit.group("verb") or hit.group("next") or "").lower()
    after = _POLITE.sub("", request[hit.end() :])
    first = next(iter(words.words(after)), "")
    if not word or word in ("please", "pls", "can", "could"):
        return True
    is_label = kinds_named(first) and not re.match(r"\w+\s+(?:a|an|the|me|my|to)\b", after)
    is_asked = re.match(
        r"wh\w+\b|how\b|(?:is|are|do|does|did)\s(?:the|my|there|it|you|they)\b", after, re.IGNORECASE
    )
    return (first in VERBS | verbs and not is_label) or bool(hit.group("verb") and is_asked)


# -- which tool serves it ---------------------------------------------------------------------------------


def goals(request: str, tools: Sequence[ToolSpec]) -> list[Goal]:
    """Return what the request asks for, in order, each with the tool that serves it best."""
    working = [tool for tool in tools if tool.name and not is_final(tool)]
    request = spelled_out(request)
    parts = clauses(request, verbs_of(working))
    plain = [part for part in parts if part.manner not in ("name", "tell") and not _is_unknown(part, working)]
    asking = plain or [part for part in parts if part.manner != "tell"]
    found: list[Goal] = []
    for part in asking:
        goal = _goal(part, request, working) if _says_enough(part) else _goal_of_all(part, request, working)
        if goal and not (found and _belongs(part, goal, found[-1])):
            found.append(goal)
    if not any(goal.tool for goal in found):
        told = [_goal(part, request, working) for part in parts if part.manner == "tell"]
        found = [goal for goal in told if goal and goal.tool][:1] or found
    if not any(goal.tool for goal in found) and working and (tool := _search(working)):
        question = next((part.text for part in asking if part.manner == "ask"), "")
        found = [Goal(question, tool)] if question else found
    return found


def _says_enough(part: Clause) -> bool:
    """Say whether a question says what it is about, unlike "Where are they?"."""
    own = [word for word in words.words(part.text) if word not in COMMON]
    return part.manner != "ask" or bool(own)


def _goal_of_all(part: Clause, request: str, tools: Sequence[ToolSpec]) -> Goal | None:
    """Return the goal of a question together with what was told before it."""
    goal = _goal(Clause(request[:LONGEST], part.manner), request, tools)
    return Goal(part.text, goal.tool, goal.verb) if goal else None


def _is_unknown(part: Clause, tools: Sequence[ToolSpec]) -> bool:
    """Say whether a clause begins with a word that may be no verb: no table and no tool knows it."""
    first = words.stem(next(iter(words.words(part.asked)), ""))
    return (
        part.manner == "order"
        and not _effects_of(part.asked)
        and not any(first in own_stems(tool) for tool in tools)
    )


def _goal(part: Clause, request: str, tools: Sequence[ToolSpec]) -> Goal | None:
    fitting = [tool for tool in tools if _may_serve(part, request, tool)]
    best = _best(part, request, fitting, tools) if fitting else None
    if not best and next(iter(words.words(part.asked)), "") in _LIGHT:
        fitting = [
            tool for tool in tools if acts(tool) and not _is_opposite(_effects_of(part.asked), effects(tool))
        ]
        best = _best(part, request, fitting, tools) if fitting else None
    if best:
        return Goal(part.text, best)
    if part.manner == "order":
        return Goal(part.text, None, next(iter(words.words(part.asked)), "do"))
    return Goal(part.text, None) if part.manner in ("want", "name") else None


def _belongs(part: Clause, goal: Goal, before: Goal) -> bool:
    """Say whether a clause only says more of the wish before it: "and give it to Marta", "deliver to ..."."""
    if not before.tool or (goal.tool and not re.match(r"\w+ (?:it|them|this|that|him|her)\b", part.asked)):
        return False
    own = known_stems(before.tool)
    alone = fill(before.tool.params, before.clause, own).args
    return fill(before.tool.params, f"{before.clause}\n{part.text}", own).args != alone


def _is_opposite(wants: frozenset[str], does: frozenset[str]) -> bool:
    return any(
        (one in wants and other not in wants and other in does and one not in does)
        for one, other in (*_OPPOSITES, *(pair[::-1] for pair in _OPPOSITES))
    )


def _may_serve(part: Clause, request: str, tool: ToolSpec) -> bool:
    """Say whether what the tool does is what the clause orders; a question is served by what only looks."""
    if part.manner == "ask":
        return not acts(tool)
    if part.manner != "order":
        return True
    wants, does = _effects_of(part.asked), effects(tool)
    if _is_opposite(wants, does):
        return False
    first = next(iter(words.words(part.asked)), "")
    told = " ".join(f"{spoken(param.name)} {param.desc}" for param in tool.params)
    is_named = not wants and words.stem(first) in own_stems(tool) | set(words.stems(told))
    if not wants and acts(tool):
        near = nearness(part, tool)
        is_whole = tool.params and not fill(tool.params, request, known_stems(tool)).missing
        is_named |= near >= ALIKE or (near >= FAIR and bool(is_whole))
    return bool(wants & does) or is_named or (not does and bool(wants & {"read", "compute"}))


def _best(
    part: Clause, request: str, tools: Sequence[ToolSpec], everything: Sequence[ToolSpec]
) -> ToolSpec | None:
    """Return the tool that fits best, by the words that it shares, else by meaning; None if none fits."""
    clear = [tool for tool in tools if _is_named(part, tool)]
    if len(clear) == 1 and part.manner == "order":
        return clear[0]
    if part.manner == "tell":
        tools = [
            tool for tool in tools if acts(tool) and not fill(tool.params, request, known_stems(tool)).missing
        ]
    likely = sorted(tools, key=lambda tool: -_shared(part, tool))[:MOST_TOOLS]
    scores = {tool.name: score(part, request, tool, everything) for tool in likely}
    ranked = sorted(scores.values(), reverse=True)
    if part.manner == "tell" and len(ranked) > 1 and ranked[0] - ranked[1] < CLEAR:
        return None
    best = max(likely, key=lambda tool: scores[tool.name], default=None)
    return best if best and scores[best.name] >= LEAST[part.manner] else None


@lru_cache(maxsize=512)
def _nouns(tool: ToolSpec) -> list[str]:
    """Return the stems of a tool's name without its verb: "order" is one if the description agrees."""
    name, told = words.words(spoken(tool.name)) or [""], next(iter(words.words(tool.desc)), "")
    agrees = not _effects_of(told) or bool(_effects_of(name[0]) & _effects_of(told))
    is_verb = bool(_effects_of(name[0])) and agrees
    return [words.stem(word) for word in name[int(is_verb) :] if word not in words.STOP]


def _is_named(part: Clause, tool: ToolSpec) -> bool:
    """Say whether the clause has the verb and the nouns of the tool's name."""
    stems = [words.stem(word) for word in words.words(part.asked or part.text)]
    first = words.stem(next(iter(words.words(spoken(tool.name))), ""))
    return stems[:1] == [first] and all(noun in stems for noun in _nouns(tool))


def score(part: Clause, request: str, tool: ToolSpec, tools: Sequence[ToolSpec]) -> float:
    """Return how well a tool fits a clause: meaning, words, and whether the request has what it needs."""
    total = nearness(part, tool) + _shared(part, tool)
    is_far = total < (FAR_ORDER if part.manner == "order" else FAR) and not _holds_strict(tool, request)
    return 0.0 if is_far else total + _in_hand(part, tool, request, tools)


@lru_cache(maxsize=4096)
def _shared(part: Clause, tool: ToolSpec) -> float:
    """Return what the words are worth that a clause shares with a tool: verb, nouns, what it tells."""
    text = _topic(part)
    stems = [words.stem(word) for word in words.words(text)]
    content = [word for word in stems if word not in words.STOP and not word.isdigit()]
    total = DESC * sum(word in own_stems(tool) for word in content) / max(1, len(content))
    nouns = _nouns(tool)
    if named := [stems.index(noun) for noun in nouns if noun in stems]:  # what is asked comes first
        total += NOUNS * len(named) / len(nouns) - 0.01 * min(named)
    total += SAME_WH * bool({*_WH.findall(text.lower())} & {*_WH.findall(tool.desc.lower())})
    total += LIKE_VERB * any(_effects_of(word) & effects(tool) & _RECKONS for word in stems)
    if part.manner == "ask":
        ideas = {one for one in words.features(text, parts=False) if one[0] == "@"} - words.MANNERS
        total += IDEA * bool(ideas & words.features(tool.desc, parts=False).keys())
    if part.manner == "order":
        firsts = {
            words.stem(first) for told in (spoken(tool.name), tool.desc) for first in words.words(told)[:1]
        }
        likeness = LIKE_VERB * bool(_effects_of(part.asked) & effects(tool))
        total += SAME_VERB if stems[0] in firsts else likeness
    return total


def _holds_strict(tool: ToolSpec, request: str) -> bool:
    """Say whether the request holds all that the tool needs of what only pieces of a certain form can be."""
    needs = [want for want in wanted(tool.params) if want.required]
    strict = {want.name for want in needs if want.shapes or want.kind in _STRICT}
    return bool(strict) and not strict & {*fill(tool.params, request, known_stems(tool)).missing}


_WH = re.compile(r"\b(?:where|when|who|why|how (?:much|many))\b")


def _in_hand(part: Clause, tool: ToolSpec, request: str, tools: Sequence[ToolSpec]) -> float:
    """Return what it is worth that a request has what a tool needs, and that the tool uses what it has."""
    filled = fill(tool.params, request, known_stems(tool))
    lacking = [param for param in tool.params if spoken(param.name) in filled.missing]
    others = [other for other in tools if other is not tool and not acts(other)]
    told = all(any(promise(other, one) >= PROMISES for other in others) for one in lacking)
    pieces = [one for one in mentions(request) if one.kind in _PIECES]
    used = [one for one in pieces if any(one.touches(start, end) for start, end in filled.spans)]
    if filled.is_weak and part.manner != "order":
        return 0.0
    return (
        COMPLETE * bool(tool.params and told and len(filled.missing) == len(lacking))
        + IN_HAND * _holds_strict(tool, request)
        + USED * (1.0 if lacking and told else len(used) / max(1, len(pieces)))
    )


def _topic(part: Clause) -> str:
    """Return what a clause is about: "order O-10001" in a question says of which order, not what is asked."""
    text = part.asked or part.text
    named = [one for one in mentions(text) if one.kind == "id"] if part.manner != "order" else []
    for one in reversed(named):
        text = f"{text[: one.reach[0]]} {text[one.end :]}"
    return text if words.words(text) else part.text


@lru_cache(maxsize=1024)
def _cores(part: Clause) -> tuple[str, str]:
    """Return the clause without texts that are only handed on, and also without names and numbers."""
    text = _topic(part)
    pieces = sorted((one for one in mentions(text) if one.kind in _PIECES), key=lambda one: -one.start)
    bare = text
    for one in pieces:
        bare = f"{bare[: one.start]} {bare[one.end :]}"
        if one.kind in ("email", "phone", "url") or (one.kind == "quoted" and " " in one.value):
            text = f"{text[: one.start]} {text[one.end :]}"
    return " ".join(text.split())[:TOLD], " ".join(bare.split())[:TOLD]


def nearness(part: Clause, tool: ToolSpec) -> float:
    """Return the cosine of a clause, with or without names and numbers, and of a tool."""
    takes = ", ".join(spoken(param.name) for param in tool.params)
    vectors = encode([*_cores(part), f"{spoken(tool.name)}: {tool.desc} {takes}"[:TOLD]])
    return float(max(vectors[:2] @ vectors[2]))


# -- tools that tell what another needs -------------------------------------------------------------------

_IDLE = frozenset({"number", "id", "cod", "eur", "nam", "valu"})


def promise(tool: ToolSpec, param: Field) -> float:
    """Return how much a tool's description speaks of an argument of another."""
    says = set(words.stems(tool.desc))
    named = [root for root in words.stems(spoken(param.name)) if root not in _IDLE]
    if not named:
        named = list(words.stems(param.desc))[:3]
    share = sum(root in says for root in named) / max(1, len(named))
    keys = [word for word in words.words(param.desc.replace("_", " ")) if words.stem(word) not in _IDLE]
    return share + 0.2 * sum(words.stem(word) in says for word in set(keys))


_LIBRARIES = frozenset(TABLES["libraries"].split())


def _search(tools: Sequence[ToolSpec]) -> ToolSpec | None:
    """Return a tool that searches a library with any question, for a question that names no other."""
    for tool in tools:
        told = words.words(f"{spoken(tool.name)} {tool.desc}")
        wants = [want for want in wanted(tool.params) if want.required] if _LIBRARIES & {*told} else []
        if len(wants) == 1 and wants[0].kind == "query" and "read" in effects(tool):
            return tool
    return None
