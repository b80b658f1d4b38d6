"""What a profile does to one request: drawn from its seed, so that it can be repeated exactly.

Main path: draw(profile, model, n) -> Plan; corrupt(text, kind, spot) malforms an answer.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import NormalDist

from course_lib.lm import tokens
from course_lib.lm.profiles import FAULTS, Profile

_NORMAL = NormalDist()
_Z99 = _NORMAL.inv_cdf(0.99)


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one request."""

    fault: str | None = None
    """One of FAULTS, `rate_limited`, or None."""
    ttft_s: float = 0.0
    """Wait before the first token."""
    tokens_per_s: float = 0.0
    """Speed of writing; 0 is at once."""
    spot: float = 0.5
    """Where a cut falls, as a share of the answer (0.2 to 0.8)."""

    def writing_s(self, completion_tokens: int) -> float:
        """Return the time from the first token to the last one of so many."""
        return completion_tokens / self.tokens_per_s if self.tokens_per_s else 0.0


TTFT_SAVED_SHARE = 0.8
"""Share of the time to the first token that a prompt does not wait whose whole beginning was cached."""


def draw(profile: Profile, model: str, number: int) -> Plan:
    """Return the fate of a client's request `number` (from 0) to `model` under `profile`."""
    rates = [getattr(profile, f"{kind}_rate") for kind in FAULTS]
    if not (any(rates) or profile.first or profile.ttft_p50_ms or profile.speed_p50_tokens_per_s):
        return Plan()
    digest = hashlib.sha256(f"{profile.seed}\n{model}\n{number}".encode()).digest()
    rng = random.Random(int.from_bytes(digest[:8]))
    chance, slowness, speed, spot = rng.random(), rng.random(), rng.random(), rng.random()
    edges = zip(FAULTS, accumulate(rates), strict=True)
    drawn = next((kind for kind, edge in edges if chance < edge), None)
    kind = profile.first[number] if number < len(profile.first) else drawn
    return Plan(
        fault=None if kind == "ok" else kind,
        ttft_s=_log_normal(profile.ttft_p50_ms, profile.ttft_p99_ms, slowness) / 1000,
        tokens_per_s=_log_normal(profile.speed_p50_tokens_per_s, profile.speed_p99_tokens_per_s, speed),
        spot=0.2 + 0.6 * spot,
    )


def sooner(plan: Plan, cached_share: float) -> Plan:
    """Return the plan with the shorter wait of a prompt of which a share was in the prompt cache."""
    return replace(plan, ttft_s=plan.ttft_s * (1 - TTFT_SAVED_SHARE * cached_share)) if plan.ttft_s else plan


def _log_normal(p50: float, p99: float, quantile: float) -> float:
    if not p50 or p99 <= p50:
        return p50
    return p50 * math.exp(math.log(p99 / p50) / _Z99 * _NORMAL.inv_cdf(quantile or 1e-9))


# -- malformed answers ---------------------------------------------------------------------------------

_MARK = re.compile(r"^\[\[ ## (?!completed ##)(\w+) ## \]\]", re.MULTILINE)
_TAG = re.compile(r"<(\w+)>.*?</\1>\s*", re.DOTALL)
_LABEL = re.compile(r"^[A-Za-z][\w ]{0,40}:", re.MULTILINE)
_KEY = re.compile(r'"[^"\\\n]+"\s*:')


def corrupt(text: str, kind: str, spot: float) -> str:
    """Return `text` malformed as `kind` says, in whatever format it is written; never the text itself."""
    return CORRUPTIONS[kind](text, spot)


def _missing_field(text: str, _spot: float) -> str:
    if keys := _top_level_keys(text):
        start = keys[-1].start()
        return text[:start].rstrip().removesuffix(",").rstrip() + ("}" if "{" in text[:start] else "")
    if marks := list(_MARK.finditer(text)):
        done = text.find("[[ ## completed ## ]]", marks[-1].end())
        return text[: marks[-1].start()] + (text[done:] if done >= 0 else "")
    if tags := list(_TAG.finditer(text)):
        return text[: tags[-1].start()] + text[tags[-1].end() :]
    labels = list(_LABEL.finditer(text))
    return text[: labels[-1].start()] if labels else ""


def _broken_json(text: str, spot: float) -> str:
    if keys := _top_level_keys(text):
        return text[: keys[-1].start() + 1 + len(keys[-1].group()) // 3]
    for pattern, damaged in ((_MARK, " ## ]]"), (_TAG, ">"), (_LABEL, ":")):
        if matches := list(pattern.finditer(text)):
            at = text.index(damaged, matches[-1].start())
            return text[:at] + text[at + len(damaged) :]
    return _cut(text, spot)


def _prose_around(text: str, _spot: float) -> str:
    return f"Sure! Here is what you asked for:\n\n{text}\n\nLet me know if you need anything else."


def _cut(text: str, spot: float) -> str:
    pieces = tokens.split(text)
    return "".join(pieces[: int(len(pieces) * spot)])


CORRUPTIONS = {
    "missing_field": _missing_field,
    "broken_json": _broken_json,
    "prose_around": _prose_around,
    "cut_by_length": _cut,
    "no_finish": _cut,
}


def _top_level_keys(text: str) -> list[re.Match[str]]:
    """Return the keys of the outermost object of `text`, if it is JSON (in a code fence or not)."""
    if not text.lstrip().removeprefix("```json").lstrip().startswith("{"):
        return []
    keys, depth = [], 0
    for mark in re.finditer(r'"(?:[^"\\]|\\.)*"?|[{}\[\]]', text):
        if depth == 1 and (key := _KEY.match(text, mark.start())):
            keys.append(key)
        depth += (mark.group() in "{[") - (mark.group() in "}]")
    return keys
