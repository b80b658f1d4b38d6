"""The exercises of section 3.

Main path: EXERCISES -> engine.registry imports the module of one exercise when it is asked for.
"""

EXERCISES = "gather", "deadline", "sources_first", "circuit_breaker", "adaptive", "live_answers"
"""The module of each exercise, in their order."""
