"""Both queues: on loopback, for those with the password, up again after a crash, gone with their process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest

from course_lib.services import QueueServer, ServerError, running_queue
from course_lib.services.queue import RABBITMQ
from tests.services.processes import happens, is_alive, user_of

needs_rabbitmq = pytest.mark.skipif(not RABBITMQ.exists(), reason="RabbitMQ is not installed")
KINDS = ["nats", pytest.param("rabbitmq", marks=needs_rabbitmq)]
OFTEN = ["nats", pytest.param("rabbitmq", marks=[needs_rabbitmq, pytest.mark.soak])]
"""Each start of RabbitMQ takes four seconds of a core: one is shared, and one is an ordinary user's."""
READS_ALL = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # Python may lie in /root
ORDINARY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *READS_ALL)


@pytest.fixture(scope="module", params=KINDS)
def server(request) -> Iterator[QueueServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RABBITMQ_NODE_PORT", "1")  # settings for a server of one's own
        patch.setenv("ERL_FLAGS", "-bad")
        yield running_queue(kind=request.param)


def family_of(server: QueueServer) -> list[psutil.Process]:
    process = psutil.Process(server.pid)
    return [process, *process.children(recursive=True)]


def test_it_listens_on_one_port_of_loopback_and_its_password_is_in_no_command_line(server) -> None:
    line = urlsplit(server.url)
    seen = [
        each.laddr
        for process in family_of(server)
        for each in process.net_connections()
        if each.status == "LISTEN"
    ]

    assert seen == [("127.0.0.1", line.port)]
    assert not any(line.password in " ".join(each.cmdline()) for each in family_of(server))
    assert (server.folder / "settings.conf").stat().st_mode & 0o077 == 0


def test_it_lets_in_who_has_the_password_and_nobody_else(server) -> None:
    server.ping(server.url)

    with pytest.raises(Exception, match=r"(?i)no servers available|login"):
        server.ping(server.url.replace(urlsplit(server.url).password, "guess"))


@pytest.mark.parametrize("server", OFTEN, indirect=True)
def test_after_a_crash_it_starts_again_under_the_same_address(server) -> None:
    url, pid, family = server.url, server.pid, family_of(server)
    os.kill(pid, signal.SIGKILL)
    assert happens(lambda: not any(is_alive(each.pid) for each in family))

    again = running_queue(kind=server.kind)

    assert again.url == url
    again.ping(url)


@needs_rabbitmq
@pytest.mark.parametrize("server", ["rabbitmq"], indirect=True)
def test_erlang_s_daemon_is_not_started_which_would_outlive_all(server) -> None:
    environment = psutil.Process(server.pid).environ()
    each_minute = ["erl", "-boot", "no_dot_erlang", "-sname", "starter", "-noinput", "-s", "erlang", "halt"]

    subprocess.run(each_minute, env=environment, check=False, timeout=60, stdin=subprocess.DEVNULL)

    daemons = [each for each in psutil.process_iter() if each.name() == "epmd"]
    assert not [each for each in daemons if each.environ().get("HOME") == str(server.folder)]


@pytest.mark.parametrize("kind", OFTEN)
@pytest.mark.parametrize("word", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_process_and_leaves_no_folder(kind, word) -> None:
    with user_of("queue", options=f"kind={kind!r}") as user:
        family = psutil.Process(user.pid).children(recursive=True)
        user.process.send_signal(word)

        assert user.has_left_nothing()
        assert happens(lambda: not any(is_alive(each.pid) for each in family))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can be another user")
@pytest.mark.parametrize("kind", KINDS)
def test_an_ordinary_user_can_run_it_and_nothing_of_it_is_left_when_he_is_killed(kind) -> None:
    with user_of("queue", options=f"kind={kind!r}", prefix=ORDINARY) as user:
        family = psutil.Process(user.pid).children(recursive=True)
        assert psutil.Process(user.pid).uids().real == 65534
        user.process.kill()

        assert user.has_left_nothing()
        assert happens(lambda: not any(is_alive(each.pid) for each in family))


def test_the_environment_names_another_queue_of_either_kind(server, monkeypatch) -> None:
    monkeypatch.setenv("AMQP_URL", server.url)
    named = running_queue()

    assert (named.url, named.kind, named.pid) == (server.url, server.kind, 0)
    assert urlsplit(server.url).password not in repr(named)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    monkeypatch.setenv("AMQP_URL", f"{server.scheme}://me:hunter2@127.0.0.1:{free}")
    with pytest.raises(ServerError, match=r"does not answer.*correct AMQP_URL") as told:
        running_queue()
    assert "hunter2" not in str(told.value)
    assert f"127.0.0.1:{free}" in str(told.value)


def test_a_kind_that_there_is_not_is_told() -> None:
    with pytest.raises(ServerError, match='"rabbitmq" and "nats"'):
        running_queue(kind="kafka")
