"""The exercises of section 2, and what lesson 02 shows of them.

Main path: EXERCISES -> engine.registry imports the module of one exercise when it is asked for.

| name | what it is | part (exercise) |
| --- | --- | --- |
| Colleague, requests_of_pair | five pairs of calls that each pay twice, and the price of one | 2 (2.1) |
| PAIRS, embed | labelled pairs of questions, and their embedding | 4 (2.5) |
"""

import lazy_loader

EXERCISES = "misses", "lru", "redis", "single_flight", "semantic", "batch"
"""The module of each exercise, in their order."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
