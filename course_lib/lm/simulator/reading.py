"""Small readers that every part of the simulator needs: JSON that may be broken, and text between marks.

Main path: parsed(text), first_object(text), sections(marks, text).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any


def parsed(text: str, default: Any = None) -> Any:
    """Return the JSON value that `text` is, or `default` if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return default


def first_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that begins at the first brace of `text`, or None."""
    try:
        values, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    except (ValueError, RecursionError):
        return None
    return dict(values)


def sections(marks: Iterable[re.Match[str]], text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Yield each mark with the text from its end to the next mark, or to the end."""
    found = list(marks)
    for mark, after in zip_longest(found, found[1:]):
        yield mark, text[mark.end() : after.start() if after else len(text)]
