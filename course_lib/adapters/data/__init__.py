"""Data adapters: a database, an HTTP API and a file system, handed to a model as limited tools.

`DatabaseAdapter`: predictions kept and searched in PostgreSQL; SQL of a model, read-only (lesson 01, part 5;
    exercise 1.6 builds its core). Against SQL injection: a parser, a role, limits
`StoredPrediction`: a prediction as the database has it
`load_desk`: fills the shop's tables, so that there is something to ask
`DatabaseError`, `DatabaseGone`: the database refused, or did not answer
`APIAdapter`: the operations of an OpenAPI document as tools, over checked addresses; `left_out` names those
    that are none, and why. Against SSRF
`APIError`, `APITimeoutError`: the API cannot be used as asked, or did not answer in time
`FileSystemAdapter`: one folder, read and, if `writable`, written; no way out of it. Against path traversal
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
