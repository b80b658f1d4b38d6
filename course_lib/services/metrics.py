"""Prometheus and Alertmanager, the real ones where they are installed; each ends with this process.

Main path: running_alertmanager(config) -> running_prometheus({"desk": [...]}, rules=..., alertmanager=url).
Source: Debian's prometheus 2.42 and prometheus-alertmanager 0.25; HTTP API v1 of the one, v2 of the other.

Both listen on a free port of loopback, without Alertmanager's cluster port, and keep their data in a folder
that goes with the process. A token stands in a file of this user alone, never on a command line.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import httpx
import yaml

from course_lib.services.server import PortServer, ServerError

Labels = dict[str, str]
_REMEDY = "apt-get install prometheus prometheus-alertmanager, or: brew install prometheus alertmanager"
_NOBODY = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}


class _MetricsServer(PortServer):
    """What the two have in common: a program that may not be installed, and an API in JSON."""

    variable = ""  # none: the rules and targets of another are not ours to write
    programs: ClassVar[tuple[str, ...]]
    storage: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    probe = b"GET /-/ready HTTP/1.0\r\n\r\n"
    ready = b"HTTP/1.0 200"
    # Killed: both take up again what they had written, and a polite end takes seconds.
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = ()

    @classmethod
    def program(cls) -> str | None:
        """Return where the program is; None where it is not installed."""
        return next(filter(None, map(shutil.which, cls.programs)), None)

    def commands(self) -> list[list[str]]:
        """Write its settings, and return what to run."""
        program = self.program()
        if program is None:
            raise ServerError(f"{self.name} is not installed; install it with: {_REMEDY}")
        settings = self.write(self.socket, yaml.safe_dump(self.settings()))
        places = [f"--config.file={settings}", f"--storage.{self.storage}={self.folder / 'data'}"]
        address = f"--web.listen-address=127.0.0.1:{self.port}"
        return [[program, *places, address, "--log.level=error", *self.options]]

    def settings(self) -> Any:
        """Return what it reads at its start."""
        raise NotImplementedError

    def asked(self, path: str, **parameters: Any) -> Any:
        """Return what its API says.

        Raises:
            ServerError: it does not answer, or does not take the parameters; with its own words.
        """
        try:
            told = httpx.get(f"{self.url}{path}", params=parameters, timeout=10, trust_env=False)
        except httpx.HTTPError as error:
            why = type(error).__name__
            raise ServerError(f"{self.name} does not answer ({why}); start() it again") from None
        if told.status_code != 200:
            raise ServerError(f"{self.name} refuses {parameters or path}: {told.text.strip()[:300]}")
        return told.json()


class PrometheusServer(_MetricsServer):
    """A Prometheus: what it asks, how often, and by which rules it alerts."""

    name = "Prometheus"
    programs = ("prometheus",)
    socket = "prometheus.yml"
    storage = "tsdb.path"

    def __init__(self, settings: dict[str, Any], token: str) -> None:
        super().__init__(Path(tempfile.gettempdir()))
        self._settings, self._token = settings, token

    def settings(self) -> dict[str, Any]:
        """Return targets and rules; the token stands in a file of its own."""
        if self._token:
            credentials = {"credentials_file": str(self.write("token", self._token))}
            for each in self._settings["scrape_configs"]:  # the token goes nowhere else that a target names
                each.update(authorization=credentials, follow_redirects=False)
        return self._settings

    def query(self, promql: str) -> list[tuple[Labels, float]]:
        """Return each series of an expression as labels and its value now."""
        found = self.asked("/api/v1/query", query=promql)["data"]["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def query_range(
        self, promql: str, begin_s: float, end_s: float, *, step_s: float = 1.0
    ) -> list[tuple[Labels, list[tuple[float, float]]]]:
        """Return each series of an expression as labels and (seconds since 1970, value), oldest first."""
        when = {"start": begin_s, "end": end_s, "step": step_s}
        found = self.asked("/api/v1/query_range", query=promql, **when)["data"]["result"]
        return [(each["metric"], [(at, float(text)) for at, text in each["values"]]) for each in found]

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing: labels, annotations, state, activeAt."""
        return list(self.asked("/api/v1/alerts")["data"]["alerts"])


class AlertmanagerServer(_MetricsServer):
    """An Alertmanager: who is told of which alert."""

    name = "Alertmanager"
    programs = ("prometheus-alertmanager", "alertmanager")
    options = ("--cluster.listen-address=",)
    socket = "alertmanager.yml"
    storage = "path"

    def __init__(self, config: Path | None) -> None:
        super().__init__(Path(tempfile.gettempdir()))
        self._config = config

    def settings(self) -> Any:
        """Return its settings, in which the files they name are where they are; without any, it tells nobody.

        Raises:
            ServerError: they cannot be read, or name a link to nothing.
        """
        try:
            settings = yaml.safe_load(self._config.read_text("utf-8")) if self._config else _NOBODY
        except (OSError, UnicodeError, yaml.YAMLError) as error:
            said = " ".join(str(error).split())[:300]
            raise ServerError(f"Alertmanager's settings {self._config} cannot be read: {said}") from None
        return self._found(settings)

    def _found(self, value: Any, key: str = "") -> Any:
        """Return settings with absolute names of files, which stand in keys `..._file` and in `templates`."""
        if isinstance(value, dict):
            return {name: self._found(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self._found(each, key) for each in value]
        if self._config is None or not isinstance(value, str) or not key.endswith(("_file", "templates")):
            return value
        path = self._config.absolute().parent / value
        if path.is_symlink() and not path.exists():
            problem = f"{self._config} names {value!r} as {key}, which is a link to nothing; mend the link"
            raise ServerError(problem)
        return str(path)

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that it holds: labels, annotations, startsAt, status (active or suppressed)."""
        return list(self.asked("/api/v2/alerts"))


def has_prometheus() -> bool:
    """Return whether Prometheus and Alertmanager are installed."""
    return bool(PrometheusServer.program() and AlertmanagerServer.program())


def running_prometheus(
    targets: Mapping[str, Sequence[str]],
    *,
    token: str = "",
    rules: Path | None = None,
    alertmanager: str = "",
    every_s: float = 1.0,
) -> PrometheusServer:
    """Return a Prometheus of one's own, started in a quarter of a second; it ends with its `with`.

    Args:
        targets: by job, the `host:port` (or address) of what to ask for /metrics.
        token: what it sends as a bearer token.
        rules: a file of rules.
        alertmanager: the address of what is told of alerts.
        every_s: how often targets are asked and rules evaluated, in whole milliseconds.

    Raises:
        ServerError: it is not installed, or does not start; with what to do.
    """
    interval = f"{round(every_s * 1_000)}ms"
    settings: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [_host(each) for each in hosts]}]}
            for job, hosts in targets.items()
        ],
        "rule_files": [str(rules.absolute())] if rules else [],
    }
    if alertmanager:
        told = {"static_configs": [{"targets": [_host(alertmanager)]}]}
        settings["alerting"] = {"alertmanagers": [told]}
    server = PrometheusServer(settings, token)
    server.start()
    return server


def running_alertmanager(config: Path | None = None) -> AlertmanagerServer:
    """Return an Alertmanager of one's own, started in a quarter of a second; it ends with its `with`.

    Args:
        config: its settings; the files that they name stand beside them. None: it tells nobody.

    Raises:
        ServerError: it is not installed, or does not start; with what to do.
    """
    server = AlertmanagerServer(config)
    server.start()
    return server


def _host(address: str) -> str:
    return address.rstrip("/").partition("://")[2] or address
