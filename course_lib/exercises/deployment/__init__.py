"""The exercises of section 5, and what lesson 05 shows of them.

Main path: EXERCISES -> engine.registry imports the module of one exercise when it is asked for.

| name | what it is | part (exercise) |
| --- | --- | --- |
| Places, erasable | a customer's traces in five places, among those of others | 4 (5.6) |
"""

import lazy_loader

EXERCISES = (
    *("bad_deployment", "endpoint", "shared_limit", "killed_worker"),
    *("alerting", "erased_customer", "release_gate"),
)
"""The module of each exercise, in their order."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
