"""Checks of values: right ones in their normal form, wrong ones with a reason that helps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.adapters.tools.validation import validate, validator

VALID = {
    ("iban", "DE89 3704 0044 0532 0130 00"): "DE89370400440532013000",
    ("iban", "gb82 west 1234 5698 7654 32"): "GB82WEST12345698765432",
    ("iban", "EG380019000500000000263180002"): "EG380019000500000000263180002",
    ("email", "o'brien@shop.example"): "o'brien@shop.example",
    ("email", " Ann.B+shop@Mail.Lantern.EXAMPLE "): "Ann.B+shop@mail.lantern.example",
    ("order", "O-10001"): "O-10001",
    ("date", "2024-02-29"): "2024-02-29",
    ("phone", "+49 (30) 90-1820"): "+4930901820",
    ("phone", "+49 (0)30 901820"): "+4930901820",
    ("phone", "0044 20 7946 0958"): "+442079460958",
}
NOT_VALID = {
    ("iban", "DE88 3704 0044 0532 0130 00"): "check digit",
    ("iban", "DE89 3704 0044 0532 0130 0"): "as in DE89",
    ("iban", "US89370400440532013000"): "as in DE89",
    ("email", "ann..b@shop.de"): "looks like name@",
    ("email", "a@shop.de\nbcc: b@shop.de"): "invisible character",
    ("email", f"{'a' * 65}@shop.de"): "too long",
    ("order", "O-1000\u0661"): "arabic-indic digit one",
    ("date", "2026-02-29"): "no day of the calendar",
    ("phone", "030 901820"): "lacks its country",
    ("phone", "+49 30 901820 ext. 5"): "only digits",
    ("order", "x" * 500): "longer than 200",
}


@pytest.mark.parametrize(("asked", "normal"), VALID.items())
def test_a_right_value_is_given_in_its_normal_form(asked, normal):
    assert validate(*asked) == f"valid: {normal}"


@pytest.mark.parametrize(("asked", "words"), NOT_VALID.items(), ids=range(len(NOT_VALID)))
def test_a_wrong_value_comes_with_a_reason(asked, words):
    verdict = validate(*asked)

    assert verdict.startswith("not valid: ")
    assert words in verdict


def test_the_tool_answers_in_words():
    tool = validator()

    assert tool(kind="order", value="O-10001") == "valid: O-10001"
    assert tool(kind="date", value="soon").startswith("not valid: 'soon' is no day of the calendar; write")
    assert tool(kind="colour", value="red").startswith("refused: bad argument: kind")


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["iban", "email", "order", "date", "phone"]), st.text(max_size=40))
def test_any_value_gets_a_verdict(kind, value):
    assert validate(kind, value).startswith(("valid: ", "not valid: "))
