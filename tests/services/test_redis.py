"""The Redis server from a package: private, one per process, up again under the same address."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
from pathlib import Path

import pytest
import redis

from course_lib.services import RedisServerError, Server, running_redis, shown
from tests.services.processes import is_alive, user_of

SECRET = "hunter2"


def ping(server: Server) -> bool:
    with redis.Redis.from_url(server.url) as client:
        return bool(client.ping())


def test_it_answers_on_a_socket_that_only_its_owner_can_reach(own_redis):
    path = Path(own_redis.url.removeprefix("unix://"))

    assert ping(own_redis)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert len(str(path)) < 100
    with redis.Redis.from_url(own_redis.url) as client:
        seen = client.config_get("port", "save", "maxmemory-policy", "maxmemory")
    assert seen == {"port": "0", "save": "", "maxmemory-policy": "allkeys-lru", "maxmemory": str(64 * 2**20)}


def test_all_callers_share_one_and_the_last_one_ends_it(short_folder):
    with running_redis(short_folder) as first:
        with running_redis(short_folder) as second:
            pid, folder = second.pid, second.folder
            assert (first.url, first.pid) == (second.url, pid)
        second.close()
        assert ping(first)

    assert not folder.exists()
    assert not is_alive(pid)


def test_one_that_was_closed_can_be_started_again_and_ends_with_the_process():
    again = "server.close(); server.start(); print(server.pid, running_redis().pid, flush=True)"
    with user_of("redis", again) as user:
        pid, same = user.line().split()
        user.leave()

        assert pid == same
        assert user.has_left_nothing()
        assert not is_alive(int(pid))


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


@pytest.mark.parametrize("deed", [Server.stop, Server.kill, Server.remove])
def test_ending_twice_and_starting_twice_is_fine(own_redis, deed):
    for _ in range(2):
        deed(own_redis)
        deed(own_redis)
        own_redis.start()
        own_redis.start()

    assert ping(own_redis)


def test_a_paused_server_goes_on_at_start_and_ends_at_stop(own_redis):
    pid = own_redis.pid
    os.kill(pid, signal.SIGSTOP)
    own_redis.start()
    assert (ping(own_redis), own_redis.pid) == (True, pid)

    os.kill(pid, signal.SIGSTOP)
    own_redis.stop()
    assert not is_alive(pid)


def test_a_server_whose_socket_or_folder_was_swept_away_is_started_anew(own_redis):
    (own_redis.folder / "s").unlink()
    own_redis.start()
    assert ping(own_redis)

    own_redis.folder.rename(own_redis.folder.with_name("elsewhere"))
    own_redis.start()
    assert ping(own_redis)


@pytest.mark.parametrize(("policy", "is_full"), [("allkeys-lru", False), ("noeviction", True)])
def test_when_it_is_full_it_does_as_its_policy_says_and_can_be_started_again(short_folder, policy, is_full):
    server = running_redis(short_folder, max_bytes=4 * 2**20, policy=policy)
    with server, redis.Redis.from_url(server.url) as client:
        try:
            for n in range(6000):
                client.set(str(n), "x" * 1000)
        except redis.exceptions.OutOfMemoryError:
            assert is_full
        else:
            assert not is_full
            assert client.get("5999") == b"x" * 1000

        assert 1000 < client.dbsize() < 4000
        assert client.info("memory")["used_memory"] < 4.5 * 2**20
        server.stop()
        server.start()
        assert client.dbsize() == 0


def test_a_folder_that_was_named_keeps_what_is_not_the_server_s(short_folder):
    (short_folder / "mine").write_text("mine")

    with running_redis(short_folder) as server:
        assert server.folder.is_relative_to(short_folder)

    assert [path.name for path in short_folder.iterdir()] == ["mine"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_uses_its_parent_s_server_and_cannot_end_it(own_redis):
    def use(queue: multiprocessing.SimpleQueue[object]) -> None:
        own_redis.close()
        try:
            own_redis.stop()
        except RedisServerError as error:
            queue.put((ping(own_redis), str(error)))
        with running_redis() as mine:
            queue.put(mine.pid)

    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    child = fork.Process(target=use, args=(queue,))
    child.start()
    (could, message), its_own = queue.get(), queue.get()
    child.join()

    assert could
    assert "belongs to process" in message
    assert its_own != own_redis.pid
    assert ping(own_redis)


def test_redis_url_names_another_server_which_is_not_ours_to_stop(own_redis, monkeypatch):
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    with running_redis() as server:
        assert (server.url, server.folder, server.pid) == (own_redis.url, None, 0)
        for deed in (server.stop, server.kill, server.remove):
            with pytest.raises(RedisServerError, match="whoever started it"):
                deed()

    assert ping(own_redis)


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
    ("arguments", "message"),
    [
        ({"max_bytes": 1000}, "at least"),
        ({"folder": Path("/tmp") / ("x" * 100)}, "too long for a socket"),
        ({"policy": "no-such-policy"}, r"ended with code 1; it wrote: .*no-such-policy"),
    ],
    ids=["too small", "too long a name", "no such policy"],
)
def test_what_cannot_work_is_told(arguments, message, short_folder):
    with pytest.raises(RedisServerError, match=message):
        running_redis(**{"folder": short_folder, **arguments})


def test_other_settings_than_the_running_server_s_are_refused(short_folder):
    with running_redis(short_folder), pytest.raises(RedisServerError, match="name a folder"):
        running_redis(short_folder, policy="noeviction")
