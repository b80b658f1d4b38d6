"""The gateway: on loopback, alone with its routes, up again after a crash, gone with its process."""

from __future__ import annotations

import os
import signal

import httpx
import psutil
import pytest

from course_lib.services import ServerError, running_gateway
from course_lib.services.gateway import GatewayServer
from tests.services.processes import happens, is_alive, user_of

ROUTES = {
    "http": {
        "routers": {"all": {"rule": "Path(`/is-up`)", "service": "ping@internal"}},
    }
}


@pytest.fixture(scope="module")
def server() -> GatewayServer:
    return running_gateway()


def status(server, path):
    return httpx.get(f"{server.url}{path}", trust_env=False).status_code


def test_it_listens_on_loopback_only_and_has_no_page_and_no_api(server):
    process = psutil.Process(server.pid)

    listens = {each.laddr for each in process.net_connections() if each.status == "LISTEN"}

    assert {(each.ip, each.port) for each in listens} == {("127.0.0.1", server.port)}
    assert {status(server, path) for path in ("/api/rawdata", "/dashboard/", "/debug/pprof/", "/")} == {404}


def test_it_calls_nobody(server):
    process = psutil.Process(server.pid)

    assert [each for each in process.net_connections() if each.raddr and each.raddr.ip != "127.0.0.1"] == []
    settings = (server.folder / "settings.yml").read_text()
    assert "checkNewVersion: false" in settings
    assert "sendAnonymousUsage: false" in settings


def test_routes_hold_when_use_returns_and_after_a_crash(server):
    server.use({"http": {}})
    assert status(server, "/is-up") == 404

    server.use(ROUTES)
    assert status(server, "/is-up") == 200

    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    assert happens(lambda: not is_alive(pid))
    assert running_gateway().url == server.url
    assert happens(lambda: status(server, "/is-up") == 200)


def test_a_gateway_that_does_not_run_takes_no_routes(short_folder):
    with running_gateway(short_folder) as server:
        server.stop()

        with pytest.raises(ServerError, match="did not take its routes"):
            server.use(ROUTES)


@pytest.mark.parametrize("word", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_process_and_leaves_no_folder(word):
    with user_of("gateway") as user:
        user.process.send_signal(word)

        assert user.has_left_nothing()
