from __future__ import annotations

import enum
import json
import os
import resource
import sqlite3
from typing import Literal

import dspy
import pydantic
import pytest

from course_lib.caching import BatchProcessor
from course_lib.caching.batch.errors import JournalError, OtherBatchError, OutputError, UnkeepableError
from tests.caching.batch.test_processor import questions


def run(ask, journal, inputs, **options):
    batch = BatchProcessor(ask, journal=journal, **options)
    return list(batch.run(inputs))


def run_into(got, batch):
    for item in batch:
        got.append(item)


def test_a_second_run_pays_for_nothing_and_gives_the_same(model, ask, tmp_path):
    first = run(ask, tmp_path / "j", questions(10))
    again = run(ask, tmp_path / "j", questions(10))

    assert model.asked.total() == 10
    assert [item.result for item in again] == [item.result for item in first]
    assert [item.usage for item in again] == [item.usage for item in first]
    assert all(item.resumed for item in again)


def test_a_longer_input_pays_for_the_rest(model, ask, tmp_path):
    run(ask, tmp_path / "j", questions(3))
    items = run(ask, tmp_path / "j", questions(5))

    assert [item.resumed for item in items] == [True, True, True, False, False]


def test_failures_are_kept_and_tried_again_on_request(model, ask, tmp_path):
    inputs = [{"question": "bad"}, *questions(1)]
    run(ask, tmp_path / "j", inputs)
    kept = run(ask, tmp_path / "j", inputs)
    asked = model.asked.total()
    again = run(ask, tmp_path / "j", inputs, retry_failed=True)

    assert (kept[0].error.kind, kept[0].resumed) == ("AdapterParseError", True)
    assert [item.resumed for item in again] == [False, True]
    assert model.asked.total() == asked + 2  # a failing item takes two calls


def test_another_input_is_refused(model, ask, tmp_path):
    run(ask, tmp_path / "j", questions(3))

    with pytest.raises(OtherBatchError, match=r"item 1 \(key '1'\) is not what it was"):
        run(ask, tmp_path / "j", [*questions(1), {"question": "something else"}])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: (dspy.Predict("question -> answer: int"), {}), "other instructions, fields or demos"),
        (lambda: (dspy.ChainOfThought("question -> answer"), {}), "another program"),
        (lambda: (dspy.Predict("question -> answer"), {"adapter": dspy.JSONAdapter()}), "another adapter"),
        (lambda: (dspy.Predict("question -> answer"), {"lm": dspy.LM("openai/other")}), "another model"),
    ],
    ids=["fields", "program", "adapter", "model"],
)
def test_another_program_is_refused_and_the_message_says_what_differs(model, ask, tmp_path, change, words):
    run(ask, tmp_path / "j", questions(2))
    program, settings = change()

    with dspy.context(**settings), pytest.raises(OtherBatchError, match=words):
        run(program, tmp_path / "j", questions(2))
    assert model.asked.total() == 2


def test_a_version_stands_for_the_program_whatever_its_model(model, ask, tmp_path):
    run(ask, tmp_path / "j", questions(2), version="1")

    with dspy.context(lm=dspy.LM("openai/other")):
        assert all(item.resumed for item in run(ask, tmp_path / "j", questions(2), version="1"))
    with pytest.raises(OtherBatchError, match="another version"):
        run(ask, tmp_path / "j", questions(2), version="2")


def test_with_keys_the_input_may_grow_in_front(model, ask, tmp_path):
    def by_question(item):
        return item["question"]

    list(BatchProcessor(ask, journal=tmp_path / "j").run(questions(3), key=by_question))
    more = [{"question": "new"}, *questions(3)]
    items = list(BatchProcessor(ask, journal=tmp_path / "j").run(more, key=by_question))

    assert [(item.index, item.key, item.resumed) for item in items] == [
        (0, "new", False),
        (1, "q0", True),
        (2, "q1", True),
        (3, "q2", True),
    ]


def test_a_journal_in_use_is_refused(model, ask, tmp_path):
    with BatchProcessor(ask, journal=tmp_path / "j").run(questions(50)) as running:
        next(running)
        with pytest.raises(JournalError, match="another run is using it"):
            BatchProcessor(ask, journal=tmp_path / "j").run(questions(50))


