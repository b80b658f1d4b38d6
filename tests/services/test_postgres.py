"""The packaged PostgreSQL: it starts anywhere, is shared, and never outlives those who use it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from course_lib.services import postgres_files
from course_lib.services.postgres import PostgresError, Server, _is_postgres, default_folder, running_postgres
from course_lib.services.postgres_keeper import is_alive, postmaster

USER = """
import sys, time
from pathlib import Path
from course_lib.services.postgres import running_postgres
running_postgres(Path(sys.argv[1]))  # forgotten, and yet used until this process ends
print("up", flush=True)
time.sleep(60)
"""


def user_process(folder: Path) -> subprocess.Popen[str]:
    """Start a Python that uses the server of `folder`, and return when it does."""
    process = subprocess.Popen([sys.executable, "-c", USER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def pid_of(folder: Path) -> int:
    seen = postmaster(folder / "data")
    assert seen is not None
    return seen[0]


def happens(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    give_up_at = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True


def is_stopped(folder: Path) -> bool:
    return postmaster(folder / "data") is None


def answer(server: Server, sql: str = "SELECT 1") -> object:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(sql).fetchone()
    return row and row[0]


@pytest.fixture(autouse=True)
def _no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


def test_it_is_postgresql_18_and_listens_on_no_port(postgres: Server) -> None:
    assert str(answer(postgres, "SHOW server_version")).startswith("18.")
    assert answer(postgres, "SHOW listen_addresses") == ""


def test_the_data_and_the_socket_are_for_their_owner_alone(postgres: Server) -> None:
    assert postgres.folder is not None
    data = (postgres.folder / "data").stat()

    assert stat.S_IMODE(data.st_mode) == 0o700
    assert stat.S_IMODE(postgres.folder.stat().st_mode) & 0o066 == 0


def test_the_server_does_not_run_as_root(postgres: Server) -> None:
    assert postgres.folder is not None
    shown = subprocess.run(
        ["ps", "-o", "uid=", "-p", str(pid_of(postgres.folder))], capture_output=True, text=True
    )

    assert int(shown.stdout) != 0


def test_a_second_caller_shares_the_server_that_runs(postgres: Server) -> None:
    assert postgres.folder is not None
    before = pid_of(postgres.folder)

    with running_postgres(postgres.folder) as second:
        assert second.url == postgres.url

    assert pid_of(postgres.folder) == before
    assert answer(postgres) == 1


def test_asking_often_holds_one_lock_and_the_last_close_gives_it_back(postgres: Server) -> None:
    assert postgres.folder is not None
    descriptors = len(list(Path("/dev/fd").iterdir()))
    servers = [running_postgres(postgres.folder) for _ in range(5)]

    assert len(list(Path("/dev/fd").iterdir())) == descriptors
    for server in servers:
        server.close()
        server.close()
    assert answer(postgres) == 1


def test_it_ends_however_its_last_user_does_and_keeps_what_was_committed(postgres_folder: Path) -> None:
    first = user_process(postgres_folder)
    second = user_process(postgres_folder)
    with running_postgres(postgres_folder) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    pid = pid_of(postgres_folder)

    end(first)
    time.sleep(0.3)
    assert pid_of(postgres_folder) == pid, "another process still uses it"
    end(second)
    assert happens(lambda: not is_alive(pid) or is_stopped(postgres_folder))

    server = running_postgres(postgres_folder)
    assert answer(server, "SELECT n FROM kept") == 42
    server.remove()
    assert not postgres_folder.exists()


def test_a_server_whose_keeper_was_killed_is_taken_over_and_stopped(postgres_folder: Path) -> None:
    user = user_process(postgres_folder)
    pid = pid_of(postgres_folder)
    keeper = int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(pid)], text=True))
    os.kill(keeper, signal.SIGKILL)
    end(user)
    assert not is_stopped(postgres_folder), "an orphan: nobody is left to stop it"

    with running_postgres(postgres_folder) as server:
        assert answer(server) == 1
        assert pid_of(postgres_folder) == pid

    assert happens(lambda: is_stopped(postgres_folder))


def test_after_a_kill_it_starts_again_with_what_was_committed(postgres: Server) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")

    postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        answer(postgres)
    postgres.start()

    assert answer(postgres, "SELECT n FROM kept") == 42


def test_a_start_right_after_somebody_else_killed_it_starts_it(postgres: Server) -> None:
    assert postgres.folder is not None
    pid = pid_of(postgres.folder)
    os.kill(pid, signal.SIGKILL)
    assert happens(lambda: not _is_postgres(pid))

    postgres.start()

    assert answer(postgres) == 1


def test_a_stale_process_number_does_not_stop_a_start(postgres: Server) -> None:
    assert postgres.folder is not None
    file = postgres.folder / "data" / "postmaster.pid"
    stale = file.read_text().splitlines()
    postgres.stop()
    file.write_text("\n".join([str(os.getpid()), *stale[1:]]) + "\n")

    postgres.start()

    assert answer(postgres) == 1


def test_damaged_files_are_reported_with_what_the_server_wrote(postgres: Server) -> None:
    assert postgres.folder is not None
    control = postgres.folder / "data" / "global" / "pg_control"
    postgres.stop()
    control.rename(control.with_suffix(".gone"))

    with pytest.raises(PostgresError, match=r"did not start.*It wrote: .+delete .* and start again"):
        postgres.start()

    control.with_suffix(".gone").rename(control)
    postgres.start()
    assert answer(postgres) == 1


def test_the_folder_is_one_per_learners_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "a"))
    first = default_folder()
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "b"))

    assert default_folder() != first
    assert default_folder().name.startswith(f"course-pg-{os.geteuid()}-")


def test_a_folder_too_deep_for_a_socket_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(PostgresError, match=r"makes a socket's path of \d+ characters.*TMPDIR"):
        running_postgres(tmp_path / ("x" * 90))


def test_a_link_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "s").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PostgresError, match="does not belong to you"):
        postgres_files.make_private(tmp_path / "s")


def test_programs_that_others_cannot_reach_are_copied_not_opened(
    postgres_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs the server as somebody else")
    monkeypatch.setattr(postgres_files, "is_open", lambda file: False)

    postgres_folder.mkdir()

    program = postgres_files.programs(postgres_folder) / "postgres"

    assert program.is_relative_to(postgres_folder)
    shown = subprocess.run([str(program), "--version"], user="nobody", capture_output=True, text=True)
    assert shown.stdout.startswith("postgres (PostgreSQL) 18."), shown.stderr


def test_database_url_names_another_server(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.url)

    with running_postgres() as server:
        assert server.url == postgres.url
        with pytest.raises(PostgresError, match="whoever started it can stop it"):
            server.stop()


def test_a_database_url_that_does_not_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@127.0.0.1:1/none")

    with pytest.raises(PostgresError, match=r"DATABASE_URL names does not answer: .*refused"):
        running_postgres()
