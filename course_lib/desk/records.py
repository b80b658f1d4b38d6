"""What Lantern knows: its products, customers, orders and support tickets, read strictly from desk/data.

Main path: tickets("train"), customers(), orders(), products() -> lists of frozen records, in order of id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import ConfigDict, Field, NaiveDatetime, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from course_lib.errors import CourseError

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

T = TypeVar("T")
CustomerId = Annotated[str, Field(pattern=r"^C-\d{3}$")]
OrderId = Annotated[str, Field(pattern=r"^O-\d{5}$")]
Sku = Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{3}$")]
Count = Annotated[int, Field(ge=0)]
STRICT = ConfigDict(strict=True, extra="forbid")
"""For record classes: no conversion, no field beside those that are known."""
Text = Annotated[str, Field(pattern=r"(?s)^\S(.*\S)?$")]
"""A text that is not empty, without spaces around it."""


class RecordError(CourseError):
    """A record of the desk's data that cannot be used."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Product:
    """Something Lantern sells."""

    sku: Sku
    name: Text
    kind: Text
    """Group in the catalogue, such as "tents" or "spares"."""
    price_cents: Count
    """Today's price in euro cents; 0 for a gift that is put into the parcel."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Customer:
    """Someone with an account."""

    id: CustomerId
    name: Text
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    street: Text
    postcode: Text
    city: Text
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    """Two letters, such as "DE"."""
    language: Annotated[str, Field(pattern="^[a-z]{2}$")]
    """The language chosen in the account; tickets may come in another."""
    joined: date
    loyalty_points: Count
    """Points that can be used today."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Item:
    """One line of an order."""

    sku: Sku
    quantity: Annotated[int, Field(ge=1)]
    unit_price_cents: Count
    """Price of one when it was ordered, in euro cents."""

    @property
    def cents(self) -> int:
        """The price of all of them."""
        return self.quantity * self.unit_price_cents


@dataclass(frozen=True, slots=True, config=STRICT)
class Scan:
    """One event in the life of a parcel."""

    at: NaiveDatetime
    status: ShipmentStatus
    place: Text
    note: str
    """What the carrier wrote beside it; often empty."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Shipment:
    """One parcel of an order."""

    tracking_number: Annotated[str, Field(pattern=r"^NP\d{9}$")]
    carrier: Text
    status: ShipmentStatus
    skus: Annotated[tuple[str, ...], Field(min_length=1)]
    """What is in the parcel."""
    events: Annotated[tuple[Scan, ...], Field(min_length=1)]
    """Oldest first; the last one has the status of the shipment."""

    def __post_init__(self) -> None:
        moments = [scan.at for scan in self.events]
        if moments != sorted(moments):
            raise ValueError("the events are not in order of time")
        if self.events[-1].status != self.status:
            raise ValueError(
                f"status is {self.status!r}, but that of the last event {self.events[-1].status!r}"
            )


@dataclass(frozen=True, slots=True, config=STRICT)
class Order:
    """What a customer bought at one time. Money is in euro cents."""

    id: OrderId
    customer_id: CustomerId
    placed: NaiveDatetime
    status: OrderStatus
    currency: Literal["EUR"]
    items: Annotated[tuple[Item, ...], Field(min_length=1)]
    shipping_cents: Count
    discount_cents: Count
    total_cents: Count
    """Items and shipping, less the discount."""
    refunded_cents: Count
    """How much of the total has been paid back."""
    payment: Text
    """Way of payment; of a card only the brand and the last four digits."""
    ship_to: Text
    """Name and address on the parcel, which need not be the customer's."""
    returned: date | None
    """The day returned goods reached the warehouse."""
    shipments: tuple[Shipment, ...]
    """Empty until a label is made, and for cancelled orders."""

    def __post_init__(self) -> None:
        goods_cents = sum(item.cents for item in self.items)
        due_cents = goods_cents + self.shipping_cents - self.discount_cents
        if self.total_cents != due_cents:
            raise ValueError(
                f"total_cents is {self.total_cents}, but items, shipping and discount come to {due_cents}"
            )
        if self.refunded_cents > self.total_cents:
            raise ValueError(
                f"refunded_cents is {self.refunded_cents}, more than the total of {self.total_cents}"
            )
        shipped = {sku for parcel in self.shipments for sku in parcel.skus}
        if strangers := shipped - {item.sku for item in self.items}:
            raise ValueError(f"a shipment holds {sorted(strangers)}, which the order does not")


