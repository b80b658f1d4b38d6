"""Everything that the service needs, started with one call and ended with it.

Main path: with running_stack() as stack: httpx.post(f"{stack.url}/v1/answers", headers=stack.headers, ...).
The model's endpoint, Redis, PostgreSQL, the queue, a worker, two replicas and the gateway are processes of
their own; REDIS_URL, DATABASE_URL and AMQP_URL name servers to use instead of some.

A part is known by its name: stack.kill("redis") is a crash, stack.start("redis") brings it back under the
same address. Whatever ends this process ends all of them: see services/child.py.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from course_lib import lm
from course_lib.deployment.callers import make_key
from course_lib.deployment.config import ROLES, DeploymentConfig
from course_lib.deployment.gateway import HEALTH_PATH, Replica, longest_end_s, routes
from course_lib.errors import CourseError
from course_lib.paths import ROOT
from course_lib.services import running_gateway, running_postgres, running_queue, running_redis, shown
from course_lib.services.child import CLOSE, STOP, Child
from course_lib.services.queue import Kind
from course_lib.services.server import Server, ServerError

_READY_S = 60.0
_LOOK_EVERY_S, _KEEP_EVERY_S = 0.05, 1.0
_CLOSE_S = 6.0
"""When all of it ends, what is under way has so long: nothing is left of it within ten seconds."""
_CODE = (
    "import sys; sys.path.insert(0, {root!r}); "
    "from course_lib.deployment.lean import leave_out; leave_out(); "
    "from course_lib.deployment.replica import run_child, run_worker_child; "
)
_SERVERS: dict[str, tuple[str, Callable[..., Server]]] = {
    "redis": ("REDIS_URL", running_redis),
    "database": ("DATABASE_URL", running_postgres),
    "queue": ("AMQP_URL", running_queue),
}


class StackError(CourseError):
    """A part of the stack cannot be started, or there is no part of this name."""


class Process:
    """A process of ours: a replica, which listens, or a worker."""

    def __init__(self, name: str, config: DeploymentConfig, *, listens: bool) -> None:
        self.name, self.config, self._listens = name, config, listens
        self.port = 0
        self._child: Child | None = None
        self._log: Any = None

    @property
    def url(self) -> str:
        """Where a replica listens; the same after a kill."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process's number; 0 when it does not run."""
        return self._child.process.pid if self._child and self._child.is_running() else 0

    def start(self) -> None:
        """Start it, if it does not run; wait() waits until it is ready.

        Raises:
            StackError: the system refuses it, such as a port that another process has taken meanwhile.
        """
        try:
            self._start()
        except (OSError, ValueError) as error:
            where = f" on port {self.port}" if self.port else ""
            said = getattr(error, "strerror", None) or error
            raise StackError(f"{self.name} cannot be started{where}: {said}; start() it again") from None

    def _start(self) -> None:
        if self.pid:
            return
        with ExitStack() as stack:
            code, fds = "run_worker_child(", []
            if self._listens:
                listener = stack.enter_context(socket.create_server(("127.0.0.1", self.port), backlog=1024))
                self.port, fds = listener.getsockname()[1], [listener.fileno()]
                code = f"run_child({fds[0]}, "
            code = f"{_CODE.format(root=str(ROOT))}{code}owner={os.getpid()})"
            known = {"COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()}
            self._log = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process)
            options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": self._log, "pass_fds": fds}
            environment = {**os.environ, **known, **self.config.environment()}
            self._child = Child([sys.executable, "-P", "-c", code], env=environment, **options)

    def wait(self, path: str = HEALTH_PATH) -> None:
        """Wait until it answers 200 at a path: live as soon as it answers at all, ready when it is whole.

        Of one whose parts do not all answer, ready says so after ten seconds, and it does what it can.

        Raises:
            StackError: it has ended, or takes too long; with what it wrote.
        """
        give_up_at = time.monotonic() + _READY_S
        while self._listens and not self._answers(path):
            if not self.pid or time.monotonic() > give_up_at:
                raise StackError(f"{self.name} does not answer; it wrote: {self._wrote() or 'nothing'}")
            time.sleep(_LOOK_EVERY_S)

    def _wrote(self) -> str:
        if self._log is None or self._log.closed:
            return ""
        self._log.seek(0)
        return " | ".join(self._log.read().decode(errors="replace").strip().splitlines()[-3:])

    def _answers(self, path: str) -> bool:
        try:
            return httpx.get(f"{self.url}{path}", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def code(self) -> int | None:
        """How it ended last: 0, or minus the signal's number; None while it runs."""
        return self._child.process.poll() if self._child else None

    def stop(self, word: bytes = STOP) -> None:
        """End it as it should be ended: it says so first, then answers what it has, and is waited for.

        With CLOSE it says so to nobody, since all others end with it.
        """
        if self._child is not None:
            self._child.stop(word, longest_end_s(self.config) + 1.0 if word == STOP else _CLOSE_S)
            self._log.close()

    def kill(self) -> None:
        """End it as a crash would."""
        if self._child is not None:
            self._child.process.kill()
            self._child.process.wait()
            self.stop()


class Stack:
    """The parts that run, by name."""

    def __init__(self, config: DeploymentConfig, parts: dict[str, Any], key: str) -> None:
        self.config, self.parts, self.key = config, parts, key
        """The settings; the parts; the demo key, which has every role (development only)."""

    @property
    def url(self) -> str:
        """Where callers ask: the gateway."""
        return str(self.parts["gateway"].url)

    @property
    def headers(self) -> dict[str, str]:
        """What to send so that the service lets one in."""
        return {"X-API-Key": self.key}

    @property
    def replicas(self) -> list[str]:
        """Where the replicas listen."""
        return [part.url for part in self._replicas]

    @property
    def _replicas(self) -> list[Process]:
        return [part for name, part in self.parts.items() if name.startswith("replica")]

    def start(self, name: str) -> None:
        """Start a part again, and wait until it answers; whether it is ready is for the gateway to ask.

        Raises:
            StackError: there is no such part, or it does not start.
        """
        part = self._part(name)
        try:
            part.start()
        except ServerError as error:
            raise StackError(str(error)) from error
        if isinstance(part, Process):
            part.wait("/health/live")

    def stop(self, name: str) -> None:
        """End a part as it should be ended: a replica answers what it has."""
        self._part(name).stop()

    def kill(self, name: str) -> None:
        """End a part as a crash would."""
        self._part(name).kill()

    def keep(self) -> list[str]:
        """Start the parts again that do not run, and the model's endpoint; return the names of those parts.

        Raises:
            StackError, EndpointError: one does not start.
        """
        lm.url()
        ended = [
            name
            for name, part in self.parts.items()
            if not part.pid and (isinstance(part, Process) or not part.is_shared)
        ]
        for name in ended:
            self.start(name)
        return ended

    def add(self, *versions: str | None) -> list[str]:
        """Start one more replica of each version, and return their names; until use() they get no request.

        None is the version that the settings say.
        """
        first = 1 + len(self._replicas)
        added = {f"replica-{number}": version for number, version in enumerate(versions, start=first)}
        for name, version in added.items():
            update = {"program_version": version} if version else {}
            self.parts[name] = Process(name, self.config.model_copy(update=update), listens=True)
            self.parts[name].start()
        for name in added:
            self.parts[name].wait()
        return list(added)

    def use(self, weights: dict[str, int] | None = None) -> None:
        """Let the gateway send each version its share of the requests; None: all versions the same."""
        replicas = [
            Replica(each.url, each.config.program_version, each.config.programs) for each in self._replicas
        ]
        self.parts["gateway"].use(routes(replicas, weights, config=self.config))

    def _part(self, name: str) -> Any:
        if name not in self.parts:
            raise StackError(f"there is no part {name!r}; the parts are: {', '.join(self.parts)}")
        return self.parts[name]

    def __str__(self) -> str:
        config, queue = self.config, self.parts["queue"]
        addresses = {
            "gateway": self.url,
            "replicas": ", ".join(self.replicas),
            "model": f"{config.model} at {lm.url()}",
            "redis": shown(config.redis_url.get_secret_value() if config.redis_url else ""),
            "database": shown(config.database_url.get_secret_value() if config.database_url else ""),
            "queue": getattr(queue, "kind", "") or "as AMQP_URL says",
            "traces": shown(config.otlp_endpoint) if config.otlp_endpoint else "in memory",
        }
        addresses |= {"demo key": self.key} if self.key else {}
        return "\n".join(f"    {name:<9} {text}" for name, text in addresses.items())


@contextmanager
def running_stack(
    *, versions: Sequence[str | None] = (None, None), queue: Kind | None = None, **settings: Any
) -> Iterator[Stack]:
    """Start everything, in some ten seconds; at the end of the block nothing of it is left.

    Args:
        versions: of the programs, one for each process of the service; None: what the settings say.
        queue: which to start; None: RabbitMQ where it is installed, else NATS.
        settings: of DeploymentConfig, beside those of the environment.

    Raises:
        StackError, ServerError, ConfigError: a part cannot be started, with what to do.
    """
    if not versions:
        raise StackError("versions is (): nothing would answer; name one, or None for what the settings say")
    with ExitStack() as stack:
        lm.url()  # the model's endpoint starts meanwhile
        servers: dict[str, Any] = {}
        for name in (*_SERVERS, "gateway"):
            servers[name] = _server(name, **({"kind": queue} if name == "queue" else {}))
            stack.callback(_end, servers[name])
        records = servers["gateway"].folder / "records"  # goes with the gateway, whatever ends this process
        records.mkdir()
        config, key = _settings(servers, settings, records)
        parts = {**servers, "worker": Process("the worker", config, listens=False)}
        stack.callback(_end_all, parts)
        parts["worker"].start()
        running = Stack(config, parts, key)
        running.add(*versions)
        running.use()
        yield running


@contextmanager
def running_replica(**settings: Any) -> Iterator[str]:
    """Start one process of the service alone, without gateway and servers, and yield its address.

    Args:
        settings: of DeploymentConfig, beside those of the environment.

    Raises:
        StackError, ConfigError: it cannot be started, with what to do.
    """
    lm.url()
    replica = Process("the replica", DeploymentConfig(**settings), listens=True)
    try:
        replica.start()
        replica.wait()
        yield replica.url
    finally:
        replica.stop()


def _server(name: str, **options: Any) -> Server:
    """Return a server of the stack's own, or the one that the environment names."""
    variable, start = _SERVERS.get(name, ("", running_gateway))
    return start(None if os.environ.get(variable) else Path(tempfile.gettempdir()), **options)


def _settings(servers: dict[str, Any], given: dict[str, Any], records: Path) -> tuple[DeploymentConfig, str]:
    """Return the settings of all replicas, and the demo key; what development lacks is made."""
    urls = {f"{name}_url": servers[name].url for name in _SERVERS}
    config, key = DeploymentConfig(**{**urls, **given}), ""
    if config.profile == "development":
        made: dict[str, Any] = {"records_folder": config.records_folder or records}
        for field in ("jwt_secret", "signing_key"):
            made[field] = getattr(config, field) or SecretStr(secrets.token_urlsafe(32))
        if not config.api_keys:
            key, entry = make_key("demo", "lantern", ROLES)
            made["api_keys"] = (entry,)
        config = config.model_copy(update=made)
    return config, key


def _end_all(parts: dict[str, Any]) -> None:
    with ThreadPoolExecutor() as pool:
        ours = [part for part in parts.values() if isinstance(part, Process)]
        list(pool.map(lambda part: part.stop(CLOSE), ours))


def _end(server: Server) -> None:
    if not server.is_shared:
        server.close()


def serve(**settings: Any) -> None:
    """Run everything until Ctrl-C or SIGTERM, as `course serve` does."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    begun_s = time.monotonic()
    try:
        with running_stack(**settings) as stack:
            took_s = time.monotonic() - begun_s
            print(f"Lantern's desk answers on {stack.url} (ready in {took_s:.1f} s; Ctrl-C ends it)")
            print(stack)
            if stack.key:
                print(
                    f"    curl {stack.url}/v1/answers -H 'X-API-Key: {stack.key}' "
                    """-H 'Content-Type: application/json' -d '{"question": "What does shipping cost?"}'"""
                )
            sys.stdout.flush()
            while True:
                time.sleep(_KEEP_EVERY_S)
                try:
                    for name in stack.keep():
                        print(f"the {name} had ended, and was started again", flush=True)
                except CourseError as error:
                    print(error, flush=True)
    except KeyboardInterrupt:
        print("ended", flush=True)
