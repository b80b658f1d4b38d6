"""What an agent may do at the desk: look up orders and customers, track parcels, pay money back.

Main path: session = Session(audit=path, carrier_url=url); session.tools() -> functions for dspy.ReAct.
The data files stay as they are: what a session pays back stands in its audit file, one JSON line a refund.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import httpx

from course_lib.desk import records
from course_lib.errors import CourseError

FREE_CENTS = 15_000
"""Up to this amount a refund needs nobody's approval."""
LONGER_SINCE = date(2026, 2, 1)
"""Orders since this day can be paid back for 30 days after delivery, earlier ones for 14 days."""
TRACKING_DEADLINE_S = 5.0

Tool = Callable[..., Any]


class RefusedError(CourseError):
    """The desk will not do this; the message is one line and may be shown to the model."""


@dataclass(frozen=True, slots=True)
class Refund:
    """One line of the audit file."""

    at: str
    """When, as an ISO time with its zone."""
    order_id: str
    amount_eur: float
    reason: str


class Session:
    """One agent's shift at the desk; sessions with audit files of their own know nothing of each other."""

    def __init__(self, *, audit: Path, carrier_url: str | None = None) -> None:
        """Open the desk.

        Args:
            audit: file to which each refund adds a line; what it already holds counts as paid back.
            carrier_url: address of the carrier's API, as `running_carrier()` gives it; None if it is away.
        """
        self.audit = audit
        self.carrier_url = carrier_url
        self._refund_lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        """Share the session: a copied program works at the same desk."""
        return self

    # -- what the model sees -----------------------------------------------------------------------------

    def tools(self) -> list[Tool]:
        """Return the tools as functions; a refusal is a line `refused: ...`, not an exception."""
        look_ups = (self.look_up_order, self.look_up_customer, self.orders_of_customer, self.track_parcel)
        return [_with_refusals_as_text(tool) for tool in (*look_ups, self.refund)]

    def look_up_order(self, order_id: str) -> dict[str, Any]:
        """Look up an order: status, date, items and prices, payment, address, total and refundable amount.

        Also returns the customer id and the tracking number of each parcel.

        Args:
            order_id: number of the order, such as O-10001
        """
        order = _order(order_id)
        names = {product.sku: product.name for product in records.products()}
        return {
            "order_id": order.id,
            "customer_id": order.customer_id,
            "status": order.status,
            "placed": order.placed.date().isoformat(),
            "items": [
                {"name": names[item.sku], "quantity": item.quantity, "price_eur": item.cents / 100}
                for item in order.items
            ],
            "shipping_eur": order.shipping_cents / 100,
            "discount_eur": order.discount_cents / 100,
            "total_eur": order.total_cents / 100,
            "refunded_eur": (order.refunded_cents + self._paid_cents(order.id)) / 100,
            "refundable_eur": self._refundable_cents(order) / 100,
            "payment": order.payment,
            "ship_to": order.ship_to,
            "returned": order.returned and order.returned.isoformat(),
            "parcels": [
                {"tracking_number": parcel.tracking_number, "status": parcel.status}
                for parcel in order.shipments
            ],
        }

    def look_up_customer(self, customer: str) -> dict[str, Any]:
        """Look up a customer: name, e-mail address, city, country, language and loyalty points.

        Args:
            customer: the e-mail address, or the customer id such as C-001
        """
        record = _customer(customer)
        told = {name: getattr(record, name) for name in ("name", "email", "city", "country", "language")}
        return {
            "customer_id": record.id,
            **told,
            "joined": record.joined.isoformat(),
            "loyalty_points": record.loyalty_points,
        }

    def orders_of_customer(self, customer: str) -> list[dict[str, Any]]:
        """List the orders of a customer, newest first, with their order id, date, status and total.

        Args:
            customer: the e-mail address, or the customer id such as C-001
        """
        customer_id = _customer(customer).id
        own = [order for order in reversed(records.orders()) if order.customer_id == customer_id]
        return [
            {
                "order_id": order.id,
                "placed": order.placed.date().isoformat(),
                "status": order.status,
                "total_eur": order.total_cents / 100,
            }
            for order in own
        ]

    def track_parcel(self, tracking_number: str) -> dict[str, Any]:
        """Track a parcel with the carrier: where it is now, its last scan, and when it should arrive.

        Args:
            tracking_number: number of the parcel, such as NP400213517
        """
        if not re.fullmatch(r"NP\d{9}", tracking_number):
            raise RefusedError(f"{tracking_number!r} is not a tracking number; one is NP and nine digits")
        if self.carrier_url is None:
            raise RefusedError("the carrier cannot be asked at the moment")
        try:
            response = httpx.get(
                f"{self.carrier_url}/v1/track/{tracking_number}", timeout=TRACKING_DEADLINE_S, trust_env=False
            )
            parcel = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise RefusedError(f"the carrier does not answer ({type(error).__name__})") from error
        if response.status_code != 200:
            raise RefusedError(str(parcel.get("detail", f"the carrier says {response.status_code}")))
        last = parcel["events"][-1] if parcel["events"] else {}
        return {
            "tracking_number": parcel["number"],
            "order_id": parcel["reference"],
            "status": parcel["status"],
            "place": last.get("place"),
            "last_scan": last.get("at"),
            "note": last.get("note"),
            "expected_arrival": parcel["eta"],
            "destination": f"{parcel['destination']['city']}, {parcel['destination']['country']}",
        }

    def refund(self, order_id: str, amount_eur: float, reason: str) -> dict[str, Any]:
        """Pay money back to the customer for an order: a refund, on the way the order was paid.

        Args:
            order_id: number of the order, such as O-10001
            amount_eur: amount in euros; for the whole order its refundable_eur, for one item its price_eur
            reason: why, in a few words
        """
        order = _order(order_id)
        cents = _cents(amount_eur)
        if not reason.strip():
            raise RefusedError("a refund needs a reason")
        with self._refund_lock:
            self._check_refund(order, cents)
            self._write(order.id, cents, " ".join(reason.split()))
        return {"order_id": order.id, "refunded_eur": cents / 100, "paid_to": order.payment}

    # -- rules -------------------------------------------------------------------------------------------

    def _check_refund(self, order: records.Order, cents: int) -> None:
        if cents <= 0:
            raise RefusedError(f"the amount must be more than 0, not {cents / 100:.2f}")
        if self._paid_cents(order.id):
            raise RefusedError(f"order {order.id} has been refunded already; a second time needs a person")
        left_cents = self._refundable_cents(order)
        if cents > left_cents:
            raise RefusedError(
                f"only {records.euros(left_cents)} of order {order.id} can be refunded, "
                f"not {records.euros(cents)}"
            )
        if order.status in ("processing", "shipped"):
            raise RefusedError(f"order {order.id} has not been delivered, so it cannot be refunded yet")
        if order.status not in ("returned", "cancelled"):
            _check_window(order)
        if cents > FREE_CENTS:
            raise RefusedError(
                f"{records.euros(cents)} needs the approval of a person; "
                f"the limit is {records.euros(FREE_CENTS)}"
            )

    def _refundable_cents(self, order: records.Order) -> int:
        return order.total_cents - order.refunded_cents - self._paid_cents(order.id)

    # -- audit -------------------------------------------------------------------------------------------

    def refunds(self) -> list[Refund]:
        """Return the audit file's lines, oldest first."""
        if not self.audit.exists():
            return []
        return [Refund(**json.loads(line)) for line in self.audit.read_text("utf-8").splitlines()]

    def _paid_cents(self, order_id: str) -> int:
        return sum(round(line.amount_eur * 100) for line in self.refunds() if line.order_id == order_id)

    def _write(self, order_id: str, cents: int, reason: str) -> None:
        line = Refund(datetime.now(UTC).isoformat(), order_id, cents / 100, reason)
        with self.audit.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line), ensure_ascii=False) + "\n")


