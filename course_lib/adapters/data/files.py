"""A folder handed to a model: list, read, search and, if allowed, write; one root, and no way out of it.

Main path: FileSystemAdapter(root).tools() -> limited tools; with write_file if `writable=True`.
A path is walked name by name from a descriptor of the root (openat), following no link, so that there is no
moment between the check and the use of a path in which a folder could be swapped for a link.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
import threading
import unicodedata
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from course_lib.adapters.tools.limits import LimitedTool, ToolRefused, limited

PATH_BYTES = 1000
DEPTH = 12
"""Folders below the root that a path or a search may go down."""
ENTRIES_SCANNED = 5000
"""Entries of one folder that are looked at."""
FILE_BYTES, SEARCH_BYTES = 200_000, 5_000_000
"""The largest file that is read or written, and how much one search reads, over all files."""
ENTRIES = 100
"""Files listed, or lines found, in one answer."""
LINE_CHARS = 200
"""Characters shown of a line that a search has found."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REASONS = {
    errno.ENOENT: "is not there; list_files shows what there is",
    errno.ENOTDIR: "goes through a link or a file; only real folders are entered",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.ENXIO: "is not a regular file",
    **dict.fromkeys((errno.ELOOP, errno.EMLINK), "is a link; links are not followed"),
    errno.EISDIR: "is a folder, not a file",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "may not be opened"),
}