@dataclass(frozen=True, slots=True, config=STRICT)
class Ticket:
    """A message to the support desk, with the labels a careful agent gave it."""

    id: Annotated[str, Field(pattern=r"^T-\d{4}$")]
    text: Text
    category: Category
    """Of several problems in one message, that of the main one."""
    urgency: Urgency
    article: Annotated[str, Field(pattern="^[a-z]+(-[a-z]+)*$")] | None
    """Id of the help article that answers it; None where none does."""
    customer_id: CustomerId
    order_id: OrderId | None
    received: NaiveDatetime
    channel: Channel
    split: Split


def euros(cents: int) -> str:
    """Write an amount of cents as Lantern does.

    >>> euros(21295)
    'EUR 212.95'
    """
    return f"EUR {cents // 100}.{cents % 100:02}"


def products() -> list[Product]:
    """Return the catalogue. Like all of these it raises RecordError, with file and line, for a wrong file."""
    return list(read_records(DATA / "products.json", Product, key="sku"))


def customers() -> list[Customer]:
    """Return all customers."""
    return list(read_records(DATA / "customers.json", Customer))


def orders() -> list[Order]:
    """Return all orders, oldest first."""
    return list(read_records(DATA / "orders.json", Order))


def tickets(split: Split | None = None) -> list[Ticket]:
    """Return the tickets of "train" (80), "dev" (30) or "test" (50), or all 160, oldest first.

    Urgency is high for danger, money taken wrongly, blocked access with a deadline, or any deadline within
    about 3 days; low where nothing has to be done soon; otherwise normal, however angry the words.

    Raises:
        RecordError: when there is no such split, or the data file is missing or wrong (with file and line).
    """
    if split is not None and split not in SPLITS:
        raise RecordError(f"no split of the tickets is called {split!r}; choose one of {', '.join(SPLITS)}")
    return [one for one in read_records(DATA / "tickets.jsonl", Ticket) if split in (None, one.split)]


# -- data files -------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def read_records(path: Path, kind: type[T], *, key: str = "id") -> tuple[T, ...]:
    """Return the records of a data file, in order of the field `key`, which no two may share.

    The file has one JSON object per line. Both `.jsonl` files and `.json` arrays serve: brackets on lines of
    their own and commas at line ends are passed over.

    Raises:
        RecordError: when the file cannot be read, is empty, or has a record that is no `kind` or a second one
            with the same key; the message names file and line.
    """
    adapter = TypeAdapter(kind)
    records: dict[str, T] = {}
    for place, line in _lines(path):
        try:
            record = adapter.validate_json(line)
        except ValidationError as error:
            raise _wrong(place, "; ".join(map(_problem, error.errors()))) from None
        name = getattr(record, key)
        if name in records:
            raise _wrong(place, f"{name!r} is there already, on an earlier line")
        records[name] = record
    if not records:
        raise RecordError(f"{path.name} holds no records; restore it from the repository")
    return tuple(records[name] for name in sorted(records))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name} cannot be read: {error}; restore it from the repository") from error
    for number, line in enumerate(content.split("\n"), 1):
        record = line.strip().removesuffix(",")
        if record not in ("", "[", "]"):
            yield f"{path.name} line {number}", record


def _wrong(place: str, problem: str) -> RecordError:
    return RecordError(f"{place}: {problem}; correct that line of course_lib/desk/data, or restore the file")


def _problem(details: Mapping[str, Any]) -> str:
    field = ".".join(map(str, details["loc"]))
    return f"{field} is {details['input']!r:.60}: {details['msg']}" if field else str(details["msg"])
