"""What a batch has paid for, in one SQLite file: written before an item is handed out, read by the next run.

Main path: Journal(path, program) -> find(job) -> Item | None; write(item, digest).
A row is one transaction, so a kill leaves it whole or not at all; a power cut may lose the last seconds
(synchronous=NORMAL). What a row with a wrong checksum holds is asked again. The file is locked for one run
at a time. Results are JSON, and read by the types that the program's signatures name. Nothing is imported by
a name that a journal holds.
Source: dspy.Module.dump_state (demos, instructions, fields; no keys), dspy.settings (DSPy 3.4.1).
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import threading
from ast import literal_eval
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, Union, get_type_hints

import dspy
from pydantic import PydanticUserError, TypeAdapter

from course_lib.caching.batch.inputs import Job, digest_of
from course_lib.caching.batch.items import Failure, Item, JournalError, OtherBatchError
from course_lib.caching.keys import current_scope
from course_lib.measure import Usage

_ADVICE = {
    "locked": "another run is using it. Wait for that one to end, or name another journal",
    "malformed": "it is damaged. Restore it from a copy, or move it away and pay for the items again",
    "not a database": "it is no journal, or damaged. Name another place, or restore it from a copy",
    "no such table": "it is no journal. Name another place",
}
"""What to do, by a word of SQLite's message."""


