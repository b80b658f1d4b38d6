"""The folder's tools on honest work: what they answer, their limits, writes that are whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
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
    with FileSystemAdapter(folder) as adapter:
        yield adapter


def test_a_listing_names_folders_and_sizes(adapter):
    assert adapter.list_files() == "mail/\nreadme.txt (19)"
    assert adapter.list_files("mail/") == adapter.list_files("./mail") == "a.txt (33)\nold/"


def test_a_file_is_read_whole_or_from_a_line_on(adapter):
    assert adapter.read_file("readme.txt") == "Tents\nStoves\nLamps\n"
    assert adapter.read_file("readme.txt", first_line=3) == "Lamps\n"


def test_a_search_finds_lines_below_whatever_the_capitals(adapter):
    assert adapter.search_files("tent").splitlines() == [
        "mail/a.txt:2: the tent is wet",
        "mail/old/b.txt:1: no TENT here",
        "readme.txt:1: Tents",
    ]
    assert adapter.search_files("tent", "mail/old") == "mail/old/b.txt:1: no TENT here"
    assert adapter.search_files("yak") == "(no line has it)"


def test_answers_and_reading_stop_at_their_limits(adapter, monkeypatch):
    monkeypatch.setattr(files, "MOST_ENTRIES", 1)
    monkeypatch.setattr(files, "SEARCH_BYTES", 36)

    assert adapter.list_files() == "mail/\nand 1 more"
    assert adapter.search_files("e") == "mail/a.txt:1: The stove is cold"
    assert adapter.search_files("zzz") == "(stopped after 36 bytes; search a smaller folder)"
    monkeypatch.setattr(files, "FILE_BYTES", 10)
    with pytest.raises(ToolRefused, match="more than 10 bytes"):
        adapter.read_file("readme.txt")


def _open_on(folder: Path) -> int:
    """Return how many of this process's descriptors are open on `folder` or what is in it."""
    places = [
        (about.st_dev, about.st_ino) for about in (path.stat() for path in [folder, *folder.rglob("*")])
    ]
    found = 0
    for name in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
            about = os.fstat(int(name.name))
            found += (about.st_dev, about.st_ino) in places
    return found


def test_a_closed_adapter_refuses_and_leaks_no_descriptor(folder):
    with FileSystemAdapter(folder) as adapter:
        tools = {tool.name: tool for tool in adapter.tools()}
        adapter.search_files("tent")
        tools["read_file"](path="mail/nothing.txt")
        assert _open_on(folder) == 1

    assert tools["list_files"]() == "refused: the folder has been closed"
    assert _open_on(folder) == 0


def test_an_adapter_that_nobody_closes_goes_with_its_tools(folder):
    tools = FileSystemAdapter(folder).tools()
    assert tools[0]().startswith("mail/")
    assert _open_on(folder) == 1

    del tools
    gc.collect()

    assert _open_on(folder) == 0


def test_the_tools_work_on_an_event_loop(adapter):
    tools = {tool.name: tool for tool in adapter.tools()}

    answer = asyncio.run(tools["read_file"].acall(path="readme.txt", first_line=3))

    assert answer == "Lamps\n"
