"""Exercise 5.4, a worker that loses no job when killed: SIGKILL at every step, on a real queue.

Main path: EXERCISE -> engine.registry; one_message.py tries single messages; here workers are killed at a
NATS server, with a store in a file, of the check's own. They are forked in a process of it: a kill is a kill.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import nats
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig

from course_lib.exercises.deployment.one_message import keeps_the_rules
from course_lib.exercises.engine.checks import expect, expect_equal, run
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import in_another_process
from course_lib.services import QueueServer, running_queue

Dies = Callable[[str, str], None]
"""Is told of a job and where its worker is ("before save"), and may kill it."""

_INPUTS, _HOUR_S, _TURNS = 3, 3600.0, 50
_POINTS = "before answer", "after answer", "before save", "after save"
_TABLES = (
    "CREATE TABLE inputs (job TEXT, number INTEGER, text TEXT)",
    "CREATE TABLE answers (job TEXT, number INTEGER, text TEXT)",
    "CREATE TABLE given_up (job TEXT, error TEXT)",
    "CREATE TABLE steps (job TEXT, step TEXT, what TEXT)",
)


def _nothing(*_: object) -> None: ...


class JobStore:
    """What is to be answered, and what was: a file, which outlives the worker."""

    def __init__(self, path: str, dies: Dies = _nothing) -> None:
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA synchronous = OFF")  # a kill loses nothing; only a power cut may
        self._dies = dies

    def inputs(self, job_id: str) -> list[str] | None:
        """Return the texts to be answered; None where the job was erased."""
        rows = self.rows("SELECT text FROM inputs WHERE job = ? ORDER BY number", job_id)
        return [text for (text,) in rows] or None

    def saved(self, job_id: str) -> dict[int, str]:
        """Return the answers that are saved, by the number of their input, from 0."""
        return dict(self.rows("SELECT number, text FROM answers WHERE job = ?", job_id))

    def save(self, job_id: str, number: int, answer: str) -> None:
        """Save one answer, on disk when this returns; called once more, it saves it once more."""
        self._dies(job_id, "before save")
        self.rows("INSERT INTO answers VALUES (?, ?, ?)", job_id, number, answer)
        self.step(job_id, "save", answer)
        self._dies(job_id, "after save")

    def give_up(self, job_id: str, error: str) -> None:
        """Note that a job is not tried again, and why, for those who look after the service."""
        self.rows("INSERT INTO given_up VALUES (?, ?)", job_id, error)

    def rows(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query."""
        return self._file.execute(query, values).fetchall()

    def step(self, job_id: str, step: str, what: str = "") -> None:
        """Write down what a worker did, for the check."""
        self.rows("INSERT INTO steps VALUES (?, ?, ?)", job_id, step, what)


class Message:
    """A message of the queue: for which job it is, and how often it was delivered, this time included."""

    def __init__(self, message: Msg, store: JobStore, dies: Dies) -> None:
        self.job_id, self.deliveries = message.data.decode(), message.metadata.num_delivered
        self._message, self._store, self._dies = message, store, dies

    async def ack(self) -> None:
        """Take the message off the queue."""
        self._dies(self.job_id, "before ack")
        await self._message.ack_sync(timeout=30)
        self._store.step(self.job_id, "ack")
        self._dies(self.job_id, "after ack")

    async def back(self, wait_s: float) -> None:
        """Give the message back, to be delivered again after a wait."""
        await self._message.nak(delay=min(wait_s, 0.05) or None)  # a check has no second to wait
        self._store.step(self.job_id, "back", f"{wait_s:g}")


