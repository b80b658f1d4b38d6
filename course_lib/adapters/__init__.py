"""Adapters, in both senses of the word: how a prompt is written and read, and how data reaches a model.

`prompt/` (lesson 01, parts 1 to 3)
    `CustomAdapter`, `ReAsk`: adapters of our own
    `conformance`, `measure`, `count_fallbacks`: what an adapter does, costs, and hides
    `Money`, `OrderId`: types with a spelling of their own
`tools/` (parts 4 and 5)
    `limited`, `ToolRefused`: a function as a tool with limits, and its refusal
    calculator, text tools, validation, guard against prompt injection, tools over MCP
`data/` (part 5)
    `DatabaseAdapter`, `APIAdapter`, `FileSystemAdapter`: each hands itself to an agent as limited tools

Names are loaded when first used: they import DSPy, PostgreSQL's client and more.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
