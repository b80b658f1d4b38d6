from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from pathlib import Path

import dspy
import pytest

from course_lib.caching import BatchProcessor
from course_lib.caching.batch.errors import BatchStoppedError, DuplicateKeyError, InputError

WAYS = pytest.mark.parametrize("way", ["threads", "tasks"])


def questions(count: int):
    return [{"question": f"q{n}"} for n in range(count)]


@WAYS
def test_results_come_in_the_order_of_the_input(model, ask, way):
    model.wait_s = {f"q{n}": 0.03 * (n % 3 == 0) for n in range(30)}

    items = list(BatchProcessor(ask, concurrency=8, run_in=way).run(questions(30)))

    assert [item.index for item in items] == list(range(30))
    assert [item.result.answer for item in items] == [f"re q{n}" for n in range(30)]
    assert [item.inputs for item in items] == questions(30)
    assert model.most_at_once <= 8
    assert set(model.asked.values()) == {1}


@WAYS
def test_an_endless_input_is_read_no_further_than_the_window(model, ask, way):
    read = itertools.count()

    with BatchProcessor(ask, concurrency=4, run_in=way).run({"question": f"q{n}"} for n in read) as run:
        first = list(itertools.islice(run, 10))

    assert [item.index for item in first] == list(range(10))
    assert next(read) <= 10 + 4 * 4 + 1


@WAYS
def test_a_failed_item_is_a_value_with_its_place_and_the_class_of_its_error(model, ask, way):
    items = list(BatchProcessor(ask, run_in=way).run([*questions(2), {"question": "bad"}, *questions(1)]))

    assert [item.ok for item in items] == [True, True, False, True]
    assert (items[2].index, items[2].key, items[2].error.kind) == (2, "2", "AdapterParseError")
    assert items[2].error.exception is not None
    assert items[2].usage.calls == 2  # the second is the adapter's own attempt in JSON
    assert (items[0].usage.prompt_tokens, items[0].usage.completion_tokens) == (100, 10)
    assert items[0].usage.cost_usd == pytest.approx(100 * 2.5e-6 + 10 * 10e-6)


@WAYS
def test_stopping_at_a_failure_says_which_and_loses_nothing(model, ask, way, tmp_path):
    journal = tmp_path / "journal"
    stops = BatchProcessor(ask, journal=journal, concurrency=2, on_error="stop", run_in=way)
    inputs = [*questions(3), {"question": "bad"}, *questions(30)]

    got = []
    with pytest.raises(BatchStoppedError, match=r"item 3 .*AdapterParseError") as stopped:
        got.extend(stops.run(inputs))  # list.extend keeps nothing if it fails, so below the journal is asked
    asked = model.asked.total()
    resumed = BatchProcessor(ask, journal=journal, run_in=way, version=None).run(inputs)
    items = list(resumed)

    assert stopped.value.item.index == 3
    assert [item.index for item in items] == list(range(34))
    assert resumed.totals.resumed >= 3
    assert not items[3].resumed  # the failed one is tried again
    assert model.asked.total() - asked == 34 - resumed.totals.resumed + 1  # and fails with two calls


def test_totals_hold_what_the_ledger_of_the_model_holds(model, ask):
    run = BatchProcessor(ask).run(questions(20))

    costs = sum(item.usage.cost_usd for item in run)

    assert run.totals.usage.calls == model.asked.total() == 20
    assert run.totals.usage.cost_usd == pytest.approx(costs)
    assert str(run.totals) == "20 items, 0 failed, 0 from the journal; 20 calls, 2,200 tokens, 0.0070 USD"


@WAYS
def test_a_tracker_of_the_caller_hears_of_every_call(model, ask, way):
    with dspy.track_usage() as tracker:
        list(BatchProcessor(ask, run_in=way).run(questions(5)))

    assert tracker.get_total_tokens()["course/sim-large"]["total_tokens"] == 550


def test_usage_inside_dspy_parallel_counts_for_the_item_that_uses_it(model):
    class Both(dspy.Module):
        def __init__(self):
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self, question):
            pairs = [(self.ask, {"question": question + half}) for half in ("a", "b")]
            answers = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
            return dspy.Prediction(answer=[answer.answer for answer in answers])

    # One at a time: two dspy.Parallel at once may raise KeyError (each empties tqdm's list of bars).
    items = list(BatchProcessor(Both(), concurrency=1).run(questions(3)))

    assert [item.usage.calls for item in items] == [2, 2, 2]


@WAYS
def test_settings_of_the_caller_reach_the_items(model, way):
    async def scope_later(number):
        return dspy.settings.my_scope, number

    def scope_now(number):
        return dspy.settings.my_scope, number

    with dspy.context(my_scope="tenant A"):
        run = BatchProcessor(scope_now if way == "threads" else scope_later, run_in=way).run([1, 2])

    assert [item.result for item in run] == [("tenant A", 1), ("tenant A", 2)]


def test_an_item_past_its_deadline_is_cancelled_and_has_failed(model, ask):
    model.wait_s = {"q1": 30}

    items = list(BatchProcessor(ask, deadline_s=0.2).run(questions(3)))

    assert [item.ok for item in items] == [True, False, True]
    assert (items[1].error.kind, items[1].duration_ms < 5_000) == ("DeadlineError", True)
    assert model.asked["q1"] == 1


def test_a_program_without_a_coroutine_keeps_its_deadline_too():
    free = threading.Event()

    def waits(number):
        free.wait(0.3 if number else 0)
        return number

    items = list(BatchProcessor(waits, deadline_s=0.05).run([0, 1]))

    assert [item.ok for item in items] == [True, False]


def test_async_for_works_beside_other_tasks_of_the_loop(model, ask):
    async def feed():
        for question in questions(6):
            await asyncio.sleep(0)
            yield question

    async def work():
        ticks = asyncio.create_task(asyncio.sleep(0.01, "ticked"))
        answers = [item.result.answer async for item in BatchProcessor(ask).run(feed())]
        return answers, await ticks

    assert asyncio.run(work()) == ([f"re q{n}" for n in range(6)], "ticked")


@WAYS
def test_a_plain_loop_reads_an_async_input_also_inside_a_running_loop(model, ask, way):
    async def feed():
        for question in questions(6):
            await asyncio.sleep(0)
            yield question

    async def cell():  # what a notebook's cell does
        return [item.result.answer for item in BatchProcessor(ask, run_in=way).run(feed())]

    assert asyncio.run(cell()) == [f"re q{n}" for n in range(6)]


def test_an_async_input_that_waits_does_not_hold_results_back(model, ask):
    async def feed():
        yield {"question": "q0"}
        await asyncio.sleep(60)

    with BatchProcessor(ask).run(feed()) as run:
        assert next(run).result.answer == "re q0"


@WAYS
def test_a_slow_input_holds_a_result_back_for_one_item_only(model, ask, way):
    read = []

    def feed():
        for question in questions(40):
            time.sleep(0.02)
            read.append(question)
            yield question

    with BatchProcessor(ask, run_in=way).run(feed()) as run:
        assert next(run).result.answer == "re q0"

    assert len(read) <= 10


def test_a_file_of_json_lines_is_an_input(model, ask, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions(3)))

    assert [item.result.answer for item in BatchProcessor(ask).run(path)] == ["re q0", "re q1", "re q2"]


def test_an_error_of_the_input_is_raised_after_the_items_before_it(model, ask, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"question": "q0"}\n{"question": \n')
    run = BatchProcessor(ask).run(path)

    assert next(run).result.answer == "re q0"
    with pytest.raises(InputError, match=r"line 2 of .* is not JSON"):
        next(run)


@WAYS
def test_leaving_the_loop_early_leaves_nothing_running(model, ask, way, tmp_path):
    model.wait_s = {f"q{n}": 0.05 for n in range(100)}
    inputs = questions(100)

    with BatchProcessor(ask, journal=tmp_path / "j", concurrency=4, run_in=way).run(inputs) as run:
        next(run)
    asked = model.asked.total()
    resumed = BatchProcessor(ask, journal=tmp_path / "j", run_in=way).run(inputs)
    next(resumed)
    resumed.close()

    assert asked <= 1 + 4 + 4
    assert model.at_once == 0 or way == "tasks"


@WAYS
def test_an_interrupt_while_waiting_ends_the_batch(model, ask, way):
    model.wait_s = {"q1": 0.3}

    def interrupted():
        yield {"question": "q0"}
        yield {"question": "q1"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(BatchProcessor(ask, run_in=way).run(interrupted()))


def test_two_items_with_one_key_are_an_error(ask, model, tmp_path):
    run = BatchProcessor(ask, journal=tmp_path / "j").run(questions(3), key=lambda _: "same")

    with pytest.raises(DuplicateKeyError, match=r"items 0 and 1 have the same key 'same'"):
        list(run)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 0}, "concurrency 0"),
        ({"on_error": "ignore"}, "on_error 'ignore'"),
        ({"deadline_s": 0}, "deadline_s 0"),
        ({"run_in": "tasks"}, "has no aforward"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_option_that_cannot_work_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        BatchProcessor(len, **options)


@pytest.mark.parametrize("items", ["a text", 7], ids=str)
def test_what_is_no_input_is_refused(items, tmp_path):
    with pytest.raises(InputError, match="is no input"):
        BatchProcessor(len, journal=tmp_path / "j").run(items)


def test_history_stays_empty_unless_it_is_wanted(model, ask):
    list(BatchProcessor(ask).run(questions(3)))
    assert model.lm.history == []

    list(BatchProcessor(ask, keep_history=True).run(questions(3)))
    assert len(model.lm.history) == 3


def test_the_output_file_of_a_batch_without_journal_must_be_new(model, ask, tmp_path: Path):
    (tmp_path / "out.jsonl").write_text("{}\n")

    with pytest.raises(Exception, match="already holds something"):
        BatchProcessor(ask, output=tmp_path / "out.jsonl").run(questions(1))


@WAYS
def test_a_prediction_knows_its_usage_where_dspy_tracks_usage(model, ask, way):
    with dspy.context(track_usage=True):
        items = list(BatchProcessor(ask, run_in=way).run(questions(2)))

    assert items[1].result.get_lm_usage()["course/sim-large"]["total_tokens"] == 110


def test_a_cached_answer_costs_its_item_nothing(ask):
    from course_lib import lm

    cached = lm.connect("sim-small", cache=True)
    with dspy.context(lm=cached):
        first = list(BatchProcessor(ask).run(questions(3)))
        again = list(BatchProcessor(ask).run(questions(3)))

    assert [item.usage.calls for item in first] == [1, 1, 1]
    assert [item.usage.calls for item in again] == [0, 0, 0]


def test_usage_equals_the_endpoint_s_ledger_also_on_a_bad_day(ask):
    from course_lib import lm

    with dspy.context(lm=lm.connect("sim-large@sloppy", cache=False)):
        before = lm.ledger()
        run = BatchProcessor(ask, concurrency=8).run(questions(30))
        list(run)
        after = lm.ledger()

    assert run.totals.usage.calls == after.requests - before.requests
    assert run.totals.usage.cost_usd == pytest.approx(after.cost_usd - before.cost_usd)


def test_prompt_tokens_that_the_provider_had_cached_cost_less(ask):
    from course_lib import lm

    long = [{"question": "word " * 3_000 + str(number)} for number in range(3)]
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        before = lm.ledger()
        run = BatchProcessor(ask, concurrency=1).run(long)
        costs = [item.usage.cost_usd for item in run]
        spent = lm.ledger().cost_usd - before.cost_usd

    assert costs[1] < costs[0]
    assert run.totals.usage.cost_usd == pytest.approx(spent)


def test_a_price_that_nobody_knows_is_counted_not_guessed(model, ask):
    from course_lib.caching.batch.meter import usage_of

    usage = usage_of([("acme/unheard-of", {"prompt_tokens": 5, "completion_tokens": 2})])

    assert (usage.cost_usd, usage.unpriced_calls, usage.tokens) == (0.0, 1, 7)
