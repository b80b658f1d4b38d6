from .fallbacks import Fallback, count_fallbacks
from .lines import CustomAdapter
from .measuring import ADAPTERS, SIGNATURES, Measured, measure
from .reask import ReAsk
from .script import scripted
from .suite import Report, conformance
from .types import Money, OrderId

__all__ = [
    "ADAPTERS",
    "SIGNATURES",
    "CustomAdapter",
    "Fallback",
    "Measured",
    "Money",
    "OrderId",
    "ReAsk",
    "Report",
    "conformance",
    "count_fallbacks",
    "measure",
    "scripted",
]
