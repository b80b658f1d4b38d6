"""Project 7, the flight: how one question is answered, how a job is done once, when a version is taken back.

Main path: REPLY, HANDLE, CANARY -> engine.registry; each check hands over parts of its own, which may fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import in_another_process
from course_lib.flight import Busy, Job, Reply, Request

_LATE_S, _WITHIN_S, _SEARCH_S = 8.0, 4.0, 1.0


def _words(count: int = 3) -> str:
    return " ".join("".join(random.choices("abcdefghijklmnop", k=8)) for _ in range(count))


# -- stage 1: one question -------------------------------------------------------------------------------


class _Parts:
    """Parts that do as the check wants, and what they were asked."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.run_within, self.searched, self.asked = list[float](), list[str](), list[Request]()
        self.tried = "1"
        self.cache_error: Exception | None = None
        self.run_error: Exception | None = None
        self.ask_error: Exception | None = None
        self.articles: list[str] | Exception | float = ["[A1] An article about tents.", "[A2] Another one."]
        """What a search finds, how it fails, or how many seconds it takes."""

    def made(self) -> SimpleNamespace:
        cache = SimpleNamespace(get=self._get, set=self._set)
        canary = SimpleNamespace(version=lambda _: self.tried)
        documents = SimpleNamespace(search=self._search)
        return SimpleNamespace(
            cache=cache, canary=canary, documents=documents, runner=SimpleNamespace(run=self._run)
        )

    async def _get(self, key: str) -> str | None:
        if self.cache_error:
            raise self.cache_error
        return self.kept.get(key)

    async def _set(self, key: str, value: str) -> None:
        if self.cache_error:
            raise self.cache_error
        strings = isinstance(key, str) and isinstance(value, str)
        expect(strings, "what is kept", observed=f"{key!r:.80}: {value!r:.80}", expected="a str under a str")
        self.kept[key] = value

    async def _run(self, call: Callable[[], Awaitable[Any]], within_s: float) -> Any:
        self.run_within.append(within_s)
        if self.run_error:
            raise self.run_error
        return await call()

    async def _search(self, text: str, limit: int = 3) -> list[str]:
        self.searched.append(text)
        if isinstance(self.articles, Exception):
            raise self.articles
        if isinstance(self.articles, float):
            await asyncio.sleep(self.articles)
            return ["[A1] Too late."]
        return self.articles[:limit]

    async def ask(self, request: Request) -> Reply:
        """Answer with words of our own."""
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.ask_error:
            raise self.ask_error
        return Reply("answered", _words(), (_words(1), _words(1)), random.random())

    async def reply(self, reply: Any, request: Request, told: str = "a question") -> Reply:
        """Ask the learner's function; fail the check where it raises or never ends."""
        try:
            got = await asyncio.wait_for(reply(request, self.made(), self.ask), _LATE_S)
        except Exception as error:  # border: the learner's code may raise anything
            raised = f"it raised {type(error).__name__}: {error!s:.200}"
            expect(False, told, observed=raised, expected="a Reply, whatever is broken")
        expect(isinstance(got, Reply), "what reply returns", observed=repr(got)[:200], expected="a Reply")
        return got  # type: ignore[no-any-return]


def _request(**given: str) -> Request:
    return Request(**{"id": _words(1), "tenant": "north", "text": _words(6), **given})


async def answers_and_keeps(reply: Any) -> None:
    """A new question is run by the runner within 4 seconds, answered as `ask` does, and kept."""
    parts, request = _Parts(), _request()
    first = await parts.reply(reply, request)
    expect_equal(parts.asked, [request], "with what ask was called")
    expect_equal(parts.run_within, [_WITHIN_S], "seconds that the runner was given")
    expect_equal(first.outcome, "answered", "the outcome of a new question")
    expect(first.cost_usd > 0, "the reply to a new question", observed=repr(first), expected="that of ask")
    again = await parts.reply(reply, _request(text=request.text))
    expect_equal(again, Reply("cached", first.text, first.citations), "the same question again")
    counts = {"ask": len(parts.asked), "runner": len(parts.run_within), "search": len(parts.searched)}
    expect_equal(counts, {"ask": 1, "runner": 1, "search": 0}, "calls for both questions")


