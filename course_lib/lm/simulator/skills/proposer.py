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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.episode import mapping
from course_lib.lm.simulator.reading import parsed, sections
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.learner import Meaning, encoded
from course_lib.lm.simulator.skills.polarity import degrees
from course_lib.lm.simulator.skills.rules import WAYS, read_rules, read_ways
from course_lib.lm.simulator.skills.work import Result, Work

CHECKED = 8  # examples from which on it is checked whether rules help
EACH = 3  # phrases of one text
PHRASES, LONGEST, MATTERING = 8, 4, 3  # of a rule the phrases; of a phrase the words, and those that matter
AGAINST = 0.7  # how much nearness to other labels' texts speaks against a phrase
SAID = 0.05  # how much it counts that several texts of a label say it
ALONE = 0.6  # nearness of a phrase to its own text, where a label has no other
KEPT = 0.8  # share of the phrases that a proposal keeps when proposals are to differ
MOST = 24  # phrases of one label in an instruction that has grown
_LABEL_WORDS = 3
_CLAUSES = re.compile(r"[.,;:!?()\n\"/|\u00ab\u00bb\[\]]|\s[-\u2013\u2014]\s")
_BREAKS = frozenset(words.ENGLISH["breaks"].split())


@dataclass(frozen=True)
class Example:
    """A text and its label in one field of the program; no label, if only a wrong one is known."""

    text: str
    label: str
    out: str = ""


# -- reading examples out of a prompt ----------------------------------------------------------------------


def examples_in(text: str, wanted: Sequence[str] = ()) -> list[Example]:
    """Return the examples that a prompt shows, as records, blocks of fields, or in Markdown."""
    records = list(_records(text))
    outs = {name for _, outputs, _ in records for name in outputs}
    found: list[Example] = []
    for out in wanted or _label_fields(records):
        mine = [(inputs, str(outputs[out]), said) for inputs, outputs, said in records if out in outputs]
        known = {given for _, given, _ in mine}
        found += [
            Example(inputs, _judged(given, out, said, known, outs - {out}), out)
            for inputs, given, said in mine
        ]
    return [example for example in found if example.label]


Rules = dict[tuple[str, str], list[str]]
"""Phrases of each field and label."""
Record = tuple[str, Mapping[str, Any], str]
"""Input text, outputs and feedback."""


def _records(text: str) -> Iterator[Record]:
    for found in re.finditer(r"Example\((\{.*?\})\) \(input_keys=\{(.*?)\}\)", text, re.DOTALL):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            values, given = dict(ast.literal_eval(found[1])), re.findall(r"'(\w+)'", found[2])
            yield "\n".join(str(values.pop(name)) for name in given if name in values), values, ""
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


def _lines(text: str) -> dict[str, str]:
    return {name: value.strip() for name, value in re.findall(r"(?m)^(\w+): (.*)$", text)}


def _headed(text: str, marks: str) -> Iterator[tuple[str, str]]:
    headings = re.finditer(rf"(?m)^{marks} (\S.*)\n", text)
    return ((heading[1], value.strip()) for heading, value in sections(headings, text))


def _label_fields(records: Sequence[Record]) -> list[str]:
    """Return the output fields whose values repeat and are short."""
    values: dict[str, list[str]] = {}
    for _, outputs, _ in records:
        for name, value in outputs.items():
            values.setdefault(name, []).append(str(value))
    return [
        name for name, said in values.items() if name not in ("reasoning", "rationale") and _are_labels(said)
    ]


def _are_labels(said: Sequence[str]) -> bool:
    is_short = all(len(value.split()) <= _LABEL_WORDS and len(value) < 40 for value in said)
    is_id = all(re.search(r"\d{2}", value) for value in said)
    return is_short and not is_id and (len(said) < 8 or len(set(said)) <= 0.7 * len(said))


