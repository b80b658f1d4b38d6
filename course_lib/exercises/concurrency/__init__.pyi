from .hidden_limit import against
from .rate_picture import draw_rates

__all__ = [
    "against",
    "draw_rates",
]
