"""Values within what a schema allows: formats, patterns, lengths, bounds; and the plainest ones.

Main path: limited(schema, number), within(schema, text), formatted("date", text), matching(pattern, text).
"""

from __future__ import annotations

import math
import re
import uuid
from hashlib import sha256

from course_lib.lm.simulator.prompts.schema import MOST, Schema
from course_lib.lm.simulator.skills.candidates import candidates

UNSTATED = "not stated"
_FORMATS = {
    "date": "1970-01-01",
    "date-time": "1970-01-01T00:00:00",
    "time": "00:00:00",
    "duration": "P0D",
    "email": "unknown@example.com",
    "uri": "https://example.com",
    "ipv4": "192.0.2.1",
}


def within(schema: Schema, text: str) -> str:
    """Cut or fill a text to the lengths that the schema allows."""
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if len(text) < least:
        text = (text + " " + UNSTATED * (least // len(UNSTATED) + 1))[: max(least, 1)].ljust(least, ".")
    return text if most is None else text[:most].rstrip().ljust(least, ".")


def plainest(wanted: str, name: str) -> str:
    """Return a text in a format that claims nothing."""
    unique = str(uuid.UUID(bytes=sha256(name.encode()).digest()[:16], version=4))
    return _FORMATS.get(wanted, unique if "uuid" in wanted else UNSTATED)


def formatted(wanted: str, text: str) -> str | None:
    """Return the first piece of a text that is in a format, or None."""
    pieces = candidates(text)
    if wanted in ("date", "date-time") and not pieces.dates:
        return None
    if wanted == "date":
        return pieces.dates[0][:10]
    if wanted == "date-time":
        first = pieces.dates[0]
        clock = next(iter(pieces.of("time")), "") if "T" not in first else ""
        clock = clock if re.fullmatch(r"[012]?\d:\d{2}(:\d{2})?", clock) else "00:00:00"
        return first if "T" in first else f"{first}T{clock.zfill(5) if len(clock) < 6 else clock.zfill(8)}"
    if wanted == "time":
        plain = (piece for piece in pieces.of("time") if re.fullmatch(r"[01]?\d:\d{2}(:\d{2})?", piece))
        time: str | None = next(plain, None)
        return time.zfill(5) if time and len(time) < 6 else time
    kind = {"email": "email", "uri": "url"}.get(wanted)
    return next(iter(pieces.of(kind)), None) if kind else None


def matching(pattern: str, text: str, *, must: bool) -> str | None:
    """Return a piece of `text` that satisfies `pattern`; if one must be, build the plainest."""
    try:
        compiled = re.compile(pattern)
    except re.error:
        return UNSTATED
    for piece in re.findall(r"\S+", text):
        bare: str = piece.strip(".,;:!?()[]\"'")
        if compiled.search(bare):
            return bare
    return _built(pattern) if must else None


def _built(pattern: str) -> str:
    r"""Build a text for a simple pattern: literals, classes, `\d`, `\w` and counts."""
    out: list[str] = []
    token = re.compile(r"(\\.|\[[^\]]*\]|\([^()]*\)|.)(\{(\d+)(?:,\d*)?\}|[+*?])?")
    for part in token.finditer(pattern.strip("^$")):
        unit, counted, least = part.groups()
        times = min(int(least[:9]), MOST) if least else 0 if counted in ("*", "?") else 1
        out.append(_unit(unit) * times)
    return "".join(out)


def _unit(unit: str) -> str:
    if unit.startswith("("):
        return _built(unit[1:-1].removeprefix("?:").split("|")[0])
    if unit.startswith("["):
        inside = unit[1:-1].replace("\\d", "0").replace("\\w", "a")
        return inside[:1] if not inside.startswith("^") else "a"
    return {"\\d": "0", "\\w": "a", "\\s": " ", ".": "a"}.get(unit, unit.removeprefix("\\"))


def first_number(text: str) -> float | None:
    """Return the first number that is written in figures, with commas between thousands or without."""
    digits = re.search(r"-?\d[\d,]*(?:\.\d+)?", text)
    return float(digits.group().replace(",", "")) if digits else None


def limited(schema: Schema, value: float) -> int | float:
    """Move a number into the limits of a schema, whole where the schema wants it whole."""
    whole = schema.get("type") == "integer"
    step = schema.get("multipleOf") or (1 if whole else 0)
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    nudge = step or 1e-3
    if (bound := schema.get("exclusiveMinimum")) is not None:
        low = max(low, bound + nudge)
    if (bound := schema.get("exclusiveMaximum")) is not None:
        high = min(high, bound - nudge)
    value = min(max(value, low), high)
    if step:
        value = round(value / step) * step
        if value < low:
            value = math.ceil(low / step) * step
        elif value > high:
            value = math.floor(high / step) * step
    return int(value) if whole or ("x-whole" in schema and value == int(value)) else float(value)
