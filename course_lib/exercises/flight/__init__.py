"""The stages of section 6, seven projects.

Main path: EXERCISES -> engine.registry imports the module of one project when a stage of it is asked for.
"""

DATABASE: tuple[str, ...] = ()
LEVELS: tuple[str, ...] = ()
STREAMING = "streaming:RUNNER", "streaming:STREAM", "streaming:DEGRADED"
TOOLKIT = "toolkit:TRACER", "toolkit:PROFILE", "toolkit:REPORT"
KUBERNETES: tuple[str, ...] = ()
MONITORING: tuple[str, ...] = ()
SYSTEM = "assembled:REPLY", "assembled:HANDLE", "assembled:CANARY"
EXERCISES = DATABASE, LEVELS, STREAMING, TOOLKIT, KUBERNETES, MONITORING, SYSTEM
"""The stages of each project, in their order: "module:NAME"."""
