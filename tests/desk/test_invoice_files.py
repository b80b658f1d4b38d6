import re

import pytest

from course_lib import desk

ORDERS = {order.id: order for order in desk.orders()}
DOCUMENTS = {document.id: document for document in desk.invoices()}
ROW = re.compile(r"^([A-Z]+(?:-\d+)?) .* (-?\d+) +(-?[\d,.]+) +(\d+) +(-?[\d,.]+)$", re.MULTILINE)


def cents(amount):
    return round(float(amount.replace(",", "")) * 100)


def printed_total(document):
    return cents(re.search(r"^TOTAL.* (-?[\d,.]+)$", document.text, re.MULTILINE)[1])


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_print_names_its_order_is_80_columns_wide_and_adds_up_to_net_and_vat(document):
    order = ORDERS[document.order_id]
    rows = ROW.findall(document.text)
    head = document.text.index("Gross EUR")
    rate, *amounts = document.text[head:].splitlines()[1].split()
    net, vat, gross = map(cents, amounts)

    assert f"Number{document.id:>21}" in document.text
    assert f"Customer{order.customer_id:>19}" in document.text
    assert f"Order date{order.placed.date().isoformat():>17}" in document.text
    assert max(map(len, document.text.splitlines())) == 80
    assert all(cents(amount) == int(quantity) * cents(unit) for _, quantity, unit, _, amount in rows)
    assert sum(cents(amount) for *_, amount in rows) == printed_total(document) == gross == net + vat
    assert abs(vat - net * int(rate) / 100) <= 1
    if document.id.startswith("LN"):  # an invoice charges what the order does
        charged = [(sku, int(quantity)) for sku, quantity, *_ in rows if "-" in sku]
        assert printed_total(document) == order.total_cents
        assert charged == [(item.sku, item.quantity) for item in order.items]
    elif (
        "No money moves by this document" not in document.text
    ):  # a credit note refunds what the order says was refunded
        assert -printed_total(document) == order.refunded_cents


def test_the_awkward_documents_are_there():
    rates = {match[4] for document in DOCUMENTS.values() for match in [ROW.search(document.text)]}

    assert len(DOCUMENTS) == 15
    assert rates == {"0", "19", "21", "23", "25"}
    assert "\f" in DOCUMENTS["LN24-00004"].text
    assert "page 2 of 2" in DOCUMENTS["LN24-00004"].text
    assert "Diego Ramrez" in DOCUMENTS["LN26-00152"].text
    assert sum(document.order_id == "O-10146" for document in DOCUMENTS.values()) == 3
