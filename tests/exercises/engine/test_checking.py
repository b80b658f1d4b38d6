"""check(): its outcomes, the time limit, and what the learner sees of each."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

import pytest

from course_lib import lm  # noqa: F401  a check asks the endpoint only where a learner has it
from course_lib.exercises import check, hint, solution
from course_lib.exercises.engine import progress
from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal, run, show
from course_lib.exercises.engine.registry import UnknownExerciseError
from tests.exercises.conftest import double


def test_a_pass_is_said_once_and_lists_what_was_checked(capsys):
    result = check("99.1", double)

    assert repr(result) == "<99.1 passed: 2 of 2 checks>"
    assert result._ipython_display_() is None, "quiet as a cell's last value"
    assert capsys.readouterr().out.splitlines() == [
        "99.1 passed: Sample 99.1",
        "  Checked: Two becomes four.",
        "    Text is doubled too.",
        '  Next: solution("99.1") shows ours beside yours, with the reason.',
    ]


def test_a_failure_says_what_was_checked_observed_and_expected(capsys):
    result = check("99.1", lambda value: 5)

    assert result.line == "99.1 failed: double(2); expected 4, got 5"
    assert result.card.rows == (
        ("Checked", "double(2)"),
        ("Observed", "5"),
        ("Expected", "4"),
        ("Think about", "What is two times two?"),
        ("Stuck?", 'hint("99.1") helps, in steps: 2 in all.'),
    )
    assert capsys.readouterr().out.count("99.1 failed") == 1


@pytest.mark.parametrize(
    ("exercise", "answer", "told"),
    [
        ("99.1", lambda value: 4, "Observed: 4\n  Expected: the text twice\n  Before it: 1 of 2"),
        ("99.5", lambda value: 5, "99.5 failed: four is even; expected an even number, got 5"),
        ("99.1", 3, "Where: at the call itself; no line of your code was running"),
    ],
    ids=["checks passed before", "the check's own sentence", "nothing to call"],
)
def test_the_card_says_also(exercise, answer, told):
    result = check(exercise, answer)

    assert told in f"{result.line}\n{result.text}"


def broken(value):
    return value / 0


@pytest.mark.parametrize(("exercise", "outcome"), [("99.1", "crashed"), ("99.6", "failed")])
def test_an_error_is_shown_with_the_learners_line_and_without_a_traceback(capsys, exercise, outcome):
    result = check(exercise, broken)

    assert result.outcome == outcome
    assert "ZeroDivisionError: division by zero" in result.message
    out = capsys.readouterr()
    assert "of broken: return value / 0" in out.out
    assert "Traceback" not in out.out + out.err
    assert "checking.py" not in out.out


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError(), "CancelledError"),
        (AssertionError(), "AssertionError"),
        (RecursionError("deep"), "RecursionError: deep"),
        (SilentError(), "SilentError: (its message could not be read)"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_nothing_that_the_learner_raises_escapes(error, message):
    def leaves(value):
        raise error

    result = check("99.1", leaves)

    assert result.outcome == "crashed"
    assert result.message.startswith(message)


def test_an_untouched_stub_is_not_attempted_and_one_of_two_fails_by_name():
    untouched, half = check("99.4", ..., None), check("99.4", lambda value: value, ...)

    assert untouched.outcome == "not attempted"
    assert "State: It is still as it was given" in untouched.text
    assert "3 minutes, easy." in untouched.text
    assert half.line.startswith("99.4 failed: part 2 of 2 is still as it was given")
    assert check("99.4", lambda value: 1, lambda value: 2).outcome == "passed"


@pytest.mark.parametrize("things", [(), (double,), (double, double, double)], ids=len)
def test_one_thing_too_many_or_too_few_is_told_and_counts_no_attempt(things):
    told = f'99.4 not checked: it takes 2 things and got {len(things)}: check("99.4", ...)'

    assert check("99.4", *things).line.startswith(told)
    assert check("99.4", ..., ...).outcome == "not attempted"
    assert progress.standing(progress.read(), "99.4").attempts == 0


@pytest.mark.parametrize("given", [(), (double,), ([],), (3,)], ids=["nothing", "thing", "list", "number"])
def test_without_an_id_the_call_says_how_to_give_one(given):
    for function in (check, hint, solution):
        with pytest.raises(UnknownExerciseError, match=r"the exercise's id comes first, as text"):
            function(*given)


def _in_a_thread(value):
    thread = threading.Thread(target=broken, args=[value])
    thread.start()
    thread.join()


def _in_a_task(value):
    async def forgets():
        await asyncio.wait([asyncio.create_task(asyncio.to_thread(broken, value))])

    run(forgets())


@pytest.mark.parametrize("answer", [_in_a_thread, _in_a_task], ids=["thread", "task"])
def test_an_error_that_ends_a_thread_or_a_task_of_the_learner_is_shown_as_theirs(answer):
    result = check("99.1", answer)

    assert result.outcome == "failed"
    assert "Raised: ZeroDivisionError: division by zero (line " in result.text


def test_a_check_may_come_to_no_verdict_which_is_no_attempt():
    result = check("99.7", double)

    assert result.line == "99.7 not checked: no scales in this house; borrow some"
    assert progress.standing(progress.read(), "99.7").attempts == 0


def test_an_endpoint_that_does_not_answer_is_no_failure_of_the_answer(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("COURSE_LM_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")

        result = check("99.3", _loops)

    assert result.line.startswith("99.3 not checked: the model's endpoint does not answer")
    assert progress.standing(progress.read(), "99.3").attempts == 0


def _loops(value):
    while True:
        pass


_cancelled = threading.Event()


def _waits(value):
    async def forever():
        try:
            await asyncio.sleep(60)
        finally:
            _cancelled.set()

    return run(forever())


@pytest.mark.parametrize("endless", [_loops, _waits])
def test_what_has_no_end_fails_and_is_stopped(endless, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))  # a busy machine has more time
    monkeypatch.delitem(sys.modules, "course_lib.lm")  # nor is its endpoint asked, which may be slow, too
    result = check("99.3", endless)

    assert result.line.startswith("99.3 failed: two becomes four; expected an end within 1 s")
    _wait_until(lambda: not _check_threads())
    assert endless is _loops or _cancelled.is_set()


async def _deaf():
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


def test_a_task_that_is_left_and_goes_on_when_it_is_cancelled_is_named_and_holds_nothing_up():
    left = []

    async def answers():
        left.append(asyncio.create_task(_deaf()))
        await asyncio.sleep(0)

    with pytest.raises(CheckFailed, match=r"left behind; expected it ends .*, got \['_deaf'\] goes on"):
        run(answers())
    assert not left[0].done()


async def _fetch():
    await asyncio.sleep(0.01)
    return "x"


async def _fail():
    raise ValueError("inside")


def test_run_and_check_work_inside_a_running_loop_and_carry_errors():
    async def notebook():
        with pytest.raises(ValueError, match="inside"):
            run(_fail())
        return run(_fetch()), check("99.2", _fetch).outcome

    assert asyncio.run(notebook()) == ("x", "passed")
    assert (run(_fetch()), check("99.2", _fetch).outcome) == ("x", "passed")


def test_context_variables_of_the_cell_hold_in_the_check():
    dspy = pytest.importorskip("dspy")
    tenant = contextvars.ContextVar("tenant", default="nobody")
    tenant.set("Ada")

    def reads(value):
        return value * 2 if (tenant.get(), dspy.settings.max_history_size) == ("Ada", 7) else None

    with dspy.context(max_history_size=7):
        assert check("99.1", reads).outcome == "passed"


@pytest.fixture
def _ctrl_c_interrupts():
    """A shell that starts the tests in the background has them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_stops_the_check_and_what_it_ran_and_is_recorded_and_passed_on(capsys):
    def endless(value):
        os.kill(os.getpid(), signal.SIGINT)
        _loops(value)

    with pytest.raises(KeyboardInterrupt):
        check("99.1", endless)

    _wait_until(lambda: not _check_threads())
    assert "99.1 stopped: you interrupted the check" in capsys.readouterr().out
    assert progress.standing(progress.read(), "99.1").state == "interrupted"