_RIGHT = re.compile(
    r"\b(?:correct|right|expected|true|gold|should|belongs?|answer)\b(?:[^'\"`.]{0,40}?\b(?:is|was|be|to|in|as))?\W*$"
)
_RIGHT_BEHIND = re.compile(r"^\W*(?:is|was) (?:the )?(?:right|correct|expected)|^['\"`]?, (?:and )?not ")
_FAULT = re.compile(r"\b(?:incorrect|wrong|false|got|not (?:correct|right)|score of 0(?:\.0)?)\b")


def _judged(given: str, out: str, feedback: str, known: set[str], others: set[str]) -> str:
    """Return the label that the feedback on a field calls right.

    There is none where it calls the given one wrong, or speaks of other fields alone.
    """
    clauses = re.split(r"(?<=[.;\n])\s+", feedback)
    own = [clause for clause in clauses if re.search(rf"\b{re.escape(out)}\b", clause)]
    if not own and others.intersection(re.findall(r"\w+", feedback)):
        return ""
    said = "; ".join(own or clauses)
    named = {
        *re.findall(r"['\"`]([^'\"`\n]{1,40})['\"`]", said),
        *re.findall(r"\bis ([\w-]+)[.,]", said),
    } | known
    spelled = "|".join(re.escape(label) for label in sorted(named, key=len, reverse=True))
    for found in re.finditer(rf"(?<![\w-])(?:{spelled})(?![\w-])", said, re.IGNORECASE):
        before, behind = said[: found.start()].lower(), said[found.end() :].lower()
        if _RIGHT.search(before) or _RIGHT_BEHIND.search(behind):
            return next((label for label in known if label.lower() == found[0].lower()), found[0])
    return "" if _FAULT.search(said.lower()) else given


# -- rules from examples -----------------------------------------------------------------------------------


def rules_from(examples: Sequence[Example], work: Work, basic: str = "") -> Rules:
    """Return for each field and label what its texts speak of and the others' do not.

    Rules of a field are left out if those of one half of its examples explain less of the other half than the
    basic instruction alone, and the other way round.
    """
    rules: Rules = {}
    for mine in _by_field(examples):
        halves = (mine[::2], mine[1::2])
        gained = sum(
            _gain(asked, basic, rule_sentences(_drawn(learned, work)), work)
            for learned, asked in (halves, halves[::-1])
            if len(mine) >= CHECKED
        )
        least = len(mine) >= CHECKED and degrees([*{example.label for example in mine}]) != []
        rules |= _drawn(mine, work) if gained >= least else {}  # degrees are seldom a matter of topic
    return rules


def _by_field(examples: Sequence[Example]) -> list[list[Example]]:
    outs = dict.fromkeys(example.out for example in examples)
    return [[example for example in examples if example.out == out] for out in outs]


def _drawn(examples: Sequence[Example], work: Work) -> Rules:
    """Return the rules of one field, drawn from its examples."""
    labels = list(dict.fromkeys(example.label for example in examples))
    is_labelled = np.array([[example.label == label for label in labels] for example in examples], float)
    told = _tellings([example.text for example in examples], is_labelled, work) if labels else []
    return {(examples[0].out, label): said for label, said in zip(labels, told, strict=True)}


def _gain(examples: Sequence[Example], basic: str, said: Sequence[str], work: Work) -> int:
    """Return how many more examples of one field get their label if more is said than the instruction."""
    labels = tuple(dict.fromkeys(example.label for example in examples))

    def right(told: str) -> int:
        meaning = Meaning(labels, "", read_rules(told, labels), read_ways(told), weak=work.weak)
        guessed = meaning.own([example.text for example in examples]).argmax(1)
        return sum(labels[at] == one.label for at, one in zip(guessed, examples, strict=True))

    return right("\n".join([basic, *said])) - right(basic)


