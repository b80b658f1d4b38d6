"""Replies of a model that has tools, in each form in which a prompt may want them.

Main path: act(episode, task, body) -> Reply, or None where the request is no agent's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from course_lib.lm.reply import Reply, ToolCall
from course_lib.lm.simulator import formats
from course_lib.lm.simulator.prompts import Field, Task
from course_lib.lm.simulator.prompts.episode import Episode, ToolSpec
from course_lib.lm.simulator.skills import answer_generation
from course_lib.lm.simulator.skills.intents import is_final
from course_lib.lm.simulator.skills.tools import Call, Move, as_json, decide, fill_any, looked_back
from course_lib.lm.simulator.skills.work import is_free_text, is_reasoning


def values(episode: Episode, task: Task) -> dict[str, Any]:
    """Return the output fields of an episode that is written as text."""
    if episode.form == "extract":
        return _extracted(episode, task)
    move = decide(episode)
    if episode.form == "react":
        name, args = move.calls[0] if move.calls else ("finish", {})
        step = {"next_thought": _thought(move, episode), "next_tool_name": name, "next_tool_args": args}
        return _with_rest(step, move, task, episode)
    calls = [as_json(call) for call in move.calls or _closing(episode, move)]
    return _with_rest({episode.calls_field: {"tool_calls": calls}}, move, task, episode)


def act(episode: Episode, task: Task) -> Reply:
    """Return the reply of an episode with native calls: calls, or the answer as text."""
    move = decide(episode)
    calls = _chosen(episode, move)
    text = formats.write(task.spec, _with_rest({}, move, task, episode)) if task.spec.outputs else None
    if calls:
        return Reply(text, tuple(ToolCall(name, args) for name, args in calls), "tool_calls")
    return Reply(answer_generation.generate(move, episode.request) if text is None else text)


def _chosen(episode: Episode, move: Move) -> tuple[Call, ...]:
    """Return the calls that `tool_choice` allows or demands."""
    choice = episode.choice
    if choice == "none":
        return ()
    if isinstance(choice, Mapping):
        name = (choice.get("function") or choice).get("name")
        tool = next((tool for tool in episode.tools if tool.name == name), None)
        if tool is None:
            return ()
        own = tuple(call for call in move.calls if call[0] == name)
        return own or (_forced(tool, episode, move),)
    calls = move.calls or _closing(episode, move)
    if choice == "required" and not calls and episode.tools:
        goal = next((goal.tool for goal in move.goals if goal.tool), episode.tools[0])
        return (_forced(goal, episode, move),)
    return calls


def _closing(episode: Episode, move: Move) -> tuple[Call, ...]:
    """Return the call that hands the answer over, if there is a tool for it."""
    final = next((tool for tool in episode.tools if is_final(tool)), None)
    return (_forced(final, episode, move),) if final else ()


def _forced(tool: ToolSpec, episode: Episode, move: Move) -> Call:
    if not is_final(tool):
        return tool.name, fill_any(tool, episode.request, move.seen)
    fields = [Field(param.name, param.schema or {"type": "string"}, param.desc) for param in tool.params]
    return tool.name, {field.name: answer_generation.value(field, move, episode.request) for field in fields}


def _extracted(episode: Episode, task: Task) -> dict[str, Any]:
    """Fill the program's own outputs from the whole trajectory."""
    move = looked_back(episode)
    last = episode.steps[-1].thought
    values = {f.name: answer_generation.value(f, move, episode.request) for f in task.spec.outputs}
    if answer_generation.DECLINES.search(last):
        values |= {f.name: last for f in task.spec.outputs if is_free_text(f) and not is_reasoning(f)}
    return values


def _thought(move: Move, episode: Episode) -> str:
    return move.thought or answer_generation.last_thought(move, episode.request)


def _with_rest(done: dict[str, Any], move: Move, task: Task, episode: Episode) -> dict[str, Any]:
    return {
        field.name: done[field.name]
        if field.name in done
        else _thought(move, episode)
        if "thought" in field.name
        else answer_generation.value(field, move, episode.request)
        for field in task.spec.outputs
    }
