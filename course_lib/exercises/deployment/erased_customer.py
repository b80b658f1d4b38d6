"""Exercise 5.6, erase a customer everywhere: a customer among others, in PostgreSQL, Redis and two files.

Main path: EXERCISE -> engine.registry; erasable() makes the places, with names of its own on both servers.
Each check compares what is left with what should be, also when a call to a server fails in the middle.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from random import choice, randrange, shuffle
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import psycopg
import redis

from course_lib.exercises.engine.checks import (
    expect,
    expect_equal,
    result_of,
    shortened,
    without_error,
)
from course_lib.exercises.engine.registry import Exercise
from course_lib.services import running_postgres, running_redis

_TABLES = """
CREATE TABLE subjects (tenant text, customer text, subject text UNIQUE, PRIMARY KEY (tenant, customer));
CREATE TABLE answers (subject text NOT NULL REFERENCES subjects (subject), answer text);
CREATE TABLE jobs (
    id integer PRIMARY KEY, subject text REFERENCES subjects (subject), status text, inputs jsonb
)
"""
_STATUSES = ("queued", "running", "done", "failed", "put off", "erased", None)
_ODD = b'no JSON\n|[1]\n|"text"\n|42\n|null\n|\xff\xfe\r\n|\n|{"subject": 7}\n'.split(b"|")
_TORN = b'{"subject": "'
_NOBODY = ("nobody", "", "a/b", "' OR '1'='1", "%", "*", "ada*", "a\\", "\u0130")
_PLACES = ("answers", "jobs", "cache", "log", "traces")
_SHOWN_CHARS = 200
_AGAIN = "After a failure everything has to be found again: what leads to it goes last."


@dataclass(frozen=True, slots=True)
class Places:
    """Where a service keeps what customers write."""

    database: psycopg.Connection[Any]
    """With the tables subjects, answers and jobs; each statement is a transaction of its own."""
    redis: redis.Redis
    log: Path
    traces: Path


class _Killed(BaseException):
    """The process ends here: whatever is done about it is undone by `_Stand.die`."""


class _Fuse:
    """Lets so many steps through; then what the next one needs is away: server, disk or process.

    `once` brings it back after that step.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.away: type[BaseException] | None = None
        self.once = False

    def burn(self, error: BaseException) -> None:
        is_again = self.once and self.away is not None
        if self.left is not None and self.away is None:
            self.left -= 1
            self.away = type(error) if self.left < 0 else None
        if self.away in (type(error), _Killed) and not is_again:
            raise _Killed if self.away is _Killed else error


def _fused(fuse: _Fuse, url: str, schema: str) -> tuple[psycopg.Connection[Any], redis.Redis]:
    """Return connections to both servers, over which a call fails when the fuse says so."""

    def cut(kind: Any, error: type[Exception], *names: str) -> Any:
        def cut_call(name: str) -> Callable[..., Any]:
            def call(self: Any, *args: Any, **named: Any) -> Any:
                fuse.burn(error("the line dropped"))
                return getattr(kind, name)(self, *args, **named)

            return call

        return type("Cut", (kind,), {name: cut_call(name) for name in names})

    cache = redis.Redis.from_url(running_redis().url, decode_responses=True, retry=None)
    pool: Any = cache.connection_pool
    pool.connection_class = cut(pool.connection_class, redis.ConnectionError, "send_packed_command")
    cursor = cut(psycopg.Cursor, psycopg.OperationalError, "execute", "executemany")
    options = f"-c search_path={schema} -c client_min_messages=warning"
    return psycopg.connect(url, autocommit=True, cursor_factory=cursor, options=options), cache


