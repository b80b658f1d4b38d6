"""The stages of section 6, seven projects, and what lesson 06 uses of them.

Main path: EXERCISES -> engine.registry imports the module of one project when a stage of it is asked for.

| name | what it is | project |
| --- | --- | --- |
| SCHEMA, fresh, fill | the help centre's tables: made anew, and filled | 1 |
| Line | a line to a database that can hang, or be cut | 1 |
| HelpPages | the three parts of the database adapter, joined: Documents of a flight | 1 |
| File | a level of a cache in a SQLite file | 2 |
| redis_client | a client of Redis that gives up soon | 2 |
| ThreeLevels | the parts of the cache, joined: Cache of a flight | 2 |
| findings, evictions, connects, Pod | what a cluster would do with a manifest | 5 |
| joined | the parts of a flight: the learner's, and ours where one is not written | 7 |
| passed | the ids of the exercises that were passed | 7 |
"""

import lazy_loader

EXERCISES = (
    ("database:POOL", "database:SEARCH", "database:WATCH"),
    ("levels:LOOKUP", "levels:LEVELS", "levels:WARMING"),
    ("streaming:RUNNER", "streaming:STREAM", "streaming:DEGRADED"),
    ("toolkit:TRACER", "toolkit:PROFILE", "toolkit:REPORT"),
    ("kubernetes:FIRST", "fleet:SCALED", "fleet:SECURED"),
    ("monitoring:OBSERVED", "watching:BURNING", "watching:SHOWN"),
    ("assembled:REPLY", "assembled:HANDLE", "assembled:CANARY"),
)
"""The stages of each project, in their order: "module:NAME"."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
