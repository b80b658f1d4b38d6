"""A finished answer: worth keeping or not, what it cost, and how it looks outside: JSON, and no pickle.

Main path: encode(record, key=...) -> bytes for Redis or a file; decode(blob, key=...) -> the record.
refusal(value) -> why it is not worth keeping, or None; Entry.of(record, ...) -> entry.packed(key)
-> unpacked(bytes, key) -> Hit, whose record is the caller's own.
Source: dspy.clients.call_result.CallResult.dump (DSPy 3.4.1), the record that most answers come as.

Layout: 4 bytes that name format and version, 1 byte of flags, 16 bytes of BLAKE2b, the JSON (by zlib when
long). Of an entry, that is one line with what travels beside the record, then the record. The checksum covers
the key too: a value cut short, edited, or copied to another key is refused. Without a signing key it tells
accidents, not forgeries. Nothing hides the text from readers of the store.
"""

from __future__ import annotations

import copy
import math
import sys
import zlib
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, NamedTuple

import orjson
from dspy.clients.call_result import CACHE_FORMAT, CallResult

from course_lib.caching.invalidation import Stamp
from course_lib.caching.memory import deep_size_bytes
from course_lib.caching.tiers import CLOCKS_DIFFER_S, LARGEST_BYTES, UTF_8
from course_lib.errors import CourseError
from course_lib.lm import prices, tokens

_COMPRESS_OVER_BYTES = 4096
_MAGIC = b"ADC\x03"
_ZLIB, _SIGNED = 1, 2
_SUM_BYTES = 16
_HEAD_BYTES = len(_MAGIC) + 1 + _SUM_BYTES
_AS_IS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS

_UNFINISHED = {
    "length": "cut off at max_tokens",
    "incomplete": "cut off at max_tokens",  # the word of OpenAI's Responses API
    "content_filter": "cut off by a content filter",
    "error": "ended in an error",
}


def is_record(value: Any) -> bool:
    """Return whether this is an answer as DSPy's own engines record it."""
    return isinstance(value, dict) and "_dspy_format" in value


def loaded(value: Any) -> CallResult | None:
    """Return a record as DSPy reads it; None for what it, or one of its adapters, cannot read."""
    try:
        result = CallResult.load(value)
        _reported(value)
        is_right = (
            value["_dspy_format"] == CACHE_FORMAT and result.outputs and all(map(_is_output, result.outputs))
        )
        return result if is_right else None
    except Exception:  # border: in a shared store, anybody may have written anything
        return None


def _is_output(output: Any) -> bool:
    """Return whether an adapter of DSPy can read this candidate."""
    if not isinstance(output, dict):
        return output is None or isinstance(output, str)
    functions = [call["function"] for call in output.get("tool_calls") or ()]
    texts = [part for function in functions for part in (function["name"], function["arguments"])]
    return all(isinstance(each, str) for each in (output["text"] or "", *texts))


def refusal(value: Any) -> str | None:
    """Return why an answer is not worth keeping, or None; what is no answer of a model is kept."""
    if value is None:
        return "nothing"
    unfinished = next((_UNFINISHED[end] for end in _ends(value) if end in _UNFINISHED), None)
    return unfinished or (None if all(_texts(value)) else "empty")


def _ends(value: Any) -> Iterator[str]:
    """Yield how each response ended, in the words of whichever interface it came from."""
    for response in value["responses"] or () if is_record(value) else (value,):
        for part in (response, *_listed(_get(response, "choices"))):
            yield str(_get(part, "finish_reason"))
            yield str(_get(part, "status"))


def _texts(value: Any) -> Iterator[bool]:
    """Yield for each candidate whether it says or calls anything."""
    if is_record(value):
        messages = _listed(value.get("outputs")) or [""]
    else:
        messages = [_get(choice, "message") or choice for choice in _listed(_get(value, "choices"))]
    for each in messages:
        text = each if isinstance(each, str) else _get(each, "content") or _get(each, "text")
        yield bool(str(text or "").strip() or _get(each, "tool_calls"))


