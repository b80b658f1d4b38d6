from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from course_lib.desk import records

ORDERS = records.orders()


def test_60_customers_and_200_orders_are_numbered_without_gaps_in_order_of_time() -> None:
    placed = [order.placed for order in ORDERS]

    assert len(records.products()) == 46
    assert [customer.id for customer in records.customers()] == [f"C-{n:03}" for n in range(1, 61)]
    assert [order.id for order in ORDERS] == [f"O-{n}" for n in range(10001, 10201)]
    assert placed == sorted(placed)


def test_an_order_has_the_prices_of_the_shop_and_nothing_happened_after_today_or_before_it() -> None:
    customers = {customer.id: customer for customer in records.customers()}
    prices = {product.sku: product.price_cents for product in records.products()}

    for order in ORDERS:
        customer = customers[order.customer_id]
        abroad = customer.country in ("GB", "CH", "NO")
        assert order.shipping_cents in ({1495} if abroad else {0, 295, 495, 995, 1495}), order.id
        assert all(prices[item.sku] == item.unit_price_cents for item in order.items), order.id
        assert customer.joined <= order.placed.date(), order.id
        for scan in (scan for shipment in order.shipments for scan in shipment.events):
            assert order.placed <= scan.at, order.id
            assert scan.at.date() <= records.TODAY, order.id
        assert order.returned is None or order.placed.date() < order.returned < records.TODAY, order.id


STATUS_OF_PARCELS = {
    "delivered": lambda parcels: parcels == {"delivered"},
    "shipped": lambda parcels: parcels - {"delivered", "label_created"},
    "processing": lambda parcels: parcels <= {"label_created"},
    "cancelled": lambda parcels: parcels == set(),
}


def test_the_status_of_an_order_agrees_with_its_parcels_and_the_money_paid_back() -> None:
    for order in ORDERS:
        is_paid_back = order.status in ("refunded", "partially_refunded", "cancelled")
        agrees = STATUS_OF_PARCELS.get(order.status, lambda _: True)
        assert agrees({shipment.status for shipment in order.shipments}), order.id
        assert (order.refunded_cents > 0) == is_paid_back, order.id
        assert order.status != "partially_refunded" or order.refunded_cents < order.total_cents, order.id


def test_all_of_an_order_is_in_its_parcels_and_each_of_northwind_s_numbers_is_used_once() -> None:
    parcels = [shipment for order in ORDERS for shipment in order.shipments]
    numbers = {shipment.tracking_number for shipment in parcels}

    for order in ORDERS:
        packed = Counter(sku for shipment in order.shipments for sku in shipment.skus)
        assert not packed or packed == Counter(item.sku for item in order.items), order.id
    assert len(numbers) == len(parcels)
    assert all(re.fullmatch(r"NP\d{9}", number) for number in numbers)
    assert {shipment.carrier for shipment in parcels} == {"Northwind Parcel"}


def test_payments_show_four_digits_at_most_and_addresses_are_kept_for_examples() -> None:
    payment = re.compile(r"(Visa|Mastercard|American Express) \*{4} \d{4}|[A-Za-z ]+")
    emails = [customer.email for customer in records.customers()]

    assert [order.id for order in ORDERS if not payment.fullmatch(order.payment)] == []
    assert len(set(emails)) == 60
    assert all(re.fullmatch(r"[a-z0-9._]+@example\.(com|org|net)", email) for email in emails)


def _copy(tmp_path: Path, name: str, line: int, **changes: Any) -> Path:
    """A copy of a data file with fields of the record on one line changed."""
    lines = (records.DATA / name).read_text(encoding="utf-8").split("\n")
    record = json.loads(lines[line - 1].strip().removesuffix(","))
    lines[line - 1] = json.dumps(record | changes) + ","
    path = tmp_path / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


TICKET, ORDER = ("tickets.jsonl", records.Ticket), ("orders.json", records.Order)
PARCEL = json.loads((records.DATA / "orders.json").read_text("utf-8"))[3]["shipments"][0]  # on line 5
WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (TICKET, {"category": "refunds"}, "category is 'refunds'"),
    (TICKET, {"text": "  "}, "text is '  '"),
    (TICKET, {"received": "2026-03-16T09:30+01:00"}, "received is '2026-03-16T09:30+01:00'"),
    (TICKET, {"mood": "cross"}, "mood is 'cross'"),
    (TICKET, {"id": "T-0001"}, "'T-0001' is there already"),
    (ORDER, {"total_cents": 1}, "total_cents is 1, but items, shipping and discount come to"),
    (ORDER, {"total_cents": "19700"}, "total_cents is '19700'"),
    (ORDER, {"refunded_cents": 9_999_999}, "more than the total"),
    (ORDER, {"shipments": [PARCEL | {"events": PARCEL["events"][::-1]}]}, "not in order of time"),
    (ORDER, {"shipments": [PARCEL | {"events": PARCEL["events"][:-1]}]}, "that of the last event"),
    (ORDER, {"items": [{"sku": "LM-500", "quantity": 1}]}, "items.0.unit_price_cents"),
]


@pytest.mark.parametrize(("file", "changes", "message"), WRONG, ids=[wrong[2] for wrong in WRONG])
def test_a_wrong_record_is_named_with_its_line(
    tmp_path: Path, file: Any, changes: dict[str, Any], message: str
) -> None:
    name, kind = file

    with pytest.raises(records.RecordError, match=f"{name} line 5: .*{re.escape(message)}"):
        records.read_records(_copy(tmp_path, name, 5, **changes), kind)


def test_a_broken_line_an_empty_file_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    broken, empty = tmp_path / "products.json", tmp_path / "empty.json"
    broken.write_text('[\n  {"sku": "TN-100",\n]\n', encoding="utf-8")
    empty.write_text("[\n]\n", encoding="utf-8")

    for path, message in (
        (broken, "products.json line 2: .*JSON"),
        (empty, "empty.json holds no records"),
        (tmp_path / "gone.json", "gone.json cannot be read"),
    ):
        with pytest.raises(records.RecordError, match=message):
            records.read_records(path, records.Product)
