"""The database adapter: predictions kept whole, questions answered within limits, outages survived."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from typing import Any

import dspy
import psycopg
import pydantic
import pytest

from course_lib.adapters.data import predictions
from course_lib.adapters.data.connections import Connection, DatabaseGone, url_for
from course_lib.adapters.data.database import DatabaseAdapter, DatabaseError
from course_lib.adapters.data.desk_tables import READABLE, load_desk
from course_lib.adapters.data.selects import one_select
from course_lib.adapters.tools.limits import ToolRefused
from course_lib.services import Server

TICKET = {"ticket": "My parcel to Ghent is lost"}


def triaged(**fields: object) -> dspy.Prediction:
    return dspy.Prediction(**({"category": "shipping", "urgency": "high"} | fields))


def tool(database: DatabaseAdapter, name: str) -> dspy.Tool:
    return next(tool for tool in database.tools() if tool.name == name)


def count(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()
    return int(rows)


@pytest.fixture
def database(database_url: str) -> Iterator[DatabaseAdapter]:
    with DatabaseAdapter(database_url, deadline_s=20) as adapter:  # a busy machine restarts a server slowly
        yield adapter


@pytest.fixture(scope="module")
def lantern(postgres: Server) -> Iterator[DatabaseAdapter]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE lantern")
    with DatabaseAdapter(postgres.url.replace("/postgres?", "/lantern?")) as adapter:
        load_desk(adapter)
        yield adapter


# Predictions


def store(database: DatabaseAdapter, prediction: dspy.Prediction, **options: Any) -> str:
    return asyncio.run(database.store_prediction(prediction, **({"inputs": TICKET} | options)))


def get(database: DatabaseAdapter, key: str) -> Any:
    return asyncio.run(database.get_prediction(key))


def test_a_prediction_comes_back_as_it_was_stored(database):
    stored = get(database, store(database, triaged(), program="Triage"))

    assert (stored.program, stored.inputs) == ("Triage", TICKET)
    assert stored.outputs == {"category": "shipping", "urgency": "high"}
    assert get(database, "none") is None


def test_search_finds_words_in_inputs_and_outputs_best_first_and_takes_any_text(database):
    output = store(database, triaged(note="a tent"), inputs={"ticket": "wet"})
    asked = store(database, triaged(), inputs={"ticket": "my tents leak"})
    store(database, triaged(), inputs={"ticket": "stove"}, program="Answer")

    def search(text: str, **options: Any) -> list[str]:
        return [one.key for one in asyncio.run(database.search_predictions(text, **options))]

    assert search("tent") == [asked, output]
    assert search("tent -wet") == [asked]
    assert search('"tents leak" or stove') != []
    assert len(search("shipping", limit=2)) == 2
    for text in ("'; DROP TABLE predictions; --", "%s %(x)s", '"', "", "\0", "a & | ! b"):
        assert search(text) == []


class Refund(pydantic.BaseModel):
    order: str
    on: date


def test_models_and_dates_and_what_jsonb_cannot_hold_are_stored_as_json_and_the_rest_is_refused(database):
    order = Refund(order="O-1", on=date(2026, 3, 16))
    odd = dspy.Prediction(a="x\0y", b="\ud800", c=float("nan"), d=order)

    outputs = get(database, store(database, odd)).outputs

    assert outputs == {"a": "x\ufffdy", "b": "?", "c": "nan", "d": {"order": "O-1", "on": "2026-03-16"}}
    with pytest.raises(DatabaseError, match="the prediction cannot be written as JSON"):
        store(database, dspy.Prediction(x=object()))


# Outages


def test_a_wrong_statement_is_tried_once_and_leaves_nothing_of_its_transaction(database, database_url):
    tries = []

    def store_and_fail(connection: Connection) -> None:
        tries.append(1)
        predictions.store(connection, predictions.as_row(triaged(), TICKET, program=""))
        connection.execute("SELECT 1 / 0")

    with pytest.raises(DatabaseError, match="the database refused: division by zero"):
        database.write(store_and_fail)

    assert (len(tries), count(database_url, "predictions")) == (1, 0)


def test_a_crowd_shares_the_pool_and_connections_that_were_cut_are_replaced_unseen(database, database_url):
    async def run() -> list[str]:
        stores = [database.store_prediction(triaged(), inputs={"n": n % 25}) for n in range(200)]
        keys = await asyncio.gather(*stores)
        with psycopg.connect(database_url) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert await database.get_prediction("none") is None
        return keys

    assert len(set(asyncio.run(run()))) == count(database_url, "predictions") == 25


def test_a_server_killed_during_a_store_has_it_whole_after_its_start(database, database_url, postgres):
    row = predictions.as_row(triaged(), TICKET, program="")
    tries = []

    def store_and_kill(connection: Connection) -> None:
        tries.append(1)
        predictions.store(connection, row)
        if len(tries) == 1:
            postgres.kill()
            threading.Thread(target=postgres.start).start()

    database.write(store_and_kill)

    assert (len(tries), count(database_url, "predictions")) == (2, 1)


def test_a_server_that_stays_away_is_one_clear_error_and_the_pool_recovers_by_itself(database_url, postgres):
    gone_line = r"^the database does not answer after 0\.5 s: [^\n]*start[^\n]*$"
    with DatabaseAdapter(database_url, deadline_s=0.5) as database:
        key = store(database, triaged())
        database.query("SELECT 1")
        postgres.kill()
        try:
            with pytest.raises(DatabaseGone, match=gone_line):
                store(database, triaged(), inputs={"other": 1})
            seen_by_model = tool(database, "query")(sql="SELECT 1")
        finally:
            postgres.start()

        assert seen_by_model.startswith("failed: the database does not answer")
        assert get(database, key) is not None
        assert database.query("SELECT 1 AS x") == '{"x":1}'
    assert count(database_url, "predictions") == 1


# What a model may do


QUESTIONS = {
    "condition": "select id, status from orders where customer_id = 'C-001' order by placed desc limit 3",
    "with": "with late as (select id from orders where status <> 'x') select late.id from late limit 2",
    "join": "select customers.country, count(*) as n, round(avg(o.total_cents) / 100.0, 2) from orders o "
    "join customers on customers.id = o.customer_id group by country having count(*) > 1 order by n desc",
    "dates": "select date_trunc('month', placed), to_char(placed, 'YYYY-MM'), extract(year from placed) "
    "from orders where placed >= date '2026-01-01' - interval '3 days' limit 2",
    "union": "select id from orders where id = 'O-10001' union all select 'Müller''s 100%'",
    "filter": "SELECT count(*) FILTER (WHERE status = 'refunded'), sum(total_cents)::numeric(10,2) "
    "FROM public.orders;",
    "case and exists": "select case when length(text) > 90 then 'long' else left(id, 2) end from tickets t "
    "where exists (select 1 from orders o where o.id = t.order_id) order by id limit 3",
    "text": "select id from tickets where text ilike '%tent%' and urgency in ('high', 'low')",
}


@pytest.mark.parametrize("sql", QUESTIONS.values(), ids=QUESTIONS)
def test_an_honest_question_is_answered_as_the_server_itself_would(lantern, sql):
    rows = [[*json.loads(line).values()] for line in lantern.query(sql).splitlines()[:20]]

    with psycopg.connect(lantern._own.url) as connection:
        expected = connection.execute(sql.encode()).fetchmany(20)
    assert [(len(row), str(row[0])[:10]) for row in rows] == [
        (len(row), str(row[0])[:10]) for row in expected
    ]


def test_an_answer_is_cut_at_the_row_limit_and_says_so(lantern):
    rows = lantern.query("select id from orders order by id").splitlines()

    assert rows[0] == '{"id":"O-10001"}'
    assert rows[50:] == ["(only the first 50 rows; narrow the question, or count)"]
    assert lantern.query("select id from orders where id = 'none'") == "no rows"


WIDE = " || ".join(["t.text || u.text"] * 7)
HEAVY = {
    f"select {WIDE} as x from tickets t, tickets u where length(t.text) > 200": (
        r"longer than 2000 characters.*left\(column, 200\)"
    ),
    # Takes 1.5 s, the limit of the model's role, which no test may move: it is the wall.
    "select count(*) from orders a, orders b, orders c, orders d, tickets e": (
        r"took more than 1\.5 s, or too much memory, and was stopped"
    ),
}


@pytest.mark.parametrize(("sql", "reason"), HEAVY.items(), ids=["wide", "long"])
def test_a_heavy_statement_is_stopped_on_the_server(lantern, sql, reason):
    with pytest.raises(ToolRefused, match=reason):
        lantern.query(sql)


def nested(expression: str, levels: int, innermost: str = "select text as x from tickets") -> str:
    for _ in range(levels):
        innermost = f"select {expression} as x from ({innermost}) as q"
    return innermost


CHAIN = ", ".join(f"w{n + 1} as (select concat(x, x, x) as x from w{n})" for n in range(9))


@pytest.mark.parametrize(
    "sql",
    [
        nested("x || x || x", 9),
        nested("case when x = x then x else coalesce(x, x) end", 6),
        nested("x * x * x * x", 6, "select total_cents::numeric as x from orders"),
        f"with w0 as (select text as x from tickets), {CHAIN} select x from w9",
        "select count(*) from " + ", ".join(f"orders as o{n}" for n in range(9)),
        f"select {'7' * 40} * total_cents from orders",
    ],
    ids=["joined", "repeated", "multiplied", "chain", "tables", "digits"],
)
def test_a_statement_that_could_grow_without_end_is_refused_before_it_is_sent(sql):
    with pytest.raises(ToolRefused, match=r"ask in steps|ask for less|write a shorter one"):
        one_select(sql, READABLE)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of the server's processes")
def test_a_statement_beyond_its_memory_is_an_error_and_the_server_goes_on(lantern):
    with psycopg.connect(lantern._own.url) as before, psycopg.connect(url_for(lantern._own.url)) as other:
        with pytest.raises(psycopg.errors.OutOfMemory):
            other.execute("SELECT length(repeat('x', 200000000))")

        assert before.execute("SELECT 1").fetchone() == (1,)


def test_questions_of_several_adapters_are_answered_one_at_a_time(lantern, postgres):
    slow = "select count(*) from orders a, orders b, (select id from orders limit 40) c where a.id <> b.id"
    running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'course_model' AND state = 'active'"
    seen = set()
    with DatabaseAdapter(lantern._own.url) as second, ThreadPoolExecutor(4) as threads:
        second.allow(*READABLE)
        asked = [threads.submit(one.query, slow) for one in (lantern, second) * 2]
        with psycopg.connect(postgres.url, autocommit=True) as watcher:
            while not all(map(Future.done, asked)):
                seen.add(watcher.execute(running).fetchone())

    assert (1,) in seen <= {(0,), (1,)}


def test_a_name_with_capitals_is_shown_quoted_and_taken_as_it_is_shown(database, database_url):
    with psycopg.connect(database_url) as owner:
        owner.execute('CREATE TABLE "Lines" ("orderId" text, "Price (EUR)" int)')
        owner.execute("""INSERT INTO "Lines" VALUES ('O-1', 5)""")
    database.allow("Lines")

    assert database.describe_tables() == '"Lines"("orderId" text, "Price (EUR)" integer)'
    assert database.query('select "orderId" from "Lines" where "Price (EUR)" = 5') == '{"orderId":"O-1"}'


def test_the_model_sees_its_tables_and_no_others_and_the_servers_own_words(lantern):
    shown, query = tool(lantern, "describe_tables")(), tool(lantern, "query")

    assert [line.partition("(")[0] for line in shown.splitlines()] == sorted(READABLE)
    assert "email" not in shown
    assert query(sql="select email from customer_contacts").startswith("refused: the table")
    assert 'column "statu" does not exist (Perhaps you' in query(sql="select statu from orders")


# Setting up


WORDS = ["xyz", "xyz@zy", "xyz/zy", "12/xyz", "7?sslmode=xyz", "xyz#zy", "xyz%zz"]
URLS = [f"postgresql://bob:{word}@127.0.0.1:1/db" for word in WORDS]


@pytest.mark.parametrize("url", [*URLS, "host=127.0.0.1 port=1 password=a xyz", "xyz"])
def test_no_piece_of_a_password_is_in_a_message_whatever_the_address(url):
    with pytest.raises(DatabaseError) as refused, DatabaseAdapter(url, deadline_s=0.2) as adapter:
        adapter.query("select 1")

    assert not {"xyz", "zy", "zz"} & set(re.split(r"\W", f"{refused.value} {refused.value.__cause__}"))


def test_several_adapters_may_open_the_same_new_database_at_once(database_url):
    adapters = [DatabaseAdapter(database_url) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(DatabaseAdapter.open, adapters))

    for adapter in adapters:
        assert get(adapter, "none") is None
        with pytest.raises(DatabaseError, match=r'"public.nowhere" does not exist'):
            adapter.allow("nowhere")
        adapter.close()
        with pytest.raises(DatabaseError, match="the adapter is closed; make a new one"):
            get(adapter, "none")
