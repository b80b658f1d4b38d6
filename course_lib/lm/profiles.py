"""Fault profiles: how slow, how limited and how unreliable the model behaves, under a name.

Main path: PROFILES["storm"], or build("mine", {"error_rate": 0.3}); `sim-large@storm` picks one.
"""

from __future__ import annotations

import re
import reprlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError

MALFORMED = ("missing_field", "broken_json", "prose_around", "cut_by_length")
"""Faults of the text: the answer arrives, but is not what was asked for."""

_OF_ANSWERS = ("error", "unavailable", "hang", "cut_before", "cut_midway")
FAULTS = (*_OF_ANSWERS, *MALFORMED, "stall", "no_finish", "broken_chunk")
"""Kinds of fault that are drawn at random, in the order of the draw; each has a field `<kind>_rate`."""

MAX_WINDOWS, MAX_FIRST = 20, 100

_LEAST, _MOST = 1e-6, 1e9
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
Window = tuple[float, float, Mapping[str, Any]]


class ProfileError(CourseError):
    """A profile that cannot be: an unknown field, a rate above 1, a percentile out of order."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What holds for every request to `model@name`. All zero (the default) is a perfect, instant service."""

    name: str
    """What follows the `@` in the model string."""
    ttft_p50_ms: float = 0.0
    """Time to the first token, median of a log-normal distribution. 0: none.

    A prompt whose beginning is in the simulated prompt cache waits less (endpoint/prefixes.py)."""
    ttft_p99_ms: float = 0.0
    """Its 99th percentile; 0 means the same as the median."""
    speed_p50_tokens_per_s: float = 0.0
    """Tokens written per second, median of a log-normal distribution over requests. 0: no limit."""
    speed_p99_tokens_per_s: float = 0.0
    """Its 99th percentile (the fast end); 0 means the same as the median."""
    limit_requests_per_s: float = 0.0
    """Above this, 429 with `Retry-After`; one second's worth may come at once. 0: no limit."""
    limit_tokens_per_s: float = 0.0
    """The same for tokens, prompt and completion together. 0: no limit."""
    error_rate: float = 0.0
    """Share of requests answered with status 500."""
    unavailable_rate: float = 0.0
    """Share answered with status 503."""
    hang_rate: float = 0.0
    """Share never answered: the client has to give up."""
    cut_before_rate: float = 0.0
    """Share whose connection is cut before any answer."""
    cut_midway_rate: float = 0.0
    """Share whose connection is cut in the middle of the answer."""
    missing_field_rate: float = 0.0
    """Share whose answer lacks its last output field."""
    broken_json_rate: float = 0.0
    """Share whose JSON ends in the middle of its last key; in other formats a field mark is damaged."""
    prose_around_rate: float = 0.0
    """Share whose answer is wrapped in chat ("Sure! ...")."""
    cut_by_length_rate: float = 0.0
    """Share cut off in the middle, with finish reason `length`."""
    stall_rate: float = 0.0
    """Share whose stream goes silent in the middle until the client leaves; without a stream, it hangs."""
    no_finish_rate: float = 0.0
    """Share whose text ends in the middle, and then as a whole one does, but without a finish reason."""
    broken_chunk_rate: float = 0.0
    """Share with one line of the stream that is no JSON; without a stream, the JSON is cut in the middle."""
    retry_after_s: float = 0.0
    """What each 429 and 503 asks the client to wait, true or not. 0: the true wait, and none with a 503."""
    first: tuple[str, ...] = ()
    """What befalls the client's first requests, one by one, before the rates say it: a kind of FAULTS,
    `rate_limited` or `ok`. Requests that a limit refuses are not counted."""
    timeline: tuple[Window, ...] = ()
    """(from_s, until_s, fields): what else holds between these seconds after the client's first request."""
    seed: int = 0
    """Another seed, another sequence of faults and times."""

    def at(self, second: float) -> Profile:
        """Return what holds `second` seconds after the client's first request; later windows win."""
        for from_s, until_s, fields_then in reversed(self.timeline):
            if from_s <= second < until_s:
                return replace(self, **fields_then)
        return self


_NUMBERS = tuple(f.name for f in fields(Profile) if f.name not in {"name", "timeline", "seed", "first"})


def build(name: str, values: Mapping[str, Any]) -> Profile:
    """Build a profile from plain values (as they come in JSON), and check every one.

    `timeline` is a list of `(from_s, until_s, {field: value})`.

    Raises:
        ProfileError: for a bad name, an unknown field, a value out of range, rates that sum above 1.
    """
    if not _NAME.fullmatch(name):
        raise ProfileError(
            f"profile name {reprlib.repr(name)} is not usable after an @; use up to 40 small letters, "
            "digits, _ and -, beginning with a letter"
        )
    try:
        profile = Profile(name=name, **_read(values, sorted(_READERS)))
        for _, _, fields_then in ((0, 0, {}), *profile.timeline):
            _check(replace(profile, timeline=(), **fields_then))
    except ProfileError as error:
        raise ProfileError(f"profile {name!r}: {error}") from None
    return profile


