from .arithmetic import calculate, calculator
from .injection import Guard, as_data, neutralise
from .limits import LimitedTool, ToolError, ToolRefused, limited
from .over_mcp import ToolServer, ToolServerError, serve, tools_from
from .text import text_tools
from .validation import validate, validator

__all__ = [
    "Guard",
    "LimitedTool",
    "ToolError",
    "ToolRefused",
    "ToolServer",
    "ToolServerError",
    "as_data",
    "calculate",
    "calculator",
    "limited",
    "neutralise",
    "serve",
    "text_tools",
    "tools_from",
    "validate",
    "validator",
]