def _with_refusals_as_text(tool: Tool) -> Tool:
    """Return `tool` so that it returns a refusal instead of raising it: the model should read one line."""

    @functools.wraps(tool)
    def call(**arguments: Any) -> Any:
        try:
            return tool(**arguments)
        except RefusedError as error:
            return f"refused: {error}"

    return call


def _order(order_id: str) -> records.Order:
    wanted = order_id.strip().upper()
    for order in records.orders():
        if order.id == wanted:
            return order
    raise RefusedError(f"there is no order {order_id!r}")


def _customer(customer: str) -> records.Customer:
    wanted = customer.strip().casefold()
    for one in records.customers():
        if wanted in (one.id.casefold(), one.email.casefold()):
            return one
    raise RefusedError(f"there is no customer {customer!r}")


def _cents(amount_eur: float) -> int:
    try:
        cents = Decimal(str(amount_eur)) * 100
    except InvalidOperation:
        raise RefusedError(f"{amount_eur!r} is not an amount") from None
    if not cents.is_finite() or cents != cents.to_integral_value():
        raise RefusedError(f"{amount_eur!r} is not an amount in euros and whole cents")
    return int(cents)


def _check_window(order: records.Order) -> None:
    days = 30 if order.placed.date() >= LONGER_SINCE else 14
    delivered = max(
        (parcel.events[-1].at.date() for parcel in order.shipments if parcel.status == "delivered"),
        default=order.placed.date(),
    )
    passed = (records.TODAY - delivered).days
    if passed > days:
        raise RefusedError(
            f"order {order.id} was delivered {passed} days ago; it could be refunded for {days} days"
        )
