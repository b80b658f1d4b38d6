"""The board: what the desk's people see of an order."""

from __future__ import annotations

from typing import Any

from course_lib import desk


class OrderBoard:
    """Show orders, and pay money back for them.

    An order is looked up once and then kept, since looking up is slow: whoever asks again for one that has
    not changed gets what is kept. Once money was paid back for an order, the board shows it as it is now.
    A payback that is refused raises the session's RefusedError, and the order that is kept stays.
    """

    def __init__(self, session: desk.Session) -> None:
        self.session = session
        self._kept: dict[str, dict[str, Any]] = {}

    def show(self, order_id: str) -> dict[str, Any]:
        """Return an order: status, items, `refunded_eur`, `refundable_eur`; its number in any spelling."""
        key = order_id.strip().upper()
        if key not in self._kept:
            self._kept[key] = self.session.look_up_order(key)
        return self._kept[key]

    def pay_back(self, order_id: str, amount_eur: float, reason: str) -> dict[str, Any]:
        """Pay money back for an order; its number in any spelling."""
        paid = self.session.refund(order_id, amount_eur, reason)
        self._kept.pop(order_id, None)
        return paid
