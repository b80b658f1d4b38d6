"""A picture of a rate over time, around the limit that it looks for.

Main path: plot(draw_rates(run.calls, run.limits), "...").
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def draw_rates(calls: Sequence[tuple[float, float, bool]], limits: Sequence[tuple[float, float]]) -> Figure:
    """Draw the rate over time, the refusals on it, and the limits as dotted lines.

    Args:
        calls: (second, rate, whether it was let through) of each request.
        limits: (from second, requests per second) of the server.
    """
    figure: Figure = plt.figure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    ends_s = [*(from_s for from_s, _ in limits[1:]), calls[-1][0]]
    for (from_s, limit), end_s in zip(limits, ends_s, strict=True):
        axes.plot([from_s, end_s], [limit, limit], ":", color="#222222")
    axes.plot([at_s for at_s, _, _ in calls], [rate for _, rate, _ in calls], color="#3b6ea5", label="rate")
    refused = [(at_s, rate) for at_s, rate, is_through in calls if not is_through]
    crosses_s, crosses = [at_s for at_s, _ in refused], [rate for _, rate in refused]
    axes.plot(crosses_s, crosses, "x", color="#b03a2e", label="refused")
    axes.set(xlabel="seconds", ylabel="requests per second")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure
