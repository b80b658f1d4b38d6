"""Exercise 1.6, predictions in PostgreSQL: the rows that it holds, also after connections were cut.

Main path: EXERCISE -> engine.registry; each check has a schema, an empty table and a pool of its own.
Source: psycopg 3.3, psycopg_pool 3.3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from course_lib.exercises.engine.checks import expect_equal, expect_error, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.services import running_postgres

_TABLE = "CREATE TABLE my_predictions (key text PRIMARY KEY, inputs jsonb NOT NULL, outputs jsonb NOT NULL)"
_POOL_SIZE = 3
_CUT = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
_AWAITED = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"

Row = tuple[str, dict[str, Any], dict[str, Any]]


def _given(word: str = "tarp") -> list[Row]:
    """Return rows to store, made anew, one with this word in it; keys that differ by a letter are others."""
    return [
        ("t-1", {"ticket": f"Where's my parcel? It isn't here. {word}"}, {"category": "shipping"}),
        ("t-2'", {"ticket": "the zip is torn'); DROP TABLE my_predictions; --"}, {"category": "warranty"}),
        ("t-3", {"ticket": "Zelt läßt Wasser durch, 100% naß"}, {"category": "warranty", "tags": ["rain"]}),
        ("t-4", {"ORDER": {"lines": [1, 2.5, None]}}, {}),
        ("t-5", {"path": r"C:\tents\9"}, {}),
        *((key, {}, {"key": len(key)}) for key in ("T-1", " t-1", "t-1 ")),
    ]


@contextmanager
def _stand(store_class: Any) -> Iterator[tuple[Any, Any, Callable[[], object]]]:
    """Give a store on an empty table, a connection of ours to that table, and what cuts the store's."""
    url, name = running_postgres().url, f"exercise_1_6_{uuid4().hex}"
    named = {"application_name": name, "options": f"-c search_path={name}"}
    with psycopg.connect(url, autocommit=True) as ours:
        for statement in (f"CREATE SCHEMA {name}", f"SET search_path TO {name}", _TABLE):
            ours.execute(statement)
        cut = partial(ours.execute, _CUT, [name])
        try:
            with ConnectionPool(url, min_size=_POOL_SIZE, timeout=5, kwargs=named, open=True) as pool:
                pool.wait()
                yield store_class(pool), ours, cut
        finally:
            cut()
            ours.execute(f"SET client_min_messages = warning; DROP SCHEMA {name} CASCADE")


def _rows(ours: Any) -> list[Any]:
    return sorted(ours.execute("SELECT key, inputs, outputs FROM my_predictions"))


def _stored(store: Any, what: str, *rows: Row) -> None:
    hint = "Values go to the database as parameters (%s), never into the text of the statement."
    for row in rows:
        without_error(partial(store.store_prediction, *row), what, hint=hint, errors=psycopg.Error)


def _calls(store: Any) -> dict[str, Callable[[], Any]]:
    """Return a call of each method, all about the first row."""
    return {
        "store_prediction": lambda: store.store_prediction(*_given()[0]),
        "get_prediction": lambda: store.get_prediction("t-1"),
        "search_predictions": lambda: list(store.search_predictions("parcel")),
    }


def keeps_rows(store_class: Any) -> None:
    """PostgreSQL holds each stored prediction as it was, quotes and umlauts included."""
    with _stand(store_class) as (store, ours, _):
        _stored(store, "texts with quotes are stored", *_given())
        expect_equal(_rows(ours), sorted(_given()), "the rows that PostgreSQL holds")
        for key, _, outputs in [*_given(), ("t-999", None, None)]:
            expect_equal(store.get_prediction(key), outputs, f"get_prediction({key!r})")
        ours.execute("DELETE FROM my_predictions")
        first = _given()[0]
        expect_equal(store.get_prediction(first[0]), None, "what is got of a row that is deleted meanwhile")
        _stored(store, "a deleted row is stored again", first)
        expect_equal(_rows(ours), [first], "the rows after storing a deleted one again")


