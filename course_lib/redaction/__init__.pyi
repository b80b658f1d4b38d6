from .personal import Found, find
from .secrets import hide, one_line
from .values import StreamRedactor, redact, redact_value

__all__ = ["Found", "StreamRedactor", "find", "hide", "one_line", "redact", "redact_value"]
