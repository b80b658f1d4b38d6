from .hidden_limit import against

__all__ = [
    "against",
]
