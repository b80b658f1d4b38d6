"""Arithmetic found in a text: expressions, percentages, sums and counts, read as Python's syntax.

Main path: work_out(text) -> Worked or None; aggregate(field, work) for sums, averages, extremes, lengths and
counts over the inputs, in a number field that is named after one. Nothing is evaluated as code.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.reading import parsed
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.limits import limited
from course_lib.lm.simulator.skills.quantities import NONE, Unit, kind_of
from course_lib.lm.simulator.skills.work import Result, Work

MOST = 1e15  # larger results are not worked out
MOST_EXPONENT, MOST_BRACKETS = 64, 40


@dataclass(frozen=True, slots=True)
class Worked:
    """A result and the expression that it comes from."""

    value: float
    expression: str
    unit: Unit = NONE

    @property
    def text(self) -> str:
        """The value without needless decimals; money with two, where it is not whole."""
        if kind_of(self.unit) == "money" and round(self.value, 2) % 1:
            return f"{self.value:.2f}"
        return written(self.value)


def written(value: float) -> str:
    """Write a number without needless decimals.

    >>> written(12.0), written(0.1 + 0.2)
    ('12', '0.3')
    """
    rounded = round(value, 6)
    return str(int(rounded)) if rounded == int(rounded) else f"{rounded:.6f}".rstrip("0")


_SPOKEN = (
    (r"\bhalf of\b", "0.5 *"),
    (r"(\d+(?:\.\d+)?)\s*(?:%|percent)\s+of\b(?=\s*(?:the\s+)?[$\u20ac\u00a3(]?\s*\d)", r"\1 / 100 *"),
    (r"\bplus\b", "+"),
    (r"\bminus\b", "-"),
    (r"\b(?:times|multiplied by)\b|(?<=\d)\s*[x\u00d7]\s*(?=\d)", "*"),
    (r"\bdivided by\b|\u00f7", "/"),
    (r"\bsquared\b", "^ 2"),
    (r"\bto the power of\b|\*\*", "^"),
    (r"(?<=\d),(?=\d{3}\b)", ""),
    (r"[\u2212\u2013](?=\s*\d)", "-"),
)
_SPELLED = re.compile(rf"\b({'|'.join(words.NUMBERS)})\b", re.IGNORECASE)
_EXPRESSION = re.compile(r"[(\-\s]*\d[\d.\s()+\-*/^]*")
_LISTED = re.compile(
    r"\b(sum|total|average|mean|maximum|largest|minimum|smallest)\s+(?:of|from|:)\D{0,20}"
    r"((?:-?\d+(?:\.\d+)?(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+)?){2,})",
    re.IGNORECASE,
)

_OVER_NUMBERS: tuple[tuple[str, Callable[[list[float]], float]], ...] = (
    (r"sum|total|addition", math.fsum),
    (r"average|mean|avg", lambda numbers: math.fsum(numbers) / len(numbers)),
    (r"max|maximum|largest|biggest|highest", max),
    (r"min|minimum|smallest|lowest", min),
    (r"difference", lambda numbers: numbers[0] - math.fsum(numbers[1:])),
)


def _computed(name: str, form: str = "{}") -> Callable[[list[float]], float] | None:
    """Return what a name says to compute over numbers; `form` is a pattern around the words for it."""
    return next((compute for said, compute in _OVER_NUMBERS if re.fullmatch(form.format(said), name)), None)


@lru_cache(maxsize=1024)
def work_out(text: str) -> Worked | None:
    """Return the result of the arithmetic in `text`, or None if there is none to do."""
    if len(text) > 500:
        return None
    if listed := _LISTED.search(text):
        numbers = [float(piece) for piece in re.findall(r"-?\d+(?:\.\d+)?", listed.group(2))]
        compute = _computed(listed.group(1).lower()) or math.fsum
        return Worked(compute(numbers), f"{listed.group(1)} of {listed.group(2).strip()}")
    return _longest_expression(_in_symbols(text))


def _in_symbols(text: str) -> str:
    text = _SPELLED.sub(lambda match: str(words.NUMBERS[match.group().lower()]), text)
    for spoken, symbol in _SPOKEN:
        spaced = f" {symbol} " if symbol and "\\1" not in symbol else symbol
        text = re.sub(spoken, spaced, text, flags=re.IGNORECASE)
    return text


_DATE_OR_TELEPHONE = re.compile(r"\d{1,4}\s*[-/]\s*\d{1,2}\s*[-/]\s*\d{1,4}|[\d\s().+-]{9,}")


def _longest_expression(text: str) -> Worked | None:
    for piece in sorted(_EXPRESSION.findall(text), key=len, reverse=True):
        expression = piece.strip()
        if " " not in expression and _DATE_OR_TELEPHONE.fullmatch(expression):
            continue
        expression = expression.rstrip(".+-*/^( ").strip()
        has_sign = re.search(r"\d\s*[)]*\s*[+\-*/^]\s*[(]*\s*-?\s*\d", expression)
        if has_sign and (value := evaluate(expression)) is not None:
            return Worked(value, re.sub(r"\s+", " ", expression))
    return None


def evaluate(expression: str) -> float | None:
    """Return the value of an expression of numbers, brackets and + - * / ^; None if it has none.

    >>> evaluate("2 + 3 * (4 - 1) ^ 2")
    29.0
    >>> evaluate("1 / 0") is None
    True
    """
    tokens = re.findall(r"\d+(?:\.\d+)?|[()+\-*/^]", expression)
    if tokens.count("(") > MOST_BRACKETS:
        return None
    spelled = [str(float(token)) if token[0].isdigit() else token.replace("^", "**") for token in tokens]
    try:
        value = _value(ast.parse(" ".join(spelled), mode="eval").body)
    except (ArithmeticError, ValueError, SyntaxError, MemoryError):
        return None
    return value if abs(value) <= MOST else None


def _power(base: float, exponent: float) -> float:
    result = base**exponent if abs(exponent) <= MOST_EXPONENT else None
    if not isinstance(result, float):
        raise ValueError("the exponent is too large to work out, or the result is not a real number")
    return result


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
}


def _value(node: ast.expr) -> float:
    """Return the value of a syntax tree of numbers, signs and operators; ValueError for any other."""
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("this is no arithmetic")


# -- over the inputs ---------------------------------------------------------------------------------------


def aggregate(field: Field, work: Work) -> Result | None:
    """Compute what the field's name says over numbers, lists or a text; pass on other fields."""
    if field.schema.get("type") not in ("integer", "number"):
        return None
    values = [parsed(text, text) for text in work.task.inputs.values()]
    result = _over_numbers(field.name, values)
    named = "length|count|n|size" if all(isinstance(value, list) for value in values) else "length"
    if result is None and len(values) == 1 and isinstance(values[0], str | list):
        result = len(values[0]) if re.fullmatch(named, field.name) else None
    if result is None:
        return None
    return Result(limited(field.schema, result), f"the {field.name.replace('_', ' ')} is {written(result)}")


def _over_numbers(name: str, values: Sequence[Any]) -> float | None:
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if not flat or not all(type(item) in (int, float) and abs(item) < MOST for item in flat):
        return None
    compute = _computed(name, r"(\w+_)?({})(_\w+)?")
    return float(compute([float(item) for item in flat])) if compute else None
