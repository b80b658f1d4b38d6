"""Which format the reply is to have, and which fields, where no DSPy field list says so.

Main path: sniff(...) -> Layout: the reminder DSPy puts last, then response_format, then what the demos look
like, then the words of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from course_lib.lm.simulator.prompts.task import Case, Layout
from course_lib.lm.simulator.prompts.values import label_pattern, read_json

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