class _Place:
    """A queue and a store; it can be sent to another process."""

    def __init__(self, url: str, path: str) -> None:
        self.url, self.path, self.name = url, path, f"jobs-{secrets.token_hex(4)}"

    @asynccontextmanager
    async def queue(self) -> AsyncIterator[Any]:
        client = await nats.connect(self.url, connect_timeout=30)
        try:
            yield client.jetstream(timeout=30)
        finally:
            await client.close()

    async def send(self, jobs: dict[str, list[str]]) -> None:
        """Put jobs into the store and the queue."""
        store = JobStore(self.path)
        for table in _TABLES:
            store.rows(table)
        async with self.queue() as queue:
            stream = StreamConfig(name=self.name, subjects=[self.name], retention=RetentionPolicy.WORK_QUEUE)
            await queue.add_stream(stream)
            for job_id, texts in jobs.items():
                for number, text in enumerate(texts):
                    store.rows("INSERT INTO inputs VALUES (?, ?, ?)", job_id, number, text)
                await queue.publish(self.name, job_id.encode())

    async def work(self, handle: Any, dies: Dies) -> None:
        """Hand messages to `handle`, while there are some."""
        store = JobStore(self.path, dies)
        async with self.queue() as queue:
            taken = await _taken(queue, self.name)
            while (await queue.stream_info(self.name)).state.messages:
                message = Message((await taken.fetch(1, timeout=30))[0], store, dies)

                async def answer(text: str, job_id: str = message.job_id) -> str:
                    dies(job_id, "before answer")
                    store.step(job_id, "ask", text)
                    for _ in range(_TURNS):  # who answers several at once has saved the others by then
                        await asyncio.sleep(0)
                    given = f"{text} {random.random()}"
                    store.step(job_id, "given", given)
                    dies(job_id, "after answer")
                    return given

                before = len(store.rows("SELECT * FROM steps WHERE step IN ('ack', 'back')"))
                try:
                    await handle(message, store, answer)
                except Exception as error:  # border: the learner's code
                    store.step(message.job_id, "ended", f"it raised {type(error).__name__}: {error!s:.80}")
                    break
                if len(store.rows("SELECT * FROM steps WHERE step IN ('ack', 'back')")) == before:
                    store.step(message.job_id, "ended", "it returned, and the message was left as it was")
                    break

    def worker(self, handle: Any, dies: Dies) -> bool:
        """Run work() in a process of its own; return whether another one may take over from it."""
        pid = os.fork()
        if not pid:
            try:
                asyncio.run(self.work(handle, dies))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        return not JobStore(self.path).rows("SELECT * FROM steps WHERE step = 'ended'")

    async def left(self) -> int:
        async with self.queue() as queue:
            return int((await queue.stream_info(self.name)).state.messages)

    def seen(self) -> dict[str, Any]:
        """Return all that was seen, as lists."""
        names = ("inputs", "answers", "given_up", "steps")
        return {each: JobStore(self.path).rows(f"SELECT * FROM {each} ORDER BY rowid") for each in names}  # noqa: S608


async def _taken(queue: Any, name: str) -> Any:
    """Return what hands over messages; a new consumer gets those that a killed worker held, at once."""
    if await queue.consumers_info(name):
        await queue.delete_consumer(name, "workers")
    settings = ConsumerConfig(durable_name="workers", ack_wait=_HOUR_S, max_ack_pending=1)
    await queue.add_consumer(name, settings)
    return await queue.pull_subscribe_bind("workers", name)


@cache
def _server() -> QueueServer:
    """Return a NATS of this process's own, whatever AMQP_URL names; it ends with the process."""
    return running_queue(Path(tempfile.gettempdir()), kind="nats")


@contextmanager
def _place() -> Iterator[_Place]:
    server = _server()
    server.start()  # it may have been stopped
    with tempfile.TemporaryDirectory(prefix="q", ignore_cleanup_errors=True) as folder:
        yield _Place(server.url, f"{folder}/store.db")


def _texts() -> list[str]:
    """Draw the inputs of a job; two have the same text."""
    one, other = (f"Where is parcel {random.randrange(10**6)}?" for _ in range(2))
    return random.sample([one, one, other], _INPUTS)


def _killed(place: _Place, handle: Any, points: list[list[Any]]) -> dict[str, Any]:
    """In a process of its own: kill the worker of each job once, at its point, and let others go on."""
    counts: Counter[str] = Counter()
    due = {job_id: (point, number) for job_id, point, number in points}

    def dies(job_id: str, point: str) -> None:
        counts[job_id, point] += 1  # type: ignore[index]
        if due.get(job_id) == (point, counts[job_id, point]):  # type: ignore[index]
            store = JobStore(place.path)
            if not store.rows("SELECT * FROM steps WHERE job = ? AND step = 'killed'", job_id):
                store.step(job_id, "killed", point)
                os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(len(points) + 2):
        if not place.worker(handle, dies):
            break
    return place.seen()


