"""Prometheus and Alertmanager: on loopback, with a hidden token, gone with their process."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from course_lib.services import (
    PrometheusServer,
    ServerError,
    running_alertmanager,
    running_prometheus,
)
from tests.services.installed import need_prometheus
from tests.services.processes import happens, is_alive, user_of

TOKEN = "a-token-that-nobody-may-see"


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    need_prometheus()


@contextmanager
def target(instead: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve one metric, or say where it is instead; yields host:port and the Authorization that came."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers["Authorization"])
            self.send_response(302 if instead else 200)
            self.send_header("Location", f"http://{instead}/metrics")
            self.end_headers()
            self.wfile.write(b"answers_total 42\n")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


# Prometheus looks for new targets every five seconds, also at its start: this test waits for that.
def test_it_asks_its_targets_with_a_token_that_only_a_private_file_has():
    with (
        target() as (address, seen),
        running_prometheus({"desk": [address]}, token=TOKEN, every_s=0.2) as server,
    ):
        assert happens(lambda: bool(server.query("answers_total")))

        ((labels, value),) = server.query("answers_total")
        assert (labels["job"], labels["instance"], value) == ("desk", address, 42)
        assert f"Bearer {TOKEN}" in seen
        assert (server.folder / "token").stat().st_mode & 0o777 == 0o600
        assert server.folder.stat().st_mode & 0o077 == 0
        command = " ".join(psutil.Process(server.pid).cmdline())
        log = (server.folder / "log").read_text() + (server.folder / "prometheus.yml").read_text()
        assert TOKEN not in command + log


def test_it_takes_its_token_nowhere_else_when_a_target_says_so():
    with (
        target() as (other, stolen),
        target(instead=other) as (address, seen),
        running_prometheus({"desk": [address]}, token=TOKEN, every_s=0.2) as server,
    ):
        assert happens(lambda: [value for _, value in server.query('up{job="desk"}')] == [0])

        assert seen
        assert stolen == []


def test_alertmanager_gets_the_files_that_its_settings_name_and_no_others(tmp_path):
    config, token = tmp_path / "alertmanager.yml", tmp_path / "secrets" / "token"
    token.parent.mkdir()
    token.write_text(TOKEN)
    (tmp_path / "unnamed").symlink_to("nothing")  # whatever else stands there is no business of it
    http = "{authorization: {credentials_file: secrets/token}}"
    config.write_text(f"global: {{http_config: {http}}}\nroute: {{receiver: a}}\nreceivers: [{{name: a}}]\n")

    with running_alertmanager(config) as server:
        (told,) = [server.asked("/api/v2/status")["config"]["original"]]
        assert str(token) in told
        assert {path.name for path in server.folder.iterdir()} <= {"alertmanager.yml", "data", "log"}

    token.unlink()
    token.symlink_to("nothing")
    with pytest.raises(ServerError, match=r"names 'secrets/token' .* a link to nothing"):
        running_alertmanager(config)


def test_both_listen_on_one_port_of_loopback_and_call_nobody():
    with (
        running_alertmanager() as alertmanager,
        running_prometheus({}, alertmanager=alertmanager.url) as server,
    ):
        for each in (alertmanager, server):
            lines = psutil.Process(each.pid).net_connections()
            listens = {(one.laddr.ip, one.laddr.port) for one in lines if one.status == "LISTEN"}
            assert listens == {("127.0.0.1", each.port)}
            assert [one for one in lines if one.raddr and one.raddr.ip != "127.0.0.1"] == []


def test_a_wrong_query_and_a_server_that_ended_are_told(tmp_path):
    with running_prometheus({}) as server:
        with pytest.raises(ServerError, match="unclosed left parenthesis"):
            server.query("sum(up")
        server.stop()
        with pytest.raises(ServerError, match="does not answer"):
            server.query("up")

    rules = tmp_path / "rules.yml"
    rules.write_text("groups: [{name: a, rules: [{alert: B, expr: 'sum('}]}]")
    with pytest.raises(ServerError, match="Prometheus ended"):
        running_prometheus({}, rules=rules)


def test_where_it_is_not_installed_the_error_says_how_to(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with pytest.raises(ServerError, match=r"apt-get install prometheus .* brew install prometheus"):
        running_prometheus({})


def test_it_comes_back_under_its_address_after_a_crash():
    with running_prometheus({}) as server:
        url, pid = server.url, server.pid
        os.kill(pid, signal.SIGKILL)
        assert happens(lambda: not is_alive(pid))
        server.start()

        assert server.url == url
        assert isinstance(server, PrometheusServer)
        assert server.query("vector(1)") == [({}, 1.0)]


@pytest.mark.parametrize(("kind", "options"), [("prometheus", "{}"), ("alertmanager", "")])
def test_it_ends_with_its_process_and_leaves_no_folder(kind, options):
    with user_of(kind, options=options.replace("{}", "dict()")) as user:
        user.process.send_signal(signal.SIGKILL)

        assert user.has_left_nothing()
