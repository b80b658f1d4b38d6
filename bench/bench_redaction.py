"""Redaction: what of a seeded corpus it leaves, what of clean text it takes, and how long it needs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from bench.ratio import paired, report
from bench.redaction_peer import KINDS, presidio
from course_lib.redaction import redact, redact_value
from tests.redaction import corpus

LEFT_AT_MOST = 0
FALSE_AT_MOST = 0.02
MS_A_KB_AT_MOST = 8.0
SEEDS = range(1, 6)
PEER_AT_MOST = 1.0


def to_peer(items: list[corpus.Item], sentences: list[str]) -> bool:
    """Compare with Presidio, in the kinds that it knows: what is left, what is taken wrongly, the time."""
    if (theirs := presidio()) is None:
        return True
    known = [item for item in items if item.kind in KINDS]

    def told(name: str, redacted: Callable[[str], str]) -> None:
        left = Counter(
            item.kind for item in known if any(part in redacted(item.text) for part in item.telling)
        )
        changed = sum(redacted(sentence) != sentence for sentence in sentences)
        by_kind = ", ".join(f"{kind} {left[kind]}" for kind in KINDS)
        print(f"{name}: left of {len(known)} items: {by_kind}; {changed} clean sentences changed")

    def timed(redacted: Callable[[str], str]) -> Callable[[], float]:
        def once() -> float:
            begun = time.process_time()
            for sentence in sentences[:80]:
                redacted(sentence)
            return time.process_time() - begun

        return once

    told("course_lib.redaction", redact)
    told("Presidio without a model", theirs)
    ratio = paired(timed(redact), timed(theirs), rounds=9)
    return report("80 sentences redacted, to Presidio", ratio, unit="s of processor", at_most=PEER_AT_MOST)


def main() -> bool:
    items = [item for seed in SEEDS for item in corpus.items(seed)]
    left = [item for item in items if any(part in redact(item.text) for part in item.telling)]
    nested = [
        item for item in items if any(part in str(redact_value({"a": [item.text]})) for part in item.telling)
    ]
    sentences = corpus.clean()
    changed = [sentence for sentence in sentences if redact(sentence) != sentence]
    text = "\n".join(sentences[:80])
    begun = time.process_time()
    for _ in range(10):
        redact(text)
    ms_a_kb = 1000 * (time.process_time() - begun) / 10 / (len(text) / 1000)

    share = len(changed) / len(sentences)
    figures = (
        (f"left of {len(items)} items of {len(corpus.SAID)} kinds", len(left) + len(nested), LEFT_AT_MOST),
        (f"share changed of {len(sentences)} clean sentences", share, FALSE_AT_MOST),
        ("milliseconds of processor for 1,000 characters", ms_a_kb, MS_A_KB_AT_MOST),
    )
    for name, value, limit in figures:
        print(f"{name}: {value:.3g} (at most {limit}): {'holds' if value <= limit else 'MISSED'}")
    return all(value <= limit for _, value, limit in figures) & to_peer(items, sentences)


if __name__ == "__main__":
    raise SystemExit(not main())
