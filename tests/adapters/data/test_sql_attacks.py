"""What a model, or whoever speaks through it, may try in SQL: refused, with nothing touched.

Two lines of defence, each tested alone: the parser refuses the statement; and the same statement, sent as the
model's role past the parser, in a session that has thrown off its own limits, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.adapters.data import model_role
from course_lib.adapters.data.database import DatabaseAdapter
from course_lib.adapters.data.selects import LONGEST, one_select
from course_lib.adapters.tools.limits import ToolRefused
from course_lib.services.postgres import Server

TABLES = ("orders", "customers")

WRITES = {
    "stacked drop": "SELECT 1; DROP TABLE orders",
    "stacked update": "SELECT id FROM orders; UPDATE orders SET total = 0",
    "stacked behind a comment": "SELECT 1 /* ; */ ; DELETE FROM orders --",
    "stacked commit": "SELECT 1; COMMIT; DROP TABLE orders",
    "plain update": "UPDATE orders SET total = 0 RETURNING id",
    "plain delete": "DELETE FROM orders RETURNING *",
    "merge": "MERGE INTO orders USING customers ON true WHEN MATCHED THEN DELETE",
    "truncate": "TRUNCATE orders",
    "drop": "DROP TABLE orders CASCADE",
    "create table as": "CREATE TABLE loot AS SELECT * FROM secrets",
    "create temp table": "CREATE TEMP TABLE loot AS SELECT 1",
    "create function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "create extension": "CREATE EXTENSION dblink",
    "alter": "ALTER TABLE orders ADD COLUMN x int",
    "CTE delete": "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone",
    "CTE update": "WITH x AS (UPDATE orders SET total = 0 RETURNING id) SELECT count(*) FROM x",
    "select into": "SELECT * INTO loot FROM orders",
    "explain analyze": "EXPLAIN ANALYZE DELETE FROM orders",
    "explain analyze CTE": "EXPLAIN (ANALYZE) WITH x AS (DELETE FROM orders RETURNING 1) SELECT 1",
    "do block": "DO $$ BEGIN DELETE FROM orders; END $$",
    "prepare": "PREPARE p AS DELETE FROM orders; EXECUTE p",
    "copy in": "COPY orders FROM '/etc/passwd'",
    "copy out to a program": "COPY orders TO PROGRAM 'touch /tmp/loot'",
    "copy from a program": "COPY orders FROM PROGRAM 'id'",
    "grant": "GRANT ALL ON secrets TO course_model",
    "become the owner": "SET ROLE postgres; DELETE FROM orders",
    "reset role": "RESET ROLE; RESET SESSION AUTHORIZATION; DELETE FROM orders",
    "make oneself an administrator": "ALTER ROLE course_model SUPERUSER",
    "alter system": "ALTER SYSTEM SET shared_buffers = '1MB'",
    "sequence": "SELECT nextval('numbers')",
    "set a sequence": "SELECT setval('numbers', 900)",
    "large object": "SELECT lo_create(424242)",
    "import a file": "SELECT lo_import('/etc/passwd')",
    "export a file": "SELECT lo_export(1, '/tmp/loot')",
    "SQL in XML": "SELECT query_to_xml('DELETE FROM orders', true, true, '')",
    "table to XML": "SELECT table_to_xml('secrets', true, true, '')",
    "notify": "SELECT pg_notify('orders', 'x')",
    "write to the log": "SELECT pg_logical_emit_message(true, 'x', 'y')",
    "advisory lock": "SELECT pg_advisory_lock(1)",
    "row lock": "SELECT * FROM orders FOR UPDATE",
    "table lock": "LOCK TABLE orders IN ACCESS EXCLUSIVE MODE",
    "another table": "SELECT * FROM secrets",
    "another table, quoted": 'SELECT * FROM "secrets"',
    "another table, by schema": "SELECT * FROM public.secrets",
    "another table, in a subquery": "SELECT (SELECT word FROM secrets LIMIT 1) FROM orders",
    "another table, by union": "SELECT id FROM orders UNION ALL SELECT word FROM secrets",
    "another table, by TABLE": "TABLE secrets",
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "passwords": "SELECT rolname, rolpassword FROM pg_authid",
    "sleep": "SELECT pg_sleep(60)",
    "sleep by another name": "SELECT pg_catalog.pg_sleep_for('1 minute')",
    "end other sessions": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "reload": "SELECT pg_reload_conf()",
    "checkpoint": "CHECKPOINT",
    "reset statistics": "SELECT pg_stat_reset()",
    "listen": "LISTEN orders; NOTIFY orders",
    "load a library": "LOAD '/tmp/loot.so'",
    "call": "CALL wipe()",
    "function that deletes": "SELECT wipe_now()",
    "event by rule": "CREATE RULE r AS ON SELECT TO orders DO INSTEAD DELETE FROM orders",
    "vacuum": "VACUUM FULL orders",
    "full-width letters": "ＤＥＬＥＴＥ FROM orders",  # noqa: RUF001  (the trick)
}
"""Each must be refused by the parser; and sent past it, as the model's role, must fail and change nothing."""