async def shares_nothing(reply: Any) -> None:
    """What is kept is one tenant's, one version's, for one question, which the key does not show."""
    parts, text = _Parts(), _words(6)
    cases = [("north", "1"), ("south", "1"), ("north", "2"), ("nor", "th1"), ("north1", "1"), ("north", "11")]
    replies = []
    for tenant, version in cases:
        parts.tried = version
        replies.append((await parts.reply(reply, _request(tenant=tenant, text=text))).outcome)
    hint = "The key is made of all three, and of where each ends."
    expect_equal(replies, ["answered"] * len(cases), f"one question by tenant and version {cases}", hint=hint)
    other = await parts.reply(reply, _request(tenant="north", text=f"{text} "))
    expect_equal(other.outcome, "answered", "a question that differs by a blank", hint=hint)
    shown = [key for key in parts.kept if any(word in key for word in text.split())]
    expect(not shown, "the keys of the cache", observed=shown[:1], expected="nothing of the question in them")


async def degrades(reply: Any) -> None:
    """Where the runner or `ask` fails, the best article is the reply, and nothing of it is kept."""
    errors: list[tuple[str, Exception]] = [
        ("run_error", Busy("12 are under way")),
        ("run_error", TimeoutError()),
        *(("ask_error", error("no answer")) for error in (ConnectionError, ValueError, RuntimeError)),
    ]
    for place, error in errors:
        parts, request = _Parts(), _request()
        setattr(parts, place, error)
        who = {"run_error": "the runner", "ask_error": "ask"}[place]
        what = f"the reply where {who} raises {type(error).__name__}"
        got = await parts.reply(reply, request, what)
        expect_equal(got, Reply("degraded", "[A1] An article about tents."), what)
        expect_equal(parts.searched, [request.text], "what was searched for then")
        parts.run_error = parts.ask_error = None
        again = await parts.reply(reply, _request(text=request.text))
        expect_equal(again.outcome, "answered", "the same question when all is well again")


async def fails_in_words(reply: Any) -> None:
    """Where the search fails too, finds nothing or takes over a second, the reply is "failed"."""
    cases: list[tuple[str, Any]] = [
        ("raises", OSError("gone")), ("finds nothing", []), ("takes 5 s", 5.0)
    ]  # fmt: skip
    for told, articles in cases:
        parts = _Parts()
        parts.ask_error, parts.articles = ConnectionError("down"), articles
        began_s = time.monotonic()
        what = f"the reply where no model answers and the search {told}"
        got = await parts.reply(reply, _request(), what)
        took_s = time.monotonic() - began_s
        expect_equal(got, Reply("failed"), what)
        seen, wanted = f"{took_s:.1f} s", f"{_SEARCH_S:g} s"
        expect(took_s < 4.0, f"how long it waits where the search {told}", observed=seen, expected=wanted)


async def misses_the_cache(reply: Any) -> None:
    """A cache that raises, or gives back what is no answer, costs no answer."""
    parts = _Parts()
    parts.cache_error = ConnectionError("Redis is gone")
    got = await parts.reply(reply, _request(), "the reply where the cache raises")
    expect_equal(got.outcome, "answered", "the reply where the cache raises")
    parts, request = _Parts(), _request()
    await parts.reply(reply, request)
    shorter, pairs = ("", "no JSON", "{}", "[]", "null"), ('{"who": "a", "what": "b"}', '"ab"', "[3, [4]]")
    for foreign in (*shorter, '{"text": 3}', '{"who": "knows"}', *pairs):
        parts.kept = dict.fromkeys(parts.kept, foreign)
        what = f"the reply where {foreign!r} is kept under the key"
        got = await parts.reply(reply, _request(text=request.text), what)
        expect_equal(got.outcome, "answered", what)


