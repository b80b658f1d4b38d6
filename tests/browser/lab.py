"""JupyterLab as a learner gets it, on loopback, with nobody's settings but the test's.

Main path: with lab(folder, state) as server: server.address("00_start_here.ipynb").
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from course_lib.files import write_whole
from course_lib.lab import SETTINGS as COURSE_SETTINGS
from course_lib.lab import free_port, serving

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
SETTINGS = {
    **{f"{name.replace(':', '/')}.jupyterlab-settings": value for name, value in COURSE_SETTINGS.items()},
    # every cell is in the page, seen or not, so that a test can find it
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {
        "windowingMode": "none",
        "scrollPastEnd": False,
    },
}
PLACES = {
    "DSPY_CACHEDIR": "dspy_cache",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
}
"""What JupyterLab, a kernel and DSPy write, each below a folder of the test's own."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A running JupyterLab."""

    url: str
    token: str
    folder: Path
    """Where its notebooks are."""

    def address(self, notebook: str) -> str:
        """Return the address that opens a notebook alone, in a workspace of its own."""
        return f"{self.url}/doc/tree/{notebook}?token={self.token}&reset"


@contextlib.contextmanager
def lab(folder: Path, state: Path) -> Iterator[Lab]:
    """Run JupyterLab on `folder`, with settings, caches and log below `state`, and stop it at the end."""
    port, token = free_port(0), secrets.token_hex(16)  # two workers asking from 8888 up could get the same
    places = {variable: str(state / name) for variable, name in PLACES.items()}
    for place in places.values():
        Path(place).mkdir(parents=True, exist_ok=True)
    for name, value in SETTINGS.items():
        write_whole(state / "settings" / name, json.dumps(value))
    env = {**places, "COURSE_WORK": str(folder), "JUPYTER_TOKEN": token}
    with serving(folder, port, state / "lab.log", env, options=["--LabApp.expose_app_in_browser=True"]):
        yield Lab(f"http://127.0.0.1:{port}", token, folder)
