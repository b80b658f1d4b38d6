"""Lantern's records as tables, so that there is something to ask in SQL.

Main path: load_desk(database) fills the tables; the model may read those in READABLE.
Names, e-mail addresses and postal addresses are in customer_contacts, which it may not read.
"""

from __future__ import annotations

from collections.abc import Iterable
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


def _rows() -> dict[str, Iterable[tuple[Any, ...]]]:
    """Return the rows of each table, their values in the order of its columns."""
    orders, names = desk.orders(), {product.sku: product.name for product in desk.products()}
    items = ((order.id, names.get(item.sku), item) for order in orders for item in order.items)
    parcels = ((order.id, parcel) for order in orders for parcel in order.shipments)
    return {
        "customers": _attributes(desk.customers(), _COLUMNS["customers"]),
        "customer_contacts": _attributes(desk.customers(), "id, name, email, street, postcode, city"),
        "orders": _attributes(orders, _COLUMNS["orders"]),
        "order_items": ((key, it.sku, name, it.quantity, it.unit_price_cents) for key, name, it in items),
        "shipments": (
            (key, it.tracking_number, it.carrier, it.status, it.events[-1].at) for key, it in parcels
        ),
        "tickets": _attributes(desk.tickets(), _COLUMNS["tickets"]),
    }


def _attributes(records: Iterable[Any], columns: str) -> Iterable[tuple[Any, ...]]:
    """Return a row per record, from the attributes that have the columns' names."""
    return map(attrgetter(*(column.split()[0] for column in columns.split(", "))), records)


def load_desk(database: DatabaseAdapter) -> None:
    """Fill the tables anew, all of them or none, and let the model read those in READABLE."""
    database.write(_load)
    database.allow(*READABLE)


def _load(connection: Connection) -> None:
    connection.execute("SET LOCAL client_min_messages = warning")
    for table, rows in _rows().items():
        create = f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} ({_COLUMNS[table]})"
        connection.execute(create.encode())
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
