"""Arithmetic for a model that cannot do it: exact decimals, no `eval`, and always done quickly.

Main path: calculate("3 * 12.50 + 4.95") -> "42.45"; calculator() is the same as a limited tool.
The book's tool evaluates what the model wrote as Python, which hands it the process. Here an expression is
read by a parser that knows numbers, + - * / // % **, brackets, and a few functions, and nothing else.
Money stays money: 0.1 + 0.2 is 0.3, since numbers are decimals of DIGITS digits.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from decimal import (
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from itertools import accumulate
from types import MappingProxyType
from typing import TypeAlias

from course_lib.adapters.tools.limits import LimitedTool, ToolRefused, limited

LENGTH = 500
"""Characters of an expression."""
DEPTH = 30
"""Operations or brackets within one another."""
DIGITS = 50
"""Significant digits that are kept; a number with more before the dot is refused, not rounded."""
_LARGEST = Decimal(10) ** DIGITS
EXPONENT = 1000
"""The largest power, up or down."""

_EXACT = Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, Emin=-999, Emax=999, traps=[])
_EXACT.traps[InvalidOperation] = _EXACT.traps[DivisionByZero] = _EXACT.traps[Overflow] = True


class CalculationError(ToolRefused):
    """An expression cannot be worked out; the message says which part and what would be right."""


def calculate(expression: str) -> str:
    """Work out an arithmetic expression, such as (2 * 79.90 + 4.95) * 1.19 or round(100 / 3, 2).

    >>> calculate("0.1 + 0.2")
    '0.3'

    Raises:
        CalculationError: it is not arithmetic, is too long or deep, or has no value.
    """
    source = "(" + " ".join(expression.split()) + ")"
    return _show(_value(_read(source), source))


def calculator() -> LimitedTool:
    """Return `calculate` as a limited tool."""
    functions = ", ".join(_FUNCTIONS)
    return limited(
        calculate,
        name="calculate",
        desc=f"Work out arithmetic exactly. It knows + - * / // % **, brackets, and {functions}.",
        deadline_s=2.0,
        output_chars=200,
    )


def _read(source: str) -> ast.expr:
    """Parse an expression with Python's own parser; its tree is only looked at, never run."""
    if source == "()":
        raise CalculationError("the expression is empty; write one such as 2 * (3 + 4)")
    if len(source) > LENGTH:
        raise CalculationError(f"the expression has {len(source)} characters; at most {LENGTH} are read")
    depths = list(accumulate((character == "(") - (character == ")") for character in source))
    if max(depths) > DEPTH:
        raise CalculationError(f"brackets are {max(depths)} deep; at most {DEPTH} are read")
    bad = sorted(set(source) - _ALPHABET)
    if bad:
        raise CalculationError(
            f"{bad[0]!r} is not arithmetic; use digits, + - * / // % **, brackets and a dot"
        )
    try:
        if min(depths[:-1]) > 0:  # the outer brackets are ours, and close last
            return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise CalculationError(f"{source[1:-1][:60]!r} is not complete arithmetic; check its brackets")


def _value(node: ast.expr, source: str, depth: int = 0) -> Decimal:
    """Return what a part of the tree is worth."""
    if depth > DEPTH * 10:
        raise CalculationError("the expression is too deep; work it out in steps")
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return _number(source[node.col_offset : node.end_col_offset])
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _EXACT.minus(_value(operand, source, depth + 1))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, source, depth + 1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _guarded(
                _OPERATORS[type(op)], (_value(left, source, depth + 1), _value(right, source, depth + 1))
            )
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _guarded(_FUNCTIONS[name], tuple(_value(arg, source, depth + 1) for arg in args), name)
        case ast.Call(func=ast.Name(id=name)) | ast.Name(id=name):
            raise CalculationError(
                f"{name!r} is not known; there are only numbers and {', '.join(_FUNCTIONS)}"
            )
        case ast.Tuple():
            raise CalculationError("a comma stands between numbers; write 1234.50, not 1,234.50")
        case _:
            raise CalculationError(
                "only numbers, + - * / // % ** and brackets can be worked out; this has something else in it"
            )


