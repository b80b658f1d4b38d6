"""Both servers: private, shared by all callers of a process, and up again after a stop, a kill or a crash."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
from pathlib import Path

import psycopg
import pytest
import redis

from course_lib.services import (
    Server,
    ServerError,
    running_postgres,
    running_redis,
    shown,
)
from course_lib.services import postgres as postgres_module
from course_lib.services import redis as redis_module
from course_lib.services import server as server_module
from tests.services.processes import happens, is_alive, process_field


def sql(server: Server, statement: str) -> object:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(statement).fetchone()
    return row and row[0]


def ping(server: Server) -> bool:
    return server.ping(server.url) is None  # else it raises


@pytest.fixture(params=["own_redis", "postgres"])
def server(request) -> Server:
    return request.getfixturevalue(request.param)


# -- whose it is -----------------------------------------------------------------------------------------


def test_redis_listens_on_a_socket_that_only_its_owner_can_reach(own_redis):
    path = Path(own_redis.url.removeprefix("unix://"))

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.config_get("port", "maxmemory") == {"port": "0", "maxmemory": str(1 << 26)}


def test_postgres_listens_on_no_port_and_is_never_root_s(postgres):
    data = postgres.folder / "data"

    assert str(sql(postgres, "SHOW server_version")).startswith("18.")
    assert sql(postgres, "SHOW listen_addresses") == ""
    assert sql(postgres, "SELECT lower('ÄÖ') || ' ' || current_setting('lc_messages')") == "äö C"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE(postgres.folder.stat().st_mode) & 0o066 == 0
    assert 0 not in (data.stat().st_uid, int(process_field(postgres.pid, "uid")))


@pytest.mark.parametrize("running", [running_redis, running_postgres])
def test_all_callers_share_one_which_outlives_their_use_of_it(running):
    with running() as first, running() as second:
        assert first.pid == second.pid

    assert ping(first)


def test_one_in_a_named_folder_ends_with_its_block_and_leaves_what_is_not_its_own(short_folder):
    (short_folder / "mine").write_text("mine")

    with running_redis(short_folder) as server:
        pid = server.pid
        assert server.folder.is_relative_to(short_folder)

    assert [path.name for path in short_folder.iterdir()] == ["mine"]
    assert not is_alive(pid)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_uses_its_parent_s_server_and_cannot_end_it():
    parents = running_redis()

    def use(queue: multiprocessing.SimpleQueue[object]) -> None:
        try:
            parents.stop()
        except ServerError as error:
            queue.put((ping(parents), str(error)))
        its_own = running_redis()
        queue.put(its_own.pid)
        its_own.close()

    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    child = fork.Process(target=use, args=(queue,))
    child.start()
    (could, message), its_own = queue.get(), queue.get()
    child.join()

    assert could
    assert "belongs to process" in message
    assert its_own != parents.pid
    assert ping(parents)


LEARNERS = {
    "PGSERVICE": "work",
    "PGHOSTADDR": "192.0.2.1",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGCLIENTENCODING": "LATIN1",
    "PGOPTIONS": "-c search_path=work",
    "PGTZ": "nowhere",
}


def test_the_learner_s_settings_for_another_postgres_do_not_reach_the_course_s_own(monkeypatch):
    for name, value in LEARNERS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGADMIN_PORT", "5050")

    shown = sql(running_postgres(), "SELECT concat_ws(' ', current_setting('client_encoding'), 'ä')")

    assert shown == "UTF8 ä"
    assert os.environ["PGADMIN_PORT"] == "5050"  # not a setting of the client's


@pytest.mark.parametrize("kind", [redis_module._Redis, postgres_module._Postgres])
def test_a_relative_temporary_folder_will_do(kind, short_folder, monkeypatch):
    monkeypatch.chdir(short_folder)
    monkeypatch.setattr(server_module.tempfile, "tempdir", ".")

    one = kind(None)

    assert one.folder.is_absolute()
    one.start()
    assert one.url
    assert ping(one)
    one.close()


# -- ended, and started again ----------------------------------------------------------------------------


def crash(server: Server) -> None:
    os.kill(server.pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [Server.stop, Server.kill, crash])
def test_it_starts_again_under_the_same_address(server, end):
    url, pid = server.url, server.pid

    end(server)
    assert happens(lambda: not is_alive(pid))
    server.start()
    server.start()

    assert server.url == url
    assert ping(server)


def test_postgres_starts_again_with_what_was_committed_and_redis_with_nothing(postgres, own_redis):
    connection, client = psycopg.connect(postgres.url), redis.Redis.from_url(own_redis.url)
    connection.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS n; COMMIT")
    connection.execute("INSERT INTO kept VALUES (43)")  # and never committed
    client.set("a", "b")
    for server in (postgres, own_redis):
        server.kill()
        assert server.pid == 0
        server.stop()
        server.start()
    connection.close()

    assert sql(postgres, "SELECT sum(n) FROM kept") == 42
    assert client.get("a") is None
    client.close()


def test_a_server_whose_files_were_swept_away_is_started_anew(server):
    (server.folder / server.socket).unlink()
    server.start()
    assert ping(server)

    server.close()
    assert not server.folder.exists()
    server.start()
    assert ping(server)


# -- what goes wrong is told -----------------------------------------------------------------------------


def test_damaged_files_are_reported_with_what_the_server_wrote(postgres):
    control = postgres.folder / "data" / "global" / "pg_control"
    postgres.stop()
    control.rename(control.with_suffix(".gone"))

    with pytest.raises(ServerError, match=r"ended with code \d; it wrote: .+pg_control"):
        postgres.start()

    control.with_suffix(".gone").rename(control)
    postgres.start()
    assert ping(postgres)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_programs_that_others_cannot_reach_are_copied_not_opened(monkeypatch):
    monkeypatch.setattr(postgres_module, "is_open", lambda file: False)
    one = postgres_module._Postgres(None)

    (command, _) = one.commands()

    assert command[0].startswith(str(one.folder))
    version = subprocess.run([command[0], "--version"], user="nobody", capture_output=True, text=True)
    assert version.stdout.startswith("initdb (PostgreSQL) 18."), version.stderr
    one.close()


def test_when_no_place_will_do_the_message_says_why_and_what_to_do(monkeypatch):
    monkeypatch.setattr(server_module, "_LONGEST_SOCKET", 10)

    with pytest.raises(ServerError, match=r"no place .*/tmp/redis: its name is too long.*set TMPDIR"):
        running_redis(Path("/tmp/redis"))


@pytest.mark.parametrize(
    ("fixture", "variable", "running"),
    [("own_redis", "REDIS_URL", running_redis), ("postgres", "DATABASE_URL", running_postgres)],
)
def test_the_environment_names_another_server_which_is_not_ours_to_stop(
    fixture, variable, running, request, monkeypatch
):
    named = request.getfixturevalue(fixture)
    monkeypatch.setenv(variable, named.url)

    with running() as server:
        assert (server.url, server.pid) == (named.url, 0)
        server.start()
        for deed in (server.stop, server.kill, server.close):
            with pytest.raises(ServerError, match=f"is named by {variable}: whoever started it"):
                deed()

    assert ping(named)


REDIS, POSTGRES = (running_redis, "REDIS_URL"), (running_postgres, "DATABASE_URL")


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        (REDIS, "redis://me:{}@127.0.0.1:1/0"),
        (REDIS, "redis://:p@{}@127.0.0.1:1/0"),
        (REDIS, "redis://127.0.0.1:1/0?{}=1"),
        (REDIS, "redis://me:x@127.0.0.1:{}"),
        (REDIS, "unix://me:{}@/nowhere/s"),
        (REDIS, "http://me:{}@127.0.0.1:1"),
        (POSTGRES, "postgresql://bob:{}@127.0.0.1:1/none"),
        (POSTGRES, "postgresql://bob:a/{}@127.0.0.1:1/none"),
        (POSTGRES, "postgresql://127.0.0.1:1/none?{}=1"),
        (POSTGRES, "postgresql://bob@127.0.0.1:{}/none"),
        (POSTGRES, "host=127.0.0.1 port=1 password={}"),
        (POSTGRES, "{}"),
    ],
)
@pytest.mark.parametrize("secret", ["hunter2", "hunt er2", "hunt%40er2", "hunt%zzer2"])
def test_a_server_that_cannot_be_reached_is_reported_without_the_password(kind, url, secret, monkeypatch):
    running, variable = kind
    monkeypatch.setenv(variable, url.format(secret))

    with pytest.raises(ServerError, match=f"correct {variable}, or unset it") as caught:
        running()

    told = f"{caught.value} {caught.value.__cause__} {shown(url.format(secret))}"
    assert not any(part in told for part in ("hunt", "er2"))


def test_a_wrong_password_is_reported_without_it(own_redis, monkeypatch):
    monkeypatch.setenv("REDIS_URL", f"{own_redis.url}?password=hunter2")
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("requirepass", "right")

    with pytest.raises(ServerError, match=r"(?s)^(?!.*hunter2).*AuthenticationError"):
        running_redis()