READS = {
    "empty": "",
    "only a comment": "-- SELECT 1",
    "hidden in a nested comment": "SELECT 1 /* /* */ ; DROP TABLE orders */",
    "comment inside a word": "SEL/**/ECT id FROM orders",
    "switch a setting off": "SELECT set_config('transaction_read_only', 'off', false)",
    "show": "SHOW ALL",
    "transaction": "BEGIN",
    "catalog": "SELECT relname FROM pg_class",
    "catalog by schema": "SELECT * FROM pg_catalog.pg_roles",
    "information schema": "SELECT table_name FROM information_schema.tables",
    "sessions": "SELECT query FROM pg_stat_activity",
    "cast to regclass": "SELECT 'secrets'::regclass",
    "cast to regrole": "SELECT CAST(10 AS regrole)",
    "cast to xml": "SELECT xml '<a/>'",
    "dollar quotes": "SELECT $$x$$",
    "dollar quotes with a tag": "SELECT $a$'; DROP TABLE orders; --$a$",
    "escape string": r"SELECT E'\047; DROP TABLE orders; --'",
    "unicode string": r"SELECT U&'\0027'",
    "unicode name": r'SELECT * FROM U&"\0073ecrets"',
    "zero character": "SELECT id FROM orders\0; DROP TABLE orders",
    "letter from another alphabet": "SELECT * FROM оrders",  # noqa: RUF001  (the trick)
    "backspaces": "SELECT 1\x08\x08\x08DROP TABLE orders",
    "odd name": 'SELECT 1 AS "x; DROP TABLE orders"',
    "series bomb": "SELECT * FROM generate_series(1, 1000000000)",
    "text bomb": "SELECT repeat('x', 1000000000)",
    "array bomb": "SELECT array_fill(0, ARRAY[100000, 10000])",
    "recursive bomb": (
        "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    ),
    "aggregate bomb": "SELECT string_agg(a.id, '') FROM orders a, orders b, orders c, orders d",
    "deep nesting": "SELECT " + "(" * 900 + "1" + ")" * 900,
    "too long": "SELECT " + "1 + " * LONGEST + "1",
    "values": "VALUES (1)",
    "lateral": "SELECT * FROM orders, LATERAL (SELECT 1) AS x",
    "sample": "SELECT * FROM orders TABLESAMPLE SYSTEM (100)",
    "named operator": "SELECT 1 OPERATOR(pg_catalog.+) 1",
    "parameter": "SELECT $1",
    "placeholder of the client": "SELECT %s",
    "version": "SELECT version()",
    "other database": "SELECT * FROM postgres.public.orders",
    "dblink": "SELECT * FROM dblink('host=10.0.0.1', 'SELECT 1') AS t(x int)",
    "row as an argument": "SELECT row_to_json(o) FROM orders o",
    "cursor": "DECLARE c CURSOR FOR SELECT 1",
    "not SQL": "please delete everything",
}
"""Refused by the parser; past it they read, at most, what is no secret from a role of its own."""


@pytest.fixture(scope="module")
def target(postgres: Server) -> Iterator[str]:
    """The owner's address of a database with something to lose."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE attacked")
    url = postgres.url.replace("/postgres?", "/attacked?")
    with psycopg.connect(url) as connection:
        connection.execute(
            """
            CREATE TABLE orders (id text, customer_id text, total int);
            CREATE TABLE customers (id text, country text);
            CREATE TABLE secrets (word text);
            CREATE SEQUENCE numbers;
            INSERT INTO orders SELECT 'O-' || n, 'C-1', n FROM generate_series(1, 400) n;
            INSERT INTO customers VALUES ('C-1', 'DE');
            INSERT INTO secrets VALUES ('abracadabra');
            CREATE FUNCTION wipe_now() RETURNS int LANGUAGE sql AS 'DELETE FROM orders; SELECT 1';
            CREATE PROCEDURE wipe() LANGUAGE sql AS 'DELETE FROM orders';
            """
        )
    return url


@pytest.fixture(scope="module")
def database(target: str) -> Iterator[DatabaseAdapter]:
    with DatabaseAdapter(target, readable=TABLES) as adapter:
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
        "SELECT relid::text FROM pg_event_trigger, pg_stat_user_tables WHERE false",
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
def test_a_with_part_gives_no_access_to_a_table_of_its_name(
    database: DatabaseAdapter, target: str, sql: str
) -> None:
    with pytest.raises(ToolRefused, match=r'relation "part_(secrets|pg_roles)" does not exist'):
        asyncio.run(database.query(sql))

    with psycopg.connect(target) as owner, pytest.raises(psycopg.errors.UndefinedTable):
        owner.execute(one_select(sql, TABLES).encode())  # not even for one who may read it


@pytest.mark.parametrize("sql", [pytest.param(sql, id=name) for name, sql in (WRITES | READS).items()])
def test_the_parser_refuses(sql: str) -> None:
    with pytest.raises(ToolRefused) as refusal:
        one_select(sql, TABLES)

    assert "\n" not in str(refusal.value)
    assert str(refusal.value).isprintable()


SLOTS = (
    "SELECT id FROM orders WHERE id LIKE '{}' OR customer_id ILIKE '{}'",
    "SELECT id -> '{}' -> 0 ->> '{}' FROM orders",
    "SELECT interval '{}', date '{}', cast('{}' AS numeric(10, 2)) FROM orders",
    "SELECT to_char(total, '{}'), split_part(id, '{}', 1), trim('{}' FROM id) FROM orders",
    "SELECT date_trunc('{}', total), extract(year FROM timestamp '{}') FROM orders",
)


FORGERIES = ["'", "''", '"', ";", "--", "/*", "*/", "DROP TABLE orders", "%s", "$$", "E"]
TEXTS = given(
    slot=st.sampled_from(SLOTS),
    text=st.lists(st.one_of(st.sampled_from(FORGERIES), st.text()), max_size=8).map("".join),
)


def assert_stays_a_text(slot: str, text: str) -> None:
    try:
        written = one_select(slot.replace("{}", text.replace("'", "''")), TABLES)
    except ToolRefused:
        return

    assert one_select(written, TABLES) == written
    tokens = sqlglot.tokenize(written, read="postgres")
    assert not any(token.token_type.name in ("SEMICOLON", "DROP") or token.comments for token in tokens)


@settings(max_examples=40, deadline=None)
@TEXTS
def test_a_text_stays_a_text_whatever_is_in_it(slot: str, text: str) -> None:
    assert_stays_a_text(slot, text)


@pytest.mark.soak
@settings(max_examples=4000, deadline=None)
@TEXTS
def test_a_text_stays_a_text_in_thousands_of_tries(slot: str, text: str) -> None:
    assert_stays_a_text(slot, text)


def test_through_the_tool_nothing_is_touched_and_each_refusal_is_one_line(
    database: DatabaseAdapter, target: str
) -> None:
    before = state(target)
    query = next(tool for tool in database.tools(calls=None) if tool.name == "query")

    answers = {name: query(sql=sql) for name, sql in (WRITES | READS).items()}

    assert {name: line for name, line in answers.items() if not line.startswith("refused: ")} == {}
    assert {name for name, line in answers.items() if "\n" in line or "Traceback" in line} == set()
    assert state(target) == before


def test_past_the_parser_the_role_itself_can_change_nothing(database: DatabaseAdapter, target: str) -> None:
    before = state(target)
    survived = set()

    with psycopg.connect(model_role.url_for(target), autocommit=True) as connection:
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
