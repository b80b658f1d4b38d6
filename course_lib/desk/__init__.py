"""Lantern, a camping-gear shop's support desk: the data and the DSPy programs that every notebook works on.

Main path: `from course_lib import desk`; desk.tickets("dev"), desk.articles(), desk.Triage().
Importing this costs nothing; a name is loaded from its module when first used, and only programs need DSPy.
No module here has the name of a function exported here, since importing it would replace the function.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_lib.desk.acting import Act, ToolTicket, act_match, tool_tickets
    from course_lib.desk.actions import Refund, RefusedError, Session
    from course_lib.desk.help_centre import Article, article, articles
    from course_lib.desk.invoice_files import Invoice, invoices
    from course_lib.desk.programs import Answer, FindArticles, Triage, category_match, examples, triage_match
    from course_lib.desk.records import (
        CATEGORIES,
        SPLITS,
        TODAY,
        URGENCIES,
        Customer,
        Order,
        Product,
        Ticket,
        customers,
        euros,
        orders,
        products,
        tickets,
    )
    from course_lib.desk.search import Hit, Index, search_articles

__all__ = [
    "CATEGORIES",
    "SPLITS",
    "TODAY",
    "URGENCIES",
    "Act",
    "Answer",
    "Article",
    "Customer",
    "FindArticles",
    "Hit",
    "Index",
    "Invoice",
    "Order",
    "Product",
    "Refund",
    "RefusedError",
    "Session",
    "Ticket",
    "ToolTicket",
    "Triage",
    "act_match",
    "article",
    "articles",
    "category_match",
    "customers",
    "euros",
    "examples",
    "invoices",
    "orders",
    "products",
    "search_articles",
    "tickets",
    "tool_tickets",
    "triage_match",
]

_NAMES = {
    "acting": ("Act", "ToolTicket", "act_match", "tool_tickets"),
    "actions": ("Refund", "RefusedError", "Session"),
    "help_centre": ("Article", "article", "articles"),
    "invoice_files": ("Invoice", "invoices"),
    "programs": ("Answer", "FindArticles", "Triage", "category_match", "examples", "triage_match"),
    "records": (
        "CATEGORIES",
        "SPLITS",
        "TODAY",
        "URGENCIES",
        "Customer",
        "Order",
        "Product",
        "Ticket",
        "customers",
        "euros",
        "orders",
        "products",
        "tickets",
    ),
    "search": ("Hit", "Index", "search_articles"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load the module that holds `name` (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
