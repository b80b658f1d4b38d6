"""Northwind Parcel's tracking API: a small HTTP service over the shipments of the shop's orders.

Main path: `with running_carrier() as url:`, then GET {url}/v1/track/NP400213517.
Alone: `uvicorn course_lib.desk.carrier:app --port 8080`.
Errors are problem documents (RFC 9457). The carrier's clock stands at desk.TODAY, like the shop's.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from course_lib.desk import records

CARRIER_OPENAPI = Path(__file__).parent / "data" / "carrier_openapi.json"
NUMBER = re.compile(r"NP[0-9]{9}")

_LONGEST_DAYS = {"NL": 3, "BE": 3, "LU": 3, "DE": 3, "FR": 5, "AT": 5, "DK": 5, "GB": 10, "CH": 10, "NO": 10}
_LONGEST_DAYS_ELSEWHERE = 7
_MOVING = ("in_transit", "out_for_delivery")
_SATURDAY = 5
_STOP_WITHIN_S = 5  # a request that is still open then is cancelled


def eta(parcel: records.Shipment, country: str, today: date) -> date | None:
    """Return the day by which a moving parcel should arrive; None if it has stopped moving or is overdue."""
    if parcel.status not in _MOVING or not parcel.events:
        return None
    day = parcel.events[0].at.date()
    left = _LONGEST_DAYS.get(country, _LONGEST_DAYS_ELSEWHERE)
    while left:
        day += timedelta(days=1)
        left -= day.weekday() < _SATURDAY
    return day if day >= today else None


@lru_cache(maxsize=1)
def _parcels() -> Mapping[str, tuple[records.Order, records.Shipment]]:
    return {
        parcel.tracking_number: (order, parcel)
        for order in records.orders()
        for parcel in order.shipments
        if parcel.status != "label_created"  # packed, but the carrier has not seen it yet
    }


def _without_postcode(city: str) -> str:
    return " ".join(word for word in city.split() if not re.search(r"\d", word) and not word.isupper())


def _render(order: records.Order, parcel: records.Shipment) -> dict[str, Any]:
    *_, city, country = order.ship_to.split(", ")
    arrival = eta(parcel, country, records.TODAY)
    return {
        "number": parcel.tracking_number,
        "reference": order.id,
        "carrier": parcel.carrier,
        "status": parcel.status,
        "destination": {"city": _without_postcode(city), "country": country},
        "eta": arrival and arrival.isoformat(),
        "events": [
            {"at": event.at.isoformat(), "status": event.status, "place": event.place, "note": event.note}
            for event in parcel.events
        ],
    }


async def _track(request: Request) -> Response:
    number = request.path_params["number"]
    if not NUMBER.fullmatch(number):
        detail = f"{number!r} is not a tracking number; one is NP and nine digits, as in NP400213517"
        raise HTTPException(400, detail)
    if number not in _parcels():
        raise HTTPException(404, f"no parcel has the number {number}; it is known after its first scan")
    return JSONResponse(_render(*_parcels()[number]))


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok", "parcels": len(_parcels()), "today": records.TODAY.isoformat()})


_TITLES = {400: "Malformed tracking number", 404: "Not found", 405: "Method not allowed"}


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {
        "type": "about:blank",
        "title": _TITLES.get(error.status_code, "Error"),
        "status": error.status_code,
        "detail": error.detail,
        "instance": request.url.path,
    }
    return JSONResponse(body, error.status_code, error.headers, media_type="application/problem+json")


app = Starlette(
    routes=[Route("/v1/track/{number}", _track), Route("/v1/health", _health)],
    exception_handlers={HTTPException: _problem},
)


@contextmanager
def running_carrier() -> Iterator[str]:
    """Serve the API on a free port of loopback in a thread; give its address until the end of the block."""
    import uvicorn  # here, since the app alone does not need it

    with socket.create_server(("127.0.0.1", 0)) as listener:  # callers are queued until the thread is there
        options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "ws": "none"}
        server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=_STOP_WITHIN_S, **options))
        thread = threading.Thread(target=server.run, args=([listener],), name="carrier", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
