import json
import re
from datetime import date

import httpx
import pytest

from course_lib import desk
from course_lib.desk import carrier, running_carrier

PARCELS = [(order, parcel) for order in desk.orders() for parcel in order.shipments]
SHIPPED = [(order, parcel) for order, parcel in PARCELS if parcel.status != "label_created"]


@pytest.fixture(scope="module")
def api():
    with running_carrier() as url, httpx.Client(base_url=url) as client:
        yield client


def test_every_shipped_parcel_of_every_order_can_be_tracked(api):
    answers = [api.get(f"/v1/track/{parcel.tracking_number}") for _, parcel in SHIPPED]

    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["reference"] for answer in answers] == [order.id for order, _ in SHIPPED]
    assert all(answer.json()["destination"]["city"] for answer in answers)
    body = api.get("/v1/track/NP400213517").json()
    assert (body["reference"], body["status"], body["eta"]) == ("O-10166", "delivered", None)
    assert (body["events"][-1]["at"], body["events"][-1]["status"]) == ("2026-02-26T11:02:00", "delivered")
    assert api.get("/v1/health").json() == {"status": "ok", "parcels": len(SHIPPED), "today": "2026-03-16"}


PACKED = next(parcel for _, parcel in PARCELS if parcel.status == "label_created").tracking_number
PROBLEMS = [
    ("GET", f"/v1/track/{PACKED}", 404, "known after its first scan"),
    *[
        ("GET", f"/v1/track/{number}", 400, "one is NP and nine digits, as in NP400213517")
        for number in ("NP12", "np400213517", "O-10166", "NP4002135170", "NP40021351x", "%00", "NP٤00213517")
    ],
    ("GET", "/", 404, ""),
    ("GET", "/v1/track/a/b", 404, ""),
    ("POST", "/v1/health", 405, ""),
]


@pytest.mark.parametrize(("method", "path", "status", "words"), PROBLEMS)
def test_what_cannot_be_answered_is_a_problem_that_says_why(api, method, path, status, words):
    answer = api.request(method, path)

    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def test_a_parcel_on_its_way_has_a_day_of_arrival_and_an_overdue_one_has_none():
    days = {
        order.id: carrier.eta(parcel, order.ship_to[-2:], desk.TODAY)
        for order, parcel in SHIPPED
        if parcel.status == "in_transit"
    }

    assert days["O-10193"] == date(2026, 3, 27)  # to Swansea, packed on Friday 13 March: 10 working days
    assert days["O-10158"] is None  # to Thurso, no scan since 18 February
    assert all(day is None or day >= desk.TODAY for day in days.values())


def test_the_openapi_document_describes_what_is_served(api):
    document = json.loads(carrier.CARRIER_OPENAPI.read_text("utf-8"))
    parcel = document["components"]["schemas"]["Parcel"]
    statuses = document["components"]["schemas"]["Status"]["enum"]

    assert set(document["paths"]) == {"/v1/track/{number}", "/v1/health"}
    assert parcel["required"] == list(api.get("/v1/track/NP400213517").json())
    assert {event.status for _, shipped in SHIPPED for event in shipped.events} <= set(statuses)
    assert re.fullmatch(parcel["properties"]["number"]["pattern"], "NP400213517")


def test_two_carriers_run_side_by_side_and_stop_when_left():
    with running_carrier() as one, running_carrier() as two:
        assert one != two
        assert httpx.get(f"{two}/v1/health").status_code == 200

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{one}/v1/health")
