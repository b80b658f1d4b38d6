"""What Lantern knows: its products, customers, orders and support tickets, read strictly from desk/data.

Main path: tickets("train"), customers(), orders(), products() -> lists of frozen records, in order of id.

How a ticket's urgency was decided, in this order:
- high: danger to someone; money already taken wrongly; access blocked with a deadline; any deadline
  within about 3 days.
- low: nothing has to be done soon (feedback, general questions before buying, newsletter).
- normal: the rest, however angry it sounds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from course_lib.desk.rows import RecordError, Row, read_records

Category = Literal["shipping", "returns", "billing", "account", "product", "warranty"]
Urgency = Literal["low", "normal", "high"]
Split = Literal["train", "dev", "test"]
Channel = Literal["email", "chat", "form"]
OrderStatus = Literal[
    "processing", "shipped", "delivered", "returned", "partially_refunded", "refunded", "cancelled"
]
ShipmentStatus = Literal[
    "label_created",
    "in_transit",
    "out_for_delivery",
    "delivery_attempted",
    "at_pickup_point",
    "delivered",
    "returned_to_sender",
]

CATEGORIES: tuple[Category, ...] = get_args(Category)
URGENCIES: tuple[Urgency, ...] = get_args(Urgency)
SPLITS: tuple[Split, ...] = get_args(Split)

TODAY = date(2026, 3, 16)
"""The day it is at Lantern, a Monday: every record is as it stood that morning."""

DATA = Path(__file__).resolve().parent / "data"

_TRACKING = r"NP\d{9}"
_CUSTOMER = r"C-\d{3}"
_ORDER = r"O-\d{5}"
_SKU = r"[A-Z]{2}-\d{3}"


@dataclass(frozen=True, slots=True)
class Product:
    """Something Lantern sells."""

    sku: str
    name: str
    kind: str
    """Group in the catalogue, such as "tents" or "spares"."""
    price_cents: int
    """Today's price in euro cents; 0 for a gift that is put into the parcel."""


@dataclass(frozen=True, slots=True)
class Customer:
    """Someone with an account."""

    id: str
    name: str
    email: str
    street: str
    postcode: str
    city: str
    country: str
    """Two letters, such as "DE"."""
    language: str
    """The language chosen in the account; tickets may come in another."""
    joined: date
    loyalty_points: int
    """Points that can be used today."""

    @property
    def address(self) -> str:
        """The postal address on one line."""
        return f"{self.street}, {self.postcode} {self.city}, {self.country}"


@dataclass(frozen=True, slots=True)
class Item:
    """One line of an order."""

    sku: str
    quantity: int
    unit_price_cents: int
    """Price of one when it was ordered, in euro cents."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One event in the life of a parcel."""

    at: datetime
    status: ShipmentStatus
    place: str
    note: str
    """What the carrier wrote beside it; often empty."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """One parcel of an order."""

    tracking_number: str
    carrier: str
    status: ShipmentStatus
    skus: tuple[str, ...]
    """What is in the parcel."""
    events: tuple[Scan, ...]
    """Oldest first; the last one has the status of the shipment."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer bought at one time. Money is in euro cents."""

    id: str
    customer_id: str
    placed: datetime
    status: OrderStatus
    currency: str
    items: tuple[Item, ...]
    shipping_cents: int
    discount_cents: int
    total_cents: int
    """Items and shipping, less the discount."""
    refunded_cents: int
    """How much of the total has been paid back."""
    payment: str
    """Way of payment; of a card only the brand and the last four digits."""
    ship_to: str
    """Name and address on the parcel, which need not be the customer's."""
    returned: date | None
    """The day returned goods reached the warehouse."""
    shipments: tuple[Shipment, ...]
    """Empty until a label is made, and for cancelled orders."""

    @property
    def goods_cents(self) -> int:
        """The items at their prices, before discount and shipping."""
        return sum(item.quantity * item.unit_price_cents for item in self.items)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A message to the support desk, with the labels a careful agent gave it."""

    id: str
    text: str
    category: Category
    """Of several problems in one message, that of the main one."""
    urgency: Urgency
    article: str | None
    """Id of the help article that answers it; None where none does."""
    customer_id: str
    order_id: str | None
    received: datetime
    channel: Channel
    split: Split


def euros(cents: int) -> str:
    """Write an amount of cents as Lantern does.

    >>> euros(21295)
    'EUR 212.95'
    """
    return f"EUR {cents // 100}.{cents % 100:02}"


def products() -> list[Product]:
    """Return the catalogue.

    Raises:
        RecordError: when the data file is missing or wrong; it names file and line.
    """
    return list(_products(DATA / "products.json"))


def customers() -> list[Customer]:
    """Return all customers.

    Raises:
        RecordError: when the data file is missing or wrong; it names file and line.
    """
    return list(_customers(DATA / "customers.json"))


def orders() -> list[Order]:
    """Return all orders, oldest first.

    Raises:
        RecordError: when the data file is missing or wrong; it names file and line.
    """
    return list(_orders(DATA / "orders.json"))


def tickets(split: Split | None = None) -> list[Ticket]:
    """Return the tickets of "train" (80), "dev" (30) or "test" (50), or all 160, oldest first.

    Urgency is high for danger, money taken wrongly, blocked access with a deadline, or any deadline within
    about 3 days; low where nothing has to be done soon; otherwise normal, however angry the words.

    Raises:
        RecordError: when there is no such split, or the data file is missing or wrong (with file and line).
    """
    if split is not None and split not in SPLITS:
        raise RecordError(f"no split of the tickets is called {split!r}; choose one of {', '.join(SPLITS)}")
    return [ticket for ticket in _tickets(DATA / "tickets.jsonl") if split in (None, ticket.split)]


@lru_cache(maxsize=4)
def _products(path: Path) -> tuple[Product, ...]:
    return read_records(path, _product, key=lambda product: product.sku)


@lru_cache(maxsize=4)
def _customers(path: Path) -> tuple[Customer, ...]:
    return read_records(path, _customer, key=lambda customer: customer.id)


@lru_cache(maxsize=4)
def _orders(path: Path) -> tuple[Order, ...]:
    return read_records(path, _order, key=lambda order: order.id)


@lru_cache(maxsize=4)
def _tickets(path: Path) -> tuple[Ticket, ...]:
    return read_records(path, _ticket, key=lambda ticket: ticket.id)


def _product(row: Row) -> Product:
    row.only(("sku", "name", "kind", "price_cents"))
    return Product(row.text("sku", _SKU), row.text("name"), row.text("kind"), row.count("price_cents"))


def _customer(row: Row) -> Customer:
    row.only([field.name for field in fields(Customer)])
    return Customer(
        id=row.text("id", _CUSTOMER),
        name=row.text("name"),
        email=row.text("email", r"[^@\s]+@[^@\s]+"),
        street=row.text("street"),
        postcode=row.text("postcode"),
        city=row.text("city"),
        country=row.text("country", "[A-Z]{2}"),
        language=row.text("language", "[a-z]{2}"),
        joined=row.day("joined"),
        loyalty_points=row.count("loyalty_points"),
    )


def _ticket(row: Row) -> Ticket:
    row.only([field.name for field in fields(Ticket)])
    return Ticket(
        id=row.text("id", r"T-\d{4}"),
        text=row.text("text"),
        category=row.choice("category", CATEGORIES),
        urgency=row.choice("urgency", URGENCIES),
        article=row.optional("article", lambda name: row.text(name, "[a-z]+(-[a-z]+)*")),
        customer_id=row.text("customer_id", _CUSTOMER),
        order_id=row.optional("order_id", lambda name: row.text(name, _ORDER)),
        received=row.moment("received"),
        channel=row.choice("channel", get_args(Channel)),
        split=row.choice("split", SPLITS),
    )


def _order(row: Row) -> Order:
    row.only([field.name for field in fields(Order)])
    order = Order(
        id=row.text("id", _ORDER),
        customer_id=row.text("customer_id", _CUSTOMER),
        placed=row.moment("placed"),
        status=row.choice("status", get_args(OrderStatus)),
        currency=row.choice("currency", ("EUR",)),
        items=tuple(_item(part) for part in row.parts("items", least=1)),
        shipping_cents=row.count("shipping_cents"),
        discount_cents=row.count("discount_cents"),
        total_cents=row.count("total_cents"),
        refunded_cents=row.count("refunded_cents"),
        payment=row.text("payment"),
        ship_to=row.text("ship_to"),
        returned=row.optional("returned", row.day),
        shipments=tuple(_shipment(part) for part in row.parts("shipments")),
    )
    due_cents = order.goods_cents + order.shipping_cents - order.discount_cents
    if order.total_cents != due_cents:
        row.fail(f"total_cents is {order.total_cents}, but items, shipping and discount come to {due_cents}")
    if order.refunded_cents > order.total_cents:
        row.fail(f"refunded_cents is {order.refunded_cents}, more than the total of {order.total_cents}")
    strangers = {sku for parcel in order.shipments for sku in parcel.skus} - {
        item.sku for item in order.items
    }
    if strangers:
        row.fail(f"a shipment holds {sorted(strangers)}, which the order does not")
    return order


def _item(row: Row) -> Item:
    row.only([field.name for field in fields(Item)])
    return Item(row.text("sku", _SKU), row.count("quantity", least=1), row.count("unit_price_cents"))


def _shipment(row: Row) -> Shipment:
    row.only([field.name for field in fields(Shipment)])
    shipment = Shipment(
        tracking_number=row.text("tracking_number", _TRACKING),
        carrier=row.text("carrier"),
        status=row.choice("status", get_args(ShipmentStatus)),
        skus=row.texts("skus"),
        events=tuple(_scan(part) for part in row.parts("events", least=1)),
    )
    moments = [scan.at for scan in shipment.events]
    if moments != sorted(moments):
        row.fail("the events are not in order of time")
    if shipment.events[-1].status != shipment.status:
        row.fail(f"status is {shipment.status!r}, but the last event says {shipment.events[-1].status!r}")
    return shipment


def _scan(row: Row) -> Scan:
    row.only([field.name for field in fields(Scan)])
    status = row.choice("status", get_args(ShipmentStatus))
    return Scan(row.moment("at"), status, row.text("place"), row.text("note", ".*"))
