"""The disk tier: bounded, shared by processes, and nobody else's file is touched."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from course_lib.caching.disk import DiskTier
from course_lib.paths import ROOT

MIB = 2**20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache.db"


def test_only_its_owner_can_read_the_file(path):
    with closing(DiskTier(path, 64 * MIB)) as tier:
        tier.put("a", b"v", ttl_s=60)

        assert [file.stat().st_mode & 0o077 for file in path.parent.iterdir()] == [0, 0, 0]


@pytest.mark.parametrize("size", [100, 1100, 60_000], ids=lambda size: f"{size} B")
def test_the_file_never_outgrows_its_limit(path, size):
    limit = MIB // 2
    number = max(20, 3 * limit // 2 // (size + 300))
    with closing(DiskTier(path, limit)) as tier:
        assert all(tier.put(f"{n:064d}", os.urandom(size), ttl_s=60, tags=("t",)) for n in range(number))
        there = [tier.get(f"{n:064d}") is not None for n in range(number)]

        assert there[-1]
        assert sum(there) * (size + 300) > 0.4 * limit
        assert max(path.stat().st_size, tier.size_bytes()) <= limit
        assert tier.put("as large as the file", b"v" * limit, ttl_s=60) is False


def test_the_oldest_leave_first_and_before_them_what_has_run_out(path):
    now_s = itertools.count()
    with closing(DiskTier(path, MIB, clock=lambda: next(now_s))) as tier:
        tier.put("oldest", b"v" * 1000, ttl_s=None)
        for n in range(800):
            tier.put(str(n), b"v" * 1000, ttl_s=5 if n < 400 else None)
        assert tier.get("oldest") is not None

        for n in range(800, 1800):
            tier.put(str(n), b"v" * 1000, ttl_s=None)
        assert (tier.get("oldest"), tier.get("400")) == (None, None)
        assert tier.get("1799") is not None


@pytest.mark.parametrize("at", [0, 100, 4096, 20_000], ids=lambda at: f"from byte {at}")
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(path, at):
    with closing(DiskTier(path, 64 * MIB)) as tier:
        for n in range(20):
            tier.put(str(n), b"v" * 1000, ttl_s=60)
    blob = path.read_bytes()
    path.write_bytes(blob[:at] + b"garbage " * ((len(blob) - at) // 8))
    with closing(DiskTier(path, 64 * MIB)) as tier:
        assert {tier.get(str(n)) for n in range(20)} <= {None, b"v" * 1000}
        tier.put("a", b"v", ttl_s=60)

        assert tier.put("a", b"v", ttl_s=60)
        assert tier.get("a") == b"v"
        assert "cache.db was damaged; it is now cache.db.damaged" in tier.last_error
    assert b"garbage" in path.with_name("cache.db.damaged").read_bytes()


def test_another_program_s_database_is_not_touched(tmp_path):
    path = tmp_path / "orders.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE orders (id)")
    before = path.read_bytes()
    with closing(DiskTier(path, 64 * MIB)) as tier:
        assert tier.put("a", b"v", ttl_s=60) is False
        assert tier.get("a") is None
        assert "another program's database" in tier.last_error

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_refuses_writes_and_goes_on_reading(path):
    """The limit of SQLite's pages stands in for the disk's."""
    with closing(DiskTier(path, 100 * MIB)) as tier:
        tier.put("a", b"v", ttl_s=60)
        tier._db.execute("PRAGMA max_page_count = 1")  # SQLite takes the present number instead

        assert tier.put("b", b"v" * 50_000, ttl_s=60) is False
        assert "takes no writes: database or disk is full" in tier.last_error
        assert tier.get("a") == b"v"


def test_a_writer_that_holds_the_file_costs_one_short_wait(path):
    with closing(DiskTier(path, 64 * MIB)) as tier, closing(sqlite3.connect(path)) as other:
        tier.put("a", b"v", ttl_s=60)
        other.execute("BEGIN IMMEDIATE")

        assert [tier.put("b", b"v", ttl_s=60) for _ in range(20)] == [False] * 20
        assert tier.get("a") == b"v"
        assert "database is locked" in tier.last_error


def test_a_process_killed_while_it_writes_leaves_a_sound_file(path):
    code = (
        "import sys; from course_lib.caching.disk import DiskTier\n"
        f"tier = DiskTier({str(path)!r}, {MIB}); n = 0\n"
        "while True:\n    tier.put(str(n), str(n).encode() * 500, ttl_s=60, tags=('t',)); n += 1\n"
        "    if n == 200: print('.', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    with closing(DiskTier(path, MIB)) as tier, closing(sqlite3.connect(path)) as db:
        values = {n: tier.get(str(n)) for n in range(2000)}

        assert all(value in (None, str(n).encode() * 500) for n, value in values.items())
        assert any(values.values())
        assert tier.put("a", b"v", ttl_s=60)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
