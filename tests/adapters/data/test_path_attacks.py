"""Every way out of the folder is refused, by every tool, and nothing outside is read, written or listed."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from course_lib.adapters.data.files import FileSystemAdapter
from course_lib.adapters.tools.limits import ToolRefused

CANARY = "canary-7f3a: only for those outside"
LINKS = {
    "link.txt": "{outside}/secret.txt", "relative.txt": "../outside/secret.txt", "linked": "{outside}",
    "chain": "linked", "loop": "loop", "up": "..", "proc": "/proc/self", "zero": "/dev/zero",
    "inner.txt": "notes/may.txt", "dangling.txt": "{outside}/new.txt",
}  # fmt: skip


@pytest.fixture
def site(tmp_path):
    """A root with honest files and every trap, beside a folder with a secret."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "notes", outside / "notes"):
        folder.mkdir(parents=True)
    for file in (outside / "secret.txt", outside / "notes" / "secret.txt", tmp_path / "root-secret.txt"):
        file.write_text(CANARY, "utf-8")
    (root / "notes" / "may.txt").write_text("honest", "utf-8")
    (root / ".env").write_text(CANARY, "utf-8")
    for name, target in LINKS.items():
        (root / name).symlink_to(target.format(outside=outside))
    os.link(outside / "secret.txt", root / "hard.txt")
    os.mkfifo(root / "pipe")
    (root / "binary.bin").write_bytes(b"\0\1\2\xff")
    (root / "large.txt").write_text("x" * 300_000, "utf-8")
    return tmp_path


def everything(place: Path) -> dict[str, object]:
    """Return what lies below a place, links not followed: kind, content, mode, time of change."""
    found: dict[str, object] = {}
    for folder, _, names in os.walk(place):
        for path in [Path(folder, name) for name in names] + [Path(folder)]:
            about = path.lstat()
            body = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (about.st_mode, about.st_size, about.st_mtime_ns, about.st_nlink, body)
    return found


PATHS = {
    "up": "../outside/secret.txt", "up and down": "notes/../../outside/secret.txt", "only up": "..",
    "up within": "notes/../notes/may.txt", "many up": "../" * 40 + "etc/passwd", "up at the end": "notes/..",
    "absolute": "/etc/passwd", "absolute into the root's sibling": "{outside}/secret.txt",
    "absolute into the root itself": "{root}/notes/may.txt", "two slashes": "//etc/passwd",
    "slash within": "notes//may.txt", "sibling with the root's name as prefix": "../root-secret.txt",
    "home": "~/.ssh/id_rsa", "another's home": "~root/.bashrc", "backslash first": "\\etc\\passwd",
    "backslashes": "..\\outside\\secret.txt", "share": "\\\\server\\share", "drive": "C:/Windows/win.ini",
    "file url": "file:///etc/passwd", "NUL": "notes/may.txt\0.png", "NUL first": "\0",
    "newline": "notes/may.txt\n", "escape sequence": "notes/\x1b[2Jmay.txt",
    "fullwidth dots": "\uff0e\uff0e/outside/secret.txt", "two dot leader": "\u2025/outside/secret.txt",
    "one dot leaders": "\u2024\u2024/outside/secret.txt", "division slash by name": "notes\u2215may.txt",
    "fullwidth slash": "notes\uff0f..\uff0f..\uff0foutside\uff0fsecret.txt",
    "zero width": "not\u200bes/may.txt", "right to left": "notes/\u202etxt.yam",
    "lone surrogate": "notes/\udcff.txt", "percent": "%2e%2e%2foutside%2fsecret.txt",
    "percent twice": "..%252foutside", "dot dot space": ".. /outside/secret.txt",
    "three dots": ".../outside/secret.txt", "dot within": "notes/./may.txt", "trailing dot": "notes/may.txt.",
    "trailing space": "notes/may.txt ", "hidden": ".env", "hidden below": "notes/.git/config", "empty": "",
    "folder as a file": "notes", "file as a folder": "notes/may.txt/secret.txt", "long": "a/" * 3000 + "b",
    "long name": "a" * 900, "deep": "a/" * 50 + "b", "link": "link.txt", "relative link": "relative.txt",
    "link to a file inside": "inner.txt", "linked folder": "linked/secret.txt",
    "linked folder below": "linked/notes/secret.txt", "link to a link": "chain/secret.txt",
    "link to itself": "loop", "link up": "up/outside/secret.txt", "proc": "proc/environ",
    "proc root": "proc/root/etc/passwd", "proc descriptors": "proc/fd/0", "device by a link": "zero",
    "dangling link": "dangling.txt", "hard link": "hard.txt", "pipe": "pipe", "dev": "/dev/tty",
    "dev fd": "/dev/fd/0",
}  # fmt: skip
OTHERS = {"write_file": {"text": "overwritten"}, "search_files": {"text": "canary"}}
"""What else a tool takes besides the path."""


