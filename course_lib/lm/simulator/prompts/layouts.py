"""Which format the reply is to have, and which fields, where no DSPy field list says so.

Main path: sniff(...) -> Layout: the reminder DSPy puts last, then response_format, then what the demos look
like, then the words of the prompt. loose_outputs(...) -> fields, from the demos or the words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from course_lib.lm.simulator.prompts.task import Case, Field, Layout
from course_lib.lm.simulator.prompts.values import label_pattern, labelled, read_json

MARKERS = Layout("markers")
JSON = Layout("json")
XML = Layout("xml")
LABELLED = Layout("labelled")
PROSE = Layout("prose")


def sniff(
    system: str, last: str, answers: Sequence[str], names: tuple[str, ...], *, json_mode: bool
) -> Layout:
    """Return the layout asked for by a request; `answers` are the demos' assistant messages."""
    if json_mode or "Respond with a JSON object in the following order of fields" in last:
        return JSON
    if "ending with the marker for `[[ ## completed ## ]]`" in last:
        return MARKERS
    if "output fields wrapped in XML tags" in last:
        return XML
    if not names:
        return PROSE
    shown = filter(None, (_of_answer(answer, names) for answer in answers))
    return next(shown, None) or _of_words(system, last, names)


def _of_answer(answer: str, names: tuple[str, ...]) -> Layout | None:
    """Return the layout in which a demo is written, or None if it shows no field name."""
    fenced = answer.lstrip().startswith("```")
    if "[[ ## " in answer:
        return MARKERS
    begins_with_label = answer.lstrip()[:1] not in ("{", "`") and label_pattern(names).match(answer.lstrip())
    if not begins_with_label and (record := read_json(answer)) and any(name in record for name in names):
        return Layout("json", fenced=fenced)
    if any(f"<{name}>" in answer for name in names):
        return Layout("xml", fenced=fenced)
    labels = list(label_pattern(names).finditer(answer))
    if not labels:
        return None if len(names) > 1 else PROSE
    first = labels[0]
    after = first.group("after") + ("\n" if answer.startswith("\n", first.end()) else "")
    gap = answer[: labels[1].start()] if len(labels) > 1 else ""
    between = gap[len(gap.rstrip()) :] or "\n"
    before, written = first.group("before"), first.group("name")
    case: Case = "NAME" if written.isupper() else "Na me" if " " in written else "Name"
    case = "name" if written in names else case
    return Layout("labelled", before=before, after=after, case=case, between=between, fenced=fenced)


def _of_words(system: str, last: str, names: tuple[str, ...]) -> Layout:
    prompt = f"{system}\n{last}"
    if block := _template(prompt, names):
        return block
    if "`name: value`" in prompt:  # said of the whole reply; single values may still be JSON
        return LABELLED
    lowered = prompt.lower()
    if "json" in lowered:
        return JSON
    if "yaml" in lowered:
        return LABELLED
    if "xml" in lowered or any(f"<{name}>" in prompt for name in names):
        return XML
    return MARKERS if "[[ ## " in prompt else LABELLED


def _template(prompt: str, names: tuple[str, ...]) -> Layout | None:
    """Return the block of lines that shows the place of each output as `{name}`, if there is one."""
    spots = [prompt.find(f"{{{name}}}") for name in names]
    if min(spots) < 0 or "[[ ## " in prompt:
        return None
    start = prompt.rfind("\n\n", 0, min(spots))
    end = prompt.find("\n\n", max(spots))
    block = prompt[start + 2 if start >= 0 else 0 : end if end >= 0 else len(prompt)].strip("\n")
    if block.startswith(("{", "[")) and re.search(r'"\s*:', block):
        return None  # a picture of a JSON object
    return Layout("template", template=block)


_TALKS_OF_FIELDS = re.compile(r"json|yaml|xml|\bkeys?\b|\bfields?\b|\blabel|`\w+`", re.IGNORECASE)
_LABEL = re.compile(r"^\s*[#*-]*\s*([A-Za-z_][\w ]{0,30}?)\**\s*[:=]", re.MULTILINE)
_TICKED = re.compile(r"`([A-Za-z_]\w{0,40})`")
_KEYED = re.compile(r"[\"']([A-Za-z_]\w{0,40})[\"']\s*:")
_LISTED = re.compile(
    r"\b(?:keys?|fields?|columns?|labels?|reply with|respond with|answer with|return|output)\b[\s:]+"
    r"([a-z_]\w*(?:\s*(?:,\s*(?:and\s+)?|\sand\s)\s*[a-z_]\w*)*)\s*(?:[.:;\n(]|$)",
    re.IGNORECASE,
)
_CHOICES = re.compile(
    r"[\w-]+(?: [\w-]+)?(?:\s*[,|/]\s*(?:or |and )?[\w-]+(?: [\w-]+)?)+(?:,? (?:or|and) [\w-]+)?"
)
_NOT_NAMES = frozenset(
    {"a", "an", "the", "and", "then", "json", "yaml", "xml", "only", "one", "object", "with"}
)


def loose_outputs(system: str, tail: str, answers: tuple[str, ...]) -> list[Field]:
    """Return the output fields that demos show or that the prompt names; none for plain chat."""
    text = f"{system}\n{tail}"
    for answer in answers:
        if names := _names_in(answer):
            record = {name: str(value) for name, value in (read_json(answer) or {}).items()}
            values = labelled(answer, tuple(names)) or record
            return [_field(name, text, values.get(name)) for name in names]
    if not _TALKS_OF_FIELDS.search(text):
        return []
    for part in (tail, system):
        for candidates in (_TICKED.findall(part), _KEYED.findall(part), _listed(part)):
            if names := _proper(candidates):
                return [_field(name, text) for name in names]
    return []


def _names_in(answer: str) -> list[str]:
    if record := read_json(answer):
        return [str(name) for name in record]
    if tags := re.findall(r"<([A-Za-z_]\w*)>", answer):
        return _proper(tags)
    if markers := re.findall(r"^\[\[ ## (\w+) ## \]\]", answer, re.MULTILINE):
        return [name for name in _proper(markers) if name != "completed"]
    return _proper(_LABEL.findall(answer))


def _listed(text: str) -> list[str]:
    named = _LISTED.search(text)
    return re.findall(r"[A-Za-z_]\w*", named.group(1)) if named else []


def _proper(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.lower() not in _NOT_NAMES]


def _field(name: str, text: str, example: str | None = None) -> Field:
    """Make a field of a name, with the choices beside it, or those among which a demo chooses."""
    beside = re.search(
        rf"[`\"']?{re.escape(name)}[`\"']?\s*(?:\(|:|is|must be|should be)+\s*(?:one of)?:?\s*"
        rf"({_CHOICES.pattern})",
        text,
        re.IGNORECASE,
    )
    if beside and (choices := _split(beside.group(1))):
        return Field(name=name, schema={"enum": choices}, desc=beside.group(1))
    for listed in _CHOICES.findall(text) if example else ():
        choices = _split(re.sub(r"^.*\b(?:into|as|either|of)\s+", "", listed))
        if example and example.strip() in choices:
            return Field(name=name, schema={"enum": choices}, desc=listed)
    return Field(name=name)


def _split(listed: str) -> list[str]:
    parts = (part.strip(" \"'`") for part in re.split(r"[,|/]|\bor\b|\band\b", listed))
    choices = [part for part in dict.fromkeys(parts) if part]
    return choices if len(choices) > 1 and all(len(choice.split()) <= 2 for choice in choices) else []