def _tellings(texts: Sequence[str], is_labelled: Any, work: Work) -> list[list[str]]:
    """Return for each label the phrases of its texts that are near to its other texts, not to others'."""
    found = [candidates(text) for text in texts]
    spelled = {root: phrase for phrases in reversed(found) for root, phrase in phrases.items()}
    if not spelled:
        return [[] for _ in is_labelled.T]
    has = np.array([[root in phrases for root in spelled] for phrases in found], float).T
    near = encoded([*spelled.values()], weak=work.weak) @ encoded(texts, weak=work.weak).T
    others = (1 - has) @ is_labelled  # how many texts of each label do not have the phrase themselves
    apart = np.where(
        others > 0,
        ((1 - has) * near) @ is_labelled / np.maximum(others, 1),
        ALONE * (near @ is_labelled) / is_labelled.sum(0),
    )
    shared = (has @ is_labelled + 0.25) / (is_labelled.sum(0) + 0.5)
    chosen = []
    for at, count in enumerate(is_labelled.sum(0)):
        rest = np.delete(np.arange(len(is_labelled.T)), at)
        telling = apart[:, at] + SAID * np.log(shared[:, at])
        if rest.size:
            telling -= AGAINST * apart[:, rest].max(1) + SAID * np.log(shared[:, rest]).max(1)
        if work.draw:
            telling += [work.draw.gauss(0, 0.03) for _ in spelled]
        telling[has @ is_labelled[:, at] == 0] = -np.inf
        chosen.append(_distinct([*spelled.items()], telling)[: int(EACH * count)])
    return chosen


def _distinct(phrases: Sequence[tuple[str, str]], telling: Any) -> list[str]:
    """Return the most telling phrases, of which no two share a word."""
    roots: set[str] = set()
    chosen: list[str] = []
    for at in np.argsort(-telling, kind="stable"):
        root, phrase = phrases[at]
        if len(chosen) < PHRASES and telling[at] > -np.inf and not roots & {*root.split()}:
            chosen.append(phrase)
            roots.update(root.split())
    return chosen


def candidates(text: str) -> dict[str, str]:
    """Return the phrases of a text without names, numbers and days: {stems: phrase}."""
    found: dict[str, str] = {}
    for clause in _CLAUSES.split(text.replace("\u2019", "'")):
        run: list[str] = []
        said = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", clause)
        if len(said) < 3 and clause.strip()[:1].isupper():
            continue  # a greeting, or who signs
        for at, word in enumerate([*said, "and"]):
            is_name = word != "I" and (
                (word[0].isupper() and at > 0) or not word.isascii() or re.search(r"\d", word)
            )
            if is_name or word.lower() in _BREAKS or word.lower().endswith("n't"):
                found = _phrases(run) | found
                run = []
            else:
                run.append(word.lower())
    return found


def _phrases(run: Sequence[str]) -> dict[str, str]:
    """Return the parts of a run of words that begin and end with a word that matters."""
    matters = [word not in words.STOP and len(word) > 2 for word in run]
    found = {}
    for start, end in combinations(range(len(run) + 1), 2):
        part = [word for word, counts in zip(run[start:end], matters[start:end], strict=True) if counts]
        is_whole = matters[start] and matters[end - 1] and end - start <= LONGEST and len(part) <= MATTERING
        if is_whole and not words.COMMON_WORDS.issuperset(part):
            found[" ".join(map(words.stem, part))] = " ".join(run[start:end])
    return found


def _degree_ways(examples: Sequence[Example], basic: str, work: Work) -> list[str]:
    """Return how to read degrees, as far as more examples get their label by it."""
    tried: list[tuple[float, list[str]]] = [(0, [])]
    for mine in _by_field(examples):
        shifts = ((), ("lower",), ("higher",), ("middle",))[: 4 if len(mine) >= CHECKED else 1]
        for shift in shifts if degrees([*{example.label for example in mine}]) else ():
            said = [WAYS[way][0] for way in ("degrees", *shift)]
            tried.append((_gain(mine, basic, said, work) + 0.5 * (len(mine) < CHECKED), said))
    return max(tried, key=lambda pair: pair[0])[1]


# -- writing ------------------------------------------------------------------------------------------------

_SAMPLE = "Each sample is a text with its"
_PASSAGE = re.compile(r"(?m)^\[\d+\] \u00ab+\n?|\n?\u00bb+$")  # how DSPy writes a list of texts
_RULE = re.compile(r"(?:For (\w+), use|Use) (?:\"([^\"]+)\"|(\S+)) for ([^.]+)\.")