class _Stand:
    """Places with some customers in them, and what should be there."""

    def __init__(self, places: Places, fuse: _Fuse, letter: str, many: list[dict[str, int]]) -> None:
        self.places, self.fuse, self.are_last = places, fuse, not letter
        end = uuid4().hex[:8]
        self.tenant, self.customer = f"lantern-{end}", choice(("ada", "c-17", "Zoë [1]", "a.b"))
        self.customer += "" if letter else "x" * 70
        self.who = self.tenant, self.customer
        number = randrange(10, 100)
        self.subjects = {  # one of the others' begins with theirs, and one begins it
            self.who: f"{letter}{number}1",
            (self.tenant, f"{self.customer}2"): f"{letter}{number}",
            (self.tenant, self.customer[:-1]): f"{letter}{number}10",
            (f"{self.tenant}2", self.customer): f"{letter}2{number}",
            (f"other-{end}", self.customer): f"S{number}1",
        }
        self.keys: dict[tuple[str, str], list[str]] = {}
        self.counts: dict[str, int] = {}
        self._fill(letter, many)

    def _fill(self, letter: str, counts: list[dict[str, int]]) -> None:
        places, log, spans = self.places, [*_ODD], [*_ODD]
        statuses, traces = (*_STATUSES, uuid4().hex[:5]), (uuid4().hex, uuid4().hex)
        last = {places.log: _TORN, places.traces: _TORN + b"\n\n"}
        rows: dict[str, list[Any]] = {"subjects": [], "answers": [], "jobs": []}
        for number, (who, subject) in enumerate(self.subjects.items()):
            many = counts[number]
            rows["subjects"].append([*who, subject])
            rows["answers"] += [[subject, f"answer {n}"] for n in range(many["answers"])]
            jobs = enumerate(statuses, len(statuses) * number)
            asks = f'["{subject} asks"]'
            rows["jobs"] += [[job, subject, status, asks if status else "[]"] for job, status in jobs]
            self.keys[who] = [f"answer:{uuid4().hex}" for _ in range(many["cache"])]
            places.redis.mset(dict.fromkeys(self.keys[who], f"for {subject}"))
            places.redis.set(self.keys[who][0], "", ex=3_600)
            self.keys[who].append(f"answer:{uuid4().hex}")  # which has expired
            places.redis.sadd(_tag(who), *self.keys[who])
            log += [_line(event="answered", subject=subject, note=choice(_NOTES)) for _ in range(many["log"])]
            log += [_line(event="sold", article=subject)]  # which is no pseudonym, and only looks like one
            for trace in traces if who == self.who else (f"{traces[0]}0", traces[0].upper()):
                names = {"request": {"subject": subject}, "lm": {"tokens": 7}, "tool": {"after": traces[1]}}
                spans += [_line(trace_id=trace, name=name, attributes=names[name]) for name in names]
            if who == self.who:
                log += _spelt(subject)
                spans += [_spelt(subject, trace_id=uuid4().hex)[which] for which in (0, 1)]
                self.counts = {**many, "log": many["log"] + 2, "jobs": len(statuses), "traces": 8}
                if not letter:  # the last lines are theirs, whole, and have no end
                    last[places.log] = _line(event="answered", subject=subject).rstrip()
                    last[places.traces] = _line(name="late", trace_id=traces[0]).rstrip()
                    self.counts |= {"log": self.counts["log"] + 1, "traces": 9}
                span = {"trace_id": uuid4().hex, "name": "n", "attributes": {"subject": subject}}
                for lines, record in ((log, {"subject": subject}), (spans, span)):
                    line = json.dumps(record).encode()
                    lines += [line[:-1] + b', "note": "\xff"}\n', b"[%s]\n" % line]  # no text; no JSON object
                continue
            theirs = {"subject": self.subjects[self.who]}  # in a place that does not count
            log.append(_line(event="merged", subject=subject, before=theirs, all=[theirs], attributes=theirs))
            attributes = {"subject": subject, "before": theirs}
            spans.append(_line(trace_id=uuid4().hex, name="merge", attributes=attributes, **theirs))
            spans.append(_line(trace_id=uuid4().hex, name=theirs["subject"], attributes={"n": 1}, **theirs))
            for near in (f" {theirs['subject']}", int(theirs["subject"].lstrip("s"))):
                log.append(_line(event="typed", subject=near))
                spans.append(_line(trace_id=uuid4().hex, name="typed", attributes={"subject": near}))
            for other in ("customer", "name", uuid4().hex):
                spans.append(
                    _line(trace_id=uuid4().hex, name="sold", attributes={other: theirs["subject"], "n": 1})
                )
        rows["jobs"].append([10_000, None, "done", '["nobody asks"]'])
        spans += [_line(name="none", attributes=None), _line(name="empty", attributes={}), _line(name="bare")]
        with places.database.cursor() as cursor:
            for table, each in rows.items():
                values = ", ".join(["%s"] * len(each[0]))
                cursor.executemany(f"INSERT INTO {table} VALUES ({values})".encode(), each)  # noqa: S608
        for path, lines in ((places.log, log), (places.traces, spans)):
            shuffle(lines)
            path.write_bytes(b"".join(lines) + last[path])

    def erase(self, function: Callable[..., Any], *who: str) -> Any:
        return result_of(function, self.places, *(who or self.who))

    def come_back(self) -> None:
        """Have the customer again, with a new pseudonym and one answer."""
        query, subject = self.places.database.execute, uuid4().hex
        query("INSERT INTO subjects VALUES (%s, %s, %s)", [*self.who, subject])
        query("INSERT INTO answers VALUES (%s, 'one more')", [subject])

    def die(self, at: dict[Path, bytes]) -> None:
        """Have the files as they were when the process died; of a new one, half had been written."""
        own = (self.places.log, self.places.traces)
        for path, content in at.items():
            path.write_bytes(content if path in own else content[: len(content) // 2])

    def files(self) -> dict[Path, bytes]:
        """Return the content of all files in the folder."""
        return {path: path.read_bytes() for path in sorted(self.places.log.parent.iterdir())}

    def held(self) -> dict[str, Any]:
        """Return all that is in the places, in a form to compare."""
        query, places = self.places.database.execute, self.places
        rows = {
            "subjects": [*query("SELECT * FROM subjects ORDER BY subject")],
            "answers": [*query("SELECT * FROM answers ORDER BY subject, answer")],
            "jobs": [*query("SELECT id, subject, status, inputs FROM jobs ORDER BY id")],
        }
        cache = {key: places.redis.get(key) for keys in self.keys.values() for key in keys}
        tags = {_tag(who): {*places.redis.smembers(_tag(who))} for who in self.keys}
        files = {path.name: self._lines(content) for path, content in self.files().items()}
        return {**rows, "cache": {**cache, **tags}, **files}

    def wanted(self) -> dict[str, Any]:
        """Return what should be in the places when the customer has been erased."""
        held, theirs = self.held(), self.subjects[self.who]
        gone = {*self.keys[self.who]}
        traces = {_of(line).get("trace_id") for line in held["traces.jsonl"] if _subject(_of(line)) == theirs}
        tag, spans, lines = _tag(self.who), held["traces.jsonl"], held["log.jsonl"]
        cache = {key: None if key in gone else value for key, value in held["cache"].items()} | {tag: set()}
        return {
            "subjects": [row for row in held["subjects"] if row[2] != theirs],
            "answers": [row for row in held["answers"] if row[0] != theirs],
            "jobs": [(row[0], None, "erased", []) if row[1] == theirs else row for row in held["jobs"]],
            "cache": cache,
            "log.jsonl": self._lines(b"".join(line for line in lines if _of(line).get("subject") != theirs)),
            "traces.jsonl": self._lines(
                b"".join(line for line in spans if (_of(line).get("trace_id") or "") not in traces)
            ),
        }

    def _lines(self, content: bytes) -> list[bytes]:
        """Return the lines of a file; whether its last one has an end is left to who took those behind it."""
        return (content.rstrip(b"\r\n") if self.are_last else content).splitlines(keepends=True)


_NOTES = ("", "s1", "café", "line\nbreak", "a\u2028b")


def _tag(who: tuple[str, str]) -> str:
    return f"customer:{who[0]}/{who[1]}"


def _line(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=choice((True, False))).encode() + choice((b"\n", b"\r\n"))


def _spelt(subject: str, **more: str) -> list[bytes]:
    """Return a log line, or a span, in two other spellings of JSON: without spaces, and with escapes."""
    field: dict[str, Any] = {"subject": subject}
    close = json.dumps({"attributes": field, **more} if more else field, separators=(",", ":"))
    word = json.dumps(subject)
    odd = close.replace(word, '"' + "".join(f"\\u{ord(each):04x}" for each in subject) + '"')
    for name in ("subject", "attributes"):
        odd = odd.replace(f'"{name}":', f'"\\u{ord(name[0]):04x}{name[1:]}" : ')
    return [f"{each}\n".encode() for each in (close, f" {odd}")]


def _of(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _subject(span: dict[str, Any]) -> Any:
    return (span.get("attributes") or {}).get("subject")


def _counts() -> list[dict[str, int]]:
    """Return how many answers and log lines each of the customers has."""
    return [{place: randrange(2, 5) for place in ("answers", "cache", "log")} for _ in range(5)]


@contextmanager
def _stand(letter: str = "s", many: list[dict[str, int]] | None = None) -> Iterator[_Stand]:
    """Give places; pseudonyms begin with the letter, or are digits alone."""
    url, schema, fuse = running_postgres().url, f"exercise_5_6_{uuid4().hex}", _Fuse()
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE SCHEMA {schema}; SET search_path TO {schema}; {_TABLES}")
        database, cache = _fused(fuse, url, schema)
        stand = None
        try:
            with tempfile.TemporaryDirectory(prefix="erase-") as folder, database, cache:
                log, traces = Path(folder, "log.jsonl"), Path(folder, "traces.jsonl")
                stand = _Stand(Places(database, cache, log, traces), fuse, letter, many or _counts())
                yield stand
        finally:
            with redis.Redis.from_url(running_redis().url) as ours:
                for who, keys in stand.keys.items() if stand else ():
                    ours.delete(_tag(who), *keys)
            owner.execute(f"SET client_min_messages = warning; DROP SCHEMA {schema} CASCADE")


@contextmanager
def erasable() -> Iterator[tuple[Places, str, str]]:
    """Give places in which five customers are, and the tenant and the customer to erase."""
    with _stand() as stand:
        yield stand.places, *stand.who


def _expect_same(got: dict[str, Any], want: dict[str, Any], when: str, *, hint: str = "") -> None:
    for place, wanted in want.items():
        is_same, observed = got.get(place) == wanted, _differences(got.get(place, ()), wanted)
        expected = "theirs is gone, all else as it was"
        expect(is_same, f"what is in {place} {when}", observed=observed, expected=expected, hint=hint)
    others = sorted({*got} - {*want})
    hint = "Nothing is left beside."
    expect(not others, f"files {when}", observed=others, expected="no other file", hint=hint)


def _differences(got: Any, want: Any) -> str:
    """Say what should not be in a place, and what should, by the first of each."""
    there, wanted = (
        Counter(map(repr, each.items() if isinstance(each, dict) else each)) for each in (got, want)
    )
    told = []
    for kind, rows in (("should not be there", there - wanted), ("should be there", wanted - there)):
        first = shortened(next(iter(rows), ""), _SHOWN_CHARS)
        told += [f"{rows.total()} {kind}, the first {first}"] if rows else []
    return "; ".join(told) or "the same in another order"


def erases_everything(erase: Callable[..., Any]) -> None:
    """Nothing of the customer is left, and nothing of anybody else is touched."""
    for letter in ("s", ""):
        with _stand(letter) as stand:
            want = stand.wanted()
            counts = stand.erase(erase)
            _expect_same(stand.held(), want, f"after erasing {stand.customer!r}, {stand.subjects[stand.who]}")
            expect_equal(counts, stand.counts, "what erase returned")


def may_be_repeated(erase: Callable[..., Any]) -> None:
    """Erasing again, or somebody whom nobody knows, is no error, changes nothing and returns zeros."""
    with _stand() as stand:
        want, zeros = stand.held(), dict.fromkeys(_PLACES, 0)
        like = (f" {stand.customer}", f"{stand.customer} ", stand.customer.swapcase())
        unknown = [(stand.tenant, customer) for customer in (*_NOBODY, *like)]
        for who in (*unknown, (stand.tenant.upper(), stand.customer), (f"{stand.tenant} ", stand.customer)):
            told = f"erasing {who[1]!r} of {who[0]!r}, whom nobody knows"
            counts = without_error(partial(stand.erase, erase, *who), f"{told}, is no error")
            hint = "Texts go to the database as parameters."
            expect_equal(counts, zeros, f"what {told}, returned", hint=hint)
            _expect_same(stand.held(), want, f"after {told}")
        want = stand.wanted()
        stand.erase(erase)
        counts = without_error(partial(stand.erase, erase), "erasing again is no error")
        expect_equal(counts, zeros, "what it returned")
        _expect_same(stand.held(), want, "after erasing twice")
        stand.come_back()
        counts = stand.erase(erase)
        expect_equal(counts, zeros | {"answers": 1}, "what erasing a customer who had come back returned")
        _expect_same(stand.held(), want, "after erasing a customer who had come back")


def replaces_files_whole(erase: Callable[..., Any]) -> None:
    """At every moment each file is the old one or the new one, and whole."""
    with _stand() as stand, ExitStack() as held:
        paths = (stand.places.log, stand.places.traces)
        before = {path: (held.enter_context(path.open("rb")), path.read_bytes()) for path in paths}
        left, moved = list[str](), list[bytes]()

        def note(name: str, path: Any) -> None:
            if Path(path) in paths:
                left.append(f"{Path(path).name} is gone for a moment: os.{name}")
            elif name in ("rename", "replace"):
                moved.append(Path(path).read_bytes())

        with _before(("unlink", "remove", "rename", "replace"), note):
            stand.erase(erase)
        what, hint = (
            "what is done to a file",
            "Write a new file beside it, then os.replace: that is one step.",
        )
        expect(not left, what, observed=left, expected="another takes its place", hint=hint)
        torn = [len(each) for each in moved if each not in [path.read_bytes() for path in paths]]
        what, hint = "a new file at the moment of its renaming", "Close it first: until then it has a part."
        observed, wanted = f"{torn} bytes of it are there", "all of it"
        expect(not torn, what, observed=observed, expected=wanted, hint=hint)
        what = "what is done to a file"
        for path, (old, content) in before.items():
            told, want = f"{path.name} was changed where it stood", "another takes its place in one step"
            expect(old.read() == content, what, observed=told, expected=want, hint=hint)


@contextmanager
def _before(names: tuple[str, ...], note: Callable[[str, Any], None]) -> Iterator[None]:
    """Call `note` before each of these functions of the module os, with its name and its path."""

    def noted(call: Callable[..., Any], path: Any, *args: Any, **named: Any) -> Any:
        note(call.__name__, path)
        return call(path, *args, **named)

    with ExitStack() as patches:
        for name in names:
            patches.enter_context(patch.object(os, name, partial(noted, getattr(os, name))))
        yield


def goes_on_after_a_cut(erase: Callable[..., Any]) -> None:
    """Errors of servers reach the caller; after one, or a kill, erasing again leaves nothing."""
    many = _counts()  # the same for all cuts, so that each step is the one that is cut
    for cut, at_files in product(range(100), (_Killed(), OSError(28, "No space left on device"))):
        with _stand(many=many) as stand:
            want, is_cut, ended = stand.wanted(), *_cut_off(stand, erase, cut, at_files)
            told = f"after a cut at step {cut + 1}"
            if is_cut:
                is_told = re.match("with (?!another)", ended)
                expect(is_told, f"how erase ended {told}", observed=ended, expected="that error")
                without_error(partial(stand.erase, erase), f"erasing again, {told}, is no error", hint=_AGAIN)
            held = {name: what for name, what in stand.held().items() if name in want}  # not what a kill left
            _expect_same(held, want, f"after erasing again, {told}", hint=_AGAIN)
            if not is_cut:
                return


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error, and those that it was raised from or while handling."""
    if error:
        yield error
        yield from _with_causes(error.__cause__ or error.__context__)


def _cut_off(
    stand: _Stand, erase: Callable[..., Any], steps: int, at_files: BaseException
) -> tuple[bool, str]:
    """Erase, with a failure after so many steps; return whether it came, and how erasing ended."""
    fuse, ended = stand.fuse, "as if nothing had happened"
    fuse.left, fuse.once, at = steps, isinstance(at_files, OSError), dict[Path, bytes]()

    def fail(name: str, _: object) -> None:
        if name == "rename" and isinstance(at_files, OSError):
            return  # shutil.move would take it for a file on another disk, and copy
        try:
            fuse.burn(at_files)
        except _Killed:
            at.update({} if at else stand.files())
            raise

    with _before(("rename", "replace"), fail):
        try:
            stand.erase(erase)
        except (Exception, _Killed) as error:  # border: the learner's code, on lines that drop
            is_it = any(isinstance(each, fuse.away or ()) for each in _with_causes(error))
            ended = f"with {'' if is_it else 'another error, '}{type(error).__name__}"
    is_cut, fuse.left, fuse.away = bool(fuse.away), None, None
    stand.die(at)
    return is_cut, ended


EXERCISE = Exercise(
    title="Erase a customer everywhere",
    minutes=25,
    difficulty="hard",
    hints=(
        "The pseudonym first: SELECT it by tenant and customer, and make its deletion the last thing of all.",
        "redis.delete(set, *answers) is one command. A trace takes two readings: its id, then its spans.",
        "Read bytes, split after each newline, keep what json.loads refuses; write beside, then os.replace.",
    ),
    checks=(erases_everything, may_be_repeated, replaces_files_whole, goes_on_after_a_cut),
    deadline_s=15.0,
    why="What leads to the rest, the pseudonym and the set, goes last, so an erasure that is cut off can be "
    "asked for again, and each step may be repeated. Files are replaced in one step. Values are compared "
    "whole, as parameters: no id is taken for one that begins with it.",
)