class FileSystemAdapter(AbstractContextManager["FileSystemAdapter"]):
    """One folder of text files, for a model to read and, if `writable`, to write.

    Args:
        root: the folder; everything outside it is out of reach. It is opened once, here.
        writable: whether there is a tool to write files.

    Raises:
        ToolRefused: `root` is not a folder, or is the root of the whole file system.
    """

    def __init__(self, root: Path | str, *, writable: bool = False) -> None:
        folder = Path(root).resolve()
        if not folder.is_dir() or folder == Path(folder.anchor):
            raise ToolRefused(f"{str(root)!r} cannot be the root; name a folder below the system's own")
        self._is_writable = writable
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._device = os.fstat(self._root).st_dev
        self._lock = threading.Lock()
        self._closer = weakref.finalize(self, os.close, self._root)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the root; the tools refuse from then on."""
        with self._lock:
            self._closer()

    def tools(self, *, calls: int | None = 30) -> list[LimitedTool]:
        """Return the folder as limited tools: list_files, read_file, search_files and maybe write_file."""
        methods: list[Callable[..., str]] = [self.list_files, self.read_file, self.search_files]
        methods += [self.write_file] if self._is_writable else []
        return [limited(method, calls=calls) for method in methods]

    def list_files(self, folder: str = ".") -> str:
        """List a folder: one name per line, folders with a slash, files with their size in bytes."""
        with self._entered(split_path(folder, folder=True), folder) as at:
            notes: list[str] = []
            entries = self._scan(at, notes)
        lines = [f"{name}/" if is_folder else f"{name} ({size})" for name, is_folder, size in entries]
        more = [f"and {len(lines) - ENTRIES} more"] if len(lines) > ENTRIES else []
        return "\n".join(lines[:ENTRIES] + more + notes) or "(empty)"

    def read_file(self, path: str, first_line: int = 1) -> str:
        """Read a text file, from the given line on."""
        *above, name = split_path(path)
        with self._entered(above, path) as at:
            text = self._read(at, _stored(at, name), path)
        return text if first_line <= 1 else "".join(text.splitlines(keepends=True)[first_line - 1 :])

    def search_files(self, text: str, folder: str = ".") -> str:
        """Find lines with these words, in all files of a folder and below; capitals do not matter."""
        if not text.strip() or len(text) > LINE_CHARS:
            raise ToolRefused(f"search for 1 to {LINE_CHARS} characters, not {len(text)}")
        parts = split_path(folder, folder=True)
        notes: list[str] = []
        with self._entered(parts, folder) as at:
            found = self._search(at, "/".join(parts), _folded(text), notes)
            lines = list(itertools.islice(found, ENTRIES + 1))
        if len(lines) > ENTRIES:
            lines[ENTRIES:] = [f"(only the first {ENTRIES} lines; search a smaller folder)"]
        return "\n".join([*lines, *dict.fromkeys(notes)]) or "(no line has it)"

    def write_file(self, path: str, text: str) -> str:
        """Write a text file as a whole; one of that name is replaced."""
        if not self._is_writable:
            raise ToolRefused("the folder is read-only")
        *above, name = split_path(path)
        data = text.encode("utf-8", "replace")
        if len(data) > FILE_BYTES:
            raise ToolRefused(f"the text has {len(data)} bytes; at most {FILE_BYTES} are written")
        with self._entered(above, path) as at:
            self._replace(at, _stored(at, name), data, path)
        return f"wrote {len(data)} bytes to {path}"

    @contextmanager
    def _entered(self, parts: Sequence[str], path: str) -> Iterator[int]:
        """Yield a descriptor of a folder, walked to from the root without following a link.

        What the system says of it is turned into a refusal that names the path as the model wrote it.
        """
        with self._lock:
            if not self._closer.alive:
                raise ToolRefused("the folder has been closed")
            at = os.dup(self._root)
        try:
            with ExitStack() as opened:
                opened.callback(os.close, at)
                for part in parts:
                    at = opened.enter_context(self._within(at, _stored(at, part)))
                yield at
        except OSError as error:
            if error.errno not in _REASONS:
                raise
            raise ToolRefused(f"{path!r} {_REASONS[error.errno]}") from None

    def _scan(self, at: int, notes: list[str]) -> list[tuple[str, bool, int]]:
        """Return name, whether a folder, and size of what may be seen in a folder, by name."""
        visible = []
        with os.scandir(at) as entries:
            for entry in itertools.islice(entries, ENTRIES_SCANNED):
                with suppress(OSError, ToolRefused):  # gone since, or not to be seen
                    split_path(entry.name)
                    about = entry.stat(follow_symlinks=False)
                    is_folder = stat.S_ISDIR(about.st_mode)
                    if not is_folder:
                        self._admit(about, entry.name)
                    visible.append((entry.name, is_folder, about.st_size))
            if next(entries, None):
                notes.append(f"(only {ENTRIES_SCANNED} entries of a folder were looked at)")
        return sorted(visible)

    def _admit(self, about: os.stat_result, path: str) -> None:
        """Refuse what is no file, or not of this folder alone."""
        reasons = {
            "is a link; links are not followed": stat.S_ISLNK(about.st_mode),
            "is a folder, not a file": stat.S_ISDIR(about.st_mode),
            "is not a regular file": not stat.S_ISREG(about.st_mode),
            "is one file under several names (a hard link), which may lie outside": about.st_nlink != 1,
            "is on another file system": about.st_dev != self._device,
        }
        for reason in (reason for reason, is_so in reasons.items() if is_so):
            raise ToolRefused(f"{path!r} {reason}")

    def _read(self, at: int, name: str, path: str) -> str:
        # Asked before it is opened, since opening a device can do something; asked again of what was opened.
        self._admit(os.stat(name, dir_fd=at, follow_symlinks=False), path)
        handle = os.open(name, _READ, dir_fd=at)
        with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            self._admit(os.fstat(handle), path)
            data = file.read(FILE_BYTES + 1)  # it may be longer than it said
        if len(data) > FILE_BYTES:
            raise ToolRefused(f"{path!r} has more than {FILE_BYTES} bytes, the most that is read")
        try:
            text = data.decode("utf-8-sig")  # without the mark of some editors
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise ToolRefused(f"{path!r} is not a text file")
        return text

    def _replace(self, at: int, name: str, data: bytes, path: str) -> None:
        """Write beside the file and rename: whoever reads sees the old text or the new, never half of it.

        A link that appears under the name after it was looked at is itself replaced; nothing is followed.
        """
        mode = None
        with suppress(FileNotFoundError):
            about = os.stat(name, dir_fd=at, follow_symlinks=False)
            self._admit(about, path)
            mode = about.st_mode & 0o666
        scratch = f".part-{secrets.token_hex(8)}"  # hidden, so that no tool sees it
        handle = os.open(scratch, _CREATE, 0o666 if mode is None else 0o600, dir_fd=at)
        try:
            with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(data)
                file.flush()
                if mode is not None:
                    os.fchmod(handle, mode)
                os.fsync(handle)
            os.rename(scratch, name, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(scratch, dir_fd=at)
            raise
        os.fsync(at)  # the new name too outlives a power cut

    def _search(self, at: int, above: str, words: str, notes: list[str]) -> Iterator[str]:
        """Yield the lines with these words in a folder and below; what is not searched is told in `notes`."""
        left_bytes = SEARCH_BYTES
        for folder, name, path, size in self._files(at, above, notes):
            left_bytes -= size
            if left_bytes < 0:
                notes.append(f"(stopped after {SEARCH_BYTES} bytes; search a smaller folder)")
                return
            try:
                lines = self._read(folder, name, path).splitlines()
            except (OSError, ToolRefused):  # too large, not text, or gone since
                notes.append("(files that are too large or no text were not searched)")
                continue
            for number, line in enumerate(lines, start=1):
                if words in _folded(line):
                    yield f"{path}:{number}: {line.strip()[:LINE_CHARS]}"

    def _files(self, at: int, above: str, notes: list[str]) -> Iterator[tuple[int, str, str, int]]:
        """Yield the files in a folder and below: the descriptor of each one's folder, name, path, size."""
        for name, is_folder, size in self._scan(at, notes):
            path = f"{above}/{name}" if above else name
            if not is_folder:
                yield at, name, path, size
            elif path.count("/") >= DEPTH:
                notes.append(f"(what is more than {DEPTH} folders deep was not searched)")
            else:
                with suppress(OSError, ToolRefused), self._within(at, name) as below:  # swapped since
                    yield from self._files(below, path, notes)

    @contextmanager
    def _within(self, at: int, name: str) -> Iterator[int]:
        """Yield a descriptor of the folder `name` of the folder `at`."""
        below = os.open(name, _FOLDER, dir_fd=at)
        try:
            if os.fstat(below).st_dev != self._device:
                raise ToolRefused(f"{name!r} is another file system, mounted there")
            yield below
        finally:
            os.close(below)


