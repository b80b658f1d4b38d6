from __future__ import annotations

import enum
import math
import os
import resource
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import dspy
import pydantic
import pytest

from course_lib.adapters import Money
from course_lib.caching import BatchProcessor
from course_lib.caching.batch import BatchStoppedError, JournalError, OtherBatchError
from tests.caching.batch.conftest import questions


def run(program, journal, inputs, **options):
    return list(BatchProcessor(program, journal=journal, **options).run(inputs))


def test_a_second_run_pays_for_nothing_and_gives_the_same_and_a_longer_one_pays_for_the_rest(
    model, ask, tmp_path
):
    first = run(ask, tmp_path / "j", questions(10))
    again = run(ask, tmp_path / "j", questions(10))
    longer = run(ask, tmp_path / "j", questions(12))

    assert model.asked.total() == 12
    assert [(item.result, item.usage) for item in again] == [(item.result, item.usage) for item in first]
    assert all(item.resumed for item in again)
    assert [item.resumed for item in longer] == [True] * 10 + [False] * 2


def test_failures_are_kept_and_tried_again_by_a_run_that_stops_at_them(tmp_path):
    broken, calls = tmp_path / "broken", []
    broken.touch()

    def program(number):
        calls.append(number)
        if number == 0 and broken.exists():
            raise ValueError("no")
        return number

    run(program, tmp_path / "j", [0, 1])
    kept = run(program, tmp_path / "j", [0, 1])
    broken.unlink()
    again = run(program, tmp_path / "j", [0, 1], on_error="stop")

    assert (kept[0].error.kind, kept[0].error.message, kept[0].resumed) == ("ValueError", "no", True)
    assert [(item.ok, item.resumed) for item in again] == [(True, False), (True, True)]
    assert sorted(calls) == [0, 0, 1]


def test_another_input_is_refused_after_the_items_before_it(model, ask, tmp_path):
    run(ask, tmp_path / "j", questions(3))
    batch = BatchProcessor(ask, journal=tmp_path / "j").run([*questions(1), {"question": "something else"}])

    assert next(batch).resumed
    with pytest.raises(OtherBatchError, match=r"item 1 is not what it was"):
        next(batch)


@pytest.mark.parametrize(
    ("program", "settings", "words"),
    [
        ("question -> answer: int", dict, "other instructions, fields"),
        (dspy.ChainOfThought("question -> answer"), dict, "other program"),
        ("question -> answer", lambda: {"adapter": dspy.JSONAdapter()}, r"other .*adapter \("),
        ("question -> answer", lambda: {"lm": dspy.LM("openai/other")}, "other model"),
    ],
    ids=["fields", "program", "adapter", "model"],
)
def test_another_program_is_refused_and_the_message_says_what_differs(
    model, ask, tmp_path, program, settings, words
):
    run(ask, tmp_path / "j", questions(2))
    other = dspy.Predict(program) if isinstance(program, str) else program

    with dspy.context(**settings()), pytest.raises(OtherBatchError, match=words):
        run(other, tmp_path / "j", questions(2))
    assert model.asked.total() == 2


def test_a_journal_in_use_is_refused(model, ask, tmp_path):
    with BatchProcessor(ask, journal=tmp_path / "j").run(questions(50)) as running:
        next(running)
        with pytest.raises(JournalError, match="another run is using it"):
            BatchProcessor(ask, journal=tmp_path / "j").run(questions(50))


def another_database() -> bytes:
    with closing(sqlite3.connect(":memory:")) as other:
        other.execute("CREATE TABLE customers (name)")
        return other.serialize()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2 + 100],
        lambda whole: whole[:4096] + os.urandom(4096) + whole[8192:],
        lambda _: b"key,value\n" * 500,
        lambda _: another_database(),
    ],
    ids=["cut", "overwritten", "not ours", "another database"],
)
def test_a_damaged_or_foreign_file_is_an_error_and_stays_as_it_is(damage, model, ask, tmp_path):
    path = tmp_path / "j"
    run(ask, path, questions(200))
    path.write_bytes(damage(path.read_bytes()))
    broken = path.read_bytes()

    with pytest.raises(JournalError, match=r"could not be opened: it is (damaged|no journal)"):
        run(ask, path, questions(200))
    assert path.read_bytes() == broken
    assert model.asked.total() == 200


@pytest.mark.parametrize("byte", [b"7", b"\xff"], ids=["another answer", "no text"])
def test_a_row_whose_bytes_have_changed_is_asked_again_and_no_other_answer(byte, model, ask, tmp_path):
    first = run(ask, tmp_path / "j", questions(3))
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole.replace(b"re q1", b"re q" + byte))

    again = run(ask, tmp_path / "j", questions(3))

    assert b"re q1" in whole
    assert [item.result for item in again] == [item.result for item in first]
    assert [item.resumed for item in again] == [True, False, True]
    assert all(item.resumed for item in run(ask, tmp_path / "j", questions(3)))


def test_a_journal_of_an_older_format_is_refused(model, ask, tmp_path):
    run(ask, tmp_path / "j", questions(1))
    with closing(sqlite3.connect(tmp_path / "j", isolation_level=None)) as older:
        older.execute("UPDATE batch SET belongs_to = json_remove(belongs_to, '$.\"format of journal\"')")

    with pytest.raises(OtherBatchError, match=r"other format of journal \(None then, '2' now\)"):
        run(ask, tmp_path / "j", questions(1))


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond `size_bytes`, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_the_batch_clearly_and_loses_only_what_was_under_way(model, ask, tmp_path):
    inputs = [{"question": f"q{n} " + "x" * 2_000} for n in range(150)]
    batch = BatchProcessor(ask, journal=tmp_path / "j", concurrency=4).run(inputs)

    with disk_of(100_000), pytest.raises(JournalError, match=r"written: .*What it holds is kept"):
        list(batch)
    handed_out, asked = batch.totals.done, model.asked.total()
    resumed = run(ask, tmp_path / "j", inputs)
    written = sum(item.resumed for item in resumed)

    assert 0 < handed_out < 150
    assert asked - 4 <= written < asked  # four threads have one item each
    assert all(item.resumed for item in resumed[:handed_out])
    assert model.asked.total() - asked == 150 - written


