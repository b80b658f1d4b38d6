"""The Redis server from a package: private, one per process, and gone with the process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from course_lib.paths import ROOT
from course_lib.services.redis import RedisServerError, running_redis, shown

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)


def ping(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return bool(client.ping())


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        if Path("/proc").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state != "Z"


def ends_within(pid: int, limit_s: float) -> bool:
    give_up_at = time.monotonic() + limit_s
    while is_alive(pid):
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.01)
    return True


def test_it_answers_on_a_socket_that_only_its_owner_can_reach():
    with running_redis() as server:
        path = Path(server.url.removeprefix("unix://"))

        assert ping(server.url)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert len(str(path)) < 100
        with redis.Redis.from_url(server.url) as client:
            seen = client.config_get("port", "save", "maxmemory-policy", "maxmemory")

    assert seen == {"port": "0", "save": "", "maxmemory-policy": "allkeys-lru", "maxmemory": str(64 * 2**20)}


def test_all_callers_share_one_and_the_last_one_ends_it():
    with running_redis() as first:
        with running_redis() as second:
            pid, folder = second.pid, second.folder
            assert (first.url, first.pid) == (second.url, pid)
        second.close()
        assert ping(first.url)

    assert folder is not None
    assert not folder.exists()
    assert not is_alive(pid)


def test_one_that_was_closed_can_be_started_again_and_ends_with_the_process():
    code = (
        "s = running_redis(); s.close(); s.start(); t = running_redis(); assert t.url != s.url\n"
        "import redis; assert redis.Redis.from_url(s.url).ping(); print(s.pid, t.pid)"
    )

    assert not any(is_alive(int(pid)) for pid in run(code).split())


def test_after_a_kill_it_starts_again_under_the_same_address_and_empty(own_redis):
    url, pid = own_redis.url, own_redis.pid
    with redis.Redis.from_url(url) as client:
        client.set("a", "b")

    own_redis.kill()
    assert own_redis.pid == 0
    assert not is_alive(pid)
    own_redis.start()

    with redis.Redis.from_url(own_redis.url) as client:
        assert (own_redis.url, client.get("a")) == (url, None)


@pytest.mark.parametrize("deed", ["stop", "kill", "remove"])
def test_ending_twice_and_starting_twice_is_fine(own_redis, deed):
    for _ in range(2):
        getattr(own_redis, deed)()
        getattr(own_redis, deed)()
        own_redis.start()
        own_redis.start()

    assert ping(own_redis.url)


def test_a_server_that_is_stopped_in_its_tracks_ends_all_the_same(own_redis):
    pid = own_redis.pid
    os.kill(pid, signal.SIGSTOP)

    own_redis.stop()

    assert not is_alive(pid)


def test_when_it_is_full_entries_leave_and_writes_go_on(short_folder):
    server = running_redis(short_folder / "s", max_bytes=4 * 2**20)
    with server, redis.Redis.from_url(server.url) as client:
        for n in range(6000):
            client.set(str(n), "x" * 1000)
        there, last = client.dbsize(), client.get("5999")
        size = client.info("memory")["used_memory"]

    assert last == b"x" * 1000
    assert 1000 < there < 4000
    assert size < 4.5 * 2**20


def test_a_folder_that_was_named_keeps_what_is_not_the_server_s(short_folder):
    (short_folder / "mine").write_text("mine")

    with running_redis(short_folder) as server:
        assert ping(server.url)

    assert [path.name for path in short_folder.iterdir()] == ["mine"]


def test_a_server_whose_socket_was_swept_away_is_started_anew(own_redis):
    (own_redis.folder / "s").unlink()

    own_redis.start()

    assert ping(own_redis.url)


def test_two_processes_do_not_take_one_folder(own_redis):
    said = run(f"from pathlib import Path; running_redis(Path({str(own_redis.folder)!r}))", must_work=False)

    assert "another process runs a Redis server" in said
    assert ping(own_redis.url)


def run(code: str, *, must_work: bool = True) -> str:
    """Run code in a process of its own; returns what it printed, or its last words."""
    code = f"from course_lib.services.redis import running_redis\n{code}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode == 0 and not done.stderr) == must_work, done.stderr
    return done.stdout or done.stderr


def test_a_process_that_ends_takes_its_server_along():
    pid, folder = run("s = running_redis(); print(s.pid, s.folder)").split()

    assert not is_alive(int(pid))
    assert not Path(folder).exists()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda sign: sign.name)
def test_a_process_that_is_killed_takes_its_server_along(sign):
    code = (
        "import time; from course_lib.services.redis import running_redis\n"
        "s = running_redis(); print(s.pid, s.folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        parent.send_signal(sign)
        parent.wait()

        assert ends_within(int(pid), 5)
        give_up_at = time.monotonic() + 5
        while Path(folder).exists() and time.monotonic() < give_up_at:
            time.sleep(0.01)
        assert not Path(folder).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_keeper_that_is_killed_takes_its_server_along(own_redis):
    pid = own_redis.pid
    keeper = own_redis._process._keeper
    keeper.kill()

    assert ends_within(pid, 5)
    own_redis.start()
    assert ping(own_redis.url)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_uses_its_parent_s_server_and_cannot_end_it(own_redis):
    def use(queue: multiprocessing.SimpleQueue[object]) -> None:
        own_redis.close()
        try:
            own_redis.stop()
        except RedisServerError as error:
            queue.put((ping(own_redis.url), str(error)))

    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    child = fork.Process(target=use, args=(queue,))
    child.start()
    could, said = queue.get()
    child.join()

    assert could
    assert "belongs to process" in said
    assert ping(own_redis.url)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_living_child_does_not_keep_its_parent_s_server_alive():
    code = (
        "import os, time; s = running_redis()\n"
        "if os.fork() == 0:\n    os.close(1); os.close(2); time.sleep(3); os._exit(0)\n"
        "print(s.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    code = f"from course_lib.services.redis import running_redis\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)

    assert ends_within(int(done.stdout), 2)


def test_redis_url_names_another_server_which_is_not_ours_to_stop(own_redis, monkeypatch):
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    with running_redis() as server:
        assert (server.url, server.folder, server.pid) == (own_redis.url, None, 0)
        for deed in (server.stop, server.kill, server.remove):
            with pytest.raises(RedisServerError, match="whoever started it"):
                deed()

    assert ping(own_redis.url)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://me:{SECRET}@127.0.0.1:1/0",
        f"redis://:{SECRET}/x@127.0.0.1:1/0",
        f"redis://:{SECRET}?x@127.0.0.1:1/0",
        f"redis://:p@{SECRET}@127.0.0.1:1/0",
        f"redis://127.0.0.1:1/0?password={SECRET}",
        f"redis://127.0.0.1:1/0?password=a@{SECRET}",
        f"redis://127.0.0.1:1/0?{SECRET}=1",
        f"redis://me:x@127.0.0.1:{SECRET}",
        f"unix://me:{SECRET}@/nowhere/s",
        f"unix:///nowhere/s?password={SECRET}",
        f"{SECRET}",
        f"http://me:{SECRET}@127.0.0.1:1",
    ],
)
def test_a_server_that_cannot_be_reached_is_reported_without_the_password(url, monkeypatch):
    monkeypatch.setenv("REDIS_URL", url)

    with pytest.raises(RedisServerError, match="correct REDIS_URL") as caught:
        running_redis()

    assert SECRET not in f"{caught.value} {caught.value.__cause__}"
    assert SECRET not in shown(url)


def test_a_wrong_password_is_reported_without_it(own_redis, monkeypatch):
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("requirepass", "right")
    monkeypatch.setenv("REDIS_URL", f"{own_redis.url}?password={SECRET}")

    with pytest.raises(RedisServerError, match="AuthenticationError") as caught:
        running_redis()

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_bytes": 1000}, "at least"),
        ({"folder": Path("/tmp") / ("x" * 100)}, "too long for a socket"),
    ],
    ids=["too small", "too long a name"],
)
def test_what_cannot_work_is_told_before_anything_starts(arguments, said):
    with pytest.raises(RedisServerError, match=said):
        running_redis(**arguments)


def test_other_settings_than_the_running_server_s_are_refused(own_redis):
    with pytest.raises(RedisServerError, match="name a folder"):
        running_redis(own_redis.folder, policy="noeviction")


def test_a_server_that_does_not_start_says_what_it_wrote(short_folder):
    with pytest.raises(RedisServerError, match=r"ended with code 1; it wrote: .*no-such-policy"):
        running_redis(short_folder / "s", policy="no-such-policy")
