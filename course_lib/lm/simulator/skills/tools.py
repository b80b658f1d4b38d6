"""Working with tools: which to call next, with what, and when there is nothing left to call.

Main path: decide(episode) -> Move. What is wanted comes from the request; observations only give values.
Nothing is called twice with the same arguments, but for a failure that may pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.episode import Episode, ToolSpec
from course_lib.lm.simulator.skills import arguments
from course_lib.lm.simulator.skills.intents import PROMISES, Goal, clauses, goals, is_final, promise, verb_of
from course_lib.lm.simulator.skills.observed import MAY_PASS, Seen, observe
from course_lib.lm.simulator.skills.shape import fallback

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
    missing: str = ""
    """What could not be found out, if a goal had to be given up."""

    @property
    def wanted(self) -> set[str]:
        """The names of the tools that serve the goals."""
        return {goal.tool.name for goal in self.goals if goal.tool}


@dataclass(slots=True)
class Hands:
    """One decision in the making."""

    episode: Episode
    seen: tuple[Seen, ...]
    missing: str = ""

    def tried(self, call: Call) -> list[Seen]:
        """Return what came of the same call before."""
        key = _key(call)
        return [one for one in self.seen if _key((one.step.tool, dict(one.step.args))) == key]


def _key(call: Call) -> str:
    return f"{call[0]} {json.dumps(call[1], sort_keys=True, default=str)}"


def decide(episode: Episode) -> Move:
    """Decide on the next calls."""
    seen = tuple(observe(step) for step in episode.steps if step.tool not in ("finish", "submit"))
    hands = Hands(episode, seen)
    wanted = tuple(goals(episode.request, episode.tools))
    if len(seen) < MOST_STEPS:
        for goal in wanted:
            if goal.tool and (calls := pursue(goal.tool, goal.clause, hands, depth=0, is_goal=True)):
                thought = _thought(goal, calls, hands)
                return Move(calls[: MOST_AT_ONCE if episode.is_parallel else 1], thought, wanted, seen)
    return Move((), "", wanted, seen, hands.missing)


def pursue(
    tool: ToolSpec, clause: str, hands: Hands, *, depth: int, is_goal: bool, above: tuple[str, ...] = ()
) -> tuple[Call, ...]:
    """Return the calls that bring the tool nearer to its turn, or its own; none if it had it or cannot."""
    offered = [_values(param, tool, clause, hands, is_goal=is_goal) for param in tool.params]
    pairs = zip(tool.params, offered, strict=True)
    if wants := [param for param, values in pairs if param.required and not values]:
        return _provide(wants[0], clause, hands, depth, (*above, tool.name))
    calls = []
    for args in _combined(tool.params, offered):
        call = (tool.name, args)
        tried = hands.tried(call)
        if not tried or (len(tried) == 1 and MAY_PASS.search(tried[0].error)):
            calls.append(call)
        if not is_goal:
            break
    return tuple(calls)


def _values(param: Field, tool: ToolSpec, clause: str, hands: Hands, *, is_goal: bool) -> list[Any]:
    if not param.required and not arguments.is_shaped(param):
        return []
    request = hands.episode.request
    values = arguments.from_request(param, clause, request)
    acts = bool(verb_of(tool))
    if values:
        return values[:1] if acts else values[:MOST_AT_ONCE]
    if not param.required:
        return []
    about = request if _POINTS.search(clause) else clause
    values = arguments.from_observations(param, request, hands.seen, tool.name, about)
    several = is_goal and not acts and arguments.is_shaped(param) and len(values) <= 3
    return values if several else values[:1]


_POINTS = re.compile(r"\b(?:it|them|this|that|these|those|one)\b", re.IGNORECASE)


def _combined(params: Sequence[Field], offered: Sequence[list[Any]]) -> list[dict[str, Any]]:
    """Return one set of arguments for each value of the argument that has several."""
    most = max((len(values) for values in offered), default=1) or 1
    sets = []
    for at in range(most):
        args = {
            param.name: values[min(at, len(values) - 1)]
            for param, values in zip(params, offered, strict=True)
            if values
        }
        if args not in sets:
            sets.append(args)
    return sets


def _provide(param: Field, clause: str, hands: Hands, depth: int, above: tuple[str, ...]) -> tuple[Call, ...]:
    """Call a tool whose description promises the missing argument."""
    others = [
        other
        for other in (hands.episode.tools if depth < DEEPEST else ())
        if other.name not in above and not is_final(other) and not verb_of(other)
        if promise(other, param) >= PROMISES and all(own.name != param.name for own in other.params)
    ]
    for other in sorted(others, key=lambda one: -promise(one, param)):
        if calls := pursue(other, clause, hands, depth=depth + 1, is_goal=False, above=above):
            return calls
    hands.missing = hands.missing or param.name.replace("_", " ")
    return ()


def _thought(goal: Goal, calls: Sequence[Call], hands: Hands) -> str:
    name, args = calls[0]
    with_what = ", ".join(f"{key} {value}" for key, value in args.items() if len(str(value)) < 60)
    arguments_text = f" with {with_what}" if with_what else ""
    again = "again " if hands.tried(calls[0]) else ""
    if goal.tool and goal.tool.name != name:
        return f"For {goal.tool.name} I first need more; {name}{arguments_text} should tell it."
    return f"{SERVES} {name} does, so I call it {again}{arguments_text}".replace("  ", " ").rstrip() + "."


def looked_back(episode: Episode) -> Move:
    """Return where an episode stands whose prompt no longer lists the tools, from its own thoughts."""
    steps = [step for step in episode.steps if step.tool not in ("finish", "submit")]
    served = [step.tool for step in steps if step.thought.startswith(SERVES)]
    served = served or [step.tool for step in steps[-1:]]
    request = " ".join(clauses(episode.request))
    wanted = tuple(Goal(request, ToolSpec(name, "", ())) for name in dict.fromkeys(served))
    return Move((), "", wanted, tuple(observe(step) for step in steps))


def fill_any(tool: ToolSpec, request: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """Return arguments for a tool that has to be called, fitting or not."""
    filled: dict[str, Any] = {}
    for param in tool.params:
        if param.required:
            values = arguments.from_request(param, request, request)
            values = values or arguments.from_observations(param, request, seen)
            filled[param.name] = values[0] if values else fallback(param.schema, param.name, {})
    return filled
