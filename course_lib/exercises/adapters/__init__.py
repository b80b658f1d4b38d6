"""The exercises of section 1, and what lesson 01 shows of them.

Main path: EXERCISES -> engine.registry imports the module of one exercise when it is asked for.

| name | what it is | part (exercise) |
| --- | --- | --- |
| REPLIES | six replies whose parse is to be predicted | 1 (1.1) |
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
