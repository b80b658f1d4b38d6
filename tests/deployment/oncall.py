"""Who is called: a webhook that Alertmanager tells of alerts, and its settings with this webhook in them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from course_lib.paths import ROOT

Told = tuple[str, str, str]
"""The path of the webhook, an alert's name, and whether it is firing or resolved."""


@contextmanager
def receiver() -> Iterator[tuple[str, list[Told]]]:
    """Listen as a webhook; yields its host:port, and what it is told."""
    told: list[Told] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.extend((self.path, each["labels"]["alertname"], each["status"]) for each in body["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", told
        finally:
            server.shutdown()
            thread.join()


def routes_to(address: str, folder: Path) -> Path:
    """Write the project's routes with this webhook and short intervals; returns their file."""
    text = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    for old, new in {"oncall:9095": address, "30s": "1s", "interval: 5m": "interval: 1s"}.items():
        text = text.replace(old, new)
    (folder / "secrets").mkdir()
    (folder / "secrets" / "oncall-token").write_text("a-token")
    file = folder / "alertmanager.yml"
    file.write_text(text.replace("interval: 1m", "interval: 1s"))
    return file