class Journal:
    """An open journal; threads may share it.

    Raises:
        OtherBatchError: it was begun by another program, model or adapter.
        JournalError: it is damaged, in use, or cannot be written; or a type is named that it cannot hold.
    """

    def __init__(self, path: Path, program: Any) -> None:
        self._path, self._codec = path, Codec(program)
        self._lock = threading.Lock()
        with contextlib.ExitStack() as at_an_error, self._guarded("opened"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=0.3, isolation_level=None, check_same_thread=False)
            at_an_error.callback(self.close)
            self._db.text_factory = lambda raw: raw.decode(errors="replace")  # the checksum tells
            self._open(fingerprint(program))
            at_an_error.pop_all()

    def find(self, job: Job) -> Item | None:
        """Return the item as an earlier run wrote it, or None; another input is refused."""
        with self._guarded("read"), self._lock:
            row = self._db.execute("SELECT * FROM items WHERE place = ?", (job.index,)).fetchone()
        if row is None or row[-1] != digest_of(row[:-1], repr):
            return None
        _, was_digest, ok, value, usage, duration_ms, _ = row
        if was_digest != job.digest:
            raise OtherBatchError(
                f"item {job.index} is not what it was when {self._path} was begun. "
                "Give the same input, or begin with a journal of another name"
            )
        try:
            result, error = (self._codec.decode(value), None) if ok else (None, Failure(*json.loads(value)))
            used = Usage(*json.loads(usage))
        except (LookupError, TypeError, ValueError) as problem:
            raise JournalError(
                f"item {job.index} in {self._path} is not what the program's types take "
                f"today: {problem}. Begin with a journal of another name"
            ) from problem
        return Item(job.index, job.inputs, result, error, used, duration_ms, resumed=True)

    def write(self, item: Item, digest: str) -> Item:
        """Keep how an item ended, with the digest of its input; the row of an earlier run is replaced.

        Returns the item; where its result has no form in a journal, with a JournalError beside it, unwritten.
        """
        error = item.error
        try:
            value = json.dumps([error.kind, error.message]) if error else self._codec.encode(item.result)
        except Exception as problem:  # border: the program's own types
            said = f"{Failure.of(problem).message} (the item's result is here, and is asked again on resume)"
            return replace(item, error=Failure("JournalError", said, problem))
        row = item.index, digest, int(item.ok), value, json.dumps(astuple(item.usage)), item.duration_ms
        written = (*row, digest_of(row, repr))
        with self._guarded("written"), self._lock:
            self._db.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?)", written)
        return item

    def close(self) -> None:
        """Give the file free. What was written stays written even if this fails."""
        with contextlib.suppress(sqlite3.Error), self._lock:
            self._db.close()

    def _open(self, belongs_to: dict[str, str]) -> None:
        """Make the tables of a new journal, or compare what an old one belongs to."""
        sql = self._db.execute
        sql("PRAGMA locking_mode = EXCLUSIVE")  # one run at a time
        is_new = not sql("SELECT * FROM sqlite_master").fetchone()
        began = belongs_to if is_new else json.loads(sql("SELECT belongs_to FROM batch").fetchone()[0])
        if sql("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("malformed")
        sql("PRAGMA journal_mode = WAL")
        sql("PRAGMA synchronous = NORMAL")
        if is_new:
            sql("BEGIN IMMEDIATE")  # all of it or nothing, as a kill may come between
            sql("CREATE TABLE batch (belongs_to)")
            sql("CREATE TABLE items (place INTEGER PRIMARY KEY, input, ok, value, usage, duration_ms, sum)")
            sql("INSERT INTO batch VALUES (?)", (json.dumps(belongs_to),))
            sql("COMMIT")
        changed = [name for name in began | belongs_to if began.get(name) != belongs_to.get(name)]
        if changed:
            words = [f"{name} ({began.get(name)!r} then, {belongs_to.get(name)!r} now)" for name in changed]
            raise OtherBatchError(
                f"{self._path} belongs to another batch, of other {', '.join(words)}. Go on with the program "
                "that began it, or begin with a journal of another name"
            )

    @contextlib.contextmanager
    def _guarded(self, done: str) -> Iterator[None]:
        # It takes no lock: Ctrl-C can leave this generator in a traceback, unfinished, and the lock held.
        try:
            yield
        except (sqlite3.Error, OSError, TypeError, ValueError) as error:
            said = "malformed" if isinstance(error, TypeError | ValueError) else str(error)
            rest = f"{said}. What it holds is kept: make room or make it writable, and run the batch again"
            advice = next((advice for word, advice in _ADVICE.items() if word in said), rest)
            raise JournalError(f"the journal {self._path} could not be {done}: {advice}") from error


# -- results as JSON, and what tells a program from others ---------------------------------------------------

_REFUSALS = (SyntaxError, LookupError, TypeError, ValueError, RecursionError, PydanticUserError)
_WITHOUT_EFFECT = re.compile("key|api_|base|timeout|retries|rollout")
"""Parts of names of a model's options that do not change its answers."""
Form = tuple[Callable[[Any], Any], Callable[[Any], Any]]
"""A value -> what JSON can hold, and back."""
_UNNAMED: dict[str, Form] = {
    "json": (lambda value: value, lambda plain: plain),
    "literal": (repr, literal_eval),
}
"""Plain data: what JSON gives back as it was, then tuples, sets and bytes, written as Python writes them."""


class Codec:
    """Writes results of one program as JSON, and reads them back; JournalError for types it cannot read."""

    def __init__(self, program: Any) -> None:
        self._named = {name: _form_of(name, kind) for name, kind in _named_types(program).items()}

    def encode(self, result: Any) -> str:
        """Return `result` as JSON; JournalError if what would be read again is not equal to it."""
        fields = dict(result.items()) if isinstance(result, dspy.Prediction) else {"return": result}
        encoded = {name: self._encode(name, value) for name, value in fields.items()}
        return json.dumps([isinstance(result, dspy.Prediction), encoded])

    def decode(self, text: str) -> Any:
        """Return what was encoded; ValueError if the program's types have changed and do not take it."""
        is_prediction, encoded = json.loads(text)
        fields = {name: self._forms(name)[form][1](plain) for name, (form, plain) in encoded.items()}
        return dspy.Prediction(**fields) if is_prediction else fields["return"]

    def _forms(self, name: str) -> dict[str, Form]:
        """Return the type that the program names, and those for what it does not name."""
        return ({"named": self._named[name]} if name in self._named else {}) | _UNNAMED

    def _encode(self, name: str, value: Any) -> tuple[str, Any]:
        """Return the first form that gives an equal value back, and the value in it."""
        for form, (dump, load) in self._forms(name).items():
            with contextlib.suppress(Exception):  # border: the program's own types
                plain = dump(value)
                again = load(json.loads(json.dumps(plain)))
                is_same = again == value if form == "named" else repr(again) == repr(value)  # NaN is not NaN
                if is_same and type(again) is type(value):
                    return form, plain
        raise JournalError(
            f"{name} = {value!r:.80} is a {type(value).__qualname__} that a journal cannot give back. "
            "Name its type in the signature (of a function: as its return type), or return plain data"
        )


def _form_of(name: str, kind: Any) -> Form:
    try:
        adapter = TypeAdapter(kind)
        adapter.json_schema(mode="serialization")
    except _REFUSALS as error:
        raise JournalError(
            f"{name} is a {kind!r:.80}, which a journal could not read again: {str(error).splitlines()[0]}. "
            "Use a pydantic model, an enum, a dataclass or plain data"
        ) from error

    def dump(value: Any) -> Any:
        return json.loads(adapter.dump_json(value, by_alias=False, round_trip=True, warnings="error"))

    return dump, lambda plain: adapter.validate_json(json.dumps(plain), by_alias=False, by_name=True)


def _named_types(program: Any) -> dict[str, Any]:
    """Return the types of the output fields of the program's predictors, and "return": what it returns."""
    named: dict[str, Any] = {}
    for _, predictor in program.named_predictors() if isinstance(program, dspy.Module) else ():
        for name, field in predictor.signature.output_fields.items():
            named[name] = Union[named.get(name, field.annotation), field.annotation]  # noqa: UP007
    kind = type(program)
    call = program if hasattr(program, "__qualname__") else getattr(kind, "forward", kind.__call__)
    with contextlib.suppress(NameError, TypeError, KeyError):  # none, or only for type checkers
        returned = get_type_hints(call)["return"]
        named |= {"return": returned} if returned is not dspy.Prediction else {}
    return named


def fingerprint(program: Any) -> dict[str, str]:
    """Return what tells this program, with model, adapter and tenant, from others; code is not compared."""
    thing: Any = program if hasattr(program, "__qualname__") else type(program)
    parts = {"format of journal": "2", "program": f"{thing.__module__}.{thing.__qualname__}"}
    if isinstance(program, dspy.Module):
        fields = [str(predictor.signature.fields) for _, predictor in program.named_predictors()]
        parts["instructions, fields and demos"] = digest_of([program.dump_state(), fields], str)
    scope, lm = current_scope(), dspy.settings.lm
    if scope.tenant or scope.customer:
        parts["tenant or customer"] = digest_of([scope.tenant, scope.customer], str)
    if isinstance(lm, dspy.BaseLM):
        options = {name: value for name, value in lm.kwargs.items() if not _WITHOUT_EFFECT.search(name)}
        parts["model and its settings"] = f"{lm.model} {digest_of(options, str)}"
    return {**parts, "adapter": type(dspy.settings.adapter).__qualname__}