def test_only_the_beginning_of_what_an_answer_prints_or_raises_is_shown(capsys):
    def prints(value):
        for stream in (sys.stdout, sys.stderr):
            for _ in range(100):
                print("x" * 10_000, file=stream)
        raise ValueError("y" * 10**6)

    check("99.1", prints)

    out, err = capsys.readouterr()
    assert len(out) < 30_000
    assert out.count("the rest is not shown") == err.count("the rest is not shown") == 1
    assert "(1000012 characters)" in out
    assert "99.1 crashed" in out


def test_what_a_thread_left_as_sys_stdout_is_not_bounded_after_the_check(capsys):
    streams = []

    check("99.1", lambda _: streams.append(sys.stdout))
    print("x" * 50_000, file=streams[0])

    assert "x" * 50_000 in capsys.readouterr().out


def test_values_that_cannot_be_shown_or_compared_are_no_obstacle():
    class Odd:
        def __repr__(self):
            raise ValueError

        def __eq__(self, other):
            raise ValueError

        __hash__ = None

    with pytest.raises(CheckFailed) as failed:
        expect_equal(Odd(), 3, "an odd thing")

    assert failed.value.observed == "<Odd, whose repr raised ValueError>"
    assert show("x" * 5000).endswith("... (5002 characters)")
    expect(True, "what holds", observed="-", expected="-")


def _check_threads():
    return [thread for thread in threading.enumerate() if thread.name == "course-check"]


def _wait_until(holds, *, limit_s=3.0):
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, f"still running: {_check_threads()}"
        time.sleep(0.01)
