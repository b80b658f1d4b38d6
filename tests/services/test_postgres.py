"""The packaged PostgreSQL: private, never root's, and up again after a stop or a crash."""

from __future__ import annotations

import os
import signal
import stat
import subprocess

import psycopg
import pytest

from course_lib.services import PostgresError, Server, instance, running_postgres
from course_lib.services import postgres as module
from tests.services.processes import happens, is_alive, process_field

SECRET = "hunt er2"


def answer(server: Server, sql: str = "SELECT 1") -> object:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(sql).fetchone()
    return row and row[0]


@pytest.fixture
def kept(postgres: Server) -> Server:
    """The server, with a table that was committed."""
    with psycopg.connect(postgres.url) as connection:
        connection.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS n")
    return postgres


def test_it_is_postgresql_18_and_listens_on_no_port(postgres):
    assert str(answer(postgres, "SHOW server_version")).startswith("18.")
    assert answer(postgres, "SHOW listen_addresses") == ""
    assert answer(postgres, "SELECT lower('ÄÖ') || ' ' || current_setting('lc_messages')") == "äö C"


def test_the_data_and_the_socket_are_for_their_owner_alone_and_never_root(postgres):
    data = postgres.folder / "data"

    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE(postgres.folder.stat().st_mode) & 0o066 == 0
    assert data.stat().st_uid != 0
    assert int(process_field(postgres.pid, "uid")) != 0


def test_all_callers_share_one_and_closing_twice_counts_once(postgres):
    servers = [running_postgres() for _ in range(5)]

    assert {server.pid for server in servers} == {postgres.pid}
    for server in servers:
        server.close()
        server.close()
    assert answer(postgres) == 1


def crash(server: Server) -> None:
    os.kill(server.pid, signal.SIGKILL)


def crash_of_the_supervisor(server: Server) -> None:
    pid = server.pid
    os.kill(int(process_field(pid, "ppid")), signal.SIGKILL)
    assert happens(lambda: not is_alive(pid))


@pytest.mark.parametrize("end", [Server.stop, Server.kill, crash, crash_of_the_supervisor])
def test_it_starts_again_with_what_was_committed(kept, end):
    url, connection = kept.url, psycopg.connect(kept.url)
    connection.execute("INSERT INTO kept VALUES (43)")  # and never committed

    end(kept)
    kept.start()
    connection.close()

    assert kept.url == url
    assert answer(kept, "SELECT sum(n) FROM kept") == 42


def test_a_paused_server_goes_on_and_a_full_one_is_left_alone(kept):
    pid = kept.pid
    os.kill(pid, signal.SIGSTOP)
    kept.start()
    connections = [psycopg.connect(kept.url) for _ in range(47)]
    kept.start()
    for connection in connections:
        connection.close()

    assert kept.pid == pid


def test_a_removed_one_starts_with_nothing(kept):
    folder = kept.folder

    kept.remove()
    assert not folder.exists()
    kept.start()

    assert answer(kept, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == 0


def test_damaged_files_are_reported_with_what_the_server_wrote(postgres):
    control = postgres.folder / "data" / "global" / "pg_control"
    postgres.stop()
    control.rename(control.with_suffix(".gone"))

    with pytest.raises(PostgresError, match=r"ended with code \d; it wrote: .+pg_control"):
        postgres.start()

    control.with_suffix(".gone").rename(control)
    postgres.start()
    assert answer(postgres) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_programs_that_others_cannot_reach_are_copied_not_opened(monkeypatch):
    monkeypatch.setattr(module, "is_open", lambda file: False)
    one = module._Postgres(None, {})

    (_, server) = one.commands()

    assert server[0].startswith(str(one.folder))
    shown = subprocess.run([server[0], "--version"], user="nobody", capture_output=True, text=True)
    assert shown.stdout.startswith("postgres (PostgreSQL) 18."), shown.stderr
    one.remove()


def test_when_no_place_will_do_the_message_says_why_and_what_to_do(monkeypatch):
    monkeypatch.setattr(instance, "_LONGEST_SOCKET", 10)

    with pytest.raises(PostgresError, match=r"no place .*/tmp: its name is too long for a.*set TMPDIR"):
        module._Postgres(None, {})


def test_database_url_names_another_server(postgres, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", postgres.url)

    with running_postgres() as server:
        assert (server.url, server.folder, server.pid) == (postgres.url, None, 0)
        for deed in (server.stop, server.kill, server.remove):
            with pytest.raises(PostgresError, match="is named by DATABASE_URL: whoever started it"):
                deed()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:{}@127.0.0.1:1/none",
        "postgresql://bob:hunt@{}@127.0.0.1:1/none",
        "postgresql://bob:a/{}@127.0.0.1:1/none",
        "postgresql://bob:a#{}@127.0.0.1:1/none",
        "postgresql://127.0.0.1:1/none?password={}",
        "postgresql://127.0.0.1:1/none?{}=1",
        "postgresql://bob@127.0.0.1:{}/none",
        "host=127.0.0.1 port=1 password='{}'",
        "host=127.0.0.1 port=1 password={}",
        "{}",
    ],
)
@pytest.mark.parametrize("secret", ["hunter2", "hunt er2", "hunt%40er2"])
def test_a_server_that_cannot_be_reached_is_reported_without_the_password(url, secret, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", url.format(secret))

    with pytest.raises(PostgresError, match="that DATABASE_URL names does not answer") as caught:
        running_postgres()

    assert not any(part in f"{caught.value} {caught.value.__cause__}" for part in ("hunt", "er2"))


def test_a_plain_address_is_reported_with_the_reason(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@127.0.0.1:1/none")

    with pytest.raises(PostgresError, match=r"refused.*correct DATABASE_URL, or unset it"):
        running_postgres()
