"""Lantern's records as tables, so that there is something to ask in SQL.

Main path: load_desk(database) fills the tables; the model may read those in READABLE.
Names, e-mail addresses and postal addresses are in customer_contacts, which it may not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from course_lib import desk
from course_lib.adapters.data.connections import Connection
from course_lib.adapters.data.database import DatabaseAdapter

READABLE = ("customers", "order_items", "orders", "shipments", "tickets")

_TABLES = """
DROP TABLE IF EXISTS customers, customer_contacts, orders, order_items, shipments, tickets;
CREATE TABLE customers (
    id text PRIMARY KEY, country text, language text, joined date, loyalty_points integer);
CREATE TABLE customer_contacts (
    customer_id text PRIMARY KEY, name text, email text, street text, postcode text, city text);
CREATE TABLE orders (
    id text PRIMARY KEY, customer_id text, placed timestamp, status text, currency text,
    shipping_cents integer, discount_cents integer, total_cents integer, refunded_cents integer,
    returned date);
CREATE TABLE order_items (
    order_id text, sku text, product text, quantity integer, unit_price_cents integer);
CREATE TABLE shipments (
    order_id text, tracking_number text PRIMARY KEY, carrier text, status text, last_seen timestamp);
CREATE TABLE tickets (
    id text PRIMARY KEY, customer_id text, order_id text, received timestamp, channel text,
    category text, urgency text, text text)
"""


def load_desk(database: DatabaseAdapter) -> None:
    """Fill the tables anew, all of them or none, and let the model read those in READABLE.

    Raises:
        DatabaseGone: the database does not answer; the tables are as they were.
    """
    database.write(_load)
    database.allow(*READABLE)


def _load(connection: Connection) -> None:
    connection.execute("SET LOCAL client_min_messages = warning")
    connection.execute(_TABLES)
    names = {product.sku: product.name for product in desk.products()}
    people, orders = desk.customers(), desk.orders()
    _fill(
        connection,
        "customers",
        ((one.id, one.country, one.language, one.joined, one.loyalty_points) for one in people),
    )
    _fill(
        connection,
        "customer_contacts",
        ((one.id, one.name, one.email, one.street, one.postcode, one.city) for one in people),
    )
    _fill(
        connection,
        "orders",
        (
            (
                *(one.id, one.customer_id, one.placed, one.status, one.currency, one.shipping_cents),
                *(one.discount_cents, one.total_cents, one.refunded_cents, one.returned),
            )
            for one in orders
        ),
    )
    _fill(
        connection,
        "order_items",
        (
            (one.id, item.sku, names.get(item.sku), item.quantity, item.unit_price_cents)
            for one in orders
            for item in one.items
        ),
    )
    _fill(
        connection,
        "shipments",
        (
            (one.id, parcel.tracking_number, parcel.carrier, parcel.status, parcel.events[-1].at)
            for one in orders
            for parcel in one.shipments
        ),
    )
    _fill(
        connection,
        "tickets",
        (
            (
                *(one.id, one.customer_id, one.order_id, one.received),
                one.channel,
                one.category,
                one.urgency,
                one.text,
            )
            for one in desk.tickets()
        ),
    )


def _fill(connection: Connection, table: str, rows: Iterable[Sequence[Any]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
