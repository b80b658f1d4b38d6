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

from course_lib import lm
from course_lib.caching import BatchProcessor
from course_lib.caching.batch import BatchStoppedError, InputError
from tests.caching.batch.conftest import questions


def test_results_come_in_the_order_of_the_input(model, ask):
    model.wait_s = {f"q{n}": 0.03 * (n % 3 == 0) for n in range(30)}

    items = list(BatchProcessor(ask, concurrency=8).run(questions(30)))

    assert [item.index for item in items] == list(range(30))
    assert [item.result.answer for item in items] == [f"re q{n}" for n in range(30)]
    assert [item.inputs for item in items] == questions(30)
    assert model.most_at_once <= 8
    assert set(model.asked.values()) == {1}


def test_an_endless_input_is_read_no_further_than_the_window(model, ask):
    read = itertools.count()

    with BatchProcessor(ask, concurrency=4).run({"question": f"q{n}"} for n in read) as run:
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

    items = list(BatchProcessor(program, concurrency=4).run(range(16)))

    assert all(item.result for item in items)


def test_a_slow_input_does_not_hold_a_result_back_until_the_window_is_full():
    read = []

    def feed():
        for number in itertools.count():
            read.append(number)
            yield number
            time.sleep(0.02)

    with BatchProcessor(str, concurrency=100).run(feed()) as run:
        assert next(run).result == "0"

    assert len(read) < 400


def test_a_failed_item_is_a_value_with_its_place_and_the_class_of_its_error(model, ask):
    items = list(BatchProcessor(ask).run([*questions(2), {"question": "bad"}, *questions(1)]))

    assert [item.ok for item in items] == [True, True, False, True]
    assert (items[2].index, items[2].key, items[2].error.kind) == (2, "2", "AdapterParseError")
    assert items[2].error.exception is not None
    assert items[2].usage.calls == 2  # the second is the adapter's own attempt in JSON
    assert (items[0].usage.prompt_tokens, items[0].usage.completion_tokens) == (100, 10)
    assert items[0].usage.cost_usd == pytest.approx(100 * 2.5e-6 + 10 * 10e-6)


class MuteError(Exception):
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize(
    "error", [CancelledError(), asyncio.CancelledError(), MuteError()], ids=lambda e: repr(e)[:30]
)
def test_no_error_of_a_program_ends_a_batch_that_keeps_errors(error, tmp_path):
    def program(number):
        if number == 1:
            raise error
        return number

    items = list(BatchProcessor(program, journal=tmp_path / "j").run(range(3)))

    assert [item.ok for item in items] == [True, False, True]
    assert items[1].error.kind == type(error).__name__


def test_a_program_that_asks_the_process_to_end_ends_the_batch():
    with pytest.raises(SystemExit):
        list(BatchProcessor(lambda number: exit(number)).run([3]))


def test_stopping_at_a_failure_says_which_and_loses_nothing(model, ask, tmp_path):
    stops = BatchProcessor(ask, journal=tmp_path / "j", concurrency=2, on_error="stop")
    inputs = [*questions(3), {"question": "bad"}, *questions(30)]

    with pytest.raises(BatchStoppedError, match=r"item 3 .*AdapterParseError") as stopped:
        list(stops.run(inputs))
    asked = model.asked.total()
    resumed = BatchProcessor(ask, journal=tmp_path / "j").run(inputs)
    items = list(resumed)

    assert stopped.value.item.index == 3
    assert [item.index for item in items] == list(range(34))
    assert resumed.totals.resumed >= 3
    assert not items[3].resumed  # the failed one is tried again
    assert model.asked.total() - asked == 34 - resumed.totals.resumed + 1  # and fails with two calls


def test_an_item_past_its_deadline_has_failed_and_its_late_answer_is_dropped(tmp_path):
    free, ended = threading.Event(), threading.Event()

    def program(number):
        if number == 1:
            free.wait(30)
            ended.set()
        return number

    batch = BatchProcessor(program, journal=tmp_path / "j", concurrency=2, deadline_s=0.3)
    items = list(batch.run(range(3)))
    free.set()
    ended.wait(30)
    again = list(batch.run(range(3)))

    assert [item.error.kind if item.error else None for item in items] == [None, "DeadlineExceeded", None]
    assert [(item.resumed, item.ok) for item in again] == [(True, True), (True, False), (True, True)]


def test_settings_of_the_caller_reach_the_items():
    with dspy.context(my_scope="tenant A"):
        run = BatchProcessor(lambda number: (dspy.settings.my_scope, number)).run([1, 2])

    assert [item.result for item in run] == [("tenant A", 1), ("tenant A", 2)]


@pytest.mark.parametrize("start", [b"", codecs.BOM_UTF8], ids=["plain", "BOM"])
def test_a_file_of_json_lines_is_an_input(start, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(start + b'{"name": "caf\xc3\xa9"}\r\n\n{"name": "b"}')

    assert [item.result for item in BatchProcessor(lambda name: name).run(path)] == ["café", "b"]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (b'{"name": \n', "is not JSON"),
        (b"[1]\n", "is an object"),
        ("{'é'}\n".encode("latin-1"), "is not UTF-8"),
    ],
    ids=["half", "list", "Latin-1"],
)
def test_a_line_that_cannot_be_read_is_named_after_the_items_before_it(second, words, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"name": "a"}\n' + second)
    run = BatchProcessor(lambda name: name).run(path)

    assert next(run).result == "a"
    with pytest.raises(InputError, match=rf"line 2 of .*in\.jsonl.* {words}"):
        next(run)


def test_leaving_the_loop_early_leaves_nothing_running_and_keeps_what_was_paid(model, ask, tmp_path):
    with BatchProcessor(ask, journal=tmp_path / "j", concurrency=4).run(questions(100)) as run:
        next(run)
    asked = model.asked.total()
    resumed = BatchProcessor(ask, journal=tmp_path / "j").run(questions(100)[:asked])
    list(resumed)

    assert model.at_once == 0
    assert resumed.totals.resumed == asked == model.asked.total()


