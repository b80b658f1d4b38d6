"""Replies of a model that has tools: calls in the form that the prompt wants, or the answer at the end.

Main path: act(episode, task) -> Reply; values(episode, task) -> fields; generate(move) -> answer.
Texts of observations that speak to the model are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from course_lib.lm.reply import Reply, ToolCall
from course_lib.lm.simulator import formats
from course_lib.lm.simulator.agents.deciding import Call, Move, best_filled, decide, fill_any, looked_back
from course_lib.lm.simulator.agents.goals import is_final, parts_of, spoken
from course_lib.lm.simulator.prompts import Field, Spec, Task
from course_lib.lm.simulator.prompts.episode import Episode, ToolSpec
from course_lib.lm.simulator.prompts.layouts import PROSE
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.answers import reply
from course_lib.lm.simulator.skills.extracting import extract
from course_lib.lm.simulator.skills.observed import Leaf, Seen, is_command, plain_sentences
from course_lib.lm.simulator.skills.quotation import bearing
from course_lib.lm.simulator.skills.work import Work, is_free_text, is_reasoning

MOST_FACTS = 6
MOST_RECORDS = 8

_ASKS_FOR = (
    (
        r"where|track|location|whereabouts|parcel|package",
        r"status|place|destination|location|city|arriv|eta|scan|note",
    ),
    (
        r"when|date|day|arriv\w*|long|how soon|expect\w*|overdue|late",
        r"date|arriv|eta|placed|day|scan|time|status|joined|return",
    ),
    (
        r"how much|amount|cost|price|total|paid|pay|worth|sum|euros?|refund\w*|money",
        r"eur|total|amount|price|cost|usd|paid|refund",
    ),
    (
        r"why|going on|wrong|problem|happen\w*|stuck|moves?|moving|news|held|says?",
        r"note|reason|message|comment|detail|status|place",
    ),
    (r"who|whose|name", r"name|email|customer"),
    (
        r"status|state|happen\w*|news|arrived|delivered|shipped|sent|cancell?ed",
        r"status|state|place|arriv|eta",
    ),
    (r"how many|count|points?|number", r"points?|(?:^|_)counts?$|quantity|number"),
    (r"items?|products?|what did|what was|bought|contain\w*|in (?:it|the order)", r"^name$|quantity|item"),
    (
        r"address|street|(?:deliver|sen[dt]|ship|go)\w*\b[^.?!]{0,30}\bto",
        r"address|ship_to|street|destination",
    ),
)
"""Words of a question, and the keys of a record that answer it."""
_KINDS_WANTED = tuple(
    (re.compile(rf"\b(?:{asks})\b", re.IGNORECASE), re.compile(keys)) for asks, keys in _ASKS_FOR
)
_SUBJECT = re.compile(r"(?:^|_)(?:id|number|reference|key)$")


def generate(move: Move) -> str:
    """Return the answer to the request."""
    good, bad = _sorted_out(move)
    refused = [goal for goal in move.goals if goal.tool is None]
    request = move.episode.request
    question = " ".join(part.text for part in parts_of(request) if part.manner != "tell") or request
    parts = [_of_tool(one, question) for one in good]
    is_served = any(one.step.tool in move.wanted for one in good)
    if bad and (not good or bad[-1].step.tool in move.wanted):
        parts = parts if is_served else []
        parts.append(f"I could not do this: {bad[-1].error.rstrip('.')}.")
    for goal in refused:
        what = f"can {goal.verb} anything here" if goal.verb else "does that"
        parts.append(f"I cannot do this: none of my tools {what}.")
    parts += [f"I could not do this: I do not know what {part!r} is to say here." for part in move.unclear]
    parts += [f"I could not do this: I cannot check whether {unmet}." for unmet in move.unmet]
    if move.missing and not bad:
        lacking = " and the ".join(move.missing)
        parts.append(f"I could not do this: I do not have the {lacking}, and no tool tells it.")
    elif not parts:
        parts.append("I cannot help with this: none of my tools tells anything about it.")
    return " ".join(part for part in parts if part)


DECLINES = re.compile(r"\bI (?:cannot|could not)\b")


def _thought(move: Move) -> str:
    """Return the thought before a call or before finishing; a task that was not done is remembered in it."""
    if move.thought:
        return move.thought
    answer = generate(move)
    return answer if DECLINES.search(answer) else "The observations say what was asked, so I am done."


def _sorted_out(move: Move) -> tuple[list[Seen], list[Seen]]:
    """Return the observations that matter and the errors that were not overcome."""
    fine = [one for one in move.seen if not one.error]
    last = {f"{one.step.tool} {sorted(one.step.args.items())}": one for one in move.seen}
    bad = [one for one in last.values() if one.error]
    if served := [one for one in fine if one.step.tool in move.wanted]:
        return served, bad
    return ([] if move.wanted and (bad or move.missing) else fine[-1:]), bad


# -- one observation --------------------------------------------------------------------------------------


_OK = re.compile(r"\s*[\"']?(?:ok|okay|done|success|successful|true|null|none)?[\"'.!]*\s*", re.IGNORECASE)


def _of_tool(one: Seen, question: str) -> str:
    if _OK.fullmatch(one.text):
        told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in one.step.args.items())
        return _sentence(f"Done: {spoken(one.step.tool)}" + (f" ({told})" if told else ""))
    if one.data is None:
        return _of_text(one.text, question)
    if isinstance(one.data, list) and len(one.data) != 1:
        return _of_list(one)
    text = "; ".join(dict.fromkeys(map(_fact, chosen(one, question)))) or "there is nothing"
    return _sentence(text[:1].upper() + text[1:])


def _of_text(text: str, question: str) -> str:
    kept = plain_sentences(text)
    plain = "\n".join(kept)
    if len(plain) <= 300:
        return _sentence(" ".join(kept)) if kept else "The tool returned nothing of use."
    quote = bearing(plain, question)
    return " ".join(quote.sentences or kept[:2])


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def chosen(one: Seen, question: str) -> list[Leaf]:
    """Return the values of an observation that bear on the question, in their order; subject first."""
    leaves = [leaf for leaf in one.leaves if not is_command(str(leaf.value))]
    wanted = [kind for asks, kind in _KINDS_WANTED if asks.search(question)]
    stems = set(words.stems(question))
    scores = []
    for leaf in leaves:
        key = leaf.key.lower()
        score = sum(1.0 for kind in wanted if kind.search(key))
        score += 1.5 * len(stems & set(words.stems(key.replace("_", " "))))
        score += 1.0 * bool(stems & set(words.stems(leaf.named)))
        scores.append(score + 0.5 * (key == "status") - 0.6 * (leaf.record > 0 and not wanted))
    order = sorted(range(len(leaves)), key=lambda at: (-scores[at], at))
    kept = [at for at in order[:MOST_FACTS] if scores[at] > 0] or range(MOST_FACTS)
    subject = [at for at, leaf in enumerate(leaves) if leaf.record == 0 and _SUBJECT.search(leaf.key)]
    return [leaf for at, leaf in enumerate(leaves) if at in kept or at in subject[:1]]


def _fact(leaf: Leaf) -> str:
    key = leaf.key.lower()
    label = re.sub(r"_(?:eur|usd)$", "", key).replace("_", " ")
    owner = f"{leaf.named}: " if leaf.named not in ("", leaf.value) and leaf.record > 0 else ""
    return f"{owner}{label} {written(key, leaf.value)}"


def written(key: str, value: Any) -> str:
    """Write a value as a person would: amounts with their currency, states without underscores."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and (unit := re.search(r"_(eur|usd|gbp)$", key)):
        return f"{unit.group(1).upper()} {value:.2f}"
    if isinstance(value, str) and re.fullmatch(r"[a-z]+(?:_[a-z]+)+", value):
        return value.replace("_", " ")
    return str(value)


