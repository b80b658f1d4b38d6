"""Arguments for a tool, out of the request and of what tools gave back.

Main path: from_request(param, request) and from_observations(param, request, seen): values, best first.
An argument whose description shows an example ("such as O-10001") takes only what has that shape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.arithmetic import work_out
from course_lib.lm.simulator.skills.candidates import candidates
from course_lib.lm.simulator.skills.limits import limited
from course_lib.lm.simulator.skills.observed import Leaf, Seen, is_command
from course_lib.lm.simulator.skills.roles import kinds_of

_EXAMPLE = re.compile(
    r"(?:such as|e\.g\.,?|for example|for instance|for one|like|example:?|as in|format:?)\s+[`\"'(]*"
    r"([^\s,;()\"'`]*\d[^\s,;()\"'`]*|\S+@\S+)",
    re.IGNORECASE,
)
_MAIL = re.compile(r"\be-?mail", re.IGNORECASE)
_WHOLE = re.compile(
    r"(?:search_?)?(?:query|question|q|text|topic|search|keywords?|terms?|input|prompt|message|sentence|content"
    r"|body|request|description|document|passage)(?:_text)?",
    re.IGNORECASE,
)
_SUM = re.compile(r"expr(?:ession)?|formula|calculation|equation", re.IGNORECASE)
_SQL = re.compile(r"sql|statement", re.IGNORECASE)
_SELECT = re.compile(r"\bselect\b.+?(?:;|$)", re.IGNORECASE | re.DOTALL)
_WHY = re.compile(r"reason|why|note|comment|justification|explanation|cause", re.IGNORECASE)
_PATH = re.compile(r"path|file|filename|file_name|folder|directory", re.IGNORECASE)
_PATH_TOKEN = re.compile(r"(?:[\w.-]+/)+[\w.-]*|\b[\w-]+\.[a-z]{1,5}\b|(?<=folder )\w+")
_MONEY = re.compile(
    r"(?:[$€£]|\b(?:EUR|USD|GBP|CHF)\b)\s?(\d[\d.,]*)|(\d[\d.,]*)\s?(?:[€£$]|(?:EUR|USD|GBP|euros?|dollars?)\b)",
    re.IGNORECASE,
)
_ALL = re.compile(r"\b(?:whole|full|fully|entire|all of|complete|everything|the lot)\b", re.IGNORECASE)
_STRICT = ("email", "url", "phone", "id", "date", "percent", "time")


def from_request(param: Field, clause: str, request: str) -> list[Any]:
    """Return the values that the request offers for an argument: those of the asking clause first."""
    values = _offered(param, clause)
    if not values and request != clause:
        values = _offered(param, request)
    is_plain = all(isinstance(one, str | int | float) for one in values)
    return list(dict.fromkeys(values)) if is_plain else values


def is_shaped(param: Field) -> bool:
    """Say whether only pieces of a certain form will do."""
    return bool(_shapes(param)) or bool(_MAIL.search(f"{param.name} {param.desc}"))


def _offered(param: Field, text: str) -> list[Any]:
    schema = param.schema
    if "enum" in schema or "const" in schema:
        return _listed(schema.get("enum") or [schema["const"]], text)
    kind = _kind(schema)
    if kind in ("integer", "number"):
        is_money = "money" in kinds_of(param.name, param.desc)
        numbers = _amounts(text) if is_money else candidates(text).numbers
        return [limited(schema, number) for number in numbers]
    if kind == "array":
        inner = Field(param.name.removesuffix("s"), schema.get("items") or {}, param.desc)
        values = _offered(inner, text)
        return [values] if values else []
    return [] if kind in ("boolean", "object") else _texts(param, text)


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "string")
    for option in schema.get("anyOf") or ():
        if option.get("type") not in (None, "null"):
            return str(option["type"])
    return str(kind or "string")


def _listed(labels: Sequence[Any], text: str) -> list[Any]:
    lower = text.lower()
    named = [label for label in labels if str(label).replace("_", " ").lower() in lower]
    if named:
        return named
    wanted = words.features(text)
    scores = {
        at: sum(wanted.get(f, 0.0) for f in words.features(str(label))) for at, label in enumerate(labels)
    }
    best = max(scores, key=lambda at: scores[at])
    return [labels[best]] if scores[best] > 0 else []


def _amounts(text: str) -> list[float]:
    return [_amount(first or second) for first, second in _MONEY.findall(text)]


def _amount(written: str) -> float:
    """Read an amount in either way of writing decimals.

    >>> _amount("39,50"), _amount("1,234.50"), _amount("1.234,50")
    (39.5, 1234.5, 1234.5)
    """
    written = written.rstrip(".,")
    decimals = re.search(r"[.,](\d{1,2})$", written)
    whole = re.sub(r"[.,]", "", written[: decimals.start()] if decimals else written)
    return float(f"{whole}.{decimals.group(1) if decimals else 0}")


def _texts(param: Field, text: str) -> list[Any]:
    values: list[Any] = []
    for shape, prefix, bare in _shapes(param):
        hits = [hit.group() for hit in re.finditer(shape, text, re.IGNORECASE)]
        values += [hit.upper() if prefix.isupper() else hit for hit in hits]
        if not hits and bare:  # "order 10154" for O-10154
            values += [f"{prefix}{hit}" for hit in re.findall(bare, text)]
    if _MAIL.search(f"{param.name} {param.desc}"):
        values += candidates(text).of("email")
    if values or is_shaped(param):
        return values
    name = param.name
    if _SQL.search(name):
        return [hit.strip().rstrip(";") for hit in _SELECT.findall(text)]
    if _SUM.search(name):
        worked = work_out(text)
        return [worked.expression] if worked else []
    if _WHY.fullmatch(name):
        return [reason(text)]
    if _PATH.search(name):
        return _PATH_TOKEN.findall(text)
    quoted = candidates(text).of("quoted")
    if _WHOLE.fullmatch(name):
        return [quoted[0] if quoted else " ".join(text.split())]
    kinds = kinds_of(name)
    for kind in kinds:
        if pieces := candidates(text).of(kind):
            return list(pieces)
    if quoted:
        return list(quoted)
    return [] if kinds and kinds[0] in (*_STRICT, "name") else [" ".join(text.split())]


def reason(text: str) -> str:
    """Return why, in the words of the request."""
    because = re.search(r"\b(?:because|since|as)\b\s+([^.!?\n]{4,100})", text)
    if because:
        return because.group(1).strip()
    long_sentences = [one for one in words.sentences(text) if len(one) > 12]
    return (long_sentences[0] if long_sentences else text.strip() or "asked for")[:120].rstrip(" .,")


@lru_cache(maxsize=512)
def _shapes_of(desc: str, pattern: str) -> tuple[tuple[str, str, str], ...]:
    values = []
    if pattern:
        values.append((rf"(?<![\w-]){pattern.strip('^$')}(?![\w-])", "", ""))
    for example in _EXAMPLE.findall(desc):
        example = example.strip(".:`'\"")
        if not re.search(r"\d", example) or re.search(r"@|/|\.[a-z]{1,5}$", example):
            continue  # an address, or a path, which has no fixed form
        shape = re.sub(r"\d+", lambda run: rf"\d{{{len(run.group())}}}", re.escape(example))
        head = re.fullmatch(r"([A-Za-z]+-)(\d+)", example)
        bare = rf"(?<![\w.,-])\d{{{len(head.group(2))}}}(?![\w.,-])" if head else ""
        prefix = head.group(1) if head else re.match(r"[A-Za-z]*", example).group()  # type: ignore[union-attr]
        values.append((rf"(?<![\w-]){shape}(?![\w-])", prefix, bare))
    return tuple(values)


def _shapes(param: Field) -> tuple[tuple[str, str, str], ...]:
    if _kind(param.schema) != "string":
        return ()
    examples = [str(one) for one in param.schema.get("examples") or ()]
    desc = param.desc + "".join(f" such as {one}" for one in examples)
    return _shapes_of(desc, str(param.schema.get("pattern") or ""))


# -- out of observations ----------------------------------------------------------------------------------


def from_observations(
    param: Field, request: str, seen: Sequence[Seen], tool: str = "", about: str = ""
) -> list[Any]:
    """Return the values that observations offer for an argument, best first; those as good stay in order.

    `about` is the part of the request that says which of several records is meant.
    """
    leaves = [leaf for one in reversed(seen) if not one.error for leaf in one.leaves]
    scored = [(_fits(param, leaf, about or request, tool), leaf) for leaf in leaves]
    fitting = [(score + _hinted(leaf, request), leaf.value) for score, leaf in scored if score > 0]
    values = [value for _, value in sorted(fitting, key=lambda one: -one[0])]
    return [value for at, value in enumerate(values) if value not in values[:at]]


def _fits(param: Field, leaf: Leaf, request: str, tool: str) -> float:
    kind = _kind(param.schema)
    if kind in ("integer", "number"):
        is_number = isinstance(leaf.value, int | float) and not isinstance(leaf.value, bool)
        if not is_number or (not leaf.value and "money" in kinds_of(param.name)):
            return 0.0
        return _fits_key(param, leaf, request, tool)
    if kind != "string" or not isinstance(leaf.value, str) or is_command(leaf.value):
        return 0.0
    if shapes := _shapes(param):
        return 3.0 if any(re.fullmatch(shape, leaf.value) for shape, _, _ in shapes) else 0.0
    return _fits_key(param, leaf, request, tool) if len(leaf.value) <= 80 else 0.0


def _fits_key(param: Field, leaf: Leaf, request: str, tool: str) -> float:
    key, name = leaf.key.lower(), param.name.lower()
    if key == name:
        return 4.0
    if "_" in key and re.search(rf"\b{re.escape(key)}\b", param.desc.lower()):
        wanted = set(words.stems(request)) if not _ALL.search(request) else set()
        return 3.0 + 0.3 * (leaf.record == 0) + 1.5 * bool(wanted & set(words.stems(leaf.named)))
    mine, its = name.split("_"), key.split("_")
    if len(mine) > 1 and len(its) > 1 and mine[-1] == its[-1] and mine[-1] in _UNITS:
        shared = set(words.stems(request)) & set(words.stems(" ".join(its[:-1])))
        shared -= set(words.stems(tool.replace("_", " ")))  # "refund" asks for one, it does not say how much
        return 4.5 if shared else 0.0
    return 2.0 if set(words.stems(name.replace("_", " "))) == set(words.stems(key.replace("_", " "))) else 0.0


_UNITS = frozenset(
    ("eur", "usd", "gbp", "cents", "kg", "g", "km", "m", "cm", "s", "ms", "days", "hours", "pct")
)


def _hinted(leaf: Leaf, request: str) -> float:
    """Weigh a record up that the request describes by a date, an amount or a word such as its status."""
    pieces = candidates(request)
    dates = {day[:10] for day in pieces.dates}
    amounts = _amounts(request)
    wanted = set(words.stems(request))
    bonus = 0.0
    for value in leaf.siblings:
        if value[:10] in dates:
            bonus += 3.0
        if re.fullmatch(r"\d+(?:\.\d+)?", value) and float(value) in amounts:
            bonus += 3.0
        is_state = len(value) <= 24 and re.fullmatch(r"[a-z_ ]+", value)
        if is_state and wanted & set(words.stems(value.replace("_", " "))):
            bonus += 1.0
    return bonus


def takes_any(param: Field) -> bool:
    """Say whether the argument takes a question or search words as they stand."""
    return _kind(param.schema) == "string" and not is_shaped(param) and bool(_WHOLE.fullmatch(param.name))
