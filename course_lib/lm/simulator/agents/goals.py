"""What a request wants of the tools: which of them serves it, and what none of them can do.

Main path: goals(request, tools) -> list of Goal. A request is cut where something new is asked. A tool serves
a part if it does what the verb says, is near in meaning and words, and finds there what it takes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.agents.filling import fill
from course_lib.lm.simulator.agents.lexing import COMMON, GRAMMAR, MOST_READ, VERBS, lex
from course_lib.lm.simulator.agents.slots import kinds_named, slots, words_of
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.episode import ToolSpec
from course_lib.lm.simulator.skills import words

LEAST = {"order": 0.5, "ask": 0.45, "want": 0.55, "name": 0.6, "tell": 0.85}
"""How well a tool must fit what a part orders, asks, wants, names or only tells."""
VERB, NOUNS, SHARED, COMPLETE, USED = 0.25, 0.25, 0.3, 0.25, 0.4
"""What it adds to the nearness: the verb, the nouns of the tool's name, words of its description; that what
it takes is there; that it uses all numbers, names and dates that are there."""
ABOUT, ABOUT_ORDER = 0.25, 0.33
"""How well a tool must fit by meaning and words alone; an order has a verb besides."""
TIED = 0.02
"""Two tools nearer to each other than this are equally good: neither is taken."""
PROMISES = 1.0  # a description that says less of an argument does not promise it
MOST_PARTS, LONGEST, TOLD = 12, 1_000, 300
MOST_WEIGHED = (
    24  # tools that are weighed by meaning and by what the request gives: those that share most words
)

_LOOKS = frozenset(GRAMMAR["looks"].split())
_RECKONS = frozenset(GRAMMAR["reckons"].split())


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """One thing that the request wants done."""

    clause: str
    """The part of the request that asks for it."""
    tool: ToolSpec | None
    """The tool that would serve it; None if none does."""
    verb: str = ""
    """Without a tool: what was to be done."""
    condition: str = ""
    """On what it depends: "rain is forecast for Leeds"."""


# -- what a tool does -------------------------------------------------------------------------------------

_FINAL = re.compile(r"submit the final|marks the task as complete|final answer", re.IGNORECASE)


def is_final(tool: ToolSpec) -> bool:
    """Say whether calling the tool ends the task."""
    return tool.name in ("finish", "submit", "final_answer") or bool(_FINAL.search(tool.desc))


def spoken(name: str) -> str:
    """Return a name of a tool or an argument in words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_.-]+", " ", name).lower()


def first_word(text: str) -> str:
    """Return the first word of a text."""
    return next(iter(words.words(re.sub(r"\be-mail", "email", text, flags=re.IGNORECASE))), "")


def _verb(text: str) -> str:
    """Return the first word of a text in its plain form, if it is a verb: "reserves a table" reserves."""
    return _PLAIN.get(words.stem(first_word(text)), "")


_PLAIN: dict[str, str] = {words.stem(verb): verb for verb in sorted(VERBS)}
_ALIKE = [frozenset(group.split()) for group in GRAMMAR["alike"]]
_LIGHT = frozenset(GRAMMAR["light"].split())


@lru_cache(maxsize=512)
def verbs_of(tool: ToolSpec) -> frozenset[str]:
    """Return the verbs with which the tool's name and description begin."""
    return frozenset(filter(None, (_verb(spoken(tool.name)), _verb(tool.desc))))


def does(verb: str, tool: ToolSpec) -> float:
    """Return how surely a tool does what a verb says; 0 if it does something else."""
    own = verbs_of(tool)
    plain = _PLAIN.get(words.stem(verb), verb)
    if plain in own:
        return 1.0
    if any(plain in group and own & group for group in _ALIKE):
        return 0.7
    told = f"{spoken(tool.name)} {tool.desc} "
    told += " ".join(f"{spoken(one.name)} {one.desc} {one.schema.get('enum', '')}" for one in tool.params)
    root = words.stem(verb)
    if any(len(stem) > 3 and stem.startswith(root) for stem in map(words.stem, words.words(told))):
        return 0.6  # "comment on it" for what adds a comment
    is_look_up = not own and any(plain in group for group in (_LOOKS, _RECKONS))
    return 0.4 if plain in _LIGHT or is_look_up else 0.0


