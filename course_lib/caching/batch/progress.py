"""The bar: how many items of how many, failures, dollars. Quiet where nobody looks: tests, CI, in a pipe.

Main path: bar = open_bar(total, wanted=True); bar.show(totals); bar.close().
Source: tqdm, which DSPy itself uses (its bar for a known number of items, a counter for an unknown one).
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from course_lib.caching.batch.items import Totals

_EVERY_S = 0.2


class Bar:
    """A progress bar that may be nothing."""

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def show(self, totals: Totals) -> None:
        """Move to where the batch is."""
        if self._bar is not None:
            self._bar.set_postfix_str(_words(totals), refresh=False)
            self._bar.update(totals.done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def open_bar(total: int | None, *, wanted: bool) -> Bar:
    """Return a bar for `total` items (None: unknown), one that shows nothing where nobody looks."""
    if not wanted or not _is_watched():
        return Bar()
    tqdm: Any = importlib.import_module("tqdm.auto").tqdm
    return Bar(tqdm(total=total, unit="item", dynamic_ncols=True, mininterval=_EVERY_S))


def _is_watched() -> bool:
    if os.environ.get("CI") or "PYTEST_CURRENT_TEST" in os.environ:
        return False
    return "ipykernel" in sys.modules or sys.stderr.isatty()


def _words(totals: Totals) -> str:
    words = f"{totals.usage.cost_usd:.4f} USD"
    if totals.failed:
        words += f", {totals.failed} failed"
    if totals.resumed:
        words += f", {totals.resumed} from the journal"
    return words
