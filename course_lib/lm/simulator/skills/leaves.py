"""Single texts and numbers out of an input, within the limits of a schema.

Main path: text_leaf(schema, name, desc, text) and number_leaf(...): the piece that the field wants, or None.
"""

from __future__ import annotations

import math
import re
import uuid
from hashlib import sha256

from course_lib.lm.simulator.prompts.schema import Schema
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.candidates import candidates, kinds_of

_UNSTATED = "not stated"
_FORMATS = {
    "date": "1970-01-01",
    "date-time": "1970-01-01T00:00:00",
    "time": "00:00:00",
    "duration": "P0D",
    "email": "unknown@example.com",
    "uri": "https://example.com",
    "ipv4": "192.0.2.1",
}


def text_leaf(schema: Schema, name: str, desc: str, text: str, *, must: bool = False) -> str | None:
    """Return the text that the field wants, in the format of the schema; None if it is not there."""
    if wanted := schema.get("format"):
        result = _formatted(wanted, text)
        plainest = str(uuid.UUID(bytes=sha256(name.encode()).digest()[:16], version=4))
        return result or (_FORMATS.get(wanted, plainest if "uuid" in wanted else _UNSTATED) if must else None)
    if pattern := schema.get("pattern"):
        return _matching(pattern, text, must=must)
    result = _wanted(name, desc, text)
    if result is None and not must:
        return None
    return within(schema, _UNSTATED if result is None else result)


def within(schema: Schema, text: str) -> str:
    """Cut or fill a text to the lengths that the schema allows."""
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if len(text) < least:
        text = (text + " " + _UNSTATED * (least // len(_UNSTATED) + 1))[: max(least, 1)].ljust(least, ".")
    return text if most is None else text[:most].rstrip().ljust(least, ".")


def _formatted(wanted: str, text: str) -> str | None:
    pieces = candidates(text)
    if wanted == "date":
        return pieces.dates[0][:10] if pieces.dates else None
    if wanted == "date-time":
        if not pieces.dates:
            return None
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


def _matching(pattern: str, text: str, *, must: bool) -> str | None:
    """Return a piece of `text` that satisfies `pattern`; if one must be, build the plainest."""
    try:
        compiled = re.compile(pattern)
    except re.error:
        return _UNSTATED
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
        times = int(least) if least else 0 if counted in ("*", "?") else 1
        out.append(_unit(unit) * times)
    return "".join(out)


def _unit(unit: str) -> str:
    if unit.startswith("("):
        return _built(unit[1:-1].removeprefix("?:").split("|")[0])
    if unit.startswith("["):
        inside = unit[1:-1].replace("\\d", "0").replace("\\w", "a")
        return inside[:1] if not inside.startswith("^") else "a"
    return {"\\d": "0", "\\w": "a", "\\s": " ", ".": "a"}.get(unit, unit.removeprefix("\\"))


def _wanted(name: str, desc: str, text: str) -> str | None:
    """Return the piece of `text` that a field of this name is about."""
    if not text.strip():
        return None
    pieces = candidates(text)
    kinds = kinds_of(name, desc)
    for kind in kinds:
        matches = pieces.of(kind)
        if kind == "id":
            matches = tuple(sorted(matches, key=lambda piece: piece[:1].lower() != name[:1].lower()))
        if matches:
            return matches[0]
    if kinds and kinds[0] in ("email", "url", "phone", "id", "date", "percent", "time"):
        return None
    if len(text) <= 60 and "\n" not in text:
        return text.strip().rstrip(".")
    return _bearing(f"{name.replace('_', ' ')} {desc}", text)


def _bearing(about: str, text: str) -> str:
    """Return the sentence of `text` that shares most with what the field is about; the first if none does."""
    wanted = words.features(about)

    def shared(sentence: str) -> float:
        return sum(own * wanted.get(feature, 0.0) for feature, own in words.features(sentence).items())

    return max(words.sentences(text), key=shared, default="")


def number_leaf(schema: Schema, name: str, desc: str, text: str) -> int | float | None:
    """Return the number that the field wants, moved into the schema's limits; None if the text has none."""
    pieces = candidates(text)
    wanted = [kind for kind in kinds_of(name, desc) if kind in ("money", "percent", "number")]
    for kind in wanted:
        numbers = (
            pieces.numbers if kind == "number" else [first_number(piece) or 0.0 for piece in pieces.of(kind)]
        )
        if numbers:
            return limited(schema, numbers[0])
    return limited(schema, pieces.numbers[0]) if pieces.numbers else None


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
