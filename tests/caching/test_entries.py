"""Entries outside memory: sealed for one key, opened only when whole."""

from __future__ import annotations

from typing import Any

import pytest

from course_lib.caching import TieredCache, wire
from course_lib.caching.entries import Entry, Sealer, handed_out, held_in_memory
from tests.caching.test_tiered import make, record, request

make = make
ENTRY = Entry(record(), ("t1", "t2"), (1700000000000, 3), 1.8e9)


def test_an_entry_comes_back_under_its_key_and_no_other():
    sealed = Sealer().seal(ENTRY, "a")

    assert Sealer().open(sealed, "a") == ENTRY
    assert Sealer().open(sealed, "b") is None
    assert Sealer(b"secret").open(sealed, "a") is None


@pytest.mark.parametrize(
    "plain",
    [
        [],
        "text",
        {"record": 1},
        {"record": 1, "place": [1], "tags": [], "until": None},
        {"record": 1, "place": [1, "x"], "tags": [], "until": None},
        {"record": 1, "place": [0, 0], "tags": None, "until": None},
        {"record": 1, "place": [0, 0], "tags": [], "until": "soon"},
    ],
    ids=repr,
)
def test_what_is_well_written_but_no_entry_is_refused(plain: Any):
    assert Sealer().open(wire.encode(plain, key="a"), "a") is None


def test_a_record_that_dspy_could_not_read_is_refused_and_counted(make, redis_url):
    cache: TieredCache = make(redis_url=redis_url)
    key = cache.cache_key(request())
    poison = Entry({"_dspy_format": "dspy-lm15-result-v1"}, (), (0, 0), None)
    cache.shared.put(key, Sealer().seal(poison, key), ttl_s=None)

    assert cache.get(request()) is None
    assert cache.stats().refused == {"redis": 1}


def test_what_memory_keeps_is_told_with_its_size():
    held, size_bytes = held_in_memory(["a" * 1000], is_plain=True)

    assert type(held) is bytes
    assert 1000 < size_bytes < 1200


def test_what_is_shared_is_copied_and_what_was_decoded_is_not():
    value = [["a"]]

    assert handed_out(value) is value
    shared = handed_out(value, is_shared=True)
    shared[0].append("b")
    assert value == [["a"]]
