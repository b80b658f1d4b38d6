"""Working with tools: which to call next, with what, and when there is nothing left to call.

Main path: decide(episode) -> Move. What is wanted comes from the request; observations only give values.
Nothing is called twice with the same arguments, but for a failure that may pass; what is done is done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.lm.simulator.agents.carrying import from_observations
from course_lib.lm.simulator.agents.filling import Filled, fill, joined_parts
from course_lib.lm.simulator.agents.goals import (
    PROMISES,
    Goal,
    acts,
    goals,
    is_final,
    known_stems,
    parts_of,
    promise,
)
from course_lib.lm.simulator.agents.lexing import lex
from course_lib.lm.simulator.agents.slots import Slot, slots
from course_lib.lm.simulator.prompts.episode import Episode, ToolSpec
from course_lib.lm.simulator.skills.limits import UNSTATED, fallback
from course_lib.lm.simulator.skills.observed import MAY_PASS, Seen, observe

MOST_STEPS = 10
DEEPEST = 3  # so many look-ups may stand between a request and the tool that serves it
MOST_AT_ONCE = 4

SERVES = "The request asks for what"
"""How a thought begins before a call that serves the request itself, and not another call."""

Call = tuple[str, dict[str, Any]]


@dataclass(slots=True, eq=False)
class Move:
    """What to do next, and what the decision rests on."""

    episode: Episode
    goals: tuple[Goal, ...]
    seen: tuple[Seen, ...]
    calls: tuple[Call, ...] = ()
    """Empty when there is nothing left to call."""
    thought: str = ""
    """Why these calls; empty when there are none."""
    planned: list[Call] = field(default_factory=list)
    """Calls for the goals, made or to be made."""
    missing: list[str] = field(default_factory=list)
    """What could not be found out, of goals that had to be given up."""
    unmet: list[str] = field(default_factory=list)
    """Conditions of goals that are left undone, since nothing here can check them."""
    unclear: list[str] = field(default_factory=list)
    """Parts of the request for which a tool that would serve it has no place."""

    @property
    def wanted(self) -> set[str]:
        """The names of the tools that serve the goals."""
        return {goal.tool.name for goal in self.goals if goal.tool}

    def plan(self, tool: ToolSpec, args: dict[str, Any]) -> None:
        """Add a call that is not planned yet."""
        if (tool.name, args) not in self.planned:
            self.planned.append((tool.name, args))

    def is_open(self, call: Call) -> bool:
        """Say whether a call is to be made: it was not, or it failed once for a reason that may pass."""
        tried = [one for one in self.seen if (one.step.tool, dict(one.step.args)) == call]
        return not tried or (len(tried) == 1 and bool(MAY_PASS.search(tried[0].error)))

    def is_done(self, tool: ToolSpec) -> bool:
        """Say whether a tool that acts has done so as often as the goals so far want it."""
        done = sum(one.step.tool == tool.name and not one.error for one in self.seen)
        return acts(tool) and done >= sum(name == tool.name for name, _ in self.planned)


def decide(episode: Episode) -> Move:
    """Decide on the next calls."""
    seen = tuple(observe(step) for step in episode.steps if step.tool not in ("finish", "submit"))
    asked = _asked(episode)
    move = Move(episode, asked, seen)
    calls: list[Call] = []
    for goal in asked if len(seen) < MOST_STEPS else ():
        if own := _next_calls(goal, move):
            move.thought = move.thought or _thought(goal, own, move)
            calls += [call for call in own if call not in calls]
    move.calls = tuple(calls[: MOST_AT_ONCE if episode.is_parallel else 1])
    return move


def _asked(episode: Episode) -> tuple[Goal, ...]:
    """Return the goals of the request; "and in Bergen?" goes on with those of the request before."""
    asked = goals(episode.request, episode.tools)
    if any(goal.tool for goal in asked) or not episode.before:
        return tuple(asked)
    for goal in goals(episode.before, episode.tools):
        if goal.tool and fill(goal.tool.params, episode.request, known_stems(goal.tool)).args:
            return (goal,)
    return tuple(asked)


def _next_calls(goal: Goal, move: Move) -> list[Call]:
    """Return the calls that serve a goal and are still to be made, or one that finds out what they need."""
    tool = goal.tool
    if goal.condition:
        move.unmet.append(goal.condition)
    if tool is None or goal.condition:
        return []
    sets = _filled(tool, goal.clause, move)
    if not (missing := next((one.missing for one in sets if one.missing), ())):
        if unused := _unused(sets, _text_for(goal.clause, move), move):
            move.unclear.append(unused)
            return []
        for filled in sets:
            move.plan(tool, filled.args)
        own = [call for call in move.planned if call[0] == tool.name]
        return [] if move.is_done(tool) else [call for call in own if move.is_open(call)]
    if found := _provide(tool, missing, goal.clause, move, (tool.name,)):
        return [found]
    move.missing += [name for name in missing if name not in move.missing]
    return []


_EVIDENT = ("number", "money", "percent", "date", "time", "email", "phone", "url", "quoted", "code")


def _unused(sets: Sequence[Filled], clause: str, move: Move) -> str:
    """Return a figure, a date or the like of a wish that the calls for it would leave out."""
    given = _leaves([*(one.args for one in sets), *(dict(one.step.args) for one in move.seen), len(sets)])
    for one in lex(clause):
        written = clause[one.start : one.end]
        is_said = one.kind in _EVIDENT and one.value != "today" and (one.value != 1.0 or written.isdigit())
        is_used = any(one.touches(filled.spans) for filled in sets) or one.value in given
        is_used = is_used or any(str(one.value) in text or written in text for text in map(str, given))
        if is_said and not is_used:
            return written
    return ""


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in _leaves(one)]
    return [leaf for one in value for leaf in _leaves(one)] if isinstance(value, list) else [value]


def _filled(tool: ToolSpec, clause: str, move: Move) -> list[Filled]:
    """Return the arguments of each call that a goal needs, out of the request and of observations."""
    if several := _distributed(tool, clause):
        return several
    filled = _read(tool, clause, move)
    completed = _completed(tool, filled, clause, move)
    if completed[0].missing and _POINTS.search(clause):
        more = fill(tool.params, move.episode.request, known_stems(tool))
        lacking = tuple(name for name in completed[0].missing if name in more.missing)
        return [Filled(more.args | completed[0].args, lacking)]
    return completed


def _distributed(tool: ToolSpec, clause: str) -> list[Filled]:
    """Return several sets of arguments, if the clause gives more values than one call can hold."""
    own = known_stems(tool)
    whole = fill(tool.params, clause, own)
    needed = {slot.path for slot in slots(tool.params) if slot.required and slot.kind != "array"}
    parts = joined_parts(clause)
    filled = [fill(tool.params, clause, own, within=part) for part in parts] if 1 < len(parts) <= 6 else []
    given = [{path: fit for path, fit in one.chosen.items() if path in needed} for one in filled]
    differing = {path for path in needed if len({repr(one[path].value) for one in given if path in one}) > 1}
    sharing = [(one, own) for one, own in zip(filled, given, strict=True) if own.keys() & differing]
    alike = [{(path, own[path].kind) for path in differing & own.keys()} for _, own in sharing]
    worth = [[own[path].score for _, own in sharing if path in own] for path in differing]
    if (
        len(sharing) < 2
        or any(one != alike[0] for one in alike)
        or (len(differing) < 2 and any(max(one) - min(one) > 2.0 for one in worth))
        or not whole.leaves([one for one, _ in sharing])
    ):
        return []
    names = {path[0] for path in differing}
    all_args = [(name, value) for one in (*reversed(filled), whole) for name, value in one.args.items()]
    shared = {name: value for name, value in all_args if name not in names}
    several = [Filled(shared | one.args, (), one.chosen) for one, _ in sharing]
    covered = {path for one in (*filled, whole) for path in one.chosen}
    return several if needed <= covered and differing <= sharing[0][1].keys() else []


_POINTS = re.compile(r"\b(?:it|them|this|that|these|those|one|him|her|there|then)\b", re.IGNORECASE)


def _text_for(clause: str, move: Move) -> str:
    """Return what speaks of a goal: its clause, or all of the request where no other has a tool."""
    others = any(goal.tool and goal.clause != clause for goal in move.goals)
    return clause if others else move.episode.request


def _read(tool: ToolSpec, clause: str, move: Move) -> Filled:
    own = known_stems(tool)
    filled = fill(tool.params, _text_for(clause, move), own)
    if clause not in move.episode.request and move.episode.before:  # the last request, with other values
        before = fill(tool.params, move.episode.before, own)
        lacking = tuple(name for name in filled.missing if name in before.missing)
        return Filled(before.args | filled.args, lacking)
    wishes = [goal.clause for goal in move.goals if goal.tool]
    told = "\n".join(part.text for part in parts_of(move.episode.request) if part.text not in wishes)
    beside = fill(tool.params, told, own) if filled.missing and _text_for(clause, move) == clause else filled
    return beside if len(beside.missing) < len(filled.missing) else filled


def _completed(tool: ToolSpec, filled: Filled, clause: str, move: Move) -> list[Filled]:
    """Return the arguments with what observations give for the missing ones; several if several are meant."""
    lacking = [slot for slot in slots(tool.params) if slot.required and slot.name in filled.missing]
    about = move.episode.request if _POINTS.search(clause) else clause
    offered = {
        slot: values
        for slot in lacking
        if len(slot.path) == 1 and (values := _observed(slot, tool, about, move))
    }
    if not offered:
        return [filled]
    missing = tuple(name for name in filled.missing if name not in {slot.name for slot in offered})
    return [
        Filled(
            filled.args | {slot.path[0]: few[min(at, len(few) - 1)] for slot, few in offered.items()}, missing
        )
        for at in range(max(map(len, offered.values()), default=1))
    ]


def _observed(slot: Slot, tool: ToolSpec, about: str, move: Move) -> list[Any]:
    values = from_observations(slot, tool.name, move.seen, about)
    several = not acts(tool) and slot.shape and len(values) <= 3
    return values if several else values[:1]


def _provide(
    tool: ToolSpec, missing: Sequence[str], clause: str, move: Move, above: tuple[str, ...]
) -> Call | None:
    """Return a call of a tool whose description promises a missing argument."""
    if len(above) > DEEPEST:
        return None
    for param in (param for param in tool.params if param.name.replace("_", " ") in missing):
        others = [
            other
            for other in move.episode.tools
            if other.name not in above and not is_final(other) and not acts(other)
            if promise(other, param) >= PROMISES
        ]
        for other in sorted(others, key=lambda one: -promise(one, param)):
            if call := _call_for(other, clause, move, above):
                return call
    return None


def _call_for(other: ToolSpec, clause: str, move: Move, above: tuple[str, ...]) -> Call | None:
    read = _read(other, clause, move)
    filled = _completed(other, read, clause, move)[0]
    if filled.missing:
        return _provide(other, filled.missing, clause, move, (*above, other.name))
    if not filled.args:
        return None  # it tells of everything, and so nothing of what is meant
    call = (other.name, filled.args)
    return call if move.is_open(call) else None


def _thought(goal: Goal, calls: Sequence[Call], move: Move) -> str:
    name, args = calls[0]
    told = ", ".join(f"{key} {value}" for key, value in args.items() if len(str(value)) < 60)
    told = f" with {told}" if told else ""
    if goal.tool and goal.tool.name != name:
        return f"For {goal.tool.name} I first need more; {name}{told} should tell it."
    again = " again" if any(one.step.tool == name and one.error for one in move.seen) else ""
    return f"{SERVES} {name} does, so I call it{again}{told}."


def looked_back(episode: Episode) -> Move:
    """Return where an episode stands whose prompt no longer lists the tools, from its own thoughts."""
    steps = [step for step in episode.steps if step.tool not in ("finish", "submit")]
    served = [step.tool for step in steps if step.thought.startswith(SERVES)]
    served = served or [step.tool for step in steps[-1:]]
    asked = " ".join(part.text for part in parts_of(episode.request) if part.manner != "tell")
    wanted = tuple(Goal(asked or episode.request, ToolSpec(name, "", ())) for name in dict.fromkeys(served))
    return Move(episode, wanted, tuple(observe(step) for step in steps))


def fill_any(tool: ToolSpec, request: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """Return arguments for a tool that has to be called: what cannot be found is the plainest value."""
    args = dict(fill(tool.params, request, known_stems(tool)).args)
    for param in tool.params:
        if param.required and param.name not in args:
            given = from_observations(slots((param,))[0], tool.name, seen, request)
            plainest = fallback(param.schema, param.name, param.schema.get("$defs", {}))
            args[param.name] = given[0] if given else "" if plainest == UNSTATED else plainest
    return args


def best_filled(tools: Sequence[ToolSpec], request: str) -> ToolSpec | None:
    """Return the tool for which a request gives all that it needs, and most; else one that only looks."""
    given = {tool: fill(tool.params, request, known_stems(tool)) for tool in tools if not is_final(tool)}
    whole = [tool for tool, filled in given.items() if filled.args and not filled.missing]
    looking = [tool for tool in given if tool.name and not acts(tool)]
    return max(whole, key=lambda tool: len(given[tool].args), default=next(iter(looking), None))