def _ended(seen: dict[str, Any]) -> None:
    ended = [what for _, step, what in seen["steps"] if step == "ended"]
    hint = "Each way out of handle says what becomes of the message: ack() or back()."
    what = "how handle ends: with the message acknowledged or given back, and without an error"
    expect(not ended, what, observed=ended[:1], expected="ack() or back()", hint=hint)


def loses_no_job(handle: Any) -> None:
    """A worker that is killed loses no job and does none twice."""
    kills = [(f"job-{n}", point, random.randint(2, _INPUTS)) for n, point in enumerate(_POINTS)]
    kills += [("job-ack", "before ack", 1), ("job-acked", "after ack", 1)]
    jobs = {job: _texts() for job, *_ in random.sample(kills, len(kills))} | {"job-calm": _texts()}
    what, wanted = "the worker's process works", "a handle that can be sent to another process"
    with _place() as place:
        run(place.send(jobs))
        seen = in_another_process(_killed, place, handle, kills, what=what, expected=wanted)
        _judge_kills(seen, jobs, dict(each[:2] for each in kills), run(place.left()))


def _judge_kills(seen: dict[str, Any], jobs: dict[str, list[str]], points: dict[str, str], left: int) -> None:
    _ended(seen)
    for job, texts in jobs.items():
        where = f"of a job whose worker was killed {points[job]}" if job in points else "of a job"
        steps = [(step, what) for name, step, what in seen["steps"] if name == job]
        saved = Counter(number for name, number, _ in seen["answers"] if name == job)
        hint = "ack() is the last thing: a message that is gone is not delivered again."
        expect_equal(sorted(saved), [0, 1, 2], f"the numbers of the saved answers {where}", hint=hint)
        what, hint = f"how often an answer {where} was saved", "Look at store.saved first."
        expect_equal(max(saved.values()), 1, what, hint=hint)
        given = [what for step, what in steps if step == "given"]
        answers = [(number, text) for name, number, text in seen["answers"] if name == job]
        foreign = [n for n, text in answers if text not in given or not text.startswith(texts[n])]
        expect_equal(foreign, [], f"the answers {where} that are not those to their input")
        _paid_once(where, texts, steps)
    hint = "A job that is done is acknowledged."
    expect_equal(left, 0, "messages left in the queue when all jobs are done", hint=hint)


def _paid_once(where: str, texts: list[str], steps: list[tuple[str, str]]) -> None:
    saved, open_ = Counter[str](), 0
    for step, what in steps:
        if step == "save":
            saved[what.rpartition(" ")[0]] += 1
            open_ -= 1
        if step == "given":
            open_ += 1
        if step == "killed":
            told, hint = (
                f"answers {where} that were not saved by then",
                "Save each before you ask for the next.",
            )
            expect(open_ <= 1, told, observed=open_, expected="the one that came last, at most", hint=hint)
            open_ = 0
        if step == "ask":
            again = saved[what] >= texts.count(what)
            hint = "store.saved(job_id) has the numbers of the inputs that need not be asked."
            told = f"questions {where} that were asked though their answer was saved"
            expect(not again, told, observed=[what], expected="none", hint=hint)


EXERCISE = Exercise(
    title="A worker that loses no job when killed",
    minutes=20,
    difficulty="hard",
    hints=(
        "First the happy way: for each number that is not in store.saved, answer and save; then ack.",
        "Around it a try. `except Exception as error`: back(1) and return while deliveries are under three.",
        "Before that one, `except asyncio.CancelledError`: back(0), then raise.",
    ),
    checks=(keeps_the_rules, loses_no_job),
    why="Late acknowledgement means delivered at least once; looking at what is saved makes the effect "
    "happen once. One without the other loses jobs, or does them twice. The library's Worker keeps these "
    "rules on RabbitMQ and NATS, and its database refuses a second answer to an input.",
    deadline_s=100.0,
)