def rule_sentences(rules: Mapping[tuple[str, str], Sequence[str]], outs: Sequence[str] = ()) -> list[str]:
    """Write one sentence a label, which `read_rules` reads; the field is named where there are several."""
    is_one = len({*outs, *(out for out, _ in rules)}) < 2
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


def rules_in(text: str) -> Rules:
    """Read back the rules of an instruction that was written here."""
    rules: Rules = {}
    for found in _RULE.finditer(text):
        phrases = re.split(r", | and ", found[4])
        rules.setdefault((found[1] or "", found[2] or found[3]), []).extend(phrases)
    return rules


# -- the fields that optimizers ask for ---------------------------------------------------------------------


def propose(field: Field, work: Work) -> Result | None:
    """Fill a field that asks for instructions, or for what they are made from; pass on any other."""
    write = next((one for names, one in _WRITERS.items() if re.fullmatch(names, field.name)), None)
    return write(work) if write else None


def reflect(text: str, work: Work) -> str | None:
    """Answer a plain prompt that shows instructions and examples with feedback, and asks for better ones."""
    current = re.search(r"```\n(.*?)\n```", text, re.DOTALL)
    if not current or not re.search(r"(?m)^# Example 1$", text) or "Feedback" not in text:
        return None
    told = _learned(current[1], examples_in(text), {}, "", work)
    return f"```\n{told}\n```"


def _instruction(work: Work) -> Result | None:
    inputs = work.task.inputs
    basic, tried = _best_so_far(inputs)
    if not basic:
        return None
    told = "\n".join(inputs.get(name, "") for name in ("dataset_description", "task_demos"))
    outs = re.findall(r"\w+", inputs.get("module", "").partition("->")[2])
    rules = {key: said for key, said in rules_in(told).items() if not outs or key[0] in ("", *outs)}
    examples = examples_in(inputs.get("examples_with_feedback", ""), outs)
    has_nothing = not (tried or examples or rules)
    said = _learned(basic, examples, rules, told, work, ("",) if has_nothing else tried)
    return Result(said, "it follows from the examples")


def _learned(
    basic: str, examples: Sequence[Example], rules: Rules, told: str, work: Work, tried: Sequence[str] = ()
) -> str:
    """Return an instruction with rules and ways to read, of what is told and of examples."""
    ways = [way for way, _ in WAYS.values() if way in told] or _degree_ways(examples, basic, work)
    joined = "\n".join([basic, *(way for way in ways if way not in basic)])
    return _improved(joined, rules | rules_from(examples, work, joined), tried, work)


