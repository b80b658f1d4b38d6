"""The exercises of section 1, and what lesson 01 shows of them.

Main path: EXERCISES -> engine.registry imports the module of one exercise when it is asked for.

| name | what it is | part (exercise) |
| --- | --- | --- |
| REPLIES | six replies whose parse is to be predicted | 1 (1.1) |
"""

import lazy_loader

EXERCISES = "predicted_parse", "sturdy_signature", "own_adapter", "own_type", "order_tool", "prediction_store"
"""The module of each exercise, in their order."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
