"""What a request wants of the tools: which of them would serve it, and what none of them can do.

Main path: goals(request, tools) -> list of Goal. Tools are judged by names and descriptions alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.episode import ToolSpec
from course_lib.lm.simulator.skills import arguments, words
from course_lib.lm.simulator.skills.arithmetic import work_out

NAME, DESC, ARGUMENT = 2.0, 1.0, 0.5  # what a word weighs in a tool's name, description, arguments
IDEA = 0.5  # what a shared idea weighs against a shared word
LEAST = 1.3  # a tool that scores less does not serve the request
IN_HAND = 1.0  # the request holds what the tool needs
SAME_WH = 1.2  # both say where, when, who or how much
PROMISES = 1.0  # a description that says less of an argument does not promise it
MOST_CLAUSES, LONGEST = 12, 1_000  # what is read of a request for what it asks, in clauses and characters
REQUESTED = 4.0  # the request asks for what the tool does


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """One thing that the request wants done."""

    clause: str
    tool: ToolSpec | None
    """The tool that would serve it; None if none does."""
    verb: str = ""
    """Without a tool: what was to be done."""


_READS, _ACTS = (
    frozenset(words.stem(verb) for verb in words.ENGLISH[kind].split()) for kind in ("reads", "acts")
)
_FINAL = re.compile(r"submit the final|marks the task as complete|final answer", re.IGNORECASE)


def is_final(tool: ToolSpec) -> bool:
    """Say whether calling the tool ends the task."""
    return tool.name in ("finish", "submit", "final_answer") or bool(_FINAL.search(tool.desc))


def verb_of(tool: ToolSpec) -> str:
    """Return the stem of what the tool does, if it changes something; an empty text if it only looks."""
    named = words.words(tool.name.replace("_", " ").replace("-", " "))
    for word in [*named[:1], *words.words(tool.desc)[:1]]:
        root = words.stem(word)
        if root in _READS:
            return ""
        if root in _ACTS:
            return root
    return ""


_REQUESTS = re.compile(
    r"\?|^\s*(?:what|when|where|who|which|how|why|is|are|was|were|has|have|did|does|do|will|can|could|would)\b"
    r"|\b(?:please|pls|kindly|(?:i|we)(?: would|'d)? (?:want|like|need)|tell me|let me know|give me|show me"
    r"|may i|could you|can you|can i|would you|wonder|wondering|looking for)\b",
    re.IGNORECASE,
)
_QUESTIONS = re.compile(
    r"^\W*(?:(?:hi|hello|dear|hey|and|so|but|also|good \w+|thanks?)\W+(?:\w+\W+)?)?"
    r"(?:what|what's|when|where|where's|who|which|how|why|is|are|was|were|has|have|did|does|do|will"
    r"|any news)\b",
    re.IGNORECASE,
)
_REQUESTED_VERB = re.compile(
    r"\b(?:please|pls|kindly|can you|could you|would you|will you|can i|may i|could i|want(?: you)? to"
    r"|like(?: you)? to|need(?: you)? to|'d like|i want|i need|and|then|also|,)\s+"
    r"(?:also |now |just |please |to |have |it |get )*([a-z]+)"
    r"|^\W*(?:(?:hi|hello|hey|please)\W+)?([a-z]+)",
    re.IGNORECASE,
)
_CUT = re.compile(
    r"\s*;\s+|,?\s+and (?=(?:please|also|then|tell|refund|cancel|track|where|when|what|how|who|is|pay)\b)"
    r"|,?\s+then\s+(?=[a-z])",
    re.IGNORECASE,
)

_MEANT = (
    (
        r"\bwhere(?:'?s| is| are| was| did| my| our| the| it| they| this)\b"
        r"(?!.{0,120}\b(?:pay|paid|buy|bought|live|street|to|address)\b)|\bon (?:its|the|their) way\b"
        r"|\b(?:coming|arriv\w+|get here|turn up|show up|shows? up|due|on time|moved?|moving|stuck|lost"
        r"|missing|whereabouts|last (?:seen|scan\w*)|(?:see|seen) it last|left the (?:depot|warehouse))\b"
        r"|\bwhen (?:do|will|can|should|does|may) (?:i|we|it|they|you|the|my)\b"
        r".{0,120}\b(?:get|have|receive|expect|come|be|deliver)\b"
        r"|\b(?:when|day|how long|how soon)\b.{0,120}\b(?:here|arrive|deliver|come|get it|have it)\b",
        "track where parcel arrive",
    ),
    (
        r"\b(?:pay|give|get|want|need|like|transfer|send|have)\b(?:[^.?!\n]|\.\d){0,60}\b(?:money|amount|price|sum|costs?|fee|euros?|eur"
        r"|cents|\u20ac|\d)(?:[^.?!\n]|\.\d){0,40}\bback\b|\b(?:pay|give)\w*\b[^.?!\n]{0,20}\bback\b[^.?!\n]{0,30}"
        r"(?:\d|\u20ac|money|costs?|fee|price)|\breimburs\w+|\bmoney back\b",
        "refund money back",
    ),
)
"""Other words for the same thing: how people ask after something on its way, and for their money."""


@lru_cache(maxsize=512)
def meant(clause: str) -> str:
    """Return the clause with what it means in other words."""
    others = [other for pattern, other in _MEANT if re.search(pattern, clause, re.IGNORECASE)]
    return " ".join([clause, *others])


def clauses(request: str) -> list[str]:
    """Cut a request into the parts that ask; if none does, return it whole."""
    parts = [part.strip() for one in words.sentences(request) for part in _CUT.split(one) if part.strip()]
    asking = [part for part in parts if _REQUESTS.search(part) or _requested_verbs(part) or _looks_up(part)]
    return [part[:LONGEST] for part in asking[:MOST_CLAUSES]] or [" ".join(request.split())[:LONGEST]]


def _looks_up(clause: str) -> bool:
    return any(words.stem(first) in _READS for first in words.words(clause)[:1])


def _requested_verbs(clause: str) -> list[str]:
    """Return the stems of the verbs that a clause asks somebody to do, of those that change something."""
    if _QUESTIONS.search(clause):
        return []
    roots = [words.stem((first or second).lower()) for first, second in _REQUESTED_VERB.findall(clause)]
    return [root for root in roots if root in _ACTS]


def goals(request: str, tools: Sequence[ToolSpec]) -> list[Goal]:
    """Return what the request asks for, in order, each with the tool that serves it best."""
    working = [tool for tool in tools if not is_final(tool)]
    results: list[Goal] = []
    for clause in clauses(request):
        goal = _goal(clause, request, working)
        if goal and not any(goal.tool is other.tool and goal.tool for other in results):
            results.append(goal)
    if not results and (goal := _goal(" ".join(request.split())[:LONGEST], request, working)):
        results = [goal]  # the question alone ("Where is it?") does not say what it is about
    if not results and working and (tool := _search(working)):
        results = [Goal(request, tool)]
    return results


def _goal(clause: str, request: str, tools: Sequence[ToolSpec]) -> Goal | None:
    requested = _requested_verbs(clause)
    scores = score(clause, request, tools)
    granted = [
        tool
        for tool in tools
        if (verb := verb_of(tool)) and (verb in requested or _same_idea(tool, verb, clause))
    ]
    if granted:
        return Goal(clause, max(granted, key=lambda tool: scores[tool.name]))
    if requested:
        spelled = (word for word in words.words(clause) if words.stem(word) == requested[0])
        return Goal(clause, None, next(spelled, requested[0]))
    looking = [tool for tool in tools if not verb_of(tool) and _is_reachable(tool, clause, request, tools)]
    best = max(looking, key=lambda tool: scores[tool.name], default=None)
    return Goal(clause, best) if best and scores[best.name] >= LEAST else None


def _same_idea(tool: ToolSpec, verb: str, clause: str) -> bool:
    """Say whether the clause requests what the tool does in other words, as in "my money back, please"."""
    if _QUESTIONS.search(clause) or not (_REQUESTS.search(clause) or _requested_verbs(clause)):
        return False
    does = words.features(f"{verb} {tool.name.replace('_', ' ')}", parts=False)
    wanted = words.features(meant(clause), parts=False)
    ideas = {f for f in does if f[0] == "@"} & wanted.keys()
    return words.stem(verb) in wanted or any(idea in ("@refund", "@cancel", "@exchange") for idea in ideas)


def score(clause: str, request: str, tools: Sequence[ToolSpec]) -> dict[str, float]:
    """Return how well each tool serves the clause, by the words that they share."""
    known = {tool.name: _described(tool) for tool in tools}
    seen = Counter(feature for words_of in known.values() for feature in words_of)
    wanted = {f: w for f, w in words.features(meant(clause), parts=False).items() if f not in words.MANNERS}
    scores = {}
    for tool in tools:
        own = known[tool.name]
        total = sum(
            weight
            * own[f]
            * (IDEA if f[0] == "@" else 1.0)
            * math.log(1 + (len(tools) + 1) / (seen[f] + 0.5))
            for f, weight in wanted.items()
            if f in own
        )
        alike = set(_WH.findall(clause.lower())) & set(_WH.findall(tool.desc.lower()))
        scores[tool.name] = total + _in_hand(tool, clause, request) + (SAME_WH if alike else 0.0)
    return scores


@lru_cache(maxsize=512)
def _described(tool: ToolSpec) -> dict[str, float]:
    weights: dict[str, float] = {}
    texts = [(tool.name.replace("_", " ").replace("-", " "), NAME), (tool.desc, DESC)]
    texts += [(param.name.replace("_", " "), ARGUMENT) for param in tool.params]
    for text, weight in texts:
        for feature, own in words.features(text, parts=False).items():
            weights[feature] = max(weights.get(feature, 0.0), own * weight)
    return weights


def _in_hand(tool: ToolSpec, clause: str, request: str) -> float:
    bonus = 0.0
    for param in tool.params:
        if param.required and arguments.is_shaped(param) and arguments.from_request(param, clause, request):
            bonus = IN_HAND
        if param.name.lower() in ("expression", "expr", "formula", "calculation") and work_out(clause):
            bonus = REQUESTED
    return bonus


_IDLE = frozenset({"number", "id", "cod", "eur", "nam", "valu"})


def promise(tool: ToolSpec, param: Field) -> float:
    """Return how much a tool's description speaks of an argument of another."""
    says = set(words.stems(tool.desc))
    named = [root for root in words.stems(param.name.replace("_", " ")) if root not in _IDLE]
    if not named:
        named = list(words.stems(param.desc))[:3]
    share = sum(root in says for root in named) / max(1, len(named))
    keys = [word for word in words.words(param.desc.replace("_", " ")) if words.stem(word) not in _IDLE]
    return share + 0.2 * sum(words.stem(word) in says for word in set(keys))


def _is_reachable(tool: ToolSpec, clause: str, request: str, tools: Sequence[ToolSpec]) -> bool:
    """Say whether the request holds what the tool needs, or another tool promises it."""
    return all(
        arguments.from_request(param, clause, request)
        or arguments.is_shaped(param)
        or any(other is not tool and promise(other, param) >= PROMISES for other in tools)
        for param in tool.params
        if param.required
    )


_WH = re.compile(r"\b(?:where|when|who|why|how (?:much|many))\b")
_SEARCHES = re.compile(r"^(?:search|find|retrieve|lookup|look|query|ask)", re.IGNORECASE)


def _search(tools: Sequence[ToolSpec]) -> ToolSpec | None:
    """Return a tool that takes any question, for a request that names no other."""
    for tool in tools:
        wants = [param for param in tool.params if param.required]
        if len(wants) == 1 and _SEARCHES.match(tool.name) and arguments.takes_any(wants[0]):
            return tool
    return None