def test_a_row_that_changed_on_the_disk_is_run_again_and_said(model, ask, tmp_path):
    run(ask, tmp_path / "j", questions(3))
    with sqlite3.connect(tmp_path / "j") as connection:
        connection.execute("UPDATE items SET value = replace(value, 're q1', 'gotcha') WHERE key = '1'")
    connection.close()

    batch = BatchProcessor(ask, journal=tmp_path / "j").run(questions(3))
    items = list(batch)

    assert [item.result.answer for item in items] == ["re q0", "re q1", "re q2"]
    assert [item.resumed for item in items] == [True, False, True]
    assert batch.notes == ["1 damaged rows of the journal: these items were run again"]


@pytest.mark.parametrize("damage", ["cut", "overwritten", "not ours"])
def test_a_damaged_file_is_an_error_and_stays_as_it_is(model, ask, tmp_path, damage):
    path = tmp_path / "j"
    run(ask, path, questions(200))
    whole = path.read_bytes()
    broken = {
        "cut": whole[: len(whole) // 2 + 100],
        "overwritten": whole[:4096] + os.urandom(4096) + whole[8192:],
        "not ours": b"key,value\n" * 500,
    }[damage]
    path.write_bytes(broken)

    with pytest.raises(JournalError, match=r"damaged|could not be opened"):
        run(ask, path, questions(200))
    assert path.read_bytes() == broken
    assert model.asked.total() == 200


def test_a_file_that_cannot_be_made_is_an_error(ask, model, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(JournalError, match="cannot be made"):
        run(ask, tmp_path / "file" / "j", questions(1))


def test_a_full_disk_ends_the_batch_with_a_clear_error_and_keeps_what_was_written(model, ask, tmp_path):
    """The limit on a file's size stands for a full disk."""
    inputs = [{"question": f"q{n} " + "x" * 2_000} for n in range(300)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    got = []

    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(JournalError, match=r"could not be written: .*What it holds is kept") as full:
            run_into(got, BatchProcessor(ask, journal=tmp_path / "j", concurrency=4).run(inputs))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    asked = model.asked.total()
    resumed = run(ask, tmp_path / "j", inputs)

    assert 0 < len(got) < 300
    assert full.value.unsaved
    assert all(item.resumed for item in resumed[: len(got)])
    assert model.asked.total() - asked == 300 - sum(item.resumed for item in resumed)
    assert max(model.asked.values()) <= 2


class Size(enum.Enum):
    SMALL = "s"


class Parcel(pydantic.BaseModel):
    town: str
    size: Size


def test_types_that_the_signature_names_come_back_as_they_were(tmp_path):
    class Read(dspy.Signature):
        letter: str = dspy.InputField()
        parcels: list[Parcel] = dspy.OutputField()
        size: Size | None = dspy.OutputField()
        kind: Literal["a", "b"] = dspy.OutputField()

    class Program(dspy.Module):
        def __init__(self):
            super().__init__()
            self.read = dspy.Predict(Read)

        def forward(self, letter):
            parcels = [Parcel(town=letter, size=Size.SMALL)]
            return dspy.Prediction(parcels=parcels, size=Size.SMALL, kind="a", pair=(1, {"$odd": [None]}))

    first = run(Program(), tmp_path / "j", [{"letter": "Leeds"}])
    again = run(Program(), tmp_path / "j", [{"letter": "Leeds"}])

    assert again[0].resumed
    assert again[0].result == first[0].result
    assert isinstance(again[0].result.parcels[0], Parcel)


def test_a_result_that_cannot_be_kept_ends_the_batch_and_hands_it_over(tmp_path):
    with pytest.raises(UnkeepableError, match=r"types=\(Thing,\)") as error:
        run(lambda number: Parcel(town=str(number), size=Size.SMALL), tmp_path / "j", [1], version="1")

    assert error.value.unsaved[0].result.town == "1"


def test_an_input_that_cannot_be_recognised_again_is_an_error(tmp_path):
    with pytest.raises(UnkeepableError, match="cannot be recognised again"):
        run(str, tmp_path / "j", [object()])


def test_the_output_has_each_line_once_over_several_runs_and_a_torn_one_is_cut(model, ask, tmp_path):
    options = {"journal": tmp_path / "j", "output": tmp_path / "out.jsonl"}
    with BatchProcessor(ask, **options).run(questions(20)) as batch:
        for _ in range(7):
            next(batch)
    with (tmp_path / "out.jsonl").open("a") as file:
        file.write('{"index": 7, "ke')

    batch = BatchProcessor(ask, **options).run(questions(20))
    list(batch)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    assert [line["index"] for line in lines] == list(range(20))
    assert lines[3] == {"index": 3, "key": "3", "result": {"answer": "re q3"}}
    assert batch.notes == ["the output ended in half a line (16 bytes); it was cut off"]
    assert model.asked.total() == 20


def test_the_output_of_another_batch_is_refused(model, ask, tmp_path):
    (tmp_path / "out.jsonl").write_text('{"index": 0, "key": "other"}\n')

    with pytest.raises(OutputError, match=r"line 1 .* is of 'other'"):
        run(ask, tmp_path / "j", questions(2), output=tmp_path / "out.jsonl")


def test_the_error_that_ends_a_batch_is_the_one_that_is_raised_whatever_was_waiting(model, ask, tmp_path):
    model.wait_s = {f"q{n}": 0.05 for n in range(20)}
    run(ask, tmp_path / "j", questions(12)[:1], version="1")
    changed = [*questions(20), {"question": "x"}]
    with sqlite3.connect(tmp_path / "j") as connection:  # item 19 was another one, once
        connection.execute("UPDATE items SET key = '19', place = 19")
        connection.execute("UPDATE items SET mac = ?", (_mac_of(connection),))
    connection.close()

    with pytest.raises(OtherBatchError, match="item 19"):
        run(ask, tmp_path / "j", changed, concurrency=2, version="1")


def _mac_of(connection):
    from course_lib.caching.batch.journal import _mac

    return _mac(*connection.execute("SELECT key, input, ok, value, cost FROM items").fetchone())


def test_a_full_disk_under_the_output_keeps_the_journal_and_the_next_run_mends_the_file(model, ask, tmp_path):
    inputs = [{"question": f"q{n} " + "x" * 2_000} for n in range(60)]
    options = {"journal": tmp_path / "j", "output": tmp_path / "out.jsonl"}
    run(ask, tmp_path / "j", inputs)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(OutputError, match=r"could not be written to .* make room"):
            list(BatchProcessor(ask, **options).run(inputs))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    torn = (tmp_path / "out.jsonl").read_bytes()
    list(BatchProcessor(ask, **options).run(inputs))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    assert len(torn) == 60_000
    assert [line["index"] for line in lines] == list(range(60))
    assert model.asked.total() == 60


def test_text_that_is_no_unicode_is_kept_and_written_all_the_same(tmp_path):
    def broken(text):
        if text == "error":
            raise ValueError("no \udc80")
        return f"{text} \udc80"

    options = {"journal": tmp_path / "j", "output": tmp_path / "out.jsonl", "version": "1"}
    first = list(BatchProcessor(broken, **options).run(["half \udc80", "error"]))
    again = list(BatchProcessor(broken, **options).run(["half \udc80", "error"]))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    assert [item.result for item in again] == [item.result for item in first] == ["half \udc80 \udc80", None]
    assert again[1].error.message == "no \udc80"
    assert lines[0]["result"] == "half \udc80 \udc80"


def test_a_result_that_holds_itself_ends_the_batch(tmp_path):
    def loop(number):
        found = [number]
        found.append(found)
        return found

    with pytest.raises(UnkeepableError, match="JSON cannot hold"):
        run(loop, tmp_path / "j", [1], version="1")


def test_a_key_that_is_no_unicode_is_an_error(tmp_path):
    with pytest.raises(JournalError, match="could not be"):
        list(BatchProcessor(str, journal=tmp_path / "j", version="1").run(["\udc80"], key=str))


def test_a_type_that_has_changed_is_an_error(tmp_path):
    def parcel(town):
        return Parcel(town=town, size=Size.SMALL)

    class Changed(pydantic.BaseModel):
        town: int
        size: Size

    Changed.__module__, Changed.__qualname__ = Parcel.__module__, Parcel.__qualname__
    run(parcel, tmp_path / "j", ["Leeds"], version="1", types=(Parcel,))

    with pytest.raises(
        JournalError, match=r"item 0 \(key '0'\) .* is not what the program's types take today"
    ):
        run(parcel, tmp_path / "j", ["Leeds"], version="1", types=(Changed,))
