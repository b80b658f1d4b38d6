"""The exercises of section 5.

Main path: EXERCISES -> engine.registry imports the module of one exercise when it is asked for.
"""

EXERCISES = "bad_deployment", "endpoint", "shared_limit"
"""The module of each exercise, in their order."""
