"""Lantern, a camping-gear shop's support desk: the data and the DSPy programs that every notebook works on.

| name | what it is |
| --- | --- |
| tickets, customers, orders, products | the shop's records, each a list: Ticket, Customer, Order, Product |
| CATEGORIES, URGENCIES, SPLITS, TODAY, euros | what the records' fields can be, and how amounts are written |
| articles, article | the help centre: an Article each |
| search_articles, Index | search of the help centre: a list of Hit |
| invoices | printed documents: an Invoice each |
| Triage, FindArticles, Answer | programs: sort a ticket, find articles, answer with citations |
| examples, category_match | tickets as examples, and a metric for them |
| Session, Refund, RefusedError | what an agent may do at the desk |
| running_carrier, CARRIER_OPENAPI | the carrier's service, which tracks parcels, and its document |
| Act, tool_tickets, ToolTicket, act_match | the agent, tickets that need tools, and their metric |

Lesson 00 shows the records and Triage, the others build on all of it; README.md describes the data.
Importing this costs nothing: a name is loaded from its module when first used, and only programs need DSPy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
