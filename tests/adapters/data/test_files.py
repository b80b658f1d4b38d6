"""The folder's tools on honest work: what they answer, their limits, writes that are whole or not at all."""

from __future__ import annotations

import contextlib
import gc
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from course_lib.adapters.data import files
from course_lib.adapters.data.files import FileSystemAdapter
from course_lib.adapters.tools.limits import ToolRefused


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    (root / "mail" / "old").mkdir(parents=True)
    (root / "readme.txt").write_text("Tents\nStoves\nLamps\n", "utf-8")
    (root / "mail" / "a.txt").write_text("The stove is cold\nthe tent is wet", "utf-8")
    (root / "mail" / "old" / "b.txt").write_text("no TENT here", "utf-8")
    return root


@pytest.fixture
def adapter(folder):
    with FileSystemAdapter(folder, writable=True) as adapter:
        yield adapter


def test_the_mark_that_some_editors_put_before_a_text_is_not_part_of_it(adapter, folder):
    (folder / "marked.txt").write_text("Pegs\n", "utf-8-sig")

    assert adapter.read_file("marked.txt") == "Pegs\n"


def test_folders_are_listed_files_read_from_a_line_on_and_lines_found_whatever_the_capitals(adapter):
    assert adapter.list_files() == "mail/\nreadme.txt (19)"
    assert adapter.list_files("mail/") == adapter.list_files("./mail") == "a.txt (33)\nold/"
    assert adapter.read_file("readme.txt") == "Tents\nStoves\nLamps\n"
    assert adapter.read_file("readme.txt", first_line=3) == "Lamps\n"
    assert adapter.search_files("tent").splitlines() == [
        "mail/a.txt:2: the tent is wet",
        "mail/old/b.txt:1: no TENT here",
        "readme.txt:1: Tents",
    ]
    assert adapter.search_files("tent", "mail/old") == "mail/old/b.txt:1: no TENT here"
    assert adapter.search_files("yak") == "(no line has it)"


def test_answers_and_searches_stop_at_their_limits(folder, monkeypatch):
    monkeypatch.setattr(files, "ENTRIES", 1)
    monkeypatch.setattr(files, "SEARCH_BYTES", 36)
    with FileSystemAdapter(folder) as adapter:
        assert adapter.list_files() == "mail/\nand 1 more"
        assert adapter.search_files("e").splitlines() == [
            "mail/a.txt:1: The stove is cold",
            "(only the first 1 lines; search a smaller folder)",
        ]
        assert adapter.search_files("zzz") == "(stopped after 36 bytes; search a smaller folder)"

        monkeypatch.setattr(files, "ENTRIES_SCANNED", 1)
        note = "(only 1 entries of a folder were looked at)"
        assert adapter.list_files().splitlines()[-1] == adapter.search_files("yak") == note


def test_letters_are_the_same_composed_or_decomposed(folder, adapter):
    apart, whole = (unicodedata.normalize(form, "Größe/Menü é.txt") for form in ("NFD", "NFC"))
    (folder / apart).parent.mkdir()
    (folder / apart).write_text(unicodedata.normalize("NFD", "Crème BRÛLÉE"), "utf-8")

    assert adapter.read_file(whole) == adapter.read_file(apart)
    assert adapter.list_files("Größe").endswith("(18)")
    assert "Menü" in unicodedata.normalize("NFC", adapter.search_files("crème brûlée", "Größe"))

    adapter.write_file(whole, "new")
    assert [path.read_text("utf-8") for path in (folder / apart).parent.iterdir()] == ["new"]


def test_a_search_of_thousands_of_folders_is_whole_or_says_what_it_left_out(folder, monkeypatch):
    for number in range(1500):
        (folder / f"f{number}").mkdir()
        (folder / f"f{number}" / "a.txt").write_text("needle", "utf-8")
    (folder / "/".join("d" * 14)).mkdir(parents=True)

    monkeypatch.setattr(files, "ENTRIES", 2000)
    with FileSystemAdapter(folder) as adapter:
        lines = adapter.search_files("needle").splitlines()

    assert len(lines) == 1500 + 1
    assert lines[-1] == "(what is more than 12 folders deep was not searched)"


