"""What a cache did: hits by tier, misses, what it did not keep and why, what it saved, what is wrong.

Main path: TieredCache.stats() -> Stats, which prints as lines.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, repr=False)
class Stats:
    """A cache's figures since it was made."""

    hits: dict[str, int]
    """By tier: memory, redis, disk; `in flight` is an answer shared with a call that was under way."""
    misses: int
    """Questions that had to be asked, those without a key included."""
    puts: int
    """Answers kept."""
    not_kept: dict[str, int]
    """Answers not kept, by reason."""
    unkeyable: dict[str, int]
    """Questions that could not be given a key, by reason with the type named."""
    refused: dict[str, int]
    """By tier: values that were not ours, damaged, over, or from before an invalidation."""
    saved_tokens: int
    """Tokens that the hits cost when they were asked."""
    saved_cost_usd: float
    """Dollars that the hits cost when they were asked, where the price is known."""
    size_bytes: dict[str, int]
    """By tier: room taken."""
    last_errors: tuple[str, ...]
    """One line for each thing that is wrong now."""

    def __repr__(self) -> str:
        hits = sum(self.hits.values())
        asked = hits + self.misses
        room = ", ".join(f"{tier} {_size(taken)}" for tier, taken in self.size_bytes.items())
        counts = {"not kept": self.not_kept, "no key": self.unkeyable, "refused": self.refused}
        rows = [
            ("asked", f"{asked}, answered by the cache: {hits / max(1, asked):.0%}"),
            ("hits", ", ".join(f"{tier} {count}" for tier, count in self.hits.items()) or "none"),
            ("misses", str(self.misses)),
            ("kept", str(self.puts)),
            *((label, _listed(each)) for label, each in counts.items() if each),
            ("saved", f"{self.saved_tokens} tokens, ${self.saved_cost_usd:.6f}"),
            ("room taken", room or "none"),
            *(("last error", line) for line in self.last_errors),
        ]
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)


class Tally:
    """The counters behind Stats; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._tokens, self._cost_usd = 0, 0.0

    def add(self, kind: str, name: str = "", tokens: int = 0, cost_usd: float = 0.0) -> None:
        """Count one more of a kind (a field of Stats, or "own_errors") under a name, and what it saved."""
        with self._lock:
            self._counts[kind][name] += 1
            self._tokens += tokens
            self._cost_usd += cost_usd

    def snapshot(self, *, size_bytes: Mapping[str, int], last_errors: tuple[str, ...]) -> Stats:
        """Return the figures of now."""
        with self._lock:
            counts = self._counts
            own = tuple(f"{line} ({count} times)" for line, count in counts["own_errors"].items())
            return Stats(
                misses=counts["misses"].total(),
                puts=counts["puts"].total(),
                saved_tokens=self._tokens,
                saved_cost_usd=self._cost_usd,
                size_bytes=dict(size_bytes),
                last_errors=last_errors + own,
                **{kind: dict(counts[kind]) for kind in ("hits", "not_kept", "unkeyable", "refused")},
            )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in counts.items())


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1024:.0f} KiB" if size_bytes < 1024 * 1024 else f"{size_bytes / 1024**2:.1f} MiB"
