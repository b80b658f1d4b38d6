"""The account that a model's statements run under: it can read the granted tables, and nothing else.

Main path: grant(connection, readable) makes or mends the role; url_for(owner_url) is its own address.
It logs in by itself: a role that is only put on (SET ROLE) could be put off again by a statement it limits.
What a role may set for itself, such as statement_timeout, limits honest statements; its rights limit others.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

NAME = "course_model"

_FLAGS = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 16"
_SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "2s",
    "lock_timeout": "500ms",
    "transaction_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",
    "idle_session_timeout": "0",
    "work_mem": "4MB",
    "max_parallel_workers_per_gather": "0",
    "search_path": "public",
    "temp_file_limit": "64MB",
}
_WRITING_FUNCTIONS = """
    lo_creat lo_create lo_from_bytea lo_open lo_put lo_get lo_truncate lo_truncate64 lo_unlink loread lowrite
    pg_notify pg_logical_emit_message pg_export_snapshot pg_current_xact_id txid_current
    pg_sleep pg_sleep_for pg_sleep_until pg_cancel_backend pg_terminate_backend
"""
"""Functions that every role may call, and that write, wait or end something; advisory locks are added."""

_REVOKE = """
SELECT 'REVOKE EXECUTE ON FUNCTION ' || p.oid::regprocedure || ' FROM PUBLIC'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pg_catalog' AND (p.proname = ANY(%s) OR p.proname LIKE 'pg\\_%%advisory%%lock%%')
"""


def grant(connection: psycopg.Connection[TupleRow], readable: Sequence[str]) -> None:
    """Make the role or mend it, and let it read `readable` and nothing else.

    The connection has to be an administrator's: it also closes the functions that PostgreSQL opens to every
    role. The caller's transaction holds all of this, or none.
    """
    password = _password(connection.info.password)
    connection.execute("SELECT pg_advisory_xact_lock(20260316)")  # two openers at once would collide
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [NAME]).fetchone():
        connection.execute(f"CREATE ROLE {NAME}")
    connection.execute(sql.SQL(f"ALTER ROLE {NAME} {_FLAGS} PASSWORD {{}}").format(sql.Literal(password)))
    for name, value in _SETTINGS.items():
        connection.execute(sql.SQL(f"ALTER ROLE {NAME} SET {name} = {{}}").format(sql.Literal(value)))
    _grant_tables(connection, readable)
    for (statement,) in connection.execute(_REVOKE, [_WRITING_FUNCTIONS.split()]).fetchall():
        connection.execute(statement)


def _grant_tables(connection: psycopg.Connection[TupleRow], readable: Sequence[str]) -> None:
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO " + NAME).format(database))
    connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        connection.execute(f"REVOKE ALL ON ALL {kind} IN SCHEMA public FROM PUBLIC, {NAME}")
    for table in readable:
        name = sql.Identifier("public", table)
        connection.execute(sql.SQL(f"GRANT SELECT ON {{}} TO {NAME}").format(name))


def url_for(owner_url: str) -> str:
    """Return the address at which the model's role logs in to the same database."""
    parts = conninfo_to_dict(owner_url)
    parts |= {"user": NAME, "password": _password(str(parts.get("password") or ""))}
    return make_conninfo("", **parts)


def _password(owners: str) -> str | None:
    """Derive the role's password from the owner's, so that every process finds the same one."""
    if not owners:  # the server lets its socket's owner in without
        return None
    return hmac.new(owners.encode(), b"advanced-dspy " + NAME.encode(), hashlib.sha256).hexdigest()