def _of_list(one: Seen) -> str:
    """Return the records, one after the other."""
    lines = [
        ", ".join(
            written(key, one)
            for key, one in (entry if isinstance(entry, dict) else {"": entry}).items()
            if one is not None and not isinstance(one, dict | list) and not is_command(str(one))
        )
        for entry in one.data
    ]
    told = [line for line in lines if line][:MOST_RECORDS]
    return _sentence(f"There are {len(lines)}: {'; '.join(told)}") if told else "There is nothing."


# -- fields -----------------------------------------------------------------------------------------------


def value(field: Field, move: Move) -> Any:
    """Return what an output field of the program should hold."""
    if is_reasoning(field):
        return reasons(move)
    good, _ = _sorted_out(move)
    if is_free_text(field):
        same = [leaf.value for one in good for leaf in one.leaves if leaf.key.lower() == field.name.lower()]
        return str(same[0]) if same else generate(move)
    facts = "\n".join(
        f"{leaf.key}: {leaf.value}" for one in good for leaf in one.leaves if not is_command(str(leaf.value))
    )
    facts = facts or "\n".join(one.text for one in good) or generate(move)
    spec = Spec((), (field,), "", PROSE)
    return extract(field, Work(Task(spec, {"facts": facts}))).value


def reasons(move: Move) -> str:
    """Return what the answer rests on."""
    used = dict.fromkeys(one.step.tool for one in move.seen if not one.error)
    rests = f"The answer rests on what {' and '.join(used)} returned."
    return rests if used else "No tool returned anything of use."