@lru_cache(maxsize=512)
def acts(tool: ToolSpec) -> bool:
    """Say whether the tool changes something, and does not only look or reckon."""
    verb = _verb(tool.desc) or _verb(spoken(tool.name))
    if re.match(r"(?:returns?|tells?|looks? up|works? out)\b", tool.desc, re.IGNORECASE):
        return False
    if not verb:
        first, second = (*words.words(tool.desc)[:2], "", "")[:2]
        is_named = bool(first) and spoken(tool.name).startswith(first)
        return is_named and second in ("a", "an", "the", "your", "")
    return verb not in _LOOKS and verb not in _RECKONS


@lru_cache(maxsize=512)
def own_stems(tool: ToolSpec) -> frozenset[str]:
    """Return the stems of a tool's own words: what they name in a request is no value."""
    told = f"{spoken(tool.name)} {tool.desc}"
    return frozenset(words.stem(word) for word in words.words(told) if word not in words.STOP)


@lru_cache(maxsize=512)
def known_stems(tool: ToolSpec) -> frozenset[str]:
    """Return the stems of a tool's own words and of its arguments' names: none of them is a value."""
    return own_stems(tool) | {words.stem(word) for param in tool.params for word in words_of(param.name)}


# -- the parts of a request -------------------------------------------------------------------------------

_POLITE = re.compile(
    r"^\W*(?:(?:hi|hello|hey|dear|good|please|pls|kindly|also|then|and|so|ok|okay|now|well|but|first|finally"
    r"|after that"
    r"|thanks|thank you)\b(?:\s(?:there|all|morning|day|evening|afternoon)\b)?\W*)+",
    re.IGNORECASE,
)
_ASKS_TO = re.compile(
    r"^(?:.{0,40}?\b)?(?:(?:can|could|would|will) (?:you|someone|anyone)|(?:can|could|may) (?:i|we)"
    r"|(?:i|we)(?:'d| would)? (?:like|want|need|have)(?: you)? to|let's|let us|help me(?: to)?"
    r"|i(?:'ll| will) have you"
    r"|(?:is it|would it be) possible to|would you mind|go ahead and|try to|remember to|want to"
    r"|please|kindly)\s+"
    r"(?:please |kindly |also |just |now |to )*",
    re.IGNORECASE,
)


def _starts(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern})\b", re.IGNORECASE)


