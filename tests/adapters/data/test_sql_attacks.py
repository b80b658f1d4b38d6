"""What a model, or whoever speaks through it, may try in SQL: refused, with nothing touched.

Two lines of defence, each tested alone: the parser refuses the statement; and the same statement, sent as the
model's role past the parser, in a session that has thrown off its own limits, changes nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.adapters.data.connections import url_for
from course_lib.adapters.data.database import DatabaseAdapter
from course_lib.adapters.data.selects import LONGEST, one_select
from course_lib.adapters.tools.limits import ToolRefused
from course_lib.services import Server

TABLES = ("orders", "customers")

ATTACKS = tomllib.loads(Path(__file__).with_name("sql_attacks.toml").read_text("utf-8"))
WRITES: dict[str, str] = ATTACKS["writes"]
READS: dict[str, str] = ATTACKS["reads"] | {
    "deep nesting": "SELECT " + "(" * 900 + "1" + ")" * 900,
    "too long": "SELECT " + "1 + " * LONGEST + "1",
    "half a surrogate pair in a text": "SELECT id FROM orders WHERE id = '\ud83d'",
    "half a surrogate pair in a name": 'SELECT id AS "\udc00" FROM orders',
}


@pytest.fixture(scope="module")
def target(postgres: Server) -> str:
    """The owner's address of a database with something to lose."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE attacked")
    url = postgres.url.replace("/postgres?", "/attacked?")
    with psycopg.connect(url) as connection:
        connection.execute(
            """
            CREATE TABLE orders AS SELECT 'O-' || n AS id, 'C-1' AS customer_id, n AS total
                FROM generate_series(1, 400) n;
            CREATE TABLE customers AS SELECT 'C-1' AS id, 'DE' AS country;
            CREATE TABLE secrets AS SELECT 'abracadabra' AS word;
            CREATE SEQUENCE numbers;
            CREATE FUNCTION wipe_now() RETURNS int LANGUAGE sql AS 'DELETE FROM orders; SELECT 1';
            CREATE PROCEDURE wipe() LANGUAGE sql AS 'DELETE FROM orders';
            """
        )
    return url


@pytest.fixture(scope="module")
def database(target: str) -> Iterator[DatabaseAdapter]:
    with DatabaseAdapter(target) as adapter:
        adapter.allow(*TABLES)
        yield adapter


def state(url: str) -> list[object]:
    """Return all that an attack could have changed."""
    asked = (
        "SELECT * FROM orders ORDER BY id",
        "SELECT * FROM customers",
        "SELECT * FROM secrets",
        "SELECT last_value, is_called FROM numbers",
        "SELECT oid, relname, relacl::text, relkind FROM pg_class WHERE oid >= 16384 "
        "AND relkind <> 't' ORDER BY 1",
        "SELECT proname, proacl::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp' ORDER BY 1",
        "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolconfig FROM pg_roles ORDER BY 1",
        "SELECT extname FROM pg_extension ORDER BY 1",
        "SELECT oid FROM pg_largeobject_metadata",
        "SELECT objid FROM pg_locks WHERE locktype = 'advisory'",
        "SELECT evtname FROM pg_event_trigger",
        "SELECT name, setting FROM pg_file_settings ORDER BY 1, seqno",
    )
    with psycopg.connect(url) as connection:
        return [connection.execute(sql.encode()).fetchall() for sql in asked]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM secrets, (WITH secrets AS (SELECT 1) SELECT 1) AS x",
        "WITH secrets AS (SELECT * FROM secrets) SELECT * FROM secrets",
        "WITH a AS (SELECT word FROM secrets), secrets AS (SELECT 1) SELECT * FROM a",
        "SELECT * FROM pg_roles, (WITH pg_roles AS (SELECT 1) SELECT 1) AS x",
    ],
)
def test_a_with_part_gives_no_access_to_a_table_of_its_name(database, target, sql):
    with pytest.raises(ToolRefused, match=r'relation "part_(secrets|pg_roles)" does not exist'):
        database.query(sql)

    with psycopg.connect(target) as owner, pytest.raises(psycopg.errors.UndefinedTable):
        owner.execute(one_select(sql, TABLES).encode())  # not even for one who may read it


@pytest.mark.parametrize("sql", [pytest.param(sql, id=name) for name, sql in (WRITES | READS).items()])
def test_the_parser_refuses(sql):
    with pytest.raises(ToolRefused) as refusal:
        one_select(sql, TABLES)

    assert str(refusal.value).isprintable()


SLOTS = (
    "SELECT id FROM orders WHERE id LIKE '{}' OR customer_id ILIKE '{}'",
    "SELECT id -> '{}' -> 0 ->> '{}' FROM orders",
    "SELECT interval '{}', date '{}', cast('{}' AS numeric(10, 2)) FROM orders",
    "SELECT to_char(total, '{}'), split_part(id, '{}', 1), trim('{}' FROM id) FROM orders",
    "SELECT date_trunc('{}', total), extract(year FROM timestamp '{}') FROM orders",
)


FORGERIES = ["'", "''", '"', ";", "--", "/*", "*/", "DROP TABLE orders", "%s", "$$", "E"]


@pytest.mark.parametrize("tries", [40, pytest.param(4000, marks=pytest.mark.soak)])
def test_a_text_stays_a_text_whatever_is_in_it(tries):
    @settings(max_examples=tries, deadline=None)
    @given(st.sampled_from(SLOTS), st.lists(st.sampled_from(FORGERIES) | st.text(), max_size=8))
    def stays_a_text(slot: str, pieces: list[str]) -> None:
        try:
            written = one_select(slot.replace("{}", "".join(pieces).replace("'", "''")), TABLES)
        except ToolRefused:
            return

        assert one_select(written, TABLES) == written
        tokens = sqlglot.tokenize(written, read="postgres")
        assert not any(token.token_type.name in ("SEMICOLON", "DROP") or token.comments for token in tokens)

    stays_a_text()


def test_through_the_tool_each_is_refused_and_nothing_is_touched(database, target):
    before = state(target)
    query = next(tool for tool in database.tools(calls=None) if tool.name == "query")

    answers = {name: query(sql=sql) for name, sql in (WRITES | READS).items()}

    assert {name: line for name, line in answers.items() if not line.startswith("refused: ")} == {}
    assert state(target) == before


def test_past_the_parser_the_role_itself_can_change_nothing(database, target):
    before = state(target)
    survived = set()

    with psycopg.connect(url_for(target), autocommit=True) as connection:
        for name, sql in WRITES.items():
            # what such a session may do to its own limits, it does
            connection.execute("SET default_transaction_read_only = off; SET statement_timeout = '3s'")
            try:
                connection.execute(sql.encode())
                survived.add(name)
            except psycopg.errors.QueryCanceled:
                survived.add(name)  # it ran, and only its own time limit ended it
            except psycopg.Error:
                connection.rollback()

    # VACUUM only warns of a table that is not its own, and skips it; anyone may wake listeners
    assert survived == {"vacuum", "listen"}
    assert state(target) == before
