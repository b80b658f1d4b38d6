"""The exercises of section 1, and what lesson 01 shows of them.

Main path: EXERCISES -> engine.registry imports the module of one exercise when it is asked for.

- `REPLIES`: the six replies whose parse exercise 1.1 asks to predict (part 1 shows them).
"""

import lazy_loader

EXERCISES = {
    "1.1": "predicted_parse",
    "1.2": "sturdy_signature",
    "1.3": "own_adapter",
    "1.4": "own_type",
    "1.5": "order_tool",
    "1.6": "prediction_store",
}
"""The module of each exercise, by id."""

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"predicted_parse": ["REPLIES"]})
