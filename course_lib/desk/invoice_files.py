"""Lantern's invoices as the shop's system prints them: text in fixed columns, 80 characters wide.

Main path: invoices() -> one Invoice per file of data/invoices, in order of id.
Reading the amounts out of them is left to programs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from course_lib.errors import CourseError

FOLDER = Path(__file__).parent / "data" / "invoices"

_ORDER = re.compile(r"\bOrder +(O-\d{5})$", re.MULTILINE)


class BrokenInvoiceError(CourseError):
    """An invoice file does not say which order it belongs to."""


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
    """Return all documents, in order of id.

    Raises:
        BrokenInvoiceError: a file lacks the line with the order.
    """
    return list(_read(FOLDER))


@lru_cache(maxsize=4)
def _read(folder: Path) -> tuple[Invoice, ...]:
    return tuple(_one(path) for path in sorted(folder.glob("*.txt")))


def _one(path: Path) -> Invoice:
    text = path.read_text("utf-8")
    found = _ORDER.search(text)
    if found is None:
        raise BrokenInvoiceError(
            f"{path.name} has no line that ends in 'Order' and a number such as O-10001; restore it"
        )
    return Invoice(path.stem, found[1], text, path)
