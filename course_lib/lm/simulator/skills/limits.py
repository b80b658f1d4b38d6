"""Values within what a schema allows: formats, patterns, lengths, bounds; and the plainest ones.

Main path: validates(schema, value); limited(schema, number), within(schema, text), matching(pattern, text);
fallback(schema, name, definitions) is the plainest value of any schema.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from hashlib import sha256
from typing import Any

from course_lib.lm.simulator.prompts.schema import MOST, Schema

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


_READERS = {"date": date.fromisoformat, "date-time": datetime.fromisoformat, "time": time.fromisoformat}


def validates(schema: Schema, value: Any) -> bool:
    """Say whether a single value keeps the type, the format, the pattern and the bounds of a schema."""
    if schema.get("type") in ("integer", "number"):
        return isinstance(value, int | float) and limited(schema, value) == value
    if not isinstance(value, str) or within(schema, value) != value:
        return False
    if "pattern" in schema:
        return matching(str(schema["pattern"]), value, must=False) is not None
    form = str(schema.get("format") or "")
    if form in _READERS:
        try:
            return bool(_READERS[form](value))
        except ValueError:
            return False
    return form in ("", "email", "uri")


# -- the plainest value -------------------------------------------------------------------------------------

DEEPEST = 8


def resolve(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Follow `$ref` to the definition it names."""
    for _ in range(8):
        if "$ref" in schema:
            keyword, target = "$ref", definitions.get(schema["$ref"].rsplit("/", 1)[-1], {})
        elif len(schema.get("allOf", ())) == 1:
            keyword, target = "allOf", schema["allOf"][0]
        else:
            return schema
        schema = {**target, **{key: value for key, value in schema.items() if key != keyword}}
    return schema


def fallback(schema: Schema, name: str, definitions: Mapping[str, Schema], depth: int = 0) -> Any:
    """Return the plainest value that validates, for what a text does not say."""
    schema = resolve(schema, definitions)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if depth > DEEPEST:
        return None
    if options := schema.get("anyOf") or schema.get("oneOf"):
        kinds = [resolve(option, definitions) for option in options]
        is_nullable = any(kind.get("type") == "null" for kind in kinds)
        return None if is_nullable else fallback(kinds[0], name, definitions, depth + 1)
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        parts = schema.get("properties", {})
        return {part: fallback(child, part, definitions, depth + 1) for part, child in parts.items()}
    if kind == "array" or "prefixItems" in schema:
        places = [fallback(place, name, definitions, depth + 1) for place in schema.get("prefixItems", ())]
        return filled_up(places, schema.get("items") or {}, name, schema.get("minItems", 0), definitions)
    if kind in ("integer", "number"):
        return limited(schema, 0.0)
    if kind in ("boolean", "null"):
        return False if kind == "boolean" else None
    return _plainest_text(schema, name)


def _plainest_text(schema: Schema, name: str) -> str:
    if wanted := schema.get("format"):
        return plainest(wanted, name)
    if pattern := schema.get("pattern"):
        return matching(pattern, "", must=True) or UNSTATED
    return within(schema, UNSTATED)


def filled_up(
    values: Sequence[Any], item: Schema, name: str, least: int, definitions: Mapping[str, Schema]
) -> list[Any]:
    """Return the values, and the plainest ones behind them until there are as many as the schema wants."""
    found = list(values)
    while len(found) < least:
        found.append(_another(item, name, found, definitions))
    return found


def _another(item: Schema, name: str, have: Sequence[Any], definitions: Mapping[str, Schema]) -> Any:
    """Return one more item, other than those in `have` where the type has others."""
    if "enum" in item:
        return next((label for label in item["enum"] if label not in have), item["enum"][0])
    value = fallback(item, name, definitions)
    if value in have and isinstance(value, str) and not {"format", "pattern", "maxLength"} & item.keys():
        return f"{value} {len(have) + 1}"
    if value in have and type(value) in (int, float):
        return limited(item, value + len(have))
    return value
