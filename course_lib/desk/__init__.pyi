from .acting import Act, ToolTicket, act_match, tool_tickets
from .actions import Refund, RefusedError, Session
from .carrier import CARRIER_OPENAPI, running_carrier
from .help_centre import Article, article, articles
from .invoice_files import Invoice, invoices
from .programs import Answer, FindArticles, Triage, category_match, examples
from .records import (
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
from .search import Hit, Index, search_articles

__all__ = [
    "CARRIER_OPENAPI",
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
    "running_carrier",
    "search_articles",
    "tickets",
    "tool_tickets",
]