def calling(adapter, tool):
    """Return a function of a path that calls the tool, without a budget."""
    (call,) = [one for one in adapter.tools(calls=None) if one.name == tool]
    argument = "folder" if "folder" in call.args else "path"
    return lambda path: call(**{argument: path}, **OTHERS.get(tool, {}))


WRITABLE = {"percent", "division slash by name"}
"""Names that are odd but honest: no such file to read, and a file of that name may be written inside."""


@pytest.mark.parametrize("tool", ["read_file", "write_file", "list_files", "search_files"])
def test_no_path_leads_out_whatever_the_tool(site, tool):
    root, accepted = site / "root", []
    before = everything(site)

    with FileSystemAdapter(root, writable=True) as adapter:
        call = calling(adapter, tool)
        for name, path in PATHS.items():
            path = path.format(root=root, outside=site / "outside")
            answer = call(path)
            assert CANARY not in answer, name
            if answer.startswith("refused: "):
                assert "\n" not in answer
                assert str(site) not in answer.replace(path, "")
            else:
                accepted.append((name, answer))

    allowed = {"read_file": set(), "write_file": WRITABLE}.get(tool, {"empty", "folder as a file"})
    assert {name for name, _ in accepted} <= allowed, accepted
    assert [answer for _, answer in accepted if answer.startswith(("failed", "timeout"))] == []
    after = everything(site)
    made = {str(root / PATHS[name]) for name in WRITABLE} | {str(root)} if tool == "write_file" else set()
    assert {place for place in after if after[place] != before.get(place)} == made
    assert before.keys() <= after.keys()


def test_links_hidden_files_pipes_and_devices_are_not_listed(site):
    with FileSystemAdapter(site / "root") as adapter:
        assert adapter.list_files().splitlines() == ["binary.bin (4)", "large.txt (300000)", "notes/"]
        assert adapter.search_files("canary") == "(files that are too large or no text were not searched)"


@pytest.mark.parametrize("tool", ["read_file", "write_file", "search_files"])
@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_file_or_folder_swapped_for_a_link_again_and_again_gives_nothing_away(site, tool, swapped):
    root, outside = site / "root", site / "outside"
    (root / "notes" / "secret.txt").write_text("honest", "utf-8")
    target = "notes" if swapped == "folder" else "notes/secret.txt"
    seen = set()

    with FileSystemAdapter(root, writable=True) as adapter, swapping(root / target, outside / target):
        call = calling(adapter, tool)
        started = time.monotonic()
        while (waited := time.monotonic() - started) < 0.25 or (len(seen) < 2 and waited < 5):
            seen.add(call("notes" if tool == "search_files" else "notes/secret.txt"))

    assert not [answer for answer in seen if CANARY in answer]
    assert [path.read_text("utf-8") for path in (outside / "notes").iterdir()] == [CANARY]
    assert len(seen) > 1  # the race was on: both states were met


@contextmanager
def swapping(target, decoy):
    """Exchange `target` for a link to `decoy` and back, as fast as it goes, until the block ends."""
    kept, stop = target.with_name("kept"), threading.Event()

    def swap():
        while not stop.is_set():
            with suppress(OSError):
                target.rename(kept)
                target.symlink_to(decoy)
                time.sleep(0.0005)  # the link is there for somebody to meet
            with suppress(OSError):
                target.unlink()
                kept.rename(target)
                time.sleep(0.0005)  # and so is the honest state

    with ThreadPoolExecutor() as threads:
        attack = threads.submit(swap)
        try:
            yield
        finally:
            stop.set()
    attack.result()


def test_the_root_is_one_folder_and_stays_the_one_that_was_opened(site):
    for bad in ("/", site / "outside" / "secret.txt", site / "nowhere"):
        with pytest.raises(ToolRefused, match="cannot be the root"):
            FileSystemAdapter(bad)

    root = site / "root"
    with FileSystemAdapter(root) as adapter:
        root.rename(site / "moved")
        root.symlink_to(site / "outside")

        assert adapter.read_file("notes/may.txt") == "honest"