def as_json(value: Any) -> bytes | None:
    """Return JSON from which the value comes back as it was; None if there is none.

    >>> as_json({"a": [1, None, "x"]}), as_json((1, 2)), as_json({1: 2}), as_json(float("nan"))
    (b'{"a":[1,null,"x"]}', None, None, None)
    """
    try:
        text = orjson.dumps(value, option=_AS_IS)
        return bytes(memoryview(text)) if orjson.loads(text) == value else None  # orjson's own fills 4 KB
    except (TypeError, RecursionError):
        return None


def cost_of(value: Any) -> tuple[int, float]:
    """Return the tokens and dollars that an answer cost when it was asked for; 0 for what nobody knows."""
    read, written, cost = _reported(value)
    if cost is None:
        cost = (_get(value, "_hidden_params") or {}).get("response_cost")
    name = _get(value, "response_model") or _get(value, "model") or ""
    model = str(name).removeprefix("course/").partition("@")[0]
    if cost is None and model in prices.PRICES:  # what the course's own models would cost
        cost = prices.cost_usd(model, read, written)
    return read + written, float(cost or 0.0)


def _reported(value: Any) -> tuple[int, int, float | None]:
    """Return the tokens sent and written, and the dollars, that an answer itself tells."""
    usage, cost = _get(value, "usage") or {}, _get(value, "cost")
    sent = int(_get(usage, "prompt_tokens") or _get(usage, "input_tokens") or 0)
    written = int(_get(usage, "completion_tokens") or _get(usage, "output_tokens") or 0)
    sent, written, _ = tokens.reported({"prompt_tokens": sent, "completion_tokens": written})
    return sent, written, None if cost is None else float(cost or 0.0)


def _get(thing: Any, name: str) -> Any:
    if type(thing) is dict or isinstance(thing, Mapping):  # a dict first: asking for a Mapping takes long
        return thing.get(name)
    return getattr(thing, name, None)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


# -- as bytes ---------------------------------------------------------------------------------------------


class NotOurs(CourseError):  # noqa: N818  an everyday finding in a shared store, not a mistake
    """The bytes were not written by encode() with this key, or are damaged."""


class NotPlain(CourseError):  # noqa: N818  a property of the record
    """The record would not come back from JSON as it is."""


class Entry(NamedTuple):
    """One answer that the cache keeps."""

    body: Any
    """JSON, decoded for each caller (a seventh of the time of a deep copy), or an object."""
    is_json: bool
    tags: tuple[str, ...]
    """Names under which it is dropped."""
    stamp: Stamp
    """Which invalidations were known when its question was asked."""
    kept_s: float
    """When it was kept, in seconds since 1970."""
    ttl_s: float | None
    """How long it counts from then on; None: as long as there is room."""
    tokens: int
    """What it took when it was asked for."""
    cost_usd: float

    @classmethod
    def of(
        cls, value: Any, *, tags: tuple[str, ...], stamp: Stamp, kept_s: float, ttl_s: float | None
    ) -> Entry:
        """Return the entry of an answer, independent of the object given."""
        text = as_json(value)
        body = copy.deepcopy(value) if text is None else text
        return cls(body, text is not None, tags, stamp, kept_s, ttl_s, *cost_of(value))

    def answer(self) -> Any:
        """Return the answer as an object of the caller's own, marked as a hit as DSPy marks it."""
        return orjson.loads(self.body) if self.is_json else copied(self.body)

    def left_s(self, now_s: float) -> float | None:
        """Return how long it still counts (None: without end); 0 if it does not, or was kept in the future.

        A clock that was set back would prolong its life: what seems to come from the future is over.
        """
        age_s = now_s - self.kept_s
        if age_s < -CLOCKS_DIFFER_S:
            return 0.0
        return None if self.ttl_s is None else max(0.0, self.ttl_s - max(0.0, age_s))

    @property
    def size_bytes(self) -> int:
        """What memory needs for it, its tags left out."""
        return 320 + (sys.getsizeof(self.body) if self.is_json else deep_size_bytes(self.body))

    def packed(self, key: str, signing_key: bytes | None) -> bytes:
        """Return the bytes that stand for an entry of JSON under this key and no other.

        Raises:
            NotPlain: it is no JSON, or too large.
        """
        if not self.is_json:
            raise NotPlain(f"a {type(self.body).__name__} is no plain JSON")
        head = orjson.dumps([self.tags, self.stamp[0], *self[4:]])
        return _packed(head + b"\n" + self.body, key, signing_key)


