"""A server as its users hold it: all users in a process share one, which ends with the last of them.

Main path: share(kind, folder, settings) -> Server, for redis.py and postgres.py.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
from pathlib import Path
from typing import Any, Self

from course_lib.services import supervisor
from course_lib.services.instance import Instance

_ADDRESS = re.compile(
    r"(?:(?:rediss?|postgres(?:ql)?)://(?:[^@/?#]*@)?"
    r"(?P<host>(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d{1,5})?(?:/[\w-]*)?)"
    r"|unix://(?:[^@/?#]*@)?(?P<path>/[^?#@]*))(?:\?.*)?"
)

_lock = threading.RLock()
_instances: dict[tuple[int, type[Instance], Path | None], Instance] = {}
"""By owner, kind, and folder if one was named; a forked copy finds none of its own."""


class Server:
    """A running server; close it, or use it in a `with`, to say that you are done with it."""

    def __init__(self, kind: type[Instance], instance: Instance | None, chosen: str = "") -> None:
        self._kind = kind
        self._instance = instance
        self._chosen = chosen
        self._is_user = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({str(self.folder) if self.folder else shown(self.url)!r})"

    @property
    def url(self) -> str:
        """The address that its client library takes; it may hold a password, so print the server instead."""
        return self._instance.url if self._instance else self._chosen

    @property
    def folder(self) -> Path | None:
        """Where its files are; None for a server that the environment names."""
        return self._instance.folder if self._instance else None

    @property
    def pid(self) -> int:
        """The server's process number; 0 when it does not run, or is not ours."""
        return self._instance.pid if self._instance and self._instance.is_running() else 0

    def start(self) -> None:
        """Start the server if it does not run: again after stop() or kill(), under the same url.

        Raises:
            ServerError: it cannot start; the message ends with what it wrote.
        """
        if self._instance is None:
            self._kind.check(self.url)
            return
        with _lock:
            instance = self._own()
            if not self._is_user:
                self._is_user = True
                instance.users += 1
            instance.start()

    def stop(self) -> None:
        """Stop the server now, for all its users, and wait until it has ended."""
        with _lock:
            self._own().stop()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        with _lock:
            self._own().stop(supervisor.KILL)

    def remove(self) -> None:
        """Stop the server and delete its files; start() makes them anew."""
        with _lock:
            self._own().remove()

    def close(self) -> None:
        """Give the server up; it is removed when its last user in this process has done so."""
        with _lock:
            instance = self._instance
            if instance is None or not self._is_user or instance.owner != os.getpid():
                return
            self._is_user = False
            instance.users -= 1
            if instance.users == 0:
                instance.remove()

    def _own(self) -> Instance:
        instance = self._instance
        if instance is None or instance.owner != os.getpid():
            whose = (
                f"belongs to process {instance.owner}" if instance else f"is named by {self._kind.variable}"
            )
            raise self._kind.error(f"this server {whose}: whoever started it can stop it, or start it again")
        return instance


def share(kind: type[Instance], folder: Path | None, settings: dict[str, Any]) -> Server:
    """Return a user's handle of this process's server, started if need be, or of the one that was chosen.

    Args:
        kind: of server.
        folder: where to have one apart from the one that everybody shares, which None is.
        settings: of the server; its users have to agree on them.

    Raises:
        ServerError: there is none, with what to do.
    """
    chosen = os.environ.get(kind.variable, "")
    if chosen and folder is None:
        server = Server(kind, None, chosen)
        server.start()
        return server
    with _lock:
        key = os.getpid(), kind, folder and folder.absolute()
        instance = _instances.get(key) or _instances.setdefault(key, kind(key[2], settings))
        if instance.users and instance.settings != settings:
            raise kind.error(f"it runs with {instance.settings}; name a folder to get one of your own")
        instance.settings = settings
        server = Server(kind, instance)
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


@atexit.register
def _remove_all() -> None:
    for instance in _instances.values():
        if instance.owner == os.getpid():
            instance.remove()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it when this process was forked


os.register_at_fork(after_in_child=_after_fork)
