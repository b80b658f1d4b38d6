"""Limits of a tool: time, output, calls, arguments; errors as one line; loops left free; in programs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import Any

import dspy
import pytest

from course_lib.adapters.tools import limits
from course_lib.adapters.tools.limits import ToolError, ToolRefused, limited
from tests.adapters.web import ENDED

WHERE = contextvars.ContextVar("WHERE", default="nowhere")


def price(sku: str, count: int = 1) -> dict[str, Any]:
    """Price a product."""
    return {"sku": sku, "cents": 100 * count}


def fail(how: str) -> str:
    """Fail in some way."""
    raise ERRORS[how][0]


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def both_ways(tool, **arguments):
    """Call a tool synchronously, on a loop, and as ToolCall.execute does; the answers must be the same."""

    async def on_loop():
        executed = dspy.ToolCalls.ToolCall(name=tool.name, args=arguments).execute([tool])
        return [await tool.acall(**arguments), await executed if asyncio.iscoroutine(executed) else executed]

    answers = [tool(**arguments), *asyncio.run(on_loop())]
    assert len(set(answers)) == 1, answers
    return answers[0]


class Shop:
    def price(self, sku: str, count: int = 1) -> str:
        """Price a product."""
        return f"{sku}: {count}"

    async def __call__(self, sku: str, count: int = 1) -> dict[str, Any]:
        """Price a product."""
        return price(sku, count)


@pytest.mark.parametrize(
    ("func", "answer"),
    [
        (price, '{"sku":"tent","cents":200}'),
        (dspy.Tool(price, name="p"), '{"sku":"tent","cents":200}'),
        (Shop().price, "tent: 2"),
        (Shop(), '{"sku":"tent","cents":200}'),
    ],
    ids=["function", "tool", "method", "async callable"],
)
def test_a_function_a_method_a_callable_or_a_tool_becomes_a_tool_that_answers_text(func, answer):
    tool = limited(func, name="quote", desc="Quote a price.")
    shown = tool.format_as_litellm_function_call()["function"]

    assert (shown["name"], shown["description"]) == ("quote", "Quote a price.")
    assert shown["parameters"]["required"] == ["sku"]
    assert shown["parameters"]["properties"]["count"] == {"type": "integer", "default": 1}
    assert both_ways(tool, sku="tent", count=2) == answer


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({}, "argument 'sku' is missing; price takes: sku, count"),
        ({"sku": "a", "colour": 1}, "no argument named 'colour'; price takes: sku, count"),
        ({"sku": 5}, "bad argument: sku is invalid: 5 is not of type 'string'"),
        ({"sku": "a" * 30_000}, "the arguments have 30011 characters; at most 20000 are taken"),
    ],
    ids=["missing", "unknown", "wrong type", "too long"],
)
def test_arguments_are_checked_before_anything_runs_whichever_way(arguments, line):
    assert both_ways(limited(price), **arguments) == f"refused: {line}"


ERRORS: dict[str, tuple[BaseException, str]] = {
    "refused": (ToolRefused("only orders\nof this customer"), "refused: only orders of this customer"),
    "value": (ValueError("count must not be 0"), "failed: ValueError: count must not be 0"),
    "os": (
        FileNotFoundError(2, "No such file or directory", "/srv/shop/secret.db"),
        "failed: FileNotFoundError: No such file or directory",
    ),
    "timeout": (TimeoutError("the carrier did not answer"), "timeout: the carrier did not answer"),
    "mute": (MuteError(), "failed: MuteError"),
    "exit": (SystemExit(3), "failed: RuntimeError: SystemExit"),
    "iteration": (StopIteration(), "failed: RuntimeError: StopIteration"),
}


@pytest.mark.parametrize("how", ERRORS)
def test_an_error_is_one_line_with_a_class(how):
    answer = both_ways(limited(fail), how=how)

    assert answer == ERRORS[how][1]
    assert isinstance(answer, ToolError)


async def hang_async() -> str:
    """Do nothing for long."""
    await asyncio.sleep(60)
    return "ended"


def hang() -> str:
    """Do nothing for long."""
    ENDED.wait(60)
    return "ended"


@pytest.mark.parametrize("func", [hang, hang_async])
def test_a_call_ends_at_its_deadline_and_when_its_caller_is_cancelled(func):
    async def cancelled():
        task = asyncio.create_task(limited(func).acall())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    answer = both_ways(limited(func, deadline_s=0.1))

    assert answer == f"timeout: {func.__name__} gave no answer within 0.1 s. Ask for less, or do without"


def test_more_plain_functions_run_at_once_than_an_executor_has_threads():
    all_here = threading.Barrier(40)

    def meet() -> bool:
        return all_here.wait(30) >= 0

    async def run():
        return await asyncio.gather(*(limited(meet, deadline_s=60).acall() for _ in range(40)))

    assert set(asyncio.run(run())) == {"true"}


def test_calls_left_behind_are_bounded_and_forgotten_when_they_end():
    tool = limited(hang, deadline_s=0.01)
    for _ in range(limits.LEFT_BEHIND):
        assert tool().startswith("timeout: ")

    assert tool().startswith("refused: hang is busy: 8 earlier calls still run")
    ENDED.set()
    while tool() != "ended":
        time.sleep(0.01)


def where() -> str:
    return f"{WHERE.get()} {dspy.settings.mark}"


async def where_async() -> str:
    return where()


@pytest.mark.parametrize("func", [where, where_async])
def test_the_callers_context_goes_along(func):
    WHERE.set("here")
    with dspy.context(mark="set"):
        assert both_ways(limited(func)) == "here set"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("x" * 100, "x" * 12 + "\n[cut: 12 of 100 characters shown]"),
        ("x" * 8 + "hunter2", "xxxxxxxx[hid\n[cut: 12 of 15 characters shown]"),
        ("ababab", "[hidden][hid\n[cut: 12 of 6 characters shown]"),
    ],
)
def test_output_is_cut_and_says_so_and_a_known_secret_is_hidden_in_answers_and_errors(text, answer):
    def tell(fails: bool) -> str:
        if fails:
            raise RuntimeError("with hunter2")
        return text

    tool = limited(tell, redact=["hunter2", "ab", ""], output_chars=12)

    assert both_ways(tool, fails=False) == answer
    assert both_ways(tool, fails=True) == "failed: RuntimeError: with [hidden]"


class Buyer(dspy.Module):
    """Calls its tool some times."""

    def __init__(self, tool, times):
        super().__init__()
        self.tool, self.times = tool, times

    def forward(self):
        return [self.tool(sku="tent") for _ in range(self.times)]

    async def aforward(self):
        return [await self.tool.acall(sku="tent") for _ in range(self.times)]


def test_each_run_of_a_program_has_its_own_budget_and_all_calls_outside_have_one():
    program = Buyer(limited(price, calls=2), times=3)

    async def at_once():
        return await asyncio.gather(*(program.acall() for _ in range(20)))

    outside = [program.tool(sku="a"), program.tool.func("a"), asyncio.run(program.tool.acall(sku="a"))]
    for run in [program(), program(), *asyncio.run(at_once()), outside]:
        is_refused = [answer.startswith("refused: price may be called 2 times") for answer in run]
        assert is_refused == [False, False, True]


def test_a_copy_of_a_program_keeps_working_tools():
    program = Buyer(limited(price), times=1)
    program.tool.desc = "changed"

    copied = program.deepcopy()
    copied.tool.desc = "changed again"

    assert copied() == ['{"sku":"tent","cents":100}']
    assert (program.tool.desc, copied.tool.desc) == ("changed", "changed again")


def test_an_async_tool_called_synchronously_keeps_its_event_loop_even_in_a_running_one():
    loops = []

    async def note(x: int) -> str:
        loops.append(asyncio.get_running_loop())
        return "ok"

    async def notebook_cell():
        return [limited(note)(x=1), limited(note)(x=2)]

    assert asyncio.run(notebook_cell()) == ["ok", "ok"]
    assert loops[0] is loops[1]


class Seen(dspy.utils.BaseCallback):
    def __init__(self):
        self.events = []

    def on_tool_start(self, call_id, instance, inputs):
        self.events.append((instance.name, inputs["kwargs"]))

    def on_tool_end(self, call_id, outputs, exception=None):
        self.events.append(outputs)


@pytest.mark.parametrize("name", ["self", "instance", "func", "kwargs", "args"])
def test_an_argument_may_have_any_name_and_callbacks_see_the_call(name):
    scope: dict[str, Any] = {}
    exec(f"def echo({name}: str) -> str: return {name}", scope)
    tool, seen = limited(scope["echo"]), Seen()

    with dspy.context(callbacks=[seen]):
        assert both_ways(tool, **{name: "x"}) == "x"
        refused = asyncio.run(tool.acall(**{name: 5}))

    assert refused.startswith(f"refused: bad argument: {name} is invalid")
    assert seen.events[:2] == [("echo", {name: "x"}), "x"]
    assert seen.events[-2:] == [("echo", {name: 5}), refused]


@pytest.mark.parametrize("bad", [{"deadline_s": 0}, {"output_chars": 0}, {"calls": 0}], ids=str)
def test_limits_must_be_positive(bad):
    with pytest.raises(ValueError, match="limits must be positive"):
        limited(price, **bad)
