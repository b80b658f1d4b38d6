from . import data, prompt, tools
from .data import APIAdapter, DatabaseAdapter, FileSystemAdapter
from .prompt import CustomAdapter, Money, OrderId, ReAsk, conformance, count_fallbacks, measure
from .tools import ToolRefused, limited

__all__ = [
    "APIAdapter",
    "CustomAdapter",
    "DatabaseAdapter",
    "FileSystemAdapter",
    "Money",
    "OrderId",
    "ReAsk",
    "ToolRefused",
    "conformance",
    "count_fallbacks",
    "data",
    "limited",
    "measure",
    "prompt",
    "tools",
]
