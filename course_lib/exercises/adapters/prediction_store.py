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
from random import choice, choices, randrange
from typing import Any
from uuid import uuid4

import psycopg
from psycopg_pool import ConnectionPool

from course_lib.exercises.engine.checks import expect, expect_equal, expect_error, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.services import running_postgres

_TABLE = "CREATE TABLE my_predictions (key text PRIMARY KEY, inputs jsonb NOT NULL, outputs jsonb NOT NULL)"
_POOL_SIZE = 3
_CUT = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
_AWAITED = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
_ALL = "SELECT key, inputs::text, outputs::text FROM my_predictions"
_FAIL = """CREATE OR REPLACE FUNCTION fail() RETURNS boolean LANGUAGE plpgsql
AS $$ BEGIN
IF '{0}' = '57P01' THEN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(1); END IF;
RAISE 'no' USING ERRCODE = '{0}'; END $$;"""
_FAILING = """ALTER TABLE my_predictions ADD CHECK (fail()) NOT VALID;
ALTER TABLE my_predictions RENAME TO hidden;
CREATE VIEW my_predictions AS SELECT * FROM hidden WHERE fail()"""
_CODES = ("22003", "23514", "42501", "57014", "53100", "0A000", "XX000", "57P01")
"""An error of each class that psycopg has; three are operational, and with 57P01 the connection is lost."""
_PIECES = "zelt|ZÄlt|Ö|ärmel|É|é|%|_|0|\\|\\n|\"|'); DROP TABLE hidden; --| |  |\t|.|*|{|}|: |1|Tag|T|t"
_ROW = "t-1", {"ticket": "Where is my parcel?"}, {"category": "shipping"}
_KEYS = f"t-1|T-1| t-1|t-1 |t-1\n|t_1|%|t-2'|\\|t\\-1||ä|a\u0308|1|01|None|{'k' * 499}|{'k' * 500}".split("|")


class _Watched:
    """Two stores, of which either gets a call; each has to ask the pool, and give the connection back."""

    def __init__(self, store_class: Any, pool: ConnectionPool[Any]) -> None:
        self._stores, self._pool = (store_class(pool), store_class(pool)), pool

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, name)

    def _stat(self, name: str) -> Any:
        return self._pool.get_stats().get(name, 0)

    def _call(self, name: str, *args: Any, **named: Any) -> Any:
        asked = self._stat("requests_num")
        try:
            result = getattr(choice(self._stores), name)(*args, **named)
        finally:
            until = time.monotonic() + 2  # after a cut it takes a while
            while self._stat("pool_available") < _POOL_SIZE and time.monotonic() < until:
                time.sleep(0.002)
            what = f"connections come back to the pool, after {name}{args!r:.80}"
            hint = "`with pool.connection()` always gives it back."
            expect_equal(self._stat("pool_available"), _POOL_SIZE, what, hint=hint)
        is_asked = named.get("limit") == 0 or self._stat("requests_num") > asked
        what, seen = f"{name}{args!r:.80} asks the pool", f"{result!r:.80}, and no request"
        expect(is_asked, what, observed=seen, expected="pool.connection()")
        return result


@contextmanager
def _stand(store_class: Any) -> Iterator[tuple[Any, Any, Callable[[], object]]]:
    """Give a store on an empty table, a connection of ours to that table, and what cuts the store's."""
    url, name = running_postgres().url, f"exercise_1_6_{uuid4().hex}"
    named = {"application_name": name, "options": f"-c search_path={name}"}
    with psycopg.connect(url, autocommit=True) as ours:
        ours.execute(f"CREATE SCHEMA {name}; SET search_path TO {name}; {_TABLE}")
        cut = partial(ours.execute, _CUT, [name])
        try:
            with ConnectionPool(url, min_size=_POOL_SIZE, timeout=5, kwargs=named, open=True) as pool:
                pool.wait()
                yield _Watched(store_class, pool), ours, cut
        finally:
            cut()
            ours.execute(f"SET client_min_messages = warning; DROP SCHEMA {name} CASCADE")


def _text() -> str:
    return "".join(choice(_PIECES.split("|")) for _ in range(randrange(5)))


