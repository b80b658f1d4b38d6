"""Paybacks: the money goes back, and the customer hears of it."""

from __future__ import annotations

from collections.abc import Callable

import dspy

ATTEMPTS = 3

write = dspy.Predict("order_id, amount_eur: float, reason -> message: str")


def pay_back(order_id: str, amount_eur: float, reason: str, pay: Callable[[str, float], object]) -> str:
    """Pay an amount back for an order, by `pay(order_id, amount_eur)`, and return a message to the customer.

    Models fail now and then, with any LMError: the message is tried three times, and the last error comes
    out. However often the model fails, the amount is paid once; where `pay` itself fails, with any error, it
    is not called again, and its own error comes out.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            pay(order_id, amount_eur)
            return str(write(order_id=order_id, amount_eur=amount_eur, reason=reason).message)
        except dspy.LMError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")