def _best_so_far(inputs: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the instruction to start from, and those that were tried before."""
    said = inputs.get("attempted_instructions") or inputs.get("previous_instructions") or ""
    attempts = parsed(said, None)
    text = "\n".join(map(str, attempts)) if isinstance(attempts, list) else _PASSAGE.sub("", said)
    scored = re.findall(
        r"(?s)Instruction #\d+: (.*?)\nPrefix #\d+: .*?\nResulting Score #\d+: ([\d.]+)", text
    )
    scored += re.findall(r"(?s)(.+?) \| Score: ([\d.]+)\s*", text)
    if scored:
        best, _ = max(scored, key=lambda pair: float(pair[1].rstrip(".")))
        return best.strip(), tuple(said for said, _ in scored)
    return inputs.get("basic_instruction") or inputs.get("current_instruction") or "", ()


def _improved(basic: str, rules: Rules, tried: Sequence[str], work: Work) -> str:
    """Return an instruction with its rules joined to new ones and, where others were tried, a way to read."""
    known = rules_in(basic)
    is_one = len({out for out, _ in (*known, *rules) if out}) < 2
    merged: Rules = {}
    for (out, label), phrases in (*known.items(), *rules.items()):
        key = ("" if is_one else out, label)
        merged[key] = list(dict.fromkeys([*merged.get(key, ()), *phrases]))
    if draw := work.draw:
        merged = {key: [one for one in said if draw.random() < KEPT] or said for key, said in merged.items()}
    core = _RULE.sub("", basic)
    for sentence, _ in WAYS.values():
        core = core.replace(sentence, "")
    core = re.sub(r"(?m)^\s*(?:\d+[.)]|[-*•])\s*$", "", core)
    lines = (" ".join(line.split()) for line in core.splitlines())
    return "\n".join([*filter(None, lines), *_ways(basic, tried, work), *rule_sentences(merged)])


def _ways(basic: str, tried: Sequence[str], work: Work) -> list[str]:
    """Return the ways to read that an instruction has; where others were tried, some and a new one."""
    has = [sentence for sentence, _ in WAYS.values() if sentence in basic]
    fresh = [sentence for sentence, _ in WAYS.values() if sentence not in has]
    if not tried or not fresh:
        return has
    kept = has[: work.draw.choice((0, 1, 2))] if work.draw else has
    return [*kept, work.draw.choice(fresh) if work.draw else fresh[0]]


def _observations(work: Work) -> Result:
    examples = examples_in(work.task.inputs.get("examples", ""))
    outs = list(dict.fromkeys(example.out for example in examples))
    ways = _degree_ways(examples, "", work)
    said = [*ways, *rule_sentences(rules_from(examples, work, " ".join(ways)), outs)]
    if said:
        return Result(" ".join([f"{_SAMPLE} {_listed(outs)}.", *said]))
    return Result("COMPLETE" if "prior_observations" in work.task.inputs else "The samples are short texts.")


def _summary(work: Work) -> Result | None:
    said = work.task.inputs.get("observations", "")
    rules = rules_in(said)
    ways = [way for way, _ in WAYS.values() if 2 * said.count(way) > said.count(_SAMPLE)]
    told = " ".join([f"{said.partition('.')[0]}.", *ways, *rule_sentences(rules)])
    return Result(told) if rules or ways else None


def _rules(work: Work) -> Result | None:
    examples = examples_in(next(iter(work.task.inputs.values()), ""))
    sentences = rule_sentences(rules_from(examples, work))
    return Result("\n".join(f"{at}. {one}" for at, one in enumerate(sentences, 1))) if sentences else None


def _advice(work: Work) -> Result | None:
    inputs = {name: parsed(value, value) for name, value in work.task.inputs.items()}
    names = inputs.get("module_names")
    right = {**mapping(inputs.get("better_program_outputs")), **mapping(inputs.get("oracle_metadata"))}
    given = mapping(inputs.get("worse_program_outputs")) or mapping(inputs.get("better_program_outputs"))
    text = "\n".join(map(str, mapping(inputs.get("program_inputs")).values()))
    outs = [out for out in given if out in right and out != "reasoning" and _are_labels([str(right[out])])]
    if not isinstance(names, list) or not outs:
        return None
    examples = [Example(text, str(right[out]), out if len(outs) > 1 else "") for out in outs]
    has_degrees = any(degrees([str(right[out]), str(given[out])]) for out in outs)
    ways = [WAYS["degrees"][0]] if has_degrees else []
    advice = " ".join([*ways, *rule_sentences(rules_from(examples, work))])
    return Result({str(name): advice for name in names})


def _description(work: Work) -> Result | None:
    code = work.task.inputs.get("program_code", "")
    given, wanted = (
        ", ".join(re.findall(rf"(\w+)\s*(?::[^=\n]+)?=\s*(?:dspy\.)?{kind}Field", code))
        for kind in ("Input", "Output")
    )
    return Result(f"It reads {given or 'its inputs'} and gives {wanted or 'its outputs'}, one call each.")


_WRITERS: dict[str, Callable[[Work], Result | None]] = {
    r"(?:proposed|improved|new|better|revised|optimi[sz]ed)_(?:instruction|prompt)s?": _instruction,
    r"proposed_prefix_for_output_field": lambda _: Result("The answer is:"),
    r"observations": _observations,
    r"summary": _summary,
    r"(?:natural_language_|induced_)?rules": _rules,
    r"module_advice": _advice,
    r"(?:program|module)_description": _description,
}