def as_values(profile: Profile) -> dict[str, Any]:
    """Return the profile as plain values that `build` accepts again, without its name."""
    return {key: value for key, value in asdict(profile).items() if value and key != "name"}


def split_model(model: str) -> tuple[str, str]:
    """Cut a model string into model and profile; without `@name` the profile is `calm`.

    >>> split_model("sim-large@storm"), split_model("vertex_ai/claude@20240229")
    (('sim-large', 'storm'), ('vertex_ai/claude@20240229', 'calm'))
    """
    head, at, tail = model.rpartition("@")
    return (head, tail) if at and head and _NAME.fullmatch(tail) else (model, "calm")


def _read(values: Mapping[str, Any], known: Sequence[str], where: str = "") -> dict[str, Any]:
    """Return the fields of a profile or of a window, each checked for itself."""
    if unknown := sorted(set(values) - set(known)):
        raise ProfileError(f"unknown field {unknown[0]!r}{where}; known: {', '.join(known)}")
    return {key: _READERS[key](key, value) for key, value in values.items()}


def _number(key: str, value: Any) -> float:
    if type(value) not in (int, float) or not (value == 0 or _LEAST <= value <= _MOST):
        raise ProfileError(f"{key} is 0, or a number from {_LEAST} to {_MOST:.0e}, not {reprlib.repr(value)}")
    return float(value)


def _seed(_key: str, value: Any) -> int:
    if type(value) is not int or abs(value) > 2**63:
        raise ProfileError(f"seed is a whole number of up to 63 bits, not {reprlib.repr(value)}")
    return int(value)


def _first(_key: str, kinds: Any) -> tuple[str, ...]:
    known = ("ok", "rate_limited", *FAULTS)
    if not isinstance(kinds, Sequence) or isinstance(kinds, str) or len(kinds) > MAX_FIRST:
        raise ProfileError(f"first is a list of up to {MAX_FIRST} kinds, not {reprlib.repr(kinds)}")
    if unknown := [kind for kind in kinds if kind not in known]:
        raise ProfileError(f"unknown kind {reprlib.repr(unknown[0])} in first; known: {', '.join(known)}")
    return tuple(kinds)


def _timeline(_key: str, entries: Any) -> tuple[Window, ...]:
    if not isinstance(entries, Sequence) or isinstance(entries, str) or len(entries) > MAX_WINDOWS:
        raise ProfileError(f"timeline is a list of up to {MAX_WINDOWS} entries, not {reprlib.repr(entries)}")
    return tuple(_window(entry) for entry in entries)


def _window(entry: Any) -> Window:
    if not isinstance(entry, Sequence) or len(entry) != 3 or not isinstance(entry[2], Mapping):
        found = reprlib.repr(entry)
        raise ProfileError(f"a timeline entry is (from_s, until_s, {{field: value}}), not {found}")
    from_s, until_s = (_number("a time in the timeline", second) for second in entry[:2])
    if until_s <= from_s:
        raise ProfileError(f"a timeline entry ends ({until_s} s) before it begins ({from_s} s)")
    if "first" in entry[2]:
        raise ProfileError("first counts the requests of the whole profile; give it beside the timeline")
    return (from_s, until_s, _read(entry[2], _NUMBERS, " in the timeline"))


_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(_NUMBERS, _number),
    "seed": _seed,
    "first": _first,
    "timeline": _timeline,
}


def _check(profile: Profile) -> None:
    rates = {f"{kind}_rate": getattr(profile, f"{kind}_rate") for kind in FAULTS}
    for key, rate in rates.items():
        if rate > 1:
            raise ProfileError(f"{key} is a share from 0 to 1, not {rate}")
    if (total := sum(rates.values())) > 1 + 1e-9:
        message = f"the rates sum to {total:.3g}, above 1; a request has one fault at most, so lower some"
        raise ProfileError(message)
    for low, high in (("ttft_p50_ms", "ttft_p99_ms"), ("speed_p50_tokens_per_s", "speed_p99_tokens_per_s")):
        p50, p99 = getattr(profile, low), getattr(profile, high)
        if p99 and p99 < p50:
            raise ProfileError(f"{high} ({p99}) is below {low} ({p50}); a p99 is at least the p50")
        if p99 and not p50:
            raise ProfileError(f"{high} is set, but not {low}; give both")


_SHIPPED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
PROFILES: Mapping[str, Profile] = {name: build(name, values) for name, values in _SHIPPED.items()}
"""The profiles that ship; a client adds its own beside them."""
