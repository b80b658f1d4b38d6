"""The stages of section 6, seven projects, and what lesson 06 shows of them.

Main path: EXERCISES -> engine.registry imports the module of one project when a stage of it is asked for.

| name | what it is | project |
| --- | --- | --- |
| findings, evictions, connects, Pod | what a cluster would do with a manifest | 5 |
"""

import lazy_loader

DATABASE: tuple[str, ...] = ()
LEVELS: tuple[str, ...] = ()
STREAMING: tuple[str, ...] = ()
TOOLKIT: tuple[str, ...] = ()
KUBERNETES: tuple[str, ...] = ("kubernetes:FIRST", "fleet:SCALED", "fleet:SECURED")
MONITORING: tuple[str, ...] = ("monitoring:OBSERVED", "watching:BURNING", "watching:SHOWN")
SYSTEM = "assembled:REPLY", "assembled:HANDLE", "assembled:CANARY"
EXERCISES = DATABASE, LEVELS, STREAMING, TOOLKIT, KUBERNETES, MONITORING, SYSTEM
"""The stages of each project, in their order: "module:NAME"."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
