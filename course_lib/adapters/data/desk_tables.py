"""Lantern's records as tables, so that there is something to ask in SQL.

Main path: load_desk(database) fills the tables; the model may read those in READABLE.
Names, e-mail addresses and postal addresses are in customer_contacts, which it may not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from course_lib import desk
from course_lib.adapters.data.connections import Connection
from course_lib.adapters.data.database import DatabaseAdapter

READABLE = ("customers", "order_items", "orders", "shipments", "tickets")

_COLUMNS = {
    "customers": "id text PRIMARY KEY, country text, language text, joined date, loyalty_points integer",
    "customer_contacts": "customer_id text PRIMARY KEY, "
    "name text, email text, street text, postcode text, city text",
    "orders": "id text PRIMARY KEY, customer_id text, placed timestamp, status text, currency text, "
    "shipping_cents integer, discount_cents integer, total_cents integer, refunded_cents integer, "
    "returned date",
    "order_items": "order_id text, sku text, product text, quantity integer, unit_price_cents integer",
    "shipments": "order_id text, tracking_number text PRIMARY KEY, carrier text, status text, "
    "last_seen timestamp",
    "tickets": "id text PRIMARY KEY, customer_id text, order_id text, received timestamp, channel text, "
    "category text, urgency text, text text",
}


def _order_items() -> Iterable[tuple[Any, ...]]:
    names = {product.sku: product.name for product in desk.products()}
    for order in desk.orders():
        for item in order.items:
            yield order.id, item.sku, names.get(item.sku), item.quantity, item.unit_price_cents


def _shipments() -> Iterable[tuple[Any, ...]]:
    for order in desk.orders():
        for parcel in order.shipments:
            yield order.id, parcel.tracking_number, parcel.carrier, parcel.status, parcel.events[-1].at


def _attributes(records: Iterable[Any], columns: str) -> Iterable[tuple[Any, ...]]:
    """Return a row per record, from the attributes that have the columns' names."""
    return map(attrgetter(*(column.split()[0] for column in columns.split(", "))), records)


_ROWS: Mapping[str, Callable[[], Iterable[tuple[Any, ...]]]] = {
    "customers": lambda: _attributes(desk.customers(), _COLUMNS["customers"]),
    "customer_contacts": lambda: _attributes(desk.customers(), "id, name, email, street, postcode, city"),
    "orders": lambda: _attributes(desk.orders(), _COLUMNS["orders"]),
    "order_items": _order_items,
    "shipments": _shipments,
    "tickets": lambda: _attributes(desk.tickets(), _COLUMNS["tickets"]),
}


def load_desk(database: DatabaseAdapter) -> None:
    """Fill the tables anew, all of them or none, and let the model read those in READABLE.

    Raises:
        DatabaseGone: the database does not answer; the tables are as they were.
    """
    database.write(_load)
    database.allow(*READABLE)


def _load(connection: Connection) -> None:
    connection.execute("SET LOCAL client_min_messages = warning")
    for table, columns in _COLUMNS.items():
        connection.execute(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} ({columns})".encode())
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for row in _ROWS[table]():
                copy.write_row(row)
