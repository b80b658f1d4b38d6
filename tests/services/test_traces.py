"""The trace viewer: on loopback, for those with its key, up again after a crash, gone with its process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest

from course_lib.services import ServerError, running_traces
from course_lib.services.traces import TraceServer
from tests.services.processes import happens, is_alive, user_of

SPAN = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "name": "chat sim-large",
    "kind": 3,
    "startTimeUnixNano": "1795757317000000000",
    "endTimeUnixNano": "1795757318000000000",
    "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}],
}
SERVICE = {"attributes": [{"key": "service.name", "value": {"stringValue": "desk"}}]}
EXPORT = {"resourceSpans": [{"resource": SERVICE, "scopeSpans": [{"spans": [SPAN]}]}]}


@pytest.fixture(scope="module")
def server() -> Iterator[TraceServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTTRACE_API_KEYS", "another")  # settings for a viewer of one's own
        patch.setenv("LIGHTTRACE_PORT", "1")
        yield running_traces()


def send(server: TraceServer, headers: dict[str, str]) -> int:
    return httpx.post(f"{server.url}/v1/traces", json=EXPORT, headers=headers).status_code


def runs(server: TraceServer) -> list[str]:
    with httpx.Client(base_url=server.url) as http:
        assert http.get("/api/projects").status_code == 401
        assert http.post("/api/login", json={"password": server.password}).status_code == 200
        return [each["name"] for each in http.get("/api/projects/desk/runs?since=0").json()["items"]]


def test_it_takes_spans_from_those_who_have_its_key_and_shows_them_for_its_password(server) -> None:
    assert send(server, {}) == send(server, {"Authorization": "Bearer another"}) == 401
    assert send(server, server.headers) == 200

    assert runs(server) == ["sim-large"]  # without the operation
    assert "<html" in httpx.get(server.url).text.lower()


def test_it_listens_on_loopback_only_and_its_keys_are_in_no_command_line(server) -> None:
    process = psutil.Process(server.pid)

    assert {each.laddr.ip for each in process.net_connections() if each.status == "LISTEN"} == {"127.0.0.1"}
    assert server.headers["Authorization"].split()[1] not in " ".join(process.cmdline())
    assert (server.folder / ".env").stat().st_mode & 0o077 == 0


def test_after_a_crash_it_starts_again_under_the_same_address_with_what_it_had(server) -> None:
    send(server, server.headers)
    url, pid = server.url, server.pid
    os.kill(pid, signal.SIGKILL)
    assert happens(lambda: not is_alive(pid))

    assert running_traces().url == url
    assert runs(server) == ["sim-large"]


@pytest.mark.parametrize("word", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_process_and_leaves_no_folder(word) -> None:
    with user_of("traces") as user:
        user.process.send_signal(word)

        assert user.has_left_nothing()


def test_the_environment_names_another_collector_and_its_key(server, monkeypatch) -> None:
    monkeypatch.setenv("COURSE_TRACES_URL", server.url)
    monkeypatch.setenv("COURSE_TRACES_KEY", "theirs")
    named = running_traces()

    assert (named.url, named.pid, named.headers) == (server.url, 0, {"Authorization": "Bearer theirs"})

    monkeypatch.setenv("COURSE_TRACES_URL", "http://me:hunter2@127.0.0.1:1")
    with pytest.raises(
        ServerError, match=r"\(127.0.0.1:1\) does not answer.*correct COURSE_TRACES_URL"
    ) as told:
        running_traces()
    assert "hunter2" not in str(told.value)
