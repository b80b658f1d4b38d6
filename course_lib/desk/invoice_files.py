"""Lantern's invoices as the shop's system prints them: text in fixed columns, 80 characters wide.

Main path: invoices() -> one Invoice per file of data/invoices, in order of id.
Reading the amounts out of them is left to programs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "invoices"

_ORDER = re.compile(r"\bOrder +(O-\d{5})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Invoice:
    """One printed document: an invoice (`LN...`), a corrected one (`LN...C`) or a credit note (`CR...`)."""

    id: str
    """The document's number and the file's name without its ending."""
    order_id: str
    """The order it is for; an order may have several documents."""
    text: str
    """The whole print; a form feed character stands between two pages."""
    path: Path
    """The file."""


def invoices() -> list[Invoice]:
    """Return all documents, in order of id."""
    return list(_read())


@lru_cache(maxsize=1)
def _read() -> tuple[Invoice, ...]:
    texts = {path: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.txt"))}
    return tuple(Invoice(path.stem, _ORDER.findall(text)[0], text, path) for path, text in texts.items())
