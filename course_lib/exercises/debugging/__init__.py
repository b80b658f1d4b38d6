"""The exercises of section 4.

Main path: EXERCISES -> engine.registry imports the module of one exercise when it is asked for.

| name | what it is | part (exercise) |
| --- | --- | --- |
| hunt | eight programs with a fault each: a folder of readable modules | 8 (4.5) |
"""

EXERCISES = "cost_of", "log_calls", "one_trace", "taped", "hunting", "chaos"
"""The module of each exercise, in their order."""
