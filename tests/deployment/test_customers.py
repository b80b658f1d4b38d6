"""A customer is erased from every place, and nobody else is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from course_lib.caching import TieredCache, scope
from course_lib.debugging import Recording, Tracer
from course_lib.deployment.audit import Audit, AuditError
from course_lib.deployment.customers import Cache, Customers, Lines, Person, by_request
from course_lib.deployment.database import StoreError, StoreUnavailable
from course_lib.deployment.store import Store
from course_lib.files import appending, lock_folder
from course_lib.lm.recordings import Recorded
from course_lib.resilience import BulkheadFull

pytestmark = pytest.mark.anyio

KEY = b"a key of thirty-two characters.."


def append(path: Path, fields: dict[str, Any]) -> None:
    with appending(path) as file:
        file.write(f"{json.dumps(fields)}\n".encode())


ERASED = {"database": 2, "cache": 1, "logs": 2, "traces": 2, "recordings": 1}


class Everywhere:
    """A service that has been asked by several customers of two tenants."""

    def __init__(self, store: Store, folder: Path, redis_url: str) -> None:
        self.store, self.folder = store, folder
        self.cache = TieredCache(
            1_000_000, redis_url=redis_url, namespace="t", signing_key=KEY, require_tenant=True
        )
        with scope(tenant="lantern"):
            self.cache.find("")  # it keeps nothing before it has heard from Redis
        self.audit = Audit(store, KEY)
        self.logs, self.recordings = (
            Lines("logs", folder, "log*.jsonl"),
            Lines("recordings", folder, "run*.jsonl"),
        )
        self.traces = Lines("traces", folder, "spans.jsonl", group=by_request)
        places = [Cache(self.forget), self.logs, self.traces, self.recordings]
        self.customers = Customers(store, self.audit, places)
        self.subjects: dict[tuple[str, str], str] = {}

    async def forget(self, tenant: str, customer: str) -> int:
        return await asyncio.to_thread(self.cache.invalidate, tenant=tenant, customer=customer)

    async def ask(self, tenant: str, customer: str) -> None:
        subject = self.subjects[tenant, customer] = await self.store.subject(tenant, customer)
        text = f"{tenant} and {customer}"
        await self.store.save_answer(
            tenant, program="answer", version="1", question=text, answer={"answer": text}, subject=subject
        )
        await self.store.create_job(tenant, "answer", "1", [{"question": text}], customer=customer)
        with scope(tenant=tenant, customer=customer):
            self.cache.keep(text, text, self.cache.stamp)
        for fields in ({"subject": subject}, {"tenant": tenant, "customer": customer}):
            append(self.folder / "log.jsonl", {"event": "answered", **fields})
        step = Recorded({"messages": [{"role": "user", "content": text}], "user": subject})
        Recording([step]).save(self.folder / f"run-{tenant}-{customer}.jsonl")
        with Tracer(file=self.folder / "spans.jsonl") as tracer:
            with tracer.span("request", customer=subject), tracer.span("program"):
                pass
            tracer.flush()

    def left(self) -> str:
        """Return all that files have."""
        return "".join(path.read_text() for path in sorted(self.folder.iterdir()))

    def cached(self, tenant: str, customer: str) -> Any:
        with scope(tenant=tenant, customer=customer):
            return self.cache.find(f"{tenant} and {customer}")


@pytest.fixture
async def everywhere(store, tmp_path, redis_url):
    asked = Everywhere(store, tmp_path, redis_url)
    for who in [("lantern", "ada"), ("lantern", "ada2"), ("other", "ada")]:
        await asked.ask(*who)
    yield asked
    asked.cache.close()


async def test_what_is_held_is_exported_from_every_place(everywhere):
    held = await everywhere.customers.export("lantern", "ada", actor="key-1")

    text = json.dumps(held)
    assert held["database"]["answers"][0]["question"] == "lantern and ada"
    assert held["database"]["jobs"][0]["inputs"] == [{"question": "lantern and ada"}]
    assert [len(held[place]) for place in ("logs", "traces", "recordings")] == [2, 2, 1]
    assert "other" not in text
    assert "ada2" not in text
    assert everywhere.subjects["other", "ada"] not in text


async def test_a_customer_is_erased_everywhere_and_nobody_else(everywhere):
    gone = everywhere.subjects["lantern", "ada"]

    erasure = await everywhere.customers.erase("lantern", "ada", actor="key-1")

    assert erasure.is_complete
    assert erasure.subject == gone
    assert erasure.erased == ERASED
    after = await everywhere.customers.export("lantern", "ada", actor="key-1")
    assert after["database"] == {"answers": [], "jobs": [], "idempotency_keys": []}
    assert after["logs"] == after["traces"] == after["recordings"] == []
    assert gone not in everywhere.left()
    assert everywhere.cached("lantern", "ada") is None
    for who in [("lantern", "ada2"), ("other", "ada")]:
        held = await everywhere.customers.export(*who, actor="key-1")
        assert len(held["logs"]) == len(held["traces"]) == 2
        assert len(held["database"]["answers"]) == len(held["recordings"]) == 1
        assert everywhere.cached(*who)
    assert len(Recording.load(everywhere.folder / "run-lantern-ada.jsonl")) == 0


async def test_the_audit_log_has_the_erasure_by_pseudonym_alone(everywhere):
    await everywhere.customers.erase("lantern", "ada", actor="key-1")

    entries = [entry for _, entry in await everywhere.audit.entries("lantern")]
    assert [entry.action for entry in entries] == ["privacy.erased", "privacy.erase"]
    assert {entry.target for entry in entries} == {everywhere.subjects["lantern", "ada"]}
    assert "ada" not in "".join(entry.detail for entry in entries)


async def test_erasing_again_or_one_whom_nobody_knows_is_no_error(everywhere):
    before = everywhere.left()
    await everywhere.customers.erase("lantern", "ada", actor="key-1")
    after = everywhere.left()

    for customer in ("ada", "nobody"):
        erasure = await everywhere.customers.erase("lantern", customer, actor="key-1")
        assert erasure.is_complete
        assert {*erasure.erased.values()} == {0}
    assert before != after == everywhere.left()


@pytest.mark.parametrize("customer", ["", "a b", "ada' OR true", "*", "../ada"])
async def test_what_is_no_name_is_refused(everywhere, customer):
    with pytest.raises(StoreError, match="name of a customer"):
        await everywhere.customers.erase("lantern", customer, actor="key-1")


class Away:
    """A place that cannot be reached at first."""

    name = "away"

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    async def export(self, _: Person) -> list[Any]:
        return []

    async def erase(self, _: Person) -> int:
        if self.error:
            raise self.error
        return 7


async def test_a_place_that_is_away_hinders_no_other_and_is_erased_later(everywhere):
    away = Away(ConnectionError("secret words"))
    customers = Customers(everywhere.store, everywhere.audit, [away, everywhere.logs])

    first = await customers.erase("lantern", "ada", actor="key-1")
    assert (first.is_complete, first.failed, first.erased["logs"]) == (False, {"away": "ConnectionError"}, 2)
    away.error = None
    (second,) = await customers.resume()

    assert (second.is_complete, second.erased["away"], second.subject) == (True, 7, first.subject)
    assert await customers.resume() == []


async def test_an_erasure_that_was_cut_off_goes_on_and_leaves_what_came_later(everywhere):
    cut = Customers(everywhere.store, everywhere.audit, [Away(asyncio.CancelledError()), everywhere.traces])
    with pytest.raises(asyncio.CancelledError):
        await cut.erase("lantern", "ada", actor="key-1")
    old = everywhere.subjects["lantern", "ada"]
    assert old in everywhere.left()
    await everywhere.ask("lantern", "ada")

    await everywhere.customers.resume()

    assert old not in everywhere.left()
    assert len(await everywhere.store.history("lantern", customer="ada")) == 1
    new = Person("lantern", "ada", (everywhere.subjects["lantern", "ada"],))
    assert len(await everywhere.traces.export(new)) == 2


async def test_a_customer_with_many_answers_is_exported_and_erased(everywhere, service_url):
    """Takes some seconds: 25,000 answers have to be made, read and erased."""
    subject = everywhere.subjects["lantern", "ada"]
    with psycopg.connect(service_url) as owner:
        owner.execute(
            """INSERT INTO answers (tenant, id, subject, program, version, question, answer)
            SELECT 'lantern', 'a' || n, %s, 'answer', '1', repeat('question ', 40), '{"answer": "yes"}'
            FROM generate_series(1, 24999) n""",
            [subject],
        )
    everywhere.store.deadline_s = 2.0

    held = await everywhere.customers.export("lantern", "ada", actor="key-1")
    erasure = await everywhere.customers.erase("lantern", "ada", actor="key-1")

    assert len({answer["id"] for answer in held["database"]["answers"]}) == 25_000
    assert erasure.erased["database"] == 25_001


@pytest.mark.parametrize("what", ["export", "erase"])
async def test_nothing_is_exported_or_erased_while_the_log_of_it_cannot_be_written(
    everywhere, what, monkeypatch
):
    monkeypatch.setattr("course_lib.deployment.audit.MOST_WAITING", 0)
    full = Audit(everywhere.store, KEY)
    customers = Customers(everywhere.store, full, [everywhere.logs])
    before = everywhere.left()

    with pytest.raises(AuditError, match="wait for the database"):
        await getattr(customers, what)("lantern", "ada", actor="key-1")

    assert everywhere.left() == before
    assert len(await everywhere.store.history("lantern", customer="ada")) == 1


async def test_one_is_exported_at_a_time_a_few_wait_and_the_next_are_refused(everywhere):
    with lock_folder(everywhere.folder):  # so that the first goes on for as long
        exports = [
            asyncio.create_task(everywhere.customers.export("lantern", "ada", actor="key-1"))
            for _ in range(6)
        ]
        refused, waiting = await asyncio.wait(exports, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert {type(each.exception()) for each in refused} == {BulkheadFull}
    assert len(waiting) == 4
    for held in await asyncio.gather(*waiting):
        assert len(held["logs"]) == 2


async def test_a_database_that_is_away_is_told(everywhere, postgres):
    everywhere.store.deadline_s = 0.3
    postgres.kill()
    with pytest.raises(StoreUnavailable):
        await everywhere.customers.erase("lantern", "ada", actor="key-1")
    postgres.start()


# Files

THEIRS = '{"subject": "subject_1"}\n'
OTHERS = '{"subject": "subject_2"}\n'
PERSON = Person("lantern", "ada", ("subject_1",))


async def test_lines_that_are_torn_or_no_json_stay_as_they_are(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"no JSON\n[1]\n\xff\xfe\n" + THEIRS.encode() + b'{"torn": ')
    path.chmod(0o600)

    assert await Lines("logs", tmp_path).erase(PERSON) == 1

    assert path.read_bytes() == b'no JSON\n[1]\n\xff\xfe\n{"torn": '
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [path]


async def test_waiting_for_files_leaves_the_threads_of_answers_free(tmp_path):
    place = Lines("logs", tmp_path)
    with lock_folder(tmp_path):
        exports = [asyncio.create_task(place.export(PERSON)) for _ in range(40)]  # asyncio has 32 at most
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.to_thread(bool), 5)
    await asyncio.gather(*exports)


@pytest.mark.parametrize("group", [None, by_request])
async def test_no_line_of_others_is_parsed(tmp_path, monkeypatch, group):
    parsed, loads = [], json.loads
    (tmp_path / "log.jsonl").write_text(OTHERS * 1_000 + THEIRS)
    monkeypatch.setattr(json, "loads", lambda line: parsed.append(line) or loads(line))

    found = await Lines("logs", tmp_path, group=group).export(PERSON)

    assert found == [loads(THEIRS)]
    assert {*parsed} == {THEIRS.encode()}


async def test_a_file_without_such_lines_is_not_touched(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(OTHERS)
    before = path.stat()

    assert await Lines("logs", tmp_path).erase(PERSON) == 0
    assert await Lines("logs", tmp_path / "not there").erase(PERSON) == 0
    assert path.stat().st_ino == before.st_ino


async def test_what_is_appended_while_a_file_is_rewritten_is_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text((THEIRS + OTHERS) * 2_000)
    written = 0

    async def keep_appending() -> None:
        nonlocal written
        while not erasing.done():
            append(path, {"number": written})
            written += 1
            await asyncio.sleep(0)

    erasing = asyncio.create_task(Lines("logs", tmp_path).erase(PERSON))
    await keep_appending()

    assert await erasing == 2_000
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines() if "number" in line]
    assert numbers == [*range(written)]
    assert path.read_text().count(OTHERS) == 2_000


ERASE = """
import asyncio, sys
from pathlib import Path
from course_lib.deployment.customers import Lines, Person
asyncio.run(Lines("logs", Path(sys.argv[1])).erase(Person("lantern", "ada", ("subject_1",))))
"""


def test_a_kill_in_the_middle_leaves_the_old_file_or_the_new_one(tmp_path):
    """Takes some seconds: another process has to import the library."""
    path, old, new = tmp_path / "log.jsonl", (THEIRS + OTHERS) * 50_000, OTHERS * 50_000
    path.write_text(old)
    process = subprocess.Popen([sys.executable, "-c", ERASE, str(tmp_path)], env={**os.environ})
    while not (tmp_path / ".log.jsonl.erasing").exists() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()

    assert path.read_text() in (old, new)
    asyncio.run(Lines("logs", tmp_path).erase(PERSON))
    assert path.read_text() == new
    assert [*tmp_path.iterdir()] == [path]
