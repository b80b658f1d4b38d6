"""The calculator: exact, quick, and deaf to anything but arithmetic."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course_lib.adapters.tools.arithmetic import calculate, calculator
from course_lib.adapters.tools.limits import ToolRefused

VALUES = {
    "0.1 + 0.2": "0.3",
    "(2 * 79.90 + 4.95) * 1.19": "196.0525",
    "-2 ** 2": "-4",
    "2 ** -2": "0.25",
    "round(100 / 3, 2)": "33.33",
    "round(0.125, 2)": "0.13",
    "max(3, 5, 4) - min(2) + abs(-3)": "6",
    "sqrt(2.25)": "1.5",
    "-0": "0",
    "1_000 * 2": "2000",
    "1e3": "1000",
    "1234567890123456.78 + 0.01": "1234567890123456.79",
    " 1 +\n 1 ": "2",
    "2 ** 100": "1267650600228229401496703205376",
}
REFUSED = {
    "empty": ["", "   "],
    "division by zero": ["1 / 0"],
    "no value": ["0 / 0", "0 ** 0", "sqrt(-1)", "(-8) ** 0.5", "round(10 ** 20, 49)", "0x1F"],
    "no value of -8 and 0.5": ["-8 ** 0.5 + (-8) ** 0.5"],
    "not complete": ["1 +", "(1", "1) + (1", "(" * 240 + "1" + ")" * 240, "yield 1"],
    "comma": ["1,234.50"],
    "too large": ["9 ** 9 ** 9", "1e999999"],
    "more than 50 digits": ["(9 ** 999) ** 999", "9" * 400 + " + 1", "2 ** 1000", "0 ** -1"],
    "does not take": ["round(1, 2, 3)", "min()"],
    "places": ["round(1, 0.5)"],
    "characters": ["1 + " * 200 + "1"],
    "not known": ["open", "exec(1)"],
    "is not arithmetic": ["__import__('os')", "lambda x: x", "7 % 2", "(x := 5)", "\u0664 + 1", "1 \0"],
    "something else": ["().__class__", "round(*x)", "1 if 1 else 2", "True + 1", "1j * 2", "7 // 2"],
}


@pytest.mark.parametrize(("expression", "value"), VALUES.items())
def test_arithmetic_is_exact(expression, value):
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "words"), [(one, why) for why, all_ in REFUSED.items() for one in all_]
)
def test_anything_else_is_refused_and_says_why(expression, words):
    with pytest.raises(ToolRefused, match=words):
        calculate(expression)


def test_a_refusal_reaches_the_model_as_one_line():
    tool = calculator()

    assert tool(expression="19 * 3") == "57"
    assert tool(expression="1 / 0") == "refused: division by zero has no value"
    assert tool(expression=5).startswith("refused: bad argument: expression is invalid")


PIECES = "0 1 2 9 99 1e9 1e-9 . + - * / // % ** ( ) , round( sqrt( max( min( abs( 1_0 x"
near = st.lists(st.sampled_from(PIECES.split()), max_size=40).map(" ".join)


@settings(max_examples=120, deadline=None)
@given(near | st.text(max_size=40))
@example("9 ** 999")  # the dearest powers: without a bound they would not end
@example("1e900 ** 0.999")
@example("0.9999999999 ** 1000 ** 1")
@example("2 ** 999.5")
@example("+".join(["9 ** 37.5"] * 40))
def test_whatever_is_written_it_ends_in_a_number_or_a_refusal(expression):
    with suppress(ToolRefused):
        Decimal(calculate(expression))