def _number(text: str) -> Decimal:
    # The text, not the parser's float, which keeps only 17 digits.
    try:
        return _within(_EXACT.create_decimal(text.replace("_", "")))
    except (DecimalException, ValueError):
        raise CalculationError(f"{text[:30]!r} is not a number that is read here") from None


def _guarded(work: Callable[..., Decimal], values: tuple[Decimal, ...], name: str = "") -> Decimal:
    try:
        return _within(work(*values))
    except DivisionByZero:
        raise CalculationError("division by zero has no value") from None
    except Overflow:
        raise CalculationError("the result is too large") from None
    except (DecimalException, ValueError):
        raise CalculationError(
            f"this has no value{f' in {name}' if name else ''}; check the numbers"
        ) from None
    except TypeError:
        raise CalculationError(f"{name} does not take {len(values)} numbers") from None


def _within(value: Decimal) -> Decimal:
    if value.is_nan() or value.is_infinite():
        raise CalculationError("this has no value")
    if abs(value) >= _LARGEST:
        raise CalculationError(f"a number here needs more than {DIGITS} digits")
    return value


def _divide(left: Decimal, right: Decimal) -> Decimal:
    if right == 0:
        raise CalculationError("division by zero has no value")
    return _EXACT.divide(left, right)


def _floor(left: Decimal, right: Decimal) -> Decimal:
    """Divide and round down, as Python's // does for whole numbers of either sign."""
    whole, rest = _whole_and_rest(left, right)
    return whole if rest == 0 or (rest < 0) == (right < 0) else _EXACT.subtract(whole, Decimal(1))


def _modulo(left: Decimal, right: Decimal) -> Decimal:
    """Return the rest with the sign of the divisor, as Python's % does for whole numbers."""
    _, rest = _whole_and_rest(left, right)
    return rest if rest == 0 or (rest < 0) == (right < 0) else _EXACT.add(rest, right)


def _whole_and_rest(left: Decimal, right: Decimal) -> tuple[Decimal, Decimal]:
    if right == 0:
        raise CalculationError("division by zero has no value")
    return _EXACT.divmod(left, right)


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    if abs(exponent) > EXPONENT:
        raise CalculationError(f"the power {_show(exponent)} is too large; at most {EXPONENT}")
    if base == 0 and exponent <= 0:
        if exponent == 0:
            return Decimal(1)
        raise CalculationError("division by zero has no value")
    return _EXACT.power(base, exponent)


def _root(value: Decimal) -> Decimal:
    if value < 0:
        raise CalculationError("a negative number has no square root")
    return _EXACT.sqrt(value)


def _round(value: Decimal, places: Decimal = Decimal(0)) -> Decimal:
    """Round as a shop does: a half goes up, away from zero."""
    if places != places.to_integral_value() or not 0 <= places <= DIGITS:
        raise CalculationError(f"round takes 0 to {DIGITS} places")
    return value.quantize(Decimal(1).scaleb(-int(places)), ROUND_HALF_UP, _EXACT)


def _largest(first: Decimal, *others: Decimal) -> Decimal:
    return max(first, *others) if others else first


def _smallest(first: Decimal, *others: Decimal) -> Decimal:
    return min(first, *others) if others else first


def _percent(share: Decimal, of: Decimal) -> Decimal:
    return _EXACT.divide(_EXACT.multiply(share, of), Decimal(100))


def _show(value: Decimal) -> str:
    """Write a number plainly: no exponent, no needless zeros, no minus before zero."""
    if value == 0:
        return "0"
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if len(text) <= 2 * DIGITS else format(value, "E")


Operator: TypeAlias = Callable[[Decimal, Decimal], Decimal]
_OPERATORS: Mapping[type[ast.operator], Operator] = MappingProxyType(
    {
        ast.Add: _EXACT.add,
        ast.Sub: _EXACT.subtract,
        ast.Mult: _EXACT.multiply,
        ast.Div: _divide,
        ast.FloorDiv: _floor,
        ast.Mod: _modulo,
        ast.Pow: _power,
    }
)
_FUNCTIONS: Mapping[str, Callable[..., Decimal]] = MappingProxyType(
    {"abs": abs, "round": _round, "min": _smallest, "max": _largest, "sqrt": _root, "percent": _percent}
)
_ALPHABET = frozenset("0123456789.+-*/%()_, \t\nabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