def values(episode: Episode, task: Task) -> dict[str, Any]:
    """Return the output fields of an episode that is written as text."""
    if episode.form == "extract":
        return _extracted(episode, task)
    move = decide(episode)
    if episode.form == "react":
        name, args = move.calls[0] if move.calls else ("finish", {})
        step = {"next_tool_name": name, "next_tool_args": args}  # the thought as for any field of that name
        return _with_rest(step, move, task)
    calls = [{"name": name, "args": args} for name, args in move.calls or _closing(move)]
    return _with_rest({episode.calls_field: {"tool_calls": calls}}, move, task)


def act(episode: Episode, task: Task) -> Reply:
    """Return the reply of an episode with native calls: calls, or the answer as text."""
    move = decide(episode)
    calls = _chosen(move)
    has_fields = task.spec.outputs and (task.spec.inputs or task.spec.layout.kind == "json")  # else a chat
    text = formats.write(task.spec, _with_rest({}, move, task)) if has_fields else None
    if calls:
        return Reply(text, tuple(ToolCall(name, args) for name, args in calls), "tool_calls")
    if text is None and not move.goals and not move.seen and _TALKS.match(episode.request):
        text = formats.bare(task.spec, reply(episode.request, Work(task)))
    return Reply(formats.bare(task.spec, generate(move)) if text is None else text)


_TALKS = re.compile(
    r"\W*(?:hi|hello|hey|good (?:morning|evening|day)|thanks?|bye|(?:who|what) are you)\b", re.IGNORECASE
)


def _chosen(move: Move) -> tuple[Call, ...]:
    """Return the calls that `tool_choice` allows or demands."""
    episode, choice, calls = move.episode, move.episode.choice, move.calls or _closing(move)
    if choice == "none":
        return ()
    if isinstance(choice, Mapping):
        name = (choice.get("function") or choice).get("name")
        own = tuple(call for call in move.calls if call[0] == name)
        is_done = any(one.step.tool == name for one in move.seen)
        forced = [tool for tool in episode.tools if tool.name == name and not is_done]
        return own or tuple(_forced(tool, move) for tool in forced[:1])
    if choice == "required" and not calls and not move.seen and not move.missing:
        best = best_filled(episode.tools, episode.request)
        return (_forced(best, move),) if best else ()
    return calls


def _closing(move: Move) -> tuple[Call, ...]:
    """Return the call that hands the answer over, if there is a tool for it."""
    final = next((tool for tool in move.episode.tools if is_final(tool)), None)
    return (_forced(final, move),) if final else ()


def _forced(tool: ToolSpec, move: Move) -> Call:
    if not is_final(tool):
        return tool.name, fill_any(tool, move.episode.request, move.seen)
    fields = [Field(param.name, param.schema or {"type": "string"}, param.desc) for param in tool.params]
    return tool.name, {field.name: value(field, move) for field in fields}


def _extracted(episode: Episode, task: Task) -> dict[str, Any]:
    """Fill the program's own outputs from the whole trajectory."""
    move = looked_back(episode)
    last = episode.steps[-1].thought
    filled = {f.name: value(f, move) for f in task.spec.outputs}
    if DECLINES.search(last):
        filled |= {f.name: last for f in task.spec.outputs if is_free_text(f) and not is_reasoning(f)}
    return filled


def _with_rest(done: dict[str, Any], move: Move, task: Task) -> dict[str, Any]:
    """Return all outputs: those that are done, and the others filled."""
    rest = {
        field.name: _thought(move) if "thought" in field.name else value(field, move)
        for field in task.spec.outputs
        if field.name not in done
    }
    return {field.name: (done | rest)[field.name] for field in task.spec.outputs}
