"""Proposing instructions, as DSPy's optimizers ask for them: rules drawn from the examples in one prompt.

Main path: propose(field, work) for a field that asks for instructions, rules, observations or advice;
reflect(text, work) for a prompt without fields. Examples with labels are read out of whatever form the prompt
gives them in. The rule of a label names what its texts speak of and those of others do not. What is said of
scores is used too: the best instruction so far is kept and varied.
Source: COPRO, MIPROv2's GroundedProposer, GEPA, SIMBA and InferRules of DSPy 3.4.1; the gepa package 0.1.4.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from course_lib.lm import encoder
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.reading import parsed, sections
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.rules import WAYS
from course_lib.lm.simulator.skills.work import Result, Work

PHRASES, POOL = 6, 24  # phrases of a rule, and how many are looked at for it
APART = 0.5  # how much nearness to other labels' texts speaks against a phrase
KEPT = 0.8  # share of the phrases that a proposal keeps when proposals are to differ
MOST = 24  # phrases of one label in an instruction that has grown
_LABEL_WORDS = 3


@dataclass(frozen=True)
class Example:
    """A text and its label in one field of the program; the label that it must not get, if one was wrong."""

    text: str
    label: str
    out: str = ""
    not_label: str = ""


# -- reading examples out of a prompt ----------------------------------------------------------------------


def examples_in(text: str, wanted: Sequence[str] = ()) -> list[Example]:
    """Return the examples that a prompt shows, as records, blocks of fields, or in Markdown."""
    records = list(_records(text))
    outs = wanted or _label_fields(records)
    found: list[Example] = []
    for inputs, outputs, feedback in records:
        known = {str(record[1][out]) for record in records for out in outs if out in record[1]}
        given = ((out, str(outputs[out])) for out in outs if out in outputs)
        found.extend(_with_feedback(inputs, label, out, feedback, known) for out, label in given)
    return [example for example in found if example.label or example.not_label]


Record = tuple[str, Mapping[str, Any], str]
"""Input text, outputs and feedback."""


def _records(text: str) -> Iterator[Record]:
    for found in re.finditer(r"Example\((\{.*?\})\) \(input_keys=\{(.*?)\}\)", text, re.DOTALL):
        yield from _record(_evaluated(found[1]), set(re.findall(r"'(\w+)'", found[2])))
    for shown in parsed(text, []) if text.lstrip().startswith("[") else ():
        if isinstance(shown, dict) and isinstance(shown.get("Inputs"), dict):
            outputs = shown.get("Generated Outputs")
            said = "\n".join(map(str, shown["Inputs"].values()))
            yield said, outputs if isinstance(outputs, dict) else {}, str(shown.get("Feedback", ""))
    for block in re.split(r"(?m)^Input Fields:\n", text)[1:]:
        said, _, outputs = block.partition("=========\nOutput Fields:\n")
        yield re.sub(r"(?m)^\w+: ", "", said).strip(), _lines(outputs), ""
    for block in re.split(r"(?m)^# Example \d+\n", text)[1:]:
        parts = dict(_headed(block, "##"))
        said = "\n".join(value for _, value in _headed(parts.get("Inputs", ""), "###"))
        yield said, dict(_headed(parts.get("Generated Outputs", ""), "###")), parts.get("Feedback", "")


def _record(values: Any, input_keys: set[str]) -> Iterator[Record]:
    if isinstance(values, dict):
        said = "\n".join(str(value) for name, value in values.items() if name in input_keys)
        yield said, {name: value for name, value in values.items() if name not in input_keys}, ""


def _evaluated(source: str) -> Any:
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _lines(text: str) -> dict[str, str]:
    return {name: value.strip() for name, value in re.findall(r"(?m)^(\w+): (.*)$", text)}


def _headed(text: str, marks: str) -> Iterator[tuple[str, str]]:
    headings = re.finditer(rf"(?m)^{marks} (\S.*)\n", text)
    return ((heading[1], value.strip()) for heading, value in sections(headings, text))


def _label_fields(records: Sequence[Record]) -> list[str]:
    """Return the output fields whose values repeat and are short."""
    names = dict.fromkeys(name for _, outputs, _ in records for name in outputs)
    values = {name: [str(outputs[name]) for _, outputs, _ in records if name in outputs] for name in names}
    return [
        name for name, said in values.items() if _are_labels(said) and name not in ("reasoning", "rationale")
    ]


def _are_labels(said: Sequence[str]) -> bool:
    is_short = all(len(value.split()) <= _LABEL_WORDS and len(value) < 40 for value in said)
    is_id = all(re.search(r"\d{2}", value) for value in said)
    return is_short and not is_id and (len(said) < 8 or len(set(said)) <= 0.7 * len(said))


_CUE = (
    r"(?:correct|right|expected|true|gold|actual|desired|proper|should|belongs?|goes|answer|label|category)\b[^.\n]{0,40}?"
    r"(?:is|was|be|been|:|=|to|in|as|answer)\s*(?:the )?[`'\"*]*"
)


def _with_feedback(text: str, given: str, out: str, feedback: str, known: set[str]) -> Example:
    """Return the example with the label that the feedback calls right, or without what it calls wrong."""
    said = feedback.lower()
    spelled = "|".join(re.escape(label.lower()) for label in sorted(known, key=len, reverse=True))
    named = re.search(rf"{_CUE}({spelled})\b", said) or re.search(
        rf"{_CUE}([\w-]+(?: [\w-]+)?)['\"`*.,;\n]", said + "\n"
    )
    is_wrong = re.search(
        r"\b(?:incorrect|wrong|not correct|not right|score of 0(?:\.0)?\b|mistake|false)", said
    )
    if (
        named
        and named[1] != given.lower()
        and (is_wrong or named[1] in {label.lower() for label in known} or not known)
    ):
        label = next((label for label in known if label.lower() == named[1]), named[1].strip())
        return Example(text, label, out, given)
    return Example(text, "", out, given) if is_wrong else Example(text, given, out)


# -- rules from examples -----------------------------------------------------------------------------------


def rules_from(examples: Sequence[Example], work: Work) -> dict[tuple[str, str], list[str]]:
    """Return for each field and label what its texts speak of and the others' do not."""
    rules: dict[tuple[str, str], list[str]] = {}
    for out in dict.fromkeys(example.out for example in examples):
        mine = [example for example in examples if example.out == out and example.label]
        labels = list(dict.fromkeys(example.label for example in mine))
        texts = [example.text for example in mine]
        vectors = encoder.encode(texts)
        centres = {
            label: encoder.unit(vectors[[example.label == label for example in mine]].mean(0))
            for label in labels
        }
        phrases = [candidates(text) for text in texts]
        for label in labels:
            own = [
                pair
                for example, pairs in zip(mine, phrases, strict=True)
                if example.label == label
                for pair in pairs
            ]
            others = {
                root for e, pairs in zip(mine, phrases, strict=True) if e.label != label for root, _ in pairs
            }
            rest = [centre for other, centre in centres.items() if other != label]
            rules[out, label] = _tellings(own, others, centres[label], rest, work)
    return rules


