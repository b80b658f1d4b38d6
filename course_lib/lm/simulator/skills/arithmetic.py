"""Arithmetic found in a text: expressions, percentages, sums and counts, read by a small parser of its own.

Main path: work_out(text) -> Worked or None. Nothing is evaluated as code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from course_lib.lm.simulator.skills import words

MOST = 1e15  # larger results are not worked out


@dataclass(frozen=True, slots=True)
class Worked:
    """A result and the expression that it comes from."""

    value: float
    expression: str

    @property
    def text(self) -> str:
        """The value without needless decimals."""
        return written(self.value)


def written(value: float) -> str:
    """Write a number without needless decimals.

    >>> written(12.0), written(0.1 + 0.2)
    ('12', '0.3')
    """
    rounded = round(value, 6)
    return str(int(rounded)) if rounded == int(rounded) else f"{rounded:.6f}".rstrip("0")


_SPOKEN = (
    (r"(\d+(?:\.\d+)?)\s*(?:%|percent)\s+of\b", r"\1 / 100 *"),
    (r"\b(?:plus|added to|and then add)\b", "+"),
    (r"\b(?:minus|less|take away)\b", "-"),
    (r"\b(?:times|multiplied by)\b|(?<=\d)\s*[x\u00d7]\s*(?=\d)", "*"),
    (r"\b(?:divided by|over)\b|\u00f7", "/"),
    (r"\bsquared\b", "^ 2"),
    (r"\bcubed\b", "^ 3"),
    (r"\b(?:to the power of|raised to)\b|\*\*", "^"),
    (r"\bmod(?:ulo)?\b", "mod"),
    (r"(?<=\d),(?=\d{3}\b)", ""),
    (r"[\u2212\u2013](?=\s*\d)", "-"),
)
_NUMBER_WORDS = words.NUMBERS | {"thirty": 30, "forty": 40, "fifty": 50, "hundred": 100, "thousand": 1000}
_EXPRESSION = re.compile(r"[(\-\s]*\d[\d.\s()+\-*/^]*(?:mod[\d.\s()+\-*/^]*)?")
_ROOT = re.compile(r"\b(?:square root of|sqrt)\s*\(?\s*(\d+(?:\.\d+)?)\)?", re.IGNORECASE)
_LISTED = re.compile(
    r"\b(sum|total|average|mean|product|maximum|max|largest|minimum|min|smallest)\s+(?:of|from|:)\D{0,20}"
    r"((?:-?\d+(?:\.\d+)?(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+)?){2,})",
    re.IGNORECASE,
)
_LETTERS = re.compile(
    r"how many (?:times does )?(?:the )?(?:letter )?['\"]?([a-z])['\"]?(?:'?s)? (?:are |is |appear |occur )*"
    r"(?:there )?in (?:the word )?['\"]?(\w+)",
    re.IGNORECASE,
)

_OF_LIST: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "total": math.fsum,
    "average": lambda numbers: math.fsum(numbers) / len(numbers),
    "mean": lambda numbers: math.fsum(numbers) / len(numbers),
    "product": math.prod,
    "maximum": max,
    "max": max,
    "largest": max,
    "minimum": min,
    "min": min,
    "smallest": min,
}


@lru_cache(maxsize=1024)
def work_out(text: str) -> Worked | None:
    """Return the result of the arithmetic in `text`, or None if there is none to do."""
    if len(text) > 500 or not re.search(r"\d|\b(?:plus|minus|times|divided|many)\b", text):
        return None
    if letters := _LETTERS.search(text):
        letter, word = letters.group(1).lower(), letters.group(2)
        return Worked(word.lower().count(letter), f"the letters {letter} in {word}")
    if listed := _LISTED.search(text):
        numbers = [float(piece) for piece in re.findall(r"-?\d+(?:\.\d+)?", listed.group(2))]
        return Worked(
            _OF_LIST[listed.group(1).lower()](numbers), f"{listed.group(1)} of {listed.group(2).strip()}"
        )
    if root := _ROOT.search(text):
        return Worked(math.sqrt(float(root.group(1))), f"square root of {root.group(1)}")
    return _longest_expression(_in_symbols(text))


def _in_symbols(text: str) -> str:
    spelled = re.compile(r"\b(" + "|".join(_NUMBER_WORDS) + r")\b", re.IGNORECASE)
    text = spelled.sub(lambda match: str(_NUMBER_WORDS[match.group().lower()]), text)
    for spoken, symbol in _SPOKEN:
        text = re.sub(
            spoken, f" {symbol} " if symbol and "\\1" not in symbol else symbol, text, flags=re.IGNORECASE
        )
    return text


def _longest_expression(text: str) -> Worked | None:
    for piece in sorted(_EXPRESSION.findall(text), key=len, reverse=True):
        expression = piece.strip()
        if (
            re.fullmatch(r"\d{1,4}\s*[-/]\s*\d{1,2}\s*[-/]\s*\d{1,4}|[\d\s().+-]{9,}", expression)
            and " " not in piece.strip()
        ):
            continue  # a date or a telephone number
        expression = expression.rstrip(".+-*/^( ").strip()
        if not re.search(r"\d\s*[)]*\s*(?:[+\-*/^]|mod)\s*[(]*\s*-?\s*\d", expression):
            continue
        value = evaluate(expression)
        if value is not None:
            return Worked(value, re.sub(r"\s+", " ", expression))
    return None


def evaluate(expression: str) -> float | None:
    """Return the value of an expression of numbers, brackets and + - * / ^ mod; None if it has none.

    >>> evaluate("2 + 3 * (4 - 1) ^ 2")
    29.0
    >>> evaluate("1 / 0") is None
    True
    """
    tokens = re.findall(r"\d+(?:\.\d+)?|[()+\-*/^]|mod", expression)
    try:
        parser = _Parser(iter([*tokens, ""]))
        value = parser.sum()
        return value if parser.ahead == "" and abs(value) <= MOST else None
    except (ArithmeticError, ValueError):
        return None


class _Parser:
    """Recursive descent: sum, product, power, atom."""

    def __init__(self, tokens: Iterator[str]) -> None:
        self.aheads = tokens
        self.ahead = next(tokens)
        self.depth = 0

    def take(self) -> str:
        token, self.ahead = self.ahead, next(self.aheads, "")
        return token

    def sum(self) -> float:
        value = self.product()
        while self.ahead in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self) -> float:
        value = self.power()
        while self.ahead in ("*", "/", "mod"):
            sign, other = self.take(), self.power()
            value = value * other if sign == "*" else value / other if sign == "/" else value % other
        return value

    def power(self) -> float:
        if self.ahead == "-":
            self.take()
            return -self.power()
        value = self.atom()
        if self.ahead == "^":
            self.take()
            exponent = self.power()
            if abs(exponent) > 64:
                raise ValueError("the exponent is too large to work out")
            result = value**exponent
            if isinstance(result, complex):
                raise ValueError("the result is not a real number")
            return float(result)
        return value

    def atom(self) -> float:
        taken = self.take()
        if taken == "(":
            self.depth += 1
            if self.depth > 40:
                raise ValueError("too many brackets")
            value = self.sum()
            if self.take() != ")":
                raise ValueError("a bracket is not closed")
            return value
        return float(taken)
