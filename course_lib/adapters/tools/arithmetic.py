"""Arithmetic for a model that cannot do it: exact decimals, no `eval`, and always done quickly.

Main path: calculate("3 * 12.50 + 4.95") -> "42.45"; calculator() is the same as a limited tool.
Many tutorials evaluate what the model wrote as Python, which hands it the process. Here Python's parser reads
the expression, and only numbers, + - * / **, brackets and a few functions are worked out, with DIGITS digits.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext

from course_lib.adapters.tools.limits import LimitedTool, ToolRefused, limited

LENGTH = 500
"""Characters of an expression."""
DIGITS = 50
"""Significant digits that are kept; a number with more before the dot is refused, not rounded."""
EXPONENT = 1000
"""The largest power, up or down: what limits the time that a power takes."""
_EXACT = Context(prec=DIGITS, Emin=-999, Emax=999, traps=[InvalidOperation, DivisionByZero, Overflow])
_ALPHABET = frozenset("0123456789.+-*/()_, abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def calculate(expression: str) -> str:
    """Work out an arithmetic expression, such as (2 * 79.90 + 4.95) * 1.19 or round(100 / 3, 2).

    >>> calculate("0.1 + 0.2")
    '0.3'

    Raises:
        ToolRefused: it is not arithmetic, is too long or deep, or has no value.
    """
    source = " ".join(expression.split())
    tree = _parsed(source)
    try:
        with localcontext(_EXACT):
            return _written(_value(tree, source))
    except RecursionError:
        raise ToolRefused("the expression is too deep; work it out in steps") from None


def calculator() -> LimitedTool:
    """Return `calculate` as a limited tool."""
    desc = f"Work out arithmetic exactly. It knows + - * / **, brackets, and {', '.join(_FUNCTIONS)}."
    return limited(calculate, name="calculate", desc=desc, deadline_s=2.0, output_chars=200)


def _parsed(source: str) -> ast.expr:
    """Parse an expression with Python's own parser; its tree is only looked at, never run."""
    if not source:
        raise ToolRefused("the expression is empty; write one such as 2 * (3 + 4)")
    if len(source) > LENGTH:
        raise ToolRefused(f"the expression has {len(source)} characters; at most {LENGTH} are read")
    if bad := sorted(set(source) - _ALPHABET):
        raise ToolRefused(f"{bad[0]!r} is not arithmetic; use digits, + - * / **, brackets, a dot")
    try:
        return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ToolRefused(f"{source[:60]!r} is not complete arithmetic; check its brackets") from None


def _value(node: ast.expr, source: str) -> Decimal:
    """Return the value of a part of the tree."""
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            # read from the text, as the parser's float keeps only 17 digits
            text = source[node.col_offset : node.end_col_offset]
            return _applied(_EXACT.create_decimal, text.replace("_", ""))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            value = _value(operand, source)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _applied(_OPERATORS[type(op)], _value(left, source), _value(right, source))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _applied(_FUNCTIONS[name], *(_value(arg, source) for arg in args), name=name)
        case ast.Call(func=ast.Name(id=name)) | ast.Name(id=name):
            known = ", ".join(_FUNCTIONS)
            raise ToolRefused(f"{name!r} is not known; there are only numbers and {known}")
        case ast.Tuple():
            raise ToolRefused("a comma stands between numbers; write 1234.50, not 1,234.50")
        case _:
            raise ToolRefused("this has something else in it than numbers, + - * / ** and brackets")


def _applied(work: Callable[..., Decimal], *values: Decimal | str, name: str = "") -> Decimal:
    """Return the result of an operation; every way in which it has none is an error that says why."""
    try:
        value = work(*values)
    except ZeroDivisionError:
        raise ToolRefused("division by zero has no value") from None
    except Overflow:
        raise ToolRefused("the result is too large") from None
    except (InvalidOperation, ValueError):
        where = name or " and ".join(str(value)[:30] for value in values)
        raise ToolRefused(f"there is no value of {where}; check the numbers") from None
    except TypeError:
        raise ToolRefused(f"{name} does not take {len(values)} numbers") from None
    if abs(value) >= Decimal(10) ** DIGITS:
        raise ToolRefused(f"a number here needs more than {DIGITS} digits")
    return value


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    if abs(exponent) > EXPONENT:
        raise ToolRefused(f"the power {_written(exponent)} is too large; at most {EXPONENT}")
    return base**exponent


def _round(value: Decimal, places: Decimal = Decimal(0)) -> Decimal:
    """Round as a shop does: a half goes up, away from zero."""
    if places != places.to_integral_value() or not 0 <= places <= DIGITS:
        raise ToolRefused(f"round takes 0 to {DIGITS} places")
    return value.quantize(Decimal(1).scaleb(-int(places)), ROUND_HALF_UP)


def _written(value: Decimal) -> str:
    """Write a number plainly: no exponent, no needless zeros, no minus before zero."""
    if value == 0:
        return "0"
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if len(text) <= 2 * DIGITS else format(value, "E")


_OPERATORS: Mapping[type[ast.operator], Callable[..., Decimal]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
}
_FUNCTIONS: Mapping[str, Callable[..., Decimal]] = {
    "abs": abs,
    "round": _round,
    "min": lambda first, *others: min((first, *others)),
    "max": lambda first, *others: max((first, *others)),
    "sqrt": Decimal.sqrt,
}