def candidates(text: str) -> list[tuple[str, str]]:
    """Return the phrases of a text, of one to three words that matter: (stems, phrase)."""
    found: dict[str, str] = {}
    for clause in re.split(r"[.,;:!?()\n\"]| - ", text.lower()):
        for run in _runs(re.findall(r"[a-z][\w'-]*", clause)):
            for size in (1, 2, 3):
                for at in range(len(run) - size + 1):
                    part = run[at : at + size]
                    if not all(word in words.COMMON_WORDS for word in part):
                        found.setdefault(" ".join(map(words.stem, part)), " ".join(part))
    return list(found.items())


def _runs(said: Iterable[str]) -> Iterator[list[str]]:
    run: list[str] = []
    for word in [*said, "the"]:
        if word not in words.STOP and len(word) > 2:
            run.append(word)
        elif run:
            yield run
            run = []


def _tellings(
    own: Sequence[tuple[str, str]], others: set[str], centre: Any, rest: Sequence[Any], work: Work
) -> list[str]:
    """Return the phrases that are nearest to a label's texts, and no nearer to those of others."""
    counts = Counter(root for root, _ in own)
    spelled = {root: phrase for root, phrase in reversed(own) if root not in others} or dict(reversed(own))
    roots = sorted(spelled, key=lambda root: -counts[root] * len(root.split()) ** 0.5)[:POOL]
    if not roots:
        return []
    vectors = encoder.encode([spelled[root] for root in roots])
    near = vectors @ centre - (APART * (vectors @ np.array(rest).T).max(1) if rest else 0.0)
    if work.draw:
        near = near + np.array([work.draw.gauss(0, 0.05) for _ in roots])
    chosen: list[str] = []
    for root in (roots[at] for at in np.argsort(-near, kind="stable")):
        if not any(set(root.split()) & set(taken.split()) for taken in chosen):
            chosen.append(root)
    return [spelled[root] for root in chosen[:PHRASES]]