_ASKS_YOU = _starts(r".*\b(?:you|someone|anyone|please|kindly)")
_QUESTION = _starts(
    r"what|what's|when|where|where's|who|who's|whose|which|how|why|is|are|was|were|has|have|had|did|does"
    r"|do(?!n't)|will|any"
)
_WANTS = _starts(
    r"(?:.{0,40}?\b)?(?:i|we)(?:'d| would)?(?: am|'m)? (?:really )?"
    r"(?:like|want|need|wish|looking for|require)"
)
_TELLS = _starts(r"i|we|my|our|the|it|he|she|they|this|that|there|here|you|your|his|her|their|[a-z]+'s|i'm")
_SHOWS = _starts(r"(?:let|tell|show) (?:me|us)|give (?:me|us)(?!.*\bback\b)|find out|check|look up")
_ASKED = _starts(r"(?:wh\w+|how|is|are|do|does)\s(?:\w+\s)?(?:the|my|there|it|you|they|is|are|much|many)")
_IF = re.compile(
    r"^(?:if|in case|should|when|whenever|provided)\s+(?:that\s)?(?P<when>.+?),\s+(?:then\s+)?"
    r"(?P<rest>\S.+)$",
    re.IGNORECASE | re.DOTALL,
)
_IF_LAST = re.compile(
    r"^(?P<rest>.+?),?\s+(?:if|in case|provided)\s+(?:that\s)?(?P<when>[^,]+)$", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a request, and in what manner it asks."""

    text: str
    manner: str
    """`order`, `ask`, `want`, `name` (a thing, without a verb) or `tell`."""
    asked: str = ""
    """Ordered: the text from its verb on."""
    condition: str = ""


_NO_VERB = re.compile(r"(?:an?|the|my|some)\b|[A-Z\d]")


_HAPPENS = re.compile(
    r"\w+\s(?:\S+\s)?(?:gets?|has|is|needs?|wants?|was|were|have|will|must|should|weighs?|\w+ed)\b"
)


@lru_cache(maxsize=1024)
def _read(text: str) -> Part:
    bare = _POLITE.sub("", text)
    hit = _IF.match(bare) or _IF_LAST.match(bare)
    if hit and (rest := _read(hit["rest"])).manner != "ask":
        return replace(rest, condition=hit["when"])
    if _SHOWS.match(bare):
        return Part(text, "ask", bare)
    is_question = _QUESTION.match(bare)
    if (to := _ASKS_TO.match(bare)) and not re.match(r"(?:wh\w+|how)\b", bare, re.IGNORECASE):
        wish = bare[to.end() :]
        if wish and not _TELLS.match(wish) and not _QUESTION.match(wish):
            is_order = _is_verb(wish) or bool(_ASKS_YOU.match(to.group()) and not _NO_VERB.match(wish))
            return Part(text, "order" if is_order else "want", wish)
    if _is_verb(bare) and not is_question:
        return Part(text, "order", bare)
    if is_question or bare.rstrip().endswith("?"):
        return Part(text, "ask")
    if _WANTS.match(bare):
        return Part(text, "want")
    if not bare or _TELLS.match(bare) or _HAPPENS.match(bare):
        return Part(text, "tell")
    return Part(text, "name")


def _is_verb(text: str) -> bool:
    """Say whether a text begins with a verb, and not with a noun that looks like one: "order 10154"."""
    is_noun = re.match(r"\w+\s*(?::|(?:is|are|was|for|to|from|in|at|number)\b|\w+:)", text)
    is_numbered = re.match(r"(\w+)\s*#?[A-Z]*-?\d", text)
    if is_numbered and kinds_named(is_numbered[1].lower()):
        return False  # "order 10154"
    first = first_word(text)
    return (first in VERBS or (first.startswith("re") and first[2:] in VERBS)) and not is_noun


_CUT = re.compile(
    r"\s*;\s+|,?\s+(?:and then|and also|and|then|but)\s+(?=(?P<verb>[a-z-]+)\b)|,\s+(?=(?P<next>[a-z-]+)\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bProf)[.!?]+[\"')\]]*(?=\s+[\"'(]?[A-Z0-9])|\n+"
)


def parts_of(request: str) -> list[Part]:
    """Cut a request into the parts that tell or ask something; texts that are only handed on stay whole."""
    request = request[:MOST_READ]
    found = lex(request)
    whole = [(one.start, one.end) for one in found if one.kind in ("quoted", "text")]
    edges = [0, *(hit.end() for hit in _SENTENCE.finditer(request))]
    edges += [hit.end() for hit in _CUT.finditer(request) if _begins(hit, request)]
    kept = sorted({edge for edge in edges if not any(start < edge < end for start, end in whole)})
    pieces = [request[start:end].strip() for start, end in zip(kept, [*kept[1:], len(request)], strict=True)]
    joined: list[str] = []
    for piece in pieces:  # what stands alone belongs to what follows, a condition to what depends on it
        is_open = bool(joined) and (
            len(words.words(_POLITE.sub("", joined[-1]))) < 2
            or re.match(r"(?:if|in case|should|when)\b[^,]*,?$", _POLITE.sub("", joined[-1]), re.IGNORECASE)
        )
        joined[-1:] = [f"{joined[-1]} {piece}"] if is_open else [*joined[-1:], piece]
    bare = [re.sub(r"(?:[\s,;]+(?:and|then|but))?[\s,;]*$", "", piece) for piece in joined]
    return [_read(piece[:LONGEST]) for piece in bare[:MOST_PARTS] if piece]


def _begins(hit: re.Match[str], request: str) -> bool:
    """Say whether something new is asked behind a joint: with a verb, with please, or a question."""
    after = _POLITE.sub("", request[hit.end() :][:80])
    word = (hit.group("verb") or hit.group("next") or "").lower()
    if not word or word in ("please", "pls", "can", "could"):
        return True
    is_noun = re.match(r"[\w-]+(?:\s*(?:[,;.!?:]|$)|\s+(?:by|of|at|for|from|in|on|with)\b)", after)
    is_two = re.match(r"(?:turn|switch|put|call|set|log|pick)\b", after)
    if _is_verb(after) and (is_two or not is_noun):
        return True
    return bool(hit.group("verb") and _ASKED.match(after))


# -- which tool serves it ---------------------------------------------------------------------------------


def goals(request: str, tools: Sequence[ToolSpec]) -> list[Goal]:
    """Return what the request asks for, in order, each with the tool that serves it best."""
    working = [tool for tool in tools if tool.name and not is_final(tool)]
    parts = parts_of(request)
    asking = [part for part in parts if part.manner not in ("name", "tell")]
    asking = asking or [part for part in parts if part.manner == "name"]
    found: list[Goal] = []
    for part in asking:
        goal = _goal(part, request, working, alone=len(asking) == 1 and not part.condition)
        found.append(goal)
    if not any(goal.tool for goal in found):
        told = [_goal(part, request, working, alone=False) for part in parts if part not in asking]
        found = [goal for goal in told if goal.tool][:1] or found
    if not any(goal.tool for goal in found) and (tool := _search(working)):
        question = next((part.text for part in asking if part.manner == "ask"), "")
        found = [Goal(question, tool)] if question else found
    return found


def _goal(part: Part, request: str, tools: Sequence[ToolSpec], *, alone: bool) -> Goal:
    """Return the goal of a part, with the tool that fits best; questions are served by what only looks."""
    text = part
    if part.manner == "ask" and not [word for word in words.words(part.text) if word not in COMMON]:
        text = Part(request[:LONGEST], part.manner)  # "Where are they?"
    fitting = [one for one in tools if not (part.manner == "ask" and acts(one))]
    fitting = sorted(fitting, key=lambda tool: -_shared(text, tool))[:MOST_WEIGHED]
    if able := [one for one in fitting if part.manner != "order" or does(first_word(part.asked), one)]:
        encode(
            [*_cores(text), *(told for one in able for told in _tellings(one))]
        )  # at once, then remembered
    scores = {tool: score(text, request if alone else part.text, tool, tools) for tool in fitting}
    best = max(scores.values(), default=0.0)
    tied = [(_sureness(part.text, tool), tool) for tool in fitting if best - scores[tool] < TIED]
    tied = sorted(tied, key=lambda one: -one[0])[:2]
    if tied and tied[0][0] > (tied[1][0] if tied[1:] else -1.0) and scores[tied[0][1]] >= LEAST[part.manner]:
        return Goal(part.text, tied[0][1], "", part.condition)
    verb = first_word(part.asked) if part.manner == "order" else ""
    return Goal(part.text, None, verb, part.condition)


def score(part: Part, request: str, tool: ToolSpec, tools: Sequence[ToolSpec]) -> float:
    """Return how well a tool fits a part: verb, meaning, words, and whether the request has what it takes."""
    verb = does(first_word(part.asked), tool) if part.manner == "order" else 0.0
    if part.manner == "order" and not verb:
        return 0.0
    about = nearness(part, tool) + _shared(part, tool) + VERB * verb
    least = ABOUT_ORDER if part.manner == "order" else ABOUT
    return about + _in_hand(request, tool, tools) if about >= least else 0.0


@lru_cache(maxsize=4096)
def _shared(part: Part, tool: ToolSpec) -> float:
    """Return what the words are worth that a part shares with a tool: verb, nouns, description."""
    text = part.asked or part.text
    stems = [words.stem(word) for word in words.words(text)]
    stems = stems[1:] if part.manner == "order" else stems  # "text" is no noun where it is ordered
    content = [stem for stem in stems if stem not in words.STOP and not stem.isdigit()]
    nouns = [
        words.stem(one) for one in words.words(spoken(tool.name)) if one not in verbs_of(tool) | words.STOP
    ]
    total = SHARED * sum(stem in own_stems(tool) for stem in content) / max(1, len(content))
    total += NOUNS * sum(noun in stems for noun in nouns) / max(1, len(nouns))
    asked = {"where", "when", "who", "why", "back"} & {*words.words(text)} & {*words.words(tool.desc)}
    return total + SHARED * bool(asked)


@lru_cache(maxsize=4096)
def _filled(request: str, tool: ToolSpec) -> tuple[tuple[str, ...], int, int]:
    filled = fill(tool.params, request, known_stems(tool))
    pieces = [one for one in lex(request) if one.kind not in ("phrase", "text", "short text", "unit")]
    used = [one for one in pieces if one.touches(filled.spans)]
    return filled.missing, len(used), len(pieces)


def _in_hand(request: str, tool: ToolSpec, tools: Sequence[ToolSpec]) -> float:
    """Return what it is worth that a request has what a tool needs, and that the tool uses what it has."""
    missing, used, pieces = _filled(request, tool)
    lacking = [param for param in tool.params if spoken(param.name) in missing]
    others = [other for other in tools if other is not tool and not acts(other)]
    told = bool(lacking) and all(any(promise(other, one) >= PROMISES for other in others) for one in lacking)
    has_all = bool(tool.params) and (not missing or told)
    return COMPLETE * has_all + USED * (1.0 if told else used / max(1, pieces))


def _sureness(text: str, tool: ToolSpec) -> float:
    """Return how well, in all, the values fit that a text gives for a tool."""
    return sum(fit.score for fit in fill(tool.params, text, known_stems(tool)).chosen.values())


@lru_cache(maxsize=1024)
def _cores(part: Part) -> tuple[str, str]:
    """Return the part without texts that are only handed on, and also without names and numbers."""
    text = part.asked or part.text
    bare = text
    for one in sorted(lex(text), key=lambda one: -one.start):
        if one.kind in ("email", "phone", "url", "quoted"):
            text = f"{text[: one.start]} {text[one.end :]}"
        if one.kind not in ("phrase", "text", "short text", "unit"):
            bare = f"{bare[: one.start]} {bare[one.end :]}"
    return " ".join(text.split())[:TOLD], " ".join(bare.split())[:TOLD]


def nearness(part: Part, tool: ToolSpec) -> float:
    """Return the cosine of a part, with or without names and numbers, and of a tool."""
    vectors = encode([*_cores(part), *_tellings(tool)])
    return float((vectors[:2] @ vectors[2:].T).max())


def _tellings(tool: ToolSpec) -> tuple[str, str]:
    return f"{spoken(tool.name)}: {tool.desc}"[:TOLD], spoken(tool.name)


# -- tools that tell what another needs -------------------------------------------------------------------

_IDLE = frozenset({"number", "id", "cod", "eur", "nam", "valu"})


def promise(tool: ToolSpec, param: Field) -> float:
    """Return how much a tool's description speaks of an argument of another."""
    says = set(words.stems(tool.desc))
    named = [root for root in words.stems(spoken(param.name)) if root not in _IDLE]
    named = named or list(words.stems(param.desc))[:3]
    share = sum(root in says for root in named) / max(1, len(named))
    keys = [word for word in words.words(param.desc.replace("_", " ")) if words.stem(word) not in _IDLE]
    return share + 0.2 * sum(words.stem(word) in says for word in set(keys))


_LIBRARIES = frozenset(GRAMMAR["libraries"].split())


def _search(tools: Sequence[ToolSpec]) -> ToolSpec | None:
    """Return a tool that searches a library with any question, for a question that names no other."""
    for tool in tools:
        told = words.words(f"{spoken(tool.name)} {tool.desc}")
        wants = [slot for slot in slots(tool.params) if slot.required] if _LIBRARIES & {*told} else []
        if len(wants) == 1 and wants[0].kind == "query" and not acts(tool):
            return tool
    return None