@pytest.fixture
def ctrl_c():
    """Press Ctrl-C; the handler is set because tests in the background ignore it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    signal.signal(signal.SIGINT, former)


def test_ctrl_c_ends_the_batch_and_what_was_running_is_kept(ctrl_c, tmp_path):
    calls = []

    def program(number):
        calls.append(number)
        if number == 5:
            ctrl_c()
        return number

    batch = BatchProcessor(program, journal=tmp_path / "j", concurrency=2, version="1")
    with pytest.raises(KeyboardInterrupt), batch.run(itertools.count()) as run:
        list(run)
    paid = sorted(calls)

    assert [item.resumed for item in batch.run(paid)] == [True] * len(paid)
    assert sorted(calls) == paid == list(range(len(paid)))


@pytest.mark.parametrize("has_journal", [True, False])
def test_two_items_with_one_key_are_an_error_and_nothing_behind_them_is_run(has_journal, tmp_path):
    free, calls = threading.Event(), []

    def feed():
        try:
            yield from ["a", "a", "b"]
        finally:
            free.set()

    def program(name):
        calls.append(name)
        return free.wait(30)

    batch = BatchProcessor(program, journal=tmp_path / "j" if has_journal else None)
    with pytest.raises(InputError, match="items 0 and 1 have the same key 'a'"):
        list(batch.run(feed(), key=str))

    assert calls == ["a"]


def test_a_key_that_was_done_long_before_is_an_error_too(tmp_path):
    batch = BatchProcessor(str, journal=tmp_path / "j", concurrency=1)

    with pytest.raises(InputError, match="items 0 and 40 have the same key '0'"):
        list(batch.run([*range(40), 0], key=str))


async def later(number):
    return number


class OnlyAsync(dspy.Module):
    async def aforward(self):
        return dspy.Prediction()


@pytest.mark.parametrize(
    ("program", "options", "words"),
    [
        (len, {"concurrency": 0}, "concurrency 0"),
        (len, {"on_error": "ignore"}, "on_error 'ignore'"),
        (len, {"deadline_s": 0}, "deadline_s 0"),
        (7, {}, "cannot be called"),
        (later, {}, "syncify"),
        (OnlyAsync(), {}, "syncify"),
    ],
    ids=["concurrency", "on_error", "deadline", "no function", "async function", "async module"],
)
def test_what_cannot_work_is_refused(program, options, words):
    with pytest.raises(InputError, match=words):
        BatchProcessor(program, **options)


@pytest.mark.parametrize("items", ["a text", 7], ids=str)
def test_what_is_no_input_is_refused(items, tmp_path):
    with pytest.raises(InputError, match="is no input"):
        BatchProcessor(len, journal=tmp_path / "j").run(items)


# -- what it used --------------------------------------------------------------------------------------


def test_totals_are_the_sum_of_the_items_and_reach_a_tracker_of_the_caller(model, ask):
    with dspy.track_usage() as tracker:
        run = BatchProcessor(ask).run(questions(20))
        costs = sum(item.usage.cost_usd for item in run)

    assert run.totals.usage.calls == model.asked.total() == 20
    assert run.totals.usage.cost_usd == pytest.approx(costs)
    assert str(run.totals) == "20 items, 0 failed, 0 from the journal; 20 calls, 2,200 tokens, 0.0070 USD"
    assert tracker.get_total_tokens()["course/sim-large"]["total_tokens"] == 2200


def test_usage_inside_dspy_parallel_counts_for_the_item_that_uses_it(model, ask):
    def both(question):
        pairs = [(ask, {"question": question + half}) for half in ("a", "b")]
        return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)

    # One at a time: two dspy.Parallel at once may raise KeyError (each empties tqdm's list of bars).
    items = list(BatchProcessor(both, concurrency=1).run(questions(3)))

    assert [item.usage.calls for item in items] == [2, 2, 2]


def test_a_prediction_knows_its_usage_where_dspy_tracks_usage(model, ask):
    with dspy.context(track_usage=True):
        items = list(BatchProcessor(ask).run(questions(2)))

    assert items[1].result.get_lm_usage()["course/sim-large"]["total_tokens"] == 110


def test_a_cached_answer_costs_its_item_nothing_and_no_history_is_kept(ask):
    cached = lm.connect("sim-small", cache=True)
    with dspy.context(lm=cached):
        first = list(BatchProcessor(ask).run(questions(3)))
        again = list(BatchProcessor(ask).run(questions(3)))

    assert [item.usage.calls for item in first] == [1, 1, 1]
    assert [item.usage.calls for item in again] == [0, 0, 0]
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
    with dspy.context(lm=lm.connect(name, cache=False)):
        before = lm.ledger()
        run = BatchProcessor(ask, concurrency=8).run(inputs)
        list(run)
        after = lm.ledger()

    assert run.totals.usage.calls == after.requests - before.requests
    assert run.totals.usage.tokens == sum(
        getattr(after, kind) - getattr(before, kind) for kind in ("prompt_tokens", "completion_tokens")
    )
    assert run.totals.usage.cost_usd == pytest.approx(after.cost_usd - before.cost_usd)


# -- the bar -------------------------------------------------------------------------------------------


def test_nothing_is_shown_where_nobody_looks(capsys):
    list(BatchProcessor(str).run([1, 2, 3]))

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("items", "words"), [([1, -2, 0], "3/3"), ((n for n in (1, -2, 0)), "3item [")], ids=["list", "generator"]
)
def test_the_bar_shows_items_and_failures_also_of_programs_that_use_dspy_parallel(
    items, words, monkeypatch, capsys
):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("tqdm.auto.tqdm.monitor_interval", 0)  # no thread of tqdm's own

    def program(number):
        doubled = dspy.Parallel(num_threads=1, disable_progress_bar=True)(
            [(abs, (number,)), (abs, (number,))]
        )
        return 1 / sum(doubled)

    list(BatchProcessor(program, concurrency=1).run(items))
    shown = capsys.readouterr().err

    assert words in shown
    assert "0.0000 USD, 1 failed" in shown