# -- types ---------------------------------------------------------------------------------------------


class Size(enum.Enum):
    SMALL = "s"


class Letter(enum.StrEnum):
    A = "a"


class Parcel(pydantic.BaseModel):
    town: str = pydantic.Field(alias="place")
    size: Size


@dataclass
class Spot:
    row: int


class Bills(pydantic.RootModel[dict[date, Money]]):
    pass


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    due: date

    @pydantic.computed_field
    @property
    def year(self) -> int:
        return self.due.year


PARCEL = Parcel(place="Leeds", size=Size.SMALL)
KINDS: list[tuple[Any, Any]] = [
    (list[Parcel], [PARCEL]),
    (Size | None, Size.SMALL),
    (dict[str, Spot], {"a": Spot(1)}),
    (tuple[int, date], (1, date(2025, 3, 1))),
    (Bills, Bills({date(2025, 3, 1): Money(amount=Decimal("12.50"), currency="EUR")})),
    (Strict, Strict(due=date(2025, 3, 1))),
    (str, "half \udc80"),
    (float, float("nan")),
    (dspy.Code, dspy.Code(code="x = 1")),
    (Any, {"spans": {(0, 4)}, 1: b"one", "pairs": [(1, 2)]}),
    (Any, [math.nan, math.inf]),
]


class Reads(dspy.Module):
    """Returns a value whose type only its predictor's signature names."""

    def __init__(self, kind, value):
        super().__init__()
        fields = {"letter": (str, dspy.InputField()), "found": (kind, dspy.OutputField())}
        self.read, self.value = dspy.Predict(dspy.Signature(fields)), value

    def forward(self, letter):
        return dspy.Prediction(found=self.value, also=({"$odd": [None, 1.5]}, {(0, 4)}))


def reads(kind, value):
    """Return a function that names the type as its own."""

    def function(letter):
        return value

    function.__annotations__["return"] = kind
    return function


@pytest.mark.parametrize(("kind", "value"), KINDS, ids=lambda part: str(part)[:30])
@pytest.mark.parametrize("make", [Reads, reads])
def test_what_a_signature_or_a_function_names_comes_back_equal(make, kind, value, tmp_path):
    program = make(kind, value)
    first, again = [run(program, tmp_path / "j", [{"letter": "a"}])[0] for _ in range(2)]

    assert again.resumed
    assert repr(again.result) == repr(first.result)  # NaN is not equal to itself


class Opaque:
    pass


def test_a_type_that_cannot_be_read_again_is_refused_before_the_first_call(tmp_path):
    calls = []

    def program(number) -> Opaque:
        calls.append(number)
        return Opaque()

    with pytest.raises(JournalError, match=r"return is a .*Opaque"):
        run(program, tmp_path / "j", [1])
    assert calls == []


class Area(enum.Enum):
    WIDE = (80, 60)


class Secretive(pydantic.BaseModel):
    town: str
    key: str = pydantic.Field("none", exclude=True)


class Open(pydantic.BaseModel, extra="allow"):
    town: str


class Larger(Open):
    size: int


class Odd:
    def __repr__(self):
        raise RuntimeError("no words")


LOST = [
    (None, PARCEL),
    (None, Letter.A),
    (None, [Letter.A]),
    (None, Counter("aab")),
    (None, Odd()),
    (Area, Area.WIDE),
    (Secretive, Secretive(town="Leeds", key="k")),
    (Open, Open(town="Leeds", spot=(1, 2))),
    (Open, Larger(town="Leeds", size=1)),
]


@pytest.mark.parametrize(("kind", "result"), LOST, ids=lambda part: type(part).__name__)
def test_a_result_that_cannot_be_kept_is_handed_over_as_an_error_and_asked_again(kind, result, tmp_path):
    calls = []

    def program(number):
        calls.append(number)
        return result

    program.__annotations__ |= {"return": kind} if kind else {}
    for _ in range(2):
        items = run(program, tmp_path / "j", [0])
        assert [(item.error.kind, item.result is result) for item in items] == [("JournalError", True)]
    with pytest.raises(BatchStoppedError, match="item 0 failed with JournalError") as stopped:
        run(program, tmp_path / "j", [0], on_error="stop")

    assert stopped.value.item.result is result
    assert calls == [0, 0, 0]


def takes(*args, **kwargs):
    return len(args)


def test_inputs_are_recognised_again_and_what_cannot_be_is_an_error(tmp_path):
    inputs = [(PARCEL, {"b", "a", "c"}, "half \udc80"), dspy.Example(parcel=[PARCEL]).with_inputs("parcel")]
    first, again = (run(takes, tmp_path / "j", inputs) for _ in range(2))

    assert [item.resumed for item in first + again] == [False, False, True, True]
    with pytest.raises(JournalError, match="cannot be recognised again"):
        run(str, tmp_path / "other", [object()])


def test_a_type_that_has_changed_is_an_error(tmp_path):
    run(reads(Parcel, PARCEL), tmp_path / "j", ["Leeds"])

    with pytest.raises(JournalError, match=r"item 0 .* not what the program's types take today"):
        run(reads(Spot, PARCEL), tmp_path / "j", ["Leeds"])
