"""Working with tools: which to call next, with what, and when there is nothing left to call.

Main path: decide(episode) -> Move. What is wanted comes from the request; observations only give values.
Nothing is called twice with the same arguments, but for a failure that may pass; what is done is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.episode import Episode, ToolSpec
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.arguments import Filled, fill, from_observations, parts
from course_lib.lm.simulator.skills.intents import (
    PROMISES,
    Goal,
    acts,
    clauses,
    goals,
    is_final,
    known_stems,
    promise,
    verbs_of,
)
from course_lib.lm.simulator.skills.mentions import spelled_out
from course_lib.lm.simulator.skills.observed import MAY_PASS, Seen, observe
from course_lib.lm.simulator.skills.shape import fallback
from course_lib.lm.simulator.skills.wanted import Wanted, wanted

MOST_STEPS = 10
DEEPEST = 3  # so many look-ups may stand between a request and the tool that serves it
MOST_AT_ONCE = 4

SERVES = "The request asks for what"
"""How a thought begins before a call that serves the request itself, and not another call."""

Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """What to do next."""

    calls: tuple[Call, ...]
    """Empty when there is nothing left to call."""
    thought: str
    """Why these calls; empty when there are none."""
    goals: tuple[Goal, ...]
    seen: tuple[Seen, ...]
    missing: tuple[str, ...] = ()
    """What could not be found out, of goals that had to be given up."""

    @property
    def wanted(self) -> set[str]:
        """The names of the tools that serve the goals."""
        return {goal.tool.name for goal in self.goals if goal.tool}


@dataclass(slots=True)
class Hands:
    """One decision in the making."""

    episode: Episode
    goals: tuple[Goal, ...]
    seen: tuple[Seen, ...]
    planned: list[Call] = field(default_factory=list)
    """Calls of tools that act, for the goals so far, made or to be made."""
    missing: list[str] = field(default_factory=list)

    def plan(self, tool: ToolSpec, args: dict[str, Any]) -> None:
        """Add a call, if it is not one that is planned already in other words."""
        texts = {want.path[0] for want in wanted(tool.params) if want.kind == "text"}
        told = {name: value for name, value in args.items() if name not in texts}
        planned = [
            {key: value for key, value in other.items() if key not in texts}
            for name, other in self.planned
            if name == tool.name
        ]
        if told not in planned or told == {}:
            self.planned.append((tool.name, args))

    def is_open(self, call: Call) -> bool:
        """Say whether a call is to be made: it was not, or it failed once for a reason that may pass."""
        tried = [one for one in self.seen if _key((one.step.tool, dict(one.step.args))) == _key(call)]
        return not tried or (len(tried) == 1 and bool(MAY_PASS.search(tried[0].error)))

    def is_done(self, tool: ToolSpec) -> bool:
        """Say whether a tool that acts has done so as often as the goals so far want it."""
        done = sum(one.step.tool == tool.name and not one.error for one in self.seen)
        return acts(tool) and done >= sum(name == tool.name for name, _ in self.planned)


def _key(call: Call) -> str:
    return f"{call[0]} {json.dumps(call[1], sort_keys=True, default=str)}"


def decide(episode: Episode) -> Move:
    """Decide on the next calls."""
    seen = tuple(observe(step) for step in episode.steps if step.tool not in ("finish", "submit"))
    asked = _asked(episode)
    hands = Hands(episode, asked, seen)
    calls: list[Call] = []
    thought = ""
    for goal in asked if len(seen) < MOST_STEPS else ():
        if goal.tool and (own := _next_calls(goal.tool, goal.clause, hands)):
            thought = thought or _thought(goal, own, hands)
            calls += [call for call in own if call not in calls]
    most = MOST_AT_ONCE if episode.is_parallel else 1
    return Move(tuple(calls[:most]), thought, asked, seen, tuple(hands.missing))


def _asked(episode: Episode) -> tuple[Goal, ...]:
    """Return the goals of the request; "and in Bergen?" goes on with those of the request before."""
    asked = goals(episode.request, episode.tools)
    if any(goal.tool for goal in asked) or not episode.before:
        return tuple(asked)
    for goal in goals(episode.before, episode.tools):
        if goal.tool and fill(goal.tool.params, spelled_out(episode.request), known_stems(goal.tool)).args:
            return (goal,)
    return tuple(asked)


def _next_calls(tool: ToolSpec, clause: str, hands: Hands) -> list[Call]:
    """Return the calls that serve a goal and are still to be made, or one that finds out what they need."""
    missing: tuple[str, ...] = ()
    for filled in _filled(tool, clause, hands):
        if filled.missing:
            missing = filled.missing
            break
        hands.plan(tool, filled.args)
    else:
        own = [call for call in hands.planned if call[0] == tool.name]
        return [] if hands.is_done(tool) else [call for call in own if hands.is_open(call)]
    if found := _provide(tool, missing, clause, hands, (tool.name,)):
        return [found]
    hands.missing += [name for name in missing if name not in hands.missing]
    return []


def _filled(tool: ToolSpec, clause: str, hands: Hands) -> list[Filled]:
    """Return the arguments of each call that a goal needs, out of the request and of observations."""
    others = any(goal.tool and goal.clause != clause for goal in hands.goals)
    for text in (clause,) if others else (clause, hands.episode.request):
        if several := _distributed(tool, text):
            return several
    filled = _read(tool, clause, hands)
    completed = _completed(tool, filled, clause, hands)
    return completed or [filled]


def _distributed(tool: ToolSpec, clause: str) -> list[Filled]:
    """Return one set of arguments for each joined part of the clause, if several have all that is needed."""
    text, own = spelled_out(clause), known_stems(tool)
    if any(
        isinstance(value, list) and len(value) > 1 for value in fill(tool.params, text, own).args.values()
    ):
        return []
    filled = [fill(tool.params, text, own, within=part) for part in parts(text)]
    complete = [one for one in filled if not one.missing and not one.is_free and one.args]
    return complete if len(complete) > 1 else []


def _read(tool: ToolSpec, clause: str, hands: Hands) -> Filled:
    request = hands.episode.request
    others = [goal.clause for goal in hands.goals if goal.tool and goal.clause != clause]
    beside = [
        part.text
        for part in clauses(spelled_out(request), verbs_of(hands.episode.tools))
        if part.text not in others
    ]
    text = spelled_out(request) if not others else clause
    filled = fill(tool.params, text, known_stems(tool))
    if clause not in request and hands.episode.before:  # the last request, with other values
        before = fill(tool.params, spelled_out(hands.episode.before), known_stems(tool))
        lacking = tuple(name for name in filled.missing if name in before.missing)
        return Filled(before.args | filled.args, lacking)
    if filled.missing and others:
        filled = fill(tool.params, "\n".join(beside), known_stems(tool))
    if filled.missing and others and _POINTS.search(clause):
        filled = fill(tool.params, spelled_out(request), known_stems(tool))
    return filled


_POINTS = re.compile(r"\b(?:it|them|this|that|these|those|one|him|her)\b", re.IGNORECASE)


def _completed(tool: ToolSpec, filled: Filled, clause: str, hands: Hands) -> list[Filled]:
    """Return the arguments with what observations give for the missing ones; several if several are meant."""
    if not filled.missing:
        return [filled]
    wants = [want for want in wanted(tool.params) if want.required and want.name in filled.missing]
    about = hands.episode.request if _POINTS.search(clause) else clause
    offered = {want.path: _observed(want, tool, about, hands) for want in wants}
    most = max(len(values) for values in offered.values())
    sets = []
    for at in range(most):
        args, lacking = json.loads(json.dumps(filled.args, default=str)), []
        for want in wants:
            values = offered[want.path]
            if not values:
                lacking.append(want.name)
                continue
            inner = args
            for name in want.path[:-1]:
                inner = inner.setdefault(name, {})
            inner[want.path[-1]] = values[min(at, len(values) - 1)]
        sets.append(Filled(args, tuple(lacking)))
    return sets


def _observed(want: Wanted, tool: ToolSpec, about: str, hands: Hands) -> list[Any]:
    values = from_observations(want, hands.episode.request, hands.seen, tool.name, about)
    several = not acts(tool) and want.shapes and len(values) <= 3
    return values if several else values[:1]


def _provide(
    tool: ToolSpec, missing: Sequence[str], clause: str, hands: Hands, above: tuple[str, ...]
) -> Call | None:
    """Return a call of a tool whose description promises a missing argument."""
    if len(above) > DEEPEST:
        return None
    params = [param for param in tool.params if param.name.replace("_", " ") in missing]
    for param in params:
        others = [
            other
            for other in hands.episode.tools
            if other.name not in above and not is_final(other) and not acts(other)
            if promise(other, param) >= PROMISES and not _needs_alike(other, param)
        ]
        for other in sorted(others, key=lambda one: -promise(one, param)):
            if call := _call_for(other, clause, hands, above):
                return call
    return None


def _needs_alike(tool: ToolSpec, param: Field) -> bool:
    """Say whether a tool needs to be told what it should tell."""
    sought = set(words.stems(param.name.replace("_", " "))) - {"id", "number", "cod", "nam"}
    needed = {stem for own in tool.params for stem in words.stems(own.name.replace("_", " "))}
    return bool(sought & needed) or param.name in {own.name for own in tool.params}


def _call_for(other: ToolSpec, clause: str, hands: Hands, above: tuple[str, ...]) -> Call | None:
    filled = _completed(other, _read(other, clause, hands), clause, hands)[:1]
    if filled and not filled[0].missing:
        if not filled[0].args:
            return None  # it tells of everything, and so nothing of what is meant
        call = (other.name, filled[0].args)
        return call if hands.is_open(call) else None
    missing = filled[0].missing if filled else _read(other, clause, hands).missing
    return _provide(other, missing, clause, hands, (*above, other.name))


def _thought(goal: Goal, calls: Sequence[Call], hands: Hands) -> str:
    name, args = calls[0]
    with_what = ", ".join(f"{key} {value}" for key, value in args.items() if len(str(value)) < 60)
    arguments_text = f" with {with_what}" if with_what else ""
    again = "again " if any(one.step.tool == name and one.error for one in hands.seen) else ""
    if goal.tool and goal.tool.name != name:
        return f"For {goal.tool.name} I first need more; {name}{arguments_text} should tell it."
    return f"{SERVES} {name} does, so I call it {again}{arguments_text}".replace("  ", " ").rstrip() + "."


def looked_back(episode: Episode) -> Move:
    """Return where an episode stands whose prompt no longer lists the tools, from its own thoughts."""
    steps = [step for step in episode.steps if step.tool not in ("finish", "submit")]
    served = [step.tool for step in steps if step.thought.startswith(SERVES)]
    served = served or [step.tool for step in steps[-1:]]
    asked = (
        " ".join(part.text for part in clauses(episode.request) if part.manner != "tell") or episode.request
    )
    wanted_tools = tuple(Goal(asked, ToolSpec(name, "", ())) for name in dict.fromkeys(served))
    return Move((), "", wanted_tools, tuple(observe(step) for step in steps))


def fill_any(tool: ToolSpec, request: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """Return arguments for a tool that has to be called: what cannot be found is the plainest value."""
    args = dict(fill(tool.params, spelled_out(request), known_stems(tool)).args)
    for param in tool.params:
        if param.required and param.name not in args:
            (want, *_) = wanted((param,))
            values = (
                from_observations(want, request, seen, tool.name, request)
                if want.path == (param.name,)
                else []
            )
            args[param.name] = (
                values[0] if values else fallback(param.schema, param.name, param.schema.get("$defs", {}))
            )
    return args
