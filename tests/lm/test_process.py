"""The endpoint as a child process: it lives exactly as long as its parent."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from course_lib import lm
from course_lib.lm import client, process
from course_lib.lm.process import EndpointError
from tests.services.processes import happens

START = "from course_lib import lm; print(lm.url(), flush=True); "


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    lm.stop()


def run(code: str, **options: Any) -> subprocess.Popen[str]:
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stdin=pipe, text=True, **options)


def is_up(url: str) -> bool:
    try:
        return httpx.get(url.replace("/v1", "/course/health"), timeout=5).status_code == 200
    except httpx.TransportError:
        return False


READ_ON = "import sys; sys.stdin.read()"
FORK = "import os, time; pid = os.fork(); pid and print(pid, flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("then", "how"),
    [(READ_ON, signal.SIGKILL), (READ_ON, signal.SIGTERM), (READ_ON, None), (FORK, signal.SIGKILL)],
    ids=["SIGKILL", "SIGTERM", "at exit", "fork lives on"],
)
def test_the_endpoint_ends_with_its_parent(then: str, how: signal.Signals | None) -> None:
    with run(START + then) as parent:
        assert parent.stdout
        assert parent.stdin
        url = parent.stdout.readline().strip()
        fork = int(parent.stdout.readline()) if then == FORK else None
        assert is_up(url)

        if how is None:
            parent.stdin.close()
        else:
            parent.send_signal(how)

        assert happens(lambda: not is_up(url))
        if fork:
            os.kill(fork, signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # Python 3.12 and later
def test_a_forked_copy_uses_the_endpoint_and_does_not_end_it() -> None:
    url = lm.url()
    assert is_up(url)

    pid = os.fork()
    if pid == 0:
        same = lm.url() == url
        process.stop()
        os._exit(0 if same else 1)
    _, status = os.waitpid(pid, 0)

    assert status == 0
    assert is_up(url)


def test_an_endpoint_that_died_is_replaced_on_the_same_port_with_the_same_profiles(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lm.profile("mine", error_rate=1)
    url, endpoint = lm.url(), process._endpoint
    assert endpoint

    os.kill(endpoint.process.pid, signal.SIGKILL)
    endpoint.process.wait()

    assert lm.url() == url
    client.restore_profiles()
    assert "mine" in client.call("GET", "/course/profiles")
    assert lm.ledger().requests == 0
    assert "ended with code -9; lm.connect() starts a new one" in capsys.readouterr().err


def test_an_interrupt_of_the_notebook_leaves_the_endpoint_alone() -> None:
    code = (  # an interrupt means the same in a shell's background job, which begins with ignoring it
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"try: {START}time.sleep(60)\n"
        "except KeyboardInterrupt: print('on', flush=True); time.sleep(60)"
    )
    with run(code, start_new_session=True) as parent:
        assert parent.stdout
        url = parent.stdout.readline().strip()
        assert is_up(url)

        os.killpg(parent.pid, signal.SIGINT)

        assert parent.stdout.readline() == "on\n"
        assert is_up(url)
        parent.kill()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("COURSE_LM_CAP_USD", "lots", "COURSE_LM_CAP_USD is 'lots'; it should be an amount in dollars"),
        ("COURSE_LM_URL", "http://127.0.0.1:9", "cannot be reached .* check COURSE_LM_URL"),
        ("COURSE_LM_URL", "localhost:8000", "it should look like http://"),
    ],
)
def test_a_setting_that_cannot_work_reaches_the_user(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)

    for asks in (lm.ledger, lm.connect):
        with pytest.raises(EndpointError, match=message):
            asks()


def test_a_shared_endpoint_is_used_when_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_LM_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("COURSE_LM_KEY", "anna")

    assert (lm.url(), lm.key()) == ("http://127.0.0.1:9/v1", "anna")
    assert process._endpoint is None


# -- alone, as `course lm` --------------------------------------------------------------------------------


def test_the_endpoint_alone_says_where_it_is_and_ends_on_interrupt() -> None:
    with run("from course_lib.lm.process import serve; serve()") as alone:
        assert alone.stdout
        said = alone.stdout.readline() + alone.stdout.readline()
        url = re.findall(r"export COURSE_LM_URL=(http://127\.0\.0\.1:\d+/v1)", said)[0]
        assert is_up(url)

        alone.send_signal(signal.SIGINT)

        assert alone.wait(5) == 0


def test_a_port_in_use_is_refused_with_the_remedy_and_another_machine_s_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(EndpointError, match=rf"port {port} .* is in use; .* course lm --port 0"):
            process.serve(port=port)
    with pytest.raises(EndpointError, match=r"cannot listen on 192\.0\.2\.1:0 .* usual host is 127\.0\.0\.1"):
        process.serve(host="192.0.2.1")
