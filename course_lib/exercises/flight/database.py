"""Project 1, a database adapter in three stages: a pool, a search with a cache, health and metrics.

Main path: POOL, SEARCH, WATCH -> engine.registry; each check has a schema of its own in PostgreSQL.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection, AsyncCursor, sql
from psycopg.conninfo import make_conninfo

from course_lib.exercises.engine.checks import SOON_S, CheckFailed, expect, expect_equal, soon
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.flight.help_pages import Found, Line, Pool, fill, fresh
from course_lib.services import running_postgres

_ROWS = [
    ("dry", "Drying", "Dry a wet tent in the air before you pack the tent away.", "mildew"),
    ("pitch", "Pitching", "Pitch the tent on level ground.", ""),
    ("pole", "Poles", "A bent pole is straightened in our workshop.", "broken"),
    ("stove", "Stoves", "Clean the burner of a stove with a brush.", ""),
]
_TEXTS = {row[0]: f"[{row[0]}] {row[1]}\n{row[2]}" for row in _ROWS}
_HOSTILE = ("q' OR '1'='1", "'); DROP TABLE articles; --", "%", "_", "%s %(text)s", "a & | ! <-> (:*", "\0",
            "", "' UNION SELECT usename FROM pg_user --", "\\", "$1 {text}", "'", "q:*",
            "\ud800")  # fmt: skip


class _NoError(Exception):
    """Nothing raises this."""


class _Stand:
    """A help centre of the check's own, and what its server tells."""

    def __init__(self, url: str, name: str, owner: AsyncConnection[Any]) -> None:
        self.url, self.name, self.owner = make_conninfo(url, application_name=name), name, owner

    async def told(self, query: Any, *values: object) -> Any:
        """Return the first value that the server answers."""
        row: Any = await (await self.owner.execute(query, values)).fetchone()
        return row[0]

    async def connections(self, state: str = "%") -> int:
        found: int = await self.told(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state LIKE %s",
            self.name,
            state,
        )
        return found

    async def becomes(self, state: str, what: str, hint: str) -> None:
        """Wait until the server knows no connection in this state any more."""
        end_s = time.monotonic() + SOON_S
        while (left := await self.connections(state)) and time.monotonic() < end_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        expect_equal(left, 0, what, hint=hint)


@asynccontextmanager
async def _stand(rows: Any = _ROWS) -> AsyncIterator[_Stand]:
    name = f"check_{uuid4().hex}"
    url = fresh(running_postgres().url, name)
    fill(url, rows)
    async with await AsyncConnection.connect(url, autocommit=True) as owner:
        try:
            yield _Stand(url, name, owner)
        finally:
            await owner.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


async def _crowd(pool: Any, size: int, callers: int, stay_s: float = 0.0) -> tuple[int, set[int]]:
    """Have so many use the pool, none of whom ends before `size` are in; return the most, and their pids."""
    inside, most, pids, is_full = 0, 0, set[int](), asyncio.Event()

    async def use() -> None:
        nonlocal inside, most
        async with pool.connection() as connection:
            inside += 1
            most = max(most, inside)
            if inside == size:
                is_full.set()
            await is_full.wait()
            await asyncio.sleep(stay_s)  # one more may come, if it is let in
            pids.add((await (await connection.execute("SELECT pg_backend_pid()")).fetchone())[0])
            inside -= 1

    await asyncio.gather(*(use() for _ in range(callers)))
    return most, pids


async def _expect_whole(pool: Any, size: int, when: str, hint: str, rounds: int = 2) -> None:
    crowd = _crowd(pool, size, rounds * size, 0.06)
    most, _ = await soon(crowd, f"{size} blocks at once {when}", hint=hint)
    expect_equal(most, size, f"most blocks at once {when}", hint=hint)


async def is_bounded(pool_class: Any) -> None:
    """At most `size` connections are open, all of them can be in use, and each is used again."""
    size, hint = (
        random.choice((2, 3)),
        "A semaphore counts who is in; a list keeps the connections.",
    )
    async with _stand() as stand:
        pool = pool_class(stand.url, size, SOON_S)
        most, pids = await soon(_crowd(pool, size, 5 * size), f"{size} blocks at once", hint=hint)
        expect_equal(most, size, f"most blocks at once, size={size}", hint=hint)
        for _ in range(4 * size):
            pids |= (await soon(_crowd(pool, 1, 1), "one block after another"))[1]
        what = f"connections that {9 * size} blocks used"
        expect(len(pids) <= size, what, observed=len(pids), expected=f"at most {size}", hint=hint)
        await pool.close()
        await stand.becomes("%", "connections that are open after close()", "close() closes those that rest.")


