from __future__ import annotations

import asyncio
import codecs
import itertools
import signal
import threading
import time
from concurrent.futures import CancelledError

import dspy
import pytest
from pydantic import ValidationError

from course_lib import lm
from course_lib.caching import BatchProcessor
from course_lib.caching.batch import BatchError, BatchStoppedError, InputError
from tests.caching.batch.conftest import questions


def test_results_come_in_the_order_of_the_input_and_no_more_run_than_may():
    running, most = threading.Semaphore(8), []

    def program(number):
        most.append(running.acquire(blocking=False))
        time.sleep(0.02 * (number % 3 == 0))
        running.release()
        return number * 2

    items = list(BatchProcessor(program, concurrency=8).run(range(30)))

    assert [(item.index, item.inputs, item.result) for item in items] == [(n, n, 2 * n) for n in range(30)]
    assert most == [True] * 30


def test_an_endless_input_is_read_no_further_than_the_window():
    read = itertools.count()

    with BatchProcessor(str, concurrency=4).run(read) as run:
        first = list(itertools.islice(run, 10))

    assert [item.index for item in first] == list(range(10))
    assert next(read) <= 10 + 4 * 4 + 1


def test_a_slow_item_holds_up_no_other_in_the_window():
    others = threading.Semaphore(0)

    def program(number):
        if number == 0:
            return all(others.acquire(timeout=30) for _ in range(15))
        others.release()
        return True

    assert all(item.result for item in BatchProcessor(program, concurrency=4).run(range(16)))


def test_a_slow_input_does_not_hold_a_result_back_until_the_window_is_full():
    has_result = threading.Event()

    def feed():
        yield 0
        while not has_result.is_set():
            time.sleep(0.01)
            yield 1

    with BatchProcessor(str, concurrency=10**6).run(feed()) as run:
        assert next(run).result == "0"
        has_result.set()


def test_a_failed_item_is_a_value_with_its_place_and_the_class_of_its_error(model, ask):
    items = list(BatchProcessor(ask).run([*questions(2), {"question": "bad"}, *questions(1)]))

    assert [item.ok for item in items] == [True, True, False, True]
    assert (items[2].index, items[2].error.kind) == (2, "AdapterParseError")
    assert items[2].error.exception is not None
    assert items[2].usage.calls == 2  # the second is the adapter's own attempt in JSON


class MuteError(Exception):
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize("error", [CancelledError(), asyncio.CancelledError(), MuteError()], ids=type)
def test_no_error_of_a_program_ends_a_batch_that_keeps_errors(error, tmp_path):
    def program(number):
        if number == 1:
            raise error

    items = list(BatchProcessor(program, journal=tmp_path / "j").run(range(3)))

    assert [item.error and item.error.kind for item in items] == [None, type(error).__name__, None]


def test_a_program_that_asks_the_process_to_end_ends_the_batch():
    with pytest.raises(SystemExit):
        list(BatchProcessor(lambda number: exit(number)).run([3]))


def test_stopping_at_a_failure_says_which_and_loses_nothing(model, ask, tmp_path):
    inputs = [*questions(3), {"question": "bad"}, *questions(30)]

    with pytest.raises(BatchStoppedError, match=r"item 3 .*AdapterParseError") as stopped:
        list(BatchProcessor(ask, journal=tmp_path / "j", concurrency=2, on_error="stop").run(inputs))
    asked = model.asked.total()
    resumed = BatchProcessor(ask, journal=tmp_path / "j").run(inputs)
    items = list(resumed)

    assert stopped.value.item.index == 3
    assert [item.index for item in items] == list(range(34))
    assert resumed.totals.resumed >= 2  # one that was taken from the queue may not have begun
    assert not items[3].resumed  # the failed one is tried again
    assert model.asked.total() - asked == 34 - resumed.totals.resumed + 1  # and fails with two calls


def test_an_item_past_its_deadline_has_failed_and_its_late_answer_is_dropped(tmp_path):
    free, ended = threading.Event(), threading.Event()

    def program(number):
        if number == 1:
            free.wait(30)
            ended.set()
        return number

    batch = BatchProcessor(program, journal=tmp_path / "j", concurrency=2, deadline_s=1.0)
    items = list(batch.run(range(3)))
    free.set()
    ended.wait(30)
    again = list(batch.run(range(3)))

    assert [item.error and item.error.kind for item in items] == [None, "DeadlineExceeded", None]
    assert [(item.resumed, item.ok) for item in again] == [(True, True), (True, False), (True, True)]


def test_settings_of_the_caller_reach_the_items():
    with dspy.context(my_scope="tenant A"):
        run = BatchProcessor(lambda number: (dspy.settings.my_scope, number)).run([1, 2])

    assert [item.result for item in run] == [("tenant A", 1), ("tenant A", 2)]


LINES = {"half": b'{"name": \n', "list": b"[1]\n", "Latin-1": '{"name": "é"}\n'.encode("latin-1")}


