"""Every server ends with its process, however that ends, and leaves nothing; it starts wherever that is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from course_lib.services import child
from tests.services.processes import User, happens, is_alive, process_field, running, user_of

BOTH = pytest.mark.parametrize("kind", ["redis", "postgres"])
LONG = pytest.mark.parametrize("kind", ["redis", pytest.param("postgres", marks=pytest.mark.soak)])
"""What the supervisor does, which is the same for both; the second takes two seconds to make its files."""
FORK = "fork = os.fork() or time.sleep(600)\nprint(fork, flush=True)"
DIES_CLOSING = "from course_lib.services import child\nchild.remove = lambda _: os.kill(os.getpid(), 9)"
IN_A_THREAD = "thread = threading.Thread(target=server.start)\nserver.stop(); thread.start(); thread.join()"


def kill_paused(user: User) -> None:
    os.kill(user.pid, signal.SIGSTOP)
    user.process.kill()


def kill_with_paused_supervisor(user: User) -> None:
    os.kill(int(process_field(user.pid, "ppid")), signal.SIGSTOP)
    kill_paused(user)


def kill_supervisor(user: User) -> None:
    os.kill(int(process_field(user.pid, "ppid")), signal.SIGKILL)
    if sys.platform == "linux":
        assert happens(lambda: not is_alive(user.pid))
    user.leave()


def kill_beside_a_fork(user: User) -> None:
    """End a process of which a forked copy, as of a pool, lives on."""
    fork = int(user.line())
    user.process.kill()
    assert user.has_left_nothing()
    os.kill(fork, signal.SIGKILL)


def kill_without_server(user: User) -> None:
    user.line()
    user.process.kill()


ENDINGS = {
    "at exit": (User.leave, ""),
    "SIGKILL": (lambda user: user.process.kill(), ""),
    "SIGTERM": (lambda user: user.process.terminate(), ""),
    "SIGINT": (lambda user: user.process.send_signal(signal.SIGINT), ""),
    "paused": (kill_paused, ""),
    **({"all paused": (kill_with_paused_supervisor, "")} if sys.platform == "linux" else {}),
    "supervisor first": (kill_supervisor, ""),
    "fork lives on": (kill_beside_a_fork, FORK),
    "killed while it closes": (User.leave, DIES_CLOSING),
    "SIGKILL after its server's end": (kill_without_server, "server.kill()\nprint(flush=True)"),
    "SIGKILL after stop()": (kill_without_server, "server.stop()\nprint(flush=True)"),
    "started by a thread that is gone": (User.leave, IN_A_THREAD),
}


@LONG
@pytest.mark.parametrize(("end", "before"), ENDINGS.values(), ids=ENDINGS)
def test_a_server_ends_with_its_process_and_leaves_no_folder(kind, end, before):
    with user_of(kind, before) as user:
        end(user)

        assert user.has_left_nothing()


def test_a_process_killed_during_the_set_up_leaves_nothing(short_folder):
    short_folder.chmod(0o755)  # root's server is another user's
    with user_of("postgres", env={"TMPDIR": str(short_folder)}, is_up=False) as user:
        assert happens(lambda: bool(list(short_folder.glob("*/data/PG_VERSION"))))
        user.process.kill()

        assert happens(lambda: not list(short_folder.iterdir()))


def test_a_folder_is_removed_though_workers_of_a_killed_server_still_write_to_it(tmp_path):
    write = "import pathlib, sys\nfor number in range(2_000): pathlib.Path(sys.argv[1], str(number)).touch()"
    with running([sys.executable, "-c", write, str(tmp_path)], stderr=subprocess.DEVNULL):
        assert happens(lambda: bool(list(tmp_path.iterdir())))
        child.remove(tmp_path)

    assert not tmp_path.exists()


# -- where it starts ---------------------------------------------------------------------------------------


PING = """
import psycopg, redis
if server.url.startswith("unix"):
    redis.Redis.from_url(server.url).ping()
else:
    psycopg.connect(server.url).close()
print("pong", flush=True)
"""
LOCALES = {"LANG": "de_DE.UTF-8", "LC_CTYPE": "xx_XX.UTF-8", "PGPORT": "6543"}
ODD = {"PGOPTIONS": "-c nonsense=1", "PGTZ": "Nowhere", "LC_ALL": "de_DE.UTF-8", "TMPDIR": "/proc"}


@BOTH
@pytest.mark.parametrize("name", ["", "x" * 90, "a b%41ü"], ids=["locales", "long TMPDIR", "odd TMPDIR"])
def test_it_starts_in_unusual_places(kind, name, short_folder):
    # The last two are closed to the user as whom root's PostgreSQL runs.
    (short_folder / name).mkdir(mode=0o700, exist_ok=True)
    with user_of(kind, PING, env={"TMPDIR": str(short_folder / name)} if name else LOCALES) as user:
        assert user.line() == "pong"
        user.leave()

        assert user.has_left_nothing()


@BOTH
def test_it_starts_whatever_the_environment_tells_its_client(kind):
    with user_of(kind, env=ODD) as user:
        user.leave()

        assert user.has_left_nothing()


@BOTH
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root becomes somebody else"
)
def test_an_ordinary_user_has_servers_too(kind):
    reads_all = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # Python may lie in /root
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reads_all)
    with user_of(kind, PING, prefix=prefix) as user:
        assert user.line() == "pong"
        assert user.folder.stat().st_mode & 0o077 == 0
        user.leave()

        assert user.has_left_nothing()
