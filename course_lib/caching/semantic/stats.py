"""What a semantic cache has done so far.

Main path: SemanticCache.stats() -> SemanticStats, which prints as a few plain lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class SemanticStats:
    """Counts since the cache was made."""

    hits: int = 0
    misses: int = 0
    puts: int = 0
    refused_by: dict[str, int] = field(default_factory=dict)
    """Near questions that a guard refused, by the guard's name."""
    verifier_refusals: int = 0
    verifier_errors: int = 0
    embed_errors: int = 0
    not_kept: dict[str, int] = field(default_factory=dict)
    """Questions and answers that were kept out, by reason."""
    expired: int = 0
    evicted: int = 0

    @property
    def hit_share(self) -> float:
        """Hits among all questions asked, 0 to 1."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.hits} hits, {self.misses} misses ({self.hit_share:.0%} hits), {self.puts} answers kept"
        ]
        for name, counts in (
            ("refused by guards", self.refused_by),
            ("not kept or looked up", self.not_kept),
        ):
            if counts:
                lines.append(f"{name}: " + ", ".join(f"{reason} {count}" for reason, count in counts.items()))
        if self.verifier_refusals or self.verifier_errors:
            lines.append(f"verifier: {self.verifier_refusals} refused, {self.verifier_errors} errors")
        if self.embed_errors:
            lines.append(f"embedding: {self.embed_errors} errors")
        if self.expired or self.evicted:
            lines.append(f"dropped: {self.expired} too old, {self.evicted} for lack of room")
        return "\n".join(lines)