@pytest.mark.parametrize("start", [b"", codecs.BOM_UTF8], ids=["plain", "BOM"])
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_file_is_an_input_and_a_line_that_cannot_be_read_is_named_after_the_items_before_it(
    line, start, tmp_path
):
    path = tmp_path / "in.jsonl"
    path.write_bytes(start + b'{"name": "caf\xc3\xa9"}\r\n\n' + line)
    run = BatchProcessor(lambda name: name).run(path)

    assert next(run).result == "café"
    with pytest.raises(InputError, match=r"line 3 of .*in\.jsonl .*UTF-8"):
        next(run)


def test_leaving_the_loop_early_leaves_nothing_running_and_keeps_what_was_paid(model, ask, tmp_path):
    batch = BatchProcessor(ask, journal=tmp_path / "j", concurrency=4)
    with batch.run(questions(100)) as run:
        next(run)
    asked = set(model.asked)
    again = list(batch.run(questions(100)))

    assert {item.inputs["question"] for item in again if item.resumed} == asked
    assert model.asked.total() == 100


@pytest.fixture
def ctrl_c():
    """Press Ctrl-C; the handler is set because tests in the background ignore it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    signal.signal(signal.SIGINT, former)


def test_ctrl_c_ends_the_batch_and_keeps_what_was_paid_for(ctrl_c, tmp_path):
    calls = []

    def program(number):
        calls.append(number)
        if number == 5 and calls.count(5) == 1:
            ctrl_c()
        return number

    batch = BatchProcessor(program, journal=tmp_path / "j", concurrency=2)
    with pytest.raises(KeyboardInterrupt), batch.run(itertools.count()) as run:
        list(run)
    made = len(calls)
    assert len(list(batch.run(range(max(calls) + 1)))) == max(calls) + 1

    assert 5 in calls
    # Python may interrupt between the end of a call and its line in the journal: then it is asked again, in
    # each of two threads.
    assert made - 2 <= len(set(calls[:made]) - set(calls[made:]))


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"on_error": "ignore"}, {"deadline_s": 0}], ids=str)
def test_an_option_that_cannot_work_is_refused_by_its_name(wrong):
    with pytest.raises(ValidationError, match="|".join(wrong)):
        BatchProcessor(len, **wrong)


class OnlyAsync(dspy.Module):
    async def aforward(self):
        return dspy.Prediction()


@pytest.mark.parametrize("program", [OnlyAsync().aforward, OnlyAsync()], ids=["function", "module"])
def test_an_async_program_is_refused_with_what_to_do_and_so_is_a_text(program):
    with pytest.raises(BatchError, match="syncify"):
        BatchProcessor(program)
    with pytest.raises(BatchError, match="Path"):
        BatchProcessor(len).run("in.jsonl")


# -- what it used --------------------------------------------------------------------------------------


def test_totals_are_the_sum_of_the_items_and_reach_a_tracker_of_the_caller(model, ask):
    with dspy.context(track_usage=True), dspy.track_usage() as tracker:
        run = BatchProcessor(ask).run(questions(20))
        items = list(run)

    assert run.totals.usage.calls == model.asked.total() == 20
    assert run.totals.usage.cost_usd == pytest.approx(sum(item.usage.cost_usd for item in items))
    assert str(run.totals) == "20 items, 0 failed, 0 from the journal; 20 calls, 2,200 tokens, 0.0070 USD"
    assert tracker.get_total_tokens()["course/sim-large"]["total_tokens"] == 2200
    assert items[1].result.get_lm_usage()["course/sim-large"]["total_tokens"] == 110


def test_a_cached_answer_costs_its_item_nothing_and_no_history_is_kept(ask):
    cached = lm.connect("sim-small", cache=True)
    with dspy.context(lm=cached):
        calls = [item.usage.calls for _ in range(2) for item in BatchProcessor(ask).run(questions(3))]

    assert calls == [1, 1, 1, 0, 0, 0]
    assert cached.history == []


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("sim-large@sloppy", questions(30)),
        ("sim-large", [{"question": "word " * 3_000 + str(number)} for number in range(3)]),
    ],
    ids=["a bad day", "prompts cached by the provider"],
)
def test_usage_equals_the_endpoint_s_ledger(name, inputs, ask):
    lm.reset()
    with dspy.context(lm=lm.connect(name, cache=False)):
        run = BatchProcessor(ask, concurrency=8).run(inputs)
        list(run)
    bill, used = lm.ledger(), run.totals.usage

    assert used.calls == bill.requests
    assert (used.prompt_tokens, used.completion_tokens) == (bill.prompt_tokens, bill.completion_tokens)
    assert used.cost_usd == pytest.approx(bill.cost_usd)


# -- the bar -------------------------------------------------------------------------------------------


def halves(number):
    pairs = [(abs, (number,)), (abs, (number,))]
    return 1 / sum(dspy.Parallel(num_threads=1, disable_progress_bar=True)(pairs))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_bar_shows_items_and_failures_where_somebody_looks(is_terminal, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    monkeypatch.setattr("tqdm.auto.tqdm.monitor_interval", 0)  # no thread of tqdm's own

    list(BatchProcessor(halves, concurrency=1).run([1, -2, 0]))
    shown = capsys.readouterr().err

    assert ("3/3" in shown, "0.0000 USD, 1 failed" in shown) == (is_terminal, is_terminal)
    assert is_terminal or shown == ""
