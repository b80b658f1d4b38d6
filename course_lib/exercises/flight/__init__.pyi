from .help_pages import SCHEMA, HelpPages, Line, fill, fresh

__all__ = [
    "SCHEMA",
    "HelpPages",
    "Line",
    "fill",
    "fresh",
]
