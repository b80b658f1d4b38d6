"""Exercise 1.6, predictions in PostgreSQL: the rows that it holds, also after connections were cut.

Main path: EXERCISE -> engine.registry; each check makes an empty table and a connection pool of its own.
Source: psycopg 3.3, psycopg_pool 3.3. Both are imported when a check runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from course_lib.exercises.engine.checks import expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise, stub_methods

TABLE = "my_predictions"
MAKE_TABLE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (key text PRIMARY KEY, inputs jsonb NOT NULL, outputs jsonb NOT NULL)
"""
"""The table that the exercise stores into."""

_ALL = f"SELECT key, inputs, outputs FROM {TABLE} ORDER BY key"  # noqa: S608  (a name of our own)
_POOL_SIZE = 3
_CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'exercise-1-6'"
_ROWS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("t-1", {"ticket": "Where's my parcel? It isn't here."}, {"category": "shipping"}),
    ("t-2", {"ticket": "the zip is torn'); DROP TABLE my_predictions; --"}, {"category": "warranty"}),
    ("t-3", {"ticket": "Zelt läßt Wasser durch, 100% naß"}, {"category": "warranty", "tags": ["rain"]}),
)

StoreClass = Callable[[Any], Any]


@contextmanager
def _stand(store_class: StoreClass) -> Iterator[tuple[Any, Any]]:
    """Give a store on an empty table, and a connection of our own to look behind it."""
    import psycopg
    from psycopg_pool import ConnectionPool

    from course_lib.services import running_postgres

    url = running_postgres().url
    with psycopg.connect(url, autocommit=True) as ours:
        ours.execute("SET client_min_messages = warning")
        ours.execute(MAKE_TABLE)
        ours.execute(f"TRUNCATE {TABLE}")
        named = {"application_name": "exercise-1-6"}
        with ConnectionPool(
            url, min_size=_POOL_SIZE, max_size=_POOL_SIZE, timeout=3, kwargs=named, open=True
        ) as pool:
            pool.wait()
            yield store_class(pool), ours


def _rows(ours: Any) -> list[Any]:
    return list(ours.execute(_ALL))


def _stored(store: Any, what: str, *rows: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    import psycopg

    without_error(
        lambda: [store.store_prediction(*row) for row in rows],
        what,
        hint="Values go to the database as parameters (%s), never into the text of the statement.",
        errors=psycopg.Error,
    )


def keeps_what_it_is_given(store_class: StoreClass) -> None:
    """PostgreSQL holds each stored prediction as it was, quotes and umlauts included."""
    with _stand(store_class) as (store, ours):
        _stored(store, "texts with quotes are stored", *_ROWS)
        expect_equal(_rows(ours), list(_ROWS), "the rows that PostgreSQL holds")
        for key, _, outputs in _ROWS:
            expect_equal(store.get_prediction(key), outputs, f"get_prediction({key!r})")
        expect_equal(store.get_prediction("t-999"), None, "get_prediction of a key that is not there")


def stores_a_key_once(store_class: StoreClass) -> None:
    """Storing the same prediction again changes nothing, and is no error."""
    with _stand(store_class) as (store, ours):
        _stored(store, "storing the same again is no error", _ROWS[0], _ROWS[0])
        expect_equal(len(_rows(ours)), 1, "rows after storing one prediction twice")


def finds_by_text(store_class: StoreClass) -> None:
    """A search finds what stands in inputs or outputs, takes each character as it is, keeps its limit."""
    wanted = {
        "parcel": ["t-1"],
        "rain": ["t-3"],
        "WARRANTY": ["t-2", "t-3"],
        "100%": ["t-3"],
        "kayak": [],
        "' OR 1=1 --": [],
    }
    with _stand(store_class) as (store, _):
        _stored(store, "texts with quotes are stored", *_ROWS)
        for text, keys in wanted.items():
            expect_equal(sorted(store.search_predictions(text)), keys, f"search_predictions({text!r})")
        expect_equal(
            len(store.search_predictions("%")),
            1,
            "a search for a percent sign finds the one text that has one",
            hint="In LIKE a percent sign stands for anything; strpos(lower(...), lower(...)) has none.",
        )
        expect_equal(len(store.search_predictions("a", limit=2)), 2, "results of a search with limit=2")


def goes_on_after_dropped_lines(store_class: StoreClass) -> None:
    """When all connections of the pool are cut, the next call still works, and stores one row."""
    import psycopg

    with _stand(store_class) as (store, ours):
        ours.execute(_CUT)
        without_error(
            lambda: store.store_prediction(*_ROWS[0]),
            "a call after the lines were cut still works",
            expected="the work tried again on another connection",
            hint=f"The pool has {_POOL_SIZE} connections, and each of them was cut.",
            errors=psycopg.OperationalError,
        )
        expect_equal(_rows(ours), [_ROWS[0]], "the rows after the lines were cut")


def gives_connections_back(store_class: StoreClass) -> None:
    """Every call gives its connection back to the pool."""
    from psycopg_pool import PoolTimeout

    with _stand(store_class) as (store, _):
        without_error(
            lambda: [store.get_prediction("t-1") for _ in range(3 * _POOL_SIZE)],
            "connections come back to the pool",
            expected="as many calls as one likes",
            hint="`with pool.connection() as connection:` gives it back, whatever happens inside.",
            errors=PoolTimeout,
        )


EXERCISE = Exercise(
    id="1.6",
    title="Predictions in PostgreSQL",
    lesson="01_adapters",
    minutes=20,
    difficulty="hard",
    concepts=("psycopg", "connection pool", "parameters", "retry", "idempotence"),
    hints=(
        "Let all three methods go through one that runs a statement: `with self.pool.connection() as "
        "connection: return connection.execute(statement, values).fetchall()`. Jsonb(...) wraps a dict.",
        "INSERT ... ON CONFLICT (key) DO NOTHING makes storing safe to repeat, and only what is safe to "
        "repeat may be tried again. strpos(lower(inputs::text || outputs::text), lower(%s)) > 0 finds.",
        "Catch psycopg.OperationalError around the whole `with`, and try once more than the pool has "
        "connections. JSON in PostgreSQL keeps umlauts as they are.",
    ),
    checks=(
        keeps_what_it_is_given,
        stores_a_key_once,
        finds_by_text,
        gives_connections_back,
        goes_on_after_dropped_lines,
    ),
    deadline_s=30.0,
    is_stub=stub_methods("store_prediction", "get_prediction", "search_predictions"),
    why="Values travel as parameters, so no text can become a statement. Storing is idempotent, so "
    "trying again is safe, also when the line dropped just after the commit. And the pool is used "
    "through `with`, so that no error keeps a connection. DatabaseAdapter does the same with a deadline "
    "and jitter.",
)