def split_path(path: str, *, folder: bool = False) -> list[str]:
    """Return the names in a path below a root; `.` or nothing is the root itself, if `folder`.

    >>> split_path("notes/2026/may.txt")
    ['notes', '2026', 'may.txt']

    Raises:
        ToolRefused: it is absolute, goes up, or has a name that could be taken for another.
    """
    if folder and path in ("", ".", "./"):
        return []
    if len(path.encode("utf-8", "replace")) > PATH_BYTES:
        raise ToolRefused(f"the path is longer than {PATH_BYTES} bytes")
    if path.startswith(("/", "\\", "~")) or path[1:2] == ":":
        raise ToolRefused(f"{path!r} is not below the folder; write a path such as 'notes/may.txt'")
    parts = (path.removesuffix("/") if folder else path).removeprefix("./").split("/")
    if len(parts) > DEPTH:
        raise ToolRefused(f"{path!r} goes down more than {DEPTH} folders")
    for part in parts:
        if reason := _bad_name(part):
            raise ToolRefused(f"{path!r} {reason}")
    return parts


def _bad_name(name: str) -> str | None:
    """Return why a name is not taken, or None."""
    alike = unicodedata.normalize("NFKC", name)
    reasons = {
        "has an empty name in it": not name,
        "must not go up or stand still with dots": ".." in (name, alike) or alike == ".",
        "names a hidden file": alike.startswith("."),
        "has a separator within a name": "/" in alike or "\\" in alike,
        "has an invisible character in it": any(unicodedata.category(sign)[0] == "C" for sign in name),
        "has a name that begins or ends with a space, or ends with a dot": (
            name != name.strip() or name.endswith(".")
        ),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def _stored(at: int, name: str) -> str:
    """Return a name as the folder has it: a letter and its mark may be one character there, or two."""
    if name.isascii():
        return name
    with os.scandir(at) as entries:
        names = [entry.name for entry in itertools.islice(entries, ENTRIES_SCANNED)]
    alike = (one for one in names if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", name))
    return name if name in names else next(alike, name)


def _folded(text: str) -> str:
    """Return text in which capitals, and how letters with marks are written, make no difference."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())
