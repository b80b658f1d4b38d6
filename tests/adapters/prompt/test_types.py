import pydantic
import pytest

from course_lib.adapters import Money, OrderId


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("12.50 EUR", "12.50 EUR"),
        ("EUR 12.5", "12.50 EUR"),
        ("€12,50", "12.50 EUR"),
        ("$1,250.00", "1250.00 USD"),
        ("1.250,00 €", "1250.00 EUR"),
        ("1,250 gbp", "1250.00 GBP"),
        ("-3 EUR", "-3.00 EUR"),
        ("0,12 EUR", "0.12 EUR"),
        ("CHF 1'250.50", "1250.50 CHF"),
        ({"amount": 7, "currency": "EUR"}, "7.00 EUR"),
    ],
)
def test_money_is_read_in_its_usual_spellings(text, shown):
    assert Money.model_validate(text).format() == shown


@pytest.mark.parametrize(
    "text",
    [
        *("12.50", "EUR", "", "twelve EUR", "EUR 12 USD", "12.505,5 5 EUR", "1.250 EUR", "1.2345 EUR"),
        *("0,125 EUR", "1,25,000 EUR", "1 2 EUR", {"amount": 1}),
    ],
)
def test_what_is_not_one_amount_in_one_currency_is_refused(text):
    with pytest.raises(pydantic.ValidationError, match=r"such as '12\.50 EUR'|may mean two|decimal|required"):
        Money.model_validate(text)


@pytest.mark.parametrize(
    "text", ["O-10001", "o10001", "#O-10001", "order 10001", " O 10001 ", {"number": "o10001"}]
)
def test_an_order_is_the_same_however_it_was_written(text):
    order = OrderId.model_validate(text)

    assert (order.number, order.format()) == ("O-10001", "O-10001")


@pytest.mark.parametrize(
    "text", ["O-1", "O-100011", "10001", "T-10001", "", {"number": "1"}, {"number": 10001}]
)
def test_what_is_not_an_order_is_refused(text):
    with pytest.raises(pydantic.ValidationError):
        OrderId.model_validate(text)
