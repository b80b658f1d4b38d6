"""What a notebook asks the endpoint beside answers: the ledger, a reset, profiles of its own, embeddings.

Main path: ledger(), reset(), profile("mine", error_rate=0.3), embed(texts).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from course_lib.lm import process, profiles
from course_lib.lm.calls import Ledger
from course_lib.lm.conduct import Judge, Verdict
from course_lib.lm.process import EndpointError
from course_lib.lm.profiles import Profile

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

_WAIT_S = 30.0
_ENDING_S = 1.0  # a child that closes connections may be on its way out
own_profiles: dict[str, Profile] = {}
"""This process's profiles, sent again to an endpoint that had to be restarted."""
_sent: set[tuple[str, int, str]] = set()


class RefusedError(EndpointError):
    """The endpoint answered, and said no."""


def ledger(since: int = 0) -> Ledger:
    """Return what the endpoint saw from this client, or only what ended after request number `since`.

    `before = lm.ledger().requests`, then some calls, then `lm.ledger(since=before)` shows those calls.
    """
    return Ledger.from_json(call("GET", f"/course/ledger?since={since}"))


def verdict(since: int = 0, deadline_s: float | None = None, **limits: Any) -> Verdict:
    """Judge this client by all that it asked, or by what ended after request number `since`.

    Ask when the client is done. `deadline_s` is what it had for one question, retries included; without it,
    nothing is early or late. `limits` are the fields of conduct.Judge: most_wait_s, most_sent, most_ratio.
    """
    seen = Ledger.from_json(call("GET", f"/course/ledger?since={since}&figures=1"))
    return Judge([each for each in seen.calls if each.question], deadline_s, **limits).verdict()


def reset() -> None:
    """Begin anew: empty ledger, every fault sequence and sample count from its start. Profiles stay."""
    call("POST", "/course/reset", {})


def profile(name: str, **values: Any) -> Profile:
    """Define a fault profile of this client's own, for use as `sim-large@name`; returns it.

    Fields are those of lm.profiles.Profile. Defining a name again replaces it and begins its sequence anew.

    Raises:
        ProfileError: for an unknown field or a value out of range.
    """
    made = profiles.build(name, values)
    _send(made)
    own_profiles[name] = made
    return made


def restore_profiles() -> None:
    """Send the endpoint the profiles that it does not know; a restarted one knows none."""
    for name, made in own_profiles.items():
        if (process.url(), process.starts(), name) not in _sent:
            _send(made)


def _send(made: Profile) -> None:
    call("POST", "/course/profiles", {"name": made.name, **profiles.as_values(made)})
    _sent.add((process.url(), process.starts(), made.name))


def embed(texts: Sequence[str], *, model: str = "sim-embed") -> list[list[float]]:
    """Return one vector of unit length per text, in order."""
    answer = call("POST", "/v1/embeddings", {"model": model, "input": list(texts)})
    return [row["embedding"] for row in answer["data"]]


def is_answering(*, within_s: float) -> bool:
    """Say whether the endpoint answers within this time, and not later or never."""
    try:
        call("GET", "/course/health", wait_s=within_s)
    except EndpointError:
        return False
    return True


def call(method: str, path: str, body: Mapping[str, Any] | None = None, *, wait_s: float = _WAIT_S) -> Any:
    """Ask the endpoint something and return its JSON.

    Raises:
        RefusedError: with the endpoint's own message.
        EndpointError: when it cannot be reached.
    """
    with _reported(), _opened(method, path, body, wait_s) as response:
        return json.loads(response.read())


@contextmanager
def lines(path: str) -> Iterator[Any]:
    """Ask for something that goes on, and yield it: iterating gives its lines, which may be long in coming.

    Raises:
        EndpointError: as in `call`.
    """
    with _reported():
        response = _opened("GET", path, None, None)
    with response:
        yield response


def _opened(method: str, path: str, body: Mapping[str, Any] | None, wait_s: float | None) -> Any:
    import urllib.request

    base = _base()
    request = urllib.request.Request(  # noqa: S310  (process.url() admits http and https only)
        base + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {process.key()}", "Content-Type": "application/json"},
    )
    is_near = base.startswith(("http://127.", "http://localhost", "http://[::1]"))
    return _opener(is_near).open(request, timeout=wait_s)


def _base() -> str:
    return process.url().removesuffix("/v1")


@contextmanager
def _reported() -> Iterator[None]:
    """Turn what urllib raises into an EndpointError."""
    import urllib.error

    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            raise RefusedError(_message(error.read(), error.code)) from None
    except (OSError, ValueError) as error:
        process.check_alive(grace_s=_ENDING_S)
        raise EndpointError(
            f"the model's endpoint at {_base()} cannot be reached ({error}); {_remedy()}"
        ) from None


@cache  # each loads all certificates of the machine, which takes 60 ms with Python 3.13
def _opener(is_near: bool) -> OpenerDirector:
    """Loopback is never reached through a proxy, whatever the environment says."""
    from urllib.request import ProxyHandler, build_opener

    return build_opener(ProxyHandler({} if is_near else None))


def _message(raw: bytes, status: int) -> str:
    try:
        return str(json.loads(raw)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the endpoint answered with status {status} and no reason; {_remedy()}"


def _remedy() -> str:
    if os.environ.get("COURSE_LM_URL"):
        return "check COURSE_LM_URL, or unset it to use an endpoint of your own"
    return "call lm.stop() and lm.connect() for a new one"