def _row() -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return a row to store; a text may be in both columns, and the outputs may be empty."""
    inputs = {"ticket": _text(), _text(): [_text(), 2.5, None]}
    outputs = choice(({}, inputs, {"category": _text(), "tags": {"t": [_text()]}}))
    return choice(_KEYS), inputs, outputs


def _wanted(rows: list[Any]) -> tuple[str, set[str]]:
    """Return a text to search for, a part of a row or nearly, and the keys of rows that hold it."""
    _, first, second = choice(rows if randrange(4) == 0 else rows[60:])
    start = randrange(len(first + second))
    part = (first + second)[start : start + randrange(9)]
    piece, near = choice(_PIECES.split("|")), part[:1] + choice("%_.") + part[2:]
    texts = [part, part.lower(), part.upper(), f"{part} ", near, near.lower(), piece, f" {piece}"]
    text = choice([*texts, piece.swapcase(), choice(_KEYS), "}{", "} {", "},{"])
    return text, {key for key, *texts in rows if any(text.lower() in each.lower() for each in texts)}


def _calls(store: Any) -> dict[str, Callable[[], Any]]:
    """Return a call of each method, all about one row."""
    return {
        "store_prediction": lambda: store.store_prediction(*_ROW),
        "get_prediction": lambda: store.get_prediction(_ROW[0]),
        "search_predictions": lambda: list(store.search_predictions("parcel")),
    }


def keeps_rows(store_class: Any) -> None:
    """PostgreSQL holds each prediction as it was first stored, and each call sees what it holds now."""
    held: dict[str, Any] = {}
    with _stand(store_class) as (store, ours, _):
        for key in [*_KEYS, *choices(_KEYS, k=80)]:
            what = f"get_prediction({key!r:.80})"
            got = without_error(partial(store.get_prediction, key), what, errors=psycopg.Error)
            expect_equal(got, held.get(key, (0, None))[1], what)
            _, inputs, outputs = row = key, *_row()[1:]
            if randrange(4) == 0 and held.pop(key, None):
                ours.execute("DELETE FROM my_predictions WHERE key = %s", [key])
            elif key not in held or randrange(2):
                what, hint = f"store_prediction{row!s:.300} is no error", "Values go as parameters (%s)."
                without_error(partial(store.store_prediction, *row), what, hint=hint)
                held.setdefault(key, [inputs, outputs])
        rows = {key: row for key, *row in ours.execute("SELECT * FROM my_predictions")}
        expect_equal(rows, held, "the rows that PostgreSQL holds")
        with suppress(TypeError, ValueError, psycopg.Error):  # how it is refused is the store's affair
            store.store_prediction("new", {}, {"category": object()})


def stores_once(store_class: Any) -> None:
    """Storing a key is no error and changes nothing, also while another program stores it."""
    what = "storing beside another program is no error"
    with _stand(store_class) as (store, ours, _), ThreadPoolExecutor(1) as thread:
        with ours.transaction():
            ours.execute("INSERT INTO my_predictions VALUES ('t-1', '{}', '{}')")
            storing = thread.submit(without_error, _calls(store)["store_prediction"], what)
            for _ in range(500):  # at most five seconds
                if storing.done() or ours.execute(_AWAITED).fetchone() != (0,):
                    break
                time.sleep(0.01)
        storing.result()
        expect_equal([*ours.execute(_ALL)], [("t-1", "{}", "{}")], "the rows after both have stored")


def finds_texts(store_class: Any) -> None:
    """A search finds what stands in inputs or outputs, takes each character as it is, keeps its limit."""
    hint = r"In LIKE %, _ and \ mean something; strpos(lower(...), lower(...)) takes them as they are."
    heard = partial(without_error, hint=hint, errors=psycopg.Error)
    with _stand(store_class) as (store, ours, _):
        for row in [*((f"u-{n}", {"Many": f"Z{n}"}, {}) for n in range(60)), *(_row() for _ in range(20))]:
            store.store_prediction(*row)
        rows = [*ours.execute(_ALL)]
        for limit in (*[999] * 150, None, 0, 1, 4, 7):
            text, keys = _wanted(rows) if limit == 999 else (choice(("", "{", '"')), {row[0] for row in rows})
            asked = {} if limit is None else {"limit": limit}
            told = f"search_predictions({text!r}) with {asked or 'the usual limit'}"
            found = heard(partial(store.search_predictions, text, **asked), told)
            expect_equal(found, [*dict.fromkeys(found)], f"{told}: a list, each key once")
            expect_equal([*{*found} - keys], [], f"{told}: keys of rows without the text", hint=hint)
            expect_equal(len({*found}), min(len(keys), asked.get("limit", 5)), f"{told}: keys", hint=hint)
        store.store_prediction("v-1", {"Kiln": "yurt"}, {"Lamp": "oven's %_ Straße"})
        for text in ("kILN", "YURT", "lAMP", "OVEN'S", "S %_", "sTRaße"):
            told = f"search_predictions({text!r}) with any case: keys"
            expect_equal(heard(partial(store.search_predictions, text), told), ["v-1"], told, hint=hint)


def survives_cuts(store_class: Any) -> None:
    """When all connections of the pool are cut, the next call still works, and stores one row."""
    with _stand(store_class) as (store, ours, cut):
        results, again = [], "the work tried again on another connection"
        for name, call in _calls(store).items():
            cut()
            what = f"{name} still works after all {_POOL_SIZE} lines were cut"
            results.append(without_error(call, what, expected=again, errors=psycopg.OperationalError))
        expect_equal(results[1:], [_ROW[2], [_ROW[0]]], "what is got and found after the lines were cut")
        expect_equal([*ours.execute("SELECT * FROM my_predictions")], [_ROW], "the rows after that")


def tells_errors(store_class: Any) -> None:
    """Any other error of the database reaches the caller as it is."""
    hint = "An error that nobody hears of is a prediction lost, or a 'not there' that is not true."
    with _stand(store_class) as (store, ours, _):
        store.store_prediction(*_ROW)
        ours.execute(_FAIL.format(_CODES[0]) + _FAILING)
        for code in _CODES:
            ours.execute(_FAIL.format(code))
            for name, call in _calls(store).items():
                what = f"{name} raises the database's error {code}"
                error = expect_error(psycopg.Error, call, what, hint=hint)
                is_lost = code == "57P01" and isinstance(error, psycopg.OperationalError)
                expect_equal(code if is_lost else error.sqlstate, code, what, hint=hint)


EXERCISE = Exercise(
    title="Predictions in PostgreSQL",
    minutes=15,
    difficulty="hard",
    hints=(
        "One method runs every statement, in `with self.pool.connection() as ...`; Jsonb(...) wraps a dict.",
        "INSERT ... ON CONFLICT (key) DO NOTHING may be repeated; strpos(lower(...), lower(%s)) finds.",
        "Catch psycopg.OperationalError around the `with`; try once more than the pool has connections.",
    ),
    checks=(keeps_rows, stores_once, finds_texts, survives_cuts, tells_errors),
    deadline_s=30.0,
    why="Values travel as parameters, so no text can become a statement. Storing is idempotent, so trying "
    "again is safe, also when the line dropped just after the commit. `with` gives each connection back.",
)
