"""Custom types: values with a spelling of their own, checked where they enter a program.

Main path: `total: Money = dspy.OutputField()`; description() is in the prompt, a validator reads the reply.
Source: dspy.Type (dspy/adapters/types/base_type.py, DSPy 3.4.1), a pydantic model; parse_value hands the text
itself to its validators when it is no JSON that fits.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import dspy
import pydantic
from price_parser import Price

from course_lib.adapters.tools.text import NUMBER

_CODES = {"€": "EUR", "$": "USD", "£": "GBP"}
_CURRENCY = r"[A-Za-z]{3}|[€$£]"
_AMOUNT = re.compile(rf"\s*(?P<before>{_CURRENCY})?\s*(?P<sign>[-+]?){NUMBER}\s*(?P<after>{_CURRENCY})?\s*")
_UNCLEAR = re.compile(r"\d{1,3}\.\d{3}")
_ORDER = re.compile(r"\s*#?\s*[Oo](?:rder)?[- ]?(\d{5})\s*")


class Money(dspy.Type):
    """An amount in a currency, to the cent: `12.50 EUR`.

    Reads `12.50 EUR`, `EUR 12.5`, `€12,50`, `$1,250.00` and the JSON object of its fields; refuses an amount
    without a currency, fractions of a cent, and `1.250 EUR`, which may mean two amounts.

    >>> Money.model_validate("€12,50").format()
    '12.50 EUR'
    """

    model_config = pydantic.ConfigDict(frozen=True)

    amount: Decimal = pydantic.Field(max_digits=12, decimal_places=2)
    currency: str = pydantic.Field(pattern=r"^[A-Z]{3}$")

    def format(self) -> str:
        """Write it as prompts and demos show it."""
        return f"{self.amount:.2f} {self.currency}"

    @classmethod
    def description(cls) -> str:
        """Tell the model how to write it."""
        return "an amount and its currency, such as `12.50 EUR`"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        match = _AMOUNT.fullmatch(given.replace("\u2212", "-"))
        currency = (match["before"] or match["after"]) if match else None
        if not match or not currency or (match["before"] and match["after"]):
            raise ValueError(f"{given!r:.60} is not an amount with one currency, such as '12.50 EUR'")
        if _UNCLEAR.fullmatch(match["number"]):
            raise ValueError(f"{given!r:.60} may mean two amounts; write it as '1250.00 EUR' or '1.25 EUR'")
        number = Price.fromstring(re.sub(r"['\u2019\s]", "", match["number"])).amount
        return {"amount": f"{match['sign']}{number}", "currency": _CODES.get(currency, currency.upper())}


class OrderId(dspy.Type):
    """The number of one of Lantern's orders: `O-10001`.

    Reads `O-10001`, `o10001`, `#O-10001` and `order 10001`; equal ids are equal whatever their spelling was.

    >>> OrderId.model_validate("order 10001").format()
    'O-10001'
    """

    model_config = pydantic.ConfigDict(frozen=True)

    number: str = pydantic.Field(pattern=r"^O-\d{5}$")

    def format(self) -> str:
        """Write it as the shop does."""
        return self.number

    @classmethod
    def description(cls) -> str:
        """Tell the model how to write it."""
        return "the number of an order, such as `O-10001`"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        written = given.get("number") if isinstance(given, dict) else given
        if not isinstance(written, str):
            return given
        match = _ORDER.fullmatch(written)
        if not match:
            raise ValueError(f"{written!r:.60} is not the number of an order, such as 'O-10001'")
        return {"number": f"O-{match[1]}"}
