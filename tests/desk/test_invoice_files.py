import re

import pytest

from course_lib import desk
from course_lib.desk import invoice_files

ORDERS = {order.id: order for order in desk.orders()}
DOCUMENTS = {document.id: document for document in desk.invoices()}
INVOICES = [document for document in DOCUMENTS.values() if re.fullmatch(r"LN\d\d-\d{5}", document.id)]
ROW = re.compile(r"^([A-Z]+(?:-\d+)?) .* (-?\d+) +(-?[\d,.]+) +(\d+) +(-?[\d,.]+)$", re.MULTILINE)


def cents(amount):
    return round(float(amount.replace(",", "")) * 100)


def printed_total(document):
    return cents(re.search(r"^TOTAL.* (-?[\d,.]+)$", document.text, re.MULTILINE)[1])


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_names_itself_its_order_and_its_customer(document):
    order = ORDERS[document.order_id]

    assert f"Number{document.id:>21}" in document.text
    assert f"Customer{order.customer_id:>19}" in document.text
    assert f"Order date{order.placed.date().isoformat():>17}" in document.text


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_print_is_80_columns_wide_and_adds_up_to_net_and_vat(document):
    rows = ROW.findall(document.text)
    head = document.text.index("Gross EUR")
    rate, *amounts = document.text[head:].splitlines()[1].split()
    net, vat, gross = map(cents, amounts)

    assert max(map(len, document.text.splitlines())) == 80
    assert all(cents(amount) == int(quantity) * cents(unit) for _, quantity, unit, _, amount in rows)
    assert sum(cents(amount) for *_, amount in rows) == printed_total(document) == gross == net + vat
    assert abs(vat - net * int(rate) / 100) <= 1


@pytest.mark.parametrize("document", INVOICES, ids=[document.id for document in INVOICES])
def test_an_invoice_charges_what_the_order_does(document):
    order = ORDERS[document.order_id]
    rows = ROW.findall(document.text)

    assert printed_total(document) == order.total_cents
    assert [(sku, int(quantity)) for sku, quantity, *_ in rows if "-" in sku] == [
        (item.sku, item.quantity) for item in order.items
    ]


def test_a_credit_note_refunds_what_the_order_says_was_refunded():
    for number in ("CR26-00002", "CR26-00017"):
        assert -printed_total(DOCUMENTS[number]) == ORDERS[DOCUMENTS[number].order_id].refunded_cents


def test_the_awkward_documents_are_there():
    rates = {match[4] for document in DOCUMENTS.values() for match in [ROW.search(document.text)]}

    assert len(DOCUMENTS) == 15
    assert rates == {"0", "19", "21", "23", "25"}
    assert "\f" in DOCUMENTS["LN24-00004"].text
    assert "page 2 of 2" in DOCUMENTS["LN24-00004"].text
    assert "Diego Ramrez" in DOCUMENTS["LN26-00152"].text
    assert sum(document.order_id == "O-10146" for document in DOCUMENTS.values()) == 3


def test_a_file_without_its_order_is_named(tmp_path, monkeypatch):
    (tmp_path / "LN26-09999.txt").write_text("LANTERN OUTDOOR B.V.\nTOTAL EUR 1.00\n", encoding="utf-8")
    monkeypatch.setattr(invoice_files, "FOLDER", tmp_path)

    with pytest.raises(invoice_files.BrokenInvoiceError, match=r"LN26-09999\.txt has no line .* O-10001"):
        desk.invoices()