async def waits_in_time(pool_class: Any) -> None:
    """Who gets no connection within wait_s seconds gets TimeoutError, which names the size; nobody else."""
    async with _stand() as stand:
        pool, got = pool_class(stand.url, 2, 0.4), "a connection"
        hint = "The limit is for the wait alone, not for what is done in the block."
        try:
            async with pool.connection() as one:
                await one.execute("SELECT pg_sleep(0.5)")
        except TimeoutError as error:
            what, wanted = "a block that takes longer than wait_s", "it is left alone"
            raise CheckFailed(what, observed=repr(error), expected=wanted, hint=hint) from error
        async with pool.connection(), pool.connection():
            try:
                await soon(_crowd(pool, 1, 1), "a third block, size=2, wait_s=0.4")
            except TimeoutError as error:
                got = f"TimeoutError: {error}"
            is_told = got.startswith("TimeoutError") and "2" in got
            wanted = "TimeoutError, with the size 2 in its message"
            expect(is_told, "what a third block gets", observed=got, expected=wanted)
        await _expect_whole(pool, 2, "after one had waited in vain", "Who got no slot gives none back.", 1)
        await pool.close()


async def is_a_transaction(pool_class: Any) -> None:
    """A block is a transaction: kept when it ends well, undone when it fails, and its error comes out."""
    hint = "`async with connection.transaction():` commits, or rolls back and lets the error out."
    async with _stand() as stand:
        pool, own, got = pool_class(stand.url, 3, SOON_S), KeyError("of the block"), None
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO articles VALUES ('kept', 't', 'b')")
        try:
            async with pool.connection() as connection:
                await connection.execute("INSERT INTO articles VALUES ('undone', 't', 'b')")
                raise own
        except KeyError as error:
            got = error
        expect(got is own, "the error of a block", observed=repr(got), expected=repr(own), hint=hint)
        held = await stand.told("SELECT array_agg(id) FROM articles WHERE id IN ('kept', 'undone')")
        expect_equal(held, ["kept"], "rows of a block that ended well and of one that failed", hint=hint)
        await stand.owner.execute("CREATE TABLE once (number int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        refused = ""
        try:
            async with pool.connection() as connection:
                await connection.execute("INSERT INTO once VALUES (1), (1)")
        except psycopg.Error as error:
            refused = type(error).__name__
        what = "what comes out of a block whose commit the database refuses"
        expect_equal(refused, "UniqueViolation", what, hint=hint)
        wrote = asyncio.Event()

        async def write() -> None:
            async with pool.connection() as connection:
                await connection.execute("INSERT INTO articles VALUES ('left', 't', 'b')")
                wrote.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(write())
        await soon(asyncio.wait([asyncio.ensure_future(wrote.wait()), task], return_when="FIRST_COMPLETED"),
                    "a block that writes")  # fmt: skip
        task.cancel()
        await soon(asyncio.wait([task]), "a caller that was cancelled after it wrote")
        left = await stand.told("SELECT count(*) FROM articles WHERE id = 'left'")
        expect_equal(left, 0, "rows of a block that was cancelled after it wrote", hint=hint)
        await pool.close()


async def drops_the_broken(pool_class: Any) -> None:
    """A connection that broke in a block, or whose query failed, spoils nothing for those who come after."""
    ends = {"its connection was ended": "SELECT pg_terminate_backend(pg_backend_pid())",
            "its query failed": "SELECT 1 / 0"}  # fmt: skip
    hint = "connection.info.transaction_status tells: IDLE may rest in the pool, all else is closed."
    async with _stand() as stand:
        for (name, query), is_caught in ((end, caught) for end in ends.items() for caught in (False, True)):
            pool = pool_class(stand.url, 2, SOON_S)
            with suppress(psycopg.Error):
                async with pool.connection() as one, pool.connection() as two:
                    for connection in (one, two):
                        with suppress(psycopg.Error if is_caught else _NoError):
                            await connection.execute(query)
            try:
                await _expect_whole(pool, 2, f"after a block in which {name}", hint)
            except psycopg.Error as error:
                what, observed = f"blocks after one in which {name}", f"{type(error).__name__}: {error}"
                raise CheckFailed(what, observed=observed, expected="they work", hint=hint) from error
            await pool.close()


async def opens_again(pool_class: Any) -> None:
    """A connection that cannot be opened costs no place: when the database is back, all can be in use."""
    hint = "Also where AsyncConnection.connect raises, `finally` gives the slot back."
    async with _stand() as stand, Line(stand.url) as line:
        pool, is_whole = pool_class(make_conninfo(line.url, connect_timeout=2), 2, 0.3), False
        line.cut()
        for _ in range(3):
            with suppress(psycopg.Error, OSError):
                await soon(_crowd(pool, 1, 1), "a block with the database gone")
        line.mend()
        end_s = time.monotonic() + SOON_S
        while not is_whole and time.monotonic() < end_s:
            with suppress(psycopg.Error, OSError):
                async with pool.connection(), pool.connection() as two:
                    is_whole = bool(await two.execute("SELECT 1"))
        told, wanted = f"not within {SOON_S} s", "they work"
        what = "two blocks at once, size=2, after the database was gone for a while"
        expect(is_whole, what, observed=told, expected=wanted, hint=hint)
        await pool.close()


async def survives_cancelling(pool_class: Any) -> None:
    """A caller that is cancelled, as it waits or in a query, costs no place, and its query ends."""
    hint = "Take the slot before `try`, give it back in `finally`: who was cancelled as it waited has none."
    async with _stand() as stand:
        pool = pool_class(stand.url, 2, 2 * SOON_S)

        async def sleep() -> None:
            async with pool.connection() as connection:
                await connection.execute("SELECT pg_sleep(60)")

        tasks = [asyncio.ensure_future(sleep()) for _ in range(4)]
        while await stand.connections("active") < 2 and not any(task.done() for task in tasks):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for task in reversed(tasks):
            task.cancel()
        await soon(asyncio.wait(tasks), "callers that were cancelled")
        await stand.becomes("active", "queries that run after their callers were cancelled", hint)
        await _expect_whole(pool, 2, "after four callers were cancelled", hint)
        await pool.close()


POOL = Exercise(
    title="A pool of connections",
    minutes=12,
    difficulty="medium",
    hints=(
        "An asyncio.Semaphore(size) counts, a list holds the connections that rest; `@asynccontextmanager`.",
        "AsyncConnection.connect(url, autocommit=True), then `async with connection.transaction(): yield`.",
        "asyncio.timeout(wait_s) around slots.acquire() alone; in `finally` look at "
        "connection.info.transaction_status: IDLE goes to the list, anything else is closed.",
    ),
    checks=(is_bounded, waits_in_time, is_a_transaction, drops_the_broken, opens_again, survives_cancelling),
    deadline_s=60.0,
    why="A slot is taken before the block and given back after it, whatever happens between. Only the server "
    "knows what state a connection is in, so its own word decides whether the next caller gets it.",
)


class _Reads(Pool):
    """A pool that counts statements about articles, and does something after the next one."""

    reads = 0
    then: Callable[[], Awaitable[object]] | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        pool = self

        class Counting(AsyncCursor[Any]):
            async def execute(self, query: Any, *args: Any, **named: Any) -> Any:
                result = await super().execute(query, *args, **named)
                text = query.as_string(self) if isinstance(query, sql.Composable) else str(query)
                pool.reads += "articles" in text
                if "articles" in text and pool.then:
                    then, pool.then = pool.then, None
                    await then()
                return result

        async with super().connection() as connection:
            connection.cursor_factory = Counting
            yield connection


@asynccontextmanager
async def _searched() -> AsyncIterator[tuple[_Stand, _Reads]]:
    async with _stand() as stand:
        pool = _Reads(stand.url, 4, SOON_S)
        yield stand, pool
        await pool.close()


async def finds_the_best(search_class: Any) -> None:
    """It finds the articles with some of the words, in any form, the best first, and at most `limit`."""
    hint = "plainto_tsquery wants all the words; with | for & it takes some. ts_rank puts them in order."
    asked = {
        "How do I DRY a wet tent?": ["dry", "pitch"],
        "my tents": ["pitch", "dry"],
        "straightening poles": ["pole"],
        "burners of stoves": ["stove"],
        "Poling": ["pole"],
        "is it broken?": ["pole"],
        "stove -burner": ["stove"],
        "gift cards": [],
        "": [],
    }
    async with _searched() as (_, pool):
        for text, limit in ((text, limit) for text in asked for limit in (3, 1)):
            found = list(await search_class(pool).search(text, limit))
            wanted = [_TEXTS[name] for name in asked[text]][:limit]
            expect_equal(found, wanted, f"search({text!r}, limit={limit})", hint=hint)


async def takes_any_text(search_class: Any) -> None:
    """Whatever a text holds is searched for, and never run: it breaks nothing and finds nothing."""
    hint = "Values go beside the query, as parameters: execute(query, [text]). PostgreSQL has no character 0."
    async with _searched() as (stand, pool):
        search = search_class(pool)
        for text in _HOSTILE:
            what = f"search({text!r})"
            found = await soon(search.search(text), what, expected="[]", hint=hint, errors=Exception)
            expect_equal(list(found), [], what, hint=hint)
        expect_equal(await stand.told("SELECT count(*) FROM articles"), len(_ROWS), "articles afterwards")


async def remembers(search_class: Any) -> None:
    """The same search again does not read `articles`; text and limit both count; at most `most` are kept."""
    async with _searched() as (_, pool):
        search, hint = search_class(pool, most=3), "What is kept stands under (text, limit)."
        for limit, wanted in ((1, 1), (3, 2), (1, 1), (3, 2)):
            found = list(await search.search("tent", limit))
            expect_equal(len(found), wanted, f"articles found with limit={limit}", hint=hint)
        expect_equal(pool.reads, 2, "reads of articles by two searches, each made twice", hint=hint)
        search, before = search_class(pool), pool.reads
        for _ in "ab":
            await search.search("gift cards")
        what = "reads of articles by a search that finds nothing, made twice"
        expect_equal(pool.reads - before, 1, what, hint="An empty list is an answer, too: keep it.")
        (await search.search("stove", 1)).clear()  # the list of the search that reads
        again = list(await search.search("stove", 1))
        expect_equal(len(again), 1, "articles found after a caller emptied its own list", hint="Give a copy.")
        (await search.search("stove", 1)).clear()  # and of one that was kept
        again = list(await search.search("stove", 1))
        expect_equal(len(again), 1, "articles found after a caller emptied its own list", hint="Give a copy.")
        search = search_class(pool, most=3)
        texts, before = [f"tent {number}" for number in range(30)], pool.reads
        for text in texts * 2:
            await search.search(text)
        what, reads = "reads of 30 searches, each made twice, most=3", pool.reads - before
        expect(reads >= 57, what, observed=reads, expected="at least 57")
        small = search_class(pool, most=3)
        for text in texts[:4]:
            await small.search(text)
        before = pool.reads
        for text in reversed(texts[:4]):
            await small.search(text)
        what = "reads of articles as four searches are made again, the last one first, most=3"
        expect(pool.reads > before, what, observed=0, expected="1 or more: at most 3 are kept")


async def sees_changes(search_class: Any) -> None:
    """A search after an article changed, by whomever and at whatever moment, finds what there is now."""
    hint = "Read the number in `changes` before the articles, and keep it beside them."
    changes: tuple[LiteralString, ...] = (
        "UPDATE articles SET body = 'tent one' WHERE id = 'dry'",
        "DELETE FROM articles WHERE id = 'pitch'",
        "INSERT INTO articles VALUES ('new', 'New', 'tent tent tent tent')",
        "DELETE FROM articles WHERE words @@ 'tent'::tsquery",
        "INSERT INTO articles VALUES ('again', 'Again', 'One more tent')",
    )
    form = "'[' || id || '] ' || title || E'\n' || body"
    texts = f"SELECT array_agg({form}) FROM articles WHERE words @@ 'tent'::tsquery"  # noqa: S608
    for is_under_way in (False, True):
        async with _searched() as (stand, pool):
            search = search_class(pool)
            for change in changes:
                change_it = partial(stand.owner.execute, change)
                if is_under_way:  # what this search finds may be either; what it keeps may not
                    pool.then = change_it
                await search.search("tent", 9)
                if not is_under_way or pool.then:
                    pool.then = None
                    await change_it()
                found, wanted = sorted(await search.search("tent", 9)), sorted(await stand.told(texts) or [])
                when = "while a search was under way" if is_under_way else "between two searches"
                expect_equal(found, wanted, f"articles found after {change!r} {when}", hint=hint)


SEARCH = Exercise(
    title="Search that sees each change",
    minutes=12,
    difficulty="medium",
    hints=(
        "words @@ query ORDER BY ts_rank(words, query, 1) DESC LIMIT %(limit)s, the text as %(text)s.",
        "replace(plainto_tsquery('english', %(text)s)::text, '&', '|')::tsquery takes some of the words.",
        "SELECT number FROM changes comes first. If it is the one beside what you kept, give a copy of that.",
    ),
    checks=(finds_the_best, takes_any_text, remembers, sees_changes),
    deadline_s=60.0,
    why="The number is read before the articles. If one changes in between, what was found is kept under the "
    "old number and is read again next time; the other order would keep the old text under the new number.",
)


class _Scripted:
    """Documents that do what a check asks for, and note how long each search took."""

    def __init__(self, ping_s: float = 3600.0) -> None:
        self.took_s = dict[str, float]()
        self.was_cancelled, self.ping_s, self.may_end = False, ping_s, asyncio.Event()
        self.error: Exception | None = None

    async def search(self, text: str, limit: int = 3) -> list[str]:
        began_s, (kind, wait_s) = time.monotonic(), text.split()[:2]
        try:
            await asyncio.sleep(float(wait_s))
            if kind == "failed":
                raise self.error or LookupError(text)
        finally:
            self.took_s[text] = time.monotonic() - began_s
        return [f"{text} {number}" for number in range(limit)] if kind == "found" else []

    async def ping(self) -> None:
        if self.error:
            raise self.error
        try:
            await asyncio.sleep(self.ping_s)
        except asyncio.CancelledError:
            self.was_cancelled = True
            await self.may_end.wait()  # a query that is cancelled goes on while its line hangs
            raise


async def passes_on(watch_class: Any) -> None:
    """search(text, limit) returns what the documents return, and raises the very error that they raise."""
    documents = _Scripted()
    watched, documents.error, got = watch_class(documents), ValueError("their own"), None
    for limit in (2, 3):
        wanted = await documents.search("found 0", limit)
        expect_equal(list(await watched.search("found 0", limit)), wanted, f"search with limit={limit}")
    expect_equal(len(await watched.search("found 0")), 3, "articles found without a limit")
    with suppress(Exception):
        try:
            await watched.search("failed 0")
        except Exception as error:
            got = error
            raise
    expect(got is documents.error, "the error", observed=repr(got), expected=repr(documents.error))


async def counts_outcomes(watch_class: Any) -> None:
    """metrics() has for each outcome how many searches ended so, and the seconds they took together."""
    documents, outer_s = _Scripted(), dict[str, float]()
    watched, kinds = watch_class(documents), ("found", "nothing", "failed", "cancelled")
    texts = [f"{kind} {random.choice((0, 0.03, 0.06))} {number}" for kind in kinds for number in range(4)]
    texts = [text.replace(text.split()[1], "3600") if "cancelled" in text else text for text in texts]
    random.shuffle(texts)

    async def ask(text: str) -> None:
        began_s = time.monotonic()
        try:
            with suppress(LookupError, asyncio.CancelledError):
                await watched.search(text)
        finally:
            outer_s[text] = time.monotonic() - began_s

    tasks = {text: asyncio.ensure_future(ask(text)) for text in texts}
    await asyncio.sleep(0.03)
    for text, task in tasks.items():
        if text.startswith("cancelled"):
            task.cancel()
    await soon(asyncio.wait(tasks.values()), "16 searches at once")
    metrics = watched.metrics()
    for kind in kinds:
        seen, mine = metrics.get(kind, {}), [text for text in texts if text.startswith(kind)]
        expect_equal(seen.get("count"), 4, f"count of {kind}", hint="`finally` sees every end.")
        least, most = sum(documents.took_s[text] for text in mine), sum(outer_s[text] for text in mine)
        is_so, wanted = least - 1e-6 <= seen.get("seconds", -1) <= most + 1e-6, f"{least:.4f} to {most:.4f}"
        hint = "Each search has a beginning of its own; time.monotonic() tells it."
        expect(is_so, f"seconds of {kind}", observed=seen.get("seconds"), expected=wanted, hint=hint)
    both = watch_class(_Scripted()).metrics()
    expect(not any(each.get("count") for each in both.values()), "metrics of another object", observed=both,
           expected="nothing counted yet")  # fmt: skip


async def tells_health(watch_class: Any) -> None:
    """health() says ok while the database answers, not ok in time while it hangs or is gone, ok when back."""
    hint = "Cancelling a query on a line that hangs takes long. asyncio.wait([task], timeout=...) goes on."
    async with _stand() as stand, Line(stand.url) as line:
        pool = Pool(make_conninfo(line.url, connect_timeout=2), 8, SOON_S)
        watched = watch_class(Found(pool, _Scripted()), within_s=0.3)
        acts: list[tuple[str, Callable[[], None], bool]] = [
            ("at first", line.mend, True), ("as the database hangs", line.hang, False),
            ("still hanging", line.hang, False), ("when it answers again", line.mend, True),
            ("with the database gone", line.cut, False), ("when it is back", line.mend, True)]  # fmt: skip
        for when, act, is_ok in acts:
            act()
            began_s, what, wanted = time.monotonic(), f"health() {when}", "a dictionary"
            state = await soon(watched.health(), what, expected=wanted, hint=hint, errors=Exception)
            took_s = time.monotonic() - began_s
            while is_ok and not state["ok"] and time.monotonic() < began_s + SOON_S:  # broken ones are met
                state = await soon(watched.health(), what, expected=wanted, hint=hint, errors=Exception)
            expect_equal(state["ok"], is_ok, f"ok of health() {when}")
            in_time = f"at most 2 s, within_s=0.3, {when}"
            expect(
                took_s < 2, "how long health() took", observed=f"{took_s:.1f} s", expected=in_time, hint=hint
            )
        line.mend()
        await pool.close()


async def tells_no_secret(watch_class: Any) -> None:
    """`error` is the class of what went wrong, and nothing of its text; a ping that is late is cancelled."""
    documents = _Scripted()
    watched = watch_class(documents, within_s=0.05)
    state = await soon(watched.health(), "health() with a ping that never ends")
    expect_equal(state, {"ok": False, "error": "TimeoutError"}, "health() with a ping that never ends")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    hint = "A task that nobody waits for goes on until somebody cancels it."
    expect_equal(documents.was_cancelled, True, "whether the ping that was late was cancelled", hint=hint)
    documents.ping_s, what = 0.0, "health() when it is back, before the ping that was cancelled has ended"
    state = await soon(watched.health(), what)
    documents.may_end.set()
    expect_equal(state, {"ok": True, "error": ""}, what, hint="Each health() has a ping of its own.")
    pings = watch_class(_Scripted(0.6), within_s=0.05), watch_class(_Scripted(0.7), within_s=SOON_S)
    states = await asyncio.gather(*(each.health() for each in pings))
    what = "ok with a ping of 0.6 s, within_s=0.05, and one of 0.7 s, within_s=5"
    expect_equal([state["ok"] for state in states], [False, True], what)
    for kind in (psycopg.OperationalError, OSError, KeyError):
        error = kind("postgresql://me:s3cret@db/shop")
        documents.error = error
        wanted = {"ok": False, "error": type(error).__name__}
        expect_equal(await watched.health(), wanted, "health() with a ping that fails")


WATCH = Exercise(
    title="Health and metrics",
    minutes=10,
    difficulty="medium",
    hints=(
        "try, except asyncio.CancelledError, finally: in `finally` count the outcome and add its time.",
        "asyncio.timeout waits until the cancelled ping has ended; asyncio.wait([probe], timeout=...) not.",
        "probe = asyncio.create_task(documents.ping()); wait; if not probe.done(): probe.cancel(), no await.",
    ),
    checks=(passes_on, counts_outcomes, tells_health, tells_no_secret),
    deadline_s=60.0,
    why="A health check that hangs is worse than none: the one who asks is a machine that waits. So nothing "
    "of the database is awaited without a limit, not even the end of what was cancelled.",
)