def test_the_size_of_a_file_is_limited_both_ways_and_writing_is_to_be_allowed(folder, monkeypatch):
    monkeypatch.setattr(files, "FILE_BYTES", 10)
    with FileSystemAdapter(folder, writable=True) as adapter:
        with pytest.raises(ToolRefused, match="more than 10 bytes"):
            adapter.read_file("readme.txt")
        with pytest.raises(ToolRefused, match="12 bytes; at most 10"):
            adapter.write_file("x.txt", "é" * 6)
        adapter.write_file("x.txt", "é" * 5)
        assert adapter.read_file("x.txt") == "é" * 5

    with FileSystemAdapter(folder) as adapter:
        assert [tool.name for tool in adapter.tools()] == ["list_files", "read_file", "search_files"]
        with pytest.raises(ToolRefused, match="read-only"):
            adapter.write_file("x.txt", "x")


def test_a_write_makes_or_replaces_a_file_and_keeps_its_mode(adapter, folder):
    (folder / "readme.txt").chmod(0o640)
    before = os.umask(0o077)
    try:
        assert adapter.write_file("readme.txt", "Yaks") == "wrote 4 bytes to readme.txt"
        adapter.write_file("mail/new.txt", "é")
    finally:
        os.umask(before)

    for path, text, mode in (("readme.txt", "Yaks", 0o640), ("mail/new.txt", "é", 0o600)):
        assert (folder / path).read_text("utf-8") == text
        assert (folder / path).stat().st_mode & 0o777 == mode


def test_a_reader_sees_the_old_text_or_the_new_and_no_other_file_stays(adapter, folder):
    texts = {"a" * 50_000, "b" * 50_000}
    adapter.write_file("big.txt", "a" * 50_000)
    seen = set()
    with ThreadPoolExecutor() as threads:
        written = threads.submit(lambda: [adapter.write_file("big.txt", text) for text in sorted(texts) * 15])
        while not written.done():
            seen.add((folder / "big.txt").read_text("utf-8"))

    assert len(written.result()) == 30
    assert seen <= texts
    assert sorted(path.name for path in folder.iterdir()) == ["big.txt", "mail", "readme.txt"]


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(adapter, folder, monkeypatch, step):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    (write,) = [tool for tool in adapter.tools() if tool.name == "write_file"]

    assert write(path="readme.txt", text="Yaks") == "failed: OSError: No space left on device"
    assert (folder / "readme.txt").read_text("utf-8").startswith("Tents")
    assert sorted(path.name for path in folder.iterdir()) == ["mail", "readme.txt"]


def open_on(folder: Path) -> int:
    """Return how many of this process's descriptors are open on `folder` or what is in it."""
    places = {(about.st_dev, about.st_ino) for about in map(Path.stat, [folder, *folder.rglob("*")])}
    found = 0
    for name in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
            about = os.fstat(int(name.name))
            found += (about.st_dev, about.st_ino) in places
    return found


def test_a_closed_adapter_refuses_and_one_that_nobody_closes_goes_with_its_tools(folder):
    with FileSystemAdapter(folder, writable=True) as adapter:
        adapter.search_files("tent")
        adapter.write_file("mail/a.txt", "new")
        (list_files, read_file, *_, write_file) = adapter.tools()
        read_file(path="mail/nothing.txt")
        write_file(path="mail", text="new")
        assert open_on(folder) == 1
    assert list_files() == "refused: the folder has been closed"
    assert open_on(folder) == 0

    tools = FileSystemAdapter(folder).tools()
    assert tools[0]().startswith("mail/")
    del tools
    gc.collect()
    assert open_on(folder) == 0