def stores_once(store_class: Any) -> None:
    """Storing a key again changes nothing and is no error, also while another program stores it."""
    first, second, _, fourth, *_ = _given()
    with _stand(store_class) as (store, ours, _), ThreadPoolExecutor(1) as thread:
        _stored(store, "storing a key again is no error", first, first, (first[0], *second[1:]))
        expect_equal(_rows(ours), [first], "the rows after storing a key again, with other values")
        with ours.transaction():
            ours.execute("INSERT INTO my_predictions VALUES ('t-4', '{}', '{}')")
            storing = thread.submit(_stored, store, "storing beside another program is no error", fourth)
            for _ in range(500):  # at most five seconds
                if storing.done() or ours.execute(_AWAITED).fetchone() != (0,):
                    break
                time.sleep(0.01)
        storing.result()
        expect_equal(_rows(ours), [first, ("t-4", {}, {})], "the rows after both have stored")


def finds_texts(store_class: Any) -> None:
    """A search finds what stands in inputs or outputs, takes each character as it is, keeps its limit."""
    word, end = f"Zq{uuid4().hex}", r"s\\9"  # as PostgreSQL writes it, with two backslashes
    where = {"PARCEL": "t-1", "rain": "t-3", "WarrantY": "t-2' t-3", "läßt": "t-3", "order": "t-4"}
    where |= {"LINES": "t-4", "Tags": "t-3", word.swapcase(): "t-1", "%": "t-3", "0_": ""}
    where |= {"\\": "t-5", end: "t-5"}
    hint = r"In LIKE %, _ and \ mean something; strpos(lower(...), lower(...)) takes them as they are."
    with _stand(store_class) as (store, _, _):
        _stored(store, "texts with quotes are stored", *_given(word))
        for text in (*where, "kayak", "' OR 1=1 --", "p.rcel", "t-1", "}{", r"s\9"):
            found, keys = sorted(store.search_predictions(text)), where.get(text, "").split()
            expect_equal(found, keys, f"search_predictions({text!r})", hint=hint)
        _stored(store, "more rows are stored", *((f"u-{n}", {"ticket": "a tent"}, {}) for n in range(8)))
        for limits, count in (({}, 5), ({"limit": 2}, 2), ({"limit": 7}, 7), ({"limit": 0}, 0)):
            several = set(store.search_predictions("tent", **limits))
            expect_equal(len(several), count, f"keys found with {limits or 'the usual limit'}")


def returns_connections(store_class: Any) -> None:
    """Every call gives its connection back to the pool, also one that ends in an error."""
    what, hint = "connections come back to the pool", "`with pool.connection()` always gives it back."
    with _stand(store_class) as (store, _, _):
        for _ in range(2 * _POOL_SIZE):
            for call in _calls(store).values():
                without_error(call, what, hint=hint, errors=PoolTimeout)
            with suppress(Exception):  # how the store refuses what JSON cannot hold is its own affair
                store.store_prediction("t-4", {}, {"category": object()})


def survives_cuts(store_class: Any) -> None:
    """When all connections of the pool are cut, the next call still works, and stores one row."""
    row = _given()[0]
    with _stand(store_class) as (store, ours, cut):
        results, again = [], "the work tried again on another connection"
        for name, call in _calls(store).items():
            cut()
            what = f"{name} still works after all {_POOL_SIZE} lines were cut"
            results.append(without_error(call, what, expected=again, errors=psycopg.OperationalError))
        expect_equal(results[1:], [row[2], [row[0]]], "what is got and found after the lines were cut")
        expect_equal(_rows(ours), [row], "the rows after the lines were cut")


def tells_errors(store_class: Any) -> None:
    """An error of another kind, such as a table that is not there, reaches the caller."""
    hint = "An error that nobody hears of is a prediction lost, or a 'not there' that is not true."
    with _stand(store_class) as (store, ours, _):
        ours.execute("ALTER TABLE my_predictions RENAME TO gone")
        for name, call in _calls(store).items():
            expect_error(Exception, call, f"{name} without a table raises", hint=hint)


EXERCISE = Exercise(
    title="Predictions in PostgreSQL",
    minutes=15,
    difficulty="hard",
    hints=(
        "One method runs every statement, in `with self.pool.connection() as ...`; Jsonb(...) wraps a dict.",
        "INSERT ... ON CONFLICT (key) DO NOTHING may be repeated; strpos(lower(...), lower(%s)) finds.",
        "Catch psycopg.OperationalError around the `with`; try once more than the pool has connections.",
    ),
    checks=(keeps_rows, stores_once, finds_texts, returns_connections, survives_cuts, tells_errors),
    deadline_s=30.0,
    why="Values travel as parameters, so no text can become a statement. Storing is idempotent, so trying "
    "again is safe, also when the line dropped just after the commit. `with` gives each connection back.",
)
