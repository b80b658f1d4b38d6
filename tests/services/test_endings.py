"""Every server ends with its process, however that ends, and leaves nothing; it starts wherever that is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.services.processes import User, happens, is_alive, process_field, user_of

BOTH = pytest.mark.parametrize("kind", ["redis", "postgres"])
FORK = "fork = os.fork() or time.sleep(600)\nprint(fork, flush=True)"


def send(number: signal.Signals, user: User) -> None:
    user.process.send_signal(number)


def pause_and_kill(user: User) -> None:
    os.kill(user.pid, signal.SIGSTOP)
    user.process.kill()


def kill_supervisor(user: User) -> None:
    os.kill(int(process_field(user.pid, "ppid")), signal.SIGKILL)
    if sys.platform == "linux":
        assert happens(lambda: not is_alive(user.pid))
    user.leave()


ENDINGS = {
    "at exit": User.leave,
    "SIGKILL": lambda user: send(signal.SIGKILL, user),
    "SIGTERM": lambda user: send(signal.SIGTERM, user),
    "SIGINT": lambda user: send(signal.SIGINT, user),
    "paused": pause_and_kill,
    "supervisor first": kill_supervisor,
}


@BOTH
@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_a_server_ends_with_its_process_and_leaves_no_folder(kind, end):
    with user_of(kind) as user:
        end(user)

        assert user.has_left_nothing()


@BOTH
def test_a_living_fork_of_a_killed_process_does_not_keep_the_server(kind):
    with user_of(kind, FORK) as user:
        fork = int(user.line())
        user.process.kill()

        assert user.has_left_nothing()
        assert is_alive(fork)
        os.kill(fork, signal.SIGKILL)


def test_a_process_killed_during_the_set_up_leaves_nothing(short_folder):
    short_folder.chmod(0o755)  # root's server is another user's
    command = [sys.executable, "-c", "from course_lib.services import running_postgres; running_postgres()"]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(short_folder)}) as process:
        assert happens(lambda: bool(list(short_folder.glob("*/data/PG_VERSION"))))
        process.kill()

    assert happens(lambda: not list(short_folder.iterdir()))


@BOTH
def test_the_thread_that_started_a_server_may_end(kind):
    then = "server.stop(); thread = threading.Thread(target=server.start); thread.start(); thread.join()"
    with user_of(kind, f"{then}; print(server.pid, flush=True)") as user:
        pid = int(user.line())

        assert pid != user.pid
        assert is_alive(pid)


# -- where it starts ---------------------------------------------------------------------------------------


@pytest.fixture(params=["a locale that is not installed", "a long TMPDIR", "root's TMPDIR", "an odd TMPDIR"])
def odd_place(request, short_folder) -> dict[str, str]:
    """The environment of a process that is somewhere unusual."""
    name = {"a long TMPDIR": "x" * 90, "an odd TMPDIR": "a b%41ü"}.get(request.param, "t")
    folder = short_folder / name
    folder.mkdir(mode=0o700)
    if request.param == "a locale that is not installed":
        return {"LANG": "xx_XX.UTF-8", "LC_ALL": "xx_XX.UTF-8", "PGPORT": "6543"}
    return {"TMPDIR": str(folder)}


PING = """
import psycopg, redis
if server.url.startswith("unix"):
    redis.Redis.from_url(server.url).ping()
else:
    psycopg.connect(server.url).close()
print("pong", flush=True)
"""


@BOTH
def test_it_starts_in_unusual_places(kind, odd_place):
    with user_of(kind, PING, env=odd_place) as user:
        assert user.line() == "pong"
        user.leave()

        assert user.has_left_nothing()


@BOTH
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root becomes somebody else"
)
def test_an_ordinary_user_has_servers_too(kind):
    capability = (
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    )  # Python may lie below /root
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *capability)
    with user_of(kind, PING, prefix=prefix) as user:
        assert user.line() == "pong"
        assert user.folder.stat().st_mode & 0o077 == 0
        user.leave()

        assert user.has_left_nothing()
