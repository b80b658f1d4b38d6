from .misses import Colleague, requests_of_pair
from .semantic import PAIRS, embed

__all__ = [
    "PAIRS",
    "Colleague",
    "embed",
    "requests_of_pair",
]
