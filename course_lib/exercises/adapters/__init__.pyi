from .predicted_parse import REPLIES

__all__ = [
    "REPLIES",
]