async def passes_cancellation(reply: Any) -> None:
    """A question whose customer has left is cancelled, and answered with nothing else."""
    parts, begun = _Parts(), asyncio.Event()

    async def ask(_: Request) -> Reply:
        begun.set()
        await asyncio.sleep(3_600)
        return Reply("answered")

    task = asyncio.ensure_future(reply(_request(), parts.made(), ask))
    await asyncio.wait([task, waits := asyncio.ensure_future(begun.wait())], timeout=_LATE_S,
                       return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
    waits.cancel()
    task.cancel()
    await asyncio.wait([task], timeout=_LATE_S)
    seen = "CancelledError" if task.cancelled() else repr(task)[:200]
    hint = "`except Exception` does not catch CancelledError; `except BaseException` does."
    expect(task.cancelled(), "how a cancelled question ends", observed=seen, expected="cancelled", hint=hint)
    expect_equal(parts.searched, [], "what was searched for after it was cancelled")


REPLY = Exercise(
    title="One question, whatever is broken",
    minutes=20,
    difficulty="medium",
    hints=(
        "Four steps, in this order: look, ask, keep, return. Each of the first three may fail in its own "
        "way; write down for each what the customer gets then.",
        "json.dumps([tenant, version, text]) says where each part ends; hashlib.sha256 of it shows nothing. "
        "What comes out of a cache is checked like any input: try to make a Reply of it.",
        "try: made.runner.run(lambda: ask(request), 4.0); except Exception: the article, within "
        "asyncio.timeout(1.0). Looking into the cache and keeping have a `try` of their own.",
    ),
    checks=(
        *(answers_and_keeps, shares_nothing, degrades),
        *(fails_in_words, misses_the_cache, passes_cancellation),
    ),
    deadline_s=40.0,
    why="Each thing that may break has one place where it is caught, and there it costs the least it can: "
    "the cache costs a second question, the model an answer in full sentences, the documents an answer. What "
    "is degraded is not kept, or an outage of ten seconds would be served for ten minutes.",
)


# -- stage 2: a job once ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _outbox() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="course-outbox-") as folder:
        path = Path(folder, "outbox.db")
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("create table outbox (id text, category text)")
            connection.commit()
        yield path


def _rows(path: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("select id, category from outbox order by rowid").fetchall()


def _job() -> Job:
    return Job(_words(1), "north", _words(5))


class _Sorter:
    """Sorts by counting; may wait, or fail."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.error: Exception | None = None
        self.wait_s = 0.0

    async def __call__(self, text: str) -> str:
        self.texts.append(text)
        await asyncio.sleep(self.wait_s)
        if self.error:
            raise self.error
        return f"category {len(self.texts)}"


async def _handled(
    handle: Any, job: Job, sort: Any, path: Path, told: str = "handling of a job", hint: str = ""
) -> None:
    try:
        await asyncio.wait_for(handle(job, sort, path), _LATE_S)
    except Exception as error:  # border: the learner's code may raise anything
        observed = f"{type(error).__name__}: {error!s:.200}"
        expect(False, told, observed=observed, expected="no error", hint=hint)


async def writes_once(handle: Any) -> None:
    """A job that is handled has one row, and is not sorted again when it comes once more."""
    with _outbox() as path:
        sort, jobs = _Sorter(), [_job() for _ in range(3)]
        for job in (*jobs, *jobs, jobs[1]):
            await _handled(handle, job, sort, path)
        wanted = [(job.id, f"category {number}") for number, job in enumerate(jobs, start=1)]
        expect_equal(_rows(path), wanted, "rows after each job came twice")
        expect_equal(sort.texts, [job.text for job in jobs], "texts that were sorted")


async def writes_once_at_once(handle: Any) -> None:
    """A job in the hands of eight at once has one row."""
    with _outbox() as path:
        sort, job = _Sorter(), _job()
        sort.wait_s = 0.05
        eight = [asyncio.ensure_future(_handled(handle, job, sort, path)) for _ in range(8)]
        await asyncio.wait(eight)  # all of them: a thread of one that still writes would keep the folder
        await asyncio.gather(*eight)
        hint = "Between looking and writing another one may write: look and write in one transaction."
        expect_equal([row[0] for row in _rows(path)], [job.id], "ids of the rows", hint=hint)


async def fails_and_comes_again(handle: Any) -> None:
    """Where `sort` fails, its error is raised and there is no row; the next delivery does the job."""
    with _outbox() as path:
        sort, job = _Sorter(), _job()
        sort.error = ConnectionError("the model is down")
        try:
            await asyncio.wait_for(handle(job, sort, path), _LATE_S)
            seen = "no error"
        except Exception as error:  # border: the learner's code may raise anything
            seen = repr(error)
        what = "the error of a job whose sort fails"
        hint = "An error that is swallowed is a message that is acknowledged: the job is lost."
        expect_equal(seen, repr(sort.error), what, hint=hint)
        expect_equal(_rows(path), [], "rows after it")
        sort.error = None
        await _handled(handle, job, sort, path)
        expect_equal(_rows(path), [(job.id, "category 2")], "rows after the next delivery")


async def holds_nobody_up(handle: Any) -> None:
    """While one job is being sorted, others are handled; a file that another one writes to is waited for."""
    with _outbox() as path:
        slow, quick, first, second = _Sorter(), _Sorter(), _job(), _job()
        slow.wait_s = 3_600.0
        task = asyncio.ensure_future(handle(first, slow, path))
        while not slow.texts and not task.done():  # noqa: ASYNC110  (a list has no event)
            await asyncio.sleep(0.01)
        hint = "Open the transaction after sort has returned."
        try:
            await asyncio.wait_for(handle(second, quick, path), 20.0)
            seen = "it was handled"
        except Exception as error:  # border: the learner's code may raise anything
            seen = f"{type(error).__name__}: {error!s:.200}"
        task.cancel()
        await asyncio.wait([task], timeout=_LATE_S)
        what = "a job while another one is being sorted"
        expect_equal(seen, "it was handled", what, hint=hint)
        expect_equal(_rows(path), [(second.id, "category 1")], "rows then")
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("begin immediate")
            ends = asyncio.get_running_loop().call_later(0.4, other.rollback)
            told = "handling of a job while another process writes to the file"
            hint = "The other one ends when the event loop goes on: wait for the file in asyncio.to_thread."
            try:
                await _handled(handle, first, quick, path, told, hint)
            finally:
                ends.cancel()


def _die(handle: Any, job: Job, path: str) -> None:
    """Handle a job in this process, and die while it is being sorted."""
    import os  # what travels to another process brings its own
    import signal

    async def sort(_: str) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    asyncio.run(handle(job, sort, Path(path)))


async def survives_a_kill(handle: Any) -> None:
    """A process that is killed in the middle of a job leaves nothing behind that keeps it from being done."""
    with _outbox() as path:
        job, sort = _job(), _Sorter()
        died: Any = {"expected": "the kill that the check sends, while sort is under way", "exit_code": -9}
        what = "a process that is killed while it handles a job"
        await asyncio.to_thread(in_another_process, _die, handle, job, str(path), what=what, **died)
        expect_equal(_rows(path), [], "rows after the kill")
        await _handled(handle, job, sort, path)
        expect_equal(_rows(path), [(job.id, "category 1")], "rows after the job came again")


HANDLE = Exercise(
    title="A job, once",
    minutes=15,
    difficulty="medium",
    hints=(
        "At least once is the queue's promise; once is yours. What must be known before the row is written, "
        "and what could happen between the two?",
        "First look whether the job has a row; sort, with nothing open; then write, unless it has one.",
        "`insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)` looks and "
        "writes in one step, under SQLite's lock. `sqlite3.connect(path)` waits up to five seconds for it, "
        "in the thread that calls: asyncio.to_thread lets the event loop go on.",
    ),
    checks=(writes_once, writes_once_at_once, fails_and_comes_again, holds_nobody_up, survives_a_kill),
    deadline_s=60.0,
    why="The row is effect and memory in one, so no crash can come between the two. The model is asked with "
    "no lock held: two that have the same job pay twice, which is cheaper than all others waiting.",
)


# -- stage 3: a version that is taken back ---------------------------------------------------------------

_LIVE, _NEW, _SEEDS, _MANY = "1", "2", 20, 300
_MOST_BAD = 100
_DRAWS, _CLEARLY_FEW, _MORE_DRAWS, _FALSE_ALARMS = 160, 8, 640, 46
"""Of 160 draws, 8 false alarms are too few for one in ten; else 640 tell that from one in twenty."""


def _shares(canary: Any, count: int = 600) -> Counter[str]:
    said = Counter[str]()
    for number in range(count):
        said[without_error(lambda: canary.version(f"request-{number}"), "version(request_id)")] += 1  # noqa: B023
    return said


def _answered(canary: Any, good: dict[str, float], draw: random.Random, most: int) -> int:
    """Return how many the new version has answered, `most` or fewer if it is gone before."""
    answered = 0
    for number in range(12 * most):
        version = canary.version(f"{draw.getrandbits(64):x}")
        expect(version in good, "version(request_id)", observed=version, expected=f"one of {[*good]}")
        answered += version == _NEW
        canary.saw(version, is_good=draw.random() < good[version])
        if answered >= most or (number % 8 == 0 and _is_gone(canary)):
            break
    return answered


def _is_gone(canary: Any) -> bool:
    return all(canary.version(f"look-{number}") == _LIVE for number in range(60))


def _deployed(make: Any) -> Any:
    canary = without_error(make, "Canary()")
    without_error(lambda: canary.deploy(_NEW), 'deploy("2")')
    return canary


def gives_a_share(make: Any) -> None:
    """Version "1" answers all, and of each new version a fifth to two fifths, always the same requests."""
    canary = without_error(make, "Canary()")
    expect_equal(dict(_shares(canary)), {_LIVE: 600}, "versions of 600 requests before a new one")
    canary = _deployed(make)
    first = _shares(canary)
    expect_equal(set(first), {_LIVE, _NEW}, 'versions after deploy("2")')
    seen = f"{first[_NEW] / 600:.0%}"
    expect(
        0.18 <= first[_NEW] / 600 <= 0.42, "share of the new version", observed=seen, expected="20 to 40 %"
    )
    one = [canary.version("request-1") for _ in range(50)]
    expect_equal(len(set(one)), 1, "number of versions that answer one request, asked 50 times")


def takes_a_bad_one_back(make: Any) -> None:
    """A version that is good 40 points less often is gone before its 100th answer."""
    for live, new in ((0.95, 0.5), (0.6, 0.15), (0.45, 0.02)):
        for seed in range(_SEEDS // 2):
            canary = _deployed(make)
            answered = _answered(canary, {_LIVE: live, _NEW: new}, random.Random(seed), _MOST_BAD)
            what = f"a version that is good in {new:.0%} of its answers, the live one in {live:.0%}"
            told = f"it still answers after {answered}"
            expect(_is_gone(canary), what, observed=told, expected="it is taken back within 100")


def leaves_a_good_one(make: Any) -> None:
    """Of versions that are as good as the live one, 19 of 20 are there after 300 answers."""
    for good in (0.95, 0.7, 0.5):
        gone, drawn = list[int](), 0
        while drawn < _DRAWS or (_CLEARLY_FEW < len(gone) <= _FALSE_ALARMS and drawn < _MORE_DRAWS):
            drawn += 1
            canary = _deployed(make)
            answered = _answered(canary, {_LIVE: good, _NEW: good}, random.Random(1_000 + drawn), _MANY)
            if _is_gone(canary):
                gone.append(answered)
        seen = f"{len(gone)} of {drawn} were taken back, the first ones after {sorted(gone)[:3]} answers"
        what = f"versions that are as good as the live one, which is good in {good:.0%}"
        wanted = f"one of twenty, and by chance {_FALSE_ALARMS} of {_MORE_DRAWS} at most"
        hint = "You look after each answer: a limit that holds for one look is crossed sooner or later."
        expect(len(gone) <= _FALSE_ALARMS, what, observed=seen, expected=wanted, hint=hint)


def begins_anew(make: Any) -> None:
    """What was seen of one version says nothing of the next one; a late answer says nothing at all."""
    canary, draw = _deployed(make), random.Random(5)
    _answered(canary, {_LIVE: 0.95, _NEW: 0.0}, draw, _MOST_BAD)
    expect(_is_gone(canary), "a version without a good answer", observed="it still answers", expected="gone")
    for _ in range(50):
        canary.saw(_NEW, is_good=False)  # these were under way
    canary.deploy("3")
    for _ in range(50):
        canary.saw(_NEW, is_good=False)
    said = _shares(canary)
    expect_equal(sorted(said), [_LIVE, "3"], 'versions after "2" was taken back and "3" deployed')
    for number in range(240):
        version = canary.version(f"next-{number}")
        canary.saw(version, is_good=number % 10 > 0)
    hint = "deploy() begins with nothing seen of the new version."
    said = _shares(canary)
    expect("3" in said, 'whether "3", as good as the live one, is there', observed=dict(said), expected="yes",
           hint=hint)  # fmt: skip


CANARY = Exercise(
    title="A version that is taken back",
    minutes=20,
    difficulty="hard",
    hints=(
        "Two counts of answers and of good ones, one for each version, and a rule for when the difference is "
        "no chance. The share: a hash of the request's id, below a limit. Python's hash() of a text is "
        "another one in each process.",
        "The difference of two shares has a standard error, sqrt(p (1 - p) (1/n + 1/m)), p of both together. "
        "Two of them are no proof when you look three hundred times.",
        "Three and a half standard errors, from ten answers on, are seldom crossed by chance; or bet on each "
        "answer, and stop when twenty times the stake is won, as deployment.Evidence does.",
    ),
    checks=(gives_a_share, takes_a_bad_one_back, leaves_a_good_one, begins_anew),
    deadline_s=90.0,
    why="A canary is looked at after each answer, so its limit has to hold for all looks together. It is "
    "compared with the live version in the same minutes, never with a fixed share: when the model has a bad "
    "day, both have it.",
)
