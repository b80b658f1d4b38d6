"""What leaves the process comes back as it was, or not at all."""

from __future__ import annotations

import enum
import math
import zlib
from datetime import UTC, datetime
from functools import reduce

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.caching import wire
from course_lib.caching.wire import NotOurs, NotPlain, decode, encode

RECORD = {"outputs": ["Ihr Zelt läßt Wasser durch"], "usage": {"prompt_tokens": 3}, "cost": 0.01, "raw": None}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(record=JSON, key=st.text(), repeats=st.sampled_from([1, 1000]))
def test_json_comes_back_as_it_was(record, key, repeats):
    record = [record] * repeats
    try:
        blob = encode(record, key=key)
    except NotPlain:  # an infinite number, or half a character
        return

    assert decode(blob, key=key) == record


UNPLAIN = {
    "NaN": math.nan,
    "infinity": math.inf,
    "tuple": (1, 2),
    "enum": enum.Enum("Colour", "RED").RED,
    "time": datetime(2026, 1, 1, tzinfo=UTC),
    "object": object(),
    "bytes": b"x",
    "number as key": {1: 2},
    "huge": 2**70,
    "half a character": "\ud800",
    "too deep": reduce(lambda inner, _: [inner], range(300), []),
}


@pytest.mark.parametrize("value", UNPLAIN.values(), ids=UNPLAIN)
def test_what_json_would_change_is_refused(value):
    with pytest.raises(NotPlain):
        encode({"value": value}, key="k")


@given(at=st.integers(0), change=st.integers(1, 255), repeats=st.sampled_from([1, 100]))
def test_one_changed_byte_is_found(at, change, repeats):
    blob = bytearray(encode([RECORD] * repeats, key="k"))
    blob[at % len(blob)] ^= change

    with pytest.raises(NotOurs):
        decode(bytes(blob), key="k")


@given(blob=st.binary(max_size=200))
def test_foreign_bytes_are_refused(blob):
    pickled, compressed, plain = b"\x80\x04", zlib.compress(b"{}"), orjson.dumps(RECORD)
    for beginning in (b"", b"ADC\x03", b"ADC\x03\x00", pickled, compressed, plain):
        with pytest.raises(NotOurs):
            decode(beginning + blob, key="k")


@pytest.mark.parametrize(
    ("writer", "reader", "key", "said"),
    [
        (None, b"s", "k", "not signed"),
        (b"s", None, "k", "is signed"),
        (b"s", b"t", "k", "checksum"),
        (None, None, "another", "another key"),
    ],
    ids=["unsigned", "signed", "another signature", "copied to another key"],
)
def test_only_who_knows_the_signing_key_is_believed_and_under_one_key(writer, reader, key, said):
    blob = encode(RECORD, key="k", signing_key=writer)

    with pytest.raises(NotOurs, match=said):
        decode(blob, key=key, signing_key=reader)
    assert decode(blob, key="k", signing_key=writer) == RECORD


def test_long_answers_are_compressed_but_a_bomb_is_not_unpacked(monkeypatch):
    bomb = encode({"text": "0" * 200_000}, key="k")
    assert len(bomb) < 1000
    assert orjson.dumps({"text": "short"}) in encode({"text": "short"}, key="k")

    monkeypatch.setattr("course_lib.caching.wire.LARGEST_BYTES", 100_000)
    with pytest.raises(NotPlain, match="more than 100000 bytes"):
        encode({"text": "0" * 200_000}, key="k")
    with pytest.raises(NotOurs, match="grows beyond"):
        decode(bomb, key="k")


HEAD = b"[[],0,0.0,null,0,0.0]\n"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"a":['], ids=str)
def test_a_small_value_that_is_nested_or_grows_without_end_costs_little(opening):
    for text in (opening * 300, HEAD + opening * 300, opening * 50_000, b" " * 100_000_000 + opening):
        blob = b"ADC\x03\x01" + wire._sum(packed := zlib.compress(text), 1, "k", None) + packed

        assert wire.unpacked(blob, "k") is None
