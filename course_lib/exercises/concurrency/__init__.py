"""The exercises of section 3, and what lesson 03 shows of them.

Main path: EXERCISES -> engine.registry imports the module of one exercise when it is asked for.

| name | what it is | part (exercise) |
| --- | --- | --- |
| against | a server with a limit that it does not tell, in simulated time | 3 (3.5) |
| draw_rates | a picture of a rate around the limit that it looks for | 3 (3.5) |
"""

import lazy_loader

EXERCISES = "gather", "deadline", "sources_first", "circuit_breaker", "adaptive", "live_answers"
"""The module of each exercise, in their order."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