# -- writing ------------------------------------------------------------------------------------------------

_RULE = re.compile(r"(?:For (\w+), use|Use) (?:\"([^\"]+)\"|(\S+)) for ((?:[^.]|\.(?=\w))+)\.")


def rule_sentences(rules: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """Write one sentence a label, which `read_rules` reads; the field is named where there are several."""
    is_one = len({out for out, _ in rules}) < 2
    return [
        f"{'Use' if is_one or not out else f'For {out}, use'} {_named(label)} for {_listed(phrases[-MOST:])}."
        for (out, label), phrases in rules.items()
        if phrases
    ]


def _named(label: str) -> str:
    return f'"{label}"' if " " in label else label


def _listed(items: Sequence[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def rules_in(text: str) -> dict[tuple[str, str], list[str]]:
    """Read back the rules of an instruction that was written here."""
    rules: dict[tuple[str, str], list[str]] = {}
    for found in _RULE.finditer(text):
        phrases = re.split(r", | and ", found[4])
        rules.setdefault((found[1] or "", found[2] or found[3]), []).extend(phrases)
    return rules


def _merged(*parts: Mapping[tuple[str, str], Sequence[str]]) -> dict[tuple[str, str], list[str]]:
    merged: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        for key, phrases in part.items():
            merged[key] = list(dict.fromkeys([*merged.get(key, ()), *phrases]))
    return merged


# -- the fields that optimizers ask for ---------------------------------------------------------------------


def propose(field: Field, work: Work) -> Result | None:
    """Fill a field that asks for instructions, or for what they are made from; pass on any other."""
    for names, write in _WRITERS:
        if names.fullmatch(field.name):
            return write(work)
    return None


def reflect(text: str, work: Work) -> str | None:
    """Answer a plain prompt that shows instructions and examples with feedback, and asks for better ones."""
    current = re.search(r"```\n(.*?)\n```", text, re.DOTALL)
    if not current or not re.search(r"(?m)^# Example 1$", text) or "Feedback" not in text:
        return None
    return f"```\n{_improved(current[1], rules_from(examples_in(text), work), (), work)}\n```"


def _instruction(work: Work) -> Result | None:
    inputs = work.task.inputs
    basic, tried = _best_so_far(inputs)
    if not basic:
        return None
    told = "\n".join(
        inputs.get(name, "") for name in ("dataset_description", "examples_with_feedback", "task_demos")
    )
    outs = re.findall(r"\w+", inputs.get("module", "").partition("->")[2])
    shown = rules_from(examples_in(inputs.get("examples_with_feedback", ""), outs), work)
    described = {key: said for key, said in rules_in(told).items() if not outs or key[0] in ("", *outs)}
    rules = _merged(described, shown)
    return Result(
        _improved(basic, rules, tried if rules else tried or ("",), work), "it follows from the examples"
    )


def _best_so_far(inputs: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the instruction to start from, and those that were tried before."""
    said = inputs.get("attempted_instructions") or inputs.get("previous_instructions") or ""
    attempts = parsed(said, None)
    text = "\n".join(map(str, attempts)) if isinstance(attempts, list) else said
    scored = re.findall(
        r"(?s)Instruction #\d+: (.*?)\nPrefix #\d+: .*?\nResulting Score #\d+: ([\d.]+)", text
    )
    scored += re.findall(r"(?s)(.+?) \| Score: ([\d.]+)\s*", text)
    if scored:
        return max(scored, key=lambda pair: float(pair[1].rstrip(".")))[0].strip(), tuple(
            said for said, _ in scored
        )
    return next(
        (inputs[name] for name in ("basic_instruction", "current_instruction") if name in inputs), ""
    ), ()


def _improved(
    basic: str, rules: Mapping[tuple[str, str], Sequence[str]], tried: Sequence[str], work: Work
) -> str:
    """Return an instruction with its rules joined to new ones and, where others were tried, a way to read."""
    known = rules_in(basic)
    is_one = len({out for out, _ in (*known, *rules) if out}) < 2
    merged = _merged(
        *(
            {("" if is_one else out, label): said for (out, label), said in part.items()}
            for part in (known, rules)
        )
    )
    if work.draw:
        draw = work.draw
        merged = {key: [one for one in said if draw.random() < KEPT] or said for key, said in merged.items()}
    core = _RULE.sub("", basic)
    for sentence, _ in WAYS.values():
        core = core.replace(sentence, "")
    lines = (
        " ".join(line.split()) for line in re.sub(r"(?m)^\s*(?:\d+[.)]|[-*•])\s*$", "", core).splitlines()
    )
    return "\n".join([*filter(None, lines), *_ways(basic, tried, work), *rule_sentences(merged)])


def _ways(basic: str, tried: Sequence[str], work: Work) -> list[str]:
    """Return the ways to read that an instruction has, and where others were tried one or two more."""
    has = [sentence for sentence, _ in WAYS.values() if sentence in basic]
    fresh = [sentence for sentence, _ in WAYS.values() if sentence not in has]
    if not tried or not fresh:
        return has
    if work.draw is None:
        return [*has, fresh[0]]
    return [
        *has[: work.draw.choice((0, 1, 2))],
        *work.draw.sample(fresh, work.draw.choice((1, min(2, len(fresh))))),
    ]


def _observations(work: Work) -> Result:
    examples = examples_in(work.task.inputs.get("examples", ""))
    rules = rule_sentences(rules_from(examples, work))
    outs = list(dict.fromkeys(example.out for example in examples))
    if not rules:
        return Result(
            "COMPLETE" if "prior_observations" in work.task.inputs else "The samples are short texts."
        )
    return Result(" ".join([f"Each sample is a text with its {_listed(outs)}.", *rules]))


def _summary(work: Work) -> Result | None:
    said = work.task.inputs.get("observations", "")
    if not (rules := rules_in(said)):
        return None
    return Result(" ".join([f"{said.partition('.')[0]}.", *rule_sentences(rules)]))


def _rules(work: Work) -> Result | None:
    examples = examples_in(next(iter(work.task.inputs.values()), ""))
    sentences = rule_sentences(rules_from(examples, work))
    return Result("\n".join(f"{at}. {one}" for at, one in enumerate(sentences, 1))) if sentences else None


def _advice(work: Work) -> Result | None:
    inputs = {name: parsed(value, value) for name, value in work.task.inputs.items()}
    names = inputs.get("module_names")
    right = {**_dict(inputs.get("better_program_outputs")), **_dict(inputs.get("oracle_metadata"))}
    given = _dict(inputs.get("worse_program_outputs")) or _dict(inputs.get("better_program_outputs"))
    text = "\n".join(map(str, _dict(inputs.get("program_inputs")).values()))
    outs = [out for out in given if out in right and out != "reasoning" and _are_labels([str(right[out])])]
    if not isinstance(names, list) or not outs:
        return None
    examples = [Example(text, str(right[out]), out if len(outs) > 1 else "", str(given[out])) for out in outs]
    advice = " ".join(rule_sentences(rules_from(examples, work)))
    return Result({str(name): advice for name in names})


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _discussion(work: Work) -> Result | None:
    if "worse_program_outputs" not in work.task.inputs:
        return None
    return Result("The worse run differs from the better one in its outputs, not in its inputs.")


def _description(work: Work) -> Result | None:
    code = work.task.inputs.get("program_code", "")
    fields = {
        kind: re.findall(rf"(\w+)\s*(?::[^=\n]+)?=\s*(?:dspy\.)?{kind}Field", code)
        for kind in ("Input", "Output")
    }
    signature = re.search(r"\(([\w, ]+) -> ([\w, ]+)", code)
    given, wanted = (
        (", ".join(fields["Input"]), ", ".join(fields["Output"])) if fields["Output"] else ("", "")
    )
    if not wanted and signature:
        given, wanted = signature[1], signature[2]
    return Result(f"It reads {given or 'its inputs'} and gives {wanted or 'its outputs'}, one call each.")


def _shortened(work: Work) -> Result | None:
    said, limit = work.task.inputs.get("instruction", ""), work.task.inputs.get("length_limit", "")
    most = int(number[0]) if (number := re.search(r"\d+", limit.replace(",", ""))) else len(said)
    kept = ""
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", said):
        kept = f"{kept} {sentence}".strip() if len(kept) + len(sentence) < most else kept
    return Result(kept[:most] or said[:most])


_WRITERS = (
    (
        re.compile(r"(?:proposed|improved|new|better|revised|optimi[sz]ed)_(?:instruction|prompt)s?"),
        _instruction,
    ),
    (re.compile(r"proposed_prefix_for_output_field"), lambda _: Result("The answer is:")),
    (re.compile(r"observations"), _observations),
    (re.compile(r"summary"), _summary),
    (re.compile(r"(?:natural_language_|induced_)?rules"), _rules),
    (re.compile(r"module_advice"), _advice),
    (re.compile(r"discussion"), _discussion),
    (re.compile(r"(?:program|module)_description"), _description),
    (re.compile(r"shortened_instruction"), _shortened),
)
