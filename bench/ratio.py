"""Ratios of two things measured side by side, so that a busy machine disturbs both alike.

Main path: paired(ours, theirs, rounds=5) -> Ratio; report(ratio, ...) prints it against its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Ratio:
    """Medians of paired rounds."""

    ours: float
    """Median of our measurements."""
    theirs: float
    """Median of the peer's."""
    ratio: float
    """Median over rounds of ours / theirs, which is not the ratio of the medians."""
    low: float
    """Smallest ratio of a round."""
    high: float
    """Largest."""


def paired(ours: Callable[[], float], theirs: Callable[[], float], *, rounds: int) -> Ratio:
    """Measure both in turn, `rounds` times, after one round that does not count."""
    ours(), theirs()
    pairs = []
    for n in range(rounds):  # who goes first alternates, so that neither always meets a warmer machine
        if n % 2:
            peer = theirs()
            pairs.append((ours(), peer))
        else:
            pairs.append((ours(), theirs()))
    ratios = [mine / peer for mine, peer in pairs]
    return Ratio(
        median(mine for mine, _ in pairs),
        median(peer for _, peer in pairs),
        median(ratios),
        min(ratios),
        max(ratios),
    )


def report(
    name: str, ratio: Ratio, *, unit: str, at_least: float | None = None, at_most: float | None = None
) -> bool:
    """Print the ratio and its limit, if it has one; returns whether the limit is held."""
    holds = (at_least is None or ratio.ratio >= at_least) and (at_most is None or ratio.ratio <= at_most)
    limit, verdict = "no limit", ""
    if at_least is not None or at_most is not None:
        limit = f"at least {at_least}" if at_least is not None else f"at most {at_most}"
        verdict = ": holds" if holds else ": MISSED"
    print(
        f"{name}: {ratio.ours:.4g} {unit} against {ratio.theirs:.4g}, ratio {ratio.ratio:.2f} "
        f"(rounds {ratio.low:.2f} to {ratio.high:.2f}; {limit}){verdict}"
    )
    return holds
