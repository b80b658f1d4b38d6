"""JupyterLab for a learner: one server per work folder, its address printed, its log in a file.

Main path: start() -> an already running server's address, or a new server until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from course_lib.errors import CourseError
from course_lib.files import FileError, write_whole

START_DEADLINE_S = 60.0
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
}
"""No question about news at the first start; a lab reopened without its kernel shows what it last showed."""


def start(folder: Path, notebook: str, *, port: int, wants_browser: bool) -> None:
    """Run JupyterLab on `folder`, opened on `notebook`, until Ctrl-C or SIGTERM.

    If one runs there already, its address is printed instead. A port in use means another one.

    Raises:
        CourseError: the server ended or stayed silent; the end of its log is in the message.
    """
    if running := _running(folder):
        print(f"JupyterLab already runs on your notebooks:\n\n    {_address(running, notebook)}\n")
        return
    port, token = free_port(port), secrets.token_urlsafe(24)
    _settle()
    log = folder / ".jupyterlab.log"  # hidden: what lies among the notebooks is the learner's
    address = _address({"url": f"http://127.0.0.1:{port}/", "token": token}, notebook)
    try:
        opened = f"--LabApp.default_url=/lab/tree/{notebook}"
        with serving(folder, port, log, {"JUPYTER_TOKEN": token}, options=[opened]) as server:
            print(f"JupyterLab is ready, on Start here:\n\n    {address}\n")
            print(f"Stop it with Ctrl-C. Its log: {log}", flush=True)
            if wants_browser and _has_screen():
                webbrowser.open(address)
            if server.wait() not in (0, -signal.SIGTERM):
                raise CourseError(f"JupyterLab ended by itself; the end of {log}:\n{_end_of(log)}")
    except KeyboardInterrupt:
        print("\nStopping JupyterLab; your notebooks are saved as you last saved them.")


@contextlib.contextmanager
def serving(
    folder: Path, port: int, log: Path, env: dict[str, str], *, options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run JupyterLab on `folder`, wait until it answers, and stop it at the end, or at SIGTERM."""
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(  # noqa: S603 - our own command line
            [*_command(folder, port), *options],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches us, and we stop it in order
        )
    before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        _wait_until_ready(server, f"http://127.0.0.1:{port}/api", log)
        yield server
    finally:
        signal.signal(signal.SIGTERM, before)
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _settle() -> None:
    """Write SETTINGS where this environment's JupyterLab looks for them; settings that are there stay."""
    settings = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    if not settings.exists():
        with contextlib.suppress(FileError):  # a read-only environment: then JupyterLab has its own
            write_whole(settings, json.dumps(SETTINGS, indent=1) + "\n")


def _command(folder: Path, port: int) -> list[str]:
    options = [
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.extension_manager=readonly",
        # Where a file goes while its folder is listed, jupyter_server 2.21 answers "Directory not found".
        *(f"--ContentsManager.hide_globs={hidden}" for hidden in ("__pycache__", "*.sqlite3-journal")),
    ]
    root = ["--ServerApp.allow_root=True"] if os.geteuid() == 0 else []
    return [sys.executable, "-m", "jupyterlab", *options, *root]


def _running(folder: Path) -> dict[str, str] | None:
    """Return the server that already shows `folder`, if it answers."""
    from jupyter_server.serverapp import list_running_servers

    for server in list_running_servers():
        if Path(server["root_dir"]).resolve() == folder.resolve() and _answers(f"{server['url']}api"):
            return {"url": server["url"], "token": server["token"]}
    return None


def _address(server: dict[str, str], notebook: str) -> str:
    return f"{server['url']}lab/tree/{notebook}?token={server['token']}"


def _answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False
    return True  # if only to ask for the token


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while not _answers(url):
        if server.poll() is not None:
            raise CourseError(f"JupyterLab did not start; the end of {log}:\n{_end_of(log)}")
        if time.monotonic() > deadline:
            raise CourseError(f"JupyterLab gave no answer in {START_DEADLINE_S:.0f} s; see {log}, try again")
        time.sleep(0.1)


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])


def free_port(wanted: int) -> int:
    """Return `wanted`, or another port where that one is taken."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _has_screen() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