class Hit(NamedTuple):
    """An entry that was found, and its answer as an object of the caller's own."""

    tier: str
    entry: Entry
    record: Any
    result: CallResult | None
    """The record as DSPy reads it, if it was read to check it."""


def unpacked(blob: bytes, key: str, signing_key: bytes | None = None, *, tier: str = "") -> Hit | None:
    """Return what an entry was packed from; None for bytes damaged, not ours, or unreadable for DSPy."""
    try:
        head, _, body = _opened(blob, key, signing_key).partition(b"\n")
        (tags, known, kept_s, ttl_s, tokens, cost_usd), record = orjson.loads(head), orjson.loads(body)
        ttl_s, tags = None if ttl_s is None else float(ttl_s), tuple(map(str, tags))
        if not all(map(math.isfinite, (kept_s, ttl_s or 0, cost_usd))):
            return None
        entry = Entry(body, True, tags, (int(known), 0), float(kept_s), ttl_s, int(tokens), float(cost_usd))
    except (NotOurs, TypeError, ValueError):
        return None
    result = loaded(record)
    return Hit(tier, entry, record, result) if result else None


def copied(value: Any) -> Any:
    """Return a copy for one caller, marked as a hit as DSPy marks it."""
    value = copy.deepcopy(value)
    if hasattr(value, "usage"):
        value.usage = {}
        object.__setattr__(value, "cache_hit", True)
    return value


def encode(record: Any, *, key: str, signing_key: bytes | None = None) -> bytes:
    """Return a record of plain JSON as bytes that only decode() with the same keys accepts.

    Raises:
        NotPlain: it holds something that JSON has no form for or would change, or is too large.
    """
    body = as_json(record)
    if body is None:
        raise NotPlain("JSON lacks, or would change, what the record holds (a tuple, NaN), or it is too deep")
    return _packed(body, key, signing_key)


def decode(blob: bytes, *, key: str, signing_key: bytes | None = None) -> Any:
    """Return the record that encode() wrote under this key.

    Raises:
        NotOurs: anything else: another format or version, damaged, moved from another key, unsigned or signed
            with another key.
    """
    try:
        return orjson.loads(_opened(blob, key, signing_key))
    except ValueError as error:
        raise NotOurs(f"the value is no JSON: {error!s:.200}") from None


def _opened(blob: bytes, key: str, signing_key: bytes | None) -> bytes:
    if len(blob) < _HEAD_BYTES or not blob.startswith(_MAGIC):
        raise NotOurs(f"not a value of this cache: {len(blob)} bytes that begin with {bytes(blob[:8])!r}")
    flags, body = blob[4], blob[_HEAD_BYTES:]
    if bool(flags & _SIGNED) != bool(signing_key):
        raise NotOurs("the value is signed" if flags & _SIGNED else "the value is not signed")
    if not compare_digest(blob[5:_HEAD_BYTES], _sum(body, flags, key, signing_key)):
        raise NotOurs("the checksum does not fit: the value is damaged, forged, or of another key")
    return _inflated(body) if flags & _ZLIB else body


def _packed(body: bytes, key: str, signing_key: bytes | None) -> bytes:
    if len(body) > LARGEST_BYTES:
        raise NotPlain(f"more than {LARGEST_BYTES} bytes of JSON")
    flags = _SIGNED if signing_key else 0
    if len(body) > _COMPRESS_OVER_BYTES:
        flags |= _ZLIB
        body = zlib.compress(body, 1)  # to about half, as at any level, in a third of the time of 6
    return b"".join((_MAGIC, bytes((flags,)), _sum(body, flags, key, signing_key), body))


def _sum(body: bytes, flags: int, key: str, signing_key: bytes | None) -> bytes:
    name, secret = key.encode(*UTF_8), signing_key or b""
    if len(secret) > blake2b.MAX_KEY_SIZE:
        secret = blake2b(secret).digest()
    framed = b"%d:%d:%b:%b" % (flags, len(name), name, body)
    return blake2b(framed, digest_size=_SUM_BYTES, key=secret).digest()


def _inflated(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(body, LARGEST_BYTES)
    except zlib.error as error:
        raise NotOurs(f"the value cannot be unpacked: {error}") from None
    if not unpacker.eof:
        raise NotOurs(f"the value is cut short, or grows beyond {LARGEST_BYTES} bytes")
    return plain
